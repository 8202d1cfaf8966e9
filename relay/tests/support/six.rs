//! IPv6 for the tests: frames made by hand, and a guest that makes its address from a router advertisement.

use std::net::Ipv6Addr;

use smoltcp::wire::{Icmpv6Message, Icmpv6Packet, IpCidr, IpProtocol, Ipv6Packet, UdpPacket};
use tab86_relay::gateway::ipv6::link_local;
use tab86_relay::gateway::packet::{self, Route};
use tab86_relay::switch::Mac;

use super::{GATEWAY_MAC, Guest, next_binary};

pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd74, 0x6162, 0x3836, 0, 0, 0, 0, 1);
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
pub const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
pub const ALL_ROUTERS_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 2]);

pub fn gateway_link_local() -> Ipv6Addr {
    link_local(GATEWAY_MAC)
}

/// A frame with any payload.
pub fn packet6(macs: (Mac, Mac), ips: (Ipv6Addr, Ipv6Addr), protocol: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let route = Route { from_mac: macs.0, to_mac: macs.1, from: ips.0, to: ips.1 };
    let protocol = IpProtocol::from(protocol);
    packet::ipv6(route, protocol, hop_limit, payload.len(), |buffer| buffer.copy_from_slice(payload))
}

/// An ICMPv6 message with its checksum put in.
pub fn message(ips: (Ipv6Addr, Ipv6Addr), bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    Icmpv6Packet::new_unchecked(&mut bytes[..]).fill_checksum(&ips.0, &ips.1);
    bytes
}

/// A frame with an ICMPv6 message of neighbour discovery.
pub fn discovery(macs: (Mac, Mac), ips: (Ipv6Addr, Ipv6Addr), bytes: &[u8]) -> Vec<u8> {
    packet6(macs, ips, 58, 255, &message(ips, bytes))
}

/// A link-layer address option: 1 source, 2 target.
pub fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac.0].concat()
}

pub fn solicitation(target: Ipv6Addr, source: Option<Mac>) -> Vec<u8> {
    let option = source.map(|mac| option(1, mac)).unwrap_or_default();
    [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &option].concat()
}

/// An advertisement that overrides what is known.
pub fn advertisement(target: Ipv6Addr, hardware: Mac) -> Vec<u8> {
    [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), &option(2, hardware)].concat()
}

pub fn router_solicitation(source: Option<Mac>) -> Vec<u8> {
    let option = source.map(|mac| option(1, mac)).unwrap_or_default();
    [&[133, 0, 0, 0, 0, 0, 0, 0][..], &option].concat()
}

/// The group of an address's neighbour solicitations, and its Ethernet address (RFC 4291, 2.7.1; RFC 2464, 7).
pub fn solicited_node(ip: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let [.., a, b, c] = ip.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    (group, Mac([0x33, 0x33, 0xff, a, b, c]))
}

pub fn udp6(macs: (Mac, Mac), from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), data: &[u8]) -> Vec<u8> {
    let route = Route { from_mac: macs.0, to_mac: macs.1, from: from.0.into(), to: to.0.into() };
    packet::udp(route, (from.1, to.1), data, 1500, 0).unwrap().remove(0)
}

/// Source, destination, and message of an ICMPv6 frame, whose checksum must be right.
pub fn read_icmpv6(frame: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr, Vec<u8>)> {
    let ip = Ipv6Packet::new_checked(frame.get(14..)?).ok().filter(|_| frame[12..14] == [0x86, 0xdd])?;
    let message = Icmpv6Packet::new_checked(ip.payload()).ok().filter(|_| ip.next_header() == IpProtocol::Icmpv6)?;
    assert!(message.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
    if message.msg_type().is_ndisc() {
        assert_eq!(ip.hop_limit(), 255);
    }
    Some((ip.src_addr(), ip.dst_addr(), ip.payload().to_vec()))
}

pub type Endpoint6 = (Ipv6Addr, u16);

/// Source, destination and payload of a UDP frame.
pub fn read_udp6(frame: &[u8]) -> Option<(Endpoint6, Endpoint6, Vec<u8>)> {
    let ip = Ipv6Packet::new_checked(frame.get(14..)?).ok().filter(|_| frame[12..14] == [0x86, 0xdd])?;
    let udp = UdpPacket::new_checked(ip.payload()).ok().filter(|_| ip.next_header() == IpProtocol::Udp)?;
    assert!(udp.checksum() != 0 && udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
    Some(((ip.src_addr(), udp.src_port()), (ip.dst_addr(), udp.dst_port()), udp.payload().to_vec()))
}

impl Guest {
    /// The link-local address.
    pub fn link(&self) -> Ipv6Addr {
        link_local(self.mac)
    }

    /// The next ICMPv6 message of this type, to anybody: where from, where to, and all of it.
    pub async fn icmpv6(&mut self, kind: Icmpv6Message) -> (Ipv6Addr, Ipv6Addr, Vec<u8>) {
        loop {
            let frame = next_binary(&mut self.socket).await.expect("the connection lives");
            if let Some(found) = read_icmpv6(&frame).filter(|(.., message)| message[0] == u8::from(kind)) {
                return found;
            }
        }
    }

    /// The next datagram: where from, and its payload.
    pub async fn udp6(&mut self) -> (Endpoint6, Vec<u8>) {
        loop {
            let frame = next_binary(&mut self.socket).await.expect("the connection lives");
            if let Some((from, _, data)) = read_udp6(&frame) {
                return (from, data);
            }
        }
    }

    /// Sends a neighbour discovery message.
    pub async fn discover(&mut self, to_mac: Mac, ips: (Ipv6Addr, Ipv6Addr), bytes: &[u8]) {
        let frame = discovery((self.mac, to_mac), ips, bytes);
        self.send(frame).await;
    }

    /// Asks for a router and makes an address from what it says (RFC 4862), which replaces the IPv4 address.
    pub async fn slaac(&mut self) -> Ipv6Addr {
        let (mac, link) = (self.mac, self.link());
        self.discover(ALL_ROUTERS_MAC, (link, ALL_ROUTERS), &router_solicitation(Some(mac))).await;
        let (router, _, advert) = self.icmpv6(Icmpv6Message::RouterAdvert).await;
        let prefix = advert[16..].chunks(8).position(|option| option[..4] == [3, 4, 64, 0xc0]).unwrap() * 8 + 32;
        let mut octets = link.octets();
        octets[..8].copy_from_slice(&advert[prefix..prefix + 8]);
        let ip = Ipv6Addr::from(octets);
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            addresses.push(IpCidr::new(ip.into(), 64)).unwrap();
            addresses.push(IpCidr::new(link.into(), 64)).unwrap();
        });
        self.interface.routes_mut().add_default_ipv6_route(router).unwrap();
        ip
    }

    /// Connects and makes an IPv6 address, besides the one by DHCP.
    pub async fn join6(address: std::net::SocketAddr, room: &str, n: u32) -> (Guest, Ipv6Addr) {
        let mut guest = Guest::join(address, room, n).await;
        let ip = guest.slaac().await;
        (guest, ip)
    }
}
