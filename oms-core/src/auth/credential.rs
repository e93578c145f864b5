//! What a caller can present, and how it is kept.

use super::{Principal, PrincipalKind};
use crate::id::ParseIdError;
use crate::journal::JournalError;
use crate::secret::{KeyError, Sealed};
use crate::{ErrorKind, Secret};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fmt::Write;

crate::uuid_id! {
    /// Names one credential, of which a principal may have several: that is how they are rotated.
    CredentialId, "credential id"
}

/// The shortest secret that is taken, in bytes. Shorter ones can be guessed from their hash.
pub const SECRET_BYTES_MIN: usize = 16;

/// The longest secret that is taken, in bytes.
pub(super) const SECRET_BYTES_MAX: usize = 4096;

/// How many random bytes a drawn secret has. Its text is their base64url.
pub const DRAWN_BYTES: usize = 32;

/// The largest certificate, in bytes of DER.
pub(super) const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;

/// A credential to keep.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// Whom it vouches for. Names are kept in lower case, but for a certificate's, which is its
    /// thumbprint.
    pub principal: Principal,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// What the caller will present.
    pub proof: CredentialKind,
}

/// What a caller presents.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CredentialKind {
    /// A secret that is sent as it is: kept as its SHA-256. For client secrets, webhook tokens
    /// and the local token.
    Secret(Secret),
    /// A key that signs and is never sent: kept sealed by the key ring. For shared keys and
    /// registration keys.
    Key(Secret),
    /// A client certificate, in DER: kept as its SHA-256.
    Certificate(Vec<u8>),
    /// The AgentId of a registered agent, a bearer secret: kept as its SHA-256. With a
    /// certificate, in DER, it is good on connections that present that certificate alone.
    Agent {
        /// The AgentId.
        id: Secret,
        /// The certificate that the agent registered.
        certificate: Option<Vec<u8>>,
    },
}

/// A credential that is kept, without what would let anyone use it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// Its identifier.
    pub id: CredentialId,
    /// Whom it vouches for.
    pub principal: Principal,
    /// When it was added.
    pub created: Timestamp,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
}

/// Why a credential was not kept or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// There is no such credential, or it was revoked.
    #[error("credential is not there. credential=`{credential}`")]
    Unknown {
        /// Its identifier.
        credential: CredentialId,
    },
    /// What is presented does not suit the kind of principal, or its length is out of bounds.
    #[error("credential does not fit. principal=`{principal}`, reason=`{reason}`")]
    Unfit {
        /// Whom it would vouch for.
        principal: Principal,
        /// What is wrong, without the credential itself.
        reason: &'static str,
    },
    /// The same secret or certificate vouches for someone already.
    #[error("credential is in use. credential=`{credential}`")]
    InUse {
        /// The one that is kept.
        credential: CredentialId,
    },
    /// No more credentials are kept.
    #[error("too many credentials. limit=`{limit}`")]
    TooMany {
        /// How many there may be.
        limit: usize,
    },
    /// A stored identifier cannot be read.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// The key ring did not seal or open a key.
    #[error("credentials cannot use their key ring")]
    Key(#[from] KeyError),
    /// The journal did not do what it was asked.
    #[error("credentials cannot use their journal")]
    Journal(#[from] JournalError),
}

impl CredentialError {
    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::NotFound,
            Self::Unfit { .. } | Self::Id(_) => ErrorKind::Invalid,
            Self::InUse { .. } => ErrorKind::AlreadyExists,
            Self::TooMany { .. } => ErrorKind::LimitExceeded { retry_after: None },
            Self::Key(error) => error.kind(),
            Self::Journal(error) => error.kind(),
        }
    }
}

/// What is kept of a credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    pub(super) id: CredentialId,
    pub(super) principal: Principal,
    pub(super) created: Timestamp,
    pub(super) expires: Option<Timestamp>,
    pub(super) proof: Proof,
}

/// What is kept to check against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Proof {
    /// SHA-256 of a secret, or of a certificate.
    Digest(String),
    /// A key, sealed for the credential's identifier.
    Sealed(Sealed),
    /// SHA-256 of an agent's id and of its certificate.
    Agent { digest: String, certificate: Option<String> },
}

