//! What a run looks like in every output format, and what result files of every origin read as.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jiff::tz::TimeZone;
use load_tester::outcome::names;
use load_tester::report::{Console, Format, Loaded, Origin, html, json};

mod samples;

/// The journal was written in Seoul.
fn seoul() -> TimeZone {
    TimeZone::fixed(jiff::tz::offset(9))
}

fn console(format: Format, loaded: &Loaded) -> Console {
    Console::in_zone(format, loaded.started_at_ms.unwrap_or(0), seoul())
}

fn summary(format: Format, loaded: &Loaded) -> String {
    console(format, loaded).summary_of(loaded, Some(Path::new("report.json")))
}

fn read(text: &str) -> Loaded {
    json::parse(text.as_bytes(), Path::new("report.json")).expect("reads")
}

fn refusal(text: &str) -> String {
    json::parse(text.as_bytes(), Path::new("report.json")).expect_err("must not read").to_string()
}

// ------------------------------------------------------------------------------------------------------- console

/// An Artillery 1.6 file with the figures of the night the journal tells of.
const JOURNAL: &str = r#"{"aggregate": {"timestamp": "2018-09-01T21:24:26.000Z",
    "scenariosCreated": 9000, "scenariosCompleted": 8957, "requestsCompleted": 8957,
    "latency": {"min": 0.1, "max": 22.7, "median": 0.1, "p95": 0.3, "p99": 0.8},
    "rps": {"count": 8957, "mean": 252.03}, "scenarioDuration": {"min": null, "max": null, "median": null, "p95": null, "p99": null},
    "scenarioCounts": {"0": 9000}, "errors": {"Error: websocket error": 43}, "codes": {"0": 8957}, "matches": 0,
    "customStats": {}, "concurrency": null, "phases": [{"duration": 30, "arrivalRate": 300}]},
  "intermediate": [{"timestamp": "2018-09-01T21:24:26.000Z", "scenariosCreated": 9000, "scenariosCompleted": 8957,
    "requestsCompleted": 8957, "latencies": [[1535837066000, "a", 100000, 0], [1535837066000, "b", 22700000, 0]]}]}"#;

#[test]
fn the_v1_block_is_the_journals_label_for_label() {
    let loaded = read(JOURNAL);
    let text = console(Format::V1, &loaded).summary_of(&loaded, Some(Path::new("report0901_3.json")));
    let journal = "\
All virtual users finished
Summary report @ 06:24:26(+0900) 2018-09-02
  Scenarios launched:  9000
  Scenarios completed: 8957
  Requests completed:  8957
  RPS sent: 252.03
  Request latency:
    min: 0.1
    max: 22.7
    median: 0.1
    p95: 0.3
    p99: 0.8
  Scenario counts:
    0: 9000 (100%)
  Codes:
    0: 8957
  Errors:
    Error: websocket error: 43

Log file: report0901_3.json
";
    assert_eq!(text.get(..journal.len()), Some(journal), "{text}");
}

#[test]
fn v1_summary() {
    insta::assert_snapshot!(summary(Format::V1, &Loaded::of(&samples::journal())));
}

#[test]
fn v1_summary_of_a_bad_run() {
    insta::assert_snapshot!(summary(Format::V1, &Loaded::of(&samples::bad())));
}

#[test]
fn v1_has_no_latency_where_nothing_answered() {
    let mut outcome = samples::journal();
    outcome.total.histograms.remove(names::HTTP_RESPONSE_TIME);
    let text = summary(Format::V1, &Loaded::of(&outcome));
    for label in ["min", "max", "median", "p95", "p99"] {
        assert!(text.contains(&format!("    {label}: n/a\n")), "{text}");
    }
}

#[test]
fn v2_summary() {
    insta::assert_snapshot!(summary(Format::V2, &Loaded::of(&samples::journal())));
}

#[test]
fn v2_summary_of_a_bad_run() {
    insta::assert_snapshot!(summary(Format::V2, &Loaded::of(&samples::bad())));
}

#[test]
fn plain_summary() {
    insta::assert_snapshot!(summary(Format::Plain, &Loaded::of(&samples::good())));
}

#[test]
fn plain_summary_of_a_bad_run() {
    insta::assert_snapshot!(summary(Format::Plain, &Loaded::of(&samples::bad())));
}

