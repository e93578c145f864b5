//! Names of stored things: the SHA-256 of their bytes, as 64 lower-case hex digits.

use oms_core::id::ParseIdError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Writes bytes as lower-case hex digits.
fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly 64 lower-case hex digits.
fn parse_hex(what: &'static str, text: &str) -> Result<[u8; 32], ParseIdError> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return Err(ParseIdError::new(what, text, "not 64 hex digits"));
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for &digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => {
                    return Err(ParseIdError::new(
                        what,
                        text,
                        "has a character other than 0-9 a-f",
                    ));
                }
            };
            *byte = *byte << 4 | value;
        }
    }
    Ok(bytes)
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The id of `content`: its SHA-256.
            #[must_use]
            pub fn of(content: &[u8]) -> Self {
                Self(Sha256::digest(content).into())
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first 8 hex digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex($what, text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hash_id! {
    /// A blob, by the SHA-256 of its uncompressed plaintext.
    BlobId, "blob id"
}

hash_id! {
    /// A pack file, by the SHA-256 of its bytes.
    PackId, "pack id"
}

hash_id! {
    /// An index file, by the SHA-256 of its bytes.
    IndexId, "index id"
}

hash_id! {
    /// A snapshot file, by the SHA-256 of its bytes. It is also the id of the recovery point.
    SnapshotId, "snapshot id"
}

hash_id! {
    /// A key file, by the SHA-256 of its bytes.
    KeyId, "key id"
}

hash_id! {
    /// A lock file, by the SHA-256 of its bytes.
    LockId, "lock id"
}

hash_id! {
    /// A repository: 32 random bytes drawn when it was made.
    RepositoryId, "repository id"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixty_four_lower_case_hex_digits() {
        let id = BlobId::of(b"");
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse::<BlobId>().expect("an id"), id);
        assert_eq!(id.short(), "e3b0c442");
        assert!(text.to_uppercase().parse::<BlobId>().is_err());
        assert!(text[1..].parse::<BlobId>().is_err());
        assert!("é".repeat(32).parse::<BlobId>().is_err());
    }
}
