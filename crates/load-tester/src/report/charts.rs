//! Which charts a report has, from which figures. Each is drawn only where it has something to show.

use std::collections::BTreeSet;

use super::loaded::{ANSWERED, Loaded, Origin, Slice, Summary};
use super::story;
use super::svg::{Chart, Mark, Series, Span};
use super::units::{count, figure, percent, rate, sum_of, thousands};
use crate::outcome::{PhaseInfo, counters, names};

/// Kinds drawn apart in one chart; the rest together.
const KIND_COLOURS: [u8; 5] = [3, 2, 4, 7, 8];

pub(crate) fn spans(slices: &[Slice]) -> Vec<Span> {
    slices.iter().map(|s| Span { from_s: s.start_s, to_s: s.start_s + s.length_s }).collect()
}

/// Events a second of a counter.
fn per_second(slices: &[Slice], counter: impl Fn(&Slice) -> u64) -> Vec<Option<f64>> {
    slices.iter().map(|s| (s.length_s > 0.0).then(|| counter(s) as f64 / s.length_s)).collect()
}

pub(crate) fn series(
    name: &str,
    colour: u8,
    mark: Mark,
    values: Vec<Option<f64>>,
    overall: String,
) -> Series {
    Series { name: name.to_owned(), colour, mark, values, floor: Vec::new(), overall }
}

// ------------------------------------------------------------------------------------------------------------- load

pub(crate) fn arrivals(loaded: &Loaded) -> Option<Chart> {
    let slices = &loaded.slices;
    let total = &loaded.total;
    let mut all = vec![series(
        "started",
        1,
        Mark::Bars,
        per_second(slices, Slice::launched),
        count(total.launched(), "user", "users"),
    )];
    if total.skipped() > 0 {
        all.push(series(
            "skipped",
            3,
            Mark::Line,
            per_second(slices, Slice::skipped),
            thousands(total.skipped()),
        ));
    }
    if let Some(planned) = loaded.planned() {
        let values = spans(slices)
            .iter()
            .map(|span| {
                // Of a closed phase nobody knows who is to come when.
                let closed = |p: &&PhaseInfo| {
                    p.is_closed() && p.start_s < span.to_s && span.from_s < p.start_s + p.duration_s
                };
                let planned = planned_between(&loaded.phases, span.from_s, span.to_s);
                (!loaded.phases.iter().any(|p| closed(&p)))
                    .then_some(planned / (span.to_s - span.from_s).max(1e-9))
            })
            .collect();
        all.push(series("planned", 8, Mark::Step, values, thousands(planned)));
    }
    drawn(Chart::new(
        "Arrivals",
        "Users the plan asked for, and users started.",
        "users/s",
        spans(slices),
        all,
    ))
}

fn drawn(chart: Chart) -> Option<Chart> {
    (!chart.is_empty()).then_some(chart)
}

/// Users due in a stretch of time, from the load of each phase in words.
fn planned_between(phases: &[PhaseInfo], from_s: f64, to_s: f64) -> f64 {
    phases
        .iter()
        .map(|phase| {
            let (a, b) = ((from_s - phase.start_s).max(0.0), (to_s - phase.start_s).min(phase.duration_s));
            if b <= a || phase.duration_s <= 0.0 || phase.planned == 0 {
                return 0.0;
            }
            let ramp = phase.load.trim_end_matches("/s").split_once("->").and_then(|(from, to)| {
                let number = |text: &str| text.trim().trim_end_matches("/s").parse::<f64>().ok();
                Some((number(from)?, number(to)?))
            });
            match ramp {
                Some((from, to)) => {
                    let slope = (to - from) / phase.duration_s;
                    from * (b - a) + slope * (b * b - a * a) / 2.0
                }
                None => phase.planned as f64 / phase.duration_s * (b - a),
            }
        })
        .sum()
}

/// Users and sockets alive.
pub(crate) fn users(loaded: &Loaded) -> Option<Chart> {
    let slices = &loaded.slices;
    let values =
        |of: fn(&Slice) -> Option<u64>| slices.iter().map(|s| of(s).map(|n| n as f64)).collect::<Vec<_>>();
    let users = values(|s| s.concurrent_users);
    let connections = values(|s| s.connections);
    users.iter().flatten().next()?;
    let most = |values: &[Option<f64>]| {
        format!("{} at most", thousands(values.iter().flatten().copied().fold(0.0, f64::max) as u64))
    };
    let mut all = Vec::new();
    if connections.iter().flatten().any(|n| *n > 0.0) {
        all.push(series("connections", 4, Mark::Line, connections.clone(), most(&connections)));
    }
    all.push(series("users", 1, Mark::Line, users.clone(), most(&users)));
    drawn(Chart::new(
        "Concurrent users and connections",
        "Alive at the end of each step of time; connections are the sockets of users and listeners.",
        "open",
        spans(slices),
        all,
    ))
}

