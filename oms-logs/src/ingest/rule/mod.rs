//! Data collection rules: which streams of records a workspace takes, and what it makes of them.
//!
//! ```text
//!  records of a stream (JSON) ──► declared columns ──► transformKql ──► columns of the table
//!    fields that are not declared     rows that it filters   refused by name if they do
//!    are left out and counted         away are counted       not fit, all or nothing
//! ```
//!
//! A rule is the document that Azure Resource Manager has for it, `Microsoft.Insights/
//! dataCollectionRules`: its `streamDeclarations`, `destinations` and `dataFlows` are what counts
//! here. `dataSources` are kept and not acted upon: agents read them. Members that are not known are
//! kept as they are.
//!
//! # What a value becomes
//! | declared | taken |
//! |---|---|
//! | `string` | text; numbers, flags, arrays and objects as JSON |
//! | `int`, `long` | whole numbers in range, also as text |
//! | `real` | numbers, also as text |
//! | `boolean` | flags; `true` and `false` as text; 0 and 1 |
//! | `datetime` | text that `todatetime()` takes |
//! | `dynamic` | anything |
//!
//! Another value is null in its row, and text beyond [`TEXT_BYTES_MAX`] is cut; `Operation` tells of
//! both, as of fields that are left out. A row whose `TimeGenerated` is null gets the time at which
//! it was received. Empty text that leaves a transformation is null.
//!
//! # Where it differs from the service
//! - Every `logAnalytics` destination of a rule is this workspace; a flow to two of them is refused.
//! - Custom tables are made by the rows that come, so that a rule may name one that is not there yet.
//! - `parse_cef_dictionary` and `geo_location` are not supported, and are refused by name.
//! - `TimeGenerated` is not replaced if it is old.

mod compile;

mod convert;

mod document;

mod output;

mod store;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use compile::{Flow, Program};
pub(crate) use convert::{Converted, convert};
pub(crate) use output::{Made, table_rows};
pub(crate) use store::RuleStore;

use serde_json::Value;
use std::fmt;

/// The most rules of one workspace.
pub const RULES_MAX: usize = 1_000;

/// The most bytes of one rule's document.
pub const RULE_BYTES_MAX: usize = 256 << 10;

/// The longest name of a rule, in characters.
pub const RULE_NAME_CHARS_MAX: usize = 64;

/// The most `dataFlows` of one rule.
pub const FLOWS_MAX: usize = 10;

/// The longest `transformKql`, in characters.
pub const TRANSFORM_CHARS_MAX: usize = 15_360;

/// The most bytes of one text of a stream; what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// How many problems of one rule are told.
pub const PROBLEMS_MAX: usize = 50;

/// One thing that is wrong with a data collection rule.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RuleProblem {
    /// Where in the document, such as `properties.dataFlows[0].transformKql`.
    pub place: String,
    /// What is wrong there, in lower case.
    pub reason: String,
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// What is wrong with a rule, in the order in which it was found; past [`PROBLEMS_MAX`] no more is
/// kept.
#[derive(Debug, Default)]
struct Problems(Vec<RuleProblem>);

impl Problems {
    fn add(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(RuleProblem { place: place.into(), reason: reason.into() });
        }
    }
}

/// A data collection rule of a workspace.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DataCollectionRule {
    /// Its name; letter case does not count.
    pub name: String,
    /// By which senders call it: `dcr-` and 32 hexadecimal digits, the same as long as the rule is
    /// there.
    pub immutable_id: String,
    /// The document, with the immutable id in its properties.
    pub document: Value,
}

/// Records of one stream of a rule.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "a caller fills it in")]
pub struct StreamBatch {
    /// Who sends, the same after a restart: 1 to 200 characters.
    pub producer: String,
    /// The producer's count of batches, from 1 and without gaps. A batch that was written already is
    /// accepted and not written again.
    pub sequence: u64,
    /// The rule's name or immutable id.
    pub rule: String,
    /// The stream, such as `Custom-Access`.
    pub stream: String,
    /// The records, each an object.
    pub records: Vec<Value>,
}

/// What became of a batch of a stream.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct StreamReport {
    /// Records that came.
    pub records: u64,
    /// Rows that were written, of all flows together.
    pub rows: u64,
    /// Rows that transformations filtered away.
    pub filtered: u64,
    /// What was left out or changed of records that were taken, with the count of records.
    pub changes: Vec<(String, u64)>,
    /// Whether the batch had been written before, so that nothing was done.
    pub is_repeat: bool,
}

/// Reads a rule's document as far as it goes without a workspace.
///
/// # Errors
/// [`Error::Rule`](crate::Error::Rule) with everything that is wrong.
pub fn check_document(name: &str, document: &Value) -> Result<(), crate::Error> {
    let declared = document::read(name, document);
    let checked = declared.and_then(|declared| {
        let initial = crate::schema::TableSchema::initial;
        Program::compile(&declared, initial, jiff::Timestamp::UNIX_EPOCH)
    });
    checked.map(drop).map_err(|problems| refused(name, problems))
}

fn refused(rule: &str, problems: Vec<RuleProblem>) -> crate::Error {
    let rule = rule.chars().take(RULE_NAME_CHARS_MAX).collect();
    crate::Error::Rule { rule, problems }
}
