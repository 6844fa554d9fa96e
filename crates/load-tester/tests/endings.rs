//! How a run ends when it does not end well: Ctrl-C at any moment, outputs that cannot be written, results and scripts
//! that are broken or absurd. All with the real program.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

mod samples;
mod support;

use support::{Manner, Running, Server, ok, until, write_script};

fn drumfire(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drumfire"));
    command.current_dir(folder).env_remove("GITHUB_STEP_SUMMARY");
    command
}

fn done(folder: &Path, words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = drumfire(folder).args(words).output().expect("drumfire starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

/// Acks everything, tells nobody anything.
fn server(decide: impl Fn(usize) -> Manner + Send + Sync + 'static) -> std::sync::Arc<Server> {
    Server::start(
        decide,
        |_, socket, _, _, ack| {
            if let Some(id) = ack {
                socket.ack(id, &serde_json::json!({"status": 200}));
            }
        },
        |path, _| {
            AFTER.fetch_or(path == "/after", Ordering::Relaxed);
            (ok("page"), true)
        },
    )
}

/// Whether `/after` was asked for.
static AFTER: AtomicBool = AtomicBool::new(false);

/// When Ctrl-C comes.
enum Moment {
    /// Once `after` is at work.
    After,
    /// Once the server was reached.
    Reached,
    /// Once the program has printed this.
    Said(&'static str),
}

/// Runs, interrupts, and answers what `report --format text` tells of the result.
fn interrupted(server: &Server, script: &str, moment: &Moment, more: &[&str], folder: &Path) -> String {
    write_script(server, script, folder);
    let mut running =
        Running::start_as(drumfire(folder).args(["run", "-o", "r.json", "script.yml"]).args(more));
    match moment {
        Moment::Reached | Moment::After => {
            until("the server was never reached", || match moment {
                Moment::After => AFTER.load(Ordering::Relaxed),
                _ => server.accepted.load(Ordering::Relaxed) > 0,
            });
            std::thread::sleep(Duration::from_millis(100));
        }
        Moment::Said(words) => running.until_said(words, 1),
    }
    running.signal(Signal::INT);
    let (code, printed) = running.ended(Duration::from_secs(30));
    assert_eq!(code, 130, "{printed}");
    let (code, out, err) = done(folder, &["report", "--format", "text", "r.json"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("SIGINT ended the run"), "{out}");
    out
}

const LISTENERS: &str = "
config:
  target: '{target}'
  timeout: 60
  socketio: {transports: [websocket], protocol: 4}
  phases: [{duration: 30, arrivalRate: 5}]
  listeners: [{count: 3, flow: [{emit: [store, {a: 1}], acknowledge: true}]}]
scenarios:
  - engine: socketio
    flow: [{emit: [hello, {a: 1}], acknowledge: true}]
";

#[test]
fn ctrl_c_while_listeners_connect() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(|_| Manner::SilentAfterOpen);
    let text = interrupted(&server, LISTENERS, &Moment::Reached, &[], folder.path());
    assert!(text.contains("No user was started in 0 s"), "{text}");
}

#[test]
fn ctrl_c_while_the_revision_is_found_out() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(|_| Manner::Serve);
    // Takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = format!("http://{}", silent.local_addr().expect("bound"));
    std::thread::spawn({
        let server = std::sync::Arc::clone(&server);
        move || {
            let mut kept = Vec::new();
            for stream in silent.incoming() {
                kept.push(stream);
                server.accepted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let script = LISTENERS.replace(", protocol: 4", "").replace("{target}", &target);
    let text = interrupted(&server, &script, &Moment::Reached, &[], folder.path());
    assert!(text.contains("No user was started in 0 s"), "{text}");
}

#[test]
fn ctrl_c_in_before() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(|_| Manner::Serve);
    let script = "
config: {target: '{target}', phases: [{duration: 30, arrivalRate: 5}]}
before: {flow: [{get: {url: /}}, {think: 60}]}
scenarios: [{flow: [{get: {url: /}}]}]
";
    let text = interrupted(&server, script, &Moment::Reached, &[], folder.path());
    assert!(text.contains("No user was started in 0 s"), "{text}");
}

#[test]
fn every_form_is_written_even_after_ctrl_c() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(|_| Manner::Serve);
    let script = "
config: {target: '{target}', phases: [{duration: 30, arrivalRate: 50}]}
scenarios: [{flow: [{get: {url: /}}]}]
";
    let forms = ["--junit", "j.xml", "--csv", "c.csv", "--markdown", "m.md", "--hdr", "h.hlog"];
    interrupted(&server, script, &Moment::Said("phase 1"), &forms, folder.path());
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect(name);
    assert!(read("j.xml").contains("<error type=\"interrupted\""), "{}", read("j.xml"));
    assert!(read("c.csv").starts_with("start_s,"));
    assert!(read("m.md").contains("interrupted"));
    assert!(read("h.hlog").starts_with("#[Histogram log format"));
    // From the result the same is made.
    for (format, name) in [("junit", "j.xml"), ("csv", "c.csv"), ("markdown", "m.md"), ("hdr", "h.hlog")] {
        let (code, out, err) = done(folder.path(), &["report", "--format", format, "-o", "-", "r.json"]);
        assert_eq!((code, out == read(name)), (0, true), "{format} {err}");
    }
}

#[test]
fn ctrl_c_while_users_are_still_at_work() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(|_| Manner::Serve);
    let script = "
config: {target: '{target}', phases: [{duration: 0.5, arrivalRate: 10}]}
scenarios: [{flow: [{get: {url: /}}, {think: 60}]}]
";
    let text = interrupted(&server, script, &Moment::Said("still at work"), &[], folder.path());
    assert!(text.contains("5 did not finish"), "{text}");
}

#[test]
fn ctrl_c_while_deliveries_are_awaited() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(|_| Manner::Serve);
    let script = LISTENERS
        .replace("[{duration: 30, arrivalRate: 5}]", "[{duration: 1, arrivalRate: 5}]")
        .replace(
            "  phases",
            "  delivery: {event: new_msg, stamp: text, read: text, expect: all, deadline: 60}\n  phases",
        )
        .replace("hello, {a: 1}", "hello, {text: x}");
    let begun = Instant::now();
    let text =
        interrupted(&server, &script, &Moment::Said("waiting for the last deliveries"), &[], folder.path());
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    // What might still have come is nobody's fault.
    assert!(
        text.contains(
            "No delivery could be judged, and 0 were heard; 15 more undecided (under way at the end, or "
        ),
        "{text}"
    );
}

#[test]
fn ctrl_c_in_after() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = server(|_| Manner::Serve);
    let script = "
config: {target: '{target}', phases: [{duration: 0.2, arrivalRate: 10}]}
scenarios: [{flow: [{get: {url: /}}]}]
after: {flow: [{get: {url: /after}}, {think: 60}]}
";
    let text = interrupted(&server, script, &Moment::After, &[], folder.path());
    assert!(text.contains("All 2 users completed"), "{text}");
}

/// The result goes to a pipe nobody reads yet, so the signal comes while it is written.
#[test]
fn ctrl_c_while_the_result_is_written() {
    let folder = tempfile::tempdir().expect("a directory");
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    fs::write(
        folder.path().join("a.yml"),
        "config: {target: 'http://127.0.0.1:9', phases: [{duration: 0.2, arrivalRate: 10}]}\nscenarios: [{flow: [{get: {url: /}}]}]\n",
    )
    .expect("written");
    let mut running = Running::start(folder.path(), &["run", "-o", "pipe", "a.yml"]);
    running.until_said("at once", 1);
    std::thread::sleep(Duration::from_millis(200));
    running.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(200));
    let text = fs::read(&pipe).expect("reads");
    assert_eq!(running.ended(Duration::from_secs(20)).0, 0);
    let loaded = load_tester::report::json::parse(&text, &pipe).expect("a whole result");
    assert_eq!(loaded.total.launched(), 2);
}

