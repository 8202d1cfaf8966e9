//! What each model has: CPUID, #UD for the rest, LOCK, and the longest instruction.

use crate::cpu::flags;
use crate::cpu::state::*;
use crate::cpu::system::feature;
use crate::cpu::testing::*;

const MODELS: [CpuModel; 5] =
    [CpuModel::I486, CpuModel::Pentium, CpuModel::PentiumIII, CpuModel::Pentium4, CpuModel::Nehalem];

fn lab(model: CpuModel) -> Lab {
    let mut lab = Lab::protected();
    lab.cpu.model = model;
    lab.handlers();
    lab.cpu.cr4 |= cr4::OSFXSR;
    lab.cpu.set_reg32(RBX, 0x6000);
    lab.cpu.set_reg32(RCX, 0x10);
    lab
}

fn leaf(lab: &mut Lab, n: u32) -> [u32; 4] {
    lab.cpu.set_reg32(RAX, n);
    assert_eq!(lab.execute(&[0x0f, 0xa2]), None);
    [RAX, RBX, RCX, RDX].map(|r| lab.cpu.reg32(r))
}

/// Leaf 1: EDX, and ECX above it.
fn shown_by(model: CpuModel) -> u64 {
    let [_, _, ecx, edx] = leaf(&mut lab(model), 1);
    u64::from(edx) | u64::from(ecx) << 32
}

#[test]
fn instructions_exist_exactly_where_cpuid_shows_them() {
    // SDM vol. 2, CPUID, and the #UD conditions of each instruction.
    let table: &[(u64, &[u8])] = &[
        (feature::FPU, &[0xd9, 0xe8]),
        (feature::TSC, &[0x0f, 0x31]),
        (feature::MSR, &[0x0f, 0x32]),
        (feature::CX8, &[0x0f, 0xc7, 0x0b]),
        (feature::CMOV, &[0x0f, 0x44, 0xc1]),
        (feature::CMOV, &[0x0f, 0x44, 0x03]),
        (feature::CMOV, &[0xdb, 0xf1]),
        (feature::CMOV, &[0xda, 0xc1]),
        (feature::MMX, &[0x0f, 0xfc, 0xc1]),
        (feature::MMX, &[0x0f, 0x77]),
        (feature::FXSR, &[0x0f, 0xae, 0x03]),
        (feature::FXSR, &[0x0f, 0xae, 0x0b]),
        (feature::SSE, &[0x0f, 0x58, 0xc1]),
        (feature::SSE, &[0x0f, 0xae, 0x1b]),
        (feature::SSE, &[0x0f, 0x18, 0x0b]),
        (feature::SSE, &[0x0f, 0xae, 0xf8]),
        (feature::SSE2, &[0x66, 0x0f, 0x58, 0xc1]),
        (feature::SSE2, &[0x66, 0x0f, 0xfc, 0xc1]),
        (feature::SSE2, &[0x0f, 0xc3, 0x03]),
        (feature::SSE2, &[0x0f, 0xae, 0xe8]),
        (feature::SSE2, &[0x0f, 0xae, 0xf0]),
        (feature::CLFSH, &[0x0f, 0xae, 0x3b]),
        (feature::SSE3, &[0xf2, 0x0f, 0xd0, 0xc1]),
        (feature::SSE3, &[0xdf, 0x0b]),
        (feature::SSSE3, &[0x66, 0x0f, 0x38, 0x00, 0xc1]),
        (feature::SSE4_1, &[0x66, 0x0f, 0x38, 0x40, 0xc1]),
        (feature::SSE4_2, &[0x66, 0x0f, 0x38, 0x37, 0xc1]),
        (feature::SSE4_2, &[0xf2, 0x0f, 0x38, 0xf1, 0xc1]),
        (feature::POPCNT, &[0xf3, 0x0f, 0xb8, 0xc1]),
    ];
    for model in MODELS {
        let shown = shown_by(model);
        for &(bit, code) in table {
            let expected = (shown & bit == 0).then_some(6);
            assert_eq!(lab(model).execute(code), expected, "{model:?} {code:x?}");
        }
        // SYSENTER with no target is #GP where it exists.
        let expected = if shown & feature::SEP != 0 { 13 } else { 6 };
        assert_eq!(lab(model).execute(&[0x0f, 0x34]), Some(expected), "{model:?} SYSENTER");
    }
}

