//! Counters from one sample, or from two.

use super::proc::{Cpu, Disk, is_whole_disk};
use super::{Sample, Usage};

/// Bytes of a sector in `/proc/diskstats`, whatever the device's own sectors are.
const SECTOR_BYTES: f64 = 512.0;

const KIB_PER_MIB: f64 = 1024.0;
const BYTES_PER_MIB: f64 = 1024.0 * 1024.0;

/// The name of the instance that is the sum of the others.
const TOTAL: &str = "_Total";

/// One counter's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) object: &'static str,
    pub(super) instance: String,
    pub(super) counter: &'static str,
    pub(super) value: f64,
}

/// Every counter that can be told from `now`, and from `before` where it takes two samples.
pub(super) fn readings(now: &Sample, before: Option<&Sample>) -> Vec<Reading> {
    let mut out = Vec::new();
    let seconds = before.map(|before| now.monotonic.saturating_sub(before.monotonic).as_secs_f64());
    // Two samples at the same time have no rate.
    let before = before.filter(|_| seconds.is_some_and(|seconds| seconds > 0.0));
    let seconds = seconds.unwrap_or(0.0);
    processor(now, before, &mut out);
    memory(now, before, seconds, &mut out);
    logical_disk(now, before, seconds, &mut out);
    physical_disk(now, before, seconds, &mut out);
    network(now, &mut out);
    out
}

fn push(
    out: &mut Vec<Reading>,
    object: &'static str,
    instance: &str,
    counters: impl IntoIterator<Item = (&'static str, f64)>,
) {
    out.extend(counters.into_iter().map(|(counter, value)| Reading {
        object,
        instance: instance.to_owned(),
        counter,
        value,
    }));
}

/// A part of a whole in percent; 0 of nothing.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 100.0 / whole as f64).min(100.0) }
}

/// How much a counter grew; nothing if it went back, as after a reset.
fn grown(now: u64, before: u64) -> Option<f64> {
    now.checked_sub(before).map(|by| by as f64)
}

fn processor(now: &Sample, before: Option<&Sample>, out: &mut Vec<Reading>) {
    let Some(before) = before else { return };
    for (name, cpu) in &now.cpus {
        let Some(last) = before.cpus.get(name) else { continue };
        let Some(passed) = cpu.since(last).filter(|passed| passed.total() > 0) else { continue };
        let total = passed.total();
        let Cpu { user, nice, system, idle, iowait, irq, softirq, .. } = passed;
        let instance = if name.is_empty() { TOTAL } else { name };
        push(
            out,
            "Processor",
            instance,
            [
                ("% Processor Time", 100.0 - percent(idle, total)),
                ("% Idle Time", percent(idle, total)),
                ("% User Time", percent(user, total)),
                ("% Nice Time", percent(nice, total)),
                ("% Privileged Time", percent(system, total)),
                ("% IO Wait Time", percent(iowait, total)),
                ("% Interrupt Time", percent(irq, total)),
                ("% DPC Time", percent(softirq, total)),
            ],
        );
    }
}

fn memory(now: &Sample, before: Option<&Sample>, seconds: f64, out: &mut Vec<Reading>) {
    let memory = &now.memory;
    let used = memory.total_kib.saturating_sub(memory.available_kib);
    let swap_used = memory.swap_total_kib.saturating_sub(memory.swap_free_kib);
    push(
        out,
        "Memory",
        "Memory",
        [
            ("Available MBytes Memory", memory.available_kib as f64 / KIB_PER_MIB),
            ("% Available Memory", percent(memory.available_kib, memory.total_kib)),
            ("Used Memory MBytes", used as f64 / KIB_PER_MIB),
            ("% Used Memory", percent(used, memory.total_kib)),
            ("Available MBytes Swap", memory.swap_free_kib as f64 / KIB_PER_MIB),
            ("% Available Swap Space", percent(memory.swap_free_kib, memory.swap_total_kib)),
            ("Used MBytes Swap Space", swap_used as f64 / KIB_PER_MIB),
            ("% Used Swap Space", percent(swap_used, memory.swap_total_kib)),
        ],
    );
    let Some(before) = before else { return };
    // The kernel counts these in KiB. The agent for Linux gives them as they are, under these names.
    let reads = grown(now.paging.read, before.paging.read);
    let writes = grown(now.paging.written, before.paging.written);
    if let (Some(reads), Some(writes)) = (reads, writes) {
        push(
            out,
            "Memory",
            "Memory",
            [
                ("Pages/sec", (reads + writes) / seconds),
                ("Page Reads/sec", reads / seconds),
                ("Page Writes/sec", writes / seconds),
            ],
        );
    }
}

/// How much a disk did between two samples.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    reads: f64,
    writes: f64,
    read_bytes: f64,
    written_bytes: f64,
    read_ms: f64,
    write_ms: f64,
}

impl Done {
    fn between(now: &Disk, before: &Disk) -> Option<Self> {
        Some(Self {
            reads: grown(now.reads, before.reads)?,
            writes: grown(now.writes, before.writes)?,
            read_bytes: grown(now.sectors_read, before.sectors_read)? * SECTOR_BYTES,
            written_bytes: grown(now.sectors_written, before.sectors_written)? * SECTOR_BYTES,
            read_ms: grown(now.read_ms, before.read_ms)?,
            write_ms: grown(now.write_ms, before.write_ms)?,
        })
    }

