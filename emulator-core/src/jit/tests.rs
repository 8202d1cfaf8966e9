//! What the emitter makes of code: valid modules of anything, and for a few regions exactly the golden bytes.
//! `TAB86_BLESS=1 cargo test -p emulator-core golden` writes the golden files anew.

use super::region::{self, Code, HOME, Known, Region, Tail, Window};
use super::{Counters, Entry, Heat, Jit, JitHost, LEFT, Layout, STRETCH, Services, emit, flow, leave, module};
use crate::cpu::flags::LazyOp;
use crate::cpu::op::Kind;
use crate::cpu::run::CpuExit;
use crate::cpu::state::{CpuModel, RCX, RDI, RSI, mode};
use crate::cpu::testing::Lab;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const FLAT: u32 = mode::CODE32 | mode::STACK32 | mode::FLAT | mode::PROTECTED;
const LAYOUT: Layout =
    Layout { cpu: 0x10_0000, ram: 0x20_0000, jumps: 0x30_0000, code: 0x40_0000, shared: false, stretch: STRETCH };

/// Code all of which was executed.
const EXECUTED: Code<'static> =
    Code { mode: FLAT, model: CpuModel::Pentium4, known: &|_| Known::Executed, blocks: &|_| Vec::new() };

fn page(code: &[u8], at: usize) -> Vec<u8> {
    let mut page = vec![0xf4; 4096];
    page[at..at + code.len()].copy_from_slice(code);
    page
}

/// The region of a page at 0 that has no neighbours.
fn form(page: &[u8], at: u32) -> Option<Region> {
    let mut load = |number: usize, bytes: &mut [u8]| {
        (number == HOME).then(|| bytes.copy_from_slice(page))?;
        Some(0)
    };
    region::form(Window::new(&mut load), (HOME as u32) << 12 | at, EXECUTED)
}

fn region(code: &[u8], at: u32) -> Option<Region> {
    form(&page(code, at as usize), at)
}

fn emitted(region: &Region, user: bool) -> Vec<u8> {
    let mut ops = Vec::new();
    let mode = if user { FLAT | mode::USER } else { FLAT };
    let body = emit::emit(region, &LAYOUT, mode, &mut ops);
    module(&LAYOUT, 7, &[body.placed(7)])
}

fn validate(bytes: &[u8]) {
    use wasmparser::{Validator, WasmFeatures};
    // What Node 20 has: no multiple memories, no extended constants, no exceptions with references.
    let features = WasmFeatures::WASM2 | WasmFeatures::TAIL_CALL | WasmFeatures::THREADS;
    if let Err(error) = Validator::new_with_features(features).validate_all(bytes) {
        panic!("invalid module: {error}");
    }
}

/// A reproducible stream of numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn the_module_through_which_regions_are_entered_is_valid() {
    validate(&super::entry());
}

#[test]
fn random_bytes_make_valid_modules() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let mut formed = 0;
    for _ in 0..400 {
        let bytes: Vec<u8> = (0..4096).map(|_| numbers.next() as u8).collect();
        let at = numbers.next() as u32 & 0xfff;
        if let Some(region) = form(&bytes, at) {
            formed += 1;
            validate(&emitted(&region, numbers.next() & 1 != 0));
        }
    }
    assert!(formed > 100, "{formed}");
}

#[test]
fn no_way_through_a_region_takes_more_fuel_than_was_looked_for() {
    let mut numbers = Numbers(0x0fed_cba9_8765_4321);
    let (mut looks, mut blocks, mut full) = (0, 0, 0);
    for _ in 0..300 {
        // Short conditional jumps, and now and then a return.
        let mut bytes: Vec<u8> =
            (0..2048).flat_map(|_| [0x70 | numbers.next() as u8 & 15, numbers.next() as u8]).collect();
        (0..numbers.next() as usize % 64).for_each(|_| bytes[numbers.next() as usize % 4096] = 0xc3);
        // Straight code between them.
        (0..numbers.next() as usize % 40).for_each(|_| {
            let at = numbers.next() as usize % 3800;
            bytes[at..at + numbers.next() as usize % 250].fill(0x40);
        });
        let Some(region) = form(&bytes, numbers.next() as u32 & 0xfff) else { continue };
        let fuel = flow::fuel(&region, STRETCH);
        for from in 0..region.blocks.len() {
            let own = region.blocks[from].insns.len() as u32;
            assert!(fuel.looks[from] || region.door(from).is_none(), "a door looks");
            assert!((own..=own.max(STRETCH)).contains(&fuel.need[from]));
            for to in flow::successors(&region, from) {
                assert!(fuel.looks[to] || to > from && fuel.need[from] >= own + fuel.need[to], "{from} {to}");
            }
            full += u32::from(fuel.need[from] > STRETCH / 2);
        }
        looks += fuel.looks.iter().filter(|&&looks| looks).count();
        blocks += region.blocks.len();
    }
    assert!(looks > 100 && blocks > 3 * looks / 2 && full > 100, "{looks} of {blocks} look, {full}");
}

