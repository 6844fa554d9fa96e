//! Every outcome a run can have, made by arithmetic: what is said of it first, and what beside it. docs/diagnosis.md is
//! written from these cases (`UPDATE_DOCS=1 cargo test -p load-tester --test diagnosis`).

use std::fmt::Write as _;
use std::path::Path;

use load_tester::outcome::*;
use load_tester::report::diagnosis::{Diagnosis, Kind, Mood, diagnose, where_the_time_went};
use load_tester::report::{Loaded, json};

mod samples;

use samples::{add, phase, record, rule};

const SECONDS: usize = 30;

/// What differs from a run in which all is well.
struct Case {
    /// (answer in ms, how many) of a second.
    answers: fn(usize) -> (f64, u64),
    /// Of the server's busiest thread.
    cpu: fn(usize) -> f64,
    change: fn(&mut Outcome),
}

impl Default for Case {
    fn default() -> Self {
        Self { answers: |_| (4.0, 20), cpu: |_| 0.2, change: |_| {} }
    }
}

fn made(case: &Case) -> Outcome {
    let mut meta = samples::meta("scenarios/nearby.yml");
    meta.phases = vec![phase("", 0.0, SECONDS as f64, "20/s", 20 * SECONDS as u64)];
    meta.duration_s = SECONDS as f64;
    meta.listeners = 100;
    meta.confirmed_emits = 20 * SECONDS as u64;
    let second = |at: usize| {
        let mut w = samples::window(at as f64);
        let (ms, n) = (case.answers)(at);
        add(&mut w, "vusers.created", 20);
        add(&mut w, "vusers.completed", 20);
        add(&mut w, "socketio.emit", 20);
        for index in 0..n {
            let took = ms * (0.9 + 0.2 * index as f64 / n as f64);
            record(&mut w, names::SOCKETIO_RESPONSE_TIME, took);
            record(&mut w, names::RESPONSE_FROM_DUE, took + 1.0);
            record(&mut w, names::START_LATENESS, 0.1);
        }
        w
    };
    let mut made = samples::outcome(meta, (0..SECONDS).map(second).collect());
    let sample = |at: usize, thread: &str, cpu: f64, rss: u64| ProcessSample {
        at_s: at as f64 + 1.0,
        threads: vec![(thread.to_owned(), cpu), ("other".to_owned(), 0.01)],
        rss_bytes: rss,
        open_files: 60,
    };
    made.target = Some(TargetUse {
        pid: 4711,
        command: "target/release/dna serve".to_owned(),
        samples: (0..SECONDS).map(|at| sample(at, "dna-worker", (case.cpu)(at), 40_000_000)).collect(),
        processes: 1,
        cores: 4,
        open_files_limit: Some(1024),
        changes: Vec::new(),
    });
    made.tester = (0..SECONDS).map(|at| sample(at, "drumfire-w0", 0.1, 20_000_000)).collect();
    (case.change)(&mut made);
    made
}

/// Puts a changed total back together from its seconds.
fn summed(made: &mut Outcome) {
    made.total = samples::total(&made.seconds);
}

fn error(cause: &str, code: &str, step: &str, count: u64, from_s: f64, to_s: f64) -> ErrorGroup {
    ErrorGroup {
        step: step.to_owned(),
        endpoint: "http://localhost:9013".to_owned(),
        cause: cause.to_owned(),
        code: code.to_owned(),
        count,
        sample: String::new(),
        first_s: from_s,
        last_s: to_s,
    }
}

/// Some of the users of each of these seconds fail, so that they leave no answer.
fn failing(made: &mut Outcome, seconds: std::ops::Range<usize>, of_20: u64, group: (&str, &str, &str)) {
    let (cause, code, step) = group;
    let (from, to) = (seconds.start as f64, seconds.end as f64 - 0.1);
    let mut count = 0;
    for w in &mut made.seconds[seconds] {
        add(w, &format!("errors.{code}"), of_20);
        add(w, "vusers.failed", of_20);
        *w.counters.get_mut("vusers.completed").expect("there") -= of_20;
        count += of_20;
        if of_20 == 20 {
            w.histograms.clear();
            w.counters.remove("socketio.emit");
        }
    }
    made.errors.push(error(cause, code, step, count, from, to));
    summed(made);
}