pub(crate) fn throughput(loaded: &Loaded) -> Option<Chart> {
    let (_, _, requests, completed) = story::rates(loaded);
    let slices = &loaded.slices;
    let all = vec![
        series(
            "requests",
            8,
            Mark::Line,
            per_second(slices, |s| s.requests_started),
            format!("{}/s", rate(requests)),
        ),
        series(
            "completed",
            5,
            Mark::Line,
            per_second(slices, Slice::completed),
            format!("{}/s", rate(completed)),
        ),
    ];
    drawn(Chart::new(
        "Requests and completed scenarios",
        "HTTP requests and socket messages sent (RPS), and scenarios walked to their end (TPS).",
        "per second",
        spans(slices),
        all,
    ))
}

pub(crate) fn lateness(loaded: &Loaded) -> Option<Chart> {
    tester_times(
        loaded,
        "Start lateness of the tester",
        "How long after the planned instant users were started.",
        names::START_LATENESS,
    )
}

pub(crate) fn loop_lag(loaded: &Loaded) -> Option<Chart> {
    tester_times(
        loaded,
        "Loop lag of the tester",
        "How late its threads came to ticks of their own: whatever they do may have been as late.",
        names::LOOP_LAG,
    )
}

fn tester_times(loaded: &Loaded, title: &str, note: &str, name: &str) -> Option<Chart> {
    let total = loaded.total.summary(name)?;
    let values =
        |pick: fn(&Summary) -> f64| loaded.slices.iter().map(|s| s.summary(name).map(pick)).collect();
    drawn(Chart::new(
        title,
        note,
        "ms",
        spans(&loaded.slices),
        vec![
            series("p99", 3, Mark::Line, values(|s| s.p99), figure(total.p99)),
            series("p50", 1, Mark::Line, values(|s| s.median), figure(total.median)),
        ],
    ))
}

// ------------------------------------------------------------------------------------------------------------ times

/// A distribution over time: bands up to p95 and p99, the median as a line, the maximum faintly.
pub(crate) fn percentiles<'a>(
    slices: &'a [Slice],
    title: &str,
    note: &str,
    colour: u8,
    of: impl Fn(&'a Slice) -> Option<&'a Summary>,
    total: Option<&Summary>,
) -> Option<Chart> {
    let total = total?;
    let values = |pick: fn(&Summary) -> f64| slices.iter().map(|s| of(s).map(pick)).collect::<Vec<_>>();
    let (p50, p95, p99) = (values(|s| s.median), values(|s| s.p95), values(|s| s.p99));
    let band = |name: &str, values: &[Option<f64>], floor: &[Option<f64>], overall: f64| Series {
        floor: floor.to_vec(),
        ..series(name, colour, Mark::Band, values.to_vec(), figure(overall))
    };
    let chart = Chart::new(
        title,
        note,
        "ms",
        spans(slices),
        vec![
            series("max", 6, Mark::Faint, values(|s| s.max), figure(total.max)),
            band("p99", &p99, &p95, total.p99),
            band("p95", &p95, &p50, total.p95),
            series("p50", colour, Mark::Line, p50, figure(total.median)),
        ],
    );
    drawn(Chart { may_be_log: true, tall: true, ..chart })
}

/// Response time from due and service time, on one scale, so that the eye sees what waiting adds.
pub(crate) fn responses(loaded: &Loaded) -> Vec<Chart> {
    let slices = &loaded.slices;
    let due = percentiles(
        slices,
        "Response time, from when it was due",
        "From the instant a user was to start to the first answer it got, so waiting in line counts.",
        1,
        |s| s.summary(names::RESPONSE_FROM_DUE),
        loaded.total.summary(names::RESPONSE_FROM_DUE),
    );
    let service = percentiles(
        slices,
        "Latency, from sending",
        match loaded.origin {
            Origin::Drumfire => {
                "Service time: from sending each request to its answer, answered requests only."
            }
            _ => "From sending each request to its answer, as the file gives it.",
        },
        2,
        |s| s.answered.as_ref(),
        loaded.total.answered.as_ref(),
    );
    let mut both: Vec<Chart> = due.into_iter().chain(service).collect();
    let values = || both.iter().flat_map(|c| &c.series).flat_map(|s| s.values.iter().flatten().copied());
    let highest = values().fold(0.0, f64::max);
    let lowest = values().filter(|v| *v > 0.0).fold(f64::MAX, f64::min);
    if both.len() == 2 {
        for chart in &mut both {
            chart.at_least = Some(highest);
            chart.down_to = Some(lowest);
        }
    }
    both
}

