//! Schemas of resource classes, as schema files declare them, and what a document must have to
//! agree with them.
//!
//! [`Schemas::check`] tells everything that a node would only find out while it applies: a property
//! that the class does not have, a key that is missing, a value of another type, two resources of one
//! key. Each is told with its place.

mod check;

mod declared;

pub use declared::{PropertySchema, PropertyType, ResourceClass};

use crate::Error;
use crate::mof::{self, Diagnostic, Document, Position};
use std::collections::{BTreeMap, HashSet};

/// Base classes of resources and of what lies in them, which every document may use.
const BASE: &str = include_str!("base.mof");

/// Classes of the resources that come with Windows' and Linux' configuration managers.
const STANDARD: &str = include_str!("standard.mof");

/// The most classes between one and its topmost.
const ANCESTORS_MAX: usize = 32;

/// The classes that are known, by name without regard to case.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    classes: BTreeMap<String, ResourceClass>,
    /// Class by friendly name, both in lower case.
    friendly: BTreeMap<String, String>,
}

/// How strict a check is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CheckOptions {
    /// Whether a resource of a class without a schema is refused, in place of being let be.
    pub refuses_unknown_classes: bool,
}

impl Schemas {
    /// The base classes alone: `OMI_BaseResource`, `MSFT_Credential`, `MSFT_KeyValuePair`, and those
    /// of documents and metaconfigurations.
    ///
    /// # Errors
    /// [`Error::Document`] would be a defect of this version.
    pub fn base() -> Result<Self, Error> {
        Self::default().with("base.mof", BASE.as_bytes())
    }

    /// The base classes, and the resources that come with the configuration managers of Windows and
    /// Linux: `File`, `Archive`, `Environment`, `Group`, `Log`, `Package`, `Registry`, `Script`,
    /// `Service`, `User`, `WindowsProcess`, those that wait, and those of the modules `nx`,
    /// `nxNetworking` and `nxComputerManagement`.
    ///
    /// # Errors
    /// As [`Schemas::base`].
    pub fn standard() -> Result<Self, Error> {
        Self::base()?.with("standard.mof", STANDARD.as_bytes())
    }

    /// The same with the classes of a schema file. `name` appears in errors. A class that was known
    /// is replaced: a module brings its own version of it.
    ///
    /// # Errors
    /// [`Error::Document`] with every diagnostic.
    pub fn with(mut self, name: &str, bytes: &[u8]) -> Result<Self, Error> {
        let refused = |diagnostics| Error::Document { document: name.to_owned(), diagnostics };
        let document = mof::parse(bytes).into_result().map_err(refused)?;
        self.add(&document).map_err(refused)?;
        Ok(self)
    }

    /// Adds every class that a document declares; its instances are not looked at.
    ///
    /// # Errors
    /// Every diagnostic, at least one; then nothing was added.
    pub fn add(&mut self, document: &Document) -> Result<(), Vec<Diagnostic>> {
        let mut diagnostics = Vec::new();
        let mut read: BTreeMap<String, ResourceClass> = BTreeMap::new();
        for class in document.classes() {
            let declared = ResourceClass::read(class, &mut diagnostics);
            let key = class.name.to_ascii_lowercase();
            if let Some(first) = read.get(&key) {
                let (name, first) = (&class.name, first.position);
                let message = format!("the class `{name}` was declared at {first} already");
                diagnostics.push(Diagnostic { position: class.position, message });
            } else {
                read.insert(key, declared);
            }
        }
        if !diagnostics.is_empty() {
            diagnostics.sort_by_key(|diagnostic| diagnostic.position);
            diagnostics.truncate(mof::DIAGNOSTICS_MAX);
            return Err(diagnostics);
        }
        for (key, class) in read {
            if let Some(friendly) = &class.friendly_name {
                self.friendly.insert(friendly.to_lowercase(), key.clone());
            }
            self.classes.insert(key, class);
        }
        Ok(())
    }

