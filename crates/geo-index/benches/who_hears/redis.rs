//! Redis and its geo commands. It cannot say whose circle holds a place, only who is in one circle.
//!
//! Its protocol by hand: replies are only counted, and a client library would take a good part of what is measured.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use geo_index::Position;

/// Commands sent before their replies are read.
const PIPELINE: usize = 32;

pub(crate) struct Redis {
    stream: BufReader<TcpStream>,
    /// Nanoseconds of processor time of its only busy thread.
    schedstat: String,
}

impl Redis {
    /// With nobody in it.
    pub(crate) fn connect(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut redis = Self { stream: BufReader::new(stream), schedstat: String::new() };
        redis.send("FLUSHALL\r\nINFO server\r\n");
        redis.elements();
        let info = redis.bulk();
        let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).expect("Redis's process");
        redis.schedstat = format!("/proc/{pid}/schedstat");
        Ok(redis)
    }

    pub(crate) fn add(&mut self, people: impl Iterator<Item = (u32, Position)>) -> f64 {
        let command = |(id, at): (u32, Position)| format!("GEOADD people {} {} {id}\r\n", at.lng(), at.lat());
        self.mean_us(people.map(command)).0
    }

    /// Processor time of Redis for each question, microseconds; how many were in the circles.
    pub(crate) fn who_is_in(&mut self, places: &[Position], radius_m: f64) -> (f64, usize) {
        let command = |at: &Position| {
            format!("GEOSEARCH people FROMLONLAT {} {} BYRADIUS {radius_m} m\r\n", at.lng(), at.lat())
        };
        self.mean_us(places.iter().map(command))
    }

    fn mean_us(&mut self, mut commands: impl Iterator<Item = String>) -> (f64, usize) {
        let before = self.cpu_ns();
        let (mut sent, mut elements) = (0, 0);
        loop {
            let mut text = String::new();
            let count = commands.by_ref().take(PIPELINE).map(|one| write!(text, "{one}").unwrap()).count();
            if count == 0 {
                break;
            }
            self.send(&text);
            elements += (0..count).map(|_| self.elements()).sum::<usize>();
            sent += count;
        }
        ((self.cpu_ns() - before) as f64 / 1e3 / sent.max(1) as f64, elements)
    }

    fn cpu_ns(&self) -> u64 {
        let text = std::fs::read_to_string(&self.schedstat).expect("Redis's processor time");
        text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds")
    }

    fn send(&mut self, commands: &str) {
        self.stream.get_mut().write_all(commands.as_bytes()).expect("Redis takes it");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a reply");
        assert!(!line.starts_with('-'), "Redis: {line}");
        line.trim_end().to_owned()
    }

    fn bulk(&mut self) -> String {
        let length: usize = self.line()[1..].parse().expect("a length");
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).expect("a reply");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads a reply; how many elements it has.
    fn elements(&mut self) -> usize {
        let line = self.line();
        let Some(count) = line.strip_prefix('*') else { return 0 };
        let count = count.parse().expect("a count");
        for _ in 0..count {
            self.bulk();
        }
        count
    }
}
