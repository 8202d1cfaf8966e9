//! Files that a machine starts with: firmware, kernels, disk images.

use crate::args::{ImageArg, NetArg, Options};
use crate::net;
use emulator_core::devices::block::{BlockBackend, BlockError, BlockStatus, Overlay};
use emulator_core::machine::loader::LoadError;
use emulator_core::machine::{ConfigError, DriveConfig, Machine, MachineConfig, NetworkConfig, StateError};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Names of the firmware files in a firmware folder.
const BIOS: &str = "bios-256k.bin";
const VGA_BIOS: &str = "vgabios-stdvga.bin";
/// Where Debian's package puts them.
const SYSTEM_FIRMWARE: &str = "/usr/share/seabios";
/// Larger than any firmware, kernel or initrd that a 32-bit machine can load.
const MAX_LOADED: u64 = 3 << 30;
/// Power-on time of the deterministic clock, the same in every run and in the browser.
const FIXED_TIME: i64 = 0;

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum ImageError {
    /// It cannot be opened or read.
    #[error("cannot read {path}: {why}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
    },
    /// It can be read but not written.
    #[error("cannot write {0}: attach it as {0},snapshot to keep the guest's writes in memory")]
    ReadOnly(PathBuf),
    /// It has no bytes.
    #[error("{0} is empty")]
    Empty(PathBuf),
    /// It is too large for what it is meant to be.
    #[error("{path} has {bytes} bytes, more than a 32-bit machine can load")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The volume descriptor promises more than there is.
    #[error("{path} is a truncated CD image: it should have {wanted} bytes and has {found}")]
    TruncatedCd {
        /// The file.
        path: PathBuf,
        /// Bytes that the volume has.
        wanted: u64,
        /// Bytes that the file has.
        found: u64,
    },
    /// No firmware anywhere.
    #[error("no firmware found: run `cargo xtask setup`, or name one with --bios and --vga-bios")]
    NoFirmware,
    /// The machine refuses the file.
    #[error("{path}: {why}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The machine's reason.
        why: ConfigError,
    },
    /// A snapshot that the machine refuses.
    #[error("{path}: {why}")]
    State {
        /// The file.
        path: PathBuf,
        /// The machine's reason.
        why: StateError,
    },
    /// The machine refuses the configuration as a whole.
    #[error("{0}")]
    Config(ConfigError),
}

/// Starts the machine from a snapshot.
///
/// # Errors
/// When the file cannot be read, is no snapshot, or is one of a machine with other options.
pub fn load_state(machine: &mut Machine, path: &Path) -> Result<(), ImageError> {
    let bytes = std::fs::read(path).map_err(|why| ImageError::Read { path: path.to_owned(), why })?;
    machine.load_state(&bytes).map_err(|why| ImageError::State { path: path.to_owned(), why })
}

/// A disk image in a file, read and written in place.
struct FileBlock {
    file: File,
    len: u64,
    read_only: bool,
}

impl FileBlock {
    fn seek(&mut self, offset: u64, len: usize) -> Result<(), BlockError> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.len) {
            return Err(BlockError::OutOfRange);
        }
        self.file.seek(SeekFrom::Start(offset)).map(|_| ()).map_err(host)
    }
}

fn host(e: io::Error) -> BlockError {
    BlockError::Host(e.to_string())
}

impl BlockBackend for FileBlock {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_only(&self) -> bool {
        self.read_only
    }
    fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<BlockStatus, BlockError> {
        self.seek(offset, out.len())?;
        self.file.read_exact(out).map_err(host)?;
        Ok(BlockStatus::Ready)
    }
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<BlockStatus, BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        self.seek(offset, data.len())?;
        self.file.write_all(data).map_err(host)?;
        Ok(BlockStatus::Ready)
    }
    fn flush(&mut self) -> Result<(), BlockError> {
        self.file.sync_data().map_err(host)
    }
}

fn open(path: &Path, write: bool) -> Result<File, ImageError> {
    let file = OpenOptions::new().read(true).write(write).open(path).map_err(|why| match why.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem if write => {
            ImageError::ReadOnly(path.into())
        }
        _ => ImageError::Read { path: path.into(), why },
    })?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(ImageError::Read { path: path.into(), why: io::ErrorKind::IsADirectory.into() });
    }
    Ok(file)
}

/// The size of a file or block device; never 0.
fn size(path: &Path, file: &mut File) -> Result<u64, ImageError> {
    let len = file.seek(SeekFrom::End(0)).map_err(|why| ImageError::Read { path: path.into(), why })?;
    if len == 0 { Err(ImageError::Empty(path.into())) } else { Ok(len) }
}

fn load(path: &Path) -> Result<Vec<u8>, ImageError> {
    let mut file = open(path, false)?;
    let bytes = size(path, &mut file)?;
    if bytes > MAX_LOADED {
        return Err(ImageError::TooLarge { path: path.into(), bytes });
    }
    std::fs::read(path).map_err(|why| ImageError::Read { path: path.into(), why })
}

fn block(arg: &ImageArg, write: bool) -> Result<Box<dyn BlockBackend>, ImageError> {
    let write = write && !arg.snapshot;
    let mut file = open(&arg.path, write)?;
    let len = size(&arg.path, &mut file)?;
    let base = Box::new(FileBlock { file, len, read_only: !write });
    Ok(if arg.snapshot { Box::new(Overlay::new(base)) } else { base })
}

