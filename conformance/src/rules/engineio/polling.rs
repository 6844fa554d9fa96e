//! Requests of a session over polling.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http::{PATIENCE, Response};
use crate::rule::rules;
use crate::subject::{Polling, Subject, head};

rules! {
    mod polling_3 = EngineIo3, "Polling", "#polling";
    /// A POST brings packets and is answered once they are taken.
    server a_post_is_answered_with_ok => "200, `ok`";
    /// A GET is answered as soon as there is something to say, not before.
    server a_get_waits => "no answer for 150 ms, then the message";
    /// A GET is answered with everything that waits.
    server a_get_takes_all_that_waits => "`6:4hello6:4world`";
    /// A session has one GET at a time: a second one is refused and ends the session, the first is told.
    server a_second_get_ends_the_session => "400 and `1:1`; afterwards 400, code 1";
    /// A session has one POST at a time: a second one is refused and ends the session.
    server a_second_post_ends_the_session => "400; afterwards 400, code 1";
    /// Text is answered as `text/plain; charset=UTF-8`.
    server text_is_said_to_be_text => "`text/plain; charset=UTF-8`";
    /// Other methods are none of polling's.
    server other_methods_are_refused => "4xx, and the session lives";
    /// Requests may share a connection.
    server requests_share_a_connection => "their answers in order";
}

rules! {
    mod xhr_3 = EngineIo3, "XHR", "#xhr";
    /// Pages of other origins may read the answers: handshake, GET, POST and refusals alike.
    server answers_may_be_read_across_origins => "`Access-Control-Allow-Origin`";
    /// A preflight is answered.
    server preflights_are_answered => "2xx with allowed methods and headers";
}

rules! {
    mod jsonp_3 = EngineIo3, "JSONP", "#jsonp";
    /// `j` asks for answers as JavaScript. No browser in use needs that and it runs what strangers send, so it is refused.
    server jsonp_is_refused => "400";
    /// With `j`, an answer is a call of the function of that number (`___eio[0]`), the payload its argument as a JSON string.
    none jsonp_answers => "JSONP is refused";
    /// With `j`, data comes in a form field `d`, its `\n` escaped once more.
    none jsonp_posts => "JSONP is refused";
}

rules! {
    mod headers_4 = EngineIo4, "Headers", "#headers";
    /// Text is answered as `text/plain; charset=UTF-8`.
    server text_is_said_to_be_text => "`text/plain; charset=UTF-8`";
    /// A body without `Content-Type` is text.
    server a_body_without_a_type_is_text => "200, `ok`";
    /// Binary bodies are said to be `application/octet-stream`.
    none binary_is_said_to_be_binary => "no body of this revision is binary: binary data travels as base64 in text";
    /// Pages of other origins may read the answers: handshake, GET, POST and refusals alike.
    server answers_may_be_read_across_origins => "`Access-Control-Allow-Origin`";
    /// A preflight is answered.
    server preflights_are_answered => "2xx with allowed methods and headers";
}

rules! {
    mod sending_4 = EngineIo4, "Sending data", "#sending-data";
    /// A POST brings packets; success is status 200 and the body `ok`.
    server a_post_is_answered_with_ok => "200, `ok`";
    /// The sid of a POST must be known.
    server a_post_with_an_unknown_sid_is_refused => "400, code 1";
    /// A session has one POST at a time: a second one is refused and ends the session.
    server a_second_post_ends_the_session => "400; afterwards 400, code 1";
    /// Other methods are none of polling's.
    server other_methods_are_refused => "4xx, and the session lives";
    /// Requests may share a connection.
    server requests_share_a_connection => "their answers in order";
}

rules! {
    mod receiving_4 = EngineIo4, "Receiving data", "#receiving-data";
    /// The sid of a GET must be known.
    server a_get_with_an_unknown_sid_is_refused => "400, code 1";
    /// A GET is answered as soon as there is something to say, not before.
    server a_get_waits => "no answer for 150 ms, then the message";
    /// A GET is answered with everything that waits.
    server a_get_takes_all_that_waits => "`4hello` U+001E `4world`";
    /// A session has one GET at a time: a second one is refused and ends the session, the first is told.
    server a_second_get_ends_the_session => "400 and `1`; afterwards 400, code 1";
}

