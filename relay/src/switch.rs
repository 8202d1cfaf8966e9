//! A learning switch. Pure: it decides where a frame goes and moves nothing.
//!
//! A client's port keeps the addresses that it used first, up to a limit, and no other port can use them while the
//! client lives: a forged source address is dropped instead of learned.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Bytes of an Ethernet header.
pub const HEADER: usize = 14;

/// How long the owner of a contested address has to answer a ping before the address goes to the newcomer.
pub const CHALLENGE: Duration = Duration::from_secs(3);

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All ones.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// Group bit: multicast or broadcast.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A port of the switch. Numbers are never used twice in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u64);

/// What a port may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// A client: at most `max_macs` addresses, kept until it leaves.
    Client {
        /// How many source addresses it may use.
        max_macs: usize,
    },
    /// A bridge to another network: many addresses that may move; at most this many are remembered.
    Bridge {
        /// How many addresses are remembered.
        max_macs: usize,
    },
    /// The gateway: one address, never learned from a frame.
    Gateway(Mac),
}

/// Why a frame goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchDrop {
    /// Shorter than an Ethernet header.
    Runt,
    /// The source is a group address, the gateway's, or one that another port owns.
    SpoofedMac,
    /// More source addresses than a client may use.
    TooManyMacs,
    /// The destination is behind the port that the frame came from.
    Hairpin,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// To this port only.
    One(PortId),
    /// To every other port.
    Flood,
    /// Nowhere.
    Drop(SwitchDrop),
}

#[derive(Debug)]
struct Port {
    kind: PortKind,
    macs: Vec<Mac>,
    heard: Duration,
    challenged: Option<Duration>,
}

/// The ports and the table of addresses.
#[derive(Debug, Default)]
pub struct Switch {
    ports: HashMap<PortId, Port>,
    table: HashMap<Mac, PortId>,
    challenge: Option<PortId>,
}

/// Destination and source of a frame, or `None` when it is too short for a header.
pub fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let header = frame.first_chunk::<HEADER>()?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *header;
    Some((Mac([d0, d1, d2, d3, d4, d5]), Mac([s0, s1, s2, s3, s4, s5])))
}

impl Switch {
    /// Adds a port; a gateway's address is in the table from the start.
    pub fn add(&mut self, id: PortId, kind: PortKind, now: Duration) {
        if let PortKind::Gateway(mac) = kind {
            self.table.insert(mac, id);
        }
        self.ports.insert(id, Port { kind, macs: Vec::new(), heard: now, challenged: None });
    }

    /// Removes a port and forgets its addresses.
    pub fn remove(&mut self, id: PortId) {
        self.ports.remove(&id);
        self.table.retain(|_, owner| *owner != id);
    }

