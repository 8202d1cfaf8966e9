//! Runs every `tests/guests/NAME/test.toml`: a few runs of `tab86` and what must come of them.
//!
//! ```toml
//! about = "What the test shows."
//! known_failure = false      # true: the test must fail; it fails when it starts to pass
//! same = ["ram_hash"]        # figures of --stats that must be equal in all runs
//!
//! [[blank]]                  # files of zeros to make first
//! name = "disk.img"
//! mib = 32
//!
//! [[run]]
//! args = ["--fda", "{guest}/hello.img", "--hda", "{scratch}/disk.img", "--until-serial", "hello: ready"]
//! exit = 0                   # exit status
//! prepares = false           # true: only for the runs behind it, its figures are not compared
//! stdout = ["…"]             # each must occur, here in what the run printed,
//! stderr = ["…"]             # here in what it complained about,
//! screen = ["…"]             # here on the text screen at its end
//! ```
//! A test whose guest images are missing is ignored and says what would provide them.

use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// Seconds after which a run that has no `--timeout` is given up.
const TIMEOUT: &str = "300";
const GUEST: &str = "{guest}/";
const SCRATCH: &str = "{scratch}";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    about: String,
    #[serde(default)]
    known_failure: bool,
    #[serde(default)]
    same: Vec<String>,
    #[serde(default)]
    blank: Vec<Blank>,
    run: Vec<Run>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Blank {
    name: String,
    mib: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    args: Vec<String>,
    #[serde(default)]
    exit: i32,
    #[serde(default)]
    prepares: bool,
    #[serde(default)]
    stdout: Vec<String>,
    #[serde(default)]
    stderr: Vec<String>,
    #[serde(default)]
    screen: Vec<String>,
}

fn main() -> ExitCode {
    let mut folders: Vec<PathBuf> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/guests"))
        .expect("the tests' folder")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("test.toml").is_file())
        .collect();
    folders.sort();
    libtest_mimic::run(&Arguments::from_args(), folders.iter().map(|folder| trial(folder)).collect()).exit_code()
}

fn trial(folder: &Path) -> Trial {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = fs::read_to_string(folder.join("test.toml")).unwrap_or_default();
    let test: Test = match toml::from_str(&text) {
        Ok(test) => test,
        Err(e) => return Trial::test(name, move || Err(Failed::from(format!("test.toml: {e}")))),
    };
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    fs::create_dir_all(&scratch).expect("a scratch folder");
    match resolve(&test, &scratch) {
        Ok(test) => Trial::test(name, move || check(&test, &scratch)),
        Err(why) => {
            eprintln!("{name} is ignored: {why}");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    }
}

/// Puts real paths in place of `{guest}` and `{scratch}`.
fn resolve(test: &Test, scratch: &Path) -> Result<Test, String> {
    let mut test = test.clone();
    for arg in test.run.iter_mut().flat_map(|run| &mut run.args) {
        *arg = arg.replace(SCRATCH, &scratch.to_string_lossy());
        if let Some(file) = arg.strip_prefix(GUEST) {
            let (file, suffix) = file.split_once(',').map_or((file, String::new()), |(f, s)| (f, format!(",{s}")));
            *arg = tab86_tests::guest(file, scratch)?.to_string_lossy().into_owned() + &suffix;
        }
    }
    Ok(test)
}

fn check(test: &Test, scratch: &Path) -> Result<(), Failed> {
    match (perform(test, scratch), test.known_failure) {
        (Ok(()), false) | (Err(_), true) => Ok(()),
        (Ok(()), true) => Err("a known failure passes now: take `known_failure` out".into()),
        (Err(why), false) => Err(format!("{}\n{why}", test.about).into()),
    }
}

fn perform(test: &Test, scratch: &Path) -> Result<(), String> {
    for blank in &test.blank {
        let file = fs::File::create(scratch.join(&blank.name)).and_then(|f| f.set_len(blank.mib << 20));
        file.map_err(|e| format!("cannot make {}: {e}", blank.name))?;
    }
    let mut figures: Option<Vec<serde_json::Value>> = None;
    for run in &test.run {
        let stats = run_once(run, scratch)?;
        if run.prepares {
            continue;
        }
        let these: Vec<_> = test.same.iter().map(|name| stats[name].clone()).collect();
        match &figures {
            Some(first) if *first != these => {
                return Err(format!("{:?} differ between runs: {first:?} and {these:?}", test.same));
            }
            _ => figures = Some(these),
        }
    }
    Ok(())
}

fn run_once(run: &Run, scratch: &Path) -> Result<serde_json::Value, String> {
    let (screen, stats) = (scratch.join("screen.txt"), scratch.join("stats.json"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tab86-under-test"));
    // Before the first step: taken when the run ends.
    command.arg("run").arg("--screen-text").arg(&screen).arg("--stats").arg(&stats).args(["--timeout", TIMEOUT]);
    let out = command.args(&run.args).stdin(Stdio::null()).output().map_err(|e| format!("cannot run tab86: {e}"))?;
    let stdout = String::from_utf8_lossy(&out.stdout);
    let stderr = String::from_utf8_lossy(&out.stderr);
    let screen = fs::read_to_string(&screen).unwrap_or_default();
    let story = || {
        let tail = |text: &str| text.chars().rev().take(2000).collect::<Vec<_>>().iter().rev().collect::<String>();
        format!("args: {:?}\nstdout: …{}\nstderr: {stderr}\nscreen:\n{screen}", run.args, tail(&stdout))
    };
    if out.status.code() != Some(run.exit) {
        return Err(format!("exit status {:?}, not {}\n{}", out.status.code(), run.exit, story()));
    }
    for (where_, text, wanted) in
        [("stdout", &*stdout, &run.stdout), ("stderr", &*stderr, &run.stderr), ("the screen", &*screen, &run.screen)]
    {
        if let Some(missing) = wanted.iter().find(|w| !text.contains(w.as_str())) {
            return Err(format!("{missing:?} is not in {where_}\n{}", story()));
        }
    }
    let stats = fs::read_to_string(&stats).map_err(|e| format!("no --stats: {e}"))?;
    serde_json::from_str(&stats).map_err(|e| format!("--stats is no JSON: {e}"))
}
