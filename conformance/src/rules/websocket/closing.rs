//! The closing handshake and its codes.

use anyhow::{Result, ensure};

use crate::rule::rules;
use crate::subject::Subject;
use crate::websocket::{CLOSE, Got, PING, TEXT, masked};

rules! {
    mod closing_7_1 = WebSocket, "5.5.1 Close, 7.1 Definitions", "#section-7.1";
    /// A close frame is answered with a close frame, which usually carries the same code.
    server a_close_is_answered => "close with the client's code";
    /// A close frame without a code is answered without one.
    server a_close_needs_no_code => "an empty close frame";
    /// After the closing handshake the server ends the TCP connection, without waiting for the client.
    server the_server_ends_the_connection => "the end of the stream";
    /// What comes after a close frame is not looked at.
    server nothing_counts_after_a_close => "no echo, no pong";
    /// A close frame is answered even if its sender has shut down its side of the connection already.
    server a_close_is_answered_to_who_leaves => "close 1000";
    /// What is queued when the close comes is still sent before the answer, or dropped, but never torn.
    server a_close_tears_no_frame => "whole frames up to the close";
}

rules! {
    mod codes_7_4 = WebSocket, "7.4 Status codes", "#section-7.4";
    /// The codes 1000 to 1003, 1007 to 1014 and 3000 to 4999 may be sent.
    server codes_that_may_be_sent => "close with the same code";
    /// Codes below 1000, the reserved ones (1004, 1005, 1006, 1015, 1016 to 2999) and those above 4999 never travel.
    server codes_that_may_not => "close 1002";
    /// A close frame holds no code or a whole one.
    server half_a_code_is_refused => "close 1002";
    /// The reason behind the code, up to 123 bytes, is UTF-8.
    server a_reason_is_utf8 => "close 1007; 123 bytes of `€` pass";
}

/// Sends a close frame with this payload on a new connection and gives the answer.
fn answer(subject: &Subject, payload: &[u8]) -> Result<Got> {
    let mut socket = subject.websocket()?;
    socket.frame(CLOSE, payload)?;
    let got = socket.next()?;
    socket.expect_end()?;
    Ok(got)
}

fn expect_code(subject: &Subject, payload: &[u8], code: u16) -> Result<()> {
    let got = answer(subject, payload)?;
    ensure!(matches!(got, Got::Close(Some(found), _) if found == code), "expected close {code}, got {got:?}");
    Ok(())
}

fn a_close_is_answered(subject: &Subject) -> Result<()> {
    expect_code(subject, b"\x03\xe8", 1000)?;
    expect_code(subject, b"\x03\xe9going away", 1001)
}

fn a_close_needs_no_code(subject: &Subject) -> Result<()> {
    let got = answer(subject, b"")?;
    ensure!(matches!(got, Got::Close(None | Some(1000), _)), "{got:?}");
    ensure!(!subject.is_ours() || got == Got::Close(None, String::new()), "{got:?}");
    Ok(())
}

fn the_server_ends_the_connection(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.frame(CLOSE, &1000_u16.to_be_bytes())?;
    socket.expect_close(1000)
}

fn nothing_counts_after_a_close(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    let frames = [masked(CLOSE, b"\x03\xe8"), masked(TEXT, b"4too late"), masked(PING, b"too late")];
    socket.raw(&frames.concat())?;
    let got = socket.next()?;
    ensure!(got == Got::Close(Some(1000), String::new()), "{got:?}");
    socket.expect_end()
}

fn a_close_is_answered_to_who_leaves(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.frame(CLOSE, &1000_u16.to_be_bytes())?;
    socket.shut()?;
    socket.expect_close(1000)
}

fn a_close_tears_no_frame(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    let text = format!("4{}", "x".repeat(200_000));
    let mut bytes = Vec::new();
    for _ in 0..5 {
        bytes.extend(masked(TEXT, text.as_bytes()));
    }
    bytes.extend(masked(CLOSE, b"\x03\xe8"));
    socket.raw(&bytes)?;
    loop {
        match socket.next()? {
            Got::Text(got) => ensure!(got == text, "a torn message of {} bytes", got.len()),
            Got::Close(code, _) => {
                ensure!(code == Some(1000), "{code:?}");
                return socket.expect_end();
            }
            other => anyhow::bail!("{other:?}"),
        }
    }
}

fn codes_that_may_be_sent(subject: &Subject) -> Result<()> {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        expect_code(subject, &u16::to_be_bytes(code), code)?;
    }
    Ok(())
}

fn codes_that_may_not(subject: &Subject) -> Result<()> {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        expect_code(subject, &u16::to_be_bytes(code), 1002)?;
    }
    Ok(())
}

fn half_a_code_is_refused(subject: &Subject) -> Result<()> {
    expect_code(subject, &[3], 1002)
}

fn a_reason_is_utf8(subject: &Subject) -> Result<()> {
    expect_code(subject, b"\x03\xe8\xff", 1007)?;
    let longest = [&b"\x03\xe8"[..], "€".repeat(41).as_bytes()].concat();
    expect_code(subject, &longest, 1000)
}
