//! What was typed: Artillery's commands and flags, and the few of our own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::limit::{Condition, What};
use crate::quick::Quick;
use crate::report::Form;
use crate::script::{LoadOptions, duration};
use crate::sources::{NoSource, Sources};

const EXAMPLES: &str = "\
Examples:
  drumfire check scenario.yml                      what would run, and what is wrong with it
  drumfire debug scenario.yml                      one user, everything it says and hears
  drumfire run scenario.yml                        run it
  drumfire run -o result.json scenario.yml         and keep the result
  drumfire report result.json                      write result.json.html
  drumfire compare before.json after.json          better or worse, and more than noise?
  drumfire limit scenario.yml --until 'delivery.p99 < 100ms'
  drumfire quick http://localhost:3000 --emit message --listen message --listeners 100
  drumfire init chat.yml --kind chat               a script to begin with

Scripts are Artillery's (https://www.artillery.io/docs); docs/artillery-compat.md says what differs.
Exit codes: 0; 1 script error or a failed `ensure`; 3 figures not to be believed, where something is claimed of \
them; 21 a failed `expect`; 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP (results are written all the same: users get a second to end, \
and a second Ctrl-C ends the process at once, without results).";

const RUN_EXAMPLES: &str = "\
Examples:
  drumfire run -o result.json scenario.yml
  drumfire run -t https://staging.example -e staging scenario.yml
  drumfire run -v '{\"room\": \"lobby\"}' --ack scenario.yml
  drumfire run --overrides '{\"config\": {\"phases\": [{\"duration\": 5, \"arrivalRate\": 10}]}}' a.yml
  drumfire run --format v1 scenario.yml            the summary as Artillery 1 prints it
  drumfire run --junit checks.xml --markdown - scenario.yml     for CI
  drumfire run --live scenario.yml                 the report in a browser while the run goes on
  drumfire run --max-duration 10m --grace 30s scenario.yml
  drumfire run --sources 127.0.0.0/8 scenario.yml  more sockets than one address has ports

A small script:
  config:
    target: http://localhost:9013
    phases:
      - {duration: 30, arrivalRate: 300}
  scenarios:
    - engine: socketio
      flow:
        - emit: [save_msg, {contents: hello}]
          acknowledge: true
        - think: 1";

const CHECK_EXAMPLES: &str = "\
Examples:
  drumfire check scenario.yml
  drumfire check --strict -e staging scenario.yml  warnings count as errors

Exit codes: 0; 1 when the script cannot be run as written.";

const DEBUG_EXAMPLES: &str = "\
Examples:
  drumfire debug scenario.yml                      one user, step by step
  drumfire debug --users 2 chat.yml                two at once, who hear each other

Tokens, passwords and cookies are shown as ***, long messages cut.
Exit codes: 0; 1 when the script cannot be run or a user failed; 21 a failed `expect`.";

const REPORT_EXAMPLES: &str = "\
Examples:
  drumfire report result.json                      writes result.json.html
  drumfire report --format junit result.json       writes result.json.xml (docs/outputs.md)
  drumfire report --format text result.json        prints the summary again
  drumfire report -o night.html artillery.json     reads results of Artillery 1.6, 1.7 and 2, too";

const COMPARE_EXAMPLES: &str = "\
Examples:
  drumfire compare before.json after.json
  drumfire compare before/ after/                  repeated runs, whose differences are the noise
  drumfire compare 'a-*.json' b-1.json,b-2.json    wildcards (quoted) and lists
  drumfire compare a.json b.json -o compare.html   as a page
  drumfire compare a.json b.json --fail-if 'delivery.p99 > 10%' \\
      --fail-if 'delivery.completeness > 0.01pp'

Names of figures: docs/metrics.md.
Exit codes: 0 no worse than allowed; 1 worse; 3 nothing can be claimed: an invalid run, or runs of different scripts, \
phases or listeners.";

const LIMIT_EXAMPLES: &str = "\
Examples:
  drumfire limit scenario.yml --until 'delivery.p99 < 100ms'
  drumfire limit scenario.yml --until 'delivery.p99 < 50ms' --until 'delivery.missing == 0'
  drumfire limit scenario.yml --what users --from 100 --until 'socketio.response_time.p95 < 250ms'
  drumfire limit scenario.yml --until 'http.response_time.p99 < 1s' -o limit.json --keep steps/

