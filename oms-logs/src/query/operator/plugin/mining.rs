//! Patterns of rows with equal values in some columns: `autocluster`, `basket`, `diffpatterns`.
//!
//! A pattern is closed: where all of its rows agree in a column, that column is of it too. So it is known
//! by its columns and the first of its rows.

use crate::query::limits::exceeded;
use crate::query::operator::effort::Effort;
use datafusion::common::Result;
use std::collections::{BTreeMap, HashSet};

/// The most columns, of which a pattern has a bit each.
pub(super) const COLUMNS_MAX: usize = 128;
/// The most values that a search looks at.
const STEPS_MAX: usize = 2_000_000_000;
/// What a row takes while rows are told apart by a value.
const SPLIT_BYTES: usize = 8;
/// What an entry of [`Alike`] takes.
const ALIKE_BYTES: usize = 48;
/// How many of the patterns that differ most are looked at together.
const CANDIDATES_MAX: usize = 1_000;
/// The least share of the rows that a cluster has.
const CLUSTER_SHARE_MIN: f64 = 0.02;

/// Distinct rows, with their weights in the two sets that are compared; the second is empty where there
/// is one.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The number of each value, of one row after the other.
    pub(super) codes: Vec<u32>,
    pub(super) columns: usize,
    pub(super) weights: Vec<[f64; 2]>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pattern {
    /// The columns that have a value, by their bits.
    pub(super) columns: u128,
    /// A row that has these values.
    pub(super) row: usize,
    pub(super) weights: [f64; 2],
}

/// Rows, by their places in order, and their weights.
#[derive(Debug, Default)]
struct Part {
    rows: Vec<u32>,
    weights: [f64; 2],
}

impl Part {
    fn bytes(&self) -> usize {
        size_of_val(self.rows.as_slice())
    }
}

impl Pattern {
    fn dimensions(&self) -> f64 {
        f64::from(self.columns.count_ones())
    }
}

impl Rows {
    fn row(&self, row: usize) -> &[u32] {
        self.codes.get(row * self.columns..(row + 1) * self.columns).unwrap_or_default()
    }

    /// The columns in which two rows agree.
    fn agreement(&self, a: usize, b: usize) -> u128 {
        let pairs = self.row(a).iter().zip(self.row(b)).enumerate();
        pairs.filter(|(_, (a, b))| a == b).fold(0, |all, (column, _)| all | 1 << column)
    }

    fn has(&self, pattern: &Pattern, row: usize) -> bool {
        pattern.columns & !self.agreement(pattern.row, row) == 0
    }

    pub(super) fn totals(&self) -> [f64; 2] {
        self.weights.iter().fold([0.0; 2], sum)
    }

    /// The pattern of rows: the columns in which all agree.
    async fn closed(&self, part: &Part, effort: &mut Effort) -> Result<Pattern> {
        let first = part.rows.first().map_or(0, |row| *row as usize);
        let mut columns = u32::try_from(self.columns)
            .map_or(0, |columns| !u128::MAX.checked_shl(columns).unwrap_or(0));
        for row in &part.rows {
            columns &= self.agreement(first, *row as usize);
            effort.step().await;
        }
        self.check(effort)?;
        Ok(Pattern { columns, row: first, weights: part.weights })
    }

    fn check(&self, effort: &Effort) -> Result<()> {
        if effort.steps().saturating_mul(self.columns.max(1)) > STEPS_MAX {
            return exceeded("patterns take too many steps to find", "steps_max", STEPS_MAX);
        }
        Ok(())
    }

