//! Load on a relay of its own, everything on the loopback interface: N clients in rooms of 20 with mixed traffic (pings
//! of a neighbour through the switch, datagrams and TCP up and down through the gateway), some of them greedy.
//!
//! `cargo run --release -p tab86-relay --example load -- --clients 500 --seconds 600`
//!
//! Prints the relay's memory, latencies by kind (p50, p99), how evenly the clients were served, and datagrams that the
//! host's own sockets lost. With `--restart-at SECONDS` the relay is killed then and started again on the same port.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::Parser;
use support::{GATEWAY, GATEWAY_MAC, Guest, Noise, mac, udp_frame};
use tab86_relay::switch::Mac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Barrier;

/// Simulates clients of a relay and measures it.
#[derive(Parser, Debug, Clone)]
struct Arguments {
    /// Clients
    #[arg(long, default_value_t = 500)]
    clients: u32,
    /// Duration
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Clients that download without a pause
    #[arg(long, default_value_t = 5)]
    greedy: u32,
    /// Mean pause of the others between two exchanges
    #[arg(long, default_value_t = 250)]
    pause_ms: u64,
    /// Kill the relay after so many seconds and start it again
    #[arg(long)]
    restart_at: Option<u64>,
    /// The relay's binary [default: beside this example]
    #[arg(long)]
    relay: Option<PathBuf>,
    /// Further flags for the relay, after --
    #[arg(last = true)]
    flags: Vec<String>,
}

const ROOM: u32 = 20;
const PEER: u16 = 0x88b5;
const SMALL: usize = 20_000;
const LARGE: usize = 2_000_000;
const KINDS: [&str; 5] = ["neighbour", "udp", "download 20 kB", "upload 20 kB", "download 2 MB"];

/// Whose connection is there: a count for each client that is even while it has one. The ping of a neighbour who was
/// away while it was on its way is lost as on any network: nobody repeats it.
type Presence = Arc<Vec<AtomicU32>>;

/// An exchange that got no answer while its own client was connected.
struct Failure {
    client: u32,
    kind: usize,
    /// When it began, since the start.
    begun: Duration,
    /// Whether the neighbour that it asked was away meanwhile.
    absent: bool,
}

/// What one client saw.
#[derive(Default)]
struct Record {
    latencies: [Vec<u32>; 4],
    bytes: u64,
    exchanges: u64,
    longest_gap: Duration,
    failures: Vec<Failure>,
    /// Times the connection was lost, and how long the longest took to come back, address included.
    reconnects: u64,
    longest_outage: Duration,
}

/// A server: reads a request of 8 bytes (to send, to receive), does both, and closes.
async fn servers() -> (SocketAddr, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let echo = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let addresses = (listener.local_addr().expect("bound"), echo.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let (send, receive) = (stream.read_u32().await?, stream.read_u32().await?);
                let mut left = receive as usize;
                let mut buffer = vec![0; 16_384];
                while left > 0 {
                    match stream.read(&mut buffer).await? {
                        0 => break,
                        length => left -= length,
                    }
                }
                let mut left = send as usize;
                while left > 0 {
                    left -= stream.write(&buffer[..left.min(16_384)]).await?;
                }
                stream.shutdown().await?;
                // The guest closes first or last: wait for it.
                stream.read(&mut buffer).await
            });
        }
    });
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = echo.recv_from(&mut buffer).await {
            let _ = echo.send_to(&buffer[..length], from).await;
        }
    });
    addresses
}

