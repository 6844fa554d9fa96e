//! An Artillery script, read, merged and checked whole before anything starts.

pub mod compat;
pub mod duration;
pub mod model;
pub mod payload;
mod read;
pub mod summary;
pub mod template;
pub mod vars;
pub mod yaml;

#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use model::{Script, Warning};
use read::{Reader, Source};
use vars::Vars;
use yaml::{Kind, Lists, Node, Place};

/// Which files, and what the command line changes in them.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Merged in this order, later ones over earlier ones.
    pub files: Vec<PathBuf>,
    /// `-c`: merged over the files.
    pub config: Option<PathBuf>,
    /// `-e`
    pub environment: Option<String>,
    /// `-t`
    pub target: Option<String>,
    /// `-k`
    pub insecure: bool,
    /// `-p`: a CSV file in place of the paths in `config.payload`.
    pub payload: Option<PathBuf>,
    /// `--overrides`: JSON merged over the whole script, lists replaced.
    pub overrides: Option<String>,
    /// `-v`: a JSON object merged into `config.variables`.
    pub variables: Option<String>,
    /// `--dotenv`: lines `NAME=value`.
    pub dotenv: Option<PathBuf>,
    /// `-s`: one user and no more, whatever the phases say.
    pub solo: bool,
    /// `--scenario-name`: a name or a regular expression that fits exactly one.
    pub scenario_name: Option<String>,
    /// Warnings become errors.
    pub strict: bool,
    /// `None`: made up.
    pub seed: Option<u64>,
    /// What `$processEnvironment` holds; `None`: this process's environment.
    pub environment_variables: Option<Vec<(String, String)>>,
}

/// Everything that is wrong with a script, ready to be printed.
#[derive(Debug, Clone)]
pub struct ScriptError {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
}

/// One thing that is wrong, with its place, the line itself, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    /// 1-based; 0 when the place is not known.
    pub line: usize,
    pub column: usize,
    /// Columns the caret underlines.
    pub width: usize,
    /// The source line.
    pub source: String,
    pub message: String,
    pub help: Option<String>,
}

impl Problem {
    fn of_file(path: &Path, message: String) -> Self {
        Self { path: path.into(), line: 0, column: 0, width: 0, source: String::new(), message, help: None }
    }
}

impl std::error::Error for ScriptError {}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        if self.line > 0 {
            let gutter = " ".repeat(self.line.to_string().len());
            let (source, before) = self.excerpt();
            writeln!(f, "{gutter}--> {}:{}:{}", self.path.display(), self.line, self.column)?;
            writeln!(f, "{gutter} |")?;
            writeln!(f, "{} | {source}", self.line)?;
            // The caret stands under the character, also after Hangul and other wide ones.
            let blank: String = source
                .chars()
                .take(before)
                .map(|c| if c == '\t' { "\t" } else { &"  "[..columns(c)] })
                .collect();
            let under: usize = source.chars().skip(before).take(self.width.max(1)).map(columns).sum();
            writeln!(f, "{gutter} | {blank}{}", "^".repeat(under.max(1)))?;
        } else if !self.path.as_os_str().is_empty() {
            writeln!(f, " --> {}", self.path.display())?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "  = help: {help}")?;
        }
        Ok(())
    }
}

impl Problem {
    /// The part of the line to show (a JSON script may be one line of megabytes), and the characters before the caret.
    fn excerpt(&self) -> (String, usize) {
        const MOST: usize = 110;
        let before = self.column.saturating_sub(1);
        if self.source.chars().count() <= MOST {
            return (self.source.clone(), before);
        }
        let start = before.saturating_sub(MOST / 2);
        let mut shown: String = self.source.chars().skip(start).take(MOST).collect();
        if self.source.chars().count() > start + MOST {
            shown.push_str("...");
        }
        if start == 0 { (shown, before) } else { (format!("...{shown}"), before - start + 3) }
    }
}

