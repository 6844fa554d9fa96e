//! JUnit, CSV, Markdown and HdrHistogram logs of made-up outcomes, and docs/outputs.md, which is written from them:
//! `UPDATE_DOCS=1 cargo test -p load-tester --test forms`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use load_tester::outcome::{Outcome, names};
use load_tester::report::{Console, Form, Format, Loaded, csv, form, json};

mod samples;

fn of(form: Form, outcome: &Outcome) -> String {
    form::of_run(form, outcome, &Loaded::of(outcome))
}

const FORMS: [Form; 6] = [Form::Html, Form::Junit, Form::Csv, Form::Markdown, Form::Hdr, Form::Text];

#[test]
fn junit_of_a_good_run() {
    insta::assert_snapshot!(of(Form::Junit, &samples::good()));
}

#[test]
fn junit_of_a_bad_run() {
    insta::assert_snapshot!(of(Form::Junit, &samples::bad()));
}

#[test]
fn markdown_of_a_good_run() {
    insta::assert_snapshot!(of(Form::Markdown, &samples::good()));
}

#[test]
fn markdown_of_a_bad_run() {
    insta::assert_snapshot!(of(Form::Markdown, &samples::bad()));
}

/// What CI servers read of a suite: its own counts fit its cases, and every element is where their schemas have it.
#[test]
fn junit_counts_what_it_holds() {
    use quick_xml::Reader;
    use quick_xml::events::Event;
    let mut interrupted = samples::bad();
    interrupted.interrupted = Some("SIGINT");
    interrupted.checks[0].expression = "a < b && c > \"d\" \u{0}\u{1b}".to_owned();
    interrupted.meta.script = "<&\"'>.yml".to_owned();
    for (outcome, expected) in [
        (samples::good(), ["4", "0", "0", "0"]),
        (samples::bad(), ["4", "2", "0", "1"]),
        (interrupted, ["4", "2", "1", "1"]),
        (samples::journal(), ["2", "0", "0", "0"]),
    ] {
        let text = of(Form::Junit, &outcome);
        let mut reader = Reader::from_str(&text);
        let mut stack: Vec<String> = Vec::new();
        let mut seen = BTreeMap::<String, u64>::new();
        let mut counts = Vec::new();
        loop {
            let (element, empty) = match reader.read_event().expect("well-formed") {
                Event::Start(element) => (element.into_owned(), false),
                Event::Empty(element) => (element.into_owned(), true),
                Event::End(_) => {
                    stack.pop();
                    continue;
                }
                Event::Eof => break,
                _ => continue,
            };
            let name = element.name().as_ref().to_owned();
            let parent = stack.last().map_or("", String::as_str);
            let allowed = match name.as_str() {
                "testsuites" => "",
                "testsuite" => "testsuites",
                "properties" | "testcase" | "system-out" => "testsuite",
                "property" => "properties",
                "failure" | "error" | "skipped" => "testcase",
                other => panic!("{other} is in no schema"),
            };
            assert_eq!(parent, allowed, "{name}");
            if name == "testsuite" {
                for attribute in ["tests", "failures", "errors", "skipped"] {
                    let found = element.try_get_attribute(attribute).expect("reads").expect("is there");
                    counts.push(found.value.clone().into_owned());
                }
            }
            *seen.entry(name.clone()).or_default() += 1;
            if !empty {
                stack.push(name);
            }
        }
        assert!(stack.is_empty());
        let of = |name: &str| seen.get(name).copied().unwrap_or(0).to_string();
        assert_eq!(counts, expected, "{text}");
        assert_eq!(counts, [of("testcase"), of("failure"), of("error"), of("skipped")], "{text}");
    }
}

