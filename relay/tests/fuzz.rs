//! Seeded fuzzing of every parser that hostile bytes reach: 400,000 frames through switch and gateway, and half as
//! many inputs for the other parsers. A panic or an answer larger than a frame may be is a failure.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use support::{Dhcp, GATEWAY, GATEWAY_MAC, Noise, mac, six, udp_frame};
use tab86_relay::config::{Options, Settings};
use tab86_relay::gateway::tcp::{Stack, reset};
use tab86_relay::gateway::{Action, Gateway, dns, icmp};
use tab86_relay::policy::{Cidr, Rule};
use tab86_relay::switch::{PortId, PortKind, Switch};
use tab86_relay::wisp::packet;

const ROUNDS: usize = 400_000;

/// Valid frames of every kind that the gateway knows, to start from.
fn seeds() -> Vec<Vec<u8>> {
    let (own, ip) = (mac(1), [10, 86, 3, 3].into());
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &own.0, &[10, 86, 3, 3], &[0; 6], &GATEWAY.octets()].concat();
    let dns = [&[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7][..], b"example", &[3], b"org", &[0, 0, 1, 0, 1]].concat();
    let tcp = |flags: u8| {
        let segment =
            [&[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x60, flags, 4, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4][..], b"data"]
                .concat();
        let total = (20 + segment.len() as u16).to_be_bytes();
        let header =
            [&[0x45, 0, total[0], total[1], 0, 1, 0, 0, 64, 6, 0, 0, 10, 86, 3, 3, 93, 184, 215, 14][..], &segment]
                .concat();
        support::frame(GATEWAY_MAC, own, 0x0800, &header)
    };
    let ping = [
        &[0x45, 0, 0, 32, 0, 1, 0, 0, 64, 1, 0, 0, 10, 86, 3, 3, 10, 86, 0, 1][..],
        &[8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4],
    ]
    .concat();
    let (own6, public): (Ipv6Addr, Ipv6Addr) =
        ("fd74:6162:3836::33".parse().unwrap(), "2606:4700::1111".parse().unwrap());
    let (macs, link) = ((own, GATEWAY_MAC), tab86_relay::gateway::ipv6::link_local(own));
    let tcp6 =
        [&[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x60, 2, 4, 0, 0, 0, 0, 0, 2, 4, 5, 0xa0][..], b"data"].concat();
    let ping6 = [128, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4];
    let headers = |kind: u8| [&[kind, 0, 1, 4, 0, 0, 0, 0][..], &six::solicitation(six::GATEWAY6, Some(own))].concat();
    vec![
        six::discovery(macs, (link, six::ALL_ROUTERS), &six::router_solicitation(Some(own))),
        six::discovery(macs, (own6, six::GATEWAY6), &six::solicitation(six::GATEWAY6, Some(own))),
        six::discovery(macs, (link, six::GATEWAY6), &six::advertisement(own6, own)),
        six::packet6(macs, (own6, six::GATEWAY6), 0, 255, &headers(58)),
        six::packet6(macs, (own6, six::GATEWAY6), 60, 255, &headers(58)),
        six::packet6(macs, (own6, six::GATEWAY6), 44, 255, &headers(58)),
        six::packet6(macs, (own6, six::GATEWAY6), 58, 64, &ping6),
        six::packet6(macs, (own6, public), 58, 64, &ping6),
        six::packet6(macs, (own6, public), 6, 64, &tcp6),
        six::udp6(macs, (own6, 999), (six::GATEWAY6, 53), &dns),
        six::udp6(macs, (own6, 999), (public, 53), b"datagram"),
        support::frame(tab86_relay::switch::Mac::BROADCAST, own, 0x0806, &arp),
        Dhcp::discover(own).frame(),
        Dhcp::request(own, ip).frame(),
        udp_frame(own, GATEWAY_MAC, (ip, 999), (GATEWAY, 53), &dns),
        udp_frame(own, GATEWAY_MAC, (ip, 999), ([93, 184, 215, 14].into(), 53), b"datagram"),
        tcp(2),
        tcp(0x18),
        tcp(4),
        support::frame(GATEWAY_MAC, own, 0x0800, &ping),
    ]
}

