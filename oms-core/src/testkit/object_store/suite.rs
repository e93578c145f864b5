//! What this workspace asks of every object store.

#![expect(
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test suite fails by panicking, and asks results by value"
)]

use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};

/// One requirement: its name and the function that checks it on a new store.
pub type Case = (&'static str, for<'a> fn(&'a dyn ObjectStore) -> BoxFuture<'a, ()>);

async fn read(store: &dyn ObjectStore, path: &str) -> Vec<u8> {
    let result = store.get(&Path::from(path)).await.expect("it is there");
    result.bytes().await.expect("its body").to_vec()
}

async fn names(store: &dyn ObjectStore, prefix: Option<&str>) -> Vec<String> {
    let prefix = prefix.map(Path::from);
    let listed: Vec<_> = store.list(prefix.as_ref()).try_collect().await.expect("a listing");
    let mut names: Vec<String> = listed.into_iter().map(|it| it.location.to_string()).collect();
    names.sort();
    names
}

async fn put(store: &dyn ObjectStore, path: &str, body: &'static str) {
    store.put(&Path::from(path), body.into()).await.expect("put");
}

fn is_missing<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::NotFound { .. }))
}

/// What was put is read back, whole and in ranges, and replaced; what was deleted is not found.
pub async fn puts_are_read_back(store: &dyn ObjectStore) {
    let path = Path::from("a/b");
    assert!(is_missing(store.get(&path).await), "nothing was put");
    assert!(is_missing(store.head(&path).await), "nothing was put");
    put(store, "a/b", "0123456789").await;
    assert_eq!(read(store, "a/b").await, b"0123456789");
    assert_eq!(store.head(&path).await.expect("there").size, 10);
    assert_eq!(store.get_range(&path, 2..5).await.expect("a range"), "234");
    let ranges = store.get_ranges(&path, &[7..9, 0..1]).await.expect("ranges");
    assert_eq!(ranges, ["78", "0"]);
    put(store, "a/b", "").await;
    assert_eq!(read(store, "a/b").await, b"");
    store.delete(&path).await.expect("deleted");
    assert!(is_missing(store.get(&path).await), "it was deleted");
}

/// A listing has every object below a prefix of whole parts, and no other.
pub async fn listings_are_whole(store: &dyn ObjectStore) {
    for name in ["t/a", "t/b/c", "t/b/d", "tt/e", "f"] {
        put(store, name, "x").await;
    }
    assert_eq!(names(store, None).await, ["f", "t/a", "t/b/c", "t/b/d", "tt/e"]);
    assert_eq!(names(store, Some("t")).await, ["t/a", "t/b/c", "t/b/d"]);
    let after: Vec<_> = store
        .list_with_offset(Some(&Path::from("t")), &Path::from("t/b/c"))
        .try_collect()
        .await
        .expect("a listing");
    assert_eq!(after.len(), 1, "{after:?}");
    let top = store.list_with_delimiter(Some(&Path::from("t"))).await.expect("a listing");
    let objects: Vec<_> = top.objects.iter().map(|it| it.location.as_ref()).collect();
    let prefixes: Vec<_> = top.common_prefixes.iter().map(AsRef::as_ref).collect();
    assert_eq!((objects, prefixes), (vec!["t/a"], vec!["t/b"]));
}

/// A put that must create does not replace; one that must replace a version replaces no other.
/// A store that cannot do the latter says so by name.
pub async fn conditional_puts_are_kept(store: &dyn ObjectStore) {
    let path = Path::from("log/1");
    let options = |mode| PutOptions { mode, ..PutOptions::default() };
    store.put_opts(&path, "first".into(), options(PutMode::Create)).await.expect("new");
    let second = store.put_opts(&path, "second".into(), options(PutMode::Create)).await;
    assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
    assert_eq!(read(store, "log/1").await, b"first");
    let version = async || {
        let meta = store.head(&path).await.expect("there");
        UpdateVersion { e_tag: meta.e_tag, version: meta.version }
    };
    let old = version().await;
    let update = options(PutMode::Update(old.clone()));
    match store.put_opts(&path, "third".into(), update).await {
        Ok(_) => {}
        Err(Error::NotImplemented { .. }) => return,
        Err(error) => panic!("an update of the newest version: {error}"),
    }
    assert_eq!(read(store, "log/1").await, b"third");
    let stale = store.put_opts(&path, "fourth".into(), options(PutMode::Update(old))).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })), "{stale:?}");
    assert_eq!(read(store, "log/1").await, b"third");
}

