//! Performance counters, under the object and counter names of the OMS agent for Linux.
//!
//! | object | instances | from |
//! |---|---|---|
//! | `Processor` | `0`, `1`, …, `_Total` | `/proc/stat` |
//! | `Memory` | `Memory` | `/proc/meminfo`, `/proc/vmstat` |
//! | `Logical Disk` | mount points, `_Total` | `/proc/self/mountinfo`, `statvfs`, `/proc/diskstats` |
//! | `Physical Disk` | `sda`, … | `/proc/diskstats` |
//! | `Network` | `eth0`, … | `/proc/net/dev` |
//!
//! The agent's further objects (`System`, `Process`, `Container`, and those of Apache and MySQL) are
//! not collected.

pub mod proc;

mod counters;
mod volume;

pub use volume::{StatVfs, Usage, Volumes};

use super::{Collected, DataSource, Moment, SOURCE_SYSTEM, SourceError};
use counters::Reading;
use oms_core::Record;
use proc::{Cpu, Disk, Memory, Mount, Network, Paging};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most records of one collection; instances beyond it are left out and the next collection
/// does not have them either.
pub const RECORDS_PER_COLLECT_MAX: usize = 10_000;

/// The longest file under `/proc` that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// This computer's performance counters.
///
/// Gauges and totals are there with every collection. Percentages of processor time and rates need
/// two samples, so they come from the second collection on and are the mean over the time between.
#[derive(Debug)]
pub struct Perf {
    proc: PathBuf,
    volumes: Box<dyn Volumes>,
    last: Option<Sample>,
}

impl Perf {
    /// Samples the computer that this program runs on.
    #[must_use]
    pub fn new() -> Self {
        Self::at("/proc", StatVfs)
    }

    /// Samples a `/proc` that is somewhere else, such as the host's inside a container.
    #[must_use]
    pub fn at(proc: impl Into<PathBuf>, volumes: impl Volumes + 'static) -> Self {
        Self { proc: proc.into(), volumes: Box::new(volumes), last: None }
    }

    fn read<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, proc::ParseError>,
    ) -> Result<T, SourceError> {
        let path = self.proc.join(name);
        parse(&read_text(&path)?).map_err(|error| SourceError::Malformed {
            path: path.display().to_string(),
            line: error.line,
            reason: error.reason,
        })
    }

    fn sample(&self, monotonic: Duration) -> Result<Sample, SourceError> {
        let mounts = self.read("self/mountinfo", proc::mounts)?;
        let mut volumes = Vec::new();
        for mount in proc::volumes(&mounts) {
            // A mount point that cannot be asked is left out; the others are still worth having.
            match self.volumes.usage(Path::new(&mount.point)) {
                Ok(usage) => volumes.push((mount.clone(), usage)),
                Err(error) => {
                    tracing::debug!(mount = %mount.point, %error, "volume is not accessible");
                }
            }
        }
        Ok(Sample {
            monotonic,
            cpus: self.read("stat", proc::cpus)?,
            memory: self.read("meminfo", proc::memory)?,
            paging: self.read("vmstat", proc::paging)?,
            disks: self.read("diskstats", proc::disks)?,
            networks: self.read("net/dev", proc::networks)?,
            volumes,
        })
    }
}

impl Default for Perf {
    fn default() -> Self {
        Self::new()
    }
}

/// Everything that was read at one moment.
#[derive(Clone, Debug)]
struct Sample {
    monotonic: Duration,
    cpus: BTreeMap<String, Cpu>,
    memory: Memory,
    paging: Paging,
    disks: Vec<Disk>,
    networks: BTreeMap<String, Network>,
    volumes: Vec<(Mount, Usage)>,
}

impl DataSource for Perf {
    fn name(&self) -> &str {
        "perf"
    }

