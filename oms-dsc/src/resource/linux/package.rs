//! Packages of Debian: `nxPackage`, by `dpkg` and `apt-get`.
//!
//! A package is there when `dpkg` has it as installed: one that is unpacked and not configured, as a
//! crash leaves it, is not. What was begun and not ended, of any package, is brought to its end first.
//! This process ends neither `apt-get` nor `dpkg` in the middle: what takes too long, or is under way when
//! it ends, goes on by itself. A manager of services that ends all of a service's processes ends them too:
//! a unit of systemd wants `KillMode=process`.

use super::command::{Program, Ran, find};
use super::property::{Ensure, Properties};
use super::tree::Root;
use super::{Difference, Resource, SetReport};
use crate::Error;
use crate::configuration::ResourceInstance;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const CLASSES: [&str; 2] = ["MSFT_nxPackageResource", "MSFT_nxPackage"];

const KNOWN: [&str; 7] =
    ["Name", "Ensure", "PackageManager", "PackageGroup", "Arguments", "ReturnCode", "FilePath"];

/// How long a package may take to be fetched and installed.
const TIMEOUT: Duration = Duration::from_secs(3_600);

/// What is installed asks nobody, keeps changed settings, and waits for whoever else installs. A name
/// is a name: without the last option one that is unknown would be a regular expression.
const APT_OPTIONS: [&str; 10] = [
    "-y",
    "-q",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
    "-o",
    "DPkg::Lock::Timeout=120",
    "-o",
    "APT::Cmd::Pattern-Only=true",
];

/// Packages of a system.
#[derive(Clone, Debug)]
pub struct PackageResource {
    root: Root,
}

