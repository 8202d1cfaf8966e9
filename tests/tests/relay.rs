//! Guests at a relay, as a user has it, against a server on the loopback interface that the relay was told to allow.
//! Debian: DHCP, DNS, downloads, an upload and many connections at once, and IPv6 by router advertisements; `TAB86_RELAY_MIB` sets the size of the transfers.
//! iPXE, which has a driver of its own: DHCP, DNS and a script by HTTP, and the same over TLS. Debian behind `--net user`,
//! which needs no relay.

use libtest_mimic::{Arguments, Failed, Trial};
use md5::{Digest, Md5};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tab86_relay::config::{Options, Settings};
use tab86_relay::net::{Datagrams, Dialer, Resolver, Stream, SystemDialer};
use tab86_relay::server::Running;

const DEBIAN: [&str; 2] = ["debian-vmlinuz", "debian-initrd.gz"];
/// Connections at once, and bytes that each fetches.
const PARALLEL: usize = 50;
const SMALL: usize = 20_000;

const IPXE: [&str; 1] = ["ipxe.iso"];

fn main() -> ExitCode {
    let trial = |name: &str, files: &[&str], test: fn() -> Result<(), Failed>| {
        let missing = files.iter().find(|file| !tab86_tests::guests().join(file).is_file());
        if let Some(file) = missing {
            eprintln!("{name} is ignored: build/guests/{file} is missing: run `cargo xtask guests`");
        }
        Trial::test(name, test).with_ignored_flag(missing.is_some())
    };
    let trials = vec![
        trial("debian_at_the_relay", &DEBIAN, debian),
        trial("debian_makes_an_ipv6_address_and_fetches_over_it", &DEBIAN, debian_ipv6),
        trial("debian_behind_the_gateway_of_the_command_line", &DEBIAN, debian_without_relay),
        trial("ipxe_runs_a_script_from_the_relays_side", &IPXE, ipxe),
        trial("ipxe_over_an_encrypted_connection", &IPXE, ipxe_encrypted),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Connects to the loopback interface and nowhere else.
struct Loopback;

impl Dialer for Loopback {
    fn tcp(&self, to: std::net::SocketAddr) -> futures_util::future::BoxFuture<'_, std::io::Result<Box<dyn Stream>>> {
        assert!(to.ip().is_loopback(), "the test stays on this machine: {to}");
        // The loopback address of the family that this host has.
        SystemDialer.tcp(if to.is_ipv6() { (loopback6(), to.port()).into() } else { to })
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

/// The loopback interface's IPv6 address, or its IPv4 address on a host without IPv6.
fn loopback6() -> IpAddr {
    let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
    if TcpListener::bind((six, 0)).is_ok() { six } else { Ipv4Addr::LOCALHOST.into() }
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

/// A script for iPXE. Variables are put in by iPXE: the words to look for are not in the file.
const SCRIPT: &[u8] = b"#!ipxe\necho script ${net0/mac} has ${net0/ip}, next ${net0/gateway}\n";

/// `GET /big`, `GET /small` and `GET /script`.
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
    let body = match request.split(' ').nth(1) {
        Some("/big") => big,
        Some("/script") => SCRIPT,
        _ => &big[..SMALL],
    };
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)
}

/// A web server at an address of the loopback interface with `big`; its port.
fn web_server(at: impl Into<IpAddr>, big: &Arc<Vec<u8>>) -> std::io::Result<u16> {
    let web = TcpListener::bind((at.into(), 0))?;
    let port = web.local_addr()?.port();
    let served = Arc::clone(big);
    std::thread::spawn(move || {
        for stream in web.incoming().flatten() {
            let big = Arc::clone(&served);
            std::thread::spawn(move || serve_http(stream, &big));
        }
    });
    Ok(port)
}

/// Flags of a gateway that knows the names files.lan (IPv4) and six.lan (IPv6) and lets guests reach these ports of the
/// host.
fn gateway_flags(ports: &[u16]) -> Vec<String> {
    let names = ["--dns-host=files.lan=10.86.0.1", "--dns-host=six.lan=fd74:6162:3836::1"].map(String::from);
    let allow = ports.iter().flat_map(|port| ["127.0.0.1", "[::1]"].map(|host| format!("--allow={host}:{port}")));
    names.into_iter().chain(allow).collect()
}

/// A relay with such a gateway.
fn start_relay(runtime: &tokio::runtime::Runtime, ports: &[u16], more: &[String]) -> Result<Running, Failed> {
    let flags = ["tab86-relay", "--listen=127.0.0.1:0", "--rate-up=0", "--rate-down=0"].map(String::from);
    let all = flags.into_iter().chain(gateway_flags(ports)).chain(more.iter().cloned());
    let options = <Options as clap::Parser>::try_parse_from(all)?;
    let settings = Settings::load(options)?;
    Ok(runtime.block_on(tab86_relay::server::start(settings, Arc::new(Loopback), Arc::new(NoNames)))?)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// Autoboot gets an address and finds nothing to boot there; then the command line does what a script would.
fn run_ipxe(net: &str, web_port: u16, change: impl FnOnce(&mut Command)) -> Result<String, Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tab86-under-test"));
    command.args(["run", "--timeout", "300", "--mac", "02:00:00:00:86:03", "--boot", "d", "--cdrom"]);
    command.arg(tab86_tests::guests().join(IPXE[0])).args(["--net", net]);
    command.args(["--until-screen", "Ctrl-B", "--type", "<Ctrl-KeyB>", "--until-screen", "iPXE>"]);
    // In one line: what is typed while it works is lost.
    command.args(["--type", &format!("dhcp && chain http://files.lan:{web_port}/script\\n")]);
    // The end of what the script prints: seen half-way, the line is of no use.
    command.args(["--until-screen", "next 10.86.0.1"]);
    change(command.args(["--screen-text", "-"]));
    let out = command.output()?;
    let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("script 02:00:00:00:86:03 has 10.86."), "{said}");
    Ok(said)
}

fn ipxe() -> Result<(), Failed> {
    let web_port = web_server(Ipv4Addr::LOCALHOST, &Arc::new(content(SMALL)))?;
    let runtime = runtime()?;
    let relay = start_relay(&runtime, &[web_port], &[])?;
    let said = run_ipxe(&format!("relay=ws://{}/r/ipxe", relay.addresses[0]), web_port, |_| {})?;
    let metrics = &relay.shared.metrics;
    assert!(metrics.dhcp_leases_total.get() >= 1 && metrics.dns_queries_total.get() >= 1);
    println!("{said}");
    runtime.block_on(relay.stop());
    Ok(())
}

/// The same at a relay with a certificate, which the user names once and the system knows once.
fn ipxe_encrypted() -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("encrypted");
    std::fs::create_dir_all(&folder)?;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem())?;
    std::fs::write(&key, made.signing_key.serialize_pem())?;
    let web_port = web_server(Ipv4Addr::LOCALHOST, &Arc::new(content(SMALL)))?;
    let runtime = runtime()?;
    let tls = [format!("--tls-cert={}", cert.display()), format!("--tls-key={}", key.display())];
    let relay = start_relay(&runtime, &[web_port], &tls)?;
    let net = format!("relay=wss://localhost:{}/r/ipxe", relay.addresses[0].port());
    run_ipxe(&net, web_port, |command| {
        command.arg("--net-ca").arg(&cert);
    })?;
    // Where the system's certificates are: the name is OpenSSL's.
    run_ipxe(&net, web_port, |command| {
        command.env("SSL_CERT_FILE", &cert);
    })?;
    assert_eq!(relay.shared.metrics.clients_total.get(), 2);
    runtime.block_on(relay.stop());
    Ok(())
}

