//! The physical address space: RAM, video RAM and ROM in one block, everything else MMIO.
//!
//! Layout of the block: guest RAM, then video RAM, then the firmware image. The i440FX PAM registers
//! decide for each part of C0000h-FFFFFh whether reads and writes reach RAM (Intel 82441FX, 3.2.18).

pub mod ram;

pub use ram::Ram;

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Bytes per page.
pub const PAGE: u64 = 4096;
/// Pieces of a page, 64 bytes each, in which code is tracked.
const GRANULES: usize = 64;
/// Size of the video RAM in the block: 16 MiB, as QEMU's `VGA`.
pub const VRAM_SIZE: u32 = 16 << 20;
const ROM_SIZE: u32 = 256 << 10;
const PAM_FIRST: u64 = 0xc0000;
const PAM_STEP: u64 = 0x4000;
const PAM_COUNT: usize = 16;

/// What backs a physical page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Plain memory at this offset of the block (RAM or video RAM).
    Memory(u32),
    /// Read-only memory at this offset of the block; writes are ignored.
    Rom(u32),
    /// A device, or nothing at all: ask the bus.
    Mmio,
}

/// Where reads and writes of one 16 KiB piece of C0000h-FFFFFh go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pam {
    /// Reads come from RAM (otherwise from ROM or the bus).
    pub read_ram: bool,
    /// Writes go to RAM (otherwise they are lost).
    pub write_ram: bool,
}

/// What maps where, as a snapshot keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapState {
    pam: [Pam; PAM_COUNT],
    lfb: (u64, u32),
    smram_open: bool,
    a20: bool,
}

/// The physical address space.
#[derive(Debug)]
pub struct Memory {
    block: Arc<Ram>,
    ram_size: u32,
    rom_len: u32,
    pam: [Pam; PAM_COUNT],
    /// Base of the linear frame buffer window and how much of the video RAM it shows; length 0 when unmapped.
    lfb: (u64, u32),
    smram_open: bool,
    a20: bool,
    /// The bytes that decoded or translated code was read from, for the pages that have any. The block knows their granules.
    code_bytes: Vec<Option<Box<[u64; GRANULES]>>>,
    /// Pages whose code was overwritten and whose decoded form must go; drained by the CPU.
    stale_code: Vec<u32>,
    vram_dirty: Vec<bool>,
    /// Any of them.
    vram_touched: bool,
    vram_epoch: u64,
    /// Raised whenever a translation that a TLB may hold became wrong (PAM, A20, frame buffer moved, dirty scan).
    tlb_epoch: u64,
}

impl Memory {
    /// RAM of `ram_size` bytes with `bios` at the top of the first and the fourth GiB's last 256 KiB.
    /// `ram_size` must be a multiple of the page size below 3.5 GiB; `bios` at most 256 KiB (checked by the machine).
    #[must_use]
    pub fn new(ram_size: u32, bios: &[u8]) -> Self {
        let block = Arc::new(Ram::new(ram_size as usize + VRAM_SIZE as usize + ROM_SIZE as usize));
        let rom_len = (bios.len() as u32).min(ROM_SIZE);
        let pages = block.len() / PAGE as usize;
        let memory = Self {
            block,
            ram_size,
            rom_len,
            pam: [Pam::default(); PAM_COUNT],
            lfb: (0, 0),
            smram_open: false,
            a20: true,
            code_bytes: vec![None; pages],
            stale_code: Vec::new(),
            vram_dirty: vec![true; (VRAM_SIZE as u64 / PAGE) as usize],
            vram_touched: true,
            vram_epoch: 0,
            tlb_epoch: 0,
        };
        memory.block.fill(memory.rom_offset(), ROM_SIZE, 0xff);
        memory.block.write(memory.rom_offset() + ROM_SIZE - rom_len, &bios[..rom_len as usize]);
        memory
    }

    /// The block itself, for accesses by offset.
    #[inline(always)]
    #[must_use]
    pub fn block(&self) -> &Ram {
        &self.block
    }

    /// A handle on the block that outlives a borrow of this value.
    #[must_use]
    pub fn block_handle(&self) -> Arc<Ram> {
        Arc::clone(&self.block)
    }

    /// Bytes of guest RAM.
    #[must_use]
    pub fn ram_size(&self) -> u32 {
        self.ram_size
    }

    /// Offset of the video RAM in the block.
    #[must_use]
    pub fn vram_offset(&self) -> u32 {
        self.ram_size
    }

    fn rom_offset(&self) -> u32 {
        self.ram_size + VRAM_SIZE
    }

