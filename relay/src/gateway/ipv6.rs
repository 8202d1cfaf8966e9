//! The IPv6 half of a room's gateway: who may use which address, router advertisements (RFC 4861, RFC 8106), neighbour
//! solicitations for the gateway, pings, and what is to be carried out. Pure, as [`super::Gateway`] is.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time;
use smoltcp::wire::{
    EthernetAddress, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6ExtHeader, Ipv6FragmentHeader,
    Ipv6Packet, NdiscNeighborFlags, NdiscOption, NdiscOptionRepr, NdiscOptionType, NdiscPrefixInfoFlags,
    NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags, TcpPacket, UdpPacket,
};

use super::owners::Owners;
use super::packet::{self, HOP_LIMIT, IPV6_HEADER, Route};
use super::{Action, DNS_PORT, FlowKey, GatewayDrop, MAC, icmp};
use crate::config::Settings;
use crate::switch::Mac;

/// The network of stateless address configuration has 64 bits, because an interface identifier has as many (RFC 4862).
pub const PREFIX_LENGTH: u8 = 64;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
/// Hop limit of neighbour discovery: shows that no router passed the packet on (RFC 4861, 6.1 and 7.1).
const ON_LINK: u8 = 255;
/// Addresses of one Ethernet address at a time: link-local, stable, and temporary ones of a few days (RFC 8981).
const PER_MAC: usize = 16;
/// How long an address belongs to a client that is gone, unless somebody else uses it.
const KEPT: Duration = Duration::from_secs(3600);
/// Extension headers that are looked through for what is behind them.
const MAX_HEADERS: usize = 8;
/// DHCPv6 servers answer from here (RFC 8415, 7.2).
const DHCP_SERVER_PORT: u16 = 547;
/// Recursive DNS server (RFC 8106, 5.1), which smoltcp does not know: type, and length in units of eight bytes.
const OPT_RDNSS: (u8, u8) = (25, 3);

/// What is behind the extension headers of a packet.
struct Upper {
    protocol: IpProtocol,
    /// Where it begins in the packet.
    at: usize,
    /// Whether it is the first of several parts, or said to be one.
    fragment: bool,
}

/// The state of a room's IPv6.
#[derive(Debug)]
pub struct Ipv6 {
    ip: Ipv6Addr,
    link_local: Ipv6Addr,
    mtu: u16,
    /// Longest time between two router advertisements.
    interval: Duration,
    next: Duration,
    owners: Owners<Ipv6Addr>,
}

/// The address that follows from an Ethernet address (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

/// The Ethernet address that an address follows from, if it looks like that.
fn embedded_mac(ip: Ipv6Addr) -> Option<Mac> {
    match ip.octets()[8..] {
        [a, b, c, 0xff, 0xfe, d, e, f] => Some(Mac([a ^ 2, b, c, d, e, f])),
        _ => None,
    }
}

impl Ipv6 {
    /// As the settings say; `None` when rooms have no IPv6.
    pub fn new(settings: &Settings, capacity: usize) -> Option<Self> {
        Some(Self {
            ip: settings.gateway6?,
            link_local: link_local(MAC),
            mtu: settings.limits.mtu,
            interval: Duration::from_secs(settings.limits.ra_interval),
            next: Duration::ZERO,
            owners: Owners::new(capacity, PER_MAC),
        })
    }

    /// Whether an address is the gateway's.
    pub fn is_own(&self, ip: Ipv6Addr) -> bool {
        ip == self.ip || ip == self.link_local
    }

    fn in_prefix(&self, ip: Ipv6Addr) -> bool {
        ip.octets()[..8] == self.ip.octets()[..8]
    }

    /// Whether an address is a guest's: the first of a network means "any router" (RFC 4291, 2.6.1).
    fn is_host(&self, ip: Ipv6Addr) -> bool {
        self.in_prefix(ip) && ip != self.ip && ip.octets()[8..] != [0; 8]
    }