/// Boots Debian on this network and types lines, each after the answer to the one before; what is on the screen then.
fn run_debian(net: &str, flags: &[&str], script: &[(String, String)]) -> Result<String, Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tab86-under-test"));
    command
        .args(["run", "--timeout", "600", "--memory", "512", "--net", net, "--mac", "02:00:00:00:86:02"])
        .args(flags);
    for (flag, file) in ["--kernel", "--initrd"].into_iter().zip(DEBIAN) {
        command.arg(flag).arg(tab86_tests::guests().join(file));
    }
    command.args(["--append", "console=tty0 console=ttyS0 mitigations=off tsc=reliable cryptomgr.notests"]);
    command.args(["--until-serial", "READY"]);
    for (line, expected) in script {
        command.args(["--type", line, "--until-screen", expected]);
    }
    let out = command.args(["--screen-text", "-"]).output()?;
    let said = format!("{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{said}");
    Ok(said)
}

/// The kernel makes an address of the prefix in the router advertisement (SLAAC); nothing in the guest is set up for it.
fn debian_ipv6() -> Result<(), Failed> {
    let big = Arc::new(content(2 << 20));
    let web_port = web_server(loopback6(), &big)?;
    let runtime = runtime()?;
    let relay = start_relay(&runtime, &[web_port], &[])?;
    let (gateway, sum) = ("fd74:6162:3836::1", |data: &[u8]| hex(Md5::digest(data)));
    let small = &big[..SMALL];
    let line = |text: &str, expected: &str| (format!("{text}\\n"), expected.to_owned());
    let script = [
        line("until ip -6 addr show eth0 | grep 'scope global'; do sleep 1; done", "fd74:6162:3836::ff:fe00:8602/64"),
        line("clear; ip -6 route", "default via fe80::74:61ff:fe62:8601 dev eth0"),
        line(&format!("clear; ping -6 -c 2 {gateway}; echo ping$?"), "ping0"),
        line(&format!("clear; wget -q -O - http://[{gateway}]:{web_port}/big | md5sum"), &sum(&big)),
        // By name: once asked over IPv4, when DHCP has set that up, and once over IPv6.
        line("until [ -s /etc/resolv.conf ]; do sleep 1; done; clear; echo names$((6*7))", "names42"),
        line(&format!("clear; wget -q -O - http://six.lan:{web_port}/small | md5sum"), &sum(small)),
        // In one line: what is typed before the shell reads again may be lost.
        line(
            &format!(
                "echo nameserver {gateway} >/etc/resolv.conf; ip -4 addr flush dev eth0; clear; \
                 wget -q -O - http://six.lan:{web_port}/small | wc -c | sed s/^/bytes/"
            ),
            &format!("bytes{SMALL}"),
        ),
    ];
    let said = run_debian(&format!("relay=ws://{}/r/six", relay.addresses[0]), &[], &script)?;
    let metrics = &relay.shared.metrics;
    assert_eq!(
        (metrics.tcp_flows_total.get(), metrics.drop_spoofed_ip.get(), metrics.drop_spoofed_mac.get()),
        (3, 0, 0)
    );
    println!("{said}");
    runtime.block_on(relay.stop());
    Ok(())
}

