//! Bad input to `tab86 run`: each gets one clear sentence and exit status 2.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A fresh folder for one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad-input").join(name);
    fs::create_dir_all(&folder).expect("a scratch folder");
    folder
}

/// The one line that `tab86 run` says to these arguments.
fn refused(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_tab86-under-test"))
        .args(["run", "--timeout", "1", "--display", "none"])
        .args(args)
        .output()
        .expect("tab86 runs");
    let text = String::from_utf8_lossy(&out.stderr).trim_end().to_owned();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
    assert!(out.stdout.is_empty(), "{args:?}");
    assert!(text.starts_with("tab86: ") && text.lines().count() == 1, "{args:?}: {text}");
    text
}

fn sized(path: &Path, bytes: u64) -> String {
    File::create(path).and_then(|f| f.set_len(bytes)).expect("a file");
    path.to_string_lossy().into_owned()
}

/// A file with the header of a CD volume of `sectors`, cut to `bytes`.
fn cd(path: &Path, sectors: u32, bytes: u64) -> String {
    let mut image = vec![0; 17 * 2048];
    image[16 * 2048..16 * 2048 + 7].copy_from_slice(b"\x01CD001\x01");
    image[16 * 2048 + 80..][..4].copy_from_slice(&sectors.to_le_bytes());
    fs::write(path, image).expect("a file");
    File::options().write(true).open(path).and_then(|f| f.set_len(bytes)).expect("a file");
    path.to_string_lossy().into_owned()
}

/// The least that passes for a bzImage: boot protocol 2.15, one set-up sector, code loaded high.
fn kernel(path: &Path) -> String {
    let mut image = vec![0; 4096];
    image[0x1f1] = 1;
    image[0x1f4..][..4].copy_from_slice(&((4096_u32 - 1024) / 16).to_le_bytes());
    image[0x1fe..][..2].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..][..4].copy_from_slice(b"HdrS");
    image[0x206..][..2].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x211] = 1;
    image[0x22c..][..4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    image[0x238..][..4].copy_from_slice(&2047_u32.to_le_bytes());
    image[0x260..][..4].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    fs::write(path, image).expect("a file");
    path.to_string_lossy().into_owned()
}

#[test]
fn files_that_are_missing_or_empty_are_named() {
    let folder = scratch("files");
    let empty = sized(&folder.join("empty.img"), 0);
    for flag in ["--bios", "--vga-bios", "--kernel", "--initrd", "--multiboot", "--fda", "--hda", "--cdrom"] {
        let text = refused(&[flag, "nowhere.img"]);
        assert!(text.contains("cannot read nowhere.img: No such file"), "{flag}: {text}");
        let text = refused(&[flag, &empty]);
        assert!(text.contains("empty.img is empty"), "{flag}: {text}");
    }
    let text = refused(&["--hda", &folder.to_string_lossy()]);
    assert!(text.contains("directory"), "{text}");
}

#[test]
fn a_kernel_that_is_none_is_described() {
    let folder = scratch("kernel");
    let file = folder.join("picture.gz");
    fs::write(&file, b"\x1f\x8b\x08 and so on").unwrap();
    let file = file.to_string_lossy();
    let text = refused(&["--kernel", &file]);
    assert!(text.contains("picture.gz: this is not a Linux kernel"), "{text}");
    assert!(text.contains("gzip-compressed"), "{text}");
    let text = refused(&["--multiboot", &file]);
    assert!(text.contains("picture.gz: this is not a"), "{text}");
    let kernel = kernel(&folder.join("kernel"));
    let text = refused(&["--kernel", &kernel, "--multiboot", &kernel]);
    assert!(text.contains("either a kernel or a Multiboot image"), "{text}");
}

#[test]
fn an_initrd_larger_than_memory_is_refused() {
    let folder = scratch("initrd");
    let kernel = kernel(&folder.join("kernel"));
    let initrd = sized(&folder.join("initrd"), 48 << 20);
    let text = refused(&["--memory", "32", "--kernel", &kernel, "--initrd", &initrd]);
    assert!(text.contains("the initrd of 50331648 bytes does not fit"), "{text}");
}

#[test]
fn images_of_impossible_size_are_refused() {
    let folder = scratch("images");
    let odd = sized(&folder.join("odd.img"), 1_000_001);
    for flag in ["--fda", "--hda", "--cdrom"] {
        let text = refused(&[flag, &odd]);
        assert!(text.contains("odd.img") && text.contains("1000001 bytes, which is not a multiple"), "{flag}: {text}");
    }
    let large = sized(&folder.join("large.img"), 8 << 20);
    let text = refused(&["--fda", &large]);
    assert!(text.contains("large.img") && text.contains("2.88 MB"), "{text}");
    let cut = cd(&folder.join("cut.iso"), 5000, 40 * 2048);
    let text = refused(&["--cdrom", &cut]);
    assert!(text.contains("cut.iso is a truncated CD image: it should have 10240000 bytes and has 81920"), "{text}");
}

#[test]
fn impossible_machines_are_refused() {
    for (args, part) in [
        (["--memory", "0"], "0 bytes of memory are too little"),
        (["--memory", "65536"], "64 GiB of memory are too much"),
        (["--cpus", "0"], "0 CPUs"),
        (["--cpu", "z80"], "486, pentium, p3, p4 or nehalem, not `z80`"),
        (["--boot", "x"], "unknown boot device `x`"),
        (["--cpu", "x86-64"], "not possible yet"),
        (["--net", "relay=http://h/"], "`http://h/` is no relay's address"),
        (["--load-state", "no-such-file"], "cannot read no-such-file"),
        (["--type", "<F99>"], "there is no key <F99>"),
        (["--clock", "sundial"], "realtime or deterministic, not `sundial`"),
        (["--frob", "1"], "--frob"),
    ] {
        let text = refused(&args);
        assert!(text.contains(part), "{args:?}: {text}");
    }
    let text = refused(&["--net", "relay=wss://localhost/", "--net-ca", "no-such-file"]);
    assert!(text.contains("--net-ca no-such-file: No such file"), "{text}");
}

#[test]
fn outputs_that_cannot_be_written_are_named() {
    for flag in ["--screenshot", "--stats", "--screen-text", "--firmware-log"] {
        let text = refused(&["--max-instructions", "1000", flag, "nowhere/out"]);
        assert!(text.contains("cannot write nowhere/out"), "{flag}: {text}");
    }
}