Flow and listeners are the script's; its phases are replaced. Without a condition on errors, `errors.share <= 1%` is \
added; with requests and none on status codes, `http.5xx.share <= 1%`. Names of figures: docs/metrics.md.
Exit codes: 0 found; 1 nothing held, or a script error; 3 the tester was the limit; 130 Ctrl-C (what is known so far is \
told).";

const QUICK_EXAMPLES: &str = "\
Examples:
  drumfire quick http://localhost:3000                                 GET / ten times a second
  drumfire quick http://localhost:3000 --get /a --get /b --rate 100 --duration 30
  drumfire quick http://localhost:3000 --emit message --data '{\"text\": \"hi\"}' --ack
  drumfire quick http://localhost:3000 --emit message --data '{\"text\": \"hi\"}' \\
      --listen message --listeners 1000                              who heard it, and when
  drumfire quick ws://localhost:3000 --send hello --reply              the echo is timed
  drumfire quick ws://localhost:3000 --send '{\"text\": \"hi\"}' --listeners 100
  drumfire quick http://localhost:9013 --emit save_msg --ack \\
      --data '{\"messageData\": {\"contents\": \"hi\"}}' \\
      --listen new_msg --read result.contents --print-script > chat.yml";

const INIT_EXAMPLES: &str = "\
Examples:
  drumfire init                                    writes drumfire.yml, a chat with listeners
  drumfire init load.yml --kind http --target http://localhost:8080";

const COMPLETIONS: &str = "\
To install:
  bash        drumfire completions bash > ~/.local/share/bash-completion/completions/drumfire
  zsh         drumfire completions zsh > ~/.zfunc/_drumfire     (~/.zfunc in fpath, before compinit)
  fish        drumfire completions fish > ~/.config/fish/completions/drumfire.fish
  powershell  drumfire completions powershell >> $PROFILE";

/// Runs Artillery load scripts and reports honestly what happened.
#[derive(Debug, Parser)]
#[command(name = "drumfire", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a script.
    #[command(after_long_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Make a page of a result, or XML, CSV, Markdown, an HdrHistogram log.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Say what a script would do, and what is wrong with it, without running it.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Box<CheckArgs>),
    /// Walk one user through a script and print everything that happens.
    #[command(after_help = DEBUG_EXAMPLES)]
    Debug(Box<DebugArgs>),
    /// Hold two results, or two groups of repeated runs, against each other.
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareArgs),
    /// Find the most that a target holds: steps up, then halves the gap.
    #[command(after_help = LIMIT_EXAMPLES)]
    Limit(Box<LimitArgs>),
    /// Load a target without a script.
    #[command(after_help = QUICK_EXAMPLES)]
    Quick(Box<QuickArgs>),
    /// Write a script to begin with.
    #[command(after_help = INIT_EXAMPLES)]
    Init(InitArgs),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETIONS)]
    Completions(CompletionsArgs),
}

