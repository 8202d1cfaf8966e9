//! What a run leaves behind: pictures, text, figures.

use crate::args::Sink;
use emulator_core::devices::vga::render::Picture;
use emulator_core::machine::{Machine, Traffic};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// A file that cannot be written.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The system refused.
    #[error("cannot write {0}: {1}")]
    Write(String, io::Error),
    /// The picture could not be encoded.
    #[error("cannot write {0}: {1}")]
    Png(String, png::EncodingError),
}

/// Sees to it that a file can be written later: the end of a long run is a bad time to learn that it cannot.
///
/// # Errors
/// When its folder does not exist.
pub fn check_folder(path: &Path) -> Result<(), OutputError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = std::fs::metadata(folder).map_err(|e| OutputError::Write(path.display().to_string(), e))?;
    if found.is_dir() {
        Ok(())
    } else {
        Err(OutputError::Write(path.display().to_string(), io::ErrorKind::NotADirectory.into()))
    }
}

/// Saves the picture on the screen as PNG.
///
/// # Errors
/// When the file cannot be written.
pub fn screenshot(machine: &mut Machine, path: &Path) -> Result<(), OutputError> {
    let name = || path.display().to_string();
    let mut picture = Picture::default();
    machine.render(&mut picture);
    let file = File::create(path).map_err(|e| OutputError::Write(name(), e))?;
    let bytes: Vec<u8> = picture.pixels.iter().flat_map(|p| p.to_le_bytes()).collect();
    let mut encoder = png::Encoder::new(BufWriter::new(file), picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgba);
    let png = |e| OutputError::Png(name(), e);
    encoder.write_header().map_err(png)?.write_image_data(&bytes).map_err(png)
}

/// Saves the text screen; in a graphics mode an empty text.
///
/// # Errors
/// When the file cannot be written.
pub fn screen_text(machine: &Machine, sink: &Sink) -> Result<(), OutputError> {
    let text = machine.screen_text();
    if text.is_none() {
        eprintln!("tab86: the screen is in a graphics mode and shows no text");
    }
    let mut text = text.unwrap_or_default();
    text.push('\n');
    Writer::open(sink)?.write(text.as_bytes())
}

/// Saves the machine's whole state.
///
/// # Errors
/// When the file cannot be written.
pub fn state(machine: &mut Machine, path: &Path) -> Result<(), OutputError> {
    std::fs::write(path, machine.save_state()).map_err(|e| OutputError::Write(path.display().to_string(), e))
}

/// A file or standard output, written as data comes.
pub struct Writer {
    name: String,
    to: Box<dyn Write>,
}

impl Writer {
    /// Creates the file.
    ///
    /// # Errors
    /// When that fails.
    pub fn open(sink: &Sink) -> Result<Self, OutputError> {
        match sink {
            Sink::Stdout => Ok(Self { name: "standard output".into(), to: Box::new(io::stdout()) }),
            Sink::File(path) => {
                let name = path.display().to_string();
                let file = File::create(path).map_err(|e| OutputError::Write(name.clone(), e))?;
                Ok(Self { name, to: Box::new(file) })
            }
        }
    }

    /// Writes and flushes.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&mut self, data: &[u8]) -> Result<(), OutputError> {
        let done = self.to.write_all(data).and_then(|()| self.to.flush());
        done.map_err(|e| OutputError::Write(self.name.clone(), e))
    }
}

fn traffic(t: Traffic) -> serde_json::Value {
    serde_json::json!({ "frames": t.frames, "bytes": t.bytes, "dropped": t.dropped })
}

/// Saves the figures of a run.
///
/// # Errors
/// When the file cannot be written.
pub fn stats(machine: &Machine, path: &Path, took: Duration, end: &str, status: u8) -> Result<(), OutputError> {
    let seconds = took.as_secs_f64();
    let instructions = machine.instructions();
    let figures = serde_json::json!({
        "instructions": instructions,
        "seconds": seconds,
        "mips": instructions as f64 / seconds.max(1e-9) / 1e6,
        "virtual_seconds": machine.now() as f64 / 1e9,
        "idle_seconds": machine.idle_time() as f64 / 1e9,
        "resets": machine.resets(),
        "ram_hash": format!("{:016x}", machine.ram_hash()),
        "end": end,
        "status": status,
        "network": machine.network_counters().map(|c| serde_json::json!({
            "received": traffic(c.to_guest),
            "sent": traffic(c.from_guest),
        })),
    });
    let text = format!("{figures:#}\n");
    std::fs::write(path, text).map_err(|e| OutputError::Write(path.display().to_string(), e))
}
