//! A figure measured several times: its median, and the rounds it comes from.

/// What the rounds gave; `None` where a round has no valid value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Figure {
    pub(super) rounds: Vec<Option<f64>>,
}

impl Figure {
    pub(super) fn median(&self) -> Option<f64> {
        let mut values: Vec<_> = self.rounds.iter().flatten().copied().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(values[middle]),
            _ => Some(f64::midpoint(values[middle - 1], values[middle])),
        }
    }

    /// Round by round, this one in parts of the other: the pairs of an interleaved measurement.
    pub(super) fn over(&self, other: &Self) -> Self {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Self { rounds: pairs.map(|(ours, theirs)| Some((*ours)? / (*theirs)?)).collect() }
    }

    /// Round by round, by how much this one is above the other.
    pub(super) fn above(&self, other: &Self) -> Self {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Self { rounds: pairs.map(|(ours, theirs)| Some((*ours)? - (*theirs)?)).collect() }
    }

    /// The median; `none` where no round was valid.
    pub(super) fn text(&self, decimals: usize) -> String {
        self.median().map_or_else(|| "none".to_owned(), |median| format!("{median:.decimals$}"))
    }

    /// All rounds in their order, `x` for one that does not count.
    pub(super) fn rounds_text(&self, decimals: usize) -> String {
        let text =
            |value: &Option<f64>| value.map_or_else(|| "x".to_owned(), |value| format!("{value:.decimals$}"));
        self.rounds.iter().map(text).collect::<Vec<_>>().join(" ")
    }
}

/// With separators between thousands.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_do_not_count_are_left_out_of_the_median_and_shown() {
        let figure = Figure { rounds: vec![Some(3.0), Some(1.0), None, Some(2.0)] };
        assert_eq!(figure.median(), Some(2.0));
        assert_eq!(figure.rounds_text(1), "3.0 1.0 x 2.0");
        let twice = Figure { rounds: vec![Some(6.0), None, Some(1.0), Some(6.0)] };
        assert_eq!(twice.over(&figure).rounds, [Some(2.0), None, None, Some(3.0)]);
        assert_eq!(twice.over(&figure).median(), Some(2.5));
        assert_eq!(twice.above(&figure).rounds, [Some(3.0), None, None, Some(4.0)]);
        assert_eq!(Figure::default().text(1), "none");
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(27_000.0), "27,000");
    }
}