#[test]
fn phases_and_windows() {
    let outcome = samples::bad();
    let mut text = String::new();
    for format in [Format::Plain, Format::V1, Format::V2] {
        let console = Console::in_zone(format, outcome.meta.started_at_ms, seoul());
        let phase = &outcome.meta.phases[1];
        text += &format!("=== {format:?}\n{}", console.phase_started(1, phase));
        text += &console.window(&outcome.seconds[38]);
        text += &console.phase_completed(1, phase);
    }
    insta::assert_snapshot!(text);
}

// -------------------------------------------------------------------------------------------------- result file

#[test]
fn what_is_written_is_read_back() {
    for outcome in [samples::journal(), samples::good(), samples::bad()] {
        let before = Loaded::of(&outcome);
        let after = read(&json::to_string(&outcome));
        assert_eq!(after.origin, Origin::Drumfire);
        assert_eq!(after.total, before.total);
        assert_eq!(after.slices, before.slices);
        assert_eq!(after.phases, before.phases);
        assert_eq!(after.scenario_counts, before.scenario_counts);
        assert_eq!((after.started_at_ms, after.duration_s), (before.started_at_ms, before.duration_s));
        let (after, before) = (after.run.expect("ours"), before.run.expect("ours"));
        assert_eq!(after.meta, before.meta);
        assert_eq!(after.histograms, before.histograms);
        assert_eq!(after.errors, before.errors);
        assert_eq!(after.server_events, before.server_events);
        assert_eq!(after.delivery, before.delivery);
        assert_eq!(after.target, before.target);
        assert_eq!(after.tester, before.tester);
        assert_eq!(after.validity, before.validity);
        assert_eq!(after.checks, before.checks);
    }
}

