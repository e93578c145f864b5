//! Cells of the H3 grid.

use super::edges::bounded;
use h3o::{CellIndex, LatLng, Resolution};
use std::collections::HashSet;

/// The most cells that stand for a polygon.
const CELLS_MAX: usize = 61_680;

/// The most steps from a cell to those in rings around it.
pub(crate) const RINGS_MAX: u32 = 142;

/// To find the cell of a place takes longer than other steps.
const STEPS_PER_PLACE: usize = 64;

/// How far below a cell its descendants can be.
const LEVELS_MAX: u8 = 5;

pub(crate) fn resolution(value: i64) -> Option<Resolution> {
    u8::try_from(value).ok().and_then(|value| Resolution::try_from(value).ok())
}

/// The cell of a place in degrees.
pub(crate) fn at(longitude: f64, latitude: f64, resolution: Resolution) -> Option<CellIndex> {
    let valid = longitude.abs() <= 180.0 && latitude.abs() <= 90.0;
    let place = if valid { LatLng::new(latitude, longitude).ok() } else { None };
    place.map(|place| place.to_cell(resolution))
}

pub(crate) fn parse(text: &str) -> Option<CellIndex> {
    text.parse().ok()
}

pub(crate) fn center(cell: CellIndex) -> [f64; 2] {
    let place = LatLng::from(cell);
    [place.lng(), place.lat()]
}

/// The closed ring of corners in degrees.
pub(crate) fn ring(cell: CellIndex) -> Vec<[f64; 2]> {
    let corners = cell.boundary();
    let corners = corners.iter().map(|corner| [corner.lng(), corner.lat()]);
    corners.clone().chain(corners.take(1)).collect()
}

/// The cells in each ring around a cell, which is a ring itself.
pub(crate) fn rings(cell: CellIndex, distance: u32) -> Vec<Vec<CellIndex>> {
    let mut rings = vec![Vec::new(); distance as usize + 1];
    for (cell, distance) in cell.grid_disk_distances::<Vec<_>>(distance) {
        rings[distance as usize].push(cell);
    }
    rings
}

/// The cells that share a side, in the engine's order.
pub(crate) fn neighbors(cell: CellIndex) -> Vec<CellIndex> {
    let ring = rings(cell, 1).pop().unwrap_or_default();
    match ring[..] {
        [a, b, c, d, e, f] => vec![d, f, e, c, b, a],
        _ => ring,
    }
}

/// The ancestor of a resolution, or the parent.
pub(crate) fn parent(cell: CellIndex, to: Option<Resolution>) -> Option<CellIndex> {
    let to = match to {
        Some(to) => to,
        None => resolution(i64::from(u8::from(cell.resolution())) - 1)?,
    };
    cell.parent(to)
}

/// The descendants of a resolution, or the children.
pub(crate) fn children(cell: CellIndex, to: Option<Resolution>) -> Option<Vec<CellIndex>> {
    let own = u8::from(cell.resolution());
    let to = match to {
        Some(to) => to,
        None => resolution(i64::from(own) + 1)?,
    };
    let levels = u8::from(to).checked_sub(own)?;
    (1..=LEVELS_MAX).contains(&levels).then(|| cell.children(to).collect())
}

/// The cells whose centers are inside, where all edges of the shape are given in degrees. `None` if
/// there are too many.
pub(crate) fn polygon_cells(
    edges: &[[[f64; 2]; 2]],
    is_inside: impl Fn([f64; 2]) -> bool,
    resolution: Resolution,
) -> Option<Vec<CellIndex>> {
    // A third of the least width of a cell of the resolution, in degrees.
    let step = 12.0 / 3.0 * 7.0_f64.sqrt().powi(-i32::from(u8::from(resolution)));
    let mut open: Vec<CellIndex> = Vec::new();
    let mut seen: HashSet<CellIndex> = HashSet::new();
    for [from, to] in edges {
        let length = (to[0] - from[0]).hypot(to[1] - from[1]);
        let count = (length / step).ceil().max(1.0);
        // Each cell that is passed holds a few of these places.
        if count > 16.0 * CELLS_MAX as f64 {
            return None;
        }
        bounded(count as usize, STEPS_PER_PLACE)?;
        for at in 0..=count as u32 {
            let t = f64::from(at) / count;
            let place = [0, 1].map(|axis| from[axis] + (to[axis] - from[axis]) * t);
            let Some(cell) = self::at(wrap(place[0]), place[1], resolution) else { continue };
            if seen.insert(cell) {
                open.push(cell);
            }
        }
    }
    // Around the border, every cell is tried; from there, those that are inside lead on.
    let border = open.clone();
    for cell in border {
        let near = cell.grid_disk::<Vec<_>>(1);
        open.extend(near.into_iter().filter(|near| seen.insert(*near)));
    }
    let mut found = Vec::new();
    while let Some(cell) = open.pop() {
        bounded(edges.len(), 1)?;
        if !is_inside(center(cell)) {
            continue;
        }
        found.push(cell);
        if found.len() > CELLS_MAX {
            return None;
        }
        let near = cell.grid_disk::<Vec<_>>(1);
        open.extend(near.into_iter().filter(|near| seen.insert(*near)));
    }
    found.sort_unstable();
    Some(found)
}

/// The longitude between -180 and 180.
fn wrap(longitude: f64) -> f64 {
    (longitude + 180.0).rem_euclid(360.0) - 180.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str) -> CellIndex {
        parse(text).unwrap()
    }

    #[test]
    fn a_place_has_a_cell_of_each_resolution() {
        let text = |level| {
            let resolution = resolution(level)?;
            Some(at(-73.956_683, 40.807_907, resolution)?.to_string())
        };
        assert_eq!(text(5).as_deref(), Some("852a100bfffffff"));
        assert_eq!(text(16), None);
        assert_eq!(text(-1), None);
        assert_eq!(at(300.0, 1.0, Resolution::Two), None);
        assert_eq!(parse("abc"), None);
    }

    #[test]
    fn families_are_levels_apart() {
        let six = cell("862a1072fffffff");
        assert_eq!(parent(six, None).unwrap().to_string(), "852a1073fffffff");
        assert_eq!(parent(six, Some(Resolution::Ten)), None);
        assert_eq!(children(six, None).unwrap().len(), 7);
        assert_eq!(children(six, resolution(9)).unwrap().len(), 343);
        assert_eq!(children(six, resolution(12)), None);
        assert_eq!(children(six, resolution(6)), None);
        let rings = rings(six, 2);
        assert_eq!(rings.iter().map(Vec::len).collect::<Vec<_>>(), [1, 6, 12]);
    }

    #[test]
    fn a_polygon_has_the_cells_with_centers_inside() {
        let corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]];
        let edges: Vec<_> = corners.windows(2).map(|pair| [pair[0], pair[1]]).collect();
        let is_inside = |[x, y]: [f64; 2]| (0.0..1.0).contains(&x) && (0.0..1.0).contains(&y);
        let found = polygon_cells(&edges, is_inside, Resolution::Six).unwrap();
        // A square of a degree has about 12,300 square kilometers, and a cell has 36 on average.
        assert!((250..500).contains(&found.len()), "{}", found.len());
        assert!(found.iter().all(|cell| is_inside(center(*cell))));
        let long = [[[0.0, 0.0], [40.0, 0.0]]];
        assert_eq!(polygon_cells(&long, is_inside, Resolution::Fifteen), None);
    }
}
