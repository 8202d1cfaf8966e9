//! What a hostile client may try. The dialer and the resolver record what was asked of them: nothing leaves the
//! machine, whatever the policy does. A second client in the same room must notice nothing.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use smoltcp::socket::tcp::State;
use support::{
    Dhcp, GATEWAY, GATEWAY_MAC, Guest, Noise, Recorder, Socket, connect, mac, next_binary, relay, udp_frame,
};
use tab86_relay::metrics::Metrics;
use tab86_relay::policy::Refusal;
use tab86_relay::server::Running;
use tab86_relay::switch::Mac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

const ECHO: (Ipv4Addr, u16) = (Ipv4Addr::new(93, 184, 215, 14), 7);

/// A relay, its recorder, and an echo server at a public address that is really on the loopback interface.
async fn scene(flags: &[&str]) -> (Running, Arc<Recorder>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let recorder = Recorder::new();
    recorder.redirect("93.184.215.14:7", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    (relay(&recorder, flags).await, recorder)
}

/// The innocent client's day: one exchange through the gateway.
async fn unaffected(guest: &mut Guest) {
    let handle = guest.open(ECHO, 8192);
    guest.until(|guest| guest.tcp(handle).may_send().then_some(())).await;
    guest.tcp(handle).send_slice(b"still here").unwrap();
    let echo = guest.until(|guest| (guest.tcp(handle).recv_queue() == 10).then_some(())).await;
    guest.tcp(handle).close();
    let () = echo;
    guest.until(|guest| (guest.tcp(handle).state() == State::TimeWait).then_some(())).await;
    guest.forget(handle);
}

async fn send(socket: &mut Socket, frame: impl Into<bytes::Bytes>) {
    socket.send(Message::Binary(frame.into())).await.unwrap();
}

/// Everything before was handled when the gateway answers this.
async fn settle(guest: &mut Guest) {
    guest
        .send(
            Dhcp { kind: smoltcp::wire::DhcpMessageType::Inform, client: guest.ip, ..Dhcp::discover(guest.mac) }
                .frame(),
        )
        .await;
    guest.dhcp_answer().await;
}

fn refused(metrics: &Metrics) -> u64 {
    Refusal::ALL.iter().map(|r| metrics.refused_value(*r).get()).sum()
}

#[tokio::test]
async fn text_and_oversized_and_short_messages_are_dropped_and_huge_ones_end_the_connection() {
    let (relay, _) = scene(&["--max-message=20000"]).await;
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    bad.socket.send(Message::Text("hello".into())).await.unwrap();
    for length in [0, 1, 13] {
        send(&mut bad.socket, vec![2; length]).await;
    }
    send(&mut bad.socket, support::frame(Mac::BROADCAST, bad.mac, 0x0800, &[0; 1505])).await;
    send(&mut bad.socket, vec![0; 20_000]).await;
    settle(&mut bad).await;
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.drop_text.get(), metrics.drop_runt.get(), metrics.drop_oversized.get()), (1, 3, 2));
    let _ = bad.socket.send(Message::Binary(vec![0; 20_001].into())).await;
    let closed = loop {
        match bad.socket.next().await {
            Some(Ok(Message::Close(frame))) => break frame,
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break None,
        }
    };
    assert!(closed.is_none_or(|frame| u16::from(frame.code) == 1009));
    good.until(|_| (metrics.gone_oversized.get() == 1).then_some(())).await;
    unaffected(&mut good).await;
    relay.stop().await;
}