/// Which script, and what is changed in it.
#[derive(Debug, Args)]
pub struct ScriptArgs {
    /// The script: YAML or JSON; several are merged, later ones over earlier ones.
    #[arg(value_name = "SCRIPT", required_unless_present = "input")]
    pub scripts: Vec<PathBuf>,
    /// More scripts.
    #[arg(short, long, value_name = "SCRIPT", hide = true)]
    pub input: Vec<PathBuf>,
    /// Address under test, in place of `config.target`.
    #[arg(short, long, value_name = "URL")]
    pub target: Option<String>,
    /// A script merged over the others, usually holding `config`.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// An environment of the script, merged over `config`.
    #[arg(short, long, value_name = "NAME")]
    pub environment: Option<String>,
    /// CSV file for `config.payload`.
    #[arg(short, long, value_name = "CSV")]
    pub payload: Option<PathBuf>,
    /// Variables of every user: a JSON object.
    #[arg(short, long, value_name = "JSON", allow_hyphen_values = true)]
    pub variables: Option<String>,
    /// JSON merged over the script; lists are replaced.
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    pub overrides: Option<String>,
    /// `NAME=value` lines for `$processEnvironment` and `$env`.
    #[arg(long, visible_alias = "env-file", value_name = "FILE")]
    pub dotenv: Option<PathBuf>,
    /// Accept any TLS certificate.
    #[arg(short = 'k', long)]
    pub insecure: bool,
    /// Run one user and no more.
    #[arg(short, long)]
    pub solo: bool,
    /// Run only this scenario: its name, or a regular expression that fits one.
    #[arg(long, value_name = "NAME")]
    pub scenario_name: Option<String>,
    /// Warnings (unknown keys, variables nobody sets) are errors.
    #[arg(long)]
    pub strict: bool,
    /// Repeat a run's random choices: arrivals, rows, weights, places.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl ScriptArgs {
    /// The files that are read, those a script names itself aside.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let given = [&self.config, &self.payload, &self.dotenv].into_iter().flatten();
        self.scripts.iter().chain(&self.input).chain(given).map(PathBuf::as_path)
    }

    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            files: self.scripts.iter().chain(&self.input).cloned().collect(),
            config: self.config.clone(),
            environment: self.environment.clone(),
            target: self.target.clone(),
            insecure: self.insecure,
            payload: self.payload.clone(),
            overrides: self.overrides.clone(),
            variables: self.variables.clone(),
            dotenv: self.dotenv.clone(),
            solo: self.solo,
            scenario_name: self.scenario_name.clone(),
            strict: self.strict,
            seed: self.seed,
            environment_variables: None,
        }
    }
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub script: ScriptArgs,
    /// Write the result as JSON to this file, or into this directory.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
    /// How windows and summary are printed: our lines, or as Artillery 1 or 2 prints them.
    #[arg(long, value_enum, default_value_t = Format::Plain)]
    pub format: Format,
    /// Every emit that waits for nothing asks for an acknowledgement.
    #[arg(long)]
    pub ack: bool,
    /// Exit with 3 when the figures are not to be believed, even if nothing is claimed of them.
    #[arg(long)]
    pub require_valid: bool,
    /// Threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// With `config.delivery`: write who heard what as CSV.
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Show the report while the run goes on, with /metrics for Prometheus and /result.json; on loopback unless told otherwise.
    // With `=`, so that it does not take the script for an address.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, value_parser = live)]
    pub live: Option<Option<std::net::SocketAddr>>,
    /// After so long (`90`, `10m`) nobody arrives any more; users still at work get the grace to end.
    #[arg(long, value_name = "DURATION", value_parser = length)]
    pub max_duration: Option<Duration>,
    /// What users get to end after --max-duration, before they are cut off [default: the script's `timeout`].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub grace: Option<Duration>,
    /// Addresses of this machine that connections come from in turn: `127.0.0.0/8`, `10.0.0.7,10.0.0.8`.
    #[arg(long, value_name = "ADDRESSES", value_parser = sources)]
    pub sources: Option<Sources>,
    /// Write each reporting window as a line of JSON when it ends.
    #[arg(long, value_name = "FILE")]
    pub windows: Option<PathBuf>,
    /// Plain lines in place of the screen, which is shown on a terminal (not in CI, nor with --quiet or TERM=dumb).
    #[arg(long, visible_alias = "plain")]
    pub no_tui: bool,
    /// Write JUnit XML: a case for each `ensure` and `expect`.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write a row of figures for each second; docs/outputs.md has the columns.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a summary in Markdown; `-` appends it to GitHub's job summary, elsewhere prints it.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Write an HdrHistogram interval log, a tag for each distribution.
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,

    // Artillery Cloud's; taken with a notice.
    #[arg(
        long,
        value_name = "NAME",
        hide_short_help = true,
        help = "Artillery Cloud's; nothing is sent anywhere"
    )]
    pub name: Option<String>,
    #[arg(
        long,
        value_name = "TAGS",
        hide_short_help = true,
        help = "Artillery Cloud's; nothing is sent anywhere"
    )]
    pub tags: Option<String>,
    #[arg(
        long,
        value_name = "TEXT",
        hide_short_help = true,
        help = "Artillery Cloud's; nothing is sent anywhere"
    )]
    pub note: Option<String>,
    #[arg(long, hide_short_help = true, help = "Artillery Cloud's; nothing is sent anywhere")]
    pub record: bool,
    #[arg(
        long,
        value_name = "KEY",
        hide_short_help = true,
        help = "Artillery Cloud's; nothing is sent anywhere"
    )]
    pub key: Option<String>,
}

