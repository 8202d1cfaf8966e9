//! Memory as instructions see it: segmentation, then paging, then the physical page.
//!
//! Every access first tries a TLB; a miss walks the page tables, fills the TLB when the page is plain
//! memory, and otherwise goes byte-exact through the slow path. Inside the fast block loop
//! (`!cpu.single`) an access that is not plain memory answers [`Fault::DEFER`] before it does anything.

use super::fault::{Exec, Fault};
use super::segment::{Seg, rights};
use super::state::{Cpu, cr0, cr4, efer};
use super::system::feature;
use super::tlb::{self, slot};
use crate::bus::CpuBus;
use crate::mem::{Frame, PAGE, Ram};

/// What an access wants of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// A write (or the read half of a read-modify-write).
    pub write: bool,
    /// With user privilege.
    pub user: bool,
    /// An instruction fetch.
    pub fetch: bool,
}

/// Page-fault error code bits (SDM vol. 3, 4.7).
mod pf {
    pub const PRESENT: u16 = 1;
    pub const WRITE: u16 = 2;
    pub const USER: u16 = 4;
    pub const RESERVED: u16 = 8;
    pub const FETCH: u16 = 16;
}

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const LARGE: u64 = 0x80;
const GLOBAL: u64 = 0x100;
const NX: u64 = 1 << 63;
/// Reserved bits of a PAE entry above the 36-bit physical address.
const PAE_RESERVED: u64 = 0x7fff_fff0_0000_0000;

/// Where the read half of a read-modify-write came from, and its write half goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Plain memory at this block offset.
    Plain(u32),
    /// The slow path; both halves were checked.
    Slow,
}

macro_rules! sized_access {
    ($t:ty, $size:expr, $block_read:ident, $block_write:ident, $read_lin:ident, $write_lin:ident, $read:ident, $write:ident, $rmw_read:ident, $rmw_write:ident, $sys_read:ident, $sys_write:ident) => {
        /// Reads at a linear address with the current privilege.
        #[inline(always)]
        pub fn $read_lin<B: CpuBus>(&mut self, bus: &mut B, lin: u32) -> Exec<$t> {
            match tlb::hit(self.tlb.read[slot(lin, self.derived.user)], lin, $size) {
                Some(offset) => Ok(bus.mem().block().$block_read(offset)),
                None => Ok(self.read_slow(bus, lin, $size, self.derived.user != 0)? as $t),
            }
        }

        /// Writes at a linear address with the current privilege.
        #[inline(always)]
        pub fn $write_lin<B: CpuBus>(&mut self, bus: &mut B, lin: u32, value: $t) -> Exec {
            match tlb::hit(self.tlb.write[slot(lin, self.derived.user)], lin, $size) {
                Some(offset) => {
                    bus.mem().block().$block_write(offset, value);
                    Ok(())
                }
                None => self.write_slow(bus, lin, $size, value as u128, self.derived.user != 0),
            }
        }

        /// Reads through a segment (0-5, or 6 for an address that needs no segment check).
        #[inline(always)]
        pub fn $read<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32) -> Exec<$t> {
            let lin = self.linear_read(seg, offset, $size)?;
            self.$read_lin(bus, lin)
        }

        /// Writes through a segment (0-5, or 6).
        #[inline(always)]
        pub fn $write<B: CpuBus>(&mut self, bus: &mut B, seg: u8, offset: u32, value: $t) -> Exec {
            let lin = self.linear_write(seg, offset, $size)?;
            self.$write_lin(bus, lin, value)
        }

        /// The read half of a read-modify-write at a linear address from [`linear_write`](Self::linear_write);
        /// checks the write too.
        #[inline(always)]
        pub fn $rmw_read<B: CpuBus>(&mut self, bus: &mut B, lin: u32) -> Exec<(Target, $t)> {
            let target = match tlb::hit(self.tlb.write[slot(lin, self.derived.user)], lin, $size) {
                Some(offset) => Target::Plain(offset),
                None => self.rmw_slow(bus, lin, $size)?,
            };
            match target {
                Target::Plain(offset) => Ok((target, bus.mem().block().$block_read(offset))),
                Target::Slow => Ok((target, self.read_slow(bus, lin, $size, self.derived.user != 0)? as $t)),
            }
        }

        /// The write half; cannot fault.
        #[inline(always)]
        pub fn $rmw_write<B: CpuBus>(&mut self, bus: &mut B, target: Target, lin: u32, value: $t) -> Exec {
            match target {
                Target::Plain(offset) => {
                    bus.mem().block().$block_write(offset, value);
                    Ok(())
                }
                Target::Slow => self.write_slow(bus, lin, $size, value as u128, self.derived.user != 0),
            }
        }

        /// Implicit supervisor read at a linear address (descriptor tables, TSS).
        pub fn $sys_read<B: CpuBus>(&mut self, bus: &mut B, lin: u32) -> Exec<$t> {
            match tlb::hit(self.tlb.read[slot(lin, 0)], lin, $size) {
                Some(offset) => Ok(bus.mem().block().$block_read(offset)),
                None => Ok(self.read_slow(bus, lin, $size, false)? as $t),
            }
        }

        /// Implicit supervisor write at a linear address.
        pub fn $sys_write<B: CpuBus>(&mut self, bus: &mut B, lin: u32, value: $t) -> Exec {
            match tlb::hit(self.tlb.write[slot(lin, 0)], lin, $size) {
                Some(offset) => {
                    bus.mem().block().$block_write(offset, value);
                    Ok(())
                }
                None => self.write_slow(bus, lin, $size, value as u128, false),
            }
        }
    };
}

