//! Frames between the machine's network card and the rings. What is full makes the other side wait where it can: the
//! guest's transmitter for the page, and frames for the card, of which only so many may wait.

use crate::header::{Header, counter};
use crate::rings::{OutputRing, kind};
use emulator_core::devices::ne2000::MAX_FRAME;
use emulator_core::machine::Machine;
use std::collections::VecDeque;

/// Frames that wait here for room in the card; a later one is lost, as in a switch whose buffer is full.
const MAX_WAITING: usize = 256;

/// The card's end: [`Machine`], or a stand-in for tests.
pub trait Card {
    /// Frames that [`send`](Self::send) takes at least.
    fn room(&self) -> usize;
    /// Hands the card a frame. What it loses it counts.
    fn send(&mut self, frame: &[u8]);
    /// The next frame that the guest sent.
    fn take(&mut self) -> Option<Vec<u8>>;
}

impl Card for Machine {
    fn room(&self) -> usize {
        self.network_room()
    }

    fn send(&mut self, frame: &[u8]) {
        self.network_send(frame);
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        self.network_take()
    }
}

/// What is on its way to the card.
#[derive(Debug, Default)]
pub struct Network {
    waiting: VecDeque<Vec<u8>>,
    dropped: u64,
    /// Frames that the card had sent and received at the last count.
    passed: u64,
}

impl Network {
    /// A frame from the page.
    pub fn receive(&mut self, frame: Vec<u8>) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(frame);
        } else {
            self.dropped += 1;
        }
    }

    /// Gives the card what it has room for, in order. Returns whether that was anything.
    pub fn deliver(&mut self, card: &mut impl Card) -> bool {
        let before = self.waiting.len();
        while card.room() > 0
            && let Some(frame) = self.waiting.pop_front()
        {
            card.send(&frame);
        }
        self.waiting.len() < before
    }

    /// Gives the page what the guest sent, as far as the ring has room. Returns whether it had room for all.
    pub fn collect(&self, card: &mut impl Card, output: &OutputRing, header: &Header) -> bool {
        while output.room(header) >= MAX_FRAME {
            let Some(frame) = card.take() else { return true };
            output.push(header, kind::NET_OUT, &[], &frame);
        }
        false
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Enters the counters in the header. Returns whether frames passed the card since the last time.
    pub fn count(&mut self, machine: &Machine, header: &Header) -> bool {
        let Some(counters) = machine.network_counters() else { return false };
        header.count(counter::NET_IN_FRAMES, counters.to_guest.frames);
        header.count(counter::NET_IN_BYTES, counters.to_guest.bytes);
        header.count(counter::NET_OUT_FRAMES, counters.from_guest.frames);
        header.count(counter::NET_OUT_BYTES, counters.from_guest.bytes);
        header.count(counter::NET_DROPPED, self.dropped + counters.to_guest.dropped + counters.from_guest.dropped);
        let passed = counters.to_guest.frames + counters.from_guest.frames;
        std::mem::replace(&mut self.passed, passed) != passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::word;

    #[derive(Default)]
    struct Fake {
        room: usize,
        got: Vec<u8>,
        sends: VecDeque<Vec<u8>>,
    }

    impl Card for Fake {
        fn room(&self) -> usize {
            self.room
        }

        fn send(&mut self, frame: &[u8]) {
            assert!(self.room > 0);
            self.room -= 1;
            self.got.push(frame[0]);
        }

        fn take(&mut self) -> Option<Vec<u8>> {
            self.sends.pop_front()
        }
    }

    #[test]
    fn frames_wait_in_order_for_room_in_the_card() {
        let (mut network, mut card) = (Network::default(), Fake { room: 2, ..Fake::default() });
        (1..=5).for_each(|n| network.receive(vec![n; 60]));
        assert!(network.deliver(&mut card));
        assert!(!network.deliver(&mut card));
        assert_eq!(card.got, [1, 2]);
        card.room = 9;
        assert!(network.deliver(&mut card));
        assert_eq!((card.got.as_slice(), network.dropped), (&[1, 2, 3, 4, 5][..], 0));
    }

    #[test]
    fn only_so_many_frames_wait_and_the_rest_is_counted() {
        let (mut network, mut card) = (Network::default(), Fake::default());
        (0..MAX_WAITING + 3).for_each(|_| network.receive(vec![0; 60]));
        assert_eq!((network.waiting.len(), network.dropped), (MAX_WAITING, 3));
        network.clear();
        card.room = 1;
        assert!(!network.deliver(&mut card));
    }

    #[test]
    fn what_the_ring_has_no_room_for_stays_in_the_card() {
        let header = Header::default();
        let ring = OutputRing::new(&header);
        let (network, mut card) = (Network::default(), Fake::default());
        card.sends.extend((0..400).map(|_| vec![7; MAX_FRAME]));
        assert!(!network.collect(&mut card, &ring, &header));
        let fit = crate::rings::RING_LEN as usize / (MAX_FRAME + 4);
        assert_eq!(card.sends.len(), 400 - fit);
        header.set(word::OUTPUT_HEAD, header.get(word::OUTPUT_TAIL));
        card.sends.truncate(3);
        assert!(network.collect(&mut card, &ring, &header));
        assert!(card.sends.is_empty());
    }
}
