//! Lists of resources: where, which, and a page at a time.

use super::index::Index;
use super::{ResourceError, ResourceId, ResourceType, TrackedResource};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::str::FromStr;
use std::sync::Arc;

/// The most resources of one page; also the number where none is asked for.
pub const LIST_MAX: usize = 1_000;

/// The longest `$filter`, in bytes.
const FILTER_BYTES_MAX: usize = 4 * 1024;

/// The longest continuation token, in bytes.
const TOKEN_BYTES_MAX: usize = 4 * 1024;

/// What is listed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Scope {
    /// Every subscription.
    Subscriptions,
    /// The resource groups of a subscription.
    Groups(ResourceId),
    /// The resources below a subscription, a group or a resource.
    Resources(ResourceId),
    /// Those of one type.
    Type(ResourceId, ResourceType),
}

/// Which of them: `tagName eq 'n'`, `tagValue eq 'v'` and `resourceType eq 't'`, joined with
/// `and`. See the `$filter` parameter of "Resources - List".
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    tag_name: Option<String>,
    tag_value: Option<String>,
    resource_type: Option<ResourceType>,
}

/// What is listed, which of it, and from where on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListQuery {
    /// What is listed.
    pub scope: Scope,
    /// Which of it.
    pub filter: Filter,
    /// The most resources of the page; [`LIST_MAX`] if none is given, and at most that.
    pub top: Option<usize>,
    /// The token of the page before.
    pub token: Option<String>,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// In order of their paths.
    pub items: Vec<Arc<TrackedResource>>,
    /// The token of the next page, if there is more.
    pub next: Option<String>,
}

impl FromStr for Filter {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        if text.len() > FILTER_BYTES_MAX {
            let (bytes, limit) = (text.len(), FILTER_BYTES_MAX);
            return Err(ResourceError::TooLarge { what: "$filter", bytes, limit });
        }
        let mut words = Words { text, at: 0 };
        let mut found: [Option<String>; 3] = Default::default();
        while !words.is_done() {
            if found.iter().any(Option::is_some) {
                words.keyword("and", "a connective other than `and` in $filter")?;
            }
            let (at, property) = words.next()?;
            words.keyword("eq", "an operator other than `eq` in $filter")?;
            let value = words.literal()?;
            let slot = match property.to_ascii_lowercase().as_str() {
                "tagname" => &mut found[0],
                "tagvalue" => &mut found[1],
                "resourcetype" => &mut found[2],
                _ => return Err(words.refuse("this property in $filter", at)),
            };
            if slot.replace(value).is_some() {
                return Err(words.refuse("a property twice in $filter", at));
            }
        }
        let [tag_name, tag_value, resource_type] = found;
        if tag_value.is_some() && tag_name.is_none() {
            let what = "tagValue without tagName in $filter";
            return Err(ResourceError::Unsupported { what, at: "1".to_owned() });
        }
        let resource_type = resource_type.map(|text| text.parse()).transpose()?;
        Ok(Self { tag_name, tag_value, resource_type })
    }
}

impl Filter {
    fn admits(&self, resource: &TrackedResource) -> bool {
        let has_tag = match (&self.tag_name, &self.tag_value) {
            (Some(name), Some(value)) => resource.tags.get(name) == Some(value),
            (Some(name), None) => resource.tags.get(name).is_some(),
            (None, _) => true,
        };
        has_tag && self.resource_type.as_ref().is_none_or(|of| resource.resource_type == *of)
    }
}

/// The words of a filter. Positions are 1-based and count bytes.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn refuse(&self, what: &'static str, at: usize) -> ResourceError {
        let found: String = self.text.get(at..).unwrap_or_default().chars().take(40).collect();
        ResourceError::Unsupported { what, at: format!("{}: {found}", at + 1) }
    }

    fn skip_spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn is_done(&mut self) -> bool {
        self.skip_spaces();
        self.at == self.text.len()
    }

    fn next(&mut self) -> Result<(usize, &'a str), ResourceError> {
        self.skip_spaces();
        let (at, rest) = (self.at, &self.text[self.at..]);
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.refuse("this form of $filter", at));
        }
        self.at += length;
        Ok((at, &rest[..length]))
    }

    fn keyword(&mut self, word: &str, what: &'static str) -> Result<(), ResourceError> {
        let (at, found) = self.next()?;
        match found.eq_ignore_ascii_case(word) {
            true => Ok(()),
            false => Err(self.refuse(what, at)),
        }
    }

    /// `'text'`, in which `''` is one quotation mark.
    fn literal(&mut self) -> Result<String, ResourceError> {
        self.skip_spaces();
        let at = self.at;
        let mut value = String::new();
        let mut chars = self.text[at..].char_indices().peekable();
        if chars.next().map(|(_, c)| c) != Some('\'') {
            return Err(self.refuse("a value that is not quoted in $filter", at));
        }
        while let Some((index, c)) = chars.next() {
            match c {
                '\'' if chars.peek().map(|(_, c)| *c) == Some('\'') => {
                    chars.next();
                    value.push('\'');
                }
                '\'' => {
                    self.at = at + index + 1;
                    return Ok(value);
                }
                _ => value.push(c),
            }
        }
        Err(self.refuse("a value without its end in $filter", at))
    }
}

