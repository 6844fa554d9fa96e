//! What a part found, as a page of Markdown with its charts and raw runs beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::chart::Chart;
use super::goal::{self, Goal};
use super::machine::Machine;

/// One part's result.
#[derive(Default)]
pub(super) struct Section {
    pub(super) title: String,
    /// Paragraphs of Markdown: what was measured how, and what it says.
    pub(super) text: Vec<String>,
    pub(super) goals: Vec<Goal>,
    pub(super) charts: Vec<Chart>,
    pub(super) tables: Vec<Table>,
    /// What was run and did not count, and why.
    pub(super) notes: Vec<String>,
    /// Why this is no result, e.g. a required peer without a valid run.
    pub(super) lacks: Vec<String>,
    /// Programs and libraries measured: name and version.
    pub(super) versions: Vec<(String, String)>,
    /// As typed in the repository's root.
    pub(super) commands: Vec<String>,
    /// Every run, for those who want to calculate themselves.
    pub(super) runs: Vec<Value>,
}

/// The first column holds names, the others figures.
#[derive(Default)]
pub(super) struct Table {
    pub(super) caption: String,
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Section {
    /// A table with its chart above it, on the page of the part with this name.
    pub(super) fn show(&mut self, part: &str, mut chart: Chart, mut table: Table) {
        let _ = write!(table.caption, "\n\n{}", chart.link(part));
        chart.is_placed = true;
        self.charts.push(chart);
        self.tables.push(table);
    }

    /// Writes `<name>.md`, `<name>.json` and the charts; the page's path.
    pub(super) fn write(&self, name: &str, folder: &Path, machine: &Machine) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let write = |file: &str, text: &str| -> Result<PathBuf> {
            let path = folder.join(file);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        for chart in &self.charts {
            write(&format!("{name}-{}.svg", chart.name), &chart.svg)?;
        }
        let runs = serde_json::to_string_pretty(&self.runs).context("runs that are no JSON")?;
        write(&format!("{name}.json"), &format!("{runs}\n"))?;
        write(&format!("{name}.md"), &self.page(name, machine))
    }

    fn page(&self, name: &str, machine: &Machine) -> String {
        let mut page = format!("# {}\n", self.title);
        for lack in &self.lacks {
            let _ = write!(page, "\n**No result:** {lack}\n");
        }
        for paragraph in &self.text {
            let _ = write!(page, "\n{paragraph}\n");
        }
        if !self.goals.is_empty() {
            let _ = write!(page, "\n{}", goal::table(&self.goals).markdown());
        }
        for chart in self.charts.iter().filter(|chart| !chart.is_placed) {
            let _ = write!(page, "\n{}\n", chart.link(name));
        }
        for table in &self.tables {
            let _ = write!(page, "\n{}", table.markdown());
        }
        if !self.notes.is_empty() {
            page.push_str("\n## What does not count\n\n");
            for note in &self.notes {
                let _ = writeln!(page, "- {note}");
            }
        }
        page.push_str("\n## Machine and versions\n\n| | |\n| --- | --- |\n");
        let versions = self.versions.iter().map(|(what, which)| (what.as_str(), which));
        for (what, which) in machine.lines.iter().map(|(what, which)| (*what, which)).chain(versions) {
            let _ = writeln!(page, "| {what} | {which} |");
        }
        let _ = write!(page, "\n## Commands\n\nEvery run: [{name}.json]({name}.json).\n\n");
        for command in &self.commands {
            let _ = writeln!(page, "    {command}");
        }
        page
    }
}

impl Table {
    fn markdown(&self) -> String {
        let mut text = String::new();
        if !self.caption.is_empty() {
            let _ = write!(text, "{}\n\n", self.caption);
        }
        let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text.push_str(&row(&self.columns));
        let rules: Vec<_> = (0..self.columns.len())
            .map(|column| if column == 0 { "---" } else { "--:" }.to_owned())
            .collect();
        text.push_str(&row(&rules));
        for cells in &self.rows {
            text.push_str(&row(cells));
        }
        text
    }
}

/// README.md of a folder of results: its pages by their titles.
pub(super) fn index(folder: &Path) -> Result<()> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name == "README.md" || !name.ends_with(".md") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let title = text.lines().next().unwrap_or(name).trim_start_matches("# ").to_owned();
        pages.push(format!("- [{title}]({name})\n"));
    }
    pages.sort();
    let date = folder.file_name().map_or_else(String::new, |name| name.display().to_string());
    let text = format!(
        "# Measured {date}\n\nWritten by `cargo xtask bench`; each page names machine, versions and commands.\n\n{}",
        pages.concat()
    );
    fs::write(folder.join("README.md"), text).with_context(|| format!("cannot write to {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::goal::Bound;

    #[test]
    fn a_section_is_a_page() {
        let section = Section {
            title: "Costs".into(),
            text: vec!["Words.".into()],
            goals: vec![Goal {
                what: "speed".into(),
                at: Bound::Most(2.0),
                measured: Some(1.5),
                unit: "us",
                decimals: 1,
            }],
            tables: vec![Table {
                caption: String::new(),
                columns: vec!["who".into(), "us".into()],
                rows: vec![vec!["dna".into(), "5.1".into()]],
            }],
            notes: vec!["one run".into()],
            versions: vec![("peer".into(), "1.2".into())],
            commands: vec!["dna serve".into()],
            ..Section::default()
        };
        let machine = Machine { date: "2026-01-02".into(), lines: vec![("memory", "1 GiB".into())] };
        let page = section.page("costs", &machine);
        let expected = "# Costs\n\nWords.\n\n## To reach\n\n| what | goal | measured | reached |\n| --- | --: | --: | --: |\n\
            | speed | at most 2 us | 1.5 us | yes |\n\n| who | us |\n| --- | --: |\n| dna | 5.1 |\n\n\
            ## What does not count\n\n- one run\n\n\
            ## Machine and versions\n\n| | |\n| --- | --- |\n| memory | 1 GiB |\n| peer | 1.2 |\n\n\
            ## Commands\n\nEvery run: [costs.json](costs.json).\n\n    dna serve\n";
        assert_eq!(page, expected);
    }
}