impl Cpu {
    sized_access!(
        u8, 1, read_u8, write_u8, read_lin8, write_lin8, read8, write8, rmw_read8, rmw_write8, sys_read8, sys_write8
    );
    sized_access!(
        u16,
        2,
        read_u16,
        write_u16,
        read_lin16,
        write_lin16,
        read16,
        write16,
        rmw_read16,
        rmw_write16,
        sys_read16,
        sys_write16
    );
    sized_access!(
        u32,
        4,
        read_u32,
        write_u32,
        read_lin32,
        write_lin32,
        read32,
        write32,
        rmw_read32,
        rmw_write32,
        sys_read32,
        sys_write32
    );
    sized_access!(
        u64,
        8,
        read_u64,
        write_u64,
        read_lin64,
        write_lin64,
        read64,
        write64,
        rmw_read64,
        rmw_write64,
        sys_read64,
        sys_write64
    );
    sized_access!(
        u128,
        16,
        read_u128,
        write_u128,
        read_lin128,
        write_lin128,
        read128,
        write128,
        rmw_read128,
        rmw_write128,
        sys_read128,
        sys_write128
    );

    // --- segmentation ---

    /// Linear address of a read of `size` bytes at `seg:offset` after limit and rights checks.
    #[inline(always)]
    pub fn linear_read(&mut self, seg: u8, offset: u32, size: u32) -> Exec<u32> {
        let s = usize::from(seg & 7);
        if i64::from(offset) + i64::from(size - 1) <= self.derived.read_max[s] {
            Ok((self.derived.base[s] as u32).wrapping_add(offset))
        } else {
            self.linear_slow(seg, offset, size, false)
        }
    }

    /// Linear address of a write (or read-modify-write) of `size` bytes at `seg:offset`.
    #[inline(always)]
    pub fn linear_write(&mut self, seg: u8, offset: u32, size: u32) -> Exec<u32> {
        let s = usize::from(seg & 7);
        if i64::from(offset) + i64::from(size - 1) <= self.derived.write_max[s] {
            Ok((self.derived.base[s] as u32).wrapping_add(offset))
        } else {
            self.linear_slow(seg, offset, size, true)
        }
    }

