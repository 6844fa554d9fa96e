//! The earth in cells: rows of equal height in degrees of latitude, each cut into as many equal columns as its
//! length allows, so that cells are about square everywhere and a row at a pole is one cell.
//!
//! Only [`Grid::cover`] has to be right, whatever the shape of the cells. It rests on one fact: for a way over the
//! ellipsoid of length s that turns by `dlat` and `dlng` radians and stays within |latitude| <= m,
//!
//! ```text
//! s² >= (R dlat)² + (p dlng)²     R = least metres per radian of latitude, p = a cos(m)
//! ```
//!
//! because ds² = M² dlat² + (N cos lat)² dlng² with M >= R and N >= a (Minkowski's inequality for the integral).

use crate::Position;
use crate::geodesy::{A, Placed, R_MIN};

/// Added to every bound, in degrees (0.1 mm): far more than rounding, far less than a cell.
const MARGIN_DEG: f64 = 1e-9;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    rows: u32,
    rows_per_degree: f64,
    /// Columns of a row at the equator, and how many fewer every row has.
    columns: f64,
    fewer: f64,
}

impl Grid {
    /// Cells at least `cell_m` metres high and, except around the poles, wide.
    pub(crate) fn new(cell_m: f64) -> Self {
        Self::with_columns(cell_m, std::f64::consts::TAU * 0.98 * A / cell_m, 0.0)
    }

    /// Cells so large that a circle of `radius_m` touches at most two rows, and two columns of each.
    ///
    /// Two columns are enough when a column is as wide as the circle: columns <= pi p / radius, p as above for the
    /// circle's highest latitude. A circle that touches a row rises above the row's poleward edge by at most its
    /// diameter, so p >= a cos(edge) - 2 radius a/R; hence pi * 2 a/R = 6.33 columns fewer.
    pub(crate) fn at_most_four(radius_m: f64) -> Self {
        Self::with_columns(2.0 * radius_m * (1.0 + 1e-6), std::f64::consts::PI * 0.98 * A / radius_m, 6.5)
    }

    fn with_columns(height_m: f64, columns: f64, fewer: f64) -> Self {
        let rows = (180.0 / (height_m / R_MIN).to_degrees()).floor().max(1.0);
        Self { rows: rows as u32, rows_per_degree: rows / 180.0, columns, fewer }
    }

    /// (row, column) of a place; one answer for each place but the poles, where columns may differ if there are more
    /// than one.
    pub(crate) fn cell(&self, position: Position) -> (u32, u32) {
        let row = self.row(position.lat());
        let columns = self.columns(row);
        let lng = if position.lng() == 180.0 { -180.0 } else { position.lng() };
        let column = ((lng + 180.0) * (f64::from(columns) * (1.0 / 360.0))) as u32;
        (row, column.min(columns - 1))
    }

    /// The middle of a cell, (longitude, latitude).
    pub(crate) fn middle(&self, (row, column): (u32, u32)) -> (f64, f64) {
        let lat = (f64::from(row) + 0.5) / self.rows_per_degree - 90.0;
        let lng = (f64::from(column) + 0.5) * (360.0 / f64::from(self.columns(row))) - 180.0;
        (lng, lat)
    }

    /// Where a cell begins, (longitude, latitude); the longitude may lie outside -180..=180.
    #[cfg(test)]
    pub(crate) fn corner(&self, row: u32, column: f64) -> (f64, f64) {
        let row = row.min(self.rows - 1);
        (column * 360.0 / f64::from(self.columns(row)) - 180.0, f64::from(row) / self.rows_per_degree - 90.0)
    }

    #[inline]
    fn row(&self, lat: f64) -> u32 {
        (((lat + 90.0) * self.rows_per_degree) as u32).min(self.rows - 1)
    }

