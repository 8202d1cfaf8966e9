//! The packet commands of the CD-ROM drive. Spec: SFF-8020i, MMC-3 (T10 1363D), SPC-2.

use super::atapi::{Cd, DiscChange, RAW_SECTOR};
use super::drive::Drive;
use serde::{Deserialize, Serialize};

/// Discs with more sectors than an 80-minute CD holds are DVDs.
const CD_MAX_SECTORS: u32 = 80 * 60 * 75;
const PROFILE_CDROM: u16 = 0x0008;
const PROFILE_DVDROM: u16 = 0x0010;
/// Track number of the lead-out area.
const LEAD_OUT: u8 = 0xaa;
/// Control and address nibbles of a data track.
const DATA_TRACK: u8 = 0x14;

/// Why a command failed: sense key and additional sense code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sense {
    /// Sense key (SPC-2, 7.20.2).
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
}

impl Sense {
    /// Not ready: no disc.
    pub const NO_MEDIUM: Self = Self::new(2, 0x3a);
    /// Medium error: unrecovered read error.
    pub const READ_ERROR: Self = Self::new(3, 0x11);
    /// Illegal request: no such command.
    pub const INVALID_COMMAND: Self = Self::new(5, 0x20);
    /// Illegal request: sector outside the disc.
    pub const LBA_OUT_OF_RANGE: Self = Self::new(5, 0x21);
    /// Illegal request: a field of the packet.
    pub const INVALID_FIELD: Self = Self::new(5, 0x24);
    /// Illegal request: saved parameters are not supported.
    pub const NOT_SAVED: Self = Self::new(5, 0x39);
    /// Illegal request: removal was forbidden.
    pub const REMOVAL_PREVENTED: Self = Self::new(5, 0x53);
    /// Unit attention: the disc may have changed.
    pub const MEDIUM_CHANGED: Self = Self::new(6, 0x28);

    const fn new(key: u8, asc: u8) -> Self {
        Self { key, asc }
    }
}

/// What a command returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Good status without data.
    Done,
    /// These bytes.
    Data(Vec<u8>),
    /// Sectors of the disc.
    Sectors {
        /// First sector.
        lba: u32,
        /// How many, at least one.
        count: u32,
        /// Whole sectors of 2352 bytes.
        raw: bool,
    },
}

fn be16(p: &[u8; 12], at: usize) -> u16 {
    u16::from_be_bytes([p[at], p[at + 1]])
}

fn be32(p: &[u8; 12], at: usize) -> u32 {
    u32::from_be_bytes([p[at], p[at + 1], p[at + 2], p[at + 3]])
}

/// Bytes cut to the allocation length of the packet.
fn data(mut bytes: Vec<u8>, allocated: u16) -> Answer {
    bytes.truncate(allocated.into());
    if bytes.is_empty() { Answer::Done } else { Answer::Data(bytes) }
}

/// Executes a packet up to its data.
///
/// # Errors
/// The sense data of "check condition".
pub fn execute(d: &mut Drive, p: &[u8; 12]) -> Result<Answer, Sense> {
    let cd = &mut d.cd;
    // INQUIRY, REQUEST SENSE and the two that ask about events report, they don't fail (MMC-3, 5.2).
    if !matches!(p[0], 0x03 | 0x12 | 0x46 | 0x4a) {
        attention(cd)?;
    }
    if matches!(p[0], 0x00 | 0x25 | 0x28 | 0x2b | 0x43 | 0x51 | 0xa8 | 0xad | 0xbe) && !cd.ready() {
        return Err(Sense::NO_MEDIUM);
    }
    match p[0] {
        // TEST UNIT READY, SEEK, SET CD SPEED
        0x00 | 0x2b | 0xbb => Ok(Answer::Done),
        0x03 => Ok(request_sense(cd, p)),
        0x12 => inquiry(p),
        0x1a => mode_sense(cd, p, true),
        0x1b => start_stop(cd, p),
        0x1e => {
            cd.locked = p[4] & 1 != 0; // PREVENT ALLOW MEDIUM REMOVAL
            Ok(Answer::Done)
        }
        0x25 => Ok(read_capacity(cd)),
        0x28 => sectors(cd, be32(p, 2), be16(p, 7).into(), false),
        0x43 => read_toc(cd, p),
        0x46 => Ok(get_configuration(cd, p)),
        0x4a => get_event_status(cd, p),
        0x51 => Ok(read_disc_information(p)),
        0x5a => mode_sense(cd, p, false),
        0xa8 => sectors(cd, be32(p, 2), be32(p, 6), false),
        0xbd => Ok(data(vec![0, 0, 0, 0, 0, 1, 0, 0], be16(p, 8))), // MECHANISM STATUS
        0xbe => read_cd(cd, p),
        _ => Err(Sense::INVALID_COMMAND),
    }
}

