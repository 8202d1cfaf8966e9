//! `--jit`: what the host's processor does with vectors, written as records ([`crate::sample`]) for the oracle's wasm
//! program ([`crate::forced`]), and what that says of them.

use crate::bench::Bench;
use crate::command::{Options, all_forms, worker_command};
use crate::forced::{Count, treatment};
use crate::forms::Form;
use crate::generate::{again, generate};
use crate::layout::{CODE, USER_CS, USER_DS};
use crate::rng::Rng;
use crate::text;
use crate::vector::{FX_MXCSR, FX_XMM, Vector};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Bytes of the code pages that vectors share. Between them and behind them jumps may land.
const PLACES: [(u32, u32); 2] = [(CODE + 0x100, CODE + 0x8f0), (CODE + 0x1000, CODE + 0x1f00)];

/// Encodings for one process of Node. A table keeps every instance that imports it, and with it mappings of which a
/// process may have some 65,000.
const PROCESS: u64 = 10_000;

/// Forms that can be part of a region, each as often as it is worth trying.
fn schedule(forms: &[Form]) -> Vec<usize> {
    let mut schedule = Vec::new();
    for (n, form) in forms.iter().enumerate() {
        let mut rng = Rng::new(n as u64);
        let vectors = (0..40).filter_map(|_| generate(form, 1, &mut rng));
        let (translated, inside) =
            vectors.map(|v| treatment(&v.code)).fold((false, false), |(a, b), (c, d)| (a || c, b || d));
        let weight = match (form.run.is_some(), translated, inside) {
            (true, ..) => 24,
            (_, true, _) => 4,
            (_, _, true) => 1,
            _ => 0,
        };
        schedule.extend(std::iter::repeat_n(n, weight));
    }
    schedule
}

/// Only flat code is translated. FS and GS may be anything.
fn flat(v: &Vector) -> bool {
    v.sel[..4] == [USER_DS, USER_CS, USER_DS, USER_DS]
}

/// Whether a form works on binary64 numbers.
fn doubles(form: &Form) -> bool {
    let name = format!("{:?}", form.mnemonic);
    name.ends_with("pd") || name.ends_with("sd") || name.contains("sd2") || name.contains("pd2")
}

/// Everything masked, to nearest, PE raised, and numbers near 1 in the XMM registers: translated code computes these itself,
/// and of random states it seldom has any.
fn make_plain(vector: &mut Vector, rng: &mut Rng) {
    const MXCSR: u32 = 0x1fa0;
    vector.fx[FX_MXCSR..FX_MXCSR + 4].copy_from_slice(&MXCSR.to_le_bytes());
    for number in vector.fx[FX_XMM..FX_XMM + 8 * 16].chunks_exact_mut(8) {
        let bits = rng.bits();
        let exponent = 0x3c0 + (bits >> 52 & 0x7f);
        number.copy_from_slice(&(bits & 0x800f_ffff_ffff_ffff | exponent << 52).to_le_bytes());
    }
}

/// Writes sheets of records: every `threads`-th.
pub(crate) fn write(options: &Options, n: u32) -> bool {
    let Ok(mut bench) = Bench::new() else { return false };
    let forms: Vec<Form> = all_forms(options).into_iter().filter(|f| f.code32).collect();
    let schedule = schedule(&forms);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let groups = options.vectors.div_ceil(options.states.into()) * u64::from(!schedule.is_empty());
    let groups = groups.min(options.from + PROCESS * u64::from(options.threads));
    let mut group = options.from + u64::from(n);
    while group < groups {
        let mut sheet = String::new();
        for (from, to) in PLACES {
            let mut at = from;
            while group < groups {
                let form = &forms[schedule[(group % schedule.len() as u64) as usize]];
                let mut rng = Rng::new(options.seed.wrapping_mul(0x1_0000_0001).wrapping_add(group));
                let fill = rng.bits() >> 32 | 1;
                let first = (0..100).find_map(|_| generate(form, fill, &mut rng).filter(flat));
                if let Some(mut first) = first {
                    first.at = at;
                    if at + first.code_bytes().len() as u32 > to {
                        break;
                    }
                    at += first.code_bytes().len() as u32 + 1;
                    for state in 0..options.states {
                        let mut next = || (0..100).find_map(|_| again(form, &first, fill, &mut rng).filter(flat));
                        let Some(mut vector) = (if state == 0 { Some(first.clone()) } else { next() }) else { break };
                        if state % 2 == 1 && doubles(form) {
                            make_plain(&mut vector, &mut rng);
                        }
                        let _ = writeln!(sheet, "{}", bench.line(&form.name, &vector));
                    }
                }
                group += u64::from(options.threads);
            }
        }
        if writeln!(out, "{sheet}").is_err() {
            // The reader ended; it says why.
            return false;
        }
    }
    true
}

/// The program in Node.
fn node(module: &Path) -> Command {
    let mut node = Command::new("node");
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/jit/oracle.mjs")).arg(module);
    node
}

/// Runs one vector with translation forced.
pub(crate) fn reproduce(module: &Path, line: &str) -> bool {
    let (Ok(vector), Ok(mut bench)) = (text::parse(line), Bench::new()) else {
        eprintln!("cannot read the vector, or the host cannot run it");
        return false;
    };
    let record = bench.line("this", &vector);
    println!("host: {}", record.rsplit('\t').next().unwrap_or_default());
    let child = node(module).stdin(Stdio::piped()).spawn();
    let status = child.and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            write!(stdin, "{record}\n\n")?;
        }
        child.wait()
    });
    status.is_ok_and(|s| s.success())
}

