//! Flat or not, missing or not: what a soak shows.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::round::Told;
use super::watch::{Process, Sample};

/// Memory is flat when the line through the second half rises by less than this over that half: whichever is more.
const MOST_RISE_BYTES: f64 = (8 << 20) as f64;
const MOST_RISE_SHARE: f64 = 0.05;
/// drumfire keeps what it measured, a little for each ten seconds.
const MOST_RISE_OF_DRUMFIRE_BYTES: f64 = (16 << 20) as f64;
/// The same for open files, beyond what the number of connections explains.
const MOST_FILES: f64 = 32.0;

/// A straight line through the second half of a soak.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    pub(crate) mean: f64,
    /// Of the line, from the half's beginning to its end.
    pub(crate) rise: f64,
    pub(crate) per_hour: f64,
}

impl Fit {
    /// Least squares; points are (seconds, value).
    fn of(points: &[(f64, f64)]) -> Self {
        let count = points.len().max(1) as f64;
        let (mean_x, mean) =
            points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
        let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), (x, y)| {
            (over + (x - mean_x) * (y - mean), under + (x - mean_x).powi(2))
        });
        let slope = if under > 0.0 { over / under } else { 0.0 };
        let span = match (points.first(), points.last()) {
            (Some(first), Some(last)) => last.0 - first.0,
            _ => 0.0,
        };
        Self { mean, rise: slope * span, per_hour: slope * 3600.0 }
    }
}

/// One claim, whether it held, and with which figures.
#[derive(Debug, Clone)]
struct Claim {
    what: &'static str,
    held: bool,
    figures: String,
}

pub(crate) struct Verdict {
    claims: Vec<Claim>,
    /// Said, not judged.
    notes: Vec<String>,
    fits: Value,
}

impl Verdict {
    pub(crate) fn of(told: &Told, rate: u64) -> Self {
        let half = second_half(&told.samples);
        let fit = |what: fn(&Sample) -> f64| {
            let points: Vec<_> = half.iter().map(|sample| (sample.at.as_secs_f64(), what(sample))).collect();
            Fit::of(&points)
        };
        let dna = fit(|sample| sample.dna.rss_bytes as f64);
        let anonymous = fit(|sample| sample.dna.anonymous_bytes as f64);
        let drumfire = fit(|sample| sample.drumfire.rss_bytes as f64);
        let files = fit(|sample| sample.dna.open_files as f64 - sample.connections as f64);
        let threads = |process: fn(&Sample) -> Process| half.iter().map(move |s| process(s).threads).max();
        let flat = |fit: Fit, most: f64| fit.rise < most.max(fit.mean * MOST_RISE_SHARE);
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let memory = |fit: Fit| {
            format!(
                "{:.1} MiB in the mean of the second half, {:+.2} MiB over it, {:+.2} MiB an hour",
                mib(fit.mean),
                mib(fit.rise),
                mib(fit.per_hour)
            )
        };
        let account = |name: &str| told.delivery[name].as_u64();
        let count = |name: &str| account(name).unwrap_or(0);
        let heard = format!(
            "{} messages, {} deliveries expected, {} heard",
            count("messages"),
            count("expected"),
            count("heard")
        );
        let enough = half.len() >= 3;
        // Messages nobody was to hear show nothing.
        let judged = count("expected") > 0;
        let claims = vec![
            Claim {
                what: "dna's memory is flat",
                held: enough && flat(dna, MOST_RISE_BYTES),
                figures: memory(dna),
            },
            Claim {
                what: "so is its heap",
                held: enough && flat(anonymous, MOST_RISE_BYTES),
                figures: memory(anonymous),
            },
            Claim {
                what: "drumfire's memory is flat",
                held: enough && flat(drumfire, MOST_RISE_OF_DRUMFIRE_BYTES),
                figures: memory(drumfire),
            },
            Claim {
                what: "open files are flat",
                held: enough && files.rise.abs() < MOST_FILES,
                figures: format!(
                    "{:.1} beside the connections, {:+.1} over the half",
                    files.mean, files.rise
                ),
            },
            Claim {
                what: "nothing is missing",
                held: judged && account("missing") == Some(0),
                figures: format!("{} missing; {heard}", count("missing")),
            },
            Claim {
                what: "nothing came twice",
                held: judged && account("duplicates") == Some(0) && account("late") == Some(0),
                figures: format!("{} twice, {} after the deadline", count("duplicates"), count("late")),
            },
            Claim {
                what: "nothing came uncalled or out of order",
                held: judged && account("unexpected") == Some(0) && account("out_of_order") == Some(0),
                figures: format!("{} uncalled, {} out of order", count("unexpected"), count("out_of_order")),
            },
            Claim {
                what: "nothing failed",
                held: told.errors.is_empty(),
                figures: told.errors.first().cloned().unwrap_or_else(|| "no error".to_owned()),
            },
        ];
        let mut notes = vec![
            format!("{rate} messages a second; p99 of all deliveries {:.1} ms", told.p99_ms),
            format!("dna had {} threads", threads(|sample| sample.dna).unwrap_or(0)),
            format!(
                "memory is flat when the line through the second half rises by less than {:.0} MiB ({:.0} for drumfire, which keeps what it measured) or {:.0} % over it",
                mib(MOST_RISE_BYTES),
                mib(MOST_RISE_OF_DRUMFIRE_BYTES),
                MOST_RISE_SHARE * 100.0
            ),
        ];
        if !told.valid {
            notes.push("drumfire was at its limit at times: its latencies are not to be believed".to_owned());
        }
        if told.interrupted {
            notes.push("ended before its time; judged is what ran".to_owned());
        }
        if told.unanswered > 0 {
            notes.push(format!(
                "dna did not say its figures {} times; those looks are left out",
                told.unanswered
            ));
        }
        let fits = json!({
            "dna_rss": fit_json(dna), "dna_anonymous": fit_json(anonymous),
            "drumfire_rss": fit_json(drumfire), "files_beside_connections": fit_json(files),
        });
        Self { claims, notes, fits }
    }

