//! The rules of a workspace, kept in its folder, or in the object store that several processes share.

use super::compile::Shared;
use super::document::{self, is_immutable_id};
use super::{DataCollectionRule, Program, RULES_MAX, RuleProblem, refused};
use crate::Error;
use crate::repository::folder::{read_document, write_document};
use crate::repository::share::Documents;
use crate::schema::TableSchema;
use jiff::Timestamp;
use object_store::UpdateVersion;
use oms_core::record::RecordType;
use oms_core::task::blocking;
use oms_core::{Disk, Entropy, EntropyExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// The document in the workspace's folder.
const FILE: &str = "rules.json";

/// The most bytes of all rules together: the document is read as a whole.
const ALL_BYTES_MAX: usize = 8 << 20;

/// How often a change of the rules is tried that others share.
const ATTEMPTS_MAX: u32 = 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    immutable_id: String,
    document: Value,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    format: u32,
    rules: Vec<Entry>,
}

/// A rule, and what it does once someone has asked.
#[derive(Debug)]
struct Kept {
    entry: Entry,
    program: OnceLock<Shared>,
}

impl Kept {
    fn rule(&self) -> DataCollectionRule {
        let Entry { name, immutable_id, document } = self.entry.clone();
        DataCollectionRule { name, immutable_id, document }
    }
}

impl Document {
    fn of(rules: &Rules) -> Self {
        Self { format: 1, rules: rules.values().map(|kept| kept.entry.clone()).collect() }
    }

    /// The rules; those that are `known` keep what they do. Says what is wrong with them.
    fn read(self, known: &Rules) -> Result<Rules, String> {
        if self.format != 1 {
            return Err(format!("format {} is not known, only 1", self.format));
        }
        let mut rules = Rules::new();
        for entry in self.rules {
            let key = entry.name.to_ascii_lowercase();
            let id = &entry.immutable_id;
            let has_id = rules.values().any(|kept: &Arc<Kept>| kept.entry.immutable_id == *id);
            if rules.contains_key(&key) || has_id || !is_immutable_id(id) {
                return Err(format!("rule `{}` with id `{id}`", entry.name));
            }
            let kept = match known.get(&key).filter(|kept| kept.entry == entry) {
                Some(kept) => Arc::clone(kept),
                None => Arc::new(Kept { entry, program: OnceLock::new() }),
            };
            rules.insert(key, kept);
        }
        Ok(rules)
    }
}

/// Rules by their names in lower case.
type Rules = BTreeMap<String, Arc<Kept>>;

/// The rules of a workspace.
#[derive(Debug)]
pub(crate) struct RuleStore {
    disk: Arc<dyn Disk>,
    rules: RwLock<Rules>,
    /// Held while the document is written, or read again; the version that was read last.
    writing: tokio::sync::Mutex<Option<UpdateVersion>>,
    /// Where it is in place of the folder, if several processes share it.
    shared: OnceLock<Arc<Documents>>,
}