#[tokio::test]
async fn spoofed_addresses_are_dropped() {
    let (relay, _) = scene(&["--max-macs=3"]).await;
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    let metrics = &relay.shared.metrics;
    // Ethernet sources: the neighbour's, the gateway's, groups.
    for source in [good.mac, GATEWAY_MAC, Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1])] {
        send(&mut bad.socket, support::frame(Mac::BROADCAST, source, 0x0800, &[0; 46])).await;
    }
    settle(&mut bad).await;
    assert_eq!(metrics.drop_spoofed_mac.get(), 4);
    // ARP: somebody else's hardware address inside, the neighbour's and the gateway's IP.
    let arp = |hardware: Mac, ip: Ipv4Addr| {
        [&[0, 1, 8, 0, 6, 4, 0, 2][..], &hardware.0, &ip.octets(), &good.mac.0, &good.ip.octets()].concat()
    };
    for (hardware, ip) in [(good.mac, bad.ip), (bad.mac, good.ip), (bad.mac, GATEWAY)] {
        send(&mut bad.socket, support::frame(good.mac, bad.mac, 0x0806, &arp(hardware, ip))).await;
    }
    // IP sources: the neighbour's, the gateway's.
    for ip in [good.ip, GATEWAY] {
        let frame = udp_frame(bad.mac, good.mac, (ip, 1), (good.ip, 1), b"forged");
        send(&mut bad.socket, frame).await;
    }
    // A DHCP server of its own, and a request in the neighbour's name.
    send(&mut bad.socket, udp_frame(bad.mac, good.mac, (bad.ip, 67), (good.ip, 68), b"offer")).await;
    let forged = udp_frame(
        bad.mac,
        Mac::BROADCAST,
        (Ipv4Addr::UNSPECIFIED, 68),
        (Ipv4Addr::BROADCAST, 67),
        &Dhcp::discover(good.mac).message(),
    );
    send(&mut bad.socket, forged).await;
    settle(&mut bad).await;
    assert_eq!(metrics.drop_spoofed_mac.get(), 6);
    assert_eq!(metrics.drop_spoofed_ip.get(), 4);
    assert_eq!(metrics.drop_rogue_dhcp.get(), 1);
    // More addresses than one client may have.
    for n in 10..20 {
        send(&mut bad.socket, support::frame(Mac::BROADCAST, mac(n), 0x88b5, &[0; 46])).await;
    }
    settle(&mut bad).await;
    assert_eq!(metrics.drop_too_many_macs.get(), 8);
    // Nothing but the two frames with own addresses came to the neighbour.
    let mut got = Vec::new();
    good.step(Duration::from_millis(100)).await;
    got.extend(good.seen.drain(..).map(|frame| frame[6..12].to_vec()));
    assert!(got.iter().all(|source| *source == mac(10).0 || *source == mac(11).0), "{got:?}");
    unaffected(&mut good).await;
    relay.stop().await;
}

#[tokio::test]
async fn dhcp_starvation_stops_at_the_clients_share() {
    let (relay, _) = scene(&["--max-macs=4", "--subnet=10.86.0.0/24"]).await;
    let mut bad = Guest::attach(connect(relay.addresses[0], "/r/r").await, 0);
    for n in 100..1100 {
        send(&mut bad.socket, Dhcp::discover(mac(n)).frame()).await;
    }
    let metrics = &relay.shared.metrics;
    for _ in 0..4 {
        bad.dhcp_answer().await;
    }
    bad.until(|_| (metrics.drop_too_many_macs.get() == 996).then_some(())).await;
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    unaffected(&mut good).await;
    relay.stop().await;
}

#[tokio::test]
async fn refused_destinations_are_refused_counted_and_never_dialled() {
    let (relay, recorder) = scene(&["--connect-rate=0", "--dns-host=x.y=1.2.3.4"]).await;
    recorder.own.lock().unwrap().push(IpAddr::from([5, 6, 7, 8]));
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    let metrics = &relay.shared.metrics;
    let targets: &[(&str, Refusal)] = &[
        ("127.0.0.1:80", Refusal::Loopback),
        ("127.8.9.1:22", Refusal::Loopback),
        ("10.0.0.1:80", Refusal::Private),
        ("172.20.0.1:443", Refusal::Private),
        ("192.168.1.1:80", Refusal::Private),
        ("169.254.169.254:80", Refusal::LinkLocal),
        ("168.63.129.16:80", Refusal::Metadata),
        ("100.100.100.200:80", Refusal::CarrierNat),
        ("192.0.0.192:80", Refusal::Reserved),
        ("0.0.0.0:80", Refusal::Reserved),
        ("240.0.0.1:80", Refusal::Reserved),
        ("5.6.7.8:80", Refusal::OwnHost),
        ("93.184.215.14:25", Refusal::Denied),
    ];
    let mut expected = 0;
    for (target, reason) in targets {
        let to: SocketAddr = target.parse().unwrap();
        let IpAddr::V4(ip) = to.ip() else { panic!() };
        let before = metrics.refused_value(*reason).get();
        // smoltcp refuses to connect to an unspecified address itself: only the datagram is sent there.
        if !ip.is_unspecified() {
            let handle = bad.open((ip, to.port()), 1024);
            bad.until(|guest| (guest.tcp(handle).state() == State::Closed).then_some(())).await;
            bad.forget(handle);
            assert_eq!(metrics.refused_value(*reason).get(), before + 1, "{target}");
            expected += 1;
        }
        bad.seen.clear();
        bad.send(udp_frame(bad.mac, GATEWAY_MAC, (bad.ip, 1000), (ip, to.port()), b"x")).await;
        bad.until(|guest| guest.seen.iter().any(|frame| frame[34..36] == [3, 13]).then_some(())).await;
        expected += 1;
    }
    // The gateway's own address stands for the relay's host: closed, too.
    let handle = bad.open((GATEWAY, 8086), 1024);
    bad.until(|guest| (guest.tcp(handle).state() == State::Closed).then_some(())).await;
    assert_eq!(refused(metrics), expected + 1);
    assert_eq!(recorder.dialled(), []);
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    unaffected(&mut good).await;
    assert_eq!(recorder.dialled(), [SocketAddr::from(ECHO)]);
    relay.stop().await;
}

