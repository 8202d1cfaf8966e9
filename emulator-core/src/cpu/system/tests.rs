//! Tests of system instructions, by the sections of the manual.

use crate::cpu::segment::Seg;
use crate::cpu::state::*;
use crate::cpu::testing::*;
use crate::cpu::{Delivered, Fault, flags};

fn msr(lab: &mut Lab, index: u32, value: u64) {
    lab.cpu.set_reg32(RCX, index);
    lab.cpu.set_reg32(RAX, value as u32);
    lab.cpu.set_reg32(RDX, (value >> 32) as u32);
}

fn edx_eax(lab: &Lab) -> u64 {
    u64::from(lab.cpu.reg32(RDX)) << 32 | u64::from(lab.cpu.reg32(RAX))
}

#[test]
fn tables_load_24_or_32_bits_and_store_32() {
    // SDM vol. 2, LGDT and SGDT.
    let mut lab = Lab::protected();
    lab.write16(0x5000, 0x1ff);
    lab.write32(0x5002, 0x8765_4321);
    lab.ok(|c, b| c.lidt(b, Seg::Ds as u8, 0x5000, false));
    assert_eq!((lab.cpu.idtr.base, lab.cpu.idtr.limit), (0x65_4321, 0x1ff));
    lab.ok(|c, b| c.lidt(b, Seg::Ds as u8, 0x5000, true));
    lab.ok(|c, b| c.sidt(b, Seg::Ds as u8, 0x5100));
    assert_eq!(lab.read16(0x5100), 0x1ff);
    assert_eq!(lab.read32(0x5102), 0x8765_4321);
    let mut user = Lab::ring(3);
    user.faults(Fault::gp(0), |c, b| c.lgdt(b, 3, 0x5000, true));
    user.ok(|c, b| c.sgdt(b, 3, 0x5000));
    let mut real = Lab::real();
    real.faults(Fault::gp(0), |c, b| c.sgdt(b, 3, 0xfffb));
}

#[test]
fn cr0_combinations() {
    // SDM vol. 2, MOV CRn; vol. 3, 2.5.
    let mut lab = Lab::real();
    lab.faults(Fault::gp(0), |c, b| c.mov_to_cr(b, 0, cr0::PG as u32));
    lab.faults(Fault::gp(0), |c, b| c.mov_to_cr(b, 0, cr0::NW as u32));
    lab.ok(|c, b| c.mov_to_cr(b, 0, 0x11 | 1 << 6));
    assert_eq!(lab.ok(|c, b| c.mov_from_cr(b, 0)), 0x11);
    assert!(lab.cpu.derived.mode & mode::PROTECTED != 0);
    lab.ok(|c, b| c.lmsw(b, 0xe));
    assert_eq!(lab.cpu.smsw(), 0x1f, "LMSW cannot clear PE");
    lab.ok(|c, _| c.clts());
    assert_eq!(lab.cpu.smsw(), 0x17);
    lab.faults(Fault::UD, |c, b| c.mov_to_cr(b, 1, 0));
    Lab::ring(3).faults(Fault::gp(0), |c, b| c.mov_from_cr(b, 0));
    Lab::ring(3).faults(Fault::gp(0), |c, _| c.clts());
    Lab::ring(3).faults(Fault::gp(0), |c, _| c.hlt());
}

#[test]
fn cr4_reserved_bits_fault_by_model() {
    let mut lab = Lab::real();
    lab.faults(Fault::gp(0), |c, b| c.mov_to_cr(b, 4, 1 << 13));
    lab.ok(|c, b| c.mov_to_cr(b, 4, 0x6b0));
    let mut lab = Lab::real_model(CpuModel::Pentium);
    lab.faults(Fault::gp(0), |c, b| c.mov_to_cr(b, 4, 0x80));
    lab.ok(|c, b| c.mov_to_cr(b, 4, 0x10));
}