/// What a pair of processes said.
#[derive(Default)]
struct Said {
    counts: BTreeMap<String, Count>,
    other: Vec<String>,
    ended: bool,
}

fn follow(options: &Options, module: &Path, n: u32) -> std::io::Result<Said> {
    let mut said = Said { ended: true, ..Said::default() };
    let groups = options.vectors.div_ceil(options.states.into());
    for from in (0..groups).step_by((PROCESS * u64::from(options.threads)) as usize) {
        pair(options, module, n, from, &mut said)?;
    }
    Ok(said)
}

/// A process that writes records from a group on, and one that runs them.
fn pair(options: &Options, module: &Path, n: u32, from: u64, said: &mut Said) -> std::io::Result<()> {
    let mut command = worker_command(options, n);
    command.args(["--records", "--states", &options.states.to_string(), "--from", &from.to_string()]);
    let mut writer = command.spawn()?;
    let mut node = node(module);
    node.stdin(writer.stdout.take().map_or_else(Stdio::null, Stdio::from)).stdout(Stdio::piped());
    let mut reader = node.spawn()?;
    // The pipe's ends belong to the two.
    drop(node);
    let mut counted = false;
    if let Some(stdout) = reader.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            let mut words = line.splitn(10, ' ');
            if words.next() == Some("C") {
                let numbers = std::array::from_fn(|_| words.next().and_then(|w| w.parse().ok()).unwrap_or(0));
                let name = words.next().unwrap_or_default().to_owned();
                said.counts.entry(name).or_default().add(&Count::from_fields(numbers));
                counted = true;
            } else {
                said.other.push(line);
            }
        }
    }
    // Its status also tells of mismatches, which are counted.
    reader.wait()?;
    said.ended &= writer.wait()?.success() && counted;
    Ok(())
}

/// Runs it all.
pub(crate) fn parent(options: &Options, module: &Path) -> bool {
    if let Err(why) = crate::native::usable() {
        println!("skipped: {}", why.0);
        return true;
    }
    let start = Instant::now();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..options.threads.max(1)).map(|n| scope.spawn(move || follow(options, module, n))).collect();
        threads.into_iter().map(|t| t.join()).collect()
    });
    let mut total = Said { ended: true, ..Said::default() };
    for result in results {
        let Ok(Ok(said)) = result else {
            println!("a process could not be started (`node`?)");
            return false;
        };
        said.counts.iter().for_each(|(name, count)| total.counts.entry(name.clone()).or_default().add(count));
        total.other.extend(said.other);
        total.ended &= said.ended;
    }
    total.other.iter().for_each(|line| println!("{line}"));
    let mut sum = Count::default();
    total.counts.values().for_each(|c| sum.add(c));
    let missed: Vec<&String> = total.counts.iter().filter(|(_, c)| c.missed()).map(|(name, _)| name).collect();
    for name in &missed {
        println!("NEVER TRANSLATED {name}: {:?}", total.counts[*name]);
    }
    let rate = sum.vectors as f64 / start.elapsed().as_secs_f64();
    println!(
        "translation forced: {} forms, {} vectors: {} in translated code, {} where a region called the interpreter, {} \
         where it left for it ({} without an exception), {} in none; {} mismatches, {rate:.0} vectors/s",
        total.counts.len(),
        sum.vectors,
        sum.translated,
        sum.called,
        sum.left,
        sum.deferred,
        sum.never,
        sum.failures,
    );
    if let Some(path) = &options.report
        && let Err(error) = std::fs::write(path, page(options, &total.counts, &sum))
    {
        println!("cannot write {}: {error}", path.display());
        return false;
    }
    if !total.ended {
        println!("a process ended early");
    }
    total.ended && sum.failures == 0 && missed.is_empty() && sum.vectors > 0
}

/// The page that `--report` writes.
fn page(options: &Options, counts: &BTreeMap<String, Count>, sum: &Count) -> String {
    let mut page = format!(
        "# The hardware oracle, with translation forced\n\n\
         Generated by `cargo xtask oracle --jit --report`; do not edit.\n\n\
         Vectors of flat 32-bit code ([oracle.md](oracle.md)) on the wasm build in Node, every block translated at its \
         first execution: each encoding is one region, which {} states run through. *Translated* ran in code of the \
         translator's own only; *called* in a region that had the interpreter execute the instruction; *left* in a \
         region that left before it, for an exception or for the interpreter's slow path; *none* outside of regions. \
         Instructions that always run alone (far transfers, system instructions) are not run here.\n\n\
         **{} vectors over {} forms, seed {}, host `{}`: {} translated, {} called, {} left ({} without an exception), \
         {} none; {} mismatches.**\n\n",
        options.states,
        sum.vectors,
        counts.len(),
        options.seed,
        crate::native::processor(),
        sum.translated,
        sum.called,
        sum.left,
        sum.deferred,
        sum.never,
        sum.failures,
    );
    let mut table = |title: &str, wanted: fn(&Count) -> bool| {
        let _ = writeln!(
            page,
            "## {title}\n\n| Form | Vectors | Translated | Called | Left | None | Mismatches |\n|---|--:|--:|--:|--:|--:|--:|"
        );
        for (name, c) in counts.iter().filter(|(_, c)| wanted(c)) {
            let _ = writeln!(
                page,
                "| {name} | {} | {} | {} | {} | {} | {} |",
                c.vectors, c.translated, c.called, c.left, c.never, c.failures
            );
        }
        page.push('\n');
    };
    table("Forms with code of their own", |c| c.has_code > 0);
    table("Forms that are left to the interpreter", |c| c.has_code == 0);
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}
