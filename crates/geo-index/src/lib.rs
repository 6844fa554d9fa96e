//! Who hears a place, and who is in a circle, on the WGS84 ellipsoid.
