//! The gateway by crafted frames over a real WebSocket: ARP, DHCP, DNS, ICMP, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::net::Ipv4Addr;

use smoltcp::wire::{DhcpMessageType, DhcpPacket, Ipv4Packet};
use support::{Dhcp, GATEWAY, GATEWAY_MAC, Guest, Recorder, connect, dhcp_option, mac, relay, udp_frame};
use tab86_relay::switch::Mac;

fn icmp_echo(from_mac: Mac, from: Ipv4Addr, to: Ipv4Addr, data: &[u8]) -> Vec<u8> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpProtocol};
    use tab86_relay::gateway::packet::{Route, ipv4};
    let repr = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 9, data };
    let route = Route { from_mac, to_mac: GATEWAY_MAC, from, to };
    ipv4(route, IpProtocol::Icmp, repr.buffer_len(), |buffer| {
        repr.emit(&mut Icmpv4Packet::new_unchecked(buffer), &ChecksumCapabilities::default());
    })
}

fn dns_query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// Asks the gateway and returns the response code and the addresses.
async fn ask(guest: &mut Guest, name: &str, kind: u16) -> (u8, Vec<Ipv4Addr>) {
    let query = dns_query(0x4242, name, kind);
    let frame = udp_frame(guest.mac, GATEWAY_MAC, (guest.ip, 3333), (GATEWAY, 53), &query);
    guest.send(frame).await;
    let (from, answer) = guest.udp_from(53).await;
    assert_eq!(from, (GATEWAY, 53));
    assert_eq!(answer[..2], [0x42, 0x42]);
    let records = answer[query.len().min(answer.len())..].chunks_exact(16);
    let addresses = records.map(|r| Ipv4Addr::new(r[12], r[13], r[14], r[15])).collect();
    (answer[3] & 15, addresses)
}