rules! {
    mod suite_4 = EngineIo4, "Test suite", "#test-suite";
    /// A client that goes away from a waiting GET ends its session.
    server a_cancelled_get_ends_the_session => "400, code 1";
    /// A client that goes away in the middle of a POST ends its session.
    server a_cancelled_post_ends_the_session => "400, code 1";
    /// A session that has ended stays ended for every kind of request.
    server an_ended_session_is_unknown_to_all => "400, code 1 to GET, POST and upgrade";
}

const SOON: Duration = Duration::from_millis(150);

fn a_post_is_answered_with_ok(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let response = session.post(subject.revision.pick("6:4hello", "4hello"))?;
    response.expect_status(200)?;
    response.expect_body("ok")?;
    session.expect("4hello")
}

fn a_get_waits(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut waiting = session.start_get()?;
    ensure!(waiting.is_silent_for(SOON)?, "nothing was to be said");
    session.send(&["4hello"])?;
    let response = waiting.response()?;
    response.expect_status(200)?;
    response.expect_body(subject.revision.pick("6:4hello", "4hello"))
}

fn a_get_takes_all_that_waits(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    session.send(&["4hello"])?;
    session.send(&["4world"])?;
    session.get()?.expect_body(subject.revision.pick("6:4hello6:4world", "4hello\u{1e}4world"))
}

fn a_second_get_ends_the_session(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut first = session.start_get()?;
    ensure!(first.is_silent_for(SOON)?, "nothing was to be said");
    let second = session.get()?;
    ensure!(matches!(second.status, 400 | 500), "status {}", second.status);
    ensure!(!subject.is_ours() || second.status == 400, "status {}", second.status);
    let told = first.response()?;
    told.expect_status(200)?;
    told.expect_body(subject.revision.pick("1:1", "1"))?;
    session.expect_gone()
}

fn a_second_post_ends_the_session(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    // The first one's body does not come to its end.
    let target = format!("{}?{}", subject.path(), session.query());
    let headers = ["Content-Type: text/plain;charset=UTF-8", "Content-Length: 100"];
    let mut request = head("POST", &target, &headers);
    request.extend(b"4begun");
    let mut first = subject.start(request)?;
    ensure!(first.is_silent_for(SOON)?, "an answer to half a request");
    let second = session.post(subject.revision.pick("6:4hello", "4hello"))?;
    ensure!(matches!(second.status, 400 | 500), "status {}", second.status);
    session.expect_gone()
}

fn text_is_said_to_be_text(subject: &Subject) -> Result<()> {
    let opening = subject.get(&subject.query("polling"))?;
    let session = subject.polling()?;
    session.send(&["4hello"])?;
    for response in [opening, session.get()?] {
        let got = response.header("content-type").map(|value| value.to_ascii_lowercase().replace(' ', ""));
        ensure!(got.as_deref() == Some("text/plain;charset=utf-8"), "content type {got:?}");
    }
    Ok(())
}

fn a_body_without_a_type_is_text(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let response = subject.request("POST", &session.query(), &[], "4한 €".as_bytes())?;
    response.expect_status(200)?;
    response.expect_body("ok")?;
    session.expect("4한 €")
}

fn other_methods_are_refused(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    for method in ["PUT", "DELETE", "PATCH"] {
        let response = subject.request(method, &session.query(), &[], b"4hello")?;
        ensure!((400..600).contains(&response.status), "{method}: status {}", response.status);
        ensure!(!subject.is_ours() || response.status < 500, "{method}: status {}", response.status);
    }
    session.send(&["4hello"])?;
    session.expect("4hello")
}

fn requests_share_a_connection(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let target = format!("{}?{}", subject.path(), session.query());
    let body = subject.revision.pick("6:4hello", "4hello");
    let length = format!("Content-Length: {}", body.len());
    let mut post = head("POST", &target, &["Content-Type: text/plain", &length]);
    post.extend(body.bytes());
    let get = head("GET", &target, &[]);
    let mut exchange = subject.start(&post)?;
    for _ in 0..3 {
        exchange.response()?.expect_body("ok")?;
        exchange.send(&get)?;
        exchange.response()?.expect_body(body)?;
        exchange.send(&post)?;
    }
    exchange.response()?.expect_body("ok")
}