fn delivery(missing: u64) -> Delivery {
    Delivery {
        event: "new_msg".to_owned(),
        expectation: Some("all".to_owned()),
        messages: 600,
        expected: Some(60_000),
        heard: 60_000 - missing,
        missing,
        duplicates: 0,
        late: 0,
        unexpected: 0,
        out_of_order: 0,
        undecided: 0,
        not_sent: 0,
        samples: Vec::new(),
        classes: Vec::new(),
        listeners_short: 0,
        worst: Vec::new(),
    }
}

fn with_delivery(made: &mut Outcome, delivery: Delivery) {
    for w in &mut made.seconds {
        for ms in [2.0, 3.0, 5.0] {
            record(w, names::DELIVERY, ms);
        }
    }
    summed(made);
    made.delivery = Some(delivery);
}

fn stage(name: &str, sum_s: f64, p99_s: f64) -> StageUse {
    let point = |at: usize| StagePoint { at_s: at as f64 + 1.0, count: 20, sum_s, p99_s: Some(p99_s) };
    StageUse {
        name: name.to_owned(),
        help: format!("What {name} does"),
        points: (0..SECONDS).map(point).collect(),
    }
}

fn broken(made: &mut Outcome, what: &str, limit: &str, measured: &str) {
    made.validity.valid = false;
    made.validity.rules.push(rule(what, limit, measured, false));
}

fn check(made: &mut Outcome, expression: &str, observed: &str) {
    let (expression, observed) = (expression.to_owned(), observed.to_owned());
    made.checks = vec![Check { kind: CheckKind::Ensure, expression, observed, passed: false, strict: true }];
}

