//! What was typed: Artillery's commands and flags, and the few of our own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

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

Scripts are Artillery's (https://www.artillery.io/docs); docs/artillery-compat.md says what differs.
Exit codes: 0; 1 script error or a failed `ensure`; 3 figures not to be believed, where something is claimed of
them; 21 a failed `expect`; 130 Ctrl-C, 143 SIGTERM (results are written all the same: users get a second to end,
and a second Ctrl-C ends the process at once, without results).";

const RUN_EXAMPLES: &str = "\
Examples:
  drumfire run -o result.json scenario.yml
  drumfire run -t https://staging.example -e staging scenario.yml
  drumfire run -v '{\"room\": \"lobby\"}' --ack scenario.yml
  drumfire run --overrides '{\"config\": {\"phases\": [{\"duration\": 5, \"arrivalRate\": 10}]}}' scenario.yml
  drumfire run --format v1 scenario.yml            the summary as Artillery 1 prints it
  drumfire run --junit checks.xml --markdown - scenario.yml     for CI
  drumfire run --live scenario.yml                 the report in a browser while the run goes on
  drumfire run --max-duration 10m --grace 30s scenario.yml
  drumfire run --sources 127.0.0.0/8 scenario.yml  more sockets to this machine than one address has ports

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
  drumfire report --format junit result.json       writes result.json.xml; docs/outputs.md shows every form
  drumfire report --format text result.json        prints the summary again
  drumfire report -o night.html artillery.json     reads results of Artillery 1.6, 1.7 and 2, too";

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
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true)]
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
