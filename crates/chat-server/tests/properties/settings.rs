//! The input is a `dna.toml`.

use chat_server::config::Config;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match toml::from_str::<Config>(text) {
        Ok(config) => {
            let problems = config.problems();
            assert!(problems.iter().all(|problem| !problem.is_empty()));
            assert!(config.worker_count() > 0);
            if problems.is_empty() {
                // As `dna check --defaults` prints them, they are read back.
                let printed = toml::to_string(&config).expect("TOML");
                assert_eq!(toml::from_str::<Config>(&printed).as_ref(), Ok(&config), "{printed}");
            }
        }
        Err(error) => {
            assert!(!error.message().is_empty());
            assert!(error.span().is_none_or(|span| span.end <= text.len()), "{error}");
        }
    }
}