    /// Addresses outside of the room's network are the guests' own business, as with IPv4.
    fn claim(&mut self, ip: Ipv6Addr, mac: Mac, now: Duration, live: impl Fn(Mac) -> bool) -> Result<(), GatewayDrop> {
        if !self.in_prefix(ip) && !ip.is_unicast_link_local() {
            return Ok(());
        }
        // Nobody can take an address that follows from a neighbour's Ethernet address, not even before it is used.
        let another = embedded_mac(ip).is_some_and(|owner| owner != mac && live(owner));
        let host = self.is_host(ip) || ip.is_unicast_link_local();
        if self.is_own(ip) || another || !self.owners.seen(ip, mac, now + KEPT, now, host, live) {
            return Err(GatewayDrop::SpoofedIp);
        }
        Ok(())
    }

    /// Filters what a client says about itself, as [`super::Gateway::admit`]: source addresses and neighbour
    /// advertisements for addresses of another one or of the gateway, router advertisements and redirects, answers of
    /// DHCPv6 servers; also behind extension headers, which guests look through (RFC 7113), and not in fragments
    /// (RFC 6980).
    pub fn admit(
        &mut self,
        sender: Mac,
        packet: &[u8],
        now: Duration,
        live: impl Fn(Mac) -> bool,
    ) -> Result<(), GatewayDrop> {
        let ip = Ipv6Packet::new_checked(packet).map_err(|_| GatewayDrop::Malformed)?;
        let packet = &packet[..ip.total_len()];
        let source = ip.src_addr();
        if ip.version() != 6 || source.is_multicast() {
            return Err(GatewayDrop::Malformed);
        }
        let mut target = None;
        if let Some(upper) = upper(packet)? {
            let payload = &packet[upper.at..];
            match upper.protocol {
                IpProtocol::Icmpv6 => target = discovery(sender, payload, upper.fragment)?,
                IpProtocol::Udp if payload.get(..2) == Some(&DHCP_SERVER_PORT.to_be_bytes()) => {
                    return Err(GatewayDrop::RogueDhcp);
                }
                _ => {}
            }
        }
        if let Some(target) = target {
            self.claim(target, sender, now, &live)?;
        }
        // An address that is being looked for by its future owner has none yet.
        if source.is_unspecified() { Ok(()) } else { self.claim(source, sender, now, live) }
    }

    /// Handles a packet that is for the gateway or for everybody. It passed [`Self::admit`].
    pub fn handle(&self, sender: Mac, unicast: bool, packet: Bytes) -> Action {
        let ip = Ipv6Packet::new_unchecked(&packet[..]);
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        if ip.next_header() == IpProtocol::Icmpv6
            && let Some(action) = self.discover(sender, from, to, ip.hop_limit(), ip.payload())
        {
            return action;
        }
        if !unicast {
            return Action::None;
        }
        if !(self.is_host(from) || from.is_unicast_link_local() && self.is_own(to)) {
            return Action::Drop(GatewayDrop::SpoofedIp);
        }
        let flow = |ports: (u16, u16)| FlowKey {
            guest: SocketAddr::from((from, ports.0)),
            remote: SocketAddr::from((to, ports.1)),
        };
        match ip.next_header() {
            IpProtocol::Udp if self.routable(to) => {
                let Ok(udp) = UdpPacket::new_checked(ip.payload()) else { return Action::Drop(GatewayDrop::Malformed) };
                // IPv6 knows no datagram without checksum (RFC 8200, 8.1).
                if udp.checksum() == 0 || !udp.verify_checksum(&from.into(), &to.into()) {
                    return Action::Drop(GatewayDrop::Malformed);
                }
                let data = packet.slice(IPV6_HEADER + packet::UDP_HEADER..IPV6_HEADER + usize::from(udp.len()));
                let key = flow((udp.src_port(), udp.dst_port()));
                if self.is_own(to) && udp.dst_port() == DNS_PORT {
                    Action::Dns { guest: key.guest, server: IpAddr::V6(to), query: data }
                } else {
                    Action::Udp { key, data, packet: packet.clone() }
                }
            }
            IpProtocol::Tcp if self.routable(to) => {
                let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else { return Action::Drop(GatewayDrop::Malformed) };
                let key = flow((tcp.src_port(), tcp.dst_port()));
                Action::Tcp { key, syn: tcp.syn() && !tcp.ack(), packet: packet.clone() }
            }
            IpProtocol::Icmpv6 => self.ping(sender, from, to, &packet),
            IpProtocol::Ipv6Frag => Action::Drop(GatewayDrop::Fragment),
            _ => Action::Drop(GatewayDrop::Unsupported),
        }
    }