    /// All closed patterns of at most so many columns, beside those that follow from them, that are
    /// frequent enough; what is not frequent has no frequent pattern with more columns.
    async fn frequent(
        &self,
        dimensions_max: usize,
        is_frequent: impl Fn([f64; 2]) -> bool,
        effort: &mut Effort,
    ) -> Result<Vec<Pattern>> {
        let rows: Vec<u32> = (0..).take(self.weights.len()).collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let every = Part { rows, weights: self.totals() };
        effort.keep(every.bytes())?;
        let root = self.closed(&every, effort).await?;
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        if root.columns != 0 {
            found.push(root);
        }
        let values = self.frequent_values(&is_frequent, effort).await?;
        let mut level = vec![(root, every)];
        for _ in 0..dimensions_max.min(self.columns) {
            let mut next = Vec::new();
            for (pattern, part) in &level {
                for (column, values) in values.iter().enumerate() {
                    if pattern.columns >> column & 1 == 1 {
                        continue;
                    }
                    let taken = part.rows.len() * SPLIT_BYTES;
                    effort.keep(taken)?;
                    for (_, part) in self.split(&part.rows, column, values, effort).await {
                        if !is_frequent(part.weights) {
                            continue;
                        }
                        let pattern = self.closed(&part, effort).await?;
                        if seen.insert((pattern.columns, pattern.row)) {
                            effort.keep(part.bytes() + 2 * size_of::<Pattern>())?;
                            found.push(pattern);
                            next.push((pattern, part));
                        }
                    }
                    effort.release(taken);
                }
            }
            effort.release(level.iter().map(|(_, part)| part.bytes()).sum());
            level = next;
        }
        Ok(found)
    }

    /// Which values of each column are frequent in all rows: no pattern has another. So a column of ids
    /// takes no memory for each of them later.
    async fn frequent_values(
        &self,
        is_frequent: impl Fn([f64; 2]) -> bool,
        effort: &mut Effort,
    ) -> Result<Vec<Vec<bool>>> {
        let mut frequent = Vec::with_capacity(self.columns);
        for column in 0..self.columns {
            let codes = || self.codes.iter().skip(column).step_by(self.columns);
            let count = codes().max().map_or(0, |code| *code as usize + 1);
            let taken = count * size_of::<[f64; 2]>();
            effort.keep(taken + count)?;
            let mut sums = vec![[0.0; 2]; count];
            for (code, weights) in codes().zip(&self.weights) {
                if let Some(own) = sums.get_mut(*code as usize) {
                    *own = sum(*own, weights);
                }
                effort.step().await;
            }
            frequent.push(sums.into_iter().map(&is_frequent).collect());
            effort.release(taken);
        }
        Ok(frequent)
    }

    /// The rows of each of some values of a column.
    async fn split(
        &self,
        rows: &[u32],
        column: usize,
        values: &[bool],
        effort: &mut Effort,
    ) -> BTreeMap<u32, Part> {
        let mut parts: BTreeMap<u32, Part> = BTreeMap::new();
        for row in rows {
            effort.step().await;
            let code = self.row(*row as usize).get(column).copied().unwrap_or(0);
            if !values.get(code as usize).copied().unwrap_or(false) {
                continue;
            }
            let part = parts.entry(code).or_default();
            part.rows.push(*row);
            if let Some(weights) = self.weights.get(*row as usize) {
                part.weights = sum(part.weights, weights);
            }
        }
        parts
    }

    /// All patterns of at least a share of the rows, those with much to say first.
    pub(super) async fn basket(
        &self,
        threshold: f64,
        dimensions_max: usize,
        effort: &mut Effort,
    ) -> Result<Vec<Pattern>> {
        let [total, _] = self.totals();
        let is_frequent = |weights: [f64; 2]| weights[0] > 0.0 && weights[0] >= threshold * total;
        let mut found = self.frequent(dimensions_max, is_frequent, effort).await?;
        found.retain(|pattern| is_frequent(pattern.weights));
        by_weight(&mut found, |pattern| pattern.weights[0] * pattern.dimensions());
        Ok(found)
    }