/// Tells of a changed disc, once as removed and once as inserted.
fn attention(cd: &mut Cd) -> Result<(), Sense> {
    if !cd.ready() {
        return Ok(());
    }
    match cd.change {
        DiscChange::None => Ok(()),
        DiscChange::Removed => {
            cd.change = DiscChange::Inserted;
            Err(Sense::NO_MEDIUM)
        }
        DiscChange::Inserted => {
            cd.change = DiscChange::None;
            Err(Sense::MEDIUM_CHANGED)
        }
    }
}

fn request_sense(cd: &mut Cd, p: &[u8; 12]) -> Answer {
    let sense = std::mem::take(&mut cd.sense);
    let mut b = vec![0; 18];
    b[0] = 0xf0; // current error, fixed format
    b[2] = sense.key;
    b[7] = 10;
    b[12] = sense.asc;
    data(b, p[4].into())
}

fn inquiry(p: &[u8; 12]) -> Result<Answer, Sense> {
    if p[1] & 1 != 0 || p[2] != 0 {
        return Err(Sense::INVALID_FIELD); // no vital product data
    }
    let mut b = vec![0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0];
    b.extend_from_slice(b"TAB86   ");
    b.extend_from_slice(b"TAB86 CD-ROM    ");
    b.extend_from_slice(b"1.0 ");
    Ok(data(b, be16(p, 3)))
}

fn start_stop(cd: &mut Cd, p: &[u8; 12]) -> Result<Answer, Sense> {
    if p[4] & 0xf0 != 0 || p[4] & 2 == 0 {
        return Ok(Answer::Done); // power condition, or only the motor
    }
    let open = p[4] & 1 == 0;
    if open && cd.locked && !cd.tray_open {
        return Err(Sense::REMOVAL_PREVENTED);
    }
    if cd.tray_open && !open && cd.loaded {
        cd.event_new_media = true;
    }
    cd.tray_open = open;
    Ok(Answer::Done)
}

fn read_capacity(cd: &Cd) -> Answer {
    let mut b = cd.sectors.saturating_sub(1).to_be_bytes().to_vec();
    b.extend_from_slice(&2048_u32.to_be_bytes());
    Answer::Data(b)
}

fn sectors(cd: &Cd, lba: u32, count: u32, raw: bool) -> Result<Answer, Sense> {
    match lba.checked_add(count) {
        Some(end) if end <= cd.sectors => {}
        _ => return Err(Sense::LBA_OUT_OF_RANGE),
    }
    Ok(if count == 0 { Answer::Done } else { Answer::Sectors { lba, count, raw } })
}

fn read_cd(cd: &Cd, p: &[u8; 12]) -> Result<Answer, Sense> {
    let count = u32::from_be_bytes([0, p[6], p[7], p[8]]);
    match p[9] & 0xf8 {
        0x00 => Ok(Answer::Done),
        0x10 => sectors(cd, be32(p, 2), count, false),
        0xf8 => sectors(cd, be32(p, 2), count, true),
        _ => Err(Sense::INVALID_FIELD),
    }
}

/// Minute, second and frame of a sector, as the disc counts them (two seconds ahead).
fn msf(lba: u32) -> [u8; 3] {
    let f = lba.saturating_add(150);
    [(f / 75 / 60) as u8, (f / 75 % 60) as u8, (f % 75) as u8]
}

/// Synchronisation and header of a mode 1 sector (ECMA-130, 14).
pub fn raw_header(lba: u32) -> [u8; 16] {
    let mut h = [0xff; 16];
    h[0] = 0;
    h[11] = 0;
    for (to, n) in h[12..15].iter_mut().zip(msf(lba)) {
        *to = ((n / 10) << 4) | (n % 10);
    }
    h[15] = 1;
    h
}

const _: () = assert!(RAW_SECTOR == 16 + 2048 + 288);

fn read_toc(cd: &Cd, p: &[u8; 12]) -> Result<Answer, Sense> {
    let as_msf = p[1] & 2 != 0;
    let address = |lba: u32| {
        if as_msf {
            let [m, s, f] = msf(lba);
            [0, m, s, f]
        } else {
            lba.to_be_bytes()
        }
    };
    // MMC has the format in byte 2, SFF-8020i in the top bits of byte 9.
    let format = match p[2] & 15 {
        0 => p[9] >> 6,
        n => n,
    };
    let start = p[6];
    let mut b = vec![0, 0, 1, 1];
    let mut track = |number: u8, control: u8, lba: u32| {
        b.extend_from_slice(&[0, control, number, 0]);
        b.extend_from_slice(&address(lba));
    };
    match format {
        0 => {
            if start > 1 && start != LEAD_OUT {
                return Err(Sense::INVALID_FIELD);
            }
            if start <= 1 {
                track(1, DATA_TRACK, 0);
            }
            track(LEAD_OUT, DATA_TRACK, cd.sectors);
        }
        1 => track(1, DATA_TRACK, 0),
        2 => {
            // Raw: point A0h first track, A1h last track, A2h lead-out, then the track itself.
            let out = msf(cd.sectors);
            for (point, at) in [(0xa0, [1, 0, 0]), (0xa1, [1, 0, 0]), (0xa2, out), (1, msf(0))] {
                b.extend_from_slice(&[1, DATA_TRACK, 0, point, 0, 0, 0, 0]);
                b.extend_from_slice(&at);
            }
        }
        _ => return Err(Sense::INVALID_FIELD),
    }
    let length = (b.len() - 2) as u16;
    b[..2].copy_from_slice(&length.to_be_bytes());
    Ok(data(b, be16(p, 7)))
}

