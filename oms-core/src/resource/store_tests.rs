use super::*;
use crate::ErrorKind;
use crate::auth::PrincipalKind;
use crate::clock::ManualClock;
use crate::entropy::{EntropyExt, SeededEntropy};
use crate::journal::MemoryJournal;
use crate::resource::{ResourceGuard, Scope};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;

const SUB: &str = "11111111-1111-1111-1111-111111111111";
const VAULTS: &str = "Microsoft.RecoveryServices/vaults";

#[derive(Debug)]
struct Full;

#[async_trait]
impl ResourceGuard for Full {
    async fn check_create(&self, id: &ResourceId) -> Result<(), &'static str> {
        match is_called(id, "one-too-many") {
            true => Err("a further vault"),
            false => Ok(()),
        }
    }

    async fn check_delete(&self, id: &ResourceId) -> Result<(), String> {
        match is_called(id, "full") {
            true => Err("it holds protected items".to_owned()),
            false => Ok(()),
        }
    }
}

fn is_called(id: &ResourceId, name: &str) -> bool {
    id.as_str().rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case(name))
}

mod guard {
    use super::*;
    use crate::testkit::guard::TestedGuard;

    crate::resource_guard_conformance!(|| TestedGuard {
        guard: Full,
        held: vault("g", "full"),
        free: Some(vault("g", "empty")),
        wanted: vault("g", "another"),
        unwanted: Some(vault("g", "one-too-many")),
    });
}

fn types() -> Arc<TypeRegistry> {
    let built = TypeRegistry::builder()
        .parent("backup", VAULTS, NameRules::VAULT)
        .child("backup", "Microsoft.RecoveryServices/vaults/backupPolicies", NameRules::ANY)
        .guard(Arc::new(Full))
        .parent("recovery", VAULTS, NameRules::VAULT)
        .tracked("automation", "Microsoft.Automation/automationAccounts", NameRules::ANY)
        .tracked("automation", "Microsoft.Automation/automationAccounts/runbooks", NameRules::ANY)
        .build();
    Arc::new(built.expect("types"))
}

async fn open(journal: &Arc<dyn Journal>) -> Resources {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    Resources::open(Arc::clone(journal), clock, types()).await.expect("opens")
}

fn by() -> Principal {
    Principal::new(PrincipalKind::ClientSecret, "app")
}

fn group(name: &str) -> ResourceId {
    ResourceId::of_group(SUB, name).expect("a group")
}

fn vault(of: &str, name: &str) -> ResourceId {
    group(of).provider("Microsoft.RecoveryServices", "vaults", name).expect("a vault")
}

fn spec(value: Value) -> ResourceSpec {
    serde_json::from_value(value).expect("a spec")
}

fn here() -> ResourceSpec {
    spec(json!({"location": "West Europe"}))
}

const FREE: Preconditions = Preconditions { if_match: None, if_none_match: None };

impl Resources {
    async fn put_done(&self, id: &ResourceId, spec: ResourceSpec) -> Result<Put, ResourceError> {
        self.put(id, spec, &FREE, Completion::Done, &by()).await
    }

    async fn put_group_here(&self, name: &str) -> Result<Put, ResourceError> {
        let spec = GroupSpec { location: "westeurope".into(), ..GroupSpec::default() };
        self.put_group(&group(name), spec, &FREE, &by()).await
    }

    async fn delete_done(&self, id: &ResourceId) -> Result<Arc<TrackedResource>, ResourceError> {
        self.delete(id, &FREE, Completion::Done, &by()).await
    }
}

async fn begin(journal: &Arc<dyn Journal>) -> Resources {
    let resources = open(journal).await;
    let id = SUB.parse().expect("a UUID");
    resources.put_subscription(id, "Ours", "tenant", &by()).await.expect("a subscription");
    resources.put_group_here("g").await.expect("a group");
    resources
}

async fn same_after_replay(journal: &Arc<dyn Journal>, resources: &Resources) {
    let again = open(journal).await;
    assert!(resources.read(|a| again.read(|b| a == b)), "rebuilt equal");
}

