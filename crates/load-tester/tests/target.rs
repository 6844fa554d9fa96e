//! What a run sees of the target's side: its process, the stages of its work, series of endpoints.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use load_tester::outcome::MonitoredKind;
use load_tester::run::{Progress, RunOptions, run};
use load_tester::script::{self, LoadOptions};
use support::{Manner, Server, drum, ok, write_script};

/// Answers `/metrics` as a server that has handled so many requests, each 2 ms in the store.
fn measured() -> Arc<Server> {
    let handled = AtomicU64::new(1000);
    let page = move |path: &str, _: &str| {
        if path != "/metrics" {
            handled.fetch_add(1, Ordering::Relaxed);
            return (ok("page"), true);
        }
        let n = handled.load(Ordering::Relaxed);
        let mut text = String::new();
        for (stage, each) in [("render", 0.001), ("store", 0.002)] {
            let family = format!("shop_stage_{stage}_seconds");
            text += &format!(
                "# TYPE {family} histogram\n{family}_bucket{{le=\"0.0015\"}} {}\n{family}_bucket{{le=\"0.005\"}} {n}\n\
                 {family}_bucket{{le=\"+Inf\"}} {n}\n{family}_sum {}\n{family}_count {n}\n",
                if each < 0.0015 { n } else { 0 },
                n as f64 * each
            );
        }
        text += &format!("# TYPE handled counter\nhandled_total {n}\n# TYPE idle gauge\nidle 7\n");
        (ok(&text), true)
    };
    Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, page)
}

const SCRIPT: &str = r#"
config:
  target: "{target}"
  phases: [{duration: 3, arrivalRate: 20}]
scenarios:
  - flow: [{get: {url: "/"}}]
"#;

#[test]
fn stages_and_process_of_a_target_on_this_machine_are_seen_without_being_asked_for() {
    let server = measured();
    let outcome = drum(&server, SCRIPT).unwrap();
    let target = outcome.target.expect("it is this process");
    assert_eq!(target.pid, std::process::id());
    assert!(target.samples.len() >= 2 && target.cores > 0, "{target:?}");
    let told: Vec<_> = outcome
        .stages
        .iter()
        .map(|stage| {
            let count: u64 = stage.points.iter().map(|point| point.count).sum();
            let sum: f64 = stage.points.iter().map(|point| point.sum_s).sum();
            let p99 = stage.points.iter().filter_map(|point| point.p99_s).fold(0.0, f64::max);
            (stage.name.as_str(), count, (sum * 1e6).round() as u64, p99)
        })
        .collect();
    assert_eq!(
        told,
        [("render", 60, 60_000, 0.0015), ("store", 60, 120_000, 0.005)],
        "the run's own and no more"
    );
    assert!(outcome.monitored.is_empty(), "nobody asked for series");
}

#[test]
fn monitored_endpoints_are_read_each_second_and_a_failing_one_is_told_once() {
    let server = measured();
    let nobody = {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        taken.local_addr().unwrap()
    };
    let monitor = format!(
        "  monitor:\n    - {{url: 'http://me:secret@{}/metrics', name: shop, series: [handled_*, idle]}}\n    \
         - {{url: 'http://{nobody}/metrics', series: up}}\n    - {{url: 'http://{}/', series: up}}\n",
        server.address, server.address
    );
    let folder = tempfile::tempdir().unwrap();
    let path =
        write_script(&server, &SCRIPT.replace("  phases", &format!("{monitor}  phases")), folder.path());
    let script = script::load(&LoadOptions { files: vec![path], ..LoadOptions::default() }).unwrap();
    let notices = Mutex::new(Vec::new());
    let outcome = run(&script, &RunOptions::default(), &mut |progress| {
        if let Progress::Notice(text) = progress {
            notices.lock().unwrap().push((*text).to_owned());
        }
    })
    .unwrap();
    let [handled, idle] = &outcome.monitored[..] else { panic!("{:?}", outcome.monitored) };
    assert_eq!(
        (&*handled.name, &*handled.source, handled.kind),
        ("handled_total", "shop", MonitoredKind::Counter)
    );
    assert_eq!((&*idle.name, idle.kind), ("idle", MonitoredKind::Gauge));
    assert!(idle.points.len() >= 3 && idle.points.iter().all(|point| point.1 == 7.0), "{idle:?}");
    let mean = handled.points.iter().map(|point| point.1).sum::<f64>() / handled.points.len() as f64;
    assert!(mean > 5.0 && mean < 40.0, "about 20 a second: {handled:?}");
    assert_eq!(outcome.stages.len(), 2, "its stages come with it, once");

    let notices = notices.into_inner().unwrap();
    let about = |address: &str| notices.iter().filter(|notice| notice.contains(address)).count();
    assert_eq!(about(&format!("{nobody}/metrics: ECONNREFUSED")), 1, "{notices:?}");
    assert_eq!(
        about(&format!("{}/: not in Prometheus's text format: line 1", server.address)),
        1,
        "{notices:?}"
    );
    assert!(notices.iter().all(|notice| !notice.contains("secret")), "{notices:?}");
}

#[test]
fn an_endpoint_that_never_answers_holds_nobody_up() {
    let page = |path: &str, _: &str| {
        if path == "/metrics" {
            std::thread::sleep(Duration::from_secs(30));
        }
        (ok("page"), true)
    };
    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, page);
    let begun = std::time::Instant::now();
    let outcome = drum(&server, &SCRIPT.replace("duration: 3", "duration: 1")).unwrap();
    assert!(outcome.errors.is_empty() && outcome.stages.is_empty());
    assert_eq!(outcome.total.counters["vusers.completed"], 20);
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(
        outcome.target.is_some_and(|target| !target.samples.is_empty()),
        "the process is seen all the same"
    );
}