    pub(crate) fn held(&self) -> bool {
        self.claims.iter().all(|claim| claim.held)
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for Claim { what, held, figures } in &self.claims {
            let _ = writeln!(text, "{:<7} {what}: {figures}", if *held { "ok" } else { "FAILED" });
        }
        for note in &self.notes {
            let _ = writeln!(text, "        {note}");
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let claims: Vec<_> = self
            .claims
            .iter()
            .map(|claim| json!({ "what": claim.what, "held": claim.held, "figures": claim.figures }))
            .collect();
        json!({ "held": self.held(), "claims": claims, "notes": self.notes, "second_half": self.fits })
    }
}

fn fit_json(fit: Fit) -> Value {
    json!({ "mean": fit.mean, "rise": fit.rise, "per_hour": fit.per_hour })
}

fn second_half(samples: &[Sample]) -> &[Sample] {
    let Some(last) = samples.last() else { return samples };
    let from = samples.iter().position(|sample| sample.at * 2 >= last.at).unwrap_or(0);
    &samples[from..]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A soak of an hour in which dna's memory rises by so many MiB an hour after a warm-up.
    fn told(mib_per_hour: u64, delivery: Value) -> Told {
        let sample = |minute: u64| {
            let rss_bytes = (100 + minute.min(20) * 5 + mib_per_hour * minute / 60) << 20;
            let dna =
                Process { rss_bytes, anonymous_bytes: rss_bytes, threads: 8, open_files: 2_050 + minute % 3 };
            let at = Duration::from_secs(minute * 60);
            Sample {
                at,
                dna,
                drumfire: Process { rss_bytes: 1 << 26, ..dna },
                connections: 2_000 + minute % 3,
            }
        };
        Told {
            minutes: Vec::new(),
            samples: (0..=60).map(sample).collect(),
            delivery,
            valid: true,
            errors: Vec::new(),
            p99_ms: 3.0,
            interrupted: false,
            unanswered: 0,
        }
    }

    fn account(missing: u64, duplicates: u64) -> Value {
        json!({ "messages": 10, "expected": 90, "heard": 90, "missing": missing, "duplicates": duplicates,
                "late": 0, "unexpected": 0, "out_of_order": 0 })
    }

    #[test]
    fn growth_gaps_and_copies_fail_and_a_warm_up_does_not() {
        let rows = [
            (0, account(0, 0), true),
            (10, account(0, 0), true),
            (60, account(0, 0), false),
            (0, account(1, 0), false),
            (0, account(0, 1), false),
            (
                0,
                json!({ "messages": 10, "expected": 0, "heard": 0, "missing": 0, "duplicates": 0, "late": 0,
                        "unexpected": 0, "out_of_order": 0 }),
                false,
            ),
            (0, Value::Null, false),
        ];
        for (growth, delivery, held) in rows {
            let verdict = Verdict::of(&told(growth, delivery), 100);
            assert_eq!(verdict.held(), held, "{growth} MiB an hour: {}", verdict.text());
        }
    }

    #[test]
    fn the_line_is_the_least_squares_one() {
        let fit = Fit::of(&[(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)]);
        assert!((fit.mean - 2.0).abs() < 1e-9 && (fit.rise - 2.0).abs() < 1e-9, "{fit:?}");
        assert!((fit.per_hour - 360.0).abs() < 1e-9, "{fit:?}");
    }
}
