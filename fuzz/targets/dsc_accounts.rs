//! Files of accounts and of keys: what is changed is there, and every other line is as it was, byte for
//! byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_dsc::resource::fuzz::{Accounts, authorized_key, with_key};

/// A key of ED25519.
const KEY: &[u8] =
    b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g";

/// The lines that are not of that name. Those of a table come in order.
fn others<'a>(text: &'a [u8], is_own: impl Fn(&[u8]) -> bool) -> Vec<&'a [u8]> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty() && !is_own(line)).collect()
}

fn accounts(bytes: &[u8]) {
    let table = Accounts::parse(bytes);
    assert_eq!(table.print(), bytes);
    let is_own = |line: &[u8]| line.split(|byte| *byte == b':').next() == Some(b"jo");
    let mut changed = table.clone();
    changed.set("jo", 4, "Jo");
    assert_eq!(others(&changed.print(), is_own), others(bytes, is_own));
    let fields = changed.find("jo").expect("it was set");
    let before = table.find("jo").unwrap_or_else(|| vec![b"jo".to_vec()]);
    for (index, field) in fields.iter().enumerate() {
        let before = before.get(index).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(field, if index == 4 { b"Jo" } else { before });
    }
    assert_eq!(Accounts::parse(&changed.print()), changed);
    changed.take_out("jo");
    let again = changed.print();
    changed.take_out("jo");
    assert_eq!(changed.print(), again, "nothing was left");
    if table.find("jo").is_none() {
        let mut changed = table;
        changed.set("jo", 2, "7");
        changed.remove("jo");
        assert_eq!(others(&changed.print(), is_own), others(bytes, is_own));
    }
}

fn keys(text: &[u8]) {
    let is_own =
        |line: &[u8]| authorized_key(line).is_some_and(|(_, comment)| comment == b"jo@desk");
    for line in text.split(|byte| *byte == b'\n') {
        if let Some((key, comment)) = authorized_key(line) {
            let again = [&*key, b" ", &*comment].concat();
            assert_eq!(authorized_key(&again), Some((key, comment)));
        }
    }
    for key in [Some(KEY), None] {
        let wanted = with_key(text, b"jo@desk", key);
        assert_eq!(with_key(&wanted, b"jo@desk", key), wanted);
        assert_eq!(others(&wanted, is_own), others(text, is_own));
        let own = wanted.split(|byte| *byte == b'\n').filter(|line| is_own(line));
        let own: Vec<_> = own.filter_map(authorized_key).map(|(key, _)| key).collect();
        assert_eq!(own, key.map(<[u8]>::to_vec).into_iter().collect::<Vec<_>>());
    }
}

fuzz_target!(|data: &[u8]| {
    let (kind, rest) = fuzz::choose(data);
    match kind % 2 {
        0 => accounts(rest),
        _ => keys(rest),
    }
});
