//! Building frames: Ethernet II and IPv4 (RFC 791) or IPv6 (RFC 8200) around a payload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6FragmentHeader, Ipv6FragmentRepr, Ipv6Packet, Ipv6Repr, UdpPacket, UdpRepr,
};

use crate::switch::{HEADER, Mac};

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header without extensions.
pub const IPV6_HEADER: usize = 40;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = 8;
/// Bytes of the Fragment extension header (RFC 8200, 4.5).
const FRAGMENT_HEADER: usize = 8;
/// Hop limit (time to live) of packets that are no neighbour discovery.
pub const HOP_LIMIT: u8 = 64;

/// Who sends to whom, with addresses of one family or of either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<A = Ipv4Addr> {
    /// Source address on the wire.
    pub from_mac: Mac,
    /// Destination address on the wire.
    pub to_mac: Mac,
    /// Source address.
    pub from: A,
    /// Destination address.
    pub to: A,
}

impl<A> Route<A> {
    fn with<B>(&self, from: B, to: B) -> Route<B> {
        Route { from_mac: self.from_mac, to_mac: self.to_mac, from, to }
    }
}

/// Fills in an Ethernet header. `frame` must be at least [`HEADER`] bytes.
pub fn ethernet(frame: &mut [u8], from: Mac, to: Mac, protocol: EthernetProtocol) {
    let repr = EthernetRepr { src_addr: EthernetAddress(from.0), dst_addr: EthernetAddress(to.0), ethertype: protocol };
    repr.emit(&mut EthernetFrame::new_unchecked(frame));
}

/// A frame with an IPv4 packet; `fill` writes `length` bytes of payload.
pub fn ipv4(route: Route, protocol: IpProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = vec![0; HEADER + IPV4_HEADER + length];
    ethernet(&mut frame, route.from_mac, route.to_mac, EthernetProtocol::Ipv4);
    let repr = Ipv4Repr {
        src_addr: route.from,
        dst_addr: route.to,
        next_header: protocol,
        payload_len: length,
        hop_limit: HOP_LIMIT,
    };
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[HEADER..]);
    repr.emit(&mut packet, &ChecksumCapabilities::default());
    fill(packet.payload_mut());
    frame
}

/// A frame with an IPv6 packet; `fill` writes `length` bytes of payload.
pub fn ipv6(
    route: Route<Ipv6Addr>,
    protocol: IpProtocol,
    hop_limit: u8,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let mut frame = vec![0; HEADER + IPV6_HEADER + length];
    ethernet(&mut frame, route.from_mac, route.to_mac, EthernetProtocol::Ipv6);
    let repr =
        Ipv6Repr { src_addr: route.from, dst_addr: route.to, next_header: protocol, payload_len: length, hop_limit };
    let mut packet = Ipv6Packet::new_unchecked(&mut frame[HEADER..]);
    repr.emit(&mut packet);
    fill(packet.payload_mut());
    frame
}

/// One UDP datagram: a frame, or fragments when it is larger than the MTU. `None` when it is larger than IP allows, or
/// when the addresses are of two families. `ident` tells fragments of different datagrams apart.
pub fn udp(route: Route<IpAddr>, ports: (u16, u16), data: &[u8], mtu: usize, ident: u32) -> Option<Vec<Vec<u8>>> {
    let length = UDP_HEADER + data.len();
    let header = match route.to {
        // The length of IPv4 has the header in it, that of IPv6 has not.
        IpAddr::V4(_) if length + IPV4_HEADER <= usize::from(u16::MAX) => IPV4_HEADER,
        IpAddr::V6(_) if length <= usize::from(u16::MAX) => IPV6_HEADER,
        _ => return None,
    };
    let fill = |buffer: &mut [u8]| datagram(buffer, route.from.into(), route.to.into(), ports, data);
    let frame = match (route.from, route.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(route.with(from, to), IpProtocol::Udp, length, fill),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(route.with(from, to), IpProtocol::Udp, HOP_LIMIT, length, fill),
        _ => return None,
    };
    if frame.len() <= HEADER + mtu {
        return Some(vec![frame]);
    }
    let payload = &frame[HEADER + header..];
    Some(match (route.from, route.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => fragments_v4(route.with(from, to), payload, mtu, ident as u16),
        (IpAddr::V6(from), IpAddr::V6(to)) => fragments_v6(route.with(from, to), payload, mtu, ident),
        _ => return None,
    })
}

fn datagram(buffer: &mut [u8], from: IpAddress, to: IpAddress, ports: (u16, u16), data: &[u8]) {
    let repr = UdpRepr { src_port: ports.0, dst_port: ports.1 };
    let mut packet = UdpPacket::new_unchecked(buffer);
    let checks = ChecksumCapabilities::default();
    repr.emit(&mut packet, &from, &to, data.len(), |buffer| buffer.copy_from_slice(data), &checks);
}

