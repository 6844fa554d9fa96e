//! The files of `--pairs`: who heard what, who stood where and what was said, for an oracle of somebody else's.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::{Hearers, Listener};
use crate::delivery::{Said, Stand, Status};
use crate::outcome::Nanos;

#[derive(Debug)]
pub(super) struct Pairs {
    path: PathBuf,
    pairs: BufWriter<File>,
    messages: BufWriter<File>,
}

impl Pairs {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let mut pairs = BufWriter::new(File::create(path)?);
        writeln!(pairs, "listener,message,lng,lat")?;
        let mut messages = BufWriter::new(File::create(beside(path, ".messages.csv"))?);
        writeln!(messages, "message,lng,lat,sent_ns,matched_by_ns,status")?;
        Ok(Self { path: path.to_owned(), pairs, messages })
    }

    pub(super) fn message(
        &mut self,
        message: u32,
        said: Said,
        hearers: &Hearers,
        until: Nanos,
    ) -> io::Result<()> {
        for (listener, _) in &hearers.heard {
            writeln!(self.pairs, "{listener},{message},{},{}", said.lng, said.lat)?;
        }
        let status = match said.status {
            Status::Written => "sent",
            Status::NotSent | Status::Unanswered => "not sent",
            Status::Refused | Status::Complained => "refused",
        };
        writeln!(self.messages, "{message},{},{},{},{until},{status}", said.lng, said.lat, said.sent)
    }

    pub(super) fn close(mut self, listeners: &[Listener]) -> io::Result<()> {
        self.pairs.flush()?;
        self.messages.flush()?;
        let mut out = BufWriter::new(File::create(beside(&self.path, ".listeners.csv"))?);
        writeln!(out, "listener,lng,lat,radius_m,asked_ns,settled_ns")?;
        for (number, listener) in listeners.iter().enumerate() {
            for Stand { lng, lat, radius_m, asked, settled } in &listener.stands {
                writeln!(out, "{number},{lng},{lat},{radius_m},{asked},{settled}")?;
            }
        }
        out.flush()
    }
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    name.into()
}
