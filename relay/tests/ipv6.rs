//! The gateway's IPv6: by crafted frames over a real WebSocket, and by a guest with a TCP/IP stack that makes its
//! address from the router advertisement. The dialer is injected: public addresses are really on the loopback interface.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::net::Ipv6Addr;
use std::sync::atomic::Ordering;

use smoltcp::socket::tcp::State;
use smoltcp::wire::{Icmpv6Message, Ipv6FragmentHeader, Ipv6Packet};
use support::six::{
    ALL_NODES, ALL_NODES_MAC, ALL_ROUTERS, ALL_ROUTERS_MAC, GATEWAY6, discovery, gateway_link_local, message, packet6,
    router_solicitation, solicitation, solicited_node, udp6,
};
use support::{GATEWAY_MAC, Guest, Noise, Recorder, checksum, connect, next_binary, relay, settings};
use tab86_relay::gateway::Gateway;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

const PUBLIC: Ipv6Addr = Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 0x1111);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_router_solicitation_is_answered_with_prefix_mtu_and_name_server() {
    let relay = relay(&Recorder::new(), &["--mtu=1400", "--subnet6=fd12:3456:789a:7::/64", "--ra-interval=900"]).await;
    let mut guest = Guest::attach(connect(relay.addresses[0], "/r/r").await, 1);
    let (mac, link, server) = (guest.mac, guest.link(), ip("fd12:3456:789a:7::1"));
    guest.discover(ALL_ROUTERS_MAC, (link, ALL_ROUTERS), &router_solicitation(Some(mac))).await;
    let frame = next_binary(&mut guest.socket).await.unwrap();
    assert_eq!((&frame[..6], &frame[6..12]), (&mac.0[..], &GATEWAY_MAC.0[..]));
    let (from, to, advert) = support::six::read_icmpv6(&frame).unwrap();
    assert_eq!((from, to), (gateway_link_local(), link));
    // Type and code; hop limit, no DHCPv6, router for 2,700 s; no times.
    assert_eq!(
        (advert[..2].to_vec(), advert[4..16].to_vec()),
        (vec![134, 0], [&[64, 0, 0x0a, 0x8c][..], &[0; 8]].concat())
    );
    let expected = [
        &[1, 1][..],
        &GATEWAY_MAC.0,
        &[5, 1, 0, 0, 0, 0, 0x05, 0x78],
        // On-link and for addresses, valid for 8,100 s and preferred for 4,050.
        &[3, 4, 64, 0xc0, 0, 0, 0x1f, 0xa4, 0, 0, 0x0f, 0xd2, 0, 0, 0, 0],
        &ip("fd12:3456:789a:7::").octets(),
        &[25, 3, 0, 0, 0, 0, 0x0a, 0x8c],
        &server.octets(),
    ]
    .concat();
    assert_eq!(advert[16..], expected);
    // Who has no address yet is told together with everybody; the frame comes to its port only.
    guest.discover(ALL_ROUTERS_MAC, (Ipv6Addr::UNSPECIFIED, ALL_ROUTERS), &router_solicitation(None)).await;
    let frame = next_binary(&mut guest.socket).await.unwrap();
    assert_eq!(frame[..6], ALL_NODES_MAC.0);
    assert_eq!(support::six::read_icmpv6(&frame).unwrap().1, ALL_NODES);
    relay.stop().await;
}

#[tokio::test]
async fn advertisements_come_by_themselves_as_well() {
    let relay = relay(&Recorder::new(), &["--ra-interval=4"]).await;
    let mut guest = Guest::attach(connect(relay.addresses[0], "/r/r").await, 1);
    for _ in 0..2 {
        let (from, to, _) = guest.icmpv6(Icmpv6Message::RouterAdvert).await;
        assert_eq!((from, to), (gateway_link_local(), ALL_NODES));
    }
    assert!(relay.shared.metrics.router_advertisements_total.get() >= 2);
    relay.stop().await;
}

