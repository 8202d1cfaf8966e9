//! Page faults, global and large pages (SDM vol. 3, chapter 4).

use crate::cpu::Fault;
use crate::cpu::flags;
use crate::cpu::state::*;
use crate::cpu::testing::*;

const PAE_TABLE: u32 = 0x1_8000;

fn paged(cpl: u8) -> Lab {
    let mut lab = if cpl == 0 { Lab::protected() } else { Lab::ring(cpl) };
    lab.handlers();
    lab.enable_paging();
    lab
}

/// PAE with the first 2 MiB in 4 KiB pages, all rights. Entry `n` of the table is at `PAE_TABLE + 0x2000 + 8n`.
fn pae(cpl: u8, model: CpuModel) -> Lab {
    let mut lab = Lab::protected();
    lab.cpu.model = model;
    lab.handlers();
    lab.write64(PAE_TABLE, u64::from(PAE_TABLE + 0x1000) | 1);
    lab.write64(PAE_TABLE + 0x1000, u64::from(PAE_TABLE + 0x2000) | 7);
    for n in 0..512 {
        lab.write64(PAE_TABLE + 0x2000 + 8 * n, u64::from(n) << 12 | 7);
    }
    lab.ok(|c, b| c.mov_to_cr(b, 4, cr4::PAE as u32));
    lab.ok(|c, b| c.mov_to_cr(b, 3, PAE_TABLE));
    lab.ok(|c, b| c.mov_to_cr(b, 0, 0x8001_0011));
    if cpl == 3 {
        lab.put_stack32(&[CODE_AT, CODE3.into(), 0x202, STACK3, DATA3.into()]);
        lab.ok(|c, b| c.iret(b, true));
        for seg in [crate::cpu::Seg::Ds, crate::cpu::Seg::Es] {
            lab.ok(|c, b| c.load_segment(b, seg, DATA3));
        }
    }
    lab.at(CODE_AT, 2);
    lab
}

fn pae_page(lab: &mut Lab, lin: u32, entry: u64) {
    lab.write64(PAE_TABLE + 0x2000 + (lin >> 12) * 8, entry);
    lab.cpu.tlb.flush_all();
}

const LOAD: &[u8] = &[0xa1, 0, 0x60, 0, 0];
const STORE: &[u8] = &[0xa3, 0, 0x60, 0, 0];

#[test]
fn rights_and_error_codes() {
    // SDM vol. 3, 4.6 and 4.7: P, W/R, U/S. The entry's bits 2:0 are U, W, P.
    let cases = [
        (0, 0, LOAD, Some(0)),
        (0, 0, STORE, Some(2)),
        (0, 1, LOAD, None),
        (0, 1, STORE, Some(3)),
        (0, 3, STORE, None),
        (3, 0, LOAD, Some(4)),
        (3, 0, STORE, Some(6)),
        (3, 3, LOAD, Some(5)),
        (3, 3, STORE, Some(7)),
        (3, 5, LOAD, None),
        (3, 5, STORE, Some(7)),
        (3, 7, STORE, None),
    ];
    for (cpl, entry, code, error) in cases {
        let mut lab = paged(cpl);
        lab.set_page(0x6000, entry);
        assert_eq!(lab.execute(code), error.map(|_| 14), "ring {cpl}, {entry}, {code:x?}");
        if let Some(error) = error {
            assert_eq!((lab.stack32(1)[0], lab.cpu.cr2), (error, 0x6000), "ring {cpl}, {entry}, {code:x?}");
        }
    }
}

#[test]
fn the_directory_restricts_its_tables() {
    // SDM vol. 3, 4.6.1: both levels must allow.
    for (directory, code, error) in [(5u32, STORE, 7), (3, LOAD, 5)] {
        let mut lab = paged(3);
        lab.write32(PAGE_DIRECTORY, (PAGE_DIRECTORY + 0x1000) | directory);
        // The handler's frame may be written all the same.
        lab.cpu.cr0 &= !cr0::WP;
        lab.cpu.tlb.flush_all();
        lab.code(code);
        lab.step();
        // Without user rights the fetch itself fails.
        assert_eq!(lab.cpu.cr2, u64::from(if directory == 3 { CODE_AT } else { 0x6000 }));
        assert_eq!((lab.vector(), lab.stack32(1)[0]), (Some(14), error));
    }
}

