//! Closed phases, the longest duration, source addresses, and a tester that is short of CPU: whole runs.

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load_tester::outcome::{Outcome, counters, names};
use load_tester::report::json;
use load_tester::run::{Progress, RunOptions, run};
use load_tester::script::{self, LoadOptions};
use load_tester::sources::Sources;
use serde_json::json;
use support::{Manner, Server, counter, drum, drum_with, ok, plain_page, write_script};

fn quiet_server() -> Arc<Server> {
    Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, plain_page)
}

/// Each user takes 0.1 s, so 10 at once are 100 a second; a server that stops for a second stops the load with it.
#[test]
fn a_closed_phase_keeps_its_users_and_starts_the_next_at_once() {
    let at_once = Arc::new(Mutex::new((0_i64, Vec::new())));
    let seen = Arc::clone(&at_once);
    let page = move |path: &str, _: &str| {
        let mut seen = seen.lock().unwrap();
        seen.0 += if path == "/in" { 1 } else { -1 };
        let now = seen.0;
        seen.1.push((Instant::now(), now));
        (ok("page"), true)
    };
    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, page);
    let outcome = drum(
        &server,
        r#"
config:
  target: "{target}"
  phases: [{name: hold, duration: 2, concurrency: 10}]
scenarios:
  - flow: [{get: {url: /in}}, {think: 0.1}, {get: {url: /out}}]
"#,
    )
    .unwrap();
    let created = counter(&outcome, "vusers.created");
    // 0.1 s and what two requests and tokio's timer take: 15 to 20 users from each of ten places in two seconds.
    assert!((120..=210).contains(&created), "{created}");
    assert_eq!(counter(&outcome, "vusers.completed"), created, "those of the last moment end too");
    assert_eq!(counter(&outcome, counters::USERS_REPLACED), created - 10);
    assert_eq!(outcome.total.concurrent_users, 10);
    let inside = at_once.lock().unwrap().1.clone();
    let first = inside[0].0;
    // Users inside, weighed by how long they were as many.
    let (mut users_s, mut whole_s) = (0.0, 0.0);
    for pair in inside.windows(2) {
        let (at, now) = pair[0];
        let length_s = pair[1].0.duration_since(at).as_secs_f64();
        if (0.2..1.9).contains(&at.duration_since(first).as_secs_f64()) {
            users_s += now as f64 * length_s;
            whole_s += length_s;
        }
        assert!(now <= 10, "{now} at once");
    }
    assert!(users_s / whole_s > 8.0, "{}", users_s / whole_s);

    assert_eq!(
        (outcome.meta.phases[0].load.as_str(), outcome.meta.phases[0].planned),
        ("10 users at once", 0)
    );
    assert!(outcome.meta.phases[0].is_closed());
    // A number of users was asked for, and no instants: nobody is late.
    assert!(!outcome.total.histograms.contains_key(names::START_LATENESS));
    assert_eq!(outcome.total.histograms[names::RESPONSE_FROM_DUE].len(), created);
    let rule = |what: &str| outcome.validity.rules.iter().find(|rule| rule.what.contains(what)).unwrap();
    assert_eq!(rule("arrivals skipped").measured, "0.00 % (0 of 0)");
}

#[test]
fn what_a_user_of_a_slot_does_is_the_same_with_the_same_seed() {
    let rows = |seed| {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let page = move |path: &str, _: &str| {
            // Asked for once, by the observer.
            if path != "/metrics" {
                seen.lock().unwrap().push(path.to_owned());
            }
            (ok("page"), true)
        };
        let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, page);
        let folder = tempfile::tempdir().unwrap();
        let path = write_script(
            &server,
            "config: {target: '{target}', phases: [{duration: 1, concurrency: 3}]}\nscenarios:\n  - flow: [{get: {url: '/{{ \
             $randomNumber(1,1000000) }}'}}, {think: 0.15}]\n",
            folder.path(),
        );
        let script =
            script::load(&LoadOptions { files: vec![path], seed: Some(seed), ..LoadOptions::default() })
                .unwrap();
        run(&script, &RunOptions { workers: Some(2), ..RunOptions::default() }, &mut |_| {}).unwrap();
        let asked = asked.lock().unwrap();
        asked.iter().cloned().collect::<BTreeSet<_>>()
    };
    let first = rows(3);
    // How far each slot gets differs; who its first users are does not.
    assert!(first.intersection(&rows(3)).count() >= 3);
    assert!(first.is_disjoint(&rows(4)));
}

