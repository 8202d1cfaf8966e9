//! What a hostile client may try with IPv6. The dialer and the resolver record what was asked of them: nothing leaves
//! the machine, whatever the policy does. A second client in the same room must notice nothing.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use smoltcp::socket::tcp::State;
use smoltcp::wire::Icmpv6Message;
use support::six::{
    ALL_NODES, ALL_NODES_MAC, GATEWAY6, advertisement, discovery, gateway_link_local, message, option, packet6,
    read_icmpv6, read_udp6, router_solicitation, solicitation, udp6,
};
use support::{GATEWAY_MAC, Guest, Noise, Recorder, mac, relay};
use tab86_relay::policy::Refusal;

const PUBLIC: Ipv6Addr = Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Everything before was handled when the gateway answers this.
async fn settle(guest: &mut Guest) {
    let (mac, link) = (guest.mac, guest.link());
    let frame = discovery((mac, GATEWAY_MAC), (link, GATEWAY6), &solicitation(GATEWAY6, Some(mac)));
    guest.send(frame).await;
    guest.icmpv6(Icmpv6Message::NeighborAdvert).await;
}

/// The same frame with a priority tag.
fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0xe0, 0], &frame[12..]].concat()
}

/// The same packet with an extension header before its payload: `kind`, and the header but for its first byte.
fn behind(frame: &[u8], kind: u8, header: &[u8]) -> Vec<u8> {
    let mut frame = [&frame[..54], &[frame[20]], header, &frame[54..]].concat();
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    frame[20] = kind;
    frame
}

const HOP_BY_HOP: (u8, &[u8]) = (0, &[0, 1, 4, 0, 0, 0, 0]);
const DESTINATION_OPTIONS: (u8, &[u8]) = (60, &[0, 1, 4, 0, 0, 0, 0]);
const ATOMIC_FRAGMENT: (u8, &[u8]) = (44, &[0, 0, 0, 0, 0, 0, 9]);
const FIRST_FRAGMENT: (u8, &[u8]) = (44, &[0, 0, 1, 0, 0, 0, 9]);

