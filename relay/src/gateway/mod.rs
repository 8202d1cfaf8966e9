//! The user-mode gateway of a room. [`Gateway`] is pure: frame in, [`Action`] out; it opens nothing and sends nothing.
//! [`nat`] carries the actions out with the injected dialer and resolver.

pub mod bindings;
pub mod dhcp;
pub mod dns;
pub mod icmp;
pub mod ipv6;
pub mod nat;
pub mod owners;
pub mod packet;
pub mod tcp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet,
    Ipv6Packet, TcpPacket, UdpPacket,
};

use crate::config::Settings;
use crate::switch::{HEADER, Mac};
use bindings::Bindings;
use packet::Route;

/// The gateway's Ethernet address in every room: locally administered, "tab86".
pub const MAC: Mac = Mac([0x02, b't', b'a', b'b', 0x86, 0x01]);
const DNS_PORT: u16 = 53;
/// Bytes of an ARP packet for IPv4 over Ethernet.
const ARP_LENGTH: usize = 28;

/// Why the gateway drops a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayDrop {
    /// Headers that contradict themselves, or wrong checksums.
    Malformed,
    /// An IP or ARP source that belongs to somebody else.
    SpoofedIp,
    /// A hardware address inside a DHCP message that is not the sender's.
    SpoofedMac,
    /// A DHCP answer that is not ours.
    RogueDhcp,
    /// A router advertisement or redirect that is not ours.
    RogueRouter,
    /// A fragment: the gateway does not reassemble.
    Fragment,
    /// A protocol that the gateway does not carry.
    Unsupported,
    /// No address is left.
    DhcpExhausted,
}

/// What a frame is to the switch, after the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Switch it.
    Pass,
    /// For the gateway alone, whatever its destination says (DHCP).
    GatewayOnly,
}

/// One direction of a conversation of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The guest's end.
    pub guest: SocketAddr,
    /// Whom the guest talks to, as the guest sees it. Of the same family.
    pub remote: SocketAddr,
}

/// What is to be done for a frame to the gateway.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// A frame back to the sender.
    Reply(Vec<u8>),
    /// A DHCP acknowledgement back to the sender.
    Leased(Vec<u8>),
    /// A ping's answer back to the sender.
    Echo(Vec<u8>),
    /// An IP packet of a TCP connection.
    Tcp {
        /// Which one.
        key: FlowKey,
        /// The packet.
        packet: Bytes,
        /// Whether it opens a connection.
        syn: bool,
    },
    /// A datagram.
    Udp {
        /// Of which association.
        key: FlowKey,
        /// Its payload.
        data: Bytes,
        /// The packet, for an ICMP error.
        packet: Bytes,
    },
    /// A DNS message to the gateway.
    Dns {
        /// Who asks.
        guest: SocketAddr,
        /// Which address of the gateway was asked.
        server: IpAddr,
        /// The message.
        query: Bytes,
    },
    /// Count it and forget it.
    Drop(GatewayDrop),
}

/// The state of a room's gateway.
#[derive(Debug)]
pub struct Gateway {
    ip: Ipv4Addr,
    dhcp: dhcp::Server,
    bindings: Bindings,
    v6: Option<ipv6::Ipv6>,
}

/// Type and payload of a frame, behind priority tags (IEEE 802.1Q with VLAN 0), which guests take off without being told
/// to. Other VLANs are networks of the guests' own.
fn untagged<'a>(ethernet: &EthernetFrame<&'a [u8]>) -> (EthernetProtocol, &'a [u8]) {
    const TAGS: [u16; 2] = [0x8100, 0x88a8];
    let (mut kind, mut payload) = (u16::from(ethernet.ethertype()), ethernet.payload());
    while TAGS.contains(&kind)
        && let [high, low, a, b, rest @ ..] = payload
        && (high & 0x0f, low) == (0, &0)
    {
        (kind, payload) = (u16::from_be_bytes([*a, *b]), rest);
    }
    (kind.into(), payload)
}

impl Gateway {
    /// A gateway as the settings say.
    pub fn new(settings: &Settings) -> Self {
        let limits = &settings.limits;
        let capacity = limits.max_clients_per_room.saturating_mul(limits.max_macs).clamp(64, 65_536);
        Self {
            ip: settings.gateway,
            dhcp: dhcp::Server { gateway: settings.gateway, mtu: limits.mtu, lease: limits.lease },
            bindings: Bindings::new(
                settings.gateway,
                settings.prefix,
                capacity,
                Duration::from_secs(limits.lease.into()),
            ),
            v6: ipv6::Ipv6::new(settings, capacity.saturating_mul(2)),
        }
    }

    /// The gateway's address.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The router advertisement that is due for everybody, if one is; `dice` is any number.
    pub fn advertisement(&mut self, now: Duration, dice: u32) -> Option<Vec<u8>> {
        self.v6.as_mut()?.due(now, dice)
    }