#[test]
fn cr4_bits_exist_exactly_where_cpuid_shows_them() {
    // SDM vol. 3, 2.5, and vol. 2, CPUID.
    for model in MODELS {
        let shown = shown_by(model);
        for (bit, needs) in [
            (cr4::VME, feature::VME),
            (cr4::PVI, feature::VME),
            (cr4::TSD, feature::TSC),
            (cr4::DE, feature::DE),
            (cr4::PSE, feature::PSE),
            (cr4::PAE, feature::PAE),
            (cr4::MCE, feature::MCE),
            (cr4::PGE, feature::PGE),
            (cr4::OSFXSR, feature::FXSR),
            (cr4::OSXMMEXCPT, feature::SSE),
        ] {
            let mut lab = lab(model);
            let result = lab.cpu.mov_to_cr(&mut lab.bus, 4, bit as u32);
            assert_eq!(result.is_ok(), shown & needs != 0, "{model:?} CR4 bit {bit:x}");
        }
    }
}

#[test]
fn msrs_exist_exactly_where_cpuid_shows_them() {
    // SDM vol. 4; vol. 2, RDMSR: #GP for an address that is reserved or not implemented.
    for model in MODELS.into_iter().skip(1) {
        let shown = shown_by(model);
        let nx = if model >= CpuModel::Pentium4 { leaf(&mut lab(model), 0x8000_0001)[3] >> 20 & 1 } else { 0 };
        for (msr, there) in [
            (0x10, shown & feature::TSC != 0),
            (0x1b, shown & feature::APIC != 0),
            (0x174, shown & feature::SEP != 0),
            (0xfe, shown & feature::MTRR != 0),
            (0x200, shown & feature::MTRR != 0),
            (0x250, shown & feature::MTRR != 0),
            (0x2ff, shown & feature::MTRR != 0),
            (0x277, shown & feature::PAT != 0),
            (0x179, shown & feature::MCA != 0),
            (0xc000_0080, nx != 0),
            (0xc000_0081, false),
            (0x4000_0000, false),
        ] {
            let mut lab = lab(model);
            lab.cpu.set_reg32(RCX, msr);
            assert_eq!(lab.execute(&[0x0f, 0x32]), (!there).then_some(13), "{model:?} MSR {msr:x}");
        }
    }
}

#[test]
fn mtrrs_and_pat_hold_what_is_written_and_refuse_impossible_types() {
    // SDM vol. 3, 12.11.2 and 12.12.2.
    for (msr, good, bad) in [
        (0x200, 0x8000_0006u64, 0x8000_0002u64),
        (0x201, 0xf_8000_0800, 0xf_8000_0001),
        (0x250, 0x0605_0401_0006_0504, 0x07),
        (0x2ff, 0xc06, 0xc07),
        (0x277, 0x0701_0406_0007_0406, 0x03),
    ] {
        let mut lab = lab(CpuModel::PentiumIII);
        let write = |lab: &mut Lab, value: u64| {
            lab.cpu.set_reg32(RCX, msr);
            lab.cpu.set_reg32(RAX, value as u32);
            lab.cpu.set_reg32(RDX, (value >> 32) as u32);
            lab.execute(&[0x0f, 0x30])
        };
        assert_eq!(write(&mut lab, good), None, "{msr:x}");
        assert_eq!(lab.execute(&[0x0f, 0x32]), None);
        assert_eq!(u64::from(lab.cpu.reg32(RDX)) << 32 | u64::from(lab.cpu.reg32(RAX)), good);
        assert_eq!(write(&mut lab, bad), Some(13), "{msr:x}");
    }
}

#[test]
fn the_id_flag_shows_that_there_is_cpuid() {
    // SDM vol. 1, 20.1.
    for model in MODELS {
        let mut lab = lab(model);
        lab.put_stack32(&[flags::ID | 2]);
        assert_eq!(lab.execute(&[0x9d]), None);
        assert!(lab.cpu.flag(flags::ID), "{model:?}");
        assert_eq!(leaf(&mut lab, 0)[1], u32::from_le_bytes(*b"Genu"));
        assert_eq!(leaf(&mut lab, 1)[0], lab.cpu.signature());
    }
}