#[test]
fn open_and_closed_phases_stand_beside_each_other() {
    let server = quiet_server();
    let outcome = drum(
        &server,
        r#"
config:
  target: "{target}"
  phases:
    - {duration: 1, arrivalCount: 20}
    - {duration: 1, concurrency: 2, rampTo: 6}
    - {pause: 0.5}
    - {duration: 0.5, concurrency: 1}
scenarios:
  - flow: [{get: {url: /}}, {think: 0.05}]
"#,
    )
    .unwrap();
    let (created, replaced) =
        (counter(&outcome, "vusers.created"), counter(&outcome, counters::USERS_REPLACED));
    // 20 arrivals, 6 slots opened, and one of them once more after the pause.
    assert_eq!(created - replaced, 27);
    assert!((30..120).contains(&replaced), "{replaced}");
    assert_eq!(counter(&outcome, "vusers.completed"), created);
    assert_eq!(outcome.errors, []);
    let loads: Vec<&str> = outcome.meta.phases.iter().map(|phase| phase.load.as_str()).collect();
    assert_eq!(loads, ["20 users", "2 -> 6 users at once", "pause", "1 user at once"]);
}

/// Users that do nothing at all: the thread still does everything else, and the run ends.
#[test]
fn users_that_wait_for_nothing_do_not_hold_the_thread() {
    let server = quiet_server();
    let yaml =
        "config: {target: '{target}', phases: [{duration: 1, concurrency: 3}]}\nscenarios: [{flow: []}]\n";
    let begun = Instant::now();
    let options = RunOptions { workers: Some(1), ..RunOptions::default() };
    let outcome = drum_with(&server, yaml, &options).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(counter(&outcome, "vusers.completed") > 1_000);
    assert!(outcome.total.histograms[names::LOOP_LAG].len() >= 45, "fifty ticks in a second");
}

const FOR_EVER: &str = r#"
config:
  target: "{target}"
  socketio: {transports: ["websocket"]}
  phases: [{duration: 60, arrivalRate: 50}]
scenarios:
  - {engine: socketio, weight: 1, flow: [{emit: {channel: hi, acknowledge: true}}, {think: 0.2}]}
  - {engine: socketio, weight: 1, flow: [{loop: [{emit: {channel: hi, acknowledge: true}}, {think: 0.1}]}]}
"#;

fn answering() -> Arc<Server> {
    let answer = |_: &Arc<Server>,
                  socket: &Arc<support::Socket>,
                  _: &str,
                  _: &[serde_json::Value],
                  ack: Option<u64>| {
        socket.ack(ack.unwrap(), &json!({}));
    };
    Server::start(|_| Manner::Serve, answer, plain_page)
}

