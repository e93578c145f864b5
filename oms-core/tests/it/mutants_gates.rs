//! Authenticators and guards of resources with one flaw each: every one must fall to a named case.

use async_trait::async_trait;
use futures::FutureExt as _;
use http::header::AUTHORIZATION;
use http::{HeaderValue, request::Parts};
use oms_core::auth::{AuthError, Principal, PrincipalKind};
use oms_core::http::{Authenticator, ByToken};
use oms_core::resource::{ResourceGuard, ResourceId};
use oms_core::testkit::authenticator::{self, Known};
use oms_core::testkit::guard::{self, TestedGuard};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

const TOKEN: &str = "c4a76a1e7f0c4f06a6b9c1f5";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CallerFlaw {
    None,
    WorksOnce,
    BelievesAName,
    TakesAnyEnd,
    ComparesByCase,
    TakesEmptyTokens,
    EndsOnBadText,
    TellsHowNear,
    ChallengesWithoutAScheme,
    PrintsItsToken,
}

struct FlawedCaller {
    inner: ByToken,
    flaw: CallerFlaw,
    calls: AtomicUsize,
}

impl fmt::Debug for FlawedCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flaw {
            CallerFlaw::PrintsItsToken => f.write_str(TOKEN),
            _ => write!(f, "{:?}", self.inner),
        }
    }
}

fn caller() -> Principal {
    Principal::new(PrincipalKind::ClientSecret, "collector")
}

impl FlawedCaller {
    fn new(flaw: CallerFlaw) -> Self {
        let inner = ByToken { token: TOKEN.into(), principal: caller() };
        Self { inner, flaw, calls: AtomicUsize::new(0) }
    }

    fn has(&self, flaw: CallerFlaw) -> bool {
        self.flaw == flaw
    }
}

impl Authenticator for FlawedCaller {
    fn authenticate(&self, parts: &Parts) -> Result<Principal, AuthError> {
        let given = parts.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let token = given.and_then(|given| given.strip_prefix(b"Bearer "));
        let is_taken = match self.flaw {
            CallerFlaw::BelievesAName => parts.headers.contains_key("x-forwarded-user"),
            CallerFlaw::TakesAnyEnd => token.is_some_and(|it| it.starts_with(TOKEN.as_bytes())),
            CallerFlaw::ComparesByCase => given.is_some_and(|given| {
                let given = given.iter().map(|byte| byte & !0x10);
                given.eq(format!("Bearer {TOKEN}").bytes().map(|byte| byte & !0x10))
            }),
            CallerFlaw::TakesEmptyTokens => token.is_some_and(<[u8]>::is_empty),
            CallerFlaw::EndsOnBadText => {
                given.is_some_and(|given| std::str::from_utf8(given).expect("text").is_empty())
            }
            _ => false,
        };
        let again = self.calls.fetch_add(1, Ordering::Relaxed) > 0;
        match is_taken || (self.has(CallerFlaw::WorksOnce) && again) {
            true if self.has(CallerFlaw::WorksOnce) => {
                Err(AuthError::Unauthenticated { reason: "once is enough" })
            }
            true => Ok(caller()),
            false => self.inner.authenticate(parts),
        }
    }

    fn challenge(&self, parts: &Parts) -> Option<HeaderValue> {
        match self.flaw {
            CallerFlaw::TellsHowNear if self.inner.authenticate(parts).is_ok() => None,
            CallerFlaw::TellsHowNear => Some(HeaderValue::from_static("Bearer")),
            CallerFlaw::ChallengesWithoutAScheme => Some(HeaderValue::from_static("\"go away\"")),
            _ => self.inner.challenge(parts),
        }
    }
}

