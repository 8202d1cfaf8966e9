//! Writing an initramfs: the "newc" format of cpio. Spec: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
use flate2::{Compression, GzBuilder};
use std::io::{self, Write};

/// An archive in the making. Owner 0, time 0 and running inode numbers: the same input gives the same bytes.
#[derive(Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

const FOLDER: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;
const FILE: u32 = 0o100_000;
const CHAR_DEVICE: u32 = 0o020_600;

impl Cpio {
    /// Adds a folder; its parents must have been added before.
    pub fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER, &[], (0, 0));
    }

    /// Adds a file with the given permission bits.
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.entry(name, FILE | permissions, content, (0, 0));
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) {
        self.entry(name, SYMLINK, target.as_bytes(), (0, 0));
    }

    /// Adds a character device with its major and minor numbers.
    pub fn char_device(&mut self, name: &str, device: (u32, u32)) {
        self.entry(name, CHAR_DEVICE, &[], device);
    }

    /// Ends the archive and compresses it.
    pub fn finish_gzipped(mut self) -> io::Result<Vec<u8>> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
        gzip.write_all(&self.bytes)?;
        gzip.finish()
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], (major, minor): (u32, u32)) {
        self.inode += 1;
        let links = if mode == FOLDER { 2 } else { 1 };
        let fields =
            [self.inode, mode, 0, 0, links, 0, content.len() as u32, 0, 0, major, minor, name.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_carry_their_sizes() {
        let mut cpio = Cpio::default();
        cpio.file("init", 0o755, b"hello");
        assert_eq!(cpio.bytes.len() % 4, 0);
        assert!(cpio.bytes.starts_with(b"07070100000001000081ED"));
        let at = 110 + "init\0".len() + 1;
        assert_eq!(&cpio.bytes[at..at + 5], b"hello");
    }
}