impl PackageResource {
    /// The packages of this system.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self { root: Root::everywhere() }
    }

    /// The packages of the system whose files are below `root`. Its sources, lists and state are those
    /// below it; its packages' scripts run with it as their root.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such folder.
    pub fn within(root: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self { root: Root::only(root.into())? })
    }

    fn program(&self, name: &'static str, arguments: &[&str]) -> Result<Program, Error> {
        let not_found = || Error::NotFound { what: "program", name: name.to_owned() };
        let path = find(&[name]).ok_or_else(not_found)?;
        let mut program = Program::new(path, arguments.iter().copied());
        program.timeout = TIMEOUT;
        program.environment.push(("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned()));
        Ok(program)
    }

    /// `dpkg`, about the right system.
    fn dpkg(&self, arguments: &[&str]) -> Result<Program, Error> {
        let mut program = self.program("dpkg", &["--force-confdef", "--force-confold"])?;
        program.is_interruptible = false;
        if !self.root.is_everywhere() {
            program.arguments.push(format!("--root={}", self.root.system("/").display()));
        }
        program.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Ok(program)
    }

    /// `apt-get`, about the right system.
    fn apt(&self, arguments: &[String]) -> Result<Program, Error> {
        let mut program = self.program("apt-get", &APT_OPTIONS)?;
        program.is_interruptible = false;
        program.arguments.extend(self.apt_root());
        program.arguments.extend_from_slice(arguments);
        Ok(program)
    }

    /// The options that make programs of `apt` work on the right system.
    fn apt_root(&self) -> Vec<String> {
        if self.root.is_everywhere() {
            return Vec::new();
        }
        let root = self.root.system("/").display().to_string();
        let options = [
            format!("Dir={root}"),
            format!("Dir::State::status={root}/var/lib/dpkg/status"),
            format!("Dpkg::Options::=--root={root}"),
            // What this system says of its own caches does not fit there.
            "Dir::Cache::pkgcache=pkgcache.bin".to_owned(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".to_owned(),
            // The folder may be for its owner alone, and so closed to the user that fetches.
            "APT::Sandbox::User=root".to_owned(),
        ];
        options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect()
    }

    /// Whether `apt` knows a package of exactly that name.
    async fn is_known(&self, name: &str) -> Result<bool, Error> {
        let mut program = self.program("apt-cache", &[])?;
        program.arguments.extend(self.apt_root());
        program.arguments.extend(["pkgnames", "--", name].map(str::to_owned));
        let ran = program.run_well().await?;
        Ok(ran.output.split(|byte| *byte == b'\n').any(|line| line == name.as_bytes()))
    }

    /// Refuses a name with a `+` at its end that `apt` does not know: it would install the package of
    /// the name before the sign, whatever it was asked to do.
    async fn check_known(&self, name: &str) -> Result<(), Error> {
        if !name.ends_with('+') || self.is_known(name).await? {
            return Ok(());
        }
        // The lists may be of yesterday.
        self.apt(&["update".to_owned()])?.run_well().await?;
        match self.is_known(name).await? {
            true => Ok(()),
            false => Err(Error::NotFound { what: "package", name: name.to_owned() }),
        }
    }

    /// Brings to its end what was interrupted. Before that `apt-get` refuses to do anything.
    async fn finish_interrupted(&self) -> Result<(), Error> {
        let program = self.dpkg(&["--configure", "-a"])?;
        let ran = program.run().await?;
        if !ran.is_success() {
            // It may be the fault of another package, or somebody else installs: what comes next waits
            // for that, or says what is in its way.
            let (ending, said) = (ran.ending(), ran.last_words());
            tracing::warn!(ending, said, "what was interrupted is not brought to its end");
        }
        Ok(())
    }

    /// Status and version of a package, as `dpkg` has them; none if it never heard of it.
    async fn installed(&self, name: &str) -> Result<Option<Installed>, Error> {
        let format = "-f=${db:Status-Status}\t${Version}\t${binary:Package}\n";
        let folder = format!("--admindir={}", self.root.system("/var/lib/dpkg").display());
        let query = self.program("dpkg-query", &[&folder, "-W", format, name])?;
        let ran = query.run().await?;
        match ran.code {
            Some(0) => Ok(Installed::parse(&String::from_utf8_lossy(&ran.output))),
            Some(1) => Ok(None),
            _ => Err(query.failed(format!("{}: {}", ran.ending(), ran.last_words()))),
        }
    }

    /// Name and version of a package in a file.
    async fn in_file(&self, path: &str) -> Result<(String, String), Error> {
        let arguments = ["-f", path, "Package", "Version"];
        let ran = self.program("dpkg-deb", &arguments)?.run_well().await?;
        let text = String::from_utf8_lossy(&ran.output).into_owned();
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(found, _)| *found == name).map(|(_, value)| value.trim().to_owned())
        };
        let reason = "it has no name or no version".to_owned();
        field("Package")
            .zip(field("Version"))
            .ok_or(Error::Corrupt { what: format!("package {path}"), reason })
    }

    async fn differences(&self, desired: &Desired) -> Result<Vec<Difference>, Error> {
        let installed = self.installed(&desired.name).await?;
        let status = installed.as_ref().map_or("absent", |installed| installed.status.as_str());
        match desired.ensure {
            Ensure::Absent if matches!(status, "absent" | "not-installed" | "config-files") => {
                return Ok(Vec::new());
            }
            Ensure::Absent => return Ok(vec![Difference::new("Ensure", status, "absent")]),
            Ensure::Present if status != "installed" => {
                return Ok(vec![Difference::new("Ensure", status, "installed")]);
            }
            Ensure::Present => {}
        }
        let (Some(path), Some(installed)) = (&desired.file, installed) else {
            return Ok(Vec::new());
        };
        let (name, version) = self.in_file(path).await?;
        desired.check_file(path, &name)?;
        Ok((version != installed.version)
            .then(|| Difference::new("Version", installed.version, version))
            .into_iter()
            .collect())
    }

    async fn apply(&self, desired: &Desired) -> Result<(), Error> {
        self.finish_interrupted().await?;
        let arguments = |verb: &str| -> Vec<String> {
            let given = desired.arguments.iter().cloned();
            std::iter::once(verb.to_owned())
                .chain(given)
                .chain(["--".to_owned(), desired.name.clone()])
                .collect()
        };
        if desired.file.is_none() || desired.ensure == Ensure::Absent {
            self.check_known(&desired.name).await?;
        }
        let program = match (desired.ensure, &desired.file) {
            (Ensure::Present, Some(path)) => {
                desired.check_file(path, &self.in_file(path).await?.0)?;
                let mut program = self.dpkg(&[])?;
                program.arguments.extend(desired.arguments.iter().cloned());
                program.arguments.extend(["-i".to_owned(), "--".to_owned(), path.clone()]);
                program
            }
            (Ensure::Present, None) => self.apt(&arguments("install"))?,
            (Ensure::Absent, _) => self.apt(&arguments("remove"))?,
        };
        let ran = program.run().await?;
        if desired.accepts(&ran) {
            return Ok(());
        }
        let failed = |ran: &Ran| program.failed(format!("{}: {}", ran.ending(), ran.last_words()));
        if desired.ensure == Ensure::Absent || desired.file.is_some() {
            return Err(failed(&ran));
        }
        // The lists may be of yesterday.
        self.apt(&["update".to_owned()])?.run_well().await?;
        let again = program.run().await?;
        if desired.accepts(&again) { Ok(()) } else { Err(failed(&again)) }
    }
}

