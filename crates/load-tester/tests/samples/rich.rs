//! The invented runs again, with everything in them that a run can have.

use std::sync::LazyLock;

use load_tester::outcome::*;

use super::{Noise, add, bad, good, record, total};

const ENDPOINT: &str = "plugins.metrics-by-endpoint.response_time.";

/// Everything went well, and everything was watched.
pub(crate) fn rich_good() -> Outcome {
    let mut made = good();
    let mut noise = Noise(23);
    for w in &mut made.seconds {
        let sent = w.counters.get("socketio.emit").copied().unwrap_or(0);
        detail(w, &mut noise, sent, 90, 0, 1.0);
    }
    finish(&mut made, &["dna"]);
    let delivery = made.delivery.as_mut().expect("there");
    delivery.classes = classes(delivery, &[("near", 1200, 0.6), ("far", 600, 0.3), ("walking", 200, 0.1)]);
    made
}

/// A stall every ten seconds, losses, a reconnect storm, late heartbeats.
pub(crate) fn rich_bad() -> Outcome {
    static MADE: LazyLock<Outcome> = LazyLock::new(make_rich_bad);
    MADE.clone()
}

fn make_rich_bad() -> Outcome {
    let mut made = bad();
    let mut noise = Noise(29);
    let mut away = 0_u64;
    for i in 0..made.seconds.len() {
        let w = &mut made.seconds[i];
        let sent = w.counters.get("socketio.emit").copied().unwrap_or(0);
        let lost = sent * 24 / if i > 40 { 40 } else { 4000 };
        let stalled = i % 10 >= 8;
        detail(w, &mut noise, sent, 24, lost, if stalled { 60.0 } else { 1.0 + i as f64 / 20.0 });
        if stalled {
            for _ in 0..sent / 3 {
                record(w, names::RESPONSE_FROM_DUE, 2000.0 * noise.unit());
            }
        }
        if i == 45 || i == 46 {
            add(w, counters::CONNECTIONS_LOST, 125);
            add(w, "errors.disconnected: transport close", 125);
            away += 125;
        }
        let back = away.min((away as f64 * 0.22).ceil() as u64);
        if i > 46 && back > 0 {
            add(w, counters::CONNECTIONS_BACK, back);
            for _ in 0..back {
                record(w, names::RECONNECT, 400.0 + 900.0 * (i as f64 - 46.0) * noise.unit());
            }
            away -= back;
        }
        if i > 38 && i < 64 {
            add(w, counters::HEARTBEATS_LATE, (noise.unit() * 9.0) as u64);
        }
    }
    finish(&mut made, &["node"]);
    made.errors.push(ErrorGroup {
        step: "listener 17".to_owned(),
        endpoint: "ws://localhost:9013/socket.io/".to_owned(),
        cause: "the server closed the connection".to_owned(),
        code: "disconnected: transport close".to_owned(),
        count: 250,
        sample: "close 1006 after 45.2 s".to_owned(),
        first_s: 45.1,
        last_s: 46.9,
    });
    made.errors.sort_by_key(|g| std::cmp::Reverse(g.count));
    let delivery = made.delivery.as_mut().expect("there");
    delivery.duplicates = 12;
    delivery.late = 1904;
    delivery.out_of_order = 31;
    delivery.classes = classes(delivery, &[("near", 350, 0.7), ("slow phones", 150, 0.3)]);
    delivery.listeners_short = 211;
    delivery.worst = (0..12)
        .map(|i| ListenerDelivery {
            listener: 17 + i * 31,
            class: if i % 3 == 0 { "near" } else { "slow phones" }.to_owned(),
            expected: 720,
            missing: 240 - u64::from(i) * 17,
        })
        .collect();
    made
}

/// Requests only: nobody listens.
pub(crate) fn undelivered() -> Outcome {
    let mut made = good();
    made.delivery = None;
    made.meta.listeners = 0;
    made.server_events.clear();
    for w in made.seconds.iter_mut().chain([&mut made.total]) {
        w.histograms.retain(|name, _| !name.starts_with(names::DELIVERY));
    }
    made
}

/// An hour, for sizes and times: its seconds come ten at a time, as those of a run that long do.
pub(crate) fn hour() -> Outcome {
    let short = rich_bad();
    let mut made = short.clone();
    made.meta.phases = vec![super::phase("hold", 0.0, 3600.0, "200/s", 720_000)];
    made.meta.duration_s = 3600.0;
    made.seconds = (0..360)
        .map(|i| Window {
            start_s: f64::from(i) * 10.0,
            length_s: 10.0,
            ..short.seconds[10 + i as usize % 50].clone()
        })
        .collect();
    let stretched = |samples: &[ProcessSample]| -> Vec<ProcessSample> {
        (0..3600)
            .map(|i| ProcessSample { at_s: f64::from(i) + 1.0, ..samples[10 + i as usize % 50].clone() })
            .collect()
    };
    made.tester = stretched(&short.tester);
    if let (Some(target), Some(of)) = (&mut made.target, &short.target) {
        target.samples = stretched(&of.samples);
    }
    for (stage, of) in made.stages.iter_mut().zip(&short.stages) {
        stage.points = (0..3600)
            .map(|i| StagePoint { at_s: f64::from(i) + 1.0, ..of.points[10 + i as usize % 50] })
            .collect();
    }
    made
}

