//! Commands for a directory that another process serves.
//!
//! The serving process listens on a socket in the directory that its owner alone may open, and
//! writes a token beside it that a command has to carry: a runbook runs as the same user and may
//! reach the socket, but cannot read the directory. A command is one `POST /command` with the
//! command as JSON; the answer is what it would have printed, or why it failed.

use crate::command::{Command, Output};
use crate::data::{DataDir, read_secret, write_durably};
use crate::suite::Suite;
use anyhow::{Context, Result, bail};
use axum::body::Body;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use oms_core::auth::{Authorizer, Grant, Grants, Principal};
use oms_core::http::{
    Access, BodyLimits, ByToken, Call, Mounted, Response, Route, Surface, mount, respond,
};
use oms_core::resource::ResourceId;
use oms_core::{EntropyExt, Secret, SystemEntropy};
use serde::{Deserialize, Serialize};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};

/// The largest command, in bytes.
const COMMAND_BYTES_MAX: usize = 1 << 20;

/// What a command came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Output),
    Failed(String),
}

/// Where the token of the serving process is, in the directory.
const TOKEN_FILE: &str = "oms.token";

/// Draws the token of this process and writes it for the directory's owner.
fn write_token(root: &Path) -> Result<Secret> {
    let token = format!("{}{}", SystemEntropy.uuid().simple(), SystemEntropy.uuid().simple());
    write_durably(root, TOKEN_FILE, token.as_bytes()).context("the command socket's token")?;
    Ok(Secret::from(token.as_str()))
}

/// Listens in the directory. The caller holds its lock, so a socket that is there is a dead
/// process's and makes way.
pub(crate) fn listen(root: &Path) -> Result<UnixListener> {
    let path = DataDir::socket(root);
    let named = || format!("command socket {}", path.display());
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(named),
    }
    let listener = UnixListener::bind(&path).with_context(named)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).with_context(named)?;
    Ok(listener)
}

/// The one route of the socket.
pub(crate) fn mounted(suite: &Arc<Suite>) -> Result<Mounted> {
    let runner = Arc::clone(suite);
    let run = move |call: Call| {
        let suite = Arc::clone(&runner);
        async move { answer(&suite, &call).await }
    };
    let access = Access::Operation { operation: "oms/command/action" };
    let limits = BodyLimits { sent_bytes_max: COMMAND_BYTES_MAX, ..BodyLimits::default() };
    // Whoever can read the token owns the directory.
    let owner = ByToken { token: write_token(suite.root())?, principal: Principal::local() };
    let surface = Surface::new("command")
        .claim("/command")
        .authenticator(Arc::new(owner))
        .route(Route::new(Method::POST, "/command", access, run).limits(limits));
    let everything = Grant {
        principal: Principal::local(),
        operation: "*".to_owned(),
        scope: ResourceId::root(),
    };
    let authorizer: Arc<dyn Authorizer> = Arc::new(Grants::new(vec![everything]));
    Ok(mount(vec![surface], authorizer)?)
}

async fn answer(suite: &Suite, call: &Call) -> Response {
    let command: Command = match serde_json::from_slice(&call.body) {
        Ok(command) => command,
        Err(error) => {
            let message = format!("not a command of this version: {error}");
            return respond::json(StatusCode::BAD_REQUEST, &Answer::Failed(message));
        }
    };
    let answer = match command.run(suite).await {
        Ok(output) => Answer::Done(output),
        Err(error) => Answer::Failed(format!("{error:#}")),
    };
    respond::json(StatusCode::OK, &answer)
}

/// Reaches the process that serves a directory.
///
/// # Errors
/// The operating system's, if none serves it.
pub(crate) async fn connect(root: &Path) -> std::io::Result<UnixStream> {
    UnixStream::connect(DataDir::socket(root)).await
}

/// Has a serving process run a command.
pub(crate) async fn send(root: &Path, stream: UnixStream, command: &Command) -> Result<Output> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let body = Body::from(serde_json::to_vec(command)?);
    let token = read_secret(&root.join(TOKEN_FILE))?;
    let bearer = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())?;
    let request = Request::post("/command").header(header::HOST, "oms");
    let request = request.header(header::AUTHORIZATION, bearer).body(body)?;
    let response = sender.send_request(request).await.context("the serving process hung up")?;
    let status = response.status();
    let bytes = response.into_body().collect().await?.to_bytes();
    drop(sender);
    connection.abort();
    if status != StatusCode::OK && status != StatusCode::BAD_REQUEST {
        bail!("the serving process refused the command: {}", String::from_utf8_lossy(&bytes));
    }
    match serde_json::from_slice(&bytes).context("the serving process answered something else")? {
        Answer::Done(output) => Ok(output),
        Answer::Failed(message) => bail!(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    use crate::suite::{Service, Wanted};
    use http::HeaderMap;
    use oms_core::testkit::routes;

    /// Whoever reaches the socket and shows no token, or another's, commands nothing; a token is of one
    /// start.
    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_on_the_socket_answers_a_stranger() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = DataDir::open(&folder.path().join("data")).expect("a data directory");
        let admin = crate::admin::Admin::load_or_create(data.root(), &SystemEntropy);
        let admin = admin.expect("credentials");
        let wanted = Wanted::new(&[Service::Backup], &Config::default());
        let suite = Suite::open(data, &admin, wanted).await.expect("a suite");
        let suite = Arc::new(suite);
        let token = || read_secret(&suite.root().join(TOKEN_FILE)).expect("a token");
        let before = mounted(&suite).expect("mounts");
        let stale = token();
        let mounted = mounted(&suite).expect("mounts");
        let open = routes::open_to_strangers(&mounted, &[]).await;
        let open: Vec<String> = open.iter().map(|walked| routes::shown(&walked.route)).collect();
        assert_eq!(open, ["GET /healthz"], "it says only that the process answers");
        for (mounted, secret, expected) in [
            (&mounted, &stale, StatusCode::UNAUTHORIZED),
            (&mounted, &admin.client_secret, StatusCode::UNAUTHORIZED),
            // It is let in, and has sent no command.
            (&mounted, &token(), StatusCode::BAD_REQUEST),
            (&before, &stale, StatusCode::BAD_REQUEST),
        ] {
            let bearer = HeaderValue::from_bytes(&[b"Bearer ", secret.expose()].concat());
            let bearer = bearer.expect("a header");
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bearer)]);
            let mut walked = routes::walk(mounted, &headers).await;
            walked.retain(|one| !one.route.access.is_anonymous());
            assert_eq!(walked.len(), 1, "one route takes commands");
            assert_eq!(walked[0].status, expected, "{walked:?}");
        }
        suite.close().await.expect("closes");
    }
}
