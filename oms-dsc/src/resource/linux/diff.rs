//! What would change in a text, line by line.

/// The longest text that is compared line by line, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// The most pairs of lines that are compared; beyond that, what differs is shown as a whole.
const PAIRS_MAX: usize = 1_000_000;

/// The most lines of a diff.
const LINES_MAX: usize = 200;

/// Unchanged lines around a change.
const CONTEXT: usize = 2;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// The lines that change from `before` to `after`, each behind `-`, `+` or a space, with some that
/// stay around them; none if one of them is no text, or too long.
pub(super) fn diff(before: &[u8], after: &[u8]) -> Option<String> {
    let text = |bytes| std::str::from_utf8(bytes).ok().filter(|text| text.len() <= TEXT_BYTES_MAX);
    let (before, after) = (text(before)?, text(after)?);
    if before.contains('\0') || after.contains('\0') {
        return None;
    }
    Some(shown(&lines(before, after)))
}

fn lines<'a>(before: &'a str, after: &'a str) -> Vec<Line<'a>> {
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after.split_inclusive('\n').collect();
    let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let ends = old_rest.iter().rev().zip(new_rest.iter().rev());
    let tail = ends.take_while(|(old, new)| old == new).count();
    let (old_middle, new_middle) =
        (&old_rest[..old_rest.len() - tail], &new_rest[..new_rest.len() - tail]);
    let mut lines: Vec<Line<'a>> = old[..head].iter().map(|line| Line::Same(line)).collect();
    if old_middle.len().saturating_mul(new_middle.len()) > PAIRS_MAX {
        lines.extend(old_middle.iter().map(|line| Line::Gone(line)));
        lines.extend(new_middle.iter().map(|line| Line::New(line)));
    } else {
        common(old_middle, new_middle, &mut lines);
    }
    lines.extend(old[old.len() - tail..].iter().map(|line| Line::Same(line)));
    lines
}

/// Adds two lists of lines with as many of them shared as can be.
fn common<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    // longest[i][j]: how many lines the ends from i and j on can share.
    let width = new.len() + 1;
    let mut longest = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i * width + j] = match old[i] == new[j] {
                true => longest[(i + 1) * width + j + 1] + 1,
                false => longest[(i + 1) * width + j].max(longest[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || i < old.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1]
        {
            lines.push(Line::Gone(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
}

fn shown(lines: &[Line<'_>]) -> String {
    let is_change = |line: &Line<'_>| !matches!(line, Line::Same(_));
    let near = |index: usize| {
        let from = index.saturating_sub(CONTEXT);
        lines[from..lines.len().min(index + CONTEXT + 1)].iter().any(is_change)
    };
    let (mut text, mut count, mut last) = (String::new(), 0, None);
    for (index, line) in lines.iter().enumerate().filter(|(index, _)| near(*index)) {
        if count == LINES_MAX {
            text.push_str("@ and more\n");
            break;
        }
        if last.is_some_and(|last| last + 1 != index) || last.is_none() && index > 0 {
            text.push_str(&format!("@ from line {}\n", index + 1));
        }
        let (mark, line) = match line {
            Line::Same(line) => (' ', line),
            Line::Gone(line) => ('-', line),
            Line::New(line) => ('+', line),
        };
        text.push(mark);
        text.push_str(line.strip_suffix('\n').unwrap_or(line));
        text.push_str(if line.ends_with('\n') { "\n" } else { " (no line break)\n" });
        (count, last) = (count + 1, Some(index));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_changes_is_shown_with_a_little_around_it() {
        let check = |before: &str, after: &str, expect: &str| {
            assert_eq!(diff(before.as_bytes(), after.as_bytes()).as_deref(), Some(expect));
        };
        check("a\n", "a\n", "");
        check("", "a\n", "+a\n");
        check("a\nb\nc\n", "a\nx\nc\n", " a\n-b\n+x\n c\n");
        check("a", "a\n", "-a (no line break)\n+a\n");
        let many: String = (0..20).map(|n| format!("{n}\n")).collect();
        let changed = many.replace("10\n", "ten\n");
        check(&many, &changed, "@ from line 9\n 8\n 9\n-10\n+ten\n 11\n 12\n");
        assert_eq!(diff(b"\xff", b""), None);
        assert_eq!(diff(b"a\0", b""), None);
        assert_eq!(diff(&vec![b'x'; TEXT_BYTES_MAX + 1], b""), None);
        let long: String = (0..LINES_MAX + 5).map(|n| format!("{n}\n")).collect();
        let shown = diff(b"", long.as_bytes()).expect("text");
        assert_eq!(shown.lines().count(), LINES_MAX + 1);
    }

    proptest! {
        /// The lines that go or stay are the old text, those that come or stay the new one.
        #[test]
        fn both_texts_are_in_it(before in "([abc]{0,2}\n){0,12}[ab]?", after in "([abc]{0,2}\n){0,12}[ab]?") {
            let lines = lines(&before, &after);
            let pick = |keep: fn(&Line<'_>) -> bool| -> String {
                let text = |line: &Line<'_>| match *line {
                    Line::Same(text) | Line::Gone(text) | Line::New(text) => text.to_owned(),
                };
                lines.iter().filter(|line| keep(line)).map(text).collect()
            };
            prop_assert_eq!(pick(|line| !matches!(line, Line::New(_))), before.clone());
            prop_assert_eq!(pick(|line| !matches!(line, Line::Gone(_))), after.clone());
            prop_assert_eq!(shown(&lines).is_empty(), before == after);
        }
    }
}