/// A duration of something.
fn length(text: &str) -> Result<Duration, String> {
    match duration::parse(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("leaves no run".to_owned()),
        length => Ok(length),
    }
}

/// A port of this machine, or an address with one.
fn live(text: &str) -> Result<std::net::SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok((std::net::Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => text.parse().map_err(|_| {
            "neither a port nor an address with one: 9014, 127.0.0.1:9014, [::1]:9014; 0 is any free port"
                .to_owned()
        }),
    }
}

fn sources(text: &str) -> Result<Sources, NoSource> {
    Sources::parse(text.split(','))
}

impl RunArgs {
    /// The flags that do nothing here, as typed.
    pub fn cloud_flags(&self) -> Vec<&'static str> {
        let given = [
            ("--name", self.name.is_some()),
            ("--tags", self.tags.is_some()),
            ("--note", self.note.is_some()),
            ("--record", self.record),
            ("--key", self.key.is_some()),
        ];
        given.into_iter().filter_map(|(flag, given)| given.then_some(flag)).collect()
    }

    /// Every file that is written, with its flag.
    pub fn outputs(&self) -> Vec<(&'static str, &Path)> {
        let asked = [
            ("--output", &self.output),
            ("--junit", &self.junit),
            ("--csv", &self.csv),
            ("--markdown", &self.markdown),
            ("--hdr", &self.hdr),
            ("--windows", &self.windows),
            ("--pairs", &self.pairs),
        ];
        asked.into_iter().filter_map(|(flag, path)| Some((flag, path.as_deref()?))).collect()
    }

    /// The forms asked for beside the result itself, and where they go.
    pub fn forms(&self) -> Vec<(Form, &Path)> {
        let asked = [
            (Form::Junit, &self.junit),
            (Form::Csv, &self.csv),
            (Form::Markdown, &self.markdown),
            (Form::Hdr, &self.hdr),
        ];
        asked.into_iter().filter_map(|(form, path)| Some((form, path.as_deref()?))).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Our own lines.
    Plain,
    /// Artillery 1's block.
    V1,
    /// Artillery 2's blocks.
    V2,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A result of `run -o`, of drumfire or Artillery.
    #[arg(value_name = "RESULT.json")]
    pub result: PathBuf,
    /// What is made of it.
    #[arg(long, value_enum, default_value_t = ReportFormat::Html)]
    pub format: ReportFormat,
    /// Where it goes, `-` for standard output [default: RESULT.json and .html, .xml, .csv, .md or .hlog; text is printed].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// One page that needs nothing else.
    Html,
    /// XML for CI: a case for each `ensure` and `expect`.
    Junit,
    /// A row for each second.
    Csv,
    /// For a job's summary or a comment.
    Markdown,
    /// HdrHistogram's interval log.
    Hdr,
    /// The summary as `run` prints it.
    Text,
}

impl ReportFormat {
    pub fn form(self) -> Form {
        match self {
            Self::Html => Form::Html,
            Self::Junit => Form::Junit,
            Self::Csv => Form::Csv,
            Self::Markdown => Form::Markdown,
            Self::Hdr => Form::Hdr,
            Self::Text => Form::Text,
        }
    }
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub script: ScriptArgs,
}

