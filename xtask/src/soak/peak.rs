//! The most this machine carries of the soak's load, dna and drumfire together on it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::round::{Round, Stage, Told};
use crate::command::Interrupted;
use crate::{signal, stage, tree};

const FIRST: u64 = 100;
const LAST: u64 = 25_600;
const STEP: Duration = Duration::from_secs(20);
/// Later is not delivered, as far as a conversation goes.
const LATE_MS: f64 = 500.0;

fn path() -> PathBuf {
    super::folder().join("peak.json")
}

/// What was measured here before, messages a second.
pub(crate) fn measured() -> Option<u64> {
    let text = fs::read_to_string(path()).ok()?;
    serde_json::from_str::<Value>(&text).ok()?["messages_per_s"].as_u64()
}

/// Doubles the load until something gives, then halves the gap three times.
pub(crate) fn find() -> Result<u64> {
    println!("\nThe peak is looked for, {} s each:", STEP.as_secs());
    let mut steps = Vec::new();
    let (mut good, mut bad, mut rate) = (0, LAST * 2, FIRST);
    while rate <= LAST {
        let why = try_at(rate)?;
        println!("{rate:>6} messages/s  {}", why.as_deref().unwrap_or("carried"));
        steps.push(json!({ "messages_per_s": rate, "gave": why }));
        match why {
            None => good = rate,
            Some(_) => bad = rate,
        }
        rate = match (bad > LAST, bad - good > good.max(FIRST) / 8) {
            (true, _) => rate * 2,
            (false, true) => (good + bad) / 2,
            (false, false) => break,
        };
    }
    if good == 0 {
        bail!(
            "not even {FIRST} messages a second are carried here: look at {}",
            tree::shown(&super::folder())
        );
    }
    let found =
        json!({ "messages_per_s": good, "step_s": STEP.as_secs(), "late_ms": LATE_MS, "steps": steps });
    fs::write(path(), serde_json::to_string_pretty(&found)? + "\n")
        .with_context(|| format!("cannot write {}", path().display()))?;
    Ok(good)
}

/// `None`: carried; else what gave.
fn try_at(rate: u64) -> Result<Option<String>> {
    let stage = Stage::set("peak")?;
    let mut dna = stage.serve()?;
    let told = Round::start(&stage, dna.id(), rate, STEP).and_then(|mut round| {
        while round.next_minute()?.is_some() {}
        round.finish()
    });
    let stopped = stage::stop(&mut dna);
    let told = told?;
    stopped?;
    if signal::received().is_some() {
        return Err(Interrupted.into());
    }
    Ok(gave(&told))
}

fn gave(told: &Told) -> Option<String> {
    let account = |name: &str| told.delivery[name].as_u64().unwrap_or(0);
    if account("missing") > 0 {
        return Some(format!("{} deliveries missing", account("missing")));
    }
    if let Some(error) = told.errors.first() {
        return Some(error.chars().take(160).collect());
    }
    if told.p99_ms > LATE_MS {
        return Some(format!("p99 of the deliveries is {:.0} ms", told.p99_ms));
    }
    if account("messages") == 0 {
        return Some("nothing was said".to_owned());
    }
    (!told.valid).then(|| "drumfire itself was at its limit".to_owned())
}
