//! `cargo xtask test`: everything that must hold before a change lands. Cheap things first; nothing hides what follows it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::command::{Interrupted, Part, logged, seconds};
use crate::{clients, signal, suites, tidy, tree, web};

/// Official JavaScript clients and servers, and the real Artillery: what the end-to-end tests stand beside ours.
const JS_PACKAGES: [(&str, &str); 4] = [
    ("e2e/js", "e2e packages"),
    ("e2e/artillery-1", "Artillery 1"),
    ("e2e/artillery-2", "Artillery 2"),
    ("bench/2018", "2018 packages"),
];

/// Programs tests call; what each is for, and how Debian and macOS get it.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("git", "lists the project's files", "apt-get install git | xcode-select --install"),
    ("sqlite3", "reads what dna stored, independently of dna", "apt-get install sqlite3 | comes with macOS"),
    (
        "redis-server",
        "keeps the sessions of the chat server of 2018",
        "apt-get install redis-server | brew install redis",
    ),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A checkout of the Socket.IO repository, whose official protocol suites are then run, too.
    #[arg(long, value_name = "DIR")]
    suites: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<u8> {
    let started = Instant::now();
    need_programs()?;
    web::need_node()?;
    clients::need_programs()?;

    let mut summary = Summary::default();
    summary.add("tidy", tidy::part());
    summary.add("format", logged("format", tree::cargo().args(["fmt", "--all", "--check"]), |_| ()));
    // Before the build: dna embeds the page.
    summary.extend("web", web::check_and_build());
    summary.extend("peers", crate::bench::check_peers());
    summary.add("lints", logged("lints", tree::cargo().args(CLIPPY), |_| ()));
    // The end-to-end tests build the same way; any other selection of packages would compile everything twice.
    let built = logged("build", tree::cargo().args(tree::RELEASE_BUILD), |_| ());
    let is_built = built.is_ok();
    summary.add("build", built);
    // Without the programs the end-to-end tests' failures would say nothing.
    if is_built {
        for (folder, name) in JS_PACKAGES {
            let packages = web::install(&tree::root().join(folder), name);
            summary.extend(name, packages.map(|part| part.into_iter().collect()));
        }
        summary.extend("JS clients", clients::javascript());
        summary.extend("Python client", clients::python());
        summary.extend("Java clients", clients::java());
        summary.add("tests", tests());
    }
    // Built apart: under loom the atomics are others.
    summary.add(
        "every order",
        logged(
            "every order",
            tree::cargo()
                .args(["test", "--release", "--locked", "-p", "geo-index", "--test", "loom"])
                .env("RUSTFLAGS", "--cfg loom")
                .env("CARGO_TARGET_DIR", tree::target().join("loom")),
            |_| (),
        ),
    );
    match &options.suites {
        Some(from) => summary.add("official suites", suites::part(from)),
        None => println!(
            "  official suites         not run: cargo xtask suites --from <a checkout of the Socket.IO repository>"
        ),
    }
    summary.close(started)
}

const CLIPPY: [&str; 7] = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];

fn tests() -> Result<Part> {
    let mut count = Count::default();
    let result =
        logged("tests", tree::cargo().args(["test", "--workspace", "--locked", "--no-fail-fast"]), |line| {
            count.see(line);
        });
    // One plain line that a reader, or a program, finds in the log.
    println!("tests: {} passed, {} failed, {} skipped", count.passed, count.failed, count.ignored);
    match result {
        Ok(_) if count.passed == 0 => bail!("no test ran"),
        Ok(mut part) => {
            part.note = count.words();
            Ok(part)
        }
        Err(error) if count.failures.is_empty() || count.targets.is_empty() => Err(error),
        Err(error) => {
            println!("\n{}\n", count.failed());
            again(&count).map_err(|second| second.context(error).context(count.failed()))
        }
    }
}

/// Those that failed, once more and by themselves: many measure time, and a machine that was busy for a moment is no fault
/// of theirs. Which ones needed it is told.
fn again(count: &Count) -> Result<Part> {
    let mut took = std::time::Duration::ZERO;
    for target in &count.targets {
        let mut second = Count::default();
        let mut command = tree::cargo();
        command.args(["test", "--locked"]).args(target.split_whitespace());
        command.args(["--", "--exact"]).args(&count.failures);
        took += logged("tests again", &mut command, |line| second.see(line))?.took;
        if second.passed == 0 {
            bail!("none of the failed tests was found again in {target}");
        }
    }
    let names = count.failures.join(", ");
    println!("tests again: {} failed at first and passed by themselves: {names}", count.failures.len());
    Ok(Part { name: "tests", took, note: format!("{}; passed when run again: {names}", count.words()) })
}

