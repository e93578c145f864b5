//! Services, of a supervisor that starts plain processes.

use crate::system::{System, instance};
use async_trait::async_trait;
use oms_dsc::Error;
use oms_dsc::node;
use oms_dsc::resource::{Registry, ServiceController, ServiceResource, ServiceState, Systemd};
use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

/// Starts a process for each service, and ends it.
#[derive(Debug, Default)]
struct Supervisor(Mutex<BTreeMap<String, Supervised>>);

#[derive(Debug, Default)]
struct Supervised {
    process: Option<Child>,
    is_enabled: bool,
    /// A service whose process ends at once.
    is_broken: bool,
}

impl Supervisor {
    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Supervised) -> T) -> Option<T> {
        self.0.lock().expect("not poisoned").get_mut(name).map(work)
    }
}

impl Supervised {
    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is ours");
            process.wait().expect("it ends");
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl ServiceController for Supervisor {
    fn name(&self) -> &str {
        "supervisor"
    }

    async fn state(&self, service: &str) -> Result<Option<ServiceState>, Error> {
        Ok(self.with(service, |service| {
            let is_running = service
                .process
                .as_mut()
                .is_some_and(|process| process.try_wait().expect("a status").is_none());
            ServiceState { is_running, is_enabled: service.is_enabled }
        }))
    }

    async fn set_running(&self, service: &str, is_running: bool) -> Result<(), Error> {
        self.with(service, |service| {
            service.end();
            if is_running {
                let seconds = if service.is_broken { "0" } else { "600" };
                let mut process = Command::new("sleep").arg(seconds).spawn().expect("it starts");
                if service.is_broken {
                    process.wait().expect("it ends");
                }
                service.process = Some(process);
            }
        });
        Ok(())
    }

    async fn set_enabled(&self, service: &str, is_enabled: bool) -> Result<(), Error> {
        self.with(service, |service| service.is_enabled = is_enabled);
        Ok(())
    }
}

#[tokio::test]
async fn services_start_stop_and_are_told_of() {
    let supervisor = Arc::new(Supervisor::default());
    for (name, is_broken) in [("web", false), ("broken", true)] {
        let service = Supervised { process: None, is_enabled: false, is_broken };
        supervisor.0.lock().expect("not poisoned").insert(name.to_owned(), service);
    }
    let mut system = System::new();
    let controller = Arc::clone(&supervisor) as Arc<dyn ServiceController>;
    system.resources = Registry::new().with(Arc::new(ServiceResource::new(controller)));
    let nx = |properties: &str| instance("MSFT_nxServiceResource", properties);
    let windows = |properties: &str| instance("MSFT_ServiceResource", properties);

    let status = system
        .converge(&nx(
            "Name = \"web\"; Controller = \"Supervisor\"; State = \"Running\"; Enabled = True;",
        ))
        .await;
    let told: Vec<String> = status.differences.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["State is Stopped, desired is Running", "Enabled is false, desired is true"]);
    // It was killed: what was started is not what runs.
    supervisor.with("web", |service| service.process.as_mut().map(|p| (p.kill(), p.wait())));
    system.converge(&windows("Name = \"web\";")).await;
    system.stay(&windows("Name = \"web\"; State = \"Ignore\"; StartupType = \"Automatic\";")).await;
    system
        .converge(&windows("Name = \"web\"; State = \"Stopped\"; StartupType = \"Manual\";"))
        .await;
    let found = node::get(&nx("Name = \"web\";"), &system.resources).await.expect("a look");
    assert_eq!((&found[0].1["State"], &found[0].1["Enabled"]), (&"Stopped".into(), &false.into()));

    for (properties, reason) in [
        (
            "Name = \"broken\"; State = \"Running\";",
            "still different after it was set: State is Stopped",
        ),
        ("Name = \"none\";", "no such service. name=`none`"),
        (
            "Name = \"web\"; Controller = \"upstart\";",
            "Controller is not supported. name=`upstart`",
        ),
        ("Name = \"--now\";", "is not the name of a service"),
        ("Name = \"web\"; State = \"odd\";", "[Thing]x has State: odd"),
        (
            "Name = \"web\"; StartupType = \"Disabled\";",
            "name=`StartupType `disabled` of [Thing]x`",
        ),
        ("Name = \"web\"; Ensure = \"Absent\";", "name=`Ensure `Absent` of [Thing]x`"),
        ("Name = \"web\"; BuiltInAccount = \"LocalSystem\";", "name=`BuiltInAccount of [Thing]x`"),
    ] {
        system.fail(&nx(properties), reason).await;
    }
}

/// Where systemd does not run the system, that is what is said.
#[tokio::test]
async fn systemd_answers_or_says_that_it_does_not_run() {
    let answer = Systemd.state("no-such-service-of-anybody").await;
    match std::path::Path::new("/run/systemd/system").is_dir() {
        true => assert_eq!(answer.expect("an answer"), None),
        false => {
            let error = answer.expect_err("it does not run").to_string();
            assert!(error.contains("systemd: it does not run this system"), "{error}");
        }
    }
}
