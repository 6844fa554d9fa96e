//! Ctrl-C, SIGTERM and SIGHUP at moments of their own: a readable result or none, and an end in bounded time.

mod support;

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Manner, Running, Server, plain_page, until, write_script};

/// Whatever is asked for ends in less.
const BOUND: Duration = Duration::from_secs(15);

fn server(manner: Manner) -> Arc<Server> {
    Server::start(
        move |_| manner,
        |_, socket, _, _, ack| {
            if let Some(id) = ack {
                socket.ack(id, &serde_json::json!({"status": 200}));
            }
        },
        plain_page,
    )
}

/// What the result names as its end.
fn interrupted_by(result: &Path) -> Option<String> {
    load_tester::report::json::read(result).expect("a whole result").run.expect("ours").interrupted
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("reads").map(|file| file.expect("reads").file_name());
    names.map(|name| name.into_string().expect("UTF-8")).collect()
}

const CROWD: &str = "
config:
  target: '{target}'
  timeout: 60
  socketio: {transports: [websocket], protocol: 4}
  phases: [{duration: 60, arrivalRate: 5}]
  listeners: [{count: 400, {storm}flow: [{emit: [store, {a: 1}], acknowledge: true}]}]
scenarios: [{engine: socketio, flow: [{emit: [hello, {a: 1}], acknowledge: true}, {log: here}, {think: 60}]}]
";

#[test]
fn every_signal_while_a_crowd_connects() {
    let folder = tempfile::tempdir().expect("a directory");
    for (signal, name, expected) in
        [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143), (Signal::HUP, "SIGHUP", 129)]
    {
        let server = server(Manner::SilentAfterOpen);
        write_script(&server, &CROWD.replace("{storm}", ""), folder.path());
        let running = Running::start(folder.path(), &["run", "-o", "r.json", "script.yml"]);
        until("nobody connects", || server.accepted.load(Ordering::Relaxed) > 20);
        running.signal(signal);
        let (code, out) = running.ended(BOUND);
        assert_eq!(code, expected, "{out}");
        assert_eq!(interrupted_by(&folder.path().join("r.json")).as_deref(), Some(name));
    }
}

#[test]
fn ctrl_c_in_a_storm_of_reconnects() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(Manner::Serve);
    write_script(&server, &CROWD.replace("{storm}", "storm: {at: 1, over: 5}, "), folder.path());
    let running = Running::start(folder.path(), &["run", "-o", "r.json", "script.yml"]);
    // As many as stand, the users, and some that came back.
    until("nobody comes back", || server.upgrades.load(Ordering::Relaxed) > 420);
    running.signal(Signal::INT);
    let (code, out) = running.ended(BOUND);
    assert_eq!(code, 130, "{out}");
    assert_eq!(interrupted_by(&folder.path().join("r.json")).as_deref(), Some("SIGINT"));
}

const STAYING: &str = "
config: {target: '{target}', phases: [{duration: 60, arrivalRate: 20}]}
scenarios: [{flow: [{get: {url: /}}, {log: here}, {think: 60}]}]
";

#[test]
fn ctrl_c_in_the_grace_at_the_end() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(Manner::Serve);
    write_script(&server, STAYING, folder.path());
    let words = ["run", "-o", "r.json", "--max-duration", "0.5", "--grace", "60", "script.yml"];
    let mut running = Running::start(folder.path(), &words);
    running.until_said("the longest duration is over", 1);
    running.signal(Signal::TERM);
    let (code, out) = running.ended(BOUND);
    assert_eq!(code, 143, "{out}");
    assert_eq!(interrupted_by(&folder.path().join("r.json")).as_deref(), Some("SIGTERM"));
}

/// A wrapper passes on what the terminal has told everybody: that is one press. Two of them end it at once.
#[test]
fn one_press_told_twice_is_one() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(Manner::Serve);
    write_script(&server, STAYING, folder.path());
    for (between_ms, kept) in [(20, true), (400, false)] {
        let mut running = Running::start(folder.path(), &["run", "-o", "r.json", "script.yml"]);
        running.until_said("here", 1);
        running.signal(Signal::INT);
        std::thread::sleep(Duration::from_millis(between_ms));
        running.signal(Signal::INT);
        assert_eq!(running.ended(BOUND).0, 130);
        assert_eq!(folder.path().join("r.json").exists(), kept, "{between_ms} ms");
        let _ = fs::remove_file(folder.path().join("r.json"));
    }
    assert_eq!(files(folder.path()), ["script.yml"]);
}

/// Results go to a pipe nobody reads: the run is over, so one signal only says so, and the next ends the waiting.
#[test]
fn a_second_ctrl_c_ends_what_is_written_to_nobody() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(Manner::Serve);
    write_script(&server, &STAYING.replace("60", "0.2"), folder.path());
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().expect("mkfifo").success());
    let mut running = Running::start(folder.path(), &["run", "-o", "pipe", "script.yml"]);
    running.until_said("at once", 1);
    running.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(400));
    running.signal(Signal::INT);
    assert_eq!(running.ended(BOUND).0, 130);
}

#[test]
fn a_search_ends_in_a_step_and_between_steps() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(Manner::Serve);
    write_script(&server, &STAYING.replace(", {think: 60}", ""), folder.path());
    let search = ["limit", "script.yml", "--until", "errors < 5", "-o", "limit.json", "--step-duration"];
    for (seconds, steps) in [("60", 0), ("0.3", 1)] {
        let mut running = Running::start(folder.path(), &[&search[..], &[seconds, "--to", "40"]].concat());
        running.until_said("verdict", 1);
        // A line for each step that is over; then it pauses.
        running.until_said("\n", steps);
        if steps == 0 {
            until("no step", || server.accepted.load(Ordering::Relaxed) > 1);
        }
        running.signal(Signal::INT);
        let (code, out) = running.ended(BOUND);
        assert_eq!(code, 130, "{out}");
        let text = fs::read(folder.path().join("limit.json")).expect("a file");
        let found: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(found["drumfire_limit"]["interrupted"], "SIGINT", "{found}");
    }
}

#[test]
fn ctrl_c_in_quick_and_with_a_page_open() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(Manner::Serve);
    let url = format!("http://{}", server.address);
    let running = Running::start(folder.path(), &["quick", &url, "--duration", "60", "-o", "quick.json"]);
    until("nobody arrives", || server.accepted.load(Ordering::Relaxed) > 3);
    running.signal(Signal::INT);
    assert_eq!(running.ended(BOUND).0, 130);
    assert_eq!(interrupted_by(&folder.path().join("quick.json")).as_deref(), Some("SIGINT"));

    // A browser that asked, and holds its connection without reading the answer.
    write_script(&server, STAYING, folder.path());
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let live = format!("--live={free}");
    let mut running = Running::start(folder.path(), &["run", &live, "-o", "r.json", "script.yml"]);
    running.until_said("here", 1);
    let mut browser = TcpStream::connect(free).expect("the page is there");
    browser.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asks");
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    running.signal(Signal::INT);
    assert_eq!(running.ended(BOUND).0, 130);
    assert!(begun.elapsed() < BOUND);
    assert_eq!(interrupted_by(&folder.path().join("r.json")).as_deref(), Some("SIGINT"));
}