    /// Columns of a row. The cosine of its poleward edge is taken from Bhaskara I's formula, the same on every
    /// machine and cheaper than a call; it exceeds the true one by at most 1.9 % (at the pole), hence the 0.98 above.
    #[inline]
    pub(crate) fn columns(&self, row: u32) -> u32 {
        let middle = f64::from(row) + 0.5;
        let edge = ((middle - f64::from(self.rows) * 0.5).abs() + 0.5) / self.rows_per_degree;
        let edge2 = (edge * edge).min(8100.0);
        let cos = (32_400.0 - 4.0 * edge2) / (32_400.0 + edge2);
        ((self.columns * cos - self.fewer) as u32).max(1)
    }

    /// Calls `visit(row, columns)` for the cells that hold every place within `reach` of `at`, each cell once.
    #[inline]
    pub(crate) fn cover(&self, at: &Placed, reach: &Reach, mut visit: impl FnMut(u32, Columns)) {
        let (lng, lat) = (at.position.lng(), at.position.lat());
        let first_row = self.row((lat - reach.degrees).max(-90.0));
        let last_row = self.row((lat + reach.degrees).min(90.0));
        // a cos(|lat| + reach), in metres per degree
        let p = (A.to_radians()) * (at.cos_lat * reach.cos - at.sin_lat.abs() * reach.sin);
        let around_a_pole = lat.abs() + reach.degrees >= 90.0 - MARGIN_DEG || p <= 0.0;
        let (degrees_per_row, degrees_per_m) = (1.0 / self.rows_per_degree, 1.0 / p);
        for row in first_row..=last_row {
            let columns = self.columns(row);
            if around_a_pole || columns == 1 {
                visit(row, Columns { next: 0, left: columns, columns });
                continue;
            }
            // Degrees of latitude between the place and the row, a little less to be safe.
            let south = f64::from(row) * degrees_per_row - 90.0;
            let off = (south - lat).max(lat - (south + degrees_per_row)) - MARGIN_DEG;
            let off_m = off.max(0.0) * R_MIN.to_radians();
            let side_m2 = reach.m * reach.m - off_m * off_m;
            let half = (side_m2.max(0.0).sqrt() * degrees_per_m) * (1.0 + 1e-9) + MARGIN_DEG;
            let per_degree = f64::from(columns) * (1.0 / 360.0);
            let first = floor((lng + 180.0 - half) * per_degree);
            let count = floor((lng + 180.0 + half) * per_degree) - first + 1;
            let all = i64::from(columns);
            if count >= all {
                visit(row, Columns { next: 0, left: columns, columns });
            } else {
                // Less than once around, so at most one turn off.
                let next = if first < 0 {
                    first + all
                } else if first >= all {
                    first - all
                } else {
                    first
                };
                visit(row, Columns { next: next as u32, left: count as u32, columns });
            }
        }
    }

    /// About how many cells [`Grid::cover`] visits.
    pub(crate) fn cover_size(&self, reach: &Reach) -> f64 {
        (2.0 * reach.degrees * self.rows_per_degree + 1.5).powi(2)
    }
}

/// The class of a radius: the first whose greatest radius is not less.
#[inline]
pub(crate) fn class_of(greatest_m: &[f64], radius_m: f64) -> usize {
    greatest_m.iter().take_while(|&&max_m| max_m < radius_m).count()
}

/// `f64::floor` as an integer: a few instructions where that is a call.
#[inline]
fn floor(value: f64) -> i64 {
    let cut = value as i64;
    cut - i64::from(cut as f64 > value)
}

/// A distance with what [`Grid::cover`] needs of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach {
    m: f64,
    /// The greatest difference of latitude within this distance.
    degrees: f64,
    sin: f64,
    cos: f64,
}

impl Reach {
    pub(crate) fn new(m: f64) -> Self {
        let degrees = (m / R_MIN).to_degrees() + MARGIN_DEG;
        let (sin, cos) = degrees.to_radians().sin_cos();
        Self { m, degrees, sin, cos }
    }
}

/// Columns of one row, eastward, across the antimeridian where need be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    next: u32,
    left: u32,
    columns: u32,
}

