//! Faults, memory operands and state images, through a bus that is nothing but memory.

use super::table::{Class, SimdOp};
use crate::bus::CpuBus;
use crate::cpu::decode::decode_one;
use crate::cpu::fault::{Exec, Fault};
use crate::cpu::op::{Kind, Op};
use crate::cpu::state::{Cpu, CpuModel, RAX, RBX, RDI, cr0, cr4, mode};
use crate::mem::Memory;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod host;

/// Where test operands are.
const AT: u32 = 0x3000;

struct RamBus(Memory);

impl CpuBus for RamBus {
    fn mem(&self) -> &Memory {
        &self.0
    }
    fn mem_mut(&mut self) -> &mut Memory {
        &mut self.0
    }
    fn port_read(&mut self, _cpu: usize, _icount: u64, _port: u16, _size: u8) -> u32 {
        0
    }
    fn port_write(&mut self, _cpu: usize, _icount: u64, _port: u16, _size: u8, _value: u32) {}
    fn mmio_read(&mut self, _cpu: usize, _icount: u64, _addr: u64, _size: u8) -> u64 {
        0
    }
    fn mmio_write(&mut self, _cpu: usize, _icount: u64, _addr: u64, _size: u8, _value: u64) {}
    fn interrupt_pending(&self, _cpu: usize) -> bool {
        false
    }
    fn acknowledge_interrupt(&mut self, _cpu: usize, _icount: u64) -> Option<u8> {
        None
    }
    fn tsc(&mut self, _icount: u64) -> u64 {
        0
    }
    fn apic_base(&self, _cpu: usize) -> u64 {
        0
    }
    fn set_apic_base(&mut self, _cpu: usize, _value: u64) {}
}

/// A CPU in flat 32-bit code without paging, SSE enabled.
struct Lab {
    cpu: Cpu,
    bus: RamBus,
}

fn decode(bytes: &[u8], model: CpuModel) -> Op {
    let mut window = [0; 15];
    window[..bytes.len()].copy_from_slice(bytes);
    decode_one(&window, mode::CODE32 | mode::FLAT, model).expect("complete")
}

impl Lab {
    fn new(model: CpuModel) -> Lab {
        let mut cpu = Cpu::new(0, model);
        cpu.cr0 |= cr0::NE;
        cpu.cr4 |= cr4::OSFXSR | cr4::OSXMMEXCPT;
        cpu.single = true;
        cpu.x87.init();
        cpu.set_reg32(RDI, AT);
        Lab { cpu, bus: RamBus(Memory::new(1 << 20, &[])) }
    }

    fn run(&mut self, bytes: &[u8]) -> Exec {
        let op = decode(bytes, self.cpu.model);
        match op.kind {
            Kind::Simd => self.cpu.exec_simd(&mut self.bus, &op),
            _ => Err(Fault::UD),
        }
    }

    fn fault(&mut self, bytes: &[u8]) -> Option<(u8, Option<u16>)> {
        let fault = self.run(bytes).err()?;
        Some((fault.vector(), fault.code()))
    }

    /// Identity-maps the first 4 MiB, but for the page of `absent`.
    fn page(&mut self, absent: u32) {
        let block = self.bus.0.block();
        for n in 0..1024 {
            let present = u32::from(n != absent >> 12);
            block.write_u32(0x2_1000 + 4 * n, n << 12 | 6 | present);
        }
        block.write_u32(0x2_0000, 0x2_1007);
        self.cpu.cr3 = 0x2_0000;
        self.cpu.cr0 |= cr0::PG;
        self.cpu.tlb.flush_all();
    }
}

