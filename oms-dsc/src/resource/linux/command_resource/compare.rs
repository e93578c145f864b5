//! What differs between a state that is desired and one that was found, as DSC version 3 compares them when a
//! resource has no test of its own: every property that is asked for, without regard to the order of lists.
//! Objects in lists, too, may have more than is asked for; of two items that are asked for each needs one of
//! its own, which DSC does not see to.

use super::{Difference, EXIST};
use crate::Error;
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// The longest value that is shown of a difference, in characters.
const SHOWN_CHARS_MAX: usize = 1_000;

/// The most values that are compared with each other for one instance.
const COMPARISONS_MAX: usize = 10_000_000;

/// What is not as it should be. What the desired state does not say is let be.
///
/// # Errors
/// [`Error::TooLarge`] for lists of which it would take too long to say.
pub(super) fn differences(
    desired: &Map<String, Value>,
    found: &Map<String, Value>,
) -> Result<Vec<Difference>, Error> {
    let exists = |state: &Map<String, Value>| state.get(EXIST) != Some(&Value::Bool(false));
    if exists(desired) != exists(found) {
        let text = |exists: bool| exists.to_string();
        return Ok(vec![Difference::new(EXIST, text(exists(found)), text(exists(desired)))]);
    }
    if !exists(desired) {
        return Ok(Vec::new());
    }
    let mut comparison = Comparison { left: COMPARISONS_MAX };
    let mut differences = Vec::new();
    for (name, wanted) in desired {
        // Canonical properties tell how, and not what; a schema is for those who write.
        if name.starts_with('_') || name == "$schema" {
            continue;
        }
        let there = found.get(name);
        let is_met = match there {
            Some(there) => comparison.is_met(wanted, there)?,
            None => false,
        };
        if !is_met {
            let there = shown(there.unwrap_or(&Value::Null));
            differences.push(Difference::new(name, there, shown(wanted)));
        }
    }
    Ok(differences)
}

pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "absent".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

struct Comparison {
    /// How many more values may be compared.
    left: usize,
}