    /// What backs the page of `addr` for a read or a write. A20 is applied here.
    #[must_use]
    pub fn frame(&self, addr: u64, write: bool) -> Frame {
        let addr = self.gate_a20(addr) & !(PAGE - 1);
        match addr {
            0..0xa0000 => self.ram_or_void(addr),
            0xa0000..0xc0000 if self.smram_open => self.ram_or_void(addr),
            0xa0000..0xc0000 => Frame::Mmio,
            0xc0000..0x10_0000 => {
                let pam = self.pam[((addr - PAM_FIRST) / PAM_STEP) as usize];
                let to_ram = if write { pam.write_ram } else { pam.read_ram };
                if to_ram { self.ram_or_void(addr) } else { self.rom_page(addr + 0xfff0_0000) }
            }
            0xfffc_0000..=0xffff_ffff => self.rom_page(addr),
            _ if addr < u64::from(self.ram_size) => Frame::Memory(addr as u32),
            _ if addr >= self.lfb.0 && addr - self.lfb.0 < u64::from(self.lfb.1) => {
                Frame::Memory(self.vram_offset() + (addr - self.lfb.0) as u32)
            }
            _ => Frame::Mmio,
        }
    }

    fn ram_or_void(&self, addr: u64) -> Frame {
        if addr < u64::from(self.ram_size) { Frame::Memory(addr as u32) } else { Frame::Mmio }
    }

    /// `addr` is an address below 4 GiB; the image ends there.
    fn rom_page(&self, addr: u64) -> Frame {
        let from_top = (1u64 << 32) - addr;
        if from_top <= u64::from(self.rom_len.next_multiple_of(PAGE as u32)) {
            Frame::Rom(self.rom_offset() + ROM_SIZE - from_top as u32)
        } else {
            Frame::Mmio
        }
    }

    /// Applies the A20 gate to a physical address.
    #[must_use]
    pub fn gate_a20(&self, addr: u64) -> u64 {
        if self.a20 { addr } else { addr & !(1 << 20) }
    }

    /// Opens or closes the A20 gate.
    pub fn set_a20(&mut self, open: bool) {
        if self.a20 != open {
            self.a20 = open;
            self.invalidate_tlbs();
        }
    }

    /// Whether the A20 gate is open.
    #[must_use]
    pub fn a20(&self) -> bool {
        self.a20
    }

    /// Sets piece `n` (16 KiB each, from C0000h) of the PAM area.
    pub fn set_pam(&mut self, n: usize, pam: Pam) {
        if n < PAM_COUNT && self.pam[n] != pam {
            self.pam[n] = pam;
            let first = (PAM_FIRST + n as u64 * PAM_STEP) as u32;
            self.note_store(first, PAM_STEP as u32);
            // Code that was decoded from the ROM side goes too.
            let rom = self.rom_offset() + ROM_SIZE - (0x10_0000 - first);
            self.note_store(rom, PAM_STEP as u32);
            self.invalidate_tlbs();
        }
    }

    /// Lets A0000h-BFFFFh reach RAM (SMRAM open, 82441FX 3.2.21) instead of the VGA.
    pub fn set_smram_open(&mut self, open: bool) {
        if self.smram_open != open {
            self.smram_open = open;
            self.invalidate_tlbs();
        }
    }

    /// Maps the first `len` bytes of the video RAM at physical `base`; `len` 0 unmaps it.
    pub fn map_frame_buffer(&mut self, base: u64, len: u32) {
        if self.lfb != (base, len) {
            self.lfb = (base, len.min(VRAM_SIZE));
            self.invalidate_tlbs();
        }
    }

    /// Counter that changes when every TLB must be flushed.
    #[inline(always)]
    #[must_use]
    pub fn tlb_epoch(&self) -> u64 {
        self.tlb_epoch
    }

    /// What maps where.
    #[must_use]
    pub fn map_state(&self) -> MapState {
        MapState { pam: self.pam, lfb: self.lfb, smram_open: self.smram_open, a20: self.a20 }
    }

    /// Puts [`map_state`](Self::map_state) back.
    pub fn set_map_state(&mut self, state: &MapState) {
        self.pam = state.pam;
        self.lfb = (state.lfb.0, state.lfb.1.min(VRAM_SIZE));
        self.smram_open = state.smram_open;
        self.a20 = state.a20;
        self.invalidate_tlbs();
    }

    /// Bytes at the start of the block that a guest can write: RAM and video RAM.
    #[must_use]
    pub fn writable_len(&self) -> u32 {
        self.ram_size + VRAM_SIZE
    }

