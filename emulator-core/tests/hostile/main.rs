//! Hostile code in every mode: a small seeded run (`cargo xtask fuzz` is the long one), and snapshots of such machines.

mod machine;
mod snapshots;

#[test]
fn hostile_guests_neither_panic_nor_overrun_their_budget() {
    let mut ran = 0;
    for seed in 1..=40 {
        ran += machine::round(seed, &mut || ());
    }
    assert!(ran > 1_000_000, "only {ran} instructions: the guests die too early to be hostile");
}
