//! Bodies and small texts of the protocol: whatever is read is written as what reads back the same,
//! and nothing panics.

use oms_core::Secret;
use oms_dsc::configuration::Configuration;
use oms_dsc::module::{ModuleVersion, check_package};
use oms_dsc::protocol::{
    Checksum, ConfigurationName, GetDscActionRequest, GetDscActionResponse,
    GetResourceStateRequest, GetResourceStateResponse, RegisterDscAgentRequest, StatusReport, auth,
    v1,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Debug, Display};
use std::str::FromStr;

const BODIES: [&str; 7] = [
    r#"{"AgentInformation":{"LCMVersion":"2.0","NodeName":"n","IPAddress":"::1"},"ConfigurationNames":["a"],"RegistrationInformation":{"CertificateInformation":{"Version":3},"RegistrationMessageType":"ConfigurationRepository"}}"#,
    r#"{"ClientStatus":[{"Checksum":null,"ConfigurationName":"a","ChecksumAlgorithm":"SHA-256"}]}"#,
    r#"{"NodeStatus":"Ok","Details":[{"ConfigurationName":"a","Status":"GetConfiguration"}]}"#,
    r#"{"JobId":"91e51a37-b59f-11e5-9c04-14109fd663ae","Status":true,"Errors":"x","StatusData":["{}",null],"AdditionalData":[{"Key":"OSVersion","Value":1}]}"#,
    r#"{"Checksum":"","NodeCompliant":false,"StatusCode":0}"#,
    r#"{"ResourceId":"[File]motd","NodeNames":["a","b"]}"#,
    r#"{"Nodes":[{"NodeName":"a","State":"InDesiredState","Reported":"2026-01-01T00:00:00Z"},{"NodeName":"b","State":"UnknownNode"}]}"#,
];

fn json<T: DeserializeOwned + Serialize + PartialEq + Debug>(
    bytes: &[u8],
) -> Result<bool, TestCaseError> {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else { return Ok(false) };
    let written = serde_json::to_vec(&value).expect("what was read has a JSON form");
    prop_assert_eq!(serde_json::from_slice::<T>(&written).expect("it reads back"), value);
    Ok(true)
}

fn all(bytes: &[u8]) -> Result<[bool; 7], TestCaseError> {
    Ok([
        json::<RegisterDscAgentRequest>(bytes)?,
        json::<GetDscActionRequest>(bytes)?,
        json::<GetDscActionResponse>(bytes)?,
        json::<StatusReport>(bytes)?,
        json::<v1::GetActionRequest>(bytes)?,
        json::<GetResourceStateRequest>(bytes)?,
        json::<GetResourceStateResponse>(bytes)?,
    ])
}

fn text<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Result<(), TestCaseError> {
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        let again = printed.parse::<T>();
        prop_assert!(again.is_ok_and(|again| again == value), "{text:?} printed {printed:?}");
    }
    Ok(())
}

#[test]
fn every_body_is_read_as_what_it_is() {
    for (index, body) in BODIES.iter().enumerate() {
        assert!(all(body.as_bytes()).expect("it is written as it was read")[index], "{body}");
    }
}

#[test]
fn a_long_row_of_references_through_deep_values_ends_within_a_small_stack() {
    // As many references in a row as may be, each through values as deep as may be.
    let mut document =
        String::from("instance of OMI_ConfigurationDocument { Version = \"2.0.0\"; };");
    for number in 0..32 {
        let (open, close) = ("instance of I { V = ".repeat(30), "; }".repeat(30));
        let next = if number == 31 { "1".to_owned() } else { format!("$a{}", number + 1) };
        document.push_str(&format!("instance of I as $a{number} {{ V = {open}{next}{close}; }};"));
    }
    document.push_str("instance of T { ResourceID = \"[T]a\"; V = $a0; };");
    // Threads of the runtimes that this runs on have 2 MiB.
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let read =
        move || Configuration::parse("deep", document.as_bytes()).map(|it| it.resources.len());
    let read = thread.spawn(read).expect("a thread").join().expect("it ends");
    assert_eq!(read.expect("it is read"), 1);
}

proptest! {
    #[test]
    fn damaged_bodies_are_read_or_refused(
        which in 0..BODIES.len(), at: prop::sample::Index, byte: u8, is_cut: bool,
    ) {
        let mut bytes = BODIES[which].as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if is_cut {
            bytes.truncate(at);
        }
        all(&bytes)?;
    }

    #[test]
    fn any_header_is_refused_unless_it_is_signed(
        header in prop_oneof!["Shared [A-Za-z0-9+/=]{0,48}", any::<String>()],
        date in prop_oneof!["19[67][0-9]-0[1-9]-0[1-9]T00:0[0-9]:00(\\.0000000)?Z", any::<String>()],
        body: Vec<u8>,
    ) {
        let keys = [Secret::from("a key")];
        let (now, window) = (jiff::Timestamp::UNIX_EPOCH, jiff::SignedDuration::from_mins(5));
        let check = |header: &str| auth::verify(&keys, Some(header), Some(&date), &body, now, window);
        prop_assert!(check(&header).is_err());
        let signed = check(&auth::authorization(&keys[0], date.trim(), &body));
        let is_near = date.trim().parse::<jiff::Timestamp>()
            .is_ok_and(|date| now.duration_since(date).abs() <= window);
        prop_assert_eq!(signed.is_ok(), is_near);
    }

    #[test]
    fn texts_print_to_what_reads_the_same(
        value in prop_oneof![any::<String>(), "[0-9.]{0,20}", "[0-9a-fA-F+]{64}", "[a-z./'\\\\]{0,9}"],
    ) {
        text::<Checksum>(&value)?;
        text::<ConfigurationName>(&value)?;
        text::<ModuleVersion>(&value)?;
        let _ = check_package("Module", value.as_bytes());
    }
}
