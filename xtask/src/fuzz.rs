//! `cargo xtask fuzz`: every fuzz target for a while, and what it found.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::command::{self, Interrupted, logged, seconds};
use crate::{signal, tree};

/// An input that takes longer than this is a find.
const SLOW_S: u64 = 10;
const MOST_MEMORY_MB: u64 = 1024;
/// How much of a find is printed: the end of its log, and its input up to this length.
const LOG_LINES: usize = 40;
const LINE_CHARACTERS: usize = 200;
const INPUT_BYTES: u64 = 16_384;
/// Beyond its time a target is given this long to end.
const GRACE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each target.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Targets at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    jobs: u64,
    /// Which; all without it.
    targets: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    need_tools()?;
    let known = targets()?;
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no fuzz target `{unknown}`; there are {}", known.join(", "));
    }
    let chosen = if options.targets.is_empty() { known } else { options.targets.clone() };
    println!("Fuzzing {} targets, {} s each.\n", chosen.len(), options.seconds);
    // All of them in one build: they share nearly everything. The readers are safe Rust: no sanitizer.
    logged("fuzz build", tree::cargo_of("nightly").args(["fuzz", "build", "--sanitizer", "none"]), |_| ())?;
    let started = Instant::now();
    let told = run_all(&chosen, options)?;
    println!("\n{:<22} {:>12} {:>10} {:>10}  finds", "target", "executions", "a second", "coverage");
    for row in &told {
        println!(
            "{:<22} {:>12} {:>10} {:>10}  {}",
            row.target,
            row.executions,
            row.executions / row.took.as_secs().max(1),
            row.coverage,
            row.found.as_ref().map_or("none", |find| find.what.as_str())
        );
    }
    println!("{:<22} {:>12}", "in all", seconds(started.elapsed()));
    let found: Vec<_> =
        told.iter().filter_map(|row| row.found.as_ref().map(|find| (row.target.as_str(), find))).collect();
    for (target, find) in &found {
        println!("\n---- {target}: {} ----\n{}", find.what, find.end_of_log);
        if let Some(base64) = &find.input {
            println!("the input, by `base64 -d`: {base64}");
        }
    }
    if !found.is_empty() {
        println!(
            "\nFound something: {}. Its log is {}/TARGET.log; make the input small with\n  cargo +nightly fuzz tmin --sanitizer none TARGET fuzz/artifacts/TARGET/FILE\nmend what it shows, and keep it in fuzz/seeds/TARGET under a name that says what it is.",
            found.iter().map(|(target, _)| *target).collect::<Vec<_>>().join(", "),
            tree::shown(&logs())
        );
    }
    Ok(u8::from(!found.is_empty()))
}

/// What is missing, and how it is had.
fn need_tools() -> Result<()> {
    let answers = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !answers(tree::cargo_of("nightly").arg("--version")) {
        bail!("fuzzing needs a nightly toolchain: rustup toolchain install nightly --profile minimal");
    }
    if !answers(tree::cargo_of("nightly").args(["fuzz", "--version"])) {
        bail!("`cargo fuzz` is missing: cargo install cargo-fuzz --locked");
    }
    Ok(())
}

