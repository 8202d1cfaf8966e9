//! The command line of `tab86 run`: the machine, and the script that its flags make in their order.

use crate::keys::{self, Stroke};
use crate::net::relay::{RelayUrl, UrlError};
use emulator_core::cpu::state::CpuModel;
use emulator_core::machine::{ClockMode, NetworkKind};
use lexopt::prelude::*;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tab86_relay::config::Settings;
use thiserror::Error;

/// What `--help` prints.
pub const HELP: &str = include_str!("help.txt");

/// RAM unless `--memory` says otherwise.
const DEFAULT_MIB: u64 = 256;
/// Time that SeaBIOS waits for Esc with `--boot …,menu`.
const MENU_WAIT_MS: u16 = 3000;

/// Why a command line makes no sense.
#[derive(Debug, Error)]
pub enum ArgError {
    /// Unknown flag, missing value, value that does not parse.
    #[error("{0}; see `tab86 run --help`")]
    Usage(#[from] lexopt::Error),
    /// A value that is none of the possible ones.
    #[error("{flag} takes {wanted}, not `{found}`")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What it takes.
        wanted: &'static str,
        /// What it was given.
        found: String,
    },
    /// A key that does not exist.
    #[error("--type: {0}")]
    Key(#[from] keys::KeyError),
    /// A relay that cannot be.
    #[error("--net relay: {0}")]
    Relay(#[from] UrlError),
    /// A rule or a name for the gateway that cannot be.
    #[error("{flag}: {why}")]
    Gateway {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Two flags that exclude one another.
    #[error("{0}")]
    Conflict(&'static str),
    /// A flag of the contract whose feature does not exist yet.
    #[error("{0} is not possible yet: {1}")]
    Missing(&'static str, &'static str),
}

/// An image file and how to attach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageArg {
    /// The file.
    pub path: PathBuf,
    /// Keep writes in memory and leave the file alone.
    pub snapshot: bool,
}

/// Where the first serial port goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SerialArg {
    /// Nowhere (`--until-serial` still sees it).
    #[default]
    None,
    /// To standard output, from standard input.
    Stdio,
    /// Into a file.
    File(PathBuf),
}

/// What the network card is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NetArg {
    /// There is no card.
    #[default]
    None,
    /// A gateway in this process.
    User,
    /// A relay.
    Relay(RelayUrl),
}

/// A file or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// `-`.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// One step of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Press keys.
    Type(Vec<Stroke>),
    /// Wait until the guest has sent this over COM1.
    UntilSerial(String),
    /// Wait until the text screen shows this.
    UntilScreen(String),
    /// Save the picture.
    Screenshot(PathBuf),
    /// Save the text screen.
    ScreenText(Sink),
    /// Save the whole state.
    SaveState(PathBuf),
}

impl Step {
    /// Whether the step waits for the guest.
    pub fn is_condition(&self) -> bool {
        matches!(self, Self::UntilSerial(_) | Self::UntilScreen(_))
    }

    /// Whether the step only looks at the machine.
    pub fn is_output(&self) -> bool {
        matches!(self, Self::Screenshot(_) | Self::ScreenText(_) | Self::SaveState(_))
    }
}

/// Everything that `tab86 run` was asked to do.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the fields are the flags")]
pub struct Options {
    pub bios: Option<PathBuf>,
    pub vga_bios: Option<PathBuf>,
    pub kernel: Option<PathBuf>,
    pub initrd: Option<PathBuf>,
    pub append: String,
    pub multiboot: Option<PathBuf>,
    pub floppies: [Option<ImageArg>; 2],
    /// Disks and discs by place on the IDE bus: hda, hdb, cdrom.
    pub disks: [Option<ImageArg>; 2],
    pub cdrom: Option<ImageArg>,
    pub boot_order: String,
    pub boot_menu: Option<u16>,
    pub memory: u64,
    pub cpu: Option<CpuModel>,
    pub cpus: usize,
    pub serial: SerialArg,
    pub clock: ClockMode,
    pub net: NetArg,
    /// Certificates to trust instead of the system's.
    pub net_ca: Option<PathBuf>,
    /// What the gateway of `--net user` lets through, and the names that it knows.
    pub gateway: Settings,
    pub nic: NetworkKind,
    pub mac: Option<[u8; 6]>,
    pub pcap: Option<PathBuf>,
    pub timeout: Option<Duration>,
    pub max_instructions: Option<u64>,
    pub debug_exit: Option<u16>,
    pub firmware_log: Option<Sink>,
    pub stats: Option<PathBuf>,
    /// The snapshot to start from.
    pub load_state: Option<PathBuf>,
    /// `None`: in a terminal when there is one and nothing is scripted.
    pub terminal: Option<bool>,
    pub script: Vec<Step>,
    /// Screenshots and texts to take when the run ends, however it does.
    pub at_end: Vec<Step>,
}