#[tokio::test]
async fn a_resource_is_created_changed_and_deleted_and_the_index_is_rebuilt_equal() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let resources = begin(&journal).await;
    let id = vault("g", "v1");
    let first = spec(json!({
        "location": "westeurope", "tags": {"Cost": "1"}, "sku": {"name": "Standard"},
        "properties": {"a": {"b": 1, "c": 2}}, "unknown": 1
    }));
    let made = resources.put_done(&id, first).await.expect("created");
    assert!(made.is_new);
    let shown = serde_json::to_value(&*made.resource).expect("JSON");
    assert_eq!(shown["id"], id.as_str());
    assert_eq!((&shown["name"], &shown["type"]), (&json!("v1"), &json!(VAULTS)));
    assert_eq!(shown["properties"]["provisioningState"], "Succeeded");
    assert_eq!(shown["systemData"]["createdBy"], "app");
    assert_eq!(shown["systemData"]["createdByType"], "Application");
    assert_eq!(shown["etag"], "\"0000000000000002\"");
    let patch = json!({"tags": {"cost2": "2", "Cost": null}, "properties": {"a": {"b": null}}});
    let patched = resources.patch(&id, &patch, &FREE, Completion::Done, &by()).await;
    let patched = patched.expect("patched").resource;
    assert_eq!(patched.tags.iter().collect::<Vec<_>>(), [("cost2", "2")]);
    assert_eq!(patched.properties["a"], json!({"c": 2}));
    let upper: ResourceId = id.as_str().to_ascii_uppercase().parse().expect("an id");
    assert_eq!(resources.get(&upper), Some(Arc::clone(&patched)), "case does not matter");
    same_after_replay(&journal, &resources).await;
    resources.delete_done(&upper).await.expect("deleted");
    assert_eq!(resources.get(&id), None);
    let gone = resources.delete_done(&id).await.expect_err("gone");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    same_after_replay(&journal, &resources).await;
    let anew = resources.put_done(&id, here()).await.expect("created anew");
    assert!(anew.is_new && anew.resource.tags.is_empty());
    assert_ne!(anew.resource.etag, made.resource.etag, "an entity tag is used once");
    same_after_replay(&journal, &resources).await;
}

#[tokio::test]
async fn entity_tags_guard_changes() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let resources = begin(&journal).await;
    let id = vault("g", "v1");
    let if_match = |tag: &str| Preconditions { if_match: Some(tag.into()), ..FREE };
    let new_only = Preconditions { if_none_match: Some("*".into()), ..FREE };
    let put = |conditions: Preconditions| {
        let (resources, id) = (&resources, &id);
        async move { resources.put(id, here(), &conditions, Completion::Done, &by()).await }
    };
    assert!(put(if_match("*")).await.is_err(), "it is not there");
    let made = put(new_only.clone()).await.expect("it is new");
    assert_eq!(put(new_only).await.expect_err("there").kind(), ErrorKind::PreconditionFailed);
    let tag = made.resource.etag.as_str();
    put(if_match(tag)).await.expect("nobody changed it");
    assert!(put(if_match(tag)).await.is_err(), "it changed");
    let stale = resources.delete(&id, &if_match(tag), Completion::Done, &by()).await;
    assert_eq!(stale.expect_err("stale").kind(), ErrorKind::PreconditionFailed);
    // What is created in a group does not change the group's own tag.
    let before = resources.get(&group("g")).expect("a group").etag.clone();
    resources.put_done(&vault("g", "v2"), here()).await.expect("created");
    assert_eq!(resources.get(&group("g")).expect("a group").etag, before);
}

