//! `oms serve`: every service in one process, on one address.

use crate::admin::Admin;
use crate::data::DataDir;
use crate::suite::{Service, Suite, Wanted};
use crate::{socket, tls};
use anyhow::Result;
use http::{Method, StatusCode};
use oms_core::auth::Grants;
use oms_core::http::{
    Access, Call, Route, Surface, Upgrade, mount, respond, serve, serve_unix, serve_with,
};
use oms_core::{Clock, Secret, SystemClock, SystemEntropy};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the agent collects and the services' records are sent, while served.
const COLLECT_EVERY: Duration = Duration::from_secs(10);

/// What to serve, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address and port; port 0 takes a free one.
    #[arg(long, env = "OMS_LISTEN", default_value = "127.0.0.1:8089")]
    pub(crate) listen: SocketAddr,
    /// Certificate chain in PEM; with it the address speaks TLS.
    #[arg(long, requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Serve clear text on addresses that other machines reach.
    #[arg(long)]
    pub(crate) insecure_http: bool,
    /// Services to run, by name; all of them if none is given.
    #[arg(long, value_delimiter = ',')]
    pub(crate) services: Vec<Service>,
    /// The key that DSC nodes register with, in place of that of admin.json.
    #[arg(skip)]
    pub(crate) registration_key: Option<Secret>,
}

/// Serves until the process is asked to end, then lets requests under way end and everything
/// acknowledged reach its place.
pub(crate) async fn run(
    root: &Path,
    options: Options,
    search_path: &[PathBuf],
) -> Result<ExitCode> {
    let is_tls = options.tls_cert.is_some();
    tls::check_clear_text(options.listen, is_tls, options.insecure_http)?;
    let upgrade = match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => Some(tls::acceptor(certificate, key)?),
        _ => None,
    };
    // The address first: a port in use should not leave a half-made directory behind.
    let listener = TcpListener::bind(options.listen).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another process listens there; take --listen with \
                                              another port, or port 0 for a free one"
            }
            _ => "cannot listen there",
        };
        anyhow::anyhow!("{hint}. address=`{}`, reason=`{error}`", options.listen)
    })?;
    let data = DataDir::open(root)?;
    let admin = Admin::load_or_create(data.root(), &SystemEntropy)?;
    let mut wanted = Wanted::new(&options.services, search_path);
    wanted.registration_key = options.registration_key;
    let suite = Arc::new(Suite::open(data, &admin, wanted).await?);
    let served = serve_suite(root, &suite, listener, upgrade).await;
    // Whatever ended it, what was acknowledged reaches its place.
    let begin = SystemClock.monotonic();
    suite.close().await?;
    served?;
    println!("stopped in {:.1} s", (SystemClock.monotonic() - begin).as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

/// Serves until it is asked to end, or until a part of it breaks.
async fn serve_suite(
    root: &Path,
    suite: &Arc<Suite>,
    listener: TcpListener,
    upgrade: Option<Upgrade>,
) -> Result<()> {
    let address = listener.local_addr()?;
    let scheme = if upgrade.is_some() { "https" } else { "http" };
    let mut surfaces = suite.surfaces();
    surfaces.push(portal());
    let mounted = Arc::new(mount(surfaces, Arc::new(Grants::default()))?);
    let commands = Arc::new(socket::mounted(suite)?);
    let socket = socket::listen(root)?;
    let (stop, stopped) = watch::channel(false);
    let wait = || {
        let mut stopped = stopped.clone();
        async move { drop(stopped.wait_for(|is_stopped| *is_stopped).await) }
    };
    println!("serving {} on {scheme}://{address}", suite.names().join(", "));
    println!("data in {}, credentials in {}", root.display(), root.join("admin.json").display());
    let mut web = match upgrade {
        Some(upgrade) => tokio::spawn(serve_with(listener, upgrade, mounted, wait())),
        None => tokio::spawn(serve(listener, mounted, wait())),
    };
    let mut local = tokio::spawn(serve_unix(socket, commands, wait()));
    let mut work = tokio::spawn(background(Arc::clone(suite), wait()));
    let broken = tokio::select! {
        asked = ask_to_end() => asked.err(),
        ended = &mut web => Some(broke("server", flat(ended))),
        ended = &mut local => Some(broke("command server", flat(ended))),
        ended = &mut work => Some(broke("background work", ended.map_err(Into::into))),
    };
    println!("stopping");
    stop.send_replace(true);
    if let Some(error) = broken {
        return Err(error);
    }
    flat(web.await)?;
    flat(local.await)?;
    work.await?;
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

/// Collects this machine's records and sends the services' own, until it is asked to end.
async fn background(suite: Arc<Suite>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        if let Err(error) = suite.collect().await {
            tracing::warn!(error = format!("{error:#}"), "collection failed; it is tried again");
        }
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(COLLECT_EVERY) => {}
        }
    }
}

async fn ask_to_end() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
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
    use axum::body::Body;
    use http::Request;

    /// Nothing is served to a caller without credentials but what SECURITY.md lists as open.
    #[tokio::test(flavor = "multi_thread")]
    async fn every_route_is_closed_unless_it_is_listed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = DataDir::open(&folder.path().join("data")).expect("a data directory");
        let admin = Admin::load_or_create(data.root(), &SystemEntropy).expect("credentials");
        let suite = Suite::open(data, &admin, Wanted::new(&[], &[])).await.expect("a suite");
        let mut surfaces = suite.surfaces();
        surfaces.push(portal());
        let mounted = mount(surfaces, Arc::new(Grants::default())).expect("mounts");
        let security = include_str!("../../../../SECURITY.md");
        let mut routes = 0;
        for route in mounted.routes() {
            routes += 1;
            let shown = format!("{} {}", route.method, route.pattern);
            let request = Request::builder().method(&route.method).uri(&route.example);
            let request = request.body(Body::empty()).expect("a request");
            let status = mounted.handle(request).await.status();
            match route.access {
                Access::Anonymous { .. } => {
                    assert!(security.contains(&format!("`{shown}`")), "{shown} is not listed");
                }
                _ => assert!(status.is_client_error(), "{shown} answered {status}"),
            }
        }
        assert!(routes > 5, "{routes} routes");
        suite.close().await.expect("closes");
    }
}
