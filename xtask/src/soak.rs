//! `cargo xtask soak`: people come, talk and go for an hour, and nothing may grow, go missing or come twice.

mod peak; // what the machine can carry at all
mod round; // one drumfire against one dna
mod verdict; // flat or not, and the words for it
pub(crate) mod watch; // a process, and dna's own figures

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::command::{Interrupted, Part, logged};
use crate::soak::round::{Round, Stage};
use crate::soak::verdict::Verdict;
use crate::{stage, tree};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long people come and go.
    #[arg(long, value_name = "M", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=1440))]
    minutes: u64,
    /// Messages a second; without it half the measured peak.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(10..=100_000))]
    rate: Option<u64>,
    /// Measure the peak first, even if it was measured before; with `--minutes 0` that is all.
    #[arg(long)]
    find_peak: bool,
}

/// Everything written lies here.
fn folder() -> PathBuf {
    tree::target().join("soak")
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    stage::raise_open_files();
    println!("Soak: people come, talk and go.\n");
    let Part { .. } = logged("build", tree::cargo().args(tree::RELEASE_BUILD), |_| ())?;
    let rate = match (options.rate, options.find_peak) {
        (Some(rate), false) => rate,
        (rate, find) => {
            let peak = match peak::measured().filter(|_| !find) {
                Some(peak) => peak,
                None => peak::find()?,
            };
            println!("\nThe peak is {peak} messages a second here.");
            rate.unwrap_or(peak / 2)
        }
    };
    if options.minutes == 0 {
        return Ok(0);
    }
    soak(options.minutes, rate)
}

fn soak(minutes: u64, rate: u64) -> Result<u8> {
    let stage = Stage::set("run")?;
    let mut dna = stage.serve()?;
    println!(
        "\n{minutes} minutes at {rate} messages a second, {} listeners; all of it lies in {}\n",
        round::LISTENERS,
        tree::shown(&stage.folder)
    );
    // Whatever happens from here on, dna is told to end.
    let outcome = go(&stage, &mut dna, minutes, rate);
    let stopped = stage::stop(&mut dna);
    let code = outcome?;
    stopped?;
    Ok(code)
}

fn go(stage: &Stage, dna: &mut Child, minutes: u64, rate: u64) -> Result<u8> {
    let mut round = Round::start(stage, dna.id(), rate, Duration::from_secs(minutes * 60))?;
    println!("{}", watch::HEADINGS);
    while let Some(minute) = round.next_minute()? {
        println!("{}", minute.line());
        if let Some(status) = dna.try_wait()? {
            bail!("dna ended by itself ({status}); its log: {}", tree::shown(&stage.log));
        }
    }
    let told = round.finish()?;
    let verdict = Verdict::of(&told, rate);
    let text = verdict.text();
    println!("\n{text}");

    let mut page = String::from("# Soak\n\n```text\n");
    let _ = writeln!(page, "{}", watch::HEADINGS);
    for minute in &told.minutes {
        let _ = writeln!(page, "{}", minute.line());
    }
    let _ = write!(page, "```\n\n{text}");
    let result = json!({
        "rate": rate,
        "interrupted": told.interrupted,
        "verdict": verdict.json(),
        "minutes": told.minutes.iter().map(watch::Minute::json).collect::<Vec<_>>(),
        "samples": told.samples.iter().map(watch::Sample::json).collect::<Vec<_>>(),
        "delivery": told.delivery,
    });
    for (name, text) in [("result.md", page), ("result.json", serde_json::to_string_pretty(&result)? + "\n")]
    {
        let path = folder().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{:<10}{}", name.rsplit('.').next().unwrap_or_default(), tree::shown(&path));
    }
    println!("{:<10}{}", "drumfire", tree::shown(&stage.result));
    // What was cut short has not shown what it was to show, whatever held so far.
    if told.interrupted {
        return Err(Interrupted.into());
    }
    Ok(u8::from(!verdict.held()))
}
