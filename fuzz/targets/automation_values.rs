//! Runbook parameters, output lines and what is blotted out of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_automation::fuzz::{bind, check_definitions, lines};
use oms_automation::runbook::{ARGUMENT_BYTES_MAX, PARAMETERS_MAX, ParameterDefinition};
use oms_automation::stream::{REDACTED_BYTES_MIN, Redactor, StreamType};
use serde_json::Value;
use std::collections::BTreeMap;

fn parameters(data: &[u8]) {
    type Input = (Vec<ParameterDefinition>, BTreeMap<String, Value>);
    let Ok((definitions, given)) = serde_json::from_slice::<Input>(data) else { return };
    if check_definitions(&definitions).is_err() {
        return;
    }
    let Ok(arguments) = bind(&definitions, given.clone()) else { return };
    assert!(arguments.len() <= PARAMETERS_MAX);
    assert!(arguments.iter().all(|it| it.text().len() <= ARGUMENT_BYTES_MAX));
    assert!(arguments.iter().all(|it| !it.text().contains('\0')));
    if definitions.is_empty() {
        assert_eq!(arguments.len(), given.len());
    } else {
        let names = definitions.iter().map(|definition| &definition.name);
        assert!(arguments.iter().map(|it| &it.name).zip(names).all(|(a, b)| a == b));
    }
}

fn split(limit: u8, data: &[u8]) {
    let limit = usize::from(limit) + 1;
    let (left, right) = data.split_at(data.len() / 2);
    let whole = lines(limit, &[data]);
    assert_eq!(lines(limit, &[left, right]), whole, "how the bytes arrive does not matter");
    assert!(whole.iter().all(|(line, _)| line.len() <= limit && !line.contains(&b'\n')));
    for (line, _) in &whole {
        let _ = StreamType::of_line(&String::from_utf8_lossy(line));
    }
}

fn redact(secret: &[u8], text: &str) {
    let redactor = Redactor::new(&[oms_core::Secret::new(secret)]);
    let redacted = redactor.redact(text);
    for line in secret.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else { continue };
        if line.len() >= REDACTED_BYTES_MIN && !line.contains('*') {
            assert!(!redacted.contains(line), "{line:?} is in {redacted:?}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    match kind % 3 {
        0 => parameters(rest),
        1 => split(kind, rest),
        _ => {
            let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let text = String::from_utf8_lossy(rest.get(end + 1..).unwrap_or_default());
            redact(&rest[..end], &text);
        }
    }
});