/// Opcodes with and without prefixes, and some operands.
fn opcodes() -> impl Iterator<Item = Vec<u8>> {
    let prefixes = [&[][..], &[0x66], &[0x67], &[0x64], &[0xf3], &[0xf2]];
    let seconds = [&[][..], &[0x00], &[0x45], &[0xc3], &[0xd9], &[0xf8]];
    let codes = prefixes.into_iter().flat_map(move |prefix| {
        (0..=255u8).flat_map(move |first| seconds.into_iter().map(move |second| [prefix, &[first], second].concat()))
    });
    codes.flat_map(|code| {
        [0x04u8, 0x80, 0xc8, 0xf1]
            .map(|modrm| [&code[..], &[modrm, 0x24, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0xeb, 0xf0]].concat())
    })
}

#[test]
fn spans_know_which_registers_change() {
    use super::{call, emit::local, spans};
    use wasmparser::{Operator, Parser, Payload};
    let mut changed = 0u8;
    for code in opcodes() {
        let Some(region) = region(&code, 0x100) else { continue };
        let known = region.blocks.iter().flat_map(|block| &block.insns).fold(0, |known, insn| {
            let (lost, moved) = spans::changes(&insn.op);
            known | lost | moved.map_or(0, |(r, _)| 1 << r)
        });
        let module = emitted(&region, false);
        let mut bodies = Parser::new(0)
            .parse_all(&module)
            .filter_map(|payload| match payload {
                Ok(Payload::CodeSectionEntry(body)) => Some(body.get_operators_reader().expect("operators")),
                _ => None,
            })
            .collect::<Vec<_>>();
        assert_eq!(bodies.len() as u32, call::REGIONS - call::IMPORTS + 1);
        let reader = bodies.pop().expect("the region's");
        for operator in reader {
            let (Operator::LocalSet { local_index } | Operator::LocalTee { local_index }) = operator.expect("valid")
            else {
                continue;
            };
            if let Some(r) = local_index.checked_sub(local::R0).filter(|r| *r < 8) {
                assert_ne!(known >> r & 1, 0, "{code:02x?} changes register {r}: {:?}", region.blocks);
                changed |= 1 << r;
            }
        }
    }
    assert_eq!(changed, 0xff);
}

#[test]
fn every_opcode_alone_makes_a_valid_module() {
    for code in opcodes() {
        if let Some(region) = region(&code, 0x100) {
            validate(&emitted(&region, false));
        }
    }
}

#[test]
fn a_region_follows_jumps_and_calls_in_its_page_and_returns() {
    // 0: call 20h; 5: test eax,eax; 7: jz 0; 9: jmp 30h; 20h: ret; 30h: hlt
    let mut code = vec![0xe8, 0x1b, 0, 0, 0, 0x85, 0xc0, 0x74, 0xf7, 0xeb, 0x25];
    code.resize(0x20, 0x90);
    code.push(0xc3);
    code.resize(0x30, 0x90);
    let region = region(&code, 0).expect("there is code");
    let mut starts: Vec<(u16, bool)> = region.blocks.iter().map(|b| (b.at, b.entry)).collect();
    starts.sort_unstable();
    assert_eq!(starts, [(0, true), (5, true), (9, false), (0x20, true)]);
    assert_eq!(
        region.entries().map(|(at, door)| region.blocks[region.doors[door as usize]].at == at).collect::<Vec<_>>(),
        [true; 3]
    );
    assert_eq!(region.doors.len(), 3, "nothing goes to the block behind the jump by its number");
}

