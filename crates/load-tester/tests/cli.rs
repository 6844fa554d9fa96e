//! The program as it is typed: what it prints where, and its exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = "
config:
  target: http://127.0.0.1:9
  phases: [{pause: 0}]
scenarios:
  - engine: socketio
    flow: [{emit: [hello, {a: 1}]}]
";

fn drumfire(dir: &Path, words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_drumfire"))
        .args(words)
        .current_dir(dir)
        .output()
        .expect("drumfire starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn check_prints_what_will_run_and_exits_1_on_errors() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("시나리오.yml"), GOOD).expect("written");
    let (code, out, err) = drumfire(dir.path(), &["check", "시나리오.yml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("socketio): emit hello") && out.contains("add `acknowledge: true`"), "{out}");

    fs::write(dir.path().join("bad.yml"), GOOD.replace("emit", "emti")).expect("written");
    let (code, out, err) = drumfire(dir.path(), &["check", "bad.yml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("--> bad.yml:7:13") && err.contains("did you mean `emit`?"), "{err}");

    fs::write(dir.path().join("warn.yml"), GOOD.replace("  - engine", "  - nmae: x\n    engine"))
        .expect("written");
    let (code, _, err) = drumfire(dir.path(), &["check", "warn.yml"]);
    assert_eq!(code, 0);
    assert!(
        err.contains("warning: warn.yml:6:5: `nmae` is not known and ignored: did you mean `name`?"),
        "{err}"
    );
    assert_eq!(drumfire(dir.path(), &["check", "--strict", "warn.yml"]).0, 1);
}

#[test]
fn windows_are_written_as_they_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = GOOD.replace("phases: [{pause: 0}]", "phases: [{pause: 2.5}]\n  statsInterval: 1");
    fs::write(dir.path().join("a.yml"), script).expect("written");
    let (code, out, err) = drumfire(dir.path(), &["run", "--windows", "w.jsonl", "a.yml"]);
    assert_eq!(code, 0, "{out}{err}");
    let text = fs::read_to_string(dir.path().join("w.jsonl")).expect("windows");
    let windows: Vec<(f64, f64)> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|window| {
            assert!(window["counters"]["vusers.created"].is_null(), "{window}");
            let number = |key: &str| window[key].as_f64().expect("a number");
            (number("start_s"), number("length_s"))
        })
        .collect();
    // The last one ends where the run does.
    let (last, whole) = windows.split_last().expect("windows");
    assert_eq!(whole, [(0.0, 1.0), (1.0, 1.0)]);
    assert!(last.0 == 2.0 && (0.4..=1.0).contains(&last.1), "{last:?}");
    let (code, _, err) = drumfire(dir.path(), &["run", "--windows", "no/such/w.jsonl", "a.yml"]);
    assert_eq!(code, 1);
    assert!(err.contains("no/such/w.jsonl: cannot write here"), "{err}");
}

#[test]
fn run_and_report_as_the_journal_types_them() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("시나리오.yml"), GOOD).expect("written");
    let (code, out, err) = drumfire(dir.path(), &["run", "-o", "결과.json", "시나리오.yml"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("결과.json"), "{out}");
    let (code, out, err) = drumfire(dir.path(), &["report", "결과.json"]);
    assert_eq!((code, out.as_str()), (0, "결과.json.html\n"), "{err}");
    assert!(fs::read_to_string(dir.path().join("결과.json.html")).expect("a page").contains("<html"));

    let (code, out, _) = drumfire(dir.path(), &["run", "-q", "시나리오.yml", "--name", "x"]);
    assert_eq!((code, out.as_str()), (0, ""));
    let (code, out, _) = drumfire(dir.path(), &["run", "--format", "v1", "시나리오.yml"]);
    assert_eq!(code, 0);
    assert!(out.contains("Scenarios launched:  0"), "{out}");
}

#[test]
fn what_cannot_be_done_exits_1_and_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("a.yml"), GOOD).expect("written");
    let rows: [(&[&str], &str); 6] = [
        (&["rum", "a.yml"], "unrecognized subcommand"),
        (&["run", "nowhere.yml"], "nowhere.yml"),
        (&["run", "a.yml", "-e", "live"], "no environment `live`"),
        (&["run", "a.yml", "-o", "no/such/dir/x.json"], "no/such/dir"),
        (&["report", "a.yml"], "a.yml"),
        (&["run", "a.yml", "--cuont", "3"], "--cuont"),
    ];
    for (words, expected) in rows {
        let (code, out, err) = drumfire(dir.path(), words);
        assert_eq!((code, out.as_str()), (1, ""), "{words:?} {err}");
        assert!(err.contains(expected), "{words:?} {err}");
    }
}

