//! The input is what a server answers at `/metrics`.

use load_tester::prometheus::{self, Exposition, Sample};

/// Written as it was understood.
fn written(all: &Exposition<'_>) -> String {
    all.samples.iter().map(|sample| format!("{}\n", line(sample))).collect()
}

fn line(sample: &Sample<'_>) -> String {
    // A name of the classic grammar stands before the braces, any other within them, in quotes.
    let classic = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
    };
    let quoted =
        |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let mut inner = Vec::new();
    if !classic(&sample.name) {
        inner.push(quoted(&sample.name));
    }
    inner.extend(sample.labels.iter().map(|(name, value)| format!("{}={}", quoted(name), quoted(value))));
    let name = if classic(&sample.name) { &*sample.name } else { "" };
    format!("{name}{{{}}} {:?}", inner.join(","), sample.value)
}

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match prometheus::parse(text) {
        Ok(all) => {
            for sample in &all.samples {
                assert!(!sample.name.is_empty() && sample.labels.len() <= 64, "{sample:?}");
                // Whatever it is called, it can be told and looked up.
                assert!(sample.series().starts_with(&*sample.name));
                let _ = (all.is_counter(&sample.name), all.family_of(&sample.name));
            }
            for family in all.families.values() {
                assert!(family.help.len() <= 210, "{}", family.help.len());
            }
            // It means the same when it is written and read again.
            let again = written(&all);
            let same = prometheus::parse(&again).unwrap_or_else(|error| panic!("{error}\n{again}"));
            assert_eq!(same.samples.len(), all.samples.len());
            for (one, other) in all.samples.iter().zip(&same.samples) {
                assert_eq!((&one.name, &one.labels), (&other.name, &other.labels));
                assert_eq!(one.value.to_bits() << 1, other.value.to_bits() << 1, "{one:?} {other:?}");
            }
        }
        Err(error) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&error.line) && !error.what.is_empty(), "{error}");
        }
    }
}
