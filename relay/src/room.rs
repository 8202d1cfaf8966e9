//! Rooms: a switch, its clients and a gateway, under a name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use crate::gateway::nat::Nat;
use crate::gateway::{self, Action, Admission, Gateway, GatewayDrop};
use crate::net::random;
use crate::port::{Port, lock};
use crate::shared::Shared;
use crate::switch::{Forward, Mac, PortId, PortKind, Switch, SwitchDrop, addresses};

/// The gateway's port in every room.
const GATEWAY_PORT: PortId = PortId(0);
/// Longest name of a room.
const MAX_NAME: usize = 64;
/// Stations remembered behind a TAP interface.
const BRIDGE_MACS: usize = 4096;

/// Whether a name may be a room's: letters, digits, `-`, `_`, `.`, up to 64 of them.
pub fn valid_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A room is full or there are too many rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// `max-rooms`.
    #[error("too many rooms")]
    TooManyRooms,
    /// `max-clients-per-room`.
    #[error("the room is full")]
    RoomFull,
}

struct Inner {
    switch: Switch,
    ports: HashMap<PortId, Arc<Port>>,
    gateway: Option<Gateway>,
    next: u64,
}

/// One room.
pub struct Room {
    name: String,
    shared: Arc<Shared>,
    inner: Mutex<Inner>,
    nat: Arc<Nat>,
}

impl Room {
    fn new(name: &str, shared: Arc<Shared>, with_gateway: bool) -> Arc<Room> {
        let mut switch = Switch::default();
        let gateway = with_gateway.then(|| Gateway::new(&shared.settings));
        if with_gateway {
            switch.add(GATEWAY_PORT, PortKind::Gateway(gateway::MAC), shared.now());
        }
        let inner = Inner { switch, ports: HashMap::new(), gateway, next: 1 };
        let nat = Arc::new(Nat::new(Arc::clone(&shared)));
        Arc::new(Room { name: name.to_owned(), shared, inner: Mutex::new(inner), nat })
    }