impl Options {
    /// Whether to show the screen in the terminal, given whether standard input and output are one.
    pub fn interactive(&self, tty: bool) -> bool {
        let scripted = !self.script.is_empty() || self.timeout.is_some() || self.max_instructions.is_some();
        let stdout_taken = self.serial == SerialArg::Stdio || self.firmware_log == Some(Sink::Stdout);
        self.terminal.unwrap_or(tty && !scripted && !stdout_taken)
    }

    /// Every file that the run will write.
    pub fn outputs(&self) -> impl Iterator<Item = &PathBuf> {
        fn file(step: &Step) -> Option<&PathBuf> {
            match step {
                Step::Screenshot(path) | Step::ScreenText(Sink::File(path)) | Step::SaveState(path) => Some(path),
                _ => None,
            }
        }
        let steps = self.script.iter().chain(&self.at_end).filter_map(file);
        steps.chain(&self.stats).chain(&self.pcap)
    }
}

/// Reads the flags behind `tab86 run`.
///
/// # Errors
/// The first thing that is wrong with them.
pub fn parse(args: &[String]) -> Result<Options, ArgError> {
    let mut o = Options { memory: DEFAULT_MIB << 20, cpus: 1, ..Options::default() };
    let mut steps = Vec::new();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        let Long(name) = arg else { return Err(arg.unexpected().into()) };
        match name {
            "bios" => o.bios = Some(parser.value()?.into()),
            "vga-bios" => o.vga_bios = Some(parser.value()?.into()),
            "kernel" => o.kernel = Some(parser.value()?.into()),
            "initrd" => o.initrd = Some(parser.value()?.into()),
            "append" => o.append = parser.value()?.string()?,
            "multiboot" => o.multiboot = Some(parser.value()?.into()),
            "fda" => o.floppies[0] = Some(image(parser.value()?.string()?)),
            "fdb" => o.floppies[1] = Some(image(parser.value()?.string()?)),
            "hda" => o.disks[0] = Some(image(parser.value()?.string()?)),
            "hdb" => o.disks[1] = Some(image(parser.value()?.string()?)),
            "cdrom" => o.cdrom = Some(image(parser.value()?.string()?)),
            "boot" => boot(&mut o, &parser.value()?.string()?),
            "memory" => o.memory = mebibytes(&parser.value()?.string()?)?,
            "cpu" => o.cpu = Some(cpu_model(parser.value()?.string()?)?),
            "cpus" => o.cpus = parser.value()?.parse()?,
            "net" => o.net = net(parser.value()?.string()?)?,
            "net-ca" => o.net_ca = Some(parser.value()?.into()),
            "allow" => o.gateway.allow.push(gateway("--allow", parser.value()?.string()?)?),
            "deny" => o.gateway.deny.push(gateway("--deny", parser.value()?.string()?)?),
            "dns-host" => o.gateway.dns_hosts.push(gateway("--dns-host", parser.value()?.string()?)?),
            "nic" => o.nic = nic(parser.value()?.string()?)?,
            "mac" => o.mac = Some(mac(parser.value()?.string()?)?),
            "pcap" => o.pcap = Some(parser.value()?.into()),
            "serial" => o.serial = serial(parser.value()?.string()?)?,
            "clock" => o.clock = clock(parser.value()?.string()?)?,
            "timeout" => o.timeout = Some(seconds(parser.value()?.string()?)?),
            "max-instructions" => o.max_instructions = Some(count(&parser.value()?.string()?)?),
            "debug-exit" => o.debug_exit = Some(port(parser.value()?.string()?)?),
            "firmware-log" => o.firmware_log = Some(sink(parser.value()?.string()?)),
            "stats" => o.stats = Some(parser.value()?.into()),
            "display" => o.terminal = Some(display(parser.value()?.string()?)?),
            "type" => steps.push(Step::Type(keys::parse(&parser.value()?.string()?)?)),
            "until-serial" => steps.push(Step::UntilSerial(parser.value()?.string()?)),
            "until-screen" => steps.push(Step::UntilScreen(parser.value()?.string()?)),
            "screenshot" => steps.push(Step::Screenshot(parser.value()?.into())),
            "screen-text" => steps.push(Step::ScreenText(sink(parser.value()?.string()?))),
            "save-state" => steps.push(Step::SaveState(parser.value()?.into())),
            "load-state" => o.load_state = Some(parser.value()?.into()),
            other => return Err(lexopt::Error::UnexpectedOption(format!("--{other}")).into()),
        }
    }
    (o.script, o.at_end) = arrange(steps);
    let stdout_taken = o.serial == SerialArg::Stdio || o.firmware_log == Some(Sink::Stdout);
    check_network(&o)?;
    if o.terminal == Some(true) && stdout_taken {
        return Err(ArgError::Conflict("--display terminal leaves no room for --serial stdio or --firmware-log -"));
    }
    Ok(o)
}

