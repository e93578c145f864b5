//! Sealing: AES-256 in counter mode, authenticated by Poly1305-AES over the ciphertext.
//!
//! ```text
//!  seal(plaintext) = iv (16 random bytes) ‖ AES-256-CTR(plaintext) ‖ Poly1305-AES tag (16)
//! ```
//! The authentication code is verified before anything is decrypted. A seal is not bound to its
//! place; what binds a blob or a file to its name is the SHA-256 of its bytes, checked by readers.

use super::format::{FormatError, KdfParameters, base64_bytes, to_json};
use aes::cipher::{
    Block, BlockCipherEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _,
};
use aes::{Aes128Enc, Aes256};
use oms_core::{Entropy, Secret};
use poly1305::Poly1305;
use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// How many bytes a seal adds.
pub const SEAL_BYTES: usize = IV_BYTES + TAG_BYTES;

const IV_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// The bytes do not carry a valid authentication code under this key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("authentication code does not match")]
pub struct Forged;

/// A key that seals: 32 bytes for AES-256, 16 + 16 for Poly1305-AES.
#[derive(Clone)]
pub struct MasterKey {
    encrypt: Zeroizing<[u8; 32]>,
    mac_k: Zeroizing<[u8; 16]>,
    mac_r: Zeroizing<[u8; 16]>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

/// The JSON form of a master key, as it lies sealed in a key file.
#[derive(Serialize, Deserialize)]
struct MasterJson {
    mac: MacJson,
    #[serde(with = "base64_bytes")]
    encrypt: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct MacJson {
    #[serde(with = "base64_bytes")]
    k: Vec<u8>,
    #[serde(with = "base64_bytes")]
    r: Vec<u8>,
}

impl MasterKey {
    /// Draws a new key.
    #[must_use]
    pub fn draw(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 64]);
        entropy.fill(bytes.as_mut_slice());
        Self::from_bytes(&bytes)
    }

    /// Derives the key that seals a key file from its passphrase.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] if scrypt refuses the parameters.
    pub fn derive(
        passphrase: &Secret,
        salt: &[u8],
        parameters: KdfParameters,
    ) -> Result<Self, FormatError> {
        let refused = |reason| FormatError::malformed("key file", reason);
        let KdfParameters { log_n, r, p } = parameters;
        let parameters = scrypt::Params::new(log_n, r, p)
            .map_err(|_out_of_range| refused("scrypt parameters are out of range"))?;
        let mut bytes = Zeroizing::new([0; 64]);
        scrypt::scrypt(passphrase.expose(), salt, &parameters, bytes.as_mut_slice())
            .map_err(|_length| refused("scrypt cannot give 64 bytes"))?;
        Ok(Self::from_bytes(&bytes))
    }

    fn from_bytes(bytes: &[u8; 64]) -> Self {
        let mut key = Self {
            encrypt: Zeroizing::new([0; 32]),
            mac_k: Zeroizing::new([0; 16]),
            mac_r: Zeroizing::new([0; 16]),
        };
        key.encrypt.copy_from_slice(&bytes[..32]);
        key.mac_k.copy_from_slice(&bytes[32..48]);
        key.mac_r.copy_from_slice(&bytes[48..]);
        key
    }

    /// The JSON text that a key file seals.
    ///
    /// # Errors
    /// [`FormatError::Json`].
    pub(crate) fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, FormatError> {
        let mac = MacJson { k: self.mac_k.to_vec(), r: self.mac_r.to_vec() };
        let json = MasterJson { mac, encrypt: self.encrypt.to_vec() };
        to_json("master key", &json).map(Zeroizing::new)
    }

