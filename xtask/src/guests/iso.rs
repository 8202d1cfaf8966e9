//! Our own CD: an ISOLINUX menu that starts memtest86+ or one of our own guests, made with xorriso.
use crate::{apt, repo, run};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// The boot loader's parts: isolinux itself, its core library, and what its text menu needs.
const MODULES: [&str; 5] = ["ldlinux.c32", "menu.c32", "libutil.c32", "libcom32.c32", "reboot.c32"];

/// Writes the image.
pub fn make(cache: &Path, image: &Path) -> Result<()> {
    let isolinux = apt::unpack("isolinux", cache)?;
    let syslinux = apt::unpack("syslinux-common", cache)?;
    let memtest = apt::unpack("memtest86+:i386", cache)?;
    let work = cache.join("isolinux-cd.part");
    let _ = std::fs::remove_dir_all(&work);
    let copy = |from: &Path, name: &str| {
        let to = work.join("isolinux").join(name);
        std::fs::copy(from, to).with_context(|| format!("copying {}", from.display()))
    };
    std::fs::create_dir_all(work.join("isolinux"))?;
    copy(&isolinux.join("usr/lib/ISOLINUX/isolinux.bin"), "isolinux.bin")?;
    for module in MODULES {
        copy(&syslinux.join("usr/lib/syslinux/modules/bios").join(module), module)?;
    }
    copy(&syslinux.join("usr/lib/syslinux/memdisk"), "memdisk")?;
    copy(&memtest.join("boot/memtest86+ia32.bin"), "memtest")?;
    copy(&repo::path("guests/isolinux/isolinux.cfg"), "isolinux.cfg")?;
    let demo = repo::build("guests/hello.img");
    if demo.is_file() {
        copy(&demo, "hello.img")?;
    }
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-V", "TAB86", "-R", "-J", "-b", "isolinux/isolinux.bin"]);
    xorriso.args(["-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-o"]);
    // The same sources give the same image.
    xorriso.arg(image).arg(&work).env("SOURCE_DATE_EPOCH", "1704067200");
    run::quietly(&mut xorriso)?;
    std::fs::remove_dir_all(&work)?;
    Ok(())
}
