//! `ipv4_lookup`, `ipv6_lookup`: rows of addresses with rows of networks.

use super::Arguments;
use super::lookup::{Matches, place, side_by_side};
use crate::query::bind::{BindResult, Binder};
use crate::query::bound::Relation;
use crate::query::diagnostic::Problem;
use crate::query::operator::effort::Effort;
use crate::query::plan::TableFunction;
use crate::query::syntax::ast::{ExprKind, Literal};
use crate::query::types::KqlType;
use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::common::{Result, exec_err};
use datafusion::execution::TaskContext;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

impl Binder<'_> {
    /// `ipv4_lookup(table, address, network, keys…, return_unmatched = false)`
    pub(super) fn ip_lookup(
        &mut self,
        input: Arc<Relation>,
        mut arguments: Arguments<'_>,
        v6: bool,
    ) -> BindResult<Arc<Relation>> {
        let (plugin, span) = (arguments.plugin, arguments.span());
        let table = self.lookup_table(&mut arguments)?;
        let address = self.plugin_column(&input, arguments.next(), plugin)?;
        let network = self.plugin_column(&table, arguments.next(), plugin)?;
        if address.kql_type != KqlType::String || network.kql_type != KqlType::String {
            let message = format!("plugin `{}` takes columns of strings", plugin.text);
            return Err(self.report(Problem::semantic(span, message)));
        }
        let mut unmatched = self.plugin_flag(&arguments, "return_unmatched")?;
        let mut keys = Vec::new();
        for key in arguments.positional() {
            // `return_unmatched` may also be given by its place.
            if let ExprKind::Literal(literal) = &key.kind {
                let Literal::Bool(Some(flag)) = literal else {
                    let message = format!("`{key}` is no column and no bool");
                    return Err(self.report(Problem::semantic(key.span, message)));
                };
                unmatched = *flag;
                continue;
            }
            let of_input = self.plugin_column(&input, Some(key), plugin)?;
            let of_table = self.plugin_column(&table, Some(key), plugin)?;
            if of_input.kql_type != of_table.kql_type {
                let message = format!("`{}` has two types", of_input.name);
                return Err(self.report(Problem::semantic(key.span, message)));
            }
            keys.push(of_input.name);
        }
        let function = IpLookup {
            v6,
            unmatched,
            address: place(&input, &address.name),
            network: place(&table, &network.name),
            input_keys: keys.iter().map(|key| place(&input, key)).collect(),
            table_keys: keys.iter().map(|key| place(&table, key)).collect(),
            table_first: v6,
        };
        let (first, second) = if v6 { (&table, &input) } else { (&input, &table) };
        let columns = side_by_side(first.columns.iter().chain(&second.columns), span);
        self.table_function(vec![input, table], Arc::new(function), columns, false, span)
    }
}

#[derive(Debug)]
struct IpLookup {
    v6: bool,
    unmatched: bool,
    address: usize,
    network: usize,
    input_keys: Vec<usize>,
    table_keys: Vec<usize>,
    /// Whether the table's columns come before the input's.
    table_first: bool,
}

/// An address as a number of 128 bits; IPv4 is mapped into IPv6.
fn bits(text: &str, v6: bool) -> Option<u128> {
    match text.trim().parse::<IpAddr>().ok()? {
        IpAddr::V4(v4) => Some(v4.to_ipv6_mapped().to_bits()),
        IpAddr::V6(address) if v6 => Some(address.to_bits()),
        IpAddr::V6(_) => None,
    }
}

/// A network: its bits and the length of its prefix, of 128.
fn network(text: &str, v6: bool) -> Option<(u128, u32)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.trim().parse::<u32>().ok()?)),
        None => (text, None),
    };
    let is_v4 = address.trim().parse::<IpAddr>().ok()?.is_ipv4();
    let (most, before) = if is_v4 { (32, 96) } else { (128, 0) };
    let prefix = prefix.unwrap_or(most);
    if prefix > most {
        return None;
    }
    Some((masked(bits(address, v6)?, before + prefix), before + prefix))
}