#[test]
fn not_yet_and_never_exit_1() {
    let dir = tempfile::tempdir().expect("a directory");
    for command in ["convert", "dino", "run-fargate", "run-lambda", "run-aci"] {
        let (code, out, err) = drumfire(dir.path(), &[command, "x"]);
        assert_eq!((code, out.as_str()), (1, ""), "{command}");
        assert!(err.contains(&format!("unrecognized subcommand '{command}'")), "{err}");
    }
}

#[test]
fn help_teaches_by_examples() {
    let dir = tempfile::tempdir().expect("a directory");
    let commands = ["run", "check", "report", "compare", "limit", "quick", "init"];
    for words in
        std::iter::once(vec!["--help"]).chain(commands.iter().map(|command| vec![*command, "--help"]))
    {
        let words = &words[..];
        let (code, out, err) = drumfire(dir.path(), words);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("Examples:\n  drumfire "), "{out}");
    }
    let (code, out, _) = drumfire(dir.path(), &["--version"]);
    assert_eq!((code, out.starts_with("drumfire ")), (0, true));
    assert_eq!(drumfire(dir.path(), &[]).0, 1);
}

#[test]
fn completions_are_printed() {
    let dir = tempfile::tempdir().expect("a directory");
    for (shell, expected) in [
        ("bash", "complete -F _drumfire"),
        ("zsh", "#compdef drumfire"),
        ("fish", "complete -c drumfire"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let (code, out, err) = drumfire(dir.path(), &["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        assert!(out.contains(expected) && out.contains("until"), "{shell}: {out}");
    }
    assert_eq!(drumfire(dir.path(), &["completions", "tcsh"]).0, 1);
    assert!(drumfire(dir.path(), &["completions", "--help"]).1.contains("To install:"));
}

#[test]
fn a_script_to_begin_with_is_written_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let (code, out, _) = drumfire(dir.path(), &["init"]);
    assert_eq!((code, out.lines().next()), (0, Some("drumfire.yml")));
    assert_eq!(drumfire(dir.path(), &["check", "--strict", "drumfire.yml"]).0, 0);
    let (code, _, err) = drumfire(dir.path(), &["init", "--kind", "http"]);
    assert_eq!((code, err.contains("there is one already, and it stays")), (1, true), "{err}");
    assert_eq!(
        drumfire(dir.path(), &["init", "http.yml", "--kind", "http", "-t", "http://127.0.0.1:9"]).0,
        0
    );
    assert!(drumfire(dir.path(), &["check", "http.yml"]).1.contains("http://127.0.0.1:9"));
}

#[test]
fn results_are_compared_as_typed() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("a.yml"), GOOD).expect("written");
    for name in ["a1.json", "a2.json"] {
        fs::write(dir.path().join(name), include_str!("fixtures/artillery-2.0.21.json")).expect("written");
    }
    let (code, out, err) = drumfire(dir.path(), &["compare", "a1.json", "a2.json", "-o", "c.html"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("* errors.share") && out.contains("No noise is known"), "{out}");
    assert!(fs::read_to_string(dir.path().join("c.html")).expect("a page").contains("a2.json"));
    fs::create_dir(dir.path().join("runs")).expect("made");
    for name in ["a1.json", "a2.json"] {
        fs::copy(dir.path().join(name), dir.path().join("runs").join(name)).expect("copied");
    }
    for (a, b) in [("runs", "a*.json"), ("a1.json,a2.json", "runs/a?.json")] {
        let (code, out, err) = drumfire(dir.path(), &["compare", a, b]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains("Noise is what 2 runs of A and 2 of B differ by"), "{out}");
    }
    fs::create_dir(dir.path().join("none")).expect("made");
    for (a, expected) in [
        ("nowhere.json", "nowhere.json"),
        ("b*.json", "no result file"),
        ("none", "no result (*.json) is in this directory"),
        ("a.yml", "a.yml"),
    ] {
        let (code, out, err) = drumfire(dir.path(), &["compare", a, "a1.json"]);
        assert_eq!((code, out.as_str(), err.contains(expected)), (1, "", true), "{err}");
    }
    let (code, _, err) =
        drumfire(dir.path(), &["compare", "a1.json", "a2.json", "--fail-if", "delivery.p98 > 1%"]);
    assert_eq!((code, err.contains("did you mean")), (1, true), "{err}");
}
