//! Nothing that is printed, logged or stored shows a secret, and what is dropped is erased.

use oms_core::entropy::{Entropy, SystemEntropy};
use oms_core::secret::{FileKeyProvider, KeyError, KeyProvider, KeyRing, Sealed, Secret};
use oms_core::{Disk, LocalDisk};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::format::FmtSpan;

/// The value that is sealed, which nothing may show.
const VALUE: &str = "hunter2-is-not-to-be-seen";

/// Real randomness that remembers every key it drew.
#[derive(Debug, Default)]
struct Remembering(Mutex<Vec<Vec<u8>>>);

impl Entropy for Remembering {
    fn fill(&self, bytes: &mut [u8]) {
        SystemEntropy.fill(bytes);
        if bytes.len() == 32 {
            self.0.lock().expect("not poisoned").push(bytes.to_vec());
        }
    }
}

/// Where `tracing` writes.
#[derive(Clone, Debug, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The ways in which bytes are printed: as they are, as text, hexadecimal, base64, as a list.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let hex = secret.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let list = format!("{secret:?}");
    let list = list.trim_matches(['[', ']']).to_owned();
    vec![
        secret.to_vec(),
        hex.to_uppercase().into_bytes(),
        hex.into_bytes(),
        STANDARD_NO_PAD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
        list.replace(' ', "").into_bytes(),
        list.into_bytes(),
    ]
}

fn finds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn every_form(error: &KeyError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let _ = write!(text, " {error} {error:?}");
        source = error.source();
    }
    text
}

/// Does everything that there is to do with secrets, right and wrong, and answers what was shown.
fn exercise(folder: &Path, entropy: &Arc<dyn Entropy>) -> Result<String, KeyError> {
    let disk = |name: &str| -> Result<Arc<dyn Disk>, KeyError> {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Ok(Arc::new(LocalDisk::new(path)?))
    };
    let mut shown = String::new();
    let secret = Secret::from(VALUE);
    let mut ring = KeyRing::open_folder(disk("a")?, Arc::clone(entropy), "account", false)?;
    let sealed = ring.seal(&secret, "row/1")?;
    let opened = ring.open_sealed(&sealed, "row/1")?;
    assert_eq!(opened, secret);
    ring.rotate_account_key()?;
    let again = ring.rewrap(&sealed, "row/1")?;
    let json = serde_json::to_string(&again).expect("to JSON");
    let read: Sealed = serde_json::from_str(&json).expect("from JSON");
    assert_eq!(read, again);
    let other = FileKeyProvider::create(&*disk("b")?, Arc::clone(entropy))?;
    let other: Arc<dyn KeyProvider> = Arc::new(other);
    let _ =
        write!(shown, "{ring:?} {ring:#?} {secret:?} {sealed:?} {sealed} {again} {json} {other:?}");
    ring.rotate_provider(Arc::clone(&other))?;
    drop(KeyRing::open(disk("a")?, Arc::clone(&other), Arc::clone(entropy), "account")?);

    let text = sealed.to_string();
    let cut = text[..text.len() - 8].parse().and_then(|cut| ring.open_sealed(&cut, "row/1"));
    let refused = [
        ring.open_sealed(&sealed, "row/2").err(),
        cut.err(),
        ring.rewrap(&sealed, "row/2").err(),
        ring.seal(&Secret::new(vec![b'x'; 2 << 20]), "row/1").err(),
        KeyRing::open_folder(disk("a")?, Arc::clone(entropy), "account", true).err(),
        KeyRing::open(disk("c")?, other, Arc::clone(entropy), "account").err(),
        FileKeyProvider::create(&*disk("b")?, Arc::clone(entropy)).err(),
        FileKeyProvider::open(&*disk("c")?, Arc::clone(entropy)).err(),
        "s1.1.!.AA".parse::<Sealed>().err(),
    ];
    let refused_json = serde_json::from_str::<Sealed>(&format!("\"s9.{VALUE}\""));
    shown += &refused_json.expect_err("no such version").to_string();
    for error in refused {
        shown += &every_form(&error.expect("it is refused"));
    }
    Ok(shown)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .flat_map(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect()
}

#[test]
fn nothing_printed_logged_or_stored_shows_a_value_or_a_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let (remembering, captured) = (Arc::new(Remembering::default()), Captured::default());
    let entropy = Arc::clone(&remembering) as Arc<dyn Entropy>;
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let shown = tracing::subscriber::with_default(subscriber, || {
        tracing::trace!("the subscriber listens");
        exercise(folder.path(), &entropy)
    });
    let shown = shown.expect("every operation does what it should");
    let logged = captured.0.lock().expect("not poisoned").clone();
    assert!(finds(&logged, b"the subscriber listens"));

    let keys = remembering.0.lock().expect("not poisoned").clone();
    assert!(keys.len() >= 5, "two key-encryption keys, two account keys, data keys");
    let mut secrets = vec![VALUE.as_bytes().to_vec()];
    secrets.extend(keys);
    for secret in &secrets {
        for spelling in spellings(secret) {
            assert!(!finds(shown.as_bytes(), &spelling), "shown");
            assert!(!finds(&logged, &spelling), "logged");
        }
    }
    let mut kek_files = 0;
    for path in files(folder.path()) {
        let stored = std::fs::read(&path).expect("a file");
        // The key file is the key; nothing else is.
        if path.ends_with("kek") {
            kek_files += 1;
            continue;
        }
        for spelling in secrets.iter().flat_map(|secret| spellings(secret)) {
            assert!(!finds(&stored, &spelling), "stored in {}", path.display());
        }
    }
    assert_eq!(kek_files, 2);
}