/// What the test harnesses said, over all of them.
#[derive(Default)]
struct Count {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
    /// The arguments with which cargo runs each target that failed.
    targets: Vec<String>,
    /// What failed tests said, as far as it goes.
    said: Vec<String>,
    /// Lines of the failed test that is speaking which are still taken.
    speaking: usize,
}

/// What of one failed test, and of how many of them, is repeated at the end.
const LINES_OF_A_FAILURE: usize = 12;
const FAILURES_TOLD: usize = 6;

impl Count {
    fn see(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = |word: &str| {
                result
                    .split(['.', ';'])
                    .find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
            };
            self.passed += number("passed").unwrap_or(0);
            self.failed += number("failed").unwrap_or(0);
            self.ignored += number("ignored").unwrap_or(0);
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        } else if let Some(target) = line.strip_prefix("error: test failed, to rerun pass `") {
            self.targets.extend(target.strip_suffix('`').map(str::to_owned));
        } else if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.speaking = LINES_OF_A_FAILURE;
        } else if line == "failures:" {
            self.speaking = 0;
        } else if self.speaking > 0 && !line.trim().is_empty() {
            self.speaking -= 1;
            self.said.push(line.to_owned());
        }
    }

    /// What failed, and the first words of each.
    fn failed(&self) -> String {
        let mut text = format!("{}:", self.words());
        for name in &self.failures {
            text += &format!("\n  {name}");
        }
        for line in self.said.iter().take(LINES_OF_A_FAILURE * FAILURES_TOLD) {
            let cut: String = line.chars().take(300).collect();
            text += &format!("\n    {cut}");
        }
        text
    }

    fn words(&self) -> String {
        format!("{} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

fn need_programs() -> Result<()> {
    for (program, why, how) in PROGRAMS {
        if Command::new(program).arg("--version").output().is_err() {
            bail!("`{program}` is missing ({why}): {how}");
        }
    }
    Ok(())
}

#[derive(Default)]
struct Summary {
    parts: Vec<Part>,
    /// What failed, and the first words on why.
    failed: Vec<(&'static str, String)>,
}

impl Summary {
    fn add(&mut self, name: &'static str, part: Result<Part>) {
        self.extend(name, part.map(|part| vec![part]));
    }

    fn extend(&mut self, name: &'static str, parts: Result<Vec<Part>>) {
        match parts {
            Ok(parts) => self.parts.extend(parts),
            Err(error) => {
                eprintln!("\n{error:#}\n");
                self.failed.push((name, error.to_string()));
            }
        }
    }

    fn close(self, started: Instant) -> Result<u8> {
        if signal::received().is_some() {
            return Err(Interrupted.into());
        }
        println!();
        for part in &self.parts {
            println!("ok      {:<14} {:>8}  {}", part.name, seconds(part.took), part.note);
        }
        println!("{:<22} {:>8}", "in all", seconds(started.elapsed()));
        // Last, so that the end of a log is enough to know why.
        for (name, why) in &self.failed {
            let lines: Vec<&str> = why.lines().collect();
            let lines = &lines[lines.len().saturating_sub(2 * LINES_OF_A_FAILURE * FAILURES_TOLD)..];
            println!("FAILED  {name}: {}", lines.join("\n        "));
        }
        Ok(u8::from(!self.failed.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn harness_lines_are_summed() {
        let mut count = Count::default();
        for line in [
            "test geo::rim ... ok",
            "test geo::pole ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.02s",
            "test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "failures:",
            "",
            "---- geo::pole stdout ----",
            "thread 'geo::pole' panicked at src/geo.rs:1:2:",
            "no such pole",
            "",
            "failures:",
            "    geo::pole",
            "error: test failed, to rerun pass `-p geo-index --lib`",
        ] {
            count.see(line);
        }
        assert_eq!(count.words(), "13 passed, 1 failed, 2 ignored");
        assert_eq!(count.failures, ["geo::pole"]);
        assert_eq!(count.targets, ["-p geo-index --lib"]);
        assert_eq!(
            count.failed(),
            "13 passed, 1 failed, 2 ignored:\n  geo::pole\n    thread 'geo::pole' panicked at src/geo.rs:1:2:\n    no such pole"
        );
    }
}
