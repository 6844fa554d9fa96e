//! The input is what stands in a script: JSON if it is that, else one text; filled with variables of every kind.

use load_tester::script::template::{Template, text_of};
use load_tester::script::vars::Vars;
use serde_json::{Value, json};

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Each may make a megabyte by right.
    if text.matches("$randomString").count() > 2 {
        return;
    }
    let written: Value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
    let Ok(template) = Template::new(&written) else { return };
    let mut vars = Vars::empty();
    for (name, value) in [
        ("n", json!(-7)),
        ("text", json!("a\"\\\u{0}b{{ n }}")),
        ("flag", json!(false)),
        ("none", Value::Null),
        ("user", json!({"id": 9, "tags": ["x", {"y": [1.5, {}]}], "0": "zero"})),
        ("a.b", json!("dotted")),
        ("$loopCount", json!(3)),
    ] {
        vars.set(name, value);
    }
    let rng = || fastrand::Rng::with_seed(5);
    let value = template.render(&vars, &mut rng());
    let mut encoded = Vec::new();
    template.write_json(&vars, &mut rng(), &mut encoded);
    let read = serde_json::from_slice::<Value>(&encoded).expect("JSON");
    assert!(are_same(&read, &value), "{read} is not {value}");
    let as_text = template.render_text(&vars, &mut rng());
    if value.is_string() {
        assert_eq!(as_text, text_of(&value));
    }
    if template.is_constant() {
        assert_eq!(template.as_constant(), Some(&written));
        assert_eq!(value, written);
        assert!(template.references().is_empty());
    }
}

/// Equal, but for the last digit of a long number, where serde_json reads fast rather than exactly.
fn are_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            (a - b).abs() <= a.abs() * 4.0 * f64::EPSILON
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| are_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| are_same(a, b)))
        }
        (a, b) => a == b,
    }
}
