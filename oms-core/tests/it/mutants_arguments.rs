//! Clocks, generators and authorizers with one flaw each: every one must fall to a named case.

use jiff::{SignedDuration, Timestamp};
use oms_core::auth::{AuthError, Authorizer, Grant, Grants, Principal, PrincipalKind};
use oms_core::clock::{Clock, ManualClock};
use oms_core::entropy::{Entropy, SeededEntropy};
use oms_core::resource::ResourceId;
use oms_core::testkit::authorizer;
use oms_core::testkit::clock::{self, TestedClock};
use oms_core::testkit::entropy;
use std::cell::RefCell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// That a sound one passes every case, each flaw falls to its own, and each case catches one.
fn audit<F: Copy + Debug>(
    none: F,
    cases: &[&'static str],
    expected: &[(F, &str)],
    run: impl Fn(F, &str),
) {
    let is_caught = |flaw, case: &str| catch_unwind(AssertUnwindSafe(|| run(flaw, case))).is_err();
    for case in cases {
        assert!(!is_caught(none, case), "{case}");
        assert!(expected.iter().any(|(_, catches)| catches == case), "{case} catches nothing");
    }
    for (flaw, case) in expected {
        assert!(is_caught(*flaw, case), "{flaw:?} got past {case}");
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ClockFlaw {
    None,
    StandsStill,
    WallClockStandsStill,
    MeasuresByTheWallClock,
    HasAnOriginForEachThread,
    GoesBackNowAndThen,
}

#[derive(Debug)]
struct FlawedClock {
    world: ManualClock,
    flaw: ClockFlaw,
    readings: AtomicU64,
}

thread_local! {
    static ORIGIN: RefCell<Option<Duration>> = const { RefCell::new(None) };
}

impl Clock for FlawedClock {
    fn now(&self) -> Timestamp {
        match self.flaw {
            ClockFlaw::StandsStill | ClockFlaw::WallClockStandsStill => Timestamp::UNIX_EPOCH,
            _ => self.world.now(),
        }
    }

    fn monotonic(&self) -> Duration {
        let now = self.world.monotonic();
        match self.flaw {
            ClockFlaw::StandsStill => Duration::ZERO,
            ClockFlaw::MeasuresByTheWallClock => {
                let long_ago = Timestamp::UNIX_EPOCH - SignedDuration::from_hours(9);
                self.world.now().duration_since(long_ago).unsigned_abs()
            }
            ClockFlaw::HasAnOriginForEachThread => {
                ORIGIN.with_borrow_mut(|origin| now.saturating_sub(*origin.get_or_insert(now)))
            }
            ClockFlaw::GoesBackNowAndThen => {
                let reading = self.readings.fetch_add(1, Ordering::Relaxed);
                if reading % 1_000 == 999 {
                    now.saturating_sub(Duration::from_nanos(1))
                } else {
                    now
                }
            }
            _ => now,
        }
    }
}

impl TestedClock for FlawedClock {
    fn clock(&self) -> &dyn Clock {
        self
    }

    fn pass(&self, time: Duration) {
        self.world.advance(time);
    }

    fn set_back(&self) -> bool {
        self.world.set_back()
    }
}

#[test]
fn every_flaw_of_a_clock_is_caught() {
    let names: Vec<_> = clock::CASES.iter().map(|(name, _)| *name).collect();
    let run = |flaw, name: &str| {
        let (_, case) = clock::CASES.iter().find(|(case, _)| *case == name).expect("such a case");
        let world = ManualClock::new(Timestamp::UNIX_EPOCH);
        // Each runs in a thread of its own, so that none has read a clock before.
        let tested = FlawedClock { world, flaw, readings: AtomicU64::new(0) };
        let ran = std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                tested.clock().monotonic();
                case(&tested);
            });
            run.join()
        });
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    };
    let expected = [
        (ClockFlaw::StandsStill, "time_passes"),
        (ClockFlaw::WallClockStandsStill, "time_passes"),
        (ClockFlaw::MeasuresByTheWallClock, "a_clock_set_back_shortens_no_duration"),
        (ClockFlaw::HasAnOriginForEachThread, "threads_share_the_origin"),
        (ClockFlaw::GoesBackNowAndThen, "durations_never_go_back"),
    ];
    audit(ClockFlaw::None, &names, &expected, run);
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EntropyFlaw {
    None,
    FillsNothing,
    FillsWholeWordsOnly,
    KeepsTheHighBitClear,
    GivesAscii,
    BeginsAgain,
    BeginsAgainInEachThread,
    HasOneSeedForAll,
}

#[derive(Debug)]
struct FlawedEntropy {
    inner: SeededEntropy,
    flaw: EntropyFlaw,
    draws: AtomicU64,
}

thread_local! {
    static OWN: SeededEntropy = const { SeededEntropy::new(1) };
}

impl FlawedEntropy {
    fn new(flaw: EntropyFlaw, seed: u64) -> Self {
        let seed = if flaw == EntropyFlaw::HasOneSeedForAll { 1 } else { seed };
        Self { inner: SeededEntropy::new(seed), flaw, draws: AtomicU64::new(0) }
    }
}

impl Entropy for FlawedEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let whole = bytes.len() / 8 * 8;
        match self.flaw {
            EntropyFlaw::FillsNothing => {}
            EntropyFlaw::FillsWholeWordsOnly => self.inner.fill(&mut bytes[..whole]),
            EntropyFlaw::KeepsTheHighBitClear => {
                self.inner.fill(bytes);
                bytes.iter_mut().for_each(|byte| *byte &= 0x7f);
            }
            EntropyFlaw::GivesAscii => {
                self.inner.fill(bytes);
                bytes.iter_mut().for_each(|byte| *byte = b'A' + *byte % 26);
            }
            EntropyFlaw::BeginsAgain => {
                let draw = self.draws.fetch_add(1, Ordering::Relaxed) % 1_000;
                SeededEntropy::new(draw << 32).fill(bytes);
            }
            EntropyFlaw::BeginsAgainInEachThread => OWN.with(|own| own.fill(bytes)),
            EntropyFlaw::None | EntropyFlaw::HasOneSeedForAll => self.inner.fill(bytes),
        }
    }
}