/// What happens to a credential.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Change {
    Added(Stored),
    Revoked,
}

crate::journal_event!(Change, format 1, whole, {
    Self::Added(_) => "credential-added",
    Self::Revoked => "credential-revoked",
});

impl NewCredential {
    /// The principal as it is kept, if the proof suits it.
    pub(super) fn principal(&self) -> Result<Principal, CredentialError> {
        use PrincipalKind as Kind;
        let unfit =
            |reason| Err(CredentialError::Unfit { principal: self.principal.clone(), reason });
        let kind = self.principal.kind;
        let (suits, bytes) = match &self.proof {
            CredentialKind::Secret(secret) => {
                let suits = matches!(kind, Kind::ClientSecret | Kind::WebhookToken | Kind::Local);
                (suits, secret.expose().len())
            }
            CredentialKind::Key(key) => {
                (matches!(kind, Kind::SharedKey | Kind::RegistrationKey), key.expose().len())
            }
            CredentialKind::Agent { id, .. } => (kind == Kind::Agent, id.expose().len()),
            CredentialKind::Certificate(der) => {
                if kind != Kind::Certificate {
                    return unfit("the proof does not suit the kind of principal");
                }
                if !(1..=CERTIFICATE_BYTES_MAX).contains(&der.len()) {
                    return unfit("a certificate of 1 to 65536 bytes is taken");
                }
                return Ok(Principal::new(kind, thumbprint(der)));
            }
        };
        if !suits {
            return unfit("the proof does not suit the kind of principal");
        }
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes) {
            return unfit("a secret of 16 to 4096 bytes is taken");
        }
        let name = &self.principal.name;
        if !(1..=256).contains(&name.len()) || name.chars().any(char::is_control) {
            return unfit("a name of 1 to 256 bytes without control characters is taken");
        }
        Ok(Principal::new(kind, name.to_ascii_lowercase()))
    }
}

/// The SHA-1 thumbprint of a certificate in DER, in upper-case hexadecimal: what Azure and DSC
/// name certificates by. It is a name; certificates are told apart by SHA-256.
#[must_use]
pub fn thumbprint(der: &[u8]) -> String {
    hex(&Sha1::digest(der), true)
}

/// SHA-256 in lower-case hexadecimal, apart for each use.
pub(super) fn digest(usage: &str, bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(usage.as_bytes());
    hash.update([0]);
    hash.update(bytes);
    hex(&hash.finalize(), false)
}

fn hex(bytes: &[u8], is_upper: bool) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = match is_upper {
            true => write!(text, "{byte:02X}"),
            false => write!(text, "{byte:02x}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abc | sha1sum`, as RFC 3174 has it too.
    #[test]
    fn a_thumbprint_is_upper_case_sha_1() {
        assert_eq!(thumbprint(b"abc"), "A9993E364706816ABA3E25717850C26C9CD0D89D");
    }

    #[test]
    fn a_proof_that_does_not_suit_its_principal_is_refused() {
        let long = Secret::from("0123456789abcdef");
        let new = |kind, proof| NewCredential {
            principal: Principal::new(kind, "Name"),
            expires: None,
            proof,
        };
        let fits = |kind, proof| new(kind, proof).principal();
        let secret = || CredentialKind::Secret(long.clone());
        let key = || CredentialKind::Key(long.clone());
        let kept = fits(PrincipalKind::ClientSecret, secret()).expect("fits");
        assert_eq!(kept.name, "name");
        assert!(fits(PrincipalKind::SharedKey, key()).is_ok());
        assert!(fits(PrincipalKind::SharedKey, secret()).is_err());
        assert!(fits(PrincipalKind::ClientSecret, key()).is_err());
        assert!(fits(PrincipalKind::Agent, key()).is_err());
        assert!(fits(PrincipalKind::Certificate, secret()).is_err());
        let short = CredentialKind::Secret("0123456789abcde".into());
        assert!(fits(PrincipalKind::ClientSecret, short).is_err());
        let none = CredentialKind::Certificate(Vec::new());
        assert!(fits(PrincipalKind::Certificate, none).is_err());
    }
}
