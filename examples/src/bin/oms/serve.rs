//! `oms serve`: every service in one process, on one address.

use crate::admin::Admin;
use crate::config::Config;
use crate::data::DataDir;
use crate::metrics::Registry;
use crate::suite::{Service, Suite, Wanted};
use crate::{config, scrape, socket, tls};
use anyhow::{Context, Result, bail};
use http::{Method, StatusCode};
use oms_core::http::{
    Access, Call, Mounted, Route, Surface, Upgrade, mount, respond, serve, serve_unix, serve_with,
};
use oms_core::{Clock, Secret, SystemClock, SystemEntropy};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How often the agent collects and the services' records are sent, while served.
const COLLECT_EVERY: Duration = Duration::from_secs(10);

/// What is due is done once in so many rounds of collection: every minute.
const MAINTAIN_ROUNDS: u64 = 6;

/// How often clients, roles and resources of a shared journal are read again.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// What to serve, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address and port; port 0 takes a free one [default: 127.0.0.1:8089].
    #[arg(long, env = "OMS_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// Certificate chain in PEM; with it the address speaks TLS.
    #[arg(long, env = "OMS_TLS_CERT")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, env = "OMS_TLS_KEY")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve clear text on addresses that other machines reach.
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// Services to run, by name; all of them if none is given.
    #[arg(long, env = "OMS_SERVICES", value_delimiter = ',')]
    pub(crate) services: Vec<Service>,
    /// Print what file, environment and flags come to, without secrets, and end.
    #[arg(long)]
    pub(crate) print_config: bool,
}

impl Options {
    /// Puts what was given over what the configuration says.
    pub(crate) fn configure(&self, serve: &mut config::Serve) {
        serve.listen = self.listen.or(serve.listen);
        if self.tls_cert.is_some() {
            serve.tls_cert.clone_from(&self.tls_cert);
        }
        if self.tls_key.is_some() {
            serve.tls_key.clone_from(&self.tls_key);
        }
        if self.insecure_http {
            serve.insecure_http = Some(true);
        }
        if !self.services.is_empty() {
            serve.services.clone_from(&self.services);
        }
    }
}