    /// Expand-down segments, and the faults: #SS(0) through SS, #GP(0) otherwise.
    #[cold]
    fn linear_slow(&mut self, seg: u8, offset: u32, size: u32, write: bool) -> Exec<u32> {
        let s = &self.seg[usize::from(seg).min(5)];
        let allowed = s.present() && (self.real_segments() || if write { s.writable() } else { s.readable() });
        if allowed && s.contains(offset.into(), size.into()) {
            return Ok((s.base as u32).wrapping_add(offset));
        }
        Err(if seg == Seg::Ss as u8 { Fault::ss(0) } else { Fault::gp(0) })
    }

    // --- paging ---

    /// Translates one linear address; sets accessed and dirty bits. Sets CR2 on a page fault.
    pub fn translate<B: CpuBus>(&mut self, bus: &mut B, lin: u32, want: Want) -> Exec<u64> {
        self.tlb.walked_global = false;
        if self.cr0 & cr0::PG == 0 {
            return Ok(lin.into());
        }
        let walked =
            if self.cr4 & cr4::PAE != 0 { self.walk_pae(bus, lin, want) } else { self.walk_32(bus, lin, want) };
        walked.map_err(|code| {
            self.cr2 = lin.into();
            let code = code | u16::from(want.write) * pf::WRITE | u16::from(want.user) * pf::USER;
            let nx = self.cr4 & cr4::PAE != 0 && self.efer & efer::NXE != 0;
            Fault::pf(if want.fetch && nx { code | pf::FETCH } else { code })
        })
    }

    /// Whether page rights `all` (the AND of all levels' R/W and U/S) allow the access.
    fn page_allows(&self, all: u64, want: Want) -> bool {
        if want.user {
            all & US != 0 && (!want.write || all & RW != 0)
        } else {
            !want.write || all & RW != 0 || self.cr0 & cr0::WP == 0
        }
    }

    /// The entry that maps a page says whether it is global, while CR4.PGE is set.
    fn note_global(&mut self, entry: u64) {
        self.tlb.walked_global = entry & GLOBAL != 0 && self.cr4 & cr4::PGE != 0;
    }

    fn walk_32<B: CpuBus>(&mut self, bus: &mut B, lin: u32, want: Want) -> Result<u64, u16> {
        let pde_at = (self.cr3 & 0xffff_f000) + u64::from(lin >> 22) * 4;
        let pde = u64::from(phys_read32(bus, pde_at));
        if pde & P == 0 {
            return Err(0);
        }
        if pde & LARGE != 0 && self.cr4 & cr4::PSE != 0 {
            // PSE-36: bits 16:13 are address bits 35:32, bits 21:17 are reserved; without it all of them are.
            let pse36 = self.features() & feature::PSE36 != 0;
            if pde & if pse36 { 0x3e_0000 } else { 0x3f_e000 } != 0 {
                return Err(pf::PRESENT | pf::RESERVED);
            }
            if !self.page_allows(pde, want) {
                return Err(pf::PRESENT);
            }
            phys_set_bits32(bus, pde_at, pde as u32, ACCESSED | if want.write { DIRTY } else { 0 });
            self.tlb.mark_large(lin);
            self.note_global(pde);
            return Ok((pde & 0xffc0_0000) | (pde >> 13 & 15) << 32 | u64::from(lin & 0x3f_ffff));
        }
        let pte_at = (pde & 0xffff_f000) + u64::from(lin >> 12 & 0x3ff) * 4;
        let pte = u64::from(phys_read32(bus, pte_at));
        if pte & P == 0 {
            return Err(0);
        }
        if !self.page_allows(pde & pte, want) {
            return Err(pf::PRESENT);
        }
        phys_set_bits32(bus, pde_at, pde as u32, ACCESSED);
        phys_set_bits32(bus, pte_at, pte as u32, ACCESSED | if want.write { DIRTY } else { 0 });
        self.note_global(pte);
        Ok((pte & 0xffff_f000) | u64::from(lin & 0xfff))
    }