#[test]
fn the_file_has_artillery_2s_shape() {
    let outcome = samples::bad();
    let file: serde_json::Value = serde_json::from_str(&json::to_string(&outcome)).expect("JSON");
    let keys = |v: &serde_json::Value| v.as_object().expect("object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&file), ["aggregate", "intermediate", "drumfire"]);
    let real: serde_json::Value =
        serde_json::from_str(include_str!("fixtures/artillery-2.0.21.json")).expect("JSON");
    let mut ours = keys(&file["aggregate"]);
    let mut theirs = keys(&real["aggregate"]);
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    let summary = |file: &serde_json::Value| keys(&file["aggregate"]["summaries"]["http.response_time"]);
    assert_eq!(summary(&file), summary(&real));

    let windows = file["intermediate"].as_array().expect("windows");
    assert_eq!(windows.len(), 8);
    assert_eq!(windows[1]["period"], "1535837045000");
    assert_eq!(file["aggregate"]["period"], 1_535_837_105_000_u64);
    for (name, total) in &outcome.total.counters {
        let sum: u64 = windows.iter().filter_map(|w| w["counters"][name].as_u64()).sum();
        assert_eq!(sum, *total, "{name}");
    }
    let started = file["aggregate"]["firstMetricAt"].as_u64().expect("number");
    assert_eq!(started, outcome.meta.started_at_ms);
}

#[test]
fn artillery_1_7_reads() {
    let loaded = read(include_str!("fixtures/artillery-1.7.9.json"));
    assert_eq!(loaded.origin, Origin::ArtilleryV1);
    let total = &loaded.total;
    assert_eq!((total.launched(), total.completed(), total.requests_completed), (220, 117, 351));
    assert_eq!(total.requests_started, 454);
    assert_eq!(
        total.codes.iter().map(|(c, n)| (c.as_str(), *n)).collect::<Vec<_>>(),
        [("0", 117), ("200", 117), ("500", 117)]
    );
    assert_eq!(total.errors().collect::<Vec<_>>(), [("ECONNREFUSED", 103)]);
    let latency = total.answered.expect("has latency");
    assert_eq!(
        (latency.min, latency.max, latency.median, latency.p95, latency.p99),
        (0.0, 5.0, 0.2, 2.0, 4.0)
    );
    // From the samples, which the file has in nanoseconds.
    assert_eq!(latency.count, Some(351));
    assert!(latency.mean.is_some_and(|mean| mean > 0.2 && mean < 2.0));
    assert_eq!(latency.p999, Some(5.0));
    assert_eq!(loaded.slices.len(), 2);
    assert_eq!((loaded.slices[0].start_s, loaded.slices[0].length_s), (0.0, 10.0));
    assert_eq!(loaded.slices[0].concurrent_users, Some(8));
    assert!((loaded.duration_s - 15.009).abs() < 0.01, "{}", loaded.duration_s);
    let phases: Vec<_> =
        loaded.phases.iter().map(|p| (p.name.as_str(), p.start_s, p.load.as_str(), p.planned)).collect();
    assert_eq!(phases, [("warm", 0.0, "10/s", 60), ("full", 6.0, "20/s", 160)]);
    assert_eq!(loaded.scenario_counts["1"], 103);
}

#[test]
fn artillery_1_6_reads_with_its_rows_of_samples() {
    let loaded = read(JOURNAL);
    assert_eq!(loaded.origin, Origin::ArtilleryV1);
    let latency = loaded.total.answered.expect("has latency");
    assert_eq!((latency.count, latency.max), (Some(2), 22.7));
    assert_eq!(loaded.total.summary("vusers.session_length"), None);
    assert_eq!(loaded.planned(), Some(9000));
}

#[test]
fn artillery_2_reads() {
    let loaded = read(include_str!("fixtures/artillery-2.0.21.json"));
    assert_eq!(loaded.origin, Origin::ArtilleryV2);
    let total = &loaded.total;
    assert_eq!((total.launched(), total.completed(), total.failed()), (220, 101, 119));
    assert_eq!(total.counter("socketio.emit"), 101);
    assert_eq!(total.rates["http.request_rate"], 23.0);
    let emits = total.summary("socketio.response_time").expect("has it");
    assert_eq!((emits.count, emits.p75, emits.p999), (Some(101), Some(0.4), Some(1.5)));
    assert_eq!(total.answered.and_then(|s| s.count), Some(202));
    assert_eq!(loaded.slices.len(), 3);
    assert_eq!(loaded.slices.iter().map(|s| s.launched()).sum::<u64>(), 220);
    assert!((loaded.duration_s - 14.912).abs() < 0.001, "{}", loaded.duration_s);
    // The windows cover the run without overlap.
    for pair in loaded.slices.windows(2) {
        assert!((pair[0].start_s + pair[0].length_s - pair[1].start_s).abs() < 1.5, "{pair:?}");
    }
    assert_eq!(loaded.scenario_counts["0"], 101);
}

#[test]
fn early_builds_of_artillery_2_read_under_todays_names() {
    let loaded = read(
        r#"{"aggregate": {"counters": {"core.vusers.created.total": 4, "core.vusers.created.by_name.chat": 4,
            "core.vusers.completed": 3, "engine.http.requests": 5, "engine.http.codes.200": 5, "engine.http.responses": 5,
            "errors.ETIMEDOUT": 1}, "rates": {"engine.http.request_rate": null},
            "summaries": {"engine.http.response_time": {"min": 1, "max": 9, "count": 5, "p50": 3, "median": 3, "p75": 4, "p90": 5, "p95": 8, "p99": 9, "p999": 9}},
            "period": 1618000000000},
          "intermediate": []}"#,
    );
    let total = &loaded.total;
    assert_eq!((total.launched(), total.completed(), total.counter("http.requests")), (4, 3, 5));
    assert_eq!(loaded.scenario_counts["chat"], 4);
    assert_eq!(total.answered.map(|s| (s.mean, s.p99)), Some((None, 9.0)));
    assert_eq!(total.codes["200"], 5);
}