    fn collect(&mut self, at: &Moment<'_>) -> Result<Collected, SourceError> {
        let sample = self.sample(at.monotonic)?;
        let mut readings = counters::readings(&sample, self.last.as_ref());
        readings.truncate(RECORDS_PER_COLLECT_MAX);
        self.last = Some(sample);
        let table: oms_core::record::RecordType = "Perf".parse()?;
        let record = |reading: Reading| {
            let Reading { object, instance, counter, value } = reading;
            let path = format!(r"\\{}\{object}({instance})\{counter}", at.computer);
            Record::new(table.clone(), at.now, at.computer)
                .with("ObjectName", object)
                .with("InstanceName", instance)
                .with("CounterName", counter)
                .with("CounterValue", value)
                .with("CounterPath", path)
                .with("SourceSystem", SOURCE_SYSTEM)
        };
        let records = readings.into_iter().map(record).collect();
        Ok(Collected { records, ..Collected::default() })
    }
}

/// Reads a small text file; what is not UTF-8 becomes U+FFFD.
pub(super) fn read_text(path: &Path) -> Result<String, SourceError> {
    let file = std::fs::File::open(path).map_err(SourceError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(SourceError::io("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use oms_core::id::SourceId;
    use oms_core::record::Value;
    use std::io;

    /// The volumes of a computer that is not there.
    #[derive(Debug)]
    struct Fixed;

    impl Volumes for Fixed {
        fn usage(&self, mount: &Path) -> io::Result<Usage> {
            match mount.to_str() {
                Some("/") => Ok(Usage {
                    block_bytes: 4096,
                    blocks: 1_000_000,
                    blocks_free: 400_000,
                    blocks_available: 300_000,
                    files: 1_000,
                    files_free: 250,
                }),
                Some("/data") => Ok(Usage {
                    block_bytes: 4096,
                    blocks: 1_000_000,
                    blocks_free: 1_000_000,
                    blocks_available: 1_000_000,
                    files: 0,
                    files_free: 0,
                }),
                _ => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
            }
        }
    }

    const STAT: &str = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 100 0 50 800 50 0 0 0 0 0\nctxt 5\n";
    const STAT_LATER: &str =
        "cpu  160 10 70 850 50 4 6 0 30 0\ncpu0 160 10 70 850 50 4 6 0 30 0\nctxt 5\n";
    const MEMINFO: &str = "MemTotal:        8000000 kB\nMemFree:          500000 kB\n\
        MemAvailable:    2000000 kB\nBuffers:          100000 kB\nCached:          1000000 kB\n\
        SwapTotal:       2000000 kB\nSwapFree:        1500000 kB\n";
    const MOUNTS: &str = "22 27 0:21 / /proc rw - proc proc rw\n\
        27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 27 8:17 / /data rw,relatime shared:2 - xfs /dev/sdb1 rw\n\
        31 27 8:33 / /secret rw,relatime - ext4 /dev/sdc1 rw\n";
    const DISKS: &str = "   8       0 sda 10 0 200 40 20 0 400 100 0 0 140\n   \
        8       1 sda1 10 0 200 40 20 0 400 100 0 0 140\n";
    const DISKS_LATER: &str = "   8       0 sda 20 0 600 60 60 0 1200 180 0 0 240\n   \
        8       1 sda1 20 0 600 60 60 0 1200 180 0 0 240\n";
    const NET: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n    \
        lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 1000 10 1 0 0 0 0 0 500 5 2 0 0 3 0 0\n  \
        eth1: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    fn write(proc: &Path, stat: &str, vmstat: &str, disks: &str) {
        for folder in ["self", "net"] {
            std::fs::create_dir_all(proc.join(folder)).expect("a folder");
        }
        for (name, text) in [
            ("stat", stat),
            ("meminfo", MEMINFO),
            ("vmstat", vmstat),
            ("self/mountinfo", MOUNTS),
            ("diskstats", disks),
            ("net/dev", NET),
        ] {
            std::fs::write(proc.join(name), text).expect("written");
        }
    }

    fn moment(seconds: u64) -> Moment<'static> {
        Moment {
            now: Timestamp::UNIX_EPOCH,
            monotonic: Duration::from_secs(seconds),
            computer: "pc",
            source: SourceId(uuid::Uuid::nil()),
        }
    }

    fn listing(collected: &Collected) -> Vec<String> {
        let text = |record: &Record, column: &str| match &record.fields[column] {
            Value::String(text) => text.clone(),
            Value::Real(number) => format!("{number}"),
            other => panic!("{other:?}"),
        };
        let line = |record: &Record| {
            let columns = ["ObjectName", "InstanceName", "CounterName", "CounterValue"];
            columns.map(|column| text(record, column)).join("|")
        };
        collected.records.iter().map(line).collect()
    }

    #[test]
    fn gauges_come_at_once_and_rates_with_the_second_sample() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), STAT, "pgpgin 1000\npgpgout 0\n", DISKS);
        let mut perf = Perf::at(folder.path(), Fixed);
        let first = perf.collect(&moment(10)).expect("collected");
        let first = listing(&first);
        for expected in [
            "Memory|Memory|Available MBytes Memory|1953.125",
            "Memory|Memory|% Used Memory|75",
            "Memory|Memory|Used MBytes Swap Space|488.28125",
            "Memory|Memory|% Used Swap Space|25",
            "Logical Disk|/|Free Megabytes|1171.875",
            "Logical Disk|/|% Used Inodes|75",
            "Logical Disk|/data|% Used Space|0",
            "Network|eth0|Total Bytes|1500",
            "Network|eth0|Total Rx Errors|1",
            "Network|eth0|Total Collisions|3",
        ] {
            assert!(first.contains(&expected.to_owned()), "{expected} in {first:#?}");
        }
        for absent in
            ["Processor|", "/sec", "Network|lo", "Network|eth1", "|/secret|", "/data|% Used Inodes"]
        {
            assert!(!first.iter().any(|line| line.contains(absent)), "{absent} in {first:#?}");
        }

        write(folder.path(), STAT_LATER, "pgpgin 1500\npgpgout 250\n", DISKS_LATER);
        let second = listing(&perf.collect(&moment(20)).expect("collected"));
        for expected in [
            // 150 ticks passed: 50 idle, 60 user, 10 nice, 20 system, 4 interrupt, 6 soft interrupt.
            "Processor|_Total|% Idle Time|33.333333333333336",
            "Processor|0|% User Time|40",
            "Processor|0|% IO Wait Time|0",
            "Processor|0|% DPC Time|4",
            "Memory|Memory|Page Reads/sec|50",
            "Memory|Memory|Page Writes/sec|25",
            "Memory|Memory|Pages/sec|75",
            "Logical Disk|/|Disk Reads/sec|1",
            "Logical Disk|/|Disk Writes/sec|4",
            "Logical Disk|/|Disk Transfers/sec|5",
            "Logical Disk|/|Disk Read Bytes/sec|20480",
            "Logical Disk|/|Disk Write Bytes/sec|40960",
            "Physical Disk|sda|Physical Disk Bytes/sec|61440",
            "Physical Disk|sda|Avg. Disk sec/Read|0.002",
            "Physical Disk|sda|Avg. Disk sec/Write|0.002",
        ] {
            assert!(second.contains(&expected.to_owned()), "{expected} in {second:#?}");
        }
    }

    #[test]
    fn counters_that_go_back_give_no_rate() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), STAT_LATER, "pgpgin 1500\npgpgout 250\n", DISKS_LATER);
        let mut perf = Perf::at(folder.path(), Fixed);
        perf.collect(&moment(10)).expect("collected");
        write(folder.path(), STAT, "pgpgin 1\npgpgout 0\n", DISKS);
        let second = listing(&perf.collect(&moment(20)).expect("collected"));
        assert!(!second.iter().any(|line| line.contains("/sec")), "{second:#?}");
        assert!(!second.iter().any(|line| line.contains("Processor|")), "{second:#?}");
    }

    #[test]
    fn a_file_of_another_form_is_named_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "cpu  1 2 3 4\ncpu0 1 x 3 4\n", "", DISKS);
        let error = Perf::at(folder.path(), Fixed).collect(&moment(1)).expect_err("not a number");
        assert!(error.to_string().contains("stat`, line=`2`"), "{error}");
        let error = Perf::at("/nowhere", Fixed).collect(&moment(1)).expect_err("not there");
        assert_eq!(error.kind(), oms_core::ErrorKind::NotFound);
    }
}
