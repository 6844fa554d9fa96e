//! What a place is.

/// A place on the surface of the WGS84 ellipsoid, in degrees: always finite, longitude in -180..=180, latitude in
/// -90..=90. Longitudes 180 and -180 are the same place, and so are all longitudes at a pole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    lng: f64,
    lat: f64,
}

/// Why a pair of numbers is not a [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum InvalidPosition {
    #[error("longitude {0} is not within -180 and 180 degrees")]
    Longitude(f64),
    #[error("latitude {0} is not within -90 and 90 degrees")]
    Latitude(f64),
}

impl Position {
    /// Longitude first, as in GeoJSON (RFC 7946, section 3.1.1). Out of range, infinite and NaN are errors.
    pub fn new(lng: f64, lat: f64) -> Result<Self, InvalidPosition> {
        if !(-180.0..=180.0).contains(&lng) {
            return Err(InvalidPosition::Longitude(lng));
        }
        if !(-90.0..=90.0).contains(&lat) {
            return Err(InvalidPosition::Latitude(lat));
        }
        Ok(Self { lng, lat })
    }

    /// For values that are in range by construction.
    pub(crate) fn in_range(lng: f64, lat: f64) -> Self {
        debug_assert!(Self::new(lng, lat).is_ok(), "{lng} {lat}");
        Self { lng, lat }
    }

    /// Degrees east.
    pub fn lng(self) -> f64 {
        self.lng
    }

    /// Degrees north.
    pub fn lat(self) -> f64 {
        self.lat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range() {
        let check =
            |lng: f64, lat: f64, ok: bool| assert_eq!(Position::new(lng, lat).is_ok(), ok, "{lng} {lat}");
        check(0.0, 0.0, true);
        check(-0.0, -0.0, true);
        check(180.0, 90.0, true);
        check(-180.0, -90.0, true);
        check(180.000_000_000_1, 0.0, false);
        check(0.0, -90.000_000_000_1, false);
        check(f64::NAN, 0.0, false);
        check(0.0, f64::NAN, false);
        check(f64::INFINITY, 0.0, false);
        check(0.0, f64::NEG_INFINITY, false);
        assert_eq!(
            Position::new(200.0, 0.0).unwrap_err().to_string(),
            "longitude 200 is not within -180 and 180 degrees"
        );
    }
}