// ---------------------------------------------------------------------------------------------------- full disks

const QUICK: &str = "config: {target: 'http://127.0.0.1:9', phases: [{duration: 0.2, arrivalRate: 10}]}\nscenarios: [{flow: [{get: {url: /}}]}]\n";

#[test]
fn a_full_disk_costs_only_what_was_to_be_on_it() {
    let folder = tempfile::tempdir().expect("a directory");
    fs::write(folder.path().join("a.yml"), QUICK).expect("written");
    let words = ["run", "-o", "r.json", "--csv", "/dev/full", "--junit", "j.xml", "a.yml"];
    let (code, out, err) = done(folder.path(), &words);
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains("/dev/full: cannot write here") && err.contains("make room"), "{err}");
    for file in ["r.json", "j.xml"] {
        assert!(folder.path().join(file).exists(), "{file}: {err}");
    }

    // The result itself does not fit: it is kept where there is room.
    let spare = folder.path().join("spare");
    fs::create_dir(&spare).expect("made");
    let run = drumfire(folder.path())
        .args(["run", "-q", "-o", "/dev/full", "--markdown", "m.md", "a.yml"])
        .env("TMPDIR", &spare)
        .output()
        .expect("drumfire starts");
    let err = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{err}");
    assert!(err.contains("is kept in") && folder.path().join("m.md").exists(), "{err}");
    assert_eq!(
        load_tester::report::json::read(&spare.join("full")).expect("a whole result").total.launched(),
        2
    );

    for (words, expected) in [
        (&["report", "--format", "csv", "-o", "/dev/full", "r.json"][..], "make room"),
        (&["report", "-o", "no/such/x.html", "r.json"], "create it first"),
        (&["report", "--format", "junit", "-o", ".", "r.json"], "cannot write here"),
        (&["run", "--csv", ".", "a.yml"], "name a file in it"),
        (&["run", "--hdr", "no/such/h", "a.yml"], "create it first"),
    ] {
        let (code, out, err) = done(folder.path(), words);
        assert_eq!((code, out.as_str()), (1, ""), "{words:?} {err}");
        assert!(err.contains(expected), "{words:?} {err}");
    }
}