#[test]
fn what_is_no_result_says_what_it_is_and_what_to_do() {
    let whole = json::to_string(&samples::journal());
    let rows = [
        (whole[..whole.len() / 2].to_owned(), "report.json:1:13", "cut off"),
        (String::new(), "the file is empty", "did not get that far"),
        ("config:\n  target: x\n".to_owned(), "not a result file", "drumfire run"),
        ("<!doctype html>".to_owned(), "HTML", "JSON file the report was made from"),
        (r#"{"config": {}, "scenarios": []}"#.to_owned(), "a script", "drumfire run -o"),
        (r#"{"metrics": {}, "root_group": {}}"#.to_owned(), "neither an `aggregate`", "other tools"),
        (r#"{"aggregate": {}, "intermediate": []}"#.to_owned(), "neither `scenariosCreated`", "run"),
        ("{\n \"aggregate\": {\"counters\": [1]}}".to_owned(), "report.json:2:27: invalid type", "run -o"),
        (format!("{{\"aggregate\": {{\"period\": {}", "[".repeat(100_000)), "nested deeper", "run -o"),
        (
            whole.replacen("\"format\":1", "\"format\":99", 1),
            "newer drumfire (format 99",
            "drumfire that wrote it",
        ),
        (whole.replacen("microseconds; Hdr", "seconds; Hdr", 1), "not “microseconds", "wrote it"),
    ];
    for (text, what, remedy) in rows {
        let message = refusal(&text);
        let opening: String = text.chars().take(60).collect();
        assert!(message.contains(what) && message.contains(remedy), "{opening}: {message}");
        assert!(message.starts_with("report.json"), "{message}");
    }
}

#[test]
fn a_histogram_is_looked_at_before_it_is_believed() {
    let whole = json::to_string(&samples::journal());
    let start =
        whole.find("\"drumfire.start_lateness\":\"").expect("there") + "\"drumfire.start_lateness\":\"".len();
    let end = start + whole[start..].find('"').expect("there");
    let with = |text: &str| format!("{}{text}{}", &whole[..start], &whole[end..]);
    assert!(refusal(&with("%%%")).contains("not base64"));
    assert!(refusal(&with("AAAA")).contains("not a deflated HdrHistogram"));
    // The right cookie, then no zlib stream.
    assert!(refusal(&with("HISTFAAAAAgAAAAA")).contains("cannot be inflated"));
}

#[test]
fn a_damaged_file_is_read_or_refused_and_never_panics() {
    let ours = json::to_string(&samples::journal());
    let files = [
        ours.as_str(),
        include_str!("fixtures/artillery-1.7.9.json"),
        include_str!("fixtures/artillery-2.0.21.json"),
        JOURNAL,
    ];
    let mut noise = samples::Noise(42);
    let mut read = 0;
    for file in files {
        for _ in 0..300 {
            let mut bytes = file.as_bytes().to_vec();
            for _ in 0..=(noise.unit() * 3.0) as usize {
                let at = (noise.unit() * bytes.len() as f64) as usize;
                let splinters = b"0123456789-+.eE\"{}[],:ntf\\ \xff";
                let splinter = splinters[(noise.unit() * splinters.len() as f64) as usize];
                match (noise.unit() * 3.0) as usize {
                    0 => bytes[at] = splinter,
                    1 => bytes.insert(at, splinter),
                    _ => drop(bytes.remove(at)),
                }
            }
            if let Ok(loaded) = json::parse(&bytes, Path::new("report.json")) {
                read += 1;
                if read % 10 == 0 {
                    assert_balanced(&page(&loaded));
                    for format in [Format::Plain, Format::V1, Format::V2] {
                        summary(format, &loaded);
                    }
                }
            }
        }
    }
    assert!(read > 100, "most damage hits a figure and still reads: {read}");
}

#[test]
fn every_shortened_file_is_refused_without_a_panic() {
    let whole = json::to_string(&samples::journal());
    for cut in (0..whole.len()).step_by(whole.len() / 97) {
        let message = refusal(&whole[..cut]);
        assert!(message.contains("cut off") || message.contains("empty"), "{cut}: {message}");
    }
}

#[test]
fn a_place_that_cannot_be_written_is_told_beforehand() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "").expect("writes");

    let missing = json::probe(&at("nowhere/result.json")).expect_err("no such directory").to_string();
    assert!(missing.contains("does not exist: create it first"), "{missing}");
    json::probe(&at("file/result.json")).expect_err("its parent is a file");

    assert_eq!(json::probe(&at("result.json")).expect("can be written"), at("result.json"));
    let named = json::probe(directory.path()).expect("a directory gets a file");
    assert!(
        named.file_name().is_some_and(|n| n.to_string_lossy().starts_with("drumfire_report_")),
        "{named:?}"
    );
    let left: Vec<_> =
        fs::read_dir(directory.path()).expect("lists").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["file"]);
}

#[test]
fn a_result_takes_its_name_only_when_it_is_whole() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("result.json");
    fs::write(&path, "yesterday's").expect("writes");
    json::write(&samples::journal(), &path).expect("writes");
    let loaded = json::read(&path).expect("reads");
    assert_eq!(loaded.total.launched(), 9000);
    let left: Vec<_> =
        fs::read_dir(directory.path()).expect("lists").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["result.json"]);
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_written_through() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let (file, link) = (directory.path().join("real.json"), directory.path().join("latest.json"));
    fs::write(&file, "").expect("writes");
    std::os::unix::fs::symlink(&file, &link).expect("links");
    json::write(&samples::journal(), &link).expect("writes");
    assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
    assert_eq!(json::read(&file).expect("reads").total.launched(), 9000);
}