#[async_trait]
impl Resource for PackageResource {
    fn classes(&self) -> &[&str] {
        &CLASSES
    }

    async fn get(&self, instance: &ResourceInstance) -> Result<BTreeMap<String, Value>, Error> {
        let desired = Desired::of(instance, &self.root)?;
        let installed = self.installed(&desired.name).await?;
        let is_there = installed.as_ref().is_some_and(|installed| installed.status == "installed");
        Ok(BTreeMap::from([
            ("Name".to_owned(), json!(desired.name)),
            ("Ensure".to_owned(), json!(if is_there { "present" } else { "absent" })),
            ("Status".to_owned(), json!(installed.as_ref().map(|installed| &installed.status))),
            ("Version".to_owned(), json!(installed.as_ref().map(|installed| &installed.version))),
        ]))
    }

    async fn test(&self, instance: &ResourceInstance) -> Result<Vec<Difference>, Error> {
        self.differences(&Desired::of(instance, &self.root)?).await
    }

    async fn set(&self, instance: &ResourceInstance) -> Result<SetReport, Error> {
        self.apply(&Desired::of(instance, &self.root)?).await.map(|()| SetReport::default())
    }
}

/// A package that `dpkg` knows.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Installed {
    status: String,
    version: String,
}

impl Installed {
    /// Reads what `dpkg-query` prints; of several architectures the first that is installed.
    fn parse(text: &str) -> Option<Self> {
        let rows = text.lines().filter_map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            Some(Self { status: fields.next()?, version: fields.next()? })
        });
        let rows: Vec<Self> = rows.collect();
        let first = rows.iter().find(|row| row.status == "installed").or(rows.first());
        first.cloned()
    }
}

/// What should be.
#[derive(Clone, Debug)]
struct Desired {
    name: String,
    ensure: Ensure,
    arguments: Vec<String>,
    /// Another exit code than 0 that counts as success.
    code: i32,
    file: Option<String>,
}

impl Desired {
    fn of(instance: &ResourceInstance, root: &Root) -> Result<Self, Error> {
        let read = Properties::new(instance, "Package resource", &KNOWN)?;
        let name = read.needed("Name")?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.:".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_name) {
            return Err(read.invalid("Name", &format!("`{name}` is not the name of a package")));
        }
        // With that sign at its end, `apt` removes the package of the name before it.
        if name.ends_with('-') {
            return Err(read.invalid("Name", &format!("`{name}` ends with `-`")));
        }
        match read.word("PackageManager")?.as_deref() {
            None | Some("apt" | "dpkg") => {}
            Some(other) => return Err(read.unsupported(&format!("PackageManager `{other}`"))),
        }
        if read.flag("PackageGroup")? == Some(true) {
            return Err(read.unsupported("PackageGroup"));
        }
        let arguments = read.filled("Arguments")?.unwrap_or_default();
        let code = read.number("ReturnCode")?.unwrap_or(0);
        let code = i32::try_from(code).map_err(|_| read.invalid("ReturnCode", "no exit code"))?;
        let file = read.path("FilePath")?;
        if let Some(file) = &file {
            root.check(file)?;
        }
        Ok(Self {
            name: name.to_owned(),
            ensure: read.ensure()?,
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
            code,
            file: file.map(|file| file.display().to_string()),
        })
    }

    fn accepts(&self, ran: &Ran) -> bool {
        ran.is_success() || ran.code == Some(self.code)
    }

    fn check_file(&self, path: &str, name: &str) -> Result<(), Error> {
        let own = self.name.split(':').next().unwrap_or_default();
        if own == name {
            return Ok(());
        }
        let reason = format!("{path} holds `{name}`, and not `{own}`");
        Err(Error::Invalid { what: "Package resource", reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_architecture_counts_before_others() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let found = Installed::parse(text);
            let found = found.as_ref().map(|found| (&*found.status, &*found.version));
            assert_eq!(found, expect, "{text:?}");
        };
        check("installed\t1.0-1\tx\n", Some(("installed", "1.0-1")));
        check("config-files\t1\tx:i386\ninstalled\t2\tx:amd64\n", Some(("installed", "2")));
        check("not-installed\t\tx\n", Some(("not-installed", "")));
        check("", None);
    }
}
