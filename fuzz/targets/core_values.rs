//! Identifiers, records and envelopes: what is read prints to what reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_core::id::{ActionId, CorrelationId};
use oms_core::journal::{Envelope, HistoryId};
use oms_core::record::RecordType;
use oms_core::resource::ResourceId;
use oms_core::schedule::ZoneName;
use oms_core::{Record, secret};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Display};
use std::str::FromStr;

fn text<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T>
where
    T::Err: Debug,
{
    let value = text.parse::<T>().ok()?;
    assert_eq!(value.to_string().parse::<T>().expect("what is printed parses"), value);
    Some(value)
}

fn json<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&value).expect("what was read has a JSON form");
        assert_eq!(serde_json::from_slice::<T>(&written).expect("it reads back"), value);
    }
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    match kind % 4 {
        0 => json::<Envelope>(rest),
        1 => json::<Record>(rest),
        _ => {
            let Ok(rest) = std::str::from_utf8(rest) else { return };
            text::<ActionId>(rest);
            text::<CorrelationId>(rest);
            text::<HistoryId>(rest);
            text::<RecordType>(rest);
            text::<secret::Sealed>(rest);
            // Any text names a zone; whether there is one is found out when it is looked up.
            let Ok(zone) = rest.parse::<ZoneName>();
            assert_eq!(zone.as_str(), rest);
            let _ = zone.time_zone();
            if let Some(id) = text::<ResourceId>(rest) {
                assert!(id.is_within(&id) && id.is_within(&ResourceId::root()));
                assert!(id.as_str().len() <= ResourceId::LENGTH_MAX);
            }
        }
    }
});
