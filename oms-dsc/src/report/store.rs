//! Reports on disk, append-only.
//!
//! ```text
//!  reports/00000001.log   magic, then frames:  length │ crc32c │ agent │ job │ received │ body
//!  reports/00000002.log   4 LE, length behind the crc │ 4 LE │ 16 │ 16 │ 8 LE, µs │ as it came
//! ```
//!
//! A message is acknowledged when its frame is synced; several that wait share one sync. A file
//! whose write or sync failed is left as it is and a new one begun, and so after every start, so
//! that nothing is ever written behind a torn frame.

use crate::Error;
use crate::content;
use crate::protocol::{AgentId, Checksum, JobId};
use jiff::{SignedDuration, Timestamp};
use oms_core::disk::{Disk, DiskError, DiskExt as _, DiskFile, OpenMode};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// The size from which the next file is begun, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// The age from which the next file is begun, so that old reports can be dropped with their file.
const SEGMENT_AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

/// The most messages of one run.
const MESSAGES_PER_JOB_MAX: usize = 200;

/// The most runs of one agent that are listed; older ones are forgotten before their file is
/// dropped. Thirty days of a run every five minutes are 8,640.
const JOBS_PER_AGENT_MAX: usize = 10_000;

const FOLDER: &str = "reports";
const MAGIC: &[u8; 8] = b"OMSDSCR1";
const HEAD_BYTES: usize = 8;
const KEY_BYTES: usize = 40;

/// One stored message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) received: Timestamp,
    pub(crate) body: Vec<u8>,
}

/// The store. Its calls block.
pub(crate) struct ReportStore {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
    /// Held by the one caller that syncs for all who wrote before.
    syncing: Mutex<()>,
}

impl fmt::Debug for ReportStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportStore").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    active: Option<Active>,
    next_number: u32,
    segments: BTreeMap<u32, Segment>,
    agents: HashMap<AgentId, AgentReports>,
}

struct Active {
    number: u32,
    file: Arc<dyn DiskFile>,
}

struct Segment {
    end: u64,
    /// How many bytes are known to be durable.
    synced: u64,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
}

#[derive(Default)]
struct AgentReports {
    pieces: HashMap<JobId, Vec<Piece>>,
    /// Jobs in the order in which they were first heard of.
    order: VecDeque<JobId>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    segment: u32,
    offset: u64,
    len: usize,
    checksum: Checksum,
}

impl Piece {
    const fn end(&self) -> u64 {
        self.offset + (HEAD_BYTES + KEY_BYTES + self.len) as u64
    }
}