#[test]
fn the_exit_code_follows_the_outcome() {
    let valid = samples::good();
    let mut limit_broken = valid.clone();
    limit_broken.checks[0].passed = false;
    let mut expectation_broken = limit_broken.clone();
    expectation_broken.checks[1].passed = false;
    let mut lenient = valid.clone();
    (lenient.checks[0].passed, lenient.checks[0].strict) = (false, false);
    let mut invalid = valid.clone();
    invalid.validity.valid = false;
    let mut unclaimed = invalid.clone();
    unclaimed.checks.clear();
    let mut stopped = invalid.clone();
    stopped.interrupted = Some("SIGTERM");
    let rows = [
        ("valid", &valid, false, 0),
        ("valid, must be", &valid, true, 0),
        ("ensure failed", &limit_broken, false, 1),
        ("expect failed too", &expectation_broken, false, 21),
        ("not strict", &lenient, false, 0),
        ("invalid under a claim", &invalid, false, 3),
        ("invalid, nothing claimed", &unclaimed, false, 0),
        ("invalid, validity asked for", &unclaimed, true, 3),
        ("stopped", &stopped, false, 143),
        ("bad", &samples::bad(), false, 3),
    ];
    for (what, outcome, require_valid, code) in rows {
        assert_eq!(load_tester::exit::code_of(outcome, require_valid), code, "{what}");
    }
}

// ---------------------------------------------------------------------------------------------------------- HTML

fn page(loaded: &Loaded) -> String {
    html::render_in_zone(loaded, &seoul())
}

/// The text between tags, scripts and style left out.
fn text_of(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some(open) = rest.find('<') {
        text.push_str(&rest[..open]);
        rest = &rest[open..];
        let skip = ["script", "style"].into_iter().find(|tag| rest[1..].starts_with(tag));
        let end = match skip {
            Some(tag) => rest.find(&format!("</{tag}>")).expect("closed") + tag.len() + 2,
            None => rest.find('>').expect("closed"),
        };
        rest = &rest[end + 1..];
        text.push(' ');
    }
    text.replace('\u{a0}', " ").replace("&#39;", "'").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every element that is opened is closed in order.
fn assert_balanced(page: &str) {
    const VOID: [&str; 4] = ["meta", "link", "!doctype", "path"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("tag ends");
        let tag = rest[..end].split([' ', '/']).find(|part| !part.is_empty()).unwrap_or("");
        if rest.starts_with('/') {
            assert_eq!(
                open.pop(),
                Some(tag),
                "closing {tag} before: {}",
                rest.chars().take(80).collect::<String>()
            );
        } else if !VOID.contains(&tag) {
            open.push(tag);
            if tag == "script" || tag == "style" {
                let close = format!("</{tag}>");
                rest = &rest[rest.find(&close).expect("closed")..];
                continue;
            }
        }
        rest = &rest[end + 1..];
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = page(&read(&json::to_string(&samples::bad())));
    assert_balanced(&page);
    for reference in ["src=", "@import", "url(", "<iframe", "fetch(", "XMLHttp", "<link rel=\"stylesheet"] {
        assert!(!page.contains(reference), "{reference}");
    }
    let elsewhere: Vec<_> =
        attributes(&page, "href").into_iter().filter(|link| !link.starts_with('#')).collect();
    assert_eq!(elsewhere, ["data:,"], "only the empty icon");
}

/// The values of an attribute, scripts left out.
fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let body = &page[..page.find("<script").unwrap_or(page.len())];
    let start = format!(" {name}=\"");
    body.match_indices(&start).filter_map(|(at, found)| body[at + found.len()..].split('"').next()).collect()
}

/// What stands between each opening of an element and its end.
fn elements<'a>(page: &'a str, tag: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
    page.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap_or(rest)).collect()
}

/// Everything a run may have, in a page.
fn rich_pages() -> &'static [(&'static str, String); 3] {
    static MADE: LazyLock<[(&str, String); 3]> = LazyLock::new(|| {
        [
            ("good", page(&read(&json::to_string(&samples::rich::rich_good())))),
            ("bad", page(&read(&json::to_string(&samples::rich::rich_bad())))),
            ("undelivered", page(&Loaded::of(&samples::rich::undelivered()))),
        ]
    });
    &MADE
}

