//! What every [`Authenticator`] must do.

use crate::auth::{AuthError, Principal};
use crate::http::{Authenticator, PeerCertificate};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request};

/// The head of a request that an authenticator recognises. Its credential is its `Authorization`
/// header, the certificate of its connection, or both.
#[derive(Clone, Debug)]
pub struct Known {
    /// The head.
    pub parts: Parts,
    /// Whom it is from.
    pub principal: Principal,
}

impl Known {
    /// A caller that sends these headers.
    #[must_use]
    pub fn by_headers(headers: HeaderMap, principal: Principal) -> Self {
        let mut parts = Request::new(()).into_parts().0;
        parts.headers = headers;
        Self { parts, principal }
    }

    /// A caller that sends this `Authorization`.
    ///
    /// # Panics
    /// If it is no value of a header.
    #[must_use]
    pub fn by_authorization(value: &str, principal: Principal) -> Self {
        let value = HeaderValue::from_str(value).expect("a header's value");
        Self::by_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]), principal)
    }

    /// A caller whose connection presented this certificate, in DER.
    #[must_use]
    pub fn by_certificate(der: Vec<u8>, principal: Principal) -> Self {
        let mut known = Self::by_headers(HeaderMap::new(), principal);
        known.parts.extensions.insert(PeerCertificate(der.into()));
        known
    }

    fn authorization(&self) -> &[u8] {
        self.parts.headers.get(AUTHORIZATION).map_or(b"", HeaderValue::as_bytes)
    }

    /// The same head with another `Authorization`, if it can be one.
    fn with_authorization(&self, value: &[u8]) -> Option<Parts> {
        let mut parts = self.parts.clone();
        parts.headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value).ok()?);
        Some(parts)
    }

    /// The same head without its credential.
    fn bare(&self) -> Parts {
        let mut parts = self.parts.clone();
        parts.headers.remove(AUTHORIZATION);
        parts.extensions.remove::<PeerCertificate>();
        parts
    }

    /// Heads of somebody who has nearly the same credential: one byte is another, is missing or is too
    /// many.
    fn forged(&self) -> Vec<Parts> {
        let mut forged = Vec::new();
        let value = self.authorization();
        for at in 0..value.len() {
            // A high bit, for the low ones of a last character may be none of base64's.
            let changed = [0x10, 0x01].iter().find_map(|bit| {
                let mut value = value.to_vec();
                value[at] ^= bit;
                self.with_authorization(&value)
            });
            forged.push(changed.expect("one of them is printed"));
        }
        if let Some((_, shorter)) = value.split_last() {
            forged.extend(self.with_authorization(shorter));
            forged.extend(self.with_authorization(&[value, b"A"].concat()));
        }
        if let Some(PeerCertificate(der)) = self.parts.extensions.get() {
            let other = |der: Vec<u8>| {
                let mut parts = self.parts.clone();
                parts.extensions.insert(PeerCertificate(der.into()));
                parts
            };
            for at in 0..der.len() {
                let mut changed = der.to_vec();
                changed[at] ^= 1;
                forged.push(other(changed));
            }
            forged.push(other(der[..der.len().saturating_sub(1)].to_vec()));
            forged.push(other([&der[..], b"A"].concat()));
        }
        forged
    }
}

