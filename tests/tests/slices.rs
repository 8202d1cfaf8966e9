//! How the host cuts a run into slices does not show in it: with the deterministic clock only the instruction count
//! matters.

use emulator_core::cpu::state::Registers;
use emulator_core::machine::{ClockMode, DriveConfig, Machine, MachineConfig};
use std::fs;
use std::path::PathBuf;

const INSTRUCTIONS: u64 = 30_000_000;

fn firmware(name: &str) -> Vec<u8> {
    let places = [tab86_tests::root().join("build/firmware"), PathBuf::from("/usr/share/seabios")];
    places.iter().find_map(|p| fs::read(p.join(name)).ok()).expect("firmware: run `cargo xtask setup`")
}

/// The state after `INSTRUCTIONS` of the firmware, run in slices of `slice`: memory, time and registers.
fn state_after(slice: u64) -> (u64, u64, u64, Registers) {
    let mut config = MachineConfig {
        memory: 64 << 20,
        cpus: 1,
        bios: firmware("bios-256k.bin"),
        vga_bios: firmware("vgabios-stdvga.bin"),
        clock: ClockMode::Deterministic,
        serials: 1,
        ..MachineConfig::default()
    };
    config.drives[2] = Some(DriveConfig::Cdrom(None));
    let mut machine = Machine::new(config).expect("a machine");
    while machine.instructions() < INSTRUCTIONS {
        machine.run(slice.min(INSTRUCTIONS - machine.instructions()), 0);
    }
    (machine.ram_hash(), machine.now(), machine.cpu().rip, machine.cpu().gpr)
}

#[test]
fn slices_of_any_length_give_the_same_run() {
    let whole = state_after(INSTRUCTIONS);
    for slice in [1_234_567, 1_000_000, 77_777, 1_009] {
        assert_eq!(state_after(slice), whole, "slices of {slice} instructions");
    }
}