    /// Filters what a client says about itself before the switch sees it: ARP, neighbour discovery and source addresses
    /// that belong to another client or to the gateway, and answers of DHCP servers and routers. `live` tells whether an address is connected.
    pub fn admit(&mut self, frame: &[u8], now: Duration, live: impl Fn(Mac) -> bool) -> Result<Admission, GatewayDrop> {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else { return Err(GatewayDrop::Malformed) };
        let sender = Mac(ethernet.src_addr().0);
        let (kind, payload) = untagged(&ethernet);
        match kind {
            EthernetProtocol::Arp => {
                let arp = ArpPacket::new_checked(payload).map_err(|_| GatewayDrop::Malformed)?;
                let Ok(ArpRepr::EthernetIpv4 { source_hardware_addr, source_protocol_addr, .. }) = ArpRepr::parse(&arp)
                else {
                    return Err(GatewayDrop::Malformed);
                };
                if Mac(source_hardware_addr.0) != sender {
                    return Err(GatewayDrop::SpoofedMac);
                }
                self.claim(source_protocol_addr, sender, now, live)?;
                Ok(Admission::Pass)
            }
            EthernetProtocol::Ipv4 => {
                let ip = Ipv4Packet::new_checked(payload).map_err(|_| GatewayDrop::Malformed)?;
                self.claim(ip.src_addr(), sender, now, live)?;
                if ip.next_header() == IpProtocol::Udp
                    && ip.frag_offset() == 0
                    && let Ok(udp) = UdpPacket::new_checked(ip.payload())
                {
                    if udp.src_port() == dhcp::PORTS.1 {
                        return Err(GatewayDrop::RogueDhcp);
                    }
                    if udp.dst_port() == dhcp::PORTS.1 {
                        return Ok(Admission::GatewayOnly);
                    }
                }
                Ok(Admission::Pass)
            }
            EthernetProtocol::Ipv6 => match &mut self.v6 {
                Some(v6) => v6.admit(sender, payload, now, live).map(|()| Admission::Pass),
                None => Ok(Admission::Pass),
            },
            _ => Ok(Admission::Pass),
        }
    }

    /// Addresses outside of the room's network are the guests' own business: they may run networks of their own.
    fn claim(&mut self, ip: Ipv4Addr, mac: Mac, now: Duration, live: impl Fn(Mac) -> bool) -> Result<(), GatewayDrop> {
        if !self.bindings.contains(ip) || self.bindings.seen(ip, mac, now, live) {
            Ok(())
        } else {
            Err(GatewayDrop::SpoofedIp)
        }
    }

