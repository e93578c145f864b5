//! The routes.

use super::request::{Answer, Request, is_account};
use super::{
    compilation, configuration, node, node_configuration, registration, report, statistics,
};
use crate::Error;
use crate::authoring::SOURCE_BYTES_MAX;
use crate::pull_server::{CONFIGURATION_BYTES_MAX, PullServer};
use http::Method;
use oms_core::http::{Access, Authenticator, BodyLimits, Call, Route, Surface};
use oms_core::resource::ResourceId;
use std::future::Future;
use std::sync::Arc;

/// Every account; which one is served is for the handlers to tell.
const ACCOUNT: &str = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/providers\
                       /Microsoft.Automation/automationAccounts/{automationAccountName}";

/// What lies below the account and is wholly this service's.
const CLAIMS: [&str; 6] = [
    "configurations",
    "compilationjobs",
    "nodeConfigurations",
    "nodes",
    "nodecounts",
    "agentRegistrationInformation",
];

/// A document in JSON's escapes, and what is said of it.
const fn in_json(bytes: usize) -> BodyLimits {
    let limit = 2 * bytes + (64 << 10);
    BodyLimits { sent_bytes_max: limit, inflated_bytes_max: limit }
}

const SMALL: BodyLimits = BodyLimits { sent_bytes_max: 1 << 20, inflated_bytes_max: 1 << 20 };

/// An account whose configurations a pull server has.
#[derive(Debug)]
pub struct ArmAccount {
    /// The pull server.
    pub server: Arc<PullServer>,
    /// The account's identity.
    pub id: ResourceId,
    /// Where the account is said to be.
    pub location: String,
    /// The path of the pull server on the same address, such as
    /// [`http::PATH`](crate::http::PATH): nodes are told to register there.
    pub pull_path: String,
}

/// The management of an account's configurations, jobs, nodes and reports.
///
/// Callers are recognised by `authenticator`; each route needs the operation that Azure's role definitions
/// name for it. The path `…/statistics` is served where no other surface claims it: jobs of runbooks are
/// counted there, too.
///
/// # Errors
/// [`Error::Invalid`] if the identity is none of an account.
pub fn surface(
    account: ArmAccount,
    authenticator: Arc<dyn Authenticator>,
) -> Result<Surface, Error> {
    if !is_account(&account.id) {
        let reason = format!("`{}` is none of {}", account.id, super::ACCOUNTS);
        return Err(Error::Invalid { what: "account", reason });
    }
    let mut routes = Routes {
        account: Arc::new(account),
        surface: Surface::new("dsc management").authenticator(authenticator),
    };
    for claimed in CLAIMS {
        routes.surface = routes.surface.claim(&format!("{ACCOUNT}/{claimed}"));
    }
    routes.surface = routes.surface.claim_yielding(&format!("{ACCOUNT}/statistics"));
    routes.configurations();
    routes.jobs();
    routes.nodes();
    routes.account();
    Ok(routes.surface)
}

struct Routes {
    account: Arc<ArmAccount>,
    surface: Surface,
}