#[tokio::test]
async fn neighbour_solicitations_for_the_gateway_and_pings_are_answered() {
    let relay = relay(&Recorder::new(), &[]).await;
    let (mut guest, own) = Guest::join6(relay.addresses[0], "r", 1).await;
    let (mac, link) = (guest.mac, guest.link());
    for (target, source) in [(GATEWAY6, own), (gateway_link_local(), link)] {
        let (group, group_mac) = solicited_node(target);
        guest.discover(group_mac, (source, group), &solicitation(target, Some(mac))).await;
        let (from, to, advert) = guest.icmpv6(Icmpv6Message::NeighborAdvert).await;
        assert_eq!((from, to), (target, source));
        // Router, solicited, override.
        assert_eq!(advert[4..], [&[0xe0, 0, 0, 0][..], &target.octets(), &[2, 1], &GATEWAY_MAC.0].concat());
    }
    // Somebody tries whether the gateway's address is free: it is not.
    let (group, group_mac) = solicited_node(GATEWAY6);
    guest.discover(group_mac, (Ipv6Addr::UNSPECIFIED, group), &solicitation(GATEWAY6, None)).await;
    let (_, to, advert) = guest.icmpv6(Icmpv6Message::NeighborAdvert).await;
    assert_eq!((to, advert[4]), (ALL_NODES, 0xa0));
    // Nothing for a neighbour, and nothing for what came through a router (the next answer is the ping's).
    let (group, group_mac) = solicited_node(ip("fd74:6162:3836::99"));
    guest.discover(group_mac, (own, group), &solicitation(ip("fd74:6162:3836::99"), Some(mac))).await;
    let routed = message((own, GATEWAY6), &solicitation(GATEWAY6, Some(mac)));
    guest.send(packet6((mac, GATEWAY_MAC), (own, GATEWAY6), 58, 254, &routed)).await;
    for (target, source, length) in [(GATEWAY6, own, 0), (GATEWAY6, own, 1452), (gateway_link_local(), link, 56)] {
        let data: Vec<u8> =
            [&[128, 0, 0, 0, 0, 7, 0, 9][..], &(0..length).map(|i| i as u8).collect::<Vec<_>>()].concat();
        let request = message((source, target), &data);
        guest.send(packet6((mac, GATEWAY_MAC), (source, target), 58, 64, &request)).await;
        let frame = next_binary(&mut guest.socket).await.unwrap();
        let (from, to, reply) = support::six::read_icmpv6(&frame).unwrap();
        assert_eq!((from, to, reply[0], &reply[4..]), (target, source, 129, &data[4..]));
    }
    let request = message((own, PUBLIC), &[128, 0, 0, 0, 0, 7, 0, 9]);
    guest.send(packet6((mac, GATEWAY_MAC), (own, PUBLIC), 58, 64, &request)).await;
    let (from, _, error) = guest.icmpv6(Icmpv6Message::DstUnreachable).await;
    assert_eq!((from, error[1]), (GATEWAY6, 1), "administratively prohibited");
    assert_eq!(error[8..][40..], request);
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.icmp_echo_total.get(), metrics.drop_malformed.get()), (3, 1));
    relay.stop().await;
}

/// Asks an address of the gateway and returns the response code and the addresses.
async fn ask(guest: &mut Guest, own: Ipv6Addr, server: Ipv6Addr, name: &str, kind: u16) -> (u8, Vec<Ipv6Addr>) {
    let mut query = vec![0x42, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    guest.send(udp6((guest.mac, GATEWAY_MAC), (own, 3333), (server, 53), &query)).await;
    let (from, answer) = guest.udp6().await;
    assert_eq!((from, &answer[..2]), ((server, 53), &query[..2]));
    let records = answer[query.len().min(answer.len())..].chunks_exact(28);
    let addresses = records.filter(|_| kind == 28).map(|r| Ipv6Addr::from(<[u8; 16]>::try_from(&r[12..]).unwrap()));
    (answer[3] & 15, addresses.collect())
}

#[tokio::test]
async fn names_are_asked_over_ipv6_and_have_ipv6_addresses() {
    let recorder = Recorder::new();
    recorder.host("two.example", &["1.1.1.1", "2606:4700::1111", "2a00::1"]);
    recorder.host("four.example", &["1.1.1.1"]);
    recorder.host("inside.example", &["fd00::1"]);
    let hosts = ["--dns-host=files.lan=10.86.0.1", "--dns-host=files.lan=fd74:6162:3836::1"];
    let relay = relay(&recorder, &hosts).await;
    let (mut guest, own) = Guest::join6(relay.addresses[0], "r", 1).await;
    let (link, gateway) = (guest.link(), gateway_link_local());
    assert_eq!(ask(&mut guest, own, GATEWAY6, "two.example", 28).await, (0, vec![PUBLIC, ip("2a00::1")]));
    assert_eq!(ask(&mut guest, link, gateway, "four.example", 28).await, (0, vec![]));
    assert_eq!(ask(&mut guest, own, GATEWAY6, "files.lan", 28).await, (0, vec![GATEWAY6]));
    assert_eq!(ask(&mut guest, own, GATEWAY6, "inside.example", 28).await, (5, vec![]));
    assert_eq!(ask(&mut guest, own, GATEWAY6, "none.example", 28).await.0, 3);
    // A host without IPv6 tells nobody about addresses that cannot be reached.
    recorder.no_ipv6.store(true, Ordering::SeqCst);
    assert_eq!(ask(&mut guest, own, GATEWAY6, "two.example", 28).await, (0, vec![]));
    assert_eq!(recorder.dialled(), []);
    relay.stop().await;
}

#[tokio::test]
async fn without_ipv6_a_room_has_none() {
    let recorder = Recorder::new();
    recorder.host("two.example", &["1.1.1.1", "2606:4700::1111"]);
    let relay = relay(&recorder, &["--no-ipv6"]).await;
    let mut guest = Guest::join(relay.addresses[0], "r", 1).await;
    let (mac, link) = (guest.mac, guest.link());
    guest.discover(ALL_ROUTERS_MAC, (link, ALL_ROUTERS), &router_solicitation(Some(mac))).await;
    let query =
        [&[0x42, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3][..], b"two", &[7], b"example", &[0, 0, 28, 0, 1]].concat();
    guest.send(support::udp_frame(mac, GATEWAY_MAC, (guest.ip, 9), (support::GATEWAY, 53), &query)).await;
    let frame = next_binary(&mut guest.socket).await.unwrap();
    let (_, _, answer) = support::read_udp(&frame).expect("the answer, and no advertisement before it");
    assert_eq!((answer[3] & 15, answer.len()), (0, query.len()));
    assert_eq!(*recorder.names.lock().unwrap(), Vec::<String>::new());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_sends_and_receives_megabytes_over_ipv6() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let recorder = Recorder::new();
    recorder.redirect("[2606:4700::1111]:80", listener.local_addr().unwrap());
    // Reads to the end and sends it back.
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut all = vec![0; 4 << 20];
        stream.read_exact(&mut all).await.unwrap();
        stream.write_all(&all).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let relay = relay(&recorder, &["--rate-up=0", "--rate-down=0"]).await;
    let (mut guest, _) = Guest::join6(relay.addresses[0], "r", 1).await;
    let data = Noise(6).bytes(4 << 20);
    let answer = guest.exchange((PUBLIC, 80), &data).await;
    assert_eq!((answer.len(), checksum(&answer)), (data.len(), checksum(&data)));
    assert_eq!(recorder.dialled(), ["[2606:4700::1111]:80".parse().unwrap()]);
    let metrics = &relay.shared.metrics;
    guest.until(|_| (metrics.tcp_flows.get() == 0).then_some(())).await;
    // Nobody listens there: reset.
    let handle = guest.open((PUBLIC, 81), 1024);
    guest.until(|guest| (guest.tcp(handle).state() == State::Closed).then_some(())).await;
    assert_eq!(metrics.tcp_failed_total.get(), 1);
    relay.stop().await;
}

#[tokio::test]
async fn the_gateways_addresses_stand_for_the_relays_host() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let recorder = Recorder::new();
    recorder.redirect("[::1]:8000", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"hello").await.unwrap();
        }
    });
    let relay = relay(&recorder, &["--allow=[::1]:8000"]).await;
    let (mut guest, _) = Guest::join6(relay.addresses[0], "r", 1).await;
    assert_eq!(guest.exchange((GATEWAY6, 8000), b"").await, b"hello");
    assert_eq!(guest.exchange((gateway_link_local(), 8000), b"").await, b"hello");
    let handle = guest.open((GATEWAY6, 8001), 1024);
    guest.until(|guest| (guest.tcp(handle).state() == State::Closed).then_some(())).await;
    assert_eq!(recorder.dialled(), ["[::1]:8000".parse().unwrap(); 2]);
    relay.stop().await;
}

