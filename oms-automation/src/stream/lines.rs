//! Bytes of a pipe, cut into lines of bounded length.

/// One line, without its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Line {
    /// The line's bytes, up to the splitter's limit.
    pub(crate) bytes: Vec<u8>,
    /// How many more it had.
    pub(crate) cut_bytes: u64,
}

/// Collects bytes into lines. It never holds more than its limit.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    limit: usize,
    line: Vec<u8>,
    cut_bytes: u64,
}

impl LineSplitter {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, line: Vec::new(), cut_bytes: 0 }
    }

    /// Takes the bytes that came, and answers the lines that they end.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.extend(&bytes[..end]);
            lines.extend(self.take());
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes);
        lines
    }

    /// The last line, if it had no end.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        if self.line.is_empty() && self.cut_bytes == 0 { None } else { self.take() }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = self.limit - self.line.len();
        let (kept, cut) = bytes.split_at(room.min(bytes.len()));
        self.line.extend_from_slice(kept);
        self.cut_bytes += cut.len() as u64;
    }

    fn take(&mut self) -> Option<Line> {
        let mut bytes = std::mem::take(&mut self.line);
        let cut_bytes = std::mem::take(&mut self.cut_bytes);
        if cut_bytes == 0 && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        Some(Line { bytes, cut_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(limit: usize, chunks: &[&[u8]]) -> Vec<(String, u64)> {
        let mut splitter = LineSplitter::new(limit);
        let mut lines: Vec<Line> = chunks.iter().flat_map(|chunk| splitter.push(chunk)).collect();
        lines.extend(splitter.finish());
        let text = |line: Line| (String::from_utf8(line.bytes).expect("ASCII"), line.cut_bytes);
        lines.into_iter().map(text).collect()
    }

    #[test]
    fn lines_end_where_they_should() {
        let line = |text: &str, cut| (text.to_owned(), cut);
        assert_eq!(
            split(9, &[b"a\nb", b"c\r\n\nd"]),
            [line("a", 0), line("bc", 0), line("", 0), line("d", 0)]
        );
        assert_eq!(split(3, &[b"abcd", b"ef\nx\n"]), [line("abc", 3), line("x", 0)]);
        assert_eq!(split(3, &[b"abcd"]), [line("abc", 1)]);
        assert!(split(3, &[b""]).is_empty());
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_does_not_matter(
            bytes in prop::collection::vec(prop::sample::select(b"ab\n\r".to_vec()), 0..60),
            at in 0_usize..60,
            limit in 1_usize..8,
        ) {
            let (left, right) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(split(limit, &[left, right]), split(limit, &[&bytes]));
        }
    }
}
