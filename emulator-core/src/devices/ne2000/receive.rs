//! Reception: address filter, the queue in front of the card, and the ring in its memory
//! (DP8390D, "Packet Reception").

use super::dp8390::{Dp8390, Waiting};
use super::regs::{Interrupts, ReceiveConfig, ReceiveStatus};
use super::{MAX_FRAME, MIN_FRAME, QUEUE, crc};
use crate::bus::IoCtx;
use crate::time::{EventId, VirtTime};

/// Shortest packet on the wire, without its frame check sequence.
const SHORTEST: usize = 60;
/// Bytes in front of a packet in the ring: status, next page, count.
const HEADER: usize = 4;
const CHECK: usize = 4;
/// Packets that enter the ring at one time. Linux's driver takes at most 9 for one interrupt and then
/// acknowledges it: packets beyond these would lie in the ring until the next one arrives.
const BATCH: usize = 8;
/// How long packets wait for the acknowledgement of those before them. For drivers that poll CURR and never
/// acknowledge anything; it limits them to 8,000 packets a second.
const UNACKNOWLEDGED_NS: VirtTime = 1_000_000;

/// What the wire did to a packet. A host's frames have no errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LineErrors {
    /// The frame check sequence is wrong.
    pub(super) crc: bool,
    /// There were odd bits at its end.
    pub(super) alignment: bool,
}

