//! Building frames: Ethernet II and IPv4 (RFC 791) around a payload.

use std::net::Ipv4Addr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket,
    UdpRepr,
};

use crate::switch::{HEADER, Mac};

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of a UDP header.
pub const UDP_HEADER: usize = 8;

/// Who sends to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Source address on the wire.
    pub from_mac: Mac,
    /// Destination address on the wire.
    pub to_mac: Mac,
    /// Source address.
    pub from: Ipv4Addr,
    /// Destination address.
    pub to: Ipv4Addr,
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
        hop_limit: 64,
    };
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[HEADER..]);
    repr.emit(&mut packet, &ChecksumCapabilities::default());
    fill(packet.payload_mut());
    frame
}

/// One UDP datagram: a frame, or fragments when it is larger than the MTU. `None` when it is larger than IP allows.
pub fn udp(route: Route, ports: (u16, u16), data: &[u8], mtu: usize, ident: u16) -> Option<Vec<Vec<u8>>> {
    let length = UDP_HEADER + data.len();
    if length + IPV4_HEADER > usize::from(u16::MAX) {
        return None;
    }
    let frame = ipv4(route, IpProtocol::Udp, length, |payload| {
        let repr = UdpRepr { src_port: ports.0, dst_port: ports.1 };
        repr.emit(
            &mut UdpPacket::new_unchecked(payload),
            &route.from.into(),
            &route.to.into(),
            data.len(),
            |buffer| buffer.copy_from_slice(data),
            &ChecksumCapabilities::default(),
        );
    });
    if frame.len() <= HEADER + mtu {
        return Some(vec![frame]);
    }
    let step = (mtu - IPV4_HEADER) & !7;
    let payload = &frame[HEADER + IPV4_HEADER..];
    let fragments = payload.chunks(step).enumerate().map(|(index, chunk)| {
        let mut fragment = ipv4(route, IpProtocol::Udp, chunk.len(), |buffer| buffer.copy_from_slice(chunk));
        let mut packet = Ipv4Packet::new_unchecked(&mut fragment[HEADER..]);
        packet.set_ident(ident);
        packet.set_dont_frag(false);
        packet.set_more_frags((index + 1) * step < payload.len());
        // At most 65,515 bytes: the offset fits.
        packet.set_frag_offset((index * step) as u16);
        packet.fill_checksum();
        fragment
    });
    Some(fragments.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: Route = Route {
        from_mac: Mac([2, 0, 0, 0, 0, 1]),
        to_mac: Mac([2, 0, 0, 0, 0, 2]),
        from: Ipv4Addr::new(10, 0, 0, 1),
        to: Ipv4Addr::new(10, 0, 0, 2),
    };

    #[test]
    fn a_datagram_fits_or_is_fragmented_without_loss() {
        assert_eq!(udp(ROUTE, (1, 2), &[7; 1472], 1500, 9).unwrap().len(), 1);
        let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        let frames = udp(ROUTE, (1, 2), &data, 1500, 9).unwrap();
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
        assert!(datagram.verify_checksum(&ROUTE.from.into(), &ROUTE.to.into()));
        assert_eq!(datagram.payload(), data);
        assert!(udp(ROUTE, (1, 2), &vec![0; 65_508], 1500, 9).is_none());
    }
}
