//! Who pings whom, and what silence means.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::rule::rules;
use crate::subject::{Subject, milliseconds};
use crate::websocket::Got;

rules! {
    mod timeouts_3 = EngineIo3, "Timeouts", "#timeouts";
    /// The client pings; each `ping` is answered with a `pong`.
    server client_pings_are_answered => "`3` for each `2`";
    /// The client's pings are answered over polling too.
    server client_pings_are_answered_over_polling => "`1:3` for each `1:2`";
    /// A client that sends nothing for `pingInterval + pingTimeout` is given up.
    server a_silent_websocket_client_is_given_up => "the end, not before that time";
    /// A silent client is given up over polling too, even while a poll waits.
    server a_silent_polling_client_is_given_up => "the waiting poll ends; afterwards 400, code 1";
    /// Any packet of the client's is a sign of life.
    server any_packet_is_a_sign_of_life => "still there after twice that time";
    /// A client that pings stays.
    server a_client_that_pings_stays => "still there after twice that time";
}

rules! {
    mod heartbeat_4 = EngineIo4, "Heartbeat", "#heartbeat";
    /// The server pings every `pingInterval`.
    server the_server_pings => "`2`, three times, a `pingInterval` apart";
    /// The server pings over polling too.
    server the_server_pings_over_polling => "`2`, three times";
    /// A client that does not answer within `pingTimeout` is given up.
    server a_silent_websocket_client_is_given_up => "the end, not before `pingInterval + pingTimeout`";
    /// A silent client is given up over polling too, even while a poll waits.
    server a_silent_polling_client_is_given_up => "the waiting poll ends; afterwards 400, code 1";
    /// A client that answers stays.
    server a_client_that_answers_stays => "still there after twice that time";
    /// Only the server pings: a `ping` from a client ends the session.
    server a_ping_from_a_client_ends_the_session => "close 1008";
    /// A `pong` nobody asked for is no offence.
    server an_unasked_pong_is_no_offence => "nothing";
}

struct Times {
    interval: Duration,
    timeout: Duration,
}

fn times(open: &serde_json::Value) -> Result<Times> {
    Ok(Times { interval: milliseconds(open, "pingInterval")?, timeout: milliseconds(open, "pingTimeout")? })
}

/// Less than a server's clock may be coarse by.
const COARSE: Duration = Duration::from_millis(50);

fn client_pings_are_answered(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for _ in 0..3 {
        socket.send("2")?;
        socket.expect("3")?;
    }
    Ok(())
}

fn client_pings_are_answered_over_polling(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    for _ in 0..3 {
        let posted = session.post("1:2")?;
        posted.expect_status(200)?;
        session.get()?.expect_body("1:3")?;
    }
    session.post("6:2probe")?.expect_status(200)?;
    session.get()?.expect_body("6:3probe")
}

fn a_silent_websocket_client_is_given_up(subject: &Subject) -> Result<()> {
    let subject = subject.brisk();
    let (mut socket, open) = subject.opened()?;
    let began = Instant::now();
    socket.answers_pings = false;
    let Times { interval, timeout } = times(&open)?;
    socket.expect_over()?;
    let took = began.elapsed();
    ensure!(took + COARSE >= interval + timeout, "given up after {took:?} already");
    Ok(())
}

fn a_silent_polling_client_is_given_up(subject: &Subject) -> Result<()> {
    let subject = subject.brisk();
    let session = subject.polling()?;
    let began = Instant::now();
    let Times { interval, timeout } = times(&session.open)?;
    // In revision 4 the first poll is answered with the ping, which stays unanswered.
    for _ in 0..3 {
        let response = session.get()?;
        if response.status != 200 || response.body == subject.revision.pick(&b"1:1"[..], b"1") {
            break;
        }
    }
    let took = began.elapsed();
    ensure!(took + COARSE >= interval + timeout, "given up after {took:?} already");
    session.expect_gone()
}

fn any_packet_is_a_sign_of_life(subject: &Subject) -> Result<()> {
    stays(&subject.brisk(), |socket| {
        socket.send("4alive")?;
        socket.expect("4alive")
    })
}

fn a_client_that_pings_stays(subject: &Subject) -> Result<()> {
    stays(&subject.brisk(), |socket| {
        socket.send("2")?;
        socket.expect("3")
    })
}

fn stays(subject: &Subject, sign: impl Fn(&mut crate::websocket::WebSocket) -> Result<()>) -> Result<()> {
    let (mut socket, open) = subject.opened()?;
    let Times { interval, timeout } = times(&open)?;
    let until = Instant::now() + 2 * (interval + timeout);
    while Instant::now() < until {
        std::thread::sleep(interval / 2);
        sign(&mut socket)?;
    }
    subject.expect_alive(&mut socket)
}

fn the_server_pings(subject: &Subject) -> Result<()> {
    let subject = subject.brisk();
    let (mut socket, open) = subject.opened()?;
    let began = Instant::now();
    socket.answers_pings = false;
    for _ in 0..3 {
        socket.expect("2")?;
        socket.send("3")?;
    }
    let took = began.elapsed();
    ensure!(took + 3 * COARSE >= 3 * times(&open)?.interval, "three pings within {took:?}");
    Ok(())
}

fn the_server_pings_over_polling(subject: &Subject) -> Result<()> {
    let subject = subject.brisk();
    let session = subject.polling()?;
    for _ in 0..3 {
        session.get()?.expect_body("2")?;
        session.send(&["3"])?;
    }
    Ok(())
}

fn a_client_that_answers_stays(subject: &Subject) -> Result<()> {
    let subject = subject.brisk();
    let (mut socket, open) = subject.opened()?;
    let Times { interval, timeout } = times(&open)?;
    ensure!(socket.is_silent_for(2 * (interval + timeout))?, "only heartbeats were to come");
    subject.expect_alive(&mut socket)
}

fn a_ping_from_a_client_ends_the_session(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("2")?;
    socket.expect_expelled()
}

fn an_unasked_pong_is_no_offence(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("3")?;
    socket.send("4alive?")?;
    let got = socket.next()?;
    ensure!(got == Got::Text("4alive?".to_owned()), "{got:?}");
    Ok(())
}
