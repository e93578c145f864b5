//! JSON text of dynamic columns, behind a byte that chooses an item: it is JSON to us as it is to
//! another reader, and a part that is read by itself is what it is in the whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_logs::fuzz::dynamic_parts;
use serde_json::Value as Json;

fuzz_target!(|data: &[u8]| {
    let Some((index, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let index = i64::from(index.cast_signed());
    let other: Option<Json> = serde_json::from_str(text).ok();
    let key = match other.as_ref().and_then(Json::as_object).map(|members| members.keys().collect()) {
        Some::<Vec<&String>>(keys) if !keys.is_empty() => {
            keys[index.unsigned_abs() as usize % keys.len()].as_str()
        }
        _ => "a",
    };
    let [whole, member, item] = dynamic_parts(text, key, index);
    // The other reader does not go as deep.
    let is_deep = text.matches(['[', '{']).count() > 126;
    assert!(whole.is_some() == other.is_some() || is_deep, "{text}");
    let read = |text: &String| -> Json { serde_json::from_str(text).expect("what was written") };
    let Some(whole) = whole.as_ref().map(read) else {
        assert!(member.is_none() && item.is_none(), "{text}");
        return;
    };
    assert_eq!(member.as_ref().map(read).as_ref(), whole.get(key), "{text}");
    let place = whole.as_array().and_then(|items| {
        let from_end = items.len().checked_sub(index.unsigned_abs() as usize);
        if index < 0 { from_end } else { usize::try_from(index).ok() }
    });
    assert_eq!(item.as_ref().map(read).as_ref(), place.and_then(|at| whole.get(at)), "{text}");
});
