//! That a store keeps the conditions which its writers rely on.
//!
//! Whose the maintenance of the tables is, and which settings they have, several processes agree on by
//! writes that are refused where another one was first. A store that does not know such writes, or
//! takes them and ignores the condition, would let two of them win.

use super::Documents;
use crate::Error;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, UpdateVersion};
use serde_json::json;

/// The folder of the objects that are tried.
const FOLDER: &str = "conditions";

/// What a conditional write came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    Done,
    Refused,
}

impl Documents {
    /// Tries both kinds of conditional writes on an object of this process's own.
    ///
    /// # Errors
    /// [`Error::Setting`] names the store and what it does not keep; [`Error::Store`].
    pub(crate) async fn check_conditions(&self) -> Result<(), Error> {
        let name = format!("{FOLDER}/{}", self.node);
        // One of an earlier process of this folder, or of a request that was made twice on its way,
        // is as good.
        self.attempt(&name, 1, PutMode::Create).await?;
        if self.attempt(&name, 2, PutMode::Create).await? == Answer::Done {
            return Err(self.careless("it creates an object that is there"));
        }
        let found = self.store.get(&self.path(&name)).await.map_err(self.failed())?;
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        if e_tag.is_none() && version.is_none() {
            return Err(self.careless("its objects have no versions"));
        }
        let seen = UpdateVersion { e_tag, version };
        self.attempt(&name, 3, PutMode::Update(seen.clone())).await?;
        if self.attempt(&name, 4, PutMode::Update(seen)).await? == Answer::Done {
            return Err(self.careless("it replaces an object that is another one by then"));
        }
        self.remove(&name).await
    }

    /// Each attempt has another content: versions may be sums of it.
    async fn attempt(&self, name: &str, number: u8, mode: PutMode) -> Result<Answer, Error> {
        let text = super::text(&json!({ "attempt": number }))?;
        match self.store.put_opts(&self.path(name), text, mode.into()).await {
            Ok(_) => Ok(Answer::Done),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(Answer::Refused),
            Err(object_store::Error::NotImplemented { .. }) => {
                Err(self.careless("it knows no such writes"))
            }
            Err(error) => Err(self.failed()(error)),
        }
    }

    fn careless(&self, what: &str) -> Error {
        Error::Setting {
            of: "the workspace".to_owned(),
            setting: "shared",
            value: self.url.to_string(),
            reason: format!("several processes need a store with conditional writes: {what}"),
        }
    }
}
