//! How far two places are apart, and whether a circle holds a point.
//!
//! Distance is the length of the geodesic on WGS84 (C. F. F. Karney, "Algorithms for geodesics", Journal of Geodesy
//! 87, 2013), which costs about 700 ns. Nearly always a straight line through the earth answers first: between places
//! of geodesic distance `s` the chord `c` satisfies
//!
//! ```text
//! 2 R1 sin(s / 2 R1)  <=  c  <=  2 R2 sin(s / 2 R2)
//! ```
//!
//! where R1 = a(1 - e²) and R2 = a / sqrt(1 - e²) are the smallest and the greatest radius of normal curvature of the
//! ellipsoid (Euler's and Meusnier's theorems; a geodesic's curvature in space is the normal one). The left side is
//! A. Schur's comparison theorem. The right side leaves out the geodesic's torsion, which at 100 km lengthens nothing
//! by more than 1e-9 m. The two sides differ by s³/24 (1/R1² - 1/R2²): 21 um at 10 km, 2.1 cm at 100 km. So a chord
//! shorter than the left side of the radius is inside, one longer than the right side is outside, and between them,
//! widened by a millimetre on both sides, the geodesic decides.

use std::sync::LazyLock;

use geographiclib_rs::{Geodesic, InverseGeodesic};
use wide::{f32x4, i32x4};

use crate::Position;
use crate::cells::{LANES, Verdicts};

/// The greatest radius of a circle in an [`Index`](crate::Index) or [`Interest`](crate::Interest), in metres.
pub const MAX_RADIUS_M: f64 = 100_000.0;

/// Semi-major axis, metres, and flattening of WGS84 (NIMA TR8350.2, table 3.1).
pub(crate) const A: f64 = 6_378_137.0;
const F: f64 = 1.0 / 298.257_223_563;
/// First eccentricity squared.
const E2: f64 = F * (2.0 - F);
/// Smallest radius of normal curvature, metres: along the meridian at the equator. Also the least metres per radian
/// of latitude.
pub(crate) const R_MIN: f64 = A * (1.0 - E2);
/// Greatest radius of normal curvature, metres: at the poles, a²/b.
const R_MAX: f64 = A / (1.0 - F);
/// How near to the rim, in metres, the geodesic is asked.
const RIM_M: f64 = 0.001;

static WGS84: LazyLock<Geodesic> = LazyLock::new(Geodesic::wgs84);

/// Length in metres of the shortest way over the WGS84 ellipsoid, good to about 15 nm. Symmetric to the last bit.
pub fn distance_m(a: Position, b: Position) -> f64 {
    // The same argument order both ways, so that rounding cannot depend on who asks.
    let (a, b) = (canonical(a), canonical(b));
    if a == b {
        return 0.0;
    }
    let (a, b) = if a > b { (b, a) } else { (a, b) };
    WGS84.inverse(a.0, a.1, b.0, b.1)
}

/// Whether `point` is at most `radius_m` metres from `center`, the rim included. A negative or NaN radius holds
/// nothing; there is no upper limit.
pub fn circle_contains(center: Position, radius_m: f64, point: Position) -> bool {
    if radius_m.is_nan() || radius_m < 0.0 {
        return false;
    }
    if radius_m <= MAX_RADIUS_M {
        let (p, q) = (Placed::new(center).ecef, Placed::new(point).ecef);
        let chord2 = (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2) + (p[2] - q[2]).powi(2);
        let (inside, outside) = chord_limits(radius_m);
        if chord2 > outside * outside {
            return false;
        }
        if inside > 0.0 && chord2 < inside * inside {
            return true;
        }
    }
    distance_m(center, point) <= radius_m
}

/// Chords, in metres, below which a point is surely inside a circle of `radius_m` and above which it is surely
/// outside. The first is negative for radii up to about a millimetre.
pub(crate) fn chord_limits(radius_m: f64) -> (f64, f64) {
    let chord =
        |radius_of_curvature: f64| 2.0 * radius_of_curvature * (radius_m / (2.0 * radius_of_curvature)).sin();
    (chord(R_MIN) - RIM_M, chord(R_MAX) + RIM_M)
}

/// A radius an index can hold: 0..=[`MAX_RADIUS_M`], NaN taken for 0.
pub(crate) fn clamp_radius(radius_m: f64) -> f64 {
    if radius_m > 0.0 { radius_m.min(MAX_RADIUS_M) } else { 0.0 }
}

/// (latitude, longitude) with one spelling for each place.
fn canonical(p: Position) -> (f64, f64) {
    let lng = if p.lat().abs() == 90.0 {
        0.0
    } else if p.lng() == -180.0 {
        180.0
    } else {
        p.lng() + 0.0 // -0.0 becomes 0.0
    };
    (p.lat() + 0.0, lng)
}