/// Flips, cuts and grows; then mends the checksums most of the time, so that the inner parsers are reached.
fn mutate(noise: &mut Noise, seed: &[u8]) -> Vec<u8> {
    let mut frame = seed.to_vec();
    for _ in 0..noise.below(6) {
        if frame.is_empty() {
            break;
        }
        let at = noise.below(frame.len());
        match noise.below(5) {
            0 => frame[at] = noise.next() as u8,
            1 => frame[at] ^= 1 << noise.below(8),
            2 => frame.truncate(at),
            3 => frame.extend(std::iter::repeat_n(noise.next() as u8, at)),
            _ => frame[at] = [0, 0xff, 0x7f, 0x80][noise.below(4)],
        }
    }
    if noise.below(4) != 0 {
        mend(&mut frame);
    }
    frame.truncate(1518);
    frame
}

fn sum(data: &[u8], start: u32) -> u32 {
    data.chunks(2).fold(start, |sum, pair| sum + u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0)))
}

fn fold(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn mend(frame: &mut [u8]) {
    if frame.len() >= 54 && frame[12..14] == [0x86, 0xdd] {
        return mend6(frame);
    }
    if frame.len() < 34 || frame[12..14] != [8, 0] {
        return;
    }
    let header = usize::from(frame[14] & 15) * 4;
    if header < 20 || frame.len() < 14 + header {
        return;
    }
    frame[24..26].fill(0);
    let check = fold(sum(&frame[14..14 + header], 0));
    frame[24..26].copy_from_slice(&check);
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]])).min(frame.len() - 14);
    if total < header {
        return;
    }
    let (protocol, start, end) = (frame[23], 14 + header, 14 + total);
    let at = match protocol {
        1 => 2,
        6 => 16,
        17 => 6,
        _ => return,
    };
    if end < start + at + 2 {
        return;
    }
    frame[start + at..start + at + 2].fill(0);
    let pseudo = if protocol == 1 { 0 } else { sum(&frame[26..34], u32::from(protocol) + (end - start) as u32) };
    let check = fold(sum(&frame[start..end], pseudo));
    frame[start + at..start + at + 2].copy_from_slice(&check);
}

fn mend6(frame: &mut [u8]) {
    let end = (54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))).min(frame.len());
    let at = match frame[20] {
        58 => 2,
        6 => 16,
        17 => 6,
        _ => return,
    };
    if end < 54 + at + 2 {
        return;
    }
    frame[54 + at..54 + at + 2].fill(0);
    let pseudo = sum(&frame[22..54], u32::from(frame[20]) + (end - 54) as u32);
    let check = fold(sum(&frame[54..end], pseudo));
    frame[54 + at..54 + at + 2].copy_from_slice(&check);
}

#[test]
fn frames_through_switch_and_gateway() {
    let settings = Settings::default();
    let (mut gateway, mut switch) = (Gateway::new(&settings), Switch::default());
    let mut noise = Noise(0x86_86);
    let seeds = seeds();
    let (mut kinds, mut kinds6) = ([0usize; 7], [0usize; 7]);
    for round in 0..ROUNDS {
        // From time to time a new room: in an old one every address has an owner.
        if round % 10_000 == 0 {
            (gateway, switch) = (Gateway::new(&settings), Switch::default());
            switch.add(PortId(0), PortKind::Gateway(GATEWAY_MAC), Duration::ZERO);
            for id in 1..4 {
                switch.add(PortId(id), PortKind::Client { max_macs: 8 }, Duration::ZERO);
            }
        }
        let seed = &seeds[noise.below(seeds.len())];
        let frame = if noise.below(20) == 0 {
            let length = noise.below(128);
            noise.bytes(length)
        } else {
            mutate(&mut noise, seed)
        };
        let now = Duration::from_millis(round as u64);
        let live = |mac| switch.owner(mac).is_some();
        let admitted = gateway.admit(&frame, now, live).is_ok();
        let action = if admitted { gateway.handle(&Bytes::from(frame.clone()), now, live) } else { Action::None };
        switch.forward(PortId(1 + round as u64 % 3), &frame, now);
        let kind = match action {
            Action::None => 0,
            Action::Reply(answer) | Action::Echo(answer) | Action::Leased(answer) => {
                assert!((14..=1518).contains(&answer.len()));
                1
            }
            Action::Tcp { packet, .. } => {
                if let Some(answer) = reset(&packet, mac(1)) {
                    assert_eq!(answer.len(), if packet[0] >> 4 == 6 { 74 } else { 54 });
                }
                2
            }
            Action::Udp { data, packet, .. } => {
                assert!(data.len() < packet.len());
                let error = icmp::prohibited(&settings, mac(1), &packet).unwrap();
                assert!(error.len() <= 14 + 1280);
                3
            }
            Action::Dns { query, .. } => {
                if let Some(dns::Query::Address(q) | dns::Query::Forward(q) | dns::Query::Answer(q, _)) =
                    dns::parse(&query)
                {
                    assert!(q.answer(dns::Rcode::Refused).len() <= 512);
                }
                4
            }
            Action::Drop(_) => 5,
        };
        let six = frame.get(12..14) == Some(&[0x86, 0xdd]);
        let kinds = if six { &mut kinds6 } else { &mut kinds };
        kinds[if admitted { kind } else { 6 }] += 1;
    }
    for kinds in [kinds, kinds6] {
        assert!(kinds.iter().all(|count| *count > 500), "every path was taken: {kinds:?}");
    }
    assert!(switch.addresses() <= 25);
}

