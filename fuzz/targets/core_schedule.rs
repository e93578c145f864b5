//! Schedules as JSON: those that compile are due in order, and `next_after` agrees with `iter`.
#![no_main]

use jiff::SignedDuration;
use libfuzzer_sys::fuzz_target;
use oms_core::schedule::Schedule;

fuzz_target!(|data: &[u8]| {
    let Ok(schedule) = serde_json::from_slice::<Schedule>(data) else { return };
    let Ok(rule) = schedule.compile() else { return };
    let due: Vec<_> = rule.iter().take(12).collect();
    assert!(due.is_sorted_by(|a, b| a < b), "{schedule:?}: {due:?}");
    assert!(schedule.expiry.is_none_or(|expiry| due.iter().all(|due| *due <= expiry)));
    for pair in due.windows(2) {
        assert_eq!(rule.next_after(pair[0]), Some(pair[1]), "{schedule:?}");
    }
    if let (Some(first), Some(last)) = (due.first(), due.last()) {
        let report = rule.due(*first, *last, SignedDuration::ZERO);
        assert!(report.due.iter().all(|at| due.contains(at)), "{schedule:?}: {report:?}");
        assert!(report.due.len() + report.left_out < due.len().max(1), "{schedule:?}: {report:?}");
        assert_eq!(report.next, rule.next_after(*last), "{schedule:?}");
    }
});