impl ReportStore {
    /// Opens the store and reads what every file holds.
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        disk.create_dir_all(FOLDER.as_ref())?;
        let mut state = State { next_number: 1, ..State::default() };
        for name in disk.list(FOLDER.as_ref())? {
            let Some(number) = name.strip_suffix(".log").and_then(|n| n.parse().ok()) else {
                continue;
            };
            // A repeat of what is found is answered without being stored again.
            disk.settle(&path(number))?;
            state.scan(&*disk, number)?;
            state.next_number = state.next_number.max(number + 1);
        }
        Ok(Self { disk, state: Mutex::new(state), syncing: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a message. It is durable when this returns; the same message of the same run is
    /// stored once.
    pub(crate) fn append(
        &self,
        agent_id: AgentId,
        job_id: JobId,
        received: Timestamp,
        body: &[u8],
    ) -> Result<(), Error> {
        let checksum = Checksum::of(body);
        let piece = {
            let mut state = self.lock();
            match state.find(agent_id, job_id, checksum) {
                Some(piece) => piece,
                None => self.write(&mut state, agent_id, job_id, received, body, checksum)?,
            }
        };
        self.sync_to(piece)
    }

    fn write(
        &self,
        state: &mut State,
        agent_id: AgentId,
        job_id: JobId,
        received: Timestamp,
        body: &[u8],
        checksum: Checksum,
    ) -> Result<Piece, Error> {
        let messages = state.agents.get(&agent_id).and_then(|agent| agent.pieces.get(&job_id));
        if messages.is_some_and(|messages| messages.len() >= MESSAGES_PER_JOB_MAX) {
            let what = "messages of one run";
            return Err(Error::TooLarge {
                what,
                actual: MESSAGES_PER_JOB_MAX + 1,
                limit: MESSAGES_PER_JOB_MAX,
            });
        }
        self.begin_segment(state, received)?;
        let Some(active) = &state.active else {
            return Err(Error::Internal { reason: "no report file is open".into() });
        };
        let (number, file) = (active.number, Arc::clone(&active.file));
        let segment = state.segments.entry(number).or_insert_with(Segment::new);
        let piece = Piece { segment: number, offset: segment.end, len: body.len(), checksum };
        let frame = frame(agent_id, job_id, received, body);
        if let Err(error) = file.write_at(piece.offset, &frame) {
            state.active = None;
            return Err(error.into());
        }
        segment.end = piece.end();
        segment.cover(received);
        state.add(agent_id, job_id, piece);
        Ok(piece)
    }

    /// Makes sure that a file is open that has room and is not too old.
    fn begin_segment(&self, state: &mut State, now: Timestamp) -> Result<(), Error> {
        if let Some(active) = &state.active {
            let is_fresh = state.segments.get(&active.number).is_some_and(|segment| {
                let age = segment.oldest.map(|oldest| now.duration_since(oldest));
                segment.end < SEGMENT_BYTES_MAX && age.is_none_or(|age| age < SEGMENT_AGE_MAX)
            });
            if is_fresh {
                return Ok(());
            }
            // What was written to it is synced before it is given up.
            let (number, file) = (active.number, Arc::clone(&active.file));
            state.active = None;
            file.sync()?;
            if let Some(segment) = state.segments.get_mut(&number) {
                segment.synced = segment.end;
            }
        }
        let number = state.next_number;
        state.next_number += 1;
        let file = self.disk.open(&path(number), OpenMode::CreateNew)?;
        file.write_at(0, MAGIC)?;
        file.sync()?;
        self.disk.sync_dir(FOLDER.as_ref())?;
        state.segments.insert(number, Segment::new());
        state.active = Some(Active { number, file: Arc::from(file) });
        Ok(())
    }

    /// Waits until a frame is durable, syncing for everyone if nobody else does.
    fn sync_to(&self, piece: Piece) -> Result<(), Error> {
        let is_durable = |state: &State| {
            state.segments.get(&piece.segment).is_some_and(|s| s.synced >= piece.end())
        };
        if is_durable(&self.lock()) {
            return Ok(());
        }
        let _turn = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, end) = {
            let state = self.lock();
            if is_durable(&state) {
                return Ok(());
            }
            let active = state.active.as_ref().filter(|active| active.number == piece.segment);
            let (Some(active), Some(segment)) = (active, state.segments.get(&piece.segment)) else {
                return Err(lost(piece));
            };
            (Arc::clone(&active.file), segment.end)
        };
        let synced = file.sync();
        let mut state = self.lock();
        match synced {
            Ok(()) => {
                if let Some(segment) = state.segments.get_mut(&piece.segment) {
                    segment.synced = segment.synced.max(end);
                }
                Ok(())
            }
            Err(error) => {
                state.abandon(piece.segment);
                Err(error.into())
            }
        }
    }

    /// The messages of one run, in the order in which they came; none if there is no such run.
    pub(crate) fn messages(&self, agent_id: AgentId, job_id: JobId) -> Result<Vec<Stored>, Error> {
        let pieces = {
            let state = self.lock();
            let reports = state.agents.get(&agent_id);
            reports.and_then(|r| r.pieces.get(&job_id)).cloned().unwrap_or_default()
        };
        pieces.into_iter().map(|piece| self.read(piece)).collect()
    }

    fn read(&self, piece: Piece) -> Result<Stored, Error> {
        let file = self.disk.open(&path(piece.segment), OpenMode::Read)?;
        let mut frame = vec![0; HEAD_BYTES + KEY_BYTES + piece.len];
        let count = file.read_at(piece.offset, &mut frame)?;
        match parse(&frame[..count]) {
            Some((_, _, received, body)) => Ok(Stored { received, body: body.to_vec() }),
            None => Err(Error::Corrupt {
                what: path(piece.segment).display().to_string(),
                reason: format!("the report at byte {} does not match its sum", piece.offset),
            }),
        }
    }

    /// The runs of one agent, oldest first.
    pub(crate) fn jobs(&self, agent_id: AgentId) -> Vec<JobId> {
        let state = self.lock();
        state
            .agents
            .get(&agent_id)
            .map_or_else(Vec::new, |agent| agent.order.iter().copied().collect())
    }

    /// Drops every file whose newest report came before `limit`; answers how many.
    pub(crate) fn prune(&self, limit: Timestamp) -> Result<usize, Error> {
        let mut state = self.lock();
        let active = state.active.as_ref().map(|active| active.number);
        let is_old = |segment: &Segment| segment.newest.is_none_or(|newest| newest < limit);
        let old: Vec<u32> = state
            .segments
            .iter()
            .filter(|(number, segment)| Some(**number) != active && is_old(segment))
            .map(|(number, _)| *number)
            .collect();
        for number in &old {
            self.disk.remove(&path(*number))?;
            state.forget(|piece| piece.segment == *number);
            state.segments.remove(number);
        }
        if !old.is_empty() {
            self.disk.sync_dir(FOLDER.as_ref())?;
        }
        Ok(old.len())
    }
}

fn lost(piece: Piece) -> Error {
    let source = std::io::Error::other("the file was given up before the report was durable");
    DiskError { operation: "sync", path: path(piece.segment), source }.into()
}

fn path(number: u32) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("{number:08}.log"))
}