    fn rates(self, seconds: f64) -> [(&'static str, f64); 6] {
        [
            ("Logical Disk Bytes/sec", (self.read_bytes + self.written_bytes) / seconds),
            ("Disk Read Bytes/sec", self.read_bytes / seconds),
            ("Disk Write Bytes/sec", self.written_bytes / seconds),
            ("Disk Transfers/sec", (self.reads + self.writes) / seconds),
            ("Disk Reads/sec", self.reads / seconds),
            ("Disk Writes/sec", self.writes / seconds),
        ]
    }

    fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
        self.read_ms += other.read_ms;
        self.write_ms += other.write_ms;
    }
}

/// A disk of the last sample.
fn was<'a>(before: &'a Sample, disk: &Disk) -> Option<&'a Disk> {
    before.disks.iter().find(|was| was.device == disk.device && was.name == disk.name)
}

fn logical_disk(now: &Sample, before: Option<&Sample>, seconds: f64, out: &mut Vec<Reading>) {
    const OBJECT: &str = "Logical Disk";
    let mut total = Usage { block_bytes: 1, ..Usage::default() };
    let mut total_done = None;
    for (mount, usage) in &now.volumes {
        push(out, OBJECT, &mount.point, space(usage));
        push(out, OBJECT, &mount.point, inodes(usage));
        // The bytes of volumes with blocks of different sizes are added.
        let add =
            |sum: u64, blocks: u64| sum.saturating_add(blocks.saturating_mul(usage.block_bytes));
        total.blocks = add(total.blocks, usage.blocks);
        total.blocks_free = add(total.blocks_free, usage.blocks_free);
        total.blocks_available = add(total.blocks_available, usage.blocks_available);
        total.files = total.files.saturating_add(usage.files);
        total.files_free = total.files_free.saturating_add(usage.files_free);
        let disk = now.disks.iter().find(|disk| disk.device == mount.device);
        let by_name = || now.disks.iter().find(|disk| mount.source_name() == Some(&disk.name));
        let done = disk.or_else(by_name).and_then(|disk| Done::between(disk, was(before?, disk)?));
        if let Some(done) = done {
            push(out, OBJECT, &mount.point, done.rates(seconds));
            total_done.get_or_insert_with(Done::default).add(done);
        }
    }
    if !now.volumes.is_empty() {
        push(out, OBJECT, TOTAL, space(&total));
        push(out, OBJECT, TOTAL, inodes(&total));
    }
    if let Some(done) = total_done {
        push(out, OBJECT, TOTAL, done.rates(seconds));
    }
}

/// Space as a user without privileges sees it, which is how `df` counts it.
fn space(usage: &Usage) -> [(&'static str, f64); 3] {
    let used = usage.blocks.saturating_sub(usage.blocks_free);
    let used_percent = percent(used, used.saturating_add(usage.blocks_available));
    let free_bytes = usage.blocks_available as f64 * usage.block_bytes as f64;
    [
        ("Free Megabytes", free_bytes / BYTES_PER_MIB),
        ("% Free Space", 100.0 - used_percent),
        ("% Used Space", used_percent),
    ]
}

fn inodes(usage: &Usage) -> Vec<(&'static str, f64)> {
    // Some file systems make inodes as they need them and have no number of them.
    if usage.files == 0 {
        return Vec::new();
    }
    let free = percent(usage.files_free, usage.files);
    vec![("% Free Inodes", free), ("% Used Inodes", 100.0 - free)]
}

fn physical_disk(now: &Sample, before: Option<&Sample>, seconds: f64, out: &mut Vec<Reading>) {
    let Some(before) = before else { return };
    for disk in now.disks.iter().filter(|disk| is_whole_disk(&disk.name)) {
        let Some(done) = was(before, disk).and_then(|was| Done::between(disk, was)) else {
            continue;
        };
        let seconds_each =
            |ms: f64, count: f64| if count > 0.0 { ms / 1000.0 / count } else { 0.0 };
        push(
            out,
            "Physical Disk",
            &disk.name,
            [
                ("Physical Disk Bytes/sec", (done.read_bytes + done.written_bytes) / seconds),
                (
                    "Avg. Disk sec/Transfer",
                    seconds_each(done.read_ms + done.write_ms, done.reads + done.writes),
                ),
                ("Avg. Disk sec/Read", seconds_each(done.read_ms, done.reads)),
                ("Avg. Disk sec/Write", seconds_each(done.write_ms, done.writes)),
            ],
        );
    }
}

fn network(now: &Sample, out: &mut Vec<Reading>) {
    for (name, network) in &now.networks {
        // Interfaces that were never used, which virtual machines have many of.
        if name == "lo" || network.received_bytes == 0 && network.sent_bytes == 0 {
            continue;
        }
        let counters = [
            ("Total Bytes Transmitted", network.sent_bytes),
            ("Total Bytes Received", network.received_bytes),
            ("Total Bytes", network.sent_bytes.saturating_add(network.received_bytes)),
            ("Total Packets Transmitted", network.sent_packets),
            ("Total Packets Received", network.received_packets),
            ("Total Rx Errors", network.receive_errors),
            ("Total Tx Errors", network.send_errors),
            ("Total Collisions", network.collisions),
        ];
        push(out, "Network", name, counters.map(|(counter, value)| (counter, value as f64)));
    }
}
