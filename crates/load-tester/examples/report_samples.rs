//! Writes the reports of two invented runs, a good one and a bad one, to look at: `report_samples [DIRECTORY]`.

use std::path::PathBuf;

use load_tester::report::{Console, Format, html, json};

#[path = "../tests/samples/mod.rs"]
mod samples;

fn main() -> anyhow::Result<()> {
    let directory = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| ".".to_owned()));
    for (name, outcome) in
        [("good", samples::good()), ("bad", samples::bad()), ("journal", samples::journal())]
    {
        let path = directory.join(format!("{name}.json"));
        json::write(&outcome, &path)?;
        let loaded = json::read(&path)?;
        let page = directory.join(format!("{name}.json.html"));
        json::write_text(&html::render(&loaded), &page)?;
        let console = Console::new(Format::Plain, outcome.meta.started_at_ms);
        for window in outcome.seconds.iter().skip(9).step_by(10) {
            print!("{}", console.window(window));
        }
        println!("{}", console.summary(&outcome, Some(&path)));
    }
    Ok(())
}