#[test]
fn a_loop_with_two_ways_in_is_gone_around_by_number() {
    // 0: je 3; 2: inc eax; 3: inc ebx; 4: jne 2; 6: ret
    let region = region(&[0x74, 0x01, 0x40, 0x43, 0x75, 0xfc, 0xc3], 0).expect("there is code");
    assert_eq!(region.loops, []);
    let doors: Vec<bool> = region.doors.iter().map(|&block| region.blocks[block].entry).collect();
    assert_eq!(doors, [true, false]);
    validate(&emitted(&region, false));
}

#[test]
fn an_instruction_that_goes_on_in_the_next_page_is_left_alone() {
    let region = region(&[0x90, 0xb8, 0x11, 0x22], 0xffc).expect("there is code");
    assert_eq!(region.blocks[0].tail, Tail::Alone(0xffd));
}

#[test]
fn a_region_goes_on_in_the_page_behind_wherever_that_is_in_memory() {
    // ffc: nop; ffd: mov eax,44332211h; 1002: dec ecx; 1003: jnz ffc; 1005: ret
    let code = [0x90, 0xb8, 0x11, 0x22, 0x33, 0x44, 0x49, 0x75, 0xf7, 0xc3];
    let both = [page(&code[..4], 0xffc), page(&code[4..], 0)].concat();
    let mut load = |number: usize, bytes: &mut [u8]| {
        let n = number.checked_sub(HOME).filter(|&n| n < 2)?;
        bytes.copy_from_slice(&both[n * 4096..][..4096]);
        Some([0x5000, 0x3000][n])
    };
    // As when the second page's block is hot.
    let at = (HOME as u32 + 1) << 12 | 2;
    let region = region::form(Window::new(&mut load), at, EXECUTED);
    let region = region.expect("there is code");
    assert_eq!(region.pages, [Some(0x5000), Some(0x3000)]);
    let mut spans: Vec<(u32, u32)> = region.spans().collect();
    spans.sort_unstable();
    assert_eq!(spans, [(0x3000, 2), (0x3002, 3), (0x3005, 1), (0x5ffc, 4)]);
    assert_eq!(region.entries().map(|(at, _)| region.place(at.into())).collect::<Vec<_>>(), [Some(0x3002)]);
    assert_eq!(region.loops.len(), 1);
    validate(&emitted(&region, false));
}

#[test]
fn flags_that_differ_by_path_are_known_at_run_time_only() {
    // 0: cmp eax,ebx; 2: je 6; 4: and ecx,edx; 6: jb 0; 8: hlt
    let region = region(&[0x39, 0xd8, 0x74, 0x02, 0x21, 0xd1, 0x72, 0xf8, 0xf4], 0).expect("there is code");
    let states = flow::states(&region);
    assert_eq!(states[0], flow::State::Dynamic);
    assert_eq!(states[1], flow::State::Known(LazyOp::Sub32));
    assert_eq!(states[2], flow::State::Dynamic);
}

#[test]
fn loops_are_found_inside_one_another_and_only_where_their_heads_are_the_way_in() {
    // 0: inc eax; 1: inc ecx; 2: jnz 1; 4: dec edx; 5: jnz 0; 7: ret
    let nested = region(&[0x40, 0x41, 0x75, 0xfd, 0x4a, 0x75, 0xf9, 0xc3], 0).expect("there is code");
    assert_eq!(super::loops::find(&nested), [(0, 2), (1, 1)]);
    // 0: call 8; 5: inc eax; 6: jnz 0; 8: ret. A call comes back into the loop.
    let entered = region(&[0xe8, 0x03, 0, 0, 0, 0x40, 0x75, 0xf8, 0xc3], 0).expect("there is code");
    assert_eq!(entered.blocks.len(), 3);
    assert_eq!(super::loops::find(&entered), []);
}

