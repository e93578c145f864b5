//! What an instance asks for, read from its properties.

use super::super::accounts::Names;
use super::super::property::{Ensure, Properties};
use super::super::tree::{Attributes, Root};
use crate::Error;
use crate::configuration::ResourceInstance;
use rustix::fs::FileType;
use std::path::PathBuf;

const KNOWN: [&str; 14] = [
    "DestinationPath",
    "SourcePath",
    "Ensure",
    "Type",
    "Contents",
    "Checksum",
    "Recurse",
    "Force",
    "Links",
    "Mode",
    "Owner",
    "Group",
    "MatchSource",
    "ModifiedDate",
];

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

/// Where contents come from, or a link leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    /// The contents are not for the resource to say.
    Nothing,
    /// `Contents`, written as UTF-8 without a byte order mark.
    Contents(String),
    /// `SourcePath`
    Path(PathBuf),
}

/// How a file that is there is compared with its source (`Checksum`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compares {
    /// By its name alone.
    Name,
    /// By its contents, which find whatever a digest would find.
    Contents,
    /// By the time of its last modification, which the copy takes over.
    Modified,
    /// By whether it was changed later than its source.
    Changed,
}

/// What becomes of symbolic links in a source (`Links`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Links {
    /// What they lead to is copied.
    Follow,
    /// They are copied as links.
    Manage,
    /// They are left out.
    Ignore,
}

/// What should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Desired {
    pub(super) path: PathBuf,
    pub(super) ensure: Ensure,
    pub(super) kind: Kind,
    pub(super) source: Source,
    pub(super) compares: Compares,
    pub(super) links: Links,
    /// Whether directories are meant with all that is in them.
    pub(super) recurse: bool,
    pub(super) force: bool,
    pub(super) attributes: Attributes,
}

impl Desired {
    /// Reads an instance; names of users and groups are those of the system at `root`.
    pub(super) fn of(instance: &ResourceInstance, root: &Root) -> Result<Self, Error> {
        let read = Properties::new(instance, "File resource", &KNOWN)?;
        let path = read.needed_path("DestinationPath")?;
        let ensure = read.ensure()?;
        let kind = match read.word("Type")?.as_deref() {
            None | Some("file") => Kind::File,
            Some("directory") => Kind::Directory,
            Some("link" | "symboliclink") => Kind::Link,
            Some(other) => return Err(read.invalid("Type", other)),
        };
        // A wish for a time that lies in the past can be read, and is not to be granted.
        if read.filled("ModifiedDate")?.is_some() {
            return Err(read.unsupported("ModifiedDate, which is only read,"));
        }
        // Files that appear in the source are always looked for: a copy that was interrupted could
        // not be told from a whole one otherwise.
        read.flag("MatchSource")?;
        Ok(Self {
            path,
            ensure,
            kind,
            source: source(&read, kind)?,
            compares: compares(&read, instance)?,
            links: match read.word("Links")?.as_deref() {
                None | Some("follow") => Links::Follow,
                Some("manage") => Links::Manage,
                Some("ignore") => Links::Ignore,
                Some(other) => return Err(read.invalid("Links", other)),
            },
            recurse: read.flag("Recurse")?.unwrap_or(false),
            force: read.flag("Force")?.unwrap_or(false),
            attributes: attributes(&read, root, ensure)?,
        })
    }

    /// How what is at or below the destination should be.
    pub(super) fn attributes_of(&self, file_type: FileType) -> Attributes {
        let mut attributes = self.attributes;
        attributes.mode = match file_type {
            // Whoever may read a directory's files has to be able to enter it.
            FileType::Directory if self.recurse => {
                attributes.mode.map(|mode| mode | (mode & 0o444) >> 2)
            }
            FileType::RegularFile | FileType::Directory => attributes.mode,
            // The mode of a link says nothing, and those of sockets and devices are their programs'.
            _ => None,
        };
        attributes
    }
}

