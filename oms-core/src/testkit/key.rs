//! What every [`KeyProvider`] must do.

#![expect(clippy::needless_pass_by_value, reason = "asks results by value")]

use crate::secret::{KeyError, KeyProvider, Secret};

/// One requirement: its name and the function that checks it on two providers of two keys.
pub type Case = (&'static str, fn(&dyn KeyProvider, &dyn KeyProvider));

fn key(byte: u8) -> Secret {
    Secret::new(vec![byte; 32])
}

fn wrap(provider: &dyn KeyProvider, context: &[u8]) -> Vec<u8> {
    provider.wrap_key(&key(0xa5), context).expect("wrapped")
}

fn is_refused(result: Result<Secret, KeyError>) -> bool {
    matches!(result, Err(KeyError::Refused | KeyError::Format { .. }))
}

/// What was wrapped is unwrapped, for every context, and each time anew.
pub fn what_is_wrapped_unwraps(provider: &dyn KeyProvider, _other: &dyn KeyProvider) {
    for context in [&b""[..], b"account", &[0xff; 1000]] {
        let wrapped = wrap(provider, context);
        for _ in 0..2 {
            let unwrapped = provider.unwrap_key(&wrapped, context).expect("unwrapped");
            assert_eq!(unwrapped, key(0xa5));
        }
    }
    let empty = provider.wrap_key(&Secret::new(Vec::new()), b"x").expect("wrapped");
    let empty = provider.unwrap_key(&empty, b"x").expect("unwrapped");
    assert!(empty.expose().is_empty());
}

/// A wrapped key does not show the key, nor that another one is the same.
pub fn wrapped_bytes_tell_nothing(provider: &dyn KeyProvider, _other: &dyn KeyProvider) {
    let (first, second) = (wrap(provider, b"account"), wrap(provider, b"account"));
    assert_ne!(first, second, "one key wrapped twice looks the same");
    for wrapped in [first, second] {
        let shows = wrapped.windows(8).any(|bytes| bytes == [0xa5; 8]);
        assert!(!shows, "the key is in the clear");
    }
}

/// A wrapped key of one context is refused in another: it cannot be moved.
pub fn another_context_is_refused(provider: &dyn KeyProvider, _other: &dyn KeyProvider) {
    let wrapped = wrap(provider, b"account-1");
    for context in [&b"account-2"[..], b"account-", b"account-11", b""] {
        assert!(is_refused(provider.unwrap_key(&wrapped, context)), "{context:?}");
    }
}

/// Changed, shortened and lengthened bytes are refused.
pub fn changed_bytes_are_refused(provider: &dyn KeyProvider, _other: &dyn KeyProvider) {
    let wrapped = wrap(provider, b"account");
    for at in 0..wrapped.len() {
        for bit in [0, 7] {
            let mut changed = wrapped.clone();
            changed[at] ^= 1 << bit;
            assert!(is_refused(provider.unwrap_key(&changed, b"account")), "byte {at}");
        }
        assert!(is_refused(provider.unwrap_key(&wrapped[..at], b"account")), "first {at} bytes");
    }
    let longer = [&wrapped[..], &[0]].concat();
    assert!(is_refused(provider.unwrap_key(&longer, b"account")), "one byte more");
}

/// What another key wrapped is refused.
pub fn another_key_is_refused(provider: &dyn KeyProvider, other: &dyn KeyProvider) {
    let wrapped = wrap(other, b"account");
    assert!(is_refused(provider.unwrap_key(&wrapped, b"account")));
}

macro_rules! cases {
    ($($case:ident),+) => {
        /// Every requirement.
        pub const CASES: &[Case] = &[$((stringify!($case), $case)),+];
    };
}
cases!(
    what_is_wrapped_unwraps,
    wrapped_bytes_tell_nothing,
    another_context_is_refused,
    changed_bytes_are_refused,
    another_key_is_refused
);

/// Runs every requirement as a test of its own, each on two providers of different keys from the
/// factory.
#[macro_export]
macro_rules! key_provider_conformance {
    ($make:expr) => {
        $crate::key_provider_conformance!(@each $make;
            what_is_wrapped_unwraps, wrapped_bytes_tell_nothing, another_context_is_refused,
            changed_bytes_are_refused, another_key_is_refused);
    };
    (@each $make:expr; $($case:ident),+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[test]
            fn $case() {
                $crate::testkit::key::$case(&($make)(), &($make)());
            })+
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::entropy::SystemEntropy;
    use crate::secret::FileKeyProvider;
    use crate::testkit::disk::SimDisk;
    use std::sync::Arc;

    mod file {
        use super::*;
        crate::key_provider_conformance!(|| {
            FileKeyProvider::create(&SimDisk::default(), Arc::new(SystemEntropy)).expect("a key")
        });
    }
}