/// Serves until the process is asked to end, then lets requests under way end and everything
/// acknowledged reach its place.
pub(crate) async fn run(
    root: &Path,
    config: &Config,
    registration_key: Option<Secret>,
) -> Result<ExitCode> {
    let config::Serve { listen, tls_cert, tls_key, insecure_http, services } =
        config.effective(true).serve;
    let listen = listen.context("no address to listen on")?;
    let upgrade = match (&tls_cert, &tls_key) {
        (Some(certificate), Some(key)) => Some(tls::acceptor(certificate, key)?),
        (None, None) => None,
        _ => bail!("a certificate needs its key, and a key its certificate: --tls-cert, --tls-key"),
    };
    tls::check_clear_text(listen, upgrade.is_some(), insecure_http == Some(true))?;
    let registry = Registry::install();
    // The address first: a port in use should not leave a half-made directory behind.
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another process listens there; take --listen with \
                                              another port, or port 0 for a free one"
            }
            _ => "cannot listen there",
        };
        anyhow::anyhow!("{hint}. address=`{listen}`, reason=`{error}`")
    })?;
    let data = DataDir::open(root)?;
    let admin = Admin::load_or_create(data.root(), &SystemEntropy)?;
    let mut wanted = Wanted::new(&services, config);
    wanted.registration_key = registration_key;
    let suite = Arc::new(Suite::open(data, &admin, wanted).await?);
    let served = serve_suite(root, &suite, listener, upgrade, registry).await;
    // Whatever ended it, what was acknowledged reaches its place.
    let begin = SystemClock.monotonic();
    suite.close().await?;
    served?;
    crate::say!("stopped in {:.1} s", (SystemClock.monotonic() - begin).as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

/// Everything that is served on the network address, and who may.
fn mounted(suite: &Suite, registry: Registry) -> Result<Mounted> {
    let mut surfaces = suite.surfaces()?;
    surfaces.push(portal());
    surfaces.push(scrape::surface(suite.root(), registry)?);
    let authorizer = suite.authorizer(vec![scrape::grant()?])?;
    Ok(mount(surfaces, authorizer)?)
}

/// Serves until it is asked to end, or until a part of it breaks.
async fn serve_suite(
    root: &Path,
    suite: &Arc<Suite>,
    listener: TcpListener,
    upgrade: Option<Upgrade>,
    registry: Registry,
) -> Result<()> {
    let mut signals = Signals::listen()?;
    let address = listener.local_addr()?;
    let scheme = if upgrade.is_some() { "https" } else { "http" };
    let mounted = Arc::new(mounted(suite, registry)?);
    let commands = Arc::new(socket::mounted(suite)?);
    let socket = socket::listen(root)?;
    let (stop, stopped) = watch::channel(false);
    let wait = || {
        let mut stopped = stopped.clone();
        async move { drop(stopped.wait_for(|is_stopped| *is_stopped).await) }
    };
    crate::say!("serving {} on {scheme}://{address}", suite.names().join(", "));
    crate::say!("data in {}, credentials in {}", root.display(), root.join("admin.json").display());
    let mut web = match upgrade {
        Some(upgrade) => tokio::spawn(serve_with(listener, upgrade, mounted, wait())),
        None => tokio::spawn(serve(listener, mounted, wait())),
    };
    let mut local = tokio::spawn(serve_unix(socket, commands, wait()));
    let mut work = tokio::spawn(background(Arc::clone(suite), wait()));
    let mut fresh = tokio::spawn(refresh(Arc::clone(suite), wait()));
    let broken = tokio::select! {
        () = signals.next() => None,
        ended = &mut web => Some(broke("server", flat(ended))),
        ended = &mut local => Some(broke("command server", flat(ended))),
        ended = &mut work => Some(broke("background work", ended.map_err(Into::into))),
        ended = &mut fresh => Some(broke("refresh of clients", ended.map_err(Into::into))),
        lost = suite.lost() => Some(lost),
    };
    crate::say!("stopping");
    stop.send_replace(true);
    tokio::spawn(async move {
        signals.next().await;
        // Everything acknowledged is durable; what is under way was told that this may happen.
        eprintln!("oms: ended at once by a second signal");
        std::process::exit(SECOND_SIGNAL);
    });
    // Beside the requests under way: some wait for a job.
    suite.stop_jobs().await;
    if let Some(error) = broken {
        return Err(error);
    }
    flat(web.await)?;
    flat(local.await)?;
    work.await?;
    fresh.await?;
    let _ = std::fs::remove_file(DataDir::socket(root));
    Ok(())
}

fn flat(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<()> {
    Ok(ended??)
}

/// A part that ended by itself is broken, also without an error.
fn broke(part: &'static str, ended: Result<()>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow::anyhow!("the {part} ended by itself"),
        Err(error) => error.context(format!("the {part} broke")),
    }
}

/// Collects this machine's records, sends the services' own, and does what is due as time goes by, until it
/// is asked to end.
async fn background(suite: Arc<Suite>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    for round in 0_u64.. {
        if let Err(error) = suite.collect().await {
            tracing::warn!(error = format!("{error:#}"), "collection failed; it is tried again");
        }
        if round.is_multiple_of(MAINTAIN_ROUNDS)
            && let Err(error) = suite.maintain().await
        {
            tracing::warn!(error = format!("{error:#}"), "maintenance failed; it is tried again");
        }
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(COLLECT_EVERY) => {}
        }
    }
}

/// Keeps up with the clients and roles that other processes change, until it is asked to end. It
/// waits for nothing else, so that a revoked client is soon one here, too.
async fn refresh(suite: Arc<Suite>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        if let Err(error) = suite.refresh().await {
            tracing::warn!(error = format!("{error:#}"), "not refreshed; it is tried again");
        }
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(REFRESH_EVERY) => {}
        }
    }
}

/// What the process ends with when it is told to end twice: 128 and the number of SIGINT.
const SECOND_SIGNAL: i32 = 130;

/// The signals that ask the process to end.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) {
        let _ = self.number().await;
    }

    /// Waits for one; answers its number.
    pub(crate) async fn number(&mut self) -> u8 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        };
        kind.as_raw_value().unsigned_abs() as u8
    }
}

