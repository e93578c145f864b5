//! Key files, ring files and sealed values: what was not sealed by this ring does not open.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_core::entropy::SeededEntropy;
use oms_core::secret::{FileKeyProvider, KeyRing, Sealed};
use oms_core::testkit::disk::SimDisk;
use oms_core::{Disk, Entropy, Secret};
use std::sync::Arc;

fn ring(disk: &SimDisk, provider: FileKeyProvider) -> Result<KeyRing, oms_core::secret::KeyError> {
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(2));
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    KeyRing::open(disk, Arc::new(provider), entropy, "account")
}

fn provider(disk: &SimDisk) -> FileKeyProvider {
    FileKeyProvider::create(disk, Arc::new(SeededEntropy::new(1))).expect("a key")
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    match kind % 3 {
        0 => {
            let disk = fuzz::disk_with("kek", rest);
            let opened = FileKeyProvider::open(&disk, Arc::new(SeededEntropy::new(1)));
            assert_eq!(opened.is_ok(), rest.len() == 32);
        }
        1 => {
            let disk = SimDisk::default();
            let provider = provider(&disk);
            fuzz::put(&disk, "ring.json", rest);
            if let Ok(mut ring) = ring(&disk, provider) {
                // No key was unwrapped, since nobody guesses one: it seals nothing until it has one.
                assert!(ring.seal(&Secret::from("x"), "row").is_err());
                let _ = ring.rotate_account_key();
            }
        }
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            let Ok(sealed) = text.parse::<Sealed>() else { return };
            let disk = SimDisk::default();
            let provider = provider(&disk);
            let place: Arc<dyn Disk> = Arc::new(disk);
            let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(2));
            let ring = KeyRing::create(place, Arc::new(provider), entropy, "account").expect("made");
            assert!(ring.open_sealed(&sealed, "row").is_err(), "nobody guesses a sealed value");
            assert!(ring.rewrap(&sealed, "row").is_err());
        }
    }
});