/// Where a list goes on. Its text is opaque to clients.
#[derive(Serialize, Deserialize)]
struct Token {
    /// Of which list: a token does not fit another one.
    list: String,
    after: String,
}

impl ListQuery {
    /// A whole list, from its beginning.
    #[must_use]
    pub fn all(scope: Scope) -> Self {
        Self { scope, filter: Filter::default(), top: None, token: None }
    }

    fn name(&self) -> String {
        let text = format!("{:?} {:?}", self.scope, self.filter).to_ascii_lowercase();
        URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..12])
    }

    fn after(&self) -> Result<Option<String>, ResourceError> {
        let Some(token) = &self.token else { return Ok(None) };
        if token.len() > TOKEN_BYTES_MAX {
            return Err(ResourceError::Token);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_bad| ResourceError::Token)?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_bad| ResourceError::Token)?;
        match token.list == self.name() {
            true => Ok(Some(token.after)),
            false => Err(ResourceError::Token),
        }
    }

    pub(super) fn run(&self, index: &Index) -> Result<Page, ResourceError> {
        let after = self.after()?;
        let top = self.top.unwrap_or(LIST_MAX).min(LIST_MAX);
        if top == 0 {
            let what = "$top of 0";
            return Err(ResourceError::Unsupported { what, at: "$top".to_owned() });
        }
        let root = ResourceId::root();
        let scope = match &self.scope {
            Scope::Subscriptions => &root,
            Scope::Groups(scope) | Scope::Resources(scope) | Scope::Type(scope, _) => scope,
        };
        let is_meant = |resource: &TrackedResource| {
            let of = resource.resource_type.as_str();
            let is_group = of == "Microsoft.Resources/subscriptions/resourceGroups";
            let is_subscription = of == "Microsoft.Resources/subscriptions";
            match &self.scope {
                Scope::Subscriptions => is_subscription,
                Scope::Groups(_) => is_group,
                Scope::Resources(_) => !is_group && !is_subscription,
                Scope::Type(_, of) => resource.resource_type == *of,
            }
        };
        let mut page = Page::default();
        let mut last = String::new();
        for (key, resource) in index.below(&scope.canonical(), after.as_deref()) {
            if !is_meant(resource) || !self.filter.admits(resource) {
                continue;
            }
            if page.items.len() == top {
                let token = Token { list: self.name(), after: last };
                let json = serde_json::to_vec(&token).map_err(|_never| ResourceError::Token)?;
                page.next = Some(URL_SAFE_NO_PAD.encode(json));
                break;
            }
            page.items.push(Arc::clone(resource));
            key.clone_into(&mut last);
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(text: &str) -> Result<Filter, String> {
        text.parse::<Filter>().map_err(|error| error.to_string())
    }

    #[test]
    fn filters_are_read_and_the_rest_is_refused_by_name_and_place() {
        let read = filter("tagname EQ 'a''b' and TagValue eq ' v ' and resourceType eq 'A.B/c'");
        let read = read.expect("a filter");
        assert_eq!(read.tag_name.as_deref(), Some("a'b"));
        assert_eq!(read.tag_value.as_deref(), Some(" v "));
        assert_eq!(read.resource_type, Some("a.b/C".parse().expect("a type")));
        assert_eq!(filter(" "), Ok(Filter::default()));
        for (text, expect) in [
            ("location eq 'x'", "not supported: this property in $filter. at=`1: location eq 'x'`"),
            (
                "tagName ne 'x'",
                "not supported: an operator other than `eq` in $filter. at=`9: ne 'x'`",
            ),
            (
                "tagName eq 'x' or tagName eq 'y'",
                "not supported: a connective other than `and` in $filter. at=`16: or tagName eq 'y'`",
            ),
            ("tagName eq x", "not supported: a value that is not quoted in $filter. at=`12: x`"),
            ("tagName eq 'x", "not supported: a value without its end in $filter. at=`12: 'x`"),
            ("(tagName eq 'x')", "not supported: this form of $filter. at=`1: (tagName eq 'x')`"),
            ("tagValue eq 'x'", "not supported: tagValue without tagName in $filter. at=`1`"),
            (
                "tagName eq 'x' and tagName eq 'y'",
                "not supported: a property twice in $filter. at=`20: tagName eq 'y'`",
            ),
        ] {
            assert_eq!(filter(text), Err(expect.to_owned()), "{text}");
        }
        assert!(filter(&" ".repeat(FILTER_BYTES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_filter_is_read_or_refused(text in "(tagName|eq|and|'|x|é| ){0,20}") {
            let _ = filter(&text);
        }

        #[test]
        fn a_value_comes_back_as_it_was(value in "\\PC{0,30}") {
            let text = format!("tagName eq '{}'", value.replace('\'', "''"));
            prop_assert_eq!(filter(&text).expect("a filter").tag_name, Some(value));
        }

        #[test]
        fn any_token_is_refused_that_was_not_given_out(token in "\\PC{0,60}") {
            let query = ListQuery { token: Some(token), ..ListQuery::all(Scope::Subscriptions) };
            prop_assert!(query.run(&Index::default()).is_err());
        }
    }
}
