//! scratch
use emulator_core::machine::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let rd = |p: &str| std::fs::read(p).unwrap();
    let get = |k: &str| a.iter().position(|x| x == k).map(|i| a[i + 1].clone());
    let mut c = MachineConfig { memory: 256 << 20, cpus: 1, serials: 2, clock: ClockMode::Deterministic, ..Default::default() };
    c.bios = rd("/root/artifacts/firmware/bios-256k.bin");
    c.vga_bios = rd("/root/artifacts/firmware/vgabios-stdvga.bin");
    if let Some(k) = get("-k") { c.kernel = Some(rd(&k)); }
    if let Some(k) = get("-i") { c.initrd = Some(rd(&k)); }
    if let Some(k) = get("-a") { c.cmdline = k; }
    if let Some(k) = get("-fda") { c.floppies[0] = Some(Box::new(emulator_core::devices::block::MemoryBlock::new(rd(&k)))); }
    if let Some(k) = get("-cd") { c.drives[2] = Some(DriveConfig::Cdrom(Some(Box::new(emulator_core::devices::block::MemoryBlock::new(rd(&k)))))); }
    let max: u64 = get("-n").map_or(300, |s| s.parse().unwrap());
    let until = get("-u");
    let mut m = Machine::new(c).unwrap();
    let t = std::time::Instant::now();
    let mut all = String::new();
    let mut last = 0;
    loop {
        let e = m.run(1_000_000, 0);
        let s = m.serial_take(0);
        let s = String::from_utf8_lossy(&s).into_owned();
        print!("{s}");
        all.push_str(&s);
        let f = m.firmware_log_take();
        if a.iter().any(|x| x == "-v") { print!("{}", String::from_utf8_lossy(&f)); }
        if until.as_ref().is_some_and(|u| all.contains(u)) { println!("\nFOUND"); break; }
        if !matches!(e, Exit::Budget) { println!("\n{e:?}"); break; }
        if m.instructions() >= max * 1_000_000 { println!("\nlimit"); break; }
        if a.iter().any(|x| x == "-p") && m.instructions() - last > 50_000_000 { last = m.instructions(); println!("[{}M {:.1}ms] {:x}:{:x} cr0 {:x}", last/1000000, m.now() as f64/1e6, m.cpu().seg[1].selector, m.cpu().rip, m.cpu().cr0); }
    }
    let el = t.elapsed().as_secs_f64();
    let c = m.cpu();
    println!("icount {} time {:.3} ms {el:.2}s {:.1} MIPS", m.instructions(), m.now() as f64 / 1e6, m.instructions() as f64 / el / 1e6);
    println!("cs:ip {:x}:{:x} eax {:x} ebx {:x} ecx {:x} edx {:x} esp {:x} cr0 {:x} cr2 {:x} cr3 {:x} fl {:x}", c.seg[1].selector, c.rip, c.gpr[0], c.gpr[3], c.gpr[1], c.gpr[2], c.gpr[4], c.cr0, c.cr2, c.cr3, c.eflags());
    println!("{}", m.screen_text().unwrap_or_default());
}