#[test]
fn every_figure_has_a_title_a_description_and_a_table_in_its_place() {
    for (name, page) in rich_pages() {
        assert_balanced(page);
        let figures = elements(page, "figure");
        assert!(figures.len() >= 12, "{name}: {}", figures.len());
        for figure in figures {
            let title = elements(figure, "h3")[0];
            let title =
                title[title.find('>').expect("ends") + 1..].split("<small").next().expect("text").trim();
            let title = &title.replace("&#34;", "&quot;");
            assert!(!title.is_empty(), "{name}: {figure}");
            let drawn = elements(figure, "svg");
            assert_eq!(drawn.len(), 1, "{name}: {title}");
            let label = drawn[0].split("aria-label=\"").nth(1).unwrap_or_default();
            assert!(
                drawn[0].contains("role=\"img\"") && label.starts_with(title),
                "{name}: {title}: {label:.80}"
            );
            assert!(drawn[0].contains("<path class=\"grid\""), "{name}: {title}");
            let tables = elements(figure, "table");
            assert_eq!(tables.len(), 1, "{name}: {title}");
            let rows = elements(tables[0], "tr").len();
            assert!((3..=18).contains(&rows), "{name}: {title}: {rows} rows");
        }
    }
}

#[test]
fn anchors_lead_somewhere_and_identifiers_are_unique() {
    for (name, page) in rich_pages() {
        let ids = attributes(page, "id");
        let unique: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), unique.len(), "{name}: {ids:?}");
        for link in attributes(page, "href") {
            assert!(link == "data:," || ids.contains(&&link[1..]), "{name}: {link}");
        }
    }
}

#[test]
fn a_view_appears_only_where_there_is_data_for_it() {
    let [(_, good), (_, bad), (_, undelivered)] = rich_pages();
    let journal = page(&Loaded::of(&samples::journal()));
    let rows: [(&str, [bool; 4]); 15] = [
        ("Response time, from when it was due", [true, true, true, false]),
        ("Latency, from sending", [true, true, true, true]),
        ("Where the answers fell", [true, true, true, true]),
        ("By percentile", [true, true, true, true]),
        ("By class of listener", [true, true, false, false]),
        ("Listeners that missed most", [false, true, false, false]),
        ("Missing deliveries", [false, true, false, false]),
        ("Where the deliveries fell", [true, true, false, false]),
        ("sent → acknowledged", [true, true, false, false]),
        ("Connections lost and brought back", [false, true, false, false]),
        ("Late heartbeats", [false, true, false, false]),
        ("Errors by kind", [false, true, false, false]),
        ("Where the time went", [true, true, false, false]),
        ("dna_outbox_bytes", [true, true, false, false]),
        ("The tester&#39;s side", [true, true, true, false]),
    ];
    for (view, expected) in rows {
        let there = [good, bad, undelivered, &journal].map(|page| page.contains(view));
        assert_eq!(there, expected, "{view}");
    }
}