fn source(read: &Properties<'_>, kind: Kind) -> Result<Source, Error> {
    let contents = read.text("Contents")?;
    let path = read.path("SourcePath")?;
    match (kind, contents, path) {
        // Compilers write both, one of them empty.
        (Kind::File, Some(contents), Some(_)) if !contents.is_empty() => {
            Err(read.invalid("Contents", "given together with SourcePath"))
        }
        (Kind::File, Some(contents), None) => Ok(Source::Contents(contents.to_owned())),
        (Kind::Directory | Kind::Link, Some(text), _) if !text.is_empty() => {
            Err(read.invalid("Contents", &format!("given for a {}", kind.name())))
        }
        (_, _, Some(path)) => Ok(Source::Path(path)),
        (Kind::Link, _, None) => Err(read.invalid("SourcePath", "missing for a link")),
        (Kind::File | Kind::Directory, _, None) => Ok(Source::Nothing),
    }
}

/// `nxFile` compares contents unless told otherwise; Windows only when told to.
fn compares(read: &Properties<'_>, instance: &ResourceInstance) -> Result<Compares, Error> {
    let is_nx = instance.class.to_ascii_lowercase().contains("nxfile");
    match read.word("Checksum")?.as_deref() {
        None => Ok(if is_nx { Compares::Contents } else { Compares::Name }),
        Some("none") => Ok(Compares::Name),
        Some("sha-1" | "sha-256" | "sha-512" | "md5") => Ok(Compares::Contents),
        Some("mtime" | "modifieddate") => Ok(Compares::Modified),
        Some("ctime" | "createddate") => Ok(Compares::Changed),
        Some(other) => Err(read.unsupported(&format!("Checksum `{other}`"))),
    }
}

fn attributes(read: &Properties<'_>, root: &Root, ensure: Ensure) -> Result<Attributes, Error> {
    let mode = read.filled("Mode")?.map(|text| mode(read, text)).transpose()?;
    let (user, group) = (read.filled("Owner")?, read.filled("Group")?);
    // Who is no more needs not be known for what is to go.
    if ensure == Ensure::Absent || user.is_none() && group.is_none() {
        return Ok(Attributes { mode, ..Attributes::default() });
    }
    let names = Names::read(root)?;
    let user = user.map(|name| names.user(name)).transpose()?;
    let group = group.map(|name| names.group(name)).transpose()?;
    Ok(Attributes { mode, user, group, modified_at: None })
}

/// Octal digits, with or without leading zeros, or nine letters as `ls` shows them.
fn mode(read: &Properties<'_>, text: &str) -> Result<u32, Error> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        return mode.ok_or_else(|| read.invalid("Mode", text));
    }
    letters(text).ok_or_else(|| read.unsupported(&format!("Mode `{text}`")))
}

/// `rwxr-xr-x`, with `s`, `S`, `t` and `T` where they may stand.
fn letters(text: &str) -> Option<u32> {
    let letters = <[u8; 9]>::try_from(text.as_bytes()).ok()?;
    let mut mode = 0;
    for (index, letter) in letters.into_iter().enumerate() {
        let bit = 0o400 >> index;
        let special = [0o4000, 0o2000, 0o1000][index / 3];
        let special_letters = if index < 6 { (b's', b'S') } else { (b't', b'T') };
        mode |= match (letter, index % 3) {
            (b'-', _) => 0,
            (b'r', 0) | (b'w', 1) | (b'x', 2) => bit,
            (letter, 2) if letter == special_letters.0 => bit | special,
            (letter, 2) if letter == special_letters.1 => special,
            _ => return None,
        };
    }
    Some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_as_letters() {
        let check = |text: &str, expect: Option<u32>| assert_eq!(letters(text), expect, "{text}");
        check("rwxr-xr-x", Some(0o755));
        check("rw-r-----", Some(0o640));
        check("rwsr-Sr-t", Some(0o7745));
        check("---------", Some(0));
        check("rwxrwxrwT", Some(0o1776));
        for wrong in ["", "rwx", "rwxrwxrwxx", "rrrrrrrrr", "rwtrwxrwx", "rwxrwxrws", "u=rw,g=r,"] {
            check(wrong, None);
        }
    }
}
