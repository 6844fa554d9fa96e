//! What is typed wrongly and what lies on disk broken: each with the real program, which says where and what to do.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

mod samples;
mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use load_tester::compare::{self, Comparison, Side};
use load_tester::report::{Form, form, json};
use serde_json::{Value, json};
use support::{Manner, Server, drumfire, ok, write_script};

const SCRIPT: &str = "config: {target: 'http://127.0.0.1:9', phases: [{duration: 0.2, arrivalRate: 10}]}\nscenarios: [{flow: [{get: {url: /}}]}]\n";

/// Exit code 1, nothing on standard output, the words on standard error; never a panic, never a page of it.
fn refused(folder: &Path, words: &[&str], expected: &str) {
    let (code, out, err) = drumfire(folder, words);
    assert_eq!((code, out.as_str()), (1, ""), "{words:?} {err}");
    assert!(err.contains(expected) && err.len() < 2_000, "{words:?}: {err}");
}

#[test]
fn no_file_is_lost_to_another() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    let result = json::to_string(&samples::journal());
    let kept = [("a.yml", SCRIPT), ("rows.csv", "n\n1\n"), ("r.json", &result), ("b.json", &result)];
    for (name, text) in kept {
        fs::write(dir.join(name), text).expect("written");
    }
    fs::write(
        dir.join("rows.yml"),
        SCRIPT.replace("phases", "payload: {path: rows.csv, fields: [n]}, phases"),
    )
    .expect("written");
    for words in [
        &["run", "-o", "a.yml", "a.yml"][..],
        &["run", "--windows", "./a.yml", "a.yml"],
        &["run", "--pairs", "rows.csv", "rows.yml"],
        &["run", "--csv", "rows.csv", "rows.yml"],
        &["run", "-o", "b.json", "--config", "b.json", "a.yml"],
        &["limit", "--until", "errors < 1", "-o", "a.yml", "a.yml"],
        &["report", "-o", "r.json", "r.json"],
        &["report", "--format", "csv", "-o", "./r.json", "r.json"],
        &["compare", "-o", "b.json", "r.json", "b.json"],
    ] {
        if words.contains(&"--config") {
            // What is read has to be a script for it to come so far.
            fs::write(dir.join("b.json"), "{}").expect("written");
            refused(dir, words, "this file is read, and would be lost: name another");
            fs::write(dir.join("b.json"), &result).expect("written");
        } else {
            refused(dir, words, "this file is read, and would be lost: name another");
        }
    }
    refused(dir, &["run", "-o", "x.json", "--csv", "./x.json", "a.yml"], "--output goes there too");
    for (name, text) in kept {
        assert!(fs::read_to_string(dir.join(name)).expect("reads") == text, "{name} was changed");
    }
    refused(dir, &["run", "--pairs", "no/such/p.csv", "a.yml"], "create it first");
    refused(dir, &["run", "--windows", "no/such/w", "a.yml"], "create it first");
    // The directory is there, and takes no files.
    refused(dir, &["run", "-o", "/proc/x.json", "a.yml"], "choose another place");
}

#[test]
fn a_live_page_that_cannot_be_had_is_told_before_the_run() {
    let folder = tempfile::tempdir().expect("a directory");
    fs::write(folder.path().join("a.yml"), SCRIPT).expect("written");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    for (live, expected) in [
        (format!("--live={port}"), "name another, e.g. --live=127.0.0.1:0 for any free port"),
        // Nobody's address (RFC 5737).
        ("--live=192.0.2.1:0".to_owned(), "cannot listen on 192.0.2.1:0"),
        ("--live=99999".to_owned(), "neither a port nor an address with one"),
        ("--live=localhost:80".to_owned(), "neither a port nor an address with one"),
    ] {
        refused(folder.path(), &["run", "-o", "r.json", &live, "a.yml"], expected);
    }
    let (code, _, err) = drumfire(folder.path(), &["run", "-q", "--live=0", "a.yml"]);
    assert!(code == 0 && err.contains("live: http://127.0.0.1:"), "{err}");
    assert!(!folder.path().join("r.json").exists());
}

