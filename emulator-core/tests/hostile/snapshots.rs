//! Snapshots of machines that run hostile code: restored ones go on the same, and hostile snapshots are errors.

use crate::machine::{Random, disturb, machine, renew};
use emulator_core::machine::{Exit, Machine, StateError};
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde_json::Value;
use std::io::{Read, Write};

/// Runs a slice of a machine's round, with what the world does to it behind it.
fn slice(r: &mut Random, machine: &mut Machine) {
    if !matches!(machine.run(1 + r.below(20_000), 0), Exit::Budget | Exit::DebugExit(_)) {
        renew(r, machine);
    }
    disturb(r, machine);
}

/// A machine that has done some work, and the generator that goes on with it.
fn at_work(seed: u64, slices: u64) -> (Machine, Random) {
    let mut r = Random::new(seed);
    let mut machine = machine(&mut r);
    for _ in 0..slices {
        slice(&mut r, &mut machine);
    }
    (machine, r)
}

/// Another machine with the options of `seed`'s.
fn twin(seed: u64) -> Machine {
    machine(&mut Random::new(seed))
}

#[test]
fn a_restored_machine_goes_on_as_the_saved_one() {
    for seed in 1..=30 {
        let (mut saved, mut r) = at_work(seed, 3 + seed % 7);
        let state = saved.save_state();
        let mut restored = twin(seed);
        restored.load_state(&state).expect("its own kind of snapshot");
        assert!(restored.save_state() == state, "seed {seed}: saving again gives the same bytes");
        let mut same = r.clone();
        for _ in 0..6 {
            slice(&mut r, &mut saved);
            slice(&mut same, &mut restored);
            assert_eq!(restored.instructions(), saved.instructions(), "seed {seed}");
            assert_eq!(restored.ram_hash(), saved.ram_hash(), "seed {seed}");
        }
        assert!(restored.save_state() == saved.save_state(), "seed {seed}: all of the state");
    }
}

#[test]
fn other_options_are_named() {
    let seeds = 1..=40;
    let state = at_work(1, 3).0.save_state();
    let errors = seeds.filter_map(|seed| twin(seed).load_state(&state).err());
    let mut named: Vec<String> = errors
        .map(|e| match e {
            StateError::OtherOptions { option, .. } => option,
            other => panic!("{other}"),
        })
        .collect();
    named.sort();
    named.dedup();
    assert!(named.contains(&"processor".to_owned()) && named.contains(&"firmware".to_owned()), "{named:?}");
}

#[test]
fn truncated_and_damaged_snapshots_are_errors_and_change_nothing() {
    let (mut machine, mut r) = at_work(5, 4);
    let state = machine.save_state();
    let text = String::from_utf8_lossy(&state);
    assert!(text.starts_with("tab86 snapshot 1\nmemory: 4194304\n"), "the header can be read");
    let mut other = twin(5);
    let before = other.save_state();
    let mut damaged = |bytes: &[u8]| {
        let error = other.load_state(bytes).expect_err("damaged");
        assert_eq!(error.code(), "bad-state", "{error}");
    };
    for cut in (0..300).chain((300..state.len()).step_by(977)) {
        damaged(&state[..cut]);
    }
    for _ in 0..300 {
        let mut flipped = state.clone();
        let at = r.below(state.len() as u64) as usize;
        flipped[at] ^= 1 << r.below(8);
        // A changed format number may be a later version's.
        if at > 20 {
            damaged(&flipped);
        }
    }
    assert!(other.save_state() == before);
}

/// Tag and version of a section, and its content.
type Section = ([u8; 8], Vec<u8>);

