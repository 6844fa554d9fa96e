//! The commands beside `run`, `report` and `check`.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{CommandFactory as _, Parser as _};
use load_tester::cli::{Cli, Command, CompareArgs, CompletionsArgs, InitArgs, LimitArgs, QuickArgs};
use load_tester::compare::{self, Comparison, Side};
use load_tester::limit::Settled;
use load_tester::outcome::Outcome;
use load_tester::run::{Progress, RunOptions};
use load_tester::script::{self, LoadOptions};
use load_tester::{init, limit, outputs, report, signals};

use crate::{SCRIPT_ERROR, command_line, hand_over, print, run_script, told};

pub(crate) fn compare(args: &CompareArgs) -> anyhow::Result<u8> {
    let (a, b) = (Side::read(&args.a)?, Side::read(&args.b)?);
    if let Some(path) = a.shares(&b) {
        tell!("note: {} is on both sides, so it is held against itself", path.display());
    }
    if let Some(output) = &args.output {
        let read = a.runs.iter().chain(&b.runs).map(|run| run.path.as_path());
        outputs::distinct(read, &[("--output", output)]).map_err(anyhow::Error::msg)?;
    }
    let options = compare::Options {
        fail_if: args.fail_if.clone(),
        allow: args.allow,
        force: args.force,
        seed: args.seed,
        redraws: None,
    };
    let comparison = Comparison::new(a, b, &options).map_err(anyhow::Error::msg)?;
    if args.quiet {
        hand_over(&format!("{}\n", comparison.sentence()))?;
    } else {
        hand_over(&compare::text::render(&comparison, args.all))?;
    }
    if let Some(path) = &args.output {
        report::json::write_text(&compare::html::render(&comparison), path)?;
    }
    Ok(comparison.exit_code())
}

pub(crate) fn quick(args: &QuickArgs) -> anyhow::Result<u8> {
    let text = args.quick().script().map_err(anyhow::Error::msg)?;
    if args.print_script {
        hand_over(&text)?;
        return Ok(0);
    }
    let options = LoadOptions {
        files: vec!["quick".into()],
        insecure: args.insecure,
        seed: args.seed,
        ..LoadOptions::default()
    };
    let Some(script) = told(script::parse_str(&text, &options)) else { return Ok(SCRIPT_ERROR) };
    // As if it had been typed, so that a run from flags is a run like any other.
    let mut typed: Vec<OsString> = ["drumfire", "run", "quick"].map(OsString::from).into();
    if let Some(output) = &args.output {
        typed.extend(["--output".into(), output.into()]);
    }
    if args.quiet {
        typed.push("--quiet".into());
    }
    if let Some(workers) = args.workers {
        typed.extend(["--workers".into(), workers.to_string().into()]);
    }
    match Cli::try_parse_from(typed)?.command {
        Command::Run(run) => run_script(&script, &run),
        _ => unreachable!("`run` was typed"),
    }
}

pub(crate) fn init(args: &InitArgs) -> anyhow::Result<u8> {
    init::write(&args.file, args.kind, args.target.as_deref())?;
    let file = args.file.display();
    print(&format!("{file}\n  drumfire check {file}    what would run\n  drumfire run {file}\n"));
    Ok(0)
}

pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "drumfire", &mut script);
    hand_over(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

pub(crate) fn limit(args: &LimitArgs) -> anyhow::Result<u8> {
    let mut options = limit::Options {
        what: args.what,
        until: args.until.clone(),
        from: args.from,
        to: args.to,
        step: Duration::from_secs_f64(args.step_duration),
        precision: args.precision.max(0.1),
        http: false,
    };
    if args.script.solo {
        bail!("--solo runs one user, and a search needs many: leave it out");
    }
    let base = args.script.load_options();
    let first = options.load_options(&base, options.from, options.step).map_err(anyhow::Error::msg)?;
    let Some(script) = told(script::load(&first)) else { return Ok(SCRIPT_ERROR) };
    options.check(&script).map_err(anyhow::Error::msg)?;
    options.http = script.makes_requests();
    let options = options;
    let at = |load, length| options.load_options(&base, load, length).map_err(anyhow::Error::msg);
    // Before the first step: what cannot be written should not cost a search.
    if let Some(output) = &args.output {
        let read = args.script.files().chain(script.files());
        outputs::distinct(read, &[("--output", output)]).map_err(anyhow::Error::msg)?;
    }
    let output = args.output.as_deref().map(report::json::probe).transpose()?;
    if let Some(folder) = &args.keep {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("--keep {}: cannot be made", folder.display()))?;
    }
    if !args.quiet {
        print(&limit::head(&options));
    }

    signals::heed()?;
    let mut settler = limit::Settler::new(&script.config.target);
    let mut steps = 0;
    let mut run = |load: f64, length: Duration| -> anyhow::Result<Result<Outcome, &'static str>> {
        // It may have come when the last step was over already.
        if let Some(signal) = signals::first() {
            return Ok(Err(signal));
        }
        match settler.settle()? {
            Settled::Interrupted(signal) => return Ok(Err(signal)),
            Settled::Busy => {
                tell!(
                    "note: half a minute after the last step the target is not idle yet; the next one begins all the same"
                );
            }
            Settled::Idle => {}
        }
        // The script's own warnings were told once.
        let mut script = script::load(&at(load, length)?)?;
        script.config.ensure = None;
        let run_options = RunOptions {
            workers: args.workers.map(usize::from),
            command_line: command_line(),
            handle_signals: true,
            ..RunOptions::default()
        };
        let outcome = load_tester::run::run(&script, &run_options, &mut |progress| match progress {
            Progress::Notice(text) if steps == 0 => tell!("note: {text}"),
            _ => {}
        })?;
        steps += 1;
        if limit::nobody_listens(&outcome) {
            bail!(
                "{}: connection refused: nothing listens there; start the target first",
                outcome.meta.target
            );
        }
        Ok(Ok(outcome))
    };
    let mut number = 0;
    let mut failed = None;
    let search = limit::search(&options, &mut run, &mut |_, step, outcome| {
        number += 1;
        if !args.quiet {
            print(&limit::row(step));
        }
        if let Some(folder) = &args.keep
            && let Err(error) = report::json::write(outcome, &limit::step_file(folder, number, step.load))
        {
            failed.get_or_insert(error);
        }
    })?;
    print(&format!("{}{}", if args.quiet { "" } else { "\n" }, search.answer()));
    if let Some(path) = &output {
        report::json::write_text(&search.to_json(&script.path.display().to_string(), &command_line()), path)?;
        if !args.quiet {
            print(&format!("{}\n", path.display()));
        }
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(search.exit_code())
}
