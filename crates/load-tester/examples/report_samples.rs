//! Writes the reports of invented runs, good and bad, to look at, and says how large they are and how long they took:
//! `report_samples [DIRECTORY] [NAME...]`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use load_tester::outcome::Outcome;
use load_tester::report::{Console, Format, Loaded, html, json};

#[path = "../tests/samples/mod.rs"]
mod samples;

type Made = fn() -> Outcome;

const SAMPLES: [(&str, Made); 7] = [
    ("good", samples::good),
    ("bad", samples::bad),
    ("journal", samples::journal),
    ("rich-good", samples::rich::rich_good),
    ("rich-bad", samples::rich::rich_bad),
    ("undelivered", samples::rich::undelivered),
    ("hour", samples::rich::hour),
];

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let directory = PathBuf::from(words.next().unwrap_or_else(|| ".".to_owned()));
    let wanted: Vec<String> = words.collect();
    for (name, made) in SAMPLES {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == name) {
            continue;
        }
        let outcome = made();
        let path = directory.join(format!("{name}.json"));
        json::write(&outcome, &path)?;
        write_page(&json::read(&path)?, &directory.join(format!("{name}.json.html")))?;
        if wanted.is_empty() && name != "hour" {
            let console = Console::new(Format::Plain, outcome.meta.started_at_ms);
            for window in outcome.seconds.iter().skip(9).step_by(10) {
                print!("{}", console.window(window));
            }
            println!("{}", console.summary(&outcome, Some(&path)));
        }
    }
    for version in ["1.7.9", "2.0.21"] {
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/artillery-{version}.json"));
        write_page(&json::read(&fixture)?, &directory.join(format!("artillery-{version}.html")))?;
    }
    Ok(())
}

fn write_page(loaded: &Loaded, path: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    let page = html::render(loaded);
    let embedded = loaded.json.as_ref().map_or(0, String::len);
    println!(
        "{}: {} kB, {} of them the result file, in {:.0} ms",
        path.display(),
        page.len() / 1000,
        embedded / 1000,
        begun.elapsed().as_secs_f64() * 1e3
    );
    json::write_text(&page, path)?;
    Ok(())
}
