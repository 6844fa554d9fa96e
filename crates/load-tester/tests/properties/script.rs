//! The input is a script; CSV files are not opened.

use std::path::PathBuf;

use load_tester::plan::Plan;
use load_tester::script::{self, LoadOptions, summary};

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let options = LoadOptions {
        files: vec![PathBuf::from("script.yml")],
        seed: Some(1),
        environment_variables: Some(vec![("HOME".into(), "/".into())]),
        ..LoadOptions::default()
    };
    match script::parse_str(text, &options) {
        Ok(script) => {
            assert!(summary::describe(&script).contains("target"));
            let plan = Plan::new(&script.config.phases, script.config.seed);
            assert!(plan.len() == 0 || plan.due(plan.len() - 1) <= plan.duration());
            // Strictly read it is the same script or a refusal with the warnings as reasons.
            let strict = script::parse_str(text, &LoadOptions { strict: true, ..options });
            match strict {
                Ok(_) => assert!(script.warnings.is_empty()),
                Err(error) => assert_eq!(error.problems.len(), script.warnings.len()),
            }
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            let lines = text.split('\n').count();
            for problem in &error.problems {
                // What is said of each is short, however long its line.
                let told = problem.to_string();
                assert!(!problem.message.is_empty() && problem.line <= lines + 1, "{told}");
                assert!(told.len() < 4096 + problem.message.len() + 4 * problem.width, "{told}");
            }
        }
    }
}
