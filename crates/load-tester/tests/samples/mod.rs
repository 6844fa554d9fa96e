//! Outcomes made by arithmetic, for tests and for looking at reports; no run took place.

// Each user of this file needs only some of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use hdrhistogram::Histogram;
use load_tester::outcome::*;

/// Repeatable noise (xorshift).
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// In [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Log-normal around `median`, wider with `spread`.
    fn around(&mut self, median: f64, spread: f64) -> f64 {
        let gauss = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        median * (gauss * spread).exp()
    }
}

pub(crate) fn meta(name: &str) -> Meta {
    Meta {
        run_id: "t7kq2m".to_owned(),
        tool_version: "0.1.0".to_owned(),
        script: name.to_owned(),
        script_sha256: "9f2c1e7b3a5d48e0c6b1f4a2d7e8093b5c6a1f2e3d4b5a697887a6b5c4d3e2f1".to_owned(),
        target: "http://localhost:9013".to_owned(),
        command_line: format!("drumfire run -o result.json {name}"),
        seed: 20_180_901,
        host: "bench-2, 2 cores, Linux 6.8".to_owned(),
        workers: 2,
        engine_revision: Some(4),
        // 2018-09-02 06:23:55 in Seoul.
        started_at_ms: 1_535_837_035_000,
        duration_s: 31.0,
        phases: Vec::new(),
        listeners: 0,
        unconfirmed_emits: 0,
        confirmed_emits: 0,
    }
}

pub(crate) fn phase(name: &str, start_s: f64, duration_s: f64, load: &str, planned: u64) -> PhaseInfo {
    PhaseInfo { name: name.to_owned(), start_s, duration_s, load: load.to_owned(), planned }
}

pub(crate) fn window(start_s: f64) -> Window {
    Window {
        start_s,
        length_s: 1.0,
        counters: BTreeMap::new(),
        histograms: BTreeMap::new(),
        concurrent_users: 0,
        connections: 0,
    }
}

pub(crate) fn add(window: &mut Window, name: &str, n: u64) {
    if n > 0 {
        *window.counters.entry(name.to_owned()).or_default() += n;
    }
}

pub(crate) fn record(window: &mut Window, name: &str, milliseconds: f64) {
    let histogram =
        window.histograms.entry(name.to_owned()).or_insert_with(|| Histogram::new(3).expect("3 digits"));
    histogram.record((milliseconds * 1000.0).round() as u64).expect("grows");
}

pub(crate) fn rule(what: &str, limit: &str, measured: &str, held: bool) -> Rule {
    Rule { what: what.to_owned(), limit: limit.to_owned(), measured: measured.to_owned(), held }
}

/// The sum of `seconds`, with the highest number of users.
pub(crate) fn total(seconds: &[Window]) -> Window {
    let mut all = window(0.0);
    all.length_s = seconds.iter().map(|w| w.length_s).sum();
    for w in seconds {
        for (name, n) in &w.counters {
            *all.counters.entry(name.clone()).or_default() += n;
        }
        for (name, h) in &w.histograms {
            all.histograms
                .entry(name.clone())
                .or_insert_with(|| Histogram::new(3).expect("3 digits"))
                .add(h)
                .expect("grows");
        }
        all.concurrent_users = all.concurrent_users.max(w.concurrent_users);
        all.connections = all.connections.max(w.connections);
    }
    all
}

pub(crate) fn outcome(meta: Meta, seconds: Vec<Window>) -> Outcome {
    let launched = seconds.iter().filter_map(|w| w.counters.get("vusers.created")).sum();
    Outcome {
        total: total(&seconds),
        meta,
        seconds,
        errors: Vec::new(),
        server_events: BTreeMap::new(),
        scenario_counts: BTreeMap::from([("0".to_owned(), launched)]),
        delivery: None,
        target: None,
        stages: Vec::new(),
        monitored: Vec::new(),
        tester: Vec::new(),
        validity: Validity {
            valid: true,
            rules: vec![
                rule("arrivals skipped", "0.1 %", "0 %", true),
                rule("start lateness p99", "50 ms", "0.21 ms", true),
                rule("tester thread above 95 % CPU", "5 s", "0 s", true),
            ],
        },
        checks: Vec::new(),
        interrupted: None,
    }
}

/// The journal's script on a server that keeps up: 9,000 users, a GET and an unanswered message each.
pub(crate) fn journal() -> Outcome {
    static MADE: LazyLock<Outcome> = LazyLock::new(make_journal);
    MADE.clone()
}

