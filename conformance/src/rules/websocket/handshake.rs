//! The opening handshake: what a request must have, and what is answered.

use anyhow::{Result, ensure};

use crate::http::Response;
use crate::rule::rules;
use crate::subject::{ACCEPT, Subject, head, upgrade_headers};

rules! {
    mod reading_4_2_1 = WebSocket, "4.2.1 Reading the client's opening handshake", "#section-4.2.1";
    /// The opening handshake is a GET; another method is refused.
    server only_get_opens => "400, code 2";
    /// The opening handshake is HTTP/1.1 or later.
    server http_1_0_does_not_open => "not 101";
    /// A request without `Host` is refused.
    server host_is_needed => "400";
    /// `Upgrade` must hold the token `websocket`, in any case.
    server upgrade_is_needed => "400, code 3; `WebSocket` opens";
    /// `Connection` must hold the token `Upgrade`, in any case, perhaps among others.
    server connection_is_needed => "400, code 3; `keep-alive, uPGRADE` opens";
    /// `Sec-WebSocket-Key` must be there, once, and be the base64 of 16 bytes.
    server key_is_needed => "400, code 3";
    /// Header fields nobody knows are ignored.
    server other_fields_are_ignored => "101";
}

rules! {
    mod answering_4_2_2 = WebSocket, "4.2.2 Sending the server's opening handshake", "#section-4.2.2";
    /// An accepted handshake is answered with status 101, `Upgrade: websocket` and `Connection: Upgrade`.
    server accepted_with_101 => "101";
    /// `Sec-WebSocket-Accept` is the base64 of the SHA-1 of the key followed by the protocol's own GUID.
    server accept_proves_the_key => "`s3pPLMBiTxaQ9kYGzzhZRbK+xOo=` for the key of section 1.3";
    /// A subprotocol is only named if the client offered it; Socket.IO uses none, so none is named.
    server no_subprotocol_is_chosen => "101 without `Sec-WebSocket-Protocol`";
    /// What follows the client's handshake in the same segment is the first frame, not part of the request.
    server frames_behind_the_request_count => "its echo";
}

rules! {
    mod versions_4_4 = WebSocket, "4.4 Supporting multiple versions", "#section-4.4";
    /// A version that is not spoken is refused, and the answer names the one that is.
    server other_versions_are_told => "426 with `Sec-WebSocket-Version: 13`";
}

rules! {
    mod extensions_9 = WebSocket, "9.1 Negotiating extensions", "#section-9.1";
    /// An extension is in use only when the server names it in its answer; none that was not offered may be.
    server no_extension_is_invented => "101 without `Sec-WebSocket-Extensions`";
    /// `permessage-deflate` may be declined by leaving it out of the answer; messages then travel as they are.
    server deflate_is_declined => "101 without `Sec-WebSocket-Extensions`, frames with RSV1 0";
}

const TARGET: &str = "/engine.io/?EIO=4&transport=websocket";

/// The upgrade with one header line replaced (or left out), or more added.
fn with(subject: &Subject, replaced: usize, by: Option<&str>, more: &[&str]) -> Result<Response> {
    let mut headers: Vec<&str> = upgrade_headers().to_vec();
    match by {
        Some(line) => headers[replaced] = line,
        None => drop(headers.remove(replaced)),
    }
    headers.extend(more);
    Ok(subject.upgrade_with(&subject.query("websocket"), &headers)?.1)
}

const CONNECTION: usize = 0;
const UPGRADE: usize = 1;
const VERSION: usize = 2;
const KEY: usize = 3;

fn only_get_opens(subject: &Subject) -> Result<()> {
    for method in ["POST", "PUT"] {
        let response = subject.start(head(method, TARGET, &upgrade_headers()))?.response()?;
        response.expect_status(400)?;
        if subject.is_ours() {
            response.expect_refusal(2, "Bad handshake method")?;
        }
    }
    Ok(())
}

fn http_1_0_does_not_open(subject: &Subject) -> Result<()> {
    let request = String::from_utf8(head("GET", TARGET, &upgrade_headers()))?;
    let response = subject.start(request.replace("HTTP/1.1", "HTTP/1.0"))?.response()?;
    ensure!((400..600).contains(&response.status), "status {}", response.status);
    Ok(())
}

fn host_is_needed(subject: &Subject) -> Result<()> {
    let request = String::from_utf8(head("GET", TARGET, &upgrade_headers()))?;
    let response = subject.start(request.replace("Host: localhost\r\n", ""))?.response()?;
    response.expect_status(400)
}

fn upgrade_is_needed(subject: &Subject) -> Result<()> {
    for bad in [None, Some("Upgrade: h2c"), Some("Upgrade: websockets")] {
        with(subject, UPGRADE, bad, &[])?.expect_refusal(3, "Bad request")?;
    }
    with(subject, UPGRADE, Some("Upgrade: WebSocket"), &[])?.expect_status(101)
}

