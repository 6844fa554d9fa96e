//! Whole scripts through one check: a script in, a few words about what it became out.

mod audience;
mod complaints;
mod config;
mod document;
mod journal;
mod monitor;
mod properties;
mod scenarios;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::compat::{Section, Support, TABLE};
use super::model::*;
use super::template::Template;
use super::*;
use crate::plan::Plan;

const JOURNAL_ORIGINAL: &str = include_str!("../../../../../scenarios/journal-original.yml");
const JOURNAL: &str = include_str!("../../../../../scenarios/journal.yml");
const JOURNAL_HEARD: &str = include_str!("../../../../../scenarios/journal-heard.yml");

fn read(text: &str) -> Result<Script, ScriptError> {
    read_with(text, &LoadOptions::default())
}

fn read_with(text: &str, options: &LoadOptions) -> Result<Script, ScriptError> {
    let options = LoadOptions {
        seed: Some(7),
        environment_variables: Some(vec![("HOME".into(), "/root".into())]),
        ..options.clone()
    };
    parse_str(text, &options)
}

#[track_caller]
fn good(text: &str) -> Script {
    read(text).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// A script with these lines under `config` and this one flow.
fn with(config: &str, scenario: &str) -> String {
    let indent = |text: &str, by: usize| {
        text.trim_matches('\n').lines().map(|line| format!("{:by$}{line}\n", "")).collect::<String>()
    };
    let target = if config.contains("target:") { "" } else { "  target: http://localhost:9013\n" };
    let phases = if config.contains("phases:") { "" } else { "  phases: [{duration: 1, arrivalRate: 1}]\n" };
    format!("config:\n{target}{phases}{}scenarios:\n  -\n{}", indent(config, 2), indent(scenario, 4))
}

/// A socketio script of these steps.
fn steps(flow: &str) -> String {
    let flow: String = flow.trim_matches('\n').lines().map(|line| format!("  {line}\n")).collect();
    with("", &format!("engine: socketio\nflow:\n{flow}"))
}

fn warnings(text: &str) -> Vec<String> {
    good(text).warnings.iter().map(|w| format!("{}: {}", w.line, w.message)).collect()
}

fn rendered(template: &Template) -> Value {
    template.render(&Vars::empty(), &mut fastrand::Rng::with_seed(1))
}

fn shown_errors(scripts: &[&str]) -> String {
    let mut text = String::new();
    for script in scripts {
        match read(script) {
            Ok(_) => panic!("nothing wrong with\n{script}"),
            Err(error) => text += &format!("{error}\n"),
        }
    }
    text
}

macro_rules! assert_errors {
    ($name:literal, $scripts:expr) => {
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!($name, shown_errors($scripts));
        });
    };
}
use assert_errors;