#[tokio::test]
async fn a_group_goes_with_everything_in_it_or_not_at_all() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let resources = begin(&journal).await;
    resources.put_group_here("g2").await.expect("a group");
    let account = group("g").provider("Microsoft.Automation", "automationAccounts", "acc");
    let account = account.expect("an account");
    let runbook = account.child("runbooks", "r").expect("a runbook");
    let orphan = resources.put_done(&runbook, ResourceSpec::default()).await;
    assert!(matches!(orphan, Err(ResourceError::ParentNotFound { .. })));
    for id in [&account, &runbook, &vault("g", "full"), &vault("g2", "v1")] {
        resources.put_done(id, here()).await.expect("created");
    }
    let held = resources.delete_done(&group("g")).await.expect_err("held");
    assert_eq!(held.code(), "ScopeLocked");
    assert!(held.to_string().contains("it holds protected items"), "{held}");
    assert!(resources.get(&runbook).is_some() && resources.get(&group("g")).is_some());
    resources.delete_done(&account).await.expect("an account with its runbooks");
    assert_eq!(resources.get(&runbook), None);
    resources.delete_done(&group("g2")).await.expect("a group with its vault");
    assert_eq!(resources.get(&vault("g2", "v1")), None);
    let late = resources.put_done(&vault("g2", "v1"), here()).await;
    assert_eq!(late.expect_err("no group").code(), "ParentResourceNotFound");
    let whole = ResourceId::of_subscription(SUB).expect("a subscription");
    let refused = resources.delete_done(&whole).await.expect_err("not supported");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(resources.move_to(&group("g2")).is_err());
    same_after_replay(&journal, &resources).await;
}

#[tokio::test]
async fn pending_changes_are_settled_and_hold_up_others_until_then() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let resources = begin(&journal).await;
    let id = vault("g", "v1");
    let put = resources.put(&id, here(), &FREE, Completion::Pending, &by()).await;
    assert_eq!(put.expect("begun").resource.state, ProvisioningState::Creating);
    let busy = resources.put_done(&id, here()).await.expect_err("busy");
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    let busy = resources.delete_done(&group("g")).await.expect_err("busy");
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    let failed = Outcome::Failed { code: "NoRoom".into(), message: "no room".into() };
    let failed = resources.settle(&id, failed, &by()).await.expect("settled").expect("there");
    assert_eq!(failed.properties["provisioningState"], "Failed");
    assert_eq!(resources.failure(&id), Some(("NoRoom".into(), "no room".into())));
    let twice = resources.settle(&id, Outcome::Canceled, &by()).await;
    assert!(matches!(twice, Err(ResourceError::Busy { .. })));
    resources.put_done(&id, here()).await.expect("again");
    assert_eq!(resources.failure(&id), None);
    let pending = resources.delete(&group("g"), &FREE, Completion::Pending, &by()).await;
    pending.expect("begun");
    let late = resources.put_done(&vault("g", "v2"), here()).await.expect_err("going");
    assert_eq!(late.kind(), ErrorKind::Conflict);
    same_after_replay(&journal, &resources).await;
    let done = resources.settle(&group("g"), Outcome::Succeeded(Map::new()), &by()).await;
    assert_eq!(done.expect("settled"), None);
    assert_eq!(resources.get(&id), None, "what was in it went with it");
    same_after_replay(&journal, &resources).await;
}

