use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// In which language a runbook is written, and so which interpreter runs it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum RunbookKind {
    /// `Python3`: run by `python3`.
    Python3,
    /// `Bash`: run by `bash`, as on hybrid workers.
    Bash,
}

impl RunbookKind {
    /// Every kind that this version runs.
    pub const ALL: [Self; 2] = [Self::Python3, Self::Bash];

    /// Azure Automation's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Python3 => "Python3",
            Self::Bash => "Bash",
        }
    }
}

impl fmt::Display for RunbookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RunbookKind {
    type Err = Error;

    /// Reads Azure Automation's spelling, without regard to case. Kinds that exist there and not
    /// here (`PowerShell`, `Graph`, `Python2` and so on) are [`Error::KindUnsupported`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| Error::KindUnsupported { kind: text.chars().take(100).collect() })
    }
}

impl TryFrom<String> for RunbookKind {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<RunbookKind> for String {
    fn from(kind: RunbookKind) -> Self {
        kind.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_are_not_run_are_refused_by_name() {
        assert_eq!("python3".parse::<RunbookKind>().expect("a kind"), RunbookKind::Python3);
        for kind in [
            "Script",
            "Graph",
            "PowerShell",
            "PowerShellWorkflow",
            "GraphPowerShell",
            "GraphPowerShellWorkflow",
            "Python2",
            "Python",
            "PowerShell72",
            "",
        ] {
            let error = kind.parse::<RunbookKind>().expect_err("not run here");
            assert_eq!(error.kind(), oms_core::ErrorKind::Unsupported);
            assert!(error.to_string().contains(&format!("kind=`{kind}`")), "{error}");
        }
    }
}