/// How often which time was met when: what percentiles hide, such as two groups of answers.
pub(crate) fn heat(
    loaded: &Loaded,
    title: &str,
    note: &str,
    name: &'static str,
    of: impl Fn(&Slice) -> Option<&Summary>,
) -> Option<Chart> {
    let heat: Vec<Vec<u32>> =
        loaded.slices.iter().map(|s| s.spreads.get(name).cloned().unwrap_or_default()).collect();
    if heat.iter().filter(|column| !column.is_empty()).count() < 2 {
        return None;
    }
    let total = of(&loaded.total);
    let values =
        |pick: fn(&Summary) -> f64| loaded.slices.iter().map(|s| of(s).map(pick)).collect::<Vec<_>>();
    let overall = |pick: fn(&Summary) -> f64| total.map_or_else(String::new, |s| figure(pick(s)));
    let chart = Chart::new(
        title,
        note,
        "ms",
        spans(&loaded.slices),
        vec![
            series("p99", 3, Mark::Line, values(|s| s.p99), overall(|s| s.p99)),
            series("p50", 2, Mark::Line, values(|s| s.median), overall(|s| s.median)),
        ],
    );
    drawn(Chart { heat: Some(heat), tall: true, ..chart })
}

pub(crate) fn response_heat(loaded: &Loaded) -> Option<Chart> {
    heat(
        loaded,
        "Where the answers fell, from when they were due",
        "Each cell is a step of time and a range of response times: the darker, the more answers.",
        names::RESPONSE_FROM_DUE,
        |s| s.summary(names::RESPONSE_FROM_DUE),
    )
    .or_else(|| {
        heat(
            loaded,
            "Where the answers fell, from sending",
            "Each cell is a step of time and a range of service times: the darker, the more answers.",
            ANSWERED,
            |s| s.answered.as_ref(),
        )
    })
}

// ----------------------------------------------------------------------------------------------------------- errors

/// Stacked by kind, the most frequent first, the rest together.
fn by_kind(
    loaded: &Loaded,
    title: &str,
    note: &str,
    unit: &'static str,
    prefix: &str,
    colour_of: impl Fn(usize, &str) -> u8,
) -> Option<Chart> {
    let mut kinds: Vec<(&str, u64)> = loaded
        .total
        .counters
        .iter()
        .filter_map(|(name, n)| Some((name.strip_prefix(prefix)?, *n)))
        .filter(|(_, n)| *n > 0)
        .collect();
    kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    if kinds.is_empty() {
        return None;
    }
    let most = KIND_COLOURS.len();
    let mut all: Vec<Series> = kinds
        .iter()
        .take(most)
        .enumerate()
        .map(|(i, (name, n))| {
            let counter = format!("{prefix}{name}");
            series(
                name,
                colour_of(i, name),
                Mark::Bars,
                per_second(&loaded.slices, |s| s.counter(&counter)),
                thousands(*n),
            )
        })
        .collect();
    if kinds.len() > most {
        let shown: BTreeSet<&str> = kinds[..most].iter().map(|(name, _)| *name).collect();
        let rest = |s: &Slice| {
            sum_of(
                s.counters
                    .iter()
                    .filter(|(name, _)| name.strip_prefix(prefix).is_some_and(|kind| !shown.contains(kind)))
                    .map(|(_, n)| *n),
            )
        };
        let n = sum_of(kinds[most..].iter().map(|(_, n)| *n));
        all.push(series("others", 6, Mark::Bars, per_second(&loaded.slices, rest), thousands(n)));
    }
    let chart = Chart::new(title, note, unit, spans(&loaded.slices), all);
    drawn(Chart { stacked: true, ..chart })
}

pub(crate) fn errors(loaded: &Loaded) -> Option<Chart> {
    by_kind(loaded, "Errors by kind", "Failures a second, stacked.", "errors/s", "errors.", |i, _| {
        KIND_COLOURS[i]
    })
}

/// Drawn once there is something else than success.
pub(crate) fn status_codes(loaded: &Loaded) -> Option<Chart> {
    let codes = loaded.total.counters.keys().filter_map(|name| name.strip_prefix("http.codes."));
    if codes.filter(|code| !code.starts_with('0')).count() < 2 {
        return None;
    }
    by_kind(
        loaded,
        "Status codes",
        "HTTP answers a second by their code, stacked.",
        "answers/s",
        "http.codes.",
        |i, code| match (code.as_bytes().first(), i) {
            (Some(b'2'), 0) => 5,
            (Some(b'2'), _) => 1,
            (Some(b'3'), _) => 8,
            (Some(b'4'), _) => 2,
            (Some(b'5'), 0 | 1) => 3,
            (_, i) => KIND_COLOURS[i],
        },
    )
}