#[tokio::test]
async fn spoofed_neighbours_routers_and_sources_are_dropped() {
    let relay = relay(&Recorder::new(), &[]).await;
    let (mut good, good_ip) = Guest::join6(relay.addresses[0], "r", 1).await;
    // The neighbour's address is known from a packet of its own.
    settle(&mut good).await;
    let (mut bad, own) = Guest::join6(relay.addresses[0], "r", 2).await;
    let metrics = &relay.shared.metrics;
    let (to_good, to_all) = ((bad.mac, good.mac), (bad.mac, ALL_NODES_MAC));

    // Advertisements for the neighbour's and the gateway's addresses, solicited or not.
    let mut spoofed = Vec::new();
    for target in [good_ip, good.link(), GATEWAY6, gateway_link_local()] {
        spoofed.push(discovery(to_good, (bad.link(), good.link()), &advertisement(target, bad.mac)));
        spoofed.push(discovery(to_all, (bad.link(), ALL_NODES), &advertisement(target, bad.mac)));
        spoofed.push(discovery(to_good, (target, good.link()), &solicitation(good_ip, Some(bad.mac))));
    }
    // Where guests would look for it, and a relay might not.
    let plain = discovery(to_good, (bad.link(), good.link()), &advertisement(GATEWAY6, bad.mac));
    spoofed.push(tagged(&plain));
    spoofed.push(tagged(&tagged(&plain)));
    spoofed.push(behind(&plain, HOP_BY_HOP.0, HOP_BY_HOP.1));
    let twice = behind(&plain, DESTINATION_OPTIONS.0, DESTINATION_OPTIONS.1);
    spoofed.push(behind(&twice, HOP_BY_HOP.0, HOP_BY_HOP.1));
    // Sources: the neighbour's, the gateway's, and one that only the neighbour can come to have.
    spoofed.push(udp6(to_good, (good_ip, 1), (good_ip, 1), b"forged"));
    spoofed.push(udp6(to_good, (gateway_link_local(), 1), (good_ip, 1), b"forged"));
    let made_of_good = good.link();
    let future = Ipv6Addr::from(u128::from(made_of_good) & u128::from(u64::MAX) | u128::from(GATEWAY6) >> 64 << 64);
    spoofed.push(udp6(to_good, (future, 1), (good_ip, 1), b"forged"));
    // ARP behind a priority tag.
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &bad.mac.0, &support::GATEWAY.octets(), &good.mac.0, &good.ip.octets()];
    spoofed.push(tagged(&support::frame(good.mac, bad.mac, 0x0806, &arp.concat())));
    let count = spoofed.len() as u64;
    for frame in spoofed {
        bad.send(frame).await;
    }
    settle(&mut bad).await;
    assert_eq!((metrics.drop_spoofed_ip.get(), metrics.drop_spoofed_mac.get()), (count, 0));

    // Somebody else's hardware address inside, also as the second of two.
    let two = [&advertisement(own, bad.mac)[..], &option(2, mac(77))].concat();
    for bytes in
        [advertisement(own, good.mac), two, solicitation(good_ip, Some(good.mac)), router_solicitation(Some(mac(7)))]
    {
        bad.send(discovery(to_good, (bad.link(), good.link()), &bytes)).await;
    }
    settle(&mut bad).await;
    assert_eq!(metrics.drop_spoofed_mac.get(), 4);

    // Routers and redirects, also behind headers.
    let router = [&[134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &option(1, bad.mac)].concat();
    let redirect = [&[137, 0, 0, 0, 0, 0, 0, 0][..], &own.octets(), &PUBLIC.octets()].concat();
    let routers = [
        discovery(to_all, (bad.link(), ALL_NODES), &router),
        discovery(to_good, (bad.link(), good.link()), &redirect),
        behind(&discovery(to_all, (bad.link(), ALL_NODES), &router), DESTINATION_OPTIONS.0, DESTINATION_OPTIONS.1),
        tagged(&discovery(to_all, (bad.link(), ALL_NODES), &router)),
    ];
    for frame in &routers {
        bad.send(frame.clone()).await;
    }
    // A DHCPv6 server.
    bad.send(udp6(to_good, (bad.link(), 547), (good.link(), 546), b"reply")).await;
    settle(&mut bad).await;
    assert_eq!((metrics.drop_rogue_router.get(), metrics.drop_rogue_dhcp.get()), (4, 1));

    // In fragments, whole or not; a chain of headers that is cut off, without end, or not in the first fragment.
    for (kind, header) in [ATOMIC_FRAGMENT, FIRST_FRAGMENT] {
        bad.send(behind(&routers[0], kind, header)).await;
    }
    settle(&mut bad).await;
    assert_eq!(metrics.drop_fragment.get(), 2);
    let mut endless = routers[0].clone();
    for _ in 0..10 {
        endless = behind(&endless, DESTINATION_OPTIONS.0, DESTINATION_OPTIONS.1);
    }
    let cut = behind(&packet6(to_all, (bad.link(), ALL_NODES), 60, 255, &[58]), FIRST_FRAGMENT.0, FIRST_FRAGMENT.1);
    let group_source = discovery(to_all, (ALL_NODES, ALL_NODES), &solicitation(own, None));
    for frame in [endless, cut, group_source] {
        bad.send(frame).await;
    }
    settle(&mut bad).await;
    assert_eq!(metrics.drop_malformed.get(), 3);

    // Nothing of all this came to the neighbour; what is allowed does.
    bad.send(udp6(to_good, (own, 9), (good_ip, 9), b"honest")).await;
    bad.send(behind(&udp6(to_good, (own, 9), (good_ip, 9), b"honest"), 60, DESTINATION_OPTIONS.1)).await;
    let mut honest = 0;
    while honest < 2 {
        let frame = support::next_binary(&mut good.socket).await.unwrap();
        let from_bad = frame[6..12] == bad.mac.0;
        // The hostile one's own router solicitation, sent to everybody at its start.
        let solicited = read_icmpv6(&frame).is_some_and(|(.., message)| message[0] == 133);
        honest += usize::from(from_bad && !solicited);
        let first_is_honest = read_udp6(&frame).is_some_and(|(_, _, data)| data == b"honest");
        assert!(!from_bad || solicited || first_is_honest || frame[20] == 60, "{frame:?}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn an_address_in_use_cannot_be_had_by_answering_first() {
    let relay = relay(&Recorder::new(), &[]).await;
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    // The newcomer has not sent a packet from the address that it will make of its Ethernet address.
    let wanted = good.link();
    bad.send(discovery((bad.mac, ALL_NODES_MAC), (bad.link(), ALL_NODES), &advertisement(wanted, bad.mac))).await;
    settle(&mut bad).await;
    assert_eq!(relay.shared.metrics.drop_spoofed_ip.get(), 1);
    // Whether it is free: nobody says no.
    let (group, group_mac) = support::six::solicited_node(wanted);
    good.discover(group_mac, (Ipv6Addr::UNSPECIFIED, group), &solicitation(wanted, None)).await;
    settle(&mut good).await;
    relay.stop().await;
}

#[tokio::test]
async fn refused_destinations_are_refused_counted_and_never_dialled() {
    let recorder = Recorder::new();
    recorder.own.lock().unwrap().push(IpAddr::V6(ip("2a00::77")));
    let relay = relay(&recorder, &["--connect-rate=0"]).await;
    let (mut bad, own) = Guest::join6(relay.addresses[0], "r", 2).await;
    let metrics = &relay.shared.metrics;
    let targets: &[(&str, Refusal)] = &[
        ("[::1]:80", Refusal::Loopback),
        ("[::]:80", Refusal::Reserved),
        ("[::ffff:127.0.0.1]:80", Refusal::Loopback),
        ("[::ffff:10.0.0.1]:80", Refusal::Private),
        ("[::ffff:169.254.169.254]:80", Refusal::LinkLocal),
        ("[::127.0.0.1]:80", Refusal::Reserved),
        ("[64:ff9b::10.0.0.1]:80", Refusal::Reserved),
        ("[64:ff9b::8.8.8.8]:80", Refusal::Reserved),
        ("[64:ff9b:1::10.0.0.1]:80", Refusal::Reserved),
        ("[2002:0a00:0001::1]:80", Refusal::Reserved),
        ("[2001:0:4136:e378::1]:80", Refusal::Reserved),
        ("[2001:db8::1]:80", Refusal::Reserved),
        ("[3fff::1]:80", Refusal::Reserved),
        ("[100::1]:80", Refusal::Reserved),
        ("[fc00::1]:80", Refusal::Private),
        ("[fd00:ec2::254]:80", Refusal::Private),
        ("[fec0::1]:80", Refusal::Reserved),
        ("[fe80::1]:80", Refusal::LinkLocal),
        ("[ff02::1]:1900", Refusal::Multicast),
        ("[ff05::2]:1900", Refusal::Multicast),
        ("[2a00::77]:80", Refusal::OwnHost),
        ("[2606:4700::1111]:25", Refusal::Denied),
    ];
    for (target, reason) in targets {
        let to: SocketAddr = target.parse().unwrap();
        let IpAddr::V6(ip) = to.ip() else { panic!() };
        let before = metrics.refused_value(*reason).get();
        bad.send(udp6((bad.mac, GATEWAY_MAC), (own, 1000), (ip, to.port()), b"x")).await;
        let (from, _, error) = bad.icmpv6(Icmpv6Message::DstUnreachable).await;
        assert_eq!((from, error[1], &error[8 + 24..8 + 40]), (GATEWAY6, 1, &ip.octets()[..]), "{target}");
        bad.send(syn(&bad, own, (ip, to.port()))).await;
        let frame = support::next_binary(&mut bad.socket).await.unwrap();
        assert_eq!((&frame[22..38], frame[14 + 40 + 13]), (&ip.octets()[..], 0x14), "{target}: reset");
        assert_eq!(metrics.refused_value(*reason).get(), before + 2, "{target}");
    }
    // The gateway's own addresses stand for the relay's host: closed, too.
    for ip in [GATEWAY6, gateway_link_local()] {
        let handle = bad.open((ip, 8086), 1024);
        bad.until(|guest| (guest.tcp(handle).state() == State::Closed).then_some(())).await;
    }
    let refused: u64 = Refusal::ALL.iter().map(|r| metrics.refused_value(*r).get()).sum();
    assert_eq!((refused, recorder.dialled()), (targets.len() as u64 * 2 + 2, vec![]));
    assert_eq!(metrics.tcp_flows_total.get() + metrics.udp_flows_total.get(), 0);
    relay.stop().await;
}

fn syn(guest: &Guest, own: Ipv6Addr, to: (Ipv6Addr, u16)) -> Vec<u8> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
    let repr = TcpRepr {
        src_port: 5000,
        dst_port: to.1,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: Some(1440),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut segment = vec![0; repr.buffer_len()];
    let checks = ChecksumCapabilities::default();
    repr.emit(&mut TcpPacket::new_unchecked(&mut segment[..]), &own.into(), &to.0.into(), &checks);
    packet6((guest.mac, GATEWAY_MAC), (own, to.0), 6, 64, &segment)
}

/// An operator may open everything; an address that is no host's must still not bring the relay down.
#[tokio::test]
async fn addresses_that_are_no_hosts_are_nobodys_even_when_all_is_allowed() {
    let recorder = Recorder::new();
    let relay = relay(&recorder, &["--allow=::/0", "--allow=0.0.0.0/0"]).await;
    let (mut bad, own) = Guest::join6(relay.addresses[0], "r", 2).await;
    for to in ["ff02::1", "::", "ff05::2"] {
        bad.send(syn(&bad, own, (ip(to), 80))).await;
    }
    let metrics = &relay.shared.metrics;
    bad.until(|_| (metrics.tcp_flows_total.get() == 3 && metrics.tcp_flows.get() == 0).then_some(())).await;
    assert_eq!(recorder.dialled(), vec![]);
    settle(&mut bad).await;
    relay.stop().await;
}

#[tokio::test]
async fn packets_from_addresses_that_are_no_guests_go_nowhere() {
    let recorder = Recorder::new();
    let relay = relay(&recorder, &[]).await;
    let (mut bad, own) = Guest::join6(relay.addresses[0], "r", 2).await;
    // Public, another unique local network, the prefix itself, and link-local beyond the link.
    for from in [PUBLIC, ip("fd00::5"), bad.link()] {
        bad.send(udp6((bad.mac, GATEWAY_MAC), (from, 1), (PUBLIC, 80), b"x")).await;
        bad.send(syn(&bad, from, (PUBLIC, 80))).await;
    }
    let to_neighbour = udp6((bad.mac, GATEWAY_MAC), (own, 1), (ip("fd74:6162:3836::99"), 80), b"x");
    bad.send(to_neighbour).await;
    let fragment =
        behind(&udp6((bad.mac, GATEWAY_MAC), (own, 1), (PUBLIC, 80), b"x"), FIRST_FRAGMENT.0, FIRST_FRAGMENT.1);
    bad.send(fragment).await;
    settle(&mut bad).await;
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.drop_spoofed_ip.get(), metrics.drop_unsupported.get(), metrics.drop_fragment.get()), (6, 1, 1));
    assert_eq!(recorder.dialled(), vec![]);
    relay.stop().await;
}