#[derive(Debug, Args)]
pub struct DebugArgs {
    #[command(flatten)]
    pub script: ScriptArgs,
    /// So many users at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub users: u64,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Before: a result, a directory of results, a wildcard, or several with commas between.
    #[arg(value_name = "A")]
    pub a: String,
    /// After.
    #[arg(value_name = "B")]
    pub b: String,
    /// Write the comparison as an HTML page.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What makes it fail, in place of the key figures: worse beyond noise and by more than this. Several may be given.
    #[arg(long, value_name = "RULE", value_parser = crate::compare::Rule::parse)]
    pub fail_if: Vec<crate::compare::Rule>,
    /// How much worse a key figure may get, in per cent [default: 5].
    #[arg(long, value_name = "PERCENT", value_parser = percent, allow_negative_numbers = true)]
    pub allow: Option<f64>,
    /// A verdict though script, phases or listeners differ.
    #[arg(long)]
    pub force: bool,
    /// Print every figure, not only those that decide or differ.
    #[arg(long)]
    pub all: bool,
    /// Of the redraws that estimate the noise.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print the first sentence only.
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct LimitArgs {
    #[command(flatten)]
    pub script: ScriptArgs,
    /// What has to hold, e.g. 'delivery.p99 < 100ms'. Several may be given; all have to hold.
    #[arg(long, value_name = "CONDITION", required = true, value_parser = Condition::parse)]
    pub until: Vec<Condition>,
    /// What is driven up.
    #[arg(long, value_enum, default_value = "rate")]
    pub what: What,
    /// Where to begin.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = positive)]
    pub from: f64,
    /// Nothing higher is tried.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub to: Option<f64>,
    /// Seconds a step lasts; the confirming one twice as long.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    pub step_duration: f64,
    /// How close to the edge, in per cent.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    pub precision: f64,
    /// Write all steps and the answer as JSON to this file.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Keep the whole result of each step in this directory.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Print the answer only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
}

#[derive(Debug, Args)]
pub struct QuickArgs {
    /// Address under test: http, https, ws or wss.
    #[arg(value_name = "URL")]
    pub url: String,
    /// Each user emits this event.
    #[arg(long, value_name = "EVENT", help_heading = "Socket.IO")]
    pub emit: Option<String>,
    /// What is emitted: JSON, else text [default: {"text": "drumfire"}].
    #[arg(
        long,
        value_name = "JSON",
        help_heading = "Socket.IO",
        requires = "emit",
        allow_hyphen_values = true
    )]
    pub data: Option<String>,
    /// The emit asks for an acknowledgement, and its answer is timed.
    #[arg(long, help_heading = "Socket.IO")]
    pub ack: bool,
    /// The emit waits for this event, which is timed.
    #[arg(long, value_name = "EVENT", help_heading = "Socket.IO", requires = "emit", conflicts_with = "ack")]
    pub response: Option<String>,
    /// Listeners hear this event; each delivery of an --emit is accounted for.
    #[arg(long, value_name = "EVENT", help_heading = "Who hears it")]
    pub listen: Option<String>,
    /// How many stand and hear what users say [default with --listen: 100; with --send: none].
    #[arg(long, value_name = "N", help_heading = "Who hears it")]
    pub listeners: Option<u64>,
    /// What each listener emits first; over plain WebSocket the text it sends.
    #[arg(long, value_name = "EVENT", help_heading = "Who hears it", allow_hyphen_values = true)]
    pub join: Option<String>,
    /// With what: JSON, else text.
    #[arg(
        long,
        value_name = "JSON",
        help_heading = "Who hears it",
        requires = "join",
        allow_hyphen_values = true
    )]
    pub join_data: Option<String>,
    /// Path in --data or --send of the text that gets the mark [default: the first text].
    #[arg(long, value_name = "PATH", help_heading = "Who hears it")]
    pub stamp: Option<String>,
    /// Path in what is heard where the mark comes back [default: as --stamp].
    #[arg(long, value_name = "PATH", help_heading = "Who hears it")]
    pub read: Option<String>,
    /// Who should hear each message: all, none or a number [default: all].
    #[arg(long, value_name = "WHO", help_heading = "Who hears it")]
    pub expect: Option<String>,
    /// Namespace of the emits.
    #[arg(long, value_name = "NAME", help_heading = "Socket.IO")]
    pub namespace: Option<String>,
    /// The handshake's `auth`: a JSON object.
    #[arg(long, value_name = "JSON", help_heading = "Socket.IO")]
    pub auth: Option<String>,
    /// Long polling in place of WebSocket.
    #[arg(long, help_heading = "Socket.IO")]
    pub polling: bool,
    /// Seconds a user stays connected after it has spoken [default: 1].
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    pub stay: Option<f64>,
    /// Each user requests this path; several may be given [default, without anything else to do: /].
    #[arg(long, visible_alias = "http", value_name = "PATH", help_heading = "HTTP")]
    pub get: Vec<String>,
    /// Each user posts to this path.
    #[arg(long, value_name = "PATH", help_heading = "HTTP")]
    pub post: Option<String>,
    /// The body of the post.
    #[arg(long, value_name = "JSON", help_heading = "HTTP", requires = "post")]
    pub json: Option<String>,
    /// Each user sends this frame: JSON, else text.
    #[arg(long, value_name = "TEXT", help_heading = "Plain WebSocket", allow_hyphen_values = true)]
    pub send: Option<String>,
    /// The next frame is the answer, which is waited for and timed.
    #[arg(long, help_heading = "Plain WebSocket", requires = "send")]
    pub reply: bool,
    /// Users that arrive a second.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = positive)]
    pub rate: f64,
    /// For how many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = positive)]
    pub duration: f64,
    /// A header of requests and handshakes; several may be given.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Print the script and run nothing.
    #[arg(long)]
    pub print_script: bool,
    /// Write the result as JSON to this file, or into this directory.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print errors only.
    #[arg(short, long)]
    pub quiet: bool,
    /// Accept any TLS certificate.
    #[arg(short = 'k', long)]
    pub insecure: bool,
    /// Threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Repeat a run's random choices.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

