//! The input is a result file, of drumfire or of Artillery.

use std::path::Path;

use jiff::tz::TimeZone;
use load_tester::report::json::{self, Error};
use load_tester::report::{Console, Format, html};

pub(crate) fn check(input: &[u8]) {
    let path = Path::new("result.json");
    match json::parse(input, path) {
        Ok(loaded) => {
            // Whatever figures it claims, they can be told.
            assert!(html::render_in_zone(&loaded, &TimeZone::UTC).contains("<html"));
            for format in [Format::Plain, Format::V1, Format::V2] {
                let console = Console::in_zone(format, 0, TimeZone::UTC);
                assert!(!console.summary_of(&loaded, None).is_empty());
            }
        }
        Err(error) => {
            let told = error.to_string();
            assert!(told.starts_with("result.json") && told.contains('\n'), "{told}");
            if let Error::Truncated { line, .. } | Error::Malformed { line, .. } = error {
                let lines = input.iter().filter(|&&byte| byte == b'\n').count() + 1;
                assert!((1..=lines).contains(&line), "{told}");
            }
        }
    }
}
