//! What the index is checked against. It shares no code with the crate: distances are Vincenty's, not Karney's, and
//! everybody is asked.

use std::f64::consts::PI;

pub(crate) const A: f64 = 6_378_137.0;
const F: f64 = 1.0 / 298.257_223_563;
const B: f64 = A * (1.0 - F);

/// Length in metres of the geodesic between two places (longitude, latitude) less than 1,000 km apart
/// (T. Vincenty, "Direct and inverse solutions of geodesics on the ellipsoid", Survey Review 23, 1975). Good to
/// [`ORACLE_M`] at the distances used here.
pub(crate) fn vincenty_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    let u = |lat: f64| ((1.0 - F) * lat.to_radians().sin()).atan2(lat.to_radians().cos());
    let (sin_u1, cos_u1) = u(a.1).sin_cos();
    let (sin_u2, cos_u2) = u(b.1).sin_cos();
    let l = (b.0 - a.0).to_radians();
    let l = if l.abs() > PI { l - l.signum() * 2.0 * PI } else { l };
    let mut lambda = l;
    for _ in 0..100 {
        let (sin_l, cos_l) = lambda.sin_cos();
        let x = cos_u2 * sin_l;
        let y = cos_u1 * sin_u2 - sin_u1 * cos_u2 * cos_l;
        let sin_sigma = x.hypot(y);
        if sin_sigma < 1e-16 {
            return 0.0;
        }
        let cos_sigma = sin_u1 * sin_u2 + cos_u1 * cos_u2 * cos_l;
        let sigma = sin_sigma.atan2(cos_sigma);
        let sin_alpha = cos_u1 * cos_u2 * sin_l / sin_sigma;
        let cos2_alpha = (1.0 - sin_alpha * sin_alpha).max(0.0);
        let cos_2m = if cos2_alpha > 1e-12 { cos_sigma - 2.0 * sin_u1 * sin_u2 / cos2_alpha } else { 0.0 };
        let c = F / 16.0 * cos2_alpha * (4.0 + F * (4.0 - 3.0 * cos2_alpha));
        let inner = cos_2m + c * cos_sigma * (2.0 * cos_2m * cos_2m - 1.0);
        let next = l + (1.0 - c) * F * sin_alpha * (sigma + c * sin_sigma * inner);
        let done = (next - lambda).abs() < 1e-14;
        lambda = next;
        if done {
            let u2 = cos2_alpha * (A * A - B * B) / (B * B);
            let a_ = 1.0 + u2 / 16384.0 * (4096.0 + u2 * (-768.0 + u2 * (320.0 - 175.0 * u2)));
            let b_ = u2 / 1024.0 * (256.0 + u2 * (-128.0 + u2 * (74.0 - 47.0 * u2)));
            let q = cos_2m * cos_2m;
            let last = b_ / 6.0 * cos_2m * (4.0 * sin_sigma * sin_sigma - 3.0) * (4.0 * q - 3.0);
            let delta = b_ * sin_sigma * (cos_2m + b_ / 4.0 * (cos_sigma * (2.0 * q - 1.0) - last));
            return B * a_ * (sigma - delta);
        }
    }
    panic!("no convergence between {a:?} and {b:?}");
}

/// How far the oracle may be from the truth, metres. Nearer to a rim than this it has no opinion.
pub(crate) const ORACLE_M: f64 = 2e-5;

/// Whether a circle holds a point; nothing when it is too near the rim to tell.
pub(crate) fn holds(center: (f64, f64), radius_m: f64, point: (f64, f64)) -> Option<bool> {
    // A degree of latitude is at least 110.5 km: spares the formula most of the world.
    if (center.1 - point.1).abs() * 110_500.0 > radius_m + 1.0 {
        return Some(false);
    }
    // So does the chord after squeezing the ellipsoid to a ball of its polar radius, which lengthens nothing.
    let unit = |(lng, lat): (f64, f64)| {
        // Reduced latitude.
        let (s, c) = ((1.0 - F) * lat.to_radians().tan()).atan().sin_cos();
        let (sl, cl) = lng.to_radians().sin_cos();
        [c * cl, c * sl, s]
    };
    let (p, q) = (unit(center), unit(point));
    let chord = B * ((p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2) + (p[2] - q[2]).powi(2)).sqrt();
    if chord > radius_m + 1.0 {
        return Some(false);
    }
    let apart = vincenty_m(center, point);
    ((apart - radius_m).abs() > ORACLE_M).then_some(apart < radius_m)
}