const ADDPS_REG: &[u8] = &[0x0f, 0x58, 0xc1];
const ADDSD_REG: &[u8] = &[0xf2, 0x0f, 0x58, 0xc1];
const DIVSS_REG: &[u8] = &[0xf3, 0x0f, 0x5e, 0xc1];
const PADDB_MMX: &[u8] = &[0x0f, 0xfc, 0xc1];
const MOVQ_LOAD: &[u8] = &[0x0f, 0x6f, 0x07];
const MOVAPS_STORE: &[u8] = &[0x0f, 0x29, 0x07];
const MOVUPS_LOAD: &[u8] = &[0x0f, 0x10, 0x07];
const MOVUPS_STORE: &[u8] = &[0x0f, 0x11, 0x07];
const EMMS: &[u8] = &[0x0f, 0x77];
const FXSAVE: &[u8] = &[0x0f, 0xae, 0x07];
const FXRSTOR: &[u8] = &[0x0f, 0xae, 0x0f];
const LDMXCSR: &[u8] = &[0x0f, 0xae, 0x17];
const STMXCSR: &[u8] = &[0x0f, 0xae, 0x1f];
const CLFLUSH: &[u8] = &[0x0f, 0xae, 0x3f];
const MASKMOVDQU: &[u8] = &[0x66, 0x0f, 0xf7, 0xc1];

#[test]
fn each_model_has_its_extensions() {
    use CpuModel::*;
    let decodes = |bytes: &[u8], model| decode(bytes, model).kind != Kind::Alone;
    let movnti: &[u8] = &[0x0f, 0xc3, 0x07];
    let sfence: &[u8] = &[0x0f, 0xae, 0xf8];
    let prefetch: &[u8] = &[0x0f, 0x18, 0x07];
    let paddq_mmx: &[u8] = &[0x0f, 0xd4, 0xc1];
    let addsubps: &[u8] = &[0xf2, 0x0f, 0xd0, 0xc1];
    let pshufb: &[u8] = &[0x0f, 0x38, 0x00, 0xc1];
    let pcmpgtq: &[u8] = &[0x66, 0x0f, 0x38, 0x37, 0xc1];
    let popcnt: &[u8] = &[0xf3, 0x0f, 0xb8, 0xc1];
    let crc32: &[u8] = &[0xf2, 0x0f, 0x38, 0xf1, 0xc1];
    let fisttp: &[u8] = &[0xdb, 0x0f];
    for (bytes, first) in [
        (PADDB_MMX, Some(PentiumIII)),
        (EMMS, Some(PentiumIII)),
        (FXSAVE, Some(PentiumIII)),
        (LDMXCSR, Some(PentiumIII)),
        (ADDPS_REG, Some(PentiumIII)),
        (sfence, Some(PentiumIII)),
        (prefetch, Some(PentiumIII)),
        (ADDSD_REG, Some(Pentium4)),
        (paddq_mmx, Some(Pentium4)),
        (MASKMOVDQU, Some(Pentium4)),
        (CLFLUSH, Some(Pentium4)),
        (movnti, Some(Pentium4)),
        (addsubps, Some(Nehalem)),
        (fisttp, Some(Nehalem)),
        (pshufb, Some(Nehalem)),
        (pcmpgtq, Some(Nehalem)),
        (popcnt, Some(Nehalem)),
        (crc32, Some(Nehalem)),
        // AESENC and MOVBE are of later processors.
        (&[0x66, 0x0f, 0x38, 0xdc, 0xc1], None),
        (&[0x0f, 0x38, 0xf0, 0x07], None),
    ] {
        for model in [I486, Pentium, PentiumIII, Pentium4, Nehalem] {
            let expected = first.is_some_and(|first| model >= first);
            assert_eq!(decodes(bytes, model), expected, "{bytes:x?} on {model:?}");
        }
    }
    assert_eq!(decode(movnti, Pentium4).kind, Kind::Mov32MR);
}

