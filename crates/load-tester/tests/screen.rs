//! The terminal's screen as text, of a good run and a bad one, small and large. `cargo insta review` looks at changes.

use std::collections::BTreeMap;

use load_tester::outcome::{Outcome, TargetUse, Window, counters, names};
use load_tester::progress::{Now, Progress};
use load_tester::screen::{Overlay, Picture, Tab, View, text};
use load_tester::script::model::Ensure;

mod samples;

/// What the screen knows after so many seconds of a run.
fn picture_of(outcome: &Outcome, seconds: usize, ensure: Option<Ensure>) -> Picture {
    let mut picture = Picture::of(&outcome.meta.script, &outcome.meta.target, ensure, true);
    let shown = &outcome.seconds[..seconds];
    let at_s = seconds as f64;
    let mut due = 0;
    for (index, second) in shown.iter().enumerate() {
        for (number, phase) in outcome.meta.phases.iter().enumerate() {
            if (phase.start_s - index as f64).abs() < 0.5 {
                picture.tell(&Progress::PhaseStarted { index: number, phase });
            }
        }
        let counted = |name: &str| second.counters.get(name).copied().unwrap_or(0);
        due += counted("vusers.created") + counted("vusers.skipped");
        // Only the last total is ever looked at.
        let total = if index + 1 == seconds { samples::total(shown) } else { second.clone() };
        let target = outcome
            .target
            .as_ref()
            .map(|target| TargetUse { samples: target.samples[..=index].to_vec(), ..target.clone() });
        let errors = outcome.errors.iter().filter(|error| error.first_s < at_s).cloned().collect();
        let now = Now {
            phases: &outcome.meta.phases,
            due,
            delivery: outcome.delivery.as_ref(),
            errors,
            server_events: &outcome.server_events,
            tester: outcome.tester.get(index),
            target: target.as_ref(),
            validity: outcome.validity.clone(),
        };
        picture.tell(&Progress::Second { second, total: &total, now: &now });
    }
    picture
}

fn good() -> Picture {
    let limits = BTreeMap::from([("socketio.response_time.p99".to_owned(), 50.0)]);
    picture_of(&samples::good(), 58, Some(Ensure { thresholds: limits, ..Ensure::default() }))
}

fn bad() -> Picture {
    let limits = BTreeMap::from([("http.response_time.p95".to_owned(), 200.0)]);
    let ensure = Ensure { thresholds: limits, max_error_rate: Some(50.0), ..Ensure::default() };
    picture_of(&samples::bad(), 55, Some(ensure))
}

fn view(tab: Tab, elapsed_s: f64) -> View {
    View { tab, elapsed_s, ..View::default() }
}

#[test]
fn a_good_run_on_a_small_terminal() {
    insta::assert_snapshot!(text(&good(), &view(Tab::Overview, 58.3), 80, 24));
}

#[test]
fn a_good_run_on_a_large_terminal() {
    insta::assert_snapshot!(text(&good(), &view(Tab::Overview, 58.3), 140, 40));
}

#[test]
fn every_tab_of_a_bad_run_on_a_small_terminal() {
    let picture = bad();
    let pages: Vec<_> = Tab::ALL.iter().map(|tab| text(&picture, &view(*tab, 55.2), 80, 24)).collect();
    insta::assert_snapshot!(pages.join("--------\n"));
}

#[test]
fn every_tab_of_a_bad_run_on_a_large_terminal() {
    let picture = bad();
    let pages: Vec<_> = Tab::ALL.iter().map(|tab| text(&picture, &view(*tab, 55.2), 140, 40)).collect();
    insta::assert_snapshot!(pages.join("--------\n"));
}

#[test]
fn before_the_first_phase_and_after_a_signal() {
    let mut picture = Picture::of("a.yml", "http://localhost:9013", None, false);
    let of = |picture: &Picture| text(picture, &view(Tab::Overview, 0.0), 80, 24);
    assert!(of(&picture).contains("preparing"));
    picture.tell(&Progress::ListenersConnecting { ready: 900, of: 2000 });
    assert!(of(&picture).contains("listeners connecting: 900 of 2,000 stand"));
    assert!(of(&picture).contains("q stop arrivals and finish"));
    picture.tell(&Progress::Interrupted("SIGINT"));
    let page = of(&picture);
    assert!(page.contains("SIGINT: no more arrivals") && page.contains("Q stop at once"), "{page}");
    let log = View { overlay: Some(Overlay::Log), ..View::default() };
    assert!(text(&picture, &log, 80, 24).contains("SIGINT: no more arrivals; results follow"));
    let help = View { overlay: Some(Overlay::Help), ..View::default() };
    assert!(text(&picture, &help, 80, 24).contains("keys and words"));
}

