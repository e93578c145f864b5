//! Expressions over nodes: read or refused with a column, and what is read is printed as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oms_dsc::Error;
use oms_dsc::pull_server::NodeExpression;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<NodeExpression>() {
        Ok(expression) => {
            let again: NodeExpression = expression.to_string().parse().expect("it was read once");
            assert_eq!(again, expression);
        }
        Err(Error::Invalid { .. }) => {}
        Err(other) => panic!("another error: {other}"),
    }
});