#[test]
fn what_is_typed_wrongly_is_told_with_what_to_type() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    fs::write(dir.join("a.yml"), SCRIPT).expect("written");
    fs::write(dir.join("none.yml"), "config: {target: 'http://127.0.0.1:9'}\nscenarios: []\n")
        .expect("written");
    let many = format!("errors > {}", "9".repeat(400));
    let chain = format!("errors < {}1", "1+".repeat(260));
    let url = "http://127.0.0.1:9";
    for (words, expected) in [
        (&["limit", "a.yml", "--until", "errors.share < 5MB"][..], "errors.share is in per cent, not `MB`"),
        (&["limit", "a.yml", "--until", "http.response_time.p99 < 5%"], "in milliseconds, not `%`"),
        (&["limit", "a.yml", "--until", &many], "cannot read \"999"),
        (&["limit", "a.yml", "--until", &chain], "more than 250 signs"),
        (&["limit", "a.yml", "--until", "errors <"], "it ends too early"),
        (&["limit", "a.yml", "--until", "1 < 2"], "asks for no figure"),
        (&["limit", "a.yml", "--until", "errors < 1", "--step-duration", "1e30"], "0.001 to 86400"),
        (&["limit", "a.yml", "--until", "errors < 1", "--from", "1e300"], "must lie between"),
        (&["compare", "x", "y", "--fail-if", &many], "is no limit, e.g. 10%"),
        (&["quick", "http://"], "names no host"),
        (&["quick", "http://[::1"], "is no target"),
        (&["quick", "http://127.0.0.1:99999"], "is no target"),
        (&["quick", "127.0.0.1"], "a URL begins with"),
        (&["quick", url, "--emit", "x", "--data", "{bad"], "make it a text: \"{bad\""),
        (&["quick", "ws://127.0.0.1:9", "--send", "[1,"], "make it a text: \"[1,\""),
        (&["quick", url, "--post", "/", "--json", "{bad"], "--json is no JSON"),
        (&["quick", url, "--emit", "x", "--listen", "y", "--listeners", "0"], "at least 1"),
        (&["quick", url, "-H", "two words: x"], "is no name of a header"),
        (&["init", "no/such/a.yml"], "create it first"),
        (&["init", "b.yml", "--target", "nonsense"], "`nonsense` is no target"),
        (&["init", "a.yml"], "there is one already, and it stays"),
        (&["debug", "none.yml"], "`scenarios` is empty"),
        (&["debug", "a.yml", "--users", "0"], "1..=100"),
    ] {
        refused(dir, words, expected);
    }
    assert!(!dir.join("b.yml").exists());
    let (_, out, _) = drumfire(dir, &["quick", url, "--emit", "x", "--data", "\"{bad\"", "--print-script"]);
    assert!(out.contains(r#"data: "{bad""#), "{out}");
    // A condition that cannot hold is told before the run it would fail.
    for (condition, expected) in
        [("errors <", "it cannot be read and will not hold"), ("errors < 5MB", "a count, not `MB`")]
    {
        let ensure = format!("ensure: {{conditions: [{{expression: '{condition}'}}]}}, phases");
        fs::write(dir.join("e.yml"), SCRIPT.replace("phases", &ensure)).expect("written");
        let (code, _, err) = drumfire(dir, &["check", "e.yml"]);
        assert!(code == 0 && err.contains("warning: e.yml:1:") && err.contains(expected), "{err}");
    }
}

#[test]
fn a_run_is_not_counted_twice_nor_compared_with_nothing() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    let (silent, mut heard, other) = (samples::journal(), samples::journal(), samples::bad());
    heard.delivery = other.delivery;
    heard
        .total
        .histograms
        .extend(other.total.histograms.into_iter().filter(|(name, _)| name == "drumfire.delivery"));
    for (name, outcome) in [("a.json", &heard), ("b.json", &silent)] {
        json::write(outcome, &dir.join(name)).expect("written");
    }
    refused(dir, &["compare", "a.json,a.json", "b.json"], "a run counts once");
    let (code, out, err) = drumfire(dir, &["compare", "a.json", "./a.json"]);
    assert!(code == 0 && err.contains("a.json is on both sides"), "{out}{err}");
    refused(
        dir,
        &["compare", "a.json", "b.json", "--fail-if", "delivery.p99 > 10%"],
        "delivery.p99 was not measured in b.json",
    );
    let (code, out, err) = drumfire(dir, &["compare", "--all", "a.json", "b.json"]);
    assert!(code != 101 && out.contains("only A has it"), "{code} {out}{err}");
}