#[test]
fn segments_through_a_connection() {
    let mut noise = Noise(0x7c9);
    // SYN, data and RST over IPv4.
    let seeds = &seeds()[16..19];
    let remote = SocketAddr::from(([93, 184, 215, 14], 80));
    let mut established = 0;
    for round in 0..ROUNDS / 40 {
        let now = Duration::from_millis(round as u64 * 10);
        let mut stack = Stack::new(remote, (GATEWAY_MAC, mac(1)), 1500, 4096, noise.next(), now).unwrap();
        let mut syn = seeds[0].clone();
        mend(&mut syn);
        stack.push(Bytes::from(syn).slice(14..));
        stack.poll(now);
        stack.accept();
        for step in 0..20 {
            let mut frame = mutate(&mut noise, &seeds[step % 3]);
            // Most segments acknowledge what the stack sent, so that they get past the first check.
            stack.poll(now + Duration::from_millis(step as u64));
            while let Some(answer) = stack.pop() {
                assert!(answer.len() <= 1514);
                if frame.len() >= 46 && noise.below(8) != 0 {
                    let next = u32::from_be_bytes(answer[38..42].try_into().unwrap()).wrapping_add(1);
                    frame[42..46].copy_from_slice(&next.to_be_bytes());
                    frame[38..42].copy_from_slice(&2u32.to_be_bytes());
                    mend(&mut frame);
                }
            }
            if frame.len() > 14 {
                stack.push(Bytes::from(frame).slice(14..));
            }
            if noise.below(3) == 0 && stack.socket().can_send() {
                stack.socket().send_slice(&[86; 3000]).unwrap();
            }
            while stack.socket().can_recv() {
                stack.socket().recv(|data| (data.len(), ())).unwrap();
            }
        }
        established += usize::from(stack.socket().may_send() || stack.drained());
    }
    assert!(established > 100, "{established}");
}

#[test]
fn names_wisp_packets_rules_and_settings() {
    let mut noise = Noise(0x1035);
    let dns_seed = [&[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 7][..], b"example", &[3], b"org", &[0, 0, 1, 0, 1]].concat();
    let wisp_seeds: [Vec<u8>; 3] = [
        [&[1, 7, 0, 0, 0, 1, 80, 0][..], b"example.org"].concat(),
        [&[5, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 2, 6, 0, 0, 0, 1, 2, 0][..], b"upw"].concat(),
        vec![2, 7, 0, 0, 0, 1, 2, 3],
    ];
    let texts = ["10.0.0.0/8:80-90", "[fd00::/8]:80", "127.0.0.1", "mtu = 1500\nallow = [\"10.0.0.0/8\"]"];
    for _ in 0..ROUNDS / 2 {
        if let Some(dns::Query::Address(q)) = dns::parse(&mutate(&mut noise, &dns_seed)) {
            assert!(q.name.len() <= 253 && q.addresses(&[GATEWAY.into(); 99]).len() <= 512);
        }
        let seed = &wisp_seeds[noise.below(3)];
        packet::parse(&Bytes::from(mutate(&mut noise, seed)));
        let seed = texts[noise.below(texts.len())].as_bytes();
        let text = String::from_utf8_lossy(&mutate(&mut noise, seed)).into_owned();
        let _ = (text.parse::<Rule>(), text.parse::<Cidr>());
        if noise.below(50) == 0 {
            let _ = toml::from_str::<Options>(&text).map(Settings::from_options);
        }
    }
}