#[test]
fn a_loop_whose_body_lies_before_its_head_is_put_in_order() {
    let starts = |region: &Region| region.blocks.iter().map(|block| block.at).collect::<Vec<_>>();
    // 0: jmp 3; 2: inc eax; 3: inc ecx; 4: jnz 2; 6: ret
    let rotated = region(&[0xeb, 0x01, 0x40, 0x41, 0x75, 0xfc, 0xc3], 0).expect("there is code");
    assert_eq!(starts(&rotated), [0, 3, 2, 6]);
    assert_eq!(super::loops::find(&rotated), [(1, 2)]);
    // The same with a loop inside: 0: jmp 7; 2: inc eax; 3: dec edx; 4: jnz 3; 6: nop; 7: inc ecx; 8: jnz 2; 10: ret
    let code = [0xeb, 0x05, 0x40, 0x4a, 0x75, 0xfd, 0x90, 0x41, 0x75, 0xf8, 0xc3];
    let nested = region(&code, 0).expect("there is code");
    assert_eq!(starts(&nested), [0, 7, 2, 3, 6, 10]);
    assert_eq!(super::loops::find(&nested), [(1, 4), (3, 3)]);
    assert!(nested.blocks.iter().zip(0..).all(|(block, n)| nested.find(block.at.into()) == Some(n)));
}

#[test]
fn flags_overwritten_before_an_exit_are_not_recorded() {
    // add eax,ebx; sub ecx,edx; mov [esi],eax; add eax,ebx; ret
    let region = region(&[0x01, 0xd8, 0x29, 0xd1, 0x89, 0x06, 0x01, 0xd8, 0xc3], 0).expect("there is code");
    let insns = &region.blocks[0].insns;
    assert_eq!(insns[4].op.kind, Kind::Ret32);
    assert_eq!(flow::live(insns), [false, true, false, true, true]);
}

/// Small regions whose bytes are pinned.
const GOLDEN: [(&str, &[u8]); 16] = [
    ("loop", &[0x31, 0xc0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xc3]),
    // mov [edi],eax; dec ecx; jnz; ret: a store in a short loop, also where it lies beside code.
    ("beside", &[0x89, 0x07, 0x49, 0x75, 0xfb, 0xc3]),
    ("load-store", &[0x8b, 0x43, 0x08, 0x89, 0x44, 0x8b, 0x04, 0xc3]),
    ("modify", &[0x01, 0x03, 0xff, 0x06, 0xc3]),
    ("bytes", &[0x88, 0xe0, 0x8a, 0x23, 0x3c, 0x20, 0x74, 0xf8, 0xc3]),
    ("stack", &[0x55, 0x89, 0xe5, 0x53, 0x5b, 0xc9, 0xc3]),
    ("carry", &[0x01, 0xd8, 0x11, 0xca, 0x19, 0xf7, 0xc3]),
    // lodsb; scasb; jne; adc eax,ecx; jl; ret
    ("compare", &[0xac, 0xae, 0x75, 0xfc, 0x11, 0xc8, 0x7c, 0xf8, 0xc3]),
    ("shifts", &[0xc1, 0xe0, 0x03, 0xd3, 0xe8, 0xd1, 0xf8, 0x72, 0xf7, 0xc3]),
    ("multiply", &[0xf7, 0xe1, 0x0f, 0xaf, 0xc2, 0xf7, 0xf1, 0xc3]),
    ("conditions", &[0x39, 0xd8, 0x0f, 0x9c, 0xc0, 0x0f, 0x46, 0xc8, 0x7e, 0xf6, 0xc3]),
    ("call", &[0xe8, 0x10, 0x00, 0x00, 0x00, 0xff, 0xd0, 0xc3]),
    ("segment", &[0x65, 0xa1, 0x14, 0x00, 0x00, 0x00, 0xc3]),
    // cli; pushfd; popfd; ret
    ("interrupts", &[0xfa, 0x9c, 0x9d, 0xc3]),
    ("interpreted", &[0xdb, 0x2b, 0xf3, 0xa4, 0x9c, 0xc3]),
    // fld qword [ebx]; fmul st1; fstp dword [esi]; fucomi st1; jp; ret
    ("x87", &[0xdd, 0x03, 0xd8, 0xc9, 0xd9, 0x1e, 0xdb, 0xe9, 0x7a, 0xf6, 0xc3]),
];