impl QuickArgs {
    pub fn quick(&self) -> Quick {
        Quick {
            url: self.url.clone(),
            emit: self.emit.clone(),
            data: self.data.clone(),
            ack: self.ack,
            response: self.response.clone(),
            listen: self.listen.clone(),
            listeners: self.listeners,
            join: self.join.clone(),
            join_data: self.join_data.clone(),
            rate: self.rate,
            duration: self.duration,
            stay: self.stay,
            namespace: self.namespace.clone(),
            auth: self.auth.clone(),
            headers: self.headers.clone(),
            stamp: self.stamp.clone(),
            read: self.read.clone(),
            expect: self.expect.clone(),
            polling: self.polling,
            get: self.get.clone(),
            post: self.post.clone(),
            json: self.json.clone(),
            send: self.send.clone(),
            reply: self.reply,
        }
    }
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The file to write; one that is there already stays.
    #[arg(value_name = "FILE", default_value = "drumfire.yml")]
    pub file: PathBuf,
    /// What it loads.
    #[arg(long, value_enum, default_value = "chat")]
    pub kind: crate::init::Kind,
    /// Address under test [default: port 3000 of this machine].
    #[arg(short, long, value_name = "URL")]
    pub target: Option<String>,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    pub shell: clap_complete::Shell,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| "a number above 0".to_owned())
}

/// More than nothing, and no more than a day.
fn seconds(text: &str) -> Result<f64, String> {
    let number = positive(text)?;
    match number {
        0.001..=86_400.0 => Ok(number),
        _ => Err("between a millisecond and a day: 0.001 to 86400".to_owned()),
    }
}

