//! Questions and moves at 10 k to 10 M people of equal density, beside rivals.
//!
//! `cargo bench -p geo-index` prints tables, `-- --most 1000000` limits the number of people, `--json` prints each measured
//! value as a line instead. One thread; in each round all take their turn; a round's value is the median over short series
//! of random calls.

mod land;
mod redis;
mod rivals;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use clap::Parser;
use geo_index::{Index, Position};

use land::{HEARERS, Land, RADII, Radii};
use redis::Redis;
use rivals::{Circle, Scan, Tree};

#[derive(Parser)]
struct Arguments {
    /// The most people.
    #[arg(long, default_value_t = 10_000_000)]
    most: usize,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A Redis whose data may be lost.
    #[arg(long, value_name = "ADDRESS")]
    redis: Option<String>,
    /// The most people for Redis: it is filled slowly.
    #[arg(long, default_value_t = 1_000_000)]
    redis_most: usize,
    /// Only radii of 100 m to 20 km.
    #[arg(long)]
    mixed: bool,
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Who move in the tree: moves there are slow.
const MOVERS: usize = 4_000;

fn main() {
    let arguments = Arguments::parse();
    let kinds = if arguments.mixed { &RADII[..1] } else { &RADII[..] };
    for radii in kinds {
        if !arguments.json {
            println!("\n{}, {HEARERS} hearers on average", radii.name);
        }
        for people in [10_000, 100_000, 1_000_000, 10_000_000] {
            if people <= arguments.most {
                let mut told = Told { arguments: &arguments, people, radii, values: BTreeMap::new() };
                measure(&arguments, people, radii, &mut told);
                told.table();
            }
        }
    }
}

/// Values as they come, and in a table at the end.
struct Told<'a> {
    arguments: &'a Arguments,
    people: usize,
    radii: &'a Radii,
    values: BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

impl Told<'_> {
    fn value(&mut self, what: &'static str, who: &'static str, value: f64) {
        let values = self.values.entry((what, who)).or_default();
        values.push(value);
        if self.arguments.json {
            println!(
                r#"{{"radii":"{}","people":{},"what":"{what}","who":"{who}","round":{},"value":{value:.4}}}"#,
                self.radii.name,
                self.people,
                values.len()
            );
        }
    }

    fn table(&mut self) {
        if self.arguments.json {
            return;
        }
        println!("{} people", self.people);
        for ((what, who), values) in &mut self.values {
            values.sort_by(f64::total_cmp);
            println!("  {what:<20} {who:<10} {:>12.3}", values[values.len() / 2]);
        }
    }
}

fn measure(arguments: &Arguments, people: usize, radii: &Radii, told: &mut Told<'_>) {
    let mut rng = fastrand::Rng::with_seed(people as u64);
    let land = Land::new(people, radii);
    let mut index = Index::new();
    let start = Instant::now();
    for id in 0..people as u32 {
        index.insert(id, land.place(&mut rng, 0.0), (radii.draw)(&mut rng));
    }
    told.value("fill, us each", "geo-index", start.elapsed().as_secs_f64() * 1e6 / people as f64);
    told.value("bytes each", "geo-index", (index.memory() / people) as f64);

    let circles: Vec<Circle> = (0..people as u32).map(|id| Circle::new(index.get(id).unwrap())).collect();
    let scan = Scan::new(&circles);
    let start = Instant::now();
    let mut tree = Tree::new(&circles, MOVERS);
    told.value("fill, us each", "rstar", start.elapsed().as_secs_f64() * 1e6 / people as f64);
    drop(circles);
    let mut redis = arguments.redis.as_deref().filter(|_| people <= arguments.redis_most).map(|address| {
        let mut redis = Redis::connect(address).expect("Redis");
        let all = (0..people as u32).map(|id| (id, index.get(id).unwrap().0));
        told.value("fill, us each", "redis", redis.add(all));
        redis
    });

    for _ in 0..arguments.rounds {
        let places: Vec<Position> = (0..4_000).map(|_| land.place(&mut rng, 20_000.0)).collect();
        let mut hearers = 0;
        let who_hears = mean_us(&places, |&place| {
            index.who_hears(place, |id| {
                black_box(id);
                hearers += 1;
            });
        });
        told.value("who_hears, us", "geo-index", who_hears);
        told.value("hearers", "geo-index", f64::from(hearers) / (places.len() as f64 * 1.25));
        let mut found = 0;
        told.value("who_hears, us", "rstar", mean_us(&places, |&place| found += tree.who_hears(place)));
        told.value("hearers", "rstar", found as f64 / (places.len() as f64 * 1.25));
        let few = &places[..40];
        told.value("who_hears, us", "scan", mean_us(few, |&place| _ = scan.who_hears(place)));

        let mut inside = 0;
        let usual = radii.usual_m();
        let who_is_in = mean_us(&places, |&place| {
            index.who_is_in(place, usual, |id| {
                black_box(id);
                inside += 1;
            });
        });
        told.value("who_is_in, us", "geo-index", who_is_in);
        told.value("inside", "geo-index", f64::from(inside) / (places.len() as f64 * 1.25));
        told.value(
            "who_is_in 500 m, us",
            "geo-index",
            mean_us(&places, |&place| index.who_is_in(place, 500.0, |id| _ = black_box(id))),
        );
        if let Some(redis) = &mut redis {
            let (us, found) = redis.who_is_in(&places, usual);
            told.value("who_is_in, us", "redis", us);
            told.value("inside", "redis", found as f64 / places.len() as f64);
        }
        moves(&mut index, &mut tree, redis.as_mut(), &land, &mut rng, told);
    }
}

fn moves(
    index: &mut Index,
    tree: &mut Tree,
    redis: Option<&mut Redis>,
    land: &Land,
    rng: &mut fastrand::Rng,
    told: &mut Told<'_>,
) {
    let who: Vec<u32> = (0..500_000).map(|_| rng.u32(0..told.people as u32)).collect();
    let step = mean_us(&who, |&id| {
        let (position, radius_m) = index.get(id).unwrap();
        index.update(id, land::step(position, rng), radius_m);
    });
    told.value("step, us", "geo-index", step);
    let movers: Vec<usize> = (0..MOVERS).map(|_| rng.usize(..MOVERS)).collect();
    let tree_step = mean_us(&movers, |&mover| tree.update(mover, |from| land::step(from, rng)));
    told.value("step, us", "rstar", tree_step);
    if let Some(redis) = redis {
        let steps: Vec<_> =
            who[..20_000].iter().map(|&id| (id, land::step(index.get(id).unwrap().0, rng))).collect();
        told.value("step, us", "redis", redis.add(steps.into_iter()));
    }
    let jump = mean_us(&who, |&id| {
        let radius_m = index.get(id).unwrap().1;
        index.update(id, land.place(rng, 0.0), radius_m);
    });
    told.value("jump, us", "geo-index", jump);
    let tree_jump = mean_us(&movers, |&mover| tree.update(mover, |_| land.place(rng, 0.0)));
    told.value("jump, us", "rstar", tree_jump);
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