const fn masked(bits: u128, prefix: u32) -> u128 {
    match u128::MAX.checked_shl(128 - prefix) {
        Some(mask) => bits & mask,
        None => 0,
    }
}

/// Networks by the length of their prefix, their bits and further keys.
type Networks = HashMap<(u32, u128, Option<OwnedRow>), Vec<u64>>;

impl IpLookup {
    fn keys(batch: &RecordBatch, at: &[usize]) -> Result<Option<Rows>> {
        if at.is_empty() {
            return Ok(None);
        }
        let keys: Vec<ArrayRef> = at.iter().map(|at| Arc::clone(batch.column(*at))).collect();
        let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        Ok(Some(RowConverter::new(fields)?.convert_columns(&keys)?))
    }

    fn networks(&self, table: &RecordBatch) -> Result<(Networks, Vec<u32>)> {
        let texts = text_column(table, self.network)?;
        let keys = Self::keys(table, &self.table_keys)?;
        let mut networks = Networks::new();
        let mut lengths = Vec::new();
        for row in 0..table.num_rows() {
            let Some((bits, prefix)) = network(texts.value(row), self.v6) else { continue };
            let key = keys.as_ref().map(|keys| keys.row(row).owned());
            networks.entry((prefix, bits, key)).or_default().push(row as u64);
            if !lengths.contains(&prefix) {
                lengths.push(prefix);
            }
        }
        // The longest prefixes first: the nearest network.
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        Ok((networks, lengths))
    }
}

fn text_column(batch: &RecordBatch, at: usize) -> Result<&StringViewArray> {
    match batch.columns().get(at).and_then(|column| column.as_string_view_opt()) {
        Some(text) => Ok(text),
        None => exec_err!("an address is no text"),
    }
}

#[async_trait]
impl TableFunction for IpLookup {
    fn name(&self) -> &'static str {
        "ip_lookup"
    }

    async fn run(
        &self,
        inputs: Vec<RecordBatch>,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        let [input, table] = inputs.as_slice() else { return exec_err!("it takes two tables") };
        let (networks, lengths) = self.networks(table)?;
        let addresses = text_column(input, self.address)?;
        let keys = Self::keys(input, &self.input_keys)?;
        let mut matches = Matches::new(self.unmatched, Effort::new(self.name(), context));
        for row in 0..input.num_rows() {
            let bits = bits(addresses.value(row), self.v6);
            let key = keys.as_ref().map(|keys| keys.row(row).owned());
            let of_prefix = |(bits, prefix): (u128, &u32)| {
                networks.get(&(*prefix, masked(bits, *prefix), key.clone()))
            };
            let found = bits.into_iter().flat_map(|bits| lengths.iter().map(move |it| (bits, it)));
            matches.add(row, found.filter_map(of_prefix).flatten().copied())?;
            matches.step().await;
        }
        let (input, table) = matches.columns(input, table)?;
        let columns: Vec<ArrayRef> = if self.table_first {
            table.into_iter().chain(input).collect()
        } else {
            input.into_iter().chain(table).collect()
        };
        Ok(vec![RecordBatch::try_new(Arc::clone(schema), columns)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let holds = |net: &str, address: &str, v6| {
            let (of_net, prefix) = network(net, v6).unwrap();
            masked(bits(address, v6).unwrap(), prefix) == of_net
        };
        assert!(holds("10.1.0.0/16", "10.1.2.3", false));
        assert!(!holds("10.1.0.0/16", "10.2.2.3", false));
        assert!(holds("10.1.2.3", "10.1.2.3", false));
        assert!(holds("0.0.0.0/0", "255.1.2.3", false));
        assert!(holds("2001:db8::/32", "2001:db8:1::1", true));
        assert_eq!(network("10.0.0.0/33", false), None);
        assert_eq!(bits("2001:db8::", false), None);
    }
}
