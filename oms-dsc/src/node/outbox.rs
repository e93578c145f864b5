//! Reports that are yet to be sent, on disk in order.

use crate::Error;
use crate::content;
use oms_core::disk::Disk;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most reports that wait; the oldest is dropped for a new one.
pub const REPORTS_WAITING_MAX: usize = 500;

const FOLDER: &str = "outbox";

/// The reports that wait. Its calls block.
#[derive(Debug)]
pub(super) struct Outbox {
    disk: Arc<dyn Disk>,
    next_number: u64,
}

impl Outbox {
    pub(super) fn open(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        disk.create_dir_all(FOLDER.as_ref())?;
        let mut outbox = Self { disk, next_number: 1 };
        for name in outbox.disk.list(FOLDER.as_ref())? {
            if !name.ends_with(".json") {
                outbox.disk.remove(&Path::new(FOLDER).join(name))?;
            } else if let Some(number) = number_of(&name) {
                outbox.next_number = outbox.next_number.max(number + 1);
            }
        }
        Ok(outbox)
    }

    /// Adds a report. It is durable when this returns.
    pub(super) fn push(&mut self, body: &[u8]) -> Result<(), Error> {
        let waiting = self.waiting()?;
        if waiting.len() >= REPORTS_WAITING_MAX {
            tracing::warn!(limit = REPORTS_WAITING_MAX, "the oldest unsent report is dropped");
            if let Some(oldest) = waiting.first() {
                self.remove(oldest)?;
            }
        }
        let number = self.next_number;
        self.next_number += 1;
        let temporary = Path::new(FOLDER).join(format!("{number:016}.new"));
        let path = Path::new(FOLDER).join(format!("{number:016}.json"));
        content::replace(&*self.disk, &temporary, &path, body)?;
        Ok(())
    }

    /// The reports that wait, oldest first.
    pub(super) fn waiting(&self) -> Result<Vec<PathBuf>, Error> {
        let names = self.disk.list(FOLDER.as_ref())?;
        let names = names.into_iter().filter(|name| name.ends_with(".json"));
        Ok(names.map(|name| Path::new(FOLDER).join(name)).collect())
    }

    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        Ok(content::read(&*self.disk, path)?)
    }

    /// Takes a report out, once it was sent or can never be.
    pub(super) fn remove(&self, path: &Path) -> Result<(), Error> {
        self.disk.remove(path)?;
        self.disk.sync_dir(FOLDER.as_ref())?;
        Ok(())
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::entropy::SeededEntropy;
    use oms_core::testkit::disk::SimDisk;

    #[test]
    fn reports_wait_in_order_also_over_a_crash() {
        let disk = SimDisk::default();
        let open = || Outbox::open(Arc::new(disk.clone())).expect("opens");
        let mut outbox = open();
        for text in ["one", "two", "three"] {
            outbox.push(text.as_bytes()).expect("kept");
        }
        disk.crash(&SeededEntropy::new(3));
        let mut outbox = open();
        let first = outbox.waiting().expect("listed").remove(0);
        assert_eq!(outbox.read(&first).expect("read"), b"one");
        outbox.remove(&first).expect("removed");
        outbox.push(b"four").expect("kept");
        let read =
            |path: PathBuf| String::from_utf8(open().read(&path).expect("read")).expect("text");
        let texts: Vec<String> = outbox.waiting().expect("listed").into_iter().map(read).collect();
        assert_eq!(texts, ["two", "three", "four"]);
    }

    /// Auditor: a report whose push was answered waits, whole and in order; one whose push failed
    /// does not, or waits whole.
    #[test]
    fn power_may_fail_at_any_operation_of_a_push() {
        use oms_core::testkit::crash::crash_at_every_operation;
        let open = |disk: &SimDisk| Outbox::open(Arc::new(disk.clone()));
        let prepare = |disk: &SimDisk| open(disk).expect("opens").push(b"one").expect("kept");
        let work = |disk: &SimDisk, _prepared: &_| {
            open(disk).is_ok_and(|mut outbox| outbox.push(&[b'2'; 2_000]).is_ok())
        };
        let audit = |disk: &SimDisk, _prepared, is_done: bool| {
            let mut outbox = open(disk).expect("opens");
            outbox.push(b"three").expect("kept");
            let waiting = outbox.waiting().expect("listed");
            let read = |path: &PathBuf| outbox.read(path).expect("read");
            let texts: Vec<Vec<u8>> = waiting.iter().map(read).collect();
            let (one, two, three) = (b"one".to_vec(), vec![b'2'; 2_000], b"three".to_vec());
            let all = [one.clone(), two, three.clone()];
            assert!(
                texts == all || !is_done && texts == [one, three],
                "{is_done}: {}",
                texts.len()
            );
        };
        crash_at_every_operation(20, prepare, work, audit);
    }

    #[test]
    fn the_oldest_gives_way() {
        let disk = SimDisk::default();
        let mut outbox = Outbox::open(Arc::new(disk.clone())).expect("opens");
        for number in 0..=REPORTS_WAITING_MAX {
            outbox.push(number.to_string().as_bytes()).expect("kept");
        }
        let waiting = outbox.waiting().expect("listed");
        assert_eq!(waiting.len(), REPORTS_WAITING_MAX);
        assert_eq!(outbox.read(&waiting[0]).expect("read"), b"1");
    }
}