impl Segment {
    const fn new() -> Self {
        let magic = MAGIC.len() as u64;
        Self { end: magic, synced: magic, oldest: None, newest: None }
    }

    fn cover(&mut self, received: Timestamp) {
        self.oldest = Some(self.oldest.map_or(received, |oldest| oldest.min(received)));
        self.newest = Some(self.newest.map_or(received, |newest| newest.max(received)));
    }
}

impl State {
    fn add(&mut self, agent_id: AgentId, job_id: JobId, piece: Piece) {
        let reports = self.agents.entry(agent_id).or_default();
        let pieces = reports.pieces.entry(job_id).or_default();
        pieces.push(piece);
        if pieces.len() == 1 {
            reports.order.push_back(job_id);
            if reports.order.len() > JOBS_PER_AGENT_MAX
                && let Some(oldest) = reports.order.pop_front()
            {
                reports.pieces.remove(&oldest);
            }
        }
    }

    fn find(&self, agent_id: AgentId, job_id: JobId, checksum: Checksum) -> Option<Piece> {
        let pieces = self.agents.get(&agent_id)?.pieces.get(&job_id)?;
        pieces.iter().copied().find(|piece| piece.checksum == checksum)
    }

    /// Gives a file up after a failed sync; what was not durable yet counts as never written.
    fn abandon(&mut self, number: u32) {
        if self.active.as_ref().is_some_and(|active| active.number == number) {
            self.active = None;
        }
        let synced = self.segments.get(&number).map_or(0, |segment| segment.synced);
        self.forget(|piece| piece.segment == number && piece.end() > synced);
    }

    fn forget(&mut self, is_gone: impl Fn(&Piece) -> bool) {
        for reports in self.agents.values_mut() {
            reports.pieces.retain(|_, pieces| {
                pieces.retain(|piece| !is_gone(piece));
                !pieces.is_empty()
            });
            let AgentReports { pieces, order } = reports;
            order.retain(|job_id| pieces.contains_key(job_id));
        }
        self.agents.retain(|_, reports| !reports.order.is_empty());
    }

    /// Reads a file up to its end or its first frame that is not whole.
    fn scan(&mut self, disk: &dyn Disk, number: u32) -> Result<(), Error> {
        let bytes = content::read(disk, &path(number))?;
        let mut segment = Segment::new();
        let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
        while let Some((agent_id, job_id, received, body)) = parse(rest) {
            let checksum = Checksum::of(body);
            let piece = Piece { segment: number, offset: segment.end, len: body.len(), checksum };
            segment.end = piece.end();
            segment.cover(received);
            rest = &rest[HEAD_BYTES + KEY_BYTES + body.len()..];
            if self.find(agent_id, job_id, checksum).is_none() {
                self.add(agent_id, job_id, piece);
            }
        }
        if rest.iter().any(|byte| *byte != 0) {
            // A crash before the acknowledgement leaves this; so does a damaged disk.
            let (file, offset) = (path(number), segment.end);
            tracing::warn!(file = %file.display(), offset, bytes = rest.len(), "unreadable end");
        }
        segment.synced = segment.end;
        self.segments.insert(number, segment);
        Ok(())
    }
}

fn frame(agent_id: AgentId, job_id: JobId, received: Timestamp, body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(KEY_BYTES + body.len());
    payload.extend_from_slice(agent_id.0.as_bytes());
    payload.extend_from_slice(job_id.0.as_bytes());
    payload.extend_from_slice(&received.as_microsecond().to_le_bytes());
    payload.extend_from_slice(body);
    // A report is at most `REPORT_BYTES_MAX` long, far below 32 bits.
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEAD_BYTES + payload.len());
    frame.extend_from_slice(&len.to_le_bytes());
    frame.extend_from_slice(&sum(len, &payload).to_le_bytes());
    frame.append(&mut payload);
    frame
}

/// The length is covered too, so that zeros are not a frame.
fn sum(len: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), payload)
}