#[test]
fn pae_pointers_load_with_cr3_and_check_reserved_bits() {
    // SDM vol. 3, 4.4.1.
    let mut lab = Lab::protected();
    lab.ok(|c, b| c.mov_to_cr(b, 4, cr4::PAE as u32));
    lab.write64(0x11000, 0x12001);
    lab.ok(|c, b| c.mov_to_cr(b, 3, 0x11000));
    // One 2 MiB page.
    lab.write64(0x12000, 0x83);
    lab.ok(|c, b| c.mov_to_cr(b, 0, 0x8000_0011));
    assert_eq!(lab.cpu.pdpte[0], 0x12001);
    lab.write64(0x11020, 0x12003);
    lab.faults(Fault::gp(0), |c, b| c.mov_to_cr(b, 3, 0x11020));
}

#[test]
fn invlpg_drops_the_page() {
    // SDM vol. 3, 4.10.4.
    let mut lab = Lab::protected();
    lab.enable_paging();
    lab.write32(0x6_0000, 1);
    lab.write32(0x6_1000, 2);
    assert_eq!(lab.ok(|c, b| c.read32(b, 3, 0x6_0000)), 1);
    lab.write32(PAGE_DIRECTORY + 0x1000 + 0x60 * 4, 0x6_1007);
    assert_eq!(lab.ok(|c, b| c.read32(b, 3, 0x6_0000)), 1, "still cached");
    lab.ok(|c, b| c.invlpg(b, 3, 0x6_0123));
    assert_eq!(lab.ok(|c, b| c.read32(b, 3, 0x6_0000)), 2);
}

#[test]
fn invlpg_drops_a_large_page_whole() {
    // SDM vol. 3, 4.10.4.1.
    let mut lab = Lab::protected();
    lab.enable_paging();
    lab.cpu.cr4 |= cr4::PSE;
    lab.write32(PAGE_DIRECTORY + 4, 0x83);
    lab.write32(0x6_0000, 1);
    lab.write32(0x6_4000, 1);
    assert_eq!(lab.ok(|c, b| c.read32(b, 3, 0x46_0000)), 1);
    assert_eq!(lab.ok(|c, b| c.read32(b, 3, 0x46_4000)), 1);
    lab.write32(PAGE_DIRECTORY + 4, 0);
    lab.ok(|c, b| c.invlpg(b, 3, 0x40_0000));
    lab.faults(Fault::pf(0), |c, b| c.read32(b, 3, 0x46_0000));
    lab.faults(Fault::pf(0), |c, b| c.read32(b, 3, 0x46_4000));
}

#[test]
fn debug_register_access() {
    // SDM vol. 3, 18.2.
    let mut lab = Lab::protected();
    lab.ok(|c, b| c.mov_to_dr(b, 4, 0));
    assert_eq!(lab.ok(|c, b| c.mov_from_dr(b, 6)), 0xffff_0ff0);
    lab.ok(|c, b| c.mov_to_dr(b, 7, 0xffff_ffff));
    assert_eq!(lab.cpu.dr[7], 0xffff_27ff);
    lab.set_gate(1, gate(0x8e, CODE0, 0x3_0000, 0));
    lab.cpu.dr[7] = 0x2400;
    let result = lab.cpu.mov_from_dr(&mut lab.bus, 0);
    assert_eq!(result, Err(Fault::DB));
    assert!(lab.cpu.dr[6] & 0x2000 != 0);
    lab.deliver(Fault::DB);
    assert_eq!(lab.cpu.dr[7], 0x400, "GD is cleared for the handler");
    lab.cpu.cr4 |= cr4::DE;
    lab.faults(Fault::UD, |c, b| c.mov_from_dr(b, 5));
    Lab::ring(3).faults(Fault::gp(0), |c, b| c.mov_from_dr(b, 0));
}

