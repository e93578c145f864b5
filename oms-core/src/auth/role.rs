//! Roles: what may be done by whoever holds them.

use super::OperationPattern;
use crate::id::ParseIdError;
use serde::{Deserialize, Serialize};

crate::uuid_id! {
    /// Names a role. The built-in ones have the identifiers of Azure's roles of the same name.
    RoleId, "role id"
}

/// The most actions, or not-actions, of one role.
const ACTIONS_MAX: usize = 256;

/// What a role allows: operations that some action covers and no not-action does. A not-action
/// takes away from its own role only; another role may allow the same operation.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleDefinition {
    /// Its identifier.
    pub id: RoleId,
    /// Its name, such as `Reader`.
    pub name: String,
    /// What it allows.
    pub actions: Vec<OperationPattern>,
    /// What it does not allow after all.
    pub not_actions: Vec<OperationPattern>,
}

impl RoleDefinition {
    /// A role of one's own.
    ///
    /// # Errors
    /// If a pattern cannot be read, the name is empty or over 256 characters, or there are more
    /// than 256 patterns of a kind.
    pub fn new(
        id: RoleId,
        name: &str,
        actions: &[&str],
        not_actions: &[&str],
    ) -> Result<Self, ParseIdError> {
        if !(1..=256).contains(&name.chars().count()) || name.chars().any(char::is_control) {
            let reason = "not 1 to 256 characters without control characters";
            return Err(ParseIdError::new("role name", name, reason));
        }
        if actions.len().max(not_actions.len()) > ACTIONS_MAX {
            return Err(ParseIdError::new("role", name, "more than 256 actions"));
        }
        let read = |patterns: &[&str]| -> Result<Vec<OperationPattern>, ParseIdError> {
            patterns.iter().map(|pattern| pattern.parse()).collect()
        };
        let (actions, not_actions) = (read(actions)?, read(not_actions)?);
        Ok(Self { id, name: name.to_owned(), actions, not_actions })
    }

    /// Whether it allows an operation.
    #[must_use]
    pub fn allows(&self, operation: &str) -> bool {
        let covers = |pattern: &OperationPattern| pattern.covers(operation);
        self.actions.iter().any(covers) && !self.not_actions.iter().any(covers)
    }

    /// The roles that are always there: those of every resource, and those of each service.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        let role = |(id, name, actions, not_actions): &Row| {
            let id = id.parse().ok()?;
            Self::new(id, name, actions, not_actions).ok()
        };
        BUILT_IN.iter().filter_map(role).collect()
    }

    /// A built-in role by its name, without regard to ASCII case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::built_in().into_iter().find(|role| role.name.eq_ignore_ascii_case(name))
    }
}

type Row = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// What every role of a service adds: to see the groups and subscriptions around it.
const AROUND: &str = "Microsoft.Resources/subscriptions/*/read";

