//! The text files under `/proc`, as functions over their text. See proc(5).

use std::collections::{BTreeMap, HashSet};

/// A text of another form than proc(5) says.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line `{line}`: {reason}")]
pub struct ParseError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

impl ParseError {
    fn new(index: usize, reason: impl Into<String>) -> Self {
        Self { line: index + 1, reason: reason.into() }
    }
}

fn number(index: usize, word: Option<&str>, what: &str) -> Result<u64, ParseError> {
    let word = word.ok_or_else(|| ParseError::new(index, format!("no {what}")))?;
    word.parse().map_err(|_not_a_number| {
        let shown: String = word.chars().take(40).collect();
        ParseError::new(index, format!("{what} is not a number: {shown}"))
    })
}

/// What a processor did since the start, in clock ticks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cpu {
    /// Programs.
    pub user: u64,
    /// Programs with lowered priority.
    pub nice: u64,
    /// The kernel.
    pub system: u64,
    /// Nothing.
    pub idle: u64,
    /// Nothing, while a transfer was under way.
    pub iowait: u64,
    /// Interrupts.
    pub irq: u64,
    /// Deferred interrupts.
    pub softirq: u64,
    /// Another virtual machine on the same processor.
    pub steal: u64,
}

impl Cpu {
    /// All ticks. Those of guests are among `user` and `nice` already.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.nice, self.system, self.idle, self.iowait, self.irq, self.softirq, self.steal]
            .into_iter()
            .fold(self.user, u64::saturating_add)
    }

    /// What it did since `before`; nothing if the counters began anew. The kernel's counts of idle
    /// time can go back by a little; that is no time.
    #[must_use]
    pub fn since(&self, before: &Self) -> Option<Self> {
        if self.total() < before.total() {
            return None;
        }
        Some(Self {
            user: self.user.saturating_sub(before.user),
            nice: self.nice.saturating_sub(before.nice),
            system: self.system.saturating_sub(before.system),
            idle: self.idle.saturating_sub(before.idle),
            iowait: self.iowait.saturating_sub(before.iowait),
            irq: self.irq.saturating_sub(before.irq),
            softirq: self.softirq.saturating_sub(before.softirq),
            steal: self.steal.saturating_sub(before.steal),
        })
    }
}

/// Reads `/proc/stat`: each processor by its number, and all together under the empty name.
///
/// # Errors
/// [`ParseError`].
pub fn cpus(text: &str) -> Result<BTreeMap<String, Cpu>, ParseError> {
    let mut out = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next().and_then(|word| word.strip_prefix("cpu")) else { continue };
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let mut ticks = [0; 8];
        for (at, tick) in ticks.iter_mut().enumerate() {
            let word = words.next();
            // Kernels before 2.6 end after the idle time.
            if word.is_none() && at >= 4 {
                break;
            }
            *tick = number(index, word, "processor time")?;
        }
        let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks;
        let cpu = Cpu { user, nice, system, idle, iowait, irq, softirq, steal };
        out.insert(name.to_owned(), cpu);
    }
    if out.is_empty() {
        return Err(ParseError::new(0, "no processor"));
    }
    Ok(out)
}

/// Memory, in KiB.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// All of it.
    pub total_kib: u64,
    /// What programs can have without swapping.
    pub available_kib: u64,
    /// Swap space.
    pub swap_total_kib: u64,
    /// Unused swap space.
    pub swap_free_kib: u64,
}

/// Reads `/proc/meminfo`.
///
/// # Errors
/// [`ParseError`].
pub fn memory(text: &str) -> Result<Memory, ParseError> {
    let mut found = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        if matches!(
            name,
            "MemTotal"
                | "MemFree"
                | "MemAvailable"
                | "Buffers"
                | "Cached"
                | "SwapTotal"
                | "SwapFree"
        ) {
            let value = number(index, rest.split_ascii_whitespace().next(), name)?;
            found.insert(name, value);
        }
    }
    let required = |name: &str| {
        found.get(name).copied().ok_or_else(|| ParseError::new(0, format!("no {name}")))
    };
    let optional = |name: &str| found.get(name).copied().unwrap_or(0);
    let total_kib = required("MemTotal")?;
    // Kernels before 3.14 do not tell what is available.
    let estimate = [required("MemFree")?, optional("Buffers"), optional("Cached")]
        .into_iter()
        .fold(0, u64::saturating_add);
    let available_kib = found.get("MemAvailable").copied().unwrap_or(estimate).min(total_kib);
    let swap_total_kib = optional("SwapTotal");
    let swap_free_kib = optional("SwapFree").min(swap_total_kib);
    Ok(Memory { total_kib, available_kib, swap_total_kib, swap_free_kib })
}