#[tokio::test]
async fn multicast_and_broadcast_destinations_never_reach_the_dialer() {
    let (relay, recorder) = scene(&[]).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    for to in [[224, 0, 0, 1], [239, 255, 255, 250], [255, 255, 255, 255], [10, 86, 255, 255], [10, 86, 9, 9]] {
        for to_mac in [GATEWAY_MAC, Mac::BROADCAST] {
            bad.send(udp_frame(bad.mac, to_mac, (bad.ip, 1000), (to.into(), 1900), b"x")).await;
        }
    }
    settle(&mut bad).await;
    assert_eq!(recorder.dialled(), []);
    relay.stop().await;
}

#[tokio::test]
async fn a_client_has_its_share_of_connections_and_no_more() {
    let (relay, recorder) =
        scene(&["--tcp-per-client=5", "--udp-per-client=4", "--connect-rate=1000", "--flows-total=20"]).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    let handles: Vec<_> = (0..20).map(|_| bad.open(ECHO, 1024)).collect();
    let count = |guest: &mut Guest, state| handles.iter().filter(|h| guest.tcp(**h).state() == state).count();
    bad.until(|guest| (count(guest, State::Established) == 5 && count(guest, State::Closed) == 15).then_some(())).await;
    for port in 0..30 {
        bad.send(udp_frame(bad.mac, GATEWAY_MAC, (bad.ip, 2000 + port), (ECHO.0, 7), b"x")).await;
    }
    settle(&mut bad).await;
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.limit_tcp.get(), metrics.tcp_flows_total.get()), (15, 5));
    assert_eq!(metrics.udp_flows_total.get() + metrics.limit_udp.get(), 30);
    assert!(recorder.tcp.lock().unwrap().len() == 5);
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    unaffected(&mut good).await;
    // When the client goes, everything of it goes.
    drop(bad);
    good.until(|_| (metrics.tcp_flows.get() == 0 && metrics.udp_flows.get() == 0).then_some(())).await;
    relay.stop().await;
}

#[tokio::test]
async fn an_address_has_its_share_of_connections_however_many_clients_it_has() {
    let (relay, recorder) = scene(&["--flows-per-ip=6"]).await;
    let metrics = &relay.shared.metrics;
    let mut clients = Vec::new();
    for n in 1..5 {
        let mut bad = Guest::join(relay.addresses[0], "r", n).await;
        let handles: Vec<_> = (0..4).map(|_| bad.open(ECHO, 1024)).collect();
        bad.until(|guest| {
            let mut settled = |h: &_| matches!(guest.tcp(*h).state(), State::Established | State::Closed);
            handles.iter().all(&mut settled).then_some(())
        })
        .await;
        clients.push(bad);
    }
    assert_eq!((metrics.tcp_flows.get(), metrics.limit_flows_address.get()), (6, 10));
    assert_eq!(recorder.dialled().len(), 6);
    relay.stop().await;
}

#[tokio::test]
async fn a_scan_runs_into_the_rate() {
    let (relay, recorder) = scene(&["--connect-rate=10", "--tcp-per-client=1000"]).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    let handles: Vec<_> = (1..=200).map(|port| bad.open((Ipv4Addr::new(1, 2, 3, 4), port), 1024)).collect();
    bad.until(|guest| handles.iter().all(|h| guest.tcp(*h).state() == State::Closed).then_some(())).await;
    let metrics = &relay.shared.metrics;
    let dialled = recorder.dialled().len() as u64;
    // A burst of 20, and what comes in while the test runs.
    assert!(metrics.limit_rate.get() > 0);
    assert_eq!(metrics.limit_rate.get() + dialled + metrics.refused_value(Refusal::Denied).get(), 200);
    relay.stop().await;
}

#[tokio::test]
async fn half_open_handshakes_time_out() {
    let (relay, _) = scene(&["--handshake-timeout=1"]).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    let metrics = &relay.shared.metrics;
    for port in 0..40u16 {
        bad.send(syn(&bad, 5000 + port, ECHO)).await;
    }
    good.until(|_| (metrics.tcp_flows_total.get() == 40).then_some(())).await;
    good.until(|_| (metrics.tcp_flows.get() == 0).then_some(())).await;
    unaffected(&mut good).await;
    relay.stop().await;
}

