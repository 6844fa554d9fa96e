//! Seven runs of the program itself against servers that are good, slow, standing still, losing, refusing and not there,
//! and one in which the tester is starved: the first sentence, the verdict and the exit code of each.

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Value, json};
use support::{Manner, Server, Socket, ok};

/// Six runs may stand beside each other; the starved one takes a core away and stands alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// A run as it was left behind.
struct Run {
    exit: i32,
    kind: String,
    first: String,
    valid: bool,
    /// What was printed.
    told: String,
    /// The result file.
    file: Value,
}

impl Run {
    fn summary(&self, name: &str, figure: &str) -> f64 {
        self.file["aggregate"]["summaries"][name][figure]
            .as_f64()
            .unwrap_or_else(|| panic!("no {name}.{figure}"))
    }

    #[track_caller]
    fn expect(&self, kind: &str, first: &str, valid: bool, exit: i32) {
        let fits = Regex::new(&format!("^{first}$")).unwrap();
        assert!(fits.is_match(&self.first), "{}\n does not fit\n{first}\n\n{}", self.first, self.told);
        assert_eq!((&*self.kind, self.valid, self.exit), (kind, valid, exit), "{}", self.told);
        // The terminal says it first, too, and whether it may be believed.
        let mut lines = self.told.lines().skip_while(|line| *line != self.first);
        assert_eq!(lines.next(), Some(&*self.first), "{}", self.told);
        let verdict = if valid { "\nvalid run: " } else { "\nINVALID RUN, do not trust these figures: " };
        assert!(self.told.contains(verdict), "{}", self.told);
    }
}