#[test]
fn csv_has_a_row_for_each_second_and_the_same_columns_always() {
    let (good, journal) = (of(Form::Csv, &samples::good()), of(Form::Csv, &samples::journal()));
    assert_eq!(good.lines().next(), journal.lines().next());
    let outcome = samples::good();
    let names: Vec<String> = csv::columns().into_iter().map(|(name, _)| name).collect();
    let rows: Vec<Vec<&str>> = good.lines().skip(1).map(|row| row.split(',').collect()).collect();
    assert_eq!(rows.len(), outcome.seconds.len());
    assert!(rows.iter().all(|row| row.len() == names.len()));
    let column = |name: &str| names.iter().position(|known| known == name).expect("a column");
    let sum =
        |name: &str| rows.iter().map(|row| row[column(name)].parse::<u64>().expect("a number")).sum::<u64>();
    assert_eq!(sum("users_started"), outcome.total.counters["vusers.created"]);
    assert_eq!(sum("errors"), 0);
    let p99: f64 = rows[20][column("http_response_p99_ms")].parse().expect("a number");
    let expected =
        outcome.seconds[20].histograms[names::HTTP_RESPONSE_TIME].value_at_quantile(0.99) as f64 / 1000.0;
    assert!((p99 - expected).abs() < 0.002, "{p99} {expected}");
    let cores: f64 = rows[20][column("target_cores")].parse().expect("a number");
    let sample: f64 = outcome.target.expect("watched").samples[20].threads.iter().map(|(_, cpu)| cpu).sum();
    assert!((cores - sample).abs() < 0.002, "{cores} {sample}");
    // Nothing was delivered there, which is no zero.
    assert_eq!(journal.lines().nth(1).expect("a row").split(',').nth(column("delivery_p99_ms")), Some(""));
}

#[test]
fn an_hdr_log_reads_back_exactly() {
    let outcome = samples::good();
    let from_run = of(Form::Hdr, &outcome);
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("r.json");
    json::write(&outcome, &path).expect("written");
    assert_eq!(form::of_file(Form::Hdr, &path).expect("reads"), from_run);

    let mut sums = BTreeMap::<String, Histogram<u64>>::new();
    let mut reader = Deserializer::new();
    for entry in IntervalLogIterator::new(from_run.as_bytes()) {
        match entry.expect("reads") {
            LogEntry::Interval(interval) => {
                let bytes = base64::Engine::decode(
                    &base64::engine::general_purpose::STANDARD,
                    interval.encoded_histogram(),
                )
                .expect("base64");
                let histogram: Histogram<u64> = reader.deserialize(&mut &bytes[..]).expect("a histogram");
                let tag = interval.tag().expect("a tag").as_str().to_owned();
                sums.entry(tag)
                    .or_insert_with(|| Histogram::new(3).expect("3 digits"))
                    .add(&histogram)
                    .expect("grows");
            }
            LogEntry::BaseTime(at) | LogEntry::StartTime(at) => {
                assert_eq!(at.as_millis() as u64, outcome.meta.started_at_ms);
            }
        }
    }
    for (name, total) in &outcome.total.histograms {
        assert_eq!(sums[name].len(), total.len(), "{name}");
        assert_eq!(sums[name].value_at_quantile(0.99), total.value_at_quantile(0.99), "{name}");
    }
}

#[test]
fn artillerys_results_make_every_form_but_the_one_they_cannot() {
    for file in ["artillery-1.7.9.json", "artillery-2.0.21.json"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
        for form in FORMS {
            match form::of_file(form, &path) {
                Ok(text) => assert!(!text.is_empty(), "{form:?}"),
                Err(error) => {
                    let message = error.to_string();
                    assert_eq!(form, Form::Hdr, "{message}");
                    assert!(message.contains(file) && message.contains("choose another format"), "{message}");
                }
            }
        }
    }
}

/// A run that ended before its first phase.
#[test]
fn a_run_of_no_seconds_makes_every_form() {
    let mut outcome = samples::outcome(samples::meta("a.yml"), Vec::new());
    outcome.interrupted = Some("SIGINT");
    outcome.meta.duration_s = 0.0;
    for form in FORMS {
        assert!(!of(form, &outcome).is_empty(), "{form:?}");
    }
    assert!(of(Form::Markdown, &outcome).contains("interrupted"));
}

// ---------------------------------------------------------------------------------------------------- docs/outputs.md

fn block(out: &mut String, language: &str, text: &str) {
    let _ = writeln!(out, "\n````{language}\n{}\n````", text.trim_end());
}

/// The first lines, each cut.
fn begin(text: &str, lines: usize, width: usize) -> String {
    let cut = |line: &str| {
        let short: String = line.chars().take(width).collect();
        if short.len() < line.len() { short + "…" } else { short }
    };
    text.lines().take(lines).map(cut).collect::<Vec<_>>().join("\n")
}