impl Routes {
    fn add<F, Fut>(
        &mut self,
        (method, below): (Method, &str),
        operation: &'static str,
        limits: BodyLimits,
        handler: F,
    ) where
        F: Fn(Request) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let account = Arc::clone(&self.account);
        let handle = move |call: Call| {
            let request = Request { call, account: Arc::clone(&account) };
            async move {
                let answer = match request.check_account() {
                    Ok(()) => handler(request).await,
                    Err(error) => Err(error.into()),
                };
                answer.unwrap_or_else(|refused| refused.response())
            }
        };
        let pattern = format!("{ACCOUNT}/{below}");
        let route = Route::new(method, &pattern, Access::Operation { operation }, handle);
        self.surface = self.surface.clone().route(route.limits(limits));
    }

    /// `dscConfiguration.json`
    fn configurations(&mut self) {
        const READ: &str = "Microsoft.Automation/automationAccounts/configurations/read";
        const WRITE: &str = "Microsoft.Automation/automationAccounts/configurations/write";
        const GONE: &str = "Microsoft.Automation/automationAccounts/configurations/delete";
        const CONTENT: &str = "Microsoft.Automation/automationAccounts/configurations/content/read";
        let one = "configurations/{configurationName}";
        let content = "configurations/{configurationName}/content";
        let large = in_json(SOURCE_BYTES_MAX);
        self.add((Method::GET, "configurations"), READ, SMALL, configuration::list);
        self.add((Method::GET, one), READ, SMALL, configuration::get);
        self.add((Method::PUT, one), WRITE, large, configuration::put);
        self.add((Method::PATCH, one), WRITE, large, configuration::patch);
        self.add((Method::DELETE, one), GONE, SMALL, configuration::delete);
        self.add((Method::GET, content), CONTENT, SMALL, configuration::content);
    }

    /// `dscCompilationJob.json`, `dscNodeConfiguration.json`
    fn jobs(&mut self) {
        const READ: &str = "Microsoft.Automation/automationAccounts/compilationjobs/read";
        const WRITE: &str = "Microsoft.Automation/automationAccounts/compilationjobs/write";
        let one = "compilationjobs/{compilationJobName}";
        let streams = "compilationjobs/{compilationJobName}/streams";
        let stream = "compilationjobs/{compilationJobName}/streams/{jobStreamId}";
        self.add((Method::GET, "compilationjobs"), READ, SMALL, compilation::list);
        self.add((Method::GET, one), READ, SMALL, compilation::get);
        self.add((Method::PUT, one), WRITE, SMALL, compilation::put);
        self.add((Method::GET, streams), READ, SMALL, compilation::streams);
        self.add((Method::GET, stream), READ, SMALL, compilation::stream);

        const SHOW: &str = "Microsoft.Automation/automationAccounts/nodeConfigurations/read";
        const PUT: &str = "Microsoft.Automation/automationAccounts/nodeConfigurations/write";
        const GONE: &str = "Microsoft.Automation/automationAccounts/nodeConfigurations/delete";
        let one = "nodeConfigurations/{nodeConfigurationName}";
        let large = in_json(CONFIGURATION_BYTES_MAX);
        self.add((Method::GET, "nodeConfigurations"), SHOW, SMALL, node_configuration::list);
        self.add((Method::GET, one), SHOW, SMALL, node_configuration::get);
        self.add((Method::PUT, one), PUT, large, node_configuration::put);
        self.add((Method::DELETE, one), GONE, SMALL, node_configuration::delete);
    }

    /// `dscNode.json`, `dscNodeCounts.json`
    fn nodes(&mut self) {
        const READ: &str = "Microsoft.Automation/automationAccounts/nodes/read";
        const WRITE: &str = "Microsoft.Automation/automationAccounts/nodes/write";
        const GONE: &str = "Microsoft.Automation/automationAccounts/nodes/delete";
        const REPORT: &str = "Microsoft.Automation/automationAccounts/nodes/reports/read";
        const COUNT: &str = "Microsoft.Automation/automationAccounts/nodecounts/read";
        let one = "nodes/{nodeId}";
        self.add((Method::GET, "nodes"), READ, SMALL, node::list);
        self.add((Method::GET, one), READ, SMALL, node::get);
        self.add((Method::PATCH, one), WRITE, SMALL, node::patch);
        self.add((Method::DELETE, one), GONE, SMALL, node::delete);
        let report = "nodes/{nodeId}/reports/{reportId}";
        let content = "nodes/{nodeId}/reports/{reportId}/content";
        self.add((Method::GET, "nodes/{nodeId}/reports"), REPORT, SMALL, report::list);
        self.add((Method::GET, report), REPORT, SMALL, report::get);
        self.add((Method::GET, content), REPORT, SMALL, report::content);
        self.add((Method::GET, "nodecounts/{countType}"), COUNT, SMALL, node::counts);
    }

    /// `account.json`
    fn account(&mut self) {
        // Azure answers the keys to whoever may read; here that takes more.
        const KEYS: &str = "Microsoft.Automation/automationAccounts/agentRegistrationInformation\
                            /listKeys/action";
        const ANEW: &str = "Microsoft.Automation/automationAccounts/agentRegistrationInformation\
                            /regenerateKey/action";
        const COUNT: &str = "Microsoft.Automation/automationAccounts/statistics/read";
        let keys = "agentRegistrationInformation";
        let anew = "agentRegistrationInformation/regenerateKey";
        self.add((Method::GET, keys), KEYS, SMALL, registration::get);
        self.add((Method::POST, anew), ANEW, SMALL, registration::regenerate);
        self.add((Method::GET, "statistics"), COUNT, SMALL, statistics::list);
    }
}