#[test]
fn control_registers_switch_the_extensions_off() {
    let with = |bytes: &[u8], set: fn(&mut Cpu)| {
        let mut lab = Lab::new(CpuModel::Pentium4);
        set(&mut lab.cpu);
        lab.fault(bytes).map(|(vector, _)| vector)
    };
    let em = |cpu: &mut Cpu| cpu.cr0 |= cr0::EM;
    let ts = |cpu: &mut Cpu| cpu.cr0 |= cr0::TS;
    let off = |cpu: &mut Cpu| cpu.cr4 &= !cr4::OSFXSR;
    let both = |cpu: &mut Cpu| {
        cpu.cr0 |= cr0::TS;
        cpu.cr4 &= !cr4::OSFXSR;
    };
    for bytes in [ADDPS_REG, ADDSD_REG, MOVUPS_STORE, LDMXCSR, STMXCSR] {
        assert_eq!(with(bytes, em), Some(6));
        assert_eq!(with(bytes, ts), Some(7));
        assert_eq!(with(bytes, off), Some(6));
        assert_eq!(with(bytes, both), Some(6));
        if bytes != LDMXCSR {
            assert_eq!(with(bytes, |_| {}), None);
        }
    }
    for bytes in [PADDB_MMX, EMMS, MOVQ_LOAD] {
        assert_eq!(with(bytes, em), Some(6));
        assert_eq!(with(bytes, ts), Some(7));
        assert_eq!(with(bytes, off), None);
    }
    for bytes in [FXSAVE, FXRSTOR] {
        assert_eq!(with(bytes, em), Some(7));
        assert_eq!(with(bytes, ts), Some(7));
        assert_eq!(with(bytes, off), None);
    }
    assert_eq!(with(CLFLUSH, em), None);
}

#[test]
fn a_pending_x87_error_comes_before_mmx_but_not_before_sse() {
    let pending = |bytes: &[u8]| {
        let mut lab = Lab::new(CpuModel::Pentium4);
        let mut env = [0; 28];
        env[..4].copy_from_slice(&0x37eu32.to_le_bytes());
        env[4] = 1;
        lab.cpu.x87.load_env(&env, crate::fpu::ImageMode { operand32: true, protected: true });
        assert!(lab.cpu.x87.pending_exception());
        lab.fault(bytes).map(|(vector, _)| vector)
    };
    for bytes in [PADDB_MMX, EMMS, MOVQ_LOAD, &[0x0f, 0x2a, 0xc1]] {
        assert_eq!(pending(bytes), Some(16));
    }
    for bytes in [ADDPS_REG, FXSAVE, FXRSTOR, STMXCSR] {
        assert_eq!(pending(bytes), None);
    }
}

#[test]
fn aligned_operands_must_be_aligned_and_others_need_not() {
    let gp = Some((13, Some(0)));
    for second in 0..=0xff_u8 {
        for prefix in [None, Some(0x66), Some(0xf3), Some(0xf2)] {
            let mut bytes: Vec<u8> = prefix.into_iter().collect();
            bytes.extend([0x0f, second, 0x07, 0]);
            let op = decode(&bytes, CpuModel::Pentium4);
            let Some(simd) = SimdOp::of(op.imm).filter(|_| op.kind == Kind::Simd) else {
                continue;
            };
            let mut lab = Lab::new(CpuModel::Pentium4);
            lab.cpu.set_reg32(RDI, AT + 8);
            let mmx = op.imm & super::MMX_FORM != 0;
            let expected = (simd.info().aligned && !mmx) || matches!(simd, SimdOp::Fxsave | SimdOp::Fxrstor);
            assert_eq!(lab.fault(&bytes), if expected { gp } else { None }, "{simd:?}");
        }
    }
}

#[test]
fn alignment_is_checked_before_paging_and_both_pages_before_a_store() {
    let mut lab = Lab::new(CpuModel::Pentium4);
    lab.page(AT + 0x1000);
    lab.cpu.set_reg32(RDI, AT + 0x1008);
    assert_eq!(lab.fault(MOVAPS_STORE), Some((13, Some(0))));
    assert_eq!(lab.fault(MOVUPS_LOAD), Some((14, Some(0))));
    lab.cpu.set_reg32(RDI, AT + 0x1000);
    assert_eq!(lab.fault(MOVAPS_STORE), Some((14, Some(2))));
    assert_eq!(lab.fault(CLFLUSH), Some((14, Some(0))));
    lab.cpu.xmm[0] = u128::MAX;
    lab.cpu.set_reg32(RDI, AT + 0xff8);
    assert_eq!(lab.fault(MOVUPS_STORE), Some((14, Some(2))));
    assert_eq!(lab.bus.0.block().read_u64(AT + 0xff8), 0);
    assert_eq!(lab.cpu.cr2, u64::from(AT + 0x1000));
    lab.cpu.x87.init();
    let before = lab.cpu.x87.clone();
    lab.cpu.set_reg32(RDI, AT + 0xffc);
    assert_eq!(lab.fault(MOVQ_LOAD), Some((14, Some(0))));
    assert_eq!(lab.cpu.x87, before, "a fault does not enter MMX mode");
}

