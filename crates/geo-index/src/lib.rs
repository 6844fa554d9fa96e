//! Who hears a place, and who is in a circle, on the WGS84 ellipsoid.
//!
//! Each person stands somewhere and hears everything said within their own radius. [`Index::who_hears`] finds the
//! people whose circle holds a place; [`Index::who_is_in`] finds the people who stand in a given circle. Both are
//! exact and inclusive at the rim ([`circle_contains`]); there is no special case at the poles or at ±180°.
//!
//! ```
//! use geo_index::{Index, Position};
//!
//! let station = Position::new(127.0276, 37.4979).unwrap();
//! let cafe = Position::new(127.0310, 37.4979).unwrap(); // 300 m east
//! let mut index = Index::new();
//! index.insert(1, station, 500.0); // hears 500 m around the station
//! index.insert(2, station, 100.0);
//!
//! let mut hearers = Vec::new();
//! index.who_hears(cafe, |id| hearers.push(id));
//! assert_eq!(hearers, [1]);
//! ```
//!
//! An [`Index`] belongs to one thread and holds only that thread's people. [`Interest`] is the one shared part: it
//! tells which threads may have a hearer at a place, so that the others are not woken.
//!
//! Modules in reading order: `position` (what a place is), `geodesy` (how far, and is it inside), `grid` (the earth
//! in cells), `cells` (entries by cell), `index`, `interest`, `privacy`.

mod cells;
mod geodesy;
mod grid;
mod index;
mod interest;
mod position;
mod privacy;

pub use geodesy::{MAX_RADIUS_M, circle_contains, distance_m};
pub use index::Index;
pub use interest::{Interest, InterestError, InterestHandle, MAX_WORKERS};
pub use position::{InvalidPosition, Position};
pub use privacy::{area_of, snap};
