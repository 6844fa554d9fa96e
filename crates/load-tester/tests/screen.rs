//! The terminal's screen as text, of a good run and a bad one, small and large. `cargo insta review` looks at changes.

use std::collections::BTreeMap;

use load_tester::outcome::{Outcome, TargetUse, counters, names};
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
                picture.tell(&Progress::PhaseStarted { index: number, phase }, &[]);
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
        };
        picture.tell(&Progress::Second { second, total: &total, now: &now }, &outcome.tester[..=index]);
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
    picture.tell(&Progress::ListenersConnecting { ready: 900, of: 2000 }, &[]);
    assert!(of(&picture).contains("listeners connecting: 900 of 2,000 stand"));
    assert!(of(&picture).contains("q stop arrivals and finish"));
    picture.tell(&Progress::Interrupted("SIGINT"), &[]);
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

#[test]
fn no_size_and_no_text_of_the_server_breaks_the_screen() {
    let mut outcome = samples::bad();
    let hostile = "\u{1b}[2J\u{7}확인|\n\t".repeat(40);
    outcome.errors[0].cause.clone_from(&hostile);
    outcome.errors[0].sample.clone_from(&hostile);
    outcome.server_events.insert(hostile.clone(), u64::MAX);
    outcome.meta.phases[2].name.clone_from(&hostile);
    let mut picture = picture_of(&outcome, 50, None);
    picture.tell(&Progress::Log(&hostile), &[]);
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
