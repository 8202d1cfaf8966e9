//! ICMP of both families: answers to pings (RFC 792, RFC 4443) and "administratively prohibited".

use std::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr, IpProtocol,
    Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
};

use super::packet::{self, HOP_LIMIT, Route};
use super::{Action, GatewayDrop, MAC};
use crate::config::Settings;
use crate::switch::Mac;

/// The answer to an ICMP message for the gateway's own address.
pub fn echo(route: Route, message: &[u8]) -> Action {
    let checks = ChecksumCapabilities::default();
    let Ok(request) = Icmpv4Packet::new_checked(message) else { return Action::Drop(GatewayDrop::Malformed) };
    match Icmpv4Repr::parse(&request, &checks) {
        Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) => {
            let reply = Icmpv4Repr::EchoReply { ident, seq_no, data };
            Action::Echo(packet::ipv4(route, IpProtocol::Icmp, reply.buffer_len(), |buffer| {
                reply.emit(&mut Icmpv4Packet::new_unchecked(buffer), &checks);
            }))
        }
        Ok(_) => Action::None,
        Err(_) => Action::Drop(GatewayDrop::Malformed),
    }
}

/// A frame with an ICMPv6 message.
pub fn icmpv6(route: Route<Ipv6Addr>, hop_limit: u8, message: &Icmpv6Repr<'_>) -> Vec<u8> {
    packet::ipv6(route, IpProtocol::Icmpv6, hop_limit, message.buffer_len(), |buffer| {
        let checks = ChecksumCapabilities::default();
        message.emit(&route.from, &route.to, &mut Icmpv6Packet::new_unchecked(buffer), &checks);
    })
}

/// "Administratively prohibited" to the sender of `packet`, a whole IP packet.
pub fn prohibited(settings: &Settings, to_mac: Mac, packet: &[u8]) -> Option<Vec<u8>> {
    match packet.first()? >> 4 {
        4 => Some(prohibited_v4(settings.gateway, to_mac, packet)),
        6 => Some(prohibited_v6(settings.gateway6?, to_mac, packet)),
        _ => None,
    }
}

/// Destination unreachable (RFC 792): the header and the first 8 bytes of what did not arrive.
pub fn prohibited_v4(gateway: Ipv4Addr, to_mac: Mac, packet: &[u8]) -> Vec<u8> {
    let original = Ipv4Packet::new_unchecked(packet);
    let data = original.payload();
    let header = Ipv4Repr {
        src_addr: original.src_addr(),
        dst_addr: original.dst_addr(),
        next_header: original.next_header(),
        payload_len: data.len(),
        hop_limit: original.hop_limit(),
    };
    let reason = Icmpv4DstUnreachable::CommProhibited;
    let error = Icmpv4Repr::DstUnreachable { reason, header, data: &data[..data.len().min(8)] };
    let route = Route { from_mac: MAC, to_mac, from: gateway, to: original.src_addr() };
    packet::ipv4(route, IpProtocol::Icmp, error.buffer_len(), |buffer| {
        error.emit(&mut Icmpv4Packet::new_unchecked(buffer), &ChecksumCapabilities::default());
    })
}

/// Destination unreachable (RFC 4443, 3.1): as much of the packet as 1,280 bytes hold.
pub fn prohibited_v6(gateway: Ipv6Addr, to_mac: Mac, packet: &[u8]) -> Vec<u8> {
    let original = Ipv6Packet::new_unchecked(packet);
    let header = Ipv6Repr {
        src_addr: original.src_addr(),
        dst_addr: original.dst_addr(),
        next_header: original.next_header(),
        payload_len: original.payload().len(),
        hop_limit: original.hop_limit(),
    };
    let reason = Icmpv6DstUnreachable::AdminProhibit;
    let error = Icmpv6Repr::DstUnreachable { reason, header, data: original.payload() };
    let route = Route { from_mac: MAC, to_mac, from: gateway, to: original.src_addr() };
    icmpv6(route, HOP_LIMIT, &error)
}