/// What was read from and written to block devices for memory, in KiB since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Paging {
    /// `pgpgin`
    pub read: u64,
    /// `pgpgout`
    pub written: u64,
}

/// Reads `/proc/vmstat`.
///
/// # Errors
/// [`ParseError`].
pub fn paging(text: &str) -> Result<Paging, ParseError> {
    let mut out = Paging::default();
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("pgpgin") => out.read = number(index, words.next(), "pgpgin")?,
            Some("pgpgout") => out.written = number(index, words.next(), "pgpgout")?,
            _ => {}
        }
    }
    Ok(out)
}

/// The major and minor number of a block device.
pub type Device = (u32, u32);

/// What a block device did since the start.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Disk {
    /// Its numbers.
    pub device: Device,
    /// Its name.
    pub name: String,
    /// Reads that were completed.
    pub reads: u64,
    /// Sectors of 512 bytes that were read.
    pub sectors_read: u64,
    /// Time spent reading, in milliseconds.
    pub read_ms: u64,
    /// Writes that were completed.
    pub writes: u64,
    /// Sectors of 512 bytes that were written.
    pub sectors_written: u64,
    /// Time spent writing, in milliseconds.
    pub write_ms: u64,
}

/// Reads `/proc/diskstats`.
///
/// # Errors
/// [`ParseError`].
pub fn disks(text: &str) -> Result<Vec<Disk>, ParseError> {
    let mut out = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        // Partitions had four values only, before Linux 2.6.25.
        if words.len() < 14 {
            continue;
        }
        let at = |place: usize| number(index, words.get(place).copied(), "disk statistic");
        let device = |place: usize| {
            u32::try_from(at(place)?)
                .map_err(|_too_large| ParseError::new(index, "device number is too large"))
        };
        out.push(Disk {
            device: (device(0)?, device(1)?),
            name: words[2].to_owned(),
            reads: at(3)?,
            sectors_read: at(5)?,
            read_ms: at(6)?,
            writes: at(7)?,
            sectors_written: at(9)?,
            write_ms: at(10)?,
        });
    }
    Ok(out)
}

/// Whether a block device is a disk by its name, and not a partition, a loop, an array or a mapping.
#[must_use]
pub fn is_whole_disk(name: &str) -> bool {
    let letters = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase());
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    if ["xvd", "sd", "vd", "hd"].iter().any(|kind| name.strip_prefix(kind).is_some_and(letters)) {
        return true;
    }
    if let Some(rest) = name.strip_prefix("nvme") {
        return rest.split_once('n').is_some_and(|(disk, space)| digits(disk) && digits(space));
    }
    name.strip_prefix("mmcblk").is_some_and(digits)
}

/// A mounted file system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// The numbers of its device.
    pub device: Device,
    /// What of the file system is mounted: `/` for all of it.
    pub root: String,
    /// Where.
    pub point: String,
    /// Its kind: `ext4`.
    pub kind: String,
    /// What it is on: `/dev/sda1`.
    pub source: String,
}

impl Mount {
    /// The name of the device it is on.
    #[must_use]
    pub fn source_name(&self) -> Option<&str> {
        self.source.strip_prefix("/dev/")
    }
}

/// Reads `/proc/self/mountinfo`.
///
/// # Errors
/// [`ParseError`].
pub fn mounts(text: &str) -> Result<Vec<Mount>, ParseError> {
    let mut out = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let error = |reason: &str| ParseError::new(index, reason);
        let (front, back) = line.split_once(" - ").ok_or_else(|| error("no separator"))?;
        let front: Vec<&str> = front.split_ascii_whitespace().collect();
        let back: Vec<&str> = back.split_ascii_whitespace().collect();
        let (Some(&device), Some(&root), Some(&point)) = (front.get(2), front.get(3), front.get(4))
        else {
            return Err(error("no mount point"));
        };
        let (Some(&kind), Some(&source)) = (back.first(), back.get(1)) else {
            return Err(error("no file system"));
        };
        let numbers = device
            .split_once(':')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        out.push(Mount {
            device: numbers.ok_or_else(|| error("device numbers are not numbers"))?,
            root: unescape(root),
            point: unescape(point),
            kind: kind.to_owned(),
            source: unescape(source),
        });
    }
    Ok(out)
}

/// The most volumes of one computer.
pub const VOLUMES_MAX: usize = 256;