#[tokio::test]
async fn both_families_share_a_clients_connections() {
    let recorder = Recorder::new();
    let relay = relay(&recorder, &["--udp-per-client=4", "--tcp-per-client=3", "--connect-rate=1000"]).await;
    let (mut bad, own) = Guest::join6(relay.addresses[0], "r", 2).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (name, to) in [("[2606:4700::1111]:7", listener.local_addr()), ("93.184.215.14:7", listener.local_addr())] {
        recorder.redirect(name, to.unwrap());
    }
    recorder.redirect("[2606:4700::1111]:9", socket.local_addr().unwrap());
    recorder.redirect("93.184.215.14:9", socket.local_addr().unwrap());
    let handles: Vec<_> = (0..10).map(|_| bad.open((PUBLIC, 7), 1024)).collect();
    let count = |guest: &mut Guest, state| handles.iter().filter(|h| guest.tcp(**h).state() == state).count();
    bad.until(|guest| (count(guest, State::Established) == 3 && count(guest, State::Closed) == 7).then_some(())).await;
    let v4 = std::net::Ipv4Addr::new(93, 184, 215, 14);
    for port in 0..10 {
        bad.send(udp6((bad.mac, GATEWAY_MAC), (own, 2000 + port), (PUBLIC, 9), b"x")).await;
        bad.send(support::udp_frame(bad.mac, GATEWAY_MAC, (bad.ip, 2000 + port), (v4, 9), b"x")).await;
    }
    settle(&mut bad).await;
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.tcp_flows.get(), metrics.limit_tcp.get()), (3, 7));
    assert_eq!((metrics.udp_flows.get(), metrics.limit_udp.get()), (4, 16));
    relay.stop().await;
}