/// The page at `/`.
fn portal() -> Surface {
    let access = Access::Anonymous { reason: "a static page without data" };
    let page = |_call: Call| async {
        respond::body(StatusCode::OK, "text/html; charset=utf-8", include_str!("portal/index.html"))
    };
    Surface::new("portal").claim_exact("/").route(Route::new(Method::GET, "/", access, page))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::identity;
    use axum::body::Body;
    use http::{Request, header};
    use oms_core::http::RouteInfo;
    use oms_core::testkit::routes::{self, Prescribed};
    use std::collections::BTreeSet;

    /// An id for every place in a path that takes one.
    const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

    /// Opens some services in a folder of their own, and what they serve.
    async fn open(services: &[Service]) -> (tempfile::TempDir, Suite, Mounted) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = DataDir::open(&folder.path().join("data")).expect("a data directory");
        let mut admin = Admin::load_or_create(data.root(), &SystemEntropy).expect("credentials");
        ID.clone_into(&mut admin.tenant_id);
        let wanted = Wanted::new(services, &Config::default());
        let suite = Suite::open(data, &admin, wanted).await.expect("a suite");
        let mounted = mounted(&suite, Registry::default()).expect("mounts");
        (folder, suite, mounted)
    }

    /// A path that fits a pattern, with an id or a version in each place; the tenant is ours.
    fn example(pattern: &str) -> String {
        let (mut path, mut rest) = (String::new(), pattern);
        while let Some((before, after)) = rest.split_once('{') {
            let (capture, after) = after.split_once('}').unwrap_or((after, ""));
            let is_id = capture.to_lowercase().ends_with("id") || capture == "tenant";
            let value = if is_id { ID } else { "1.0" };
            path.push_str(before);
            path.push_str(value);
            rest = after;
        }
        path + rest
    }

    async fn status(mounted: &Mounted, route: &RouteInfo, token: Option<&str>) -> StatusCode {
        ask(mounted, route, token).await.0
    }

    async fn ask(
        mounted: &Mounted,
        route: &RouteInfo,
        token: Option<&str>,
    ) -> (StatusCode, String) {
        let request = Request::builder().method(&route.method).uri(example(&route.pattern));
        let request = match token {
            Some(token) => request.header(header::AUTHORIZATION, token),
            None => request,
        };
        let response = mounted.handle(request.body(Body::empty()).expect("a request")).await;
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The routes that SECURITY.md calls open.
    fn listed() -> BTreeSet<String> {
        let security = include_str!("../../../../SECURITY.md").lines();
        let open = security.filter(|line| line.contains("| everyone | open"));
        open.filter_map(|line| line.split('`').nth(1)).map(str::to_owned).collect()
    }

    /// Where a stranger is not answered by 401 or 403, because the protocol has it otherwise.
    const PRESCRIBED: [Prescribed; 9] = [
        refused("POST /api/logs", 403, "HTTP Data Collector API: `InvalidAuthorization` is 403"),
        refused("POST /{tenant}/oauth2/v2.0/token", 400, "RFC 6749, 5.2: `invalid_request` is 400"),
        refused(
            "POST /PSDSCPullServer.svc/Nodes(AgentId='{agent_id}')/CertificateRotation",
            404,
            "[MS-DSCPM] 3.12.5.1.1: its answers are 201, 400, 404 and 409 alone",
        ),
        refused(
            "POST /PSDSCPullServer.svc/Action(ConfigurationId='{id}')/GetAction",
            400,
            NO_CONFIGURATION,
        ),
        refused(
            "GET /PSDSCPullServer.svc/Action(ConfigurationId='{id}')/ConfigurationContent",
            400,
            NO_CONFIGURATION,
        ),
        refused(
            "GET /PSDSCPullServer.svc/Module(ConfigurationId='{id}',ModuleName='{name}',\
             ModuleVersion='{version}')/ModuleContent",
            400,
            NO_CONFIGURATION,
        ),
        refused(
            "POST /PSDSCPullServer.svc/Node(ConfigurationId='{id}')/SendStatusReport",
            400,
            NO_CONFIGURATION,
        ),
        refused(
            "GET /PSDSCPullServer.svc/Node(ConfigurationId='{id}')/StatusReports",
            400,
            NO_CONFIGURATION,
        ),
        refused(
            "GET /PSDSCPullServer.svc/Node(ConfigurationId='{id}')/Reports(JobId='{job_id}')",
            400,
            NO_CONFIGURATION,
        ),
    ];

    /// Version 1 of the protocol knows no caller: the id of a configuration is all that is shown, and
    /// its clients wait for this refusal of one under which nothing is published.
    const NO_CONFIGURATION: &str = "a pull server of version 1 answers an unknown id by 400";

    const fn refused(route: &'static str, status: u16, reason: &'static str) -> Prescribed {
        let status = match status {
            403 => StatusCode::FORBIDDEN,
            404 => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        };
        Prescribed { route, status, reason }
    }

    /// Nothing is served to a caller without credentials, or with wrong ones, but what SECURITY.md
    /// lists as open; every other route and method answers 401 or 403, or as its protocol prescribes.
    #[tokio::test(flavor = "multi_thread")]
    async fn every_route_is_closed_unless_it_is_listed() {
        let (_folder, suite, mounted) = open(&[]).await;
        let (mut closed, mut anonymous) = (BTreeSet::new(), BTreeSet::new());
        let mut wrong = Vec::new();
        for route in mounted.routes() {
            let shown = routes::shown(&route);
            for token in [None, Some("Bearer wrong"), Some("Shared d3Jvbmc=")] {
                let status = status(&mounted, &route, token).await;
                if route.access.is_anonymous() {
                    assert_eq!(status, StatusCode::OK, "{shown} with {token:?}");
                    anonymous.insert(shown.clone());
                    continue;
                }
                closed.insert(shown.clone());
                let is_right = match PRESCRIBED.iter().find(|one| one.route == shown) {
                    Some(one) => status == one.status,
                    None => matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
                };
                if !is_right {
                    wrong.push(format!("{shown} with {token:?}: {status}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(closed.len() > 5, "{closed:?}");
        for Prescribed { route, .. } in PRESCRIBED {
            assert!(closed.contains(route), "there is no {route}");
        }
        assert_eq!(anonymous, listed());
        suite.close().await.expect("closes");
    }

    /// A client that is known and has no role is denied every operation there is. What knows its callers
    /// by something else than such a token takes it for a stranger's.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_without_a_role_is_denied_every_operation() {
        let (_folder, suite, mounted) = open(&[]).await;
        let headers = identity::tests::guest(suite.identity(), &mounted, ID).await;
        let token = headers[header::AUTHORIZATION].to_str().expect("text");
        let (mut denied, mut strange, mut wrong) = (0, BTreeSet::new(), Vec::new());
        for route in mounted.routes() {
            let shown = routes::shown(&route);
            match (route.access.operation(), status(&mounted, &route, Some(token)).await) {
                (None, status) if !route.access.is_anonymous() && status.is_success() => {
                    wrong.push(format!("{shown}: {status}"));
                }
                (None, _) => {}
                (Some(_), StatusCode::FORBIDDEN) => denied += 1,
                (Some(_), StatusCode::UNAUTHORIZED) => drop(strange.insert(route.pattern)),
                (Some(_), status) => wrong.push(format!("{shown}: {status}")),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(denied > 20, "{denied} of {}", mounted.routes().count());
        // Metrics have a token of their own, and ingestion takes tokens of another audience alone.
        let elsewhere = ["/dataCollectionRules/{rule}/streams/{stream}", "/metrics"];
        assert_eq!(strange, BTreeSet::from(elsewhere.map(str::to_owned)));
        suite.close().await.expect("closes");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_token_for_metrics_reads_metrics_and_is_kept() {
        let (_folder, suite, mounted) = open(&[Service::Backup]).await;
        let token = std::fs::read_to_string(suite.root().join("metrics.token")).expect("a token");
        let find = |pattern: &str| mounted.routes().find(|route| route.pattern == pattern);
        let bearer = format!("Bearer {token}");
        let route = find("/metrics").expect("a route");
        assert_eq!(status(&mounted, &route, Some(&bearer)).await, StatusCode::OK);
        let again = scrape::surface(suite.root(), Registry::default()).expect("a surface");
        drop(again);
        let kept = std::fs::read_to_string(suite.root().join("metrics.token")).expect("a token");
        assert_eq!(kept, token);
        suite.close().await.expect("closes");
    }

    /// A command of each service that needs the service to run.
    fn command(service: Service) -> Option<Command> {
        let line: &[&str] = match service {
            Service::Logs => &["logs", "tables"],
            Service::Automation => &["automation", "job"],
            Service::Dsc => &["dsc", "nodes"],
            Service::Recovery => &["recovery", "status"],
            // Its commands open a vault that they name.
            Service::Backup => return None,
        };
        Some(crate::cli::command(line))
    }

    /// Every set of services starts and stops; what is not in it answers 404 at its paths, and its
    /// commands name it.
    #[tokio::test(flavor = "multi_thread")]
    async fn every_set_of_services_runs_by_itself() {
        let (_folder, whole, all) = open(&[]).await;
        let routes: Vec<RouteInfo> = all.routes().collect();
        whole.close().await.expect("closes");
        for set in 1..1_u32 << Service::ALL.len() {
            let is_in = |index: &usize| set & (1 << index) != 0;
            let services: Vec<Service> =
                (0..Service::ALL.len()).filter(is_in).map(|index| Service::ALL[index]).collect();
            let (_folder, suite, mounted) = open(&services).await;
            let served: BTreeSet<String> = mounted.routes().map(|route| route.pattern).collect();
            for route in &routes {
                let (status, body) = ask(&mounted, route, None).await;
                let is_absent = status == StatusCode::NOT_FOUND && body.contains("no such path");
                let shown = &route.pattern;
                assert_eq!(is_absent, !served.contains(shown), "{services:?} {shown} {status}");
            }
            for service in Service::ALL {
                let Some(command) = command(service) else { continue };
                let ran = command.run(&suite).await;
                if services.contains(&service) {
                    ran.unwrap_or_else(|error| panic!("{services:?} {service:?}: {error:#}"));
                    continue;
                }
                let error = format!("{:#}", ran.expect_err("the service is off"));
                let name = format!("service=`{}`", service.name());
                assert!(error.contains(&name), "{services:?}: {error}");
            }
            suite.collect().await.expect("collects what there is");
            suite.close().await.expect("closes");
        }
    }
}
