//! What a run gave, beside the others of its table.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::bench::figure::{Figure, thousands};
use crate::bench::goal::{Bound, Goal};
use crate::bench::load::Run;
use crate::bench::report::Table;
use crate::soak::watch::{Process, sample};
use crate::stage;

/// What `dna` says of itself when a run is over.
pub(super) struct Said {
    metrics: String,
    /// Bytes.
    most_memory: u64,
}

impl Said {
    pub(super) fn of(listen: SocketAddr, pid: u32) -> Result<Self> {
        Ok(Self {
            metrics: stage::get(listen, "/metrics").context("dna does not tell its metrics")?,
            most_memory: Process::most_memory(pid).context("dna's memory cannot be read")?,
        })
    }
}

#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    heard: f64,
    missing: f64,
    twice: f64,
    /// Of one sender at one listener.
    out_of_order: f64,
    pub(super) late_pings: f64,
    /// p99 of how late drumfire's own threads were to their ticks.
    lag_ms: f64,
    /// By reason; those who left by themselves are not among them.
    closed: Vec<(String, f64)>,
    pub(super) closed_by_dna: f64,
    dropped_frames: u64,
    most_memory: u64,
    /// Why the load side is not to be believed.
    pub(super) doubt: Option<String>,
}

impl Measured {
    pub(super) fn of(run: &Run, seconds: u64, said: &Said) -> Result<Self> {
        let usage = run.usage(0, seconds).context("drumfire ended before its messages were sent")?;
        let closed = closed(&said.metrics);
        let time = |percentile| run.time("drumfire.delivery", percentile).unwrap_or(f64::NAN);
        Ok(Self {
            p50_ms: time("p50"),
            p99_ms: time("p99"),
            p999_ms: time("p999"),
            heard: run.account("heard"),
            missing: run.account("missing"),
            twice: run.account("duplicates"),
            out_of_order: run.account("out_of_order"),
            lag_ms: run.time("drumfire.loop_lag", "p99").unwrap_or(f64::NAN),
            late_pings: run.counter("drumfire.heartbeats.late"),
            closed_by_dna: closed.iter().map(|(_, count)| count).sum(),
            closed,
            dropped_frames: sample(&said.metrics, "dna_frames_dropped_total").unwrap_or(0),
            most_memory: said.most_memory,
            doubt: run.doubts(&usage),
        })
    }

    pub(super) fn line(&self) -> String {
        format!(
            "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, {} heard, missing {:.0}, twice {:.0}, out of order {:.0}, closed {}, {:.0} MB{}",
            self.p50_ms,
            self.p99_ms,
            self.p999_ms,
            thousands(self.heard),
            self.missing,
            self.twice,
            self.out_of_order,
            self.closed_text(),
            self.most_memory as f64 / 1e6,
            self.doubt.as_ref().map(|why| format!("; {why}")).unwrap_or_default()
        )
    }

    fn closed_text(&self) -> String {
        if self.closed.is_empty() {
            return "none".to_owned();
        }
        let one = |(reason, count): &(String, f64)| format!("{} {reason}", thousands(*count));
        self.closed.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn json(&self, what: &str, round: usize) -> Value {
        json!({
            "what": what, "round": round + 1, "p50_ms": self.p50_ms, "p99_ms": self.p99_ms, "p999_ms": self.p999_ms, "drumfire_lag_p99_ms": self.lag_ms,
            "heard": self.heard, "missing": self.missing, "twice": self.twice, "out_of_order": self.out_of_order, "late_heartbeats": self.late_pings,
            "closed": self.closed_text(), "frames_dropped": self.dropped_frames, "memory_bytes": self.most_memory,
            "load_side_doubted": self.doubt,
        })
    }
}

/// Connections that `dna` closed, by reason.
fn closed(metrics: &str) -> Vec<(String, f64)> {
    let line = |line: &str| {
        let (reason, count) = line.strip_prefix("dna_closed_total{reason=\"")?.split_once("\"} ")?;
        let count = count.parse::<f64>().ok()?;
        (reason != "client_close" && count > 0.0).then(|| (reason.to_owned(), count))
    };
    metrics.lines().filter_map(line).collect()
}

/// All runs of one kind.
#[derive(Default)]
pub(super) struct Row {
    pub(super) runs: Vec<Measured>,
}

impl Row {
    pub(super) fn figure(&self, of: impl Fn(&Measured) -> f64) -> Figure {
        let valid = |run: &Measured| run.doubt.is_none().then(|| of(run));
        Figure { rounds: self.runs.iter().map(valid).collect() }
    }
}

/// The rows of a table by their names.
#[derive(Default)]
pub(super) struct Rows {
    rows: Vec<(String, Row)>,
}

impl Rows {
    /// Rows stand in the order of their first runs.
    pub(super) fn add(&mut self, name: &str, run: Measured) {
        match self.rows.iter_mut().find(|(other, _)| other == name) {
            Some((_, row)) => row.runs.push(run),
            None => self.rows.push((name.to_owned(), Row { runs: vec![run] })),
        }
    }