/// A case for each kind, in the order of the rules.
fn cases() -> Vec<(Kind, Case)> {
    let case = Case::default;
    let changed = |change| Case { change, ..Case::default() };
    vec![
        (
            Kind::NothingRan,
            changed(|made| {
                made.seconds.iter_mut().for_each(|w| *w = samples::window(w.start_s));
                summed(made);
            }),
        ),
        (
            Kind::TesterOutOfSockets,
            changed(|made| {
                failing(
                    made,
                    10..30,
                    10,
                    ("tcp: EADDRNOTAVAIL", "websocket error (tcp: EADDRNOTAVAIL)", "connect"),
                );
            }),
        ),
        (
            Kind::TesterBound,
            changed(|made| {
                for sample in &mut made.tester[8..20] {
                    sample.threads[0].1 = 0.98;
                }
                broken(made, "a worker thread above 95 % CPU", "5 s", "12 s (highest 98 %)");
            }),
        ),
        (Kind::TesterStarved, changed(|made| broken(made, "start lateness p99", "50 ms", "812.30 ms"))),
        (
            Kind::ArrivalsSkipped,
            Case {
                cpu: |at| if at >= 12 { 0.99 } else { 0.4 },
                change: |made| {
                    for w in &mut made.seconds[20..] {
                        add(w, "vusers.skipped", 2);
                    }
                    summed(made);
                    broken(made, "arrivals skipped", "0.1 %", "3.23 % (20 of 620)");
                },
                ..case()
            },
        ),
        (
            Kind::TargetDown,
            changed(|made| {
                let group = ("tcp: ECONNREFUSED", "websocket error (tcp: ECONNREFUSED)", "connect");
                failing(made, 0..30, 20, group);
                made.target = None;
            }),
        ),
        (
            Kind::TargetWentDown,
            changed(|made| {
                failing(
                    made,
                    12..30,
                    20,
                    ("tcp: ECONNREFUSED", "websocket error (tcp: ECONNREFUSED)", "connect"),
                );
                let change = TargetChange { at_s: 12.0, kind: TargetChangeKind::Gone, pid: 4711 };
                made.target.as_mut().expect("there").changes.push(change);
            }),
        ),
        (
            Kind::TargetRestarted,
            changed(|made| {
                failing(made, 12..15, 20, ("tcp: ECONNREFUSED", "ECONNREFUSED", "GET / (line 9)"));
            }),
        ),
        (
            Kind::TargetCpu,
            Case {
                answers: |at| if at >= 12 { (40.0 * (at as f64 - 11.0), 20) } else { (4.0, 20) },
                cpu: |at| if at >= 12 { 0.997 } else { 0.5 },
                ..case()
            },
        ),
        (
            Kind::MachineFull,
            Case {
                answers: |at| if at >= 10 { (90.0, 20) } else { (4.0, 20) },
                change: |made| {
                    for at in 10..30 {
                        made.target.as_mut().expect("there").samples[at].threads =
                            vec![("w".to_owned(), 0.9); 3];
                        made.tester[at].threads =
                            vec![("drumfire-w0".to_owned(), 0.6), ("drumfire-w1".to_owned(), 0.6)];
                    }
                },
                ..case()
            },
        ),
        (
            Kind::Refusing,
            changed(|made| {
                failing(
                    made,
                    5..30,
                    12,
                    ("exception 403: not allowed", "exception 403: not allowed", "emit save_msg (line 14)"),
                );
            }),
        ),
        (
            Kind::NoAnswers,
            changed(|made| {
                failing(
                    made,
                    18..30,
                    10,
                    ("no ack within 10 s", "response timeout", "emit save_msg (line 14)"),
                );
            }),
        ),
        (
            Kind::Errors,
            changed(|made| {
                failing(
                    made,
                    3..30,
                    6,
                    ("handshake: ECONNRESET", "websocket error (handshake: ECONNRESET)", "connect"),
                );
            }),
        ),
        (
            Kind::Stalls,
            Case {
                // Still from 8.5 to 10.5 s and so on: nothing in between, then everything at once.
                answers: |at| match at % 10 {
                    9 => (0.0, 0),
                    0 if at > 0 => (1900.0, 40),
                    _ => (4.0, 20),
                },
                ..case()
            },
        ),
        (
            Kind::DeliveriesLost,
            changed(|made| {
                let mut lossy = delivery(600);
                lossy.listeners_short = 100;
                lossy.worst = (0..20)
                    .map(|n| ListenerDelivery {
                        listener: n,
                        class: "near".to_owned(),
                        expected: 600,
                        missing: 9,
                    })
                    .collect();
                with_delivery(made, lossy);
                for w in &mut made.seconds {
                    add(w, counters::MISSING, 20);
                }
                summed(made);
            }),
        ),
        (
            Kind::DescriptorsAtLimit,
            changed(|made| {
                for (at, sample) in made.target.as_mut().expect("there").samples.iter_mut().enumerate() {
                    sample.open_files = (60 + at as u64 * 60).min(1024);
                }
            }),
        ),
        (Kind::Queueing, Case { answers: |at| (4.0 + (at as f64 - 9.0).max(0.0) * 150.0, 20), ..case() }),
        (
            Kind::StageSlow,
            Case {
                answers: |_| (140.0, 20),
                change: |made| {
                    made.stages = vec![
                        stage("parse", 0.01, 1e-4),
                        stage("commit", 2.4, 0.2),
                        stage("write", 0.05, 1e-3),
                    ];
                },
                ..case()
            },
        ),
        (
            Kind::DeliveriesUnexpected,
            changed(|made| {
                with_delivery(made, Delivery { unexpected: 3, ..delivery(0) });
                add(&mut made.seconds[7], counters::UNEXPECTED, 3);
            }),
        ),
        (
            Kind::DeliveriesDoubled,
            changed(|made| with_delivery(made, Delivery { duplicates: 12, ..delivery(0) })),
        ),
        (
            Kind::DeliveriesOutOfOrder,
            changed(|made| with_delivery(made, Delivery { out_of_order: 1, ..delivery(0) })),
        ),
        (
            Kind::NotAllBack,
            changed(|made| {
                add(&mut made.seconds[10], counters::CONNECTIONS_LOST, 50);
                add(&mut made.seconds[12], counters::CONNECTIONS_BACK, 47);
                for n in 0..47 {
                    record(&mut made.seconds[12], names::RECONNECT, 1000.0 + f64::from(n) * 20.0);
                }
                summed(made);
            }),
        ),
        (
            Kind::FewErrors,
            changed(|made| {
                failing(
                    made,
                    3..6,
                    1,
                    ("handshake: ECONNRESET", "websocket error (handshake: ECONNRESET)", "connect"),
                );
            }),
        ),
        (
            Kind::Unfinished,
            changed(|made| {
                *made.seconds[29].counters.get_mut("vusers.completed").expect("there") = 13;
                summed(made);
            }),
        ),
        (Kind::Slow, Case { answers: |_| (400.0, 20), ..case() }),
        (
            Kind::ConnectsSlow,
            changed(|made| {
                for w in &mut made.seconds {
                    record(w, names::CONNECT_STAGES[1], 0.1);
                    record(w, names::CONNECT_STAGES[7], 340.0);
                    record(w, names::CONNECT_TOTAL, 341.0);
                }
                summed(made);
            }),
        ),
        (Kind::LimitBroken, changed(|made| check(made, "socketio.response_time.p99 < 3", "4.4"))),
        (
            Kind::MemoryGrowing,
            changed(|made| {
                for (at, sample) in made.target.as_mut().expect("there").samples.iter_mut().enumerate() {
                    sample.rss_bytes = 40_000_000 + at as u64 * 9_000_000;
                }
            }),
        ),
        (Kind::SlowStart, Case { answers: |at| if at < 2 { (440.0, 20) } else { (4.0, 20) }, ..case() }),
        (
            Kind::NothingConfirmed,
            changed(|made| {
                made.meta.unconfirmed_emits = std::mem::take(&mut made.meta.confirmed_emits);
                for w in &mut made.seconds {
                    w.histograms.remove(names::SOCKETIO_RESPONSE_TIME);
                    w.histograms.remove(names::RESPONSE_FROM_DUE);
                }
                summed(made);
            }),
        ),
        (Kind::EndedEarly, changed(|made| made.interrupted = Some("SIGINT"))),
        (Kind::AllWell, changed(|made| with_delivery(made, delivery(0)))),
    ]
}

