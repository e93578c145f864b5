//! Mounted surfaces on a listener.

use super::{Mounted, PeerCertificate, Transport};
use axum::body::Body;
use futures::future::BoxFuture;
use http::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// The most connections at a time; further ones wait in the system's queue.
pub const CONNECTIONS_MAX: usize = 10_000;

/// How long a client may take to send a request's head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long requests under way may take to end after a stop was asked for.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// An accepted connection, and the certificate that its client presented.
pub type Accepted = (Box<dyn Stream>, Option<PeerCertificate>);

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Turns a TCP connection into the stream that is served, such as one of TLS. Runs beside other
/// connections, so a slow handshake holds up nobody.
pub type Upgrade = Arc<dyn Fn(TcpStream) -> BoxFuture<'static, io::Result<Accepted>> + Send + Sync>;

/// Serves HTTP/1.1 in clear text until `stop` is ready, then lets requests under way end.
///
/// # Errors
/// When the listener breaks for good.
pub async fn serve(
    listener: TcpListener,
    mounted: Arc<Mounted>,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let clear: Upgrade =
        Arc::new(|stream| Box::pin(async move { Ok((Box::new(stream) as Box<dyn Stream>, None)) }));
    serve_tcp(listener, clear, Transport::Clear, mounted, stop).await
}

/// Serves HTTP/1.1 over the TLS stream that `upgrade` makes of each connection: requests carry
/// [`Transport::Tls`].
///
/// # Errors
/// When the listener breaks for good.
pub async fn serve_with(
    listener: TcpListener,
    upgrade: Upgrade,
    mounted: Arc<Mounted>,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    serve_tcp(listener, upgrade, Transport::Tls, mounted, stop).await
}

async fn serve_tcp(
    listener: TcpListener,
    upgrade: Upgrade,
    transport: Transport,
    mounted: Arc<Mounted>,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    run(accept, move |stream| upgrade(stream), transport, mounted, stop).await
}

/// Serves HTTP/1.1 on a socket of the file system, whose permissions decide who may connect.
///
/// # Errors
/// When the listener breaks for good.
#[cfg(unix)]
pub async fn serve_unix(
    listener: UnixListener,
    mounted: Arc<Mounted>,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let accept = || async { listener.accept().await.map(|(stream, _)| stream) };
    let plain = |stream| -> BoxFuture<'static, io::Result<Accepted>> {
        Box::pin(async move { Ok((Box::new(stream) as Box<dyn Stream>, None)) })
    };
    run(accept, plain, Transport::Local, mounted, stop).await
}

async fn run<S, A, AFut, U>(
    accept: A,
    upgrade: U,
    transport: Transport,
    mounted: Arc<Mounted>,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()>
where
    S: Send + 'static,
    A: Fn() -> AFut,
    AFut: Future<Output = io::Result<S>>,
    U: Fn(S) -> BoxFuture<'static, io::Result<Accepted>>,
{
    let stopping = watch::Sender::new(false);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::pin!(stop);
    loop {
        let place = tokio::select! {
            () = &mut stop => break,
            place = Arc::clone(&places).acquire_owned() => place.map_err(io::Error::other)?,
        };
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = accept() => match accepted {
                Ok(stream) => stream,
                Err(error) if is_passing(&error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        let (mounted, stopping) = (Arc::clone(&mounted), stopping.subscribe());
        let upgraded = upgrade(stream);
        tokio::spawn(async move {
            let _place = place;
            let Ok(Ok((stream, certificate))) = tokio::time::timeout(HEAD_TIMEOUT, upgraded).await
            else {
                return;
            };
            converse(stream, (transport, certificate), mounted, stopping).await;
        });
    }
    stopping.send_replace(true);
    // Connections hold their places until they end: all places free means all have ended.
    let drained = places.acquire_many(CONNECTIONS_MAX as u32);
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!("requests under way were cut off at the end of the drain time");
    }
    Ok(())
}

/// Serves one connection until its client closes it, or until its request under way has ended
/// after a stop.
async fn converse(
    stream: Box<dyn Stream>,
    peer: (Transport, Option<PeerCertificate>),
    mounted: Arc<Mounted>,
    mut stopping: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request| {
        answer(Arc::clone(&mounted), request, peer.clone())
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopping.wait_for(|is_stopping| *is_stopping).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Whether the next connection may be accepted all the same: the client gave up, or handles ran
/// out and will come back.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    const TOO_MANY_HANDLES: [i32; 2] = [23, 24];
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted | Kind::OutOfMemory
    ) || error.raw_os_error().is_some_and(|code| TOO_MANY_HANDLES.contains(&code))
}

async fn answer(
    mounted: Arc<Mounted>,
    request: Request<hyper::body::Incoming>,
    (transport, certificate): (Transport, Option<PeerCertificate>),
) -> Result<super::Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(transport);
    if let Some(certificate) = certificate {
        request.extensions_mut().insert(certificate);
    }
    Ok(mounted.handle(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Grants;
    use crate::http::{Access, Call, Route, Surface, mount, respond};
    use http::{Method, StatusCode};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};

    #[tokio::test]
    async fn a_stop_lets_the_request_under_way_end() {
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (signal, wait) = (Arc::clone(&entered), Arc::clone(&leave));
        let slow = move |call: Call| {
            let (signal, wait) = (Arc::clone(&signal), Arc::clone(&wait));
            async move {
                signal.notify_one();
                wait.notified().await;
                respond::text(StatusCode::OK, format!("{:?} done", call.transport()))
            }
        };
        let open = Access::Anonymous { reason: "a test" };
        let surface =
            Surface::new("s").claim("/s").route(Route::new(Method::GET, "/s", open, slow));
        let mounted = Arc::new(mount(vec![surface], Arc::new(Grants::default())).expect("mounts"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, mounted, async {
            let _ = stopped.await;
        }));
        let mut client = TcpStream::connect(address).await.expect("connect");
        client.write_all(b"GET /s HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("send");
        entered.notified().await;
        stop.send(()).expect("the server runs");
        leave.notify_one();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("answer");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("Clear done"), "{answer}");
        server.await.expect("no panic").expect("ends well");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }
}
