//! The kernel's tables under `/proc`: read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_logs::source::perf::proc;

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    let text = String::from_utf8_lossy(rest);
    match kind % 6 {
        0 => {
            if let Ok(cpus) = proc::cpus(&text) {
                for (cpu, other) in cpus.values().zip(cpus.values().rev()) {
                    let _ = (cpu.total(), cpu.since(other).map(|since| since.total()));
                }
            }
        }
        1 => drop(proc::memory(&text)),
        2 => drop(proc::paging(&text)),
        3 => {
            if let Ok(disks) = proc::disks(&text) {
                for disk in disks {
                    let _ = proc::is_whole_disk(&disk.name);
                }
            }
        }
        4 => {
            if let Ok(mounts) = proc::mounts(&text) {
                assert!(proc::volumes(&mounts).len() <= mounts.len());
                for mount in &mounts {
                    let _ = mount.source_name();
                }
            }
        }
        _ => drop(proc::networks(&text)),
    }
});
