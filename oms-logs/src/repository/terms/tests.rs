use super::*;
use arrow::array::{ArrayRef, StringArray};
use datafusion::logical_expr::{Expr, Operator, binary_expr, ident, lit};
use proptest::prelude::*;
use std::sync::Arc;

fn terms(text: &str) -> Vec<u64> {
    let mut all = Vec::new();
    for_each_term(text, &mut |hash| all.push(hash));
    all
}

fn index(texts: Vec<Option<String>>) -> Terms {
    let array: ArrayRef = Arc::new(StringArray::from(texts));
    let rows = RecordBatch::try_from_iter([("Text", array)]).expect("rows");
    let mut builder = TermsBuilder::new(["Text".to_owned()]);
    // Rows come in batches of any size.
    let first = rows.num_rows() / 3;
    builder.push(&rows.slice(0, first));
    builder.push(&rows.slice(first, rows.num_rows() - first));
    let bytes = builder.finish().expect("an index");
    Terms::decode(&bytes.into()).expect("it reads back")
}

/// The rows that are not left out.
fn selected(terms: &Terms, condition: Expr) -> usize {
    match terms.select(&Wanted::of(&[condition])) {
        Selected::Nothing => 0,
        Selected::Everything => usize::try_from(terms.rows).expect("few rows"),
        Selected::Rows(rows) => rows.row_count(),
    }
}

fn like(pattern: &str) -> Expr {
    ident("Text").ilike(lit(pattern))
}

#[test]
fn terms_are_words_in_lower_case_without_short_ones() {
    assert_eq!(
        terms("Failed PASSWORD from 10.0.0.17 port 54321"),
        terms("failed password from port")
    );
    assert_eq!(terms("id=1234567 a1b-c"), terms("1234567; ID a1b"));
    assert_eq!(terms("id 123456").len(), 1);
    assert_eq!(terms("ÉTÉ-STRAßE"), terms("été straße"));
}

#[test]
fn the_block_of_a_rare_term_is_found() {
    let texts = (0..BLOCK_ROWS * 5 + 7).map(|row| {
        Some(if row == BLOCK_ROWS * 3 + 5 {
            "code XQ7731ERR raised".into()
        } else {
            format!("session {row} of user")
        })
    });
    let terms = index(texts.collect());
    assert_eq!(selected(&terms, like("%XQ7731ERR%")), BLOCK_ROWS * 5 + 7, "a term may go on");
    assert_eq!(selected(&terms, like("% xq7731err %")), BLOCK_ROWS);
    assert_eq!(selected(&terms, ident("Text").eq(lit("nowhere to be seen"))), 0);
    let either = binary_expr(like("% xq7731err %"), Operator::Or, ident("Other").eq(lit(1)));
    assert_eq!(selected(&terms, either), BLOCK_ROWS * 5 + 7);
    let list = ident("Text").in_list(vec![lit("code XQ7731ERR raised"), lit("nowhere")], false);
    assert_eq!(selected(&terms, list), BLOCK_ROWS);
}

#[test]
fn damage_is_told() {
    let array: ArrayRef = Arc::new(StringArray::from(vec!["some text", "other text"]));
    let rows = RecordBatch::try_from_iter([("Text", array)]).expect("rows");
    let mut builder = TermsBuilder::new(["Text".to_owned()]);
    builder.push(&rows);
    let bytes = builder.finish().expect("an index");
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Terms::decode(&damaged.into()).is_err(), "byte {at}");
        assert!(Terms::decode(&bytes[..at].to_vec().into()).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn no_row_is_left_out_that_meets_a_condition(
        texts in prop::collection::vec(prop::option::of("([A-Za-c]{1,4}|[éÉſKİσΣ]|[0-9]{1,7}|[ ._-]){0,6}"), 1..30),
        start: bool,
        end: bool,
        row: prop::sample::Index,
        from: prop::sample::Index,
        length in 0_usize..12,
    ) {
        // Something that stands in one of the rows.
        let text = texts[row.index(texts.len())].clone().unwrap_or_default();
        let chars: Vec<char> = text.chars().collect();
        let from = if chars.is_empty() || start { 0 } else { from.index(chars.len()) };
        let to = if end { chars.len() } else { (from + length).min(chars.len()) };
        let operand: String = chars.get(from..to).unwrap_or_default().iter().collect();
        prop_assume!(!operand.contains(['_', '%']));
        let before = if from == 0 { "" } else { "%" };
        let after = if to == chars.len() { "" } else { "%" };
        let terms = index(texts);
        let as_it_is = format!("{before}{operand}{after}");
        prop_assert!(selected(&terms, like(&as_it_is)) > 0);
        if operand.is_ascii() {
            prop_assert!(selected(&terms, like(&as_it_is.to_ascii_uppercase())) > 0);
        }
        prop_assert!(selected(&terms, ident("Text").eq(lit(text))) > 0);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut whole = MAGIC.to_vec();
        whole.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        whole.extend_from_slice(&bytes);
        let _ = Terms::decode(&whole.into());
        let _ = Terms::decode(&bytes.into());
    }
}
