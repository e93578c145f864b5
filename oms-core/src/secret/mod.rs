//! Values that never print, and keys that seal them.
//!
//! A [`Secret`] lives in memory. A [`KeyRing`] seals one for storage: a data key of its own
//! encrypts it, an account key wraps the data key, and a key-encryption key of a [`KeyProvider`]
//! wraps the account keys. Each step is XChaCha20-Poly1305 with what the bytes are and whose they
//! are as associated data, so a sealed value that is moved to another row does not open.
//!
//! ```text
//!  KeyProvider: key-encryption key (a file of mode 0600, or an outside service)
//!        │ wraps
//!  account key 1, 2, … (ring file; the newest seals, the others still open)
//!        │ wraps
//!  data key (stored with its value) ──encrypts──► value
//! ```

mod provider;

mod ring;

pub use provider::{FileKeyProvider, KeyProvider};
pub use ring::{KeyError, KeyRing, SEALED_BYTES_MAX, Sealed};

use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// A key, password or token: erased from memory when dropped, absent from `Debug`, without
/// `Display` and `Serialize`, and compared in constant time.
///
/// ```compile_fail,E0277
/// println!("{}", oms_core::Secret::from("hunter2"));
/// ```
/// ```compile_fail,E0277
/// serde_json::to_string(&oms_core::Secret::from("hunter2")).unwrap();
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes of a secret.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes, for the one call that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text.
    ///
    /// # Errors
    /// If they are not UTF-8.
    pub fn expose_text(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ZeroizeOnDrop for Secret {}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl PartialEq for Secret {
    /// Compares in a time that depends on the lengths alone.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        let shown = format!("{:?}", Secret::from("hunter2"));
        assert_eq!(shown, "Secret(***)");
    }

    #[test]
    fn compares_bytes() {
        assert_eq!(Secret::from("a"), Secret::from("a"));
        assert_ne!(Secret::from("a"), Secret::from("b"));
        assert_ne!(Secret::from("a"), Secret::from("ab"));
    }
}