/// What one second has beside what [`good`] and [`bad`] hold.
fn detail(w: &mut Window, noise: &mut Noise, sent: u64, hearers: u64, lost: u64, slow: f64) {
    let expected = sent * hearers;
    add(w, counters::EXPECTED, expected);
    add(w, counters::MISSING, lost.min(expected));
    add(w, counters::HEARD, expected - lost.min(expected));
    for _ in 0..sent / 4 {
        record(w, names::DELIVERY_ACK, (0.5 + noise.unit() * 0.8) * slow);
        record(w, &format!("{ENDPOINT}GET /"), (0.2 + noise.unit() * 0.3) * slow);
        record(w, &format!("{ENDPOINT}POST /login"), (1.5 + noise.unit() * 3.0) * slow);
        record(w, &format!("{ENDPOINT}GET /api/near/{{{{ id }}}}"), (0.8 + noise.unit()) * slow);
    }
    let pairs = w.histograms.get(names::DELIVERY).cloned();
    if let Some(pairs) = pairs {
        for (class, by) in [("near", 1), ("far", 2), ("walking", 1), ("slow phones", 6)] {
            for step in pairs.iter_recorded().take(60) {
                let ms = step.value_iterated_to() as f64 / 1000.0 * f64::from(by);
                record(w, &format!("{}{class}", names::DELIVERY_CLASS), ms);
            }
        }
    }
}

fn classes(delivery: &Delivery, parts: &[(&str, u64, f64)]) -> Vec<ClassDelivery> {
    let part = |n: u64, share: f64| (n as f64 * share).round() as u64;
    parts
        .iter()
        .map(|(name, listeners, share)| ClassDelivery {
            name: (*name).to_owned(),
            listeners: *listeners,
            expected: delivery.expected.map(|n| part(n, *share)),
            heard: part(delivery.heard, *share),
            missing: part(delivery.missing, *share),
            duplicates: part(delivery.duplicates, *share),
            late: part(delivery.late, *share),
            unexpected: 0,
            out_of_order: part(delivery.out_of_order, *share),
        })
        .collect()
}

fn finish(made: &mut Outcome, programs: &[&str]) {
    made.total = total(&made.seconds);
    if programs == ["node"] {
        for w in made.seconds.iter_mut().chain([&mut made.total]) {
            w.histograms.remove(names::SOCKETIO_RESPONSE_TIME);
        }
    }
    let load: Vec<(f64, f64)> = made
        .seconds
        .iter()
        .map(|w| {
            let n = w.counters.get("socketio.emit").copied().unwrap_or(0) as f64;
            let p50 =
                w.histograms.get(names::DELIVERY).map_or(0.0, |h| h.value_at_quantile(0.5) as f64 / 1e6);
            (n, p50)
        })
        .collect();
    made.stages = [
        ("parse", "Reading and checking the event.", 0.00002, 0.0),
        (
            "commit",
            "From taking the message to having it stored; waiting for the group included.",
            0.0009,
            0.6,
        ),
        ("match", "Finding who hears and appending to their outboxes.", 0.00012, 0.0),
        ("queue", "From stored to taken up by a worker.", 0.0003, 0.25),
        ("write", "One connection's write call.", 0.0004, 0.1),
    ]
    .into_iter()
    .map(|(name, help, each, of_delay)| StageUse {
        name: name.to_owned(),
        help: help.to_owned(),
        points: load
            .iter()
            .enumerate()
            .map(|(i, (n, delay))| StagePoint {
                at_s: i as f64 + 1.0,
                count: *n as u64,
                sum_s: n * (each + delay * of_delay),
                p99_s: (*n > 0.0).then_some((each + delay * of_delay) * 4.0),
            })
            .collect(),
    })
    .collect();
    let mut noise = Noise(31);
    let mut series = |name: &str, kind, of: fn(f64, f64) -> f64| Monitored {
        name: name.to_owned(),
        source: "dna".to_owned(),
        kind,
        points: load
            .iter()
            .enumerate()
            .map(|(i, (n, delay))| (i as f64 + 1.0, of(*n, *delay) * (0.97 + 0.06 * noise.unit())))
            .collect(),
    };
    made.monitored = vec![
        series("dna_deliveries_total{world=\"test\"}", MonitoredKind::Counter, |n, _| n * 90.0),
        series("dna_commits_total{world=\"test\"}", MonitoredKind::Counter, |n, _| n / 3.0),
        series("dna_connections", MonitoredKind::Gauge, |n, _| 2000.0 + n),
        series("dna_outbox_bytes", MonitoredKind::Gauge, |n, delay| n * 900.0 + delay * 4e6),
        series("process_open_fds", MonitoredKind::Gauge, |n, _| 40.0 + n),
    ];
}