fn make_journal() -> Outcome {
    let mut meta = meta("scenarios/journal.yml");
    meta.phases = vec![phase("", 0.0, 30.0, "300/s", 9000)];
    meta.unconfirmed_emits = 9000;
    let mut noise = Noise(7);
    let seconds = (0..31)
        .map(|i| {
            let mut w = window(f64::from(i));
            // The last instant falls on the end of the phase; think: 1 holds every user for a second.
            let (created, completed) = (if i < 30 { 300 } else { 0 }, if i > 0 { 300 } else { 0 });
            add(&mut w, "vusers.created", created);
            add(&mut w, "vusers.created_by_name.0", created);
            add(&mut w, "vusers.completed", completed);
            for name in ["http.requests", "http.responses", "http.codes.200", "socketio.emit"] {
                add(&mut w, name, created);
            }
            for _ in 0..created {
                record(&mut w, names::HTTP_RESPONSE_TIME, noise.around(0.24, 0.25).min(4.0));
                record(&mut w, names::START_LATENESS, noise.around(0.06, 0.3));
            }
            w.concurrent_users = created;
            w.connections = created;
            w
        })
        .collect();
    outcome(meta, seconds)
}

struct Shape {
    /// Users a second at second `i`.
    arrivals: fn(usize) -> u64,
    seconds: usize,
    /// Load above which the target falls behind, messages a second.
    capacity: f64,
    hearers: u64,
}

/// Listeners, acknowledged messages, a target that keeps up.
pub(crate) fn good() -> Outcome {
    static MADE: LazyLock<Outcome> = LazyLock::new(make_good);
    MADE.clone()
}

fn make_good() -> Outcome {
    let mut meta = meta("scenarios/nearby.yml");
    meta.phases = vec![
        phase("warm up", 0.0, 10.0, "30 -> 300/s", 1650),
        phase("steady", 10.0, 40.0, "300/s", 12_000),
        phase("rest", 50.0, 5.0, "pause", 0),
        phase("burst", 55.0, 10.0, "600/s", 6000),
    ];
    meta.listeners = 2000;
    meta.duration_s = 67.0;
    let shape = Shape {
        arrivals: |i| match i {
            0..10 => 30 + 30 * i as u64,
            10..50 => 300,
            55..65 => 600,
            _ => 0,
        },
        seconds: 67,
        capacity: 5000.0,
        hearers: 90,
    };
    let mut made = run(meta, &shape, 11);
    made.checks = vec![
        Check {
            kind: CheckKind::Ensure,
            expression: "socketio.response_time.p99 < 50".to_owned(),
            observed: "3.91".to_owned(),
            passed: true,
            strict: true,
        },
        Check {
            kind: CheckKind::Expect,
            expression: "GET /: statusCode 200".to_owned(),
            observed: "all 20,000".to_owned(),
            passed: true,
            strict: true,
        },
    ];
    made
}

/// A target that falls behind half-way: queues, refusals, missing deliveries, skipped arrivals.
pub(crate) fn bad() -> Outcome {
    static MADE: LazyLock<Outcome> = LazyLock::new(make_bad);
    MADE.clone()
}

fn make_bad() -> Outcome {
    let mut meta = meta("scenarios/journal-loudspeaker.yml");
    meta.phases = vec![
        phase("warm up", 0.0, 10.0, "50/s", 500),
        phase("climb", 10.0, 30.0, "50 -> 400/s", 6750),
        phase("hold", 40.0, 20.0, "400/s", 8000),
    ];
    meta.listeners = 500;
    meta.duration_s = 74.0;
    let shape = Shape {
        arrivals: |i| match i {
            0..10 => 50,
            10..40 => 50 + (i as u64 - 9) * 350 / 30,
            40..60 => 400,
            _ => 0,
        },
        seconds: 74,
        capacity: 260.0,
        hearers: 24,
    };
    let mut made = run(meta, &shape, 5);
    made.meta.unconfirmed_emits = made.meta.confirmed_emits;
    made.meta.confirmed_emits = 0;
    for w in made.seconds.iter_mut().chain([&mut made.total]) {
        w.histograms.remove(names::SOCKETIO_RESPONSE_TIME);
    }
    made.validity.valid = false;
    made.validity.rules = vec![
        rule("arrivals skipped", "0.1 %", "1.8 %", false),
        rule("start lateness p99", "50 ms", "12.4 ms", true),
        rule("tester thread above 95 % CPU", "5 s", "0 s", true),
    ];
    made.checks = vec![
        Check {
            kind: CheckKind::Ensure,
            expression: "http.response_time.p95 < 200".to_owned(),
            observed: "4,871".to_owned(),
            passed: false,
            strict: true,
        },
        Check {
            kind: CheckKind::Ensure,
            expression: "maxErrorRate: 1".to_owned(),
            observed: "3.4 %".to_owned(),
            passed: false,
            strict: false,
        },
    ];
    made
}