/// `--net user`: the same gateway without a server, with real sockets of this host and its rules.
fn debian_without_relay() -> Result<(), Failed> {
    let big = Arc::new(content(2 << 20));
    let (port, port6) = (web_server(Ipv4Addr::LOCALHOST, &big)?, web_server(loopback6(), &big)?);
    let closed = web_server(Ipv4Addr::LOCALHOST, &big)?;
    let (sum, small) = (hex(Md5::digest(&*big)), hex(Md5::digest(&big[..SMALL])));
    let get = "clear; wget -q -O -";
    let line = |text: String, expected: &str| (format!("{text}\\n"), expected.to_owned());
    let mut script = vec![
        line("until [ -s /etc/resolv.conf ]; do sleep 1; done; clear; ip addr".into(), "inet 10.86."),
        line(format!("{get} http://files.lan:{port}/big | md5sum"), &sum),
        line(format!("{get} http://10.86.0.1:{closed}/small || echo refused$((6*7))"), "refused42"),
    ];
    if loopback6().is_ipv6() {
        script.push(line(format!("{get} http://six.lan:{port6}/small | md5sum"), &small));
    }
    let flags = gateway_flags(&[port, port6]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    println!("{}", run_debian("user", &flags, &script)?);
    Ok(())
}

fn debian() -> Result<(), Failed> {
    let mib: usize = std::env::var("TAB86_RELAY_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let big = Arc::new(content(mib << 20));
    let web_port = web_server(Ipv4Addr::LOCALHOST, &big)?;
    let sink = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sink_port = sink.local_addr()?.port();
    let (uploaded, upload) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = sink.accept().expect("an upload");
        let mut data = Vec::new();
        stream.read_to_end(&mut data).expect("all of it");
        let _ = uploaded.send(data);
    });

    let runtime = runtime()?;
    let relay = start_relay(&runtime, &[web_port, sink_port], &[])?;
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
    let said = run_debian(&format!("relay=ws://{address}/r/test"), &[], &script)?;
    let sent = upload.recv_timeout(Duration::from_secs(30))?;
    assert_eq!((sent.len(), hex(Md5::digest(&sent))), (big.len(), hex(Md5::digest(&*big))), "{said}");
    println!(
        "{mib} MiB twice down and once up, {PARALLEL} connections at once, boot: {:.0} s",
        began.elapsed().as_secs_f64()
    );
    runtime.block_on(relay.stop());
    Ok(())
}
