//! The result file: Artillery 2's shape (`aggregate` and `intermediate` windows of 10 s), so that tools that read
//! that work, plus one block `drumfire` with everything else. Reads its own files and Artillery's (1.x, 2.x and the
//! early 2.0 builds whose names begin with `core.` or `engine.`).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HistogramReader, Serializer as _, V2DeflateSerializer};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::artillery::{self, PeriodIn};
use super::diagnosis;
use super::loaded::{self, Loaded, Run, Slice, Summary};
use crate::outcome::{
    Check, Delivery, ErrorGroup, Meta, Monitored, Outcome, ProcessSample, StageUse, TargetUse, Validity,
    Window,
};

/// Of the `drumfire` block; raised when an older reader could misread it.
const FORMAT: u32 = 1;
/// Artillery's reporting window.
const WINDOW_S: f64 = 10.0;
/// Larger files are refused; Artillery 1 wrote every sample and reached sizes nothing can read.
const MOST_BYTES: u64 = 1 << 30;
/// An inflated histogram; three digits over the whole range of u64 stay below it.
const MOST_HISTOGRAM_BYTES: u64 = 4 << 20;
const MOST_PHASES: usize = 10_000;
/// All counts of a file together; so no sum of some of them is more than a u64 holds.
const MOST_COUNTED: u64 = 1 << 60;
/// Values in one histogram; those of as many seconds as a file can hold may be merged.
const MOST_RECORDED: u64 = 1 << 40;
/// Kept inside the HTML report only up to this size.
pub(crate) const MOST_EMBEDDED_BYTES: usize = 8 << 20;

/// A result file that could not be written or read: where, what, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: cannot write here: {cause}\n  {remedy}", path = .path.display())]
    // Not named `source`: whoever prints the chain of causes would say it twice.
    Write { path: PathBuf, cause: io::Error, remedy: String },
    #[error("{path}: cannot be read: {cause}\n  {remedy}", path = .path.display())]
    Read { path: PathBuf, cause: io::Error, remedy: &'static str },
    #[error("{path}: {bytes} bytes is more than the {MOST_BYTES} this reads\n  \
             shorten the file: Artillery 1's `intermediate[].latencies` may be removed", path = .path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{path}:{line}:{column}: the file ends too early: whatever wrote it was cut off\n  \
             run again, or copy the file again; nothing can be told from half of it", path = .path.display())]
    Truncated { path: PathBuf, line: usize, column: usize },
    #[error("{path}:{line}:{column}: {message}\n  expected a file written by `run -o` of drumfire or Artillery",
            path = .path.display())]
    Malformed { path: PathBuf, line: usize, column: usize, message: String },
    #[error("{path}: {what}\n  {remedy}", path = .path.display())]
    Foreign { path: PathBuf, what: String, remedy: &'static str },
}

// ---------------------------------------------------------------------------------------------------- writing

/// Makes sure before a run that its result can be written, and says where: a directory gets a file named after the
/// time of day. Nothing is left behind.
pub fn probe(path: &Path) -> Result<PathBuf, Error> {
    let path = if path.is_dir() {
        path.join(format!("drumfire_report_{}.json", jiff::Zoned::now().strftime("%Y%m%d_%H%M%S")))
    } else {
        path.to_owned()
    };
    if is_special(&path) {
        return Ok(path);
    }
    if path.file_name().is_none() {
        let cause = io::Error::new(io::ErrorKind::InvalidInput, "no file name");
        return Err(Error::Write { path, cause, remedy: "name a file: -o result.json".to_owned() });
    }
    // The same steps as in `write`, so that what works here works there.
    let target = resolve(&path);
    let beside = temporary(&target);
    let made = OpenOptions::new().write(true).create_new(true).open(&beside);
    match made {
        Ok(_) => {
            let _ = fs::remove_file(&beside);
            Ok(path)
        }
        Err(cause) => Err(write_error(&path, cause)),
    }
}

/// Writes the whole result or nothing: to a file beside it first, which then takes its name.
pub fn write(outcome: &Outcome, path: &Path) -> Result<(), Error> {
    write_text(&to_string(outcome), path)
}

