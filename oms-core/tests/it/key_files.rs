//! The key file under power failures at every operation.

use oms_core::disk::Disk;
use oms_core::entropy::SeededEntropy;
use oms_core::secret::{FileKeyProvider, KeyError, KeyProvider, KeyRing, Secret};
use oms_core::testkit::crash::crash_at_every_operation;
use oms_core::testkit::disk::SimDisk;
use std::sync::{Arc, Mutex};

fn entropy() -> Arc<SeededEntropy> {
    Arc::new(SeededEntropy::new(5))
}

/// Auditor: a key that was created opens what it sealed; one whose creation failed is whole or
/// missing, and can be created then.
#[test]
fn power_may_fail_at_any_operation_of_a_key_s_creation() {
    let create = |disk: &SimDisk, sealed: &Mutex<Vec<u8>>| {
        let Ok(provider) = FileKeyProvider::create(disk, entropy()) else { return false };
        let wrapped = provider.wrap_key(&Secret::from("account"), b"a").expect("wrapped");
        *sealed.lock().expect("not poisoned") = wrapped;
        true
    };
    let audit = |disk: &SimDisk, sealed: Mutex<Vec<u8>>, is_done: bool| match FileKeyProvider::open(
        disk,
        entropy(),
    ) {
        Ok(provider) if is_done => {
            let sealed = sealed.into_inner().expect("not poisoned");
            let key = provider.unwrap_key(&sealed, b"a").expect("opens");
            assert_eq!(key, Secret::from("account"));
        }
        Ok(_) => {}
        Err(KeyError::Missing) if !is_done => {
            FileKeyProvider::create(disk, entropy()).expect("there is none yet");
        }
        Err(error) => panic!("done={is_done}: {error}"),
    };
    let operations = crash_at_every_operation(20, |_disk| Mutex::default(), create, audit);
    assert!(operations >= 6, "{operations}");
}

/// Auditor: whatever a crash leaves of a new ring, one opens or can be made, and what was sealed
/// opens with it.
#[test]
fn power_may_fail_at_any_operation_of_a_ring_s_creation() {
    let kek = SimDisk::default();
    let provider: Arc<dyn KeyProvider> =
        Arc::new(FileKeyProvider::create(&kek, entropy()).expect("a key"));
    let made = |disk: &SimDisk| {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        KeyRing::create(disk, Arc::clone(&provider), entropy(), "a")
    };
    let work = |disk: &SimDisk, sealed: &Mutex<Option<_>>| {
        let Ok(ring) = made(disk) else { return false };
        *sealed.lock().expect("not poisoned") = Some(ring.seal(&"x".into(), "a").expect("sealed"));
        true
    };
    let audit = |disk: &SimDisk, sealed: Mutex<Option<_>>, is_done: bool| {
        let same: Arc<dyn Disk> = Arc::new(disk.clone());
        let ring = match KeyRing::open(same, Arc::clone(&provider), entropy(), "a") {
            Err(KeyError::MissingRing { .. }) if !is_done => made(disk).expect("there is none yet"),
            opened => opened.expect("a ring"),
        };
        let sealed = sealed.into_inner().expect("not poisoned");
        assert_eq!(sealed.is_some(), is_done);
        if let Some(sealed) = sealed {
            assert_eq!(ring.open_sealed(&sealed, "a").expect("opens").expose(), b"x");
        }
    };
    crash_at_every_operation(20, |_disk| Mutex::new(None), work, audit);
}