fn told(made: &Outcome) -> Diagnosis {
    let now = diagnose(&Loaded::of(made));
    // The file says the same, and carries kind and sentence.
    let text = json::to_string(made);
    assert_eq!(diagnose(&json::parse(text.as_bytes(), Path::new("r.json")).expect("reads")), now);
    let file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let said = &file["drumfire"]["diagnosis"];
    assert_eq!((said["kind"].as_str(), said["first"].as_str()), (Some(&*kebab(now.kind)), Some(&*now.first)));
    now
}

fn said_of(made: &Outcome) -> Diagnosis {
    diagnose(&Loaded::of(made))
}

fn kebab(kind: Kind) -> String {
    serde_json::to_value(kind).expect("a name").as_str().expect("text").to_owned()
}

#[test]
fn every_kind_has_a_case_that_yields_it() {
    let cases = cases();
    assert_eq!(cases.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), Kind::ALL);
    for (kind, case) in cases {
        let found = told(&made(&case));
        assert_eq!(found.kind, kind, "{found:#?}");
        let all = [std::slice::from_ref(&found.first), &found.evidence[..]].concat();
        for text in &all {
            assert!(
                text.ends_with('.') && !text.contains("..") && !text.contains("  ") && !text.contains("; ;"),
                "{text}"
            );
            assert!(!text.contains("NaN") && !text.contains("; ."), "{text}");
        }
    }
}

