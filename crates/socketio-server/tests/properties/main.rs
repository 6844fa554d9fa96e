//! What holds for any request that opens a session: over random input and over all seeds of `fuzz/`, which feeds the
//! same check.

mod handshake;

use proptest::prelude::*;

#[test]
fn all_seeds() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/handshake");
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).unwrap() {
        handshake::check(&std::fs::read(seed.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 5, "only {count} seeds");
}

proptest! {
    #[test]
    fn any_request(
        query in "((EIO|transport|sid|token|t|a%20b|)=?[A-Za-z0-9%+=.~-]{0,8}&?){0,6}",
        headers in prop::collection::vec(("[A-Za-z-]{1,12}", "[ -~€]{0,20}"), 0..6),
    ) {
        let mut head = format!("GET /socket.io/?{query} HTTP/1.1\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        handshake::check((head + "\r\n").as_bytes());
    }
}