/// Decides which outputs belong between the steps and which at the end: those before the first step and those
/// behind a `--type` that nothing waits for.
fn arrange(steps: Vec<Step>) -> (Vec<Step>, Vec<Step>) {
    let first = steps.iter().position(|s| !s.is_output()).unwrap_or(steps.len());
    let last = steps.iter().rposition(|s| !s.is_output()).unwrap_or(0);
    let open_end = !steps.get(last).is_some_and(Step::is_condition);
    let (mut script, mut at_end) = (Vec::new(), Vec::new());
    for (n, step) in steps.into_iter().enumerate() {
        if step.is_output() && (n < first || (n > last && open_end)) { at_end.push(step) } else { script.push(step) }
    }
    (script, at_end)
}

fn image(text: String) -> ImageArg {
    match text.strip_suffix(",snapshot") {
        Some(path) => ImageArg { path: path.into(), snapshot: true },
        None => ImageArg { path: text.into(), snapshot: false },
    }
}

fn boot(o: &mut Options, order: &str) {
    let mut letters: Vec<&str> = order.split(',').collect();
    let before = letters.len();
    letters.retain(|&part| part != "menu");
    o.boot_menu = (letters.len() < before).then_some(MENU_WAIT_MS);
    // A letter that is none is reported with the rest of the configuration.
    o.boot_order = letters.concat();
}

fn bad<T>(flag: &'static str, wanted: &'static str, found: String) -> Result<T, ArgError> {
    Err(ArgError::Value { flag, wanted, found })
}

fn mebibytes(text: &str) -> Result<u64, ArgError> {
    match text.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << 20)) {
        Some(bytes) => Ok(bytes),
        None => bad("--memory", "a number of MiB", text.to_owned()),
    }
}

fn cpu_model(text: String) -> Result<CpuModel, ArgError> {
    match text.as_str() {
        "486" => Ok(CpuModel::I486),
        "pentium" => Ok(CpuModel::Pentium),
        "p3" => Ok(CpuModel::PentiumIII),
        "p4" => Ok(CpuModel::Pentium4),
        "nehalem" => Ok(CpuModel::Nehalem),
        "x86-64" => Err(ArgError::Missing("--cpu x86-64", "this version has no long mode")),
        _ => bad("--cpu", "486, pentium, p3, p4 or nehalem", text),
    }
}

fn net(text: String) -> Result<NetArg, ArgError> {
    match text.as_str() {
        "none" => Ok(NetArg::None),
        "user" => Ok(NetArg::User),
        other => match other.strip_prefix("relay=") {
            Some(url) => Ok(NetArg::Relay(RelayUrl::parse(url)?)),
            None => bad("--net", "none, user or relay=URL", text),
        },
    }
}

/// Something that the relay has its own words for.
fn gateway<T: FromStr<Err: ToString>>(flag: &'static str, text: String) -> Result<T, ArgError> {
    text.parse().map_err(|e: T::Err| ArgError::Gateway { flag, why: e.to_string() })
}