    /// To the gateway itself or to something beyond the room.
    fn routable(&self, to: Ipv6Addr) -> bool {
        self.is_own(to) || !self.in_prefix(to)
    }

    fn ping(&self, sender: Mac, from: Ipv6Addr, to: Ipv6Addr, packet: &[u8]) -> Action {
        let message = &packet[IPV6_HEADER..];
        let Ok(request) = Icmpv6Packet::new_checked(message) else { return Action::Drop(GatewayDrop::Malformed) };
        match Icmpv6Repr::parse(&from, &to, &request, &ChecksumCapabilities::default()) {
            Ok(Icmpv6Repr::EchoRequest { ident, seq_no, data }) if self.is_own(to) => {
                let route = Route { from_mac: MAC, to_mac: sender, from: to, to: from };
                Action::Echo(icmp::icmpv6(route, HOP_LIMIT, &Icmpv6Repr::EchoReply { ident, seq_no, data }))
            }
            Ok(Icmpv6Repr::EchoRequest { .. }) if !to.is_multicast() => {
                Action::Reply(icmp::prohibited_v6(self.ip, sender, packet))
            }
            Ok(_) => Action::None,
            Err(_) => Action::Drop(GatewayDrop::Malformed),
        }
    }

    /// Answers router solicitations, and neighbour solicitations for the gateway; `None` for other messages.
    fn discover(&self, sender: Mac, from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Option<Action> {
        let Ok(message) = Icmpv6Packet::new_checked(message) else {
            return Some(Action::Drop(GatewayDrop::Malformed));
        };
        if !message.msg_type().is_ndisc() {
            return None;
        }
        if hop_limit != ON_LINK || message.msg_code() != 0 || !message.verify_checksum(&from, &to) {
            return Some(Action::Drop(GatewayDrop::Malformed));
        }
        // Who has no address yet is reached with everybody else; the frame goes to its port only.
        let (to_mac, to) = if from.is_unspecified() { (ALL_NODES_MAC, ALL_NODES) } else { (sender, from) };
        Some(match message.msg_type() {
            Icmpv6Message::RouterSolicit => Action::Reply(self.advertisement(to_mac, to)),
            Icmpv6Message::NeighborSolicit if self.is_own(message.target_addr()) => {
                let target_addr = message.target_addr();
                let solicited =
                    if from.is_unspecified() { NdiscNeighborFlags::empty() } else { NdiscNeighborFlags::SOLICITED };
                let advert = NdiscRepr::NeighborAdvert {
                    flags: NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE | solicited,
                    target_addr,
                    lladdr: Some(EthernetAddress(MAC.0).into()),
                };
                let route = Route { from_mac: MAC, to_mac, from: target_addr, to };
                Action::Reply(icmp::icmpv6(route, ON_LINK, &Icmpv6Repr::Ndisc(advert)))
            }
            _ => Action::None,
        })
    }

    /// The advertisement that is due for everybody, if one is. `dice` spreads them (RFC 4861, 6.2.4: at random between a
    /// third of the longest time and all of it).
    pub fn due(&mut self, now: Duration, dice: u32) -> Option<Vec<u8>> {
        let first = self.next.is_zero();
        if now < self.next {
            return None;
        }
        let part = 1.0 / 3.0 + f64::from(dice) / f64::from(u32::MAX) * 2.0 / 3.0;
        self.next = now + self.interval.mul_f64(part);
        // Who was there first has just been answered.
        (!first).then(|| self.advertisement(ALL_NODES_MAC, ALL_NODES))
    }

    /// A router advertisement: prefix, MTU, and the gateway as router and name server.
    fn advertisement(&self, to_mac: Mac, to: Ipv6Addr) -> Vec<u8> {
        let seconds = |time: Duration| time::Duration::from_secs(time.as_secs());
        let lifetime = self.interval * 3;
        let advert = Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
            hop_limit: HOP_LIMIT,
            // Neither addresses nor anything else by DHCPv6.
            flags: NdiscRouterFlags::empty(),
            router_lifetime: seconds(lifetime),
            reachable_time: time::Duration::ZERO,
            retrans_time: time::Duration::ZERO,
            lladdr: Some(EthernetAddress(MAC.0).into()),
            mtu: Some(self.mtu.into()),
            prefix_info: Some(NdiscPrefixInformation {
                prefix_len: PREFIX_LENGTH,
                flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
                // RFC 9096, 3.4: 90 and 45 minutes with the default interval, so that a network that is gone is soon
                // forgotten.
                valid_lifetime: seconds(self.interval * 9),
                preferred_lifetime: seconds(self.interval * 9 / 2),
                prefix: Ipv6Addr::from(u128::from(self.ip) & (u128::MAX << 64)),
            }),
        });
        let mut servers = [0; 22];
        servers[2..6].copy_from_slice(&(lifetime.as_secs() as u32).to_be_bytes());
        servers[6..].copy_from_slice(&self.ip.octets());
        let option = NdiscOptionRepr::Unknown { type_: OPT_RDNSS.0, length: OPT_RDNSS.1, data: &servers };
        let route = Route { from_mac: MAC, to_mac, from: self.link_local, to };
        let (known, length) = (advert.buffer_len(), advert.buffer_len() + option.buffer_len());
        packet::ipv6(route, IpProtocol::Icmpv6, ON_LINK, length, |buffer| {
            option.emit(&mut NdiscOption::new_unchecked(&mut buffer[known..]));
            // Last, because it computes the checksum of all of it.
            let mut message = Icmpv6Packet::new_unchecked(buffer);
            advert.emit(&route.from, &route.to, &mut message, &ChecksumCapabilities::default());
        })
    }
}