impl Dp8390 {
    /// A frame from the host: destination, source, type and data, no frame check sequence. Returns whether it
    /// is done with; `false` when it is lost because neither the ring nor the queue has room.
    pub fn offer(&mut self, frame: &[u8], cx: &mut IoCtx) -> bool {
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) || !self.link || !self.receiving() {
            self.counters.to_guest.dropped += 1;
            return true;
        }
        // A sender pads. Switches and relays hand on frames of programs that did not.
        if frame.len() < SHORTEST {
            let mut padded = [0; SHORTEST];
            padded[..frame.len()].copy_from_slice(frame);
            return self.arrive(&padded, LineErrors::default(), cx);
        }
        self.arrive(frame, LineErrors::default(), cx)
    }

    /// Frames that [`offer`](Self::offer) certainly takes.
    pub fn room(&self) -> usize {
        QUEUE - self.incoming.len().min(QUEUE)
    }

    /// A packet is on the wire.
    pub(super) fn arrive(&mut self, data: &[u8], errors: LineErrors, cx: &mut IoCtx) -> bool {
        let (accepted, group) = self.matches(data);
        let runt = data.len() + CHECK < 64;
        if !accepted || (runt && !self.rcr.contains(ReceiveConfig::RUNTS)) {
            return true;
        }
        let mut status = ReceiveStatus::empty();
        status.set(ReceiveStatus::GROUP, group);
        if errors.alignment {
            status |= ReceiveStatus::ALIGNMENT | ReceiveStatus::CRC_ERROR;
            self.count_tally(0);
        } else if errors.crc {
            status |= ReceiveStatus::CRC_ERROR;
            self.count_tally(1);
        } else {
            status |= ReceiveStatus::RECEIVED;
        }
        if self.rcr.contains(ReceiveConfig::MONITOR) {
            self.rsr = status - ReceiveStatus::RECEIVED | ReceiveStatus::MISSED | ReceiveStatus::DISABLED;
            self.count_tally(2);
            self.isr |= Interrupts::RECEIVE_ERROR;
            self.counters.to_guest.dropped += 1;
            return true;
        }
        if !status.contains(ReceiveStatus::RECEIVED) && !self.rcr.contains(ReceiveConfig::ERRORS) {
            self.rsr = status;
            self.isr |= Interrupts::RECEIVE_ERROR;
            self.counters.to_guest.dropped += 1;
            return true;
        }
        if self.incoming.len() >= QUEUE {
            self.move_to_ring();
        }
        if self.incoming.len() >= QUEUE {
            self.overflow();
            return false;
        }
        self.incoming.push_back(Waiting { status, data: data.to_vec() });
        self.admit(cx);
        true
    }

    /// Whether the receiver takes packets for this destination, and whether that is a group.
    pub(super) fn matches(&self, data: &[u8]) -> (bool, bool) {
        let Some(destination) = data.get(..6) else { return (false, false) };
        let group = destination[0] & 1 != 0;
        let accepted = if destination == [0xff; 6] {
            self.rcr.contains(ReceiveConfig::BROADCAST)
        } else if group {
            let hash = crc::multicast_hash(destination);
            self.rcr.contains(ReceiveConfig::MULTICAST) && self.multicast[usize::from(hash >> 3)] & 1 << (hash & 7) != 0
        } else {
            self.rcr.contains(ReceiveConfig::PROMISCUOUS) || destination == self.physical
        };
        (accepted, group)
    }

    /// A packet was lost for want of room.
    fn overflow(&mut self) {
        self.isr |= Interrupts::OVERWRITE | Interrupts::RECEIVE_ERROR | Interrupts::RESET;
        self.rsr = ReceiveStatus::MISSED;
        self.count_tally(2);
        self.counters.to_guest.dropped += 1;
    }

    /// The guest has moved the boundary.
    pub(super) fn ring_freed(&mut self, cx: &mut IoCtx) {
        if self.receiving() {
            self.isr -= Interrupts::RESET;
        }
        // It is at work and will acknowledge; what it gets meanwhile it might not see.
        if cx.events.deadline(EventId::NetworkReceive).is_some() {
            cx.after(EventId::NetworkReceive, UNACKNOWLEDGED_NS);
        }
        self.admit(cx);
    }

    /// Lets waiting packets into the ring, if the guest has acknowledged the last ones.
    pub(super) fn admit(&mut self, cx: &mut IoCtx) {
        if !self.receiving() {
            return;
        }
        if !self.isr.intersects(Interrupts::RECEIVED) {
            self.move_to_ring();
        }
        let told = self.isr.intersects(Interrupts::RECEIVED);
        self.overlooked &= !self.seems_empty();
        let fits = self.incoming.front().is_some_and(|w| self.fits(w.data.len()));
        let silent = !told && (self.overlooked || !self.incoming.is_empty());
        if (fits || silent) && cx.events.deadline(EventId::NetworkReceive).is_none() {
            cx.after(EventId::NetworkReceive, UNACKNOWLEDGED_NS);
        }
    }

    /// Nobody has acknowledged anything for a while; or the guest has, and there are packets in the ring of which it
    /// may not know: those that came behind its back, or such as leave no room for those that wait.
    pub fn unacknowledged(&mut self, cx: &mut IoCtx) {
        if !self.receiving() {
            return;
        }
        if !self.isr.intersects(Interrupts::RECEIVED) {
            if !self.seems_empty() {
                self.isr |= Interrupts::RECEIVED;
            }
        } else if self.incoming.front().is_some_and(|w| self.fits(w.data.len())) {
            self.overlooked = true;
        }
        self.move_to_ring();
        self.admit(cx);
    }

    fn move_to_ring(&mut self) {
        for _ in 0..BATCH {
            let Some(length) = self.incoming.front().map(|w| w.data.len()) else { return };
            let never = pages(length) >= self.ring_pages();
            if !never && !self.fits(length) {
                return;
            }
            match self.incoming.pop_front() {
                Some(packet) if !never => self.put(&packet),
                _ => self.overflow(),
            }
        }
    }

    /// Whether the ring is empty for one of the two kinds of drivers: those that put BNRY on the page before the next
    /// packet, and those that put it on the next packet.
    fn seems_empty(&self) -> bool {
        self.current == self.boundary || self.current == self.following(self.boundary)
    }

    fn ring_pages(&self) -> usize {
        self.page_stop.saturating_sub(self.page_start).into()
    }

    /// Whether the ring has room. CURR never catches up with BNRY: equal, they mean an empty ring.
    fn fits(&self, length: usize) -> bool {
        let free = match self.boundary.checked_sub(self.current) {
            Some(ahead) if ahead > 0 => ahead.into(),
            _ => self.ring_pages().saturating_sub(usize::from(self.current.wrapping_sub(self.boundary))),
        };
        pages(length) < free
    }

    /// The page behind `page` in the ring.
    fn following(&self, page: u8) -> u8 {
        let next = page.wrapping_add(1);
        if next == self.page_stop { self.page_start } else { next }
    }

    /// Writes a packet with header and frame check sequence at CURR.
    fn put(&mut self, packet: &Waiting) {
        let data = &packet.data;
        let next = (0..pages(data.len())).fold(self.current, |page, _| self.following(page));
        let [low, high] = ((data.len() + CHECK) as u16).to_le_bytes();
        let header = [packet.status.bits(), next, low, high];
        let check = crc::frame_check(data);
        let (mut page, mut at) = (self.current, 0);
        for part in [&header[..], data, &check] {
            let mut rest = part;
            while !rest.is_empty() {
                if at == 0x100 {
                    (page, at) = (self.following(page), 0);
                }
                let (now, later) = rest.split_at(rest.len().min(0x100 - at));
                self.store(u16::from(page) << 8 | at as u16, now);
                at += now.len();
                rest = later;
            }
        }
        self.local_address = (u16::from(page) << 8).wrapping_add(at as u16);
        self.local_next = next;
        self.current = next;
        self.rsr = packet.status;
        self.isr |= if packet.status.contains(ReceiveStatus::RECEIVED) {
            Interrupts::RECEIVED
        } else {
            Interrupts::RECEIVE_ERROR
        };
        self.counters.to_guest.frames += 1;
        self.counters.to_guest.bytes += data.len() as u64;
    }
}

/// Pages that a packet of `length` bytes occupies in the ring.
fn pages(length: usize) -> usize {
    (HEADER + length + CHECK).div_ceil(0x100)
}