/// Nothing is called latency that is no response, nothing complete without an expectation.
#[test]
fn what_was_not_measured_is_not_shown() {
    let mut outcome = samples::journal();
    for window in &mut outcome.seconds {
        window.histograms.remove(names::HTTP_RESPONSE_TIME);
    }
    outcome.tester = samples::good().tester;
    let silent = picture_of(&outcome, 20, None);
    let page = text(&silent, &view(Tab::Latency, 20.0), 80, 24);
    assert!(page.contains("nothing was answered so far, so there is no latency"), "{page}");

    let mut outcome = samples::good();
    let account = outcome.delivery.as_mut().expect("delivers");
    (account.expected, account.expectation) = (None, None);
    let page = text(&picture_of(&outcome, 20, None), &view(Tab::Delivery, 20.0), 80, 24);
    assert!(page.contains("nothing is said of completeness") && !page.contains("% complete"), "{page}");
}

/// With the account by seconds, what is missing has a curve of its own.
#[test]
fn missing_deliveries_by_second() {
    let mut outcome = samples::bad();
    for (index, window) in outcome.seconds.iter_mut().enumerate() {
        window.counters.insert(counters::EXPECTED.to_owned(), 1000);
        window.counters.insert(counters::MISSING.to_owned(), index as u64);
    }
    let page = text(&picture_of(&outcome, 30, None), &view(Tab::Delivery, 30.0), 100, 30);
    let line = page.lines().find(|line| line.starts_with(" missing")).expect("a curve");
    assert!(line.contains("29/s") && line.contains('█'), "{page}");
}

/// What became of a message is known when its deadline is over, and is drawn under the second it was sent in.
#[test]
fn what_is_judged_later_is_drawn_where_it_was_sent() {
    let outcome = samples::rich::rich_bad();
    let unjudged = |(at, window): (usize, &Window)| {
        let mut window = window.clone();
        let of_messages = [names::DELIVERY_FIRST, names::DELIVERY_MEDIAN, names::DELIVERY_LAST];
        window.histograms.retain(|name, _| at == 0 || !of_messages.contains(&&**name));
        window
    };
    let mut early = outcome.clone();
    early.seconds = outcome.seconds.iter().enumerate().map(unjudged).collect();
    let mut picture = picture_of(&early, 30, None);
    let curve = |picture: &Picture, label: &str| {
        let page = text(picture, &view(Tab::Delivery, 30.0), 100, 30);
        page.lines().find(|line| line.starts_with(label)).unwrap_or_else(|| panic!("{page}")).to_owned()
    };
    let drawn = |line: &str| line.chars().filter(|c| "▁▂▃▄▅▆▇█".contains(*c)).count();
    assert_eq!(drawn(&curve(&picture, " last, p99")), 1);
    for second in &outcome.seconds[..20] {
        let mut second = second.clone();
        second.counters.insert(counters::EXPECTED.to_owned(), 1000);
        second.counters.insert(counters::MISSING.to_owned(), 3);
        picture.settle(&second);
    }
    assert!(drawn(&curve(&picture, " last, p99")) >= 18, "{}", curve(&picture, " last, p99"));
    let missing = curve(&picture, " missing");
    assert!(missing.contains("/s") && drawn(&missing) >= 20, "{missing}");
}