/// Neither a log on a full disk nor a reader that went away costs a run.
#[test]
fn nobody_there_to_be_told_costs_nothing() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    // Something to tell: a warning, a note.
    fs::write(dir.join("a.yml"), format!("nonsense: 1\n{QUICK}")).expect("written");
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").expect("opens"));
    let gone = || Stdio::from(std::io::pipe().expect("a pipe").1);
    for (name, out, err) in [("full.json", full(), full()), ("gone.json", gone(), gone())] {
        let status = drumfire(dir)
            .args(["run", "--csv", "a.csv", "-o", name, "a.yml"])
            .stdout(out)
            .stderr(err)
            .status()
            .expect("drumfire starts");
        assert_eq!(status.code(), Some(0), "{name}");
        assert_eq!(load_tester::report::json::read(&dir.join(name)).expect("whole").total.launched(), 2);
    }
    // What is printed is what these are for.
    for words in [&["check", "a.yml"][..], &["completions", "bash"]] {
        let output = drumfire(dir).args(words).stdout(full()).output().expect("drumfire starts");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(err.contains("standard output: cannot write here") && err.contains("make room"), "{err}");
        let status = drumfire(dir).args(words).stdout(gone()).status().expect("drumfire starts");
        assert_eq!(status.code(), Some(0), "{words:?}");
    }
}