#[test]
fn the_longest_duration_ends_arrivals_and_cuts_off_who_stays() {
    let server = answering();
    let folder = tempfile::tempdir().unwrap();
    let path = write_script(&server, FOR_EVER, folder.path());
    let script =
        script::load(&LoadOptions { files: vec![path], seed: Some(7), ..LoadOptions::default() }).unwrap();
    let options = RunOptions {
        workers: Some(2),
        max_duration: Some(Duration::from_secs(1)),
        grace: Some(Duration::from_millis(800)),
        ..RunOptions::default()
    };
    let mut told = Vec::new();
    let mut windows = Vec::new();
    let outcome = run(&script, &options, &mut |progress| match progress {
        Progress::DurationOver { users, grace } => told.push((*users, *grace)),
        Progress::Window { window, .. } => windows.push((window.length_s, window.counters.clone())),
        _ => {}
    })
    .unwrap();
    let ended = outcome.ended_after_s.unwrap();
    assert!((0.99..1.2).contains(&ended), "{ended}");
    assert!((1.7..2.6).contains(&outcome.meta.duration_s), "{}", outcome.meta.duration_s);
    let created = counter(&outcome, "vusers.created");
    assert!((45..=56).contains(&created), "{created}");
    let (completed, unfinished) =
        (counter(&outcome, "vusers.completed"), counter(&outcome, counters::USERS_UNFINISHED));
    assert!(completed > 10 && unfinished > 10, "{completed} {unfinished}");
    assert_eq!(completed + unfinished, created, "who was cut off neither completed nor failed");
    assert_eq!((counter(&outcome, "vusers.failed"), outcome.interrupted), (0, None));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, Duration::from_millis(800));
    // Of 3,000 planned arrivals only those due by then are asked for.
    let skipped = outcome.validity.rules.iter().find(|rule| rule.what == "arrivals skipped").unwrap();
    let due: u64 = skipped.measured.trim_end_matches(')').rsplit(' ').next().unwrap().parse().unwrap();
    assert!(due.abs_diff(created) <= 2, "{} {created}", skipped.measured);
    // The one window of the run is shorter than ten seconds, and told.
    assert_eq!(windows.len(), 1);
    assert!((windows[0].0 - outcome.meta.duration_s).abs() < 0.5, "{windows:?}");
    assert_eq!(windows[0].1["vusers.created"], created);

    // What was said is in the file.
    let loaded = written_and_read(&outcome, folder.path());
    assert_eq!(loaded.run.unwrap().ended_after_s, outcome.ended_after_s);
}

fn written_and_read(outcome: &Outcome, folder: &std::path::Path) -> load_tester::report::Loaded {
    let file = folder.join("result.json");
    json::write(outcome, &file).unwrap();
    json::read(&file).unwrap()
}

#[test]
fn a_run_that_is_over_in_time_was_not_ended() {
    let server = quiet_server();
    let yaml = "config: {target: '{target}', maxDuration: 5, phases: [{duration: 1, arrivalCount: 3}]}\nscenarios: [{flow: [{get: {url: /}}]}]\n";
    let outcome = drum(&server, yaml).unwrap();
    assert_eq!((outcome.ended_after_s, counter(&outcome, "vusers.completed")), (None, 3));

    // The script's own, and a closed phase: nobody is replaced any more, and nobody is cut off.
    let yaml = "config: {target: '{target}', maxDuration: 1, phases: [{duration: 60, concurrency: 3}]}\nscenarios: [{flow: [{get: {url: /}}, {think: 0.1}]}]\n";
    let outcome = drum(&server, yaml).unwrap();
    assert!(outcome.ended_after_s.is_some() && outcome.meta.duration_s < 3.0, "{}", outcome.meta.duration_s);
    let created = counter(&outcome, "vusers.created");
    assert!((18..=31).contains(&created), "{created}");
    assert_eq!(counter(&outcome, "vusers.completed"), created);
}

