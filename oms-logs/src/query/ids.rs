//! Numbers for the distinct values of columns, and for their combinations: of keys into groups, and of
//! groups with values.

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray as _, Int64Array, StringArray, StringBuilder, StringViewBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::{HashMap, Result, internal_err};
use std::sync::Arc;

/// No number yet.
const NONE: u32 = u32::MAX;

/// The most combinations of two keys that are looked up by place instead of by hash: 4 MiB.
const PLACES_MAX: usize = 1 << 20;

/// Whole numbers from 0 up to this are looked up by place instead of by hash: 256 KiB. Ids of
/// processes, ports and codes are.
const SMALL_MAX: usize = 1 << 16;

/// How many bytes an entry of a hash map is reckoned to take besides what it points to.
const ENTRY_BYTES: usize = 32;

/// How many bytes a text takes besides its own: a pointer in a list, and the counts before it.
const TEXT_BYTES: usize = 32;

/// Numbers groups of rows in the order in which they come.
#[derive(Debug)]
pub(crate) struct GroupIds {
    keys: Vec<KeyIds>,
    /// Combinations of the keys before with the next one, for each key but the first.
    pairs: Vec<PairIds>,
    of_rows: Vec<u32>,
    of_key: Vec<u32>,
}

impl GroupIds {
    /// For keys that come as codes or text (`true`), or as [whole numbers](is_number).
    pub(crate) fn new(are_text: impl Iterator<Item = bool>) -> Self {
        let keys: Vec<KeyIds> = are_text.map(KeyIds::new).collect();
        let pairs = keys.iter().skip(1).map(|_| PairIds::default()).collect();
        Self { keys, pairs, of_rows: Vec::new(), of_key: Vec::new() }
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        match (self.pairs.last(), self.keys.first()) {
            (Some(pairs), _) => pairs.len(),
            (None, Some(key)) => key.len(),
            (None, None) => 0,
        }
    }

    /// Bytes in memory, about.
    pub(crate) fn size(&self) -> usize {
        let keys: usize = self.keys.iter().map(KeyIds::size).sum();
        let pairs: usize = self.pairs.iter().map(PairIds::size).sum();
        keys + pairs + 4 * (self.of_rows.capacity() + self.of_key.capacity())
    }

    /// The group of each row.
    ///
    /// # Errors
    /// Keys of another kind than was said.
    pub(crate) fn assign(&mut self, keys: &[ArrayRef], groups: &mut Vec<usize>) -> Result<()> {
        groups.clear();
        self.of_rows.clear();
        for (at, (ids, values)) in self.keys.iter_mut().zip(keys).enumerate() {
            if at == 0 {
                ids.assign(values, &mut self.of_rows)?;
                continue;
            }
            self.of_key.clear();
            ids.assign(values, &mut self.of_key)?;
            let Some(pairs) = self.pairs.get_mut(at - 1) else {
                return internal_err!("there are more keys than combinations");
            };
            for (id, second) in self.of_rows.iter_mut().zip(&self.of_key) {
                *id = pairs.id(*id, *second);
            }
        }
        groups.extend(self.of_rows.iter().map(|id| *id as usize));
        Ok(())
    }

    /// The keys of all groups, in the groups' order.
    ///
    /// # Errors
    /// A type that a key does not have.
    pub(crate) fn values(&self, types: &[DataType]) -> Result<Vec<ArrayRef>> {
        let mut ids: Vec<u32> = (0..self.len() as u32).collect();
        let mut columns = Vec::with_capacity(self.keys.len());
        for (at, (key, data_type)) in self.keys.iter().zip(types).enumerate().rev() {
            let pairs = at.checked_sub(1).and_then(|before| self.pairs.get(before));
            let Some(pairs) = pairs else {
                columns.push(key.values(&ids, data_type)?);
                continue;
            };
            let (firsts, seconds): (Vec<u32>, Vec<u32>) =
                ids.iter().filter_map(|id| pairs.all.get(*id as usize)).copied().unzip();
            columns.push(key.values(&seconds, data_type)?);
            ids = firsts;
        }
        columns.reverse();
        Ok(columns)
    }
}

/// Whether values of a type are numbered as whole numbers.
pub(crate) const fn is_number(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Int32 | DataType::Int64 | DataType::Timestamp(..) | DataType::Duration(_)
    )
}

/// Whether values of a type are numbered as text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::Utf8View => true,
        DataType::Dictionary(codes, values) => {
            **codes == DataType::Int32 && **values == DataType::Utf8
        }
        _ => false,
    }
}

