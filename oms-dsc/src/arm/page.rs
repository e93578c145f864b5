//! Lists a page at a time.

use super::filter::{Filter, Property, Value};
use super::request::{Answer, Request};
use crate::Error;
use oms_core::http::respond;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write as _;

/// The things of a page where no number is asked for.
pub(super) const PAGE_MAX: usize = 100;

/// The most things that one request asks for by `$top`.
const TOP_MAX: usize = 1_000;

/// The longest token of a next page, in bytes.
const TOKEN_BYTES_MAX: usize = 2_048;

/// The things of one page, how many there are of all that were wanted, and the token of the next page.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    total: usize,
    next: Option<String>,
}

impl Request {
    /// What `$filter` says, by the properties that the list has.
    pub(super) fn filter(&self, properties: &[Property]) -> Result<Filter, Error> {
        Filter::parse(self.call.query.get("$filter").unwrap_or_default(), properties)
    }

    /// A number in the query.
    fn number(&self, name: &'static str) -> Result<Option<usize>, Error> {
        let Some(text) = self.call.query.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_no_number| {
            let shown: String = text.chars().take(40).collect();
            Error::Invalid { what: name, reason: format!("`{shown}` is no number") }
        })
    }

    /// The things that are wanted of a list in order of its keys, which are different: `$skip` and `$top`
    /// of them, or those behind the page before.
    pub(super) fn page<T>(
        &self,
        mut all: Vec<(String, T)>,
        filter: &Filter,
        value: impl Fn(&T, &str) -> Value,
    ) -> Result<Page<T>, Error> {
        for refused in ["$orderby", "$select", "$expand"] {
            if self.call.query.get(refused).is_some() {
                return Err(Error::Unsupported { what: "query option", name: refused.to_owned() });
            }
        }
        let skip = self.number("$skip")?.unwrap_or(0);
        let top = self.number("$top")?;
        if top.is_some_and(|top| top > TOP_MAX) {
            let reason = format!("at most {TOP_MAX} are answered at once");
            return Err(Error::Invalid { what: "$top", reason });
        }
        all.retain(|(_, item)| filter.admits(|property| value(item, property)));
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        let total = all.len();
        let behind = self.call.query.get("$skiptoken").map(unhex).transpose()?;
        let begin = match &behind {
            Some(behind) => all.partition_point(|(key, _)| key <= behind),
            None => skip.min(total),
        };
        // Who asks for so many asks for no further page.
        let end = begin.saturating_add(top.unwrap_or(PAGE_MAX)).min(total);
        let has_more = end < total && top.is_none();
        let last = all.get(end.wrapping_sub(1)).map(|(key, _)| hex(key));
        let next = last.filter(|_| has_more && end > begin);
        let items = all.drain(begin..end).map(|(_, item)| item).collect();
        Ok(Page { items, total, next })
    }

    /// The answer of a page; with `totalCount` if `$inlinecount=allpages` asks for it.
    pub(super) fn list<T>(&self, page: &Page<T>, shown: Vec<Json>) -> Answer {
        let mut envelope = Map::from_iter([("value".to_owned(), Json::Array(shown))]);
        match self.call.query.get("$inlinecount") {
            Some(count) if count.eq_ignore_ascii_case("allpages") => {
                envelope.insert("totalCount".to_owned(), json!(page.total));
            }
            Some(count) if !count.eq_ignore_ascii_case("none") && !count.is_empty() => {
                let reason = "neither `allpages` nor `none`".to_owned();
                return Err(Error::Invalid { what: "$inlinecount", reason }.into());
            }
            _ => {}
        }
        if let Some(token) = &page.next {
            envelope.insert("nextLink".to_owned(), self.call.next_link(token).into());
        }
        Ok(respond::json(http::StatusCode::OK, &envelope))
    }
}

/// A key as a token: it says nothing to a client, and needs no escapes.
fn hex(key: &str) -> String {
    key.bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(token: &str) -> Result<String, Error> {
    let bad = || Error::Invalid { what: "$skiptoken", reason: "it is none of this list".into() };
    if token.len() > TOKEN_BYTES_MAX || !token.len().is_multiple_of(2) || !token.is_ascii() {
        return Err(bad());
    }
    let byte = |at: usize| u8::from_str_radix(token.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..token.len()).step_by(2).map(byte).collect();
    String::from_utf8(bytes.ok_or_else(bad)?).map_err(|_bytes| bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_comes_back(key in "\\PC{0,60}") {
            prop_assert_eq!(unhex(&hex(&key)).expect("a token"), key);
        }

        #[test]
        fn any_token_is_read_or_refused(token in "\\PC{0,60}") {
            let _ = unhex(&token);
        }
    }
}
