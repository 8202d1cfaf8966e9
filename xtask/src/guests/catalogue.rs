//! The guests: what they are called, where they come from and what they want of the machine.
use crate::repo;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// The guest that the page boots by one click.
pub const DEFAULT: &str = "debian";

/// Part of the kernel command line of both Debian guests: messages on screen and serial port, no probing for
/// hardware bugs that an emulator hasn't got.
const LINUX: &str = "console=tty0 console=ttyS0 mitigations=off tsc=reliable cryptomgr.notests";

/// A guest.
pub struct Guest {
    /// Short and unique: `?guest=NAME`.
    pub name: String,
    /// For the list in the page.
    pub title: String,
    /// One sentence for the list in the page.
    pub description: String,
    /// `linux` (kernel and initrd), `floppy`, `cdrom` or `disk`.
    pub kind: &'static str,
    /// Roles (as `VmOptions` names them: kernel, initrd, fda, cdrom, hda) and file names below `build/guests/`.
    pub files: Vec<(&'static str, String)>,
    /// The kernel's command line, if it takes one.
    pub cmdline: String,
    /// `VmOptions.bootOrder`: QEMU's letters (a floppy, c disk, d CD); empty where a kernel is loaded directly.
    pub boot_order: &'static str,
    /// RAM in MiB that it runs well with.
    pub memory_mib: u32,
    /// What the text screen shows once it is up; empty for a guest in graphics mode.
    pub ready: &'static str,
    /// How it is made.
    pub recipe: Recipe,
}

/// How a guest is made.
pub enum Recipe {
    /// A kernel package and our own initramfs.
    Debian { meta: &'static str },
    /// The initramfs of the Debian guest with GDB behind it.
    DebianGdb,
    /// Files as they lie in one package: role and path inside.
    Package { package: &'static str, members: Vec<(&'static str, &'static str)> },
    /// Our own CD.
    Isolinux,
    /// One of our own guests.
    Assembly { source: PathBuf },
}

impl Recipe {
    /// Whether it takes something from Debian.
    pub fn needs_packages(&self) -> bool {
        !matches!(self, Recipe::Assembly { .. })
    }

    /// Whether it is for one test only: made when it is named, or with `TAB86_ALL_GUESTS`, and not listed in the page.
    pub fn on_request(&self) -> bool {
        matches!(self, Recipe::DebianGdb)
    }

    /// The files of this checkout that it depends on.
    pub fn sources(&self) -> Vec<PathBuf> {
        match self {
            Recipe::Debian { .. } => files_of(&repo::path("guests/debian")),
            Recipe::Isolinux => {
                [files_of(&repo::path("guests/isolinux")), vec![repo::build("guests/hello.img")]].concat()
            }
            Recipe::Assembly { source } => files_of(source.parent().unwrap_or(source)),
            Recipe::DebianGdb => vec![repo::build("guests/debian-initrd.gz")],
            Recipe::Package { .. } => Vec::new(),
        }
    }
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()).map(|entry| entry.path()).collect()
}

/// All guests: our own first, because others are made with them.
pub fn all() -> Result<Vec<Guest>> {
    let mut guests = own()?;
    guests.extend(fetched());
    Ok(guests)
}

/// Every `guests/NAME/*.asm` that is named as its folder (or is alone in it).
fn own() -> Result<Vec<Guest>> {
    let mut folders = files_of(&repo::path("guests"));
    folders.retain(|path| path.is_dir());
    folders.sort();
    let mut guests = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut sources = files_of(&folder);
        sources.retain(|path| path.extension().is_some_and(|e| e == "asm"));
        sources.sort();
        let named = sources.iter().find(|path| path.file_stem().is_some_and(|stem| stem == name.as_str()));
        let source = match (named, sources.as_slice()) {
            (Some(source), _) | (None, [source]) => source.clone(),
            _ => continue,
        };
        let (title, description) = match name.as_str() {
            "hello" => ("Hello", "A boot sector in real mode: prints a greeting and echoes the keys."),
            "mode13" => ("Mode 13h", "A boot sector that animates all 256 colours of VGA mode 13h."),
            "protected" => ("Protected mode", "Paging, an interrupt table and a timer tick, in one page of assembly."),
            _ => (name.as_str(), "One of tab86's own guests."),
        };
        guests.push(Guest {
            title: title.to_owned(),
            description: description.to_owned(),
            kind: "floppy",
            files: vec![("fda", format!("{name}.img"))],
            cmdline: String::new(),
            boot_order: "a",
            memory_mib: 16,
            ready: "",
            recipe: Recipe::Assembly { source },
            name,
        });
    }
    Ok(guests)
}

fn fetched() -> Vec<Guest> {
    const INSTALLER: &str = "debian-installer-12-netboot-i386";
    vec![
        linux(
            "debian",
            "Debian Linux",
            "Debian's stock 32-bit kernel and BusyBox, to a shell on the screen and the serial port.",
            LINUX,
            256,
            Recipe::Debian { meta: "linux-image-686" },
        ),
        linux(
            "debian-pae",
            "Debian Linux, PAE",
            "The same with the SMP kernel that uses PAE and the local APIC.",
            LINUX,
            256,
            Recipe::Debian { meta: "linux-image-686-pae" },
        ),
        Guest {
            name: "debian-gdb".to_owned(),
            title: "Debian Linux with GDB".to_owned(),
            description: "The initramfs of the Debian guest with Debian's GDB, for a test.".to_owned(),
            kind: "linux",
            files: vec![("initrd", "debian-gdb-initrd.gz".to_owned())],
            cmdline: LINUX.to_owned(),
            boot_order: "",
            memory_mib: 256,
            ready: "",
            recipe: Recipe::DebianGdb,
        },
        disk(
            "memtest",
            "memtest86+",
            "Tests the machine's memory.",
            "cdrom",
            "memtest.iso",
            64,
            Recipe::Package {
                package: "memtest86+:i386",
                members: vec![("cdrom", "usr/lib/memtest86+/memtest86+ia32.iso")],
            },
        ),
        disk(
            "grub-floppy",
            "GRUB rescue floppy",
            "GRUB from a floppy disk: press C for its command line and try `ls`.",
            "floppy",
            "grub-floppy.img",
            64,
            Recipe::Package {
                package: "grub-rescue-pc:i386",
                members: vec![("fda", "usr/lib/grub-rescue/grub-rescue-floppy.img")],
            },
        ),
        disk(
            "grub-cd",
            "GRUB rescue CD",
            "GRUB from a CD: press C for its command line and try `ls`.",
            "cdrom",
            "grub-cd.iso",
            64,
            Recipe::Package {
                package: "grub-rescue-pc:i386",
                members: vec![("cdrom", "usr/lib/grub-rescue/grub-rescue-cdrom.iso")],
            },
        ),
        disk(
            "isolinux",
            "ISOLINUX menu",
            "A CD with a boot menu: memtest86+ or a floppy image from memory.",
            "cdrom",
            "isolinux.iso",
            64,
            Recipe::Isolinux,
        ),
        disk(
            "ipxe",
            "iPXE",
            "A network boot loader with a shell (Ctrl-B).",
            "cdrom",
            "ipxe.iso",
            64,
            Recipe::Package { package: "ipxe", members: vec![("cdrom", "usr/lib/ipxe/ipxe.iso")] },
        ),
        linux(
            "d-i-text",
            "Debian installer, text",
            "The installer of Debian 12 in text mode.",
            // nomodeset keeps the kernel's driver for the display adapter out: dialogs stay in text mode.
            "vga=normal fb=false nomodeset mitigations=off tsc=reliable cryptomgr.notests",
            512,
            Recipe::Package {
                package: INSTALLER,
                members: vec![
                    ("kernel", "usr/lib/debian-installer/images/12/i386/text/debian-installer/i386/linux"),
                    ("initrd", "usr/lib/debian-installer/images/12/i386/text/debian-installer/i386/initrd.gz"),
                ],
            },
        ),
        linux(
            "d-i-gtk",
            "Debian installer, graphical",
            "The graphical installer of Debian 12, with the mouse.",
            "vga=788 mitigations=off tsc=reliable cryptomgr.notests",
            768,
            Recipe::Package {
                package: INSTALLER,
                members: vec![
                    ("kernel", "usr/lib/debian-installer/images/12/i386/gtk/debian-installer/i386/linux"),
                    ("initrd", "usr/lib/debian-installer/images/12/i386/gtk/debian-installer/i386/initrd.gz"),
                ],
            },
        ),
    ]
}

/// Words on the screen of a fetched guest that has come up.
fn ready(name: &str) -> &'static str {
    match name {
        "debian" | "debian-pae" => "READY",
        "memtest" => "Errors: 0",
        "grub-floppy" | "grub-cd" => "GNU GRUB",
        "isolinux" => "a CD with a boot menu",
        "ipxe" => "Press Ctrl-B",
        "d-i-text" => "Select a language",
        _ => "",
    }
}

