//! The report's tables.

use super::blocks::{Cell, Column, DataTable, drawing, number, words};
use super::loaded::{ENDPOINTS, Loaded, Slice, Summary};
use super::shapes::{Bar, BarScale, bar, share_bar, spark};
use super::sides::was_used;
use super::story;
use super::units::{figure, instant, latency, percent, sum_of, thousands};
use crate::outcome::{ListenerDelivery, StageUse, names};

/// Rows of one table.
pub(crate) const MOST_ROWS: usize = 200;

fn table(id: &str, title: &str, note: &str, columns: Vec<Column>, rows: Vec<Vec<Cell>>) -> DataTable {
    DataTable {
        id: id.to_owned(),
        title: title.to_owned(),
        note: note.to_owned(),
        columns,
        rows,
        foot: String::new(),
        stacks: false,
    }
}

fn filled(table: DataTable) -> Option<DataTable> {
    (!table.rows.is_empty()).then_some(table)
}

// -------------------------------------------------------------------------------------------------------- endpoints

/// What was asked, one row each, with the course of its p95.
pub(crate) fn endpoints(loaded: &Loaded) -> Option<DataTable> {
    let elapsed = loaded.elapsed_s().max(f64::MIN_POSITIVE);
    let row = |label: &str, name: &str, summary: &Summary| {
        let course: Vec<_> = loaded.slices.iter().map(|s| s.summary(name).map(|s| s.p95)).collect();
        let rate = summary.count.map(|n| n as f64 / elapsed);
        vec![
            Cell::text(label).mood("wrap"),
            summary.count.map_or_else(|| Cell::text("–"), Cell::count),
            Cell::figure(rate),
            Cell::figure(Some(summary.median)),
            Cell::figure(Some(summary.p95)),
            Cell::figure(Some(summary.p99)),
            Cell::figure(summary.p999),
            Cell::figure(Some(summary.max)),
            Cell::drawing(spark(&course, 1)),
        ]
    };
    let mut rows: Vec<_> = loaded
        .total
        .summaries
        .iter()
        .filter_map(|(name, s)| Some(row(name.strip_prefix(ENDPOINTS)?, name, s)))
        .take(MOST_ROWS)
        .collect();
    for (name, label) in [
        (names::HTTP_RESPONSE_TIME, "all HTTP requests"),
        (names::SOCKETIO_RESPONSE_TIME, "all answered socket messages"),
        ("websocket.response_time", "all answered WebSocket messages"),
    ] {
        rows.extend(loaded.total.summary(name).map(|s| row(label, name, s)));
    }
    let columns = vec![
        words("Endpoint"),
        number("count"),
        number("per s"),
        number("p50"),
        number("p95"),
        number("p99"),
        number("p99.9"),
        number("max"),
        drawing("p95 over time"),
    ];
    let note = "Milliseconds from sending to the answer; what nobody answered has no time and is not here.";
    filled(table("by-endpoint", "", note, columns, rows))
}

// ----------------------------------------------------------------------------------------------------------- errors