/// Looks behind the extension headers; `None` for a later fragment, which says nothing about itself.
fn upper(packet: &[u8]) -> Result<Option<Upper>, GatewayDrop> {
    let mut protocol = Ipv6Packet::new_unchecked(packet).next_header();
    let (mut at, mut fragment) = (IPV6_HEADER, false);
    for _ in 0..=MAX_HEADERS {
        let rest = packet.get(at..).unwrap_or_default();
        match protocol {
            IpProtocol::HopByHop | IpProtocol::Ipv6Route | IpProtocol::Ipv6Opts => {
                let header = Ipv6ExtHeader::new_checked(rest).map_err(|_| GatewayDrop::Malformed)?;
                protocol = header.next_header();
                at += (usize::from(header.header_len()) + 1) * 8;
            }
            IpProtocol::Ipv6Frag => {
                let [next, _, header @ ..] = rest.first_chunk::<8>().ok_or(GatewayDrop::Malformed)?;
                let header = Ipv6FragmentHeader::new_checked(&header[..]).map_err(|_| GatewayDrop::Malformed)?;
                if header.frag_offset() != 0 {
                    return Ok(None);
                }
                (protocol, fragment) = (IpProtocol::from(*next), true);
                at += 8;
            }
            _ => return Ok(Some(Upper { protocol, at, fragment })),
        }
    }
    Err(GatewayDrop::Malformed)
}

