//! The lines of a text, many at a time.

use super::ROW_BYTES_MAX;
use std::io::{self, BufRead};

/// The most bytes that are taken from the input at a time.
const READ_BYTES: usize = 1 << 20;

/// Whole lines of a text, each with its break, and what was read beyond them.
///
/// A line that is longer than allowed is cut past the bound.
pub(super) struct Window {
    input: Box<dyn BufRead + Send>,
    lines: Chunk,
    /// Where the lines begin that were not taken yet.
    at: usize,
    /// The begin of the line after them.
    rest: Vec<u8>,
    /// Whether `rest` is cut, and the line goes on.
    is_cut: bool,
    has_ended: bool,
    /// How many lines were taken.
    number: u64,
}

enum Chunk {
    Text(String),
    /// A part of it is no UTF-8.
    Bytes(Vec<u8>),
}

impl Chunk {
    fn take_bytes(&mut self) -> Vec<u8> {
        match std::mem::replace(self, Self::Bytes(Vec::new())) {
            Self::Text(text) => text.into_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Window {
    pub(super) fn new(input: Box<dyn BufRead + Send>) -> Self {
        Self {
            input,
            lines: Chunk::Bytes(Vec::new()),
            at: 0,
            rest: Vec::new(),
            is_cut: false,
            has_ended: false,
            number: 0,
        }
    }

    /// The number of the line taken last, from 1.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Reads until there is a whole line; `false` at the end of the input.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        while self.at >= self.lines.as_bytes().len() {
            if self.has_ended {
                return Ok(false);
            }
            self.read()?;
        }
        Ok(true)
    }

    /// Reads once.
    fn read(&mut self) -> io::Result<()> {
        let given = self.input.fill_buf()?;
        let given = given.get(..READ_BYTES).unwrap_or(given);
        let count = given.len();
        self.has_ended = count == 0;
        // From the end of a line that was cut on, the break included.
        let taken = match given.iter().position(|byte| self.is_cut && *byte == b'\n') {
            Some(end) => {
                self.is_cut = false;
                given.get(end..).unwrap_or_default()
            }
            None if self.is_cut => &[],
            None => given,
        };
        let mut lines = self.lines.take_bytes();
        lines.clear();
        lines.append(&mut self.rest);
        lines.extend_from_slice(taken);
        self.input.consume(count);
        if self.has_ended && !lines.is_empty() {
            lines.push(b'\n');
        }
        let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        self.rest.extend_from_slice(lines.get(end..).unwrap_or_default());
        lines.truncate(end);
        if self.rest.len() > ROW_BYTES_MAX {
            self.rest.truncate(ROW_BYTES_MAX + 1);
            self.is_cut = true;
        }
        self.lines = String::from_utf8(lines)
            .map_or_else(|error| Chunk::Bytes(error.into_bytes()), Chunk::Text);
        self.at = 0;
        Ok(())
    }

    /// The lines that were not taken yet, or just the next one if some of them are no UTF-8; none
    /// if the next one is not.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.lines {
            Chunk::Text(text) => text.get(self.at..),
            Chunk::Bytes(bytes) => {
                let bytes = bytes.get(self.at..)?;
                std::str::from_utf8(bytes.get(..=end_of_line(bytes))?).ok()
            }
        }
    }

    /// Takes one line that has so many bytes, its break included.
    pub(super) const fn take(&mut self, bytes: usize) {
        self.at += bytes;
        self.number += 1;
    }

    /// Takes the next line, without its break; none if [`Window::fill`] has to come first.
    pub(super) fn next_line(&mut self) -> Option<&[u8]> {
        let begin = self.at;
        let bytes = self.lines.as_bytes().get(begin..).filter(|bytes| !bytes.is_empty())?;
        let length = end_of_line(bytes);
        self.take(length + 1);
        self.lines.as_bytes().get(begin..begin + length)
    }
}

fn end_of_line(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::super::lines::Lines;
    use super::*;
    use proptest::prelude::*;
    use std::io::{BufReader, Cursor};

    /// The lines that are not blank, with their numbers, through buffers of so many bytes.
    fn read(text: &[u8], buffer: usize) -> Vec<(u64, Result<Vec<u8>, String>)> {
        let input = BufReader::with_capacity(buffer, Cursor::new(text.to_vec()));
        let mut window = Window::new(Box::new(input));
        let mut lines = Vec::new();
        while window.fill().expect("reads") {
            let given = window.text().map(str::to_owned);
            let line = window.next_line().expect("a line").to_vec();
            assert_eq!(given.is_some(), std::str::from_utf8(&line).is_ok());
            if let Some(line) = super::super::lines::checked(window.number(), &line) {
                lines.push((window.number(), line.map(<[u8]>::to_vec)));
            }
        }
        lines
    }

    fn expected(text: &[u8]) -> Vec<(u64, Result<Vec<u8>, String>)> {
        let mut lines = Lines::new(text);
        std::iter::from_fn(|| lines.next_line().expect("reads")).collect()
    }

    #[test]
    fn long_lines_are_cut_past_the_bound_and_the_lines_after_them_are_read() {
        let long = |length: usize| "x".repeat(length);
        for length in [ROW_BYTES_MAX - 1, ROW_BYTES_MAX, ROW_BYTES_MAX + 1, 3 * ROW_BYTES_MAX] {
            let text = format!("a\n{}\nb\n{}", long(length), long(length));
            for buffer in [1 << 16, 1 << 20, 1 << 23] {
                assert_eq!(read(text.as_bytes(), buffer), expected(text.as_bytes()), "{length}");
            }
        }
    }

    proptest! {
        #[test]
        fn lines_are_the_same_whatever_the_buffer_holds(
            bytes in prop::collection::vec(
                prop::sample::select(b"ab\n\n \r\xef\xbb\xbf\xff".to_vec()), 0..60),
            buffer in 1..20_usize,
        ) {
            prop_assert_eq!(read(&bytes, buffer), expected(&bytes));
        }
    }
}