    /// Patterns whose shares of the two sets differ, each in rows that none before it has.
    pub(super) async fn differences(
        &self,
        threshold: f64,
        dimensions_max: usize,
        effort: &mut Effort,
    ) -> Result<Vec<Pattern>> {
        let totals = self.totals();
        let difference =
            |weights: [f64; 2]| share(weights[0], totals[0]) - share(weights[1], totals[1]);
        let is_frequent = |weights: [f64; 2]| {
            share(weights[0], totals[0]).max(share(weights[1], totals[1])) >= threshold
        };
        let mut found = self.frequent(dimensions_max, is_frequent, effort).await?;
        found.retain(|pattern| difference(pattern.weights).abs() >= threshold);
        by_weight(&mut found, |pattern| difference(pattern.weights).abs());
        found.truncate(CANDIDATES_MAX);
        // What is left of each pattern beside those that are chosen.
        let mut left: Vec<Option<[f64; 2]>> =
            found.iter().map(|pattern| Some(pattern.weights)).collect();
        let mut is_covered = vec![false; self.weights.len()];
        let mut chosen = Vec::new();
        loop {
            let mut best: Option<(usize, f64)> = None;
            for (at, (pattern, left)) in found.iter().zip(&left).enumerate() {
                let Some(left) = left else { continue };
                let (whole, left) = (difference(pattern.weights), difference(*left));
                // What the rest says the other way round is said by others.
                let value = if whole * left > 0.0 { whole.abs().min(left.abs()) } else { 0.0 };
                if value >= threshold && best.is_none_or(|(_, best)| value > best) {
                    best = Some((at, value));
                }
            }
            let Some((at, pattern)) = best.and_then(|(at, _)| Some((at, found.get(at).copied()?)))
            else {
                break;
            };
            if let Some(left) = left.get_mut(at) {
                *left = None;
            }
            self.check(effort)?;
            for (row, is_covered) in is_covered.iter_mut().enumerate() {
                effort.step().await;
                if *is_covered || !self.has(&pattern, row) {
                    continue;
                }
                *is_covered = true;
                let weights = self.weights.get(row).copied().unwrap_or_default();
                for (other, left) in found.iter().zip(&mut left) {
                    if let Some(left) = left.as_mut().filter(|_| self.has(other, row)) {
                        left[0] -= weights[0];
                        left[1] -= weights[1];
                    }
                    effort.step().await;
                }
            }
            chosen.push(pattern);
        }
        by_weight(&mut chosen, |pattern| difference(pattern.weights).abs());
        Ok(chosen)
    }

