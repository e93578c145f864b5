//! Manifests of DSC version 3: which program serves an operation of a resource, and how it is told.

use crate::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How a manifest's file ends.
const ENDING: &str = ".dsc.resource.json";

/// The largest manifest, in bytes.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The most manifests that are looked through.
const MANIFESTS_MAX: usize = 10_000;

/// A resource, as its author describes it. What stands in it besides is for other programs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    version: String,
    /// What it is; without it a resource. The other kinds run other resources.
    #[serde(rename = "kind", default)]
    role: Option<String>,
    pub(super) get: Option<Operation>,
    pub(super) set: Option<Operation>,
    pub(super) test: Option<Operation>,
    pub(super) delete: Option<Operation>,
    /// What an exit code means.
    #[serde(default)]
    pub(super) exit_codes: BTreeMap<String, String>,
    /// Where the manifest lies.
    #[serde(skip)]
    pub(super) folder: PathBuf,
}

/// A program for one operation.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) executable: String,
    #[serde(rename = "args", default)]
    pub(super) arguments: Vec<Argument>,
    #[serde(default)]
    pub(super) input: Option<Input>,
    /// Whether a set also takes away what should not be there.
    #[serde(default)]
    pub(super) handles_exist: bool,
    #[serde(rename = "return", default)]
    pub(super) returned: Option<Returned>,
}

/// How a program gets the properties, if not by an argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Input {
    Stdin,
    Env,
}

/// What a program prints.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Returned {
    State,
    StateAndDiff,
}

/// One argument of a program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Argument {
    Text(String),
    /// The properties as JSON behind an argument of that name.
    Properties {
        name: String,
        is_mandatory: bool,
    },
    /// The type behind an argument of that name.
    Type {
        name: String,
    },
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = Value::deserialize(deserializer)?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        if let Value::String(text) = &value {
            Ok(Self::Text(text.clone()))
        } else if let Some(name) = text("jsonInputArg") {
            let is_mandatory = value.get("mandatory").and_then(Value::as_bool).unwrap_or(false);
            Ok(Self::Properties { name, is_mandatory })
        } else if let Some(name) = text("resourceTypeArg") {
            Ok(Self::Type { name })
        } else {
            Err(D::Error::custom(format!("the argument {value} is not supported")))
        }
    }
}

impl Manifest {
    /// The manifest of a type, compared without regard to case: the newest, and of several alike the one
    /// in the first folder.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, with those that cannot be read; [`Error::Invalid`] if others
    /// can write it; [`Error::Unsupported`] for what is no resource by itself.
    pub(super) fn find(folders: &[PathBuf], kind: &str) -> Result<Self, Error> {
        let mut best: Option<(PathBuf, Self)> = None;
        let mut unread = Vec::new();
        for path in paths(folders)? {
            match Self::read(&path) {
                Ok(found) if found.kind.eq_ignore_ascii_case(kind) => {
                    let is_newer = best
                        .as_ref()
                        .is_none_or(|(_, best)| version(&found.version) > version(&best.version));
                    if is_newer {
                        best = Some((path, found));
                    }
                }
                Ok(_) => {}
                Err(reason) => unread.push(format!("{}: {reason}", path.display())),
            }
        }
        let Some((path, mut manifest)) = best else {
            unread.truncate(3);
            let unread = match unread.is_empty() {
                true => String::new(),
                false => format!(", of those that can be read; not {}", unread.join(", nor ")),
            };
            return Err(Error::NotFound {
                what: "manifest of a resource",
                name: kind.to_owned() + &unread,
            });
        };
        if let Some(role) =
            manifest.role.as_ref().filter(|role| !role.eq_ignore_ascii_case("resource"))
        {
            let name = format!("{role} {kind}");
            return Err(Error::Unsupported { what: "kind of resource", name });
        }
        manifest.folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        for place in [&path, &manifest.folder] {
            refuse_writable(place)?;
        }
        Ok(manifest)
    }

    fn read(path: &Path) -> Result<Self, String> {
        let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
        if !metadata.is_file() || metadata.len() > MANIFEST_BYTES_MAX {
            return Err(format!("no file of at most {MANIFEST_BYTES_MAX} bytes"));
        }
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }

    /// The program of an operation: beside the manifest, or else where programs are.
    ///
    /// # Errors
    /// [`Error::Invalid`] if others can write one beside the manifest.
    pub(super) fn program(&self, executable: &str) -> Result<PathBuf, Error> {
        let beside = self.folder.join(executable);
        if beside.is_file() {
            refuse_writable(&beside)?;
            return Ok(beside);
        }
        let found = super::command::find(&[executable]).filter(|_| !executable.contains('/'));
        found.ok_or_else(|| Error::NotFound { what: "program", name: executable.to_owned() })
    }
}

/// The manifests of some folders, each folder's in the order of their names. A folder that is not there
/// has none.
fn paths(folders: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let is_manifest = |path: &PathBuf| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.ends_with(ENDING))
        };
        let mut found: Vec<PathBuf> =
            entries.filter_map(Result::ok).map(|entry| entry.path()).filter(is_manifest).collect();
        found.sort();
        paths.append(&mut found);
        if paths.len() > MANIFESTS_MAX {
            let (actual, limit) = (paths.len(), MANIFESTS_MAX);
            return Err(Error::TooLarge { what: "number of manifests", actual, limit });
        }
    }
    Ok(paths)
}

/// Refuses a place in which somebody else than root and this process' user can write.
fn refuse_writable(path: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { operation: "look at", path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(io)?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.mode() & 0o022 == 0 && [0, own].contains(&metadata.uid()) {
        return Ok(());
    }
    let reason = format!("others can write {}, which says what this node runs", path.display());
    Err(Error::Invalid { what: "manifest of a resource", reason })
}

/// The dotted numbers of a version; what is no number counts as 0, and a version behind which a
/// preliminary one is named as that version.
fn version(text: &str) -> Vec<u64> {
    let plain = text.split(['-', '+']).next().unwrap_or_default();
    plain.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_by_what_they_carry() {
        let check = |json: &str| serde_json::from_str::<Argument>(json).map_err(|e| e.to_string());
        assert_eq!(check("\"-x\""), Ok(Argument::Text("-x".into())));
        let properties =
            |is_mandatory| Argument::Properties { name: "--input".into(), is_mandatory };
        assert_eq!(check(r#"{"jsonInputArg": "--input"}"#), Ok(properties(false)));
        assert_eq!(
            check(r#"{"jsonInputArg": "--input", "mandatory": true}"#),
            Ok(properties(true))
        );
        let kind = Argument::Type { name: "--type".into() };
        assert_eq!(check(r#"{"resourceTypeArg": "--type"}"#), Ok(kind));
        for bad in ["1", "null", r#"{"other": "x"}"#] {
            let error = check(bad).expect_err(bad);
            assert!(error.contains("is not supported"), "{error}");
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("1.10.0") > version("1.9.9") && version("2") > version("1.9"));
        assert_eq!(version("1.2.3-rc.1"), version("1.2.3"));
        assert_eq!(version("x.1"), [0, 1]);
    }
}