/// A limit on the size of files is an error of what was to be written, not the program's death.
#[test]
fn a_limit_on_file_sizes_is_told() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    fs::write(dir.join("a.yml"), QUICK).expect("written");
    fs::create_dir(dir.join("spare")).expect("made");
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 4 && exec \"$0\" run -q -o r.json --markdown m.md a.yml"])
        .arg(env!("CARGO_BIN_EXE_drumfire"))
        .current_dir(dir)
        .env("TMPDIR", dir.join("spare"))
        .output()
        .expect("sh starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("r.json: cannot write here") && err.contains("ulimit -f"), "{err}");
    assert!(dir.join("m.md").exists() && !dir.join("r.json").exists(), "{err}");
}

/// The end of a session's terminal reaches a run as SIGHUP, and often twice.
#[test]
fn sighup_ends_a_run_with_its_result_except_under_nohup() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    let server = server(|_| Manner::Serve);
    let script = "
config: {target: '{target}', phases: [{duration: 4, concurrency: 2}]}
scenarios: [{flow: [{get: {url: /}}, {think: 0.5}]}]
";
    write_script(&server, script, dir);
    for (ignored, expected) in [("", 129), ("trap '' HUP;", 0)] {
        let line = format!("{ignored} exec \"$0\" run -o r.json script.yml");
        let mut command = Command::new("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_drumfire")]).current_dir(dir);
        let mut running = Running::start_as(&mut command);
        running.until_said("phase 1", 1);
        for _ in 0..2 {
            running.signal(Signal::HUP);
            std::thread::sleep(Duration::from_millis(100));
        }
        let (code, text) = running.ended(Duration::from_secs(30));
        assert_eq!(code, expected, "{text}");
        let run = load_tester::report::json::read(&dir.join("r.json")).expect("whole").run.expect("ours");
        assert_eq!(run.interrupted.as_deref(), (expected == 129).then_some("SIGHUP"));
        assert!(!text.contains(" of 0 users"), "{text}");
    }
}

#[test]
fn markdown_goes_to_the_job_summary() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    fs::write(dir.join("a.yml"), QUICK).expect("written");
    fs::write(dir.join("summary.md"), "# before\n").expect("written");
    let run = drumfire(dir)
        .args(["run", "-q", "--markdown", "-", "a.yml"])
        .env("GITHUB_STEP_SUMMARY", dir.join("summary.md"))
        .output()
        .expect("drumfire starts");
    assert_eq!((run.status.code(), run.stdout.len()), (Some(0), 0));
    let text = fs::read_to_string(dir.join("summary.md")).expect("reads");
    assert!(text.starts_with("# before\n## drumfire: a.yml: nothing was checked\n"), "{text}");
    let (code, out, _) = done(dir, &["run", "-q", "--markdown", "-", "a.yml"]);
    assert!(code == 0 && out.starts_with("## drumfire: a.yml"), "{out}");
}

// ---------------------------------------------------------------------------------------------------- broken inputs

/// Refused soon, in few words, naming the file and what to do.
fn refused(folder: &Path, words: &[&str], expected: &str) {
    let begun = Instant::now();
    let (code, out, err) = done(folder, words);
    assert_eq!((code, out.as_str()), (1, ""), "{words:?} {err}");
    assert!(err.contains(expected) && err.contains(words[words.len() - 1]), "{words:?}: {err}");
    assert!(
        err.len() < 3_000 && begun.elapsed() < Duration::from_secs(20),
        "{words:?} {:?}",
        begun.elapsed()
    );
}