/// Terminal columns of a character: two for Hangul, kana, ideographs and emoji.
fn columns(c: char) -> usize {
    match c as u32 {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Reads, merges and checks a script.
///
/// # Errors
/// Every problem found, not only the first.
pub fn load(options: &LoadOptions) -> Result<Script, ScriptError> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for path in options.files.iter().chain(&options.config) {
        match read_file(path) {
            Ok(text) => sources.push(Source { path: path.clone(), text }),
            Err(message) => problems.push(Problem::of_file(path, message)),
        }
    }
    if options.files.is_empty() {
        problems.push(Problem::of_file(Path::new(""), "there is no script to read".into()));
    }
    if !problems.is_empty() {
        return Err(ScriptError { problems, warnings: Vec::new() });
    }
    build(sources, options, true)
}

/// Checks a script out of a string, as if it stood in the first of `options.files`; CSV files are not opened. Never
/// panics, whatever the text.
///
/// # Errors
/// Every problem found, not only the first.
pub fn parse_str(text: &str, options: &LoadOptions) -> Result<Script, ScriptError> {
    let path = options.files.first().cloned().unwrap_or_else(|| "script.yml".into());
    build(vec![Source { path, text: text.to_owned() }], options, false)
}

fn read_file(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot read it: {error}"))?;
    if !metadata.is_file() {
        return Err("it is not a file".into());
    }
    if metadata.len() > yaml::MAX_BYTES as u64 {
        return Err("the file is larger than 8 MiB; keep large data in a CSV file (`config.payload`)".into());
    }
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read it: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        format!("line {line} is not UTF-8; save the file as UTF-8")
    })
}

fn build(mut sources: Vec<Source>, options: &LoadOptions, files: bool) -> Result<Script, ScriptError> {
    let sha256 = {
        let mut hash = Sha256::new();
        sources.iter().for_each(|source| hash.update(source.text.as_bytes()));
        hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    let documents = sources.len();
    let overrides = options.overrides.as_ref().map(|text| add(&mut sources, "--overrides", text));
    let variables = options.variables.as_ref().map(|text| add(&mut sources, "--variables", text));

    let mut failures = Vec::new();
    let mut remarks = Vec::new();
    let mut trees: Vec<Option<Node>> = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
        match yaml::parse(text, index as u16) {
            Ok((node, more)) => {
                remarks.extend(more);
                trees.push(Some(node));
            }
            Err(error) => {
                failures.push(read::problem(&sources, error.place, error.message, error.help));
                trees.push(None);
            }
        }
    }
    let environment = environment_variables(options).unwrap_or_else(|problem| {
        failures.push(problem);
        Vec::new()
    });
    if !failures.is_empty() {
        return Err(ScriptError { problems: failures, warnings: Vec::new() });
    }
    let mut take = |index: usize| trees[index].take().unwrap_or_else(Node::empty_map);

    let mut root = take(0);
    for index in 1..documents {
        yaml::merge(&mut root, take(index), Lists::ByIndex);
    }
    let mut reader = Reader::new(&sources, options, Vars::empty(), files);
    for (place, remark) in remarks {
        reader.warn(place, remark);
    }
    if let Some(name) = &options.environment {
        let environments = root.get("config").and_then(|config| config.get("environments"));
        match environments.and_then(|all| all.get(name)) {
            Some(over) => {
                let over = over.clone();
                if let Some(config) = root.get_mut("config") {
                    yaml::merge(config, over, Lists::ByIndex);
                }
            }
            None => {
                let known: Vec<&str> = environments
                    .map_or(&[][..], Node::entries)
                    .iter()
                    .map(|(key, _)| key.name.as_str())
                    .collect();
                let help = match compat::suggestion(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "add it under `config.environments`".to_owned(),
                    None => format!("there are {}", known.join(", ")),
                };
                let place = environments.map_or_else(Place::default, |all| all.place);
                reader.error(place, format!("the script has no environment `{name}`"), help);
            }
        }
    }
    if let Some(index) = overrides {
        yaml::merge(&mut root, take(index), Lists::Replaced);
    }
    if let Some(index) = variables {
        let given = take(index);
        if matches!(given.kind, Kind::Map(_)) {
            let place = given.place;
            let wrapped = Node::map(place, "config", Node::map(place, "variables", given));
            yaml::merge(&mut root, wrapped, Lists::Replaced);
        } else {
            reader.error(
                given.place,
                "`-v` takes a JSON object",
                "e.g. -v '{\"room\": \"lobby\"}'".to_owned(),
            );
        }
    }

    let path = sources[0].path.clone();
    let mut built_ins = built_ins(&path, options, environment);
    for (name, value) in &built_ins {
        reader.early.set(name.as_str(), value.clone());
    }
    let variables = reader.variables(root.get("config").and_then(|config| config.get("variables")));
    let read = reader.read(&root, variables);
    let (mut problems, mut warnings) = (reader.problems, reader.warnings);
    warnings.sort_by_key(|warning| (warning.line, warning.column));
    if options.strict {
        for warning in std::mem::take(&mut warnings) {
            let source = sources.iter().position(|source| source.path == warning.path).unwrap_or(0);
            let place = Place {
                source: source as u16,
                line: warning.line as u32,
                column: warning.column as u32,
                width: 1,
            };
            problems.push(read::problem(&sources, place, warning.message, None));
        }
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    match read {
        Some(read) if problems.is_empty() => {
            let mut config = read.config;
            built_ins.push(("target".into(), config.target.clone().into()));
            config.seed = options.seed.unwrap_or_else(random_seed);
            Ok(Script {
                path,
                sha256,
                config,
                scenarios: read.scenarios,
                before: read.before,
                after: read.after,
                warnings,
                built_ins,
            })
        }
        _ => Err(ScriptError { problems, warnings }),
    }
}

fn add(sources: &mut Vec<Source>, path: &str, text: &str) -> usize {
    sources.push(Source { path: path.into(), text: text.to_owned() });
    sources.len() - 1
}

/// Names every user knows. `target` joins them once it has been read.
fn built_ins(path: &Path, options: &LoadOptions, environment: Vec<(String, String)>) -> Vec<(String, Value)> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let environment: Value =
        Value::Object(environment.into_iter().map(|(name, value)| (name, value.into())).collect());
    let mut names = vec![
        ("$processEnvironment".to_owned(), environment.clone()),
        ("$env".to_owned(), environment),
        ("$dirname".to_owned(), dir.display().to_string().into()),
        ("$scenarioFile".to_owned(), path.display().to_string().into()),
    ];
    names.push((
        "$environment".to_owned(),
        options.environment.as_ref().map_or(Value::Null, |name| name.as_str().into()),
    ));
    names
}

