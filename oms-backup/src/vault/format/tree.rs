//! Tree blobs: one folder each.

use super::{BlobId, FormatError, NodeName, base64_bytes, to_json};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One folder: its entries, sorted by the bytes of their names, each name once.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// The entries.
    pub nodes: Vec<Node>,
}

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A block device.
    Dev,
    /// A character device.
    CharDev,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Something that its writer could not tell, such as `irregular`.
    #[serde(other)]
    Unknown,
}

/// One entry of a folder.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: NodeKind,
    /// Permissions and type, as Go's `os.FileMode`; see [`mode_to_unix`].
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub mode: u32,
    /// When its content was changed last.
    #[serde(default)]
    pub mtime: Timestamp,
    /// When it was read last; as restic does by default, the modification time is written here.
    #[serde(default)]
    pub atime: Timestamp,
    /// When its metadata was changed last.
    #[serde(default)]
    pub ctime: Timestamp,
    /// Its owner.
    #[serde(default)]
    pub uid: u32,
    /// Its group.
    #[serde(default)]
    pub gid: u32,
    /// Its owner's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Its group's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its inode number.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub inode: u64,
    /// The device that holds the inode.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub device_id: u64,
    /// The bytes of a regular file.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub size: u64,
    /// How many names the inode has.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub links: u64,
    /// Where a symbolic link points; characters that are not UTF-8 are replaced.
    #[serde(default, rename = "linktarget", skip_serializing_if = "String::is_empty")]
    pub link_target: String,
    /// Where a symbolic link points, if that is not UTF-8.
    #[serde(
        default,
        rename = "linktarget_raw",
        with = "base64_bytes",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub link_target_raw: Vec<u8>,
    /// Its extended attributes, sorted by name.
    #[serde(default, deserialize_with = "null_as_empty", skip_serializing_if = "Vec::is_empty")]
    pub extended_attributes: Vec<ExtendedAttribute>,
    /// Which device a device file stands for, as `st_rdev`.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub device: u64,
    /// The pieces of a regular file, in order.
    #[serde(default)]
    pub content: Option<Vec<BlobId>>,
    /// A folder's own tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtree: Option<BlobId>,
}

/// A named value kept beside a file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ExtendedAttribute {
    /// Its name with its namespace: `user.comment`.
    pub name: String,
    /// Its value.
    #[serde(with = "base64_bytes")]
    pub value: Vec<u8>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero_u32(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

fn null_as_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ExtendedAttribute>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Node {
    /// An entry with a name and a kind; the rest is empty.
    #[must_use]
    pub const fn new(name: NodeName, kind: NodeKind) -> Self {
        Self {
            name,
            kind,
            mode: 0,
            mtime: Timestamp::UNIX_EPOCH,
            atime: Timestamp::UNIX_EPOCH,
            ctime: Timestamp::UNIX_EPOCH,
            uid: 0,
            gid: 0,
            user: String::new(),
            group: String::new(),
            inode: 0,
            device_id: 0,
            size: 0,
            links: 0,
            link_target: String::new(),
            link_target_raw: Vec::new(),
            extended_attributes: Vec::new(),
            device: 0,
            content: None,
            subtree: None,
        }
    }

    /// The bytes of a symbolic link's target.
    #[must_use]
    pub fn link_target_bytes(&self) -> &[u8] {
        if self.link_target_raw.is_empty() {
            self.link_target.as_bytes()
        } else {
            &self.link_target_raw
        }
    }
}

impl Tree {
    /// The JSON text with the line feed that belongs to it.
    ///
    /// # Errors
    /// [`FormatError::Json`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = to_json("tree", self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`FormatError::Json`], or [`FormatError::Malformed`] if a name comes twice or out of order
    /// or a folder has no tree.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let tree: Self = serde_json::from_slice(bytes).map_err(FormatError::json("tree"))?;
        for pair in tree.nodes.windows(2) {
            if let [first, second] = pair
                && first.name >= second.name
            {
                let reason = format!("entry `{}` is out of order or repeated", second.name);
                return Err(FormatError::malformed("tree", reason));
            }
        }
        for node in &tree.nodes {
            if node.kind == NodeKind::Dir && node.subtree.is_none() {
                let reason = format!("folder `{}` has no tree", node.name);
                return Err(FormatError::malformed("tree", reason));
            }
        }
        Ok(tree)
    }

    /// The entry of that name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|node| node.name.as_bytes().cmp(name)).ok()?;
        self.nodes.get(at)
    }
}

