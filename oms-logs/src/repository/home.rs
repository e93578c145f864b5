//! Where the Delta tables of a workspace are: below a folder of this machine, or in an object store.
//!
//! An object store belongs to one workspace folder, whose write-ahead log has what is not in the
//! tables yet, or to all that [share](super::share) it. `workspace.json`, beside the tables, says which.

use crate::Error;
use crate::repository::folder::{Identity, TABLES_FOLDER};
use crate::repository::integrity::{Readers, SumsCache};
use crate::repository::store::SyncedStore;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use oms_core::Disk as _;
use oms_core::disk::LocalDisk;
use oms_core::record::RecordType;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use url::Url;
use uuid::Uuid;

/// Whose the tables are, beside them.
const OWNER: &str = "workspace.json";

/// A store, and the folder in it that has a folder for each table.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    /// What the tables are committed through, from its root.
    store: Arc<dyn ObjectStore>,
    /// What their files are read through where the tables are not on this machine.
    remote: Option<(ObjectStoreUrl, Arc<dyn ObjectStore>)>,
    /// Ends with a slash.
    url: Url,
    /// Whether several folders write to it.
    is_shared: bool,
    /// The checksums of the data files that were read.
    sums: Arc<SumsCache>,
}

/// By what right a folder uses an object store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Claim {
    /// Whether the folder that it belongs to is lost.
    pub(crate) takes_over: bool,
    /// Whether other folders use it as well.
    pub(crate) shares: bool,
}

/// What `workspace.json` in an object store holds. Format 1 is the identity of the folder that the
/// store belongs to, as it is in that folder; format 2 has no folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct Owner {
    format: u32,
    workspace_id: Uuid,
    /// None if several folders share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_id: Option<Uuid>,
}

impl Owner {
    fn of(own: &Identity, shares: bool) -> Self {
        let (format, node_id) = if shares { (2, None) } else { (1, Some(own.node_id)) };
        Self { format, workspace_id: own.workspace_id, node_id }
    }

    fn to_json(self) -> Vec<u8> {
        serde_json::to_vec_pretty(&self).unwrap_or_default()
    }

    /// Reads what [`to_json`](Self::to_json) wrote; says what is wrong with anything else.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let found: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match (found.format, found.node_id) {
            (1, Some(_)) | (2, None) => Ok(found),
            (1 | 2, _) => Err(format!("format {} does not fit its members", found.format)),
            (other, _) => Err(format!("format {other} is not known, only 1 and 2")),
        }
    }
}

impl Home {
    /// Below a workspace's folder, which is absolute.
    pub(crate) fn local(root: &Path, store: Arc<dyn ObjectStore>) -> Result<Self, Error> {
        let folder = root.join(TABLES_FOLDER);
        let url = Url::from_directory_path(&folder).map_err(|()| Error::Internal {
            what: format!("tables folder {} is not absolute", folder.display()),
        })?;
        Ok(Self { store, remote: None, url, is_shared: false, sums: Arc::default() })
    }

    /// The folder of one table.
    pub(crate) fn table(&self, name: &RecordType) -> Result<Self, Error> {
        let url = self.url.join(&format!("{name}/")).map_err(|error| Error::Internal {
            what: format!("folder of table {name} has no URL: {error}"),
        })?;
        Ok(Self { url, ..self.clone() })
    }

