//! How an answer wants to be shown.

use super::syntax::ast::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The last `render` of a query. It changes no row.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Render {
    /// `timechart`, `barchart`, `table`, …
    pub visualization: String,
    /// Properties by name in lower case: `title`, `kind`, `xcolumn`, `series`, …; a list is
    /// separated by commas.
    pub properties: BTreeMap<String, String>,
}

impl Render {
    pub(super) fn new(visualization: &Name, properties: &[(Name, String)]) -> Self {
        Self {
            visualization: visualization.text.to_lowercase(),
            properties: properties
                .iter()
                .map(|(name, value)| (name.text.to_lowercase(), value.clone()))
                .collect(),
        }
    }
}
