//! Guests with network cards, against a gateway in the test and against one another.
//! A test whose guest is missing says so and passes nothing: it is ignored, as those of `tests/guests` are.

use emulator_core::devices::block::MemoryBlock;
use emulator_core::machine::{DriveConfig, MachineConfig, NetworkKind};
use libtest_mimic::{Arguments, Failed, Trial};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use tab86_tests::net::{GATEWAY, Gateway, Guest, MTU, config};
use tungstenite::{Message, WebSocket};

const MACS: [[u8; 6]; 2] = [[0x52, 0x54, 0x00, 0x86, 0x00, 0x01], [0x52, 0x54, 0x00, 0x86, 0x00, 0x02]];
const ISA: NetworkKind = NetworkKind::Isa { base: 0x300, irq: 10 };
/// Milliseconds of the guest's time after which a test gives up.
const PATIENCE: usize = 120_000;

/// Name, guest files, test.
type Test = (&'static str, &'static [&'static str], fn() -> Result<(), Failed>);

const TESTS: [Test; 6] = [
    ("ipxe_gets_an_address", &["ipxe.iso"], || ipxe(NetworkKind::Pci)),
    ("ipxe_gets_an_address_over_the_isa_card", &["ipxe.iso"], || ipxe(ISA)),
    ("debian_brings_up_the_pci_card_by_dhcp", DEBIAN, || debian(NetworkKind::Pci)),
    ("debian_brings_up_the_isa_card_by_dhcp", DEBIAN, || debian(ISA)),
    ("two_machines_ping_and_copy_a_file", DEBIAN, two_machines),
    ("the_command_line_reaches_a_relay", DEBIAN, command_line),
];
const DEBIAN: &[&str] = &["debian-vmlinuz", "debian-initrd.gz"];

fn main() -> ExitCode {
    let trials = TESTS.map(|(name, files, test)| {
        let missing = files.iter().find(|file| !tab86_tests::guests().join(file).is_file());
        if let Some(file) = missing {
            eprintln!("{name} is ignored: build/guests/{file} is missing: run `cargo xtask guests`");
        }
        Trial::test(name, test).with_ignored_flag(missing.is_some())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn file(name: &str) -> Vec<u8> {
    fs::read(tab86_tests::guests().join(name)).expect("a guest image")
}

fn linux(mac: [u8; 6], kind: NetworkKind) -> MachineConfig {
    MachineConfig {
        kernel: Some(file("debian-vmlinuz")),
        initrd: Some(file("debian-initrd.gz")),
        cmdline: "console=tty0 console=ttyS0 mitigations=off tsc=reliable cryptomgr.notests".into(),
        ..config(mac, kind)
    }
}

/// Runs a guest at the gateway until `done`.
fn until(guest: &mut Guest, gateway: &mut Gateway, done: impl Fn(&Guest, &Gateway) -> bool) -> Result<(), Failed> {
    for _ in 0..PATIENCE {
        guest.step();
        for frame in guest.frames() {
            if let Some(answer) = gateway.answer(&frame) {
                assert!(guest.machine.network_send(&answer));
            }
        }
        if done(guest, gateway) {
            return Ok(());
        }
    }
    let screen = guest.machine.screen_text().unwrap_or_default();
    Err(format!("it takes too long\n{}\nscreen:\n{screen}", guest.said).into())
}

/// iPXE has drivers of its own for both cards: other register sequences than Linux's, without interrupts.
fn ipxe(kind: NetworkKind) -> Result<(), Failed> {
    let mut boot = config(MACS[0], kind);
    boot.drives[2] = Some(DriveConfig::Cdrom(Some(Box::new(MemoryBlock::new(file("ipxe.iso"))))));
    boot.boot_order = "d".into();
    let (mut guest, mut gateway) = (Guest::new(boot), Gateway::default());
    until(&mut guest, &mut gateway, |_, gateway| !gateway.discovers.is_empty())?;
    assert_eq!(gateway.discovers[0], MACS[0]);
    until(&mut guest, &mut gateway, |guest, _| {
        let screen = guest.machine.screen_text().unwrap_or_default();
        screen.contains("net0: 10.0.2.15/255.255.255.0") && screen.contains("52:54:00:86:00:01")
    })
}

fn debian(kind: NetworkKind) -> Result<(), Failed> {
    let (mut guest, mut gateway) = (Guest::new(linux(MACS[0], kind)), Gateway::default());
    until(&mut guest, &mut gateway, |guest, gateway| guest.said.contains("READY") && gateway.leases == [MACS[0]])?;
    // Some time for the last answer to arrive and be taken over.
    guest.enter("sleep 2; ip addr show eth0; cat /etc/resolv.conf /sys/class/net/eth0/mtu; echo first-done$?");
    until(&mut guest, &mut gateway, |guest, _| guest.said.contains("first-done0"))?;
    for wanted in ["52:54:00:86:00:01", "inet 10.0.2.15/24", &format!("nameserver {GATEWAY}"), &format!("\n{MTU}")] {
        assert!(guest.said.contains(wanted), "no {wanted:?} in\n{}", guest.said);
    }
    guest.enter(&format!("ping -c 3 -s 1200 {GATEWAY}; echo ping-done$?"));
    until(&mut guest, &mut gateway, |guest, _| guest.said.contains("ping-done0"))?;
    assert!(guest.said.contains("3 packets received"), "{}", guest.said);
    assert_eq!(gateway.echoes, 3);
    flood(&mut guest, &mut gateway)
}

/// A host that does not look whether there is room: the ring overflows, and the driver's recovery brings it back.
fn flood(guest: &mut Guest, gateway: &mut Gateway) -> Result<(), Failed> {
    let noise = [&[0xff; 6][..], &[2; 6], &[0x88, 0xb5], &[0; 1486]].concat();
    let mut lost = 0;
    for _ in 0..20 {
        lost += (0..400).filter(|_| !guest.machine.network_send(&noise)).count();
        guest.step();
    }
    assert!(lost > 100, "{lost} frames were lost");
    guest.enter(&format!("until ping -c 2 -W 1 {GATEWAY}; do sleep 1; done; echo flood-done$?"));
    guest.enter("cd /sys/class/net/eth0/statistics; echo over=$(cat rx_over_errors) missed=$(cat rx_missed_errors); echo figures-done$?");
    until(guest, gateway, |guest, _| guest.said.contains("figures-done0"))?;
    let figure = |name: &str| -> Option<u64> {
        let text = guest.said.rsplit(name).next()?;
        text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    assert!(figure("over=") > Some(0), "the driver saw the overflow\n{}", guest.said);
    assert!(figure("missed=") > Some(0), "and the counter\n{}", guest.said);
    Ok(())
}

/// Lets time pass for two machines whose cables are joined.
fn step(guests: &mut [Guest; 2]) {
    for n in [0, 1] {
        guests[n].step();
        // What there is no room for stays with the sender: its transmitter waits.
        while guests[1 - n].machine.network_room() > 0 {
            let Some(frame) = guests[n].machine.network_take() else { break };
            assert!(guests[1 - n].machine.network_send(&frame));
        }
    }
}

fn two_machines() -> Result<(), Failed> {
    let mut guests = [Guest::new(linux(MACS[0], NetworkKind::Pci)), Guest::new(linux(MACS[1], ISA))];
    let all = |guests: &mut [Guest; 2], text: &str| {
        let mut done = || {
            step(guests);
            guests.iter().all(|g| g.said.contains(text))
        };
        let enough = (0..PATIENCE).any(|_| done());
        if enough { Ok(()) } else { Err(Failed::from(format!("no {text:?}\n{}\n{}", guests[0].said, guests[1].said))) }
    };
    all(&mut guests, "READY")?;
    for (n, guest) in guests.iter_mut().enumerate() {
        // Nobody answers DHCP here.
        guest.enter("until killall -q -9 udhcpc; do sleep 1; done");
        guest.enter(&format!("ip addr add 10.1.0.{}/24 dev eth0; echo address-done$?", n + 1));
    }
    all(&mut guests, "address-done0")?;
    // What came before the interfaces were up is lost, and rightly so.
    let lost = |guest: &Guest| guest.machine.network_counters().unwrap_or_default().to_guest.dropped;
    let before = [lost(&guests[0]), lost(&guests[1])];
    guests[0].enter("ping -c 3 10.1.0.2; echo ping-done$?");
    guests[1].enter("ping -c 3 10.1.0.1; echo ping-done$?");
    all(&mut guests, "ping-done0")?;
    // Neighbours find one another by multicast in IPv6: the hash filter, as the driver sets it.
    guests[0].enter("ping -6 -c 3 fe80::5054:ff:fe86:2%eth0; echo multicast-done$?");
    guests[1].enter("ping -6 -c 3 fe80::5054:ff:fe86:1%eth0; echo multicast-done$?");
    all(&mut guests, "multicast-done0")?;
    // Both directions at once.
    for (n, guest) in guests.iter_mut().enumerate() {
        guest.enter(&format!("dd if=/dev/urandom of=/tmp/out bs=64k count=64 2>/dev/null; echo sum{n}=$(md5sum </tmp/out); (nc -l -p 7000 >/tmp/in) & sleep 1; echo copy-done$?"));
    }
    all(&mut guests, "copy-done0")?;
    for (n, guest) in guests.iter_mut().enumerate() {
        guest.enter(&format!(
            "nc 10.1.0.{} 7000 </tmp/out; wait; echo got{n}=$(md5sum </tmp/in); echo all-done$?",
            2 - n
        ));
    }
    all(&mut guests, "all-done0")?;
    let sum = |guest: &Guest, name: &str| {
        let at = guest.said.rfind(&format!("\n{name}="))? + name.len() + 2;
        guest.said.get(at..at + 32).map(str::to_owned)
    };
    for n in [0, 1] {
        let sent = sum(&guests[n], &format!("sum{n}"));
        assert!(sent.is_some(), "{}", guests[n].said);
        assert_eq!(sent, sum(&guests[1 - n], &format!("got{}", 1 - n)), "{}", guests[1 - n].said);
        let counters = guests[n].machine.network_counters().unwrap_or_default();
        assert!(counters.from_guest.bytes > 4 << 20 && counters.to_guest.bytes > 4 << 20, "{counters:?}");
        assert_eq!((counters.from_guest.dropped, counters.to_guest.dropped), (0, before[n]), "{counters:?}");
    }
    Ok(())
}

/// A relay with the gateway behind it: one binary message is one frame.
fn serve(mut socket: WebSocket<TcpStream>) -> Gateway {
    let mut gateway = Gateway::default();
    while let Ok(message) = socket.read() {
        if let Message::Binary(frame) = message
            && let Some(answer) = gateway.answer(&frame)
            && socket.send(Message::binary(answer)).is_err()
        {
            break;
        }
    }
    gateway
}

fn command_line() -> Result<(), Failed> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("relay");
    fs::create_dir_all(&scratch)?;
    let (capture, stats) = (scratch.join("frames.pcap"), scratch.join("stats.json"));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let relay = format!("relay=ws://{}/r/test", listener.local_addr()?);
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        serve(tungstenite::accept(stream).expect("a WebSocket"))
    });
    let ping = format!("until ping -c 2 -W 1 {GATEWAY}; do sleep 1; done; echo ping=$?\\n");
    let out = Command::new(env!("CARGO_BIN_EXE_tab86-under-test"))
        .arg("run")
        .args(["--net", &relay, "--mac", "02:00:00:00:86:01", "--timeout", "240"])
        .arg("--pcap")
        .arg(&capture)
        .arg("--stats")
        .arg(&stats)
        .arg("--kernel")
        .arg(tab86_tests::guests().join("debian-vmlinuz"))
        .arg("--initrd")
        .arg(tab86_tests::guests().join("debian-initrd.gz"))
        .args(["--append", "console=tty0 console=ttyS0 mitigations=off tsc=reliable cryptomgr.notests"])
        .args(["--until-serial", "READY", "--type", &ping, "--until-screen", "ping=0"])
        .output()?;
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(said.contains("the relay is connected"), "{said}");
    let gateway = server.join().expect("the relay");
    assert_eq!(gateway.leases, [[2, 0, 0, 0, 0x86, 1]]);
    assert!(gateway.echoes >= 2);
    let stats: serde_json::Value = serde_json::from_slice(&fs::read(stats)?)?;
    let frames = |way: &str| stats["network"][way]["frames"].as_u64().unwrap_or_default();
    assert!(frames("sent") >= 4 && frames("received") >= 4, "{stats}");
    // Every frame is in the capture, and nothing else.
    let capture = fs::read(capture)?;
    let (mut at, mut count) = (24, 0);
    while let Some(length) = capture.get(at + 8..at + 12) {
        at += 16 + u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        count += 1;
    }
    assert_eq!(at, capture.len());
    assert!(count >= frames("sent") + frames("received"), "{count}");
    Ok(())
}
