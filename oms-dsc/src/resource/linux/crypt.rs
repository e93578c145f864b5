//! Hashes of passwords as `/etc/shadow` has them: SHA-512-crypt, `$6$`.
//!
//! The algorithm is that of "Unix crypt using SHA-256 and SHA-512" by Ulrich Drepper, version 0.6, which
//! every system with a shadow file reads. A hash is made for a password that came in a credential; one
//! of the same password is kept as it is.

use crate::Error;
use oms_core::{Entropy, Secret};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

/// The longest password, in bytes: `crypt` of a C library takes no longer one.
pub(super) const PASSWORD_BYTES_MAX: usize = 512;

/// How often a new hash is hashed again.
const ROUNDS: u32 = 100_000;

/// How often, where a hash does not say it.
const ROUNDS_BY_DEFAULT: u32 = 5_000;

/// Numbers of rounds that are computed to compare: the algorithm knows no fewer, and more would take
/// minutes.
const ROUNDS_COMPARED: std::ops::RangeInclusive<u32> = 1_000..=10_000_000;

/// The longest salt, in bytes.
const SALT_BYTES_MAX: usize = 16;

/// The digits of a hash and of a salt, six bits each.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A password in the clear that somebody can log in with.
///
/// # Errors
/// [`Error::Invalid`] for an empty one, or one with a character that ends it at a prompt;
/// [`Error::TooLarge`].
pub(super) fn check(password: &Secret) -> Result<(), Error> {
    let (actual, limit) = (password.expose().len(), PASSWORD_BYTES_MAX);
    if actual > limit {
        return Err(Error::TooLarge { what: "password, in bytes", actual, limit });
    }
    let reason = match password.expose() {
        b"" => "it is empty, so that anybody could log in",
        bytes if bytes.iter().any(|byte| matches!(byte, 0 | b'\n' | b'\r')) => {
            "it has a line break or a zero byte, which nobody can type"
        }
        _ => return Ok(()),
    };
    Err(Error::Invalid { what: "password", reason: reason.to_owned() })
}

/// A new salt.
pub(super) fn salt(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; SALT_BYTES_MAX];
    entropy.fill(&mut bytes);
    bytes.iter().map(|byte| char::from(DIGITS[usize::from(byte % 64)])).collect()
}

/// The hash of a password with a salt of [`salt`].
pub(super) fn hash(password: &Secret, salt: &str) -> String {
    let digits = sha512_crypt(password.expose(), salt.as_bytes(), ROUNDS);
    format!("$6$rounds={ROUNDS}${salt}${digits}")
}

/// Whether that is a hash of the password. One of another kind is not compared.
pub(super) fn is_hash_of(hash: &[u8], password: &Secret) -> bool {
    let parts = || {
        let rest = std::str::from_utf8(hash).ok()?.strip_prefix("$6$")?;
        let (rounds, rest) = match rest.strip_prefix("rounds=") {
            None => (ROUNDS_BY_DEFAULT, rest),
            Some(rest) => {
                let (rounds, rest) = rest.split_once('$')?;
                (rounds.parse().ok()?, rest)
            }
        };
        let (salt, digits) = rest.split_once('$')?;
        let is_comparable = ROUNDS_COMPARED.contains(&rounds) && salt.len() <= SALT_BYTES_MAX;
        is_comparable.then_some((rounds, salt, digits))
    };
    parts().is_some_and(|(rounds, salt, digits)| {
        let made = sha512_crypt(password.expose(), salt.as_bytes(), rounds);
        Secret::from(made.as_str()) == Secret::from(digits)
    })
}

