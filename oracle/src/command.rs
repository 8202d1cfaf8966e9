//! The command line: a parent that starts workers and adds up what they say, and the worker.

use crate::bench::Bench;
use crate::forms::{self, Form};
use crate::generate::generate;
use crate::records;
use crate::report::{Total, report};
use crate::rng::Rng;
use crate::sample;
use crate::text;
use clap::Parser;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Compares the core with the host's processor.
#[derive(Parser, Debug, Clone)]
pub struct Options {
    /// Vectors to run
    #[arg(long, default_value_t = 2_000_000)]
    pub(crate) vectors: u64,
    /// Seed: the same gives the same vectors
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Only forms whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Worker processes
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: u32,
    /// Failures to show for each form
    #[arg(long, default_value_t = 1)]
    keep: u32,
    /// Run one vector, given as a failure prints it
    #[arg(long)]
    reproduce: Option<String>,
    /// Write the table of forms and masks here, as Markdown
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Run what the host does on the core with translation forced: on this wasm program of the oracle, in Node
    #[arg(long, value_name = "MODULE")]
    jit: Option<PathBuf>,
    /// With `--jit`: states on which each encoding runs
    #[arg(long, default_value_t = 48)]
    pub(crate) states: u32,
    /// The worker writes records for `--jit`
    #[arg(long, hide = true)]
    records: bool,
    /// Write a new sample here: a vector of each form
    #[arg(long, value_name = "FILE")]
    write_sample: Option<PathBuf>,
    /// List the forms
    #[arg(long)]
    list: bool,
    /// This process is worker N of `--threads`
    #[arg(long, hide = true)]
    worker: Option<u32>,
    /// The worker prints each vector before it runs it
    #[arg(long, hide = true)]
    trace: bool,
    /// The worker begins here
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) from: u64,
}

/// What came of a form.
#[derive(Debug, Default, Clone, Copy)]
pub struct Count {
    /// Vectors that ran.
    pub vectors: u64,
    /// Vectors that differed.
    pub failures: u64,
    /// Vectors that raised an exception.
    pub raised: u64,
    /// Sum of hashes of what is compared.
    pub hash: u64,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.vectors += other.vectors;
        self.failures += other.failures;
        self.raised += other.raised;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// Vectors that share an encoding's form and fill of the data pages.
const BATCH: u64 = 32;

/// Runs the command.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let code = if let (Some(module), Some(line)) = (&options.jit, &options.reproduce) {
        records::reproduce(module, line)
    } else if let Some(line) = &options.reproduce {
        reproduce(line)
    } else if let Some(path) = &options.write_sample {
        write_sample(&options, path)
    } else if options.list {
        for form in all_forms(&options) {
            println!("{}", form.name);
        }
        true
    } else if let (Some(n), true) = (options.worker, options.records) {
        records::write(&options, n)
    } else if let Some(n) = options.worker {
        worker(&options, n)
    } else if let Some(module) = &options.jit {
        records::parent(&options, module)
    } else {
        parent(&options)
    };
    if code { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bench() -> Option<Bench> {
    match Bench::new() {
        Ok(bench) => Some(bench),
        Err(why) => {
            println!("skipped: {}", why.0);
            None
        }
    }
}

fn reproduce(line: &str) -> bool {
    let vector = match text::parse(line) {
        Ok(vector) => vector,
        Err(word) => {
            eprintln!("cannot read `{word}`");
            return false;
        }
    };
    let Some(mut bench) = bench() else { return true };
    println!("{:x?}", bench.native(&vector));
    let different = bench.check(&vector);
    println!("{}", if different.is_empty() { "equal" } else { &different });
    different.is_empty()
}

/// Makes the sample anew.
fn write_sample(options: &Options, path: &Path) -> bool {
    let Some(mut bench) = bench() else { return true };
    let mut lines = String::new();
    for (n, form) in all_forms(options).iter().enumerate() {
        let mut rng = Rng::new(options.seed << 32 | n as u64);
        let mut candidates = (0..400).filter_map(|_| generate(form, 1, &mut rng));
        // One that retires, if there is any.
        let retiring = candidates.by_ref().take(30).find(|v| bench.native(v).exception.is_none());
        let Some(vector) = retiring.or_else(|| candidates.next()) else { continue };
        if let Some(record) = bench.record(&vector) {
            lines += &format!("{}\t{record}\n", form.name);
        }
    }
    let written = sample::pack(&lines).and_then(|bytes| std::fs::write(path, bytes));
    println!("{} records: {written:?}", lines.lines().count());
    written.is_ok()
}

/// All forms, those of 16-bit code after those of 32-bit code.
pub(crate) fn all_forms(options: &Options) -> Vec<Form> {
    let mut forms = forms::enumerate(true).0;
    let mut small = forms::enumerate(false).0;
    for form in &mut small {
        form.name = format!("16: {}", form.name);
    }
    forms.extend(small);
    if let Some(only) = &options.only {
        forms.retain(|f| f.name.contains(only.as_str()));
    }
    forms
}

/// Runs every `threads`-th batch; writes `P batch`, `F form text` and at the end `C form vectors failures` lines.
fn worker(options: &Options, n: u32) -> bool {
    let Some(mut bench) = bench() else { return true };
    let forms = all_forms(options);
    if forms.is_empty() {
        return true;
    }
    let batches = options.vectors.div_ceil(BATCH);
    // A run can be anything: as many vectors as many forms.
    let weight = |form: &Form| if form.run.is_some() { 20 } else { 1 };
    let schedule: Vec<usize> =
        forms.iter().enumerate().flat_map(|(n, form)| std::iter::repeat_n(n, weight(form))).collect();
    let mut counts = vec![Count::default(); forms.len()];
    let mut out = std::io::stdout().lock();
    let mut batch = options.from + u64::from(n);
    while batch < batches {
        let which = schedule[(batch % schedule.len() as u64) as usize];
        let form = &forms[which];
        let mut rng = Rng::new(options.seed.wrapping_mul(0x1_0000_0001).wrapping_add(batch));
        let fill = rng.bits() >> 32 | 1;
        if (batch / u64::from(options.threads)).is_multiple_of(256) {
            let _ = writeln!(out, "P {batch}");
            let _ = out.flush();
        }
        for _ in 0..BATCH {
            let Some(vector) = (0..40).find_map(|_| generate(form, fill, &mut rng)) else { break };
            if options.trace {
                let _ = writeln!(out, "T {}", text::print(&vector));
                let _ = out.flush();
            }
            let count = &mut counts[which];
            count.vectors += 1;
            let checked = bench.compare(&vector);
            count.raised += u64::from(checked.raised);
            count.hash = count.hash.wrapping_add(checked.hash);
            if !checked.different.is_empty() {
                count.failures += 1;
                if count.failures <= u64::from(options.keep) {
                    let small = bench.shrink(&vector);
                    let different = bench.check(&small);
                    let _ = writeln!(out, "F {}: {different}\n   --reproduce '{}'", form.name, text::print(&small));
                }
            }
        }
        batch += u64::from(options.threads);
    }
    for (form, c) in forms.iter().zip(&counts) {
        let mnemonic = if form.run.is_some() { "run".into() } else { format!("{:?}", form.mnemonic) };
        let numbers = format!("{} {} {} {}", c.vectors, c.failures, c.raised, c.hash);
        let _ = writeln!(out, "C {numbers} {mnemonic} {}", form.name);
    }
    true
}

pub(crate) fn worker_command(options: &Options, n: u32) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "tab86-oracle".into()));
    let number = |name: &str, v: u64| [format!("--{name}"), v.to_string()];
    command.args(number("worker", n.into()));
    command.args(number("vectors", options.vectors));
    command.args(number("seed", options.seed));
    command.args(number("threads", options.threads.into()));
    command.args(number("keep", options.keep.into()));
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    command.stdout(Stdio::piped()).stdin(Stdio::null());
    command
}