    /// The room's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn add(&self, bridge: bool, flows: Arc<Semaphore>) -> Result<(Arc<Port>, mpsc::Receiver<Bytes>), JoinError> {
        let limits = &self.shared.settings.limits;
        let mut inner = lock(&self.inner);
        if !bridge && inner.ports.len() >= limits.max_clients_per_room {
            self.shared.metrics.limit_room_full.inc();
            return Err(JoinError::RoomFull);
        }
        let id = PortId(inner.next);
        inner.next += 1;
        let (port, receiver) = Port::new(id, limits, flows);
        let kind = if bridge {
            PortKind::Bridge { max_macs: BRIDGE_MACS }
        } else {
            PortKind::Client { max_macs: limits.max_macs }
        };
        inner.switch.add(id, kind, self.shared.now());
        inner.ports.insert(id, Arc::clone(&port));
        Ok((port, receiver))
    }

    /// A sign of life of a client.
    pub fn heard(&self, port: &Port) {
        lock(&self.inner).switch.heard(port.id, self.shared.now());
    }

    /// A frame from a client: filtered, switched, and handled by the gateway when it is for it.
    pub fn input(&self, port: &Arc<Port>, frame: Bytes) {
        let now = self.shared.now();
        let mut guard = lock(&self.inner);
        let Inner { switch, ports, gateway, .. } = &mut *guard;
        let forward = switch.forward(port.id, &frame, now);
        if let Some(owner) = switch.take_challenge().and_then(|id| ports.get(&id)) {
            owner.ping.notify_one();
        }
        if let Forward::Drop(reason) = forward {
            drop(guard);
            return self.count_switch(reason);
        }
        let mut forward = forward;
        if let Some(gateway) = gateway {
            match gateway.admit(&frame, now, |mac| switch.owner(mac).is_some()) {
                Ok(Admission::Pass) => {}
                Ok(Admission::GatewayOnly) => forward = Forward::One(GATEWAY_PORT),
                Err(reason) => {
                    drop(guard);
                    return self.count_gateway(reason);
                }
            }
        }
        if forward == Forward::Flood {
            if !lock(&port.flood_rate).try_take(1, now) {
                return self.shared.metrics.drop_flood.inc();
            }
            for (_, other) in ports.iter().filter(|(id, _)| **id != port.id) {
                other.send(frame.clone(), &self.shared);
            }
        } else if let Forward::One(to) = forward
            && let Some(other) = ports.get(&to)
        {
            return other.send(frame, &self.shared);
        }
        let Some(gateway) = gateway else { return };
        let action = gateway.handle(&frame, now, |mac| switch.owner(mac).is_some());
        let target = match &action {
            Action::Tcp { key, .. } | Action::Udp { key, .. } => Some(gateway.target(key.remote)),
            _ => None,
        };
        drop(guard);
        let Some((_, sender)) = addresses(&frame) else { return };
        self.act(port, sender, action, target);
    }

    fn act(&self, port: &Arc<Port>, sender: Mac, action: Action, target: Option<std::net::SocketAddr>) {
        let metrics = &self.shared.metrics;
        match (action, target) {
            (Action::Reply(frame), _) => port.send(frame.into(), &self.shared),
            (Action::Leased(frame), _) => {
                metrics.dhcp_leases_total.inc();
                port.send(frame.into(), &self.shared);
            }
            (Action::Echo(frame), _) => {
                metrics.icmp_echo_total.inc();
                port.send(frame.into(), &self.shared);
            }
            (Action::Tcp { key, packet, syn }, Some(target)) => self.nat.tcp(port, sender, key, target, packet, syn),
            (Action::Udp { key, data, packet }, Some(target)) => self.nat.udp(port, sender, key, target, data, packet),
            (Action::Dns { guest, server, query }, _) => self.nat.dns(port, sender, guest, server, query),
            (Action::Drop(reason), _) => self.count_gateway(reason),
            (Action::None | Action::Tcp { .. } | Action::Udp { .. }, _) => {}
        }
    }

    /// Sends everybody the router advertisement that is due, if one is.
    fn advertise(&self) {
        let mut inner = lock(&self.inner);
        let Inner { ports, gateway, .. } = &mut *inner;
        let Some(gateway) = gateway else { return };
        let Some(frame) = gateway.advertisement(self.shared.now(), u32::from_be_bytes(random())) else { return };
        let frame = Bytes::from(frame);
        for port in ports.values() {
            self.shared.metrics.router_advertisements_total.inc();
            port.send(frame.clone(), &self.shared);
        }
    }

    fn count_switch(&self, reason: SwitchDrop) {
        let metrics = &self.shared.metrics;
        match reason {
            SwitchDrop::Runt => metrics.drop_runt.inc(),
            SwitchDrop::SpoofedMac => metrics.drop_spoofed_mac.inc(),
            SwitchDrop::TooManyMacs => metrics.drop_too_many_macs.inc(),
            SwitchDrop::Hairpin => metrics.drop_hairpin.inc(),
        }
    }

    fn count_gateway(&self, reason: GatewayDrop) {
        let metrics = &self.shared.metrics;
        match reason {
            GatewayDrop::Malformed => metrics.drop_malformed.inc(),
            GatewayDrop::SpoofedIp => metrics.drop_spoofed_ip.inc(),
            GatewayDrop::SpoofedMac => metrics.drop_spoofed_mac.inc(),
            GatewayDrop::RogueRouter => metrics.drop_rogue_router.inc(),
            GatewayDrop::RogueDhcp => metrics.drop_rogue_dhcp.inc(),
            GatewayDrop::Fragment => metrics.drop_fragment.inc(),
            GatewayDrop::Unsupported => metrics.drop_unsupported.inc(),
            GatewayDrop::DhcpExhausted => metrics.drop_dhcp_exhausted.inc(),
        }
    }
}

/// All rooms. A room exists while somebody is in it.
pub struct Rooms {
    shared: Arc<Shared>,
    rooms: Mutex<HashMap<String, Arc<Room>>>,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(shared: Arc<Shared>) -> Arc<Rooms> {
        Arc::new(Rooms { shared, rooms: Mutex::new(HashMap::new()) })
    }

    /// Puts a client into a room, which is made when it is the first. `flows` are the places of its address.
    pub fn join(self: &Arc<Self>, name: &str, flows: Arc<Semaphore>) -> Result<Membership, JoinError> {
        self.enter(name, false, flows)
    }

    /// Puts a bridge to another network into a room.
    pub fn bridge(self: &Arc<Self>, name: &str) -> Result<Membership, JoinError> {
        self.enter(name, true, Arc::new(Semaphore::new(0)))
    }