/// The digits behind the salt.
fn sha512_crypt(password: &[u8], salt: &[u8], rounds: u32) -> String {
    let both = Sha512::new().chain_update(password).chain_update(salt);
    let inner = both.clone().chain_update(password).finalize();
    let mut outer = both.chain_update(stretched(&inner, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        outer.update(if bits & 1 == 1 { &inner[..] } else { password });
        bits >>= 1;
    }
    let mut mixed = outer.finalize();
    let repeated = |text: &[u8], times: usize| {
        let hash = (0..times).fold(Sha512::new(), |hash, _| hash.chain_update(text));
        hash.finalize()
    };
    let password = stretched(&repeated(password, password.len()), password.len());
    let salt = stretched(&repeated(salt, 16 + usize::from(mixed[0])), salt.len());
    for round in 0..rounds {
        let is_odd = round % 2 == 1;
        let mut hash = Sha512::new();
        hash.update(if is_odd { &password[..] } else { &mixed[..] });
        if round % 3 != 0 {
            hash.update(&*salt);
        }
        if round % 7 != 0 {
            hash.update(&*password);
        }
        hash.update(if is_odd { &mixed[..] } else { &password[..] });
        mixed = hash.finalize();
    }
    printed(&mixed)
}

/// A digest over and over, as long as what it stands for.
fn stretched(digest: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(digest.iter().copied().cycle().take(len).collect())
}

/// A digest in digits: of three bytes each that stand a third of it apart, the lowest bits first.
fn printed(digest: &[u8]) -> String {
    let mut text = String::with_capacity(86);
    let mut put = |value: u32, digits: u32| {
        for digit in 0..digits {
            text.push(char::from(DIGITS[(value >> (6 * digit) & 0x3f) as usize]));
        }
    };
    let (mut high, mut middle, mut low) = (0, 21, 42);
    for _ in 0..21 {
        let [a, b, c] = [high, middle, low].map(|index: usize| u32::from(digest[index]));
        put(a << 16 | b << 8 | c, 4);
        (high, middle, low) = (middle + 1, low + 1, high + 1);
    }
    put(u32::from(digest[63]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;

    /// The vectors of the algorithm's description.
    #[test]
    fn hashes_are_those_of_the_description() {
        let check = |salt: &str, rounds: u32, password: &str, expect: &str| {
            let salt = &salt.as_bytes()[..salt.len().min(SALT_BYTES_MAX)];
            assert_eq!(sha512_crypt(password.as_bytes(), salt, rounds), expect, "{password}");
        };
        check(
            "saltstring",
            5_000,
            "Hello world!",
            "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        );
        check(
            "saltstringsaltstring",
            10_000,
            "Hello world!",
            "OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
        );
        check(
            "toolongsaltstring",
            5_000,
            "This is just a test",
            "lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0",
        );
        check(
            "anotherlongsaltstring",
            1_400,
            "a very much longer text to encrypt.  This one even stretches over morethan one line.",
            "POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
        );
        check(
            "short",
            77_777,
            "we have a short salt string but not a short password",
            "WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0",
        );
        check(
            "asaltof16chars..",
            123_456,
            "a short string",
            "BtCwjqMJGx5hrJhZywWvt0RLE8uZ4oPwcelCjmw2kSYu.Ec6ycULevoBK25fs2xXgMNrCzIMVcgEJAstJeonj1",
        );
    }

    #[test]
    fn a_hash_is_known_again_and_no_other_is() {
        let (password, other) = (Secret::from("pässwörd"), Secret::from("passwörd"));
        let (one, two) = (salt(&SeededEntropy::new(1)), salt(&SeededEntropy::new(2)));
        assert!(one != two && one.len() == SALT_BYTES_MAX);
        let made = hash(&password, &one);
        assert!(is_hash_of(made.as_bytes(), &password) && !is_hash_of(made.as_bytes(), &other));
        assert_ne!(made, hash(&password, &two));
        // One of a system's own, without and with rounds.
        let of_glibc = "$6$rounds=1000$ab$NFbzU2DQLl3OZu83FviV.Xe95BlJnKVpTXGpWdG43xDccgNCWBG4KN48j4r6\
                        lcjj1x1PMxNzglXZOJteT8I.P.";
        assert!(is_hash_of(of_glibc.as_bytes(), &password));
        let plain = format!("$6$x${}", sha512_crypt("pässwörd".as_bytes(), b"x", 5_000));
        assert!(is_hash_of(plain.as_bytes(), &password));
        for foreign in [
            "",
            "!",
            "*",
            "$6$",
            "$6$x",
            "$6$x$",
            "$6$rounds=1$x$y",
            "$6$rounds=99999999$x$y",
            "$6$rounds=-1$x$y",
            "$6$rounds=1000$12345678901234567$y",
            "$y$j9T$a$b",
            "\u{ff}",
        ] {
            assert!(!is_hash_of(foreign.as_bytes(), &password), "{foreign}");
        }
        assert!(!is_hash_of(b"$6$\xff$y", &password));
    }

    #[test]
    fn a_password_that_nobody_could_use_is_refused() {
        let refused = |text: &str| check(&Secret::from(text)).map_err(|error| error.to_string());
        assert_eq!(refused(&"x".repeat(PASSWORD_BYTES_MAX)), Ok(()));
        for (text, why) in [
            ("", "it is empty"),
            ("a\nb", "line break"),
            ("a\0", "zero byte"),
            (&"x".repeat(PASSWORD_BYTES_MAX + 1), "too large"),
        ] {
            let error = refused(text).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