#[tokio::test]
async fn wrong_input_is_refused_by_name() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let resources = begin(&journal).await;
    let at = |text: &str| -> ResourceId { text.parse().expect("an id") };
    let unknown = group("g").provider("A.B", "things", "x").expect("an id");
    let policy = vault("g", "v1").child("backupPolicies", "p").expect("an id");
    for (id, spec, code) in [
        (unknown, here(), "InvalidResourceType"),
        (policy, here(), "InvalidResourceType"),
        (vault("g", "1v"), here(), "InvalidResourceName"),
        (vault("g", "v1"), ResourceSpec::default(), "InvalidRequestContent"),
        (vault("none", "v1"), here(), "ParentResourceNotFound"),
        (vault("g", "v1").above().expect("a list"), here(), "InvalidRequestContent"),
        (at("/subscriptions/other"), here(), "InvalidRequestContent"),
        (
            vault("g", "v1"),
            spec(json!({"location": "x", "properties": {"a": "x".repeat(PROPERTIES_BYTES_MAX)}})),
            "RequestContentTooLarge",
        ),
    ] {
        let refused = resources.put_done(&id, spec).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{id}");
    }
    let id = vault("g", "v1");
    resources.put_done(&id, here()).await.expect("created");
    resources.put_done(&id, spec(json!({"location": "westEUROPE"}))).await.expect("one place");
    let moved = resources.put_done(&id, spec(json!({"location": "eastus"}))).await;
    assert!(matches!(moved, Err(ResourceError::Immutable { property: "location", .. })));
    let deep = (0..40).fold(json!(1), |inner, _| json!({"a": inner}));
    let patch = json!({"properties": deep});
    let deep = resources.patch(&id, &patch, &FREE, Completion::Done, &by()).await;
    assert_eq!(deep.expect_err("too deep").kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn lists_are_filtered_and_paged_and_every_resource_comes_once() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let resources = begin(&journal).await;
    resources.put_group_here("g0").await.expect("a group that begins like the other");
    let mut names = Vec::new();
    for number in 0..25 {
        let id = vault("g", &format!("v{number:02}"));
        let tag = json!({"Parity": if number % 2 == 0 { "even" } else { "odd" }});
        let spec = spec(json!({"location": "x", "tags": tag}));
        resources.put_done(&id, spec).await.expect("created");
        names.push(format!("v{number:02}"));
    }
    resources.put_done(&vault("g0", "other"), here()).await.expect("created");
    let all = |query: ListQuery| {
        let (mut query, mut found, mut pages) = (query, Vec::new(), 0);
        loop {
            let page = resources.list(&query).expect("a page");
            pages += 1;
            found.extend(page.items.iter().map(|item| item.name.clone()));
            match page.next {
                Some(next) => query.token = Some(next),
                None => return (found, pages),
            }
        }
    };
    let in_group = ListQuery::all(Scope::Resources(group("G")));
    let paged = ListQuery { top: Some(5), ..in_group.clone() };
    assert_eq!(all(in_group.clone()), (names.clone(), 1));
    assert_eq!(all(paged.clone()), (names.clone(), 5), "the last page is not empty");
    let odd = "tagName eq 'parity' and tagValue eq 'odd'".parse().expect("a filter");
    assert_eq!(all(ListQuery { filter: odd, ..paged.clone() }).0.len(), 12);
    let subscription = ResourceId::of_subscription(SUB).expect("a subscription");
    let vaults = Scope::Type(subscription.clone(), VAULTS.parse().expect("a type"));
    assert_eq!(all(ListQuery::all(vaults)).0.len(), 26);
    assert_eq!(all(ListQuery::all(Scope::Groups(subscription.clone()))).0, ["g", "g0"]);
    assert_eq!(all(ListQuery::all(Scope::Subscriptions)).0, [SUB]);
    let none = "resourceType eq 'A.B/c'".parse().expect("a filter");
    let none = ListQuery { filter: none, ..ListQuery::all(Scope::Resources(subscription)) };
    assert_eq!(all(none), (Vec::new(), 1));
    let token = resources.list(&paged).expect("a page").next;
    let other = ListQuery { token, ..ListQuery::all(Scope::Resources(group("g0"))) };
    assert!(matches!(resources.list(&other), Err(ResourceError::Token)));
    let nothing = ListQuery { top: Some(0), ..paged };
    assert!(matches!(resources.list(&nothing), Err(ResourceError::Unsupported { .. })));
}

