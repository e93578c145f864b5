//! The pull server over HTTP: paths to operations, replies to responses. Nothing is decided here.

use crate::Error;
use crate::protocol::{AgentId, Operation, Reply, Request, RequestHeaders, v1};
use crate::pull_server::{PullServer, REGISTRATION_BYTES_MAX, unknown_configuration_id};
use crate::report::REPORT_BYTES_MAX;
use axum::body::Body;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use oms_core::http::{Access, BodyLimits, Call, Params, PeerCertificate, Response, Route, Surface};
use std::sync::Arc;

/// The path that pull servers are usually found at.
pub const PATH: &str = "/PSDSCPullServer.svc";

/// The surface of a pull server at [`PATH`].
///
/// Registrations are signed over their body; everything else rests on an AgentId or
/// ConfigurationId that only the node and the server know, so all of it is checked by the
/// handlers. A node that presents a client certificate when it registers is bound to it: its
/// AgentId counts only together with that certificate from then on.
#[must_use]
pub fn surface(server: Arc<PullServer>) -> Surface {
    surface_at(server, PATH)
}

/// The surface of a pull server at another path, such as `/accounts/ID`. It has at least one
/// segment.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "a surface takes what it serves")]
pub fn surface_at(server: Arc<PullServer>, path: &str) -> Surface {
    let path = path.trim_end_matches('/');
    let mut surface = Surface::new("dsc").claim(path);
    for (method, pattern, access, limit, read) in version_2().into_iter().chain(version_1()) {
        let (server, base) = (Arc::clone(&server), Arc::<str>::from(path));
        let has_401 = !pattern.ends_with(WITHOUT_401);
        let handler = move |call: Call| {
            let (server, base) = (Arc::clone(&server), Arc::clone(&base));
            async move { answer(&server, &base, (read, has_401), call).await }
        };
        let limits = BodyLimits { sent_bytes_max: limit, inflated_bytes_max: limit };
        let pattern = format!("{path}/{pattern}");
        surface = surface.route(Route::new(method, &pattern, access, handler).limits(limits));
    }
    surface
}

/// Reads the operation out of what a path captured.
type Read = fn(&Params) -> Result<Operation, Error>;

const SMALL_BYTES_MAX: usize = 64 << 10;

const SIGNED: Access = Access::InHandler { scheme: "registration key: signature over the body" };
const AGENT: Access = Access::InHandler { scheme: "AgentId of a registered node" };
const CONFIGURATION: Access =
    Access::InHandler { scheme: "ConfigurationId of a published document" };

/// The one operation whose answers are 201, 400, 404 and 409 alone. See \[MS-DSCPM\] 3.12.5.1.1.
const WITHOUT_401: &str = "/CertificateRotation";

