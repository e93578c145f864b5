//! The small texts of the protocol: what is read prints to text that reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_dsc::module::{ModuleVersion, check_package};
use oms_dsc::protocol::{
    AgentId, Checksum, ConfigurationName, GetDscActionRequest, GetDscActionResponse,
    GetResourceStateRequest, GetResourceStateResponse, JobId, RegisterDscAgentRequest, StatusReport,
    auth, v1,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Display};
use std::str::FromStr;

fn text<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Debug,
{
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().expect("what is printed parses"), value);
    }
}

fn json<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_vec(&value).expect("what was read has a JSON form");
        assert_eq!(serde_json::from_slice::<T>(&written).expect("it reads back"), value);
    }
}

fn authorization(data: &[u8]) {
    let Ok(data) = std::str::from_utf8(data) else { return };
    let (header, date) = data.split_once('\n').unwrap_or((data, ""));
    let keys = ["a key".into(), "another".into()];
    let now = jiff::Timestamp::UNIX_EPOCH;
    let window = jiff::SignedDuration::from_mins(5);
    let given = auth::verify(&keys, Some(header), Some(date), b"{}", now, window);
    assert!(given.is_err(), "nobody guesses a signature");
    // With the signature of its own date, what counts is the date.
    let signed = auth::authorization(&keys[1], date.trim(), b"{}");
    match auth::verify(&keys, Some(&signed), Some(date), b"{}", now, window) {
        Ok(signed) => assert!(now.duration_since(signed.date).abs() <= window),
        Err(error) => assert!(error.to_string().contains("x-ms-date"), "{error}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    match kind % 8 {
        0 => json::<RegisterDscAgentRequest>(rest),
        1 => json::<GetDscActionRequest>(rest),
        2 => {
            json::<GetDscActionResponse>(rest);
            json::<GetResourceStateRequest>(rest);
            json::<GetResourceStateResponse>(rest);
        }
        3 => {
            json::<StatusReport>(rest);
            if let Ok(report) = serde_json::from_slice::<StatusReport>(rest) {
                let _ = report.job();
            }
        }
        4 => json::<v1::GetActionRequest>(rest),
        5 => authorization(rest),
        6 => {
            let _ = check_package("Module", rest);
        }
        _ => {
            let Ok(rest) = std::str::from_utf8(rest) else { return };
            text::<AgentId>(rest);
            text::<JobId>(rest);
            text::<Checksum>(rest);
            text::<ConfigurationName>(rest);
            text::<ModuleVersion>(rest);
        }
    }
});
