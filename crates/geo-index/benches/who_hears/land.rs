//! Where people are, and how far they hear.

use geo_index::Position;

/// Hearers of an average place.
pub(crate) const HEARERS: f64 = 90.0;

/// A way to draw radii, with its mean square, which sets the density.
pub(crate) struct Radii {
    pub(crate) name: &'static str,
    pub(crate) draw: fn(&mut fastrand::Rng) -> f64,
    pub(crate) mean_square_m2: f64,
}

pub(crate) const RADII: [Radii; 2] = [
    Radii {
        name: "radii 100 m - 20 km, evenly by logarithm",
        draw: |rng| 100.0 * 200f64.powf(rng.f64()),
        mean_square_m2: (20_000.0 * 20_000.0 - 100.0 * 100.0) / (2.0 * 5.298_317_366_548_036), // 2 ln 200
    },
    Radii {
        name: "radii 100 m - 1 km, evenly",
        draw: |rng| 100.0 + 900.0 * rng.f64(),
        mean_square_m2: (1e9 - 1e6) / (3.0 * 900.0),
    },
];

impl Radii {
    /// Of a circle that holds as many people as an average place has hearers.
    pub(crate) fn usual_m(&self) -> f64 {
        self.mean_square_m2.sqrt()
    }
}

/// A square around 37.5 degrees north, evenly populated by area: longitude even, sine of latitude even.
pub(crate) struct Land {
    side_m: f64,
}

impl Land {
    const RADIUS_M: f64 = 6_371_000.0;

    /// So large that an average place has [`HEARERS`].
    pub(crate) fn new(people: usize, radii: &Radii) -> Self {
        Self { side_m: (people as f64 * std::f64::consts::PI * radii.mean_square_m2 / HEARERS).sqrt() }
    }

    pub(crate) fn place(&self, rng: &mut fastrand::Rng, inset_m: f64) -> Position {
        let middle = 37.5f64.to_radians();
        let half = (self.side_m / 2.0 - inset_m).max(self.side_m / 4.0) / Self::RADIUS_M;
        let (low, high) = ((middle - half).sin(), (middle + half).sin());
        let lat = (low + (high - low) * rng.f64()).asin();
        // Longitudes so wide that the whole has the area of the square.
        let wide = 4.0 * half * half / (high - low);
        let lng = 127f64.to_radians() + wide * (rng.f64() - 0.5);
        Position::new(lng.to_degrees(), lat.to_degrees()).unwrap()
    }
}

/// Up to about 10 m further, as someone who walks and reports every few seconds.
pub(crate) fn step(from: Position, rng: &mut fastrand::Rng) -> Position {
    let by = |rng: &mut fastrand::Rng| (rng.f64() - 0.5) * 2e-4;
    Position::new(from.lng() + by(rng), from.lat() + by(rng)).unwrap()
}
