//! Key files: the master key, sealed under a key that scrypt derives from a passphrase.

use super::{FormatError, base64_bytes, to_json};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The most memory scrypt may use while a key file is opened, in bytes (128 · N · r).
pub const KDF_MEMORY_BYTES_MAX: u64 = 1 << 30;

/// The most scrypt passes (p) a key file may ask for.
pub const KDF_PASSES_MAX: u32 = 1024;

/// The most memory that all passes together may go through, in bytes (128 · N · r · p): some
/// seconds to half a minute of one processor.
pub const KDF_WORK_BYTES_MAX: u64 = 8 << 30;

/// scrypt's cost parameters. See RFC 7914, 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KdfParameters {
    /// The binary logarithm of N, the CPU and memory cost.
    pub log_n: u8,
    /// The block size.
    pub r: u32,
    /// The parallelization.
    pub p: u32,
}

impl Default for KdfParameters {
    /// 64 MiB of memory and about a quarter of a second, in the range that restic calibrates to.
    fn default() -> Self {
        Self { log_n: 16, r: 8, p: 1 }
    }
}

/// A file under `keys/`, which is plain JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyFile {
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    #[serde(default)]
    pub username: String,
    /// Where it was made.
    #[serde(default)]
    pub hostname: String,
    /// The key derivation function; `scrypt`.
    pub kdf: String,
    /// scrypt's N.
    #[serde(rename = "N")]
    pub n: u64,
    /// scrypt's r.
    pub r: u32,
    /// scrypt's p.
    pub p: u32,
    /// scrypt's salt, 64 random bytes.
    #[serde(with = "base64_bytes")]
    pub salt: Vec<u8>,
    /// The sealed master key.
    #[serde(with = "base64_bytes")]
    pub data: Vec<u8>,
}

impl KeyFile {
    /// The JSON text.
    ///
    /// # Errors
    /// [`FormatError::Json`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        to_json("key file", self)
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`FormatError::Json`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        serde_json::from_slice(bytes).map_err(FormatError::json("key file"))
    }

    /// The cost parameters, within this reader's limits.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] for another function or an N that is no power of two;
    /// [`FormatError::TooLarge`] for a cost above the limits.
    pub fn parameters(&self) -> Result<KdfParameters, FormatError> {
        if self.kdf != "scrypt" {
            let shown: String = self.kdf.chars().take(100).collect();
            return Err(FormatError::malformed("key file", format!("kdf `{shown}` is unknown")));
        }
        if self.n < 2 || !self.n.is_power_of_two() || self.r == 0 || self.p == 0 {
            return Err(FormatError::malformed("key file", "scrypt parameters are out of range"));
        }
        let memory = self.n.saturating_mul(128).saturating_mul(u64::from(self.r));
        if memory > KDF_MEMORY_BYTES_MAX {
            let limit = KDF_MEMORY_BYTES_MAX;
            return Err(FormatError::TooLarge { what: "scrypt memory", actual: memory, limit });
        }
        if self.p > KDF_PASSES_MAX {
            let (actual, limit) = (u64::from(self.p), u64::from(KDF_PASSES_MAX));
            return Err(FormatError::TooLarge { what: "scrypt passes", actual, limit });
        }
        // Beside N blocks of 128 · r bytes, scrypt holds one for each pass.
        let blocks = u64::from(self.r).saturating_mul(128).saturating_mul(u64::from(self.p));
        if blocks > KDF_MEMORY_BYTES_MAX {
            let limit = KDF_MEMORY_BYTES_MAX;
            return Err(FormatError::TooLarge { what: "scrypt blocks", actual: blocks, limit });
        }
        let work = memory.saturating_mul(u64::from(self.p));
        if work > KDF_WORK_BYTES_MAX {
            let limit = KDF_WORK_BYTES_MAX;
            return Err(FormatError::TooLarge { what: "scrypt work", actual: work, limit });
        }
        Ok(KdfParameters { log_n: self.n.ilog2() as u8, r: self.r, p: self.p })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_bounded() {
        let file = |n, r, p| KeyFile {
            created: Timestamp::UNIX_EPOCH,
            username: String::new(),
            hostname: String::new(),
            kdf: "scrypt".to_owned(),
            n,
            r,
            p,
            salt: vec![1; 64],
            data: Vec::new(),
        };
        let good = file(32768, 8, 3).parameters().expect("restic's own");
        assert_eq!(good, KdfParameters { log_n: 15, r: 8, p: 3 });
        for (n, r, p) in [
            (0, 8, 1),
            (3, 8, 1),
            (1 << 40, 8, 1),
            (1 << 20, 9, 1),
            (16, 0, 1),
            // Within the bounds of one pass, and 137 GB, 4 GB or an hour for all of them.
            (2, 1 << 22, 255),
            (2, 1 << 22, 8),
            (1 << 20, 8, 1024),
        ] {
            assert!(file(n, r, p).parameters().is_err(), "{n} {r} {p}");
        }
    }
}