// --------------------------------------------------------------------------------------------------------- delivery

pub(crate) fn delivery(loaded: &Loaded) -> Option<Chart> {
    percentiles(
        &loaded.slices,
        "Delivery, every hearer",
        "From sending a message to each listener hearing it.",
        4,
        |s| s.summary(names::DELIVERY),
        loaded.total.summary(names::DELIVERY),
    )
}

pub(crate) fn delivery_heat(loaded: &Loaded) -> Option<Chart> {
    heat(
        loaded,
        "Where the deliveries fell",
        "Each cell is a step of time and a range of delivery times: the darker, the more deliveries.",
        names::DELIVERY,
        |s| s.summary(names::DELIVERY),
    )
}

pub(crate) fn hearers(loaded: &Loaded) -> Option<Chart> {
    let total = loaded.total.summary(names::DELIVERY_LAST)?;
    let overall = |name: &str| loaded.total.summary(name).map_or_else(String::new, |s| figure(s.median));
    let values = |name: &str| loaded.slices.iter().map(|s| s.summary(name).map(|s| s.median)).collect();
    let mut all = vec![
        series("last", 3, Mark::Line, values(names::DELIVERY_LAST), figure(total.median)),
        series("middle", 2, Mark::Line, values(names::DELIVERY_MEDIAN), overall(names::DELIVERY_MEDIAN)),
        series("first", 1, Mark::Line, values(names::DELIVERY_FIRST), overall(names::DELIVERY_FIRST)),
    ];
    if loaded.total.summary(names::DELIVERY_ACK).is_some() {
        all.push(series(
            "acknowledged",
            6,
            Mark::Line,
            values(names::DELIVERY_ACK),
            overall(names::DELIVERY_ACK),
        ));
    }
    let chart = Chart::new(
        "Delivery, first to last hearer",
        "Of a usual (median) message: when its first, its middle and its last hearer had it.",
        "ms",
        spans(&loaded.slices),
        all,
    );
    drawn(Chart { may_be_log: true, tall: true, ..chart })
}

/// By the second a message was sent in; only where something was expected.
pub(crate) fn completeness(loaded: &Loaded) -> Option<Chart> {
    let delivery = loaded.run.as_ref()?.delivery.as_ref()?;
    let expected = delivery.expected.filter(|n| *n > 0)?;
    // That none is missing stands above it, in words.
    if loaded.total.counter(counters::EXPECTED) == 0 || delivery.missing == 0 {
        return None;
    }
    let missing = |s: &Slice| {
        let expected = s.counter(counters::EXPECTED);
        (expected > 0).then(|| s.counter(counters::MISSING).min(expected) as f64 / expected as f64 * 100.0)
    };
    let chart = Chart::new(
        "Missing deliveries",
        "Of the deliveries expected of the messages sent in each step of time: those that never came.",
        "%",
        spans(&loaded.slices),
        vec![series(
            "missing",
            3,
            Mark::Bars,
            loaded.slices.iter().map(missing).collect(),
            percent(delivery.missing, expected),
        )],
    );
    drawn(chart)
}

/// Deliveries a second: expected, heard, and what came wrongly.
pub(crate) fn delivery_rate(loaded: &Loaded) -> Option<Chart> {
    let total = &loaded.total;
    if total.counter(counters::HEARD) == 0 && total.counter(counters::EXPECTED) == 0 {
        return None;
    }
    let mut all = vec![series(
        "heard",
        4,
        Mark::Bars,
        per_second(&loaded.slices, |s| s.counter(counters::HEARD)),
        thousands(total.counter(counters::HEARD)),
    )];
    for (name, counter, colour, mark) in [
        ("expected", counters::EXPECTED, 8, Mark::Step),
        ("late", counters::LATE, 2, Mark::Line),
        ("twice", counters::DUPLICATES, 7, Mark::Line),
        ("uncalled", counters::UNEXPECTED, 3, Mark::Line),
    ] {
        let n = total.counter(counter);
        if n > 0 {
            let values = per_second(&loaded.slices, |s| s.counter(counter));
            all.push(series(name, colour, mark, values, thousands(n)));
        }
    }
    drawn(Chart::new(
        "Deliveries",
        "By the step of time in which the message was sent.",
        "deliveries/s",
        spans(&loaded.slices),
        all,
    ))
}

