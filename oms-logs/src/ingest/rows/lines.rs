//! Lines of a text, and a record for each.

use super::{ROW_BYTES_MAX, Row, RowTarget, Source};
use oms_core::record::Record;
use std::io::{self, BufRead};

/// The column of a plain line.
const RAW_DATA: &str = "RawData";

/// A line and its number, from 1; why not, if it is too long.
pub(super) type Line = (u64, Result<Vec<u8>, String>);

/// The lines of a text, counted.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next line that is not blank, without its break and, at the beginning, without a byte
    /// order mark.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line>> {
        while let Some(line) = read_line(&mut self.input)? {
            self.number += 1;
            if let Some(line) = checked(self.number, &line) {
                return Ok(Some((self.number, line.map(<[u8]>::to_vec))));
            }
        }
        Ok(None)
    }
}

/// A line without the byte order mark that the first one may have, or why it is none; nothing if it
/// is blank.
pub(super) fn checked(number: u64, line: &[u8]) -> Option<Result<&[u8], String>> {
    let is_long = line.len() > ROW_BYTES_MAX;
    let mark: &[u8] = if number == 1 { b"\xef\xbb\xbf" } else { b"" };
    let line = line.strip_prefix(mark).unwrap_or(line);
    if line.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    Some(match is_long {
        true => Err(format!("line is longer than {ROW_BYTES_MAX} bytes")),
        false => Ok(line),
    })
}

/// Reads a line without its break; a longer one than allowed is cut past the bound.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut is_begun = false;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(is_begun.then_some(line));
        }
        is_begun = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let count = end.unwrap_or(available.len());
        let room = (ROW_BYTES_MAX + 1).saturating_sub(line.len());
        line.extend_from_slice(available.get(..count.min(room)).unwrap_or_default());
        reader.consume(count + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Plain lines, each a record.
#[derive(Debug)]
pub(super) struct Plain<R> {
    lines: Lines<R>,
    target: RowTarget,
}

impl<R: BufRead> Plain<R> {
    pub(super) const fn new(input: R, target: RowTarget) -> Self {
        Self { lines: Lines::new(input), target }
    }
}

impl<R: BufRead + Send> Source for Plain<R> {
    fn next_row(&mut self) -> io::Result<Option<Row>> {
        let Some((number, line)) = self.lines.next_line()? else { return Ok(None) };
        let record = line.map(|line| {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            let RowTarget { schema, computer, now } = &self.target;
            Record::new(schema.name().clone(), *now, computer.as_str()).with(RAW_DATA, text)
        });
        Ok(Some(Row { number, record }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn lines_end_at_breaks_and_long_ones_are_cut_past_the_bound() {
        let long = vec![b'x'; ROW_BYTES_MAX * 2];
        let text = [b"a\r\n\nb".as_slice(), b"\n", &long, b"\nc"].concat();
        let mut reader = BufReader::new(&text[..]);
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut reader).expect("reads") {
            lines.push(line.len());
        }
        assert_eq!(lines, [2, 0, 1, ROW_BYTES_MAX + 1, 1]);
    }
}
