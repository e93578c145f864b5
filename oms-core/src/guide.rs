//! How to build a sixth service.
//!
//! The five services are built alike, from the parts of this crate, in the order in which data
//! flows through them. This page builds another one the same way: it watches certificates, warns
//! before one expires, and says when one has. The whole of it is [below](#the-service).
//!
//! # 1. The state table
//! Ask what the long-lived thing is and where it can stand. Here it is a certificate:
//!
//! ```text
//!          Warned            Expired
//!  Valid ──────────► Expiring ───────► Expired
//!    │ ▲                │                 │ ▲
//!    │ └─── Renewed ────┴─────────────────┘ │
//!    └─────────────── Expired ──────────────┘
//! ```
//!
//! It is an enum without fields that implements [`Lifecycle`](crate::Lifecycle): one `match`, whose
//! last arm refuses. A test prints it with [`lifecycle::listing`](crate::lifecycle::listing) and
//! compares it with a golden text. Data, such as the date, is kept beside the state.
//!
//! # 2. Events to the journal
//! What happens to it is another enum, which carries what a reader needs to know; where that is
//! little, as here, it is the table's events too. Its
//! [`journal_event!`](crate::journal_event) says under which kind each variant is kept, and in which
//! format; from then on [`seal`](crate::journal::JournalEvent::seal) and
//! [`open`](crate::journal::JournalEvent::open) are the only way in and out. One thing is one
//! history: `certificate/www`. [`append_event`](crate::journal::JournalExt::append_event), and
//! [`Journal::append`](crate::Journal::append) for several at once, names the number of events that
//! the writer has read, so of two writers one is told
//! [`Conflict`](crate::journal::JournalError::Conflict) and reads again.
//!
//! Events of each kind are kept as a fixture: a file that `oms_core::testkit::Fixture` (feature
//! `testkit`) reads in every later version. A body that changes gets the next format, an
//! [`upgrade`](crate::journal::JournalEvent::upgrade) and a further file.
//!
//! # 3. The engine's step
//! What to do is decided by a function of the state and the time that performs nothing:
//! `step(now) -> event`. Time and randomness are arguments ([`Clock`](crate::Clock),
//! [`Entropy`](crate::Entropy)); nothing else reads a clock. The loop around it appends the event
//! first and performs the effect afterwards, so that after a crash the effect is at worst performed
//! twice, which it must bear, and never forgotten. Every loop, queue and body has a limit with a
//! name.
//!
//! # 4. Recovery by replay
//! There is no other store of the state: it is the fold of the history, which
//! [`replay`](crate::journal::JournalExt::replay) makes, together with the version that the next
//! append expects. Starting is [`replay_kind`](crate::journal::JournalExt::replay_kind). A history
//! that became long keeps a [`Snapshot`](crate::journal::Snapshot). What is bulk, such as a report's
//! body, goes to files through a [`Disk`](crate::Disk) and is synced before the event that names it.
//!
//! # 5. Records through a projection
//! What happened is also a [`Record`](crate::Record) that the log repository can be asked about. A
//! [`Projection`](crate::projection::Projection) maps events to records and writes them to a
//! [`RecordSink`](crate::RecordSink), each once, over restarts of either side. An event that cannot
//! be mapped is put aside, counted, and told of by a record in its place.
//!
//! # 6. An HTTP surface, with authorization
//! The crate exports `surface(Arc<Service>) -> Surface` (feature `http`): the paths that it claims,
//! and a route for each call with the operation that its caller needs. Who calls is found out by
//! an authenticator, whether they may by an [`Authorizer`](crate::auth::Authorizer), before the
//! handler runs; without a grant nobody may. A handler decodes, calls the service and encodes.
//!
//! ```
//! # #[cfg(feature = "http")] {
//! use http::{Method, StatusCode};
//! use oms_core::http::{Access, Call, Route, Surface, respond};
//! use std::sync::Arc;
//!
//! # #[derive(Debug)] struct Watcher;
//! # impl Watcher { fn state(&self, _: &str) -> Option<&'static str> { Some("Valid") } }
//! fn surface(watcher: Arc<Watcher>) -> Surface {
//!     let read = Access::Operation { operation: "Example.Certificates/certificates/read" };
//!     let show = move |call: Call| {
//!         let watcher = Arc::clone(&watcher);
//!         async move {
//!             let state = call.path.get("name").and_then(|name| watcher.state(name));
//!             respond::json(StatusCode::OK, &state)
//!         }
//!     };
//!     Surface::new("certificates")
//!         .claim("/certificates")
//!         .route(Route::new(Method::GET, "/certificates/{name}", read, show))
//! }
//! # let _ = surface(Arc::new(Watcher));
//! # }
//! ```
//!
//! # 7. A schedule
//! When to look is a [`Schedule`](crate::schedule::Schedule) in somebody's time zone. The engine
//! keeps the instant that it dealt with last and asks [`Rule::due`](crate::schedule::Rule::due) what
//! is due since then: after a night in which the process was down, that is what the
//! [`MisfirePolicy`](crate::schedule::MisfirePolicy) says.
//!
//! # 8. A secret
//! A password is a [`Secret`](crate::Secret), which does not print. To keep one, seal it for the row
//! that it belongs to, and keep the sealed text in the journal:
//!
//! ```
//! # use oms_core::{LocalDisk, Secret, SystemEntropy};
//! # use oms_core::secret::{KeyRing, Sealed};
//! # use std::sync::Arc;
//! # let folder = tempfile::tempdir()?;
//! let disk = Arc::new(LocalDisk::new(folder.path())?);
//! let has_data = false; // whether the journal holds anything yet
//! let ring = KeyRing::open_folder(disk, Arc::new(SystemEntropy), "certificates", has_data)?;
//! let sealed: Sealed = ring.seal(&Secret::from("hunter2"), "certificate/www/password")?;
//! assert!(!sealed.to_string().contains("hunter2"));
//! assert_eq!(ring.open_sealed(&sealed, "certificate/www/password")?.expose(), b"hunter2");
//! assert!(ring.open_sealed(&sealed, "certificate/ftp/password").is_err(), "it was moved");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # 9. One engine at a time
//! Where several processes share a journal, one of them runs the engine. The journal's expected
//! versions already keep two from both succeeding; a [lease](crate::lease), fenced and expiring, keeps
//! the second from trying: `Leases::acquire` before the loop, `Lease::keep` beside it, and
//! `Lease::guarded_append` in place of `Journal::append`, which a process that was paused past its
//! term finds refused. The module's documentation has the whole of it as an example.
//!
//! # 10. A simulation
//! Because the engine is a function and the clock an argument, a test needs no runtime of its own:
//! `oms_core::testkit::sim::Sim` (feature `testkit`) hands out timers and messages in the order of
//! simulated time, drops, doubles and delays them, and crashes actors, all from one seed that a
//! failing test prints. The test's auditor states in one sentence what must hold: *a certificate
//! that expired was warned about first, once.* What an actor keeps in memory is gone after a crash;
//! what it wrote to a `SimDisk` and did not sync may be.
//!
//! # The service
//! All of it, with nothing left out:
//!
#![doc = "```"]
#![doc = include_str!("guide/service.rs")]
#![doc = "```"]
//!
//! # A year of it
//! Each round is that of a new process, which knows what the journal says.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/service.rs"));
//! # use oms_core::clock::ManualClock;
//! # use oms_core::journal::{HistoryId, MemoryJournal};
//! # use oms_core::projection::Projection;
//! # use oms_core::record::{Batch, RecordSink, SinkError};
//! # use std::sync::{Arc, Mutex};
//! # #[derive(Debug, Default)]
//! # struct Kept(Mutex<Vec<Record>>);
//! # #[async_trait::async_trait]
//! # impl RecordSink for Kept {
//! #     async fn write(&self, batch: Batch) -> Result<(), SinkError> {
//! #         self.0.lock().unwrap().extend(batch.records);
//! #         Ok(())
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
//! let www = HistoryId::new("certificate", "www")?;
//! let renewed = Change::Renewed { until: "2026-03-01T00:00:00Z".parse()? };
//! let made: Timestamp = "2025-12-01T00:00:00Z".parse()?;
//! journal.append_event(&www, 0, &renewed, made, "operator").await?;
//! for (day, state) in [
//!     ("2026-01-01", State::Valid), ("2026-02-10", State::Expiring), ("2026-03-01", State::Expired),
//! ] {
//!     let now: Timestamp = format!("{day}T00:00:00Z").parse()?;
//!     tick(&*journal, now).await?;
//!     tick(&*journal, now).await?;
//!     let certificate = journal.replay(&www, Certificate::default(), apply).await?.state;
//!     assert_eq!(certificate.state, state);
//! }
//! assert_eq!(journal.read_whole(&www).await?.len(), 3, "renewed, warned once, expired once");
//!
//! let (sink, clock) = (Arc::new(Kept::default()), Arc::new(ManualClock::new(made)));
//! let projection =
//!     Projection::new("watcher", journal.clone(), sink.clone(), clock, Arc::new(records))
//!         .of_kinds(&["certificate"]);
//! assert_eq!(projection.catch_up().await?, 1);
//! assert_eq!(projection.catch_up().await?, 0, "once");
//! assert_eq!(sink.0.lock().unwrap()[0].fields["Detail"], "www expires soon".into());
//! # Ok(())
//! # }
//! ```