    fn walk_pae<B: CpuBus>(&mut self, bus: &mut B, lin: u32, want: Want) -> Result<u64, u16> {
        let reserved = PAE_RESERVED | if self.efer & efer::NXE == 0 { NX } else { 0 };
        let pdpte = self.pdpte[(lin >> 30) as usize];
        if pdpte & P == 0 {
            return Err(0);
        }
        let pde_at = (pdpte & 0xf_ffff_f000) + u64::from(lin >> 21 & 0x1ff) * 8;
        let pde = phys_read64(bus, pde_at);
        if pde & P == 0 {
            return Err(0);
        }
        if pde & reserved != 0 || (pde & LARGE != 0 && pde & 0x1f_e000 != 0) {
            return Err(pf::PRESENT | pf::RESERVED);
        }
        if pde & LARGE != 0 {
            if !self.page_allows(pde, want) || (want.fetch && pde & NX != 0) {
                return Err(pf::PRESENT);
            }
            phys_set_bits64(bus, pde_at, pde, ACCESSED | if want.write { DIRTY } else { 0 });
            self.tlb.mark_large(lin);
            self.note_global(pde);
            return Ok((pde & 0xf_ffe0_0000) | u64::from(lin & 0x1f_ffff));
        }
        let pte_at = (pde & 0xf_ffff_f000) + u64::from(lin >> 12 & 0x1ff) * 8;
        let pte = phys_read64(bus, pte_at);
        if pte & P == 0 {
            return Err(0);
        }
        if pte & reserved != 0 {
            return Err(pf::PRESENT | pf::RESERVED);
        }
        if !self.page_allows(pde & pte, want) || (want.fetch && (pde | pte) & NX != 0) {
            return Err(pf::PRESENT);
        }
        phys_set_bits64(bus, pde_at, pde, ACCESSED);
        phys_set_bits64(bus, pte_at, pte, ACCESSED | if want.write { DIRTY } else { 0 });
        self.note_global(pte);
        Ok((pte & 0xf_ffff_f000) | u64::from(lin & 0xfff))
    }

    // --- the slow path ---

    /// #AC(0) for a user access of `size` bytes that is not aligned, when that is checked. What is longer than 8 bytes
    /// is aligned to 8 (SDM vol. 3, table 6-7).
    #[inline]
    pub(super) fn check_alignment(&self, lin: u32, size: u32) -> Exec {
        if self.derived.align && !lin.is_multiple_of(size.min(8)) { Err(Fault::ac(0)) } else { Ok(()) }
    }

    /// Alignment, then data breakpoints, of an access in a watched half.
    #[cold]
    fn watch(&mut self, lin: u32, size: u32, write: bool, user: bool) -> Exec {
        if user {
            self.check_alignment(lin, size)?;
        }
        self.data_breakpoint(lin, size, write);
        Ok(())
    }

    /// Translates and, when the page is plain memory, fills the matching TLB. Returns the physical address
    /// and what backs it.
    fn resolve<B: CpuBus>(&mut self, bus: &mut B, lin: u32, write: bool, user: bool) -> Exec<(u64, Frame)> {
        let phys = self.translate(bus, lin, Want { write, user, fetch: false })?;
        let phys = bus.mem().gate_a20(phys);
        let frame = bus.mem().frame(phys, write);
        if self.derived.watched[usize::from(user)] {
            return Ok((phys, frame));
        }
        let i = slot(lin, user.into());
        // What the block loop relies on: no entry leads out of the memory block.
        let end = bus.mem().block().len();
        match frame {
            Frame::Memory(offset) | Frame::Rom(offset) if offset as usize + PAGE as usize > end => {}
            Frame::Memory(offset) if write => {
                bus.mem_mut().mark_vram_dirty(offset);
                let mark = if bus.mem().page_has_code(offset) { tlb::HOLDS_CODE } else { 0 };
                self.tlb.enter_write(i, tlb::entry(lin, offset) | mark);
            }
            Frame::Memory(offset) | Frame::Rom(offset) if !write => self.tlb.enter_read(i, tlb::entry(lin, offset)),
            _ => {}
        }
        Ok((phys, frame))
    }

