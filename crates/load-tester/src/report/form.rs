//! The files a run or a result is written as, beside the result file itself.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::json::{self, Error};
use super::loaded::{Loaded, Origin};
use super::{console, csv, hdr, html, junit, markdown};
use crate::outcome::{Outcome, Window};

/// Where GitHub's runners read what a job wants to say on its page.
const JOB_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One page that needs nothing else.
    Html,
    /// XML for CI: a case for each check.
    Junit,
    /// A row for each second.
    Csv,
    /// For a job's summary or a comment.
    Markdown,
    /// HdrHistogram's interval log, a tag for each distribution.
    Hdr,
    /// The summary as `run` prints it.
    Text,
}

impl Form {
    /// What a file made from `result.json` has behind that name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Html => ".html",
            Self::Junit => ".xml",
            Self::Csv => ".csv",
            Self::Markdown => ".md",
            Self::Hdr => ".hlog",
            Self::Text => ".txt",
        }
    }
}

/// The run that has just ended, in one form.
pub fn of_run(form: Form, outcome: &Outcome, loaded: &Loaded) -> String {
    match form {
        Form::Hdr => hdr::render(outcome.meta.started_at_ms, &outcome.seconds),
        form => of_summary(form, loaded),
    }
}

/// A result file, in one form.
///
/// # Errors
/// As [`json::read`]; and when the form needs what the file does not hold.
pub fn of_file(form: Form, path: &Path) -> Result<String, Error> {
    if form != Form::Hdr {
        return Ok(of_summary(form, &json::read(path)?));
    }
    let (loaded, windows) = json::read_with_windows(path)?;
    if loaded.origin != Origin::Drumfire {
        return Err(Error::Foreign {
            path: path.to_owned(),
            what: "Artillery's files hold percentiles and no histograms, so no HdrHistogram log can be made"
                .to_owned(),
            remedy: "choose another format (html, junit, csv, markdown, text), or run the script with drumfire",
        });
    }
    Ok(hdr::render(loaded.started_at_ms.unwrap_or(0), &windows))
}

fn of_summary(form: Form, loaded: &Loaded) -> String {
    match form {
        Form::Html => html::render(loaded),
        Form::Junit => junit::render(loaded),
        Form::Csv => csv::render(loaded),
        Form::Markdown => markdown::render(loaded),
        Form::Text => console::Console::new(console::Format::Plain, loaded.started_at_ms.unwrap_or(0))
            .summary_of(loaded, None),
        // From the windows alone.
        Form::Hdr => hdr::render(loaded.started_at_ms.unwrap_or(0), &[] as &[Window]),
    }
}

/// Makes sure before a run that a form can be written.
///
/// # Errors
/// [`Error::Write`], with place and remedy.
pub fn probe(to: &Path) -> Result<(), Error> {
    if to == Path::new("-") {
        return Ok(());
    }
    if to.is_dir() {
        return Err(json::write_error(to, std::io::ErrorKind::IsADirectory.into()));
    }
    json::probe(to).map(drop)
}

/// Writes a form: to a file, whole or not at all; for `-` to standard output, Markdown on a GitHub runner to the
/// job's summary, behind what stands there. Answers where it went.
///
/// # Errors
/// [`Error::Write`], with place and remedy.
pub fn write(form: Form, text: &str, to: &Path) -> Result<PathBuf, Error> {
    if to != Path::new("-") {
        return json::write_text(text, to).map(|()| to.to_owned());
    }
    let summary = std::env::var_os(JOB_SUMMARY).filter(|path| form == Form::Markdown && !path.is_empty());
    let (path, written) = match summary {
        Some(path) => {
            let path = PathBuf::from(path);
            let file = OpenOptions::new().append(true).create(true).open(&path);
            (path, file.and_then(|mut file| file.write_all(text.as_bytes())))
        }
        None => {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            // A reader that went away has read enough.
            let written = written.or_else(|e| match e.kind() {
                std::io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(e),
            });
            (PathBuf::from("standard output"), written)
        }
    };
    match written {
        Ok(()) => Ok(path),
        Err(cause) => Err(json::write_error(&path, cause)),
    }
}