/// A place with what every question about it needs, computed once (about 40 ns).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    pub(crate) position: Position,
    /// Earth-centred, earth-fixed coordinates in metres, height 0 (NIMA TR8350.2, section 4).
    pub(crate) ecef: [f64; 3],
    pub(crate) sin_lat: f64,
    pub(crate) cos_lat: f64,
}

impl Placed {
    pub(crate) fn new(position: Position) -> Self {
        let (sin_lat, cos_lat) = position.lat().to_radians().sin_cos();
        let (sin_lng, cos_lng) = position.lng().to_radians().sin_cos();
        // Radius of curvature in the prime vertical.
        let n = A / (1.0 - E2 * sin_lat * sin_lat).sqrt();
        let ecef = [n * cos_lat * cos_lng, n * cos_lat * sin_lng, n * (1.0 - E2) * sin_lat];
        Self { position, ecef, sin_lat, cos_lat }
    }

    pub(crate) fn fixed(&self) -> Fixed {
        // The greatest coordinate is 6,378,137 * 256 = 1.63e9, within an i32.
        // Casts cut off towards zero; `round` would be a call where the target has no instruction for it.
        Fixed(self.ecef.map(|metres| (metres * UNITS_PER_M + 0.5f64.copysign(metres)) as i32))
    }
}

const UNITS_PER_M: f64 = 256.0;

/// Earth-centred coordinates in 1/256 m: 12 bytes instead of 24, and differences of neighbours are exact.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fixed(pub(crate) [i32; 3]);

impl Fixed {
    /// Squared chords in units² from here to four places, each with a fourth number beside its coordinates; and those
    /// four numbers. Chords are within the error that [`FixedLimit`] allows for. Differences may wrap, but only between
    /// places more than 8,000 km apart, and then still read as more than 4,000 km.
    #[inline(always)]
    pub(crate) fn chords2(self, four: [[i32; 4]; LANES]) -> (f32x4, [i32; LANES]) {
        let [x, y, z, beside] = i32x4::transpose(four.map(i32x4::new));
        let square = |there: i32x4, here: i32| {
            let difference = f32x4::from_i32x4(there - i32x4::splat(here));
            difference * difference
        };
        let [dx2, dy2, dz2] = [square(x, self.0[0]), square(y, self.0[1]), square(z, self.0[2])];
        (dx2 + dy2 + dz2, beside.to_array())
    }
}

/// A circle's radius as a limit on [`Fixed::chords2`], which errs by rounding of the coordinates (at most sqrt(3)
/// units in length) and of the f32 arithmetic (at most 5 * 2^-24 of the square).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FixedLimit(f32);

impl FixedLimit {
    pub(crate) fn new(radius_m: f64) -> Self {
        let (_, outside) = chord_limits(radius_m);
        let units = (outside * UNITS_PER_M + 1.75) * (1.0 + 2.5e-7);
        Self(((units * units) as f32).next_up())
    }

    /// So that it fits beside a place's coordinates.
    pub(crate) fn to_bits(self) -> i32 {
        self.0.to_bits().cast_signed()
    }

    #[inline(always)]
    pub(crate) fn four_of_bits(bits: [i32; LANES]) -> FourLimits {
        FourLimits(f32x4::new(bits.map(|bits| f32::from_bits(bits.cast_unsigned()))))
    }

    #[inline(always)]
    pub(crate) fn four_times(self) -> FourLimits {
        FourLimits(f32x4::splat(self.0))
    }
}

/// Four of [`FixedLimit`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FourLimits(f32x4);