#[tokio::test]
async fn garbage_of_all_kinds_is_counted_and_forgotten() {
    let recorder = Recorder::new();
    let relay = relay(&recorder, &["--flood-rate=0", "--rate-up=0"]).await;
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    let (mut bad, own) = Guest::join6(relay.addresses[0], "r", 2).await;
    let mut noise = Noise(0x6666);
    for round in 0..5000 {
        let length = noise.below(1400);
        let payload = noise.bytes(length);
        let protocol = [6, 17, 58, 0, 60, 44, 43, 59, 41, 200][round % 10];
        let to = [GATEWAY6, PUBLIC, ALL_NODES][round % 3];
        let mut frame = packet6((bad.mac, GATEWAY_MAC), (own, to), protocol, 255, &payload);
        match noise.below(4) {
            0 => frame[14 + noise.below(40)] = noise.next() as u8,
            1 => frame.truncate(14 + noise.below(60)),
            _ => {}
        }
        bad.send(frame).await;
    }
    settle(&mut bad).await;
    assert!(relay.shared.metrics.drop_malformed.get() > 1000);
    good.step(Duration::from_millis(10)).await;
    let known = message((good.link(), GATEWAY6), &[128, 0, 0, 0, 0, 7, 0, 9]);
    good.send(packet6((good.mac, GATEWAY_MAC), (good.link(), GATEWAY6), 58, 64, &known)).await;
    good.icmpv6(Icmpv6Message::EchoReply).await;
    assert_eq!(recorder.dialled(), vec![]);
    relay.stop().await;
}