fn document() -> String {
    let (good, bad) = (samples::good(), samples::bad());
    let mut out = String::from(
        "# What drumfire writes\n\n\
         <!-- Written from made-up runs by the test `the_page_of_outputs_is_current`: \
         UPDATE_DOCS=1 cargo test -p load-tester --test forms -->\n\n\
         | form | while running | from a result |\n| --- | --- | --- |\n\
         | screen, or lines | on a terminal, or elsewhere and with `--no-tui` | |\n\
         | summary | always, not with `--quiet` | `drumfire report --format text result.json` |\n\
         | result (JSON) | `run -o result.json` | |\n\
         | page (HTML) | `run --live` | `drumfire report result.json` |\n\
         | JUnit XML | `run --junit checks.xml` | `drumfire report --format junit result.json` |\n\
         | CSV | `run --csv seconds.csv` | `drumfire report --format csv result.json` |\n\
         | Markdown | `run --markdown summary.md` | `drumfire report --format markdown result.json` |\n\
         | HdrHistogram log | `run --hdr times.hlog` | `drumfire report --format hdr result.json` |\n\
         | windows of 10 s, a line of JSON each | `run --windows windows.jsonl` | |\n\
         | who heard what (CSV) | `run --pairs pairs.csv` | |\n\n\
         Everything is written after Ctrl-C too. What cannot be written is told with its place and what to do, the rest is \
         written all the same, and the exit code is 1. A result that does not fit on its disk is kept in the directory for \
         temporary files if that has room. `-o -` prints what `report` makes.\n\n\
         The runs below are invented: a good one, and one whose target falls behind.\n\n## The screen\n\n\
         On a terminal, unless `--no-tui` (or `--plain`), `--quiet`, `--format v1` or `v2`, `CI` or `TERM=dumb` say otherwise. \
         `NO_COLOR` takes the colours away; words say all that they say. Keys: 1 to 5 for the tabs, `q` for the first Ctrl-C, \
         `Q` for the second, `s` for every tab in a text file, `l` for what was said, `?` for help. The screen is drawn by a \
         thread of its own, at most ten times a second, from a copy; the terminal is given back however the run ends, and the \
         summary follows.\n",
    );
    let snapshot = include_str!("snapshots/screen__a_good_run_on_a_small_terminal.snap");
    block(&mut out, "text", snapshot.splitn(3, "---\n").nth(2).expect("a body"));
    let _ = writeln!(out, "\n## The summary");
    let console = Console::in_zone(Format::Plain, bad.meta.started_at_ms, jiff::tz::TimeZone::UTC);
    block(&mut out, "text", &console.summary(&bad, Some(Path::new("result.json"))));
    let _ = writeln!(
        out,
        "\n## JUnit XML\n\nA case for the run itself (an error when a signal ended it), one for whether the figures may be \
         believed, one for each `ensure` and `expect`. What has no consequence for the exit code is skipped, not failed: a limit \
         that is not strict, an invalid run of which nothing is claimed."
    );
    block(&mut out, "xml", &of(Form::Junit, &bad));
    let _ = writeln!(
        out,
        "\n## CSV\n\nA row for each second. Every file has the same columns; what was not measured is empty. Times are in \
         milliseconds."
    );
    block(&mut out, "text", &begin(&of(Form::Csv, &good), 4, 150));
    let _ = writeln!(out, "\n| column | meaning |\n| --- | --- |");
    for (name, meaning) in csv::columns() {
        let _ = writeln!(out, "| `{name}` | {meaning} |");
    }
    let _ = writeln!(
        out,
        "\n## Markdown\n\n`--markdown -` appends it to the job's summary on a GitHub runner (`GITHUB_STEP_SUMMARY`) and prints \
         it elsewhere."
    );
    block(&mut out, "markdown", &of(Form::Markdown, &bad));
    let _ = writeln!(
        out,
        "\n## HdrHistogram log\n\nAn interval log (format 1.3, V2 compressed) with a line for each second and distribution, tagged \
         with its name; spaces, commas and per cent signs of a tag are written as in URLs (`GET%20/`). Values are microseconds, so \
         HistogramLogProcessor wants `-outputValueUnitRatio 1000` to print milliseconds. Seconds keep two significant digits. \
         HdrHistogram's own readers in Java and Python read it."
    );
    // What is compressed may look different tomorrow.
    let log = begin(&of(Form::Hdr, &good), 8, usize::MAX);
    let lines = log.lines().map(|line| match line.split_once("HISTF") {
        Some((before, _)) => format!("{before}HISTF…"),
        None => line.to_owned(),
    });
    block(&mut out, "text", &lines.collect::<Vec<_>>().join("\n"));
    out
}

#[test]
fn the_page_of_outputs_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/outputs.md");
    let expected = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).expect("written");
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == expected,
        "docs/outputs.md is out of date: UPDATE_DOCS=1 cargo test -p load-tester --test forms"
    );
}