#[test]
fn breakpoints_match_by_kind_and_length() {
    // SDM vol. 3, 18.2.4 and 18.2.5.
    let mut lab = Lab::protected();
    lab.set_gate(1, gate(0x8e, CODE0, 0x3_0000, 0));
    assert!(!lab.cpu.debug_enabled());
    lab.cpu.dr[0] = CODE_AT.into();
    lab.cpu.dr[1] = 0x6003;
    lab.cpu.dr[2] = 0x7000;
    // 0 executes, 1 writes 4 bytes (6000h), 2 accesses 2 bytes.
    lab.cpu.dr[7] = 0x400 | 0x3f | 0xd << 20 | 0x7 << 24;
    assert!(lab.cpu.debug_enabled());
    lab.cpu.data_breakpoint(0x6004, 4, true);
    lab.cpu.data_breakpoint(0x5ffc, 4, true);
    lab.cpu.data_breakpoint(0x6000, 4, false);
    lab.cpu.data_breakpoint(CODE_AT, 4, true);
    assert_eq!(lab.cpu.pending_debug, 0);
    lab.cpu.data_breakpoint(0x5ffd, 4, true);
    assert_eq!(lab.cpu.pending_debug, 2);
    lab.cpu.data_breakpoint(0x7001, 1, false);
    assert_eq!(lab.cpu.pending_debug, 6);
    let (cpu, bus) = (&mut lab.cpu, &mut lab.bus);
    assert_eq!(cpu.debug_trap(bus, true), Some(Delivered::Ok));
    assert_eq!(lab.cpu.dr[6], 0xffff_4ff6);
    assert_eq!(lab.cpu.pending_debug, 0);
    let mut lab = Lab::protected();
    lab.set_gate(1, gate(0x8e, CODE0, 0x3_0000, 0));
    lab.cpu.dr[0] = CODE_AT.into();
    lab.cpu.dr[7] = 0x402;
    let (cpu, bus) = (&mut lab.cpu, &mut lab.bus);
    assert_eq!(cpu.code_breakpoint(bus, CODE_AT + 1), None);
    assert_eq!(cpu.code_breakpoint(bus, CODE_AT), Some(Delivered::Ok));
    // The breakpoint is a fault but pushes RF as it was (18.3.1.1).
    assert_eq!(lab.stack32(3), [CODE_AT, CODE0.into(), 0x202]);
}

#[test]
fn frames_hit_data_breakpoints_and_faults_forget_them() {
    // SDM vol. 3, 18.2.4: a push by an interrupt is a data write.
    let mut lab = Lab::protected();
    lab.set_gate(1, gate(0x8e, CODE0, 0x3_0000, 0));
    lab.set_gate(6, gate(0x8e, CODE0, 0x3_1000, 0));
    lab.set_gate(0x40, gate(0x8e, CODE0, 0x3_2000, 0));
    lab.cpu.dr[0] = u64::from(STACK0 - 4);
    lab.cpu.dr[7] = 0x401 | 0xd << 16;
    lab.cpu.mode_changed();
    lab.cpu.take_interrupt(&mut lab.bus, 0x40);
    assert_eq!(lab.cpu.pending_debug, 1);
    assert!(lab.cpu.debug_trap(&mut lab.bus, false).is_some());
    assert_eq!(lab.stack32(1), [0x3_2000]);
    lab.cpu.pending_debug = 4;
    lab.deliver(Fault::UD);
    assert_eq!(lab.cpu.pending_debug, 0);
}

#[test]
fn single_step_over_hlt_wakes() {
    let mut lab = Lab::protected();
    lab.set_gate(1, gate(0x8e, CODE0, 0x3_0000, 0));
    lab.ok(|c, _| c.hlt());
    assert_eq!(lab.cpu.activity, Activity::Halted);
    assert!(lab.cpu.debug_trap(&mut lab.bus, true).is_some());
    assert_eq!(lab.cpu.activity, Activity::Running);
}

#[test]
fn single_step_waits_behind_mov_ss() {
    // SDM vol. 3, 6.8.3.
    let mut lab = Lab::protected();
    lab.set_gate(1, gate(0x8e, CODE0, 0x3_0000, 0));
    lab.cpu.shadow = Shadow::MovSs;
    assert_eq!(lab.cpu.debug_trap(&mut lab.bus, true), None);
    lab.cpu.shadow = Shadow::None;
    lab.cpu.system_flags |= flags::TF;
    assert!(lab.cpu.debug_trap(&mut lab.bus, true).is_some());
    assert_eq!(lab.cpu.dr[6] & 0x4000, 0x4000);
    assert!(!lab.cpu.flag(flags::TF));
}

