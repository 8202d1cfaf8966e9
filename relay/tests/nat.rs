//! Guests through the relay to servers on the loopback interface, which `--allow` opens.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{GATEWAY, Guest, Noise, PATIENCE, checksum, real_relay, udp_frame};
use tab86_relay::net::SystemDialer;
use tab86_relay::room::Rooms;
use tab86_relay::shared::Shared;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;

/// A small HTTP/1.0 server: GET /N sends N bytes of noise, POST answers with length and checksum of the body.
async fn http_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut request = Vec::new();
                let head = loop {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                    if let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
                        break end + 4;
                    }
                };
                let text = String::from_utf8(request[..head].to_vec()).unwrap();
                let body = if let Some(path) = text.strip_prefix("GET /") {
                    Noise(86).bytes(path.split(' ').next().unwrap().parse().unwrap())
                } else {
                    let length = text.split("Content-Length: ").nth(1).unwrap();
                    let length: usize = length.split('\r').next().unwrap().parse().unwrap();
                    while request.len() < head + length && stream.read_buf(&mut request).await.unwrap() > 0 {}
                    format!("{} {:x}", request.len() - head, checksum(&request[head..])).into_bytes()
                };
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&body).await;
                let _ = stream.shutdown().await;
                count.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (address, served)
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an HTTP head");
    &answer[end + 4..]
}

fn allow(address: SocketAddr) -> String {
    format!("--allow={address}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_downloads_and_uploads_megabytes_unchanged() {
    let (server, _) = http_server().await;
    let relay = real_relay(&[&allow(server), "--rate-up=0", "--rate-down=0"]).await;
    let mut guest = Guest::join(relay.addresses[0], "nat", 1).await;
    let length = 8 << 20;
    let to = (GATEWAY, server.port());
    let answer = guest.exchange(to, format!("GET /{length} HTTP/1.0\r\n\r\n").as_bytes()).await;
    assert_eq!(body(&answer).len(), length);
    assert_eq!(checksum(body(&answer)), checksum(&Noise(86).bytes(length)));

    let data = Noise(7).bytes(length);
    let head = format!("POST / HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
    let answer = guest.exchange(to, &[head.as_bytes(), &data].concat()).await;
    assert_eq!(std::str::from_utf8(body(&answer)).unwrap(), format!("{length} {:x}", checksum(&data)));
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.tcp_flows_total.get(), metrics.drop_queue_full.get()), (2, 0));
    guest.until(|_| (metrics.tcp_flows.get() == 0).then_some(())).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_connections_at_a_time() {
    let (server, served) = http_server().await;
    let relay = real_relay(&[&allow(server)]).await;
    let mut guest = Guest::join(relay.addresses[0], "nat", 1).await;
    let length = 100_000;
    let expected = checksum(&Noise(86).bytes(length));
    let request = format!("GET /{length} HTTP/1.0\r\n\r\n");
    let handles: Vec<_> = (0..50).map(|_| guest.open((GATEWAY, server.port()), 16_384)).collect();
    let mut answers = vec![Vec::new(); 50];
    let mut sent = [false; 50];
    guest
        .until(|guest| {
            let mut over = 0;
            for (index, handle) in handles.iter().enumerate() {
                let socket = guest.tcp(*handle);
                if socket.may_send() && !sent[index] {
                    socket.send_slice(request.as_bytes()).unwrap();
                    sent[index] = true;
                }
                while socket.can_recv() {
                    socket.recv(|data| (data.len(), answers[index].extend_from_slice(data))).unwrap();
                }
                over += usize::from(sent[index] && !socket.may_recv());
            }
            (over == 50).then_some(())
        })
        .await;
    assert!(answers.iter().all(|answer| checksum(body(answer)) == expected));
    assert_eq!(served.load(Ordering::SeqCst), 50);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_guest_holds_the_server_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while let Ok(length) = stream.write(&[86; 65_536]).await {
            count.fetch_add(length, Ordering::SeqCst);
        }
    });
    let relay = real_relay(&[&allow(server), "--tcp-buffer=65536"]).await;
    let mut guest = Guest::join(relay.addresses[0], "nat", 1).await;
    let handle = guest.open((GATEWAY, server.port()), 8192);
    // The guest takes nothing out of its socket: its window closes.
    guest.until(|guest| (guest.tcp(handle).recv_queue() == 8192).then_some(())).await;
    let mut last = usize::MAX;
    guest
        .until(|_| {
            let now = written.load(Ordering::SeqCst);
            let still = now == last;
            last = now;
            still.then_some(())
        })
        .await;
    // The kernel's own socket buffers are the rest; an unbounded queue would go on for ever.
    assert!(last < 32 << 20, "{last}");
    let before = last;
    let mut taken = 0;
    guest
        .until(|guest| {
            let socket = guest.tcp(handle);
            while socket.can_recv() {
                taken += socket.recv(|data| (data.len(), data.len())).unwrap();
            }
            (taken > before + (1 << 20)).then_some(())
        })
        .await;
    assert_eq!(relay.shared.metrics.drop_queue_full.get(), 0);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_closes_the_guests_window() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let reading = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        wait.await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        checksum(&all)
    });
    let relay = real_relay(&[&allow(server), "--tcp-buffer=65536"]).await;
    let mut guest = Guest::join(relay.addresses[0], "nat", 1).await;
    let handle = guest.open((GATEWAY, server.port()), 65_536);
    let data = Noise(3).bytes(24 << 20);
    let (mut sent, mut stalls, mut go) = (0, 0, Some(go));
    guest
        .until(|guest| {
            let socket = guest.tcp(handle);
            let before = sent;
            if socket.can_send() {
                sent += socket.send_slice(&data[sent..]).unwrap();
            }
            stalls = if sent == before { stalls + 1 } else { 0 };
            if stalls == 15 {
                assert!(sent < data.len(), "the server read nothing, and yet everything went");
                go.take().map(|go| go.send(()));
            }
            (sent == data.len()).then_some(())
        })
        .await;
    guest.tcp(handle).close();
    guest.until(|guest| (guest.tcp(handle).send_queue() == 0).then_some(())).await;
    assert!(go.is_none(), "the window never closed");
    let result = tokio::time::timeout(PATIENCE, reading);
    tokio::pin!(result);
    let sum = loop {
        tokio::select! {
            sum = &mut result => break sum.unwrap().unwrap(),
            () = guest.step(std::time::Duration::from_millis(50)) => {}
        }
    };
    assert_eq!(sum, checksum(&data));
    relay.stop().await;
}