    /// Reads the JSON text that a key file seals.
    ///
    /// # Errors
    /// [`FormatError`] if it is no key or its parts have other lengths.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let json: MasterJson =
            serde_json::from_slice(bytes).map_err(FormatError::json("master key"))?;
        let joined = Zeroizing::new([json.encrypt, json.mac.k, json.mac.r].concat());
        let bytes = joined.as_slice().try_into().map_err(|_length| {
            FormatError::malformed("master key", "its parts do not have 32, 16 and 16 bytes")
        })?;
        Ok(Self::from_bytes(bytes))
    }

    /// Encrypts and authenticates.
    #[must_use]
    pub fn seal(&self, plaintext: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        let mut iv = [0; IV_BYTES];
        entropy.fill(&mut iv);
        let mut sealed = Vec::with_capacity(plaintext.len() + SEAL_BYTES);
        sealed.extend_from_slice(&iv);
        sealed.extend_from_slice(plaintext);
        self.keystream(iv, &mut sealed[IV_BYTES..]);
        let tag = self.tag(iv, &sealed[IV_BYTES..]);
        sealed.extend_from_slice(&tag);
        sealed
    }

    /// Verifies and decrypts.
    ///
    /// # Errors
    /// [`Forged`] if the bytes are not a seal under this key.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Forged> {
        let (iv, rest) = sealed.split_first_chunk::<IV_BYTES>().ok_or(Forged)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(Forged)?;
        if !bool::from(self.tag(*iv, ciphertext).ct_eq(tag)) {
            return Err(Forged);
        }
        let mut plaintext = ciphertext.to_vec();
        self.keystream(*iv, &mut plaintext);
        Ok(plaintext)
    }

    fn keystream(&self, iv: [u8; IV_BYTES], bytes: &mut [u8]) {
        let key: &[u8; 32] = &self.encrypt;
        ctr::Ctr128BE::<Aes256>::new(key.into(), &iv.into()).apply_keystream(bytes);
    }

    /// Poly1305 with the one-time key `r ‖ AES-128(k, iv)`.
    fn tag(&self, iv: [u8; IV_BYTES], ciphertext: &[u8]) -> [u8; TAG_BYTES] {
        let mac_k: &[u8; 16] = &self.mac_k;
        let mut nonce: Block<Aes128Enc> = iv.into();
        Aes128Enc::new(mac_k.into()).encrypt_block(&mut nonce);
        let mut one_time = Zeroizing::new([0; 32]);
        one_time[..16].copy_from_slice(self.mac_r.as_slice());
        one_time[16..].copy_from_slice(&nonce);
        let one_time: &[u8; 32] = &one_time;
        Poly1305::new(one_time.into()).compute_unpadded(ciphertext).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;

    /// Test vector of D. J. Bernstein's Poly1305-AES paper, appendix B, the one of 32 bytes.
    #[test]
    fn the_authentication_code_is_poly1305_aes() {
        let mut key = MasterKey::draw(&SeededEntropy::new(0));
        let hex =
            |text: &str| -> [u8; 16] { u128::from_str_radix(text, 16).expect("hex").to_be_bytes() };
        key.mac_r = Zeroizing::new(hex("48443d0bb0d21109c89a100b5ce2c208"));
        key.mac_k = Zeroizing::new(hex("6acb5f61a7176dd320c5c1eb2edcdc74"));
        let tag = key.tag(
            hex("ae212a55399729595dea458bc621ff0e"),
            &hex("663cea190ffb83d89593f3f476b6bc24")
                .iter()
                .copied()
                .chain(*b"\xd7\xe6\x79\x10\x7e\xa2\x6a\xdb\x8c\xaf\x66\x52\xd0\x65\x61\x36")
                .collect::<Vec<_>>(),
        );
        assert_eq!(tag, hex("0ee1c16bb73f0f4fd19881753c01cdbe"));
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let entropy = SeededEntropy::new(7);
        let key = MasterKey::draw(&entropy);
        for length in [0, 1, 15, 16, 17, 1000] {
            let plaintext = vec![42; length];
            let sealed = key.seal(&plaintext, &entropy);
            assert_eq!(sealed.len(), length + SEAL_BYTES);
            assert_eq!(key.open(&sealed), Ok(plaintext));
            for at in 0..sealed.len().min(64) {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert_eq!(key.open(&damaged), Err(Forged), "{at}");
            }
            assert_eq!(key.open(&sealed[..sealed.len() - 1]), Err(Forged));
            assert_eq!(MasterKey::draw(&entropy).open(&sealed), Err(Forged));
        }
        assert_eq!(key.open(&[]), Err(Forged));
    }

    #[test]
    fn survives_its_json() {
        let entropy = SeededEntropy::new(7);
        let key = MasterKey::draw(&entropy);
        let again = MasterKey::parse(&key.to_json().expect("JSON")).expect("a key");
        assert_eq!(again.open(&key.seal(b"x", &entropy)), Ok(b"x".to_vec()));
        assert!(MasterKey::parse(br#"{"mac":{"k":"","r":""},"encrypt":""}"#).is_err());
        assert_eq!(format!("{key:?}"), "MasterKey(***)");
    }
}