#[test]
fn io_permission() {
    // SDM vol. 1, 19.5.
    let mut lab = Lab::ring(3);
    lab.ok(|c, b| c.out_port(b, 0x80, 1, 7));
    assert_eq!(lab.bus.written, [(0x80, 1, 7)]);
    lab.write16(TSS + 0x88 + 0x60 / 8, 1 << 4);
    lab.faults(Fault::gp(0), |c, b| c.in_port(b, 0x64, 1));
    lab.faults(Fault::gp(0), |c, b| c.in_port(b, 0x61, 4));
    assert_eq!(lab.ok(|c, b| c.in_port(b, 0x60, 4)), 0x1234_5678);
    // Beyond the limit: both bytes of the map must be inside.
    lab.cpu.tr.limit = 0x88 + 0x10;
    lab.ok(|c, b| c.in_port(b, 0x7f, 1));
    lab.faults(Fault::gp(0), |c, b| c.in_port(b, 0x80, 1));
    lab.cpu.set_eflags(flags::IOPL);
    lab.ok(|c, b| c.in_port(b, 0xffff, 1));
    let mut lab = Lab::vm86(3);
    lab.write16(TSS + 0x88 + 0x60 / 8, 1 << 4);
    lab.faults(Fault::gp(0), |c, b| c.in_port(b, 0x64, 1));
}

#[test]
fn io_breakpoints_need_de() {
    let mut lab = Lab::protected();
    lab.cpu.dr[3] = 0x3f8;
    lab.cpu.dr[7] = 0x400 | 0x80 | 0x2 << 28;
    lab.ok(|c, b| c.out_port(b, 0x3f8, 1, 0));
    assert_eq!(lab.cpu.pending_debug, 0);
    lab.cpu.cr4 |= cr4::DE;
    lab.ok(|c, b| c.out_port(b, 0x3f8, 1, 0));
    assert_eq!(lab.cpu.pending_debug, 8);
}

#[test]
fn time_stamp_obeys_tsd_and_can_be_set() {
    let mut lab = Lab::ring(3);
    lab.ok(|c, b| c.rdtsc(b));
    assert_eq!(edx_eax(&lab), 1_000_000);
    lab.cpu.cr4 |= cr4::TSD;
    lab.faults(Fault::gp(0), |c, b| c.rdtsc(b));
    let mut lab = Lab::protected();
    msr(&mut lab, 0x10, 5);
    lab.ok(|c, b| c.wrmsr(b));
    lab.bus.tsc += 7;
    lab.ok(|c, b| c.rdtsc(b));
    assert_eq!(edx_eax(&lab), 12);
    Lab::real_model(CpuModel::I486).faults(Fault::UD, |c, b| c.rdtsc(b));
}

#[test]
fn performance_counters() {
    let mut lab = Lab::ring(3);
    lab.faults(Fault::gp(0), |c, b| c.rdpmc(b));
    lab.cpu.cr4 |= cr4::PCE;
    lab.cpu.set_reg32(RCX, 1);
    lab.ok(|c, b| c.rdpmc(b));
    lab.cpu.set_reg32(RCX, 2);
    lab.faults(Fault::gp(0), |c, b| c.rdpmc(b));
}

#[test]
fn msrs_hold_values_and_unknown_ones_fault() {
    let mut lab = Lab::protected();
    for (index, value) in [
        (0x174, 0x60),
        (0x175, 0x1234),
        (0x176, 0x5678),
        (0x277, 0x0105_0406_0007_0406),
        (0x200, 0xf_8000_0006),
        (0x201, 0xf_8000_0800),
        (0x250, 0x0606_0606_0606_0606),
        (0x259, 0x0505_0505_0505_0505),
        (0x26f, 0x0101_0101_0101_0101),
        (0x2ff, 0xc06),
    ] {
        msr(&mut lab, index, value);
        lab.ok(|c, b| c.wrmsr(b));
        msr(&mut lab, index, 0);
        lab.ok(|c, b| c.rdmsr(b));
        assert_eq!(edx_eax(&lab), value, "{index:x}");
    }
    for (index, bad) in [
        (0x277, 2),
        (0x250, 2),
        (0x200, 0x10_0000_0000),
        (0x201, 1),
        (0x2ff, 0x1000),
        (0xfe, 0),
        (0x1b, 0xfee0_0001),
        (0xc000_0080, 1 << 11),
        (0xdead, 0),
    ] {
        msr(&mut lab, index, bad);
        lab.faults(Fault::gp(0), |c, b| c.wrmsr(b));
    }
    msr(&mut lab, 0xdead, 0);
    lab.faults(Fault::gp(0), |c, b| c.rdmsr(b));
    Lab::ring(3).faults(Fault::gp(0), |c, b| c.rdmsr(b));
    Lab::real_model(CpuModel::I486).faults(Fault::UD, |c, b| c.rdmsr(b));
}