#[test]
fn no_size_and_no_text_of_the_server_breaks_the_screen() {
    let mut outcome = samples::bad();
    let hostile = "\u{1b}[2J\u{7}확인|\n\t".repeat(40);
    outcome.errors[0].cause.clone_from(&hostile);
    outcome.errors[0].sample.clone_from(&hostile);
    outcome.server_events.insert(hostile.clone(), u64::MAX);
    outcome.meta.phases[2].name.clone_from(&hostile);
    let mut picture = picture_of(&outcome, 50, None);
    picture.tell(&Progress::Log(&hostile));
    for (width, height) in [(1, 1), (20, 5), (60, 16), (61, 200), (300, 17), (400, 120)] {
        for tab in Tab::ALL {
            for overlay in [None, Some(Overlay::Help), Some(Overlay::Log)] {
                let page = text(&picture, &View { overlay, ..view(tab, 50.0) }, width, height);
                assert_eq!(page.lines().count(), usize::from(height));
                assert!(!page.contains('\u{1b}') && !page.contains('\u{7}'), "{page}");
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------------- on a terminal

const ENTERS: &str = "\u{1b}[?1049h";
const LEAVES: &str = "\u{1b}[?1049l";

/// Runs the program on a terminal of its own (util-linux' `script`), presses the keys one after the other, and
/// answers its exit code and all that the terminal was sent. `None` where there is no `script`.
fn on_a_terminal(yaml: &str, keys: &[&str]) -> Option<(i32, String)> {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::write(folder.path().join("a.yml"), yaml).expect("written");
    let line = format!("stty rows 24 cols 80; exec {} run -o r.json a.yml", env!("CARGO_BIN_EXE_drumfire"));
    let child = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .current_dir(folder.path())
        .env("TERM", "xterm")
        .env_remove("CI")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("not tested: no terminal without `script` of util-linux ({error})");
            return None;
        }
    };
    let (mut stdin, mut stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
    let mut keys = keys.iter();
    let mut pressed: Option<std::time::Instant> = None;
    loop {
        let length = stdout.read(&mut bytes).expect("reads");
        if length == 0 {
            break;
        }
        seen.extend_from_slice(&bytes[..length]);
        // The clock in the header moves, so there is always more to read.
        if pressed.is_none() && String::from_utf8_lossy(&seen).contains(ENTERS) {
            pressed = Some(std::time::Instant::now());
        }
        if pressed.is_some_and(|at| at.elapsed().as_millis() > 400) {
            if let Some(key) = keys.next() {
                stdin.write_all(key.as_bytes()).expect("pressed");
            }
            pressed = Some(std::time::Instant::now());
        }
    }
    let code = child.wait().expect("waits").code().expect("an exit code");
    Some((code, String::from_utf8_lossy(&seen).into_owned()))
}

const NOBODY_THERE: &str = "
config: {target: 'http://127.0.0.1:9', phases: [{duration: 2, arrivalRate: 5}]}
scenarios: [{flow: [{log: said by the script}, {get: {url: /}}]}]
";

#[test]
fn the_terminal_is_given_back_and_the_summary_follows() {
    let Some((code, seen)) = on_a_terminal(NOBODY_THERE, &["2", "?", "\u{1b}", "l", "4"]) else { return };
    assert_eq!(code, 0, "{seen}");
    let (screen, after) = seen.split_once(LEAVES).expect("given back");
    assert!(screen.contains(ENTERS) && screen.contains("overview"), "{seen}");
    // Whichever a busy machine allows.
    let judged = after.contains("\nvalid run") || after.contains("\nINVALID RUN");
    assert!(after.contains("said by the script") && judged, "{after}");
}

#[test]
fn q_ends_a_run_gently_and_a_second_one_at_once() {
    let long = NOBODY_THERE.replace("duration: 2", "duration: 60").replace("{get: {url: /}}", "{think: 60}");
    let Some((code, seen)) = on_a_terminal(&long, &["q"]) else { return };
    assert_eq!(code, 130, "{seen}");
    assert!(seen.rsplit_once(LEAVES).expect("given back").1.contains("SIGINT ended the run"), "{seen}");

    // `after` goes on for a minute, so the second one finds something to end.
    let slow = format!("{long}after: {{flow: [{{think: 60}}]}}\n");
    let begun = std::time::Instant::now();
    let Some((code, seen)) = on_a_terminal(&slow, &["\u{3}", "Q"]) else { return };
    assert_eq!(code, 130, "{seen}");
    assert!(seen.contains(LEAVES) && begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

/// The window is closed, the connection to the machine breaks: the run ends, with its result.
#[test]
fn a_terminal_that_goes_away_ends_the_run_with_its_result() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::io::Read as _;
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().expect("a directory");
    let long = NOBODY_THERE.replace("duration: 2", "duration: 60");
    std::fs::write(folder.path().join("a.yml"), long).expect("written");
    let child = Command::new("script")
        .args([
            "-qec",
            &format!("stty rows 24 cols 80; exec {} run -o r.json a.yml", env!("CARGO_BIN_EXE_drumfire")),
            "/dev/null",
        ])
        .current_dir(folder.path())
        .env("TERM", "xterm")
        .env_remove("CI")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return };
    let mut out = child.stdout.take().expect("piped");
    let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
    // The first second has been measured, so signals are heeded.
    let mut measured = None;
    while measured.is_none_or(|at: std::time::Instant| at.elapsed().as_secs() < 2) {
        let length = out.read(&mut bytes).expect("reads");
        assert!(length > 0, "no screen");
        seen.extend_from_slice(&bytes[..length]);
        if measured.is_none() && String::from_utf8_lossy(&seen).contains("ECONNREFUSED") {
            measured = Some(std::time::Instant::now());
        }
    }
    // With `script` goes the terminal that it keeps.
    kill_process(Pid::from_child(&child), Signal::KILL).expect("it runs");
    let _ = child.wait();
    let begun = std::time::Instant::now();
    let result = loop {
        if let Ok(loaded) = load_tester::report::json::read(&folder.path().join("r.json")) {
            break loaded;
        }
        assert!(begun.elapsed().as_secs() < 30, "no result");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert_eq!(result.run.expect("ours").interrupted.as_deref(), Some("SIGHUP"));
}
