//! The cells of one level that a shape meets.

use super::edges::{Edge, bounded};
use super::s2::Cell;
use super::sphere::{Meeting, Point, meeting};

/// The most cells of a covering.
const CELLS_MAX: usize = 65_536;

/// To see how far an edge is from a cell takes longer than other steps.
const STEPS_PER_EDGE: usize = 16;

/// The cells of a level that are no further from the edges, or from what is inside of them, than a
/// radius, in ascending order. `None` if there are too many.
pub(crate) fn covering(
    edges: &[Edge],
    is_inside: impl Fn(Point) -> bool,
    radius: f64,
    level: u8,
) -> Option<Vec<Cell>> {
    let mut found = Vec::new();
    let all: Vec<usize> = (0..edges.len()).collect();
    let mut open: Vec<(Cell, Vec<usize>)> =
        (0..6).map(|face| (Cell::face_cell(face), all.clone())).collect();
    while let Some((cell, candidates)) = open.pop() {
        bounded(candidates.len() + 1, STEPS_PER_EDGE)?;
        let (center, reach) = cell.circle();
        let near: Vec<usize> = candidates
            .into_iter()
            .filter(|at| center.angle_to_edge(edges[*at].start, edges[*at].end) <= reach + radius)
            .collect();
        if near.is_empty() {
            if is_inside(center) {
                within(cell, level, &mut found)?;
            }
        } else if cell.level() < level {
            open.extend(cell.children().map(|child| (child, near.clone())));
        } else if near.iter().any(|at| is_near(cell, &edges[*at], radius)) || is_inside(center) {
            found.push(cell);
        }
        if found.len() > CELLS_MAX {
            return None;
        }
    }
    found.sort_unstable();
    Some(found)
}

/// All cells of the level within another.
fn within(cell: Cell, level: u8, found: &mut Vec<Cell>) -> Option<()> {
    let levels = u32::from(level.saturating_sub(cell.level()));
    if 4_usize.checked_pow(levels)? > CELLS_MAX {
        return None;
    }
    let mut open = vec![cell];
    while let Some(cell) = open.pop() {
        if cell.level() < level {
            open.extend(cell.children());
        } else {
            found.push(cell);
        }
    }
    Some(())
}

fn is_near(cell: Cell, edge: &Edge, radius: f64) -> bool {
    // An edge along a side touches the cells on both sides of it.
    const TOUCH: f64 = 1e-14;
    let radius = radius.max(TOUCH);
    if cell.contains(edge.start) || cell.contains(edge.end) {
        return true;
    }
    let corners = cell.corners();
    let mut sides = corners.iter().zip(corners.iter().cycle().skip(1));
    sides.any(|(a, b)| {
        meeting(*a, *b, edge.start, edge.end) != Meeting::Apart
            || a.angle_to_edge(edge.start, edge.end) <= radius
            || edge.start.angle_to_edge(*a, *b) <= radius
            || edge.end.angle_to_edge(*a, *b) <= radius
    })
}

#[cfg(test)]
mod tests {
    use super::super::edges::path;
    use super::super::shape::tests::{points, polygon};
    use super::*;

    #[test]
    fn a_polygon_is_covered_with_what_is_inside_and_what_it_touches() {
        let big = polygon(&[&[[0.0, 0.0], [0.0, 50.0], [100.0, 50.0], [0.0, 0.0]]]).unwrap();
        let edges: Vec<Edge> = big.edges().collect();
        let cover = |level| covering(&edges, |point| big.contains(point), 0.0, level);
        assert_eq!(cover(5).map(|cells| cells.len()), Some(286));
        assert_eq!(cover(30), None);
        assert_eq!(cover(0).map(|cells| cells.len()), Some(2));
    }

    #[test]
    fn a_path_is_covered_by_a_chain_of_cells_and_more_with_a_radius() {
        let line = points(&[[10.0, 10.0], [10.3, 10.2]]);
        let edges: Vec<Edge> = path(&line).collect();
        let cover = |radius| covering(&edges, |_| false, radius, 10).unwrap();
        let (thin, wide) = (cover(0.0), cover(0.005));
        for step in 0..=20 {
            let at = line[0].interpolate(line[1], f64::from(step) / 20.0);
            assert!(thin.contains(&Cell::at(at, 10)));
        }
        assert!(thin.iter().all(|cell| wide.contains(cell)) && wide.len() > 2 * thin.len());
    }
}