// --------------------------------------------------------------------------------------------------------- result files

/// What a result says, changed.
fn changed(change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_str(&json::to_string(&samples::journal())).expect("JSON");
    change(&mut value);
    value.to_string().into_bytes()
}

/// The shortest and the longest time, each so often.
fn histogram(count: u64) -> String {
    let mut often: Histogram<u64> = Histogram::new(3).expect("3 digits");
    for value in [1, u64::MAX / 2] {
        often.record_n(value, count).expect("recorded");
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&often, &mut bytes).expect("written");
    STANDARD.encode(&bytes)
}

#[test]
fn results_in_a_wrapping_or_of_another_time_are_told_apart() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    let text = json::to_string(&samples::journal());
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let phases = |of: &mut Value, count: usize| {
        let first = of["drumfire"]["meta"]["phases"][0].clone();
        of["drumfire"]["meta"]["phases"] = vec![first; count].into();
    };
    let rows: Vec<(Vec<u8>, &str)> = vec![
        ([&b"\x1f\x8b\x08\0"[..], &[7; 100]].concat(), "unpack it first"),
        ([&b"\xff\xfe"[..], &utf16].concat(), "save it as UTF-8"),
        (utf16, "save it as UTF-8"),
        (changed(|of| of["drumfire"]["format"] = json!(2)), "written by a newer drumfire (format 2"),
        // A newer one need not have the fields of this one.
        (changed(|of| of["drumfire"] = json!({"format": 99_999_999_999_u64})), "written by a newer drumfire"),
        (changed(|of| phases(of, 10_001)), "10001 phases"),
        (
            changed(|of| of["drumfire"]["seconds"][0]["counters"]["errors.a"] = json!(u64::MAX)),
            "its counts are beyond what any run comes to",
        ),
        (changed(|of| of["drumfire"]["total"]["counters"]["vusers.created"] = json!(-5)), "-5"),
        (
            changed(|of| {
                of["drumfire"]["total"]["histograms"]["http.total"] = json!(histogram(i64::MAX as u64));
            }),
            "more values than any run records",
        ),
        // Its cookie and no more.
        (
            changed(|of| of["drumfire"]["total"]["histograms"]["http.total"] = json!("HISTFA==")),
            "histogram http.total",
        ),
        (text.replacen("\"duration_s\":", "\"duration_s\":NaN,\"x\":", 1).into_bytes(), ":1:"),
        (text.replacen("\"duration_s\":", "\"duration_s\":1e999,\"x\":", 1).into_bytes(), "out of range"),
    ];
    for (bytes, expected) in rows {
        fs::write(dir.join("r.json"), bytes).expect("written");
        refused(dir, &["report", "r.json"], expected);
        refused(dir, &["compare", "r.json", "r.json"], expected);
    }
    assert!(!dir.join("r.json.html").exists());
    // A byte order mark is no reason to refuse, nor are fields nobody knows.
    for bytes in [
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        changed(|of| of["drumfire"]["later"] = json!([1, {"a": null}])),
    ] {
        fs::write(dir.join("r.json"), bytes).expect("written");
        assert_eq!(drumfire(dir, &["report", "--format", "text", "r.json"]).0, 0);
    }
}