/// Of many that create one object at once, one succeeds, and its bytes are there.
pub async fn one_of_many_creators_wins(store: &dyn ObjectStore) {
    let path = Path::from("log/2");
    let create = |number: u32| {
        let path = path.clone();
        async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let body = number.to_string();
            store.put_opts(&path, body.clone().into(), options).await.is_ok().then_some(body)
        }
    };
    let created = futures::future::join_all((0..16).map(create)).await;
    let winners: Vec<String> = created.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(read(store, "log/2").await, winners[0].as_bytes());
}

/// A copy leaves its source; one that must create does not replace.
pub async fn a_copy_is_whole_and_does_not_replace(store: &dyn ObjectStore) {
    let (from, to) = (Path::from("from"), Path::from("to/there"));
    put(store, "from", "one").await;
    store.copy(&from, &to).await.expect("copied");
    assert_eq!(read(store, "from").await, b"one");
    assert_eq!(read(store, "to/there").await, b"one");
    put(store, "from", "two").await;
    let refused = store.copy_if_not_exists(&from, &to).await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    assert_eq!(read(store, "to/there").await, b"one");
    assert!(is_missing(store.copy(&Path::from("none"), &to).await), "no source");
}

/// A rename takes its source away and replaces; one that must create refuses, with both as before.
pub async fn renames_replace_or_refuse(store: &dyn ObjectStore) {
    let (from, to) = (Path::from("from"), Path::from("to/there"));
    put(store, "from", "one").await;
    put(store, "to/there", "two").await;
    let refused = store.rename_if_not_exists(&from, &to).await;
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })), "{refused:?}");
    assert_eq!(read(store, "from").await, b"one");
    assert_eq!(read(store, "to/there").await, b"two");
    store.rename(&from, &to).await.expect("renamed");
    assert_eq!(names(store, None).await, ["to/there"]);
    assert_eq!(read(store, "to/there").await, b"one");
    store.rename_if_not_exists(&to, &from).await.expect("free");
    assert_eq!(names(store, None).await, ["from"]);
}

/// An upload in parts is one object when it is complete, in the order of its parts, and nothing
/// before that or when it is given up.
pub async fn multipart_is_seen_when_complete(store: &dyn ObjectStore) {
    let path = Path::from("large");
    let mut upload = store.put_multipart(&path).await.expect("begun");
    // Other than the last, a part has at least 5 MiB, as S3 asks.
    let part = |byte: u8, length: usize| vec![byte; length];
    let first = upload.put_part(part(1, 5 << 20).into());
    let second = upload.put_part(part(2, 3).into());
    second.await.expect("a part");
    first.await.expect("a part");
    assert!(is_missing(store.get(&path).await), "it is not complete");
    upload.complete().await.expect("complete");
    let bytes = read(store, "large").await;
    assert_eq!((bytes.len(), bytes[0], &bytes[5 << 20..]), ((5 << 20) + 3, 1, &[2, 2, 2][..]));
    let mut given_up = store.put_multipart(&Path::from("other")).await.expect("begun");
    given_up.put_part(part(3, 10).into()).await.expect("a part");
    given_up.abort().await.expect("given up");
    assert_eq!(names(store, None).await, ["large"]);
}

macro_rules! cases {
    ($($case:ident),+) => {
        /// Every requirement.
        pub const CASES: &[Case] =
            &[$((stringify!($case), |store| Box::pin($case(store)))),+];
    };
}
cases!(
    puts_are_read_back,
    listings_are_whole,
    conditional_puts_are_kept,
    one_of_many_creators_wins,
    a_copy_is_whole_and_does_not_replace,
    renames_replace_or_refuse,
    multipart_is_seen_when_complete
);

/// Runs every requirement as a test of its own, each on a new store from the factory, which
/// gives it beside what it needs while it is used, such as its folder.
#[macro_export]
macro_rules! object_store_conformance {
    ($make:expr) => {
        $crate::object_store_conformance!(@each $make;
            puts_are_read_back, listings_are_whole, conditional_puts_are_kept,
            one_of_many_creators_wins, a_copy_is_whole_and_does_not_replace,
            renames_replace_or_refuse, multipart_is_seen_when_complete);
    };
    (@each $make:expr; $($case:ident),+) => {
        mod conformance {
            #[allow(unused_imports, reason = "the factory may need no imports")]
            use super::*;
            $(#[tokio::test]
            async fn $case() {
                let (_guard, store) = ($make)();
                $crate::testkit::object_store::$case(&store).await;
            })+
        }
    };
}
