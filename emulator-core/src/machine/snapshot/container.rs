//! The envelope of a snapshot: header lines, tagged sections, checksum.

use super::StateError;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use std::io::{Read, Write};

const MAGIC: &str = "tab86 snapshot ";
const FORMAT: u32 = 1;
const END: &[u8; 4] = b"END ";
/// Longest header that is read.
const MAX_HEADER: usize = 16 << 10;
/// Bytes in front of a section's content: tag, version, reserved, length.
const SECTION_HEAD: usize = 16;
/// Bytes behind the last section: tag and checksum.
const TRAILER: usize = 8;
/// Most bytes that a section of JSON may unfold to.
const MAX_STATE: u64 = 64 << 20;

/// One line of the header.
pub type Line = (&'static str, String);

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A snapshot under construction.
pub struct Writer(Vec<u8>);

impl Writer {
    /// Starts with a header of `options` and `status` lines.
    pub fn new(options: Vec<Line>, status: Vec<Line>) -> Self {
        let mut text = format!("{MAGIC}{FORMAT}\n");
        for (name, value) in options.into_iter().chain(status) {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push('\n');
        Self(text.into_bytes())
    }

    /// Adds a section whose content `fill` writes.
    pub fn section(&mut self, tag: [u8; 4], version: u16, fill: impl FnOnce(&mut dyn Write)) {
        self.0.extend_from_slice(&tag);
        self.0.extend_from_slice(&version.to_le_bytes());
        self.0.extend_from_slice(&[0; 2]);
        let length_at = self.0.len();
        self.0.extend_from_slice(&[0; 8]);
        let begin = self.0.len();
        let mut encoder = DeflateEncoder::new(&mut self.0, Compression::fast());
        fill(&mut encoder);
        encoder.finish().expect("a vector takes all bytes");
        let length = (self.0.len() - begin) as u64;
        self.0[length_at..begin].copy_from_slice(&length.to_le_bytes());
    }

    /// Adds a section of JSON.
    pub fn json<T: serde::Serialize>(&mut self, tag: [u8; 4], version: u16, value: &T) {
        self.section(tag, version, |out| serde_json::to_writer(out, value).expect("plain data serialises"));
    }

    /// The finished file.
    pub fn finish(mut self) -> Vec<u8> {
        let sum = checksum(&self.0);
        self.0.extend_from_slice(END);
        self.0.extend_from_slice(&sum.to_le_bytes());
        self.0
    }
}

struct Section<'a> {
    tag: [u8; 4],
    version: u16,
    content: &'a [u8],
}

/// A snapshot whose envelope is sound.
pub struct Reader<'a> {
    header: Vec<(&'a str, &'a str)>,
    sections: Vec<Section<'a>>,
}

fn number<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

impl<'a> Reader<'a> {
    /// Checks the envelope.
    pub fn open(bytes: &'a [u8]) -> Result<Self, StateError> {
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or(StateError::NotASnapshot)?;
        let head = &rest[..rest.len().min(MAX_HEADER)];
        let header_len =
            head.windows(2).position(|w| w == b"\n\n").ok_or(StateError::Damaged("its header has no end"))?;
        let text =
            std::str::from_utf8(&head[..header_len]).map_err(|_| StateError::Damaged("its header is no text"))?;
        let mut lines = text.lines();
        let format = lines.next().and_then(|n| n.trim().parse::<u32>().ok()).ok_or(StateError::NotASnapshot)?;
        if format != FORMAT {
            return Err(StateError::TooNew { part: "the file".to_owned(), found: format, known: FORMAT });
        }
        let header = lines.filter_map(|l| l.split_once(": ")).collect();

        let body_end = bytes.len().checked_sub(TRAILER).ok_or(StateError::Damaged("its end is missing"))?;
        let (body, trailer) = bytes.split_at(body_end);
        let sum = number(&trailer[4..]).map(u32::from_le_bytes);
        if &trailer[..4] != END {
            return Err(StateError::Damaged("its end is missing"));
        }
        if sum != Some(checksum(body)) {
            return Err(StateError::Damaged("its checksum is wrong"));
        }
        let mut at = body.get(MAGIC.len() + header_len + 2..).ok_or(StateError::Damaged("its end is missing"))?;
        let mut sections = Vec::new();
        while !at.is_empty() {
            let cut = StateError::Damaged("a section is cut short");
            let (Some(tag), Some(version), Some(length)) =
                (number(at), at.get(4..).and_then(number), at.get(8..).and_then(number))
            else {
                return Err(cut);
            };
            let end = usize::try_from(u64::from_le_bytes(length)).ok().and_then(|n| n.checked_add(SECTION_HEAD));
            let Some(content) = end.and_then(|end| at.get(SECTION_HEAD..end)) else { return Err(cut) };
            sections.push(Section { tag, version: u16::from_le_bytes(version), content });
            at = &at[SECTION_HEAD + content.len()..];
        }
        Ok(Self { header, sections })
    }

    /// Compares the options in the header with those of this machine.
    pub fn check_options(&self, options: &[Line]) -> Result<(), StateError> {
        for (name, found) in options {
            let saved = self.header.iter().find(|(n, _)| n == name).map_or("nothing of the kind", |(_, v)| v);
            if saved != found {
                let (option, saved) = ((*name).to_owned(), saved.to_owned());
                return Err(StateError::OtherOptions { option, saved, found: found.clone() });
            }
        }
        Ok(())
    }

    /// The unfolding content of a section, of version `known` or older; `None` when it is not there.
    pub fn find(&self, tag: [u8; 4], known: u16) -> Result<Option<impl Read + use<'a>>, StateError> {
        let Some(section) = self.sections.iter().find(|s| s.tag == tag) else { return Ok(None) };
        if section.version == 0 || section.version > known {
            return Err(StateError::TooNew { part: name(tag), found: section.version.into(), known: known.into() });
        }
        Ok(Some(DeflateDecoder::new(section.content)))
    }

    /// The same for a section that must be there.
    pub fn section(&self, tag: [u8; 4], known: u16) -> Result<impl Read + use<'a>, StateError> {
        self.find(tag, known)?.ok_or_else(|| StateError::invalid(name(tag), "it is missing"))
    }

    /// A section of JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self, tag: [u8; 4], known: u16) -> Result<T, StateError> {
        let mut text = Vec::new();
        let read = self.section(tag, known)?.take(MAX_STATE).read_to_end(&mut text);
        read.map_err(|e| StateError::invalid(name(tag), e))?;
        serde_json::from_slice(&text).map_err(|e| StateError::invalid(name(tag), e))
    }
}

/// A tag as text.
pub fn name(tag: [u8; 4]) -> String {
    format!("section {}", String::from_utf8_lossy(&tag).trim_end())
}
