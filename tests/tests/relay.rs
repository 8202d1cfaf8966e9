//! The Debian guest at a relay, as a user has it: DHCP, DNS, downloads, an upload and many connections at once, against a
//! server on the loopback interface that the relay was told to allow. `TAB86_RELAY_MIB` sets the size of the transfers.

use libtest_mimic::{Arguments, Failed, Trial};
use md5::{Digest, Md5};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, ExitCode};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tab86_relay::config::{Options, Settings};
use tab86_relay::net::{Datagrams, Dialer, Resolver, Stream, SystemDialer};

const DEBIAN: [&str; 2] = ["debian-vmlinuz", "debian-initrd.gz"];
/// Connections at once, and bytes that each fetches.
const PARALLEL: usize = 50;
const SMALL: usize = 20_000;

fn main() -> ExitCode {
    let missing = DEBIAN.iter().find(|file| !tab86_tests::guests().join(file).is_file());
    if let Some(file) = missing {
        eprintln!("debian_at_the_relay is ignored: build/guests/{file} is missing: run `cargo xtask guests`");
    }
    let trial = Trial::test("debian_at_the_relay", debian).with_ignored_flag(missing.is_some());
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// Connects to the loopback interface and nowhere else.
struct Loopback;

impl Dialer for Loopback {
    fn tcp(&self, to: std::net::SocketAddr) -> futures_util::future::BoxFuture<'_, std::io::Result<Box<dyn Stream>>> {
        assert!(to.ip().is_loopback(), "the test stays on this machine: {to}");
        SystemDialer.tcp(to)
    }

    fn udp(
        &self,
        to: std::net::SocketAddr,
    ) -> futures_util::future::BoxFuture<'_, std::io::Result<Box<dyn Datagrams>>> {
        assert!(to.ip().is_loopback(), "the test stays on this machine: {to}");
        SystemDialer.udp(to)
    }

    fn is_own(&self, _: std::net::IpAddr) -> bool {
        false
    }
}

/// Knows no names: those of the test are the relay's own.
struct NoNames;

impl Resolver for NoNames {
    fn lookup<'a>(&'a self, _: &'a str) -> futures_util::future::BoxFuture<'a, std::io::Result<Vec<std::net::IpAddr>>> {
        Box::pin(async { Err(std::io::ErrorKind::NotFound.into()) })
    }

    fn forward<'a>(&'a self, _: &'a [u8]) -> futures_util::future::BoxFuture<'a, std::io::Result<Vec<u8>>> {
        Box::pin(async { Err(std::io::ErrorKind::NotFound.into()) })
    }
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that do not repeat.
fn content(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// `GET /big` and `GET /small`.
fn serve_http(mut stream: TcpStream, big: &[u8]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
    }
    let body = if request.contains("/big") { big } else { &big[..SMALL] };
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)
}

fn debian() -> Result<(), Failed> {
    let mib: usize = std::env::var("TAB86_RELAY_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let big = Arc::new(content(mib << 20));
    let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sink = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (web_port, sink_port) = (web.local_addr()?.port(), sink.local_addr()?.port());
    let served = Arc::clone(&big);
    std::thread::spawn(move || {
        for stream in web.incoming().flatten() {
            let big = Arc::clone(&served);
            std::thread::spawn(move || serve_http(stream, &big));
        }
    });
    let (uploaded, upload) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = sink.accept().expect("an upload");
        let mut data = Vec::new();
        stream.read_to_end(&mut data).expect("all of it");
        let _ = uploaded.send(data);
    });

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let allow = [format!("127.0.0.1:{web_port}"), format!("127.0.0.1:{sink_port}")];
    let flags = ["tab86-relay", "--listen", "127.0.0.1:0", "--allow", &allow[0], "--allow", &allow[1]];
    let more = ["--dns-host", "files.lan=10.86.0.1", "--rate-up", "0", "--rate-down", "0"];
    let options = <Options as clap::Parser>::try_parse_from(flags.into_iter().chain(more))?;
    let settings = Settings::load(options)?;
    let relay = runtime.block_on(tab86_relay::server::start(settings, Arc::new(Loopback), Arc::new(NoNames)))?;
    let address = relay.addresses[0];

    let url = format!("http://files.lan:{web_port}");
    let got = "wget -q -O - ";
    // The words to wait for are put together by the guest's shell, so the typed line does not have them.
    let script = [
        (format!("until {got}{url}/small >/dev/null; do sleep 1; done; echo online$((6*7))\\n"), "online42".to_owned()),
        (format!("{got}{url}/big | md5sum\\n"), hex(Md5::digest(&*big))),
        (
            format!(
                "for i in $(seq {PARALLEL}); do {got}{url}/small > /tmp/$i & done; wait; cat /tmp/[0-9]* | wc -c; cat /tmp/[0-9]* | md5sum\\n"
            ),
            hex(Md5::digest(big[..SMALL].repeat(PARALLEL))),
        ),
        (
            format!("{got}{url}/big > /tmp/big; nc 10.86.0.1 {sink_port} < /tmp/big; echo sent$((6*7))\\n"),
            "sent42".to_owned(),
        ),
    ];
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tab86-under-test"));
    command.args(["run", "--timeout", "600", "--memory", "512"]);
    command.args(["--net", &format!("relay=ws://{address}/r/test"), "--mac", "02:00:00:00:86:02"]);
    for (flag, file) in ["--kernel", "--initrd"].into_iter().zip(DEBIAN) {
        command.arg(flag).arg(tab86_tests::guests().join(file));
    }
    command.args(["--append", "console=tty0 console=ttyS0 mitigations=off tsc=reliable cryptomgr.notests"]);
    command.args(["--until-serial", "READY"]);
    for (line, expected) in &script {
        command.args(["--type", line, "--until-screen", expected]);
    }
    let out = command.args(["--screen-text", "-"]).output()?;
    let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{said}");
    let sent = upload.recv_timeout(Duration::from_secs(30))?;
    assert_eq!((sent.len(), hex(Md5::digest(&sent))), (big.len(), hex(Md5::digest(&*big))), "{said}");
    println!(
        "{mib} MiB twice down and once up, {PARALLEL} connections at once, boot: {:.0} s",
        began.elapsed().as_secs_f64()
    );
    runtime.block_on(relay.stop());
    Ok(())
}