/// What a worker said.
#[derive(Default)]
struct Said {
    /// By mnemonic and form.
    counts: BTreeMap<(String, String), Count>,
    failures: Vec<String>,
    crash: Option<String>,
}

fn follow(options: &Options, n: u32) -> std::io::Result<Said> {
    let mut child = worker_command(options, n).spawn()?;
    let mut said = Said::default();
    let mut last = 0;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if let Some(batch) = line.strip_prefix("P ") {
                last = batch.parse().unwrap_or(last);
            } else if let Some(count) = line.strip_prefix("C ") {
                let mut parts = count.splitn(6, ' ');
                let mut number = || parts.next().and_then(|p| p.parse::<u64>().ok()).unwrap_or(0);
                let count = Count { vectors: number(), failures: number(), raised: number(), hash: number() };
                let mut word = || parts.next().unwrap_or_default().to_owned();
                said.counts.entry((word(), word())).or_default().add(count);
            } else {
                said.failures.push(line);
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        said.crash = Some(format!("worker {n} ended with {status} behind batch {last}: {}", trace(options, n, last)));
    }
    Ok(said)
}

/// Runs a worker again from a batch on; the vector that it died in.
fn trace(options: &Options, n: u32, batch: u64) -> String {
    let mut command = worker_command(options, n);
    command.args(["--trace", "--from", &(batch.saturating_sub(n.into())).to_string()]);
    let mut last = String::from("not again");
    if let Ok(mut child) = command.spawn() {
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(text) = line.strip_prefix("T ") {
                    last = format!("--reproduce '{text}'");
                }
            }
        }
        let _ = child.wait();
    }
    last
}

fn parent(options: &Options) -> bool {
    let start = Instant::now();
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads.max(1)).map(|n| scope.spawn(move || follow(options, n))).collect();
        threads.into_iter().map(|t| t.join()).collect()
    });
    let mut total = Said::default();
    for result in results {
        match result {
            Ok(Ok(said)) => {
                for (name, count) in said.counts {
                    total.counts.entry(name).or_default().add(count);
                }
                total.failures.extend(said.failures);
                total.crash = total.crash.or(said.crash);
            }
            _ => total.crash = Some("a worker could not be started".into()),
        }
    }
    for line in &total.failures {
        println!("{line}");
    }
    if let Some(crash) = &total.crash {
        println!("CRASH {crash}");
    }
    let mut sum = Count::default();
    total.counts.values().for_each(|c| sum.add(*c));
    let failing = total.counts.values().filter(|c| c.failures != 0).count();
    let idle = total.counts.values().filter(|c| c.vectors == 0).count();
    let rate = sum.vectors as f64 / start.elapsed().as_secs_f64();
    let host = crate::native::processor();
    println!(
        "{} forms ({idle} without vectors), {} vectors, {} mismatches in {failing} forms, {rate:.0} vectors/s, \
         hash {:016x}, host {host}",
        total.counts.len(),
        sum.vectors,
        sum.failures,
        sum.hash,
    );
    if let Some(path) = &options.report {
        let text = report(&total.counts, &Total { sum, seed: options.seed, host });
        if let Err(error) = std::fs::write(path, text) {
            println!("cannot write {}: {error}", path.display());
            return false;
        }
    }
    sum.failures == 0 && total.crash.is_none()
}