/// Numbers of the values of one column.
#[derive(Debug)]
pub(crate) enum KeyIds {
    Text(TextIds),
    Number(NumberIds),
}

impl KeyIds {
    /// For values that come as codes or text, or as [whole numbers](is_number).
    pub(crate) fn new(is_text: bool) -> Self {
        match is_text {
            true => Self::Text(TextIds::default()),
            false => Self::Number(NumberIds::default()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(ids) => ids.texts.len(),
            Self::Number(ids) => ids.values.len(),
        }
    }

    /// Bytes in memory, about.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(ids) => ids.size(),
            Self::Number(ids) => ids.size(),
        }
    }

    /// Adds the number of each row's value.
    ///
    /// # Errors
    /// Values of another kind than was said.
    pub(crate) fn assign(&mut self, values: &ArrayRef, out: &mut Vec<u32>) -> Result<()> {
        match self {
            Self::Text(ids) => ids.assign(values, out),
            Self::Number(ids) => ids.assign(values, out),
        }
    }

    /// The values of numbers.
    ///
    /// # Errors
    /// A type that they do not have.
    pub(crate) fn values(&self, ids: &[u32], data_type: &DataType) -> Result<ArrayRef> {
        match self {
            Self::Text(own) => own.values(ids, data_type),
            Self::Number(own) => own.values(ids, data_type),
        }
    }
}

/// Numbers of texts. Null is the empty text, as the language has it.
#[derive(Debug, Default)]
pub(crate) struct TextIds {
    ids: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    /// Bytes of all texts.
    bytes: usize,
    /// The dictionary that came last, and the number of each of its texts that a row had.
    dictionary: Option<StringArray>,
    of_codes: Vec<u32>,
}

impl TextIds {
    fn size(&self) -> usize {
        self.bytes + self.texts.len() * (TEXT_BYTES + ENTRY_BYTES) + 4 * self.of_codes.capacity()
    }

    fn id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = self.texts.len() as u32;
        let text: Arc<str> = text.into();
        self.bytes += text.len();
        self.ids.insert(Arc::clone(&text), id);
        self.texts.push(text);
        id
    }

    fn assign(&mut self, values: &ArrayRef, out: &mut Vec<u32>) -> Result<()> {
        match values.data_type() {
            DataType::Dictionary(..) => self.assign_codes(values, out),
            DataType::Utf8 => {
                let texts = values.as_string::<i32>().iter();
                out.extend(texts.map(|text| self.id(text.unwrap_or_default())));
                Ok(())
            }
            DataType::Utf8View => {
                let texts = values.as_string_view().iter();
                out.extend(texts.map(|text| self.id(text.unwrap_or_default())));
                Ok(())
            }
            other => internal_err!("a key of text is {other}"),
        }
    }

    fn assign_codes(&mut self, values: &ArrayRef, out: &mut Vec<u32>) -> Result<()> {
        let Some(coded) = values.as_dictionary_opt::<Int32Type>() else {
            return internal_err!("codes are {}", values.data_type());
        };
        let Some(texts) = coded.values().as_string_opt::<i32>() else {
            return internal_err!("a dictionary is of {}", coded.values().data_type());
        };
        if !self.dictionary.as_ref().is_some_and(|known| is_same(known, texts)) {
            self.of_codes.clear();
            self.of_codes.resize(texts.len(), NONE);
            self.dictionary = Some(texts.clone());
        }
        // Taken out, since a text's number changes the rest.
        let mut of_codes = std::mem::take(&mut self.of_codes);
        let mut id_of = |code: i32| {
            let at = usize::try_from(code).ok();
            match at.and_then(|at| of_codes.get_mut(at).map(|id| (at, id))) {
                Some((_, id)) if *id != NONE => *id,
                Some((at, id)) => {
                    *id = self.id(if texts.is_valid(at) { texts.value(at) } else { "" });
                    *id
                }
                None => self.id(""),
            }
        };
        match coded.keys().nulls() {
            None => out.extend(coded.keys().values().iter().map(|code| id_of(*code))),
            Some(_) => out.extend(coded.keys().iter().map(|code| id_of(code.unwrap_or(-1)))),
        }
        self.of_codes = of_codes;
        Ok(())
    }

    fn values(&self, ids: &[u32], data_type: &DataType) -> Result<ArrayRef> {
        let texts = ids.iter().filter_map(|id| self.texts.get(*id as usize));
        match data_type {
            DataType::Utf8View => {
                let mut made = StringViewBuilder::with_capacity(ids.len());
                texts.for_each(|text| made.append_value(text));
                Ok(Arc::new(made.finish()))
            }
            DataType::Utf8 => {
                let mut made = StringBuilder::new();
                texts.for_each(|text| made.append_value(text));
                Ok(Arc::new(made.finish()))
            }
            other => internal_err!("a group's text is {other}"),
        }
    }
}