impl Comparison {
    /// Whether what is there has what should be: objects may have more, and lists another order.
    fn is_met(&mut self, wanted: &Value, there: &Value) -> Result<bool, Error> {
        self.count(1)?;
        match (wanted, there) {
            (Value::Object(wanted), Value::Object(there)) => {
                for (name, wanted) in wanted {
                    match there.get(name) {
                        Some(there) if self.is_met(wanted, there)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            (Value::Array(wanted), Value::Array(there)) => {
                Ok(wanted.len() == there.len() && self.are_met(wanted, there)?)
            }
            (Value::Number(wanted), Value::Number(there)) => Ok(is_same_number(wanted, there)),
            (wanted, there) => Ok(wanted == there),
        }
    }

    /// Whether each wanted item has one of its own among as many that are there.
    fn are_met(&mut self, wanted: &[Value], there: &[Value]) -> Result<bool, Error> {
        self.count(wanted.len())?;
        let (wanted, there) = without_equals(wanted, there);
        // Of values that consist of no others, only numbers have several forms.
        let has_forms = |value: &&Value| value.is_object() || value.is_array() || value.is_number();
        if !wanted.iter().all(has_forms) {
            return Ok(false);
        }
        let mut fitting = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let mut places = Vec::new();
            for (place, there) in there.iter().enumerate() {
                if self.is_met(wanted, there)? {
                    places.push(place);
                }
            }
            if places.is_empty() {
                return Ok(false);
            }
            fitting.push(places);
        }
        let mut taken = vec![None; there.len()];
        let mut places = vec![None; fitting.len()];
        for item in 0..fitting.len() {
            if !self.place(item, &fitting, &mut taken, &mut places)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Finds a place for one more item; others that have theirs move on where that helps. The nearest free
    /// place over such moves is looked for in width, so no list is too long for the stack.
    fn place(
        &mut self,
        item: usize,
        fitting: &[Vec<usize>],
        taken: &mut [Option<usize>],
        places: &mut [Option<usize>],
    ) -> Result<bool, Error> {
        // For each place that was seen, the item that would take it.
        let mut takers: Vec<Option<usize>> = vec![None; taken.len()];
        let mut items = std::collections::VecDeque::from([item]);
        while let Some(next) = items.pop_front() {
            self.count(fitting[next].len())?;
            for &place in &fitting[next] {
                if takers[place].is_some() {
                    continue;
                }
                takers[place] = Some(next);
                match taken[place] {
                    Some(owner) => items.push_back(owner),
                    None => {
                        move_on(place, &takers, taken, places);
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    fn count(&mut self, more: usize) -> Result<(), Error> {
        self.left = self.left.checked_sub(more).ok_or(Error::TooLarge {
            what: "lists of a resource, in comparisons",
            actual: COMPARISONS_MAX.saturating_add(1),
            limit: COMPARISONS_MAX,
        })?;
        Ok(())
    }
}

/// Gives a free place to its taker, the place that this one had to its own, and so on to the item that had
/// none. `taken` has the item of each place, `places` the place of each item.
fn move_on(
    free: usize,
    takers: &[Option<usize>],
    taken: &mut [Option<usize>],
    places: &mut [Option<usize>],
) {
    let mut next = Some(free);
    while let Some(place) = next
        && let Some(taker) = takers[place]
    {
        taken[place] = Some(taker);
        next = places[taker].replace(place);
    }
}

/// The items that have no equal one on the other side. An equal one is never better left to another item:
/// whatever that asks for, what meets the first one has it too. With fractions this is not so, since a
/// fraction is equal to several whole numbers.
fn without_equals<'a>(wanted: &'a [Value], there: &'a [Value]) -> (Vec<&'a Value>, Vec<&'a Value>) {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let plain = |value: &Value| (!has_fraction(value)).then(|| value.to_string());
    for text in there.iter().filter_map(plain) {
        *counts.entry(text).or_default() += 1;
    }
    let mut used: HashMap<String, usize> = HashMap::new();
    let mut rest = Vec::new();
    for value in wanted {
        match plain(value) {
            Some(text) if counts.get(&text).is_some_and(|count| *count > 0) => {
                counts.entry(text.clone()).and_modify(|count| *count -= 1);
                *used.entry(text).or_default() += 1;
            }
            _ => rest.push(value),
        }
    }
    let is_left = |value: &&Value| {
        let used = plain(value).and_then(|text| used.get_mut(&text).filter(|count| **count > 0));
        used.map(|count| *count -= 1).is_none()
    };
    (rest, there.iter().filter(is_left).collect())
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(members) => members.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fn is_same_number(wanted: &Number, there: &Number) -> bool {
    // Whole numbers are compared as such: doubles do not tell all of them apart.
    let is_whole = |number: &Number| number.is_i64() || number.is_u64();
    wanted == there || !(is_whole(wanted) && is_whole(there)) && wanted.as_f64() == there.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(value: &Value) -> &Map<String, Value> {
        value.as_object().expect("an object")
    }

    #[test]
    fn what_is_asked_for_is_compared() {
        let check = |desired: Value, found: Value, expect: &[&str]| {
            let found = differences(object(&desired), object(&found)).expect("small");
            let names: Vec<&str> = found.iter().map(|found| found.property.as_str()).collect();
            assert_eq!(names, expect);
        };
        check(json!({"a": 1}), json!({"a": 1.0, "b": 2}), &[]);
        check(json!({"a": 1, "b": "x"}), json!({"a": 2}), &["a", "b"]);
        let (one, next) = (9_007_199_254_740_992_i64, 9_007_199_254_740_993_i64);
        check(json!({"a": one}), json!({"a": next}), &["a"]);
        check(json!({"a": [1, 1, 2]}), json!({"a": [2, 1, 1]}), &[]);
        check(json!({"a": [1, 1, 2]}), json!({"a": [2, 2, 1]}), &["a"]);
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}}), &[]);
        let items = json!({"a": ["x", {"a": 1}, {"a": 1, "b": 2}]});
        check(items.clone(), items, &[]);
        // The first item could have either, the second only the one that comes first.
        let narrow = json!({"a": [{"a": 1}, {"a": 1, "b": 2}]});
        check(narrow.clone(), json!({"a": [{"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 4}]}), &[]);
        check(narrow, json!({"a": [{"a": 1, "c": 3}, {"a": 1, "c": 4}]}), &["a"]);
        // Two that ask for the same need two.
        check(
            json!({"a": [{"a": 1}, {"a": 1}]}),
            json!({"a": [{"a": 1, "b": 1}, {"a": 2}]}),
            &["a"],
        );
        let (whole, fraction) = (json!([one, 9_007_199_254_740_992.0_f64]), json!([next, one]));
        check(json!({"a": whole}), json!({"a": fraction}), &[]);
        check(json!({"a": "X"}), json!({"a": "x"}), &["a"]);
        check(json!({"a": 1}), json!({"_exist": false}), &["_exist"]);
        check(json!({"a": 1, "_exist": false}), json!({"a": 2}), &["_exist"]);
        check(json!({"a": 1, "_exist": false}), json!({"_exist": false}), &[]);
        check(json!({"_purge": true, "_exist": true, "$schema": "x"}), json!({}), &[]);
    }

    fn value() -> impl Strategy<Value = Value> {
        let plain = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        plain.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// What was set is not told to differ, whatever else is there; what is left out is.
        #[test]
        fn a_state_meets_itself(members in proptest::collection::btree_map("[a-c]", value(), 1..4)) {
            let desired: Map<String, Value> = members.into_iter().collect();
            let mut found = desired.clone();
            found.insert("more".to_owned(), json!(1));
            prop_assert_eq!(differences(&desired, &found).expect("small"), []);
            let name = desired.keys().next().expect("one").clone();
            found.remove(&name);
            prop_assert_eq!(differences(&desired, &found).expect("small").len(), 1);
        }

        /// Items are given to each other as by trying every order.
        #[test]
        fn a_list_is_met_if_some_order_of_it_is(
            wanted in proptest::collection::vec(item(), 0..6),
            there in proptest::collection::vec(item(), 0..6),
        ) {
            let mut comparison = Comparison { left: COMPARISONS_MAX };
            let is_met = comparison.is_met(&json!(wanted), &json!(there)).expect("small");
            prop_assert_eq!(is_met, wanted.len() == there.len() && some_order(&wanted, &there));
        }
    }

    /// Objects that ask for more or less, and numbers that are several.
    fn item() -> impl Strategy<Value = Value> {
        let number = prop_oneof![Just(json!(1)), Just(json!(1.0)), Just(json!(2))];
        let members = proptest::collection::btree_map("[a-c]", number.clone(), 0..4);
        prop_oneof![
            number,
            members.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    }

    /// Whether the first item has a place that leaves places to the others.
    fn some_order(wanted: &[Value], there: &[Value]) -> bool {
        let Some((first, others)) = wanted.split_first() else { return true };
        (0..there.len()).any(|place| {
            let mut left = there.to_vec();
            let taken = left.swap_remove(place);
            let mut comparison = Comparison { left: COMPARISONS_MAX };
            comparison.is_met(first, &taken).expect("small") && some_order(others, &left)
        })
    }

    #[test]
    fn what_takes_too_long_is_an_error() {
        let items: Value = (0..4_000).map(|n| json!({"a": n})).collect();
        let items = json!({"x": items});
        // Equal ones are found at once.
        assert_eq!(differences(object(&items), object(&items)).expect("fast"), []);
        let more: Value = (0..4_000).map(|n| json!({"a": n, "b": n})).collect();
        let error = differences(object(&items), object(&json!({"x": more})));
        let error = error.expect_err("too long").to_string();
        assert!(error.contains("lists of a resource, in comparisons"), "{error}");
    }
}