#[tokio::test]
async fn a_refused_port_is_a_reset() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let relay = real_relay(&[&allow(closed)]).await;
    let mut guest = Guest::join(relay.addresses[0], "nat", 1).await;
    assert!(guest.exchange((GATEWAY, closed.port()), b"").await.is_empty());
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.tcp_failed_total.get(), metrics.tcp_flows_total.get()), (1, 1));
    relay.stop().await;
}

#[tokio::test]
async fn datagrams_go_there_and_back_also_large_ones() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            let answer = buffer[..length].repeat(if length == 1400 { 3 } else { 1 });
            server.send_to(&answer, from).await.unwrap();
        }
    });
    let relay = real_relay(&[&format!("--allow=127.0.0.1:{port}")]).await;
    let mut guest = Guest::join(relay.addresses[0], "nat", 1).await;
    let (mac, ip) = (guest.mac, guest.ip);
    let ask = |source: u16, data: &[u8]| udp_frame(mac, support::GATEWAY_MAC, (ip, source), (GATEWAY, port), data);
    for source in 5000..5020 {
        guest.send(ask(source, format!("from {source}").as_bytes())).await;
        let (from, data) = guest.udp_from(port).await;
        assert_eq!((from, data), ((GATEWAY, port), format!("from {source}").into_bytes()));
    }
    assert_eq!(relay.shared.metrics.udp_flows.get(), 20);
    guest.send(ask(5000, &[9; 1400])).await;
    let mut length = 0;
    let mut fragments = 0;
    while length < 8 + 4200 {
        let frame = support::next_binary(&mut guest.socket).await.unwrap();
        let ip = smoltcp::wire::Ipv4Packet::new_checked(&frame[14..]).unwrap();
        assert_eq!(usize::from(ip.frag_offset()), length);
        assert!(frame.len() <= 1514);
        length += ip.payload().len();
        fragments += 1;
    }
    assert_eq!((length, fragments), (4208, 3));
    drop(guest);
    relay.stop().await;
}

/// Associations end when nothing moved for a while. A datagram that comes just then must not end with them: this thread
/// is the only one that runs the flows, so when it sleeps both have happened before any of them looks.
#[tokio::test]
async fn a_datagram_at_the_end_of_an_idle_association_is_answered() {
    const SOURCES: std::ops::Range<u16> = 5000..5040;
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..length], from);
        }
    });
    let settings = support::settings(&[&format!("--allow=127.0.0.1:{port}"), "--udp-idle=1"]);
    let shared = Shared::new(settings, Arc::new(SystemDialer), support::Recorder::new());
    let rooms = Rooms::new(Arc::new(shared));
    let mut member = rooms.join("idle", Arc::new(Semaphore::new(1000))).unwrap();
    let mut frames = member.take_frames().unwrap();
    let (mac, ip) = (support::mac(1), Ipv4Addr::new(10, 86, 0, 50));
    for round in ["first", "second"] {
        for source in SOURCES {
            let frame = udp_frame(mac, support::GATEWAY_MAC, (ip, source), (GATEWAY, port), round.as_bytes());
            member.room.input(&member.port, frame.into());
        }
        for answered in 0..SOURCES.len() {
            let answer = tokio::time::timeout(PATIENCE, frames.recv()).await;
            let frame = answer.unwrap_or_else(|_| panic!("{round}: {answered} answers")).unwrap();
            assert_eq!(support::read_udp(&frame).unwrap().2, round.as_bytes());
        }
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
}

#[tokio::test]
async fn guests_of_a_room_reach_each_other_and_those_of_another_do_not() {
    let relay = real_relay(&[]).await;
    let address = relay.addresses[0];
    let mut a = Guest::join(address, "one", 1).await;
    let mut b = Guest::join(address, "one", 2).await;
    let mut c = Guest::join(address, "two", 3).await;
    assert_ne!(a.ip, b.ip);
    let (to, from) = ((b.ip, 9), (a.ip, 9));
    a.send(udp_frame(a.mac, b.mac, from, to, b"hello")).await;
    assert_eq!(b.udp_from(9).await, ((a.ip, 9), b"hello".to_vec()));
    a.send(udp_frame(a.mac, support::mac(3), from, (Ipv4Addr::new(10, 86, 9, 9), 9), b"lost")).await;
    // The gateway answers c's ping after a's frame went through the switch: nothing of it may be there.
    c.send(support::frame(GATEWAY_BROADCAST, c.mac, 0x0806, &arp_request(c.mac, c.ip))).await;
    let first = support::next_binary(&mut c.socket).await.unwrap();
    assert_eq!(first[12..14], [8, 6]);
    relay.stop().await;
}

const GATEWAY_BROADCAST: tab86_relay::switch::Mac = tab86_relay::switch::Mac::BROADCAST;

fn arp_request(mac: tab86_relay::switch::Mac, ip: Ipv4Addr) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, 1][..], &mac.0, &ip.octets(), &[0; 6], &GATEWAY.octets()].concat()
}