fn syn(guest: &Guest, port: u16, to: (Ipv4Addr, u16)) -> Vec<u8> {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
    use tab86_relay::gateway::packet::{Route, ipv4};
    let repr = TcpRepr {
        src_port: port,
        dst_port: to.1,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 1000,
        window_scale: None,
        max_seg_size: Some(1460),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let route = Route { from_mac: guest.mac, to_mac: GATEWAY_MAC, from: guest.ip, to: to.0 };
    ipv4(route, IpProtocol::Tcp, repr.buffer_len(), |buffer| {
        let checks = ChecksumCapabilities::default();
        repr.emit(&mut TcpPacket::new_unchecked(buffer), &guest.ip.into(), &to.0.into(), &checks);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_loses_frames_then_its_connection_and_holds_nobody_back() {
    let (relay, _) = scene(&["--queue=16", "--write-timeout=2", "--flood-rate=0", "--rate-up=0"]).await;
    let mut slow = Guest::join(relay.addresses[0], "r", 3).await;
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    let metrics = &relay.shared.metrics;
    let noise = support::frame(slow.mac, bad.mac, 0x88b5, &[0; 1486]);
    // `slow` reads nothing: the kernel's buffers fill, then its queue, then frames are dropped.
    let mut sent = 0u64;
    while metrics.gone_slow.get() == 0 {
        send(&mut bad.socket, noise.clone()).await;
        sent += 1;
        if sent.is_multiple_of(2000) {
            unaffected(&mut good).await;
        }
        assert!(sent < 3_000_000, "the slow reader is still there");
    }
    assert!(metrics.drop_queue_full.get() > 0);
    unaffected(&mut good).await;
    while slow.socket.next().await.is_some_and(|message| message.is_ok()) {}
    relay.stop().await;
}

#[tokio::test]
async fn a_broadcast_storm_is_cut() {
    let (relay, _) = scene(&["--flood-rate=10"]).await;
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    for _ in 0..500 {
        bad.send(support::frame(Mac::BROADCAST, bad.mac, 0x88b5, &[0; 46])).await;
    }
    settle(&mut bad).await;
    assert!(relay.shared.metrics.drop_flood.get() > 300);
    unaffected(&mut good).await;
    relay.stop().await;
}

#[tokio::test]
async fn silence_and_garbage_instead_of_a_protocol() {
    let (relay, _) = scene(&["--idle-timeout=1", "--handshake-timeout=1"]).await;
    let address = relay.addresses[0];
    // No HTTP at all: the connection is closed.
    let mut mute = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(mute.read(&mut [0; 16]).await.unwrap(), 0);
    let mut noise = tokio::net::TcpStream::connect(address).await.unwrap();
    noise.write_all(&Noise(1).bytes(4096)).await.unwrap();
    let mut answer = Vec::new();
    let _ = noise.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    // A WebSocket that answers no ping.
    let deaf = Guest::join(address, "r", 9).await;
    let metrics = &relay.shared.metrics;
    let end = std::time::Instant::now() + support::PATIENCE;
    while metrics.gone_idle.get() == 0 {
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(deaf);
    // Not WebSocket after the handshake: an unmasked frame.
    let mut raw = connect(address, "/r/r").await;
    raw.get_mut().write_all(&[0x82, 1, 0]).await.unwrap();
    assert!(next_binary(&mut raw).await.is_none());
    assert_eq!(metrics.gone_protocol.get(), 1);
    relay.stop().await;
}

#[tokio::test]
async fn garbage_frames_among_good_ones() {
    let (relay, recorder) = scene(&["--rate-up=0", "--flood-rate=100000"]).await;
    let mut good = Guest::join(relay.addresses[0], "r", 1).await;
    let mut bad = Guest::join(relay.addresses[0], "r", 2).await;
    let mut noise = Noise(8686);
    for round in 0..5000 {
        let length = noise.below(1519);
        let mut frame = noise.bytes(length);
        if round % 2 == 0 && length > 40 {
            frame[..6].copy_from_slice(&GATEWAY_MAC.0);
            frame[6..12].copy_from_slice(&bad.mac.0);
            frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        }
        send(&mut bad.socket, frame).await;
    }
    settle(&mut bad).await;
    assert!(relay.shared.metrics.drop_malformed.get() > 1000);
    // What came to the innocent one are only frames of the hostile one's own addresses.
    good.step(Duration::from_millis(10)).await;
    assert_eq!(recorder.dialled(), []);
    while futures_util::FutureExt::now_or_never(good.socket.next()).is_some() {}
    unaffected(&mut good).await;
    relay.stop().await;
}
