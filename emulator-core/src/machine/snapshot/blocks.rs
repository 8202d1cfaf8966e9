//! The bulky parts of a snapshot: memory without its zero pages, and what guests wrote to images that the host keeps in
//! memory.
//!
//! Memory: for each run of pages that are not zero the first page's number and the count (u32 each), then the pages; a
//! count of 0 ends it. Written sectors: for each 4 KiB cluster its number (u64), a bit for each sector that it holds (u8)
//! and its bytes; a cluster without sectors ends it.

use super::StateError;
use super::container::{Reader, Writer, name};
use crate::devices::block::{CLUSTER, OverlayData};
use crate::machine::Machine;
use crate::mem::PAGE;
use std::io::Read;

const MEMORY: [u8; 4] = *b"MEM ";
/// Longest run of pages that is held apart.
const MAX_RUN: u32 = 256;
const PAGE_LEN: usize = PAGE as usize;
/// Images: IDE drives 0 to 3, floppies 0 and 1.
const IMAGES: usize = 6;

fn image_tag(n: usize) -> [u8; 4] {
    [b'D', b'S', b'K', b'0' + n as u8]
}

/// Adds the sections.
pub(super) fn write(machine: &Machine, out: &mut Writer) {
    let mem = &machine.board.mem;
    let pages = mem.writable_len() / PAGE as u32;
    out.section(MEMORY, 1, |out| {
        let mut put = |bytes: &[u8]| out.write_all(bytes).expect("a vector takes all bytes");
        let mut page = [0; PAGE_LEN];
        let (mut first, mut run) = (0, Vec::new());
        for n in 0..=pages {
            if n < pages {
                mem.block().read(n * PAGE as u32, &mut page);
            }
            let zero = n == pages || page.iter().all(|&b| b == 0);
            if !run.is_empty() && (zero || run.len() >= MAX_RUN as usize * PAGE_LEN) {
                put(&u32::to_le_bytes(first));
                put(&((run.len() / PAGE_LEN) as u32).to_le_bytes());
                put(&run);
                run.clear();
            }
            if !zero {
                if run.is_empty() {
                    first = n;
                }
                run.extend_from_slice(&page);
            }
        }
        put(&[0; 8]);
    });
    for n in 0..IMAGES {
        if let Some(written) = machine.board.media(n).and_then(|m| m.written()) {
            out.section(image_tag(n), 1, |out| {
                let mut put = |bytes: &[u8]| out.write_all(bytes).expect("a vector takes all bytes");
                for (cluster, valid, bytes) in written.clusters() {
                    put(&cluster.to_le_bytes());
                    put(&[valid]);
                    put(bytes);
                }
                put(&[0; 9]);
            });
        }
    }
}

/// What [`read`] found, checked and ready to be put in place.
pub(super) struct Blocks {
    runs: Vec<(u32, Vec<u8>)>,
    images: [Option<OverlayData>; IMAGES],
}

/// Reads and checks the sections.
pub(super) fn read(machine: &Machine, from: &Reader) -> Result<Blocks, StateError> {
    let images = [0, 1, 2, 3, 4, 5].map(|n| read_image(machine, from, n));
    let mut found = [const { None }; IMAGES];
    for (slot, image) in found.iter_mut().zip(images) {
        *slot = image?;
    }
    Ok(Blocks { runs: read_memory(machine, from)?, images: found })
}

fn read_memory(machine: &Machine, from: &Reader) -> Result<Vec<(u32, Vec<u8>)>, StateError> {
    let invalid = |why: &str| StateError::invalid(name(MEMORY), why);
    let mut content = from.section(MEMORY, 1)?;
    let pages = machine.board.mem.writable_len() / PAGE as u32;
    let (mut runs, mut next) = (Vec::new(), 0);
    loop {
        let mut head = [0; 8];
        content.read_exact(&mut head).map_err(|_| invalid("it is cut short"))?;
        let [a, b, c, d, e, f, g, h] = head;
        let (first, count) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if count == 0 {
            return Ok(runs);
        }
        // In ascending order, so that no page comes twice and all of them fit into the machine.
        let end = first.checked_add(count).filter(|&end| end <= pages && first >= next && count <= MAX_RUN);
        next = end.ok_or_else(|| invalid("it has pages that the machine has not"))?;
        let mut bytes = vec![0; count as usize * PAGE_LEN];
        content.read_exact(&mut bytes).map_err(|_| invalid("it is cut short"))?;
        runs.push((first, bytes));
    }
}

fn read_image(machine: &Machine, from: &Reader, n: usize) -> Result<Option<OverlayData>, StateError> {
    let tag = image_tag(n);
    let invalid = |why: &str| StateError::invalid(name(tag), why);
    let Some(mut content) = from.find(tag, 1)? else { return Ok(None) };
    let clusters = machine.board.media(n).map_or(0, |m| m.len()).div_ceil(CLUSTER);
    let mut data = OverlayData::default();
    let mut next = 0;
    loop {
        let mut head = [0; 9];
        content.read_exact(&mut head).map_err(|_| invalid("it is cut short"))?;
        let [index @ .., valid] = head;
        let index = u64::from_le_bytes(index);
        if valid == 0 {
            return Ok(Some(data));
        }
        if index < next || index >= clusters {
            return Err(invalid("it has sectors that the image has not"));
        }
        next = index + 1;
        let mut bytes = vec![0; CLUSTER as usize];
        content.read_exact(&mut bytes).map_err(|_| invalid("it is cut short"))?;
        data.insert(index, valid, bytes);
    }
}

impl Blocks {
    /// Puts memory and images in place.
    pub(super) fn apply(self, machine: &mut Machine) {
        let mem = &mut machine.board.mem;
        mem.block().fill(0, mem.writable_len(), 0);
        for (first, bytes) in &self.runs {
            mem.block().write(first * PAGE as u32, bytes);
        }
        mem.touch_vram();
        for (n, data) in self.images.into_iter().enumerate() {
            if let (Some(data), Some(media)) = (data, machine.board.media_mut(n)) {
                media.set_written(data);
            }
        }
    }
}