    pub(crate) const fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }

    /// The folder in the store.
    pub(crate) fn path(&self) -> Result<ObjectPath, Error> {
        ObjectPath::from_url_path(self.url.path()).map_err(|error| Error::Setting {
            of: "the object store".to_owned(),
            setting: "url",
            value: self.url.to_string(),
            reason: error.to_string(),
        })
    }

    /// The folder on this machine; none in an object store.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        match self.remote {
            None => self.url.to_file_path().ok(),
            Some(_) => None,
        }
    }

    /// A path, or a URL.
    pub(crate) fn location(&self) -> String {
        self.folder().map_or_else(|| self.url.to_string(), |folder| folder.display().to_string())
    }

    /// The store as queries name it, and what they read its data files through.
    pub(crate) fn readers(
        &self,
        runtime: &RuntimeEnv,
    ) -> DataFusionResult<(ObjectStoreUrl, Arc<dyn ParquetFileReaderFactory>)> {
        let url = self.reach(runtime);
        let store = runtime.object_store(&url)?;
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let readers = Readers::new(store, footers, Arc::clone(&self.sums), self.name().into());
        Ok((url, Arc::new(readers)))
    }

    /// The name of its last folder: of a table's, the table's.
    pub(crate) fn name(&self) -> &str {
        let path = self.url.path().trim_end_matches('/');
        path.rsplit_once('/').map_or(path, |(_, name)| name)
    }

    /// The store as queries name it; they find it there from here on.
    fn reach(&self, runtime: &RuntimeEnv) -> ObjectStoreUrl {
        let Some((name, store)) = &self.remote else { return ObjectStoreUrl::local_filesystem() };
        runtime.register_object_store(name.as_ref(), Arc::clone(store));
        name.clone()
    }

    /// The names of its folders.
    pub(crate) async fn names(&self) -> Result<Vec<String>, Error> {
        if let Some(folder) = self.folder() {
            return Ok(LocalDisk::new(&folder)?.list(Path::new(""))?);
        }
        let path = self.path()?;
        let listed = self.store.list_with_delimiter(Some(&path)).await.map_err(self.failed())?;
        let name = |path: &ObjectPath| path.filename().map(str::to_owned);
        Ok(listed.common_prefixes.iter().filter_map(name).collect())
    }

    /// The workspace that an object store belongs to; none if it is nobody's.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Store`].
    pub(crate) async fn workspace_id(&self) -> Result<Option<Uuid>, Error> {
        let path = self.path()?.join(OWNER);
        let found = match self.store.get(&path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(self.failed())?,
        };
        let owner = Owner::parse(&found.bytes().await.map_err(self.failed())?);
        let owner =
            owner.map_err(|reason| Error::Corrupt { path: path.to_string(), offset: 0, reason })?;
        Ok(Some(owner.workspace_id))
    }

    /// Takes an object store for a workspace's folder, or finds that it has it already.
    ///
    /// # Errors
    /// [`Error::OtherWorkspace`] if another workspace has it, [`Error::OtherFolder`] if the folder of
    /// another process does, [`Error::SharedStore`] if several have; [`Error::Corrupt`],
    /// [`Error::Store`].
    pub(crate) async fn claim(&mut self, own: &Identity, how: Claim) -> Result<(), Error> {
        if self.remote.is_none() {
            return match how.shares {
                false => Ok(()),
                true => Err(Error::Setting {
                    of: "the workspace".to_owned(),
                    setting: "shared",
                    value: self.url.to_string(),
                    reason: "a folder has one process, several share an object store".to_owned(),
                }),
            };
        }
        self.is_shared = how.shares;
        let path = self.path()?.join(OWNER);
        let wanted = Owner::of(own, how.shares);
        let text = PutPayload::from(wanted.to_json());
        let created = self.store.put_opts(&path, text.clone(), PutMode::Create.into()).await;
        match created {
            Err(object_store::Error::AlreadyExists { .. }) => {}
            other => return other.map(drop).map_err(self.failed()),
        }
        let found = self.store.get(&path).await.map_err(self.failed())?;
        let version = found.meta.clone();
        let found = Owner::parse(&found.bytes().await.map_err(self.failed())?)
            .map_err(|reason| Error::Corrupt { path: path.to_string(), offset: 0, reason })?;
        if found.workspace_id != own.workspace_id {
            let (found, wanted) = (found.workspace_id.to_string(), own.workspace_id.to_string());
            return Err(Error::OtherWorkspace { path: self.url.as_str().into(), found, wanted });
        }
        if found == wanted {
            return Ok(());
        }
        let url = self.url.to_string();
        match found.node_id {
            None => return Err(Error::SharedStore { url }),
            Some(node) if node != own.node_id && !how.takes_over => {
                return Err(Error::OtherFolder { url });
            }
            Some(_) => {}
        }
        // Of several that take over at once one does; a store that knows no conditions lets the last.
        let update = PutMode::Update(object_store::UpdateVersion {
            e_tag: version.e_tag,
            version: version.version,
        });
        match self.store.put_opts(&path, text.clone(), update.into()).await {
            Err(object_store::Error::NotImplemented { .. }) => {
                self.store.put(&path, text).await.map(drop).map_err(self.failed())
            }
            other => other.map(drop).map_err(self.failed()),
        }
    }

    /// Whether several folders write to the tables.
    pub(crate) const fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn failed(&self) -> impl Fn(object_store::Error) -> Error + use<> {
        let url = self.url.to_string();
        move |source| Error::Store { url: url.clone(), source }
    }
}

/// Where a builder puts the tables.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// With the layers around it.
    store: Arc<dyn ObjectStore>,
    /// Where in an object store, and the store without layers; none for the workspace's folder.
    remote: Option<(Url, Arc<dyn ObjectStore>)>,
    pub(crate) claim: Claim,
}

impl Default for Place {
    fn default() -> Self {
        Self { store: Arc::new(SyncedStore::new()), remote: None, claim: Claim::default() }
    }
}

impl Place {
    pub(crate) fn set_remote(&mut self, store: Arc<dyn ObjectStore>, url: Url) {
        self.store = Arc::clone(&store);
        self.remote = Some((url, store));
    }

    pub(crate) fn layer(
        &mut self,
        layer: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
    ) {
        self.store = layer(Arc::clone(&self.store));
    }

    /// Whether it is in an object store.
    pub(crate) const fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// The place of the tables of the workspace in `root`.
    pub(crate) fn home(self, root: &Path) -> Result<Home, Error> {
        let Some((mut url, bare)) = self.remote else { return Home::local(root, self.store) };
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let refuse = |reason: &str| {
            let (of, value) = ("the object store".to_owned(), url.to_string());
            Err(Error::Setting { of, setting: "url", value, reason: reason.to_owned() })
        };
        if url.cannot_be_a_base() || url.scheme() == "file" || !url.has_host() {
            return refuse("not the URL of an object store: scheme://bucket/path");
        }
        let name = ObjectStoreUrl::parse(&url[..url::Position::BeforePath]);
        let Ok(name) = name else { return refuse("not the URL of an object store") };
        let (store, remote) = (self.store, Some((name, bare)));
        Ok(Home { store, remote, url, is_shared: false, sums: Arc::default() })
    }
}