// ------------------------------------------------------------------------------------------------------- connecting

pub(crate) fn connect_stages(loaded: &Loaded) -> Option<Chart> {
    let stages: Vec<_> = names::CONNECT_STAGES
        .iter()
        .zip([6, 7, 4, 3, 1, 2, 8, 5])
        // Stages nobody went through (name lookup of an address, TLS of plain HTTP) only fill the legend.
        .filter(|(stage, _)| loaded.total.summary(stage).is_some_and(|s| s.max > 0.0))
        .map(|(stage, colour)| {
            let values = loaded.slices.iter().map(|s| s.summary(stage).and_then(|s| s.mean)).collect();
            let overall = loaded.total.summary(stage).and_then(|s| s.mean).map_or_else(String::new, figure);
            series(stage.trim_start_matches("socketio.connect."), colour, Mark::Bars, values, overall)
        })
        .collect();
    let chart = Chart::new(
        "Connecting, stage by stage",
        "Mean time in each stage of a socket connection, stacked.",
        "ms",
        spans(&loaded.slices),
        stages,
    );
    drawn(Chart { stacked: true, ..chart })
}

pub(crate) fn connect_times(loaded: &Loaded) -> Vec<Chart> {
    let of = |title, note, colour, name: &'static str| {
        percentiles(&loaded.slices, title, note, colour, move |s| s.summary(name), loaded.total.summary(name))
    };
    [
        of("Whole connects", "All stages of a user's socket connection together.", 8, names::CONNECT_TOTAL),
        of(
            "Coming back",
            "From the loss of a connection until its owner stands in its place again.",
            7,
            names::RECONNECT,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Connections lost and brought back, and how many are away: a storm's recovery curve.
pub(crate) fn storms(loaded: &Loaded) -> Option<Chart> {
    let (lost, back) =
        (loaded.total.counter(counters::CONNECTIONS_LOST), loaded.total.counter(counters::CONNECTIONS_BACK));
    if lost == 0 {
        return None;
    }
    let mut away = 0_u64;
    let mut most_away = 0;
    let away = loaded
        .slices
        .iter()
        .map(|s| {
            away = (away + s.counter(counters::CONNECTIONS_LOST))
                .saturating_sub(s.counter(counters::CONNECTIONS_BACK));
            most_away = most_away.max(away);
            Some(away as f64)
        })
        .collect();
    let chart = Chart::new(
        "Connections lost and brought back",
        "Away: lost and not yet back at the end of each step of time, which is the recovery curve.",
        "connections",
        spans(&loaded.slices),
        vec![
            series("away", 7, Mark::Bars, away, format!("{} at most", thousands(most_away))),
            series(
                "lost/s",
                3,
                Mark::Line,
                per_second(&loaded.slices, |s| s.counter(counters::CONNECTIONS_LOST)),
                format!("{} in all", thousands(lost)),
            ),
            series(
                "back/s",
                5,
                Mark::Line,
                per_second(&loaded.slices, |s| s.counter(counters::CONNECTIONS_BACK)),
                format!("{} in all", thousands(back)),
            ),
        ],
    );
    drawn(chart)
}

pub(crate) fn heartbeats(loaded: &Loaded) -> Option<Chart> {
    let late = loaded.total.counter(counters::HEARTBEATS_LATE);
    (late > 0).then(|| {
        Chart::new(
            "Late heartbeats",
            "Pings of the server that came later than its own interval and timeout allow.",
            "pings/s",
            spans(&loaded.slices),
            vec![series(
                "late",
                3,
                Mark::Bars,
                per_second(&loaded.slices, |s| s.counter(counters::HEARTBEATS_LATE)),
                thousands(late),
            )],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(start_s: f64, duration_s: f64, load: &str, planned: u64) -> PhaseInfo {
        PhaseInfo { name: String::new(), start_s, duration_s, load: load.to_owned(), planned }
    }

    #[test]
    fn what_was_planned_follows_the_words_of_a_phase() {
        let phases = [
            phase(0.0, 10.0, "10 -> 30/s", 200),
            phase(10.0, 5.0, "pause", 0),
            phase(15.0, 10.0, "20 users", 20),
        ];
        for (from, to, expected) in [
            (0.0, 1.0, 11.0),
            (9.0, 10.0, 29.0),
            (0.0, 10.0, 200.0),
            (10.0, 15.0, 0.0),
            (14.0, 16.0, 2.0),
            (24.0, 30.0, 2.0),
        ] {
            let planned = planned_between(&phases, from, to);
            assert!((planned - expected).abs() < 1e-9, "{from}..{to}: {planned}");
        }
    }
}