/// Writes text the same way; for reports made from a result.
pub fn write_text(text: &str, path: &Path) -> Result<(), Error> {
    if is_special(path) {
        // A pipe or /dev/stdout has no name to take.
        return OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|e| write_error(path, e));
    }
    let target = resolve(path);
    let beside = temporary(&target);
    *unfinished() = Some(beside.clone());
    let written = OpenOptions::new().write(true).create_new(true).open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &target)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    *unfinished() = None;
    written.map_err(|e| write_error(path, e))
}

/// The file being written, under its name of the meantime.
fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What whoever ends the process leaves nothing of.
pub(crate) fn remove_unfinished() {
    if let Some(beside) = unfinished().take() {
        let _ = fs::remove_file(beside);
    }
}

fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// A symbolic link is written through, not replaced.
fn resolve(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A name nobody else has, so that neither a second run nor what a killed one left is in the way.
fn temporary(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    target.with_file_name(format!(".{name}.{}-{now:x}.tmp", std::process::id()))
}

/// Makes a file that is written bit by bit.
pub fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(|e| write_error(path, e))
}

pub(crate) fn write_error(path: &Path, cause: io::Error) -> Error {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let remedy = match cause.kind() {
        io::ErrorKind::NotFound if !directory.exists() => {
            format!("the directory {} does not exist: create it first", directory.display())
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            format!("{} is not yours to write in: choose another place", directory.display())
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or choose another place".to_owned()
        }
        io::ErrorKind::FileTooLarge => {
            "the limit on the size of files is below it: raise it (`ulimit -f`), or choose another place"
                .to_owned()
        }
        io::ErrorKind::IsADirectory => "name a file in it".to_owned(),
        _ => "choose another place".to_owned(),
    };
    Error::Write { path: path.to_owned(), cause, remedy }
}

/// The result file's text.
pub fn to_string(outcome: &Outcome) -> String {
    let mut encoder = HistogramEncoder(V2DeflateSerializer::new());
    let loaded = Loaded::of(outcome);
    let found = diagnosis::diagnose(&loaded);
    let started = outcome.meta.started_at_ms as f64;

    let mut intermediate = Vec::new();
    let mut rest = &outcome.seconds[..];
    while let Some(first) = rest.first() {
        let number = (first.start_s / WINDOW_S).floor();
        let length = rest.iter().take_while(|w| (w.start_s / WINDOW_S).floor() == number).count();
        let (these, others) = rest.split_at(length);
        rest = others;
        if let Some(window) = loaded::merge(these) {
            let at = epoch_ms(started, window.start_s);
            intermediate.push(Period::of(
                &Slice::of_window(&window),
                these,
                started,
                Value::from(at.to_string()),
            ));
        }
    }
    let last = intermediate.last().map_or(outcome.meta.started_at_ms, |w| {
        w.period.as_str().and_then(|p| p.parse().ok()).unwrap_or(outcome.meta.started_at_ms)
    });
    let file = FileOut {
        aggregate: Period::of(&loaded.total, &outcome.seconds, started, Value::from(last)),
        intermediate,
        drumfire: Block {
            format: FORMAT,
            histograms: HISTOGRAMS.to_owned(),
            meta: outcome.meta.clone(),
            total: BlockWindow::of(&outcome.total, &mut encoder),
            seconds: outcome.seconds.iter().map(|w| BlockWindow::of(w, &mut encoder)).collect(),
            scenario_counts: outcome.scenario_counts.clone(),
            errors: outcome.errors.clone(),
            server_events: outcome.server_events.clone(),
            delivery: outcome.delivery.clone(),
            target: outcome.target.clone().map(|t| TargetUse { samples: rounded(&t.samples), ..t }),
            stages: outcome.stages.clone(),
            monitored: outcome.monitored.clone(),
            tester: rounded(&outcome.tester),
            validity: outcome.validity.clone(),
            checks: outcome.checks.clone(),
            interrupted: outcome.interrupted.map(str::to_owned),
            diagnosis: Some(Told { kind: found.kind, first: found.first }),
            ended_after_s: outcome.ended_after_s,
        },
    };
    // Maps with text keys and plain structs: nothing in them can fail to serialise.
    serde_json::to_string(&file).unwrap_or_default()
}