fn get_configuration(cd: &Cd, p: &[u8; 12]) -> Answer {
    let profile = match cd.sectors {
        _ if !cd.ready() => 0,
        n if n > CD_MAX_SECTORS => PROFILE_DVDROM,
        _ => PROFILE_CDROM,
    };
    let (how, first) = (p[1] & 3, be16(p, 2));
    let mut b = vec![0; 6];
    b.extend_from_slice(&profile.to_be_bytes());
    let current = |n: u16| u8::from(n == profile);
    let [dvd, cd] = [PROFILE_DVDROM, PROFILE_CDROM];
    let features: [(u16, bool, Vec<u8>); 3] = [
        (
            0x0000, // profile list
            true,
            vec![0x03, 8, 0, dvd as u8, current(dvd), 0, 0, cd as u8, current(cd), 0],
        ),
        (0x0001, true, vec![0x0b, 8, 0, 0, 0, 2, 1, 0, 0, 0]), // core: ATAPI
        (0x0003, true, vec![0x03, 4, 0x29, 0, 0, 0]),          // removable: tray, eject, lock
    ];
    for (code, active, body) in features {
        let wanted = match how {
            2 => code == first,
            1 => active && code >= first,
            _ => code >= first,
        };
        if wanted {
            b.extend_from_slice(&code.to_be_bytes());
            b.extend_from_slice(&body);
        }
    }
    let length = (b.len() - 4) as u32;
    b[..4].copy_from_slice(&length.to_be_bytes());
    data(b, be16(p, 7))
}

fn get_event_status(cd: &mut Cd, p: &[u8; 12]) -> Result<Answer, Sense> {
    const MEDIA: u8 = 4;
    if p[1] & 1 == 0 {
        return Err(Sense::INVALID_FIELD); // only polled operation
    }
    if p[4] & (1 << MEDIA) == 0 {
        return Ok(data(vec![0, 2, 0x80, 1 << MEDIA], be16(p, 7)));
    }
    // Media events: 2 new medium, 3 medium removed (MMC-3, 6.7.2.5).
    let event = if std::mem::take(&mut cd.event_new_media) {
        2
    } else if std::mem::take(&mut cd.event_removed) {
        3
    } else {
        0
    };
    let status = u8::from(cd.tray_open) | u8::from(cd.ready()) << 1;
    Ok(data(vec![0, 6, MEDIA, 1 << MEDIA, event, status, 0, 0], be16(p, 7)))
}

fn read_disc_information(p: &[u8; 12]) -> Answer {
    let mut b = vec![0; 34];
    b[1] = 32;
    b[2] = 0x0e; // complete, finalised
    b[3..7].fill(1); // first track, sessions, first and last track of the last session
    b[7] = 0x20; // unrestricted use
    data(b, be16(p, 7))
}

/// MODE SENSE with the pages of error recovery (01h), audio (0Eh) and capabilities (2Ah).
fn mode_sense(cd: &Cd, p: &[u8; 12], six: bool) -> Result<Answer, Sense> {
    let (control, page) = (p[2] >> 6, p[2] & 0x3f);
    if control == 3 {
        return Err(Sense::NOT_SAVED);
    }
    let speed = 706_u16.to_be_bytes(); // kB/s: fourfold
    let mechanism = 0x29 | u8::from(cd.locked) << 1; // lock, eject, tray
    let mut capabilities = vec![0x2a, 0x12, 0x3b, 0, 0x70, 0x60, mechanism, 0];
    capabilities.extend_from_slice(&[speed[0], speed[1], 0, 2, 2, 0, speed[0], speed[1], 0, 0, 0, 0]);
    let pages: [Vec<u8>; 3] = [
        vec![0x01, 6, 0, 5, 0, 0, 0, 0],
        vec![0x0e, 14, 4, 0, 0, 0, 0, 75, 1, 0xff, 2, 0xff, 0, 0, 0, 0],
        capabilities,
    ];
    let mut body = Vec::new();
    for mut bytes in pages {
        if page == 0x3f || page == bytes[0] {
            if control == 1 {
                bytes[2..].fill(0); // nothing can be changed
            }
            body.extend_from_slice(&bytes);
        }
    }
    if body.is_empty() {
        return Err(Sense::INVALID_FIELD);
    }
    let medium = if cd.ready() { 0x01 } else { 0x70 }; // data disc, no disc
    let (mut b, allocated) = if six {
        (vec![(body.len() + 3) as u8, medium, 0, 0], p[4].into())
    } else {
        let [hi, lo] = ((body.len() + 6) as u16).to_be_bytes();
        (vec![hi, lo, medium, 0, 0, 0, 0, 0], be16(p, 7))
    };
    b.extend_from_slice(&body);
    Ok(data(b, allocated))
}
