//! Which terms may stand in which rows of a data file.
//!
//! ```text
//!  rows ──► text ──► terms ──► a filter for each block of 8,192 rows ──► behind the row groups of the
//!                                                                       Parquet file; the footer says
//!                                                                       where
//!  query ──► has, ==, contains, … ──► terms that a row needs ──► blocks that may have them ──► scan
//! ```
//!
//! A term is a run of letters and digits, in lower case. Terms of one or two bytes and numbers of less
//! than six digits are left out: they stand nearly everywhere and would fill the filters. A filter
//! tells for certain that a term is not in a block, and takes some absent terms for there. Readers that know nothing of it pass over it, and a filter that is damaged is not used.
//!
//! ```text
//!  index   = magic[8]  checksum u32  columns u16  rows u64 { column }*
//!  column  = name length u16  name  blocks u32  { lines log2 u8, 255 for no filter }*  { line[64] }*
//! ```
//!
//! Numbers are little-endian; the checksum is CRC32C of all that follows it. The footer's key
//! [`PLACE_KEY`] holds `OFFSET:LENGTH`, in bytes of the file.

mod cache;
mod filter;
mod wanted;

pub(crate) use cache::TermsCache;
pub(crate) use wanted::Wanted;

use arrow::array::{Array as _, AsArray, RecordBatch};
use bytes::{Buf, Bytes};
use filter::Filter;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use std::collections::BTreeMap;

/// The key of the footer's metadata that tells where the index is.
pub(crate) const PLACE_KEY: &str = "oms.terms";

const MAGIC: [u8; 8] = *b"OMSterm1";

/// Rows of one block: a part of every row group but the last.
const BLOCK_ROWS: usize = 8_192;

/// The fewest bytes of a term that is kept.
const TERM_BYTES_MIN: usize = 3;

/// The fewest digits of a term of digits alone that is kept.
const NUMBER_DIGITS_MIN: usize = 6;

const NO_FILTER: u8 = u8::MAX;

/// Calls `each` with the hash of each term of a text that is kept.
fn for_each_term(text: &str, each: &mut impl FnMut(u64)) {
    if text.is_ascii() {
        terms_of_ascii(text.as_bytes(), each);
        return;
    }
    // Some comparisons without letter case take the long s for an s.
    let lower = text.to_lowercase().replace('ſ', "s");
    for term in lower.split(|c: char| !c.is_alphanumeric()) {
        let mut hash = Hash::default();
        term.bytes().for_each(|byte| hash.add(byte));
        hash.finish().into_iter().for_each(&mut *each);
    }
}

fn terms_of_ascii(text: &[u8], each: &mut impl FnMut(u64)) {
    let mut hash = Hash::default();
    for byte in text {
        let lower = LOWER[usize::from(*byte)];
        if lower != 0 {
            hash.add(lower);
        } else if hash.length > 0 {
            hash.finish().into_iter().for_each(&mut *each);
            hash = Hash::default();
        }
    }
    hash.finish().into_iter().for_each(each);
}

/// The lower case of an ASCII letter or digit, 0 for what is neither.
const LOWER: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// The hash of one term, part of the format: eight bytes at a time are multiplied in.
#[derive(Default)]
struct Hash {
    hash: u64,
    word: u64,
    length: usize,
    has_letter: bool,
}

impl Hash {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

    fn add(&mut self, byte: u8) {
        self.word = self.word << 8 | u64::from(byte);
        self.length += 1;
        self.has_letter |= byte > b'9';
        if self.length.is_multiple_of(8) {
            self.mix();
        }
    }

    fn mix(&mut self) {
        self.hash = (self.hash ^ self.word).wrapping_mul(Self::FACTOR).rotate_left(29);
        self.word = 0;
    }

    /// None for a term that is left out.
    fn finish(mut self) -> Option<u64> {
        let length_min = if self.has_letter { TERM_BYTES_MIN } else { NUMBER_DIGITS_MIN };
        if self.length < length_min {
            return None;
        }
        self.mix();
        let mut hash = self.hash ^ self.length as u64;
        for _ in 0..2 {
            hash = (hash ^ hash >> 32).wrapping_mul(Self::FACTOR);
        }
        Some(hash ^ hash >> 29)
    }
}

/// Makes the index of a file from its rows, in their order.
#[derive(Debug)]
pub(crate) struct TermsBuilder {
    columns: Vec<(String, Vec<Option<Filter>>, Filter)>,
    rows: usize,
}

impl TermsBuilder {
    /// For these columns of text.
    pub(crate) fn new(columns: impl IntoIterator<Item = String>) -> Self {
        let columns = columns.into_iter().map(|name| (name, Vec::new(), Filter::new()));
        Self { columns: columns.collect(), rows: 0 }
    }

