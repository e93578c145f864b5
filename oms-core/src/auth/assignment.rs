//! Who holds which role where, kept in the journal.

use super::{AuthError, Authorizer, Principal, RoleDefinition, RoleId};
use crate::id::ParseIdError;
use crate::journal::{Event, HistoryId, Journal, JournalError, JournalEvent as _, JournalExt};
use crate::resource::ResourceId;
use crate::{Clock, ErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

crate::uuid_id! {
    /// Names a role assignment.
    AssignmentId, "role assignment id"
}

/// The most role assignments at a time.
pub const ASSIGNMENTS_MAX: usize = 10_000;

/// The most roles of one's own at a time.
pub const ROLES_MAX: usize = 1_000;

/// Histories of assignments, by [`AssignmentId`].
const ASSIGNMENT_KIND: &str = "role-assignment";

/// Histories of roles, by [`RoleId`].
const ROLE_KIND: &str = "role-definition";

/// A role that a principal holds for a scope and everything below it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleAssignment {
    /// Its identifier.
    pub id: AssignmentId,
    /// Who holds the role.
    pub principal: Principal,
    /// The role.
    pub role: RoleId,
    /// The root, a subscription, a group or a resource.
    pub scope: ResourceId,
}

/// Why a role was not assigned, defined or taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// There is no such role.
    #[error("role is not defined. role=`{role}`")]
    UnknownRole {
        /// Its identifier.
        role: RoleId,
    },
    /// There is no such assignment.
    #[error("role assignment is not there. assignment=`{assignment}`")]
    UnknownAssignment {
        /// Its identifier.
        assignment: AssignmentId,
    },
    /// An assignment of that identifier is there.
    #[error("role assignment exists already. assignment=`{assignment}`")]
    AssignmentExists {
        /// Its identifier.
        assignment: AssignmentId,
    },
    /// The role is built in, so it cannot be changed or removed.
    #[error("role is built in. role=`{role}`")]
    BuiltIn {
        /// Its identifier.
        role: RoleId,
    },
    /// Somebody holds the role.
    #[error("role is assigned. role=`{role}`, assignment=`{assignment}`")]
    Assigned {
        /// The role.
        role: RoleId,
        /// One of its assignments.
        assignment: AssignmentId,
    },
    /// No more of them are kept.
    #[error("too many. what=`{what}`, limit=`{limit}`")]
    TooMany {
        /// What there would be too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A name or pattern cannot be read.
    #[error(transparent)]
    Id(#[from] ParseIdError),
    /// The journal did not do what it was asked.
    #[error("roles cannot use their journal")]
    Journal(#[from] JournalError),
}

impl RoleError {
    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownRole { .. } | Self::UnknownAssignment { .. } => ErrorKind::NotFound,
            Self::AssignmentExists { .. } => ErrorKind::AlreadyExists,
            Self::BuiltIn { .. } => ErrorKind::Invalid,
            Self::Assigned { .. } => ErrorKind::PreconditionFailed,
            Self::TooMany { .. } => ErrorKind::LimitExceeded { retry_after: None },
            Self::Id(_) => ErrorKind::Invalid,
            Self::Journal(error) => error.kind(),
        }
    }
}

/// What happens to an assignment or a role.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Change {
    Assigned(RoleAssignment),
    Defined(RoleDefinition),
    Removed,
}

crate::journal_event!(Change, format 1, whole, {
    Self::Assigned(_) => "role-assigned",
    Self::Defined(_) => "role-defined",
    Self::Removed => "role-removed",
});

/// What the journal holds, for quick checks.
#[derive(Clone, Debug, PartialEq)]
struct Index {
    roles: HashMap<RoleId, RoleDefinition>,
    assignments: BTreeMap<AssignmentId, RoleAssignment>,
    by_principal: HashMap<Principal, BTreeSet<AssignmentId>>,
    /// How many events each history holds, also those of what was removed.
    versions: HashMap<HistoryId, u64>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            roles: RoleDefinition::built_in().into_iter().map(|role| (role.id, role)).collect(),
            assignments: BTreeMap::new(),
            by_principal: HashMap::new(),
            versions: HashMap::new(),
        }
    }
}

impl Index {
    fn version(&self, history: &HistoryId) -> u64 {
        self.versions.get(history).copied().unwrap_or(0)
    }