impl RuleStore {
    /// Reads the rules. Blocks.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Disk`].
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let document = read_document::<Document>(disk.as_ref(), FILE)?;
        let document = document.unwrap_or(Document { format: 1, rules: Vec::new() });
        let rules = document.read(&Rules::new()).map_err(corrupt)?;
        let (rules, writing) = (RwLock::new(rules), tokio::sync::Mutex::default());
        Ok(Self { disk, rules, writing, shared: OnceLock::new() })
    }

    /// Keeps the rules where other processes find them, beginning with those of the folder if there
    /// are none yet.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`].
    pub(crate) async fn share(&self, documents: &Arc<Documents>) -> Result<(), Error> {
        documents.put_if(FILE, &Document::of(&self.known()), None).await?;
        drop(self.shared.set(Arc::clone(documents)));
        self.refresh().await
    }

    /// Reads what other processes changed.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Corrupt`]: the rules are those that were known.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let mut version = self.writing.lock().await;
        self.read_again(&mut version).await
    }

    async fn read_again(&self, version: &mut Option<UpdateVersion>) -> Result<(), Error> {
        let Some(documents) = self.shared.get() else { return Ok(()) };
        if let Some((document, read)) = documents.read_newer(FILE, version.as_ref()).await? {
            let rules = Document::read(document, &self.known()).map_err(corrupt)?;
            *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
            *version = Some(read);
        }
        Ok(())
    }

    fn known(&self) -> Rules {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, name: &str) -> Option<Arc<Kept>> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let by_id = || rules.values().find(|kept| kept.entry.immutable_id == name);
        rules.get(&name.to_ascii_lowercase()).or_else(by_id).cloned()
    }

    /// Every rule, by name.
    pub(crate) fn all(&self) -> Vec<DataCollectionRule> {
        self.known().values().map(|kept| kept.rule()).collect()
    }

    /// The rule of a name or an immutable id.
    pub(crate) fn rule(&self, name: &str) -> Option<DataCollectionRule> {
        self.find(name).map(|kept| kept.rule())
    }

    /// What a rule does.
    ///
    /// # Errors
    /// [`Error::RuleNotFound`]; [`Error::Rule`] if this version, or a table as it is now, does not
    /// take what was taken when the rule was put.
    pub(crate) fn program(
        &self,
        name: &str,
        table: impl Fn(&RecordType) -> TableSchema,
        now: Timestamp,
    ) -> Result<Arc<Program>, Error> {
        let Some(kept) = self.find(name) else {
            return Err(Error::RuleNotFound { rule: name.chars().take(100).collect() });
        };
        let compiled = kept.program.get_or_init(|| {
            let declared = document::read(&kept.entry.name, &kept.entry.document)?;
            Program::compile(&declared, table, now).map(Arc::new)
        });
        compiled.clone().map_err(|problems| refused(&kept.entry.name, problems))
    }

    /// Takes a rule, durably; answers it, and whether it is new.
    ///
    /// # Errors
    /// [`Error::Rule`] with everything that is wrong; [`Error::Disk`]: the rules are the old ones;
    /// [`Error::Store`]: they are the old or the new ones; [`Error::Superseded`].
    pub(crate) async fn put(
        &self,
        name: &str,
        document: Value,
        entropy: &dyn Entropy,
        table: impl Fn(&RecordType) -> TableSchema,
        now: Timestamp,
    ) -> Result<(DataCollectionRule, bool), Error> {
        let refuse = |problems| refused(name, problems);
        let declared = document::read(name, &document).map_err(refuse)?;
        let program = Program::compile(&declared, table, now).map_err(refuse)?;
        let wanted = declared.immutable_id();
        let program = Arc::new(program);
        self.change(|rules| {
            let key = name.to_ascii_lowercase();
            let known = rules.get(&key).map(|kept| kept.entry.clone());
            if known.is_none() && rules.len() >= RULES_MAX {
                return Err(refuse(one("name", format!("there are {RULES_MAX} rules already"))));
            }
            let immutable_id = match (&known, wanted) {
                (Some(known), Some(wanted)) if wanted != known.immutable_id => {
                    let reason = format!("the rule has the id `{}`", known.immutable_id);
                    return Err(refuse(one("properties.immutableId", reason)));
                }
                (Some(known), _) => known.immutable_id.clone(),
                (None, Some(wanted)) => wanted.to_owned(),
                (None, None) => format!("dcr-{}", entropy.uuid().as_simple()),
            };
            let is_taken = |kept: &Arc<Kept>| kept.entry.immutable_id == immutable_id;
            if known.is_none() && rules.values().any(is_taken) {
                let reason = "another rule has this id".to_owned();
                return Err(refuse(one("properties.immutableId", reason)));
            }
            let mut document = document.clone();
            if let Some(Value::Object(properties)) = document.get_mut("properties") {
                properties.insert("immutableId".to_owned(), immutable_id.clone().into());
            }
            let is_new = known.is_none();
            let name = known.map_or_else(|| name.to_owned(), |known| known.name);
            let entry = Entry { name, immutable_id, document };
            let program = OnceLock::from(Ok(Arc::clone(&program)));
            let kept = Arc::new(Kept { entry, program });
            let rule = kept.rule();
            rules.insert(key, kept);
            if written_bytes(rules) > ALL_BYTES_MAX {
                let reason = format!("all rules together are more than {ALL_BYTES_MAX} bytes");
                return Err(refuse(one("", reason)));
            }
            Ok((rule, is_new))
        })
        .await
    }

    /// Removes a rule, durably.
    ///
    /// # Errors
    /// [`Error::RuleNotFound`]; [`Error::Disk`]: the rules are the old ones; [`Error::Store`]: they are
    /// the old or the new ones; [`Error::Superseded`].
    pub(crate) async fn delete(&self, name: &str) -> Result<DataCollectionRule, Error> {
        self.change(|rules| {
            let by_id = |kept: &&Arc<Kept>| kept.entry.immutable_id == name;
            let found = rules.get(&name.to_ascii_lowercase());
            let Some(found) = found.or_else(|| rules.values().find(by_id)).cloned() else {
                return Err(Error::RuleNotFound { rule: name.chars().take(100).collect() });
            };
            rules.remove(&found.entry.name.to_ascii_lowercase());
            Ok(found.rule())
        })
        .await
    }

    /// Makes a change durable. It is made again if another process made one first.
    async fn change<T>(
        &self,
        mut make: impl FnMut(&mut Rules) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let mut version = self.writing.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            self.read_again(&mut version).await?;
            let mut rules = self.known();
            let made = make(&mut rules)?;
            let document = Document::of(&rules);
            if let Some(documents) = self.shared.get() {
                // The new version is not known: it is read again the next time.
                if !documents.put_if(FILE, &document, version.take()).await? {
                    continue;
                }
            } else {
                let disk = Arc::clone(&self.disk);
                blocking(move || write_document(disk.as_ref(), FILE, &document)).await?;
            }
            *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
            return Ok(made);
        }
        let (table, what) = (FILE.to_owned(), "others change the rules all the time".to_owned());
        Err(Error::Superseded { table, what })
    }
}

fn corrupt(reason: String) -> Error {
    Error::Corrupt { path: FILE.to_owned(), offset: 0, reason }
}

/// How long the rules are in the form in which they are kept.
fn written_bytes(rules: &Rules) -> usize {
    let written = rules.values().map(|kept| serde_json::to_vec_pretty(&kept.entry));
    written
        .map(|written| written.map_or(usize::MAX, |bytes| bytes.len()))
        .fold(0, usize::saturating_add)
}

fn one(place: &str, reason: String) -> Vec<RuleProblem> {
    vec![RuleProblem { place: place.to_owned(), reason }]
}