#[test]
fn the_page_reads_without_its_script() {
    let page = &rich_pages()[1].1;
    let text = text_of(page);
    for expected in [
        // A drawing's figures, the worst listener, an error's sample, a stage's help.
        "16 of 74 steps of time; all of them stand in the result file.",
        "17 near 720 240 33.3 %",
        "close 1006 after 45.2 s",
        "From taking the message to having it stored",
        "near 350 241,321 246,557 5,236 97.9 %",
        "199 more missed something.",
        "503 180 1.2 %",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    for hidden in ["hidden>The", "display:none", "visibility:hidden"] {
        assert!(!page.contains(hidden), "{hidden}");
    }
}

#[test]
fn an_hours_page_stays_small() {
    let loaded = Loaded::of(&samples::rich::hour());
    assert!(loaded.slices.len() <= 600, "{}", loaded.slices.len());
    let page = page(&loaded);
    assert!(page.len() < 2_000_000, "{}", page.len());
}

#[test]
fn the_page_tells_the_bad_run() {
    let text = text_of(&page(&Loaded::of(&samples::bad())));
    for expected in [
        "Not the load that was asked for: arrivals skipped 1.8 % (limit 0.1 %)",
        "from 0:28 the server's busiest thread was at 99 %",
        "14,224 of 14,887 users completed, 315 failed, 348 did not finish, 528 were skipped in 74 s.",
        "315 errors (2.1 % of 14,887 users), most often “connection refused” at connect, from 0:35 to 0:59.",
        "7,480 of 352,224 expected deliveries are missing (2.1 %)",
        "node's thread “node” was busy without a pause for 46 s from 0:28.",
        "Invalid run",
        "arrivals skipped 1.8 % limit 0.1 %",
        "14,572 messages sent, 0 confirmed. Add acknowledge: true, or run with --ack.",
        "TPS 237.1 scenarios/s",
        "asked 254.2 users/s · achieved 248.1 users/s, 489.2 requests/s",
        "ECONNREFUSED: 211 · response timeout: 104",
        "no acknowledgement within 10 s",
        "emit save_msg (line 24)",
        "2018-09-02 06:23:55.000 +09:00",
        "speaker 8,618",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn the_page_calls_nothing_latency_that_is_no_response_and_nothing_complete_without_an_expectation() {
    let mut outcome = samples::good();
    for w in outcome.seconds.iter_mut().chain([&mut outcome.total]) {
        for name in [names::HTTP_RESPONSE_TIME, names::SOCKETIO_RESPONSE_TIME, names::RESPONSE_FROM_DUE] {
            w.histograms.remove(name);
        }
    }
    let delivery = outcome.delivery.as_mut().expect("there");
    (delivery.expectation, delivery.expected) = (None, None);
    let text = text_of(&page(&Loaded::of(&outcome)));
    assert!(text.contains("Latency at intervals n/a: no request was answered"), "{text}");
    assert!(!text.contains("Latency, from sending"), "{text}");
    assert!(text.contains("nothing was said, so nothing is called complete"), "{text}");
    assert!(text.contains("Deliveries heard 1,768,500 no expectation"), "{text}");
    assert!(!text.contains("Delivered"), "{text}");
}

#[test]
fn nothing_the_server_says_becomes_part_of_the_page() {
    let hostile = "</script><script>alert(1)</script>\"'&<!--";
    let mut outcome = samples::bad();
    outcome.errors[0].sample = hostile.to_owned();
    outcome.errors[0].cause = hostile.to_owned();
    outcome.errors[0].endpoint = hostile.to_owned();
    outcome.server_events.insert(hostile.to_owned(), 1);
    outcome.meta.script = format!("{hostile}.yml");
    outcome.meta.phases[0].name = hostile.to_owned();
    if let Some(target) = &mut outcome.target {
        target.command = hostile.to_owned();
        target.samples[0].threads[0].0 = hostile.to_owned();
    }
    for w in outcome.seconds.iter_mut().chain([&mut outcome.total]) {
        w.counters.insert(format!("errors.{hostile}"), 1);
    }
    let page = page(&read(&json::to_string(&outcome)));
    assert_balanced(&page);
    assert!(!page.contains("<script>alert"), "not escaped");
    assert_eq!(page.matches("<script").count(), 3);
    let data = page
        .split("id=\"result\">")
        .nth(1)
        .and_then(|rest| rest.split("</script>").next())
        .expect("embedded");
    let embedded: serde_json::Value = serde_json::from_str(data).expect("still JSON");
    assert_eq!(embedded["drumfire"]["errors"][0]["sample"], hostile);
}

#[test]
fn artillerys_files_make_a_page_too() {
    for (file, expected) in [
        (include_str!("fixtures/artillery-1.7.9.json"), "117 of 220 users completed"),
        (include_str!("fixtures/artillery-2.0.21.json"), "101 of 220 users completed"),
        (JOURNAL, "43 errors (0.5 % of 9,000 users): “Error: websocket error”."),
    ] {
        let page = page(&read(file));
        assert_balanced(&page);
        let text = text_of(&page);
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("measured by Artillery"), "{text}");
        assert!(!text.contains("Valid run"), "{text}");
    }
}

#[test]
fn a_run_in_which_nothing_happened_still_makes_a_report() {
    let mut outcome = samples::outcome(samples::meta("empty.yml"), Vec::new());
    outcome.meta.duration_s = 0.0;
    let loaded = read(&json::to_string(&outcome));
    assert_balanced(&page(&loaded));
    for format in [Format::Plain, Format::V1, Format::V2] {
        assert!(!summary(format, &loaded).contains("NaN"));
    }
    assert!(summary(Format::Plain, &loaded).contains("No user was started"));
}
