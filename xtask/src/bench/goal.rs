//! What is to be reached, beside what was.

use super::report::Table;

pub(super) struct Goal {
    pub(super) what: String,
    pub(super) at: Bound,
    /// `None` where no run was valid.
    pub(super) measured: Option<f64>,
    pub(super) unit: &'static str,
    pub(super) decimals: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Bound {
    Most(f64),
    Least(f64),
}

impl Goal {
    pub(super) fn is_reached(&self) -> Option<bool> {
        self.measured.map(|measured| match self.at {
            Bound::Most(most) => measured <= most,
            Bound::Least(least) => measured >= least,
        })
    }

    fn row(&self) -> Vec<String> {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        let (word, bound) = match self.at {
            Bound::Most(most) => ("at most", most),
            Bound::Least(least) => ("at least", least),
        };
        let measured = self
            .measured
            .map_or_else(|| "none".to_owned(), |value| format!("{value:.*}{unit}", self.decimals));
        let reached = match self.is_reached() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "not measured",
        };
        vec![self.what.clone(), format!("{word} {bound}{unit}"), measured, reached.to_owned()]
    }
}

/// Stands first on every page.
pub(super) fn table(goals: &[Goal]) -> Table {
    Table {
        caption: "## To reach".to_owned(),
        columns: ["what", "goal", "measured", "reached"].map(str::to_owned).to_vec(),
        rows: goals.iter().map(Goal::row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_at_its_rim() {
        let goal = |at, measured| Goal { what: "x".into(), at, measured, unit: "us", decimals: 1 };
        assert_eq!(goal(Bound::Most(2.0), Some(2.0)).is_reached(), Some(true));
        assert_eq!(goal(Bound::Least(0.9), Some(0.89)).is_reached(), Some(false));
        assert_eq!(goal(Bound::Most(2.0), None).row(), ["x", "at most 2 us", "none", "not measured"]);
        assert_eq!(goal(Bound::Most(2.0), Some(3.0)).row()[3], "**no**");
    }
}