/// A CD image; one that ends before its volume does is refused.
fn cd(arg: &ImageArg) -> Result<Box<dyn BlockBackend>, ImageError> {
    let mut image = block(arg, false)?;
    // ECMA-119 8.4: the primary volume descriptor is sector 16; bytes 80-83 count the volume's sectors.
    let mut descriptor = [0; 88];
    let found = image.len();
    if image.read(16 * 2048, &mut descriptor) == Ok(BlockStatus::Ready) && &descriptor[1..6] == b"CD001" {
        let sectors = u32::from_le_bytes([descriptor[80], descriptor[81], descriptor[82], descriptor[83]]);
        let wanted = u64::from(sectors) * 2048;
        if wanted > found {
            return Err(ImageError::TruncatedCd { path: arg.path.clone(), wanted, found });
        }
    }
    Ok(image)
}

/// The folder of the firmware: beside this project's build, or the system's.
fn firmware_folder() -> Option<PathBuf> {
    let here = std::env::current_dir().ok();
    let program = std::env::current_exe().ok();
    let above = |start: &Option<PathBuf>| -> Vec<PathBuf> {
        start.iter().flat_map(|p| p.ancestors()).map(|p| p.join("build/firmware")).collect()
    };
    let places = above(&here).into_iter().chain(above(&program)).chain([PathBuf::from(SYSTEM_FIRMWARE)]);
    places.into_iter().find(|p| p.join(BIOS).is_file() && p.join(VGA_BIOS).is_file())
}

/// Opens everything that the options name.
///
/// # Errors
/// The first file that is missing or unfit.
pub fn machine_config(o: &Options) -> Result<MachineConfig, ImageError> {
    let folder = if o.bios.is_some() && o.vga_bios.is_some() { None } else { firmware_folder() };
    let firmware = |given: &Option<PathBuf>, name: &str| match (given, &folder) {
        (Some(path), _) => load(path),
        (None, Some(folder)) => load(&folder.join(name)),
        (None, None) => Err(ImageError::NoFirmware),
    };
    let loaded = |path: &Option<PathBuf>| path.as_deref().map(load).transpose();
    let mut config = MachineConfig {
        memory: o.memory,
        cpu: o.cpu,
        cpus: o.cpus,
        cmdline: o.append.clone(),
        boot_order: o.boot_order.clone(),
        boot_menu: o.boot_menu,
        clock: o.clock,
        start_time: start_time(o),
        serials: 1,
        debug_exit: o.debug_exit,
        network: (o.net != NetArg::None)
            .then(|| NetworkConfig { mac: o.mac.unwrap_or_else(net::random_mac), kind: o.nic }),
        ..MachineConfig::default()
    };
    // What is wrong with a number is said before any file is opened.
    config.bios = firmware(&o.bios, BIOS)?;
    config.vga_bios = firmware(&o.vga_bios, VGA_BIOS)?;
    config.check().map_err(|e| blame(o, e))?;
    config.kernel = loaded(&o.kernel)?;
    config.multiboot = loaded(&o.multiboot)?;
    config.initrd = loaded(&o.initrd)?;
    for (place, arg) in config.floppies.iter_mut().zip(&o.floppies) {
        *place = arg.as_ref().map(|a| block(a, true)).transpose()?;
    }
    for (place, arg) in config.drives.iter_mut().zip(&o.disks) {
        *place = arg.as_ref().map(|a| block(a, true)).transpose()?.map(DriveConfig::Disk);
    }
    // Secondary master, as on QEMU's `pc`; the drive is there without a disc, too.
    config.drives[2] = Some(DriveConfig::Cdrom(o.cdrom.as_ref().map(cd).transpose()?));
    Ok(config)
}

/// Seconds since 1970 at power-on.
pub fn start_time(o: &Options) -> i64 {
    use emulator_core::machine::ClockMode;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    match o.clock {
        ClockMode::Deterministic => FIXED_TIME,
        ClockMode::Realtime => now.map_or(FIXED_TIME, |t| t.as_secs() as i64),
    }
}

/// Adds the name of the file that a refused configuration is about.
pub fn blame(o: &Options, why: ConfigError) -> ImageError {
    let disk = |d: &Option<ImageArg>| d.as_ref().map(|a| a.path.clone());
    let path = match &why {
        ConfigError::Load(LoadError::InitrdTooLarge { .. }) => o.initrd.clone(),
        ConfigError::Load(LoadError::CommandLineTooLong { .. }) => None,
        ConfigError::Load(_) => o.kernel.clone().or_else(|| o.multiboot.clone()),
        ConfigError::NoBios | ConfigError::BiosSize(_) => o.bios.clone(),
        ConfigError::VgaBios => o.vga_bios.clone(),
        ConfigError::FloppyTooLarge(bytes) => culprit(&o.floppies, *bytes, disk),
        ConfigError::OddSize { what: "floppy", bytes, .. } => culprit(&o.floppies, *bytes, disk),
        ConfigError::OddSize { what: "CD-ROM", .. } => disk(&o.cdrom),
        ConfigError::OddSize { bytes, .. } => culprit(&o.disks, *bytes, disk),
        _ => None,
    };
    match path {
        Some(path) => ImageError::Unfit { path, why },
        None => ImageError::Config(why),
    }
}

/// Of several images the one with that size.
fn culprit(
    images: &[Option<ImageArg>],
    bytes: u64,
    path: impl Fn(&Option<ImageArg>) -> Option<PathBuf>,
) -> Option<PathBuf> {
    images.iter().filter_map(path).find(|p| p.metadata().is_ok_and(|m| m.len() == bytes))
}