/// Two processes write at random; whoever was slower plans again, and at the end both, and a
/// third that only replays, hold the same.
#[tokio::test]
async fn processes_that_write_side_by_side_agree() {
    for seed in 0..30 {
        let entropy = SeededEntropy::new(seed);
        let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
        let processes = [begin(&journal).await, open(&journal).await];
        let pick = |end: u64| usize::try_from(entropy.below(end)).expect("small");
        for _ in 0..60 {
            let process = &processes[pick(2)];
            let (group_name, name) = (["g", "h"][pick(2)], ["v1", "v2", "full"][pick(3)]);
            let id = vault(group_name, name);
            // Refusals are as good as successes here: what counts is that all agree.
            match pick(6) {
                0 => drop(process.put_group_here(group_name).await),
                1 => drop(process.delete_done(&group(group_name)).await),
                2 => drop(process.delete_done(&id).await),
                3 => drop(process.put(&id, here(), &FREE, Completion::Pending, &by()).await),
                4 => drop(process.settle(&id, Outcome::Succeeded(Map::new()), &by()).await),
                _ => drop(process.put_done(&id, here()).await),
            }
        }
        for process in &processes {
            process.refresh().await.expect("reads");
            same_after_replay(&journal, process).await;
            // Nothing is in a group that is not there.
            let whole = ResourceId::of_subscription(SUB).expect("a subscription");
            let all = process.list(&ListQuery::all(Scope::Resources(whole))).expect("a list");
            for item in all.items {
                let parent = item.id.arm().expect("an id").parent().expect("a group");
                assert!(process.get(&parent).is_some(), "seed {seed}: {}", item.id);
            }
        }
    }
}

#[tokio::test]
async fn what_an_earlier_version_wrote_is_read() {
    let fixtures = crate::testkit::released();
    crate::testkit::Fixture::check::<Change>(&fixtures);
    let journal: Arc<dyn Journal> = Arc::new(fixtures[0].journal().await);
    let resources = open(&journal).await;
    let account = |name: &str| {
        let id = group("g").provider("Microsoft.Automation", "automationAccounts", name);
        id.expect("an account")
    };
    let found = |name: &str| resources.get(&account(name));
    let state = |name: &str| found(name).map(|account| account.state);
    let done = found("done").expect("it is there");
    assert_eq!((done.location.as_str(), done.tags.get("cost")), ("West Europe", Some("1")));
    assert_eq!(
        (&done.properties["a"], &done.properties["endpoint"]),
        (&json!({"b": 1}), &json!("here"))
    );
    assert_eq!(done.system_data.created_by, "app");
    assert_eq!(state("done"), Some(ProvisioningState::Succeeded));
    assert_eq!(state("failed"), Some(ProvisioningState::Failed));
    let why = ("Quota".to_owned(), "no more".to_owned());
    assert_eq!(resources.failure(&account("failed")), Some(why));
    assert_eq!(state("canceled"), Some(ProvisioningState::Canceled));
    assert_eq!(state("deleting"), Some(ProvisioningState::Deleting));
    assert_eq!(state("deleted"), None);
    let runbook = format!("{}/runbooks/r", account("done")).parse().expect("an id");
    assert!(resources.get(&runbook).is_some());
}

/// A guard of a child type is asked before a parent is made, and not when what is there changes.
#[tokio::test]
async fn a_guard_refuses_what_its_service_has_no_use_for() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryJournal::default());
    let resources = open(&journal).await;
    let (any, done) = (Preconditions::default(), Completion::Done);
    resources
        .put_subscription(SUB.parse().expect("a UUID"), "one", "tenant", &by())
        .await
        .expect("a subscription");
    let location = || spec(json!({"location": "local"}));
    let of_group = GroupSpec { location: "local".to_owned(), ..GroupSpec::default() };
    resources.put_group(&group("g"), of_group, &any, &by()).await.expect("a group");
    let put = |id: ResourceId| {
        let (resources, any, by) = (&resources, &any, by());
        async move { resources.put(&id, location(), any, done, &by).await }
    };
    for is_new in [true, false] {
        assert_eq!(put(vault("g", "v1")).await.expect("put").is_new, is_new);
    }
    let error = put(vault("g", "one-too-many")).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let told = error.to_string();
    assert!(told.contains("a further vault") && told.contains("one-too-many"), "{told}");
    assert!(resources.get(&vault("g", "one-too-many")).is_none());
}