#[test]
fn cpuid_apic_bit_follows_the_enable() {
    let mut lab = Lab::protected();
    let leaf = |lab: &mut Lab, n: u32| {
        lab.cpu.set_reg32(RAX, n);
        lab.ok(|c, b| c.cpuid(b));
        [RAX, RBX, RCX, RDX].map(|r| lab.cpu.reg32(r))
    };
    assert_eq!(leaf(&mut lab, 0), [2, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]);
    assert_eq!(leaf(&mut lab, 1), [0x673, 0, 0, 0x0383_fbff]);
    assert_eq!(leaf(&mut lab, 99), leaf(&mut lab, 2));
    msr(&mut lab, 0x1b, 0xfee0_0000);
    lab.ok(|c, b| c.wrmsr(b));
    assert_eq!(leaf(&mut lab, 1)[3], 0x0383_f9ff);
    assert_eq!(lab.bus.apic_base, 0xfee0_0100, "BSP is read-only");
    let mut lab = Lab::real_model(CpuModel::Pentium);
    assert_eq!(leaf(&mut lab, 1), [0x543, 0, 0, 0x1bf]);
    let mut lab = Lab::real_model(CpuModel::Pentium4);
    let name: Vec<u8> =
        (0x8000_0002..=0x8000_0004).flat_map(|n| leaf(&mut lab, n)).flat_map(u32::to_le_bytes).collect();
    assert!(name.ends_with(b"Intel(R) Pentium(R) 4 CPU 2.40GHz\0"));
    msr(&mut lab, 0xc000_0080, 0x800);
    lab.ok(|c, b| c.wrmsr(b));
    assert_eq!(lab.cpu.efer, efer::NXE);
    // SSE3, SSSE3, SSE4.1, SSE4.2, POPCNT; NX and no long mode.
    let mut lab = Lab::real_model(CpuModel::Nehalem);
    assert_eq!(leaf(&mut lab, 1), [0x1_06a5, 0x800, 0x0098_0201, 0x078b_fbff]);
    assert_eq!(leaf(&mut lab, 0x8000_0001), [0, 0, 0, 1 << 20]);
}

#[test]
fn sysenter_and_sysexit() {
    // SDM vol. 3, 5.8.7.
    let mut lab = Lab::ring(3);
    lab.faults(Fault::gp(0), |c, b| c.sysenter(b));
    lab.cpu.msr.sysenter = [0x60, 0x9000, 0x3_0000];
    lab.faults(Fault::gp(0), |c, b| c.sysexit(b));
    lab.ok(|c, b| c.sysenter(b));
    assert_eq!((lab.selector(Seg::Cs), lab.selector(Seg::Ss)), (0x60, 0x68));
    assert_eq!((lab.cpu.cpl, lab.cpu.rip), (0, 0x3_0000));
    assert_eq!(lab.cpu.reg32(RSP), 0x9000);
    assert!(!lab.cpu.flag(flags::IF));
    lab.cpu.set_reg32(RCX, 0xb000);
    lab.cpu.set_reg32(RDX, 0x4_0000);
    lab.ok(|c, b| c.sysexit(b));
    assert_eq!((lab.selector(Seg::Cs), lab.selector(Seg::Ss)), (0x73, 0x7b));
    assert_eq!((lab.cpu.cpl, lab.cpu.rip), (3, 0x4_0000));
    Lab::real().faults(Fault::gp(0), |c, b| c.sysenter(b));
    Lab::real_model(CpuModel::Pentium).faults(Fault::UD, |c, b| c.sysenter(b));
}