pub(crate) fn errors(loaded: &Loaded) -> Option<DataTable> {
    let groups = loaded.run.as_ref().map_or(&[][..], |r| &r.errors);
    if groups.is_empty() {
        let mut errors: Vec<_> = loaded.total.errors().collect();
        errors.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let row = |(name, n): &(&str, u64)| {
            let counter = format!("errors.{name}");
            let course: Vec<_> = loaded.slices.iter().map(|s| Some(s.counter(&counter) as f64)).collect();
            vec![Cell::text(*name).mood("strong"), Cell::count(*n), Cell::drawing(spark(&course, 3))]
        };
        let rows = errors.iter().take(MOST_ROWS).map(row).collect();
        let columns = vec![words("Cause"), number("Count"), drawing("Over time")];
        let mut made = table("error-groups", "", "", columns, rows);
        made.foot = format!("{} in all.", thousands(loaded.total.error_count()));
        return filled(made);
    }
    let rows = groups
        .iter()
        .take(MOST_ROWS)
        .map(|g| {
            // Groups with one code share its counter; its course says when such errors came.
            let counter = format!("errors.{}", g.code);
            let course: Vec<_> = loaded.slices.iter().map(|s| Some(s.counter(&counter) as f64)).collect();
            vec![
                Cell { sample: g.sample.clone(), ..Cell::text(&g.cause).mood("strong") },
                Cell::count(g.count),
                Cell::text(&g.step),
                Cell::text(&g.endpoint).mood("wrap"),
                Cell::sorted(instant(g.first_s), g.first_s),
                Cell::sorted(instant(g.last_s), g.last_s),
                Cell::text(&g.code).mood("wrap"),
                Cell::drawing(spark(&course, 3)),
            ]
        })
        .collect();
    let columns = vec![
        words("Cause"),
        number("Count"),
        words("Step"),
        words("Endpoint"),
        number("First"),
        number("Last"),
        words("Code"),
        drawing("All of that code"),
    ];
    let mut made = table("error-groups", "", "", columns, rows);
    made.stacks = true;
    made.foot = format!("{} in all.", thousands(sum_of(groups.iter().map(|g| g.count))));
    let more = groups.len().saturating_sub(MOST_ROWS);
    if more > 0 {
        made.foot += &format!(" {more} more kinds stand in the result file.");
    }
    filled(made)
}

pub(crate) fn status_codes(loaded: &Loaded) -> Option<DataTable> {
    let codes: Vec<(&str, u64)> = loaded
        .total
        .counters
        .iter()
        .filter_map(|(name, n)| Some((name.strip_prefix("http.codes.")?, *n)))
        .filter(|(code, n)| *n > 0 && *code != "0")
        .collect();
    let all = sum_of(codes.iter().map(|c| c.1));
    let row = |(code, n): &(&str, u64)| {
        let counter = format!("http.codes.{code}");
        let course: Vec<_> = loaded.slices.iter().map(|s| Some(s.counter(&counter) as f64)).collect();
        vec![
            Cell::text(*code),
            Cell::count(*n),
            Cell::sorted(percent(*n, all), *n as f64),
            Cell::drawing(spark(&course, if code.starts_with('2') { 5 } else { 3 })),
        ]
    };
    let rows = codes.iter().take(MOST_ROWS).map(row).collect();
    let columns = vec![words("Status code"), number("Count"), number("Share"), drawing("Over time")];
    filled(table("status-codes", "Status codes", "How often each was answered.", columns, rows))
}

// --------------------------------------------------------------------------------------------------------- delivery

pub(crate) fn delivery_account(loaded: &Loaded) -> Vec<(String, String)> {
    let Some(d) = loaded.run.as_ref().and_then(|r| r.delivery.as_ref()) else { return Vec::new() };
    let mut rows = vec![
        (format!("Messages sent (“{}”)", d.event), thousands(d.messages)),
        ("Deliveries heard".to_owned(), thousands(d.heard)),
    ];
    match (&d.expectation, d.expected) {
        (Some(rule), Some(expected)) => {
            rows.push((format!("Expected ({rule})"), thousands(expected)));
            rows.push((
                "Missing".to_owned(),
                format!("{} ({})", thousands(d.missing), percent(d.missing, expected)),
            ));
            rows.push(("Heard by the wrong listener".to_owned(), thousands(d.unexpected)));
            if d.undecided > 0 {
                rows.push(("Undecided: the listener was moving or away".to_owned(), thousands(d.undecided)));
            }
        }
        _ => rows.push(("Expected".to_owned(), "nothing was said, so nothing is called complete".to_owned())),
    }
    rows.push(("Heard twice".to_owned(), thousands(d.duplicates)));
    if d.late > 0 {
        rows.push(("Heard after the deadline, late or once more".to_owned(), thousands(d.late)));
    }
    rows.push(("Out of order".to_owned(), thousands(d.out_of_order)));
    if d.not_sent > 0 {
        rows.push(("Messages not sent".to_owned(), thousands(d.not_sent)));
    }
    if d.listeners_short > 0 {
        rows.push(("Listeners that missed something".to_owned(), thousands(d.listeners_short)));
    }
    rows
}

