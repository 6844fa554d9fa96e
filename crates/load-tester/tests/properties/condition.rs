//! The input is a condition: of `ensure`, `limit --until`, `compare --fail-if`.

use load_tester::compare::{Limit, Rule};
use load_tester::ensure::Expression;
use load_tester::limit::Condition;
use load_tester::metric::Metric;
use serde_json::Value;

/// Whoever mistyped a word is not shown a page.
const LONGEST_MESSAGE: usize = 500;

fn told(why: &str) {
    assert!(!why.is_empty() && why.len() <= LONGEST_MESSAGE, "{} bytes: {why}", why.len());
}

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Expression::parse(text) {
        Ok(expression) => expression_holds(text, &expression),
        Err(why) => told(&why),
    }
    match Condition::parse(text) {
        Ok(condition) => {
            assert_eq!(condition.text, text);
            let expression = Expression::parse(text).expect("a condition is one");
            expression.names(&mut |name| drop(Metric::named(name).expect("only known figures")));
        }
        Err(why) => told(&why),
    }
    match Rule::parse(text) {
        Ok(Rule { metric, limit: Limit::Relative(limit) | Limit::Absolute(limit) }) => {
            assert!(limit.is_finite() && limit >= 0.0, "{limit}");
            assert_eq!(Metric::named(&metric.name).as_ref(), Ok(&metric));
            let _ = metric.text(limit);
        }
        Err(why) => told(&why),
    }
}

fn expression_holds(text: &str, expression: &Expression) {
    for number in [0.0, 3.5, -1e300] {
        let value = |_: &str| Some(Value::from(number));
        let held = expression.holds_for(&value);
        if let Err(why) = &held {
            told(why);
        }
        // Brackets change nothing, `not` turns it round; both may be what was too much.
        let within = |text: String| Expression::parse(&text).ok().map(|inner| inner.holds_for(&value));
        if let Some(bracketed) = within(format!("({text})")) {
            assert_eq!(bracketed, held, "{text}");
        }
        if let (Some(Ok(not)), Ok(held)) = (within(format!("not ({text})")), held) {
            assert_eq!(not, !held, "{text}");
        }
    }
    let mut named = 0;
    expression.names(&mut |name| {
        assert!(!name.is_empty());
        named += 1;
    });
    if named == 0 {
        let ask = |_: &str| -> Option<Value> { panic!("{text} asks for a name it has not") };
        let _ = expression.holds_for(&ask);
    }
}
