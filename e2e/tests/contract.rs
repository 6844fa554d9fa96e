//! dna's contract through the official JavaScript clients: `e2e/js/contract.test.mjs`.

use std::process::Command;
use std::time::Duration;

use e2e::{alone, binaries, node_packages, run};

#[test]
fn the_contract_rule_by_rule_with_the_official_clients() {
    let _alone = alone();
    let dir = node_packages("js");
    let finished = run(
        Command::new("node")
            .args(["--test", "--test-reporter=spec", "contract.test.mjs"])
            .env("DNA_BIN", &binaries().dna),
        &dir,
        Duration::from_secs(300),
    )
    .expect("the suite ends");
    assert_eq!(finished.code, Some(0), "{}{}", finished.stdout, finished.stderr);
    // A runner that found no test would be green as well.
    assert!(finished.stdout.contains("tests 4"), "{}", finished.stdout);
    println!("{}", finished.stdout);
}