fn connection_is_needed(subject: &Subject) -> Result<()> {
    for bad in [None, Some("Connection: keep-alive"), Some("Connection: Upgrades")] {
        with(subject, CONNECTION, bad, &[])?.expect_refusal(3, "Bad request")?;
    }
    with(subject, CONNECTION, Some("Connection: keep-alive, uPGRADE"), &[])?.expect_status(101)
}

fn key_is_needed(subject: &Subject) -> Result<()> {
    let bad = [
        None,
        Some("Sec-WebSocket-Key: "),
        Some("Sec-WebSocket-Key: not base64 at all!!!!!=="),
        // 15 and 17 bytes.
        Some("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"),
        Some("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="),
    ];
    for line in bad {
        with(subject, KEY, line, &[])?.expect_refusal(3, "Bad request")?;
    }
    let twice = [upgrade_headers()[KEY]];
    with(subject, KEY, Some(upgrade_headers()[KEY]), &twice)?.expect_refusal(3, "Bad request")
}

fn other_fields_are_ignored(subject: &Subject) -> Result<()> {
    let more = ["X-Anything: goes", "Cookie: a=b", "Origin: http://elsewhere.example"];
    with(subject, KEY, Some(upgrade_headers()[KEY]), &more)?.expect_status(101)
}

fn accepted_with_101(subject: &Subject) -> Result<()> {
    let (_, response) = subject.upgrade(&subject.query("websocket"))?;
    response.expect_status(101)?;
    for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade")] {
        let got = response.header(name).map(str::to_ascii_lowercase);
        ensure!(got.as_deref() == Some(value), "{name}: {got:?}");
    }
    Ok(())
}

fn accept_proves_the_key(subject: &Subject) -> Result<()> {
    let (_, response) = subject.upgrade(&subject.query("websocket"))?;
    let accept = response.header("sec-websocket-accept");
    ensure!(accept == Some(ACCEPT), "accept: {accept:?}");
    Ok(())
}

fn no_subprotocol_is_chosen(subject: &Subject) -> Result<()> {
    let offered = ["Sec-WebSocket-Protocol: chat, superchat"];
    let response = with(subject, KEY, Some(upgrade_headers()[KEY]), &offered)?;
    response.expect_status(101)?;
    let chosen = response.header("sec-websocket-protocol");
    ensure!(chosen.is_none(), "chosen: {chosen:?}");
    Ok(())
}

fn frames_behind_the_request_count(subject: &Subject) -> Result<()> {
    use crate::websocket::{TEXT, WebSocket, masked};
    let mut bytes = head("GET", TARGET, &upgrade_headers());
    bytes.extend(masked(TEXT, b"4early"));
    let next = masked(TEXT, b"4late");
    bytes.extend(&next[..5]);
    let mut exchange = subject.start(bytes)?;
    exchange.response()?.expect_status(101)?;
    let mut socket = WebSocket::client(exchange, subject.revision, subject.is_ours());
    socket.raw(&next[5..])?;
    ensure!(socket.text()?.starts_with("0{"), "expected the open packet");
    socket.expect("4early")?;
    socket.expect("4late")
}

fn other_versions_are_told(subject: &Subject) -> Result<()> {
    let bad = [None, Some("Sec-WebSocket-Version: 8"), Some("Sec-WebSocket-Version: 14")];
    for line in bad {
        let response = with(subject, VERSION, line, &[])?;
        ensure!(matches!(response.status, 400 | 426), "status {}", response.status);
        if subject.is_ours() {
            response.expect_status(426)?;
        }
        let spoken = response.header("sec-websocket-version");
        ensure!(spoken.is_some_and(|spoken| spoken.contains("13")), "spoken: {spoken:?}");
    }
    Ok(())
}

fn no_extension_is_invented(subject: &Subject) -> Result<()> {
    let (_, response) = subject.upgrade(&subject.query("websocket"))?;
    let extensions = response.header("sec-websocket-extensions");
    ensure!(extensions.is_none(), "extensions: {extensions:?}");
    Ok(())
}

fn deflate_is_declined(subject: &Subject) -> Result<()> {
    let mut headers = upgrade_headers().to_vec();
    headers.push("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits");
    let (exchange, response) = subject.upgrade_with(&subject.query("websocket"), &headers)?;
    response.expect_status(101)?;
    let extensions = response.header("sec-websocket-extensions");
    ensure!(extensions.is_none(), "extensions: {extensions:?}");
    let mut socket = crate::websocket::WebSocket::client(exchange, subject.revision, subject.is_ours());
    socket.text()?;
    let long = format!("4{}", "compress me ".repeat(200));
    socket.send(&long)?;
    // A frame with RSV1 would begin with another byte.
    socket.expect(&long)
}