/// A module's functions as text, with the CPU's fields by name: where the compiler puts them is no matter.
fn text(bytes: &[u8]) -> String {
    use crate::cpu::segment::Segment;
    use crate::cpu::state::Cpu;
    use crate::fpu::x87::field;
    use std::mem::offset_of;
    let gpr = (0..8).map(|r| (offset_of!(Cpu, gpr) + 8 * r, format!("gpr{r}")));
    let seg = (0..6).flat_map(|s| {
        [
            (offset_of!(Cpu, derived.base) + 8 * s, format!("base{s}")),
            (offset_of!(Cpu, derived.read_max) + 8 * s, format!("read_max{s}")),
            (offset_of!(Cpu, derived.write_max) + 8 * s, format!("write_max{s}")),
        ]
    });
    let others = [
        (offset_of!(Cpu, rip), "rip"),
        (offset_of!(Cpu, fuel), "fuel"),
        (offset_of!(Cpu, lazy.op), "lazy.op"),
        (offset_of!(Cpu, lazy.res), "lazy.res"),
        (offset_of!(Cpu, lazy.src), "lazy.src"),
        (offset_of!(Cpu, cr0), "cr0"),
        (offset_of!(Cpu, cpl), "cpl"),
        (offset_of!(Cpu, system_flags), "system_flags"),
        (offset_of!(Cpu, derived.user), "user"),
        (offset_of!(Cpu, tlb.read), "tlb.read"),
        (offset_of!(Cpu, tlb.write), "tlb.write"),
        (offset_of!(Cpu, tlb.fetch), "tlb.fetch"),
    ];
    let unit = [
        (field::SW, "x87.sw"),
        (field::FIP, "x87.fip"),
        (field::FCS, "x87.fcs"),
        (field::FOP, "x87.fop"),
        (field::FDP, "x87.fdp"),
        (field::FDS, "x87.fds"),
    ];
    let unit = unit.map(|(offset, name)| (offset_of!(Cpu, x87) + offset, name.to_owned()));
    let selector = |s: usize| offset_of!(Cpu, seg) + s * size_of::<Segment>() + offset_of!(Segment, selector);
    let selectors = (0..6).map(|s| (selector(s), format!("selector{s}")));
    let fields: Vec<(usize, String)> = gpr
        .chain(seg)
        .chain(unit)
        .chain(selectors)
        .chain(others.map(|(offset, name)| (offset, name.to_owned())))
        .collect();
    let mut out = String::new();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        let Ok(wasmparser::Payload::CodeSectionEntry(body)) = payload else { continue };
        out += "function\n";
        for operator in body.get_operators_reader().expect("valid").into_iter().flatten() {
            let unit = LAYOUT.cpu as usize + offset_of!(Cpu, x87);
            let mut line = format!("{operator:?}").replace(&format!("value: {unit} "), "x87 ");
            for (offset, name) in &fields {
                line = line.replace(&format!("offset: {},", LAYOUT.cpu as usize + offset), &format!("{name},"));
            }
            let line = line.replace("align: 0, ", "").replace(", memory: 0", "").replace("MemArg ", "");
            out += &format!("  {line}\n");
        }
    }
    out
}

#[test]
fn golden_regions_are_emitted_as_pinned() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/jit/golden");
    let bless = std::env::var_os("TAB86_BLESS").is_some();
    for (name, code) in GOLDEN {
        let region = region(code, 0x40).expect("there is code");
        let bytes = emitted(&region, false);
        validate(&bytes);
        let text = text(&bytes);
        let file = folder.join(format!("{name}.txt"));
        if bless {
            std::fs::write(&file, &text).expect("the folder is there");
        }
        let pinned = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, pinned, "{name}: TAB86_BLESS=1 writes it anew");
    }
}

/// A host that makes nothing: a region that is entered does what a function says. Unless a test tells, it retires all that it may.
struct Scripted<F>(F);

type Enter = fn(&Entry, &mut dyn Services) -> u32;

impl<F> std::fmt::Debug for Scripted<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl<F: FnMut(&Entry, &mut dyn Services) -> u32 + Send> JitHost for Scripted<F> {
    fn first_slot(&self) -> u32 {
        1
    }