#[test]
fn undefined_opcodes_are_ud_on_every_model() {
    // SDM vol. 2, appendix A; UD2, and opcodes of later processors and other modes.
    let codes: &[&[u8]] = &[
        &[0x0f, 0x0b],
        &[0x0f, 0xff],
        &[0x0f, 0x04],
        &[0x0f, 0x05],
        &[0x0f, 0x07],
        &[0x0f, 0xaa],
        &[0x0f, 0x01, 0xc1],
        &[0x0f, 0x01, 0xd0],
        &[0x0f, 0x38, 0xf6, 0xc0],
        &[0x8e, 0xc8],
        &[0x8c, 0xf8],
        &[0xff, 0xf8],
        &[0xfe, 0xd0],
        &[0xc6, 0xc8, 0],
        &[0x8d, 0xc0],
        &[0xc5, 0xf8, 0x77],
        &[0x62, 0xc0],
        &[0x0f, 0x20, 0xc8],
        &[0x0f, 0xba, 0xc0, 0],
        &[0xd9, 0xd1],
    ];
    for model in MODELS {
        for code in codes {
            assert_eq!(lab(model).execute(code), Some(6), "{model:?} {code:x?}");
        }
    }
    // No-operations of the P6 family.
    for code in [&[0x0f, 0x1f, 0xc0][..], &[0x0f, 0x19, 0xc0]] {
        for model in MODELS {
            let expected = (model < CpuModel::PentiumIII).then_some(6);
            assert_eq!(lab(model).execute(code), expected, "{model:?} {code:x?}");
        }
    }
}

#[test]
fn lock_is_ud_but_on_read_modify_writes_of_memory() {
    // SDM vol. 2, LOCK.
    let allowed: &[&[u8]] = &[
        &[0x01, 0x03],
        &[0x80, 0x03, 1],
        &[0x0f, 0xb1, 0x03],
        &[0x0f, 0xc1, 0x03],
        &[0x0f, 0xc7, 0x0b],
        &[0xff, 0x03],
        &[0xfe, 0x0b],
        &[0xf7, 0x13],
        &[0xf7, 0x1b],
        &[0x87, 0x03],
        &[0x0f, 0xab, 0x03],
        &[0x0f, 0xba, 0x33, 1],
        &[0x0f, 0xba, 0x3b, 1],
    ];
    let refused: &[&[u8]] = &[
        &[0x01, 0xc3],
        &[0x03, 0x03],
        &[0x39, 0x03],
        &[0x85, 0x03],
        &[0x89, 0x03],
        &[0x8b, 0x03],
        &[0x0f, 0xa3, 0x03],
        &[0x0f, 0xba, 0x23, 1],
        &[0xd1, 0x03],
        &[0x0f, 0xa4, 0x03, 1],
        &[0xff, 0x33],
        &[0x8f, 0x03],
        &[0xff, 0xc0],
        &[0x87, 0xc3],
        &[0xa4],
        &[0x90],
        &[0xd9, 0x03],
        &[0x0f, 0x20, 0xc0],
        &[0xf4],
        &[0xcd, 0x40],
    ];
    let locked = |code: &[u8]| {
        let code: Vec<u8> = [0xf0].iter().chain(code).copied().collect();
        lab(CpuModel::PentiumIII).execute(&code)
    };
    for code in allowed {
        assert_eq!(locked(code), None, "LOCK {code:x?}");
    }
    for code in refused {
        assert_eq!(locked(code), Some(6), "LOCK {code:x?}");
    }
}

#[test]
fn an_instruction_of_15_bytes_runs_and_one_of_16_is_gp() {
    // SDM vol. 2, 2.3.11 and vol. 3, 6.15, interrupt 13.
    let with_prefixes = |n: usize| [vec![0x2e; n], vec![0x8b, 0x05, 0, 0x60, 0, 0]].concat();
    for model in MODELS {
        assert_eq!(lab(model).execute(&with_prefixes(9)), None, "{model:?}");
        let mut long = lab(model);
        assert_eq!(long.execute(&with_prefixes(10)), Some(13), "{model:?}");
        assert_eq!(long.stack32(2), [0, CODE_AT]);
    }
    // Too long is too long, wherever it lies: before a missing page only what is fetched counts.
    let mut edge = lab(CpuModel::PentiumIII);
    edge.enable_paging();
    edge.set_page(0x4_1000, 0);
    edge.at(0x4_1000 - 15, 2);
    assert_eq!(edge.execute(&with_prefixes(9)), None);
    edge.at(0x4_1000 - 15, 2);
    edge.code(&[0x2e; 15]);
    edge.step();
    assert_eq!(edge.vector(), Some(13));
}

#[test]
fn the_prefixes_of_rep_change_nothing_elsewhere() {
    // SDM vol. 2, REP: undefined on other instructions, ignored by every processor before SSE.
    let mut lab = lab(CpuModel::PentiumIII);
    lab.cpu.set_reg32(RCX, 5);
    assert_eq!(lab.execute(&[0xf3, 0x40]), None);
    assert_eq!((lab.cpu.reg32(RAX), lab.cpu.reg32(RCX)), (1, 5));
}