const BUILT_IN: &[Row] = &[
    ("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", &["*"], &[]),
    (
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        "Contributor",
        &["*"],
        &["Microsoft.Authorization/*/write", "Microsoft.Authorization/*/delete"],
    ),
    ("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", &["*/read"], &[]),
    (
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        "User Access Administrator",
        &["*/read", "Microsoft.Authorization/*"],
        &[],
    ),
    (
        "92aaf0da-9dab-42b6-94a3-d43ce8d16293",
        "Log Analytics Contributor",
        &["*/read", "Microsoft.OperationalInsights/*", "Microsoft.OperationsManagement/*"],
        &[],
    ),
    (
        "73c42c96-874c-492b-b04d-ab87d138a893",
        "Log Analytics Reader",
        &["*/read", "Microsoft.OperationalInsights/workspaces/search/action"],
        &["Microsoft.OperationalInsights/workspaces/sharedKeys/read"],
    ),
    (
        "3913510d-42f4-4e42-8a64-420c390055eb",
        "Monitoring Metrics Publisher",
        &["Microsoft.Insights/Telemetry/Write", "Microsoft.Insights/Metrics/Write", AROUND],
        &[],
    ),
    (
        "f353d9bd-d4a6-484e-a77a-8050b599b867",
        "Automation Contributor",
        &["Microsoft.Automation/automationAccounts/*", AROUND],
        &[],
    ),
    (
        "d3881f73-407a-4167-8283-e981cbba0404",
        "Automation Operator",
        &[
            "Microsoft.Automation/automationAccounts/read",
            "Microsoft.Automation/automationAccounts/hybridRunbookWorkerGroups/read",
            "Microsoft.Automation/automationAccounts/jobs/read",
            "Microsoft.Automation/automationAccounts/jobs/resume/action",
            "Microsoft.Automation/automationAccounts/jobs/stop/action",
            "Microsoft.Automation/automationAccounts/jobs/suspend/action",
            "Microsoft.Automation/automationAccounts/jobs/write",
            "Microsoft.Automation/automationAccounts/jobs/streams/read",
            "Microsoft.Automation/automationAccounts/jobs/output/read",
            "Microsoft.Automation/automationAccounts/jobSchedules/read",
            "Microsoft.Automation/automationAccounts/jobSchedules/write",
            "Microsoft.Automation/automationAccounts/runbooks/read",
            "Microsoft.Automation/automationAccounts/schedules/read",
            "Microsoft.Automation/automationAccounts/schedules/write",
            AROUND,
        ],
        &[],
    ),
    // Azure has no role for State Configuration alone; this one is of this suite.
    (
        "5f1d1c6e-0e0e-4a52-9a3b-0d5c3c9d7a11",
        "State Configuration Contributor",
        &[
            "Microsoft.Automation/automationAccounts/read",
            "Microsoft.Automation/automationAccounts/configurations/*",
            "Microsoft.Automation/automationAccounts/compilationjobs/*",
            "Microsoft.Automation/automationAccounts/nodeConfigurations/*",
            "Microsoft.Automation/automationAccounts/nodes/*",
            "Microsoft.Automation/automationAccounts/modules/*",
            AROUND,
        ],
        &[],
    ),
    (
        "5e467623-bb1f-42f4-a55d-6e525e11384b",
        "Backup Contributor",
        &[
            "Microsoft.RecoveryServices/locations/*",
            "Microsoft.RecoveryServices/operations/read",
            "Microsoft.RecoveryServices/vaults/*",
            AROUND,
        ],
        &["Microsoft.RecoveryServices/vaults/replication*"],
    ),
    (
        "00c29273-979b-4161-815c-10b084fb9324",
        "Backup Operator",
        &[
            "Microsoft.RecoveryServices/vaults/read",
            "Microsoft.RecoveryServices/vaults/backup*/read",
            "Microsoft.RecoveryServices/vaults/backupFabrics/*",
            "Microsoft.RecoveryServices/vaults/backupJobs/*",
            AROUND,
        ],
        &["Microsoft.RecoveryServices/vaults/backupFabrics/*/delete"],
    ),
    (
        "a795c7a0-d4a2-40c1-ae25-d81f01202912",
        "Backup Reader",
        &[
            "Microsoft.RecoveryServices/vaults/read",
            "Microsoft.RecoveryServices/vaults/backup*/read",
            AROUND,
        ],
        &[],
    ),
    (
        "6670b86e-a3f7-4917-ac9b-5d6ab1be4567",
        "Site Recovery Contributor",
        &[
            "Microsoft.RecoveryServices/locations/*",
            "Microsoft.RecoveryServices/vaults/read",
            "Microsoft.RecoveryServices/vaults/write",
            "Microsoft.RecoveryServices/vaults/replication*",
            AROUND,
        ],
        &[],
    ),
    (
        "494ae006-db33-4328-bf46-533a6560a3ca",
        "Site Recovery Operator",
        &[
            "Microsoft.RecoveryServices/vaults/read",
            "Microsoft.RecoveryServices/vaults/replication*/read",
            "Microsoft.RecoveryServices/vaults/replication*/action",
            AROUND,
        ],
        &[],
    ),
    (
        "dbaa88c4-0c30-4179-9fb3-46319faa6149",
        "Site Recovery Reader",
        &[
            "Microsoft.RecoveryServices/vaults/read",
            "Microsoft.RecoveryServices/vaults/replication*/read",
            AROUND,
        ],
        &[],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_built_in_role_can_be_read_and_has_an_id_of_its_own() {
        let roles = RoleDefinition::built_in();
        assert_eq!(roles.len(), BUILT_IN.len());
        let ids: BTreeSet<RoleId> = roles.iter().map(|role| role.id).collect();
        assert_eq!(ids.len(), roles.len());
    }

    #[test]
    fn roles_allow_what_their_names_say() {
        for (role, operation, expect) in [
            ("Owner", "Microsoft.Authorization/roleAssignments/write", true),
            ("contributor", "Microsoft.Authorization/roleAssignments/write", false),
            ("Contributor", "Microsoft.Authorization/roleAssignments/read", true),
            ("Contributor", "Microsoft.Automation/automationAccounts/write", true),
            ("Reader", "Microsoft.Automation/automationAccounts/READ", true),
            ("Reader", "Microsoft.Automation/automationAccounts/write", false),
            ("Log Analytics Reader", "Microsoft.OperationalInsights/workspaces/query/read", true),
            (
                "Log Analytics Reader",
                "Microsoft.OperationalInsights/workspaces/sharedKeys/read",
                false,
            ),
            ("Automation Operator", "Microsoft.Automation/automationAccounts/jobs/write", true),
            (
                "Automation Operator",
                "Microsoft.Automation/automationAccounts/runbooks/write",
                false,
            ),
            ("Backup Contributor", "Microsoft.RecoveryServices/vaults/backupJobs/read", true),
            ("Backup Contributor", "Microsoft.RecoveryServices/vaults/replicationJobs/read", false),
            ("Backup Operator", "Microsoft.RecoveryServices/vaults/backupFabrics/x/delete", false),
            (
                "Site Recovery Reader",
                "Microsoft.RecoveryServices/vaults/replicationJobs/read",
                true,
            ),
            (
                "Site Recovery Operator",
                "Microsoft.RecoveryServices/vaults/replicationFabrics/write",
                false,
            ),
        ] {
            let found = RoleDefinition::named(role).expect("a built-in role");
            assert_eq!(found.allows(operation), expect, "{role} {operation}");
        }
        assert_eq!(RoleDefinition::named("Nobody"), None);
    }
}
