//! Who should have heard, worked out by brute force with the geodesic, sharing no code with `geo-index`
//! nor with drumfire's own oracle: the files of `drumfire run --pairs` are read and judged anew.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use geographiclib_rs::{Geodesic, InverseGeodesic as _};

/// Where a listener stood: from when it asked for the place to when the next one had taken hold.
#[derive(Debug, Clone, Copy)]
struct Stand {
    lng: f64,
    lat: f64,
    radius_m: f64,
    asked_ns: u64,
    /// Known by the server from here on.
    settled_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Said {
    lng: f64,
    lat: f64,
    sent_ns: u64,
    matched_by_ns: u64,
}

/// How a run's deliveries compare with the geodesic.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// (listener, message) pairs that should be and are.
    pub heard: usize,
    pub missing: Vec<(u32, u32)>,
    pub uncalled: Vec<(u32, u32)>,
    /// Pairs where the listener moved across the rim while the message was on its way.
    pub undecided: usize,
    pub listeners: usize,
    pub messages: usize,
}

/// Judges `pairs` and the two files beside it.
pub fn judge(pairs: &Path) -> Verdict {
    let heard: HashSet<(u32, u32)> = rows(pairs).iter().map(|row| (row[0] as u32, row[1] as u32)).collect();
    let mut listeners: HashMap<u32, Vec<Stand>> = HashMap::new();
    for row in rows(&beside(pairs, ".listeners.csv")) {
        listeners.entry(row[0] as u32).or_default().push(Stand {
            lng: row[1],
            lat: row[2],
            radius_m: row[3],
            asked_ns: row[4] as u64,
            settled_ns: row[5] as u64,
        });
    }
    let messages: Vec<(u32, Said)> = rows(&beside(pairs, ".messages.csv"))
        .iter()
        .map(|row| {
            let said =
                Said { lng: row[1], lat: row[2], sent_ns: row[3] as u64, matched_by_ns: row[4] as u64 };
            (row[0] as u32, said)
        })
        .collect();
    let mut verdict = Verdict { listeners: listeners.len(), messages: messages.len(), ..Verdict::default() };
    let mut distances = HashMap::new();
    for (&listener, stands) in &listeners {
        for &(message, said) in &messages {
            let pair = (listener, message);
            match should_hear(stands, said, &mut distances) {
                None => verdict.undecided += 1,
                Some(true) if heard.contains(&pair) => verdict.heard += 1,
                Some(true) => verdict.missing.push(pair),
                Some(false) if heard.contains(&pair) => verdict.uncalled.push(pair),
                Some(false) => {}
            }
        }
    }
    verdict
}

type Distances = HashMap<[u64; 4], f64>;

/// `None` where the places it may have had disagree.
fn should_hear(stands: &[Stand], said: Said, distances: &mut Distances) -> Option<bool> {
    let mut answer = None;
    for (number, stand) in stands.iter().enumerate() {
        // In force from its asking until the next one has settled.
        let ends_ns = stands.get(number + 1).map_or(u64::MAX, |next| next.settled_ns);
        if stand.asked_ns > said.matched_by_ns || ends_ns < said.sent_ns {
            continue;
        }
        let key = [stand.lng, stand.lat, said.lng, said.lat].map(f64::to_bits);
        let distance = *distances.entry(key).or_insert_with(|| {
            let distance: f64 = Geodesic::wgs84().inverse(stand.lat, stand.lng, said.lat, said.lng);
            distance
        });
        let hears = distance <= stand.radius_m;
        match answer {
            None => answer = Some(hears),
            Some(before) if before != hears => return None,
            Some(_) => {}
        }
    }
    answer
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    name.into()
}

/// The numbers of a CSV file with a header; a word stands as NaN.
fn rows(path: &Path) -> Vec<Vec<f64>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .skip(1)
        .map(|line| line.split(',').map(|cell| cell.parse().unwrap_or(f64::NAN)).collect())
        .collect()
}
