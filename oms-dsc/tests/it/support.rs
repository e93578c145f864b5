//! What several tests build on.

use async_trait::async_trait;
use jiff::Timestamp;
use oms_core::clock::ManualClock;
use oms_core::entropy::SeededEntropy;
use oms_core::journal::{Journal, MemoryJournal};
use oms_core::testkit::disk::SimDisk;
use oms_core::{Clock, Secret};
use oms_dsc::configuration::{PropertyValue, ResourceInstance};
use oms_dsc::node::{ConfigurationMode, Metaconfiguration, Transport};
use oms_dsc::protocol::{Reply, Request};
use oms_dsc::resource::{Difference, Registry, Resource, SetReport};
use oms_dsc::{Error, Lcm, PullServer};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The key that every node of the tests registers with.
pub(crate) const KEY: &str = "a registration key";

/// When the tests begin.
pub(crate) fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

/// A document of file resources: name, path, contents.
pub(crate) fn files(configuration: &str, files: &[(&str, &str, &str)]) -> String {
    let mut text = String::new();
    for (name, path, contents) in files {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        text += &format!(
            "instance of MSFT_FileDirectoryConfiguration as ${name} {{ ResourceID = \
             \"[File]{name}\"; ModuleName = \"PSDesiredStateConfiguration\"; ModuleVersion = \
             \"1.1\"; DestinationPath = \"{}\"; Contents = \"{}\"; Ensure = \"Present\"; \
             ConfigurationName = \"{configuration}\"; }};\n",
            quote(path),
            quote(contents)
        );
    }
    text + &about(configuration)
}

/// A document of [`Cell`] resources: name, value.
pub(crate) fn cells(configuration: &str, cells: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in cells {
        text += &format!(
            "instance of Test_Cell {{ ResourceID = \"[Cell]{name}\"; Name = \"{name}\"; \
             Value = \"{value}\"; }};\n"
        );
    }
    text + &about(configuration)
}

fn about(name: &str) -> String {
    format!(
        "instance of OMI_ConfigurationDocument {{ Version = \"2.0.0\"; Name = \"{name}\"; }};\n"
    )
}

/// A computer whose state is named cells in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell(pub(crate) Arc<Mutex<BTreeMap<String, String>>>);

impl Cell {
    pub(crate) fn registry(&self) -> Registry {
        Registry::new().with(Arc::new(self.clone()))
    }

    pub(crate) fn values(&self) -> BTreeMap<String, String> {
        self.0.lock().expect("not poisoned").clone()
    }
}

fn property(instance: &ResourceInstance, name: &str) -> String {
    match instance.property(name) {
        Some(PropertyValue::Text(text)) => text.clone(),
        other => panic!("{name} is {other:?}"),
    }
}

#[async_trait]
impl Resource for Cell {
    fn classes(&self) -> &[&str] {
        &["Test_Cell"]
    }

    async fn get(
        &self,
        instance: &ResourceInstance,
    ) -> Result<BTreeMap<String, serde_json::Value>, Error> {
        let value = self.values().get(&property(instance, "Name")).cloned();
        Ok(BTreeMap::from([("Value".to_owned(), value.into())]))
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        let found = self.values().get(&property(instance, "Name")).cloned().unwrap_or_default();
        let desired = property(instance, "Value");
        if found == desired {
            return Ok(Vec::new());
        }
        Ok(vec![Difference::new("Value", found, desired)])
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        let (name, value) = (property(instance, "Name"), property(instance, "Value"));
        if value == "impossible" {
            return Err(Error::Invalid { what: "cell", reason: "impossible".into() });
        }
        self.0.lock().expect("not poisoned").insert(name, value);
        Ok(SetReport::default())
    }
}

/// A server that is reached by calling it, and may be absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Direct(pub(crate) Arc<Mutex<Option<Arc<PullServer>>>>);

#[async_trait]
impl Transport for Direct {
    async fn exchange(&self, request: &Request) -> Result<Reply, Error> {
        let server = self.0.lock().expect("not poisoned").clone();
        match server {
            Some(server) => Ok(server.answer(request.clone()).await),
            None => Err(Error::Unreachable {
                operation: request.operation.name(),
                reason: "the server is down".into(),
            }),
        }
    }
}

/// A server and a node on disks in memory, which can be restarted.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) server_disk: SimDisk,
    pub(crate) server_journal: Arc<MemoryJournal>,
    pub(crate) node_disk: SimDisk,
    pub(crate) node_journal: Arc<MemoryJournal>,
    pub(crate) direct: Direct,
    pub(crate) cell: Cell,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            clock: Arc::new(ManualClock::new(start())),
            entropy: Arc::new(SeededEntropy::new(seed)),
            server_disk: SimDisk::default(),
            server_journal: Arc::default(),
            node_disk: SimDisk::default(),
            node_journal: Arc::default(),
            direct: Direct::default(),
            cell: Cell::default(),
        }
    }

    pub(crate) async fn start_server(&self) -> Arc<PullServer> {
        let server = self.open_server(Arc::clone(&self.server_journal) as Arc<dyn Journal>).await;
        let server = Arc::new(server.expect("the server opens"));
        *self.direct.0.lock().expect("not poisoned") = Some(Arc::clone(&server));
        server
    }

    pub(crate) async fn open_server(&self, journal: Arc<dyn Journal>) -> Result<PullServer, Error> {
        PullServer::builder("unused")
            .disk(Arc::new(self.server_disk.clone()))
            .journal(journal)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .entropy(Arc::clone(&self.entropy) as Arc<dyn oms_core::Entropy>)
            .registration_key(Secret::from(KEY))
            .build()
            .await
    }

    /// Every event of the server's journal.
    pub(crate) async fn events(&self) -> Vec<oms_core::journal::Event> {
        self.server_journal.read_all(0, 10_000).await.expect("events")
    }

    pub(crate) fn stop_server(&self) {
        *self.direct.0.lock().expect("not poisoned") = None;
    }

    pub(crate) fn settings(&self, names: &[&str]) -> Metaconfiguration {
        let mut settings = Metaconfiguration::new("http://localhost/x", Secret::from(KEY));
        settings.configuration_names = names.iter().map(|name| (*name).to_owned()).collect();
        settings.configuration_mode = ConfigurationMode::ApplyAndAutoCorrect;
        settings.node_name = "node-a".to_owned();
        settings
    }

    pub(crate) async fn start_node(&self, names: &[&str]) -> Lcm {
        let transport = Arc::new(self.direct.clone());
        self.open_node(self.settings(names), transport).await.expect("the node opens")
    }

    pub(crate) async fn open_node(
        &self,
        settings: Metaconfiguration,
        transport: Arc<dyn Transport>,
    ) -> Result<Lcm, Error> {
        Lcm::builder("unused", settings)
            .disk(Arc::new(self.node_disk.clone()))
            .journal(Arc::clone(&self.node_journal) as Arc<dyn Journal>)
            .transport(transport)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .entropy(Arc::clone(&self.entropy) as Arc<dyn oms_core::Entropy>)
            .resources(self.cell.registry())
            .build()
            .await
    }
}