    fn shared(&self) -> bool {
        false
    }

    fn add(&mut self, _module: Vec<u8>, _end: u32) -> bool {
        true
    }

    fn clear(&mut self) {}

    fn enter(&mut self, entry: &Entry, services: &mut dyn Services) -> u32 {
        (self.0)(entry, services)
    }
}

/// Gives a machine a fast tier in which regions do what `enter` says.
fn script(lab: &mut Lab, threshold: u32, enter: impl FnMut(&Entry, &mut dyn Services) -> u32 + Send + 'static) {
    let heat = Heat { threshold, seed: 0 };
    lab.code.jit = Some(Box::new(Jit::new(Box::new(Scripted(enter)), heat, &lab.cpu, &lab.bus.mem)));
}

/// Regions that do nothing.
const NOTHING: Enter = |_, _| leave::LOOKUP;

fn counters(lab: &Lab) -> Counters {
    lab.code.jit.as_ref().map_or_else(Counters::default, |jit| jit.counters())
}

#[test]
fn hot_code_is_interpreted_for_a_while_when_an_idle_guest_wakes_up() {
    let mut lab = Lab::protected();
    // inc eax; jmp to it
    lab.code(&[0x40, 0xeb, 0xfd]);
    lab.cpu.set_reg32(0, 0);
    lab.cpu.icount = 0;
    script(&mut lab, 10, NOTHING);
    let entered = |lab: &Lab| counters(lab).entered;
    lab.code.calm(lab.cpu.icount);
    lab.cpu.run(&mut lab.bus, &mut lab.code, 20_000);
    assert_eq!((entered(&lab), lab.cpu.icount, lab.cpu.reg32(0)), (0, 20_000, 10_000));
    lab.cpu.run(&mut lab.bus, &mut lab.code, 200_000);
    assert!(entered(&lab) > 0, "it works on: its code is compiled");
    let before = (entered(&lab), lab.cpu.icount, lab.cpu.reg32(0));
    lab.code.calm(before.1);
    lab.cpu.run(&mut lab.bus, &mut lab.code, before.1 + 20_000);
    assert_eq!((entered(&lab), lab.cpu.reg32(0)), (before.0, before.2 + 10_000), "compiled code too");
}

#[test]
fn blocks_that_become_hot_together_make_one_region() {
    let mut lab = Lab::protected();
    // 0: inc eax; 1: jnz 4; 3: nop; 4: inc ebx; 5: jmp 0
    lab.code(&[0x40, 0x75, 0x01, 0x90, 0x43, 0xeb, 0xf9]);
    lab.cpu.set_reg32(0, 0);
    script(&mut lab, 1000, NOTHING);
    lab.cpu.run(&mut lab.bus, &mut lab.code, lab.cpu.icount + 4 * 1100);
    assert_eq!((counters(&lab).translated, counters(&lab).entered), (1, 0), "it waits for others");
    lab.cpu.run(&mut lab.bus, &mut lab.code, lab.cpu.icount + 4 * 2000);
    assert_eq!(counters(&lab).translated, 1);
    assert!(counters(&lab).entered > 0);
}

#[test]
fn long_blocks_are_hot_sooner() {
    // So many inc eax, and a jump to the first, executed so often: whether it is translated then.
    let translated = |length: u8, times: u64| {
        let mut lab = Lab::protected();
        let code: Vec<u8> = vec![0x40; length.into()].into_iter().chain([0xeb, 0xfe - length]).collect();
        lab.code(&code);
        script(&mut lab, 1200, NOTHING);
        let until = lab.cpu.icount + (u64::from(length) + 1) * times;
        lab.cpu.run(&mut lab.bus, &mut lab.code, until);
        counters(&lab).translated > 0
    };
    for (length, hot) in [(3, 1200), (11, 1200), (35, 400)] {
        assert!(!translated(length, hot - 1) && translated(length, hot + 2), "{length}");
    }
}