fn linux(name: &str, title: &str, description: &str, cmdline: &str, memory_mib: u32, recipe: Recipe) -> Guest {
    Guest {
        name: name.to_owned(),
        title: title.to_owned(),
        description: description.to_owned(),
        kind: "linux",
        files: vec![("kernel", format!("{name}-vmlinuz")), ("initrd", format!("{name}-initrd.gz"))],
        cmdline: cmdline.to_owned(),
        boot_order: "",
        memory_mib,
        ready: ready(name),
        recipe,
    }
}

fn disk(
    name: &str,
    title: &str,
    description: &str,
    kind: &'static str,
    file: &str,
    memory_mib: u32,
    recipe: Recipe,
) -> Guest {
    let (role, boot_order) = if kind == "floppy" { ("fda", "a") } else { ("cdrom", "d") };
    Guest {
        name: name.to_owned(),
        title: title.to_owned(),
        description: description.to_owned(),
        kind,
        files: vec![(role, file.to_owned())],
        cmdline: String::new(),
        boot_order,
        memory_mib,
        ready: ready(name),
        recipe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files_are_unique_and_the_default_is_there() {
        let guests = all().unwrap();
        let mut names: Vec<&String> = guests.iter().map(|g| &g.name).collect();
        names.extend(guests.iter().flat_map(|g| g.files.iter().map(|(_, file)| file)));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(guests.iter().any(|g| g.name == DEFAULT));
    }
}
