//! Finding the edges that can meet, without trying all with all.

use super::super::budget;
use super::sphere::Point;

/// `None` if it takes too many steps to try all of one kind with all of another.
pub(crate) fn bounded(some: usize, others: usize) -> Option<()> {
    budget::steps(some.saturating_mul(others))
}

/// To see whether edges that are near meet takes longer than other steps.
const STEPS_PER_PAIR: usize = 16;

/// An edge and the box in space that holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) start: Point,
    pub(crate) end: Point,
    low: Point,
    high: Point,
}

impl Edge {
    pub(crate) fn new(start: Point, end: Point) -> Self {
        // An arc leaves the box of its ends by no more than its height above the chord.
        let chord_squared = (end - start).dot(end - start).min(4.0);
        let pad = 1.0 - (1.0 - chord_squared / 4.0).max(0.0).sqrt() + 1e-14;
        let least = |a: f64, b: f64| a.min(b) - pad;
        let most = |a: f64, b: f64| a.max(b) + pad;
        let low =
            Point { x: least(start.x, end.x), y: least(start.y, end.y), z: least(start.z, end.z) };
        let high =
            Point { x: most(start.x, end.x), y: most(start.y, end.y), z: most(start.z, end.z) };
        Self { start, end, low, high }
    }

    /// Whether the boxes overlap.
    pub(crate) fn is_near(&self, other: &Self) -> bool {
        self.low.x <= other.high.x
            && other.low.x <= self.high.x
            && self.low.y <= other.high.y
            && other.low.y <= self.high.y
            && self.low.z <= other.high.z
            && other.low.z <= self.high.z
    }
}

/// The edges of a path.
pub(crate) fn path(points: &[Point]) -> impl Iterator<Item = Edge> + '_ {
    points.windows(2).map(|pair| Edge::new(pair[0], pair[1]))
}

/// The edges of a ring, of which the last one leads back to the first point.
pub(crate) fn ring(points: &[Point]) -> impl Iterator<Item = Edge> + '_ {
    let next = points.iter().cycle().skip(1);
    points.iter().zip(next).map(|(a, b)| Edge::new(*a, *b))
}

/// Calls back for each two edges that are near, the lesser index first, until it answers false.
/// False if it did, or if that takes too many steps.
pub(crate) fn near_pairs(edges: &[Edge], mut each: impl FnMut(usize, usize) -> bool) -> bool {
    let mut order: Vec<usize> = (0..edges.len()).collect();
    order.sort_by(|a, b| edges[*a].low.x.total_cmp(&edges[*b].low.x));
    for (at, first) in order.iter().enumerate() {
        let reach = edges[*first].high.x;
        let mut apart = 0;
        for second in order[at + 1..].iter().take_while(|other| edges[**other].low.x <= reach) {
            if !edges[*first].is_near(&edges[*second]) {
                apart += 1;
            } else if budget::steps(STEPS_PER_PAIR).is_none()
                || !each(*first.min(second), *first.max(second))
            {
                return false;
            }
        }
        if budget::steps(apart).is_none() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::budget::Budget;
    use super::*;

    #[test]
    fn pairs_are_steps_of_the_call() {
        let at = |x| Point::of_degrees(x, 0.0).unwrap();
        let edges: Vec<Edge> = (0..20).map(|x| Edge::new(at(0.0), at(f64::from(x + 1)))).collect();
        let within = |steps| {
            let budget = Budget { steps, bytes: 0 };
            budget::within(budget, "f", || Ok(near_pairs(&edges, |_, _| true))).ok()
        };
        let pairs = 20 * 19 / 2;
        assert_eq!(within(pairs * STEPS_PER_PAIR), Some(true));
        assert_eq!(within(pairs * STEPS_PER_PAIR - 1), None);
    }

    #[test]
    fn pairs_hold_all_that_cross() {
        let at = |longitude, latitude| Point::of_degrees(longitude, latitude).unwrap();
        let lines = [
            [at(0.0, 60.0), at(120.0, 60.0)],
            [at(60.0, 70.0), at(60.0, 80.0)],
            [at(-100.0, -10.0), at(-90.0, -10.0)],
        ];
        let edges: Vec<Edge> = lines.iter().flat_map(|line| path(line)).collect();
        let mut pairs = Vec::new();
        assert!(near_pairs(&edges, |a, b| {
            pairs.push((a, b));
            true
        }));
        // The great circle passes far north of the parallel.
        assert_eq!(pairs, [(0, 1)]);
    }
}