/// Method, path below the service, who may, the largest body in bytes, the operation.
type Entry = (Method, &'static str, Access, usize, Read);

fn version_2() -> [Entry; 10] {
    [
        (Method::PUT, "Nodes(AgentId='{agent_id}')", SIGNED, REGISTRATION_BYTES_MAX, |path| {
            Ok(Operation::RegisterDscAgent { agent_id: text(path, "agent_id").parse()? })
        }),
        (
            Method::POST,
            "Nodes(AgentId='{agent_id}')/GetDscAction",
            AGENT,
            SMALL_BYTES_MAX,
            |path| Ok(Operation::GetDscAction { agent_id: text(path, "agent_id").parse()? }),
        ),
        (
            Method::GET,
            "Nodes(AgentId='{agent_id}')/Configurations(ConfigurationName='{name}')\
             /ConfigurationContent",
            AGENT,
            SMALL_BYTES_MAX,
            |path| {
                Ok(Operation::GetConfiguration {
                    agent_id: text(path, "agent_id").parse()?,
                    configuration_name: text(path, "name").to_owned(),
                })
            },
        ),
        (
            Method::GET,
            "Modules(ModuleName='{name}',ModuleVersion='{version}')/ModuleContent",
            AGENT,
            SMALL_BYTES_MAX,
            |path| {
                Ok(Operation::GetModule {
                    module_name: text(path, "name").to_owned(),
                    module_version: text(path, "version").to_owned(),
                })
            },
        ),
        (Method::POST, "Nodes(AgentId='{agent_id}')/SendReport", AGENT, REPORT_BYTES_MAX, |path| {
            Ok(Operation::SendReport { agent_id: text(path, "agent_id").parse()? })
        }),
        (
            Method::GET,
            "Nodes(AgentId='{agent_id}')/Reports(JobId='{job_id}')",
            AGENT,
            SMALL_BYTES_MAX,
            reports,
        ),
        (Method::GET, "Nodes(AgentId='{agent_id}')/Reports()", AGENT, SMALL_BYTES_MAX, reports),
        (Method::GET, "Nodes(AgentId='{agent_id}')/Reports", AGENT, SMALL_BYTES_MAX, reports),
        (
            Method::POST,
            "Nodes(AgentId='{agent_id}')/CertificateRotation",
            AGENT,
            SMALL_BYTES_MAX,
            |path| Ok(Operation::CertificateRotation { agent_id: text(path, "agent_id").parse()? }),
        ),
        (
            Method::POST,
            "Nodes(AgentId='{agent_id}')/GetResourceState",
            AGENT,
            SMALL_BYTES_MAX,
            |path| Ok(Operation::GetResourceState { agent_id: text(path, "agent_id").parse()? }),
        ),
    ]
}

fn reports(path: &Params) -> Result<Operation, Error> {
    let job_id = path.get("job_id").map(str::parse).transpose()?;
    Ok(Operation::GetReports { agent_id: text(path, "agent_id").parse()?, job_id })
}

fn version_1() -> [Entry; 6] {
    [
        (
            Method::POST,
            "Action(ConfigurationId='{id}')/GetAction",
            CONFIGURATION,
            SMALL_BYTES_MAX,
            |path| Ok(Operation::V1(v1::Operation::GetAction { configuration_id: id(path)? })),
        ),
        (
            Method::GET,
            "Action(ConfigurationId='{id}')/ConfigurationContent",
            CONFIGURATION,
            SMALL_BYTES_MAX,
            |path| {
                Ok(Operation::V1(v1::Operation::GetConfiguration { configuration_id: id(path)? }))
            },
        ),
        (
            Method::GET,
            "Module(ConfigurationId='{id}',ModuleName='{name}',ModuleVersion='{version}')\
             /ModuleContent",
            CONFIGURATION,
            SMALL_BYTES_MAX,
            |path| {
                Ok(Operation::V1(v1::Operation::GetModule {
                    configuration_id: id(path)?,
                    module_name: text(path, "name").to_owned(),
                    module_version: text(path, "version").to_owned(),
                }))
            },
        ),
        (
            Method::POST,
            "Node(ConfigurationId='{id}')/SendStatusReport",
            CONFIGURATION,
            REPORT_BYTES_MAX,
            |path| {
                Ok(Operation::V1(v1::Operation::SendStatusReport { configuration_id: id(path)? }))
            },
        ),
        (
            Method::GET,
            "Node(ConfigurationId='{id}')/StatusReports",
            CONFIGURATION,
            SMALL_BYTES_MAX,
            status_reports,
        ),
        (
            Method::GET,
            "Node(ConfigurationId='{id}')/Reports(JobId='{job_id}')",
            CONFIGURATION,
            SMALL_BYTES_MAX,
            status_reports,
        ),
    ]
}

fn status_reports(path: &Params) -> Result<Operation, Error> {
    let configuration_id = id(path)?;
    let job_id = path.get("job_id").map(str::parse).transpose()?;
    Ok(Operation::V1(v1::Operation::GetStatusReports { configuration_id, job_id }))
}

fn text<'a>(path: &'a Params, name: &str) -> &'a str {
    path.get(name).unwrap_or_default()
}

fn id(path: &Params) -> Result<uuid::Uuid, Error> {
    let id = text(path, "id");
    let parsed: Result<AgentId, _> = id.parse();
    parsed.map(|id| id.0).map_err(|_bad| unknown_configuration_id(id))
}

async fn answer(
    server: &PullServer,
    path: &str,
    (read, has_401): (Read, bool),
    call: Call,
) -> Response {
    let presented = call.peer_certificate().map(PeerCertificate::thumbprint);
    let reply = match read(&call.path) {
        Ok(operation) => {
            let header = |name: &str| call.header(name).map(str::to_owned);
            let headers = RequestHeaders {
                authorization: header("authorization"),
                x_ms_date: header("x-ms-date"),
                agent_id: header("agentid"),
                configuration_name: header("configurationname"),
                certificate_thumbprint: presented,
            };
            let base = format!("{}{path}", call.base_url());
            server.answer(Request { operation, headers, base, body: call.body }).await
        }
        Err(error) => {
            let agent_id = call.path.get("agent_id");
            server.refuse_path(agent_id, presented.as_deref(), has_401, error).await
        }
    };
    respond(reply)
}

fn respond(reply: Reply) -> Response {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in reply.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