#[test]
fn every_flaw_of_an_authenticator_is_caught() {
    let is_caught = |flaw, name: &str| {
        let mut cases = authenticator::CASES.iter();
        let (_, case) = cases.find(|(case, _)| *case == name).expect("such a case");
        let known = Known::by_authorization(&format!("Bearer {TOKEN}"), caller());
        catch_unwind(AssertUnwindSafe(|| case(&FlawedCaller::new(flaw), &known))).is_err()
    };
    let expected = [
        (CallerFlaw::WorksOnce, "the_known_are_recognised_each_time"),
        (CallerFlaw::BelievesAName, "a_stranger_is_nobody"),
        (CallerFlaw::TakesAnyEnd, "a_changed_credential_is_refused"),
        (CallerFlaw::ComparesByCase, "a_changed_credential_is_refused"),
        (CallerFlaw::TakesEmptyTokens, "hostile_heads_are_refused"),
        (CallerFlaw::EndsOnBadText, "hostile_heads_are_refused"),
        (CallerFlaw::TellsHowNear, "a_challenge_tells_nothing"),
        (CallerFlaw::ChallengesWithoutAScheme, "a_challenge_tells_nothing"),
        (CallerFlaw::PrintsItsToken, "no_credential_is_shown"),
    ];
    for (name, _) in authenticator::CASES {
        assert!(!is_caught(CallerFlaw::None, name), "{name}");
        assert!(expected.iter().any(|(_, case)| case == name), "{name} catches nothing");
    }
    for (flaw, case) in expected {
        assert!(is_caught(flaw, case), "{flaw:?} got past {case}");
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum GuardFlaw {
    None,
    LetsEverythingGo,
    HoldsEverything,
    MakesNothing,
    MakesEverything,
    ComparesByCase,
    GivesNoReason,
    LetsGoWhenAskedAgain,
}

#[derive(Debug)]
struct FlawedGuard {
    flaw: GuardFlaw,
    asked: AtomicUsize,
}

impl FlawedGuard {
    fn is(&self, id: &ResourceId, name: &str) -> bool {
        match self.flaw {
            GuardFlaw::ComparesByCase => id.as_str().ends_with(name),
            _ => id.as_str().to_ascii_lowercase().ends_with(name),
        }
    }
}

#[async_trait]
impl ResourceGuard for FlawedGuard {
    async fn check_create(&self, id: &ResourceId) -> Result<(), &'static str> {
        let is_refused = match self.flaw {
            GuardFlaw::MakesNothing => true,
            GuardFlaw::MakesEverything => false,
            _ => self.is(id, "/unwanted"),
        };
        if is_refused { Err("a further account") } else { Ok(()) }
    }

    async fn check_delete(&self, id: &ResourceId) -> Result<(), String> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let is_held = match self.flaw {
            GuardFlaw::LetsEverythingGo => false,
            GuardFlaw::HoldsEverything => true,
            GuardFlaw::LetsGoWhenAskedAgain => asked < 12 && self.is(id, "/held"),
            _ => self.is(id, "/held"),
        };
        match is_held {
            true if self.flaw == GuardFlaw::GivesNoReason => Err(String::new()),
            true => Err("its jobs are in it".to_owned()),
            false => Ok(()),
        }
    }
}

fn tested(flaw: GuardFlaw) -> TestedGuard<FlawedGuard> {
    let id = |name: &str| format!("/subscriptions/s/resourceGroups/g/{name}/{name}").parse();
    let id = |name| id(name).expect("a resource");
    TestedGuard {
        guard: FlawedGuard { flaw, asked: AtomicUsize::new(0) },
        held: id("held"),
        free: Some(id("free")),
        wanted: id("wanted"),
        unwanted: Some(id("unwanted")),
    }
}

async fn is_guard_caught(flaw: GuardFlaw, name: &str) -> bool {
    let tested = tested(flaw);
    let case = async {
        match name {
            "what_is_held_stays" => guard::what_is_held_stays(&tested).await,
            "what_is_free_goes" => guard::what_is_free_goes(&tested).await,
            "what_is_wanted_is_made" => guard::what_is_wanted_is_made(&tested).await,
            "what_is_unwanted_is_refused" => guard::what_is_unwanted_is_refused(&tested).await,
            _ => guard::asking_changes_nothing(&tested).await,
        }
    };
    AssertUnwindSafe(case).catch_unwind().await.is_err()
}

mod sound {
    use super::*;
    oms_core::resource_guard_conformance!(|| tested(GuardFlaw::None));
}

#[tokio::test]
async fn every_flaw_of_a_guard_is_caught() {
    for (flaw, case) in [
        (GuardFlaw::LetsEverythingGo, "what_is_held_stays"),
        (GuardFlaw::ComparesByCase, "what_is_held_stays"),
        (GuardFlaw::GivesNoReason, "what_is_held_stays"),
        (GuardFlaw::HoldsEverything, "what_is_free_goes"),
        (GuardFlaw::MakesNothing, "what_is_wanted_is_made"),
        (GuardFlaw::MakesEverything, "what_is_unwanted_is_refused"),
        (GuardFlaw::ComparesByCase, "what_is_unwanted_is_refused"),
        (GuardFlaw::LetsGoWhenAskedAgain, "asking_changes_nothing"),
    ] {
        assert!(is_guard_caught(flaw, case).await, "{flaw:?} got past {case}");
    }
}
