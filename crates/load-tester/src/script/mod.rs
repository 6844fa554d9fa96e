//! An Artillery script, read, merged and checked whole before anything starts.

pub mod model;
pub mod payload;
pub mod template;
pub mod vars;

use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use model::{Script, Warning};

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
    /// `--overrides`: merged over `config` and the rest, lists replaced.
    pub overrides: Option<Map<String, Value>>,
    /// `-v`: merged into `config.variables`.
    pub variables: Option<Map<String, Value>>,
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
            writeln!(f, "{gutter}--> {}:{}:{}", self.path.display(), self.line, self.column)?;
            writeln!(f, "{gutter} |")?;
            writeln!(f, "{} | {}", self.line, self.source)?;
            let blank = " ".repeat(self.column.saturating_sub(1));
            writeln!(f, "{gutter} | {blank}{}", "^".repeat(self.width.max(1)))?;
        } else if !self.path.as_os_str().is_empty() {
            writeln!(f, "  --> {}", self.path.display())?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "  = help: {help}")?;
        }
        Ok(())
    }
}

/// Reads, merges and checks a script.
///
/// # Errors
/// Every problem found, not only the first.
pub fn load(options: &LoadOptions) -> Result<Script, ScriptError> {
    let _ = options;
    Err(ScriptError { problems: Vec::new(), warnings: Vec::new() })
}
