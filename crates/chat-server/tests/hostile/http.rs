//! Requests that are not what they seem: smuggled, oversized, malformed, of another protocol.

use crate::stage::{Stage, fault, http};

/// The status of each answer, in order.
fn statuses(answers: &str) -> Vec<u16> {
    answers.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().unwrap()).collect()
}

/// One connection, these bytes, these answers, then the end. `None`: nothing is counted as a fault.
#[track_caller]
fn row(stage: &Stage, name: &str, request: &[u8], expected: &[u16], counted: Option<&str>) {
    let exchange = || {
        let answers = http(stage.address(), request);
        assert_eq!(statuses(&answers), expected, "{name}: {answers}");
    };
    match counted {
        Some(name_of_fault) => stage.counted(name, &fault(name_of_fault), exchange),
        None => exchange(),
    }
}

const SMUGGLED: &str = "GET /healthz?smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Where two programs could disagree about where a request ends, the second request hidden in it is not answered.
#[test]
fn smuggled_requests() {
    let stage = Stage::usual();
    let smuggling = |head: &str, body: &str| format!("{head}\r\n{body}{SMUGGLED}").into_bytes();
    let post = "POST /readyz HTTP/1.1\r\nHost: x\r\n";
    // Chunked wins over a length (RFC 9112, section 6.3), and nothing on that connection is believed afterwards.
    let both = format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
    row(&stage, "a length, then chunked", &smuggling(&both, "0\r\n\r\n"), &[405], None);
    let both = format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n");
    row(&stage, "chunked, then a length", &smuggling(&both, "0\r\n\r\n"), &[405], None);
    let malformed = Some("malformed");
    for (name, head) in [
        ("two lengths that differ", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("two lengths in one field", "Content-Length: 5, 6\r\n"),
        ("a length with a sign", "Content-Length: +5\r\n"),
        ("a length below zero", "Content-Length: -1\r\n"),
        ("a length in hexadecimal", "Content-Length: 0x5\r\n"),
        ("a length beyond 64 bits", "Content-Length: 18446744073709551616\r\n"),
        ("an empty length", "Content-Length:\r\n"),
        ("a coding nobody knows", "Transfer-Encoding: xchunked\r\n"),
        ("chunked, and something after it", "Transfer-Encoding: chunked, identity\r\n"),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("a folded field", "X: y\r\n Transfer-Encoding: chunked\r\n"),
        ("a field that begins with a space", " Transfer-Encoding: chunked\r\n"),
        ("a null in a field", "X: a\0b\r\n"),
        ("a bare CR in a field", "X: a\rTransfer-Encoding: chunked\r\n"),
        ("a field without a colon", "Transfer-Encoding\r\n"),
        ("a field without a name", ": chunked\r\n"),
    ] {
        row(&stage, name, &smuggling(&format!("{post}{head}"), "0\r\n\r\n"), &[400], malformed);
    }
    // HTTP/1.0 has no chunks.
    let old = "POST /readyz HTTP/1.0\r\nTransfer-Encoding: chunked\r\n";
    row(&stage, "chunked in HTTP/1.0", &smuggling(old, "0\r\n\r\n"), &[400], malformed);
    // The same length twice is one length.
    let twice = format!("{post}Content-Length: 5\r\nContent-Length: 5\r\n");
    row(&stage, "the same length twice", &smuggling(&twice, "hello"), &[405, 200], None);
    // What follows an upgrade is frames and never a request.
    let upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answers = http(stage.address(), &smuggling(upgrade, ""));
    assert_eq!(statuses(&answers), [101], "{answers}");
    stage.end();
}

#[test]
fn requests_that_are_malformed() {
    let stage = Stage::usual();
    let malformed = Some("malformed");
    for (name, request, expected, counted) in [
        ("a target with a CR", "GET /a\rb HTTP/1.1\r\nHost: x\r\n\r\n", 400, malformed),
        ("a space in a target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, malformed),
        ("a version nobody has", "GET / HTTP/3.7\r\nHost: x\r\n\r\n", 400, malformed),
        ("a method that is none", "G\u{1}T / HTTP/1.1\r\nHost: x\r\n\r\n", 400, malformed),
        ("TLS on a port without", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n", 400, malformed),
        ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n\r\n", 400, malformed),
        (
            "CRLF in a query, encoded",
            "GET /socket.io/?EIO=4%0d%0aX:y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            400,
            None,
        ),
        (
            "a target of another host",
            "GET http://example.org/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            200,
            None,
        ),
        (
            "dots and slashes",
            "GET /../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            404,
            None,
        ),
        (
            "the same encoded",
            "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            404,
            None,
        ),
        ("a tunnel", "CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, None),
        ("lines that end with a bare LF", "GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n", 200, None),
    ] {
        row(&stage, name, request.as_bytes(), &[expected], counted);
    }
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    row(&stage, "HTTP/2 unasked", preface, &[505], Some("http2"));
    row(
        &stage,
        "an offer of h2c is not taken up",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, \
        HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        &[200],
        None,
    );
    stage.end();
}

/// A head has limits, and the answer arrives although the server has not read it all.
#[test]
fn oversized_heads() {
    let stage = Stage::usual();
    let get = |path: &str, fields: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n")
    };
    let large = Some("head_too_large");
    let many = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: y\r\n")).collect() };
    let long = |length: usize| format!("X-Long: {}\r\n", "y".repeat(length));
    row(&stage, "62 fields more", get("/healthz", &many(62)).as_bytes(), &[200], None);
    row(&stage, "63 fields more", get("/healthz", &many(63)).as_bytes(), &[431], large);
    row(&stage, "10,000 fields", get("/healthz", &many(10_000)).as_bytes(), &[431], large);
    row(&stage, "a field of 12,000 bytes", get("/healthz", &long(12_000)).as_bytes(), &[200], None);
    row(&stage, "a field of 20,000 bytes", get("/healthz", &long(20_000)).as_bytes(), &[431], large);
    row(&stage, "a field of 200,000 bytes", get("/healthz", &long(200_000)).as_bytes(), &[431], large);
    row(
        &stage,
        "a target of 30,000 bytes",
        get(&format!("/{}", "a".repeat(30_000)), "").as_bytes(),
        &[431],
        large,
    );
    row(&stage, "a method of 30,000 bytes", "M".repeat(30_000).as_bytes(), &[431], large);
    stage.end();
}

#[test]
fn bodies_pipelines_and_expectations() {
    let stage = Stage::usual();
    // Ten requests in one go: ten answers, in order.
    let mut pipeline = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(9);
    pipeline += SMUGGLED;
    row(&stage, "a pipeline", pipeline.as_bytes(), &[200; 10], None);
    let post = |fields: &str, body: &str| {
        format!(
            "POST /api/dev-token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{fields}\r\n{body}"
        )
    };
    row(
        &stage,
        "a body that is asked for",
        post("Content-Length: 2\r\nExpect: 100-continue\r\n", "{}").as_bytes(),
        &[100, 200],
        None,
    );
    row(
        &stage,
        "a body nobody reads is not asked for",
        b"POST /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
        Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n",
        &[405],
        None,
    );
    let giant = "x".repeat(3_000_000);
    row(&stage, "a giant body", post("Content-Length: 3000000\r\n", &giant).as_bytes(), &[413], None);
    let chunked =
        post("Transfer-Encoding: chunked\r\n", &format!("{:x}\r\n{giant}\r\n0\r\n\r\n", giant.len()));
    row(&stage, "a giant chunk", chunked.as_bytes(), &[413], None);
    row(
        &stage,
        "a chunk whose size is none",
        post("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n").as_bytes(),
        &[400],
        None,
    );
    row(
        &stage,
        "a chunk of 2^64 bytes",
        post("Transfer-Encoding: chunked\r\n", "10000000000000000\r\n{}").as_bytes(),
        &[400],
        None,
    );
    stage.end();
}