#[test]
fn wp_decides_whether_ring_0_may_write_read_only_pages() {
    // SDM vol. 3, 2.5 (WP) and 4.6.1.
    for (wp, expected) in [(true, Some(14)), (false, None)] {
        let mut lab = paged(0);
        lab.set_page(0x6000, 5);
        let cr0 = lab.cpu.cr0 as u32 & !(cr0::WP as u32) | if wp { cr0::WP as u32 } else { 0 };
        lab.ok(|c, b| c.mov_to_cr(b, 0, cr0));
        lab.at(CODE_AT, 2);
        assert_eq!(lab.execute(STORE), expected, "WP {wp}");
    }
}

#[test]
fn accessed_and_dirty_bits_are_set_by_what_they_say() {
    // SDM vol. 3, 4.8.
    let mut lab = paged(0);
    let pte = PAGE_DIRECTORY + 0x1000 + 6 * 4;
    assert_eq!(lab.read32(pte) & 0x60, 0);
    assert_eq!(lab.execute(LOAD), None);
    assert_eq!(lab.read32(pte) & 0x60, 0x20);
    assert_eq!(lab.execute(STORE), None);
    assert_eq!(lab.read32(pte) & 0x60, 0x60);
}

#[test]
fn nx_pages_refuse_fetches_with_the_instruction_bit() {
    // SDM vol. 3, 4.6.1 and 4.7 (I/D).
    for cpl in [0, 3] {
        let mut lab = pae(cpl, CpuModel::Pentium4);
        lab.cpu.efer |= efer::NXE;
        lab.at(0x4_0000, 1);
        lab.code(&[0x40]);
        pae_page(&mut lab, 0x4_0000, 0x4_0007 | 1 << 63);
        lab.step();
        assert_eq!((lab.vector(), lab.cpu.cr2), (Some(14), 0x4_0000), "ring {cpl}");
        assert_eq!(lab.stack32(1)[0], 0x11 | if cpl == 3 { 4 } else { 0 });
        // Data may be read from it.
        lab.cpu.rip = CODE_AT.into();
        assert_eq!(lab.execute(&[0xa1, 0, 0, 4, 0]), None);
    }
}

#[test]
fn reserved_bits_fault_as_such() {
    // SDM vol. 3, 4.7 (RSVD), tables 4-5 to 4-11.
    let mut lab = pae(0, CpuModel::Pentium4);
    pae_page(&mut lab, 0x6000, 0x6007 | 1 << 63);
    assert_eq!(lab.execute(LOAD), Some(14), "XD without NXE");
    assert_eq!(lab.stack32(1)[0], 9);
    let mut lab = pae(3, CpuModel::PentiumIII);
    pae_page(&mut lab, 0x6000, 0x6007 | 1 << 40);
    assert_eq!(lab.execute(STORE), Some(14), "beyond the physical address");
    assert_eq!(lab.stack32(1)[0], 15);
    // A not-present entry has no reserved bits.
    let mut lab = pae(3, CpuModel::PentiumIII);
    pae_page(&mut lab, 0x6000, 1 << 40);
    assert_eq!(lab.execute(LOAD), Some(14));
    assert_eq!(lab.stack32(1)[0], 4);
    // A large page with address bits below its size.
    for (model, bits, bad) in [
        (CpuModel::PentiumIII, 1 << 17, true),
        (CpuModel::PentiumIII, 1 << 21, true),
        (CpuModel::Pentium, 1 << 13, true),
        (CpuModel::Pentium, 0, false),
    ] {
        let mut lab = paged(0);
        lab.cpu.model = model;
        lab.cpu.cr4 |= cr4::PSE;
        lab.write32(PAGE_DIRECTORY + 4, 0x83 | bits);
        assert_eq!(lab.execute(&[0xa1, 0, 0, 0x40, 0]), bad.then_some(14), "{model:?} {bits:x}");
        if bad {
            assert_eq!(lab.stack32(1)[0], 9);
        }
    }
}