/// What the sentences say, word for word, and the document made of them.
#[test]
fn the_document_is_current() {
    let mut text = String::from(
        "# What a report says first, and why\n\n\
         <!-- Written from crates/load-tester/tests/diagnosis.rs: UPDATE_DOCS=1 cargo test -p load-tester --test diagnosis -->\n\n\
         The first sentence of every report names the outcome of the run and its cause; what supports it follows as a list.\n\
         The rules are looked at in this order; the first that holds gives the sentence, what the others found is evidence\n\
         beside it. The result file carries kind and sentence as `drumfire.diagnosis`, so that a script can read them:\n\n\
         ```sh\njq -r .drumfire.diagnosis.kind result.json\n```\n\n\
         What is not known is not said: without a visible process of the server nothing is said of its CPU, without\n\
         `delivery.expect` nothing of completeness, and messages nobody answered have no latency. After a verdict on the tester\n\
         itself nothing is concluded about the server, unless its process was seen to end.\n\n\
         Below each kind stand its rule, the sentence and the evidence of a made-up run in which it holds.\n",
    );
    for (kind, case) in cases() {
        let found = said_of(&made(&case));
        let mood = match found.mood {
            Mood::Good => "good",
            Mood::Note => "a note",
            Mood::Bad => "bad",
        };
        let _ =
            write!(text, "\n## `{}`\n\nWhen {} ({mood}).\n\n> {}\n\n", kebab(kind), kind.rule(), found.first);
        for row in &found.evidence {
            let _ = writeln!(text, "- {row}");
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/diagnosis.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("writes");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "docs/diagnosis.md is out of date: UPDATE_DOCS=1 cargo test -p load-tester --test diagnosis"
    );
}

#[test]
fn what_is_not_known_is_not_said() {
    let unseen = Case {
        change: |made| {
            made.target = None;
            with_delivery(made, Delivery { expectation: None, expected: None, ..delivery(0) });
        },
        ..Case::default()
    };
    let found = said_of(&made(&unseen));
    assert_eq!(found.kind, Kind::AllWell);
    let all = format!("{} {}", found.first, found.evidence.join(" "));
    assert!(found.first.contains("not visible, so nothing is said of its CPU"), "{}", found.first);
    assert!(!all.contains("expected deliver") && !all.contains("room for"), "{all}");
    assert!(all.contains("nothing is said of completeness"), "{all}");

    let mut journal = samples::journal();
    for w in journal.seconds.iter_mut().chain([&mut journal.total]) {
        w.histograms.remove(names::HTTP_RESPONSE_TIME);
    }
    let found = said_of(&journal);
    let all = format!("{} {}", found.first, found.evidence.join(" "));
    assert_eq!(found.kind, Kind::NothingConfirmed);
    assert!(found.first.starts_with("9,000 messages sent, 0 confirmed"), "{}", found.first);
    assert!(!all.contains("answers") || all.contains("they have no latency"), "{all}");
    assert!(!all.contains("99 % within") && !all.contains("half within"), "{all}");
}

#[test]
fn a_stall_of_the_tester_is_not_the_servers() {
    let both = Case {
        answers: |at| match at % 10 {
            9 => (0.0, 0),
            0 if at > 0 => (1900.0, 40),
            _ => (4.0, 20),
        },
        change: |made| {
            for at in [10, 20] {
                for _ in 0..10 {
                    record(&mut made.seconds[at], names::START_LATENESS, 1800.0);
                }
            }
            summed(made);
        },
        ..Case::default()
    };
    let found = said_of(&made(&both));
    assert_ne!(found.kind, Kind::Stalls, "{found:#?}");
}

#[test]
fn losses_on_few_listeners_and_in_one_class_are_told_as_such() {
    let few = Case {
        change: |made| {
            let mut lossy = delivery(600);
            lossy.listeners_short = 2;
            lossy.worst = [3, 71]
                .map(|listener| ListenerDelivery {
                    listener,
                    class: "far".to_owned(),
                    expected: 600,
                    missing: 300,
                })
                .to_vec();
            let class = |name: &str, missing| ClassDelivery {
                name: name.to_owned(),
                listeners: 50,
                expected: Some(30_000),
                heard: 30_000 - missing,
                missing,
                duplicates: 0,
                late: 0,
                unexpected: 0,
                out_of_order: 0,
            };
            lossy.classes = vec![class("near", 0), class("far", 600)];
            with_delivery(made, lossy);
        },
        ..Case::default()
    };
    let found = said_of(&made(&few));
    assert!(
        found.first.contains("1.0 % of the deliveries were lost: 59,400 of 60,000 were heard (99.0 %)"),
        "{}",
        found.first
    );
    assert!(found.first.contains("all of it at 2 of 100 listeners"), "{}", found.first);
    let all = found.evidence.join("\n");
    assert!(
        all.contains("Class “far”: 600 missing of 30,000, 98.0 % heard.") && !all.contains("“near”"),
        "{all}"
    );
    assert!(all.contains("listener 71 heard 50.0 %"), "{all}");
}

#[test]
fn stages_are_shares_of_the_time_of_all() {
    let mut with = made(&Case::default());
    with.stages = vec![stage("parse", 0.25, 1e-4), stage("commit", 0.75, 2e-3)];
    let run = Loaded::of(&with).run.expect("ours");
    let shares = where_the_time_went(&run);
    assert_eq!(
        shares.iter().map(|s| (s.name.as_str(), s.share, s.count)).collect::<Vec<_>>(),
        [("parse", 0.25, 600), ("commit", 0.75, 600)]
    );
    assert_eq!((shares[1].p99_s, shares[1].worst_p99_s), (Some(2e-3), Some(2e-3)));
    assert!((shares[1].mean_s - 0.0375).abs() < 1e-9);
    let found = said_of(&with);
    assert!(
        found.evidence.contains(
            &"Where the server's time went, as it tells itself: parse 25 % (p99 0.100 ms), commit 75 % (p99 2.00 ms)."
                .to_owned()
        ),
        "{:?}",
        found.evidence
    );
}

/// A starved tester makes times worthless; that a process ended is a fact all the same.
#[test]
fn a_process_that_ended_is_told_beside_a_starved_tester() {
    let (_, case) = cases().into_iter().find(|(kind, _)| *kind == Kind::TargetWentDown).expect("there");
    let mut made = made(&case);
    broken(&mut made, "start lateness p99", "50 ms", "812.30 ms");
    let found = told(&made);
    assert_eq!(found.kind, Kind::TesterStarved);
    let ended =
        "Certain all the same: the server's process ended at 0:12 (dna, pid 4711); it did not come back";
    assert!(found.evidence.iter().any(|row| row.starts_with(ended)), "{found:#?}");
    // Who was idle is no comfort beside it.
    assert!(!found.evidence.iter().any(|row| row.contains("the tester was idle")), "{found:#?}");
}

#[test]
fn what_is_not_there_is_not_called_refused() {
    let missing = Case {
        change: |made| {
            for w in &mut made.seconds {
                for (name, n) in [("http.requests", 40), ("http.codes.200", 20), ("http.codes.404", 20)] {
                    add(w, name, n);
                }
                for endpoint in ["GET /", "GET /health"] {
                    record(w, &format!("plugins.metrics-by-endpoint.response_time.{endpoint}"), 2.0);
                }
            }
            summed(made);
            made.checks = vec![Check {
                kind: CheckKind::Expect,
                expression: "GET /health: statusCode [200]".to_owned(),
                observed: "failed 600 of 600 times, e.g. 404".to_owned(),
                passed: false,
                strict: true,
            }];
        },
        ..Case::default()
    };
    let found = told(&made(&missing));
    assert_eq!(found.kind, Kind::Refusing);
    let first = "600 of 1,200 requests (50.0 %) asked for what is not there: HTTP 404 at GET /health, from the start;";
    assert!(found.first.starts_with(first), "{}", found.first);
}

#[test]
fn a_storm_that_passed_says_what_came_of_the_deliveries() {
    let storm = Case {
        change: |made| {
            add(&mut made.seconds[10], counters::CONNECTIONS_LOST, 50);
            add(&mut made.seconds[12], counters::CONNECTIONS_BACK, 50);
            with_delivery(made, Delivery { undecided: 30, ..delivery(0) });
        },
        ..Case::default()
    };
    let found = told(&made(&storm));
    assert_eq!((found.kind, found.mood), (Kind::NotAllBack, Mood::Note));
    assert!(
        found.first.starts_with(
            "50 connections were lost from 0:10 and all came back; all 60,000 expected deliveries arrived"
        ),
        "{}",
        found.first
    );
    assert!(
        found
            .evidence
            .iter()
            .any(|row| row.contains("30 more undecided (their listeners were moving or away)")),
        "{found:#?}"
    );
}

/// Artillery 1 counts users that an error ended as neither completed nor failed.
#[test]
fn users_ended_by_errors_in_files_of_artillery_1_are_no_riddle() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/artillery-1.7.9.json");
    let found = diagnose(&json::read(&path).expect("reads"));
    let all = format!("{} {}", found.first, found.evidence.join(" "));
    assert!(!all.contains("nothing is known of the server's processes"), "{all}");
    assert_eq!(all.matches("did not finish").count(), 1, "{all}");
    assert!(all.contains("103 errors: "), "{all}");
}