    fn apply(&mut self, event: &Event) -> Result<(), JournalError> {
        self.versions.insert(event.history.clone(), event.version);
        match Change::open(&event.envelope)? {
            Change::Assigned(assignment) => self.insert(assignment),
            Change::Defined(role) => drop(self.roles.insert(role.id, role)),
            Change::Removed if event.history.kind() == ROLE_KIND => {
                let id: Result<RoleId, _> = event.history.key().parse();
                drop(self.roles.remove(&id?));
            }
            Change::Removed => self.remove(event.history.key().parse()?),
        }
        Ok(())
    }

    fn insert(&mut self, assignment: RoleAssignment) {
        self.remove(assignment.id);
        let held = self.by_principal.entry(assignment.principal.clone()).or_default();
        held.insert(assignment.id);
        self.assignments.insert(assignment.id, assignment);
    }

    fn remove(&mut self, id: AssignmentId) {
        let Some(assignment) = self.assignments.remove(&id) else { return };
        if let Some(held) = self.by_principal.get_mut(&assignment.principal) {
            held.remove(&id);
            if held.is_empty() {
                self.by_principal.remove(&assignment.principal);
            }
        }
    }

    fn allows(&self, principal: &Principal, operation: &str, resource: &ResourceId) -> bool {
        let held = self.by_principal.get(principal).into_iter().flatten();
        held.filter_map(|id| self.assignments.get(id)).any(|assignment| {
            resource.is_within(&assignment.scope)
                && self.roles.get(&assignment.role).is_some_and(|role| role.allows(operation))
        })
    }
}

/// An [`Authorizer`] of roles and assignments that are kept in the journal. Nothing is allowed
/// before somebody is assigned a role.
///
/// One process changes them at a time: of two, one meets [`JournalError::Conflict`]. Another
/// process sees a change after [`RoleAssignments::refresh`].
pub struct RoleAssignments {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    index: RwLock<Index>,
    writing: tokio::sync::Mutex<()>,
}

impl fmt::Debug for RoleAssignments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.read(|index| index.assignments.len());
        f.debug_struct("RoleAssignments").field("assignments", &count).finish_non_exhaustive()
    }
}