/// The frame at the start of `bytes`, if it is whole.
fn parse(bytes: &[u8]) -> Option<(AgentId, JobId, Timestamp, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len);
    let payload = rest.get(..usize::try_from(len).ok()?)?;
    if u32::from_le_bytes(*crc) != sum(len, payload) {
        return None;
    }
    let (agent, payload) = payload.split_first_chunk::<16>()?;
    let (job, payload) = payload.split_first_chunk::<16>()?;
    let (received, body) = payload.split_first_chunk::<8>()?;
    let received = Timestamp::from_microsecond(i64::from_le_bytes(*received)).ok()?;
    Some((AgentId(Uuid::from_bytes(*agent)), JobId(Uuid::from_bytes(*job)), received, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::{EntropyExt, SeededEntropy};
    use oms_core::testkit::disk::SimDisk;
    use proptest::prelude::*;

    const AGENT: AgentId = AgentId(Uuid::from_u128(1));

    fn job(number: u64) -> JobId {
        JobId(Uuid::from_u128(u128::from(number)))
    }

    fn open(disk: &SimDisk) -> ReportStore {
        ReportStore::open(Arc::new(disk.clone())).expect("opens")
    }

    /// Auditor: a message whose append answered Ok is read back, whole and once, after any
    /// crash.
    #[test]
    fn nothing_acknowledged_is_lost_or_torn() {
        for seed in 0..60 {
            let (disk, entropy) = (SimDisk::default(), SeededEntropy::new(seed));
            let mut acknowledged = Vec::new();
            let mut number = 0;
            for _ in 0..6 {
                let store = open(&disk);
                for _ in 0..entropy.below(20) {
                    number += 1;
                    if entropy.below(10) == 0 {
                        disk.fail_next(1 + entropy.below(3), std::io::ErrorKind::Other);
                    }
                    let body = vec![number as u8; entropy.below(3_000) as usize];
                    let now = Timestamp::from_second(number as i64).expect("a time");
                    if store.append(AGENT, job(number), now, &body).is_ok() {
                        acknowledged.push((number, now, body));
                    }
                }
                disk.crash(&entropy);
            }
            let store = open(&disk);
            for (number, received, body) in acknowledged {
                let found = store.messages(AGENT, job(number)).expect("readable");
                assert_eq!(found, [Stored { received, body }], "seed {seed}, report {number}");
            }
        }
    }

    /// Auditor: a report that was acknowledged is there after a power failure, also where it was
    /// found as one that a killed process had written.
    #[test]
    fn a_repeat_of_what_a_killed_process_wrote_is_durable() {
        use oms_core::testkit::crash::kill_at_every_operation;
        let work = |disk: &SimDisk, (): &()| {
            let store = ReportStore::open(Arc::new(disk.clone()));
            store.is_ok_and(|store| {
                (1..4).all(|number| {
                    let now = Timestamp::UNIX_EPOCH;
                    store.append(AGENT, job(number), now, &[7; 900]).is_ok()
                })
            })
        };
        let audit = |disk: &SimDisk, ()| assert_eq!(open(disk).jobs(AGENT).len(), 3);
        kill_at_every_operation(12, |_disk| (), work, audit);
    }

    #[test]
    fn a_repeat_is_stored_once_and_old_files_are_dropped() {
        let disk = SimDisk::default();
        let store = open(&disk);
        let (day, now) = (SignedDuration::from_hours(24), Timestamp::UNIX_EPOCH);
        for _ in 0..3 {
            store.append(AGENT, job(1), now, b"one").expect("stored");
        }
        store.append(AGENT, job(1), now, b"two").expect("stored");
        assert_eq!(store.messages(AGENT, job(1)).expect("readable").len(), 2);
        store.append(AGENT, job(2), now + day, b"three").expect("stored");
        assert_eq!(store.jobs(AGENT), [job(1), job(2)]);
        assert_eq!(store.prune(now + day).expect("pruned"), 1);
        assert_eq!(store.jobs(AGENT), [job(2)]);
        assert_eq!(open(&disk).jobs(AGENT), [job(2)]);
    }

    #[test]
    fn many_writers_share_syncs() {
        let disk = SimDisk::default();
        let store = open(&disk);
        std::thread::scope(|scope| {
            for writer in 0..8u64 {
                let store = &store;
                scope.spawn(move || {
                    for number in 0..20 {
                        let id = job(writer * 100 + number);
                        store.append(AGENT, id, Timestamp::UNIX_EPOCH, b"x").expect("stored");
                    }
                });
            }
        });
        disk.crash(&SeededEntropy::new(1));
        assert_eq!(open(&disk).jobs(AGENT).len(), 160);
    }

    proptest! {
        #[test]
        fn frames_round_trip_and_damage_is_noticed(
            body in proptest::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let received = Timestamp::from_microsecond(1_234_567).expect("a time");
            let mut bytes = frame(AGENT, job(7), received, &body);
            prop_assert_eq!(parse(&bytes), Some((AGENT, job(7), received, &body[..])));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(parse(&bytes).is_none());
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
