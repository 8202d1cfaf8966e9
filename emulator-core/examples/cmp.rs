//! scratch
use emulator_core::machine::*;
fn mk() -> Machine {
    let rd = |p: &str| std::fs::read(p).unwrap();
    let mut c = MachineConfig { memory: 256 << 20, cpus: 1, serials: 2, clock: ClockMode::Deterministic, ..Default::default() };
    c.bios = rd("/root/artifacts/firmware/bios-256k.bin");
    c.vga_bios = rd("/root/artifacts/firmware/vgabios-stdvga.bin");
    Machine::new(c).unwrap()
}
fn main() {
    let (mut a, mut b) = (mk(), mk());
    let mut n = 0u64;
    loop {
        let before = (a.cpu().rip, a.cpu().seg[1].selector);
        let lin = a.cpu().seg[1].base + a.cpu().rip;
        b.run(std::env::args().nth(1).unwrap().parse().unwrap(), 0);
        while a.instructions() < b.instructions() { a.run(1, 0); }
        n += 1;
        let (x, y) = (a.cpu(), b.cpu());
        if x.gpr != y.gpr || x.rip != y.rip || x.eflags() != y.eflags() || x.cr0 != y.cr0 || x.seg != y.seg {
            println!("differ after {} ({} chunks) from {:x?} lin {lin:x}", a.instructions(), n, before);
            println!("step  rip {:x} {:x?} fl {:x}", x.rip, &x.gpr[..8], x.eflags());
            println!("block rip {:x} {:x?} fl {:x}", y.rip, &y.gpr[..8], y.eflags());
            let mut bytes = [0u8; 64];
            b.read_physical(lin, &mut bytes);
            println!("{bytes:02x?}");
            return;
        }
        if n % 100000 == 0 { println!("{} ok {:x}", a.instructions(), x.rip); }
    }
}