/// The mounts that are volumes: each local file system on a device once, and `/` whatever it is on.
///
/// File systems over a network are left out, because asking for their room can wait for ever; so
/// are read-only images, which are always full.
#[must_use]
pub fn volumes(mounts: &[Mount]) -> Vec<&Mount> {
    // A later mount at the same place hides an earlier one.
    let mut visible: Vec<&Mount> = Vec::new();
    for mount in mounts {
        visible.retain(|earlier| earlier.point != mount.point);
        visible.push(mount);
    }
    let is_volume = |mount: &&Mount| {
        let kind = mount.kind.as_str();
        let is_image = matches!(kind, "squashfs" | "iso9660" | "udf" | "erofs" | "cramfs");
        let is_local = mount.source.starts_with("/dev/") && kind != "devtmpfs";
        mount.point == "/" || kind == "zfs" || is_local && !is_image
    };
    let mut volumes: Vec<&Mount> = visible.into_iter().filter(is_volume).collect();
    // Of several mounts of one file system the whole one counts, and of those the shortest path.
    volumes.sort_by_key(|mount| (mount.root != "/", mount.point.len()));
    let mut seen = HashSet::new();
    volumes.retain(|mount| seen.insert(mount.source.as_str()));
    volumes.sort_by(|a, b| a.point.cmp(&b.point));
    volumes.truncate(VOLUMES_MAX);
    volumes
}

