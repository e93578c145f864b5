//! Syslog messages: every line becomes a message whose parts are parts of the line.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use oms_logs::source::syslog::{Form, Message};

fuzz_target!(|data: &[u8]| {
    let line = String::from_utf8_lossy(data);
    let now = "2026-03-29T01:30:00Z".parse().expect("a time");
    let zone = TimeZone::get("Europe/Zurich").expect("a zone");
    let message = Message::parse(&line, now, &zone);
    let parts = [
        message.host.as_deref(),
        message.process.as_deref(),
        message.process_id.as_deref(),
        message.message_id.as_deref(),
        message.structured_data.as_deref(),
        Some(message.text.as_str()),
    ];
    assert!(parts.into_iter().flatten().all(|part| line.contains(part)));
    assert_eq!(message.facility.is_some(), message.severity.is_some());
    assert!(message.facility.is_none() || line.starts_with('<'));
    if message.form == Form::Raw {
        assert_eq!(message.text, line.trim_end_matches(['\n', '\r', '\0']));
    }
    assert!(message.text_with_data().ends_with(&message.text));
});