    /// The class of that name, without regard to case.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&ResourceClass> {
        self.classes.get(&name.to_ascii_lowercase())
    }

    /// The class that configurations call by this friendly name, or that has this name itself.
    #[must_use]
    pub fn resource(&self, name: &str) -> Option<&ResourceClass> {
        let class = self.friendly.get(&name.to_lowercase()).map_or(name, String::as_str);
        self.class(class)
    }

    /// Every class, in order of name.
    pub fn classes(&self) -> impl Iterator<Item = &ResourceClass> {
        self.classes.values()
    }

    /// The properties of a class and of those that it extends, its own first. Fails with the name of
    /// an ancestor of which there is no schema.
    ///
    /// # Errors
    /// The ancestor's name.
    pub fn properties<'a>(
        &'a self,
        class: &'a ResourceClass,
    ) -> Result<Vec<&'a PropertySchema>, &'a str> {
        let mut properties: Vec<&PropertySchema> = Vec::new();
        for class in self.lineage(class)? {
            for property in &class.properties {
                if !properties.iter().any(|known| known.name.eq_ignore_ascii_case(&property.name)) {
                    properties.push(property);
                }
            }
        }
        Ok(properties)
    }

    /// The class and those that it extends, up to the topmost.
    fn lineage<'a>(&'a self, class: &'a ResourceClass) -> Result<Vec<&'a ResourceClass>, &'a str> {
        let mut lineage = vec![class];
        let mut at = class;
        while let Some(above) = &at.superclass {
            at = self.class(above).ok_or(above.as_str())?;
            if lineage.len() == ANCESTORS_MAX {
                return Err(above);
            }
            lineage.push(at);
        }
        Ok(lineage)
    }

    /// Whether a class is another or extends it.
    pub(crate) fn is_a(&self, class: &ResourceClass, name: &str) -> bool {
        let lineage = self.lineage(class).unwrap_or_default();
        lineage.iter().any(|class| class.name.eq_ignore_ascii_case(name))
    }

    /// Checks every instance of a document against the schema of its class, in order of place.
    #[must_use]
    pub fn check(&self, document: &Document, options: CheckOptions) -> Vec<Diagnostic> {
        self.check_hiding(document, options, HashSet::new())
    }

    /// The same, showing nothing of the values at the hidden places, which are secrets.
    pub(crate) fn check_hiding(
        &self,
        document: &Document,
        options: CheckOptions,
        hidden: HashSet<Position>,
    ) -> Vec<Diagnostic> {
        check::Check::new(self, document, options, hidden).run(document)
    }
}

/// The name among `known` that was probably meant: at most a third of its letters are other ones.
fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer ones are not compared, so that a document cannot make it costly.
    const CHARS_MAX: usize = 64;
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    if wanted.len() > CHARS_MAX {
        return None;
    }
    let near = known.filter(|known| known.len() <= CHARS_MAX).filter_map(|known| {
        let found: Vec<char> = known.to_lowercase().chars().collect();
        let distance = distance(&wanted, &found);
        (distance * 3 <= wanted.len().max(found.len())).then_some((distance, known))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// How many letters have to be put in, taken out, replaced, or exchanged with their neighbour to make
/// one word the other.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before = vec![0; other.len() + 1];
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, left) in one.iter().enumerate() {
        let mut here = vec![row + 1];
        for (column, right) in other.iter().enumerate() {
            let replaced = above[column] + usize::from(left != right);
            let mut least = replaced.min(above[column + 1] + 1).min(here[column] + 1);
            if row > 0 && column > 0 && one[row - 1] == *right && *left == other[column - 1] {
                least = least.min(before[column - 1] + 1);
            }
            here.push(least);
        }
        before = std::mem::replace(&mut above, here);
    }
    above[other.len()]
}

/// Whether what has this name is a secret, whatever stands there: no message shows it.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("password") || name == "registrationkey"
}

/// `; did you mean …?`, or nothing.
pub(crate) fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    closest(name, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_probably_meant() {
        let known = ["DestinationPath", "Contents", "Ensure"];
        let closest = |name| closest(name, known.into_iter());
        assert_eq!(closest("destinationpth"), Some("DestinationPath"));
        assert_eq!(closest("Content"), Some("Contents"));
        assert_eq!(closest("Esnure"), Some("Ensure"));
        assert_eq!(closest("Path"), None);
        assert_eq!(closest(&"Contents".repeat(9)), None);
    }

    #[test]
    fn the_schemas_that_come_with_it_are_whole() {
        let schemas = Schemas::standard().expect("they are right");
        for class in schemas.classes() {
            assert!(schemas.properties(class).is_ok(), "{}", class.name);
        }
        let file = schemas.resource("file").expect("it is there");
        assert_eq!(file.name, "MSFT_FileDirectoryConfiguration");
        let keys: Vec<_> = file.keys().map(|key| key.name.as_str()).collect();
        assert_eq!(keys, ["DestinationPath"]);
        assert_eq!(
            schemas.resource("nxFile").map(|class| &*class.name),
            Some("MSFT_nxFileResource")
        );
    }
}
