//! Runs hostile guests until a number of instructions is reached: `hostile INSTRUCTIONS [FIRST_SEED]`. Used by
//! `cargo xtask fuzz`. A slice that does not come back within a minute is a hang: it names its seed and aborts.

#[path = "../tests/hostile/machine.rs"]
mod machine;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a slice of at most 20,000 instructions may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.replace('_', "").parse::<u64>());
    let (Some(Ok(wanted)), Ok(mut seed)) = (args.next(), args.next().unwrap_or(Ok(1))) else {
        eprintln!("usage: hostile INSTRUCTIONS [FIRST_SEED]");
        std::process::exit(2);
    };
    let first = seed;
    let slices = Arc::new(AtomicU64::new(0));
    let running = Arc::new(AtomicU64::new(seed));
    let (beats, current) = (Arc::clone(&slices), Arc::clone(&running));
    std::thread::spawn(move || {
        loop {
            let before = beats.load(Ordering::Relaxed);
            std::thread::sleep(PATIENCE);
            if beats.load(Ordering::Relaxed) == before {
                eprintln!("hang: seed {}", current.load(Ordering::Relaxed));
                std::process::abort();
            }
        }
    });
    std::panic::set_hook(Box::new({
        let current = Arc::clone(&running);
        move |info| eprintln!("panic: seed {}: {info}", current.load(Ordering::Relaxed))
    }));
    let mut ran = 0;
    while ran < wanted {
        running.store(seed, Ordering::Relaxed);
        ran += machine::round(seed, &mut || {
            slices.fetch_add(1, Ordering::Relaxed);
        });
        seed += 1;
        if (seed - first).is_multiple_of(200) {
            eprintln!("{ran} instructions, {} machines", seed - first);
        }
    }
    println!(
        "{ran} instructions of hostile code on {} machines in {} slices: no panic, no hang (seeds {first} to {})",
        seed - first,
        slices.load(Ordering::Relaxed),
        seed - 1
    );
}
