//! The report while the run goes on, as a browser and Prometheus ask for it.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use load_tester::live::Live;
use load_tester::report::json;
use load_tester::run::{Progress, RunOptions, run};
use load_tester::script::{self, LoadOptions};
use support::{Manner, Server, plain_page, write_script};

const SCRIPT: &str = r#"
config:
  target: "{target}"
  phases:
    - {duration: 4, arrivalRate: 20, name: steady}
scenarios:
  - flow:
      - get: {url: "/"}
"#;

/// Of the last page; the style sheet names the attribute too.
const OVER: &str = "<main id=\"page\" data-live=\"over\">";

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let named = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        self.head
            .lines()
            .find(named)
            .and_then(|line| line.split_once(':'))
            .map_or("", |(_, value)| value.trim())
    }
}

fn ask(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("sets");
    stream.write_all(request.as_bytes()).expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answers and closes");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn get(address: SocketAddr, path: &str, more: &str) -> Answer {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n"))
}

#[test]
fn a_run_is_shown_while_it_goes_on_and_its_end_too() {
    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, plain_page);
    let folder = tempfile::tempdir().expect("temporary directory");
    let path = write_script(&server, SCRIPT, folder.path());
    let script = script::load(&LoadOptions { files: vec![path], ..LoadOptions::default() }).expect("loads");

    let live = Live::start(Some("127.0.0.1:0".parse().expect("an address"))).expect("listens");
    let address = live.address();
    let early = get(address, "/", "");
    assert_eq!(early.status, 503, "{}", early.body);
    assert_eq!(early.header("refresh"), "1");

    let looking = std::thread::spawn(move || {
        // Until the first second is whole there is nothing to be shown.
        let begun = Instant::now();
        let page = loop {
            let page = get(address, "/", "");
            if page.status == 200 || begun.elapsed() > Duration::from_secs(20) {
                break page;
            }
        };
        let tag = page.header("etag").to_owned();
        let again = get(address, "/", &format!("If-None-Match: {tag}\r\n"));
        let scrape = get(address, "/metrics", "");
        let result = get(address, "/result.json", "");
        let mut last = page.body.clone();
        while begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(200));
            last = get(address, "/", "").body;
            if last.contains(OVER) {
                break;
            }
        }
        (page, again, scrape, result, last)
    });
    let outcome = run(&script, &RunOptions::default(), &mut |progress| {
        if let Progress::SoFar(so_far) = progress {
            live.take(so_far);
        }
    })
    .expect("runs");
    live.end(&outcome);
    let (page, again, scrape, result, last) = looking.join().expect("looked");

    assert_eq!(page.status, 200);
    assert!(page.body.contains("<main id=\"page\" data-live=\"running\">"));
    assert!(
        page.body.contains("<noscript><meta http-equiv=\"refresh\""),
        "without scripts it reloads itself"
    );
    assert!(page.body.contains("Running for") && page.body.contains("of 80\u{a0}users started"));
    assert!(page.body.contains("Phase 1 of 1 “steady”"));
    // A second may have passed between the two.
    assert!(matches!(again.status, 304 | 200), "{}", again.status);
    if again.status == 304 {
        assert_eq!(again.body, "");
    }

    assert!(scrape.header("content-type").starts_with("application/openmetrics-text"));
    assert!(scrape.body.ends_with("# EOF\n"));
    for line in [
        "# TYPE drumfire_vusers_created counter",
        "drumfire_http_responses_by_code_total{code=\"200\"} ",
        "# UNIT drumfire_http_response_seconds seconds",
        "drumfire_http_response_seconds_bucket{le=\"+Inf\"} ",
        "drumfire_run_valid ",
        "drumfire_elapsed_seconds ",
    ] {
        assert!(scrape.body.contains(line), "{line}\n{}", scrape.body);
    }
    let so_far = json::parse(result.body.as_bytes(), Path::new("result.json")).expect("reads as a result");
    assert!(so_far.total.launched() >= 15 && so_far.total.launched() < 80, "{}", so_far.total.launched());
    let seconds: u64 = so_far.slices.iter().map(load_tester::report::Slice::launched).sum();
    assert!(seconds <= so_far.total.launched() + 20 && seconds > 0);

    assert!(
        last.contains(OVER) && last.to_lowercase().contains("all 80\u{a0}users completed"),
        "its end was seen"
    );
    assert!(last.contains("id=\"result\""), "and carries the result");
    assert!(TcpStream::connect(address).is_err(), "the listener is gone");
}

#[test]
fn strangers_names_and_other_methods_are_refused() {
    let live = Live::start(Some("127.0.0.1:0".parse().expect("an address"))).expect("listens");
    let address = live.address();
    let asked = |request: &str| ask(address, request).status;
    assert_eq!(asked("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"), 421);
    assert_eq!(asked("GET /metrics HTTP/1.1\r\nHost: 10.0.0.1:9014\r\nConnection: close\r\n\r\n"), 421);
    assert_eq!(
        asked("POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        405
    );
    assert_eq!(asked("GET /etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), 404);
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(60_000));
    assert_eq!(asked(&long), 431);
}

#[test]
fn a_taken_address_is_told_with_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let error = Live::start(Some(taken.local_addr().expect("bound"))).expect_err("it is taken");
    let text = format!("{error:#}");
    assert!(text.contains("--live=127.0.0.1:0"), "{text}");
}