/// `5` or `5%`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end().parse::<f64>();
    number
        .ok()
        .filter(|n| n.is_finite() && *n >= 0.0)
        .ok_or_else(|| "a number of per cent, e.g. 5%".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags() {
        let read = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' '));
            cli.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
        };
        let run = |line: &str| match read(line).unwrap().command {
            Command::Run(run) => run,
            other => panic!("{other:?}"),
        };
        let journal = run("drumfire run -o 결과.json 시나리오.yml");
        assert_eq!(journal.output, Some("결과.json".into()));
        assert_eq!(journal.script.load_options().files, [PathBuf::from("시나리오.yml")]);
        let all = run(
            "drumfire run a.yml b.yml -i c.yml -t http://x -e live -p p.csv -c c.json -v {\"a\":-1} -k -q -s \
             --overrides {} --scenario-name x --dotenv .env --name n --tags a:b --note hi --record --key k \
             --format v1 --strict --require-valid --seed 7 --workers 2 --ack --windows w.jsonl --max-duration 10m \
             --grace 0 --sources 127.0.0.0/8,10.0.0.7 --plain --junit j.xml --csv c.csv --markdown - --hdr h.hlog",
        );
        assert_eq!(
            all.forms(),
            [
                (Form::Junit, Path::new("j.xml")),
                (Form::Csv, Path::new("c.csv")),
                (Form::Markdown, Path::new("-")),
                (Form::Hdr, Path::new("h.hlog")),
            ]
        );
        assert!(all.no_tui);
        assert_eq!((all.max_duration, all.grace), (Some(Duration::from_secs(600)), Some(Duration::ZERO)));
        assert_eq!(all.sources.as_ref().unwrap().to_string(), "127.0.0.0/8, 10.0.0.7");
        let options = all.script.load_options();
        assert_eq!(options.files.len(), 3);
        assert_eq!(options.variables.as_deref(), Some("{\"a\":-1}"));
        assert!(
            options.insecure && options.solo && options.strict && all.quiet && all.ack && all.require_valid
        );
        assert_eq!((options.seed, all.workers, all.format), (Some(7), Some(2), Format::V1));
        assert_eq!(all.live, None);
        assert_eq!(run("drumfire run --live a.yml").live, Some(None));
        for port in ["--live=9000", "--live=127.0.0.1:9000"] {
            let live = run(&format!("drumfire run {port} a.yml")).live;
            assert_eq!(live, Some(Some("127.0.0.1:9000".parse().unwrap())));
        }
        let elsewhere = run("drumfire run --live=0.0.0.0:9000 a.yml").live;
        assert_eq!(elsewhere, Some(Some("0.0.0.0:9000".parse().unwrap())));
        assert_eq!(all.cloud_flags(), ["--name", "--tags", "--note", "--record", "--key"]);
        assert!(matches!(read("drumfire report x.json").unwrap().command, Command::Report(_)));
        assert!(matches!(read("drumfire check x.yml").unwrap().command, Command::Check(_)));
        match read("drumfire debug x.yml --users 3").unwrap().command {
            Command::Debug(debug) => assert_eq!(debug.users, 3),
            other => panic!("{other:?}"),
        }
        for wrong in [
            "drumfire run",
            "drumfire run a.yml --workers 0",
            "drumfire run a.yml --max-duration 0",
            "drumfire run a.yml --grace soon",
            "drumfire run a.yml --sources localhost",
            "drumfire rum a.yml",
            "drumfire run a.yml --cuont 3",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// Examples stand on their lines at the width clap wraps at, and paragraphs are left for it to wrap.
    #[test]
    fn what_stands_below_the_flags_is_wrapped_once() {
        let mut command = Cli::command();
        command.build();
        let texts = std::iter::once(&command)
            .chain(command.get_subcommands())
            .flat_map(|command| [command.get_after_help(), command.get_after_long_help()])
            .flatten();
        let mut lines = 0;
        for line in texts.flat_map(|text| text.to_string().lines().map(str::to_owned).collect::<Vec<_>>()) {
            let lowercase = line.starts_with(char::is_lowercase);
            assert!(!lowercase, "broken by hand: {line}");
            assert!(!line.starts_with(' ') || line.chars().count() <= 100, "will be broken: {line}");
            lines += 1;
        }
        assert!(lines > 60, "{lines}");
    }

    /// Each flag of Artillery's and of ours is in the list that the documents are made from.
    #[test]
    fn every_flag_is_documented() {
        use crate::script::compat::{Section, keys};
        let mut command = Cli::command();
        command.build();
        let mut typed: Vec<String> = Vec::new();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            for arg in sub.get_arguments().filter(|arg| arg.get_long().is_some()) {
                let name = format!("--{}", arg.get_long().unwrap_or_default());
                if !matches!(arg.get_id().as_str(), "help" | "version" | "input") {
                    typed.push(name);
                }
            }
        }
        let listed: Vec<&str> = keys(Section::Flag).map(|entry| entry.key).collect();
        for flag in &typed {
            assert!(listed.contains(&flag.as_str()), "{flag} is missing from script/compat.rs");
        }
        for flag in listed {
            assert!(typed.iter().any(|known| known == flag), "{flag} is no flag any more");
        }
    }
}