    /// An access across 4 GiB faults where its segment ends there, and wraps where the segment's base makes it. Flat
    /// operands of the fast loop don't know their segment: the instruction is decoded again, alone, with its segment.
    fn inside_space(&self, lin: u32, size: u32) -> Exec {
        if !self.single && lin.checked_add(size - 1).is_none() { Err(Fault::DEFER) } else { Ok(()) }
    }

    /// A read that missed the TLB. `size` is 1, 2, 4, 8 or 16; the value is zero-extended.
    #[cold]
    #[inline(never)]
    fn read_slow<B: CpuBus>(&mut self, bus: &mut B, lin: u32, size: u32, user: bool) -> Exec<u128> {
        self.inside_space(lin, size)?;
        if self.derived.watched[usize::from(user)] {
            self.watch(lin, size, false, user)?;
        }
        let first = ((PAGE as u32) - (lin & 0xfff)).min(size);
        let (phys, frame) = self.resolve(bus, lin, false, user)?;
        if first == size {
            return self.read_frame(bus, phys, frame, size);
        }
        let (phys2, frame2) = self.resolve(bus, lin.wrapping_add(first), false, user)?;
        if !self.single && (frame == Frame::Mmio || frame2 == Frame::Mmio) {
            return Err(Fault::DEFER);
        }
        let mut value = 0u128;
        for i in 0..size {
            let (p, f) = if i < first { (phys + u64::from(i), frame) } else { (phys2 + u64::from(i - first), frame2) };
            value |= self.read_frame(bus, p, f, 1)? << (8 * i);
        }
        Ok(value)
    }

    fn read_frame<B: CpuBus>(&mut self, bus: &mut B, phys: u64, frame: Frame, size: u32) -> Exec<u128> {
        match frame {
            Frame::Memory(offset) | Frame::Rom(offset) => {
                let at = offset + (phys % PAGE) as u32;
                let block = bus.mem().block();
                Ok(match size {
                    1 => block.read_u8(at).into(),
                    2 => block.read_u16(at).into(),
                    4 => block.read_u32(at).into(),
                    8 => block.read_u64(at).into(),
                    _ => block.read_u128(at),
                })
            }
            Frame::Mmio if !self.single => Err(Fault::DEFER),
            Frame::Mmio if size == 16 => {
                let low = bus.mmio_read(self.index, self.icount, phys, 8);
                Ok(u128::from(low) | u128::from(bus.mmio_read(self.index, self.icount, phys + 8, 8)) << 64)
            }
            Frame::Mmio => Ok(bus.mmio_read(self.index, self.icount, phys, size as u8).into()),
        }
    }

    /// The block offset of a write of `size` bytes to a page that holds code, if it hits none and the write TLB knows the
    /// page: such a write needs no more than others. A page whose code is gone becomes one like any other.
    #[inline]
    pub(super) fn beside_code<B: CpuBus>(&mut self, bus: &B, lin: u32, size: u32, user: bool) -> Option<u32> {
        let entry = &mut self.tlb.write[slot(lin, user.into())];
        let offset = tlb::hit_beside_code(*entry, lin, size)?;
        if !bus.mem().page_has_code(offset) {
            *entry ^= tlb::HOLDS_CODE;
        }
        (!bus.mem().store_hits_code(offset, size)).then_some(offset)
    }

