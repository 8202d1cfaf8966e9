//! Wisp v1 and v2 with a client written by hand from the protocol's text.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use support::{Noise, Recorder, Socket, checksum, connect, next_binary, relay};
use tab86_relay::policy::Refusal;
use tab86_relay::server::Running;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_tungstenite::tungstenite::Message;

const WINDOW: u32 = 8;

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn scene(flags: &[&str]) -> (Running, Arc<Recorder>) {
    let recorder = Recorder::new();
    recorder.redirect("93.184.215.14:80", echo_server().await);
    recorder.host("echo.example", &["93.184.215.14"]);
    recorder.host("inside.example", &["127.0.0.1", "10.0.0.1"]);
    recorder.host("mixed.example", &["10.0.0.1", "93.184.215.14"]);
    let flags = [&["--wisp-window=8"], flags].concat();
    (relay(&recorder, &flags).await, recorder)
}

async fn send(socket: &mut Socket, kind: u8, stream: u32, payload: &[u8]) {
    let packet = [&[kind][..], &stream.to_le_bytes(), payload].concat();
    socket.send(Message::Binary(packet.into())).await.unwrap();
}

async fn open(socket: &mut Socket, kind: u8, stream: u32, host: &str, port: u16) {
    send(socket, 1, stream, &[&[kind][..], &port.to_le_bytes(), host.as_bytes()].concat()).await;
}

async fn receive(socket: &mut Socket) -> (u8, u32, Vec<u8>) {
    let packet = next_binary(socket).await.expect("a packet");
    (packet[0], u32::from_le_bytes(packet[1..5].try_into().unwrap()), packet[5..].to_vec())
}

/// The relay speaks first: the window, then its INFO.
async fn hello(socket: &mut Socket, password: bool) {
    assert_eq!(receive(socket).await, (3, 0, WINDOW.to_le_bytes().to_vec()));
    let (kind, stream, info) = receive(socket).await;
    assert_eq!((kind, stream, &info[..2]), (5, 0, &[2, 0][..]));
    let extensions: &[u8] = if password { &[1, 0, 0, 0, 0, 2, 0, 0, 0, 0] } else { &[1, 0, 0, 0, 0] };
    assert_eq!(&info[2..], extensions);
}

