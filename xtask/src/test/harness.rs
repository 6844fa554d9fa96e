//! The tests of the workspace, built before: those of the whole system beside all others, which mostly wait.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::command::{Interrupted, Part, logged};
use crate::tree;

/// Who has the tests that load the machine; they take turns among themselves.
const WHOLE_SYSTEM: &str = "e2e";

/// Both lanes at once; each by its name. One plain line tells how many tests ran.
pub(super) fn tests() -> Result<[(&'static str, Result<Part>); 2]> {
    let targets = Targets::read()?;
    // Always the whole workspace: another selection of packages has other features and compiles everything again.
    let [mut whole, mut others, mut documents] = [(); 3].map(|()| {
        let mut command = tree::cargo();
        command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
        command
    });
    whole.args(named(&targets.whole_system));
    others.args(["--lib", "--bins"]).args(named(&targets.others));
    documents.arg("--doc");
    let (whole, others) = thread::scope(|scope| {
        let whole = scope.spawn(|| Lane::run("whole system", &mut whole));
        let others = scope.spawn(|| {
            let mut lane = Lane::run("other tests", &mut others)?;
            lane.add(Lane::run("examples in docs", &mut documents)?);
            Ok(lane)
        });
        (whole.join(), others.join())
    });
    let lane = |joined: thread::Result<Result<Lane>>| {
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    };
    let (whole, others) = (lane(whole)?, lane(others)?);

    let sum = |of: fn(&Count) -> u64| of(&whole.count) + of(&others.count);
    // One plain line that a reader, or a program, finds in the log.
    println!(
        "tests: {} passed, {} failed, {} skipped",
        sum(|c| c.passed),
        sum(|c| c.failed),
        sum(|c| c.ignored)
    );
    if whole.count.passed == 0 || others.count.passed == 0 {
        bail!("no test ran");
    }
    // One after the other, when all is quiet.
    Ok([whole, others].map(|lane| (lane.name, lane.judge())))
}

/// Names of test targets.
struct Targets {
    whole_system: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl Targets {
    fn read() -> Result<Self> {
        let output = tree::cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
            .output()
            .context("cannot start cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        Self::of(&serde_json::from_slice(&output.stdout)?).context("cargo metadata: a shape we do not know")
    }

    fn of(metadata: &Value) -> Option<Self> {
        let mut targets = Self { whole_system: BTreeSet::new(), others: BTreeSet::new() };
        for package in metadata["packages"].as_array()? {
            for target in package["targets"].as_array()? {
                if target["kind"].as_array()?.iter().any(|kind| kind == "test") {
                    let lane = if package["name"] == WHOLE_SYSTEM {
                        &mut targets.whole_system
                    } else {
                        &mut targets.others
                    };
                    lane.insert(target["name"].as_str()?.to_owned());
                }
            }
        }
        // A name stands for the targets of that name in all packages.
        targets.others = &targets.others - &targets.whole_system;
        Some(targets)
    }
}

fn named(targets: &BTreeSet<String>) -> impl Iterator<Item = &str> {
    targets.iter().flat_map(|name| ["--test", name])
}

/// What ran one after another, and what came of it.
struct Lane {
    name: &'static str,
    took: Duration,
    count: Count,
    /// Cargo's own failure.
    error: Option<anyhow::Error>,
}

impl Lane {
    fn run(name: &'static str, command: &mut Command) -> Result<Self> {
        let mut count = Count::default();
        let started = Instant::now();
        let error = logged(name, command, |line| count.see(line)).err();
        if error.as_ref().is_some_and(|error| error.is::<Interrupted>()) {
            return Err(Interrupted.into());
        }
        Ok(Self { name, took: started.elapsed(), count, error })
    }

    fn add(&mut self, next: Self) {
        self.took += next.took;
        self.count.add(next.count);
        self.error = self.error.take().or(next.error);
    }

    /// What failed is run once more.
    fn judge(self) -> Result<Part> {
        let Self { name, took, count, error } = self;
        match error {
            None => Ok(Part { name, took, note: count.words() }),
            Some(error) if count.failures.is_empty() || count.targets.is_empty() => Err(error),
            Some(_) => {
                println!("\n{}\n", count.failed());
                let again = again(&count).map_err(|second| second.context(count.failed()))?;
                Ok(Part { name, took: took + again.took, note: again.note })
            }
        }
    }
}

/// Those that failed, once more and by themselves: many measure time, and a machine that was busy for a moment is no fault
/// of theirs. Which ones needed it is told.
fn again(count: &Count) -> Result<Part> {
    let mut took = Duration::ZERO;
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
/// Enough for all of that.
pub(super) const LINES_OF_A_REASON: usize = 2 * LINES_OF_A_FAILURE * FAILURES_TOLD;

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

    fn add(&mut self, next: Self) {
        self.passed += next.passed;
        self.failed += next.failed;
        self.ignored += next.ignored;
        self.failures.extend(next.failures);
        self.targets.extend(next.targets);
        self.said.extend(next.said);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Count, Targets};

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

    #[test]
    fn a_name_that_both_lanes_have_runs_once() {
        let target = |name: &str, kind: &str| json!({"name": name, "kind": [kind]});
        let targets = Targets::of(&json!({"packages": [
            {"name": "e2e", "targets": [target("e2e", "lib"), target("night", "test"), target("transports", "test")]},
            {"name": "load-tester", "targets": [target("drumfire", "bin"), target("transports", "test"), target("live", "test")]},
        ]}))
        .expect("targets");
        assert_eq!(targets.whole_system.into_iter().collect::<Vec<_>>(), ["night", "transports"]);
        assert_eq!(targets.others.into_iter().collect::<Vec<_>>(), ["live"]);
    }
}