/// A message's way: due, sent, acknowledged, first, median and last hearer.
pub(crate) fn waterfall(loaded: &Loaded) -> Option<DataTable> {
    let total = &loaded.total;
    let heard = total.summary(names::DELIVERY)?;
    // Pair by pair, the time from due is that from sending plus the wait before it, so their means differ by its mean.
    let wait = total
        .summary(names::DELIVERY_FROM_DUE)
        .and_then(|due| Some((due.mean? - heard.mean?).max(0.0)))
        .filter(|wait| wait.is_finite());
    let mut steps: Vec<(&str, Bar, u8, String)> = Vec::new();
    if let Some(wait) = wait {
        let bar = Bar { from: 0.0, median: wait, p99: wait };
        steps.push(("due → sent", bar, 6, String::new()));
    }
    for (label, name, colour) in [
        ("sent → acknowledged", names::DELIVERY_ACK, 8),
        ("sent → first hearer", names::DELIVERY_FIRST, 1),
        ("sent → median hearer", names::DELIVERY_MEDIAN, 2),
        ("sent → last hearer", names::DELIVERY_LAST, 3),
        ("sent → every hearer", names::DELIVERY, 4),
        ("due → every hearer", names::DELIVERY_FROM_DUE, 4),
    ] {
        if let Some(s) = total.summary(name) {
            steps.push((label, Bar { from: 0.0, median: s.median, p99: s.p99 }, colour, figure(s.p99)));
        }
    }
    let scale = BarScale::of(&steps.iter().map(|s| s.1).collect::<Vec<_>>());
    let rows = steps
        .into_iter()
        .map(|(label, one, colour, p99)| {
            // Without a distribution there is a mean and nothing else.
            let (median, p99) = if p99.is_empty() {
                (Cell::text(format!("mean {}", figure(one.median))), Cell::text("–"))
            } else {
                (Cell::figure(Some(one.median)), Cell::sorted(p99, one.p99))
            };
            vec![Cell::text(label), Cell::drawing(bar(one, scale, colour)), median, p99]
        })
        .collect();
    let label =
        if scale.log { "solid: half · pale: 99 % · log scale" } else { "solid: half · pale: 99 %" };
    let columns = vec![words("A message's way"), drawing(label), number("median, ms"), number("p99, ms")];
    let mut made = table("waterfall", "", "", columns, rows);
    made.columns[0].sortable = false;
    made.columns[2].sortable = false;
    made.columns[3].sortable = false;
    filled(made)
}

pub(crate) fn classes(loaded: &Loaded) -> Option<DataTable> {
    let delivery = loaded.run.as_ref()?.delivery.as_ref()?;
    let rows = delivery
        .classes
        .iter()
        .take(MOST_ROWS)
        .map(|c| {
            let name = format!("{}{}", names::DELIVERY_CLASS, c.name);
            let times = loaded.total.summary(&name);
            let course: Vec<_> = loaded.slices.iter().map(|s| s.summary(&name).map(|s| s.p99)).collect();
            let complete = c.expected.filter(|n| *n > 0).map_or_else(
                || Cell::text("–"),
                |expected| {
                    let came = expected - c.missing.min(expected);
                    Cell::sorted(percent(came, expected), came as f64 / expected as f64)
                },
            );
            vec![
                Cell::text(&c.name),
                Cell::count(c.listeners),
                Cell::count(c.heard),
                c.expected.map_or_else(|| Cell::text("–"), Cell::count),
                Cell::count(c.missing),
                complete,
                Cell::count(c.duplicates),
                Cell::count(c.late),
                Cell::count(c.unexpected),
                Cell::count(c.out_of_order),
                Cell::figure(times.map(|s| s.median)),
                Cell::figure(times.map(|s| s.p99)),
                Cell::drawing(spark(&course, 4)),
            ]
        })
        .collect();
    let columns = vec![
        words("Class"),
        number("listeners"),
        number("heard"),
        number("expected"),
        number("missing"),
        number("complete"),
        number("twice"),
        number("late"),
        number("uncalled"),
        number("out of order"),
        number("p50, ms"),
        number("p99, ms"),
        drawing("p99 over time"),
    ];
    let note = "Times are from sending to hearing, each pair.";
    let mut made = table("classes", "By class of listener", note, columns, rows);
    let slow: Vec<String> =
        story::slow_classes(delivery).into_iter().map(|name| format!("“{name}”")).collect();
    if !slow.is_empty() {
        made.foot = format!(
            "Slow on purpose: {}. Nothing is expected there, and what was heard there is in no other figure.",
            slow.join(", ")
        );
    }
    filled(made)
}

