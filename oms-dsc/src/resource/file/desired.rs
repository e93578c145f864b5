//! What an instance asks for, read from its properties.

use crate::Error;
use crate::configuration::{PropertyValue, ResourceInstance};
use rustix::fs::FileType;
use std::path::{Component, Path, PathBuf};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ensure {
    Present,
    Absent,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    File,
    Directory,
    Link,
}

impl Kind {
    pub(super) const fn file_type(self) -> FileType {
        match self {
            Self::File => FileType::RegularFile,
            Self::Directory => FileType::Directory,
            Self::Link => FileType::Symlink,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Link => "link",
        }
    }
}

/// Where a file's contents come from, or a link leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// The contents are not for the resource to say.
    Nothing,
    /// `Contents`, written as UTF-8 without a byte order mark.
    Contents(String),
    /// `SourcePath`; `compares` whether a file that is there is compared with it.
    Path { path: PathBuf, compares: bool },
}

/// What should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Desired {
    pub(super) path: PathBuf,
    pub(super) ensure: Ensure,
    pub(super) kind: Kind,
    pub(super) source: Source,
    pub(super) force: bool,
    pub(super) mode: Option<u32>,
}

impl Desired {
    pub(super) fn of(instance: &ResourceInstance) -> Result<Self, Error> {
        let read = Reader { instance };
        read.refuse_unknown()?;
        let path = read
            .text("DestinationPath")?
            .ok_or_else(|| read.invalid("DestinationPath", "missing"))?;
        let path = read.path("DestinationPath", path)?;
        let ensure = match read.word("Ensure")?.as_deref() {
            None | Some("present") => Ensure::Present,
            Some("absent") => Ensure::Absent,
            Some(other) => return Err(read.invalid("Ensure", other)),
        };
        let kind = match read.word("Type")?.as_deref() {
            None | Some("file") => Kind::File,
            Some("directory") => Kind::Directory,
            Some("link" | "symboliclink") => Kind::Link,
            Some(other) => return Err(read.invalid("Type", other)),
        };
        let source = read.source(kind)?;
        let mode = match read.text("Mode")?.filter(|mode| !mode.is_empty()) {
            None => None,
            Some(mode) => Some(read.mode(&mode)?),
        };
        let force = read.flag("Force")?.unwrap_or(false);
        Ok(Self { path, ensure, kind, source, force, mode })
    }
}

struct Reader<'a> {
    instance: &'a ResourceInstance,
}

impl Reader<'_> {
    fn invalid(&self, property: &str, value: &str) -> Error {
        let id = &self.instance.resource_id;
        Error::Invalid { what: "File resource", reason: format!("{id} has {property}: {value}") }
    }

    fn unsupported(&self, property: &str) -> Error {
        let name = format!("{} of {}", property, self.instance.resource_id);
        Error::Unsupported { what: "property of a file", name }
    }

    /// A property that is not known, or known and set to something that is not there yet, would
    /// be left undone in silence.
    fn refuse_unknown(&self) -> Result<(), Error> {
        const KNOWN: [&str; 8] = [
            "DestinationPath",
            "SourcePath",
            "Ensure",
            "Type",
            "Contents",
            "Checksum",
            "Force",
            "Mode",
        ];
        for (name, value) in &self.instance.properties {
            let is_known = KNOWN.iter().any(|known| known.eq_ignore_ascii_case(name));
            let says_nothing = match value {
                PropertyValue::Null | PropertyValue::Boolean(false) => true,
                PropertyValue::Text(text) => text.is_empty() || text.eq_ignore_ascii_case("false"),
                PropertyValue::Array(values) => values.is_empty(),
                _ => false,
            };
            if !is_known && !says_nothing {
                return Err(self.unsupported(name));
            }
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.instance.property(name) {
            None => Ok(None),
            Some(PropertyValue::Text(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.invalid(name, other.describe())),
        }
    }

    /// A word of a fixed list in lower case; none if it is empty.
    fn word(&self, name: &str) -> Result<Option<String>, Error> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        Ok(text.map(|text| text.to_ascii_lowercase()))
    }

    /// A boolean, or one of the words that `nxFile` takes for it.
    fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.instance.property(name) {
            None => Ok(None),
            Some(PropertyValue::Boolean(flag)) => Ok(Some(*flag)),
            Some(PropertyValue::Text(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" => Ok(Some(true)),
                "false" | "no" | "" => Ok(Some(false)),
                other => Err(self.invalid(name, other)),
            },
            Some(other) => Err(self.invalid(name, other.describe())),
        }
    }

    /// An absolute path without `..`.
    fn path(&self, name: &str, text: String) -> Result<PathBuf, Error> {
        let path = PathBuf::from(text);
        let is_plain = |c| matches!(c, Component::RootDir | Component::Normal(_));
        let has_zero = path.as_os_str().as_encoded_bytes().contains(&0);
        if !path.is_absolute() || has_zero || !path.components().all(is_plain) {
            let shown = format!("`{}` is not an absolute path without `..`", path.display());
            return Err(self.invalid(name, &shown));
        }
        if path == Path::new("/") {
            return Err(self.invalid(name, "the root cannot be a file or be removed"));
        }
        Ok(path)
    }

    fn source(&self, kind: Kind) -> Result<Source, Error> {
        let contents = self.text("Contents")?;
        let path = self.text("SourcePath")?.filter(|path| !path.is_empty());
        let path = path.map(|path| self.path("SourcePath", path)).transpose()?;
        // `nxFile` compares contents unless told otherwise; Windows only when told to.
        let is_nx = self.instance.class.to_ascii_lowercase().contains("nxfile");
        let compares = match self.word("Checksum")?.as_deref() {
            None => is_nx,
            Some("none") => false,
            // A comparison of the contents themselves finds whatever a digest would find.
            Some("sha-1" | "sha-256" | "sha-512" | "md5") => true,
            Some(other) => return Err(self.unsupported(&format!("Checksum `{other}`"))),
        };
        match (kind, contents, path) {
            (Kind::File, Some(_), Some(_)) => {
                Err(self.invalid("Contents", "given together with SourcePath"))
            }
            (Kind::File, Some(contents), None) => Ok(Source::Contents(contents)),
            (Kind::File | Kind::Link, _, Some(path)) => Ok(Source::Path { path, compares }),
            (Kind::Link, _, None) => Err(self.invalid("SourcePath", "missing for a link")),
            (Kind::Directory, _, Some(_)) => Err(self.unsupported("SourcePath of a directory")),
            (Kind::Directory, Some(text), None) if !text.is_empty() => {
                Err(self.invalid("Contents", "given for a directory"))
            }
            (Kind::File | Kind::Directory, _, None) => Ok(Source::Nothing),
        }
    }

    /// Octal digits, with or without leading zeros.
    fn mode(&self, text: &str) -> Result<u32, Error> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.unsupported(&format!("Mode `{text}`")));
        }
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        mode.ok_or_else(|| self.invalid("Mode", text))
    }
}
