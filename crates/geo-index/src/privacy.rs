//! Places made coarse on purpose. Both functions use plain arithmetic only, so all machines agree.

use crate::Position;
use crate::grid::Grid;

/// An area for anonymous handles, metres.
const AREA_M: f64 = 2_000.0;

/// The middle of the cell, about `grid_m` metres square, that holds `position`. Snapping twice changes nothing, and
/// all places of a cell snap to the same bits. `grid_m` is clamped to 1 m..=1,000 km; NaN counts as the latter.
pub fn snap(position: Position, grid_m: f64) -> Position {
    let grid = Grid::new(if grid_m < 1e6 { grid_m.max(1.0) } else { 1e6 });
    let (lng, lat) = grid.middle(grid.cell(position));
    Position::in_range(lng, lat)
}

/// The key of the area, about 2 km square, that holds `position`.
pub fn area_of(position: Position) -> u64 {
    let (row, column) = Grid::new(AREA_M).cell(position);
    u64::from(row) << 32 | u64::from(column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance_m;

    fn somewhere(rng: &mut fastrand::Rng) -> Position {
        let lat = match rng.u8(0..5) {
            0 => 90.0 - rng.f64() * 0.01,
            1 => -90.0 + rng.f64() * 0.01,
            _ => rng.f64() * 180.0 - 90.0,
        };
        Position::new(rng.f64() * 360.0 - 180.0, lat).unwrap()
    }

    #[test]
    fn snapping_is_near_and_stable() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..50_000 {
            let position = somewhere(&mut rng);
            for grid_m in [1.0, 200.0, 20_000.0] {
                let snapped = snap(position, grid_m);
                assert_eq!(snap(snapped, grid_m), snapped);
                // Half a diagonal; cells are a little larger than asked, most of all the few in a polar ring.
                let moved = distance_m(position, snapped);
                assert!(
                    moved < grid_m * if position.lat().abs() > 89.0 { 1.6 } else { 0.75 },
                    "{position:?} {moved}"
                );
            }
        }
    }

    #[test]
    fn one_place_one_answer() {
        let at = |lng, lat| Position::new(lng, lat).unwrap();
        for (a, b) in [
            (at(180.0, 12.3), at(-180.0, 12.3)),
            (at(0.0, 90.0), at(-77.0, 90.0)),
            (at(1.0, -90.0), at(179.0, -90.0)),
            (at(0.0, 0.0), at(-0.0, -0.0)),
        ] {
            assert_eq!(snap(a, 200.0), snap(b, 200.0));
            assert_eq!(area_of(a), area_of(b));
        }
        for odd in [f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(snap(at(1.0, 1.0), odd), snap(at(1.0, 1.0), 1e6));
        }
        assert_eq!(snap(at(1.0, 1.0), -5.0), snap(at(1.0, 1.0), 1.0));
    }

    #[test]
    fn areas_are_about_two_kilometres() {
        let mut rng = fastrand::Rng::with_seed(6);
        for _ in 0..20_000 {
            let position = somewhere(&mut rng);
            let other = Position::new(position.lng(), (position.lat() - 0.0275).max(-90.0)).unwrap();
            if position.lat() > -89.9 {
                assert_ne!(area_of(position), area_of(other)); // 3 km south
            }
        }
        // These are kept with messages: a change would rename people in the middle of a day.
        let key = |lng, lat| area_of(Position::new(lng, lat).unwrap());
        assert_eq!(key(127.0276, 37.4979), key(127.0277, 37.4980));
        assert_eq!(key(0.0, 90.0) as u32, 0);
    }
}