/// Replaces `\040` and the like by the byte with that octal number.
fn unescape(word: &str) -> String {
    let bytes = word.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|digits| {
            bytes[at] == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        });
        let byte = octal.and_then(|digits| {
            let value =
                digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            u8::try_from(value).ok()
        });
        match byte {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a network interface did since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Network {
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Errors while receiving.
    pub receive_errors: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Errors while sending.
    pub send_errors: u64,
    /// Collisions.
    pub collisions: u64,
}

/// Reads `/proc/net/dev`.
///
/// # Errors
/// [`ParseError`].
pub fn networks(text: &str) -> Result<BTreeMap<String, Network>, ParseError> {
    let mut out = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        // The two lines of headings have no colon.
        let Some((name, rest)) = line.rsplit_once(':') else { continue };
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let at = |place: usize| number(index, words.get(place).copied(), "network statistic");
        let network = Network {
            received_bytes: at(0)?,
            received_packets: at(1)?,
            receive_errors: at(2)?,
            sent_bytes: at(8)?,
            sent_packets: at(9)?,
            send_errors: at(10)?,
            collisions: at(13)?,
        };
        out.insert(name.trim().to_owned(), network);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn processors_of_old_and_new_kernels() {
        let found = cpus("cpu  10 2 3 40\ncpu0 10 2 3 40 5 6 7 8 9 9\nintr 1 2\ncpufreq x\n");
        let found = found.expect("well formed");
        assert_eq!(found.len(), 2);
        assert_eq!((found[""].total(), found["0"].total()), (55, 81));
        assert_eq!(cpus("intr 1\n").expect_err("none").reason, "no processor");
        assert_eq!(cpus("cpu 1 2 3\n").expect_err("short").reason, "no processor time");
    }

    #[test]
    fn memory_of_old_kernels_is_estimated() {
        let text = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 250 kB\n";
        let found = memory(text).expect("well formed");
        assert_eq!(found.available_kib, 400);
        let error = memory("MemTotal: 1000 kB\n").expect_err("no free memory");
        assert_eq!(error.reason, "no MemFree");
        let error = memory("MemTotal: lots\n").expect_err("not a number");
        assert_eq!(error, ParseError { line: 1, reason: "MemTotal is not a number: lots".into() });
    }

    #[test]
    fn whole_disks_by_name() {
        for whole in ["sda", "sdab", "vda", "xvdf", "hda", "nvme0n1", "nvme12n3", "mmcblk0"] {
            assert!(is_whole_disk(whole), "{whole}");
        }
        for part in [
            "sda1",
            "nvme0n1p1",
            "mmcblk0p2",
            "loop0",
            "dm-0",
            "md0",
            "zram0",
            "sr0",
            "sd",
            "mmcblk0boot0",
        ] {
            assert!(!is_whole_disk(part), "{part}");
        }
    }

    /// A workstation: btrfs with subvolumes, a snap, a network share, a bind mount and a container.
    #[test]
    fn volumes_of_a_workstation() {
        let text = "\
            21 1 0:19 /@ / rw,noatime shared:1 - btrfs /dev/nvme0n1p2 rw,space_cache\n\
            22 21 0:20 / /proc rw shared:2 - proc proc rw\n\
            40 21 0:19 /@home /home rw,noatime shared:3 - btrfs /dev/nvme0n1p2 rw\n\
            41 21 259:1 / /boot/efi rw shared:4 - vfat /dev/nvme0n1p1 rw\n\
            42 21 7:3 / /snap/core/1 ro shared:5 - squashfs /dev/loop3 ro\n\
            43 21 0:50 / /mnt/share rw shared:6 - nfs4 nas:/export rw\n\
            44 21 253:2 / /var/lib/my\\040data rw shared:7 - ext4 /dev/mapper/vg-data rw\n\
            45 44 253:2 /sub /srv/data rw shared:7 - ext4 /dev/mapper/vg-data rw\n\
            46 21 0:60 / /tank rw shared:8 - zfs tank rw\n\
            47 21 0:61 / /dev rw - devtmpfs /dev/null rw\n\
            48 21 0:62 / /run rw - tmpfs tmpfs rw\n";
        let mounts = mounts(text).expect("well formed");
        let points: Vec<&str> = volumes(&mounts).iter().map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/", "/boot/efi", "/tank", "/var/lib/my data"]);
    }

    #[test]
    fn a_container_has_its_root() {
        let text = "1 0 0:99 / / rw - overlay overlay rw\n2 1 8:1 /hosts /etc/hosts rw - ext4 /dev/sda1 rw\n";
        let mounts = mounts(text).expect("well formed");
        let points: Vec<&str> = volumes(&mounts).iter().map(|mount| mount.point.as_str()).collect();
        assert_eq!(points, ["/", "/etc/hosts"]);
    }

    #[test]
    fn networks_with_odd_names() {
        let text = "Inter-| Receive | Transmit\n face |bytes\n\
            eth0:12 1 2 0 0 0 0 0 34 3 4 0 0 5 0 0\n\
            eth0:1: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n";
        let found = networks(text).expect("well formed");
        assert_eq!(found["eth0"].received_bytes, 12);
        assert_eq!(found["eth0"].collisions, 5);
        assert_eq!(found["eth0:1"].sent_bytes, 1);
        assert_eq!(networks("eth0: 1 2\n").expect_err("short").line, 1);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-zA-Z0-9:/ .\\-\\\\]{0,60}\n){0,6}") {
            let _ = cpus(&text);
            let _ = memory(&text);
            let _ = paging(&text);
            let _ = disks(&text);
            let _ = mounts(&text).map(|mounts| volumes(&mounts).len());
            let _ = networks(&text);
        }

        #[test]
        fn near_misses_do_not_panic(
            cpu in "cpu[0-9]{0,2}( [0-9x]{0,20}){0,11}",
            memory_line in "Mem(Total|Free|Available): {0,3}[0-9]{0,21}( kB)?",
            disk in "( {0,3}[0-9a-z]{1,12}){10,20}",
            mount in "[0-9 ]{0,6}[0-9]{1,11}:[0-9]{1,11} /[a\\\\0-7]{0,9} /[a\\\\0-7]{0,9} rw - ext4 [/dev\\\\0-9]{0,9}",
            network in "[a-z0-9:]{1,8}:( {0,2}[0-9-]{1,21}){0,17}",
        ) {
            let _ = cpus(&cpu);
            let _ = memory(&memory_line);
            let _ = disks(&disk);
            let _ = mounts(&mount).map(|mounts| volumes(&mounts).len());
            let _ = networks(&network);
        }

        #[test]
        fn escapes_round_trip(path in "/[ \\PC]{0,30}") {
            let escaped: String = path
                .chars()
                .map(|c| match c {
                    ' ' => "\\040".to_owned(),
                    '\t' => "\\011".to_owned(),
                    '\n' => "\\012".to_owned(),
                    '\\' => "\\134".to_owned(),
                    c => c.to_string(),
                })
                .collect();
            prop_assert_eq!(unescape(&escaped), path);
        }

        #[test]
        fn processors_round_trip(ticks in proptest::collection::vec(any::<u32>(), 8)) {
            let words: Vec<String> = ticks.iter().map(u32::to_string).collect();
            let found = cpus(&format!("cpu  {}\n", words.join(" "))).expect("well formed");
            let total: u64 = ticks.iter().map(|&tick| u64::from(tick)).sum();
            prop_assert_eq!(found[""].total(), total);
            prop_assert_eq!(found[""].steal, u64::from(ticks[7]));
        }
    }
}