/// One reporting window as a line of JSON: its start and length in seconds, users and connections, counters, summaries in
/// milliseconds, and the account of deliveries so far.
pub fn window_line(window: &Window, delivery: Option<&Delivery>) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        start_s: f64,
        length_s: f64,
        users: u64,
        connections: u64,
        counters: &'a BTreeMap<String, u64>,
        summaries: BTreeMap<&'a str, SummaryOut>,
        #[serde(skip_serializing_if = "Option::is_none")]
        delivery: Option<&'a Delivery>,
    }
    let summaries = window
        .histograms
        .iter()
        .filter_map(|(name, histogram)| Some((name.as_str(), SummaryOut::of(&Summary::of(histogram)?))));
    let line = Line {
        start_s: window.start_s,
        length_s: window.length_s,
        users: window.concurrent_users,
        connections: window.connections,
        counters: &window.counters,
        summaries: summaries.collect(),
        delivery,
    };
    // As above: nothing in it can fail to serialise.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

const HISTOGRAMS: &str = "microseconds; HdrHistogram V2, deflated, base64";

/// A ten-thousandth of a core is finer than any clock behind it; more digits only make the file long.
fn rounded(samples: &[ProcessSample]) -> Vec<ProcessSample> {
    let mut samples = samples.to_vec();
    for (_, cpu) in samples.iter_mut().flat_map(|s| &mut s.threads) {
        *cpu = (*cpu * 1e4).round() / 1e4;
    }
    samples
}

fn epoch_ms(started: f64, offset_s: f64) -> u64 {
    (started + offset_s * 1000.0).round().max(0.0) as u64
}

#[derive(Serialize)]
struct FileOut {
    aggregate: Period,
    intermediate: Vec<Period>,
    drumfire: Block,
}

/// Artillery 2's object for a window or the whole run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Period {
    counters: BTreeMap<String, u64>,
    rates: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_counter_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_histogram_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_counter_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_histogram_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_metric_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_metric_at: Option<u64>,
    /// Window start, epoch ms: text in windows, a number in the aggregate, as Artillery has it.
    period: Value,
    summaries: BTreeMap<String, SummaryOut>,
    /// The same again: Artillery's readers use either.
    histograms: BTreeMap<String, SummaryOut>,
}

impl Period {
    fn of(slice: &Slice, seconds: &[Window], started: f64, period: Value) -> Self {
        let span = |has: fn(&Window) -> bool| {
            let first = seconds.iter().find(|w| has(w)).map(|w| epoch_ms(started, w.start_s));
            let last = seconds.iter().rfind(|w| has(w)).map(|w| epoch_ms(started, w.start_s + w.length_s));
            (first, last)
        };
        let (first_counter_at, last_counter_at) = span(|w| w.counters.values().any(|n| *n > 0));
        let (first_histogram_at, last_histogram_at) = span(|w| w.histograms.values().any(|h| !h.is_empty()));
        let summaries: BTreeMap<_, _> =
            slice.summaries.iter().map(|(name, s)| (name.clone(), SummaryOut::of(s))).collect();
        Self {
            counters: slice.counters.clone(),
            rates: slice.rates.iter().map(|(name, r)| (name.clone(), r.round() as u64)).collect(),
            first_counter_at,
            first_histogram_at,
            last_counter_at,
            last_histogram_at,
            first_metric_at: first_counter_at.into_iter().chain(first_histogram_at).min(),
            last_metric_at: last_counter_at.max(last_histogram_at),
            period,
            histograms: summaries.clone(),
            summaries,
        }
    }
}

/// Milliseconds.
#[derive(Serialize, Clone)]
struct SummaryOut {
    min: f64,
    max: f64,
    count: u64,
    mean: f64,
    p50: f64,
    median: f64,
    p75: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    p999: f64,
}

impl SummaryOut {
    fn of(s: &Summary) -> Self {
        let round = |v: f64| (v * 1000.0).round() / 1000.0;
        Self {
            min: round(s.min),
            max: round(s.max),
            count: s.count.unwrap_or(0),
            mean: round(s.mean.unwrap_or(s.median)),
            p50: round(s.median),
            median: round(s.median),
            p75: round(s.p75.unwrap_or(s.median)),
            p90: round(s.p90.unwrap_or(s.median)),
            p95: round(s.p95),
            p99: round(s.p99),
            p999: round(s.p999.unwrap_or(s.max)),
        }
    }
}