/// Checks an ICMPv6 message of a client; the address that it says is its own, if it says so.
fn discovery(sender: Mac, message: &[u8], fragment: bool) -> Result<Option<Ipv6Addr>, GatewayDrop> {
    let kind = message.first().map(|kind| Icmpv6Message::from(*kind));
    if !kind.ok_or(GatewayDrop::Malformed)?.is_ndisc() {
        return Ok(None);
    }
    if fragment {
        return Err(GatewayDrop::Fragment);
    }
    let message = Icmpv6Packet::new_checked(message).map_err(|_| GatewayDrop::Malformed)?;
    match message.msg_type() {
        Icmpv6Message::RouterAdvert | Icmpv6Message::Redirect => return Err(GatewayDrop::RogueRouter),
        Icmpv6Message::NeighborSolicit | Icmpv6Message::NeighborAdvert if message.target_addr().is_multicast() => {
            return Err(GatewayDrop::Malformed);
        }
        _ => {}
    }
    // All of them: which of two counts is up to the guest that reads them.
    let mut rest = message.payload();
    while !rest.is_empty() {
        let option = NdiscOption::new_checked(rest).map_err(|_| GatewayDrop::Malformed)?;
        let length = usize::from(option.data_len()) * 8;
        if length == 0 {
            return Err(GatewayDrop::Malformed);
        }
        let hardware =
            matches!(option.option_type(), NdiscOptionType::SourceLinkLayerAddr | NdiscOptionType::TargetLinkLayerAddr);
        if hardware && rest[2..8] != sender.0 {
            return Err(GatewayDrop::SpoofedMac);
        }
        rest = &rest[length..];
    }
    Ok((message.msg_type() == Icmpv6Message::NeighborAdvert).then(|| message.target_addr()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const NOW: Duration = Duration::from_secs(1000);

    fn six(capacity: usize) -> Ipv6 {
        Ipv6::new(&Settings::default(), capacity).unwrap()
    }

    fn at(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd74, 0x6162, 0x3836, 0, 0, 0, 0, n)
    }

    #[test]
    fn addresses_that_follow_from_ethernet_addresses() {
        assert_eq!(link_local(MAC), "fe80::74:61ff:fe62:8601".parse::<Ipv6Addr>().unwrap());
        assert_eq!((embedded_mac(link_local(B)), embedded_mac(at(5))), (Some(B), None));
    }

    #[test]
    fn an_address_belongs_to_whom_it_was_seen_with_or_made_of() {
        let mut six = six(100);
        for ip in [at(0), at(1), link_local(MAC)] {
            assert_eq!(six.claim(ip, A, NOW, |_| true), Err(GatewayDrop::SpoofedIp), "{ip}");
        }
        assert_eq!(six.claim(at(5), A, NOW, |_| true), Ok(()));
        assert_eq!(six.claim(at(5), B, NOW + KEPT * 2, |_| true), Err(GatewayDrop::SpoofedIp));
        assert_eq!(six.claim(at(5), B, NOW, |mac| mac != A), Ok(()), "A is gone");
        assert_eq!(six.claim(link_local(B), A, NOW, |_| true), Err(GatewayDrop::SpoofedIp), "before B used it");
        assert_eq!(six.claim(link_local(B), A, NOW, |mac| mac != B), Ok(()), "there is no B");
        let elsewhere = "2001:db8::1".parse().unwrap();
        assert_eq!((six.claim(elsewhere, A, NOW, |_| true), six.claim(elsewhere, B, NOW, |_| true)), (Ok(()), Ok(())));
    }

    #[test]
    fn the_table_is_bounded_and_spares_those_who_are_connected() {
        let mut six = six(40);
        assert_eq!(six.claim(at(5), B, NOW, |_| true), Ok(()));
        for n in 100..1000 {
            assert_eq!(six.claim(at(n), A, NOW, |_| true), Ok(()));
        }
        assert_eq!(six.owners.len(), 1 + PER_MAC);
        for n in 1000..1100u16 {
            let [high, low] = n.to_be_bytes();
            let _ = six.claim(at(n), Mac([2, 1, 0, 0, high, low]), NOW, |_| true);
        }
        assert_eq!(six.owners.len(), 40);
        assert_eq!(six.claim(at(5), A, NOW, |_| true), Err(GatewayDrop::SpoofedIp), "B's is still there");
    }

    #[test]
    fn advertisements_come_between_a_third_of_the_interval_and_all_of_it() {
        let mut six = six(40);
        assert_eq!(six.due(NOW, 0), None, "who is first asks");
        assert_eq!(six.due(NOW + Duration::from_secs(199), 0), None);
        assert!(six.due(NOW + Duration::from_secs(201), u32::MAX).is_some());
        assert_eq!(six.due(NOW + Duration::from_secs(800), u32::MAX), None);
        assert!(six.due(NOW + Duration::from_secs(802), u32::MAX).is_some());
    }
}