#[test]
fn connections_come_from_the_source_addresses_in_turn() {
    let server = answering();
    let yaml = r#"
config:
  target: "{target}"
  socketio: {transports: ["TRANSPORT"]}
  phases: [{duration: 1, arrivalCount: 8}]
  listeners: [{count: 4, flow: []}]
scenarios:
  - engine: socketio
    flow: [{get: {url: /}}, {emit: {channel: hi, acknowledge: true}}]
"#;
    for transport in ["websocket", "polling"] {
        let options = RunOptions {
            workers: Some(2),
            sources: Some(Sources::parse(["127.0.7.0/24", "127.0.9.9"]).unwrap()),
            ..RunOptions::default()
        };
        let outcome = drum_with(&server, &yaml.replace("TRANSPORT", transport), &options).unwrap();
        assert_eq!(outcome.errors, []);
        assert_eq!(counter(&outcome, "vusers.completed"), 8);
        let peers: Vec<String> =
            server.peers.lock().unwrap().drain(..).map(|peer| peer.to_string()).collect();
        let spread: BTreeSet<&String> = peers.iter().filter(|peer| peer.starts_with("127.0.7.")).collect();
        // Twelve sockets and eight requests; only asking for the address, the revision and the target's own figures came
        // from anywhere.
        assert!(spread.len() >= 19, "{transport}: {peers:?}");
        let elsewhere = peers.iter().filter(|peer| !peer.starts_with("127.0.7."));
        assert!(elsewhere.count() <= 3, "{transport}: {peers:?}");
    }
    let foreign =
        RunOptions { sources: Some(Sources::parse(["192.0.2.7"]).unwrap()), ..RunOptions::default() };
    let error = drum_with(&server, &yaml.replace("TRANSPORT", "websocket"), &foreign).unwrap_err();
    assert!(format!("{error:#}").contains("192.0.2.7 is not this machine's"), "{error:#}");
    let six = RunOptions { sources: Some(Sources::parse(["::1"]).unwrap()), ..RunOptions::default() };
    // A host beside the target, which only its own family reaches; it is not reached from elsewhere instead.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let accepted = server.accepted.load(Ordering::Relaxed);
        let yaml = format!(
            "config: {{target: 'ws://[::1]:9', phases: [{{duration: 0.2, arrivalCount: 2}}]}}\nscenarios: [{{engine: ws, flow: [{{connect: 'ws://{}/'}}]}}]\n",
            server.address
        );
        let outcome = drum_with(&server, &yaml, &six).unwrap();
        assert_eq!(counter(&outcome, "errors.EADDRNOTAVAIL"), 2, "{:?}", outcome.errors);
        assert_eq!(server.accepted.load(Ordering::Relaxed), accepted);
    }
    let error = drum_with(&server, &yaml.replace("TRANSPORT", "websocket"), &six).unwrap_err();
    assert!(error.to_string().contains("no source address of ::1 can reach 127.0.0.1"), "{error:#}");
}

/// Threads that do nothing but work on the one core the tester may use, and come before it, for two of its three seconds:
/// its own CPU figures stay low, and its ticks tell.
#[cfg(target_os = "linux")]
#[test]
fn a_tester_without_cpu_says_that_its_figures_mean_nothing() {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let server = quiet_server();
    let folder = tempfile::tempdir().unwrap();
    let yaml = "config: {target: '{target}', phases: [{duration: 3, arrivalRate: 100}]}\nscenarios: [{flow: [{get: {url: /}}, {think: 0.1}]}]\n";
    let path = write_script(&server, yaml, folder.path());
    let result = folder.path().join("result.json");
    let (accepting, file) = (Arc::clone(&server), result.clone());
    // Threads and processes begin where the thread was that began them.
    let starved = std::thread::spawn(move || {
        let mut one = CpuSet::new();
        one.set(0);
        sched_setaffinity(None, &one).unwrap();
        let child = std::process::Command::new("nice")
            .args(["-n", "19", env!("CARGO_BIN_EXE_drumfire")])
            .args(["run", "--workers", "1", "--require-valid", "-q", "-o"])
            .args([&file, &path])
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while accepting.accepted.load(Ordering::Relaxed) < 20 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no user comes");
            std::thread::sleep(Duration::from_millis(5));
        }
        let begun = Instant::now();
        let hog = || std::thread::spawn(move || while begun.elapsed() < Duration::from_secs(2) {});
        let hogs: Vec<_> = (0..4).map(|_| hog()).collect();
        hogs.into_iter().for_each(|hog| hog.join().unwrap());
        child.wait_with_output().unwrap().status.code()
    });
    assert_eq!(starved.join().unwrap(), Some(3));
    let validity = json::read(&result).unwrap().run.unwrap().validity;
    let held = |what: &str| validity.rules.iter().find(|rule| rule.what.contains(what)).unwrap().held;
    assert!(!validity.valid && !held("late to its own ticks"), "{validity:?}");
    assert!(held("a worker thread above 95 % CPU"), "{validity:?}");
}
