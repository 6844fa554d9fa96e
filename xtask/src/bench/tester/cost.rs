//! A row of rounds for each tester, and its table.

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Tester;
use crate::bench::chart::{self, Bar};
use crate::bench::figure::Figure;
use crate::bench::report::{Section, Table};

/// One kind of cost, of each tester.
pub(super) struct Costs {
    /// For tables and lines.
    pub(super) title: String,
    /// For files.
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) decimals: usize,
    rows: Vec<(Tester, Figure)>,
}

impl Costs {
    pub(super) fn new(
        title: impl Into<String>,
        name: &'static str,
        unit: &'static str,
        testers: &[Tester],
    ) -> Self {
        let rows = testers.iter().map(|tester| (*tester, Figure::default())).collect();
        Self { title: title.into(), name, unit, decimals: 2, rows }
    }

    /// Once a round for each tester, doubted values too: they are told and do not count.
    pub(super) fn add(
        &mut self,
        tester: Tester,
        value: f64,
        doubt: Option<&str>,
        section: &mut Section,
    ) -> Result<()> {
        let (_, figure) =
            self.rows.iter_mut().find(|(other, _)| *other == tester).context("a row for each tester")?;
        figure.rounds.push(doubt.is_none().then_some(value));
        let round = figure.rounds.len();
        let said = doubt.map_or_else(String::new, |doubt| format!("; {doubt}"));
        println!(
            "  {:<28} {tester:<20} round {round}: {value:.*} {}{said}",
            self.name, self.decimals, self.unit
        );
        if let Some(doubt) = doubt {
            section.notes.push(format!("{}: {tester}, round {round}: {doubt}", self.title));
        }
        section.runs.push(json!({
            "what": self.name, "tester": tester.to_string(), "round": round, "value": value, "unit": self.unit, "doubted": doubt,
        }));
        Ok(())
    }

    pub(super) fn of(&self, tester: Tester) -> Figure {
        self.rows
            .iter()
            .find(|(other, _)| *other == tester)
            .map(|(_, figure)| figure.clone())
            .unwrap_or_default()
    }

    /// A table with the ratio of pairs to `base`, and a chart.
    pub(super) fn tell(&self, base: Tester, caption: &str, section: &mut Section) {
        let rows = self.rows.iter().map(|(tester, figure)| {
            let ratio = figure.over(&self.of(base));
            vec![
                tester.to_string(),
                figure.text(self.decimals),
                figure.rounds_text(self.decimals),
                ratio.text(2),
                ratio.rounds_text(2),
            ]
        });
        section.tables.push(Table {
            caption: format!("## {}\n\n{caption}", self.title),
            columns: vec![
                "tester".into(),
                self.unit.into(),
                "rounds".into(),
                format!("to {base}"),
                "rounds".into(),
            ],
            rows: rows.collect(),
        });
        let bars: Vec<_> = self
            .rows
            .iter()
            .map(|(tester, figure)| Bar {
                label: tester.to_string(),
                parts: figure.median().into_iter().collect(),
                text: figure.median().map_or_else(
                    || "no valid run".to_owned(),
                    |median| format!("{median:.*} {}", self.decimals, self.unit),
                ),
                is_ours: *tester == Tester::Drumfire,
            })
            .collect();
        section.charts.push(chart::bars(self.name, &self.title, &bars));
        for (tester, figure) in &self.rows {
            if figure.median().is_none() {
                section.lacks.push(format!("{}: {tester} has no valid run", self.title));
            }
        }
    }
}