    /// A CRC-32 of the firmware.
    #[must_use]
    pub fn rom_checksum(&self) -> u32 {
        let mut rom = vec![0; ROM_SIZE as usize];
        self.block.read(self.rom_offset(), &mut rom);
        let mut crc = flate2::Crc::new();
        crc.update(&rom);
        crc.sum()
    }

    /// Forgets which bytes code was decoded from: no decoded code is left.
    pub fn forget_code(&mut self) {
        for (page, bytes) in self.code_bytes.iter_mut().enumerate() {
            if bytes.take().is_some() {
                self.block.set_code((page << 12) as u32, 0);
            }
        }
        self.stale_code.clear();
    }

    /// All of the video RAM changed.
    pub fn touch_vram(&mut self) {
        self.vram_dirty.fill(true);
        self.vram_touched = true;
    }

    fn invalidate_tlbs(&mut self) {
        self.tlb_epoch += 1;
    }

    // --- code tracking ---

    /// Records that code was decoded from `len` bytes at block offset `offset` (inside one page).
    pub fn mark_code(&mut self, offset: u32, len: u32) {
        let Some(bytes) = self.code_bytes.get_mut((offset >> 12) as usize) else { return };
        self.block.set_code(offset, self.block.code(offset) | granules(offset, len));
        let bytes = bytes.get_or_insert_with(|| Box::new([0; GRANULES]));
        for (granule, mask) in byte_masks(offset, len) {
            bytes[granule] |= mask;
        }
    }

    /// Whether any code was decoded from the page of `offset`.
    #[inline]
    #[must_use]
    pub fn page_has_code(&self, offset: u32) -> bool {
        self.block.code(offset) != 0
    }

    /// Whether a store of `len` bytes (inside one page) hits bytes that code was decoded from. Exact to the
    /// byte: programs for real mode keep their variables right beside their code.
    #[inline]
    #[must_use]
    pub fn store_hits_code(&self, offset: u32, len: u32) -> bool {
        self.block.code(offset) & granules(offset, len) != 0
            && self.code_bytes[(offset >> 12) as usize]
                .as_ref()
                .is_some_and(|bytes| byte_masks(offset, len).any(|(granule, mask)| bytes[granule] & mask != 0))
    }

    /// Must follow every write to the block that did not go through a TLB: marks overwritten code stale
    /// and video RAM dirty. The range may span pages.
    pub fn note_store(&mut self, offset: u32, len: u32) {
        let (mut at, end) = (u64::from(offset), u64::from(offset) + u64::from(len));
        while at < end {
            let n = (PAGE - at % PAGE).min(end - at);
            if self.store_hits_code(at as u32, n as u32) {
                self.block.set_code(at as u32, 0);
                self.code_bytes[(at >> 12) as usize] = None;
                self.stale_code.push((at >> 12) as u32);
            }
            self.mark_vram_dirty(at as u32);
            at += n;
        }
    }

    /// Whether decoded code has become stale since the last [`take_stale_code`](Self::take_stale_code).
    #[inline(always)]
    #[must_use]
    pub fn has_stale_code(&self) -> bool {
        !self.stale_code.is_empty()
    }

    /// Block page numbers (offset / 4096) whose decoded code must be dropped.
    pub fn take_stale_code(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.stale_code)
    }

    // --- video RAM dirt ---

    /// Marks the video RAM page of block offset `offset` as changed (no effect on other memory).
    #[inline]
    pub fn mark_vram_dirty(&mut self, offset: u32) {
        if let Some(d) = offset.checked_sub(self.ram_size).and_then(|at| self.vram_dirty.get_mut((at >> 12) as usize)) {
            *d = true;
            self.vram_touched = true;
        }
    }

    /// Whether any video RAM may have changed since the last [`clear_vram_dirty`](Self::clear_vram_dirty).
    #[must_use]
    pub fn vram_touched(&self) -> bool {
        self.vram_touched
    }

    /// Whether video RAM bytes `from..to` (offsets into the video RAM) may have changed since the last
    /// [`clear_vram_dirty`](Self::clear_vram_dirty).
    #[must_use]
    pub fn vram_dirty(&self, from: u32, to: u32) -> bool {
        let (a, b) = ((from >> 12) as usize, (to.div_ceil(PAGE as u32) as usize).min(self.vram_dirty.len()));
        a < b && self.vram_dirty[a..b].iter().any(|&d| d)
    }

    /// Starts a new dirty period. When anything was dirty, TLBs must drop their write translations to video
    /// RAM (and nothing else: how often the host draws must not show in what the guest sees).
    pub fn clear_vram_dirty(&mut self) {
        if std::mem::take(&mut self.vram_touched) {
            self.vram_dirty.fill(false);
            self.vram_epoch += 1;
        }
    }

    /// Counter that changes when write translations to video RAM must be dropped.
    #[inline(always)]
    #[must_use]
    pub fn vram_epoch(&self) -> u64 {
        self.vram_epoch
    }

    // --- device access (DMA): physical addresses, RAM and ROM only ---

    /// Reads physical memory as a bus master. Bytes that no memory backs read as FFh.
    pub fn dma_read(&self, addr: u64, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            let at = addr + done as u64;
            let n = ((PAGE - at % PAGE) as usize).min(out.len() - done);
            match self.frame(at, false) {
                Frame::Memory(o) | Frame::Rom(o) => self.block.read(o + (at % PAGE) as u32, &mut out[done..done + n]),
                Frame::Mmio => out[done..done + n].fill(0xff),
            }
            done += n;
        }
    }

    /// Writes physical memory as a bus master. Bytes that no RAM backs are lost.
    pub fn dma_write(&mut self, addr: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = addr + done as u64;
            let n = ((PAGE - at % PAGE) as usize).min(data.len() - done);
            if let Frame::Memory(o) = self.frame(at, true) {
                let o = o + (at % PAGE) as u32;
                self.block.write(o, &data[done..done + n]);
                self.note_store(o, n as u32);
            }
            done += n;
        }
    }
}

