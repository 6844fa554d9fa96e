//! Which circles hold a place: a brute-force geodesic that shares no code with any server.

use geographiclib_rs::{Geodesic, InverseGeodesic};
use rustc_hash::FxHashMap;

use super::Listener;
use crate::delivery::{Said, Stand};
use crate::outcome::Nanos;

/// What the circles say of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Should {
    Hear,
    NotHear,
    /// It depends on which of two places the server knew at the time.
    Undecided,
}

/// For a listener that moves: every place it may have had while the message was on its way must agree.
pub(super) fn should_hear(stands: &[Stand], said: Said, until: Nanos) -> Should {
    let mut verdict = None;
    // A place ends when a later one is known to have taken hold.
    let mut ended = Nanos::MAX;
    for stand in stands.iter().rev() {
        if stand.asked <= until && said.sent <= ended {
            let hears = within((stand.lng, stand.lat), stand.radius_m, (said.lng, said.lat));
            match verdict {
                None => verdict = Some(hears),
                Some(before) if before != hears => return Should::Undecided,
                Some(_) => {}
            }
        }
        ended = ended.min(stand.settled);
    }
    match verdict {
        Some(true) => Should::Hear,
        Some(false) => Should::NotHear,
        None => Should::Undecided,
    }
}

/// A set of listeners.
#[derive(Debug, Default, Clone)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn set(&mut self, index: u32) {
        let word = index as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    pub(super) fn get(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    pub(super) fn ones(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.0).flat_map(|(at, &word): (u32, _)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }
}

/// Hearers of a place among the listeners that stand still, worked out once for each place.
#[derive(Debug)]
pub(super) struct Circles {
    /// (number, place) of those who stand still.
    standing: Vec<(u32, Stand)>,
    known: FxHashMap<(u64, u64), Circle>,
}

#[derive(Debug)]
pub(super) struct Circle {
    pub(super) hearers: Bits,
    pub(super) count: u64,
}

impl Circles {
    pub(super) fn new(listeners: &[Listener]) -> Self {
        let standing = (0..)
            .zip(listeners)
            .filter(|(_, listener)| !listener.walks && !listener.apart)
            .filter_map(|(number, listener)| Some((number, *listener.stands.first()?)));
        Self { standing: standing.collect(), known: FxHashMap::default() }
    }

    pub(super) fn hearers(&mut self, lng: f64, lat: f64) -> &Circle {
        // Messages at places of their own would only fill the memory.
        if self.known.len() > 4096 {
            self.known.clear();
        }
        self.known.entry((lng.to_bits(), lat.to_bits())).or_insert_with(|| {
            let mut hearers = Bits::default();
            for (number, stand) in &self.standing {
                if within((stand.lng, stand.lat), stand.radius_m, (lng, lat)) {
                    hearers.set(*number);
                }
            }
            Circle { count: hearers.count(), hearers }
        })
    }
}

/// Geodesic on the WGS84 ellipsoid (Karney 2013), (lng, lat) in degrees.
pub(super) fn distance_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    Geodesic::wgs84().inverse(a.1, a.0, b.1, b.0)
}

/// Radius of the sphere the prefilter measures on, metres.
const SPHERE_M: f64 = 6_371_008.8;
/// A degree on the ellipsoid over the same degree on that sphere is nowhere below or above these: the radii of
/// curvature of WGS84 lie between b²/a = 6,335,439 m and a²/b = 6,399,594 m.
const SHORTEST: f64 = 0.994;
const LONGEST: f64 = 1.005;

/// Is `place` inside the circle, rim included? The sphere answers where it can, the geodesic near the rim.
fn within(centre: (f64, f64), radius_m: f64, place: (f64, f64)) -> bool {
    if !place.0.is_finite() || !place.1.is_finite() {
        return false;
    }
    let north = (place.1 - centre.1).to_radians().abs() * SPHERE_M;
    if north * SHORTEST > radius_m + 1.0 {
        return false;
    }
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let h = half(place.1 - centre.1)
        + centre.1.to_radians().cos() * place.1.to_radians().cos() * half(place.0 - centre.0);
    let sphere = 2.0 * SPHERE_M * h.clamp(0.0, 1.0).sqrt().asin();
    if sphere * SHORTEST > radius_m + 1.0 {
        return false;
    }
    if sphere * LONGEST + 1.0 < radius_m {
        return true;
    }
    distance_m(centre, place) <= radius_m
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The prefilter may only answer what the geodesic would answer.
    #[test]
    fn the_sphere_never_overrules_the_geodesic() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200_000 {
            let lat = if rng.bool() { rng.f64() * 180.0 - 90.0 } else { 89.0 + rng.f64() };
            let centre = (rng.f64() * 360.0 - 180.0, lat);
            let spread = [0.001, 0.1, 1.0, 180.0][rng.usize(..4)];
            let place = (
                (centre.0 + (rng.f64() - 0.5) * spread + 540.0).rem_euclid(360.0) - 180.0,
                (centre.1 + (rng.f64() - 0.5) * spread).clamp(-90.0, 90.0),
            );
            let distance = distance_m(centre, place);
            for factor in [0.0, 0.99, 0.9999, 1.0, 1.0001, 1.01, 2.0] {
                let radius = distance * factor;
                assert_eq!(
                    within(centre, radius, place),
                    distance <= radius,
                    "{centre:?} {place:?} {radius}"
                );
            }
        }
    }
}