#[tokio::test]
async fn dhcp_gives_address_mask_router_name_server_and_mtu() {
    let recorder = Recorder::new();
    let relay = relay(&recorder, &["--mtu=1400", "--lease=7200"]).await;
    let mut guest = Guest::attach(connect(relay.addresses[0], "/r/dhcp").await, 1);
    guest.send(Dhcp::discover(mac(1)).frame()).await;
    let offer = guest.dhcp_answer().await;
    let ip = DhcpPacket::new_checked(&offer[..]).unwrap().your_ip();
    assert_eq!(&ip.octets()[..2], &[10, 86]);
    assert_eq!(dhcp_option(&offer, 53), Some(vec![2]));
    let gateway = Some(GATEWAY.octets().to_vec());
    for option in [3, 6, 54] {
        assert_eq!(dhcp_option(&offer, option), gateway, "{option}");
    }
    assert_eq!(dhcp_option(&offer, 1), Some(vec![255, 255, 0, 0]));
    assert_eq!(dhcp_option(&offer, 26), Some(1400u16.to_be_bytes().to_vec()));
    assert_eq!(dhcp_option(&offer, 28), Some(vec![10, 86, 255, 255]));
    assert_eq!(dhcp_option(&offer, 51), Some(7200u32.to_be_bytes().to_vec()));
    assert_eq!(dhcp_option(&offer, 58), Some(3600u32.to_be_bytes().to_vec()));
    assert!(offer.len() >= 300);

    guest.send(Dhcp::request(mac(1), ip).frame()).await;
    let ack = guest.dhcp_answer().await;
    assert_eq!((dhcp_option(&ack, 53), DhcpPacket::new_checked(&ack[..]).unwrap().your_ip()), (Some(vec![5]), ip));
    // Renewal, by unicast and without a requested address.
    let renew = Dhcp { client: ip, requested: None, server: None, ..Dhcp::request(mac(1), ip) };
    guest.send(udp_frame(mac(1), GATEWAY_MAC, (ip, 68), (GATEWAY, 67), &renew.message())).await;
    assert_eq!(dhcp_option(&guest.dhcp_answer().await, 53), Some(vec![5]));
    // An address outside, and one for another server: NAK, and silence (the next answer is the NAK's).
    guest.send(Dhcp { server: Some(Ipv4Addr::new(10, 86, 0, 9)), ..Dhcp::request(mac(1), ip) }.frame()).await;
    guest.send(Dhcp::request(mac(1), Ipv4Addr::new(192, 168, 0, 5)).frame()).await;
    assert_eq!(dhcp_option(&guest.dhcp_answer().await, 53), Some(vec![6]));
    // Released, another client may have it.
    guest
        .send(Dhcp { kind: DhcpMessageType::Release, client: ip, requested: None, ..Dhcp::request(mac(1), ip) }.frame())
        .await;
    guest.send(Dhcp { requested: Some(ip), broadcast: true, ..Dhcp::discover(mac(2)) }.frame()).await;
    let frame = support::next_binary(&mut guest.socket).await.unwrap();
    assert_eq!(frame[..6], [0xff; 6], "asked to broadcast");
    let (_, to, offer) = support::read_udp(&frame).unwrap();
    assert_eq!((to, DhcpPacket::new_checked(&offer[..]).unwrap().your_ip()), ((Ipv4Addr::BROADCAST, 68), ip));
    assert_eq!(relay.shared.metrics.dhcp_leases_total.get(), 2);
    assert!(recorder.dialled().is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn two_guests_never_get_the_same_address() {
    let relay = relay(&Recorder::new(), &["--subnet=10.86.0.0/24"]).await;
    let mut seen = std::collections::HashSet::new();
    let mut guests = Vec::new();
    for n in 0..60 {
        guests.push(Guest::join(relay.addresses[0], "r", n).await);
        assert!(seen.insert(guests.last().unwrap().ip), "{n}");
    }
    relay.stop().await;
}

#[tokio::test]
async fn the_gateway_answers_arp_and_pings_and_nothing_beyond() {
    let relay = relay(&Recorder::new(), &[]).await;
    let mut guest = Guest::join(relay.addresses[0], "r", 1).await;
    let (own, ip) = (guest.mac, guest.ip);
    let request = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &own.0, &ip.octets(), &[0; 6], &GATEWAY.octets()].concat();
    guest.send(support::frame(Mac::BROADCAST, own, 0x0806, &request)).await;
    let reply = support::next_binary(&mut guest.socket).await.unwrap();
    assert_eq!(reply[..14], support::frame(own, GATEWAY_MAC, 0x0806, &[])[..]);
    assert_eq!(reply[20..32], [&[0, 2][..], &GATEWAY_MAC.0, &GATEWAY.octets()].concat()[..]);

    for length in [0, 56, 1472] {
        let data: Vec<u8> = (0..length).map(|i| i as u8).collect();
        guest.send(icmp_echo(own, ip, GATEWAY, &data)).await;
        let reply = support::next_binary(&mut guest.socket).await.unwrap();
        let packet = Ipv4Packet::new_checked(&reply[14..]).unwrap();
        assert_eq!((packet.src_addr(), packet.dst_addr()), (GATEWAY, ip));
        assert_eq!((packet.payload()[0], &packet.payload()[8..]), (0, &data[..]));
    }
    guest.send(icmp_echo(own, ip, Ipv4Addr::new(8, 8, 8, 8), b"x")).await;
    let reply = support::next_binary(&mut guest.socket).await.unwrap();
    assert_eq!(reply[34..36], [3, 13], "administratively prohibited");
    assert_eq!(relay.shared.metrics.icmp_echo_total.get(), 3);
    relay.stop().await;
}

#[tokio::test]
async fn names_are_answered_from_the_resolver_and_the_operators_list() {
    let recorder = Recorder::new();
    recorder.host("two.example", &["93.184.215.14", "1.1.1.1", "2606:4700::1111"]);
    recorder.host("six.example", &["2606:4700::1111"]);
    let relay = relay(&recorder, &["--dns-host", "Files.Lan=10.86.0.1"]).await;
    let mut guest = Guest::join(relay.addresses[0], "r", 1).await;
    let two = vec![Ipv4Addr::new(93, 184, 215, 14), Ipv4Addr::new(1, 1, 1, 1)];
    assert_eq!(ask(&mut guest, "Two.Example", 1).await, (0, two));
    assert_eq!(ask(&mut guest, "six.example", 1).await, (0, vec![]));
    assert_eq!(ask(&mut guest, "none.example", 1).await, (3, vec![]));
    assert_eq!(ask(&mut guest, "files.lan", 1).await, (0, vec![GATEWAY]));
    assert_eq!(*recorder.names.lock().unwrap(), ["two.example", "six.example", "none.example"]);
    assert_eq!(ask(&mut guest, "two.example", 15).await.0, 0);
    assert_eq!(*recorder.forwarded.lock().unwrap(), [dns_query(0x4242, "two.example", 15)]);
    assert_eq!(ask(&mut guest, "two.example", 255).await.0, 4);
    assert_eq!(ask(&mut guest, "1.0.0.10.in-addr.arpa", 12).await.0, 3);
    assert_eq!(recorder.forwarded.lock().unwrap().len(), 1);
    relay.stop().await;
}

#[tokio::test]
async fn names_of_inside_addresses_are_refused_and_mixed_answers_cleaned() {
    let recorder = Recorder::new();
    let inside = ["127.0.0.1", "10.0.0.7", "169.254.169.254", "::ffff:192.168.0.1", "100.64.0.1", "::1", "fd00::1"];
    for (index, address) in inside.iter().enumerate() {
        recorder.host(&format!("inside{index}.example"), &[address]);
    }
    recorder.host("mixed.example", &["10.0.0.7", "1.1.1.1"]);
    let relay = relay(&recorder, &[]).await;
    let mut guest = Guest::join(relay.addresses[0], "r", 1).await;
    for (index, address) in inside.iter().enumerate() {
        assert_eq!(ask(&mut guest, &format!("inside{index}.example"), 1).await, (5, vec![]), "{address}");
    }
    assert_eq!(ask(&mut guest, "mixed.example", 1).await, (0, vec![Ipv4Addr::new(1, 1, 1, 1)]));
    let metrics = &relay.shared.metrics;
    let refused: u64 = tab86_relay::policy::Refusal::ALL.iter().map(|r| metrics.refused_value(*r).get()).sum();
    assert_eq!(refused, inside.len() as u64);
    relay.stop().await;
}

#[tokio::test]
async fn a_room_can_be_a_switch_only() {
    let relay = relay(&Recorder::new(), &["--no-gateway"]).await;
    let mut a = Guest::attach(connect(relay.addresses[0], "/").await, 1);
    let mut b = Guest::attach(connect(relay.addresses[0], "/r/default").await, 2);
    // Both are in: b's frame comes to a, and a's DHCP goes to everybody instead of to a gateway.
    b.send(support::frame(Mac::BROADCAST, b.mac, 0x88b5, &[1; 46])).await;
    assert_eq!(support::next_binary(&mut a.socket).await.unwrap()[12..14], [0x88, 0xb5]);
    let discover = Dhcp::discover(mac(1)).frame();
    a.send(discover.clone()).await;
    assert_eq!(support::next_binary(&mut b.socket).await.unwrap(), discover);
    relay.stop().await;
}
