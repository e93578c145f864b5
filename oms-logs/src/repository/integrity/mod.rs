//! Checksums of data files: a flipped bit is found by the query that reads it, and named.
//!
//! ```text
//!  file = row groups ▪ index of terms ▪ sums ▪ page indexes, footer
//!         0            data_end         sums_at
//!  sums = { CRC32C u32 }*   of each block of 16,384 bytes of the row groups, then of the index; the
//!                           last block of either is shorter
//!  mark = "oms-blocks-1:" data_end ":" sums_at ":" CRC32C
//! ```
//!
//! The sums are little-endian. The mark is a value of the footer, with 16, 16 and 8 hexadecimal digits;
//! its checksum is that of everything from `sums_at` to the end of the file, its own eight digits taken
//! for zeros. So each byte of the file is covered by a sum, or by the mark, or is of the mark itself.
//! The names of such files end in [`FILE_SUFFIX`], so that a file whose mark is lost does not pass for
//! one that was written without.
//!
//! Parquet has checksums of its own in the headers of pages. The `parquet` crate verifies them and does
//! not write them, and they cover neither those headers nor the footer nor the page indexes, where a
//! flipped bit leaves rows out. Other readers pass over these here, as over the index of terms.
//!
//! One read of the file's end brings the sums and the footer, as it brought the footer before. Every
//! other range that is read is widened to whole blocks, which are verified before anyone sees them.

mod file;
mod log;
mod reader;

pub(crate) use file::{CheckedFile, FileError, file_in_table};
pub(crate) use log::{CHECKED_KEY, COMMIT_KEY, CheckedLog, NO_LOG_SUM};
pub(crate) use reader::{Readers, SumsCache};

use bytes::Bytes;
use memchr::memmem;
use std::ops::Range;

/// How the names of data files end that have checksums.
pub(crate) const FILE_SUFFIX: &str = ".crc32c.zstd.parquet";

/// The footer's key that has the mark.
pub(crate) const MARK_KEY: &str = "oms.blocks";

/// Bytes of a block.
const BLOCK_BYTES: u64 = 16 << 10;

/// How a mark begins.
const MARK: &[u8] = b"oms-blocks-1:";

/// Digits of a place, and of a checksum.
const PLACE_DIGITS: usize = 16;
const SUM_DIGITS: usize = 8;

/// A mark's checksum while it is computed.
const NO_SUM: &[u8; SUM_DIGITS] = b"00000000";

/// Bytes of a mark.
const MARK_BYTES: usize = MARK.len() + 2 * (PLACE_DIGITS + 1) + SUM_DIGITS;

/// The most bytes from the sums to the end of a file. A file of 64 GiB has 16 MiB of sums.
const END_BYTES_MAX: u64 = 64 << 20;

/// How many blocks the bytes of a region have.
const fn blocks_of(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES)
}

/// A mark as it is in the footer, before its checksum is known.
fn mark(data_end: u64, sums_at: u64) -> String {
    let mark = String::from_utf8_lossy(MARK);
    format!("{mark}{data_end:016x}:{sums_at:016x}:{:08x}", 0)
}

/// Makes the sums of a file as it is written.
#[derive(Debug, Default)]
pub(crate) struct SumsBuilder {
    sums: Vec<u32>,
    /// Of the block that is not full.
    crc: u32,
    filled: usize,
    /// Bytes of the file that were seen.
    seen: u64,
}