/// The names in fuzz/fuzz_targets, in order.
fn targets() -> Result<Vec<String>> {
    let folder = tree::root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn logs() -> PathBuf {
    tree::target().join("xtask").join("fuzz")
}

/// What became of one target.
struct Row {
    target: String,
    executions: u64,
    /// Places in the code that were reached, as libFuzzer counts them.
    coverage: u64,
    took: Duration,
    found: Option<Find>,
}

/// Printed whole: the machine that found it may be gone before anybody looks.
struct Find {
    /// The input's file, or how the target ended.
    what: String,
    end_of_log: String,
    /// The input as Base64, unless it is long; libFuzzer says it only of the shortest.
    input: Option<String>,
}

impl Find {
    fn of(log: &str, ended: String) -> Self {
        let file = artifact(log);
        let is_short = |file: &&Path| fs::metadata(file).is_ok_and(|data| data.len() <= INPUT_BYTES);
        let input = file.filter(is_short).and_then(|file| fs::read(file).ok());
        let lines: Vec<String> =
            log.lines().map(|line| line.chars().take(LINE_CHARACTERS).collect()).collect();
        Self {
            what: file.map_or(ended, tree::shown),
            end_of_log: lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"),
            input: input.map(|bytes| STANDARD.encode(bytes)),
        }
    }
}

fn run_all(chosen: &[String], options: &Options) -> Result<Vec<Row>> {
    let mut waiting = chosen.iter();
    let mut running: Vec<Running> = Vec::new();
    let mut told = Vec::new();
    loop {
        while running.len() < options.jobs as usize
            && let Some(target) = waiting.next()
        {
            running.push(Running::start(target, options.seconds)?);
        }
        if running.is_empty() {
            told.sort_by(|a: &Row, b| a.target.cmp(&b.target));
            return Ok(told);
        }
        if signal::received().is_some() {
            running.iter().for_each(|one| command::terminate(&one.child));
            return Err(Interrupted.into());
        }
        let mut still = Vec::new();
        for mut one in running {
            match one.ended()? {
                Some(row) => {
                    println!("  {:<22} {:>7}", row.target, seconds(row.took));
                    told.push(row);
                }
                None => still.push(one),
            }
        }
        running = still;
        thread::sleep(Duration::from_millis(100));
    }
}

struct Running {
    target: String,
    child: Child,
    log: PathBuf,
    started: Instant,
    lasts: Duration,
}

impl Running {
    fn start(target: &str, seconds: u64) -> Result<Self> {
        let fuzz = tree::root().join("fuzz");
        let corpus = fuzz.join("corpus").join(target);
        let artifacts = fuzz.join("artifacts").join(target);
        for folder in [&corpus, &artifacts, &logs()] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let log = logs().join(format!("{target}.log"));
        let out = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(binary(target)?)
            .arg(corpus)
            .arg(fuzz.join("seeds").join(target))
            .args([
                format!("-max_total_time={seconds}"),
                format!("-timeout={SLOW_S}"),
                format!("-rss_limit_mb={MOST_MEMORY_MB}"),
                format!("-artifact_prefix={}/", artifacts.display()),
                "-print_final_stats=1".to_owned(),
            ])
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start the fuzz target {target}"))?;
        let lasts = Duration::from_secs(seconds) + GRACE;
        Ok(Self { target: target.to_owned(), child, log, started: Instant::now(), lasts })
    }

    fn ended(&mut self) -> Result<Option<Row>> {
        let status = self.child.try_wait()?;
        let took = self.started.elapsed();
        if status.is_none() && took < self.lasts {
            return Ok(None);
        }
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let (executions, coverage) = figures(&text);
        let found = match status {
            Some(status) if status.success() => None,
            Some(status) => Some(Find::of(&text, format!("it ended with {status}"))),
            None => Some(Find::of(&text, "it did not end".to_owned())),
        };
        Ok(Some(Row { target: self.target.clone(), executions, coverage, took, found }))
    }
}

/// Where `cargo fuzz build` has put it.
fn binary(target: &str) -> Result<PathBuf> {
    let built = tree::root().join("fuzz/target");
    let folders = fs::read_dir(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let found = folders
        .flatten()
        .map(|folder| folder.path().join("release").join(target))
        .find(|path| path.is_file());
    found.with_context(|| format!("`cargo fuzz build` made no {target} under {}", built.display()))
}

/// Executions and coverage, from libFuzzer's lines: `#1234 NEW cov: 567 ft: ...`, `stat::number_of_executed_units: 89`.
fn figures(log: &str) -> (u64, u64) {
    let number = |text: &str| text.split_whitespace().next().and_then(|first| first.parse().ok());
    let last = |of: &str| log.lines().rev().find_map(|line| number(line.split_once(of)?.1));
    let counted = log.lines().rev().find_map(|line| number(line.strip_prefix('#')?));
    let executions = last("stat::number_of_executed_units:").or(counted).unwrap_or(0);
    (executions, last(" cov:").unwrap_or(0))
}

/// The file libFuzzer wrote of what it found.
fn artifact(log: &str) -> Option<&Path> {
    let path =
        log.lines().rev().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path))?;
    Some(Path::new(path.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzers_words_are_understood() {
        let log = "#2\tINITED cov: 45 ft: 46 corp: 1/1b\n#1234\tNEW    cov: 567 ft: 900 corp: 9/99b\n\
                   ==1== ERROR: libFuzzer: deadly signal\nartifact_prefix='x/'; Test unit written to x/crash-1\n";
        assert_eq!(figures(log), (1234, 567));
        assert_eq!(artifact(log), Some(Path::new("x/crash-1")));
        let done = format!("{log}stat::number_of_executed_units: 4711\n");
        assert_eq!(figures(&done), (4711, 567));
        assert_eq!(figures(""), (0, 0));
    }

    #[test]
    fn a_find_is_told_with_its_input() {
        let file = std::env::temp_dir().join(format!("crash-{}", std::process::id()));
        let log =
            |path: &Path| format!("{}\nTest unit written to {}\n", "a line\n".repeat(99), path.display());
        let long = usize::try_from(INPUT_BYTES).expect("it fits") + 1;
        for (input, told) in [(&b"\0find"[..], Some("AGZpbmQ=")), (&vec![0; long], None)] {
            fs::write(&file, input).expect("a temporary file");
            let find = Find::of(&log(&file), "it ended".to_owned());
            assert_eq!((find.what, find.input.as_deref()), (tree::shown(&file), told));
            assert_eq!(find.end_of_log.lines().count(), LOG_LINES);
        }
        fs::remove_file(&file).expect("it is there");
        let gone = Find::of(&log(&file), "it ended".to_owned());
        assert_eq!((gone.what, gone.input), (tree::shown(&file), None));
        let find = Find::of("killed\n", "it ended".to_owned());
        assert_eq!((find.what.as_str(), find.end_of_log.as_str(), find.input), ("it ended", "killed", None));
    }

    /// One list: the programs, their seeds, the manifest and the README know the same targets.
    #[test]
    fn every_target_has_seeds_and_stands_in_manifest_and_readme() {
        let read = |name: &str| fs::read_to_string(tree::root().join("fuzz").join(name)).expect(name);
        let (manifest, readme) = (read("Cargo.toml"), read("README.md"));
        let known = targets().expect("targets");
        assert!(known.len() >= 14, "{known:?}");
        for target in &known {
            let seeds = tree::root().join("fuzz/seeds").join(target);
            assert!(fs::read_dir(&seeds).is_ok_and(|seeds| seeds.count() >= 5), "{}", seeds.display());
            assert!(manifest.contains(&format!("name = \"{target}\"")), "fuzz/Cargo.toml lacks {target}");
            assert!(readme.contains(&format!("| `{target}` |")), "fuzz/README.md lacks a row of `{target}`");
        }
        let rows = readme.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, known.len(), "fuzz/README.md has a row of a target that is not there");
        assert_eq!(manifest.matches("[[bin]]").count(), known.len());
    }
}
