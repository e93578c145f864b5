//! Who calls, and what they may do.
//!
//! A [`Principal`] is a caller that a credential vouched for: [`Credentials`] keeps them and
//! checks what is presented. An [`Authorizer`] decides, and denies by default: [`Grants`] is a
//! list in memory, [`RoleAssignments`] keeps roles and who holds them in the journal.
//!
//! ```text
//!  secret, MAC, certificate, token ─► Credentials::verify… ─► Principal
//!                                                               │
//!  operation, resource ──────────► Authorizer::check ◄──────────┘
//!                                       │ some role: action fits, no not-action fits,
//!                                       ▼ scope is the resource or lies above it
//!                                  Ok, or Denied
//! ```

mod assignment;

mod credential;

mod credentials;

mod pattern;

mod role;

pub use assignment::{
    ASSIGNMENTS_MAX, AssignmentId, ROLES_MAX, RoleAssignment, RoleAssignments, RoleError,
};
pub use credential::{
    Credential, CredentialError, CredentialId, CredentialKind, DRAWN_BYTES, NewCredential,
    SECRET_BYTES_MIN, thumbprint,
};
pub use credentials::{CREDENTIALS_MAX, Credentials, SecretVerdict};
pub use pattern::OperationPattern;
pub use role::{RoleDefinition, RoleId};

use crate::ErrorKind;
use crate::resource::ResourceId;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Debug};
use std::sync::Arc;

/// How a caller was recognised.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum PrincipalKind {
    /// A client id and its secret, through the token endpoint.
    ClientSecret,
    /// The shared key of a workspace or account.
    SharedKey,
    /// A client certificate, by its thumbprint.
    Certificate,
    /// A DSC registration key.
    RegistrationKey,
    /// A DSC agent that registered before, by its AgentId.
    Agent,
    /// The token in a webhook's address.
    WebhookToken,
    /// The user who owns the data directory, through its socket or in process.
    Local,
}

/// A caller that somebody vouched for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Principal {
    /// How the caller was recognised.
    pub kind: PrincipalKind,
    /// Who it is within that kind: a client id, a thumbprint, an agent id.
    pub name: String,
}

impl Principal {
    /// A caller recognised as `name`.
    #[must_use]
    pub fn new(kind: PrincipalKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// The owner of the data directory.
    #[must_use]
    pub fn local() -> Self {
        Self::new(PrincipalKind::Local, "local")
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.kind, self.name)
    }
}

/// Why a call was not allowed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Nobody vouched for the caller.
    #[error("caller is not authenticated. reason=`{reason}`")]
    Unauthenticated {
        /// What is missing or wrong, without the credential itself.
        reason: &'static str,
    },
    /// No grant covers the call.
    #[error("not allowed. principal=`{principal}`, operation=`{operation}`, resource=`{resource}`")]
    Denied {
        /// Who called.
        principal: Principal,
        /// What was tried.
        operation: String,
        /// On what.
        resource: ResourceId,
    },
}

impl AuthError {
    /// That no grant of the principal covers the operation there.
    #[must_use]
    pub fn denied(principal: &Principal, operation: &str, resource: &ResourceId) -> Self {
        Self::Denied {
            principal: principal.clone(),
            operation: operation.to_owned(),
            resource: resource.clone(),
        }
    }

    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unauthenticated { .. } => ErrorKind::Unauthenticated,
            Self::Denied { .. } => ErrorKind::Denied,
        }
    }
}

/// Decides what a principal may do. Deny is the default.
pub trait Authorizer: Debug + Send + Sync {
    /// Allows `operation` (such as `Microsoft.OperationalInsights/workspaces/query/read`) on
    /// `resource`, or says why not.
    ///
    /// # Errors
    /// [`AuthError::Denied`].
    fn check(
        &self,
        principal: &Principal,
        operation: &str,
        resource: &ResourceId,
    ) -> Result<(), AuthError>;
}

/// One permission.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Whom it is given to.
    pub principal: Principal,
    /// A pattern of operations, in which `*` stands for any text, such as `*/read`. Compared
    /// without ASCII case; see [`OperationPattern`].
    pub operation: String,
    /// The resource and everything below it.
    pub scope: ResourceId,
}

/// An [`Authorizer`] that allows what a list of grants covers, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    grants: Vec<Grant>,
}

impl Grants {
    /// A list of grants. An empty list denies everything.
    #[must_use]
    pub fn new(grants: Vec<Grant>) -> Self {
        Self { grants }
    }
}

impl Authorizer for Grants {
    fn check(
        &self,
        principal: &Principal,
        operation: &str,
        resource: &ResourceId,
    ) -> Result<(), AuthError> {
        let covers = |grant: &Grant| {
            grant.principal == *principal
                && pattern::fits(&grant.operation, operation)
                && resource.is_within(&grant.scope)
        };
        if self.grants.iter().any(covers) {
            return Ok(());
        }
        Err(AuthError::denied(principal, operation, resource))
    }
}

/// Allows what any one of several authorizers allows by itself.
#[derive(Clone, Debug)]
pub struct AnyOf(pub Vec<Arc<dyn Authorizer>>);

impl Authorizer for AnyOf {
    fn check(
        &self,
        principal: &Principal,
        operation: &str,
        resource: &ResourceId,
    ) -> Result<(), AuthError> {
        let allows = |one: &Arc<dyn Authorizer>| one.check(principal, operation, resource).is_ok();
        if self.0.iter().any(allows) {
            return Ok(());
        }
        Err(AuthError::denied(principal, operation, resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(operation: &str, scope: &str) -> Grant {
        Grant {
            principal: Principal::local(),
            operation: operation.to_owned(),
            scope: scope.parse().expect("a scope"),
        }
    }

    #[test]
    fn nothing_is_allowed_without_a_grant() {
        let denied = Grants::default().check(&Principal::local(), "a/read", &ResourceId::root());
        assert_eq!(denied.expect_err("deny is the default").kind(), ErrorKind::Denied);
    }

    #[test]
    fn a_grant_covers_its_operation_scope_and_principal_only() {
        let grants = Grants::new(vec![grant("jobs/*", "/accounts/a")]);
        let check = |principal: &Principal, operation, resource: &str| {
            grants.check(principal, operation, &resource.parse().expect("a resource")).is_ok()
        };
        let local = Principal::local();
        assert!(check(&local, "Jobs/read", "/accounts/A/jobs/1"));
        assert!(!check(&local, "runbooks/read", "/accounts/a"));
        assert!(!check(&local, "jobs/read", "/accounts/b"));
        assert!(!check(&local, "jobs/read", "/accounts/ab") && !check(&local, "jobs/read", "/"));
        assert!(!check(&Principal::new(PrincipalKind::Agent, "local"), "jobs/read", "/accounts/a"));
    }
}