impl SumsBuilder {
    /// Takes the next bytes of the file.
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        self.seen += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = BLOCK_BYTES as usize - self.filled;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.crc = crc32c::crc32c_append(self.crc, now);
            self.filled += now.len();
            if self.filled == BLOCK_BYTES as usize {
                self.end_block();
            }
            bytes = later;
        }
    }

    fn end_block(&mut self) {
        if self.filled > 0 {
            self.sums.push(self.crc);
            (self.crc, self.filled) = (0, 0);
        }
    }

    /// The bytes that stand for the sums of a file, and the mark that stands for its own, until
    /// [`seal`](Self::seal) puts both in.
    pub(crate) fn places(data_end: u64, sums_at: u64) -> (Vec<u8>, String) {
        let blocks = blocks_of(data_end) + blocks_of(sums_at - data_end);
        (vec![0; blocks as usize * 4], mark(data_end, sums_at))
    }

    /// Puts the sums and the mark into the last bytes of a file, which are those after the ones that
    /// were [`add`](Self::add)ed.
    ///
    /// # Errors
    /// Says what of the bytes is not as [`places`](Self::places) has it.
    pub(crate) fn seal(
        mut self,
        rest: &mut [u8],
        data_end: u64,
        sums_at: u64,
    ) -> Result<(), String> {
        let place = |at: u64| at.checked_sub(self.seen).map(|at| at as usize);
        let (Some(data_end), Some(sums_at)) = (place(data_end), place(sums_at)) else {
            return Err("the sums' place is in what was written before".to_owned());
        };
        let short = || "the file ends before its sums".to_owned();
        let index = rest.get(data_end..sums_at).ok_or_else(short)?;
        self.add(rest.get(..data_end).ok_or_else(short)?);
        self.end_block();
        self.add(index);
        self.end_block();
        let end = rest.get_mut(sums_at..).ok_or_else(short)?;
        let table = end.get_mut(..self.sums.len() * 4).ok_or_else(short)?;
        for (place, sum) in table.chunks_exact_mut(4).zip(&self.sums) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        let at = sum_place(end).ok_or_else(|| "the footer has no mark".to_owned())?;
        let sum = format!("{:08x}", sum_of_end(end, at));
        if let Some(place) = end.get_mut(at..at + SUM_DIGITS) {
            place.copy_from_slice(sum.as_bytes());
        }
        Ok(())
    }
}

/// Where in the end of a file the digits of the mark's checksum are. What comes behind the footer's
/// values is written by the `parquet` crate, so the last mark is the file's own.
fn sum_place(end: &[u8]) -> Option<usize> {
    let at = memmem::rfind(end, MARK)?;
    (at + MARK_BYTES <= end.len()).then_some(at + MARK_BYTES - SUM_DIGITS)
}

/// The checksum of a file's end whose mark has its digits at `at`.
fn sum_of_end(end: &[u8], at: usize) -> u32 {
    let (before, rest) = end.split_at(at.min(end.len()));
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), NO_SUM);
    crc32c::crc32c_append(crc, rest.get(SUM_DIGITS..).unwrap_or_default())
}

/// What is wrong, and where in the file.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Wrong {
    pub(crate) offset: u64,
    pub(crate) reason: String,
}

/// The sums of a file, and the end of the file that they stand in.
#[derive(Debug)]
pub(crate) struct Sums {
    data_end: u64,
    sums_at: u64,
    /// The file from `sums_at` on.
    end: Bytes,
}

/// What the last bytes of a file tell.
#[derive(Debug)]
enum Decoded {
    Sums(Sums),
    /// The file has to be read from here.
    From(u64),
}

impl Sums {
    /// Reads the sums from the last bytes of a file of `size` bytes, all of it if it is short.
    fn decode(bytes: &Bytes, size: u64) -> Result<Decoded, Wrong> {
        let at_end = |reason: &str| Wrong { offset: size, reason: reason.to_owned() };
        let start = size.checked_sub(bytes.len() as u64);
        let start = start.ok_or_else(|| at_end("it is longer than the table's log says"))?;
        let Some(sum_at) = sum_place(bytes) else {
            return Err(at_end("its footer has no checksums"));
        };
        let (places, sum) = (sum_at + SUM_DIGITS - MARK_BYTES + MARK.len(), sum_at);
        let hex = |at: usize, digits: usize| {
            let text = std::str::from_utf8(bytes.get(at..at + digits)?).ok()?;
            let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            is_hex.then(|| u64::from_str_radix(text, 16).ok())?
        };
        let data_end = hex(places, PLACE_DIGITS);
        let sums_at = hex(places + PLACE_DIGITS + 1, PLACE_DIGITS);
        let (Some(data_end), Some(sums_at), Some(sum)) = (data_end, sums_at, hex(sum, SUM_DIGITS))
        else {
            return Err(at_end("the mark of its checksums is no mark"));
        };
        if data_end > sums_at || sums_at >= size || size - sums_at > END_BYTES_MAX {
            return Err(at_end("the mark of its checksums has other places"));
        }
        if sums_at < start {
            return Ok(Decoded::From(sums_at));
        }
        let end = bytes.slice((sums_at - start) as usize..);
        let wrong = |reason: &str| Wrong { offset: sums_at, reason: reason.to_owned() };
        let sum_at = sum_at.checked_sub((sums_at - start) as usize);
        let sum_at = sum_at.ok_or_else(|| wrong("its checksums come behind their mark"))?;
        if u64::from(sum_of_end(&end, sum_at)) != sum {
            return Err(wrong("the checksum of its footer does not match"));
        }
        let blocks = blocks_of(data_end) + blocks_of(sums_at - data_end);
        if blocks * 4 > sum_at as u64 {
            return Err(wrong("its checksums are fewer than its blocks"));
        }
        // The rest of what was read is not kept in memory for it.
        let end = Bytes::copy_from_slice(&end);
        Ok(Decoded::Sums(Self { data_end, sums_at, end }))
    }

