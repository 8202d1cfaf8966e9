//! Random operations over random tables: nothing panics, nothing hangs, and faults undo themselves.

use crate::cpu::segment::Seg;
use crate::cpu::state::{Activity, CpuModel, RCX, RSP, cr4};
use crate::cpu::testing::*;
use crate::cpu::{Cpu, Fault, Source, flags};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 20) % n
    }
    /// Mostly a plausible selector.
    fn selector(&mut self) -> u16 {
        match self.below(8) {
            0 => self.next() as u16,
            1 => 0,
            _ => (self.below(18) * 8) as u16 | self.below(4) as u16 | (self.below(4) as u16 & 1) << 2,
        }
    }
    /// A descriptor of any kind whose fields are mostly plausible.
    fn descriptor(&mut self) -> u64 {
        let access = self.next() as u8 | if self.below(4) > 0 { 0x80 } else { 0 };
        match self.below(4) {
            0 => self.next(),
            1 => gate(access, self.selector(), self.next() as u32 & 0xf_ffff, self.next() as u8),
            2 => descriptor(TSS2, self.next() as u32 & 0xff, access, 0),
            _ => flat(access),
        }
    }
}

#[test]
fn random_tables_and_operations_never_panic_or_hang() {
    let mut r = Random(0x1234_5678_9abc_def1);
    for round in 0..150 {
        let mut lab = match r.below(5) {
            0 => Lab::real_model(CpuModel::Pentium4),
            1 => Lab::vm86(r.below(4) as u32),
            2 => Lab::ring(3),
            3 => Lab::ring(1),
            _ => Lab::protected(),
        };
        if round % 3 == 0 && lab.cpu.protected() {
            lab.enable_paging();
        }
        if r.below(2) == 0 {
            lab.cpu.cr4 |= cr4::VME | cr4::PVI;
        }
        for i in 1..18 {
            if r.below(8) == 0 {
                let raw = r.descriptor();
                lab.set_descriptor(i * 8, raw);
            }
            let raw = r.descriptor();
            lab.set_descriptor((i * 8) | 4, raw);
        }
        for vector in 0..=255 {
            // Exceptions mostly find a handler, so that the round goes on.
            let raw = if vector < 32 && r.below(8) > 0 { gate(0x8e, CODE0, 0x1234, 0) } else { r.descriptor() };
            lab.set_gate(vector, raw);
        }
        for _ in 0..400 {
            one_operation(&mut lab, &mut r);
            lab.cpu.activity = Activity::Running;
        }
    }
}

/// What IRET or RET might find: often a return to ring 3, 1 or virtual-8086 mode.
fn plausible_frame(r: &mut Random) -> [u32; 9] {
    let (cs, ss) = [(CODE3, DATA3), (CODE1, DATA1), (CODE0, DATA0)][r.below(3) as usize];
    let flags = (r.next() as u32 & 0x3f_7fd5) & !if r.below(4) > 0 { flags::VM } else { 0 };
    let mut frame = [0x1234, cs.into(), flags, STACK3, ss.into(), 0x2222, 0x1111, 0x3333, 0x4444];
    if r.below(2) == 0 {
        // A far return: no flags.
        frame[2..5].copy_from_slice(&[STACK3, ss.into(), 0]);
    }
    if r.below(3) == 0 {
        frame[r.below(9) as usize] = r.selector().into();
    }
    frame
}

fn one_operation(lab: &mut Lab, r: &mut Random) {
    // Scramble a little state now and then.
    match r.below(12) {
        0 => lab.cpu.set_reg32(RSP, r.next() as u32),
        1 => lab.cpu.set_reg32(RSP, STACK0 + r.below(64) as u32),
        2 => lab.write64(TSS + r.below(14) as u32 * 8, r.next()),
        3 => {
            for i in 0..13 {
                lab.write32(TSS2 + i * 8, r.selector().into());
                lab.write32(TSS2 + i * 8 + 4, r.next() as u32);
            }
        }
        4 => lab.set_page(r.below(16) as u32 * 0x1000, r.next() as u32 & 7),
        _ => {}
    }
    let at = r.next() as u32 & 0xffff;
    lab.at(at, 2);
    let sp = (lab.cpu.segment(Seg::Ss).base as u32).wrapping_add(lab.cpu.sp());
    let frame = plausible_frame(r);
    for (i, word) in frame.into_iter().enumerate() {
        lab.write32(sp.min(0x3f_0000) + 4 * i as u32, word);
    }
    let (selector, offset, wide) = (r.selector(), r.next() as u32 & 0xf_ffff, r.below(2) == 0);
    let vector = r.next() as u8;
    let op = r.below(22);
    let random = r.next();
    let (c, b) = (&mut lab.cpu, &mut lab.bus);
    let msrs = [0x10, 0x1b, 0x174, 0x200, 0x277, random as u32];
    c.set_reg32(RCX, msrs[random as usize % 6]);
    let state = |c: &Cpu| {
        let tables = (c.ldtr, c.tr, c.gdtr, c.idtr);
        let control = (c.cr0, c.cr3, c.cr4, c.pdpte, c.cpl, c.shadow);
        (c.gpr, c.seg, c.eflags(), c.rip, c.next_rip, tables, control)
    };
    let before = state(c);
    let result = match op {
        0..=2 => c.load_segment(b, Seg::ALL[[0, 2, 3, 4, 5][random as usize % 5]], selector),
        3 | 4 => c.far_jump(b, selector, offset, wide),
        5 | 6 => c.far_call(b, selector, offset, wide),
        7 | 8 => c.far_return(b, random as u16 & 15, wide),
        9..=11 => c.iret(b, wide),
        12 => c.interrupt(b, vector, Source::IntN),
        13 => c.interrupt(b, vector, Source::External),
        14 => c.ltr(b, selector),
        15 => c.lldt(b, selector),
        16 => c.popf(b, wide),
        17 => c.pushf(b, wide),
        18 => c.wrmsr(b),
        19 => {
            // PE stays: a real-mode CS kept across its change has any RPL.
            let pe = c.smsw() & 1;
            c.mov_to_cr(b, (random & 7) as u8, (random >> 8) as u32 & 0x1e | pe)
        }
        20 => c.check_io(b, offset as u16, [1, 2, 4][random as usize % 3]),
        _ => c.lar(b, selector).map(|_| ()),
    };
    match result {
        Ok(()) => c.rip = c.next_rip,
        Err(fault) => {
            assert!(!fault.is_defer());
            // A task switch may fault in the new task; everything else leaves no trace.
            if c.rip == u64::from(at) {
                assert_eq!(before, state(c), "operation {op}");
            }
            c.deliver(b, fault);
        }
    }
    if random & 63 == 0 {
        c.deliver(b, Fault::pf(0));
    }
    assert!(c.cpl == 0 || c.protected(), "real mode is ring 0");
    assert!(!c.vm86() || c.cpl == 3);
    let cs = c.segment(Seg::Cs);
    if !c.real_segments() && cs.present() {
        assert_eq!(u16::from(c.cpl), cs.selector & 3, "CPL is CS.RPL");
    }
}