#[test]
fn memory_operands_end_where_the_table_says() {
    let mut lab = Lab::new(CpuModel::Pentium4);
    lab.page(AT + 0x1000);
    for (bytes, width) in [
        (&[0xf3, 0x0f, 0x58, 0x07][..], 4),
        (&[0xf2, 0x0f, 0x58, 0x07], 8),
        (&[0x0f, 0xc4, 0x07, 1], 2),
        (&[0x0f, 0x12, 0x07], 8),
        (&[0x0f, 0x5a, 0x07], 8),
        (&[0x0f, 0xfc, 0x07], 8),
        (&[0x0f, 0x60, 0x07], 4),
        (&[0x0f, 0x68, 0x07], 8),
        (&[0xf3, 0x0f, 0x11, 0x07], 4),
        (&[0x0f, 0x7e, 0x07], 4),
        (&[0x66, 0x0f, 0xd6, 0x07], 8),
        (LDMXCSR, 4),
    ] {
        lab.bus.0.block().write_u32(AT + 0x1000 - 4, 0x1f80);
        lab.cpu.set_reg32(RDI, AT + 0x1000 - width);
        assert_eq!(lab.fault(bytes), None, "{bytes:x?}");
        lab.cpu.set_reg32(RDI, AT + 0x1001 - width);
        assert_eq!(lab.fault(bytes).map(|f| f.0), Some(14), "{bytes:x?}");
    }
}

#[test]
fn masked_stores_touch_only_the_selected_bytes() {
    let mut lab = Lab::new(CpuModel::Pentium4);
    lab.page(AT + 0x1000);
    lab.cpu.set_reg32(RDI, AT + 0xff8);
    lab.cpu.xmm[0] = 0xffee_ddcc_bbaa_9988_7766_5544_3322_1100;
    lab.cpu.xmm[1] = 0;
    assert_eq!(lab.fault(MASKMOVDQU), None);
    lab.cpu.xmm[1] = 0x80 << 56 | 0xff;
    assert_eq!(lab.fault(MASKMOVDQU), None, "the absent page is masked out");
    assert_eq!(lab.bus.0.block().read_u64(AT + 0xff8), 0x77 << 56);
    lab.cpu.xmm[1] = 0x80 << 64 | 0x80;
    assert_eq!(lab.fault(MASKMOVDQU), Some((14, Some(2))));
    let addr16 = decode(&[0x67, 0x66, 0x0f, 0xf7, 0xc1], CpuModel::Pentium4);
    lab.cpu.set_reg32(RDI, 0xabc0_0000 | AT);
    assert_eq!(lab.cpu.offset_any(&addr16), AT);
}

#[test]
fn unmasked_exceptions_are_xm_or_ud_and_keep_the_destination() {
    let mut lab = Lab::new(CpuModel::PentiumIII);
    lab.cpu.mxcsr = 0x1f80 & !0x200;
    lab.cpu.xmm[0] = 0x3f80_0000;
    assert_eq!(lab.fault(DIVSS_REG), Some((19, None)));
    assert_eq!((lab.cpu.mxcsr & 0x3f, lab.cpu.xmm[0]), (4, 0x3f80_0000));
    lab.cpu.cr4 &= !cr4::OSXMMEXCPT;
    assert_eq!(lab.fault(DIVSS_REG), Some((6, None)));
    lab.cpu.mxcsr = 0x1f80;
    assert_eq!(lab.fault(DIVSS_REG), None);
    assert_eq!((lab.cpu.mxcsr & 0x3f, lab.cpu.xmm[0]), (4, 0x7f80_0000));
}