/// The parts of a snapshot: everything before the sections, then tag with version, and content.
fn take_apart(state: &[u8]) -> (Vec<u8>, Vec<Section>) {
    let header = state.windows(2).position(|w| w == b"\n\n").expect("a header") + 2;
    let (mut at, mut sections) = (header, Vec::new());
    while at + 8 < state.len() {
        let length = u64::from_le_bytes(state[at + 8..at + 16].try_into().expect("eight bytes")) as usize;
        let mut content = Vec::new();
        DeflateDecoder::new(&state[at + 16..at + 16 + length]).read_to_end(&mut content).expect("deflated");
        sections.push((state[at..at + 8].try_into().expect("eight bytes"), content));
        at += 16 + length;
    }
    (state[..header].to_vec(), sections)
}

fn put_together(header: &[u8], sections: &[Section]) -> Vec<u8> {
    let mut out = header.to_vec();
    for (head, content) in sections {
        let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).expect("a vector");
        let content = encoder.finish().expect("a vector");
        out.extend_from_slice(head);
        out.extend_from_slice(&(content.len() as u64).to_le_bytes());
        out.extend_from_slice(&content);
    }
    let mut crc = flate2::Crc::new();
    crc.update(&out);
    out.extend_from_slice(b"END ");
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out
}

/// Changes one number, flag or list of a JSON value.
fn spoil(r: &mut Random, value: &mut Value) {
    match value {
        Value::Array(list) if !list.is_empty() && r.below(12) > 0 => {
            let n = r.below(list.len() as u64) as usize;
            spoil(r, &mut list[n]);
        }
        Value::Array(list) => match r.below(3) {
            0 => list.clear(),
            1 => drop(list.pop()),
            _ => list.extend((0..r.below(600)).map(|n| Value::from(n & 0xff))),
        },
        Value::Object(map) => {
            let n = r.below(map.len().max(1) as u64) as usize;
            if let Some((_, inner)) = map.iter_mut().nth(n) {
                spoil(r, inner);
            }
        }
        Value::Bool(b) => *b = !*b,
        Value::Null => *value = Value::from(r.below(9)),
        Value::Number(_) => {
            let width = [1, 4, 8, 9, 12, 16, 20, 32, 40, 63][r.below(10) as usize];
            let edge = r.below(3);
            let number = (1u64 << width).wrapping_sub(edge);
            *value = Value::from(if r.below(3) == 0 { r.below(1 << 20) } else { number });
        }
        Value::String(_) => {}
    }
}

#[test]
fn hostile_snapshots_are_errors_or_machines_but_no_panic() {
    let (mut machine, mut r) = at_work(5, 6);
    let state = machine.save_state();
    let (header, sections) = take_apart(&state);
    assert!(put_together(&header, &sections) == state, "the format is as documented");
    let (mut loaded, mut refused) = (0, 0);
    for n in 0..SPOILED {
        let mut sections = sections.clone();
        let which = r.below(sections.len() as u64) as usize;
        let (_, content) = &mut sections[which];
        match serde_json::from_slice::<Value>(content) {
            Ok(mut value) => {
                for _ in 0..=r.below(3) {
                    spoil(&mut r, &mut value);
                }
                *content = serde_json::to_vec(&value).expect("JSON");
            }
            Err(_) => {
                // Memory or sectors.
                let at = r.below(content.len() as u64) as usize;
                match r.below(3) {
                    0 => content.truncate(at),
                    1 => content[..8.min(at)].fill(0xff),
                    _ => content[at] ^= 0x80,
                }
            }
        }
        let mut victim = twin(5);
        let name = String::from_utf8_lossy(&sections[which].0[..4]).into_owned();
        let seen = n;
        let spoiled = put_together(&header, &sections);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if victim.load_state(&spoiled).is_err() {
                return false;
            }
            let mut same = r.clone();
            for _ in 0..3 {
                slice(&mut same, &mut victim);
            }
            true
        }));
        match outcome {
            Ok(true) => loaded += 1,
            Ok(false) => refused += 1,
            Err(_) => panic!("snapshot {seen}, spoiled in section {name}, made the machine panic"),
        }
    }
    assert!(loaded > SPOILED / 5 && refused > SPOILED / 50, "{loaded} loaded, {refused} refused");
}

/// Spoiled snapshots to try.
const SPOILED: usize = 400;