/// Flags that want another one.
fn check_network(o: &Options) -> Result<(), ArgError> {
    let g = &o.gateway;
    let conflict = |why| Err(ArgError::Conflict(why));
    if o.net == NetArg::None && (o.mac.is_some() || o.pcap.is_some() || o.nic != NetworkKind::Pci) {
        return conflict("--nic, --mac and --pcap want a network: add --net user or --net relay=URL");
    }
    if o.net != NetArg::User && !(g.allow.is_empty() && g.deny.is_empty() && g.dns_hosts.is_empty()) {
        return conflict("--allow, --deny and --dns-host are for the gateway of --net user: a relay has its own flags");
    }
    if o.net_ca.is_some() && !matches!(&o.net, NetArg::Relay(url) if url.is_encrypted()) {
        return conflict("--net-ca is for encrypted connections: add --net relay=wss://…");
    }
    if o.net != NetArg::None && o.clock == ClockMode::Deterministic {
        return conflict("--net needs --clock realtime: the other clock skips the time that answers take");
    }
    Ok(())
}

/// I/O base and interrupt of an ISA card that was told neither.
const ISA_CARD: NetworkKind = NetworkKind::Isa { base: 0x300, irq: 10 };

fn nic(text: String) -> Result<NetworkKind, ArgError> {
    let isa = |places: &str| {
        let (base, irq) = places.split_once(',')?;
        let base = u16::from_str_radix(base.strip_prefix("0x")?, 16).ok()?;
        Some(NetworkKind::Isa { base, irq: irq.parse().ok()? })
    };
    let kind = match text.as_str() {
        "pci" => Some(NetworkKind::Pci),
        "isa" => Some(ISA_CARD),
        other => other.strip_prefix("isa=").and_then(isa),
    };
    kind.map_or_else(|| bad("--nic", "pci, isa or isa=BASE,IRQ such as isa=0x300,10", text), Ok)
}

fn mac(text: String) -> Result<[u8; 6], ArgError> {
    let mut mac = [0; 6];
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let read = |part: &&str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten();
    match parts.iter().map(read).collect::<Option<Vec<u8>>>() {
        Some(bytes) if bytes.len() == 6 => mac.copy_from_slice(&bytes),
        _ => return bad("--mac", "six bytes such as 02:00:00:12:34:56", text),
    }
    Ok(mac)
}

fn serial(text: String) -> Result<SerialArg, ArgError> {
    match text.as_str() {
        "none" => Ok(SerialArg::None),
        "stdio" => Ok(SerialArg::Stdio),
        other => match other.strip_prefix("file=").filter(|f| !f.is_empty()) {
            Some(file) => Ok(SerialArg::File(file.into())),
            None => bad("--serial", "stdio, none or file=F", text),
        },
    }
}

fn clock(text: String) -> Result<ClockMode, ArgError> {
    match text.as_str() {
        "realtime" => Ok(ClockMode::Realtime),
        "deterministic" => Ok(ClockMode::Deterministic),
        _ => bad("--clock", "realtime or deterministic", text),
    }
}

fn display(text: String) -> Result<bool, ArgError> {
    match text.as_str() {
        "terminal" => Ok(true),
        "none" => Ok(false),
        _ => bad("--display", "terminal or none", text),
    }
}

fn seconds(text: String) -> Result<Duration, ArgError> {
    match text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) {
        Some(time) => Ok(time),
        None => bad("--timeout", "a number of seconds", text),
    }
}

fn count(text: &str) -> Result<u64, ArgError> {
    match text.replace('_', "").parse() {
        Ok(n) => Ok(n),
        Err(_) => bad("--max-instructions", "a number", text.to_owned()),
    }
}

fn port(text: String) -> Result<u16, ArgError> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u16::from_str_radix(hex, 16),
        None => text.parse(),
    };
    match number {
        Ok(port) => Ok(port),
        Err(_) => bad("--debug-exit", "a port number such as 0xf4", text),
    }
}