    /// A write that missed the TLB. Both pages of a crossing access are checked before either is touched.
    #[cold]
    #[inline(never)]
    fn write_slow<B: CpuBus>(&mut self, bus: &mut B, lin: u32, size: u32, value: u128, user: bool) -> Exec {
        if let Some(offset) = self.beside_code(bus, lin, size, user) {
            write_block(bus.mem().block(), offset, size, value);
            return Ok(());
        }
        self.inside_space(lin, size)?;
        if self.derived.watched[usize::from(user)] {
            self.watch(lin, size, true, user)?;
        }
        let first = ((PAGE as u32) - (lin & 0xfff)).min(size);
        let (phys, frame) = self.resolve(bus, lin, true, user)?;
        if first == size {
            self.may_store(bus, phys, frame, size)?;
            self.write_frame(bus, phys, frame, size, value);
            return Ok(());
        }
        let (phys2, frame2) = self.resolve(bus, lin.wrapping_add(first), true, user)?;
        self.may_store(bus, phys, frame, first)?;
        self.may_store(bus, phys2, frame2, size - first)?;
        for i in 0..size {
            let (p, f) = if i < first { (phys + u64::from(i), frame) } else { (phys2 + u64::from(i - first), frame2) };
            self.write_frame(bus, p, f, 1, value >> (8 * i));
        }
        Ok(())
    }

    /// In the fast loop, device writes and stores onto code are left to the single-instruction path.
    fn may_store<B: CpuBus>(&self, bus: &B, phys: u64, frame: Frame, size: u32) -> Exec {
        let defer = !self.single
            && match frame {
                Frame::Memory(offset) => bus.mem().store_hits_code(offset + (phys % PAGE) as u32, size),
                Frame::Rom(_) => false,
                Frame::Mmio => true,
            };
        if defer { Err(Fault::DEFER) } else { Ok(()) }
    }

    fn write_frame<B: CpuBus>(&mut self, bus: &mut B, phys: u64, frame: Frame, size: u32, value: u128) {
        match frame {
            Frame::Memory(offset) => {
                let at = offset + (phys % PAGE) as u32;
                write_block(bus.mem().block(), at, size, value);
                bus.mem_mut().note_store(at, size);
            }
            Frame::Rom(_) => {}
            Frame::Mmio if size == 16 => {
                bus.mmio_write(self.index, self.icount, phys, 8, value as u64);
                bus.mmio_write(self.index, self.icount, phys + 8, 8, (value >> 64) as u64);
            }
            Frame::Mmio => bus.mmio_write(self.index, self.icount, phys, size as u8, value as u64),
        }
    }

    /// Checks a read-modify-write that missed the write TLB.
    #[cold]
    #[inline(never)]
    fn rmw_slow<B: CpuBus>(&mut self, bus: &mut B, lin: u32, size: u32) -> Exec<Target> {
        let user = self.derived.user != 0;
        if let Some(offset) = self.beside_code(bus, lin, size, user) {
            return Ok(Target::Plain(offset));
        }
        self.check_alignment(lin, size)?;
        self.check_write(bus, lin, size, user)?;
        let clean = tlb::hit(self.tlb.write[slot(lin, self.derived.user)], lin, size);
        Ok(clean.or_else(|| self.beside_code(bus, lin, size, user)).map_or(Target::Slow, Target::Plain))
    }

    /// Checks that `size` bytes (at most a page) at `lin` can be written, without writing: the whole range
    /// faults now or not at all. Fills TLBs.
    pub fn check_write<B: CpuBus>(&mut self, bus: &mut B, lin: u32, size: u32, user: bool) -> Exec {
        self.inside_space(lin, size)?;
        let first = ((PAGE as u32) - (lin & 0xfff)).min(size);
        let (phys, frame) = self.resolve(bus, lin, true, user)?;
        if first < size {
            let (phys2, frame2) = self.resolve(bus, lin.wrapping_add(first), true, user)?;
            self.may_store(bus, phys2, frame2, size - first)?;
        }
        self.may_store(bus, phys, frame, first)
    }

    /// Drops all translations if the memory map moved under them.
    #[inline(always)]
    pub fn sync_tlb<B: CpuBus>(&mut self, bus: &B) {
        let epoch = bus.mem().tlb_epoch();
        if self.tlb.epoch != epoch {
            self.tlb.epoch = epoch;
            self.tlb.flush_all();
        }
        let vram_epoch = bus.mem().vram_epoch();
        if self.tlb.vram_epoch != vram_epoch {
            self.tlb.vram_epoch = vram_epoch;
            self.tlb.flush_writes_from(bus.mem().vram_offset());
        }
    }

