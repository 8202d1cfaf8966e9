//! Models of the ring for loom: one thread pushes, one pops, in a ring so small that every record wraps.

use super::*;
use loom::sync::Arc;
use loom::thread;
use std::vec;

struct Place {
    head: AtomicU32,
    tail: AtomicU32,
    bytes: [AtomicU8; 8],
}

impl Place {
    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.head, &self.tail, &self.bytes).unwrap()
    }
}

/// The n-th record: no two share a byte that matters.
fn record(n: u8) -> (u8, Vec<u8>) {
    (n + 1, vec![n + 11; 1 + n as usize % 2])
}

/// Pushes what fits while another thread pops; what is popped must be what was pushed.
fn check(start: u32, pushes: usize, pops: usize, preemptions: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let bytes = core::array::from_fn(|_| AtomicU8::new(0xee));
        let place = Arc::new(Place { head: AtomicU32::new(start), tail: AtomicU32::new(start), bytes });
        let producer = place.clone();
        let producer = thread::spawn(move || {
            let mut pushed = 0;
            for _ in 0..pushes {
                let (kind, payload) = record(pushed);
                pushed += u8::from(producer.ring().push(kind, &payload[..1], &payload[1..]));
            }
            pushed
        });
        let mut popped = 0;
        let mut pop = || {
            let got = place.ring().pop();
            if let Some(got) = &got {
                assert_eq!(*got, record(popped), "torn, lost or doubled");
                popped += 1;
            }
            got.is_some()
        };
        for _ in 0..pops {
            pop();
        }
        let pushed = producer.join().unwrap();
        while pop() {}
        assert_eq!(pushed, popped);
        assert!(pushed > 0);
        assert!(place.ring().is_empty());
    });
}

#[test]
fn a_record_is_seen_whole_or_not_at_all() {
    check(0, 1, 2, 3);
}

#[test]
fn a_place_is_written_again_only_when_it_was_read() {
    check(5, 2, 2, 2);
}

#[test]
fn positions_wrap_as_well() {
    check(u32::MAX - 2, 3, 2, 2);
}