/// One requirement: its name and the function that checks it.
pub type Case = (&'static str, fn(&dyn Authenticator, &Known));

fn assert_stranger(authenticator: &dyn Authenticator, parts: &Parts, why: &str) {
    let found = authenticator.authenticate(parts);
    let is_refused = matches!(found, Err(AuthError::Unauthenticated { .. }));
    assert!(is_refused, "{why}: {found:?}");
}

/// Whoever has a credential is recognised by it each time, also beside headers that mean nothing here.
pub fn the_known_are_recognised_each_time(authenticator: &dyn Authenticator, known: &Known) {
    let mut parts = known.parts.clone();
    for _ in 0..3 {
        assert_eq!(authenticator.authenticate(&parts).as_ref(), Ok(&known.principal));
        parts.headers.append("cookie", HeaderValue::from_static("user=somebody"));
        parts.headers.append("x-forwarded-user", HeaderValue::from_static("somebody"));
    }
}

/// Whoever has no credential is nobody, whatever else its request says.
pub fn a_stranger_is_nobody(authenticator: &dyn Authenticator, known: &Known) {
    let mut parts = known.bare();
    assert_stranger(authenticator, &parts, "without a credential");
    let name = HeaderValue::from_str(&known.principal.name);
    for header in ["x-forwarded-user", "x-ms-client-principal-name", "from", "remote-user"] {
        parts.headers.extend(name.iter().map(|name| (header.parse().ok(), name.clone())));
    }
    assert_stranger(authenticator, &parts, "with a name alone");
}

/// A credential that is nearly right is wrong: no byte of it may be another, missing, or too many.
pub fn a_changed_credential_is_refused(authenticator: &dyn Authenticator, known: &Known) {
    let forged = known.forged();
    assert!(!forged.is_empty(), "the known caller has no credential");
    for parts in forged {
        assert_stranger(authenticator, &parts, "with a changed credential");
    }
}

/// What is no credential at all is refused, and harms nothing.
pub fn hostile_heads_are_refused(authenticator: &dyn Authenticator, known: &Known) {
    let long = "A".repeat(100_000);
    let bearer = format!("Bearer {long}");
    let hostile: [&[u8]; 12] = [
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"Bearer \xff\xfe",
        b"\xff\xfe",
        b"Basic Og==",
        b"SharedKey :",
        b"SharedKey a:b:c",
        b"Bearer ..",
        bearer.as_bytes(),
        long.as_bytes(),
    ];
    let bare = Known { parts: known.bare(), principal: known.principal.clone() };
    for value in hostile {
        let parts = bare.with_authorization(value).expect("a header's value");
        assert_stranger(authenticator, &parts, "with nonsense");
        authenticator.challenge(&parts);
    }
    let certificates: [&[u8]; 2] = [b"", &[0x30; 10_000]];
    for der in certificates {
        let mut parts = known.bare();
        parts.extensions.insert(PeerCertificate(der.into()));
        assert_stranger(authenticator, &parts, "with no certificate's bytes");
    }
}

/// A challenge is a scheme with its parameters (RFC 9110, 11.6.1), and the same whatever was sent: it
/// does not tell how near a wrong credential was.
pub fn a_challenge_tells_nothing(authenticator: &dyn Authenticator, known: &Known) {
    let expected = authenticator.challenge(&known.bare());
    if let Some(challenge) = &expected {
        let text = challenge.to_str().expect("text");
        let scheme = text.split(' ').next().unwrap_or_default();
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        assert!(!scheme.is_empty() && scheme.chars().all(is_scheme), "{text}");
    }
    for parts in known.forged().into_iter().chain([known.parts.clone()]) {
        assert_eq!(authenticator.challenge(&parts), expected);
    }
}

/// Neither what is printed of it nor what it says of a refusal shows a credential.
pub fn no_credential_is_shown(authenticator: &dyn Authenticator, known: &Known) {
    authenticator.authenticate(&known.parts).expect("the known caller");
    let forged = known.forged();
    let refused = forged.iter().map(|parts| authenticator.authenticate(parts));
    let mut shown = format!("{authenticator:?} {authenticator:#?}");
    shown.extend(refused.map(|refused| format!(" {refused:?}")));
    let value = String::from_utf8_lossy(known.authorization());
    // What follows the scheme and a name.
    let secret = value.rsplit([' ', ':']).next().unwrap_or_default();
    assert!(secret.is_empty() || !shown.contains(secret), "a credential is shown");
}

macro_rules! cases {
    ($($case:ident),+) => {
        /// Every requirement.
        pub const CASES: &[Case] = &[$((stringify!($case), $case)),+];
    };
}
cases!(
    the_known_are_recognised_each_time,
    a_stranger_is_nobody,
    a_changed_credential_is_refused,
    hostile_heads_are_refused,
    a_challenge_tells_nothing,
    no_credential_is_shown
);

/// Runs every requirement as a test of its own; the factory, an asynchronous closure, makes an
/// authenticator and a [`Known`] caller of it.
#[macro_export]
macro_rules! authenticator_conformance {
    ($make:expr) => {
        $crate::authenticator_conformance!(@each $make;
            the_known_are_recognised_each_time, a_stranger_is_nobody,
            a_changed_credential_is_refused, hostile_heads_are_refused,
            a_challenge_tells_nothing, no_credential_is_shown);
    };
    (@each $make:expr; $($case:ident),+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                let (authenticator, known) = ($make)().await;
                $crate::testkit::authenticator::$case(&authenticator, &known);
            })+
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{CredentialKind, Credentials, NewCredential, PrincipalKind};
    use crate::clock::ManualClock;
    use crate::disk::Disk;
    use crate::entropy::{Entropy, SeededEntropy};
    use crate::http::{ByCertificate, ByToken, FirstOf};
    use crate::journal::MemoryJournal;
    use crate::secret::KeyRing;
    use crate::testkit::disk::SimDisk;
    use std::sync::Arc;

    const TOKEN: &str = "c4a76a1e7f0c4f06a6b9c1f5";

    fn by_token() -> (ByToken, Known) {
        let principal = Principal::new(PrincipalKind::ClientSecret, "collector");
        let known = Known::by_authorization(&format!("Bearer {TOKEN}"), principal.clone());
        (ByToken { token: TOKEN.into(), principal }, known)
    }

    async fn by_certificate() -> (ByCertificate, Known) {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
        let ring = KeyRing::open_folder(disk, Arc::clone(&entropy), "account", false);
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let journal = Arc::new(MemoryJournal::default());
        let opened = Credentials::open(journal, Arc::new(ring.expect("a ring")), clock, entropy);
        let credentials = Arc::new(opened.await.expect("credentials"));
        // Any bytes will do: whether a certificate is a sound one is seen by TLS.
        let der = (0..200).map(|byte: u8| byte ^ 0x30).collect::<Vec<u8>>();
        let principal = Principal::new(PrincipalKind::Certificate, crate::auth::thumbprint(&der));
        let new = NewCredential {
            principal: principal.clone(),
            expires: None,
            proof: CredentialKind::Certificate(der.clone()),
        };
        credentials.add(&new, &Principal::local()).await.expect("kept");
        (ByCertificate(credentials), Known::by_certificate(der, principal))
    }

    mod token {
        use super::*;
        crate::authenticator_conformance!(|| async { by_token() });
    }

    mod certificate {
        use super::*;
        crate::authenticator_conformance!(by_certificate);
    }

    mod first_of_both_by_token {
        use super::*;
        crate::authenticator_conformance!(|| async {
            let (token, known) = by_token();
            (FirstOf(vec![Arc::new(by_certificate().await.0), Arc::new(token)]), known)
        });
    }

    mod first_of_both_by_certificate {
        use super::*;
        crate::authenticator_conformance!(|| async {
            let (certificate, known) = by_certificate().await;
            (FirstOf(vec![Arc::new(certificate), Arc::new(by_token().0)]), known)
        });
    }

    #[test]
    fn the_first_of_none_knows_nobody() {
        let (_, known) = by_token();
        assert_stranger(&FirstOf(Vec::new()), &known.parts, "of none");
    }
}