/// Everything Artillery's shape has no place for.
#[derive(Serialize, Deserialize)]
struct Block {
    format: u32,
    /// Unit and encoding of every histogram in this block.
    histograms: String,
    meta: Meta,
    total: BlockWindow,
    seconds: Vec<BlockWindow>,
    scenario_counts: BTreeMap<String, u64>,
    errors: Vec<ErrorGroup>,
    server_events: BTreeMap<String, u64>,
    delivery: Option<Delivery>,
    target: Option<TargetUse>,
    #[serde(default)]
    stages: Vec<StageUse>,
    #[serde(default)]
    monitored: Vec<Monitored>,
    tester: Vec<ProcessSample>,
    validity: Validity,
    checks: Vec<Check>,
    interrupted: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_after_s: Option<f64>,
    /// For whoever reads the file; reports diagnose anew.
    #[serde(default, skip_deserializing)]
    diagnosis: Option<Told>,
}

/// The run in a word and in a sentence.
#[derive(Serialize)]
struct Told {
    kind: diagnosis::Kind,
    first: String,
}

#[derive(Serialize, Deserialize)]
struct BlockWindow {
    start_s: f64,
    length_s: f64,
    counters: BTreeMap<String, u64>,
    histograms: BTreeMap<String, String>,
    concurrent_users: u64,
    connections: u64,
}

impl Block {
    /// Everything that was counted, added up.
    fn counted(&self) -> u64 {
        let windows = self.seconds.iter().chain([&self.total]);
        let windows = windows.flat_map(|w| w.counters.values().chain([&w.concurrent_users, &w.connections]));
        let named = self.scenario_counts.values().chain(self.server_events.values());
        let errors = self.errors.iter().map(|error| &error.count);
        let phases = self.meta.phases.iter().map(|phase| &phase.planned);
        let delivery = self.delivery.iter().flat_map(|delivery| {
            let Delivery {
                messages, heard, missing, duplicates, late, unexpected, undecided, not_sent, ..
            } = delivery;
            let all = [messages, heard, missing, duplicates, late, unexpected, undecided, not_sent];
            all.into_iter().chain(&delivery.expected)
        });
        windows
            .chain(named)
            .chain(errors)
            .chain(phases)
            .chain(delivery)
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

impl BlockWindow {
    fn of(window: &Window, encoder: &mut HistogramEncoder) -> Self {
        let histograms = window.histograms.iter().filter(|(_, h)| !h.is_empty());
        Self {
            start_s: window.start_s,
            length_s: window.length_s,
            counters: window.counters.clone(),
            histograms: histograms.map(|(name, h)| (name.clone(), encoder.text(h))).collect(),
            concurrent_users: window.concurrent_users,
            connections: window.connections,
        }
    }

    fn window(&self) -> Result<Window, String> {
        let mut histograms = BTreeMap::new();
        for (name, text) in &self.histograms {
            let histogram = decode_histogram(text)
                .map_err(|e| format!("histogram {name} of second {}: {e}", self.start_s))?;
            histograms.insert(name.clone(), histogram);
        }
        Ok(Window {
            start_s: self.start_s,
            length_s: self.length_s,
            counters: self.counters.clone(),
            histograms,
            concurrent_users: self.concurrent_users,
            connections: self.connections,
        })
    }
}

struct HistogramEncoder(V2DeflateSerializer);

impl HistogramEncoder {
    fn text(&mut self, histogram: &Histogram<u64>) -> String {
        let mut bytes = Vec::new();
        // Fails only for counts above i64::MAX.
        let _ = self.0.serialize(histogram, &mut bytes);
        STANDARD.encode(bytes)
    }
}

/// Undoes `HistogramEncoder`; sizes are looked at before anything is allocated by what the text claims.
fn decode_histogram(text: &str) -> Result<Histogram<u64>, String> {
    const DEFLATED: u32 = 0x1c84_9304 | 0x10;
    let bytes = STANDARD.decode(text).map_err(|e| format!("not base64: {e}"))?;
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    if word(&bytes, 0) != Some(DEFLATED) {
        return Err("not a deflated HdrHistogram V2".to_owned());
    }
    let mut plain = Vec::new();
    flate2::read::ZlibDecoder::new(bytes.get(8..).unwrap_or_default())
        .take(MOST_HISTOGRAM_BYTES + 1)
        .read_to_end(&mut plain)
        .map_err(|e| format!("cannot be inflated: {e}"))?;
    if plain.len() as u64 > MOST_HISTOGRAM_BYTES {
        return Err("larger than any histogram of ours".to_owned());
    }
    // Header of 40 bytes: cookie, payload length, offset, digits, lowest, highest, ratio.
    let (length, digits) = (word(&plain, 4), word(&plain, 12));
    if length.map(|l| l as usize + 40) != Some(plain.len()) {
        return Err("its length does not fit its header".to_owned());
    }
    if digits.is_none_or(|d| d > 3) {
        return Err("more than three significant digits".to_owned());
    }
    let read: Histogram<u64> =
        HistogramReader::new().deserialize(&mut &plain[..]).map_err(|e| format!("cannot be decoded: {e}"))?;
    if read.len() > MOST_RECORDED {
        return Err("more values than any run records".to_owned());
    }
    Ok(read)
}

// ---------------------------------------------------------------------------------------------------- reading

/// Reads a result of ours or of Artillery.
pub fn read(path: &Path) -> Result<Loaded, Error> {
    parse(&bytes_of(path)?, path)
}

/// The same, and every second with its histograms; none in Artillery's files.
pub fn read_with_windows(path: &Path) -> Result<(Loaded, Vec<Window>), Error> {
    let bytes = bytes_of(path)?;
    let loaded = parse(&bytes, path)?;
    let block = serde_json::from_slice::<FileIn>(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes));
    // It was read once already.
    let seconds = block.ok().and_then(|file| file.drumfire).map_or(Vec::new(), |block| block.seconds);
    Ok((loaded, seconds.iter().filter_map(|second| second.window().ok()).collect()))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |cause: io::Error| {
        let remedy = match cause.kind() {
            io::ErrorKind::NotFound => "give the JSON file a run wrote with -o",
            io::ErrorKind::PermissionDenied => {
                "ask its owner to let you read it, or copy it to a place of your own"
            }
            io::ErrorKind::IsADirectory => "give a file in it: the JSON a run wrote with -o",
            _ => "copy the file to another place and try again",
        };
        Error::Read { path: path.to_owned(), cause, remedy }
    };
    let mut file = File::open(path).map_err(failed)?;
    // Before a byte of it is read, where the size is known.
    let size = file.metadata().map_or(0, |meta| meta.len());
    if size > MOST_BYTES {
        return Err(Error::TooLarge { path: path.to_owned(), bytes: size });
    }
    let mut bytes = Vec::new();
    (&mut file).take(4096).read_to_end(&mut bytes).map_err(failed)?;
    // What does not even begin like a result need not be read.
    if bytes.trim_ascii_start().first().is_some_and(|b| !matches!(b, b'{' | 0xef)) {
        return Ok(bytes);
    }
    file.take(MOST_BYTES + 1 - bytes.len() as u64).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64 });
    }
    Ok(bytes)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a result file's bytes; `path` is only for messages and headings.