#[test]
fn mxcsr_refuses_bits_that_the_model_lacks() {
    for (model, mask) in [(CpuModel::PentiumIII, 0xffbf), (CpuModel::Pentium4, 0xffff)] {
        let mut lab = Lab::new(model);
        for bit in 0..32 {
            let value = 1 << bit;
            lab.bus.0.block().write_u32(AT, value);
            let fault = lab.fault(LDMXCSR);
            if mask & value != 0 {
                assert_eq!((fault, lab.cpu.mxcsr), (None, value));
            } else {
                assert_eq!(fault, Some((13, Some(0))));
            }
        }
        assert_eq!(lab.fault(FXSAVE), None);
        assert_eq!(lab.bus.0.block().read_u32(AT + 28), mask);
        lab.bus.0.block().write_u32(AT + 24, 0x1_0000);
        lab.cpu.xmm[3] = 5;
        assert_eq!(lab.fault(FXRSTOR), Some((13, Some(0))));
        assert_eq!(lab.cpu.xmm[3], 5, "nothing is restored");
    }
}

#[test]
fn fxsave_and_fxrstor_carry_the_whole_state() {
    let mut lab = Lab::new(CpuModel::PentiumIII);
    for n in 0..8 {
        lab.cpu.xmm[n] = 0x0123_4567_89ab_cdef_0011_2233_4455_6677 << n;
        lab.cpu.x87.mmx_write(n as u8, 0x1111 << n);
    }
    lab.cpu.x87.mmx_enter();
    lab.cpu.mxcsr = 0x7fa1;
    let (x87, xmm) = (lab.cpu.x87.clone(), lab.cpu.xmm);
    lab.bus.0.block().write_u32(AT + 288, 0x5555_5555);
    assert_eq!(lab.fault(FXSAVE), None);
    let block = lab.bus.0.block();
    assert_eq!(block.read_u32(AT + 24), 0x7fa1);
    assert_eq!(block.read_u128(AT + 160 + 16), xmm[1]);
    assert_eq!(block.read_u32(AT + 288), 0x5555_5555, "reserved");
    lab.cpu.x87.init();
    lab.cpu.xmm = [0; 16];
    lab.cpu.mxcsr = 0x1f80;
    assert_eq!(lab.fault(FXRSTOR), None);
    assert_eq!((&lab.cpu.x87, lab.cpu.xmm, lab.cpu.mxcsr), (&x87, xmm, 0x7fa1));

    // Without CR4.OSFXSR only the x87 part moves.
    lab.cpu.cr4 &= !cr4::OSFXSR;
    let block = lab.bus.0.block();
    block.write_u32(AT + 24, u32::MAX);
    block.write_u128(AT + 160, 1);
    lab.cpu.x87.init();
    assert_eq!(lab.fault(FXRSTOR), None);
    assert_eq!((&lab.cpu.x87, lab.cpu.xmm, lab.cpu.mxcsr), (&x87, xmm, 0x7fa1));
    assert_eq!(lab.fault(FXSAVE), None);
    let block = lab.bus.0.block();
    assert_eq!((block.read_u32(AT + 24), block.read_u128(AT + 160)), (u32::MAX, 1));
}

#[test]
fn mmx_instructions_validate_the_tags_and_emms_empties_them() {
    let mut lab = Lab::new(CpuModel::PentiumIII);
    assert_eq!(lab.fault(PADDB_MMX), None);
    assert_ne!(lab.cpu.x87.tag_word(), 0xffff);
    assert_eq!(lab.fault(EMMS), None);
    assert_eq!(lab.cpu.x87.tag_word(), 0xffff);
    lab.cpu.set_reg32(RAX, 0x1234_5678);
    assert_eq!(lab.fault(&[0x0f, 0x6e, 0xd8]), None);
    assert_eq!(lab.fault(&[0x0f, 0x7e, 0xdb]), None);
    assert_eq!(lab.cpu.reg32(RBX), 0x1234_5678);
    assert_eq!(lab.cpu.x87.st(3).se, 0xffff, "sign and exponent of MM3");
}

#[test]
fn stores_write_memory_and_nothing_else() {
    for op in SimdOp::ALL {
        let info = op.info();
        if info.dst == Class::Memory {
            assert!(!info.reads_dst && !info.float, "{op:?}");
        }
    }
    assert_eq!(SimdOp::of(u32::MAX), None);
}