/// The process's environment, and below it what the `--dotenv` file adds.
fn environment_variables(options: &LoadOptions) -> Result<Vec<(String, String)>, Problem> {
    let mut all: Vec<(String, String)> = match &options.environment_variables {
        Some(given) => given.clone(),
        None => std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    };
    if let Some(path) = &options.dotenv {
        let text = read_file(path).map_err(|message| Problem::of_file(path, message))?;
        for (name, value) in dotenv(&text).map_err(|(line, source)| Problem {
            path: path.clone(),
            line,
            column: 1,
            width: source.chars().count(),
            source,
            message: "not a line `NAME=value`".into(),
            help: None,
        })? {
            if !all.iter().any(|(known, _)| *known == name) {
                all.push((name, value));
            }
        }
    }
    Ok(all)
}

/// `NAME=value` lines; comments, `export` and quotes as in shells. Fails with the line that is none.
fn dotenv(text: &str) -> Result<Vec<(String, String)>, (usize, String)> {
    let mut pairs = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let bare = bare.strip_prefix("export ").unwrap_or(bare);
        let Some((name, value)) = bare.split_once('=') else { return Err((index + 1, line.to_owned())) };
        let value = value.trim();
        let quoted = ['"', '\'', '`'].into_iter().find_map(|quote| {
            let inner = value.strip_prefix(quote)?;
            let end = inner.rfind(quote)?;
            Some((quote, &inner[..end]))
        });
        let value = match quoted {
            Some(('"', inner)) => inner.replace("\\n", "\n"),
            Some((_, inner)) => inner.to_owned(),
            None => value.split(" #").next().unwrap_or("").trim_end().to_owned(),
        };
        pairs.push((name.trim().to_owned(), value));
    }
    Ok(pairs)
}

fn random_seed() -> u64 {
    // Whole below 2^53, so that it survives a JSON file and `--seed` can repeat the run.
    getrandom::u64().unwrap_or(0x5eed) >> 11
}