pub(crate) fn worst(loaded: &Loaded) -> Option<DataTable> {
    let delivery = loaded.run.as_ref()?.delivery.as_ref()?;
    let share_of = |w: &ListenerDelivery| {
        if w.expected > 0 { (w.missing as f64 / w.expected as f64).min(1.0) } else { 0.0 }
    };
    // One in a hundred would hardly be seen beside all.
    let highest = delivery.worst.iter().map(share_of).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let rows: Vec<_> = delivery
        .worst
        .iter()
        .take(MOST_ROWS)
        .map(|w| {
            let share = share_of(w);
            vec![
                Cell::sorted(w.listener.to_string(), f64::from(w.listener)),
                Cell::text(&w.class),
                Cell::count(w.expected),
                Cell::count(w.missing),
                Cell::sorted(percent(w.missing, w.expected), share),
                Cell::drawing(share_bar(share / highest, 3)),
            ]
        })
        .collect();
    let columns = vec![
        words("Listener"),
        words("Class"),
        number("expected"),
        number("missing"),
        number("share"),
        drawing("beside the worst"),
    ];
    let mut made =
        table("worst", "Listeners that missed most", "Numbered from 0 over all classes.", columns, rows);
    let more = delivery.listeners_short.saturating_sub(made.rows.len() as u64);
    if more > 0 {
        made.foot = format!("{} more missed something.", thousands(more));
    }
    filled(made)
}

// ------------------------------------------------------------------------------------------------- connects, stages

/// Connect stages one below the other, in the order in which a connection is made.
pub(crate) fn connect_stages(loaded: &Loaded) -> Option<DataTable> {
    let all: Vec<(&str, &Summary)> = names::CONNECT_STAGES
        .into_iter()
        .chain([names::CONNECT_TOTAL, names::UPGRADE_TIME, names::LISTENER_CONNECT, names::RECONNECT])
        .filter_map(|name| Some((name, loaded.total.summary(name).filter(|s| s.max > 0.0)?)))
        .collect();
    let bar_of = |s: &Summary| Bar { from: 0.0, median: s.median, p99: s.p99 };
    let scale = BarScale::of(&all.iter().map(|(_, s)| bar_of(s)).collect::<Vec<_>>());
    let rows = all
        .iter()
        .map(|(name, s)| {
            let (label, colour) = match *name {
                names::CONNECT_TOTAL => ("whole connect of a user", 8),
                names::UPGRADE_TIME => ("from polling to WebSocket, beside the connect", 4),
                names::LISTENER_CONNECT => ("whole connect of a listener", 8),
                names::RECONNECT => ("coming back after a loss", 7),
                stage => (stage.trim_start_matches("socketio.connect."), 1),
            };
            vec![
                Cell::text(label),
                Cell::drawing(bar(bar_of(s), scale, colour)),
                s.count.map_or_else(|| Cell::text("–"), Cell::count),
                Cell::figure(Some(s.median)),
                Cell::figure(Some(s.p99)),
                Cell::figure(Some(s.max)),
            ]
        })
        .collect();
    let label =
        if scale.log { "solid: half · pale: 99 % · log scale" } else { "solid: half · pale: 99 %" };
    let columns = vec![
        words("Stage"),
        drawing(label),
        number("count"),
        number("median, ms"),
        number("p99, ms"),
        number("max, ms"),
    ];
    filled(table("connect-stages", "", "", columns, rows))
}