    /// An empty one where nothing ran.
    pub(super) fn figure(&self, name: &str, of: impl Fn(&Measured) -> f64) -> Figure {
        let row = self.rows.iter().find(|(other, _)| other == name);
        row.map(|(_, row)| row.figure(of)).unwrap_or_default()
    }

    pub(super) fn sum(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        self.rows.iter().flat_map(|(_, row)| &row.runs).map(of).sum()
    }

    /// Whatever the load side's own time: a message is heard once and in its turn, or it is not.
    pub(super) fn none_lost(&self, whose: &str) -> Goal {
        let lost = self.sum(|run| run.missing + run.twice + run.out_of_order);
        none(&format!("missing, twice or out of order {whose}"), lost)
    }

    /// `what`: what tells the rows apart.
    pub(super) fn table(&self, caption: &str, what: &str) -> Table {
        let last =
            |row: &Row, of: fn(&Measured) -> String| row.runs.iter().last().map(of).unwrap_or_default();
        Table {
            caption: caption.to_owned(),
            columns: [
                what,
                "p50, ms",
                "p99, ms",
                "rounds",
                "p99.9, ms",
                "drumfire late, p99, ms",
                "heard",
                "missing",
                "twice",
                "out of order",
                "late heartbeats",
                "closed by `dna`, last round",
                "frames dropped, last round",
                "memory, MB",
            ]
            .map(str::to_owned)
            .to_vec(),
            rows: self
                .rows
                .iter()
                .map(|(name, row)| {
                    let sum = |of: fn(&Measured) -> f64| thousands(row.runs.iter().map(of).sum());
                    vec![
                        name.clone(),
                        row.figure(|run| run.p50_ms).text(2),
                        row.figure(|run| run.p99_ms).text(2),
                        row.figure(|run| run.p99_ms).rounds_text(1),
                        row.figure(|run| run.p999_ms).text(1),
                        row.figure(|run| run.lag_ms).text(1),
                        sum(|run| run.heard),
                        sum(|run| run.missing),
                        sum(|run| run.twice),
                        sum(|run| run.out_of_order),
                        sum(|run| run.late_pings),
                        last(row, Measured::closed_text),
                        last(row, |run| thousands(run.dropped_frames as f64)),
                        row.runs
                            .iter()
                            .map(|run| run.most_memory)
                            .max()
                            .map_or_else(String::new, |bytes| format!("{:.0}", bytes as f64 / 1e6)),
                    ]
                })
                .collect(),
        }
    }

    /// Why rounds of it do not count.
    pub(super) fn notes(&self, what: &str) -> Vec<String> {
        let mut notes = Vec::new();
        for (name, row) in &self.rows {
            for (round, run) in row.runs.iter().enumerate() {
                if let Some(doubt) = &run.doubt {
                    notes.push(format!("{what}: {name}, round {}: {doubt}", round + 1));
                }
            }
        }
        notes
    }
}

pub(super) fn none(what: &str, measured: f64) -> Goal {
    Goal { what: what.to_owned(), at: Bound::Most(0.0), measured: Some(measured), unit: "", decimals: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_read_by_reason_without_those_who_left() {
        let metrics = "# TYPE dna_closed counter\ndna_closed_total{reason=\"client_close\"} 12\n\
            dna_closed_total{reason=\"outbox_age\"} 997\ndna_closed_total{reason=\"ping_timeout\"} 0\n\
            dna_frames_dropped_total 5\n";
        assert_eq!(closed(metrics), [("outbox_age".to_owned(), 997.0)]);
        assert_eq!(sample(metrics, "dna_frames_dropped_total"), Some(5));
        assert_eq!(sample(metrics, "dna_absent"), None);
    }
}