const ORIGIN: &str = "Origin: http://page.example";

fn expect_readable(response: &Response) -> Result<()> {
    let allowed = response.header("access-control-allow-origin").context("no Access-Control-Allow-Origin")?;
    ensure!(matches!(allowed, "*" | "http://page.example"), "allowed: {allowed}");
    Ok(())
}

fn answers_may_be_read_across_origins(subject: &Subject) -> Result<()> {
    expect_readable(&subject.request("GET", &subject.query("polling"), &[ORIGIN], b"")?)?;
    expect_readable(&subject.request("GET", "EIO=4&transport=abc", &[ORIGIN], b"")?)?;
    let session = subject.polling()?;
    let body = subject.revision.pick("6:4hello", "4hello");
    expect_readable(&subject.request("POST", &session.query(), &[ORIGIN], body.as_bytes())?)?;
    let response = subject.request("GET", &session.query(), &[ORIGIN], b"")?;
    response.expect_body(body)?;
    expect_readable(&response)
}

fn preflights_are_answered(subject: &Subject) -> Result<()> {
    let headers =
        [ORIGIN, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type"];
    let response = subject.request("OPTIONS", &subject.query("polling"), &headers, b"")?;
    ensure!(matches!(response.status, 200 | 204), "status {}", response.status);
    expect_readable(&response)?;
    let methods = response.header("access-control-allow-methods").unwrap_or("").to_ascii_uppercase();
    ensure!(methods.contains("POST"), "methods: {methods}");
    let fields = response.header("access-control-allow-headers").unwrap_or("").to_ascii_lowercase();
    ensure!(fields.contains("content-type") || fields == "*", "headers: {fields}");
    Ok(())
}

fn jsonp_is_refused(subject: &Subject) -> Result<()> {
    if !subject.is_ours() {
        return Ok(());
    }
    let response = subject.get(&format!("{}&j=0", subject.query("polling")))?;
    response.expect_status(400)?;
    ensure!(response.text()?.contains("JSONP"), "the answer does not say what is refused");
    Ok(())
}

fn a_post_with_an_unknown_sid_is_refused(subject: &Subject) -> Result<()> {
    let query = format!("{}&sid=nobody", subject.query("polling"));
    subject.request("POST", &query, &[], b"4hello")?.expect_refusal(1, "Session ID unknown")
}

fn a_get_with_an_unknown_sid_is_refused(subject: &Subject) -> Result<()> {
    let query = format!("{}&sid=nobody", subject.query("polling"));
    subject.get(&query)?.expect_refusal(1, "Session ID unknown")
}

/// The server may need a moment to see that its client went away.
fn expect_gone_soon(subject: &Subject, session: &Polling<'_>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let query = format!("{}&sid={}", subject.query("websocket"), session.sid);
    // Only looks: a WebSocket that is not probed with changes nothing, a GET would wait and then go away itself.
    while subject.upgrade(&query)?.1.status == 101 {
        ensure!(Instant::now() < until, "the session lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
    session.expect_gone()
}

fn a_cancelled_get_ends_the_session(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut waiting = session.start_get()?;
    ensure!(waiting.is_silent_for(SOON)?, "nothing was to be said");
    waiting.cancel()?;
    expect_gone_soon(subject, &session)
}

fn a_cancelled_post_ends_the_session(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let target = format!("{}?{}", subject.path(), session.query());
    let mut request = head("POST", &target, &["Content-Length: 100"]);
    request.extend(b"4begun");
    let mut begun = subject.start(request)?;
    ensure!(begun.is_silent_for(SOON)?, "an answer to half a request");
    begun.cancel()?;
    expect_gone_soon(subject, &session)
}

fn an_ended_session_is_unknown_to_all(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    session.send(&["1"])?;
    session.expect_gone()?;
    let unknown = "Session ID unknown";
    session.post("4hello")?.expect_refusal(1, unknown)?;
    let query = format!("{}&sid={}", subject.query("websocket"), session.sid);
    subject.upgrade(&query)?.1.expect_refusal(1, unknown)
}