impl RoleAssignments {
    /// Reads what the journal holds; the built-in roles are there besides.
    ///
    /// # Errors
    /// [`RoleError::Journal`].
    pub async fn open(journal: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Result<Self, RoleError> {
        let (index, writing) = (RwLock::default(), tokio::sync::Mutex::new(()));
        let this = Self { journal, clock, index, writing };
        this.refresh().await?;
        Ok(this)
    }

    /// Reads what another process changed.
    ///
    /// # Errors
    /// [`RoleError::Journal`]; nothing changes then.
    pub async fn refresh(&self) -> Result<(), RoleError> {
        let _writing = self.writing.lock().await;
        let mut new = Vec::new();
        for kind in [ROLE_KIND, ASSIGNMENT_KIND] {
            let known = |history: &HistoryId| self.read(|index| index.version(history));
            new.extend(self.journal.read_new(kind, known).await?);
        }
        if new.is_empty() {
            return Ok(());
        }
        let mut index = self.read(Index::clone);
        new.iter().try_for_each(|event| index.apply(event))?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        Ok(())
    }

    /// Gives a principal a role.
    ///
    /// # Errors
    /// [`RoleError::UnknownRole`]; [`RoleError::AssignmentExists`] unless the very same
    /// assignment is there, which is no change; [`RoleError::TooMany`]; [`RoleError::Journal`].
    pub async fn assign(
        &self,
        assignment: RoleAssignment,
        by: &Principal,
    ) -> Result<(), RoleError> {
        let _writing = self.writing.lock().await;
        let id = assignment.id;
        let found = self.read(|index| {
            let is_known = index.roles.contains_key(&assignment.role);
            (is_known, index.assignments.get(&id).cloned(), index.assignments.len())
        });
        match found {
            (false, ..) => return Err(RoleError::UnknownRole { role: assignment.role }),
            (_, Some(same), _) if same == assignment => return Ok(()),
            (_, Some(_), _) => return Err(RoleError::AssignmentExists { assignment: id }),
            (_, _, count) if count >= ASSIGNMENTS_MAX => {
                return Err(RoleError::TooMany {
                    what: "role assignments",
                    limit: ASSIGNMENTS_MAX,
                });
            }
            _ => {}
        }
        self.append(ASSIGNMENT_KIND, &id.to_string(), &Change::Assigned(assignment), by).await
    }

    /// Takes a role away again.
    ///
    /// # Errors
    /// [`RoleError::UnknownAssignment`]; [`RoleError::Journal`].
    pub async fn revoke(&self, assignment: AssignmentId, by: &Principal) -> Result<(), RoleError> {
        let _writing = self.writing.lock().await;
        if !self.read(|index| index.assignments.contains_key(&assignment)) {
            return Err(RoleError::UnknownAssignment { assignment });
        }
        self.append(ASSIGNMENT_KIND, &assignment.to_string(), &Change::Removed, by).await
    }

    /// Defines a role, or changes one that is not built in.
    ///
    /// # Errors
    /// [`RoleError::BuiltIn`]; [`RoleError::TooMany`]; [`RoleError::Journal`].
    pub async fn define(&self, role: RoleDefinition, by: &Principal) -> Result<(), RoleError> {
        let _writing = self.writing.lock().await;
        self.refuse_built_in(role.id)?;
        let limit = ROLES_MAX + RoleDefinition::built_in().len();
        if self.read(|index| index.roles.len() >= limit && !index.roles.contains_key(&role.id)) {
            return Err(RoleError::TooMany { what: "roles", limit: ROLES_MAX });
        }
        self.append(ROLE_KIND, &role.id.to_string(), &Change::Defined(role), by).await
    }

    /// Removes a role that nobody holds.
    ///
    /// # Errors
    /// [`RoleError::BuiltIn`]; [`RoleError::UnknownRole`]; [`RoleError::Assigned`];
    /// [`RoleError::Journal`].
    pub async fn remove(&self, role: RoleId, by: &Principal) -> Result<(), RoleError> {
        let _writing = self.writing.lock().await;
        self.refuse_built_in(role)?;
        if !self.read(|index| index.roles.contains_key(&role)) {
            return Err(RoleError::UnknownRole { role });
        }
        let holder = self.read(|index| {
            index.assignments.values().find(|held| held.role == role).map(|held| held.id)
        });
        if let Some(assignment) = holder {
            return Err(RoleError::Assigned { role, assignment });
        }
        self.append(ROLE_KIND, &role.to_string(), &Change::Removed, by).await
    }

    /// The assignments at, above or below a scope, in order of their identifiers.
    #[must_use]
    pub fn assignments(&self, scope: &ResourceId) -> Vec<RoleAssignment> {
        let touches =
            |held: &&RoleAssignment| held.scope.is_within(scope) || scope.is_within(&held.scope);
        self.read(|index| index.assignments.values().filter(touches).cloned().collect())
    }

    /// Every role, in order of their names.
    #[must_use]
    pub fn roles(&self) -> Vec<RoleDefinition> {
        let mut roles: Vec<_> = self.read(|index| index.roles.values().cloned().collect());
        roles.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        roles
    }

    fn refuse_built_in(&self, role: RoleId) -> Result<(), RoleError> {
        match RoleDefinition::built_in().iter().any(|built_in| built_in.id == role) {
            true => Err(RoleError::BuiltIn { role }),
            false => Ok(()),
        }
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends one change and applies it. The caller holds `writing`.
    async fn append(
        &self,
        kind: &str,
        key: &str,
        change: &Change,
        by: &Principal,
    ) -> Result<(), RoleError> {
        let history = HistoryId::new(kind, key)?;
        let expected = self.read(|index| index.version(&history));
        let envelope = change.seal(self.clock.now(), &by.to_string())?;
        let appended = self.journal.append_to(&history, expected, vec![envelope.clone()]).await?;
        let event = Event { position: 0, history, version: appended, envelope };
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        Ok(index.apply(&event)?)
    }
}

impl Authorizer for RoleAssignments {
    fn check(
        &self,
        principal: &Principal,
        operation: &str,
        resource: &ResourceId,
    ) -> Result<(), AuthError> {
        if self.read(|index| index.allows(principal, operation, resource)) {
            return Ok(());
        }
        Err(AuthError::denied(principal, operation, resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::PrincipalKind;
    use crate::clock::ManualClock;
    use crate::entropy::SeededEntropy;
    use crate::journal::MemoryJournal;
    use jiff::Timestamp;
    use proptest::prelude::*;

    const SCOPES: [&str; 8] = [
        "/",
        "/subscriptions/a",
        "/subscriptions/ab",
        "/subscriptions/a/resourceGroups/g",
        "/Subscriptions/A/resourcegroups/G/providers/M.X/y/z",
        "/subscriptions/a/resourceGroups/gg",
        "/subscriptions/b",
        "/subscriptions/b/resourceGroups/g",
    ];
    const OPERATIONS: [&str; 6] =
        ["m.x/y/read", "M.X/y/write", "m.x/y/delete", "m.xy/read", "m.x/y/z/read", "read"];
    const PATTERNS: [&str; 6] = ["*", "*/read", "m.x/*", "M.X/y/*", "m.x/y/read", "m.x/y"];

    async fn open(journal: &Arc<dyn Journal>) -> RoleAssignments {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        RoleAssignments::open(Arc::clone(journal), clock).await.expect("opens")
    }

    fn id(text: &str) -> ResourceId {
        text.parse().expect("a resource id")
    }

    fn app(name: &str) -> Principal {
        Principal::new(PrincipalKind::ClientSecret, name)
    }

    fn assignment(number: u64, name: &str, role: RoleId, scope: &str) -> RoleAssignment {
        let id = AssignmentId::draw(&SeededEntropy::new(number));
        RoleAssignment { id, principal: app(name), role, scope: scope.parse().expect("a scope") }
    }

    #[tokio::test]
    async fn a_role_holds_for_its_scope_and_below_until_it_is_taken_away() {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let roles = open(&journal).await;
        let by = Principal::local();
        let reader = RoleDefinition::named("Reader").expect("built in").id;
        let given = assignment(1, "app", reader, "/subscriptions/s");
        let may = |roles: &RoleAssignments, who: &str, what: &str, whereto: &str| {
            roles.check(&app(who), what, &id(whereto)).is_ok()
        };
        assert!(!may(&roles, "app", "a/read", "/subscriptions/s"));
        roles.assign(given.clone(), &by).await.expect("assigned");
        roles.assign(given.clone(), &by).await.expect("the same again is no change");
        let other = assignment(1, "other", reader, "/");
        let refused = roles.assign(other, &by).await.expect_err("the id is taken");
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        for roles in [&roles, &open(&journal).await] {
            assert!(may(roles, "app", "a/read", "/SUBSCRIPTIONS/S/resourceGroups/g"));
            assert!(!may(roles, "app", "a/write", "/subscriptions/s"));
            assert!(!may(roles, "app", "a/read", "/subscriptions/s2"));
            assert!(!may(roles, "app", "a/read", "/"));
            assert!(!may(roles, "App", "a/read", "/subscriptions/s"));
            assert!(!may(roles, "other", "a/read", "/subscriptions/s"));
        }
        roles.revoke(given.id, &by).await.expect("revoked");
        for roles in [&roles, &open(&journal).await] {
            assert!(!may(roles, "app", "a/read", "/subscriptions/s"));
        }
        let gone = roles.revoke(given.id, &by).await.expect_err("gone");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        roles.assign(given, &by).await.expect("assigned once more, in the same history");
    }

    #[tokio::test]
    async fn roles_of_ones_own_come_and_go_and_built_in_ones_stay() {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let (roles, by) = (open(&journal).await, Principal::local());
        let own = RoleId::draw(&SeededEntropy::new(5));
        let unknown = assignment(1, "app", own, "/");
        let refused = roles.assign(unknown.clone(), &by).await.expect_err("no such role");
        assert!(matches!(refused, RoleError::UnknownRole { .. }));
        let role = RoleDefinition::new(own, "Stopper", &["*/stop/action"], &[]).expect("a role");
        roles.define(role, &by).await.expect("defined");
        roles.assign(unknown.clone(), &by).await.expect("assigned");
        let held = roles.remove(own, &by).await.expect_err("somebody holds it");
        assert_eq!(held.kind(), ErrorKind::PreconditionFailed);
        assert!(roles.check(&app("app"), "x/stop/action", &id("/x")).is_ok());
        let role = RoleDefinition::new(own, "Stopper", &["*/halt/action"], &[]).expect("a role");
        roles.define(role, &by).await.expect("changed");
        assert!(roles.check(&app("app"), "x/stop/action", &id("/x")).is_err());
        roles.revoke(unknown.id, &by).await.expect("revoked");
        roles.remove(own, &by).await.expect("removed");
        assert!(!open(&journal).await.roles().iter().any(|role| role.id == own));
        let owner = RoleDefinition::named("Owner").expect("built in");
        assert!(matches!(roles.remove(owner.id, &by).await, Err(RoleError::BuiltIn { .. })));
        assert!(matches!(roles.define(owner, &by).await, Err(RoleError::BuiltIn { .. })));
    }

    #[tokio::test]
    async fn what_an_earlier_version_wrote_is_read() {
        let fixtures = crate::testkit::released();
        crate::testkit::Fixture::check::<Change>(&fixtures);
        let journal: Arc<dyn Journal> = Arc::new(fixtures[0].journal().await);
        let roles = open(&journal).await;
        assert_eq!(roles.assignments(&ResourceId::root()).len(), 2);
        let own = roles.roles().into_iter().filter(|role| role.name == "Stopper").count();
        assert_eq!((own, roles.roles().len()), (1, RoleDefinition::built_in().len() + 1));
        for (operation, scope, is_allowed) in [
            ("a.b/c/read", "/x", true),
            ("a.b/stop/action", "/subscriptions/s/x", true),
            ("m.x/stop/action", "/subscriptions/s/x", false),
            ("a.b/stop/action", "/subscriptions/t", false),
        ] {
            let may = roles.check(&app("app"), operation, &id(scope)).is_ok();
            assert_eq!(may, is_allowed, "{operation} at {scope}");
        }
    }

    #[tokio::test]
    async fn of_two_processes_that_write_one_meets_a_conflict() {
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let (one, two) = (open(&journal).await, open(&journal).await);
        let reader = RoleDefinition::named("Reader").expect("built in").id;
        let given = assignment(1, "app", reader, "/");
        one.assign(given.clone(), &Principal::local()).await.expect("assigned");
        let late = two.assign(given, &Principal::local()).await.expect_err("too late");
        assert_eq!(late.kind(), ErrorKind::Conflict);
        two.refresh().await.expect("reads again");
        assert!(two.check(&app("app"), "a/read", &ResourceId::root()).is_ok());
    }

    /// What may be done by the definition: whole segments, no case, actions without not-actions.
    fn oracle(given: &[(usize, usize, usize, usize)], operation: &str, resource: &str) -> bool {
        let segments = |path: &str| -> Vec<String> {
            let parts = path.split('/').filter(|part| !part.is_empty());
            parts.map(str::to_ascii_lowercase).collect()
        };
        given.iter().any(|(scope, action, not_action, _)| {
            let covers = |pattern: &str| {
                let pattern = pattern.to_ascii_lowercase();
                let operation = operation.to_ascii_lowercase();
                match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
                    (Some(end), _) => operation.ends_with(end),
                    (_, Some(start)) => operation.starts_with(start),
                    _ => operation == pattern,
                }
            };
            segments(resource).starts_with(&segments(SCOPES[*scope]))
                && covers(PATTERNS[*action])
                && !covers(PATTERNS[*not_action])
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_is_allowed_that_no_grant_covers(
            given in proptest::collection::vec((0..8usize, 0..6usize, 1..6usize, 0..2usize), 0..6)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
            let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
            let roles = runtime.block_on(async {
                let roles = open(&journal).await;
                let by = Principal::local();
                for (number, (scope, action, not, who)) in given.iter().enumerate() {
                    let role = RoleId::draw(&SeededEntropy::new(number as u64));
                    let (action, not) = (PATTERNS[*action], PATTERNS[*not]);
                    let definition =
                        RoleDefinition::new(role, "r", &[action], &[not]).expect("a role");
                    roles.define(definition, &by).await.expect("defined");
                    let who = ["p0", "p1"][*who];
                    let given = assignment(number as u64, who, role, SCOPES[*scope]);
                    roles.assign(given, &by).await.expect("assigned");
                }
                let again = open(&journal).await;
                assert!(again.read(|a| roles.read(|b| a == b)), "rebuilt equal");
                roles
            });
            for who in 0..2 {
                let own: Vec<_> = given.iter().copied().filter(|held| held.3 == who).collect();
                for operation in OPERATIONS {
                    for scope in SCOPES {
                        let name = ["p0", "p1"][who];
                        let may = roles.check(&app(name), operation, &id(scope)).is_ok();
                        prop_assert_eq!(may, oracle(&own, operation, scope), "{} {}", operation, scope);
                    }
                }
            }
            prop_assert!(roles.check(&Principal::local(), "a/read", &id("/a")).is_err());
        }
    }
}
