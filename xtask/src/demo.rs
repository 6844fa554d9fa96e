//! `cargo xtask demo`: dna, a crowd and the journal's load, end to end.

mod against; // the same load on the chat server of 2018, and the comparison
mod picture; // both reports in one picture

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{self, Interrupted, Part, logged, seconds};
use crate::{signal, stage, tree, web};

pub(crate) const SCENARIO: &str = "scenarios/journal-heard.yml";
/// What the scenario says; `the_scenario_says_the_same` holds them together.
const ARRIVAL_RATE: u64 = 300;
const DURATION_S: u64 = 30;
pub(crate) const LISTENERS: u64 = 2_000;
const PLACE: (f64, f64) = (127.0276, 37.4979);
const LISTEN: &str = "127.0.0.1:9013";

/// Both servers hear the same crowd. With this one the sphere of the server of 2018 and the ellipsoid agree about who
/// hears Gangnam station; with most others somebody stands on the rim between them and would count as missing.
pub(crate) const SEED: &str = "901";

/// Users and listeners are different people: limits per user stay out of the picture.
pub(crate) const FIRST_LISTENER_IDX: u64 = 1_000_001;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// End after the report, with drumfire's exit code.
    #[arg(long)]
    once: bool,
    /// Seconds of load at 300 users a second; the scenario says 30.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    duration: Option<u64>,
    /// Where dna listens.
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN)]
    listen: SocketAddr,
    /// Put the same load on the chat server of that year first, then on dna, and compare; needs Node and Redis.
    #[arg(long, value_name = "YEAR")]
    against: Option<against::Year>,
    /// Draw both reports beside each other into docs/pictures; needs Chromium.
    #[arg(long, requires = "against")]
    picture: bool,
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    // Asked before the long build and not only after it.
    stage::port_is_free(options.listen)?;
    if options.against.is_some() {
        against::need_programs()?;
    }
    if options.picture {
        picture::need_program()?;
    }
    stage::raise_open_files();

    match options.against {
        None => println!("Demo: dna, {LISTENERS} listeners and the journal's load.\n"),
        Some(_) => println!(
            "Demo: the chat server of 2018, then dna; {LISTENERS} listeners and the journal's load for each.\n"
        ),
    }
    let mut parts = Vec::new();
    match web::need_node() {
        Ok(()) => parts.extend(web::build_if_stale()?),
        Err(missing) => println!("  Without the map page: {missing}."),
    }
    parts.push(logged("build", tree::cargo().args(tree::RELEASE_BUILD), |_| ())?);

    let stage = Stage::set()?;
    parts.push(stage.make_tokens(options)?);
    stage::port_is_free(options.listen)?;
    let before = match options.against {
        Some(year) => Some(against::load(year, &stage, options, &mut parts)?),
        None => None,
    };
    let mut dna = stage::serve(options.listen, &stage.data, &stage.log)?;
    let live = format!("http://{}/?world=test&lng={}&lat={}", options.listen, PLACE.0, PLACE.1);
    println!("\nSee it live: {live}\n");

    // Whatever happens from here on, dna is told to end.
    let outcome = stage.load(options, &stage.result(before.as_ref().map(|_| "dna")), "run", &mut parts);
    let (code, after) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            stage::stop(&mut dna)?;
            return Err(error);
        }
    };

    println!();
    if let Some(before) = &before {
        before.print("2018 ");
    }
    after.print(if before.is_some() { "dna  " } else { "" });
    println!("messages  {}", tree::shown(&stage.data));
    if let Some(before) = &before
        && signal::received().is_none()
    {
        against::compare(before, &after, &stage.folder.join("compare.html"))?;
        if options.picture {
            parts.push(picture::draw(&before.report, &after.report, &stage.folder)?);
        }
    }
    let times: Vec<_> = parts.iter().map(|part| format!("{} {}", part.name, seconds(part.took))).collect();
    println!("took      {}", times.join(" · "));

    if !options.once && signal::received().is_none() {
        println!("\ndna serves on: {live}\nCtrl-C ends it.");
        while signal::received().is_none() {
            if let Some(status) = dna.try_wait()? {
                bail!("dna ended by itself ({status}); its log: {}", tree::shown(&stage.log));
            }
            thread::sleep(Duration::from_millis(100));
        }
        println!();
    }
    stage::stop(&mut dna)?;
    Ok(code)
}