fn fragments_v4(route: Route, payload: &[u8], mtu: usize, ident: u16) -> Vec<Vec<u8>> {
    let step = (mtu - IPV4_HEADER) & !7;
    let fragment = |(index, chunk): (usize, &[u8])| {
        let mut fragment = ipv4(route, IpProtocol::Udp, chunk.len(), |buffer| buffer.copy_from_slice(chunk));
        let mut packet = Ipv4Packet::new_unchecked(&mut fragment[HEADER..]);
        packet.set_ident(ident);
        packet.set_dont_frag(false);
        packet.set_more_frags((index + 1) * step < payload.len());
        // At most 65,515 bytes: the offset fits.
        packet.set_frag_offset((index * step) as u16);
        packet.fill_checksum();
        fragment
    };
    payload.chunks(step).enumerate().map(fragment).collect()
}

fn fragments_v6(route: Route<Ipv6Addr>, payload: &[u8], mtu: usize, ident: u32) -> Vec<Vec<u8>> {
    let step = (mtu - IPV6_HEADER - FRAGMENT_HEADER) & !7;
    let fragment = |(index, chunk): (usize, &[u8])| {
        // At most 65,535 bytes in units of eight: the offset fits.
        let frag_offset = (index * step / 8) as u16;
        let header = Ipv6FragmentRepr { frag_offset, more_frags: (index + 1) * step < payload.len(), ident };
        ipv6(route, IpProtocol::Ipv6Frag, HOP_LIMIT, FRAGMENT_HEADER + chunk.len(), |buffer| {
            buffer[0] = IpProtocol::Udp.into();
            header.emit(&mut Ipv6FragmentHeader::new_unchecked(&mut buffer[2..FRAGMENT_HEADER]));
            buffer[FRAGMENT_HEADER..].copy_from_slice(chunk);
        })
    };
    payload.chunks(step).enumerate().map(fragment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: (Mac, Mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));

    fn route(from: &str, to: &str) -> Route<IpAddr> {
        Route { from_mac: MACS.0, to_mac: MACS.1, from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn a_datagram_fits_or_is_fragmented_without_loss() {
        let route = route("10.0.0.1", "10.0.0.2");
        assert_eq!(udp(route, (1, 2), &[7; 1472], 1500, 9).unwrap().len(), 1);
        let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        let frames = udp(route, (1, 2), &data, 1500, 9).unwrap();
        assert_eq!(frames.len(), 4);
        let mut whole = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            assert!(frame.len() <= HEADER + 1500);
            let packet = Ipv4Packet::new_checked(&frame[HEADER..]).unwrap();
            assert!(packet.verify_checksum());
            assert_eq!((packet.ident(), usize::from(packet.frag_offset())), (9, whole.len()));
            assert_eq!(packet.more_frags(), index != 3);
            whole.extend_from_slice(packet.payload());
        }
        let datagram = UdpPacket::new_checked(&whole[..]).unwrap();
        assert!(datagram.verify_checksum(&route.from.into(), &route.to.into()));
        assert_eq!(datagram.payload(), data);
        assert!(udp(route, (1, 2), &vec![0; 65_508], 1500, 9).is_none());
    }

    #[test]
    fn a_datagram_of_ipv6_has_a_fragment_header() {
        let route = route("fd00::1", "fd00::2");
        assert_eq!(udp(route, (1, 2), &[7; 1452], 1500, 9).unwrap().len(), 1);
        let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        let frames = udp(route, (1, 2), &data, 1500, 0x1234_5678).unwrap();
        assert_eq!(frames.len(), 4);
        let mut whole = Vec::new();
        for (index, frame) in frames.iter().enumerate() {
            assert!(frame.len() <= HEADER + 1500);
            let packet = Ipv6Packet::new_checked(&frame[HEADER..]).unwrap();
            assert_eq!((packet.next_header(), packet.payload()[..2].to_vec()), (IpProtocol::Ipv6Frag, vec![17, 0]));
            let header = Ipv6FragmentHeader::new_checked(&packet.payload()[2..8]).unwrap();
            assert_eq!((header.ident(), usize::from(header.frag_offset()) * 8), (0x1234_5678, whole.len()));
            assert_eq!(header.more_frags(), index != 3);
            whole.extend_from_slice(&packet.payload()[8..]);
        }
        let datagram = UdpPacket::new_checked(&whole[..]).unwrap();
        assert!(datagram.checksum() != 0 && datagram.verify_checksum(&route.from.into(), &route.to.into()));
        assert_eq!(datagram.payload(), data);
        assert!(udp(route, (1, 2), &vec![0; 65_528], 1500, 9).is_none());
    }

    #[test]
    fn two_families_make_no_packet() {
        assert!(udp(route("10.0.0.1", "fd00::2"), (1, 2), b"x", 1500, 9).is_none());
    }
}