#[test]
fn broken_results_are_refused_with_place_and_remedy() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    let whole = load_tester::report::json::to_string(&samples::bad());
    fs::write(dir.join("half.json"), &whole[..whole.len() / 2]).expect("written");
    fs::write(dir.join("foreign.json"), r#"{"metrics": {"http_reqs": {"count": 3}}}"#).expect("written");
    fs::write(
        dir.join("deep.json"),
        format!("{{\"x\": {}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000)),
    )
    .expect("written");
    fs::write(dir.join("empty.json"), "").expect("written");
    fs::write(dir.join("page.json"), "<html></html>").expect("written");
    fs::create_dir(dir.join("folder.json")).expect("made");
    for (name, bytes) in [("zeros.json", 1_000_000_000), ("huge.json", 5_000_000_000)] {
        fs::File::create(dir.join(name)).and_then(|file| file.set_len(bytes)).expect("sparse");
    }
    for format in ["html", "junit", "csv", "markdown", "hdr", "text"] {
        for (file, expected) in [
            ("half.json", "run again, or copy the file again"),
            ("foreign.json", "results of other tools are not read"),
            ("deep.json", "it has neither an `aggregate` nor a `drumfire` block"),
            ("empty.json", "the run that should have written it"),
            ("page.json", "not the report"),
            ("folder.json", "give a file in it"),
            ("nowhere.json", "give the JSON file a run wrote with -o"),
            ("zeros.json", "this is not a result file"),
            ("huge.json", "shorten the file"),
        ] {
            refused(dir, &["report", "--format", format, file], expected);
        }
    }
    assert!(!dir.join("half.json.html").exists());
}

/// Cut at each kilobyte: never a panic, never half a story.
#[test]
fn a_result_cut_anywhere_is_refused_by_every_reader() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("r.json");
    let whole = load_tester::report::json::to_string(&samples::journal());
    for length in (1..whole.len()).step_by(1024) {
        fs::write(&path, &whole.as_bytes()[..length]).expect("written");
        for read in [
            load_tester::report::json::read(&path).map(drop),
            load_tester::report::json::read_with_windows(&path).map(drop),
        ] {
            let message = read.expect_err("must not read").to_string();
            assert!(message.contains("r.json:") && message.contains("ends too early"), "{length}: {message}");
        }
    }
}

#[test]
fn absurd_scripts_are_refused_with_place_and_remedy() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    let script = |phases: &str, more: &str| {
        format!(
            "config:\n  target: http://127.0.0.1:9\n  phases: {phases}\n{more}\nscenarios:\n  - flow: [{{get: {{url: /}}}}]\n"
        )
    };
    let listeners = |count: &str| {
        script(
            "[{duration: 1, arrivalRate: 1}]",
            &format!("  listeners: [{{count: {count}, flow: [{{emit: [a, b]}}]}}]"),
        )
    };
    let rows = [
        (script("[{duration: 1e12, arrivalRate: 1}]", ""), ":3:23"),
        (script("[{duration: 10, arrivalRate: 1e9}]", ""), ":3:40"),
        (script("[{duration: 1000000, arrivalRate: 1000000}]", ""), ":3:"),
        (script("[{duration: -5, arrivalRate: 1}]", ""), ":3:23"),
        (script("[{duration: .nan, arrivalRate: 1}]", ""), ":3:23"),
        (script("[{duration: 5, arrivalRate: .inf}]", ""), ":3:39"),
        (script("[{duration: 5, arrivalRate: -1}]", ""), ":3:39"),
        (script("[{duration: 5, arrivalCount: 1e18}]", ""), ":3:40"),
        (script("[{}]", ""), ":3:"),
        (script("&a [*a]", ""), ":3:"),
        (listeners("1000000000"), ":4:23"),
        (listeners("-3"), ":4:23"),
        (listeners("18446744073709551616"), ":4:23"),
        (format!("# {}\n{}", "x".repeat(10_000_000), script("[]", "")), "8 MiB"),
        (format!("a: {}", "[".repeat(200_000)), ":1:"),
    ];
    for (text, place) in rows {
        fs::write(dir.join("a.yml"), &text).expect("written");
        for command in ["check", "run"] {
            let begun = Instant::now();
            let (code, out, err) = done(dir, &[command, "a.yml"]);
            let shown: String = text.chars().take(100).collect();
            assert_eq!((code, out.as_str()), (1, ""), "{shown} {err}");
            assert!(err.contains("a.yml") && err.contains(place), "{shown}: {err}");
            assert!(err.contains("nothing was run") && err.len() < 3_000, "{shown}: {err}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{shown}: {:?}", begun.elapsed());
        }
    }
}