fn run(mut meta: Meta, shape: &Shape, seed: u64) -> Outcome {
    let mut noise = Noise(seed);
    let mut backlog = 0.0f64;
    let mut alive = 0u64;
    let mut seconds = Vec::new();
    let mut target = Vec::new();
    let mut tester = Vec::new();
    let (mut refused, mut late, mut skipped_all) = (0, 0, 0);
    let mut refused_at = (f64::MAX, 0.0f64);
    let mut late_at = (f64::MAX, 0.0f64);
    let (mut messages, mut heard, mut missing) = (0, 0, 0);
    let mut done_later = vec![0u64; shape.seconds + 30];
    for i in 0..shape.seconds {
        let at = i as f64;
        let mut w = window(at);
        let due = (shape.arrivals)(i);
        backlog = (backlog + due as f64 - shape.capacity).max(0.0);
        let delay_ms = backlog / shape.capacity * 1000.0;
        let skipped = if backlog > 1500.0 { due / 12 } else { 0 };
        let created = due - skipped;
        let refuse = if backlog > 400.0 { (noise.unit() * created as f64 * 0.05) as u64 } else { 0 };
        let time_out = if delay_ms > 4000.0 { (noise.unit() * created as f64 * 0.03) as u64 } else { 0 };
        let sent = created - refuse;
        add(&mut w, "vusers.created", created);
        add(&mut w, "vusers.created_by_name.chat", created);
        add(&mut w, "vusers.skipped", skipped);
        add(&mut w, "vusers.failed", refuse + time_out);
        add(&mut w, "errors.ECONNREFUSED", refuse);
        add(&mut w, "errors.response timeout", time_out);
        for name in ["http.requests", "http.responses", "socketio.emit"] {
            add(&mut w, name, sent);
        }
        let busy_answers = if backlog > 800.0 { sent / 40 } else { 0 };
        add(&mut w, "http.codes.200", sent - busy_answers);
        add(&mut w, "http.codes.503", busy_answers);
        add(&mut w, "http.downloaded_bytes", sent * 2312);
        for (sum, span, n) in [(&mut refused, &mut refused_at, refuse), (&mut late, &mut late_at, time_out)] {
            if n > 0 {
                *sum += n;
                *span = (span.0.min(at + 0.2), at + 0.9);
            }
        }
        skipped_all += skipped;
        let load = due as f64 / shape.capacity;
        for _ in 0..sent {
            let http = noise.around(0.35 + load * 0.3, 0.35) + delay_ms * noise.unit();
            record(&mut w, names::HTTP_RESPONSE_TIME, http);
            let lateness = noise.around(0.07, 0.35);
            record(&mut w, names::START_LATENESS, lateness);
            let connect = [
                (names::CONNECT_STAGES[1], 0.08),
                (names::CONNECT_STAGES[4], 0.4),
                (names::CONNECT_STAGES[5], 0.2),
                (names::CONNECT_STAGES[7], 0.25),
            ];
            let mut whole = 0.0;
            for (stage, median) in connect {
                let share =
                    if stage == names::CONNECT_STAGES[4] { delay_ms * 0.4 * noise.unit() } else { 0.0 };
                let took = noise.around(median, 0.4) + share;
                whole += took;
                record(&mut w, stage, took);
            }
            record(&mut w, names::CONNECT_TOTAL, whole);
            let answer = noise.around(1.1 + load, 0.3) + delay_ms * (0.5 + noise.unit());
            record(&mut w, names::SOCKETIO_RESPONSE_TIME, answer);
            record(&mut w, names::RESPONSE_FROM_DUE, whole + http + lateness + delay_ms * 0.2);
            record(&mut w, names::SESSION_LENGTH, 1000.0 + whole + http + answer);
        }
        let lost = (sent as f64 * shape.hearers as f64 * (backlog / 60_000.0)) as u64;
        messages += sent;
        heard += sent * shape.hearers - lost;
        missing += lost;
        for _ in 0..(sent / 4) {
            let first = noise.around(0.9, 0.25) + delay_ms * 0.6;
            let spread = noise.around(1.2 + load * 3.0, 0.4) + delay_ms * 0.5;
            record(&mut w, names::DELIVERY_FIRST, first);
            record(&mut w, names::DELIVERY_MEDIAN, first + spread * 0.45);
            record(&mut w, names::DELIVERY_LAST, first + spread);
            for _ in 0..6 {
                let pair = first + spread * noise.unit();
                record(&mut w, names::DELIVERY, pair);
                record(&mut w, names::DELIVERY_FROM_DUE, pair + 1.1);
            }
        }
        let stay = 1 + (delay_ms / 1000.0) as usize;
        done_later[i + stay] += sent - time_out;
        let done = done_later[i].min(alive + created);
        add(&mut w, "vusers.completed", done);
        alive = (alive + created - refuse - time_out).saturating_sub(done);
        w.concurrent_users = alive;
        w.connections = alive + meta.listeners as u64;
        seconds.push(w);

        let cpu = (load * 0.92 + if backlog > 0.0 { 1.0 } else { 0.0 }).min(0.995);
        let wiggle = |noise: &mut Noise, v: f64| {
            ((v * (0.96 + 0.06 * noise.unit())).clamp(0.0, 1.0) * 1e4).round() / 1e4
        };
        target.push(ProcessSample {
            at_s: at + 1.0,
            threads: if shape.capacity < 1000.0 {
                vec![
                    ("node".to_owned(), wiggle(&mut noise, cpu)),
                    ("libuv-worker".to_owned(), wiggle(&mut noise, cpu * 0.06)),
                    ("libuv-worker".to_owned(), wiggle(&mut noise, cpu * 0.05)),
                ]
            } else {
                vec![
                    ("dna-worker".to_owned(), wiggle(&mut noise, 0.02 + load * 4.2)),
                    ("dna-worker".to_owned(), wiggle(&mut noise, 0.02 + load * 4.0)),
                    ("commit".to_owned(), wiggle(&mut noise, load * 0.9)),
                    ("checkpoint".to_owned(), wiggle(&mut noise, load * 0.15)),
                ]
            },
            rss_bytes: (38e6 + at * 0.2e6 + backlog * 60e3) as u64,
            open_files: 40 + alive,
        });
        tester.push(ProcessSample {
            at_s: at + 1.0,
            threads: vec![
                ("drumfire-0".to_owned(), wiggle(&mut noise, 0.03 + due as f64 / 1500.0)),
                ("drumfire-1".to_owned(), wiggle(&mut noise, 0.03 + due as f64 / 1550.0)),
                ("reader".to_owned(), wiggle(&mut noise, 0.01)),
            ],
            rss_bytes: (24e6 + alive as f64 * 9e3) as u64,
            open_files: 12 + alive + meta.listeners as u64,
        });
    }
    meta.confirmed_emits = messages - late;
    let hearers = shape.hearers;
    let mut made = outcome(meta, seconds);
    made.scenario_counts = BTreeMap::from([("chat".to_owned(), made.total.counters["vusers.created"])]);
    let error =
        |step: &str, endpoint: &str, cause: &str, code: &str, count, sample: &str, span: (f64, f64)| {
            ErrorGroup {
                step: step.to_owned(),
                endpoint: endpoint.to_owned(),
                cause: cause.to_owned(),
                code: code.to_owned(),
                count,
                sample: sample.to_owned(),
                first_s: span.0,
                last_s: span.1,
            }
        };
    if refused > 0 {
        made.errors.push(error(
            "connect",
            "ws://localhost:9013/socket.io/",
            "connection refused",
            "ECONNREFUSED",
            refused,
            "connect to 127.0.0.1:9013: Connection refused (os error 111)",
            refused_at,
        ));
    }
    if late > 0 {
        made.errors.push(error(
            "emit save_msg (line 24)",
            "save_msg /",
            "no acknowledgement within 10 s",
            "response timeout",
            late,
            "42[\"save_msg\",{\"token\":\"…\",\"messageData\":{\"lng\":127.0276,\"lat\":37.4979,\"contents\":\"testing\",\"type\":\"LoudSpeaker\"}}]",
            late_at,
        ));
    }
    made.server_events = BTreeMap::from([
        ("new_msg".to_owned(), heard),
        ("geo".to_owned(), 2000),
        ("speaker".to_owned(), heard / 40),
        ("exception".to_owned(), late / 3),
    ]);
    made.delivery = Some(Delivery {
        event: "new_msg".to_owned(),
        expectation: Some("circle".to_owned()),
        messages,
        expected: Some(messages * hearers),
        heard,
        missing,
        duplicates: 0,
        late: 0,
        unexpected: 0,
        out_of_order: 0,
        undecided: 0,
        not_sent: refused,
        samples: if missing > 0 {
            vec![
                "message 4,211 (due 31.204 s) was not heard by listener 77, 212 m away, radius 480 m"
                    .to_owned(),
                "message 4,380 (due 31.702 s) was not heard by listeners 12, 19, 40 and 61".to_owned(),
            ]
        } else {
            Vec::new()
        },
        classes: Vec::new(),
        listeners_short: 0,
        worst: Vec::new(),
    });
    made.target = Some(TargetUse {
        pid: 4711,
        command: if shape.capacity < 1000.0 { "node" } else { "dna" }.to_owned(),
        samples: target,
        processes: 1,
        cores: 2,
        ..TargetUse::default()
    });
    made.tester = tester;
    let _ = skipped_all;
    made
}