    /// A few patterns that much of the rows has: from each seed, a row that no pattern before has, columns
    /// are left out as long as that is for the better.
    pub(super) async fn clusters(
        &self,
        size_weight: f64,
        seeds: usize,
        effort: &mut Effort,
    ) -> Result<Vec<Pattern>> {
        let [total, _] = self.totals();
        let mut order: Vec<usize> = (0..self.weights.len()).collect();
        let weight = |row: &usize| self.weights.get(*row).map_or(0.0, |weights| weights[0]);
        order.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        let mut found: Vec<(f64, Pattern)> = Vec::new();
        let mut is_covered = vec![false; self.weights.len()];
        for seed in order {
            if found.len() >= seeds {
                break;
            }
            if is_covered.get(seed).copied().unwrap_or(true) {
                continue;
            }
            self.check(effort)?;
            let mut alike = Alike::default();
            for row in 0..self.weights.len() {
                let before = alike.weights.len();
                *alike.weights.entry(self.agreement(seed, row)).or_default() += weight(&row);
                if alike.weights.len() > before {
                    effort.keep(ALIKE_BYTES)?;
                }
                effort.step().await;
            }
            let (score, columns, weight) = self.grown(&alike, total, size_weight, effort).await?;
            effort.release(alike.weights.len() * ALIKE_BYTES);
            let pattern = Pattern { columns, row: seed, weights: [weight, 0.0] };
            for (row, is_covered) in is_covered.iter_mut().enumerate() {
                *is_covered |= self.has(&pattern, row);
                effort.step().await;
            }
            found.push((score, pattern));
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut chosen: Vec<Pattern> = Vec::new();
        for (_, pattern) in found {
            let mut own = 0.0;
            for row in (0..self.weights.len()).filter(|row| self.has(&pattern, *row)) {
                own += if chosen.iter().any(|of| self.has(of, row)) { 0.0 } else { weight(&row) };
                effort.step().await;
            }
            let is_new = own * 2.0 >= pattern.weights[0];
            if is_new && share(pattern.weights[0], total) >= CLUSTER_SHARE_MIN {
                chosen.push(pattern);
            }
        }
        by_weight(&mut chosen, |pattern| pattern.weights[0] * pattern.dimensions());
        Ok(chosen)
    }

    /// The best pattern of a row on the way from all columns to one, given how much weight agrees with
    /// it in which columns: its score, columns and weight. The score is a geometric mean of the share of
    /// the rows that have it and of how rare its values are.
    async fn grown(
        &self,
        alike: &Alike,
        total: f64,
        size_weight: f64,
        effort: &mut Effort,
    ) -> Result<(f64, u128, f64)> {
        let every = alike.weights.keys().fold(0, |all, columns| all | columns);
        let mut rare = vec![0.0; self.columns];
        for (of, weight) in &alike.weights {
            for (column, rare) in rare.iter_mut().enumerate() {
                *rare += if of >> column & 1 == 0 { share(*weight, total) } else { 0.0 };
            }
            effort.step().await;
        }
        let scored = |columns: u128, weight: f64| {
            let own = rare.iter().enumerate().filter(|(column, _)| columns >> column & 1 == 1);
            let informative = own.map(|(_, rare)| rare).sum::<f64>() / self.columns.max(1) as f64;
            let score =
                share(weight, total).powf(size_weight) * informative.powf(1.0 - size_weight);
            (score, columns, weight)
        };
        let (whole, _) = alike.without(every, self.columns, effort).await;
        let mut now = scored(every, whole);
        let mut best = now;
        while now.1.count_ones() > 1 {
            self.check(effort)?;
            let (_, left) = alike.without(now.1, self.columns, effort).await;
            let fewer = left.iter().enumerate().filter(|(column, _)| now.1 >> column & 1 == 1);
            let fewer = fewer.map(|(column, weight)| scored(now.1 & !(1 << column), *weight));
            let Some(next) = fewer.max_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            now = next;
            if now.0 > best.0 {
                best = now;
            }
        }
        // Columns that follow cost nothing.
        let covering = alike.weights.keys().filter(|of| **of & best.1 == best.1);
        Ok((best.0, covering.fold(every, |all, columns| all & columns), best.2))
    }
}

/// How much weight agrees with a row in which columns.
#[derive(Debug, Default)]
struct Alike {
    weights: BTreeMap<u128, f64>,
}

impl Alike {
    /// The weight that agrees in all of the columns, and in all but each.
    async fn without(&self, columns: u128, count: usize, effort: &mut Effort) -> (f64, Vec<f64>) {
        let (mut whole, mut but_one) = (0.0, vec![0.0; count]);
        for (of, weight) in &self.weights {
            let lacking = columns & !of;
            if lacking == 0 {
                whole += weight;
            } else if lacking.is_power_of_two()
                && let Some(left) = but_one.get_mut(lacking.trailing_zeros() as usize)
            {
                *left += weight;
            }
            effort.step().await;
        }
        but_one.iter_mut().for_each(|left| *left += whole);
        (whole, but_one)
    }
}

fn sum(a: [f64; 2], b: &[f64; 2]) -> [f64; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

pub(super) fn share(weight: f64, total: f64) -> f64 {
    if total > 0.0 { weight / total } else { 0.0 }
}

/// The greatest first; those that are equal by their first rows and columns.
fn by_weight(patterns: &mut [Pattern], weight: impl Fn(&Pattern) -> f64) {
    patterns.sort_by(|a, b| {
        let order = weight(b).total_cmp(&weight(a));
        order.then(a.row.cmp(&b.row)).then(a.columns.cmp(&b.columns))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::TaskContext;
    use proptest::prelude::*;

    fn rows(columns: usize, codes: &[u32], weights: &[[f64; 2]]) -> Rows {
        Rows { codes: codes.to_vec(), columns, weights: weights.to_vec() }
    }

    fn run<T>(work: impl AsyncFnOnce(&mut Effort) -> Result<T>) -> T {
        let mut effort = Effort::new("test", &TaskContext::default());
        futures::executor::block_on(work(&mut effort)).expect("found")
    }

    proptest! {
        /// Beside a search through every set of columns and values.
        #[test]
        fn every_closed_pattern_is_found_once(
            codes in prop::collection::vec(0_u32..3, 0..40),
            columns in 1_usize..5,
            percent in 1_u32..60,
        ) {
            let count = codes.len() / columns;
            let table = rows(columns, &codes[..count * columns], &vec![[1.0, 0.0]; count]);
            let threshold = f64::from(percent) / 100.0;
            let found = run(async |effort| table.basket(threshold, columns, effort).await);
            let mut expected = std::collections::BTreeSet::new();
            for row in 0..count {
                for wanted in 1_u128..1 << columns {
                    let like = Pattern { columns: wanted, row, weights: [0.0; 2] };
                    let own: Vec<u32> = (0..count).filter(|row| table.has(&like, *row))
                        .map(|row| u32::try_from(row).expect("few")).collect();
                    if own.len() as f64 >= threshold * count as f64 {
                        let part = Part { rows: own, weights: [0.0; 2] };
                        let closed = run(async |effort| table.closed(&part, effort).await);
                        expected.insert((closed.columns, closed.row));
                    }
                }
            }
            let mut keys: Vec<_> = found.iter().map(|of| (of.columns, of.row)).collect();
            keys.sort_unstable();
            prop_assert!(keys.iter().eq(expected.iter()), "{keys:?} {expected:?}");
        }

        /// Whatever the rows, what is answered is true of them.
        #[test]
        fn weights_are_those_of_the_rows(
            codes in prop::collection::vec(0_u32..4, 0..60),
            columns in 1_usize..4,
            weights in prop::collection::vec((0_u8..9, 0_u8..9), 60),
        ) {
            let count = codes.len() / columns;
            let weights: Vec<[f64; 2]> =
                weights.iter().map(|(a, b)| [f64::from(*a), f64::from(*b)]).take(count).collect();
            let table = rows(columns, &codes[..count * columns], &weights);
            let clusters = run(async |effort| table.clusters(0.5, 25, effort).await);
            let differences = run(async |effort| table.differences(0.05, usize::MAX, effort).await);
            for (found, sets) in [(clusters, 1), (differences, 2)] {
                for pattern in found {
                    prop_assert!(pattern.columns != 0);
                    let own = (0..count).filter(|row| table.has(&pattern, *row));
                    let own = own.fold([0.0; 2], |all, row| sum(all, &weights[row]));
                    for (own, told) in own.iter().zip(pattern.weights).take(sets) {
                        prop_assert!((own - told).abs() < 1e-9);
                    }
                }
            }
        }
    }

    #[test]
    fn columns_that_follow_are_of_the_pattern() {
        // The second column is 0 wherever the first is; the third says nothing.
        let codes = [0, 0, 0, 0, 0, 1, 1, 0, 2, 1, 1, 3];
        let table = rows(3, &codes, &[[30.0, 0.0], [30.0, 0.0], [20.0, 0.0], [20.0, 0.0]]);
        let found = run(async |effort| table.basket(0.5, 5, effort).await);
        let found: Vec<_> = found.iter().map(|of| (of.columns, of.weights[0])).collect();
        assert_eq!(found, [(0b011, 60.0), (0b010, 80.0)]);
        let one = run(async |effort| table.basket(0.3, 1, effort).await);
        assert_eq!(one.len(), 5, "{one:?}");
        let clusters = run(async |effort| table.clusters(0.6, 25, effort).await);
        assert_eq!(clusters[0].columns, 0b011, "{clusters:?}");
    }

    #[test]
    fn the_widest_table_has_a_pattern() {
        let table = rows(COLUMNS_MAX, &[7; COLUMNS_MAX], &[[1.0, 0.0]]);
        let found = run(async |effort| table.basket(0.5, 5, effort).await);
        assert_eq!(found[0].columns, u128::MAX);
    }

    /// Values that no pattern has take no memory while patterns grow.
    #[test]
    fn a_column_of_ids_takes_little() {
        use datafusion::execution::memory_pool::GreedyMemoryPool;
        use datafusion::execution::runtime_env::RuntimeEnvBuilder;
        use std::sync::Arc;
        let codes: Vec<u32> = (0..100_000).flat_map(|row| [row, row % 3]).collect();
        let table = rows(2, &codes, &vec![[1.0, 0.0]; 100_000]);
        let pool = Arc::new(GreedyMemoryPool::new(4 * 1024 * 1024));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().expect("built");
        let context = TaskContext::default().with_runtime(runtime);
        let mut effort = Effort::new("test", &context);
        let found = futures::executor::block_on(table.basket(0.05, 5, &mut effort));
        let found = found.expect("it has the memory");
        assert_eq!(found.iter().map(|of| of.columns).collect::<Vec<_>>(), [0b10; 3]);
    }
}
