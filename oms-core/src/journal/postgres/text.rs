//! Text that PostgreSQL can hold: it knows no zero byte.

use std::borrow::Cow;

/// The text with every zero byte as `\0` and every backslash twice.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', '\\']) {
        return Cow::Owned(text.replace('\\', "\\\\").replace('\0', "\\0"));
    }
    Cow::Borrowed(text)
}

/// What [`escape`] was given, or none if it made no such text.
pub(super) fn unescape(text: String) -> Option<String> {
    if !text.contains('\\') {
        return Some(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next()? {
                '\\' => '\\',
                '0' => '\0',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back_and_holds_no_zero(text in "[\\\\\0a-zä0]{0,12}|.*") {
            let kept = escape(&text).into_owned();
            prop_assert!(!kept.contains('\0'));
            prop_assert_eq!(unescape(kept), Some(text));
        }
    }

    #[test]
    fn what_no_escape_made_is_refused() {
        for text in ["\\", "a\\", "\\n", "\\\\\\"] {
            assert_eq!(unescape(text.to_owned()), None, "{text}");
        }
    }
}
