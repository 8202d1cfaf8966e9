//! `tab86 vectors`: instructions captured from hardware. The sample lies beside the checkout, not in it.

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The sample that this repository's figures are about.
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/sst286-visible.sst.gz");

fn main() -> ExitCode {
    let sample = Path::new(SAMPLE);
    if !sample.is_file() {
        eprintln!("the captured sample is skipped: ../shared/vectors/sst286-visible.sst.gz is not there");
    }
    let trials = vec![
        Trial::test("all_tests_of_the_sample_that_must_hold_do", whole_sample).with_ignored_flag(!sample.is_file()),
        Trial::test("a_failing_vector_is_shown_and_ends_with_status_1", failing_vector),
        Trial::test("a_damaged_file_is_refused_with_status_2", damaged_file),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Exit status and standard output of `tab86 vectors`.
fn vectors(file: &Path, more: &[&str]) -> (Option<i32>, String) {
    let program = env!("CARGO_BIN_EXE_tab86-under-test");
    let out = Command::new(program).arg("vectors").arg(file).args(more).output().expect("tab86 runs");
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned())
}

fn expect(holds: bool, what: &str, text: &str) -> Result<(), Failed> {
    let tail: Vec<&str> = text.lines().rev().take(12).collect();
    if holds { Ok(()) } else { Err(Failed::from(format!("{what}; its last lines, backwards: {tail:#?}"))) }
}

fn whole_sample() -> Result<(), Failed> {
    let (status, text) = vectors(Path::new(SAMPLE), &["--exclusions"]);
    expect(status == Some(0), "it fails", &text)?;
    expect(text.ends_with("62353 passed, 0 failed, 2565 excluded\n"), "other counts", &text)?;
    // Each test that is left out has a reason, and they are reasons that the format documents.
    let left_out: Vec<&str> = text.lines().filter(|line| line.starts_with("LEFT OUT ")).collect();
    expect(left_out.len() == 2565, "exclusions that are not listed", &text)?;
    let explained = left_out.iter().all(|line| line.contains(": ") && !line.contains("unknown class"));
    expect(explained, "an exclusion without a reason", &text)
}

/// A file with one test: INC AX with AX = 1, which is said to end as `ax`.
fn one_test(name: &str, ax: u16) -> PathBuf {
    let registers = |ax: u16, ip: u16| {
        let mut list = [0u16; 14];
        // ax bx cx dx cs ss ds es sp bp si di ip flags
        (list[0], list[4], list[8], list[12], list[13]) = (ax, 0x1000, 0x800, ip, 2);
        list.iter().flat_map(|r| r.to_le_bytes()).collect::<Vec<u8>>()
    };
    let mut test = Vec::new();
    test.extend(7u32.to_le_bytes());
    test.extend([0xab; 8]);
    test.extend([0, 0]);
    test.extend(0u32.to_le_bytes());
    test.extend(0xfffu16.to_le_bytes());
    test.extend(0u16.to_le_bytes());
    test.extend([2, 0x40, 0xf4]);
    test.extend([6]);
    test.extend(b"inc ax");
    test.extend(registers(1, 0));
    test.extend(registers(ax, 2));
    test.extend(1u16.to_le_bytes());
    test.extend(0x1_0000u32.to_le_bytes());
    test.extend([2, 0x40, 0xf4]);
    test.extend(0u16.to_le_bytes());
    let mut file = b"X86SST1\0".to_vec();
    for word in [286u32, 14, 1] {
        file.extend(word.to_le_bytes());
    }
    file.extend([2]);
    file.extend(b"40");
    file.extend(0xffffu16.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend((test.len() as u32 + 4).to_le_bytes());
    file.extend((test.len() as u32).to_le_bytes());
    file.extend(test);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, file).expect("a scratch file");
    path
}

fn failing_vector() -> Result<(), Failed> {
    let (status, text) = vectors(&one_test("right.sst", 2), &[]);
    expect(status == Some(0) && text.contains("1 passed, 0 failed"), "a right vector fails", &text)?;
    let (status, text) = vectors(&one_test("wrong.sst", 3), &[]);
    let shown = text.lines().any(|line| line.starts_with("FAIL 40 #7 abab") && line.contains("eax=2 want 3"));
    expect(status == Some(1) && shown, "a wrong vector is not shown", &text)
}

fn damaged_file() -> Result<(), Failed> {
    let whole = std::fs::read(one_test("whole.sst", 2)).expect("just written");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damaged.sst");
    for length in [0, 7, 30, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("a scratch file");
        let (status, text) = vectors(&path, &[]);
        expect(status == Some(2) && text.is_empty(), &format!("{length} bytes are not refused"), &text)?;
    }
    Ok(())
}
