//! Snapshots: the whole state of a machine in one file, and back.
//!
//! ```text
//! tab86 snapshot 1            a header of lines that a person can read without the rest:
//! memory: 67108864            the options that the machine must be made with to take the state,
//! …                           then what it was doing
//! (empty line)
//! sections                    tag (4 bytes), version (u16), 0 (u16), bytes (u64), then the bytes
//! "END ", CRC-32 (u32)        of everything before it
//! ```
//!
//! Numbers are little-endian. State sections are JSON (fields can be added with defaults, so that old snapshots stay
//! readable), memory and written sectors are binary; all of them are deflated. Zero pages are left out. Host handles
//! (images, files) and caches (TLBs, decoded code, drawn rows) are not part of it: a snapshot is loaded into a machine
//! that was made with the same options, and caches begin empty on both sides of it.

mod blocks;
mod container;
mod state;

use super::Machine;
use crate::cpu::cache::CodeCache;
use container::{Reader, Writer};
use thiserror::Error;

/// Why a snapshot cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StateError {
    /// Not a snapshot at all.
    #[error("this is no snapshot of tab86")]
    NotASnapshot,
    /// Written by a later version.
    #[error("the snapshot has format {found} of part {part}, and this version reads up to {known}: use a newer tab86")]
    TooNew {
        /// Which part.
        part: String,
        /// Its version.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// The end is missing, or bytes changed.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// The machine was made with other options.
    #[error("the snapshot was made with {option}: {saved}, but this machine has {found}")]
    OtherOptions {
        /// The option.
        option: String,
        /// Its value when the snapshot was made.
        saved: String,
        /// Its value now.
        found: String,
    },
    /// The state itself makes no sense.
    #[error("the snapshot's {part} cannot be used: {why}")]
    Invalid {
        /// Which part.
        part: String,
        /// What is wrong with it.
        why: String,
    },
}

impl StateError {
    /// A stable short name, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotASnapshot | Self::Damaged(_) | Self::Invalid { .. } => "bad-state",
            Self::TooNew { .. } => "state-too-new",
            Self::OtherOptions { .. } => "state-of-other-options",
        }
    }

    fn invalid(part: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Invalid { part: part.into(), why: why.to_string() }
    }
}

impl Machine {
    /// The machine's whole state. It goes on from here, and a machine that loads the state does the same to the
    /// instruction and byte.
    pub fn save_state(&mut self) -> Vec<u8> {
        self.forget_caches();
        let mut out = Writer::new(self.option_lines(), self.status_lines());
        self.write_state(&mut out);
        blocks::write(self, &mut out);
        out.finish()
    }

    /// Takes over a state that a machine with the same options was saved with. After an error the machine is as it
    /// was.
    ///
    /// # Errors
    /// When the bytes are no snapshot, are damaged, or come from a machine with other options.
    pub fn load_state(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let reader = Reader::open(bytes)?;
        reader.check_options(&self.option_lines())?;
        let state = self.read_state(&reader)?;
        let blocks = blocks::read(self, &reader)?;
        self.apply_state(state);
        blocks.apply(self);
        self.forget_caches();
        Ok(())
    }

    /// Caches of either side of a snapshot start empty, so that both sides fill them alike.
    fn forget_caches(&mut self) {
        self.code = CodeCache::default();
        self.board.mem.forget_code();
        for cpu in &mut self.cpus {
            cpu.tlb.flush_all();
        }
    }
}