    /// Handles a frame that is for the gateway or for everybody. It passed [`Self::admit`].
    pub fn handle(&mut self, frame: &Bytes, now: Duration, live: impl Fn(Mac) -> bool) -> Action {
        let Ok(ethernet) = EthernetFrame::new_checked(&frame[..]) else { return Action::Drop(GatewayDrop::Malformed) };
        let sender = Mac(ethernet.src_addr().0);
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.arp(ethernet.payload()),
            EthernetProtocol::Ipv4 => {
                let Ok(ip) = Ipv4Packet::new_checked(ethernet.payload()) else {
                    return Action::Drop(GatewayDrop::Malformed);
                };
                let length = usize::from(ip.total_len());
                // An Ethernet frame may be padded: keep what the packet says.
                let packet = frame.slice(HEADER..HEADER + length);
                let unicast = ethernet.dst_addr() == EthernetAddress(MAC.0);
                self.ipv4(sender, unicast, packet, now, live)
            }
            EthernetProtocol::Ipv6 if let Some(v6) = &self.v6 => {
                let Ok(ip) = Ipv6Packet::new_checked(ethernet.payload()) else {
                    return Action::Drop(GatewayDrop::Malformed);
                };
                let packet = frame.slice(HEADER..HEADER + ip.total_len());
                v6.handle(sender, ethernet.dst_addr() == EthernetAddress(MAC.0), packet)
            }
            _ if ethernet.dst_addr() == EthernetAddress(MAC.0) => Action::Drop(GatewayDrop::Unsupported),
            _ => Action::None,
        }
    }

    fn arp(&self, payload: &[u8]) -> Action {
        let Ok(arp) = ArpPacket::new_checked(payload) else { return Action::Drop(GatewayDrop::Malformed) };
        let Ok(ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = ArpRepr::parse(&arp)
        else {
            return Action::None;
        };
        if target_protocol_addr != self.ip {
            return Action::None;
        }
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(MAC.0),
            source_protocol_addr: self.ip,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        let mut frame = vec![0; HEADER + ARP_LENGTH];
        packet::ethernet(&mut frame, MAC, Mac(source_hardware_addr.0), EthernetProtocol::Arp);
        reply.emit(&mut ArpPacket::new_unchecked(&mut frame[HEADER..]));
        Action::Reply(frame)
    }

    fn ipv4(&mut self, sender: Mac, unicast: bool, packet: Bytes, now: Duration, live: impl Fn(Mac) -> bool) -> Action {
        let ip = Ipv4Packet::new_unchecked(&packet[..]);
        if ip.version() != 4 || ip.header_len() < 20 || !ip.verify_checksum() {
            return Action::Drop(GatewayDrop::Malformed);
        }
        if ip.more_frags() || ip.frag_offset() != 0 {
            return if unicast { Action::Drop(GatewayDrop::Fragment) } else { Action::None };
        }
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        let payload = usize::from(ip.header_len());
        let flow = |ports: (u16, u16)| FlowKey {
            guest: SocketAddr::from((from, ports.0)),
            remote: SocketAddr::from((to, ports.1)),
        };
        if ip.next_header() == IpProtocol::Udp {
            let Ok(udp) = UdpPacket::new_checked(ip.payload()) else { return Action::Drop(GatewayDrop::Malformed) };
            if !udp.verify_checksum(&from.into(), &to.into()) {
                return Action::Drop(GatewayDrop::Malformed);
            }
            let data = packet.slice(payload + 8..payload + usize::from(udp.len()));
            if udp.dst_port() == dhcp::PORTS.1 {
                return self.dhcp(sender, &data, now, live);
            }
            if unicast && self.routable(from, to) {
                let key = flow((udp.src_port(), udp.dst_port()));
                return if to == self.ip && udp.dst_port() == DNS_PORT {
                    Action::Dns { guest: key.guest, server: IpAddr::V4(to), query: data }
                } else {
                    Action::Udp { key, data, packet }
                };
            }
        }
        match ip.next_header() {
            _ if !unicast => Action::None,
            _ if !self.bindings.is_host(from) => Action::Drop(GatewayDrop::SpoofedIp),
            IpProtocol::Tcp if self.routable(from, to) => {
                let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else { return Action::Drop(GatewayDrop::Malformed) };
                let key = flow((tcp.src_port(), tcp.dst_port()));
                Action::Tcp { key, syn: tcp.syn() && !tcp.ack(), packet: packet.clone() }
            }
            IpProtocol::Icmp if to == self.ip => {
                icmp::echo(Route { from_mac: MAC, to_mac: sender, from: to, to: from }, ip.payload())
            }
            IpProtocol::Icmp => Action::Reply(icmp::prohibited_v4(self.ip, sender, &packet)),
            _ => Action::Drop(GatewayDrop::Unsupported),
        }
    }

    /// From a guest, to something beyond the room or to the gateway itself.
    fn routable(&self, from: Ipv4Addr, to: Ipv4Addr) -> bool {
        self.bindings.is_host(from) && (to == self.ip || !self.bindings.contains(to))
    }

    /// The socket address behind a destination: the gateway's own addresses stand for the relay's host.
    pub fn target(&self, remote: SocketAddr) -> SocketAddr {
        match remote.ip() {
            IpAddr::V4(ip) if ip == self.ip => SocketAddr::from((Ipv4Addr::LOCALHOST, remote.port())),
            IpAddr::V6(ip) if self.v6.as_ref().is_some_and(|v6| v6.is_own(ip)) => {
                SocketAddr::from((Ipv6Addr::LOCALHOST, remote.port()))
            }
            _ => remote,
        }
    }

    fn dhcp(&mut self, sender: Mac, message: &[u8], now: Duration, live: impl Fn(Mac) -> bool) -> Action {
        match self.dhcp.handle(&mut self.bindings, sender, message, now, live) {
            dhcp::Outcome::Answer(answer) => {
                let to_mac = if answer.to.is_broadcast() { Mac::BROADCAST } else { sender };
                let route = Route { from_mac: MAC, to_mac, from: self.ip.into(), to: answer.to.into() };
                let ports = (dhcp::PORTS.1, dhcp::PORTS.0);
                match packet::udp(route, ports, &answer.message, usize::from(u16::MAX), 0).and_then(|mut f| f.pop()) {
                    Some(frame) if answer.acknowledged => Action::Leased(frame),
                    Some(frame) => Action::Reply(frame),
                    None => Action::None,
                }
            }
            dhcp::Outcome::Silent => Action::None,
            dhcp::Outcome::Malformed => Action::Drop(GatewayDrop::Malformed),
            dhcp::Outcome::Spoofed => Action::Drop(GatewayDrop::SpoofedMac),
            dhcp::Outcome::Exhausted => Action::Drop(GatewayDrop::DhcpExhausted),
        }
    }
}