impl FourLimits {
    /// Beyond the limit a point is surely outside. When it is surely inside: with h the square root of the limit, the
    /// greatest safe length is h - w, w being the gap between the two chord limits (0.512 units and 2e-7 h at 100 km),
    /// the coordinates' rounding twice (3.5 units) and the arithmetic's twice (5e-7 h); (h - w)² >= h² - 2wh is taken
    /// with w = 4.1 + 1.2e-6 h. Between the two lies a ring for the exact test.
    #[inline(always)]
    pub(crate) fn judge(self, chords2: f32x4) -> Verdicts {
        let safe = self.0 * f32x4::splat(1.0 - 2.4e-6) - f32x4::splat(8.2) * self.0.sqrt();
        Verdicts { surely: chords2.simd_lt(safe).to_bitmask(), perhaps: chords2.simd_le(self.0).to_bitmask() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lng: f64, lat: f64) -> Position {
        Position::new(lng, lat).unwrap()
    }

    /// Known lengths: the meridian quadrant 10,001,965.7293 m and a degree along the equator, pi a / 180.
    #[test]
    fn known_distances() {
        let check = |a: Position, b: Position, metres: f64| {
            assert!((distance_m(a, b) - metres).abs() < 1e-3, "{a:?} {b:?}: {}", distance_m(a, b));
        };
        check(at(0.0, 0.0), at(0.0, 90.0), 10_001_965.729_3);
        check(at(0.0, 0.0), at(1.0, 0.0), std::f64::consts::PI * A / 180.0);
        check(at(179.5, 0.0), at(-179.5, 0.0), std::f64::consts::PI * A / 180.0);
    }

    #[test]
    fn one_place_many_spellings() {
        for (a, b) in [
            (at(180.0, 12.0), at(-180.0, 12.0)),
            (at(0.0, 90.0), at(133.0, 90.0)),
            (at(-180.0, -90.0), at(7.0, -90.0)),
            (at(0.0, 0.0), at(-0.0, -0.0)),
        ] {
            assert_eq!(distance_m(a, b), 0.0);
            assert!(circle_contains(a, 0.0, b) && circle_contains(b, 0.0, a));
        }
    }

    #[test]
    fn the_rim_is_inclusive_to_the_bit() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            let a = at(rng.f64() * 360.0 - 180.0, rng.f64() * 180.0 - 90.0);
            let b =
                at(a.lng(), (a.lat() + (rng.f64() - 0.5) * 10f64.powi(-rng.i32(0..6))).clamp(-90.0, 90.0));
            let d = distance_m(a, b);
            assert_eq!(d.to_bits(), distance_m(b, a).to_bits());
            assert!(circle_contains(a, d, b), "{a:?} {b:?}");
            assert!(d == 0.0 || !circle_contains(a, d.next_down(), b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn odd_radii() {
        let (a, b) = (at(0.0, 0.0), at(180.0, 0.0));
        for nothing in [-1.0, -1e-300, f64::NAN, f64::NEG_INFINITY] {
            assert!(!circle_contains(a, nothing, a), "{nothing}");
        }
        assert!(circle_contains(a, f64::INFINITY, b));
        assert!(circle_contains(a, 20_003_932.0, b) && !circle_contains(a, 20_003_931.0, b));
        assert_eq!([-1.0, f64::NAN, 5.0, 1e9].map(clamp_radius), [0.0, 0.0, 5.0, MAX_RADIUS_M]);
    }

    /// The two chord limits and the two fixed-point limits really bracket the geodesic, where it is tightest: a hair
    /// inside and outside the rim, all directions, all latitudes.
    #[test]
    fn limits_bracket_the_geodesic() {
        let mut rng = fastrand::Rng::with_seed(2);
        let (mut decided_by_chord, mut decided_by_fixed, mut tried) = (0, 0, 0);
        for _ in 0..40_000 {
            let a = at(rng.f64() * 360.0 - 180.0, (rng.f64() * 2.0 - 1.0).asin().to_degrees());
            let far = MAX_RADIUS_M * rng.f64().powi(rng.i32(1..12));
            let bearing = rng.f64() * std::f64::consts::TAU;
            let lat = (a.lat() + (bearing.cos() * far / R_MIN).to_degrees()).clamp(-90.0, 90.0);
            let lng = a.lng() + (bearing.sin() * far / (A * a.lat().to_radians().cos())).to_degrees();
            let b = at((lng + 180.0).rem_euclid(360.0) - 180.0, lat);
            let d = distance_m(a, b);
            if d > MAX_RADIUS_M {
                continue;
            }
            let (p, q) = (Placed::new(a), Placed::new(b));
            let chord = (0..3).map(|i| (p.ecef[i] - q.ecef[i]).powi(2)).sum::<f64>().sqrt();
            let [x, y, z] = q.fixed().0;
            let (chords2, _) = p.fixed().chords2([[x, y, z, 0]; LANES]);
            for gap in [0.0, 1e-4, 0.0011, 0.01, 0.05, 0.2, 1.0] {
                for (radius, holds) in [(d + gap, true), (d - gap, gap == 0.0)] {
                    if !(0.0..=MAX_RADIUS_M).contains(&radius) {
                        continue;
                    }
                    let (inside, outside) = chord_limits(radius);
                    let verdicts = FixedLimit::new(radius).four_times().judge(chords2);
                    assert!(
                        [0, 0b1111].contains(&verdicts.surely) && [0, 0b1111].contains(&verdicts.perhaps)
                    );
                    let (surely, perhaps) = (verdicts.surely != 0, verdicts.perhaps != 0);
                    assert!(if holds { chord <= outside } else { chord >= inside }, "{a:?} {b:?} {radius}");
                    assert!(if holds { perhaps } else { !surely }, "{a:?} {b:?} {radius}");
                    tried += 1;
                    decided_by_chord += usize::from(chord < inside || chord > outside);
                    decided_by_fixed += usize::from(surely || !perhaps);
                }
            }
        }
        // And they are worth having: of these hard cases they decide a good part.
        assert!(tried > 400_000 && decided_by_chord * 10 > tried * 6 && decided_by_fixed * 10 > tried * 4);
    }
}
