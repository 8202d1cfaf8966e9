//! Tests of the ring, also with an end that writes nonsense.

use super::*;
use core::sync::atomic::Ordering::SeqCst;
use std::boxed::Box;
use std::{thread, vec};

const LENGTH: usize = 1 << 16;
const KEY: u8 = 1;
const MOUSE: u8 = 2;

/// Where a ring lies.
struct Place {
    head: AtomicU32,
    tail: AtomicU32,
    bytes: Box<[AtomicU8]>,
}

impl Place {
    fn new(length: usize, start: u32) -> Self {
        let bytes = (0..length).map(|_| AtomicU8::new(0)).collect();
        Self { head: AtomicU32::new(start), tail: AtomicU32::new(start), bytes }
    }

    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.head, &self.tail, &self.bytes).unwrap()
    }

    fn positions(&self) -> (u32, u32) {
        (self.head.load(SeqCst), self.tail.load(SeqCst))
    }
}

#[test]
fn only_lengths_that_positions_can_wrap_on_make_a_ring() {
    for (length, good) in [(0, false), (1, false), (2, false), (4, true), (12, false), (16, true), (LENGTH + 1, false)]
    {
        let place = Place::new(length, 0);
        assert_eq!(Ring::new(&place.head, &place.tail, &place.bytes).is_some(), good, "{length}");
    }
}

#[test]
fn records_come_out_in_order_across_both_wraps() {
    let place = Place::new(LENGTH, u32::MAX - 10);
    let ring = place.ring();
    for n in 0..20_000_u32 {
        assert!(ring.push(KEY, &[], &n.to_le_bytes()));
        assert!(ring.push(MOUSE, &[], &[]));
        assert_eq!(ring.pop(), Some((KEY, n.to_le_bytes().to_vec())));
        assert_eq!(ring.pop(), Some((MOUSE, vec![])));
        assert_eq!(ring.pop(), None);
    }
}

#[test]
fn a_record_is_its_kind_and_length_and_then_prefix_and_payload() {
    let place = Place::new(16, 14);
    assert!(place.ring().push(7, &[1], &[2, 3]));
    let byte = |at: usize| place.bytes[at % 16].load(SeqCst);
    let record: [u8; 7] = core::array::from_fn(|i| byte(14 + i));
    assert_eq!(record, [7, 3, 0, 0, 1, 2, 3]);
    assert_eq!(place.positions(), (14, 21));
    assert!(!place.ring().is_empty());
    assert_eq!(place.ring().pop(), Some((7, vec![1, 2, 3])));
    assert_eq!(place.positions(), (21, 21));
    assert!(place.ring().is_empty());
}

#[test]
fn the_producer_waits_for_the_consumer_when_the_ring_is_full() {
    let place = Place::new(LENGTH, 0);
    let ring = place.ring();
    let mut pushed = 0;
    while ring.push(KEY, &[0], &[b'x'; 1000]) {
        pushed += 1;
    }
    assert_eq!(pushed, LENGTH / 1005);
    assert!(ring.room() < 1001);
    assert!(ring.pop().is_some());
    assert!(ring.push(KEY, &[0], &[b'x'; 1000]));
}

#[test]
fn the_room_is_exactly_what_fits() {
    for used in 0..=16 {
        let place = Place::new(16, 0);
        place.tail.store(used, SeqCst);
        let ring = place.ring();
        assert_eq!(ring.room(), 12_usize.saturating_sub(used as usize));
        assert!(!ring.push(KEY, &[], &vec![0; ring.room() + 1]));
        assert_eq!(place.positions(), (0, used), "nothing was pushed");
        // A record without payload still has a head.
        assert_eq!(ring.push(KEY, &[], &vec![0; ring.room()]), used <= 12);
        assert!(place.tail.load(SeqCst) <= 16, "what waits is not overwritten");
    }
}

#[test]
fn the_largest_record_has_the_largest_payload() {
    let place = Place::new(LENGTH, 0);
    let ring = place.ring();
    assert_eq!(ring.room(), MAX_PAYLOAD);
    assert!(!ring.push(KEY, &[0], &[0; MAX_PAYLOAD]));
    assert!(ring.push(KEY, &[0], &[0; MAX_PAYLOAD - 1]));
    assert_eq!(ring.pop().map(|(_, payload)| payload.len()), Some(MAX_PAYLOAD));
}

#[test]
fn a_record_that_lies_about_its_length_is_dropped_with_the_rest() {
    let place = Place::new(LENGTH, 0);
    assert!(place.ring().push(KEY, &[], &[1, 2, 3]));
    place.tail.store(5, SeqCst);
    assert_eq!(place.ring().pop(), None);
    assert_eq!(place.positions(), (5, 5));
    assert!(place.ring().push(KEY, &[], &[4]));
    assert_eq!(place.ring().pop(), Some((KEY, vec![4])));
}

#[test]
fn positions_that_cannot_be_are_an_empty_ring_without_room() {
    for (head, tail) in [(0, 17), (1, 0), (0, u32::MAX), (20, 3)] {
        let place = Place::new(16, 0);
        place.head.store(head, SeqCst);
        place.tail.store(tail, SeqCst);
        let ring = place.ring();
        assert_eq!((ring.pop(), ring.room(), ring.push(KEY, &[], &[])), (None, 0, false));
        assert_eq!(place.positions(), (head, tail));
    }
    // The beginning of a head is no record yet.
    let place = Place::new(16, 0);
    place.tail.store(3, SeqCst);
    assert_eq!(place.ring().pop(), None);
    assert_eq!(place.positions(), (0, 3));
}

#[test]
fn nonsense_never_yields_more_than_the_ring_holds() {
    let mut random = 1_u64;
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as u32
    };
    let place = Place::new(64, 0);
    for _ in 0..200_000 {
        place.bytes[next() as usize % 64].store(next() as u8, SeqCst);
        match next() % 8 {
            0 => place.tail.store(place.head.load(SeqCst).wrapping_add(next() % 80), SeqCst),
            1 => place.head.store(next(), SeqCst),
            2 => drop(place.ring().push(next() as u8, &[], &vec![0; next() as usize % 80])),
            _ => {
                if let Some((_, payload)) = place.ring().pop() {
                    assert!(payload.len() <= 60);
                }
            }
        }
    }
}

#[test]
fn two_threads_lose_and_tear_nothing() {
    const RECORDS: u32 = 50_000;
    let place = Place::new(64, u32::MAX - 1000);
    let payload = |n: u32| vec![n as u8; n as usize % 50];
    thread::scope(|scope| {
        let ring = place.ring();
        scope.spawn(move || {
            for n in 0..RECORDS {
                while !ring.push(n as u8, &[], &payload(n)) {
                    thread::yield_now();
                }
            }
        });
        for n in 0..RECORDS {
            let record = loop {
                match place.ring().pop() {
                    Some(record) => break record,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(record, (n as u8, payload(n)));
        }
    });
    assert!(place.ring().is_empty());
}