/// Starts `drumfire run`; `{target}` in the script is where.
fn start(folder: &std::path::Path, target: &str, yaml: &str) -> Child {
    std::fs::write(folder.join("script.yml"), yaml.replace("{target}", target)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_drumfire"))
        .args(["run", "--workers", "2", "-o", "result.json", "script.yml"])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("drumfire starts")
}

fn finish(folder: &std::path::Path, child: Child, mut told: String) -> Run {
    let output = child.wait_with_output().unwrap();
    told += &String::from_utf8(output.stdout).unwrap();
    let file = std::fs::read(folder.join("result.json")).unwrap_or_else(|error| panic!("{error}: {told}"));
    let file: Value = serde_json::from_slice(&file).unwrap();
    let block = &file["drumfire"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Run {
        exit: output.status.code().expect("an exit code"),
        kind: text(&block["diagnosis"]["kind"]),
        first: text(&block["diagnosis"]["first"]),
        valid: block["validity"]["valid"] == true,
        told,
        file,
    }
}

/// A run whose tester kept time. One on a machine that is busy with something else says so itself, and is run again.
fn run(yaml: &str, target: impl Fn() -> String) -> Run {
    let _beside_others = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    for left in (0..4).rev() {
        let folder = tempfile::tempdir().unwrap();
        let child = start(folder.path(), &target(), yaml);
        let run = finish(folder.path(), child, String::new());
        if run.valid || left == 0 {
            return run;
        }
        eprintln!("again: {}", run.first);
    }
    unreachable!("the last one is returned")
}

fn address(server: &Server) -> String {
    format!("http://{}", server.address)
}

/// Users who look at a page and say something to everybody who stands there.
const CHAT: &str = r#"
config:
  target: "{target}"
  timeout: 5
  socketio: {transports: ["websocket"]}
  phases: [{duration: {seconds}, arrivalRate: 20}]
  listeners:
    - {name: square, count: 20, flow: [{emit: [store, {}], acknowledge: true}]}
  delivery: {event: new_msg, stamp: contents, read: contents, expect: all, deadline: 3}
  ensure:
    {ensure}
scenarios:
  - engine: socketio
    flow:
      - get: {url: "/"}
      - emit: {channel: save_msg, data: {contents: hello}, acknowledge: true}
"#;

fn chat(seconds: u64, ensure: &str) -> String {
    CHAT.replace("{seconds}", &seconds.to_string()).replace("{ensure}", ensure)
}

/// Serves [`CHAT`]: waits as told before each answer, and passes a message to the n-th hearer if told so.
fn square(wait: fn(Instant), passes: fn(usize) -> bool) -> Arc<Server> {
    let begun = Instant::now();
    let heard = AtomicUsize::new(0);
    let on_event =
        move |server: &Arc<Server>, socket: &Arc<Socket>, event: &str, said: &[Value], ack: Option<u64>| {
            if event == "save_msg" {
                wait(begun);
                let message = json!({"contents": said[0]["contents"]});
                for hearer in server.standing.lock().unwrap().iter() {
                    if passes(heard.fetch_add(1, Ordering::Relaxed)) {
                        hearer.emit("new_msg", &message);
                    }
                }
            }
            socket.ack(ack.expect("asked for"), &json!({"status": 200}));
        };
    let page = move |path: &str, _: &str| {
        if path != "/metrics" {
            wait(begun);
        }
        (ok("page"), true)
    };
    Server::start(|_| Manner::Serve, on_event, page)
}

/// A number as sentences have it: `4.36`, `1,204`.
const FIGURE: &str = r"[\d,.]+";
/// What is said of both sides when neither was at its limit.
const SIDES: &str = r"the server's busiest thread was at \d+ % at most; arrivals kept time; (the tester was idle|the tester's busiest thread was at \d+ %)";

#[test]
fn a_good_server() {
    let server = square(|_| {}, |_| true);
    let run = run(&chat(5, "thresholds: [{http.response_time.p99: 4000}]"), || address(&server));
    run.expect(
        "all-well",
        &format!(
            r"All well: all 100 users completed without an error in {FIGURE} s; 99 % of the answers came within {FIGURE} m?s; all 2,000 expected deliveries arrived, 99 % within {FIGURE} m?s; (the server's busiest thread was at \d+ % at most|server and tester together took \d+ % of the machine's cores at most), so there is (room for .* this( and more)?|little room for more)\."
        ),
        true,
        0,
    );
}

#[test]
fn a_slow_server() {
    fn slowly(_: Instant) {
        std::thread::sleep(Duration::from_millis(400));
    }
    let server = square(slowly, |_| true);
    let yaml = chat(5, "thresholds: [{http.response_time.p50: 200}]");
    // Nobody listens, so that answers are what counts.
    let alone = yaml
        .lines()
        .filter(|line| !["listeners:", "name: square", "delivery:"].iter().any(|key| line.contains(key)));
    let run = run(&alone.collect::<Vec<_>>().join("\n"), || address(&server));
    run.expect(
        "slow",
        &format!(
            r"Answers were slow: half took (4|5)\d\d ms or longer, 99 % came within {FIGURE} m?s; {SIDES}; so the server waits for something other than its processor\."
        ),
        true,
        1,
    );
}

#[test]
fn a_server_that_stands_still_2_s_in_every_10() {
    fn in_time(begun: Instant) {
        let within = begun.elapsed().as_millis() as u64 % 10_000;
        if (3000..5000).contains(&within) {
            std::thread::sleep(Duration::from_millis(5000 - within));
        }
    }
    let server = std::cell::RefCell::new(square(in_time, |_| true));
    let run = run(&chat(26, "thresholds: [{drumfire.response_from_due.p99: 1000}]"), || {
        // Stands still by its own age.
        *server.borrow_mut() = square(in_time, |_| true);
        address(&server.borrow())
    });
    run.expect(
        "stalls",
        &format!(
            r"The server stood still every (9|10|11) s for about (1\.\d|2|2\.\d) s \(3 times: 0:0\d, 0:1\d, 0:2\d\); from the instant users were due 99 % were answered within (1|2)\.\d+ s, though half the answers took {FIGURE} ms or less; {SIDES}\."
        ),
        true,
        1,
    );
    // From due it shows; half of the answers, from sending, hide it.
    let (due, sent) =
        (run.summary("drumfire.response_from_due", "p99"), run.summary("socketio.response_time", "p50"));
    assert!(due > 1000.0 && due > 10.0 * sent, "p99 from due {due} ms, p50 from sending {sent} ms");
}

#[test]
fn a_server_that_loses_one_delivery_in_a_hundred() {
    // 101 and 20 listeners have no common divisor, so that each of them misses some.
    let server = square(|_| {}, |number| number % 101 != 50);
    let run = run(&chat(6, "conditions: [{expression: drumfire.delivery.missing < 1}]"), || address(&server));
    run.expect(
        "deliveries-lost",
        &format!(
            r"(1\.0|0\.9\d*|1) % of the deliveries were lost: 2,37\d of 2,400 were heard \(99\.0 %\); spread over (1\d of|all) 20 listeners;( from start to end;| sent between \S+ and \S+;)? {SIDES}\."
        ),
        true,
        1,
    );
    // By listener: how many went short, and who missed most.
    let delivery = &run.file["drumfire"]["delivery"];
    let (short, missing) = (delivery["listeners_short"].as_u64(), delivery["missing"].as_u64());
    assert!(short.is_some_and(|short| (10..=20).contains(&short)), "{delivery}");
    let worst = delivery["worst"].as_array().expect("those that missed most");
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap_or_else(|| panic!("no {key}: {row}"));
    assert!(
        !worst.is_empty() && worst.iter().map(|row| number(row, "missing")).sum::<u64>() <= missing.unwrap()
    );
    for row in worst {
        assert!(number(row, "listener") <= 20 && number(row, "missing") >= 1, "{row}");
        assert_eq!(number(row, "expected"), 120, "{row}");
    }
    assert!(worst.is_sorted_by(|a, b| number(a, "missing") >= number(b, "missing")), "{worst:?}");
    let told =
        Regex::new(r"- Those that missed most: listener \d+ heard 9\d(\.\d+)? % \([1-4] missing\)").unwrap();
    assert!(told.is_match(&run.told), "{}", run.told);
    // And each row of the samples names who did not hear.
    let rows = run.file["drumfire"]["delivery"]["samples"].as_array().unwrap();
    assert!(
        !rows.is_empty() && rows.iter().all(|row| row.as_str().unwrap().contains("listener")),
        "{rows:?}"
    );
    assert!(run.told.contains("- E.g. listener "), "{}", run.told);
}

#[test]
fn a_server_that_refuses() {
    let busy = |path: &str, _: &str| match path {
        "/metrics" => (ok(""), true),
        _ => ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy".to_owned(), true),
    };
    let server = Server::start(|_| Manner::Serve, |_, _, _, _, _| {}, busy);
    let yaml = r#"
config:
  target: "{target}"
  phases: [{duration: 4, arrivalRate: 20}]
scenarios:
  - flow:
      - get: {url: "/", expect: [{statusCode: 200}]}
"#;
    let run = run(yaml, || address(&server));
    run.expect(
        "refusing",
        &format!(
            r"The server refused 80 of 80 requests \(100 %\): HTTP 503 at GET /, from the start; {SIDES}\."
        ),
        true,
        21,
    );
}

#[test]
fn a_server_that_is_not_there() {
    let yaml = r#"
config:
  target: "{target}"
  socketio: {transports: ["websocket"]}
  phases: [{duration: 4, arrivalRate: 20}]
  ensure: {maxErrorRate: 1}
scenarios:
  - engine: socketio
    flow:
      - emit: {channel: save_msg, data: {contents: hello}, acknowledge: true}
"#;
    // Bound and not listening: nobody else can have it, and who knocks is refused.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    taken.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = taken.local_addr().unwrap().as_socket().unwrap();
    let run = run(yaml, || format!("http://{address}"));
    run.expect(
        "target-down",
        &format!(
            r"Nobody listens at http://127\.0\.0\.1:{}: all 80 connects were refused \(ECONNREFUSED\) from 0:00 to 0:0[34]; so no figure says anything of a server\.",
            address.port()
        ),
        true,
        1,
    );
}

/// Ended with it.
struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_tester_that_is_starved() {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// Begins something on one core, as the least of all where it is to be `humble`.
    fn on_one_core<T: Send>(humble: bool, begin: impl FnOnce() -> T + Send) -> T {
        let core = sched_getaffinity(None)
            .map_or(0, |all| (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap_or(0));
        // What a thread is bound to goes on to what it starts.
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let mut one = CpuSet::new();
                one.set(core);
                sched_setaffinity(None, &one).unwrap();
                if humble {
                    rustix::process::nice(19).unwrap();
                }
                begin()
            });
            thread.join().unwrap()
        })
    }

    let _alone = MACHINE.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = square(|_| {}, |_| true);
    let folder = tempfile::tempdir().unwrap();
    let yaml = chat(6, "thresholds: [{http.response_time.p99: 4000}]");
    let mut child = on_one_core(true, || start(folder.path(), &address(&server), &yaml));
    let mut told = String::new();
    let mut out = BufReader::new(child.stdout.as_mut().unwrap());
    while !told.contains("phase 1") {
        assert!(out.read_line(&mut told).unwrap() > 0, "{told}");
    }
    let hogs: Vec<Hog> = (0..4)
        .map(|_| {
            on_one_core(false, || {
                Hog(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh starts"))
            })
        })
        .collect();
    std::thread::sleep(Duration::from_secs(5));
    drop(hogs);
    told += &String::from_utf8_lossy(out.buffer());
    let run = finish(folder.path(), child, told);
    run.expect(
        "tester-starved",
        &format!(
            r"Not to be believed: the tester was starved of processor time; .*start lateness p99 {FIGURE} ms \(limit 50 ms\).*; its busiest thread got \d+ % of a core at most, so something else on this machine took the rest; nothing is concluded about the target\."
        ),
        false,
        3,
    );
}