const GO_DIR: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_FIFO: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHAR_DEVICE: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;

/// The `os.FileMode` of a kind and the permission bits of `st_mode` (the low 12).
#[must_use]
pub const fn mode_from_unix(kind: NodeKind, permissions: u32) -> u32 {
    let mut mode = permissions & 0o777;
    if permissions & 0o4000 != 0 {
        mode |= GO_SETUID;
    }
    if permissions & 0o2000 != 0 {
        mode |= GO_SETGID;
    }
    if permissions & 0o1000 != 0 {
        mode |= GO_STICKY;
    }
    mode | match kind {
        NodeKind::File | NodeKind::Unknown => 0,
        NodeKind::Dir => GO_DIR,
        NodeKind::Symlink => GO_SYMLINK,
        NodeKind::Dev => GO_DEVICE,
        NodeKind::CharDev => GO_DEVICE | GO_CHAR_DEVICE,
        NodeKind::Fifo => GO_FIFO,
        NodeKind::Socket => GO_SOCKET,
    }
}

/// The permission bits of `st_mode` (the low 12) in an `os.FileMode`.
#[must_use]
pub const fn mode_to_unix(mode: u32) -> u32 {
    let mut permissions = mode & 0o777;
    if mode & GO_SETUID != 0 {
        permissions |= 0o4000;
    }
    if mode & GO_SETGID != 0 {
        permissions |= 0o2000;
    }
    if mode & GO_STICKY != 0 {
        permissions |= 0o1000;
    }
    permissions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Written by restic 0.14.0, which reads and writes exactly these bytes.
    const RESTIC: &str = concat!(
        r#"{"nodes":[{"name":"d","type":"dir","mode":2147484141,"#,
        r#""mtime":"2026-11-24T15:45:26.11073776Z","atime":"2026-11-24T15:45:26.11073776Z","#,
        r#""ctime":"2026-11-24T15:45:26.110737769Z","uid":0,"gid":0,"user":"root","group":"root","#,
        r#""inode":10078673,"device_id":65024,"content":null,"#,
        r#""subtree":"8ea533a6bfa2064406feba4e71f32ed3d5edb40cf537ce45b83a5edaf9b83b70"},"#,
        r#"{"name":"n\\xff\\x01\\\"\\\\\u003cé́\\u00ad","type":"file","mode":420,"#,
        r#""mtime":"2026-11-24T15:45:26Z","atime":"2026-11-24T15:45:26Z","#,
        r#""ctime":"2026-11-24T15:45:26Z","uid":0,"gid":0,"user":"root","group":"root","#,
        r#""inode":10078709,"device_id":65024,"links":1,"content":[]}]}"#,
        "\n"
    );

    #[test]
    fn writes_the_same_bytes_as_restic() {
        let tree = Tree::parse(RESTIC.as_bytes()).expect("valid");
        let name = [b"n\xff\x01\"\\<".as_slice(), "\u{e9}\u{301}\u{ad}".as_bytes()].concat();
        assert_eq!(tree.nodes[1].name.as_bytes(), name);
        assert_eq!(String::from_utf8(tree.to_bytes().expect("JSON")).expect("UTF-8"), RESTIC);
    }

    #[test]
    fn refuses_disorder() {
        let node = |name: &str| Node::new(NodeName::new(name).expect("a name"), NodeKind::File);
        for nodes in [vec![node("b"), node("a")], vec![node("a"), node("a")]] {
            let bytes = Tree { nodes }.to_bytes().expect("JSON");
            assert!(Tree::parse(&bytes).is_err());
        }
        let folder = Node::new(NodeName::new("d").expect("a name"), NodeKind::Dir);
        let bytes = Tree { nodes: vec![folder] }.to_bytes().expect("JSON");
        assert!(Tree::parse(&bytes).is_err());
    }

    #[test]
    fn modes_convert_both_ways() {
        assert_eq!(mode_from_unix(NodeKind::Dir, 0o755), 2_147_484_141);
        for kind in [NodeKind::File, NodeKind::Dir, NodeKind::CharDev, NodeKind::Symlink] {
            for permissions in 0..0o10000 {
                assert_eq!(mode_to_unix(mode_from_unix(kind, permissions)), permissions);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes: Vec<u8>) {
            let _ = Tree::parse(&bytes);
        }

        #[test]
        fn damaged_trees_parse_or_are_refused(at in 0..RESTIC.len(), byte: u8) {
            let mut bytes = RESTIC.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = Tree::parse(&bytes);
        }
    }
}