/// Whether two arrays are one in memory. The one that is kept keeps its memory from another use.
fn is_same(known: &StringArray, other: &StringArray) -> bool {
    known.len() == other.len()
        && known.value_data().as_ptr() == other.value_data().as_ptr()
        && known.value_offsets().as_ptr() == other.value_offsets().as_ptr()
        && known.null_count() == other.null_count()
}

/// Numbers of whole numbers and null.
#[derive(Debug, Default)]
pub(crate) struct NumberIds {
    ids: HashMap<Option<i64>, u32>,
    values: Vec<Option<i64>>,
    /// The ids of numbers below [`SMALL_MAX`], as far as the greatest of them that came.
    small: Vec<u32>,
}

impl NumberIds {
    fn size(&self) -> usize {
        self.values.len() * 16 + self.ids.len() * ENTRY_BYTES + self.small.capacity() * 4
    }

    fn id(&mut self, number: Option<i64>) -> u32 {
        let values = &mut self.values;
        let mut add = || {
            values.push(number);
            values.len() as u32 - 1
        };
        let at = number.and_then(|number| usize::try_from(number).ok());
        let Some(at) = at.filter(|at| *at < SMALL_MAX) else {
            return *self.ids.entry(number).or_insert_with(add);
        };
        if at >= self.small.len() {
            self.small.resize((at + 1).next_power_of_two(), NONE);
        }
        let Some(id) = self.small.get_mut(at) else { return NONE };
        if *id == NONE {
            *id = add();
        }
        *id
    }

    fn assign(&mut self, values: &ArrayRef, out: &mut Vec<u32>) -> Result<()> {
        let numbers = cast(values, &DataType::Int64)?;
        // Rows in the order of their time have the same bin for long.
        let mut last = None;
        for number in numbers.as_primitive::<Int64Type>() {
            let id = match last {
                Some((known, id)) if known == number => id,
                _ => self.id(number),
            };
            last = Some((number, id));
            out.push(id);
        }
        Ok(())
    }

    fn values(&self, ids: &[u32], data_type: &DataType) -> Result<ArrayRef> {
        let numbers = ids.iter().map(|id| self.values.get(*id as usize).copied().flatten());
        let numbers: ArrayRef = Arc::new(numbers.collect::<Int64Array>());
        Ok(cast(&numbers, data_type)?)
    }
}

/// Numbers of pairs of numbers: by place in a table while it stays small, by hash after that.
#[derive(Debug, Default)]
pub(crate) struct PairIds {
    /// How many low bits of a place are the second number's.
    bits: u32,
    places: Vec<u32>,
    hashed: Option<HashMap<(u32, u32), u32>>,
    all: Vec<(u32, u32)>,
}

impl PairIds {
    /// How many pairs have a number.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The second numbers of some pairs.
    pub(crate) fn seconds(&self, ids: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
        ids.filter_map(|id| self.all.get(id as usize)).map(|(_, second)| *second)
    }

    /// Bytes in memory, about.
    pub(crate) fn size(&self) -> usize {
        let hashed = self.hashed.as_ref().map_or(0, |_| self.all.len() * ENTRY_BYTES);
        self.places.capacity() * 4 + self.all.capacity() * 8 + hashed
    }

    /// The number of a pair; a new one is the count of those before.
    pub(crate) fn id(&mut self, first: u32, second: u32) -> u32 {
        if second >> self.bits == 0
            && let Some(id) = self.places.get_mut(((first as usize) << self.bits) | second as usize)
        {
            if *id == NONE {
                *id = self.all.len() as u32;
                self.all.push((first, second));
            }
            return *id;
        }
        self.id_beyond(first, second)
    }

    /// The number of a pair that the table has no place for.
    #[cold]
    fn id_beyond(&mut self, first: u32, second: u32) -> u32 {
        if self.hashed.is_none() && self.grow(first, second) {
            return self.id(first, second);
        }
        let all = &mut self.all;
        let hashed = self
            .hashed
            .get_or_insert_with(|| all.iter().zip(0..).map(|(pair, id)| (*pair, id)).collect());
        *hashed.entry((first, second)).or_insert_with(|| {
            all.push((first, second));
            all.len() as u32 - 1
        })
    }