    fn enter(self: &Arc<Self>, name: &str, bridge: bool, flows: Arc<Semaphore>) -> Result<Membership, JoinError> {
        let settings = &self.shared.settings;
        let mut rooms = lock(&self.rooms);
        let room = match rooms.get(name) {
            Some(room) => Arc::clone(room),
            None if rooms.len() >= settings.limits.max_rooms => {
                self.shared.metrics.limit_rooms.inc();
                return Err(JoinError::TooManyRooms);
            }
            None => {
                let bridged = settings.tap.is_some() && settings.tap_room == name;
                let room = Room::new(name, Arc::clone(&self.shared), settings.with_gateway && !bridged);
                rooms.insert(name.to_owned(), Arc::clone(&room));
                self.shared.metrics.rooms.inc();
                room
            }
        };
        let (port, frames) = room.add(bridge, flows)?;
        Ok(Membership { rooms: Arc::clone(self), room, port, frames: Some(frames) })
    }

    /// Sends router advertisements where they are due, until the rooms are gone.
    pub async fn advertise(rooms: Weak<Rooms>) {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            let Some(rooms) = rooms.upgrade() else { return };
            let all: Vec<_> = lock(&rooms.rooms).values().cloned().collect();
            all.iter().for_each(|room| room.advertise());
        }
    }

    fn leave(&self, room: &Arc<Room>, port: &Port) {
        let mut rooms = lock(&self.rooms);
        let mut inner = lock(&room.inner);
        inner.ports.remove(&port.id);
        inner.switch.remove(port.id);
        if inner.ports.is_empty() && rooms.get(&room.name).is_some_and(|other| Arc::ptr_eq(other, room)) {
            rooms.remove(&room.name);
            self.shared.metrics.rooms.dec();
        }
    }
}

/// A client's stay in a room; it leaves when this is dropped.
pub struct Membership {
    rooms: Arc<Rooms>,
    /// The room.
    pub room: Arc<Room>,
    /// The client's port.
    pub port: Arc<Port>,
    frames: Option<mpsc::Receiver<Bytes>>,
}

impl Membership {
    /// The frames for the client. To be taken once; `None` afterwards.
    pub fn take_frames(&mut self) -> Option<mpsc::Receiver<Bytes>> {
        self.frames.take()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.rooms.leave(&self.room, &self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::net::{SystemDialer, SystemResolver};

    fn rooms(settings: Settings) -> Arc<Rooms> {
        let resolver = SystemResolver::from_file(std::path::Path::new("/nonexistent"));
        Rooms::new(Arc::new(Shared::new(settings, Arc::new(SystemDialer), Arc::new(resolver))))
    }

    fn arp(from: u8) -> Bytes {
        let source = [2, 0, 0, 0, 0, from];
        let gateway: [u8; 4] = [10, 86, 0, 1];
        let own = [10, 86, 0, from];
        [&[0xff; 6][..], &source, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &source, &own, &[0; 6], &gateway].concat().into()
    }

    #[test]
    fn a_bridged_room_is_a_switch_without_a_gateway() {
        let settings = Settings { tap: Some("tap0".to_owned()), tap_room: "lab".to_owned(), ..Settings::default() };
        let rooms = rooms(settings);
        let mut tap = rooms.bridge("lab").unwrap();
        let mut client = rooms.join("lab", Arc::new(Semaphore::new(1))).unwrap();
        let (mut behind, mut here) = (tap.take_frames().unwrap(), client.take_frames().unwrap());
        client.room.input(&client.port, arp(9));
        assert_eq!(behind.try_recv().unwrap(), arp(9));
        assert!(here.try_recv().is_err(), "no gateway answers");
        // More stations than a client may have.
        for station in 20..60 {
            tap.room.input(&tap.port, arp(station));
            assert_eq!(here.try_recv().unwrap(), arp(station));
        }
        // Another room has its gateway.
        let mut other = rooms.join("other", Arc::new(Semaphore::new(1))).unwrap();
        let mut frames = other.take_frames().unwrap();
        other.room.input(&other.port, arp(9));
        assert_eq!(frames.try_recv().unwrap()[6..12], gateway::MAC.0);
    }

    #[test]
    fn a_room_ends_with_its_last_client() {
        let rooms = rooms(Settings::default());
        let one = rooms.join("a", Arc::new(Semaphore::new(1))).unwrap();
        let two = rooms.join("a", Arc::new(Semaphore::new(1))).unwrap();
        assert!(Arc::ptr_eq(&one.room, &two.room));
        drop(one);
        assert_eq!(rooms.shared.metrics.rooms.get(), 1);
        drop(two);
        assert_eq!((rooms.shared.metrics.rooms.get(), lock(&rooms.rooms).len()), (0, 0));
    }
}