#[test]
fn every_flaw_of_a_generator_is_caught() {
    let names: Vec<_> = entropy::CASES.iter().map(|(name, _)| *name).collect();
    let run = |flaw, name: &str| {
        let (_, case) = entropy::CASES.iter().find(|(case, _)| *case == name).expect("such a case");
        case(&FlawedEntropy::new(flaw, 1), &FlawedEntropy::new(flaw, 2));
    };
    let expected = [
        (EntropyFlaw::FillsNothing, "every_byte_is_filled"),
        (EntropyFlaw::FillsWholeWordsOnly, "every_byte_is_filled"),
        (EntropyFlaw::KeepsTheHighBitClear, "every_bit_is_drawn"),
        (EntropyFlaw::GivesAscii, "every_bit_is_drawn"),
        (EntropyFlaw::BeginsAgain, "nothing_is_drawn_twice"),
        (EntropyFlaw::BeginsAgainInEachThread, "nothing_is_drawn_twice"),
        (EntropyFlaw::HasOneSeedForAll, "another_draws_something_else"),
    ];
    audit(EntropyFlaw::None, &names, &expected, run);
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum AuthFlaw {
    None,
    AllowsTheOwner,
    IgnoresTheKind,
    IgnoresTheName,
    IgnoresTheOperation,
    ComparesOperationsByCase,
    ComparesScopesAsText,
    ReachesUp,
    MixesGrants,
    NamesNobody,
}

#[derive(Debug)]
struct FlawedAuthorizer {
    grants: Vec<Grant>,
    flaw: AuthFlaw,
}

impl FlawedAuthorizer {
    /// Whether a grant covers the call, but for the flaw.
    fn covers(&self, grant: &Grant, who: &Principal, operation: &str, on: &ResourceId) -> bool {
        let mut grant = grant.clone();
        match self.flaw {
            AuthFlaw::IgnoresTheKind => grant.principal.kind = who.kind,
            AuthFlaw::IgnoresTheName => grant.principal.name.clone_from(&who.name),
            AuthFlaw::IgnoresTheOperation => grant.operation = "*".to_owned(),
            AuthFlaw::ComparesOperationsByCase if operation.to_ascii_uppercase() == operation => {
                return false;
            }
            AuthFlaw::ComparesScopesAsText => {
                let (scope, on) = (grant.scope.to_string(), on.to_string());
                let is_below = on.to_lowercase().starts_with(&scope.to_lowercase());
                grant.scope = if is_below { ResourceId::root() } else { grant.scope };
            }
            AuthFlaw::ReachesUp if grant.scope.is_within(on) => grant.scope = on.clone(),
            _ => {}
        }
        Grants::new(vec![grant]).check(who, operation, on).is_ok()
    }
}

impl Authorizer for FlawedAuthorizer {
    fn check(
        &self,
        who: &Principal,
        operation: &str,
        resource: &ResourceId,
    ) -> Result<(), AuthError> {
        let any = |operation: &str, on: &ResourceId| {
            self.grants.iter().any(|grant| self.covers(grant, who, operation, on))
        };
        let scopes = || self.grants.iter().map(|grant| &grant.scope);
        let is_allowed = match self.flaw {
            AuthFlaw::AllowsTheOwner if who.kind == PrincipalKind::Local => true,
            AuthFlaw::MixesGrants => {
                let on_other = scopes().any(|scope| any(operation, scope));
                let own = self.grants.iter().filter(|grant| grant.principal == *who);
                on_other && own.into_iter().any(|grant| resource.is_within(&grant.scope))
            }
            _ => any(operation, resource),
        };
        match is_allowed {
            true => Ok(()),
            false if self.flaw == AuthFlaw::NamesNobody => {
                Err(AuthError::denied(&Principal::local(), operation, resource))
            }
            false => Err(AuthError::denied(who, operation, resource)),
        }
    }
}

#[test]
fn every_flaw_of_an_authorizer_is_caught() {
    let names: Vec<_> = authorizer::CASES.iter().map(|(name, _)| *name).collect();
    let run = |flaw, name: &str| {
        let case = authorizer::CASES.iter().find(|(case, _)| *case == name).expect("such a case").1;
        case(&|grants| Box::new(FlawedAuthorizer { grants, flaw }));
    };
    let expected = [
        (AuthFlaw::AllowsTheOwner, "nothing_is_allowed_without_a_grant"),
        (AuthFlaw::IgnoresTheKind, "a_grant_is_of_its_principal"),
        (AuthFlaw::IgnoresTheName, "a_grant_is_of_its_principal"),
        (AuthFlaw::IgnoresTheOperation, "a_grant_is_of_its_operations"),
        (AuthFlaw::ComparesOperationsByCase, "a_grant_is_of_its_operations"),
        (AuthFlaw::ComparesScopesAsText, "a_grant_reaches_down_only"),
        (AuthFlaw::ReachesUp, "a_grant_reaches_down_only"),
        (AuthFlaw::MixesGrants, "grants_do_not_mix"),
        (AuthFlaw::NamesNobody, "a_refusal_names_the_call"),
    ];
    audit(AuthFlaw::None, &names, &expected, run);
}