    /// The bytes that have sums of their own; what follows is in memory.
    pub(crate) const fn sums_at(&self) -> u64 {
        self.sums_at
    }

    /// The file from there on.
    pub(crate) const fn end(&self) -> &Bytes {
        &self.end
    }

    /// A range of the bytes that have sums, in whole blocks.
    fn widened(&self, range: &Range<u64>) -> Range<u64> {
        let start = self.block_at(range.start).1.start;
        match range.end > range.start {
            true => start..self.block_at(range.end - 1).1.end,
            false => start..start,
        }
    }

    /// The number and the place of the block that a byte is in.
    fn block_at(&self, at: u64) -> (u64, Range<u64>) {
        let (first, from, to) = match at < self.data_end {
            true => (0, 0, self.data_end),
            false => (blocks_of(self.data_end), self.data_end, self.sums_at),
        };
        let nth = (at - from) / BLOCK_BYTES;
        let start = from + nth * BLOCK_BYTES;
        (first + nth, start..(start + BLOCK_BYTES).min(to))
    }

    /// Verifies whole blocks, the first of which begins at `at`.
    ///
    /// # Errors
    /// The first block that is not as it was written.
    pub(crate) fn verify(&self, mut at: u64, mut bytes: &[u8]) -> Result<(), Wrong> {
        while !bytes.is_empty() {
            let (number, block) = self.block_at(at);
            let wrong = |reason: &str| Wrong { offset: block.start, reason: reason.to_owned() };
            let length = block.end.saturating_sub(block.start) as usize;
            if length == 0 {
                return Err(wrong("blocks go on behind the last one"));
            }
            let Some((now, later)) = bytes.split_at_checked(length) else {
                return Err(wrong("a block ends early"));
            };
            let place = number as usize * 4;
            let sum = self.end.get(place..place + 4).and_then(|sum| sum.try_into().ok());
            let sum = sum.map(u32::from_le_bytes);
            if sum != Some(crc32c::crc32c(now)) {
                return Err(wrong("the checksum of a block does not match"));
            }
            (at, bytes) = (block.end, later);
        }
        Ok(())
    }
}

/// Whether these are the last bytes of a file of `size` bytes that has checksums, and how many blocks
/// they are of: any bytes, or any whose mark is right. For the fuzz target.
#[cfg(feature = "testkit")]
pub(crate) fn read_any(bytes: &[u8], size: u64, is_raw: bool) -> Option<u64> {
    let mut bytes = bytes.to_vec();
    if !is_raw && let Some(at) = sum_place(&bytes) {
        let places = at + SUM_DIGITS - MARK_BYTES + MARK.len() + PLACE_DIGITS + 1;
        let sums_at = std::str::from_utf8(bytes.get(places..places + PLACE_DIGITS)?).ok()?;
        let sums_at = u64::from_str_radix(sums_at, 16).ok()?;
        let start = sums_at.checked_sub(size.checked_sub(bytes.len() as u64)?)?;
        let end = bytes.get(usize::try_from(start).ok()?..)?;
        let sum = format!("{:08x}", sum_of_end(end, at.checked_sub(start as usize)?));
        bytes.get_mut(at..at + SUM_DIGITS)?.copy_from_slice(sum.as_bytes());
    }
    match Sums::decode(&bytes.into(), size).ok()? {
        Decoded::From(at) => Some(at),
        Decoded::Sums(sums) => {
            let zeros = vec![0; BLOCK_BYTES.min(sums.data_end) as usize];
            let _ = sums.verify(0, &zeros);
            let last = sums.sums_at.saturating_sub(1);
            let widened = sums.widened(&(last / 2..last));
            assert!(widened.end <= sums.sums_at, "{widened:?}");
            Some(sums.sums_at)
        }
    }
}

/// See [`log::seal_any`].
#[cfg(feature = "testkit")]
pub(crate) fn seal_any(bytes: &[u8], flipped: usize) -> bool {
    log::seal_any(bytes, flipped)
}

#[cfg(test)]
mod tests;