pub(crate) fn stages(stages: &[StageUse]) -> Option<DataTable> {
    let sum = |s: &StageUse| s.points.iter().map(|p| p.sum_s.max(0.0)).sum::<f64>();
    let all: f64 = stages.iter().map(sum).sum();
    let rows = stages
        .iter()
        .filter(|stage| was_used(stage))
        .map(|s| {
            let n = s.points.iter().map(|p| p.count).fold(0, u64::saturating_add);
            let share = if all > 0.0 { sum(s) / all } else { 0.0 };
            let mean = (n > 0).then(|| sum(s) / n as f64 * 1000.0);
            let worst = s.points.iter().filter_map(|p| p.p99_s).reduce(f64::max).map(|p| p * 1000.0);
            vec![
                Cell { sample: s.help.clone(), ..Cell::text(&s.name).mood("strong") },
                Cell::drawing(share_bar(share, 2)),
                Cell::sorted(format!("{:.1} %", share * 100.0), share),
                Cell::count(n),
                Cell::sorted(mean.map_or_else(|| "–".to_owned(), latency), mean.unwrap_or(0.0)),
                Cell::sorted(worst.map_or_else(|| "–".to_owned(), latency), worst.unwrap_or(0.0)),
            ]
        })
        .collect();
    let columns = vec![
        words("Stage"),
        drawing("share of the time"),
        number("share"),
        number("count"),
        number("mean"),
        number("highest p99"),
    ];
    let mut made = table(
        "stages",
        "Stages of the target",
        "What the target says of its own time, in the order a message passes them.",
        columns,
        rows,
    );
    made.stacks = true;
    filled(made)
}

// ---------------------------------------------------------------------------------------------------- distributions

/// Everything that was timed, group by group.
pub(crate) fn distributions(total: &Slice) -> Vec<DataTable> {
    let row = |name: &str, s: &Summary| {
        vec![
            Cell::text(name),
            s.count.map_or_else(|| Cell::text("–"), Cell::count),
            Cell::figure(Some(s.min)),
            Cell::figure(s.mean),
            Cell::figure(Some(s.median)),
            Cell::figure(Some(s.p95)),
            Cell::figure(Some(s.p99)),
            Cell::figure(s.p999),
            Cell::figure(Some(s.max)),
        ]
    };
    let (mut answers, mut connect, mut delivery, mut other) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, s) in &total.summaries {
        if name.starts_with("plugins.metrics-by-endpoint.") {
            // They have a table of their own.
        } else if name.contains("connect") {
            connect.push(row(name, s));
        } else if name.starts_with(names::DELIVERY) {
            delivery.push(row(name, s));
        } else if name.contains("response") || name == "latency" || name == "http.total" {
            answers.push(row(name, s));
        } else {
            other.push(row(name, s));
        }
    }
    // In the order in which a connection is made, not of the alphabet.
    connect.sort_by_key(|row: &Vec<Cell>| {
        let stages = names::CONNECT_STAGES;
        stages.iter().position(|stage| *stage == row[0].text).unwrap_or(stages.len())
    });
    [
        (
            "answers",
            "Answers",
            "From sending a request to its answer; from_due counts from the instant the user was to start.",
            answers,
        ),
        (
            "deliveries",
            "Delivery",
            "From sending a message to a listener hearing it, each pair; first, median and last hearer of each message.",
            delivery,
        ),
        ("connects", "Connecting", "Each stage of a socket connection, and coming back after a loss.", connect),
        (
            "sessions",
            "Sessions and schedule",
            "How long scenarios took, and how late the tester was.",
            other,
        ),
    ]
    .into_iter()
    .map(|(id, title, note, rows)| {
        let columns = vec![
            words("name"),
            number("count"),
            number("min"),
            number("mean"),
            number("p50"),
            number("p95"),
            number("p99"),
            number("p99.9"),
            number("max"),
        ];
        table(id, title, note, columns, rows)
    })
    .filter_map(filled)
    .collect()
}