    /// Makes place for a pair, or gives the table up.
    fn grow(&mut self, first: u32, second: u32) -> bool {
        let bits = self.bits.max(u32::BITS - second.leading_zeros());
        let firsts = (first as usize + 1).next_power_of_two().max(self.places.len() >> self.bits);
        if firsts > PLACES_MAX >> bits {
            (self.places, self.bits) = (Vec::new(), 0);
            return false;
        }
        self.bits = bits;
        self.places.clear();
        self.places.resize(firsts << bits, NONE);
        for ((first, second), id) in self.all.iter().zip(0..) {
            if let Some(place) = self.places.get_mut(((*first as usize) << bits) | *second as usize)
            {
                *place = id;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{DictionaryArray, Int32Array, StringViewArray};
    use proptest::prelude::*;

    /// A batch of rows: a text and a number for each.
    type Rows = Vec<(Option<u8>, Option<i64>)>;

    fn text_of(number: u8) -> String {
        "ä".repeat(usize::from(number % 3)) + &number.to_string()
    }

    /// The rows' texts as codes into a dictionary that has more than them, as codes of a dictionary
    /// with nulls, or as text.
    fn texts(rows: &Rows, form: u8) -> ArrayRef {
        let texts = rows.iter().map(|(text, _)| text.map(text_of));
        match form % 4 {
            0 => Arc::new(texts.collect::<StringArray>()),
            1 => Arc::new(texts.collect::<StringViewArray>()),
            form => {
                let values: StringArray = (0..=u8::MAX)
                    .map(|number| Some(text_of(number)).filter(|_| form == 2 || number != 7))
                    .collect();
                let codes = rows.iter().map(|(text, _)| text.map(i32::from));
                let codes = codes.collect::<Int32Array>();
                Arc::new(DictionaryArray::new(codes, Arc::new(values)))
            }
        }
    }

    fn numbers(rows: &Rows) -> ArrayRef {
        Arc::new(rows.iter().map(|(_, number)| *number).collect::<Int64Array>())
    }

    fn rows() -> impl Strategy<Value = Rows> {
        let number = prop_oneof![0_i64..4, any::<i64>()];
        let text = prop::option::weighted(0.9, 0_u8..40);
        prop::collection::vec((text, prop::option::weighted(0.9, number)), 0..60)
    }

    proptest! {
        #[test]
        fn a_group_is_its_keys(batches in prop::collection::vec((rows(), any::<u8>()), 1..12)) {
            let mut ids = GroupIds::new([true, false, true].into_iter());
            let mut known: HashMap<(String, Option<i64>, String), usize> = HashMap::new();
            let mut order = Vec::new();
            let mut groups = Vec::new();
            for (rows, form) in &batches {
                let keys = [texts(rows, *form), numbers(rows), texts(rows, form.wrapping_add(1))];
                ids.assign(&keys, &mut groups).unwrap();
                prop_assert_eq!(groups.len(), rows.len());
                for ((text, number), group) in rows.iter().zip(&groups) {
                    let of = |form: u8| match text {
                        Some(7) if form % 4 == 3 => String::new(),
                        text => text.map(text_of).unwrap_or_default(),
                    };
                    let key = (of(*form), *number, of(form.wrapping_add(1)));
                    let new = known.len();
                    let expected = *known.entry(key.clone()).or_insert(new);
                    if expected == new {
                        order.push(key);
                    }
                    prop_assert_eq!(*group, expected);
                }
            }
            prop_assert_eq!(ids.len(), order.len());
            let types = [DataType::Utf8View, DataType::Int64, DataType::Utf8];
            let made = ids.values(&types).unwrap();
            for (row, (first, number, last)) in order.iter().enumerate() {
                prop_assert_eq!(made[0].as_string_view().value(row), first);
                let numbers = made[1].as_primitive::<Int64Type>();
                prop_assert_eq!(numbers.is_valid(row).then(|| numbers.value(row)), *number);
                prop_assert_eq!(made[2].as_string::<i32>().value(row), last);
            }
        }
    }

    #[test]
    fn pairs_keep_their_numbers_when_the_table_grows_and_is_given_up() {
        let mut pairs = PairIds::default();
        let mut known = Vec::new();
        for step in [1_u32, 3, 64, 1_000] {
            for first in (0..3_000).step_by(step as usize) {
                for second in [0, 1, first % 7, first / 2, first] {
                    let id = pairs.id(first, second);
                    known.push(((first, second), id));
                }
            }
        }
        assert!(pairs.hashed.is_some(), "2 to the 24 places are too many");
        for (pair, id) in known {
            assert_eq!(pairs.id(pair.0, pair.1), id);
            assert_eq!(pairs.all[id as usize], pair);
        }
    }
}