#[tokio::test]
async fn version_1_carries_tcp_by_name_and_address_with_its_window() {
    let (relay, recorder) = scene(&[]).await;
    let mut socket = connect(relay.addresses[0], "/wisp/").await;
    hello(&mut socket, false).await;
    // A version 1 client ignores INFO and says nothing of the kind. Data may come before the first CONTINUE.
    open(&mut socket, 1, 77, "echo.example", 80).await;
    send(&mut socket, 2, 77, b"early").await;
    assert_eq!(receive(&mut socket).await, (3, 77, WINDOW.to_le_bytes().to_vec()));
    assert_eq!(receive(&mut socket).await, (2, 77, b"early".to_vec()));
    open(&mut socket, 1, 78, "93.184.215.14", 80).await;
    assert_eq!(receive(&mut socket).await.0, 3);

    // Megabytes through a window of eight packets, never more than the window ahead.
    let data = Noise(5).bytes(3 << 20);
    let mut chunks = data.chunks(10_000);
    let (mut credit, mut echoed) = (WINDOW, Vec::new());
    while echoed.len() < data.len() {
        while credit > 0 {
            let Some(chunk) = chunks.next() else { break };
            send(&mut socket, 2, 78, chunk).await;
            credit -= 1;
        }
        match receive(&mut socket).await {
            (2, 78, bytes) => echoed.extend_from_slice(&bytes),
            (3, 78, left) => credit = u32::from_le_bytes(left.try_into().unwrap()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(checksum(&echoed), checksum(&data));
    send(&mut socket, 4, 78, &[2]).await;
    send(&mut socket, 4, 77, &[2]).await;
    // The numbers are free again.
    open(&mut socket, 1, 78, "mixed.example", 80).await;
    loop {
        if let (3, 78, _) = receive(&mut socket).await {
            break;
        }
    }
    assert_eq!(recorder.dialled(), vec![SocketAddr::from(([93, 184, 215, 14], 80)); 3]);
    assert_eq!(relay.shared.metrics.wisp_streams_total.get(), 3);
    relay.stop().await;
}

#[tokio::test]
async fn version_2_says_what_it_can_and_carries_udp() {
    let (relay, recorder) = scene(&[]).await;
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    recorder.redirect("93.184.215.14:53", server.local_addr().unwrap());
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            buffer[..length].reverse();
            server.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let mut socket = connect(relay.addresses[0], "/wisp/").await;
    hello(&mut socket, false).await;
    send(&mut socket, 5, 0, &[2, 0, 1, 0, 0, 0, 0]).await;
    open(&mut socket, 2, 5, "echo.example", 53).await;
    for text in ["abc", "datagram"] {
        send(&mut socket, 2, 5, text.as_bytes()).await;
        let reversed: String = text.chars().rev().collect();
        assert_eq!(receive(&mut socket).await, (2, 5, reversed.into_bytes()), "and no CONTINUE");
    }
    relay.stop().await;
}

#[tokio::test]
async fn refusals_have_their_reasons_and_are_never_dialled() {
    let (relay, recorder) = scene(&["--wisp-streams=1"]).await;
    recorder.host("closed.example", &["93.184.215.14"]);
    let mut socket = connect(relay.addresses[0], "/wisp/").await;
    hello(&mut socket, false).await;
    let cases: &[(&str, u16, u8)] = &[
        ("127.0.0.1", 80, 0x48),
        ("::1", 80, 0x48),
        ("[::ffff:10.0.0.1]", 80, 0x48),
        ("169.254.169.254", 80, 0x48),
        ("inside.example", 80, 0x48),
        ("93.184.215.14", 25, 0x48),
        ("none.example", 80, 0x42),
        ("bad host", 80, 0x41),
        ("", 80, 0x41),
        ("echo.example", 0, 0x41),
    ];
    for (index, (host, port, reason)) in cases.iter().enumerate() {
        let stream = 100 + index as u32;
        open(&mut socket, 1, stream, host, *port).await;
        assert_eq!(receive(&mut socket).await, (4, stream, vec![*reason]), "{host}");
    }
    open(&mut socket, 1, 0, "echo.example", 80).await;
    assert_eq!(receive(&mut socket).await, (4, 0, vec![0x41]));
    send(&mut socket, 1, 9, &[3, 80, 0, b'a']).await;
    assert_eq!(receive(&mut socket).await, (4, 9, vec![0x41]));
    assert_eq!(recorder.dialled(), []);
    open(&mut socket, 1, 1, "closed.example", 81).await;
    assert_eq!(receive(&mut socket).await, (4, 1, vec![0x44]));
    // One stream at a time, says the flag.
    open(&mut socket, 1, 1, "echo.example", 80).await;
    assert_eq!(receive(&mut socket).await.0, 3);
    open(&mut socket, 1, 2, "echo.example", 80).await;
    assert_eq!(receive(&mut socket).await, (4, 2, vec![0x49]));
    let metrics = &relay.shared.metrics;
    assert_eq!((metrics.limit_wisp.get(), metrics.refused_value(Refusal::Loopback).get()), (1, 2));
    relay.stop().await;
}

#[tokio::test]
async fn a_client_that_ignores_its_window_loses_the_stream_and_not_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (relay, recorder) = scene(&[]).await;
    recorder.redirect("93.184.215.14:81", listener.local_addr().unwrap());
    let mut socket = connect(relay.addresses[0], "/wisp/").await;
    hello(&mut socket, false).await;
    open(&mut socket, 1, 1, "echo.example", 81).await;
    let (mut held, _) = listener.accept().await.unwrap();
    // The server reads nothing; 16 MB and more fit nowhere.
    let chunk = vec![0; 60_000];
    let (mut sink, mut stream) = socket.split();
    let packet: bytes::Bytes = [&[2u8, 1, 0, 0, 0][..], &chunk].concat().into();
    let flood = async {
        loop {
            sink.send(Message::Binary(packet.clone())).await.unwrap();
        }
    };
    let close = async {
        loop {
            match stream.next().await.unwrap().unwrap() {
                Message::Binary(packet) if packet[0] == 4 => return packet,
                _ => {}
            }
        }
    };
    let close = tokio::select! { () = flood => unreachable!(), close = close => close };
    assert_eq!(close[..], [4, 1, 0, 0, 0, 0x49]);
    let mut socket = sink.reunite(stream).unwrap();
    open(&mut socket, 1, 2, "echo.example", 80).await;
    send(&mut socket, 2, 2, b"alive").await;
    loop {
        if let (2, 2, data) = receive(&mut socket).await {
            assert_eq!(data, b"alive");
            break;
        }
    }
    let _ = held.read(&mut [0; 16]).await;
    relay.stop().await;
}

#[tokio::test]
async fn the_password_extension_stands_in_for_the_token() {
    let (relay, recorder) = scene(&["--token=sesame"]).await;
    let address = relay.addresses[0];
    let info = |password: &str| {
        let data = [&[1, password.len() as u8, 0, b'u'][..], password.as_bytes()].concat();
        [&[2, 0, 2][..], &(data.len() as u32).to_le_bytes(), &data].concat()
    };
    let mut right = connect(address, "/wisp/").await;
    hello(&mut right, true).await;
    send(&mut right, 5, 0, &info("sesame")).await;
    open(&mut right, 1, 1, "echo.example", 80).await;
    assert_eq!(receive(&mut right).await.0, 3);
    for attempt in [Some(info("wrong")), Some(vec![2, 0]), None] {
        let mut wrong = connect(address, "/wisp/").await;
        hello(&mut wrong, true).await;
        match attempt {
            Some(info) => send(&mut wrong, 5, 0, &info).await,
            None => open(&mut wrong, 1, 1, "echo.example", 80).await,
        }
        assert_eq!(receive(&mut wrong).await, (4, 0, vec![4]));
        assert!(next_binary(&mut wrong).await.is_none());
    }
    let mut query = connect(address, "/wisp/?token=sesame").await;
    hello(&mut query, false).await;
    assert_eq!(recorder.dialled().len(), 1);
    assert_eq!(relay.shared.metrics.reject_token.get(), 3);
    relay.stop().await;
}

#[tokio::test]
async fn the_servers_end_ends_the_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (relay, recorder) = scene(&[]).await;
    recorder.redirect("93.184.215.14:81", listener.local_addr().unwrap());
    let mut socket = connect(relay.addresses[0], "/wisp/").await;
    hello(&mut socket, false).await;
    open(&mut socket, 1, 1, "echo.example", 81).await;
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"bye").await.unwrap();
    drop(server);
    assert_eq!(receive(&mut socket).await.0, 3);
    assert_eq!(receive(&mut socket).await, (2, 1, b"bye".to_vec()));
    assert_eq!(receive(&mut socket).await, (4, 1, vec![2]));
    relay.stop().await;
}