/// Figures that no run has: told as they are, without a sum that overflows.
#[test]
fn absurd_figures_are_told_without_a_panic() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    let seconds = |of: &mut Value, key: &str, value: Value| {
        let seconds = of["drumfire"]["seconds"].as_array_mut().expect("seconds");
        seconds.truncate(10);
        seconds.iter_mut().for_each(|second| second[key] = value.clone());
    };
    let counters = json!({
        "vusers.created": 1, "vusers.completed": 1_u64 << 50, "http.requests": 0, "http.responses": 1_u64 << 50,
        "errors.a": 1_u64 << 50, "errors.b": 1_u64 << 50, "http.codes.200": 1_u64 << 50,
    });
    let often = histogram(1 << 39);
    let histograms = json!({"http.response_time": often, "socketio.response_time": often});
    fs::write(dir.join("good.json"), changed(|_| ())).expect("written");
    for (what, bytes) in [
        (
            "counts",
            changed(|of| {
                of["drumfire"]["total"]["counters"] = counters.clone();
                seconds(of, "counters", counters.clone());
            }),
        ),
        ("users", changed(|of| seconds(of, "concurrent_users", json!(1_u64 << 50)))),
        (
            "histograms",
            changed(|of| {
                of["drumfire"]["total"]["histograms"] = histograms.clone();
                seconds(of, "histograms", histograms.clone());
            }),
        ),
        ("times", changed(|of| seconds(of, "start_s", json!(1e300)))),
        ("lengths", changed(|of| seconds(of, "length_s", json!(-1e18)))),
        ("duration", changed(|of| of["drumfire"]["meta"]["duration_s"] = json!(-1e300))),
        ("start", changed(|of| of["drumfire"]["meta"]["started_at_ms"] = json!(u64::MAX))),
    ] {
        fs::write(dir.join("r.json"), bytes).expect("written");
        for form in [Form::Html, Form::Junit, Form::Csv, Form::Markdown, Form::Hdr, Form::Text] {
            let told = form::of_file(form, &dir.join("r.json"));
            assert!(told.is_ok_and(|text| !text.is_empty()), "{what} {form:?}");
        }
        let side = |name: &str| Side::read(dir.join(name).to_str().expect("UTF-8")).expect("reads");
        let options = compare::Options { force: true, redraws: Some(2), ..compare::Options::default() };
        let comparison = Comparison::new(side("r.json"), side("good.json"), &options).expect("compares");
        assert!(compare::text::render(&comparison, true).contains("errors"), "{what}");
        assert!(compare::html::render(&comparison).contains("errors"), "{what}");
    }
}

/// Whatever becomes of the file meanwhile, it is read once: here it is a pipe, which can be read but once.
#[test]
fn a_result_is_read_once() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path();
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let text = json::to_string(&samples::journal());
    fs::write(dir.join("r.json"), &text).expect("written");
    let words = ["html", "csv", "hdr"].map(|format| vec!["report", "--format", format, "-o", "out", "pipe"]);
    for words in words.into_iter().chain([vec!["compare", "--force", "pipe", "r.json"]]) {
        let child = Command::new(env!("CARGO_BIN_EXE_drumfire"))
            .args(&words)
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("drumfire starts");
        fs::write(&pipe, &text).expect("read to its end");
        let output = child.wait_with_output().expect("waits");
        assert_eq!(output.status.code(), Some(0), "{words:?} {}", String::from_utf8_lossy(&output.stderr));
    }
    // Cut off by whoever wrote it.
    let child = Command::new(env!("CARGO_BIN_EXE_drumfire"))
        .args(["report", "pipe"])
        .current_dir(dir)
        .stderr(Stdio::piped())
        .spawn()
        .expect("drumfire starts");
    fs::write(&pipe, &text[..text.len() / 2]).expect("read to its end");
    let output = child.wait_with_output().expect("waits");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the file ends too early"));
    for (file, expected) in [("/dev/zero", "this is not a result file"), ("/dev/null", "the file is empty")] {
        refused(dir, &["report", "-o", "out", file], expected);
    }
}

