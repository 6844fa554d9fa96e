//! The six terms of the journal this tool grew from, each explained in one line with this run's figure.

use super::loaded::{Loaded, Origin};
use super::story;
use super::units::{figure, rate, thousands};

pub(crate) struct Term {
    pub(crate) name: &'static str,
    pub(crate) figure: String,
    pub(crate) meaning: &'static str,
}

pub(crate) fn terms(loaded: &Loaded) -> Vec<Term> {
    let total = &loaded.total;
    let (asked, started, requests, completed) = story::rates(loaded);
    let latency = total.answered.as_ref().map_or_else(
        || "n/a: no request was answered".to_owned(),
        |s| {
            let mean = s.mean.map_or_else(String::new, |mean| format!("mean {} · ", figure(mean)));
            format!(
                "min {} · {mean}max {} · p95 {} · p99 {} ms",
                figure(s.min),
                figure(s.max),
                figure(s.p95),
                figure(s.p99)
            )
        },
    );
    let users = loaded.peak_users().map_or_else(
        || "n/a: not in this file".to_owned(),
        |peak| {
            let listeners = loaded.run.as_ref().map_or(0, |r| r.meta.listeners);
            if listeners == 0 {
                format!("{} at most", thousands(peak))
            } else {
                format!("{} at most, beside {} listeners", thousands(peak), thousands(listeners as u64))
            }
        },
    );
    let list = |pairs: Vec<(&str, u64)>, none: &str| {
        if pairs.is_empty() {
            return none.to_owned();
        }
        let more = pairs.len().saturating_sub(6);
        let mut parts: Vec<_> =
            pairs.iter().take(6).map(|(name, n)| format!("{name}: {}", thousands(*n))).collect();
        if more > 0 {
            parts.push(format!("and {more} more"));
        }
        parts.join(" · ")
    };
    let codes =
        total.codes.iter().filter(|(c, _)| c.as_str() != "0").map(|(c, n)| (c.as_str(), *n)).collect();
    let mut errors: Vec<_> = total.errors().collect();
    errors.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    vec![
        Term {
            name: "TPS",
            figure: format!("{} scenarios/s", rate(completed)),
            meaning: "Transactions per second: here a transaction is one scenario walked to its end.",
        },
        Term {
            name: "RPS",
            figure: match asked {
                Some(asked) => {
                    format!(
                        "asked {} users/s · achieved {} users/s, {} requests/s",
                        rate(asked),
                        rate(started),
                        rate(requests)
                    )
                }
                None => format!("{} users/s, {} requests/s", rate(started), rate(requests)),
            },
            meaning: "Requests per second: HTTP requests and socket messages sent, beside what the script asked for.",
        },
        Term {
            name: "Latency at intervals",
            figure: latency,
            meaning: if loaded.origin == Origin::Drumfire {
                "From sending a request to its answer. Messages nobody answered have no latency and are not in it."
            } else {
                "From sending a request to its answer, as the file gives it."
            },
        },
        Term {
            name: "Concurrent users",
            figure: users,
            meaning: "Users in the middle of their scenario at the same moment.",
        },
        Term {
            name: "HTTP codes",
            figure: list(codes, "none: no HTTP answer"),
            meaning: "How often each status code was answered. Socket messages have none.",
        },
        Term {
            name: "Error codes",
            figure: list(errors, "none"),
            meaning: "Failures by name. Step, cause and a sample of each stand in the errors table.",
        },
    ]
}