impl Iterator for Columns {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        if self.left == 0 {
            return None;
        }
        let column = self.next;
        self.left -= 1;
        self.next = if column + 1 == self.columns { 0 } else { column + 1 };
        Some(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_greatest_radius_and_no_more() {
        for (radius_m, class) in
            [(0.0, 0), (5.0, 0), (5.0f64.next_up(), 1), (5.01, 1), (7.0, 1), (7.0f64.next_up(), 2)]
        {
            assert_eq!(class_of(&[5.0, 7.0, 9.0], radius_m), class, "{radius_m}");
        }
    }

    fn covered(grid: &Grid, center: Position, reach_m: f64) -> Vec<(u32, u32)> {
        let mut cells = Vec::new();
        grid.cover(&Placed::new(center), &Reach::new(reach_m), |row, columns| {
            cells.extend(columns.map(|column| (row, column)));
        });
        cells
    }

    fn random_position(rng: &mut fastrand::Rng) -> Position {
        let lat = match rng.u8(0..6) {
            0 => 90.0 - 10f64.powf(rng.f64() * 8.0 - 7.0),
            1 => -90.0 + 10f64.powf(rng.f64() * 8.0 - 7.0),
            2 => [90.0, -90.0, 0.0][rng.usize(0..3)],
            _ => rng.f64() * 180.0 - 90.0,
        };
        let lng = match rng.u8(0..4) {
            0 => [180.0, -180.0, 0.0, -0.0][rng.usize(0..4)],
            1 => (180.0 - 10f64.powf(rng.f64() * 12.0 - 11.0)) * [1.0, -1.0][rng.usize(0..2)],
            _ => rng.f64() * 360.0 - 180.0,
        };
        Position::new(lng, lat).unwrap()
    }

    #[test]
    fn bhaskara_is_never_two_percent_above_the_cosine() {
        for i in 0..90_000 {
            let lat = f64::from(i) / 1000.0;
            let bhaskara = (32_400.0 - 4.0 * lat * lat) / (32_400.0 + lat * lat);
            assert!(bhaskara * 0.98 <= lat.to_radians().cos(), "{lat}");
        }
    }

    /// Where the direct geodesic ends, at the full distance, in any direction: its cell was covered, once.
    #[test]
    fn cover_holds_every_place_in_reach() {
        use geographiclib_rs::DirectGeodesic;
        let geodesic = geographiclib_rs::Geodesic::wgs84();
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..3_000 {
            let center = random_position(&mut rng);
            let grid = Grid::new(10f64.powf(2.0 + 2.5 * rng.f64()));
            let reach_m = (200.0 * rng.f64().powi(4)).min(20.0) / grid.rows_per_degree * 110_574.0;
            let reach_m = reach_m.min(200_000.0);
            let mut cells = covered(&grid, center, reach_m);
            let visited = cells.len();
            cells.sort_unstable();
            cells.dedup();
            assert_eq!(visited, cells.len(), "{center:?} {reach_m} {grid:?}");
            for _ in 0..30 {
                let distance = reach_m * [1.0, 1.0, rng.f64()][rng.usize(0..3)];
                let azimuth = [0.0, 90.0, 180.0, -90.0, rng.f64() * 360.0][rng.usize(0..5)];
                let (lat, lng) = geodesic.direct(center.lat(), center.lng(), azimuth, distance);
                let there = Position::new(lng.clamp(-180.0, 180.0), lat.clamp(-90.0, 90.0)).unwrap();
                assert!(
                    cells.binary_search(&grid.cell(there)).is_ok(),
                    "{center:?} {distance} {azimuth} {there:?} {grid:?}"
                );
            }
        }
    }

    #[test]
    fn a_circle_touches_at_most_four_large_cells() {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut four = 0;
        for _ in 0..300_000 {
            let radius_m = [1_000.0, 5_000.0, 20_000.0, 100_000.0][rng.usize(0..4)];
            let cells = covered(&Grid::at_most_four(radius_m), random_position(&mut rng), radius_m);
            assert!((1..=4).contains(&cells.len()));
            four += usize::from(cells.len() == 4);
        }
        assert!(four > 1_000); // the bound is reached, so the test looks at something
    }
}