#[test]
fn large_pages_map_4_mib_and_with_pae_2_mib() {
    // SDM vol. 3, 4.3 and 4.4.2.
    let mut lab = paged(0);
    lab.cpu.cr4 |= cr4::PSE;
    lab.write32(PAGE_DIRECTORY + 4, 0x83);
    lab.write32(0x6_0000, 0x1234);
    assert_eq!(lab.execute(&[0xa1, 0, 0, 0x46, 0]), None);
    assert_eq!(lab.cpu.reg32(RAX), 0x1234);
    assert_eq!(lab.read32(PAGE_DIRECTORY + 4) & 0x60, 0x20);
    // Without PSE bit 7 is ignored and the entry is a table's.
    let mut lab = paged(0);
    lab.write32(PAGE_DIRECTORY + 4, (PAGE_DIRECTORY + 0x1000) | 0x83);
    lab.write32(0x6_0000, 0x1234);
    assert_eq!(lab.execute(&[0xa1, 0, 0, 0x46, 0]), None);
    assert_eq!(lab.cpu.reg32(RAX), 0x1234);
    let mut lab = pae(0, CpuModel::PentiumIII);
    lab.write64(PAE_TABLE + 0x1008, 0x83);
    lab.write32(0x6_0000, 0x5678);
    assert_eq!(lab.execute(&[0xa1, 0, 0, 0x26, 0]), None);
    assert_eq!(lab.cpu.reg32(RAX), 0x5678);
}

#[test]
fn global_pages_outlive_a_load_of_cr3_until_pge_changes() {
    // SDM vol. 3, 4.10.2.4 and 4.10.4.1.
    let load = |lab: &mut Lab| lab.ok(|c, b| c.read32(b, 3, 0x6000));
    let remap = |lab: &mut Lab| lab.write32(PAGE_DIRECTORY + 0x1000 + 6 * 4, 0x8107);
    for (pge, global, kept) in [(true, true, true), (true, false, false), (false, true, false)] {
        let mut lab = paged(0);
        lab.write32(0x6000, 1);
        lab.write32(0x8000, 2);
        if pge {
            lab.ok(|c, b| c.mov_to_cr(b, 4, cr4::PGE as u32));
        }
        lab.set_page(0x6000, if global { 0x107 } else { 7 });
        assert_eq!(load(&mut lab), 1);
        remap(&mut lab);
        lab.ok(|c, b| c.mov_to_cr(b, 3, PAGE_DIRECTORY));
        assert_eq!(load(&mut lab), if kept { 1 } else { 2 }, "PGE {pge}, G {global}");
        lab.ok(|c, b| c.mov_to_cr(b, 4, 0));
        assert_eq!(load(&mut lab), 2, "a change of PGE drops everything");
    }
    // INVLPG drops a global page.
    let mut lab = paged(0);
    lab.ok(|c, b| c.mov_to_cr(b, 4, cr4::PGE as u32));
    lab.set_page(0x6000, 0x107);
    lab.write32(0x8000, 2);
    load(&mut lab);
    remap(&mut lab);
    lab.ok(|c, b| c.invlpg(b, 3, 0x6000));
    assert_eq!(load(&mut lab), 2);
}

#[test]
fn paging_bits_of_cr0_and_cr4_reload_the_pae_pointers() {
    // SDM vol. 3, 4.4.1: CR3, and changes of CR0.CD, NW, PG and CR4.PAE, PGE, PSE.
    let changed: &[(u8, u32)] =
        &[(3, PAE_TABLE), (0, 0xc001_0011), (4, (cr4::PAE | cr4::PGE) as u32), (4, (cr4::PAE | cr4::PSE) as u32)];
    for &(n, value) in changed {
        let mut lab = pae(0, CpuModel::PentiumIII);
        lab.write64(PAE_TABLE + 8, 0x5001);
        lab.ok(|c, b| c.mov_to_cr(b, n, value));
        assert_eq!(lab.cpu.pdpte[1], 0x5001, "CR{n} = {value:x}");
        lab.write64(PAE_TABLE + 8, 0x5003);
        let other = if n == 3 { PAE_TABLE } else { value ^ 0x80 & if n == 4 { 0x90 } else { 0 } };
        if n == 3 {
            lab.faults(Fault::gp(0), |c, b| c.mov_to_cr(b, n, other));
        }
    }
    // What is not reloaded stays: the registers and not memory are used.
    let mut lab = pae(0, CpuModel::PentiumIII);
    lab.write64(PAE_TABLE, 0);
    lab.cpu.tlb.flush_all();
    assert_eq!(lab.execute(LOAD), None);
}

#[test]
fn translations_of_user_and_supervisor_do_not_mix() {
    // SDM vol. 3, 4.6: what ring 0 cached says nothing for ring 3.
    let mut lab = paged(3);
    lab.set_page(0x6000, 3);
    assert_eq!(lab.ok(|c, b| c.sys_read32(b, 0x6000)), 0);
    lab.at(CODE_AT, 2);
    assert_eq!(lab.execute(LOAD), Some(14));
    assert!(!lab.cpu.flag(flags::VM));
}