pub fn parse(bytes: &[u8], path: &Path) -> Result<Loaded, Error> {
    let foreign =
        |what: &str, remedy| Error::Foreign { path: path.to_owned(), what: what.to_owned(), remedy };
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
        None => {
            return Err(foreign(
                "the file is empty",
                "the run that should have written it did not get that far",
            ));
        }
        Some(b'{') if !bytes.starts_with(b"{\0") => {}
        Some(b'<') => {
            return Err(foreign(
                "this is HTML or XML",
                "give the JSON file the report was made from, not the report",
            ));
        }
        Some(_)
            if [&b"{\0"[..], b"\0{", b"\xff\xfe", b"\xfe\xff"]
                .iter()
                .any(|start| bytes.starts_with(start)) =>
        {
            return Err(foreign(
                "this is text in UTF-16, and a result file is UTF-8",
                "save it as UTF-8: Windows PowerShell's `>` is what writes UTF-16",
            ));
        }
        Some(_) if bytes.starts_with(b"\x1f\x8b") => {
            return Err(foreign("this is packed (gzip)", "unpack it first: gunzip FILE"));
        }
        Some(_) => {
            return Err(foreign(
                "this is not a result file",
                "give the JSON file a run wrote with -o; a script is run with `drumfire run`",
            ));
        }
    }
    let file: FileIn = serde_json::from_slice(bytes).map_err(|e| {
        let (path, line, column) = (path.to_owned(), e.line(), e.column());
        if e.is_eof() {
            return Error::Truncated { path, line, column };
        }
        // What a newer one means by its fields is not for this one to criticise.
        if let Ok(FormatIn { drumfire: FormatOf { format } }) = serde_json::from_slice(bytes)
            && format > u64::from(FORMAT)
        {
            return Error::Foreign { path, what: newer(format), remedy: READ_WITH };
        }
        let text = e.to_string();
        let message = match text.rfind(" at line ") {
            Some(at) => text[..at].to_owned(),
            None => text,
        };
        let message = if message.contains("recursion limit") {
            "nested deeper than any result".to_owned()
        } else {
            message
        };
        Error::Malformed { path, line, column, message }
    })?;
    let name =
        path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    let mut loaded = match file {
        FileIn { drumfire: Some(block), .. } => {
            ours(&block).map_err(|what| Error::Foreign { path: path.to_owned(), what, remedy: READ_WITH })?
        }
        FileIn { aggregate: Some(aggregate), intermediate, .. } => {
            let windows = intermediate.unwrap_or_default();
            if aggregate.is_v1() {
                artillery::v1(&aggregate, &windows, &name)
            } else if aggregate.is_v2() {
                artillery::v2(&aggregate, &windows, &name)
            } else {
                return Err(foreign(
                    "its `aggregate` holds neither `scenariosCreated` (Artillery 1) nor `counters` (Artillery 2)",
                    "give the JSON file a run of drumfire or Artillery wrote with -o",
                ));
            }
        }
        FileIn { aggregate: None, config, scenarios, .. } => {
            return Err(if config.is_some() || scenarios.is_some() {
                foreign("this is a script, not a result", "run it first: drumfire run -o result.json SCRIPT")
            } else {
                foreign(
                    "it has neither an `aggregate` nor a `drumfire` block, so it is no result of drumfire or Artillery",
                    "results of other tools are not read; give the JSON file a run wrote with -o",
                )
            });
        }
    };
    if bytes.len() <= MOST_EMBEDDED_BYTES {
        loaded.json = String::from_utf8(bytes.to_vec()).ok();
    }
    Ok(loaded)
}

