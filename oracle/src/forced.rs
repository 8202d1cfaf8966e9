//! Records of what the host's processor did, on the core with every block translated at once: reads what
//! `tab86-oracle --records` writes, and counts for each form how its vectors ran.
//!
//! Records come in sheets, groups whose code fits the code pages together; an empty line ends one. Many vectors share
//! their code, so that its translation pays.

use crate::forms;
use crate::ours::Core;
use crate::sample::{Checker, Record};
use crate::text;
use crate::vector::Vector;
use emulator_core::jit::{JitHost, flow, region};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How the vectors of a form ran.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Vectors that were compared.
    pub vectors: u64,
    /// Those that differed.
    pub failures: u64,
    /// Every instruction in translated code of its own.
    pub translated: u64,
    /// Inside a region, which had the interpreter execute an instruction.
    pub called: u64,
    /// A region was entered and left before the end: for an exception, or for the interpreter's slow path.
    pub left: u64,
    /// Of these, without an exception.
    pub deferred: u64,
    /// No region was entered.
    pub never: u64,
    /// The translator says that it has code for every instruction of these.
    pub has_code: u64,
}

impl Count {
    /// Adds another one up.
    pub fn add(&mut self, other: &Count) {
        let mut fields = self.fields();
        fields.iter_mut().zip(other.fields()).for_each(|(sum, n)| *sum += n);
        *self = Count::from_fields(fields);
    }

    /// As numbers.
    #[must_use]
    pub fn fields(&self) -> [u64; 8] {
        let Count { vectors, failures, translated, called, left, deferred, never, has_code } = *self;
        [vectors, failures, translated, called, left, deferred, never, has_code]
    }

    /// From numbers.
    #[must_use]
    pub fn from_fields(fields: [u64; 8]) -> Count {
        let [vectors, failures, translated, called, left, deferred, never, has_code] = fields;
        Count { vectors, failures, translated, called, left, deferred, never, has_code }
    }

    /// The translator has code for the form, and yet no vector that retired ran in it.
    #[must_use]
    pub fn missed(&self) -> bool {
        self.has_code > 0 && self.translated == 0 && self.deferred + self.called + self.never > 0
    }
}

/// Whether the translator has code for all instructions of 32-bit code, and whether all may be part of a region.
#[must_use]
pub fn treatment(code: &[u8]) -> (bool, bool) {
    let (mut at, mut translated, mut inside) = (0, true, true);
    while at < code.len() {
        let Some(op) = forms::accepted(&code[at..], true) else { return (false, false) };
        translated &= flow::translated(&op);
        inside &= !region::runs_alone(&op);
        at += usize::from(op.len).max(1);
    }
    (translated && inside, inside)
}

/// Runs sheets.
pub struct Forced {
    core: Box<Core>,
    /// Interprets what differed: a vector that reads the code pages sees its neighbours there, which the host did not have.
    interpreter: Core,
    checker: Checker,
    /// How often translated code had the interpreter execute an instruction.
    calls: fn() -> u64,
    counts: BTreeMap<String, Count>,
    /// Failures to show for each form.
    keep: u64,
}

impl Forced {
    /// On a host for translated code.
    #[must_use]
    pub fn new(host: Box<dyn JitHost>, calls: fn() -> u64, keep: u64) -> Forced {
        Forced {
            core: Core::translating(host),
            interpreter: Core::new(&[]),
            checker: Checker::default(),
            calls,
            counts: BTreeMap::new(),
            keep,
        }
    }

    /// Runs the records of a sheet, given as lines. Returns what differs.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn sheet(&mut self, lines: &str) -> Result<String, String> {
        let records: Vec<Record> = lines.lines().map(Record::parse).collect::<Result<_, _>>()?;
        let mut codes: Vec<&Vector> = records.iter().map(|r| &r.vector).collect();
        codes.dedup_by_key(|v| v.at);
        self.core.place(codes.iter().copied());
        let mut text = String::new();
        let mut last = None;
        for record in &records {
            if last != Some(record.vector.at) {
                last = Some(record.vector.at);
                // The first execution translates and is interpreted.
                self.checker.check(&mut self.core, record, Core::run_placed)?;
            }
            let (before, calls) = (self.core.translator(), (self.calls)());
            let compared = self.checker.check(&mut self.core, record, Core::run_placed)?;
            let after = self.core.translator();
            let called = (self.calls)() - calls;
            let count = match self.counts.get_mut(record.name) {
                Some(count) => count,
                None => self.counts.entry(record.name.to_owned()).or_default(),
            };
            count.vectors += 1;
            count.has_code += u64::from(treatment(&record.vector.code).0);
            let retired = after.instructions - before.instructions;
            if after.entered == before.entered {
                count.never += 1;
            } else if retired < u64::from(record.vector.count) {
                count.left += 1;
                count.deferred += u64::from(!compared.raised);
            } else if called > 0 {
                count.called += 1;
            } else {
                count.translated += 1;
            }
            if !compared.different.is_empty() {
                self.interpreter.place(codes.iter().copied());
                let again = self.checker.check(&mut self.interpreter, record, Core::run_placed)?;
                if again.different == compared.different {
                    continue;
                }
                count.failures += 1;
                if count.failures <= self.keep {
                    let line = text::print(&record.vector);
                    let _ = writeln!(text, "F {}:{}\n   --jit --reproduce '{line}'", record.name, compared.different);
                }
            }
        }
        Ok(text)
    }

    /// A line `C numbers… form` for each form.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (name, count) in &self.counts {
            let numbers = count.fields().map(|n| n.to_string()).join(" ");
            let _ = writeln!(text, "C {numbers} {name}");
        }
        text
    }

    /// The vectors that were compared and those that differed.
    #[must_use]
    pub fn total(&self) -> Count {
        let mut sum = Count::default();
        self.counts.values().for_each(|c| sum.add(c));
        sum
    }
}
