//! Texts that name or seal something: whatever is read prints to what reads back the same, and
//! nothing panics.

use oms_core::id::CorrelationId;
use oms_core::journal::HistoryId;
use oms_core::record::RecordType;
use oms_core::resource::ResourceId;
use oms_core::schedule::ZoneName;
use oms_core::secret::Sealed;
use proptest::prelude::*;
use std::fmt::{Debug, Display};
use std::str::FromStr;

fn check<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Result<bool, TestCaseError> {
    let Ok(value) = text.parse::<T>() else { return Ok(false) };
    let printed = value.to_string();
    let again = printed.parse::<T>();
    prop_assert!(again.is_ok_and(|again| again == value), "{text:?} printed {printed:?}");
    Ok(true)
}

/// Text of the pieces that these forms are made of.
fn near_misses() -> impl Strategy<Value = String> {
    let pieces = [
        "/",
        "//",
        ".",
        "..",
        "a",
        "subscriptions",
        "job",
        "s1",
        "1",
        "0",
        "-",
        "_",
        "AAAA",
        "A",
        "Europe",
        "Zurich",
        "{",
        "}",
        "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
        "\u{7f}",
        "é",
        " ",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..8)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_read_prints_to_what_reads_the_same(
        text in prop_oneof![near_misses(), any::<String>()],
    ) {
        check::<CorrelationId>(&text)?;
        check::<HistoryId>(&text)?;
        check::<RecordType>(&text)?;
        check::<Sealed>(&text)?;
        if check::<ResourceId>(&text)? {
            let id: ResourceId = text.parse().expect("it was read before");
            prop_assert!(id.is_within(&id) && id.is_within(&ResourceId::root()));
            let mut segments = id.as_str()[1..].split('/');
            let is_clean = !segments.any(|segment| matches!(segment, "" | "." | ".."));
            prop_assert!(id.as_str() == "/" || is_clean);
        }
        let Ok(zone) = text.parse::<ZoneName>();
        // A name is looked up where it is used.
        let _zone = zone.time_zone();
        prop_assert_eq!(zone.to_string(), text);
    }

    #[test]
    fn a_path_of_names_is_a_resource_id_below_each_of_its_beginnings(
        names in prop::collection::vec("[a-zA-Z0-9._-]{1,12}", 1..8),
    ) {
        prop_assume!(!names.iter().any(|name| matches!(name.as_str(), "." | "..")));
        let id: ResourceId = format!("/{}", names.join("/")).parse().expect("a resource id");
        for end in 1..=names.len() {
            let scope = format!("/{}", names[..end].join("/")).to_uppercase();
            prop_assert!(id.is_within(&scope.parse().expect("a resource id")));
            let beside = format!("{scope}x").parse().expect("a resource id");
            prop_assert!(!id.is_within(&beside));
        }
    }
}