#[tokio::test]
async fn datagrams_go_there_and_back_also_large_ones() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let recorder = Recorder::new();
    recorder.redirect("[2606:4700::1111]:7", server.local_addr().unwrap());
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            let answer = buffer[..length].repeat(if length == 1400 { 3 } else { 1 });
            server.send_to(&answer, from).await.unwrap();
        }
    });
    let relay = relay(&recorder, &[]).await;
    let (mut guest, own) = Guest::join6(relay.addresses[0], "r", 1).await;
    let macs = (guest.mac, GATEWAY_MAC);
    for source in 5000..5010 {
        guest.send(udp6(macs, (own, source), (PUBLIC, 7), format!("from {source}").as_bytes())).await;
        assert_eq!(guest.udp6().await, ((PUBLIC, 7), format!("from {source}").into_bytes()));
    }
    assert_eq!(relay.shared.metrics.udp_flows.get(), 10);
    guest.send(udp6(macs, (own, 5000), (PUBLIC, 7), &[9; 1400])).await;
    let (mut length, mut fragments) = (0, 0);
    while length < 8 + 4200 {
        let frame = next_binary(&mut guest.socket).await.unwrap();
        assert!(frame.len() <= 1514);
        let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
        let header = Ipv6FragmentHeader::new_checked(&packet.payload()[2..8]).unwrap();
        assert_eq!(usize::from(header.frag_offset()) * 8, length);
        length += packet.payload().len() - 8;
        fragments += 1;
    }
    assert_eq!((length, fragments), (4208, 3));
    // A datagram without checksum is none.
    let mut bare = udp6(macs, (own, 6000), (PUBLIC, 7), b"x");
    bare[60..62].fill(0);
    guest.send(bare).await;
    guest.send(discovery(macs, (own, GATEWAY6), &solicitation(GATEWAY6, Some(macs.0)))).await;
    guest.icmpv6(Icmpv6Message::NeighborAdvert).await;
    assert_eq!((relay.shared.metrics.drop_malformed.get(), relay.shared.metrics.udp_flows.get()), (1, 10));
    relay.stop().await;
}

#[test]
fn a_rooms_first_advertisement_is_an_answer() {
    let mut gateway = Gateway::new(&settings(&[]));
    let second = std::time::Duration::from_secs;
    assert_eq!(gateway.advertisement(second(5), 0), None);
    assert!(gateway.advertisement(second(700), 0).is_some());
    assert_eq!(Gateway::new(&settings(&["--no-ipv6"])).advertisement(second(700), 0), None);
}
