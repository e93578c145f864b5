//! `parse_xml`: an XML document as a dynamic value.

use crate::query::dynamic::{Keyed, Value};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

/// The longest document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

/// The deepest nesting of elements.
const DEPTH_MAX: usize = 100;

/// An element in the making.
#[derive(Debug, Default)]
struct Element {
    name: String,
    members: Keyed,
    text: String,
}

impl Element {
    fn begin(start: &BytesStart<'_>) -> Option<Self> {
        let mut element = Self { name: text_of(start.name().as_ref())?, ..Self::default() };
        // The reader would compare each attribute with all before it.
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.ok()?;
            let name = format!("@{}", text_of(attribute.key.as_ref())?);
            let value = attribute.unescape_value().ok()?.into_owned();
            if element.members.insert(name, Value::Text(value)) {
                return None;
            }
        }
        Some(element)
    }

    /// Several children of one name become an array.
    fn add(&mut self, name: String, child: Value) {
        match self.members.get_mut(&name) {
            Some(Value::Array(children)) => children.push(child),
            Some(first) => {
                let children = vec![std::mem::replace(first, Value::Null), child];
                *first = Value::Array(children);
            }
            None => drop(self.members.insert(name, child)),
        }
    }

    /// Text alone, or a bag of attributes, children and text.
    fn end(mut self) -> (String, Value) {
        let text = self.text.trim();
        let value = match (self.members.is_empty(), text.is_empty()) {
            (true, true) => Value::Null,
            (true, false) => Value::Text(text.to_owned()),
            (false, true) => self.members.into_bag(),
            (false, false) => {
                self.members.insert("#text".to_owned(), Value::Text(text.to_owned()));
                self.members.into_bag()
            }
        };
        (self.name, value)
    }
}

fn text_of(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// A bag of the document's root, or `None` if the text is no XML document. Comments, declarations
/// and instructions are left out.
pub(super) fn parse(text: &str) -> Option<Value> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return None;
    }
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        let ended = match reader.read_event().ok()? {
            Event::Start(start) => {
                if open.len() >= DEPTH_MAX {
                    return None;
                }
                open.push(Element::begin(&start)?);
                None
            }
            Event::Empty(start) => Some(Element::begin(&start)?.end()),
            Event::End(_) => Some(open.pop()?.end()),
            Event::Text(part) => {
                let part = part.decode().ok()?;
                match open.last_mut() {
                    Some(element) => element.text.push_str(&part),
                    None if part.trim().is_empty() => {}
                    None => return None,
                }
                None
            }
            Event::CData(part) => {
                open.last_mut()?.text.push_str(&part.decode().ok()?);
                None
            }
            Event::GeneralRef(reference) => {
                let text = &mut open.last_mut()?.text;
                match reference.resolve_char_ref().ok()? {
                    Some(c) => text.push(c),
                    None => {
                        text.push_str(resolve_predefined_entity(&reference.decode().ok()?)?);
                    }
                }
                None
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => None,
            Event::Eof => break,
        };
        let Some((name, value)) = ended else { continue };
        match open.last_mut() {
            Some(parent) => parent.add(name, value),
            None if root.is_some() => return None,
            None => root = Some(Value::Bag(vec![(name, value)])),
        }
    }
    root.filter(|_| open.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_become_bags() {
        for (text, expect) in [
            ("<e/>", json!({"e": null})),
            ("<e> text </e>", json!({"e": "text"})),
            ("<e n=\"a&lt;b\"/>", json!({"e": {"@n": "a<b"}})),
            ("<e n='1'>t</e>", json!({"e": {"@n": "1", "#text": "t"}})),
            ("<e><a>1</a><b>2</b></e>", json!({"e": {"a": "1", "b": "2"}})),
            ("<e><a>1</a><a>2</a><a/></e>", json!({"e": {"a": ["1", "2", null]}})),
            (
                "<?xml version='1.0'?><!-- c --><e>a&amp;&#66;<![CDATA[<c>]]></e>\n",
                json!({"e": "a&B<c>"}),
            ),
        ] {
            let found = parse(text).map(|value| value.to_string()).unwrap_or_default();
            let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
            assert_eq!(found, expect, "{text}");
        }
        let deep = "<a>".repeat(5000);
        let twice = "<a n='1' n='2'/>";
        for bad in ["", "text", "<a>", "<a></b>", "<a/><b/>", "<a>&nope;</a>", twice, &deep] {
            assert_eq!(parse(bad), None, "{bad:.20}");
        }
    }
}
