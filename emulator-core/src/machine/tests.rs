//! What a host can rely on when it runs a machine, whatever the guest does.

use super::{ClockMode, Exit, Machine, MachineConfig};

const ROM: usize = 0x1_0000;
const HANDLER: u16 = 0xe100;

/// A machine whose firmware is `code` at F000:E000 and `handler` at F000:E100, which invalid opcodes lead to. The stack
/// is in the ROM: pushes come and go without a trace.
fn machine(code: &[u8], handler: &[u8]) -> Machine {
    let mut rom = vec![0xf4; ROM];
    let mut begin = vec![0x31, 0xc0, 0x8e, 0xd8]; // xor ax, ax; mov ds, ax
    begin.extend([0xc7, 0x06, 0x18, 0x00, HANDLER as u8, (HANDLER >> 8) as u8]); // mov word [18h], HANDLER
    begin.extend([0xc7, 0x06, 0x1a, 0x00, 0x00, 0xf0]); // mov word [1ah], 0F000h
    begin.extend([0xb8, 0x00, 0xf0, 0x8e, 0xd0, 0xbc, 0x00, 0xd0]); // mov ax, 0F000h; mov ss, ax; mov sp, 0D000h
    begin.extend(code);
    rom[0xe000..0xe000 + begin.len()].copy_from_slice(&begin);
    rom[usize::from(HANDLER)..usize::from(HANDLER) + handler.len()].copy_from_slice(handler);
    rom[0xfff0..0xfff5].copy_from_slice(&[0xea, 0x00, 0xe0, 0x00, 0xf0]); // jmp 0F000h:0E000h
    let config = MachineConfig {
        memory: 4 << 20,
        cpus: 1,
        bios: rom,
        clock: ClockMode::Deterministic,
        ..MachineConfig::default()
    };
    Machine::new(config).expect("a machine")
}

#[test]
fn a_handler_that_faults_at_once_does_not_keep_the_host() {
    // ud2, whose handler begins with ud2: nothing retires any more.
    let mut machine = machine(&[0x0f, 0x0b], &[0x0f, 0x0b]);
    for _ in 0..10 {
        assert_eq!(machine.run(1000, 0), Exit::Budget);
        assert_eq!(machine.run_for(100_000, 0), Exit::Budget);
    }
    assert!(machine.instructions() < 20);
}

#[test]
fn a_budget_is_work_and_not_only_instructions() {
    // mov ax, 0A000h; mov es, ax; again: mov cx, 4096; rep stosb; jmp again: device stores.
    let device = [0xb8, 0x00, 0xa0, 0x8e, 0xc0, 0xb9, 0x00, 0x10, 0xf3, 0xaa, 0xeb, 0xf9];
    // mov ax, 1000h: the same in plain memory, in words: mov cx, 4096; rep stosw.
    let memory = [0xb8, 0x00, 0x10, 0x8e, 0xc0, 0xb9, 0x00, 0x10, 0xf3, 0xab, 0xeb, 0xf9];
    // jmp $
    let plain = [0xeb, 0xfe];
    const BUDGET: u64 = 1_000_000;
    let retired = |code: &[u8]| {
        let mut machine = machine(code, &[]);
        assert_eq!(machine.run_for(BUDGET, 0), Exit::Budget);
        machine.instructions()
    };
    assert_eq!(retired(&plain), BUDGET);
    // At most one portion beyond the budget.
    assert!((3..60).contains(&retired(&device)), "{}", retired(&device));
    assert!((1000..20_000).contains(&retired(&memory)), "{}", retired(&memory));
    // A count of instructions stays one.
    for code in [&device[..], &memory, &plain] {
        let mut machine = machine(code, &[]);
        assert_eq!(machine.run(2000, 0), Exit::Budget);
        assert_eq!(machine.instructions(), 2000);
    }
}

#[test]
fn how_a_run_is_cut_into_budgets_does_not_show() {
    let code = [0xb8, 0x00, 0x10, 0x8e, 0xc0, 0xb9, 0x00, 0x10, 0xf3, 0xab, 0x40, 0x0f, 0x0b, 0xeb, 0xf6];
    // add word [esp], 2; iret: goes on behind the ud2. The stack must be in memory for that.
    let stack = [0xb8, 0x00, 0x20, 0x8e, 0xd0];
    let code = [&stack[..], &code].concat();
    let handler = [0x89, 0xe5, 0x83, 0x46, 0x00, 0x02, 0xcf]; // mov bp, sp; add word [bp], 2; iret
    let mut whole = machine(&code, &handler);
    while whole.instructions() < 50_000 {
        let left = 50_000 - whole.instructions();
        whole.run(left, 0);
    }
    let mut cut = machine(&code, &handler);
    for budget in (1..).map(|n| 500 + n * 37 % 3000) {
        let left = 50_000 - cut.instructions();
        if left == 0 {
            break;
        }
        if left > 3500 {
            cut.run_for(budget, 0)
        } else {
            cut.run(left, 0)
        };
    }
    assert_eq!((cut.now(), cut.cpu().rip, cut.ram_hash()), (whole.now(), whole.cpu().rip, whole.ram_hash()));
}