fn start_relay(arguments: &Arguments, port: u16) -> (Child, SocketAddr) {
    let path = arguments.relay.clone().unwrap_or_else(|| {
        let own = std::env::current_exe().expect("a path");
        own.parent().and_then(|p| p.parent()).expect("target/PROFILE").join("tab86-relay")
    });
    let mut child = Command::new(&path)
        .arg(format!("--listen=127.0.0.1:{port}"))
        .args(["--allow=127.0.0.1", "--max-connections-per-ip=100000", "--log-format=json"])
        .args(["--max-clients-per-room=256", "--max-rooms=1000", "--flows-per-ip=100000", "--flows-total=100000"])
        .args(&arguments.flags)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error} (build it with the same profile)", path.display()));
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let address = loop {
        let line = lines.next().expect("it listens").expect("text");
        if let Some((_, rest)) = line.split_once("\"address\":\"") {
            break rest.split('"').next().expect("an address").parse().expect("an address");
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

/// Resident memory now and at most, in KiB.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    (field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0))
}

/// Seconds of processor time. A clock tick of /proc is 10 ms on Linux.
fn processor(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn peer_frame(to: Mac, from: Mac, kind: u8, number: u32) -> Vec<u8> {
    let mut payload = [0; 60];
    payload[0] = kind;
    payload[1..5].copy_from_slice(&number.to_be_bytes());
    support::frame(to, from, PEER, &payload)
}

/// Answers neighbours; returns whether an answer to `number` came.
fn neighbours(guest: &mut Guest, number: u32) -> bool {
    let mut answered = false;
    for frame in std::mem::take(&mut guest.seen) {
        if frame.len() < 19 || frame[12..14] != PEER.to_be_bytes() {
            continue;
        }
        if frame[14] == 1 {
            let mut answer = frame.to_vec();
            answer[..6].copy_from_slice(&frame[6..12]);
            answer[6..12].copy_from_slice(&guest.mac.0);
            answer[14] = 2;
            guest.queue(answer);
        } else {
            answered |= frame[15..19] == number.to_be_bytes();
        }
    }
    answered
}

/// Runs one TCP exchange; the number of bytes, 0 when it failed.
async fn tcp(guest: &mut Guest, port: u16, send: usize, receive: usize) -> u64 {
    let handle = guest.open((GATEWAY, port), 65_536);
    let mut request = [&(receive as u32).to_be_bytes()[..], &(send as u32).to_be_bytes()].concat();
    request.resize(8 + send, 86);
    let (mut sent, mut got) = (0, 0);
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        neighbours(guest, 0);
        let socket = guest.tcp(handle);
        if sent < request.len() && socket.can_send() {
            sent += socket.send_slice(&request[sent..]).unwrap_or(0);
        }
        while socket.can_recv() {
            got += socket.recv(|data| (data.len(), data.len())).unwrap_or(0);
        }
        if sent > 0 && !socket.may_recv() || !socket.is_open() || guest.closed || Instant::now() > give_up {
            break;
        }
        guest.step(Duration::from_millis(100)).await;
    }
    let whole = sent == request.len() && got == receive;
    guest.tcp(handle).close();
    guest.step(Duration::from_millis(1)).await;
    guest.forget(handle);
    if whole { (sent + got) as u64 } else { 0 }
}

/// Datagrams that the sockets of this host had no room for.
fn lost_by_sockets() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(|line| line.split(' '));
    let (Some(mut names), Some(mut values)) = (rows.next(), rows.next()) else { return 0 };
    let index = names.position(|name| name == "RcvbufErrors");
    index.and_then(|index| values.nth(index)).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Connects again, with pauses as the page's cable has them at first.
async fn rejoin(relay: SocketAddr, n: u32, noise: &mut Noise) -> Guest {
    loop {
        tokio::time::sleep(Duration::from_millis(250 + noise.below(250) as u64)).await;
        if let Ok(socket) = support::try_connect(relay, &format!("/r/room-{}", n / ROOM)).await {
            let mut guest = Guest::attach(socket, n + 1);
            guest.dhcp().await;
            return guest;
        }
    }
}

async fn client(
    n: u32,
    arguments: Arguments,
    relay: SocketAddr,
    to: (u16, u16),
    ready: Arc<Barrier>,
    presence: Presence,
) -> Record {
    let mut guest = Guest::join(relay, &format!("room-{}", n / ROOM), n + 1).await;
    let mut noise = Noise(u64::from(n) * 7919 + 1);
    let mut record = Record::default();
    let beside = n / ROOM * ROOM + (n % ROOM + 1) % ROOM.min(arguments.clients);
    let neighbour = mac(beside + 1);
    let visits = |who: u32| presence.get(who as usize).map_or(0, |count| count.load(Ordering::SeqCst));
    // Everybody is there, and the switch knows everybody, before the first exchange.
    ready.wait().await;
    let start = Instant::now();
    let mut last = start;
    let end = last + Duration::from_secs(arguments.seconds);
    let mut number = 0;
    while Instant::now() < end {
        if guest.closed {
            let lost = Instant::now();
            presence[n as usize].fetch_add(1, Ordering::SeqCst);
            guest = rejoin(relay, n, &mut noise).await;
            presence[n as usize].fetch_add(1, Ordering::SeqCst);
            record.reconnects += 1;
            record.longest_outage = record.longest_outage.max(lost.elapsed());
        }
        number += 1;
        let greedy = n < arguments.greedy;
        let kind = if greedy { 4 } else { noise.below(4) };
        let begin = Instant::now();
        let there = visits(beside);
        let bytes = match kind {
            0 | 1 => {
                let frame = if kind == 0 {
                    peer_frame(neighbour, guest.mac, 1, number)
                } else {
                    let source = 1024 + (number % 8) as u16;
                    udp_frame(guest.mac, GATEWAY_MAC, (guest.ip, source), (GATEWAY, to.1), &number.to_be_bytes())
                };
                guest.queue(frame);
                let mut bytes = 0;
                while bytes == 0 && begin.elapsed() < Duration::from_secs(5) && !guest.closed {
                    guest.step(Duration::from_millis(100)).await;
                    let udp = guest.seen.iter().any(|frame| frame.len() >= 46 && frame[42..46] == number.to_be_bytes());
                    bytes = u64::from(neighbours(&mut guest, number) || kind == 1 && udp) * 64;
                }
                bytes
            }
            2 => tcp(&mut guest, to.0, 0, SMALL).await,
            3 => tcp(&mut guest, to.0, SMALL, 0).await,
            _ => tcp(&mut guest, to.0, 0, LARGE).await,
        };
        if guest.closed {
            continue;
        }
        if bytes == 0 {
            let absent = kind == 0 && (there % 2 == 1 || visits(beside) != there);
            record.failures.push(Failure { client: n, kind, begun: begin - start, absent });
        } else {
            record.exchanges += 1;
            record.bytes += bytes;
            record.longest_gap = record.longest_gap.max(last.elapsed());
            last = Instant::now();
            if kind < 4 {
                record.latencies[kind].push(begin.elapsed().as_micros() as u32);
            }
        }
        let resume = Instant::now() + Duration::from_millis(noise.below(2 * arguments.pause_ms as usize + 1) as u64);
        while !greedy && Instant::now() < resume && !guest.closed {
            guest.step(resume - Instant::now()).await;
            neighbours(&mut guest, 0);
        }
    }
    record
}

fn main() {
    let arguments = Arguments::parse();
    let (child, relay) = start_relay(&arguments, 0);
    let empty = memory(child.id()).0;
    let child = Arc::new(Mutex::new(child));
    let lost_before = lost_by_sockets();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let records = Arc::new(Mutex::new(Vec::new()));
    let samples = Arc::new(Mutex::new(Vec::new()));
    runtime.block_on(async {
        let (tcp, udp) = servers().await;
        let ready = Arc::new(Barrier::new(arguments.clients as usize));
        let presence: Presence = Arc::new((0..arguments.clients).map(|_| AtomicU32::new(0)).collect());
        let mut tasks = Vec::new();
        for n in 0..arguments.clients {
            let task = client(
                n,
                arguments.clone(),
                relay,
                (tcp.port(), udp.port()),
                Arc::clone(&ready),
                Arc::clone(&presence),
            );
            tasks.push(tokio::spawn(task));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let (sampling, process) = (Arc::clone(&samples), Arc::clone(&child));
        let again = arguments.clone();
        let sampler = tokio::spawn(async move {
            for second in 0.. {
                if again.restart_at == Some(second) {
                    let mut child = process.lock().expect("whole");
                    let _ = child.kill();
                    let _ = child.wait();
                    *child = start_relay(&again, relay.port()).0;
                }
                let pid = process.lock().expect("whole").id();
                sampling.lock().expect("whole").push(memory(pid).0);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        for task in tasks {
            match task.await {
                Ok(record) => records.lock().expect("whole").push(record),
                Err(error) => println!("a client failed: {error}"),
            }
        }
        sampler.abort();
    });
    let pid = child.lock().expect("whole").id();
    let peak = memory(pid).1;
    let metrics = fetch_metrics(relay);
    let cpu = processor(pid);
    let _ = child.lock().expect("whole").kill();
    let _ = child.lock().expect("whole").wait();
    report(&arguments, &records.lock().expect("whole"), &samples.lock().expect("whole"), empty, peak);
    println!("datagrams that the host's sockets lost: {}", lost_by_sockets() - lost_before);
    println!("processor time: relay {cpu:.1} s, this load {:.1} s", processor(std::process::id()));
    for line in metrics.lines().filter(|l| !l.starts_with('#') && !l.ends_with(" 0")) {
        println!("  {line}");
    }
}

fn fetch_metrics(relay: SocketAddr) -> String {
    use std::io::{Read, Write};
    let mut text = String::new();
    if let Ok(mut stream) = std::net::TcpStream::connect(relay) {
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut text);
    }
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

fn report(arguments: &Arguments, records: &[Record], samples: &[u64], empty: u64, peak: u64) {
    let mib = |kib: u64| kib as f64 / 1024.0;
    println!("{} clients, {} s, {} of them greedy", arguments.clients, arguments.seconds, arguments.greedy);
    let at = |part: usize| samples.get(samples.len() * part / 4).or(samples.last()).copied().unwrap_or(0);
    println!(
        "relay's memory (MiB): empty {:.1}; after a quarter {:.1}, half {:.1}, three quarters {:.1}, at the end {:.1}; peak {:.1}",
        mib(empty),
        mib(at(1)),
        mib(at(2)),
        mib(at(3)),
        mib(at(4)),
        mib(peak)
    );
    for (kind, name) in KINDS[..4].iter().enumerate() {
        let mut all: Vec<u32> = records.iter().flat_map(|r| r.latencies[kind].iter().copied()).collect();
        all.sort_unstable();
        let quantile = |q: f64| all.get(((all.len() as f64 * q) as usize).min(all.len().saturating_sub(1))).copied();
        let ms = |q| f64::from(quantile(q).unwrap_or(0)) / 1000.0;
        println!(
            "{name:>15}: {:>8} exchanges, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            all.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0)
        );
    }
    let bytes: u64 = records.iter().map(|r| r.bytes).sum();
    println!("bytes: {:.1} MB/s", bytes as f64 / 1e6 / arguments.seconds as f64);
    let reconnects: u64 = records.iter().map(|r| r.reconnects).sum();
    if reconnects > 0 {
        let back = records.iter().filter(|r| r.reconnects > 0).count();
        let outage = records.iter().map(|r| r.longest_outage).max().unwrap_or_default();
        println!("reconnected: {back} clients, {reconnects} times; longest outage {:.2} s", outage.as_secs_f64());
    }
    let polite = records.get(arguments.greedy as usize..).unwrap_or_default();
    let mut counts: Vec<u64> = polite.iter().map(|r| r.exchanges).collect();
    counts.sort_unstable();
    let sum: f64 = counts.iter().map(|c| *c as f64).sum();
    let squares: f64 = counts.iter().map(|c| (*c as f64).powi(2)).sum();
    let gap = polite.iter().map(|r| r.longest_gap).max().unwrap_or_default();
    if let (Some(least), Some(most)) = (counts.first(), counts.last()) {
        println!(
            "fairness: exchanges a client {least} to {most}, Jain's index {:.4}; longest time without one {:.2} s",
            sum * sum / (squares * counts.len() as f64),
            gap.as_secs_f64()
        );
    }
    let failures = || records.iter().flat_map(|r| &r.failures);
    let absent = failures().filter(|f| f.absent).count();
    println!("failures {}, of these pings of a neighbour who was away {absent}", failures().count());
    for failure in failures().filter(|f| !f.absent) {
        let (kind, begun) = (KINDS[failure.kind], failure.begun.as_secs_f64());
        println!("  client {}: {kind} begun after {begun:.2} s", failure.client);
    }
}
