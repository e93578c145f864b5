//! The repository's configuration file.

use super::{FORMAT_VERSION, FormatError, RepositoryId, to_json};
use oms_core::{Entropy, EntropyExt as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The degree of a chunker polynomial, as restic draws it.
const POLYNOMIAL_DEGREE: u32 = 53;

/// What every writer of a repository agrees on; sealed, in the file `config`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The version of the format; 2 here.
    pub version: u32,
    /// The repository's own id.
    pub id: RepositoryId,
    /// restic's Rabin polynomial over GF(2), one bit a coefficient; irreducible, of degree 53.
    #[serde(serialize_with = "write_polynomial", deserialize_with = "read_polynomial")]
    pub chunker_polynomial: u64,
}

impl Config {
    /// Draws the configuration of a new repository.
    #[must_use]
    pub fn draw(entropy: &dyn Entropy) -> Self {
        let mut id = [0; 32];
        entropy.fill(&mut id);
        Self {
            version: FORMAT_VERSION,
            id: RepositoryId::from_bytes(id),
            chunker_polynomial: draw_polynomial(entropy),
        }
    }

    /// The JSON text, which is sealed without compression.
    ///
    /// # Errors
    /// [`FormatError::Json`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        to_json("configuration", self)
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`FormatError::Json`], or [`FormatError::Malformed`] for a polynomial that cannot chunk.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let config: Self =
            serde_json::from_slice(bytes).map_err(FormatError::json("configuration"))?;
        if !is_irreducible(config.chunker_polynomial) {
            let reason = format!("polynomial {:x} is reducible", config.chunker_polynomial);
            return Err(FormatError::malformed("configuration", reason));
        }
        Ok(config)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn write_polynomial<S: Serializer>(polynomial: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{polynomial:x}"))
}

fn read_polynomial<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    u64::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
}

/// One in about 27 of the candidates is irreducible, so this ends soon.
fn draw_polynomial(entropy: &dyn Entropy) -> u64 {
    loop {
        let low = entropy.number() & ((1 << POLYNOMIAL_DEGREE) - 1);
        let candidate = low | 1 << POLYNOMIAL_DEGREE | 1;
        if is_irreducible(candidate) {
            return candidate;
        }
    }
}

/// Ben-Or's test: `f` of degree n is irreducible over GF(2) if and only if it shares no factor
/// with `x^(2^i) - x` for every i up to n/2.
fn is_irreducible(polynomial: u64) -> bool {
    let Some(degree) = polynomial.checked_ilog2().filter(|degree| *degree >= 1) else {
        return false;
    };
    let x = reduce(0b10, polynomial);
    let mut power = x;
    (1..=degree / 2).all(|_| {
        power = multiply(power, power, polynomial);
        greatest_common_divisor(polynomial, power ^ x) == 1
    })
}

/// The product of two polynomials without carries, modulo a third.
fn multiply(a: u64, b: u64, modulus: u64) -> u64 {
    let mut product = 0u128;
    for bit in 0..64 {
        if b >> bit & 1 == 1 {
            product ^= u128::from(a) << bit;
        }
    }
    reduce(product, modulus)
}

fn reduce(mut value: u128, modulus: u64) -> u64 {
    let degree = modulus.ilog2();
    while let Some(top) = value.checked_ilog2().filter(|top| *top >= degree) {
        value ^= u128::from(modulus) << (top - degree);
    }
    value as u64
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, reduce(u128::from(a), b));
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;

    #[test]
    fn knows_irreducible_polynomials() {
        // Drawn by restic 0.14.0; the smallest ones; and products.
        for irreducible in [0x37_1ffe_3dd6_9aeb, 0b10, 0b11, 0b111, 0b1011, 0x11b] {
            assert!(is_irreducible(irreducible), "{irreducible:x}");
        }
        for reducible in [0, 1, 0b100, 0b101, 0b1111, 0x37_1ffe_3dd6_9aea] {
            assert!(!is_irreducible(reducible), "{reducible:x}");
        }
    }

    #[test]
    fn a_new_configuration_reads_back() {
        for seed in 0..5 {
            let config = Config::draw(&SeededEntropy::new(seed));
            assert_eq!(config.chunker_polynomial.ilog2(), POLYNOMIAL_DEGREE);
            let bytes = config.to_bytes().expect("JSON");
            assert_eq!(Config::parse(&bytes).expect("valid"), config);
        }
    }
}
