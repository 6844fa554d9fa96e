//! Pings, pongs, and what data frames are for.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::rule::rules;
use crate::subject::Subject;
use crate::websocket::{CLOSE, Got, PING, PONG, masked};

rules! {
    mod control_5_5 = WebSocket, "5.5 Control frames, 5.5.2 Ping, 5.5.3 Pong", "#section-5.5";
    /// A control frame carries at most 125 bytes.
    server control_frames_are_short => "close 1002";
    /// A ping is answered with a pong that carries the same data, as soon as is practical.
    server pings_are_answered => "a pong with 0, 4 and 125 bytes";
    /// A pong nobody asked for is ignored.
    server an_unasked_pong_is_ignored => "nothing";
}

rules! {
    mod data_5_6 = WebSocket, "5.6 Data frames", "#section-5.6";
    /// Text stays text.
    server text_stays_text => "a frame of opcode 1";
    /// Binary is any bytes, and stays binary.
    server binary_stays_binary => "a frame of opcode 2, all 256 byte values";
    /// Messages arrive in the order they were sent.
    server messages_keep_their_order => "100 echoes in order";
}

fn control_frames_are_short(subject: &Subject) -> Result<()> {
    for first in [PING, PONG, CLOSE] {
        let mut socket = subject.websocket()?;
        let payload = [&1000_u16.to_be_bytes()[..], &[b'x'; 124]].concat();
        socket.raw(&masked(first, &payload))?;
        socket.expect_close(1002)?;
    }
    Ok(())
}

fn pings_are_answered(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for payload in [vec![], b"data".to_vec(), vec![0xff; 125]] {
        socket.frame(PING, &payload)?;
        let got = socket.next()?;
        ensure!(got == Got::Pong(payload), "{got:?}");
    }
    Ok(())
}

fn an_unasked_pong_is_ignored(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.frame(PONG, b"nobody asked")?;
    ensure!(socket.is_silent_for(Duration::from_millis(50))?, "something came back");
    subject.expect_alive(&mut socket)
}

fn text_stays_text(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("4plain")?;
    socket.expect("4plain")
}

fn binary_stays_binary(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    let all: Vec<u8> = (0..=255).collect();
    for data in [&all[..], b"4 like text", b""] {
        socket.send_binary(data)?;
        socket.expect_binary(data)?;
    }
    Ok(())
}

fn messages_keep_their_order(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for n in 0..50 {
        socket.send(&format!("4{n}"))?;
        socket.send_binary(&[n])?;
    }
    for n in 0..50 {
        socket.expect(&format!("4{n}"))?;
        socket.expect_binary(&[n])?;
    }
    Ok(())
}
