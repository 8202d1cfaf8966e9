use super::*;
use std::net::{TcpListener, TcpStream as StdStream};
use std::sync::mpsc::{Receiver, channel};

type Server = WebSocket<StdStream>;

fn relay(port: u16) -> (Relay, Receiver<Input>) {
    let (sender, notices) = channel();
    let url = RelayUrl::parse(&format!("ws://127.0.0.1:{port}/r/test")).unwrap();
    (Relay::connect(url, None, sender).unwrap(), notices)
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn accept(listener: &TcpListener) -> Server {
    tungstenite::accept(listener.accept().unwrap().0).unwrap()
}

/// Waits for a change of the connection, or for frames.
fn expect(notices: &Receiver<Input>, wanted: impl Fn(&Notice) -> bool) {
    loop {
        match notices.recv_timeout(Duration::from_secs(30)).unwrap() {
            Input::Network(notice) if wanted(&notice) => return,
            _ => {}
        }
    }
}

fn next(server: &mut Server) -> Vec<u8> {
    loop {
        if let Message::Binary(data) = server.read().unwrap() {
            return data.into();
        }
    }
}

#[test]
fn frames_go_both_ways_and_other_messages_are_passed_over() {
    let (listener, port) = listen();
    let (relay, notices) = relay(port);
    let mut server = accept(&listener);
    expect(&notices, |n| *n == Notice::Up);
    assert!(relay.is_up());
    relay.send(vec![1; 60]);
    relay.send(vec![2; 1514]);
    assert_eq!(next(&mut server), vec![1; 60]);
    assert_eq!(next(&mut server), vec![2; 1514]);
    server.send(Message::text("hello")).unwrap();
    server.send(Message::Ping(vec![7].into())).unwrap();
    server.send(Message::binary(vec![3; 100])).unwrap();
    expect(&notices, |n| *n == Notice::Frames);
    assert_eq!(relay.receive(), Some(vec![3; 100]));
    assert_eq!(relay.receive(), None);
    assert!(matches!(server.read().unwrap(), Message::Pong(data) if data[..] == [7]));
}

#[test]
fn a_relay_that_went_away_is_connected_again() {
    let (listener, port) = listen();
    let (relay, notices) = relay(port);
    for round in 0..2 {
        let mut server = accept(&listener);
        expect(&notices, |n| *n == Notice::Up);
        server.send(Message::binary(vec![round; 60])).unwrap();
        expect(&notices, |n| *n == Notice::Frames);
        assert!(relay.is_up());
        assert_eq!(relay.receive(), Some(vec![round; 60]));
        drop(server);
        expect(&notices, |n| matches!(n, Notice::Down(_)));
        assert!(!relay.is_up());
        relay.send(vec![9; 60]);
        assert_eq!(relay.unsent(), 0, "nothing is kept for later");
    }
}

#[test]
fn a_fast_relay_waits_for_a_slow_machine() {
    let (listener, port) = listen();
    let (relay, notices) = relay(port);
    let mut server = accept(&listener);
    expect(&notices, |n| *n == Notice::Up);
    let count = 20 * QUEUE;
    let sender = std::thread::spawn(move || {
        for n in 0..count {
            server.send(Message::binary((n as u32).to_le_bytes().repeat(300))).unwrap();
        }
        server
    });
    let mut got = 0;
    while got < count {
        expect(&notices, |n| *n == Notice::Frames);
        assert!(relay.is_up());
        assert!(lock(&relay.shared.incoming).len() <= QUEUE);
        while let Some(frame) = relay.receive() {
            assert_eq!(frame[..4], (got as u32).to_le_bytes(), "in order");
            got += 1;
        }
    }
    drop(sender.join().unwrap());
}

#[test]
fn a_slow_relay_fills_the_queue_and_no_more() {
    let (listener, port) = listen();
    let (relay, notices) = relay(port);
    let mut server = accept(&listener);
    expect(&notices, |n| *n == Notice::Up);
    // A frame that never comes fails the test instead of hanging it.
    server.get_mut().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // More than the system's socket buffers hold.
    let (mut sent, mut refused) = (0_u32, false);
    while !refused {
        let begun = Instant::now();
        while relay.unsent() >= QUEUE && !refused {
            refused = begun.elapsed() > Duration::from_secs(1);
            std::thread::yield_now();
        }
        if !refused {
            relay.send(sent.to_le_bytes().repeat(370));
            sent += 1;
        }
    }
    assert!(relay.unsent() <= QUEUE);
    for n in 0..sent {
        assert_eq!(next(&mut server)[..4], n.to_le_bytes());
    }
}

#[test]
fn a_relay_that_is_none_is_reported_once_and_tried_again() {
    let (listener, port) = listen();
    let (relay, notices) = relay(port);
    for _ in 0..2 {
        // Speaks, but no WebSocket.
        let (mut stream, _) = listener.accept().unwrap();
        io::Write::write_all(&mut stream, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
    }
    expect(&notices, |n| matches!(n, Notice::Down(why) if why.contains("404")));
    let server = accept(&listener);
    expect(&notices, |n| *n == Notice::Up);
    assert!(relay.is_up());
    drop(server);
}

#[test]
fn a_message_that_is_far_too_long_ends_the_connection() {
    let (listener, port) = listen();
    let (_relay, notices) = relay(port);
    let mut server = accept(&listener);
    expect(&notices, |n| *n == Notice::Up);
    server.send(Message::binary(vec![0; MAX_MESSAGE + 1])).unwrap();
    expect(&notices, |n| matches!(n, Notice::Down(_)));
}

#[test]
fn addresses_are_checked() {
    for (good, host, port) in [
        ("ws://relay.example", "relay.example", 80),
        ("ws://10.0.0.1:8086/r/lab", "10.0.0.1", 8086),
        ("ws://[::1]:80/", "::1", 80),
        ("wss://relay.example/r/lab?token=x", "relay.example", 443),
        ("wss://[::1]:8443/", "::1", 8443),
    ] {
        let url = RelayUrl::parse(good).unwrap();
        assert_eq!((url.host(), url.port(), url.is_encrypted()), (host, port, good.starts_with("wss:")), "{good}");
    }
    for bad in ["", "relay.example", "/path", "http://relay.example/", "ws:///path", "ws://a b/"] {
        assert_eq!(RelayUrl::parse(bad), Err(UrlError(bad.into())));
    }
}