const READ_WITH: &str = "copy the file again, or read it with the drumfire that wrote it";

fn newer(format: u64) -> String {
    format!("written by a newer drumfire (format {format}, this one reads up to {FORMAT})")
}

fn ours(block: &Block) -> Result<Loaded, String> {
    if block.format > FORMAT {
        return Err(newer(block.format.into()));
    }
    if block.histograms != HISTOGRAMS {
        return Err(format!("its histograms are in “{}”, not “{HISTOGRAMS}”", block.histograms));
    }
    // A page draws and names each of them.
    if block.meta.phases.len() > MOST_PHASES {
        return Err(format!(
            "it has {} phases, and no script has more than {MOST_PHASES}",
            block.meta.phases.len()
        ));
    }
    if block.counted() > MOST_COUNTED {
        return Err("its counts are beyond what any run comes to".to_owned());
    }
    let total = block.total.window()?;
    let mut slices = Vec::new();
    for seconds in block.seconds.chunks(loaded::seconds_per_slice(block.seconds.len())) {
        let windows = seconds.iter().map(BlockWindow::window).collect::<Result<Vec<_>, _>>()?;
        slices.extend(loaded::merge(&windows).map(|w| Slice::of_window(&w)));
    }
    let active = loaded::active(block.seconds.iter().map(|w| (w.start_s, w.length_s, &w.counters)));
    let run = Run {
        meta: block.meta.clone(),
        histograms: total.histograms.clone(),
        errors: block.errors.clone(),
        server_events: block.server_events.clone(),
        delivery: block.delivery.clone(),
        target: block.target.clone(),
        stages: block.stages.clone(),
        monitored: block.monitored.clone(),
        tester: block.tester.clone(),
        validity: block.validity.clone(),
        checks: block.checks.clone(),
        interrupted: block.interrupted.clone(),
        ended_after_s: block.ended_after_s,
    };
    Ok(Loaded::from_parts(run, &total, slices, active, block.scenario_counts.clone()))
}

/// As little of a file as tells who wrote it.
#[derive(Deserialize)]
struct FormatIn {
    drumfire: FormatOf,
}

#[derive(Deserialize)]
struct FormatOf {
    format: u64,
}

#[derive(Deserialize)]
struct FileIn {
    aggregate: Option<PeriodIn>,
    intermediate: Option<Vec<PeriodIn>>,
    drumfire: Option<Block>,
    /// Only to tell a script from a result.
    config: Option<IgnoredAny>,
    scenarios: Option<IgnoredAny>,
}
