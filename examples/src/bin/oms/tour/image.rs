//! A raw disk with a file system, and what tells whether it is sound.

use anyhow::{Context, Result, bail, ensure};
use oms_recovery::machine::disk::BlockDevice;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

/// Length of the disk, in bytes.
pub(super) const DISK_BYTES: u64 = 96 << 20;

/// What is compared and written at once, in bytes.
const BLOCK_BYTES: usize = 4096;

/// Folders that hold e2fsprogs and may be missing from the search path of an ordinary user.
const SYSTEM_FOLDERS: &str = "/usr/sbin:/sbin";

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:{SYSTEM_FOLDERS}"));
    command
}

fn run(mut command: Command) -> Result<Output> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| shown.clone())?;
    if !output.status.success() {
        bail!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

/// Whether the tools of ext4 are here.
pub(super) fn has_tools() -> bool {
    ["mke2fs", "e2fsck", "debugfs"].iter().all(|name| tool(name).arg("-V").output().is_ok())
}

/// Makes an ext4 image that holds a folder.
pub(super) fn make(image: &Path, folder: &Path) -> Result<()> {
    let mut command = tool("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-d"]).arg(folder).arg(image);
    command.arg(format!("{}k", DISK_BYTES / 1024));
    run(command).map(drop)
}

/// Makes an image without a file system: every block says where it is.
pub(super) fn make_raw(image: &Path) -> Result<()> {
    let file = File::create(image)?;
    file.set_len(DISK_BYTES)?;
    for block in (0..DISK_BYTES).step_by(1 << 16) {
        file.write_all_at(&block.to_le_bytes(), block)?;
    }
    Ok(())
}

/// Writes a file into the file system of an image that nobody uses.
pub(super) fn put(image: &Path, from: &Path, name: &str) -> Result<()> {
    let mut command = tool("debugfs");
    command.arg("-w").arg("-R").arg(format!("write {} {name}", from.display())).arg(image);
    let output = run(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    // debugfs prints its version there, and what failed, and ends with 0 all the same.
    ensure!(said.lines().count() <= 1, "debugfs: {}", said.trim());
    Ok(())
}

/// Whether the file system of an image is sound, and has a file with these bytes.
pub(super) fn check(image: &Path, file: Option<(&str, &[u8])>) -> Result<()> {
    let mut command = tool("e2fsck");
    command.arg("-fn").arg(image);
    run(command)?;
    if let Some((name, wanted)) = file {
        let mut command = tool("debugfs");
        command.arg("-R").arg(format!("cat {name}")).arg(image);
        let found = run(command)?.stdout;
        ensure!(found == wanted, "file is not as it was written. name=`{name}`");
    }
    Ok(())
}

/// Writes to a device every block in which `wanted` differs from it; answers how many bytes.
pub(super) fn write_differences(wanted: &Path, device: &dyn BlockDevice) -> Result<u64> {
    let wanted = File::open(wanted)?;
    ensure!(wanted.metadata()?.len() == device.len(), "disks of different lengths");
    let (mut new, mut old) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    let mut written = 0;
    for offset in (0..device.len()).step_by(BLOCK_BYTES) {
        wanted.read_exact_at(&mut new, offset)?;
        device.read_at(offset, &mut old)?;
        if new != old {
            device.write_at(offset, &new)?;
            written += BLOCK_BYTES as u64;
        }
    }
    device.flush()?;
    Ok(written)
}

/// Whether a device and an image hold the same bytes.
pub(super) fn is_equal(device: &dyn BlockDevice, image: &Path) -> Result<bool> {
    let image = File::open(image)?;
    if image.metadata()?.len() != device.len() {
        return Ok(false);
    }
    let step = 1 << 20;
    let (mut a, mut b) = (vec![0; step], vec![0; step]);
    for offset in (0..device.len()).step_by(step) {
        let length = step.min((device.len() - offset) as usize);
        device.read_at(offset, &mut a[..length])?;
        image.read_exact_at(&mut b[..length], offset)?;
        if a[..length] != b[..length] {
            return Ok(false);
        }
    }
    Ok(true)
}
