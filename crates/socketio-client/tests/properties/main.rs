//! What holds for any bytes a server may answer: over random input and over all seeds of `fuzz/`, which feeds the same
//! checks.

mod client_session;
mod http_response;

use proptest::prelude::*;

fn check_seeds(target: &str, check: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut count = 0;
    for seed in std::fs::read_dir(folder).unwrap() {
        let path = seed.unwrap().path();
        println!("{}", path.display());
        check(&std::fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 5, "only {count} seeds of {target}");
}

#[test]
fn seeds_hold() {
    check_seeds("http_response", http_response::check);
    check_seeds("client_session", client_session::check);
}

/// Lines of a chunked body around the longest.
#[test]
fn chunk_lines_have_one_limit_in_whatever_pieces_they_come() {
    for len in 1_015..1_035 {
        let long = "x".repeat(len);
        for body in [format!("1;{long}\r\nx\r\n0\r\n\r\n"), format!("0\r\n{long}\r\n\r\n")] {
            let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            http_response::check(&[b"\xff\xff", answer.as_bytes()].concat());
        }
    }
}

/// What a server may say, well made for the most part.
fn said() -> impl Strategy<Value = Vec<u8>> {
    let data = prop::sample::select(vec![
        r#"["e"]"#,
        r#"["\u0041",1]"#,
        r#"[{"_placeholder":true,"num":0}]"#,
        r#"["e",{"_placeholder":true,"num":1},[{"_placeholder":true,"num":0}]]"#,
        r#"{"sid":"x"}"#,
        r#""refused""#,
        "",
        "[",
    ]);
    let packet = ("[0-6]", "([0-3]-)?", "(/(n|방)?(\\?q)?,)?", "[0-9]{0,2}", data).prop_map(
        |(kind, attachments, namespace, ack, data)| {
            format!("4{kind}{attachments}{namespace}{ack}{data}").into_bytes()
        },
    );
    prop_oneof![
        4 => packet,
        2 => prop::collection::vec(0_u8..9, 0..40).prop_map(|bytes| [&[0, 4], &bytes[..]].concat()),
        1 => "[0-7b][a-z€]{0,4}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn any_conversation(setting: u8, messages in prop::collection::vec(said(), 0..8)) {
        client_session::check(&[&[setting], &messages.join(&b'\n')[..]].concat());
    }

    #[test]
    fn any_answer(
        settings: [u8; 2],
        version in "HTTP/1\\.[01]",
        code in prop::sample::select(vec!["200 OK", "200", "101 ", "103 x", "204 ", "304 x", "404 Not Found", "20"]),
        headers in prop::collection::vec(
            prop::sample::select(vec![
                "Content-Length: 5", "content-length: 5,5", "Content-Length: 6", "Content-Length: 1025",
                "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Connection: close",
                "Connection: x, Keep-Alive", "Set-Cookie: a=b", "X: \u{e9}", "X",
            ]),
            0..4,
        ),
        body in "(5\r\nhello\r\n|1;a=b\r\nx\r\n|0\r\n|\r\n|a: b\r\n|HTTP/1.1 200 OK\r\n){0,6}",
    ) {
        let head: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let answer = format!("{version} {code}\r\n{head}\r\n{body}");
        http_response::check(&[&settings, answer.as_bytes()].concat());
    }
}
