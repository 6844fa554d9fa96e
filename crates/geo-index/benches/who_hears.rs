//! Questions and moves at 10 k to 10 M people of equal density, beside a linear scan and an R*-tree of the circles'
//! boxes (crate `rstar`, bulk loaded, which is its best case).
//!
//! `cargo bench -p geo-index` prints the table; an argument such as `1000000` limits the number of people.
//! Times are microseconds per call, one thread: the median over short series of random calls.

use std::hint::black_box;
use std::time::Instant;

use geo_index::{Index, Position};
use rstar::RTree;
use rstar::primitives::{GeomWithData, Rectangle};

/// Hearers of an average place.
const HEARERS: f64 = 90.0;

/// A way to draw radii, with its mean square, which sets the density.
struct Radii {
    name: &'static str,
    draw: fn(&mut fastrand::Rng) -> f64,
    mean_square_m2: f64,
}

const RADII: [Radii; 2] = [
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

fn main() {
    let most: usize =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10_000_000);
    for radii in &RADII {
        println!("\n{}, {HEARERS} hearers on average", radii.name);
        println!(
            "{:>9} {:>7} {:>9} {:>8} {:>10} {:>9} {:>9} {:>7} {:>7} {:>8} {:>7}",
            "people",
            "fill s",
            "B/person",
            "hearers",
            "who_hears",
            "in 500 m",
            "in large",
            "step",
            "jump",
            "scan",
            "rstar"
        );
        for people in [10_000, 100_000, 1_000_000, 10_000_000] {
            if people <= most {
                row(people, radii);
            }
        }
    }
}

fn row(people: usize, radii: &Radii) {
    let mut rng = fastrand::Rng::with_seed(people as u64);
    // A square of the right area around 37.5 degrees north.
    let area_m2 = people as f64 * std::f64::consts::PI * radii.mean_square_m2 / HEARERS;
    let land = Land::new(area_m2.sqrt());
    let mut index = Index::new();
    let start = Instant::now();
    for id in 0..people as u32 {
        index.insert(id, land.place(&mut rng, 0.0), (radii.draw)(&mut rng));
    }
    let fill = start.elapsed().as_secs_f64();
    let memory = index.memory() / people;

    let places: Vec<Position> = (0..4_000).map(|_| land.place(&mut rng, 20_000.0)).collect();
    let mut hearers = 0;
    let who_hears = mean_us(&places, |&place| {
        index.who_hears(place, |id| {
            black_box(id);
            hearers += 1;
        });
    });
    let near = mean_us(&places, |&place| index.who_is_in(place, 500.0, |id| _ = black_box(id)));
    let large_m = radii.mean_square_m2.sqrt();
    let large = mean_us(&places, |&place| index.who_is_in(place, large_m, |id| _ = black_box(id)));
    let circles: Vec<Circle> = (0..people as u32).map(|id| Circle::new(index.get(id).unwrap())).collect();
    let scan = scan_us(&circles, &places[..40]);
    let tree = tree_us(circles, &places);

    let moves = 1_000_000;
    let who: Vec<u32> = (0..moves).map(|_| rng.u32(0..people as u32)).collect();
    let step = mean_us(&who, |&id| {
        // Up to about 10 m, as someone who walks and reports every few seconds.
        let (position, radius_m) = index.get(id).unwrap();
        let by = |rng: &mut fastrand::Rng| (rng.f64() - 0.5) * 2e-4;
        let moved = Position::new(position.lng() + by(&mut rng), position.lat() + by(&mut rng)).unwrap();
        index.update(id, moved, radius_m);
    });
    let jump = mean_us(&who, |&id| {
        let radius_m = index.get(id).unwrap().1;
        index.update(id, land.place(&mut rng, 0.0), radius_m);
    });
    println!(
        "{people:>9} {fill:>7.2} {memory:>9} {:>8.1} {who_hears:>10.2} {near:>9.2} {large:>9.2} {step:>7.3} {jump:>7.3} {scan:>8.0} {tree:>7.1}",
        f64::from(hearers) / (places.len() as f64 * 1.25),
    );
}

/// Runs a quarter to warm up, then all in parts of well under a millisecond, and returns the mean of the part in the
/// middle: other programs on the machine interrupt some parts, not most.
fn mean_us<T>(items: &[T], mut call: impl FnMut(&T)) -> f64 {
    items[..items.len() / 4].iter().for_each(&mut call);
    let mut parts: Vec<f64> = items
        .chunks((items.len() / 1000).clamp(1, 200))
        .map(|part| {
            let start = Instant::now();
            part.iter().for_each(&mut call);
            start.elapsed().as_secs_f64() * 1e6 / part.len() as f64
        })
        .collect();
    parts.sort_by(f64::total_cmp);
    parts[parts.len() / 2]
}

/// What the two rivals keep of a person: centre, radius squared. Both skip the geodesic at the rim.
#[derive(Clone, Copy)]
struct Circle {
    position: Position,
    radius_m: f64,
    ecef: [f64; 3],
}

impl Circle {
    fn new((position, radius_m): (Position, f64)) -> Self {
        Self { position, radius_m, ecef: ecef(position) }
    }

    fn holds(&self, q: [f64; 3]) -> bool {
        let p = self.ecef;
        (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2) + (p[2] - q[2]).powi(2) <= self.radius_m * self.radius_m
    }
}

fn scan_us(circles: &[Circle], places: &[Position]) -> f64 {
    let list: Vec<([f64; 3], f64)> = circles.iter().map(|c| (c.ecef, c.radius_m * c.radius_m)).collect();
    mean_us(places, |&place| {
        let q = ecef(place);
        let near = |p: &[f64; 3]| (p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2) + (p[2] - q[2]).powi(2);
        black_box(list.iter().filter(|(p, limit)| near(p) <= *limit).count());
    })
}

fn tree_us(circles: Vec<Circle>, places: &[Position]) -> f64 {
    let boxes = circles.into_iter().map(|circle| {
        let (lng, lat) = (circle.position.lng(), circle.position.lat());
        let high = circle.radius_m / 110_500.0;
        let wide = high / (lat.abs() + high).to_radians().cos();
        let corners = Rectangle::from_corners([lng - wide, lat - high], [lng + wide, lat + high]);
        GeomWithData::new(corners, circle)
    });
    let tree = RTree::bulk_load(boxes.collect());
    mean_us(places, |&place| {
        let q = ecef(place);
        let found = tree.locate_all_at_point([place.lng(), place.lat()]).filter(|one| one.data.holds(q));
        black_box(found.count());
    })
}

fn ecef(position: Position) -> [f64; 3] {
    const E2: f64 = 0.006_694_379_990_141_33;
    let (sin_lat, cos_lat) = position.lat().to_radians().sin_cos();
    let (sin_lng, cos_lng) = position.lng().to_radians().sin_cos();
    let n = 6_378_137.0 / (1.0 - E2 * sin_lat * sin_lat).sqrt();
    [n * cos_lat * cos_lng, n * cos_lat * sin_lng, n * (1.0 - E2) * sin_lat]
}

/// A square, evenly populated by area: longitude even, sine of latitude even.
struct Land {
    side_m: f64,
}

impl Land {
    const RADIUS_M: f64 = 6_371_000.0;

    fn new(side_m: f64) -> Self {
        Self { side_m }
    }

    fn place(&self, rng: &mut fastrand::Rng, inset_m: f64) -> Position {
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