    /// Notes a sign of life of a port's client.
    pub fn heard(&mut self, id: PortId, now: Duration) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.heard = now;
            port.challenged = None;
        }
    }

    /// The port that owns an address.
    pub fn owner(&self, mac: Mac) -> Option<PortId> {
        self.table.get(&mac).copied()
    }

    /// Number of addresses in the table.
    pub fn addresses(&self) -> usize {
        self.table.len()
    }

    /// The port whose address somebody else just used: the caller pings it, and calls [`Self::heard`] on its answer.
    pub fn take_challenge(&mut self) -> Option<PortId> {
        self.challenge.take()
    }

    /// Learns the source of a frame from `from` and says where the frame goes.
    pub fn forward(&mut self, from: PortId, frame: &[u8], now: Duration) -> Forward {
        let Some((destination, source)) = addresses(frame) else { return Forward::Drop(SwitchDrop::Runt) };
        if let Err(reason) = self.learn(from, source, now) {
            return Forward::Drop(reason);
        }
        if destination.is_group() {
            return Forward::Flood;
        }
        match self.table.get(&destination) {
            Some(to) if *to == from => Forward::Drop(SwitchDrop::Hairpin),
            Some(to) => Forward::One(*to),
            None => Forward::Flood,
        }
    }

    fn learn(&mut self, from: PortId, source: Mac, now: Duration) -> Result<(), SwitchDrop> {
        if source.is_group() || source == Mac([0; 6]) {
            return Err(SwitchDrop::SpoofedMac);
        }
        match self.table.get(&source).copied() {
            Some(owner) if owner == from => return Ok(()),
            Some(owner) => self.contest(owner, source, now)?,
            None => {}
        }
        let port = self.ports.get_mut(&from).ok_or(SwitchDrop::SpoofedMac)?;
        match port.kind {
            PortKind::Client { max_macs } if port.macs.len() >= max_macs => return Err(SwitchDrop::TooManyMacs),
            PortKind::Bridge { max_macs } if port.macs.len() >= max_macs => {
                let oldest = port.macs.remove(0);
                self.table.remove(&oldest);
            }
            PortKind::Gateway(_) => return Ok(()),
            PortKind::Client { .. } | PortKind::Bridge { .. } => {}
        }
        port.macs.push(source);
        self.table.insert(source, from);
        Ok(())
    }

    /// Another port owns `mac`. A bridge gives it up (stations move). A client keeps it unless it is dead: a page that
    /// reconnects after its old connection broke silently must get its address back.
    fn contest(&mut self, owner: PortId, mac: Mac, now: Duration) -> Result<(), SwitchDrop> {
        let Some(port) = self.ports.get_mut(&owner) else { return Ok(()) };
        match port.kind {
            PortKind::Gateway(_) => return Err(SwitchDrop::SpoofedMac),
            PortKind::Bridge { .. } => {}
            PortKind::Client { .. } => match port.challenged {
                Some(since) if now.saturating_sub(since) >= CHALLENGE => {}
                Some(_) => return Err(SwitchDrop::SpoofedMac),
                None => {
                    port.challenged = Some(now);
                    self.challenge = Some(owner);
                    return Err(SwitchDrop::SpoofedMac);
                }
            },
        }
        port.macs.retain(|own| *own != mac);
        self.table.remove(&mac);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const C: Mac = Mac([2, 0, 0, 0, 0, 0xc]);
    const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const NOW: Duration = Duration::from_secs(100);

    fn frame(to: Mac, from: Mac) -> Vec<u8> {
        [&to.0[..], &from.0[..], &[8, 0], &[0; 46]].concat()
    }

    fn switch(clients: u64) -> Switch {
        let mut switch = Switch::default();
        switch.add(PortId(0), PortKind::Gateway(GATEWAY), NOW);
        for id in 1..=clients {
            switch.add(PortId(id), PortKind::Client { max_macs: 2 }, NOW);
        }
        switch
    }

    #[test]
    fn unknown_and_group_destinations_flood_and_known_ones_do_not() {
        let mut s = switch(2);
        assert_eq!(s.forward(PortId(1), &frame(B, A), NOW), Forward::Flood);
        assert_eq!(s.forward(PortId(2), &frame(A, B), NOW), Forward::One(PortId(1)));
        assert_eq!(s.forward(PortId(1), &frame(B, A), NOW), Forward::One(PortId(2)));
        assert_eq!(s.forward(PortId(1), &frame(Mac::BROADCAST, A), NOW), Forward::Flood);
        assert_eq!(s.forward(PortId(1), &frame(Mac([1, 0, 0x5e, 0, 0, 1]), A), NOW), Forward::Flood);
        assert_eq!(s.forward(PortId(1), &frame(GATEWAY, A), NOW), Forward::One(PortId(0)));
        assert_eq!(s.forward(PortId(1), &frame(A, A), NOW), Forward::Drop(SwitchDrop::Hairpin));
    }

    #[test]
    fn forged_sources_are_dropped_and_change_nothing() {
        let mut s = switch(2);
        s.forward(PortId(1), &frame(GATEWAY, A), NOW);
        for source in [A, GATEWAY, Mac::BROADCAST, Mac([1, 2, 3, 4, 5, 6]), Mac([0; 6])] {
            let verdict = s.forward(PortId(2), &frame(Mac::BROADCAST, source), NOW);
            assert_eq!(verdict, Forward::Drop(SwitchDrop::SpoofedMac), "{source}");
        }
        assert_eq!(s.owner(A), Some(PortId(1)));
        assert_eq!(s.owner(GATEWAY), Some(PortId(0)));
        assert_eq!(s.forward(PortId(1), &[0; 13], NOW), Forward::Drop(SwitchDrop::Runt));
    }

    #[test]
    fn a_client_keeps_the_first_addresses_that_it_used() {
        let mut s = switch(1);
        for (mac, expected) in
            [(A, Forward::Flood), (B, Forward::Flood), (C, Forward::Drop(SwitchDrop::TooManyMacs)), (A, Forward::Flood)]
        {
            assert_eq!(s.forward(PortId(1), &frame(Mac::BROADCAST, mac), NOW), expected);
        }
        s.remove(PortId(1));
        assert_eq!((s.owner(A), s.addresses()), (None, 1));
    }

    #[test]
    fn a_dead_owner_loses_its_address_and_a_living_one_does_not() {
        let mut s = switch(2);
        let spoof = Forward::Drop(SwitchDrop::SpoofedMac);
        s.forward(PortId(1), &frame(GATEWAY, A), NOW);
        assert_eq!(s.forward(PortId(2), &frame(GATEWAY, A), NOW), spoof);
        assert_eq!(s.take_challenge(), Some(PortId(1)));
        assert_eq!(s.take_challenge(), None);
        s.heard(PortId(1), NOW);
        assert_eq!(s.forward(PortId(2), &frame(GATEWAY, A), NOW + CHALLENGE * 2), spoof, "it answered");
        assert_eq!(s.forward(PortId(2), &frame(GATEWAY, A), NOW + CHALLENGE * 2), spoof, "time to answer");
        assert_eq!(s.forward(PortId(2), &frame(GATEWAY, A), NOW + CHALLENGE * 3), Forward::One(PortId(0)));
        assert_eq!(s.owner(A), Some(PortId(2)));
    }

    #[test]
    fn a_bridge_has_many_stations_that_move() {
        let mut s = switch(1);
        s.add(PortId(9), PortKind::Bridge { max_macs: 2 }, NOW);
        for mac in [A, B, C] {
            assert_eq!(s.forward(PortId(9), &frame(Mac::BROADCAST, mac), NOW), Forward::Flood);
        }
        assert_eq!((s.owner(A), s.owner(C)), (None, Some(PortId(9))), "the oldest is forgotten");
        assert_eq!(s.forward(PortId(1), &frame(B, C), NOW), Forward::One(PortId(9)));
        assert_eq!(s.owner(C), Some(PortId(1)));
    }
}
