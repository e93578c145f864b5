//! Manifests of DSC version 3: which program serves an operation of a resource, and how it is told.

mod place;

mod version;

use crate::Error;
use place::{Folder, Links};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use version::Version;

/// How a manifest's file ends.
const ENDING: &str = ".dsc.resource.json";

/// The largest manifest, in bytes.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The most manifests that are looked through.
const MANIFESTS_MAX: usize = 10_000;

/// What an error calls it.
const WHAT: &str = "manifest of a resource";

/// A resource, as its author describes it. What stands in it besides is for other programs.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "version")]
    version: Version,
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
#[derive(Clone, Debug, Eq, PartialEq, Deserialize)]
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
    /// Reads a manifest, which may begin with a mark of its byte order.
    ///
    /// # Errors
    /// Says what is wrong, with line and column.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }

    /// Which of two is the newer, of one type.
    pub(super) fn age(&self, other: &Self) -> Ordering {
        self.version.cmp(&other.version)
    }

    /// The manifest of a type, compared without regard to case: the newest, and of several alike the one
    /// in the first folder.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, with those that are not read: others can change them, they are
    /// reached by a link, or they are no manifests; [`Error::Unsupported`] for what is no resource by itself.
    pub(super) fn find(folders: &[PathBuf], kind: &str) -> Result<Self, Error> {
        let mut best: Option<Self> = None;
        let mut unread = Vec::new();
        let mut count = 0;
        for path in folders {
            let read = std::path::absolute(path).map_err(|error| error.to_string());
            let read = read.and_then(|path| Self::all_in(&path, &mut count));
            for manifest in read.unwrap_or_else(|reason| vec![Err(reason)]) {
                match manifest {
                    Ok(found) if found.kind.eq_ignore_ascii_case(kind) => {
                        if best.as_ref().is_none_or(|best| found.age(best).is_gt()) {
                            best = Some(found);
                        }
                    }
                    Ok(_) => {}
                    Err(reason) => unread.push(reason),
                }
            }
            if count > MANIFESTS_MAX {
                let (actual, limit) = (count, MANIFESTS_MAX);
                return Err(Error::TooLarge { what: "number of manifests", actual, limit });
            }
        }
        let Some(manifest) = best else {
            unread.truncate(3);
            let unread = match unread.is_empty() {
                true => String::new(),
                false => {
                    format!(", of those that are read; not where {}", unread.join(", nor where "))
                }
            };
            return Err(Error::NotFound { what: WHAT, name: kind.to_owned() + &unread });
        };
        if let Some(role) =
            manifest.role.as_ref().filter(|role| !role.eq_ignore_ascii_case("resource"))
        {
            let name = format!("{role} {kind}");
            return Err(Error::Unsupported { what: "kind of resource", name });
        }
        Ok(manifest)
    }

    /// The manifests of a folder in the order of their names, each with why it cannot be read. A folder that
    /// is not there has none.
    fn all_in(path: &Path, count: &mut usize) -> Result<Vec<Result<Self, String>>, String> {
        let Some(folder) = Folder::open(path)? else { return Ok(Vec::new()) };
        let mut names = folder.names()?;
        names.retain(|name| name.to_str().is_some_and(|name| name.ends_with(ENDING)));
        *count += names.len();
        names.truncate(MANIFESTS_MAX);
        let read = |name: &OsString| Self::read(&folder, path, name);
        Ok(names.iter().map(read).collect())
    }

    fn read(folder: &Folder, path: &Path, name: &OsStr) -> Result<Self, String> {
        let bytes = folder.read(name, MANIFEST_BYTES_MAX)?;
        let read = Self::parse(&bytes);
        let read = read.map_err(|error| format!("{} has {error}", path.join(name).display()));
        read.map(|manifest| Self { folder: path.to_owned(), ..manifest })
    }

    /// The program of an operation: beside the manifest, or else where programs are. One beside the manifest
    /// is reached by no link; one of the system may be.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Invalid`] if others can change it, or what leads to it.
    pub(super) fn program(&self, executable: &str) -> Result<PathBuf, Error> {
        let refuse = |reason| Error::Invalid { what: WHAT, reason };
        if executable.contains('\0') {
            return Err(refuse("its program has a zero in its name".to_owned()));
        }
        let beside = self.folder.join(executable);
        let is_absolute = Path::new(executable).is_absolute();
        let links = if is_absolute { Links::Followed } else { Links::Refused };
        if place::has_file(&beside, links).map_err(refuse)? {
            return Ok(beside);
        }
        let found = super::command::find(&[executable]).filter(|_| !executable.contains('/'));
        let not_found = || Error::NotFound { what: "program", name: executable.to_owned() };
        let found = found.ok_or_else(not_found)?;
        match place::has_file(&found, Links::Followed).map_err(refuse)? {
            true => Ok(found),
            false => Err(not_found()),
        }
    }
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    String::deserialize(deserializer).map(|text| Version::parse(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

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

    fn operation() -> impl Strategy<Value = (Operation, Value)> {
        let argument = prop_oneof![
            ".{0,4}".prop_map(|text| (Argument::Text(text.clone()), json!(text))),
            (".{0,4}", any::<bool>()).prop_map(|(name, is_mandatory)| {
                let written = json!({"jsonInputArg": name, "mandatory": is_mandatory});
                (Argument::Properties { name, is_mandatory }, written)
            }),
            ".{0,4}".prop_map(|name| {
                (Argument::Type { name: name.clone() }, json!({"resourceTypeArg": name}))
            }),
        ];
        let input = prop_oneof![
            Just((None, Value::Null)),
            Just((Some(Input::Stdin), json!("stdin"))),
            Just((Some(Input::Env), json!("env"))),
        ];
        let returned = prop_oneof![
            Just((None, Value::Null)),
            Just((Some(Returned::State), json!("state"))),
            Just((Some(Returned::StateAndDiff), json!("stateAndDiff"))),
        ];
        let arguments = proptest::collection::vec(argument, 0..4);
        (".{0,4}", arguments, input, any::<bool>(), returned).prop_map(
            |(executable, arguments, input, handles_exist, returned)| {
                let (arguments, args): (Vec<_>, Vec<_>) = arguments.into_iter().unzip();
                let written = json!({
                    "executable": executable, "args": args, "input": input.1,
                    "handlesExist": handles_exist, "return": returned.1, "more": [1],
                });
                let (input, returned) = (input.0, returned.0);
                (Operation { executable, arguments, input, handles_exist, returned }, written)
            },
        )
    }

    proptest! {
        /// What a manifest says is what is read of it, whatever else stands in it.
        #[test]
        fn a_manifest_says_what_is_read_of_it(
            kind in ".{0,8}",
            version in "[0-9a.+-]{0,8}",
            operations in proptest::collection::vec(proptest::option::of(operation()), 4),
            meaning in ".{0,8}",
        ) {
            let written = |index: usize| operations[index].as_ref().map(|(_, written)| written);
            let text = json!({
                "$schema": "https://example.org", "type": kind, "version": version,
                "get": written(0), "set": written(1), "test": written(2), "delete": written(3),
                "exitCodes": {"3": meaning}, "more": {"get": 1},
            });
            let of = |index: usize| operations[index].as_ref().map(|(operation, _)| operation.clone());
            let expect = Manifest {
                kind, version: Version::parse(&version), role: None,
                get: of(0), set: of(1), test: of(2), delete: of(3),
                exit_codes: BTreeMap::from([("3".to_owned(), meaning)]), folder: PathBuf::new(),
            };
            let text = text.to_string();
            prop_assert_eq!(Manifest::parse(text.as_bytes()), Ok(expect.clone()));
            let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
            prop_assert_eq!(Manifest::parse(&marked), Ok(expect));
        }

        /// Bad input is an error, with where it stands.
        #[test]
        fn any_bytes_are_a_manifest_or_an_error(
            text in r#"[{}"a-z:,\[\]0-9\\ \n]{0,40}"#,
            cut in 0_usize..200,
        ) {
            if let Err(error) = Manifest::parse(text.as_bytes()) {
                prop_assert!(error.contains(" at line "), "{}", error);
            }
            let whole = r#"{"type":"A/B","version":"1.0.0","get":{"executable":"x","args":["y"]}}"#;
            if let Some(part) = whole.get(..cut).filter(|part| part.len() < whole.len()) {
                let error = Manifest::parse(part.as_bytes()).expect_err("cut off");
                prop_assert!(error.contains(" at line 1 column "), "{}", error);
            }
        }
    }
}
