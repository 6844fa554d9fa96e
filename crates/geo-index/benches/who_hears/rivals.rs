//! A linear scan, and an R*-tree of the circles' boxes (crate `rstar`, bulk loaded, which is its best case). Neither looks
//! at the geodesic at the rim.

use std::hint::black_box;

use geo_index::Position;
use rstar::RTree;
use rstar::primitives::{GeomWithData, Rectangle};

/// What both keep of a person.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Circle {
    position: Position,
    radius_m: f64,
    ecef: [f64; 3],
}

impl Circle {
    pub(crate) fn new((position, radius_m): (Position, f64)) -> Self {
        Self { position, radius_m, ecef: ecef(position) }
    }

    fn holds(&self, q: [f64; 3]) -> bool {
        let p = self.ecef;
        (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2) + (p[2] - q[2]).powi(2) <= self.radius_m * self.radius_m
    }
}

/// Earth-centred positions and squared radii.
pub(crate) struct Scan(Vec<([f64; 3], f64)>);

impl Scan {
    pub(crate) fn new(circles: &[Circle]) -> Self {
        Self(circles.iter().map(|circle| (circle.ecef, circle.radius_m * circle.radius_m)).collect())
    }

    pub(crate) fn who_hears(&self, place: Position) -> usize {
        let q = ecef(place);
        let near = |p: &[f64; 3]| (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2) + (p[2] - q[2]).powi(2);
        black_box(self.0.iter().filter(|(p, limit)| near(p) <= *limit).count())
    }
}

type Leaf = GeomWithData<Rectangle<[f64; 2]>, Circle>;

pub(crate) struct Tree {
    tree: RTree<Leaf>,
    /// The first people, who move.
    movers: Vec<Leaf>,
}

impl Tree {
    pub(crate) fn new(circles: &[Circle], movers: usize) -> Self {
        let movers = circles.iter().take(movers).map(leaf).collect();
        Self { tree: RTree::bulk_load(circles.iter().map(leaf).collect()), movers }
    }

    pub(crate) fn who_hears(&self, place: Position) -> usize {
        let q = ecef(place);
        let found = self.tree.locate_all_at_point([place.lng(), place.lat()]);
        black_box(found.filter(|one| one.data.holds(q)).count())
    }

    pub(crate) fn update(&mut self, mover: usize, to: impl FnOnce(Position) -> Position) {
        let mover = &mut self.movers[mover];
        let removed = self.tree.remove(mover);
        assert!(removed.is_some(), "somebody who is in the tree");
        *mover = leaf(&Circle::new((to(mover.data.position), mover.data.radius_m)));
        self.tree.insert(*mover);
    }
}

fn leaf(circle: &Circle) -> Leaf {
    let (lng, lat) = (circle.position.lng(), circle.position.lat());
    let high = circle.radius_m / 110_500.0;
    let wide = high / (lat.abs() + high).to_radians().cos();
    let corners = Rectangle::from_corners([lng - wide, lat - high], [lng + wide, lat + high]);
    GeomWithData::new(corners, *circle)
}

fn ecef(position: Position) -> [f64; 3] {
    const E2: f64 = 0.006_694_379_990_141_33;
    let (sin_lat, cos_lat) = position.lat().to_radians().sin_cos();
    let (sin_lng, cos_lng) = position.lng().to_radians().sin_cos();
    let n = 6_378_137.0 / (1.0 - E2 * sin_lat * sin_lat).sqrt();
    [n * cos_lat * cos_lng, n * cos_lat * sin_lng, n * (1.0 - E2) * sin_lat]
}