#[test]
fn what_compiled_code_is_left_for_is_hot_sooner() {
    // From 0: seven additions; 7: rep movsb, of nothing; 9: jmp edi, to 16: jmp 0
    let mut lab = Lab::protected();
    let (additions, copy, jump) = ([0x40, 0x43, 0x42, 0x45, 0x40, 0x43, 0x42], [0xf3, 0xa4], [0xff, 0xe7]);
    lab.code(&[&additions[..], &copy, &jump, &[0x90; 5], &[0xeb, 0xee]].concat());
    lab.cpu.set_reg32(RCX, 0);
    lab.cpu.set_reg32(RDI, lab.cpu.rip as u32 + 16);
    script(&mut lab, 1600, |entry, services| {
        // Which puts `rip` there.
        assert_eq!(services.execute(0, entry.place & !0xfff | 7), 0);
        leave::LOOKUP
    });
    let around = |lab: &mut Lab| {
        // Of its ten instructions three are not the region's.
        lab.cpu.fuel = 3;
        lab.cpu.run(&mut lab.bus, &mut lab.code, lab.cpu.icount + 10);
        counters(lab).entered
    };
    assert!((0..4000).any(|_| around(&mut lab) == 1), "the additions are compiled");
    let heats = |lab: &Lab| {
        let heat = |at| lab.code.blocks.iter().find(|block| block.offset & 0xfff == at).map(|block| block.heat.get());
        [7, 9].map(|at| heat(at).expect("it was executed"))
    };
    let before = heats(&lab);
    assert_eq!(around(&mut lab), 2);
    assert_eq!(heats(&lab), [before[0] - LEFT, before[1] - 1]);
}

#[test]
fn jumps_inside_a_page_are_no_arrivals_from_elsewhere() {
    // 0: inc eax; 1: test al, 1; 3: jz 6; 5: inc ebx; 6: dec ecx; 7: jnz 0; 9: mov ecx, 100; 14: jmp edi, to 0
    let code = [0x40, 0xa8, 1, 0x74, 1, 0x43, 0x49, 0x75, 0xf7, 0xb9, 100, 0, 0, 0, 0xff, 0xe7];
    let mut lab = Lab::protected();
    lab.code(&code);
    lab.cpu.set_reg32(RDI, lab.cpu.rip as u32);
    lab.cpu.set_reg32(RCX, 100);
    lab.cpu.run(&mut lab.bus, &mut lab.code, lab.cpu.icount + 100_000);
    let arrivals = |at: u32| {
        let block = lab.code.blocks.iter().find(|block| block.offset & 0xfff == at).expect("it was executed");
        block.arrivals.get()
    };
    // However often the loop went around: 5 and 6 each have two ways in, and so does 0 besides the indirect jump.
    assert!([5, 6, 9].map(arrivals).iter().all(|&times| times <= 1), "{:?}", [5, 6, 9].map(arrivals));
    assert!((100..200).contains(&arrivals(0)), "{}", arrivals(0));
}

#[test]
fn compiled_code_that_repeats_slow_string_instructions_ends_when_the_work_is_done() {
    let mut lab = Lab::protected();
    // REP MOVSB copies a byte over and over, one by one; enough around it that the region pays.
    let code = [0x40, 0x43, 0x42, 0x45, 0x40, 0x43, 0x42, 0xf3, 0xa4, 0xeb, 0xf5];
    lab.code(&code);
    lab.cpu.set_reg32(RSI, 0x10_0000);
    lab.cpu.set_reg32(RDI, 0x10_0001);
    let portions = Arc::new(AtomicU32::new(0));
    let most = Arc::clone(&portions);
    script(&mut lab, 0, move |entry, services| {
        let mut portions = 0;
        while portions < 1000 && services.execute(0, entry.place & !0xfff | 7) == 2 {
            portions += 1;
        }
        most.fetch_max(portions, Ordering::Relaxed);
        leave::STEP
    });
    lab.cpu.single = false;
    // Compiled while there is nothing to copy, and then entered.
    for count in [0, u32::MAX] {
        lab.cpu.set_reg32(RCX, count);
        // Three portions of 4,096 elements are more work than this.
        lab.cpu.limit_effort(10_000);
        let until = lab.cpu.icount + 500_000;
        assert_eq!(lab.cpu.run(&mut lab.bus, &mut lab.code, until), CpuExit::Budget);
    }
    assert_eq!(portions.load(Ordering::Relaxed), 3);
    assert!(lab.cpu.exhausted());
}
