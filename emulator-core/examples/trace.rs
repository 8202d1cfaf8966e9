//! scratch
use emulator_core::machine::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let rd = |p: &str| std::fs::read(p).unwrap();
    let skip: u64 = a[1].parse().unwrap();
    let n: u64 = a[2].parse().unwrap();
    let mut c = MachineConfig { memory: 256 << 20, cpus: 1, serials: 2, clock: ClockMode::Deterministic, ..Default::default() };
    c.bios = rd("/root/artifacts/firmware/bios-256k.bin");
    c.vga_bios = rd("/root/artifacts/firmware/vgabios-stdvga.bin");
    let mut m = Machine::new(c).unwrap();
    while m.instructions() < skip { m.run((skip - m.instructions()).min(1000000), 0); }
    for _ in 0..n {
        let c = m.cpu();
        let lin = c.seg[1].base + c.rip;
        let mut b = [0u8; 8];
        m.read_physical(lin, &mut b);
        let c = m.cpu();
        println!("{} {:x}:{:x} {:02x?} ax {:x} bx {:x} cx {:x} dx {:x} si {:x} di {:x} bp {:x} sp {:x} fl {:x}", m.instructions(), c.seg[1].selector, c.rip, b, c.gpr[0], c.gpr[3], c.gpr[1], c.gpr[2], c.gpr[6], c.gpr[7], c.gpr[5], c.gpr[4], c.eflags());
        m.run(1, 0);
    }
}