fn granules(offset: u32, len: u32) -> u64 {
    let first = (offset & 0xfff) >> 6;
    let last = ((offset & 0xfff) + len.max(1) - 1).min(0xfff) >> 6;
    (u64::MAX >> (63 - (last - first))) << first
}

/// The bytes of a range inside one page, as masks by granule.
fn byte_masks(offset: u32, len: u32) -> impl Iterator<Item = (usize, u64)> {
    let (first, end) = (offset & 0xfff, ((offset & 0xfff) + len.max(1)).min(PAGE as u32));
    (first >> 6..=(end - 1) >> 6).map(move |granule| {
        let from = first.max(granule << 6) & 63;
        let to = (end.min((granule + 1) << 6) - 1) & 63;
        (granule as usize, (u64::MAX >> (63 - (to - from))) << from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let mut bios = vec![0; 128 << 10];
        *bios.last_mut().expect("not empty") = 0x5a;
        Memory::new(4 << 20, &bios)
    }

    #[test]
    fn bios_shows_below_1m_and_below_4g_until_pam_opens_ram() {
        let mut m = memory();
        let mut b = [0];
        m.dma_read(0xfffff, &mut b);
        assert_eq!(b, [0x5a]);
        m.dma_read(0xffff_ffff, &mut b);
        assert_eq!(b, [0x5a]);
        m.dma_write(0xfffff, &[1]);
        m.dma_read(0xfffff, &mut b);
        assert_eq!(b, [0x5a]);
        m.set_pam(15, Pam { read_ram: true, write_ram: true });
        m.dma_write(0xfffff, &[1]);
        m.dma_read(0xfffff, &mut b);
        assert_eq!(b, [1]);
        assert_eq!(m.frame(0xd0000, false), Frame::Mmio);
    }

    #[test]
    fn a_closed_a20_wraps_at_one_mebibyte() {
        let mut m = memory();
        m.dma_write(0x10, &[7]);
        m.set_a20(false);
        let mut b = [0];
        m.dma_read(0x10_0010, &mut b);
        assert_eq!(b, [7]);
    }

    #[test]
    fn stores_report_stale_code_by_byte() {
        let mut m = memory();
        m.mark_code(0x2040, 4);
        m.mark_code(0x20be, 70);
        m.dma_write(0x2000, &[0; 64]);
        m.dma_write(0x2044, &[0; 122]);
        m.dma_write(0x2104, &[0; 0xf00]);
        assert!(!m.has_stale_code());
        for (at, len) in [(0x203f, 2), (0x2043, 1), (0x20bd, 2), (0x20c0, 64), (0x2103, 8), (0x1000, 8192)] {
            assert!(m.store_hits_code(at.max(0x2000), len.min(4096)), "{at:x}");
        }
        m.dma_write(0x203f, &[0; 2]);
        assert_eq!(m.take_stale_code(), vec![2]);
        m.dma_write(0x2040, &[0; 2]);
        assert!(!m.has_stale_code(), "already dropped");
    }

    #[test]
    fn frame_buffer_writes_are_seen_as_dirt() {
        let mut m = memory();
        m.map_frame_buffer(0xfd00_0000, VRAM_SIZE);
        m.clear_vram_dirty();
        m.dma_write(0xfd00_5000, &[1]);
        assert!(m.vram_dirty(0x5000, 0x5001));
        assert!(!m.vram_dirty(0, 0x5000));
    }
}