fn sink(text: String) -> Sink {
    if text == "-" { Sink::Stdout } else { Sink::File(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, ArgError> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args)
    }

    #[test]
    fn the_flags_make_a_script_in_their_order() {
        let o = parsed("--screen-text - --until-screen A --type b --until-serial C --screenshot d.png --type e --until-screen F --screenshot g.png").unwrap();
        let shot = |name: &str| Step::Screenshot(name.into());
        assert_eq!(o.script.len(), 7);
        assert_eq!(o.script[0], Step::UntilScreen("A".into()));
        assert_eq!(o.script[3], shot("d.png"));
        assert_eq!(o.script[6], shot("g.png"));
        assert_eq!(o.at_end, [Step::ScreenText(Sink::Stdout)]);
    }

    #[test]
    fn outputs_behind_an_open_end_wait_for_the_end() {
        let o = parsed("--until-screen A --type b --screenshot c.png").unwrap();
        assert_eq!(o.script.len(), 2);
        assert_eq!(o.at_end, [Step::Screenshot("c.png".into())]);
        assert_eq!(parsed("--screenshot c.png").unwrap().at_end.len(), 1);
        let o = parsed("--load-state a --max-instructions 5 --save-state b").unwrap();
        assert_eq!((o.load_state, o.at_end), (Some("a".into()), vec![Step::SaveState("b".into())]));
    }

    #[test]
    fn images_boot_order_and_numbers() {
        let o = parsed("--hda a.img,snapshot --fda b,img --boot cd,menu --memory 64 --debug-exit 0xf4 --max-instructions 2_000 --timeout 1.5").unwrap();
        assert_eq!(o.disks[0], Some(ImageArg { path: "a.img".into(), snapshot: true }));
        assert_eq!(o.floppies[0], Some(ImageArg { path: "b,img".into(), snapshot: false }));
        assert_eq!((o.boot_order.as_str(), o.boot_menu), ("cd", Some(MENU_WAIT_MS)));
        assert_eq!((o.memory, o.debug_exit, o.max_instructions), (64 << 20, Some(0xf4), Some(2000)));
        assert_eq!(o.timeout, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn the_network_card_is_described() {
        let o = parsed("--net relay=ws://127.0.0.1:8086/r/lab --nic isa=0x280,5 --mac 02:00:00:12:34:5F --pcap a.pcap");
        let o = o.unwrap();
        assert_eq!(o.net, NetArg::Relay(RelayUrl::parse("ws://127.0.0.1:8086/r/lab").unwrap()));
        assert_eq!(o.nic, NetworkKind::Isa { base: 0x280, irq: 5 });
        assert_eq!(o.mac, Some([2, 0, 0, 0x12, 0x34, 0x5f]));
        assert!(o.outputs().any(|path| path.ends_with("a.pcap")));
        assert_eq!(parsed("--net none").unwrap().net, NetArg::None);
        let o = parsed("--net relay=wss://relay.example/r/lab --net-ca ca.pem").unwrap();
        assert!(matches!(&o.net, NetArg::Relay(url) if url.is_encrypted()));
        assert_eq!(o.net_ca, Some("ca.pem".into()));
        let o = parsed("--net user --allow 127.0.0.1:80 --allow [::1]:1-9 --deny 1.1.1.1 --dns-host a.lan=10.86.0.1");
        let o = o.unwrap();
        assert_eq!((&o.net, o.gateway.allow.len(), o.gateway.deny.len()), (&NetArg::User, 2, 1));
        assert_eq!(o.gateway.dns_hosts[0].name, "a.lan");
    }

    #[test]
    fn nonsense_is_one_sentence() {
        for (line, part) in [
            ("--frobnicate", "--frobnicate"),
            ("file.img", "file.img"),
            ("--memory", "--memory"),
            ("--memory lots", "a number of MiB"),
            ("--memory 99999999999999999", "a number of MiB"),
            ("--cpu z80", "486, pentium, p3, p4 or nehalem"),
            ("--net user --clock deterministic", "--clock realtime"),
            ("--net user --allow 10.0.0.0/64", "--allow: \"10.0.0.0/64\" is not an address or a network"),
            ("--net user --allow 10.0.0.0/8:x", "is not a port"),
            ("--net user --dns-host a=b", "--dns-host"),
            ("--allow 10.0.0.0/8", "--net user"),
            ("--net relay=ws://h/ --deny 10.0.0.0/8", "--net user"),
            ("--net relay=ws://h/ --net-ca a.pem", "wss://"),
            ("--net user --net-ca a.pem", "wss://"),
            ("--net bridge", "none, user or relay=URL"),
            ("--net relay=http://relay.example/", "ws://HOST"),
            ("--net relay=", "ws://HOST"),
            ("--mac 02:00:00:00:00:01", "--net user"),
            ("--net relay=ws://h/ --clock deterministic", "--clock realtime"),
            ("--net relay=ws://h/ --mac 02:00:00:00:00", "six bytes"),
            ("--net relay=ws://h/ --mac 2:0:0:0:0:zz", "six bytes"),
            ("--net relay=ws://h/ --nic isa=300,10", "isa=BASE,IRQ"),
            ("--type <F99>", "<F99>"),
            ("--timeout -1", "seconds"),
        ] {
            let message = parsed(line).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains('\n'), "{line}: {message}");
        }
    }
}