    pub(crate) fn push(&mut self, rows: &RecordBatch) {
        let mut from = 0;
        while from < rows.num_rows() {
            let count = (rows.num_rows() - from).min(BLOCK_ROWS - self.rows % BLOCK_ROWS);
            for (name, _, filter) in &mut self.columns {
                let array = rows.column_by_name(name).and_then(|it| it.as_string_opt::<i32>());
                let Some(array) = array else { continue };
                for row in (from..from + count).filter(|row| array.is_valid(*row)) {
                    for_each_term(array.value(row), &mut |hash| filter.insert(hash));
                }
            }
            self.rows += count;
            from += count;
            if self.rows.is_multiple_of(BLOCK_ROWS) {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        for (_, blocks, filter) in &mut self.columns {
            blocks.push(std::mem::replace(filter, Filter::new()).shrunk());
        }
    }

    /// The index as it is in the file; none without columns.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if self.columns.is_empty() {
            return None;
        }
        if !self.rows.is_multiple_of(BLOCK_ROWS) {
            self.end_block();
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&u16::try_from(self.columns.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&(self.rows as u64).to_le_bytes());
        for (name, blocks, _) in &self.columns {
            out.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(&u32::try_from(blocks.len()).ok()?.to_le_bytes());
            let sizes = blocks.iter().map(|block| block.as_ref().map_or(NO_FILTER, Filter::log2));
            out.extend(sizes);
            blocks.iter().flatten().for_each(|block| block.write(&mut out));
        }
        let checksum = crc32c::crc32c(out.get(MAGIC.len() + 4..)?);
        out.get_mut(MAGIC.len()..MAGIC.len() + 4)?.copy_from_slice(&checksum.to_le_bytes());
        Some(out)
    }
}

/// The index of one file.
#[derive(Debug)]
pub(crate) struct Terms {
    rows: u64,
    columns: BTreeMap<String, Vec<Option<Filter>>>,
    bytes: usize,
}

impl Terms {
    /// Reads what [`TermsBuilder::finish`] made.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, String> {
        let mut from = bytes.clone();
        if from.try_get_u64().ok() != Some(u64::from_be_bytes(MAGIC)) {
            return Err("it does not begin as one".to_owned());
        }
        let short = |_| "it ends early".to_owned();
        if from.try_get_u32_le().map_err(short)? != crc32c::crc32c(&from) {
            return Err("its checksum does not match".to_owned());
        }
        let (count, rows) =
            (from.try_get_u16_le().map_err(short)?, from.try_get_u64_le().map_err(short)?);
        if count == 0 {
            return Err("it has no columns".to_owned());
        }
        let mut columns = BTreeMap::new();
        for _ in 0..count {
            let name_length = usize::from(from.try_get_u16_le().map_err(short)?);
            let name = String::from_utf8(take(&mut from, name_length)?.to_vec())
                .map_err(|_| "a column's name is not UTF-8".to_owned())?;
            let blocks = from.try_get_u32_le().map_err(short)? as usize;
            if blocks as u64 != rows.div_ceil(BLOCK_ROWS as u64) {
                return Err(format!("{blocks} blocks are not those of {rows} rows"));
            }
            let sizes = take(&mut from, blocks)?;
            let mut filters = Vec::with_capacity(blocks);
            for size in sizes {
                filters.push(match size {
                    NO_FILTER => None,
                    log2 => Some(Filter::read(log2, &mut from)?),
                });
            }
            columns.insert(name, filters);
        }
        if from.has_remaining() {
            return Err(format!("{} bytes are left over", from.remaining()));
        }
        Ok(Self { rows, columns, bytes: bytes.len() })
    }

    /// The rows that may have what is wanted, by whole blocks.
    pub(crate) fn select(&self, wanted: &Wanted) -> Selected {
        let blocks = usize::try_from(self.rows.div_ceil(BLOCK_ROWS as u64)).unwrap_or(0);
        let mut selectors: Vec<RowSelector> = Vec::new();
        let (mut kept, mut left) = (0, usize::try_from(self.rows).unwrap_or(0));
        for block in 0..blocks {
            let has = |column: &str, hash| {
                let filter =
                    self.columns.get(column).and_then(|blocks| blocks.get(block)?.as_ref());
                filter.is_none_or(|filter| filter.may_have(hash))
            };
            let (may_have, rows) = (wanted.may_be(&has), left.min(BLOCK_ROWS));
            left -= rows;
            kept += usize::from(may_have);
            match selectors.last_mut() {
                Some(last) if last.skip != may_have => last.row_count += rows,
                _ if may_have => selectors.push(RowSelector::select(rows)),
                _ => selectors.push(RowSelector::skip(rows)),
            }
        }
        match kept {
            0 => Selected::Nothing,
            all if all == blocks => Selected::Everything,
            _ => Selected::Rows(RowSelection::from(selectors)),
        }
    }
}

/// An index that reads back or not: any bytes, or any that follow a checksum which is right; the count
/// of rows that may have some term. For the fuzz target.
#[cfg(feature = "testkit")]
pub(crate) fn read_any(bytes: &[u8], is_raw: bool) -> Option<usize> {
    let mut whole = Vec::new();
    if !is_raw {
        whole.extend_from_slice(&MAGIC);
        whole.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    }
    whole.extend_from_slice(bytes);
    let terms = Terms::decode(&whole.into()).ok()?;
    let (column, hash) = (terms.columns.keys().next()?.clone(), terms.rows ^ 0x0123_4567_89AB_CDEF);
    Some(match terms.select(&Wanted::Term { column, hash }) {
        Selected::Nothing => 0,
        Selected::Rows(rows) => rows.row_count(),
        Selected::Everything => usize::try_from(terms.rows).unwrap_or(usize::MAX),
    })
}

/// What of a file has to be read.
#[derive(Debug)]
pub(crate) enum Selected {
    /// No row of it.
    Nothing,
    /// These rows.
    Rows(RowSelection),
    /// Every row.
    Everything,
}

fn take(from: &mut Bytes, length: usize) -> Result<Bytes, String> {
    if from.remaining() < length {
        return Err("it ends early".to_owned());
    }
    Ok(from.split_to(length))
}

#[cfg(test)]
mod tests;
