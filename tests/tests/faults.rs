//! Guests that stop for good: what the host sees of them, and that the reset button brings them back.

use emulator_core::devices::block::MemoryBlock;
use emulator_core::machine::{ClockMode, Exit, Machine, MachineConfig};
use std::fs;
use std::path::{Path, PathBuf};

/// Far more instructions than the firmware needs to boot a floppy.
const ENOUGH: u64 = 200_000_000;

/// The firmware from `cargo xtask setup`, or the system's.
fn firmware(name: &str) -> Vec<u8> {
    let places = [tab86_tests::root().join("build/firmware"), PathBuf::from("/usr/share/seabios")];
    places.iter().find_map(|p| fs::read(p.join(name)).ok()).expect("firmware: run `cargo xtask setup`")
}

fn machine(guest: &str) -> Machine {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults").join(guest);
    fs::create_dir_all(&scratch).expect("a scratch folder");
    let image = tab86_tests::guest(&format!("{guest}.img"), &scratch).expect("the guest");
    let mut config = MachineConfig {
        memory: 16 << 20,
        cpus: 1,
        bios: firmware("bios-256k.bin"),
        vga_bios: firmware("vgabios-stdvga.bin"),
        clock: ClockMode::Deterministic,
        serials: 1,
        ..MachineConfig::default()
    };
    config.floppies[0] = Some(Box::new(MemoryBlock::new(fs::read(image).expect("the image"))));
    Machine::new(config).expect("a machine")
}

/// Runs until the guest stops or has had enough.
fn run(machine: &mut Machine) -> (Exit, String) {
    let end = machine.instructions() + ENOUGH;
    loop {
        let exit = machine.run(1_000_000, 0);
        if exit != Exit::Budget || machine.instructions() >= end {
            return (exit, String::from_utf8_lossy(&machine.serial_take(0)).into_owned());
        }
    }
}

#[test]
fn a_triple_fault_stops_the_machine_until_it_is_reset() {
    let mut machine = machine("triple-fault");
    for resets in 0..3 {
        assert_eq!(machine.resets(), resets);
        assert_eq!(run(&mut machine), (Exit::Shutdown, "triple-fault: now\r\n".to_owned()));
        assert_eq!(machine.run(1000, 0), Exit::Shutdown, "it stays stopped");
        machine.reset();
    }
}

#[test]
fn a_halt_with_interrupts_off_is_dead_until_a_reset() {
    let mut machine = machine("halt-forever");
    for _ in 0..2 {
        let (exit, said) = run(&mut machine);
        assert!(matches!(exit, Exit::Halted { dead: true, .. }), "{exit:?}");
        assert_eq!(said, "halt-forever: now\r\n");
        machine.reset();
    }
}

#[test]
fn a_jump_into_the_void_ends_in_a_triple_fault() {
    let mut machine = machine("void-jump");
    assert_eq!(run(&mut machine), (Exit::Shutdown, "void-jump: now\r\n".to_owned()));
    assert_eq!(machine.cpu().rip, 0xe000_0000);
    machine.reset();
    assert_eq!(run(&mut machine).1, "void-jump: now\r\n");
}
