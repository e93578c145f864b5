//! The spans of operations, which are an interface.

use crate::common::{World, random_disk};
use oms_core::entropy::SeededEntropy;
use oms_recovery::ReplicationPolicy;
use oms_recovery::recovery_point::{Consistency, PointChoice};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

thread_local! {
    /// The operations that this thread began, in their order.
    static SEEN: RefCell<Vec<Fields>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the fields of every `recovery_operation` with the thread that began it. It listens to the whole
/// process: which spans are of interest is decided once, by whichever test reaches one first.
#[derive(Clone, Copy, Debug)]
struct Operations;

impl Subscriber for Operations {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.name() == "recovery_operation"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        SEEN.with_borrow_mut(|seen| {
            seen.push(fields);
            Id::from_u64(seen.len() as u64)
        })
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let at = span.into_u64() as usize - 1;
        // One that another thread began is none of this one's.
        SEEN.with_borrow_mut(|all| all.get_mut(at).into_iter().for_each(|it| values.record(it)));
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, _event: &Event<'_>) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[tokio::test]
async fn each_operation_has_a_span_that_tells_what_came_of_it() {
    tracing::subscriber::set_global_default(Operations).expect("there is no other");
    let world = World::new(7, &random_disk(&SeededEntropy::new(7)));
    let item = world.protect(ReplicationPolicy::default()).await;
    item.take_recovery_point(Consistency::CrashConsistent).await.expect("a point");
    drop(item.test_failover(PointChoice::Latest).await.expect("a drill"));
    item.planned_failover().await.expect_err("a drill is running");
    item.cleanup_test_failover("fine").await.expect("cleaned up");
    item.planned_failover().await.expect("moved");
    item.commit().await.expect("committed");
    item.reprotect().await.expect("protected");
    item.failback().await.expect("moved back");
    let seen = SEEN.with_borrow(Vec::clone);
    let told: Vec<String> =
        seen.iter().map(|Fields(it)| format!("{} {}", it["operation"], it["outcome"])).collect();
    assert_eq!(
        told,
        [
            "take_recovery_point ok",
            "test_failover ok",
            "planned_failover precondition_failed",
            "cleanup_test_failover ok",
            "planned_failover ok",
            "commit ok",
            "reprotect ok",
            "failback ok",
        ]
    );
    let status = item.status().await;
    let Fields(last) = seen.last().expect("one of them");
    assert_eq!(last["machine"], status.item.machine.name);
    assert_eq!(last["item"], status.item.id.0.to_string());
}