// ------------------------------------------------------------------------------------------------------- large answers

/// Answers that are too much to look into are errors that say so, and cost neither the run nor its memory.
#[test]
fn answers_too_large_or_too_deep_are_told() {
    let server = Server::start(
        |_| Manner::Serve,
        |_, _, _, _, _| {},
        |path, _| {
            let body = match path {
                "/large" => format!("{{\"a\": \"{}\"}}", "x".repeat(17 << 20)),
                "/deep" => format!("{}1{}", "{\"a\":".repeat(1000), "}".repeat(1000)),
                "/nested" => {
                    (0..100).fold("{\"a\": 1}".to_owned(), |inner, _| format!("[{inner}, {{\"b\": 2}}]"))
                }
                _ => "{}".to_owned(),
            };
            (ok(&body), true)
        },
    );
    let folder = tempfile::tempdir().expect("a directory");
    let bomb = format!("$..[?({}@..x{})]", "@..[?(".repeat(6), ")]".repeat(6));
    let flows = [
        "get: {url: /large, capture: {json: $.a, as: a}}".to_owned(),
        "get: {url: /large, match: {regexp: 'x+', value: x}}".to_owned(),
        "get: {url: /deep, capture: {json: $..a, as: a}}".to_owned(),
        format!("get: {{url: /nested, capture: {{json: '{bomb}', as: a}}}}"),
        // Nobody looks, so its size is nobody's business.
        "get: {url: /large}".to_owned(),
    ];
    let scenarios: Vec<String> = flows.iter().map(|flow| format!("  - flow: [{{{flow}}}]\n")).collect();
    let script = format!(
        "config: {{target: '{{target}}', phases: [{{duration: 1, arrivalCount: 15}}]}}\nscenarios:\n{}",
        scenarios.concat()
    );
    write_script(&server, &script, folder.path());
    let (code, out, err) =
        drumfire(folder.path(), &["run", "-q", "--seed", "3", "-o", "r.json", "script.yml"]);
    assert_eq!(code, 0, "{out}{err}");
    let run = json::read(&folder.path().join("r.json")).expect("reads").run.expect("ours");
    let told: String =
        run.errors.iter().map(|error| format!("{}: {}\n", error.cause, error.sample)).collect();
    for expected in
        ["larger than 16 MiB", "no JSON (or nested deeper than 128) there", "write one with fewer `..`"]
    {
        assert!(told.contains(expected), "{expected} is missing: {told}");
    }
    assert!(told.len() < 10_000, "{told}");
}

/// What `check` lets through a run does not refuse.
#[test]
fn a_regular_expression_too_large_is_refused_with_its_place() {
    let folder = tempfile::tempdir().expect("a directory");
    for (pattern, expected) in [
        ("x{70000}", "repetitions of repetitions make it large"),
        ("(x{1000}){1000}", "repetitions of repetitions make it large"),
        (r"(a)\1", "neither look-around nor back-references"),
        ("(a+)+$", ""),
    ] {
        let step = format!("{{url: /, match: {{regexp: '{pattern}', value: q}}}}");
        fs::write(folder.path().join("a.yml"), SCRIPT.replace("{url: /}", &step)).expect("written");
        for command in ["check", "run"] {
            let (code, _, err) = drumfire(folder.path(), &[command, "a.yml"]);
            assert_eq!(
                (code, err.is_empty()),
                (i32::from(!expected.is_empty()), expected.is_empty()),
                "{err}"
            );
            assert!(err.contains(expected) && (expected.is_empty() || err.contains("a.yml:2:")), "{err}");
        }
    }
}