    /// Loads the four PAE directory pointers from CR3; #GP(0) when a present one has reserved bits set.
    pub fn load_pdptes<B: CpuBus>(&mut self, bus: &mut B, cr3: u64) -> Exec {
        let mut entries = [0; 4];
        for (i, e) in entries.iter_mut().enumerate() {
            *e = phys_read64(bus, (cr3 & 0xffff_ffe0) + 8 * i as u64);
            if *e & P != 0 && *e & (0xffff_fff0_0000_0000 | 0x1e6) != 0 {
                return Err(Fault::gp(0));
            }
        }
        self.pdpte = entries;
        Ok(())
    }

    /// Block offset of the instruction byte at linear address `lin`, through the fetch TLB.
    /// `None` when the page is not memory (code is then fetched byte by byte through the bus).
    pub fn fetch_offset<B: CpuBus>(&mut self, bus: &mut B, lin: u32) -> Exec<Option<u32>> {
        let i = slot(lin, self.derived.user);
        if let Some(offset) = tlb::hit(self.tlb.fetch[i], lin, 1) {
            return Ok(Some(offset));
        }
        let phys = self.translate(bus, lin, Want { write: false, user: self.derived.user != 0, fetch: true })?;
        let phys = bus.mem().gate_a20(phys);
        match bus.mem().frame(phys, false) {
            Frame::Memory(offset) | Frame::Rom(offset) => {
                self.tlb.enter_fetch(i, tlb::entry(lin, offset));
                Ok(Some(offset + lin % PAGE as u32))
            }
            Frame::Mmio => Ok(None),
        }
    }

    /// Whether a read through CS is allowed by rights that data segments never have (execute-only code).
    #[must_use]
    pub fn cs_readable(&self) -> bool {
        self.real_segments() || self.seg[Seg::Cs as usize].rights & rights::RW != 0
    }
}

/// Writes the low `size` bytes (1, 2, 4, 8 or 16) of a value.
#[inline]
fn write_block(block: &Ram, at: u32, size: u32, value: u128) {
    match size {
        1 => block.write_u8(at, value as u8),
        2 => block.write_u16(at, value as u16),
        4 => block.write_u32(at, value as u32),
        8 => block.write_u64(at, value as u64),
        _ => block.write_u128(at, value),
    }
}

// Entries of paging structures lie within a page, as they are aligned. They are not copied as a bus master's data is: that is a
// call of the browser's, however little it is.

fn phys_read32<B: CpuBus>(bus: &mut B, at: u64) -> u32 {
    match bus.mem().frame(at, false) {
        Frame::Memory(offset) | Frame::Rom(offset) => bus.mem().block().read_u32(offset + (at % PAGE) as u32),
        Frame::Mmio => u32::MAX,
    }
}

fn phys_read64<B: CpuBus>(bus: &mut B, at: u64) -> u64 {
    match bus.mem().frame(at, false) {
        Frame::Memory(offset) | Frame::Rom(offset) => bus.mem().block().read_u64(offset + (at % PAGE) as u32),
        Frame::Mmio => u64::MAX,
    }
}

fn phys_set_bits32<B: CpuBus>(bus: &mut B, at: u64, old: u32, bits: u64) {
    let new = old | bits as u32;
    if new != old {
        phys_write(bus, at, 4, new.into());
    }
}

fn phys_set_bits64<B: CpuBus>(bus: &mut B, at: u64, old: u64, bits: u64) {
    let new = old | bits;
    if new != old {
        phys_write(bus, at, 8, new.into());
    }
}

fn phys_write<B: CpuBus>(bus: &mut B, at: u64, size: u32, value: u128) {
    if let Frame::Memory(offset) = bus.mem().frame(at, true) {
        let offset = offset + (at % PAGE) as u32;
        write_block(bus.mem().block(), offset, size, value);
        bus.mem_mut().note_store(offset, size);
    }
}