/// The files of one demo, all under `target/demo`.
struct Stage {
    folder: PathBuf,
    data: PathBuf,
    log: PathBuf,
    scenario: PathBuf,
}

/// What a run wrote.
struct Outcome {
    result: PathBuf,
    report: PathBuf,
}

impl Outcome {
    fn print(&self, whose: &str) {
        println!("result    {whose}{}", tree::shown(&self.result));
        if self.report.is_file() {
            println!("report    {whose}{}", tree::shown(&self.report));
        }
    }
}

impl Stage {
    /// A fresh start: the last demo's messages would spoil the count.
    fn set() -> Result<Self> {
        let folder = tree::target().join("demo");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
        }
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        Ok(Self { data, log: folder.join("dna.log"), scenario: tree::root().join(SCENARIO), folder })
    }

    /// Where the result of a run goes: of the only one, or of the one with that name.
    fn result(&self, name: Option<&str>) -> PathBuf {
        self.folder.join(format!("{}.json", name.unwrap_or("result")))
    }

    /// One signed token for each user and listener, beside the scenario that names the files.
    fn make_tokens(&self, options: &Options) -> Result<Part> {
        let started = Instant::now();
        let users = ARRIVAL_RATE * options.duration.unwrap_or(DURATION_S);
        for (file, first, count) in
            [("tokens.csv", 1, users), ("listeners.csv", FIRST_LISTENER_IDX, LISTENERS)]
        {
            stage::make_tokens(&tree::root().join("scenarios").join(file), first, count, &self.data)?;
        }
        Ok(Part { name: "tokens", took: started.elapsed(), note: String::new() })
    }

    /// The run and its report; drumfire's exit code.
    fn load(
        &self,
        options: &Options,
        result: &Path,
        name: &'static str,
        parts: &mut Vec<Part>,
    ) -> Result<(u8, Outcome)> {
        let started = Instant::now();
        let mut command = Command::new(tree::binary("drumfire"));
        command.arg("run").arg("-o").arg(result);
        if options.against.is_some() {
            command.args(["--seed", SEED]);
        }
        if let Some(duration) = options.duration {
            let phases = format!(
                r#"{{"config":{{"phases":[{{"duration":{duration},"arrivalRate":{ARRIVAL_RATE}}}]}}}}"#
            );
            command.args(["--overrides", &phases]);
        }
        if options.listen.to_string() != LISTEN {
            command.args(["-t", &format!("http://{}", options.listen)]);
        }
        let status = command::wait_through_signals(
            command.arg(&self.scenario).spawn().context("cannot start drumfire")?,
        )?;
        parts.push(Part { name, took: started.elapsed(), note: String::new() });
        if result.is_file() {
            let started = Instant::now();
            let report = Command::new(tree::binary("drumfire")).arg("report").arg(result).output()?;
            if !report.status.success() {
                bail!("drumfire report failed: {}", String::from_utf8_lossy(&report.stderr).trim());
            }
            parts.push(Part { name: "report", took: started.elapsed(), note: String::new() });
        }
        let mut report = result.as_os_str().to_owned();
        report.push(".html");
        Ok((code_of(status), Outcome { result: result.to_owned(), report: report.into() }))
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_says_the_same() {
        let text = fs::read_to_string(tree::root().join(SCENARIO)).expect("the scenario");
        for line in [
            format!("target: \"http://localhost:{}\"", LISTEN.parse::<SocketAddr>().expect("address").port()),
            format!("duration: {DURATION_S}"),
            format!("arrivalRate: {ARRIVAL_RATE}"),
            format!("count: {LISTENERS}"),
            format!("around: [{}, {}]", PLACE.0, PLACE.1),
            format!("lng: {}", PLACE.0),
            format!("lat: {}", PLACE.1),
        ] {
            assert!(text.contains(&line), "{SCENARIO} lacks `{line}`");
        }
    }
}
