//! The checked-in sample: full records of vectors and of what the host made of them, to run where there is no such host
//! (also as wasm).
//!
//! A line is the form's name, the vector ([`crate::text`]) and what it changed, separated by tabs.

use crate::compare::{differences, mask_of};
use crate::layout::{DATA, DATA_LEN, DATA_RW};
use crate::ours::Core;
use crate::text::{self, FIELDS, hex};
use crate::vector::{DataImage, Exception, Outcome, Vector};
use std::fmt::Write as _;
use std::io::{Read, Write};

/// The sample, as `tab86-oracle --write-sample` made it.
const SAMPLE: &[u8] = include_bytes!("../sample.txt.gz");

type Data = Box<[u8; DATA_LEN as usize]>;

/// What a vector changed, in one line. `data` are the data pages before it.
#[must_use]
pub fn changes(vector: &Vector, data: &[u8], outcome: &Outcome, after: &[u8]) -> String {
    let mut line = format!("eip={:x}", outcome.eip);
    let first = start(vector);
    for (n, name) in text::NAMES.iter().enumerate() {
        if outcome.gpr[n] != first.gpr[n] {
            let _ = write!(line, " {name}={:x}", outcome.gpr[n]);
        }
    }
    if outcome.flags != first.flags {
        let _ = write!(line, " fl={:x}", outcome.flags);
    }
    if outcome.sel != first.sel {
        let list: Vec<String> = outcome.sel.iter().map(|s| format!("{s:x}")).collect();
        let _ = write!(line, " sel={}", list.join(","));
    }
    for (name, at, len) in FIELDS {
        if outcome.fx[at..at + len] != first.fx[at..at + len] {
            let _ = write!(line, " {name}={}", hex(&outcome.fx[at..at + len]));
        }
    }
    if let Some(e) = outcome.exception {
        let _ = write!(line, " ex={:x},{:x},{:x}", e.vector, e.code, e.address);
    }
    let mut at = 0;
    while at < DATA_RW as usize {
        let len = (at..DATA_RW as usize).take_while(|i| data[*i] != after[*i]).count();
        if len != 0 {
            let _ = write!(line, " [{:x}]={}", DATA as usize + at, hex(&after[at..at + len]));
        }
        at += len + 1;
    }
    line
}

/// The state of a vector as an outcome that nothing happened to.
fn start(vector: &Vector) -> Outcome {
    Outcome { eip: vector.eip(), gpr: vector.gpr, flags: vector.flags, sel: vector.sel, fx: vector.fx, exception: None }
}

/// The inverse of [`changes`]: writes memory to `data`.
fn apply(vector: &Vector, data: &mut [u8], line: &str) -> Option<Outcome> {
    let mut outcome = start(vector);
    // The words of an outcome are those of a vector, but for two.
    let mut words = String::from("code=90");
    for word in line.split_whitespace() {
        let (key, value) = word.split_once('=')?;
        match key {
            "eip" => outcome.eip = u32::from_str_radix(value, 16).ok()?,
            "ex" => {
                let mut parts = value.split(',').map(|p| u32::from_str_radix(p, 16).ok());
                let mut next = || parts.next().flatten();
                outcome.exception = Some(Exception { vector: next()? as u8, code: next()?, address: next()? });
            }
            _ => {
                let _ = write!(words, " {word}");
            }
        }
    }
    let changed = text::parse_onto(&words, vector).ok()?;
    (outcome.gpr, outcome.flags, outcome.sel, outcome.fx) = (changed.gpr, changed.flags, changed.sel, changed.fx);
    for (at, bytes) in &changed.memory[vector.memory.len()..] {
        let from = at.wrapping_sub(DATA) as usize;
        data.get_mut(from..from + bytes.len())?.copy_from_slice(bytes);
    }
    Some(outcome)
}

/// The result of a run of the sample.
#[derive(Debug, Default)]
pub struct Checked {
    /// Records that agreed.
    pub passed: usize,
    /// Those that did not, and how.
    pub failures: Vec<String>,
}

/// A line of a sample, read.
#[derive(Debug)]
pub struct Record<'a> {
    /// The form's name.
    pub name: &'a str,
    /// The vector.
    pub vector: Vector,
    /// What it changed.
    pub changes: &'a str,
}

impl<'a> Record<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// The line, or the word that makes no sense.
    pub fn parse(line: &'a str) -> Result<Record<'a>, String> {
        let mut parts = line.split('\t');
        let (Some(name), Some(vector), Some(changes)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("not three parts: {line}"));
        };
        Ok(Record { name, vector: text::parse(vector)?, changes })
    }
}

/// Runs records and tells what differs from them.
#[derive(Debug)]
pub struct Checker {
    image: DataImage,
    data: Data,
    expected: Data,
}

impl Default for Checker {
    fn default() -> Checker {
        let empty = || Box::new([0; DATA_LEN as usize]);
        Checker { image: DataImage::default(), data: empty(), expected: empty() }
    }
}

impl Checker {
    /// Runs a record by `run`, which gets the vector and the data pages, on `core`. What differs.
    ///
    /// # Errors
    /// What of the record makes no sense.
    pub fn check(
        &mut self,
        core: &mut Core,
        record: &Record,
        run: fn(&mut Core, &Vector, &[u8; DATA_LEN as usize]) -> Outcome,
    ) -> Result<Compared, String> {
        let vector = &record.vector;
        self.image.prepare(vector.fill);
        vector.fill_data(&mut self.data, &self.image);
        self.expected.copy_from_slice(&self.data[..]);
        let expected =
            apply(vector, &mut self.expected[..], record.changes).ok_or_else(|| record.changes.to_owned())?;
        let got = run(core, vector, &self.data);
        let mask = mask_of(vector, &self.data, &expected);
        let different = differences(&mask, &expected, &self.expected, &got, core.data());
        Ok(Compared { different, raised: expected.exception.is_some() })
    }
}

/// What came of a record.
#[derive(Debug)]
pub struct Compared {
    /// What differs.
    pub different: String,
    /// Whether the host raised an exception.
    pub raised: bool,
}

/// The lines of the sample.
///
/// # Errors
/// When the file is damaged.
pub fn lines() -> Result<String, String> {
    let mut lines = String::new();
    flate2::read::GzDecoder::new(SAMPLE).read_to_string(&mut lines).map_err(|e| e.to_string())?;
    Ok(lines)
}

/// Runs the sample on the core.
///
/// # Errors
/// When the file is damaged.
pub fn check() -> Result<Checked, String> {
    let mut core = Core::new(&[]);
    let mut checker = Checker::default();
    let mut checked = Checked::default();
    for line in lines()?.lines() {
        let record = Record::parse(line)?;
        let different = checker.check(&mut core, &record, Core::run)?.different;
        if different.is_empty() {
            checked.passed += 1;
        } else {
            checked.failures.push(format!("{}:{different}\n   {}", record.name, text::print(&record.vector)));
        }
    }
    Ok(checked)
}

/// Packs lines as the sample is stored.
///
/// # Errors
/// None in memory.
pub fn pack(lines: &str) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(lines.as_bytes())?;
    encoder.finish()
}
