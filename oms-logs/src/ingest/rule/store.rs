//! The rules of a workspace, kept in its folder.

use super::compile::Shared;
use super::document::{self, is_immutable_id};
use super::{DataCollectionRule, Program, RULES_MAX, RuleProblem, refused};
use crate::Error;
use crate::repository::folder::{read_document, write_document};
use crate::schema::TableSchema;
use jiff::Timestamp;
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

#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// Rules by their names in lower case.
type Rules = BTreeMap<String, Arc<Kept>>;

/// The rules of a workspace.
#[derive(Debug)]
pub(crate) struct RuleStore {
    disk: Arc<dyn Disk>,
    rules: RwLock<Rules>,
    /// Held while the document is written.
    writing: tokio::sync::Mutex<()>,
}

impl RuleStore {
    /// Reads the rules. Blocks.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Disk`].
    pub(crate) fn open(disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let corrupt = |reason: String| Error::Corrupt { path: FILE.to_owned(), offset: 0, reason };
        let document = read_document::<Document>(disk.as_ref(), FILE)?;
        let mut rules = Rules::new();
        for entry in document.iter().flat_map(|document| &document.rules) {
            let key = entry.name.to_ascii_lowercase();
            let id = &entry.immutable_id;
            let is_known = rules.values().any(|kept: &Arc<Kept>| kept.entry.immutable_id == *id);
            if rules.contains_key(&key) || is_known || !is_immutable_id(id) {
                return Err(corrupt(format!("rule `{}` with id `{id}`", entry.name)));
            }
            let kept = Kept { entry: entry.clone(), program: OnceLock::new() };
            rules.insert(key, Arc::new(kept));
        }
        if let Some(format) = document.map(|it| it.format).filter(|format| *format != 1) {
            return Err(corrupt(format!("format {format} is not known, only 1")));
        }
        let (rules, writing) = (RwLock::new(rules), tokio::sync::Mutex::new(()));
        Ok(Self { disk, rules, writing })
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
    /// [`Error::Rule`] with everything that is wrong; [`Error::Disk`]: the rules are the old ones.
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
        let _one_at_a_time = self.writing.lock().await;
        let mut rules = self.known();
        let key = name.to_ascii_lowercase();
        let known = rules.get(&key).map(|kept| kept.entry.clone());
        if known.is_none() && rules.len() >= RULES_MAX {
            return Err(refuse(one("name", format!("there are {RULES_MAX} rules already"))));
        }
        let wanted = declared.immutable_id().map(str::to_owned);
        let immutable_id = match (&known, wanted) {
            (Some(known), Some(wanted)) if wanted != known.immutable_id => {
                let reason = format!("the rule has the id `{}`", known.immutable_id);
                return Err(refuse(one("properties.immutableId", reason)));
            }
            (Some(known), _) => known.immutable_id.clone(),
            (None, Some(wanted)) => wanted,
            (None, None) => format!("dcr-{}", entropy.uuid().as_simple()),
        };
        let is_taken = |kept: &Arc<Kept>| kept.entry.immutable_id == immutable_id;
        if known.is_none() && rules.values().any(is_taken) {
            let reason = "another rule has this id".to_owned();
            return Err(refuse(one("properties.immutableId", reason)));
        }
        let mut document = document;
        if let Some(Value::Object(properties)) = document.get_mut("properties") {
            properties.insert("immutableId".to_owned(), immutable_id.clone().into());
        }
        let name = known.as_ref().map_or_else(|| name.to_owned(), |known| known.name.clone());
        let entry = Entry { name, immutable_id, document };
        let kept = Arc::new(Kept { entry, program: OnceLock::from(Ok(Arc::new(program))) });
        rules.insert(key, Arc::clone(&kept));
        if written_bytes(&rules) > ALL_BYTES_MAX {
            let reason = format!("all rules together are more than {ALL_BYTES_MAX} bytes");
            return Err(refuse(one("", reason)));
        }
        self.save(rules).await?;
        Ok((kept.rule(), known.is_none()))
    }

    /// Removes a rule, durably.
    ///
    /// # Errors
    /// [`Error::RuleNotFound`]; [`Error::Disk`]: the rules are the old ones.
    pub(crate) async fn delete(&self, name: &str) -> Result<DataCollectionRule, Error> {
        let _one_at_a_time = self.writing.lock().await;
        let Some(found) = self.find(name) else {
            return Err(Error::RuleNotFound { rule: name.chars().take(100).collect() });
        };
        let mut rules = self.known();
        rules.remove(&found.entry.name.to_ascii_lowercase());
        self.save(rules).await?;
        Ok(found.rule())
    }

    async fn save(&self, rules: Rules) -> Result<(), Error> {
        let entries = rules.values().map(|kept| kept.entry.clone()).collect();
        let (disk, document) = (Arc::clone(&self.disk), Document { format: 1, rules: entries });
        blocking(move || write_document(disk.as_ref(), FILE, &document)).await?;
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }
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
