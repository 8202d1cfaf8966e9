//! The command itself: help, mistakes, a configuration file, killed and started again.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::{Guest, try_connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

struct Relay(Child, SocketAddr);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tab86-relay"))
}

/// Starts the command and waits for the line that says where it listens.
fn start(arguments: &[&str]) -> Relay {
    let mut child =
        command().args(arguments).arg("--log-format=json").stderr(Stdio::piped()).spawn().expect("the relay starts");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().expect("it listens").unwrap();
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
        if entry["fields"]["message"] == "listening" {
            break entry["fields"]["address"].as_str().unwrap().parse().unwrap();
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    Relay(child, address)
}

#[test]
fn help_is_complete_and_mistakes_end_with_2() {
    let help = command().arg("--help").output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for part in ["--allow <RULE>", "--tap <NAME>", "[default: 127.0.0.1:8086]", "/r/NAME", "[default: 131072]"] {
        assert!(text.contains(part), "{part}");
    }
    for arguments in [
        &["--no-such-flag"][..],
        &["--mtu", "1"],
        &["--config", "/nonexistent"],
        &["--site", "/nonexistent"],
        &["--log=x=y"],
    ] {
        let output = command().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_started_again_the_guest_goes_on_with_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 64];
                let length = stream.read(&mut buffer).await.unwrap_or(0);
                let _ = stream.write_all(&buffer[..length]).await;
                let _ = stream.shutdown().await;
                // Held open until the other side is done.
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("relay.toml");
    std::fs::write(&file, format!("listen = [\"127.0.0.1:0\"]\nallow = [\"{server}\"]\n")).unwrap();
    let config = ["--config", file.to_str().unwrap()];
    let to = (support::GATEWAY, server.port());
    let first = start(&config);
    let address = first.1;
    let mut guest = Guest::join(address, "r", 1).await;
    assert_eq!(guest.exchange(to, b"before").await, b"before");
    let ip = guest.ip;
    // A connection that is open when the relay dies.
    let stale = guest.open(to, 1024);
    guest.until(|guest| guest.tcp(stale).may_send().then_some(())).await;
    drop(first);
    let end = std::time::Instant::now() + support::PATIENCE;
    while !guest.closed {
        assert!(std::time::Instant::now() < end);
        guest.step(std::time::Duration::from_millis(50)).await;
    }
    assert!(try_connect(address, "/r/r").await.is_err());
    let listen = format!("--listen={address}");
    let second = start(&[&config[..], &[&listen]].concat());
    assert_eq!(second.1, address);
    guest.socket = try_connect(address, "/r/r").await.unwrap();
    guest.closed = false;
    // It keeps its address without asking anybody, and the stale connection is reset.
    assert_eq!(guest.exchange(to, b"after").await, b"after");
    guest.tcp(stale).send_slice(b"x").unwrap();
    guest.until(|guest| (!guest.tcp(stale).is_open()).then_some(())).await;
    // A newcomer gets another address, and a client that asks anew the same.
    let other = Guest::join(address, "r", 2).await;
    assert_ne!(other.ip, ip);
    guest.dhcp().await;
    assert_eq!(guest.ip, ip);
}

#[cfg(unix)]
#[tokio::test]
async fn sigterm_stops_it_with_success() {
    let mut relay = start(&["--listen=127.0.0.1:0"]);
    let mut client = support::connect(relay.1, "/r/x").await;
    let pid = relay.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(support::next_binary(&mut client).await.is_none());
    let status = tokio::task::spawn_blocking(move || relay.0.wait().unwrap()).await.unwrap();
    assert!(status.success());
}