/// What the search looks for, masked, so that the search itself does not hold it.
const MASK: u8 = 0x5a;

/// Whether the writable memory of this process holds what `masked` is the mask of.
fn is_in_memory(masked: &[u8]) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("this is Linux");
    let mut memory = File::open("/proc/self/mem").expect("our own memory");
    let mut chunk = vec![0; 1 << 16];
    let regions = maps.lines().filter(|line| line.contains(" rw"));
    for region in regions.filter(|line| !line.contains("[v")) {
        let range = region.split(' ').next().and_then(|range| range.split_once('-'));
        let (begin, end) = range.expect("begin-end");
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (mut at, end) = (address(begin), address(end));
        while at < end {
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(chunk.len());
            memory.seek(SeekFrom::Start(at)).expect("an address");
            // A region that went away in the meantime holds nothing.
            let Ok(read) = memory.read(&mut chunk[..length]) else { break };
            let is_same = |(byte, masked): (&u8, &u8)| byte ^ MASK == *masked;
            let windows = chunk[..read].windows(masked.len());
            let is_found = windows.into_iter().any(|window| window.iter().zip(masked).all(is_same));
            chunk.fill(0);
            if is_found {
                return true;
            }
            if read < length || read <= masked.len() {
                break;
            }
            // The next chunk overlaps, for what lies across.
            at += if at + read as u64 == end { read } else { read - masked.len() } as u64;
        }
    }
    false
}

/// A value is nowhere in memory once every [`Secret`] of it is dropped: not where it was sealed
/// from, opened to, cloned or compared. (Keys on the stack of the cipher are its own to erase; that
/// it does is asserted by its type.)
#[test]
fn a_dropped_secret_is_erased() {
    fn is_erased<T: zeroize::ZeroizeOnDrop>() {}
    is_erased::<Secret>();
    is_erased::<chacha20poly1305::XChaCha20Poly1305>();

    let folder = tempfile::tempdir().expect("a folder");
    let disk: Arc<dyn Disk> = Arc::new(LocalDisk::new(folder.path()).expect("a disk"));
    let ring = KeyRing::open_folder(disk, Arc::new(SystemEntropy), "account", false);
    let ring = ring.expect("a new ring");
    let mut masked = vec![0; 48];
    SystemEntropy.fill(&mut masked);
    let secret = Secret::new(masked.iter().map(|byte| byte ^ MASK).collect::<Vec<u8>>());
    let sealed = ring.seal(&secret, "row").expect("sealed");
    let (opened, cloned) = (ring.open_sealed(&sealed, "row").expect("opened"), secret.clone());
    assert!(opened == secret && cloned == secret);
    drop((secret, cloned));
    assert!(is_in_memory(&masked), "the search finds what is there");
    drop(opened);
    assert!(!is_in_memory(&masked), "a copy was left behind");
}
