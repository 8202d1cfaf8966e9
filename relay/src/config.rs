//! Settings: a TOML file, flags over it, defaults under both. One table of the scalar settings feeds all three.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::policy::{Cidr, Rule};

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or a value that does not exist.
    #[error("{path}: {source}")]
    Toml {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot be.
    #[error("{0}")]
    Invalid(String),
}

/// A name that the gateway's DNS answers itself: `NAME=ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsHost {
    /// In lower case, without a dot at the end.
    pub name: String,
    /// The answer to questions for this family.
    pub address: IpAddr,
}

impl std::str::FromStr for DnsHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is not NAME=ADDRESS");
        let (name, address) = text.split_once('=').ok_or_else(error)?;
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name.is_empty() || name.len() > 253 {
            return Err(error());
        }
        Ok(DnsHost { name, address: address.parse().map_err(|_| error())? })
    }
}

impl<'de> Deserialize<'de> for DnsHost {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

macro_rules! settings {
    ($( $name:ident: $type:ty = $default:expr, $unit:literal, $help:literal; )*) => {
        /// Flags, and the keys of the TOML file (same names). What is absent falls to the file, then to the default.
        #[derive(Debug, Clone, Default, PartialEq, clap::Parser, Deserialize)]
        #[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
        #[command(name = "tab86-relay", version, about = ABOUT, after_help = AFTER)]
        pub struct Options {
            /// Settings from a TOML file; flags win over it
            #[arg(long, value_name = "FILE")]
            #[serde(skip)]
            pub config: Option<PathBuf>,
            /// Address and port to listen on; may be repeated [default: 127.0.0.1:8086]
            #[arg(long, value_name = "ADDRESS")]
            pub listen: Vec<SocketAddr>,
            /// Certificate chain (PEM): serves https and wss; needs --tls-key
            #[arg(long, value_name = "FILE")]
            pub tls_cert: Option<PathBuf>,
            /// Private key (PEM) of the certificate
            #[arg(long, value_name = "FILE")]
            pub tls_key: Option<PathBuf>,
            /// Directory with a built site to serve
            #[arg(long, value_name = "DIR")]
            pub site: Option<PathBuf>,
            /// Web origin whose pages may connect, such as https://example.org, or * for all; may be repeated [default: the relay's own]
            #[arg(long, value_name = "ORIGIN")]
            pub origin: Vec<String>,
            /// Secret that clients give as ?token=… or as a bearer token [default: none needed]
            #[arg(long, value_name = "TOKEN")]
            pub token: Option<String>,
            /// File with the secret, so that it is not in the list of processes
            #[arg(long, value_name = "FILE")]
            pub token_file: Option<PathBuf>,
            /// Destination that guests may reach though it is not public: CIDR[:PORT[-PORT]]; may be repeated
            #[arg(long, value_name = "RULE")]
            pub allow: Vec<Rule>,
            /// Destination that guests may not reach; wins over --allow; may be repeated
            #[arg(long, value_name = "RULE")]
            pub deny: Vec<Rule>,
            /// A name that the gateway's DNS answers itself: NAME=ADDRESS; may be repeated
            #[arg(long, value_name = "HOST")]
            pub dns_host: Vec<DnsHost>,
            /// Proxy whose X-Forwarded-For is believed; may be repeated
            #[arg(long, value_name = "CIDR")]
            pub trusted_proxy: Vec<Cidr>,
            /// Who may read /metrics; may be repeated [default: 127.0.0.0/8 and ::1]
            #[arg(long, value_name = "CIDR")]
            pub metrics_allow: Vec<Cidr>,
            /// Bridge a room to this TAP interface (Linux, needs the right to); that room has no gateway of its own
            #[arg(long, value_name = "NAME")]
            pub tap: Option<String>,
            /// Room that --tap bridges [default: default]
            #[arg(long, value_name = "ROOM")]
            pub tap_room: Option<String>,
            /// Network of the gateway, which takes its first address [default: 10.86.0.0/16]
            #[arg(long, value_name = "CIDR")]
            pub subnet: Option<Cidr>,
            /// IPv6 network of the gateway, 64 bits long, from which guests make their addresses [default: fd74:6162:3836::/64]
            #[arg(long, value_name = "CIDR")]
            pub subnet6: Option<Cidr>,
            /// No IPv6 from the gateway: no router advertisements, no IPv6 addresses of names
            #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
            pub no_ipv6: Option<bool>,
            /// Rooms are switches only: no DHCP, DNS and NAT
            #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
            pub no_gateway: Option<bool>,
            /// No Wisp at /wisp/
            #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
            pub no_wisp: Option<bool>,
            /// What is logged: off, error, warn, info, debug, trace, or TARGET=LEVEL,… [default: info]
            #[arg(long, value_name = "LEVEL")]
            pub log: Option<String>,
            /// How the log is written [default: text]
            #[arg(long, value_enum, value_name = "FORMAT")]
            pub log_format: Option<LogFormat>,
            $(
                #[doc = $help]
                #[arg(long, value_name = $unit, help = concat!($help, " [default: ", stringify!($default), "]"))]
                pub $name: Option<$type>,
            )*
        }

        /// The scalar settings with their defaults filled in.
        #[derive(Debug, Clone)]
        pub struct Limits {
            $( #[doc = $help] pub $name: $type, )*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $name: $default, )* }
            }
        }

        impl Options {
            /// Fills what is absent from `under`. A list that is given replaces the other one.
            fn over(self, under: Options) -> Options {
                let list = |a: Vec<_>, b: Vec<_>| if a.is_empty() { b } else { a };
                let rules = |a: Vec<Rule>, b: Vec<Rule>| if a.is_empty() { b } else { a };
                let nets = |a: Vec<Cidr>, b: Vec<Cidr>| if a.is_empty() { b } else { a };
                Options {
                    config: self.config.or(under.config),
                    listen: if self.listen.is_empty() { under.listen } else { self.listen },
                    tls_cert: self.tls_cert.or(under.tls_cert),
                    tls_key: self.tls_key.or(under.tls_key),
                    site: self.site.or(under.site),
                    origin: list(self.origin, under.origin),
                    token: self.token.or(under.token),
                    token_file: self.token_file.or(under.token_file),
                    allow: rules(self.allow, under.allow),
                    deny: rules(self.deny, under.deny),
                    dns_host: if self.dns_host.is_empty() { under.dns_host } else { self.dns_host },
                    trusted_proxy: nets(self.trusted_proxy, under.trusted_proxy),
                    metrics_allow: nets(self.metrics_allow, under.metrics_allow),
                    tap: self.tap.or(under.tap),
                    tap_room: self.tap_room.or(under.tap_room),
                    subnet: self.subnet.or(under.subnet),
                    subnet6: self.subnet6.or(under.subnet6),
                    no_ipv6: self.no_ipv6.or(under.no_ipv6),
                    no_gateway: self.no_gateway.or(under.no_gateway),
                    no_wisp: self.no_wisp.or(under.no_wisp),
                    log: self.log.or(under.log),
                    log_format: self.log_format.or(under.log_format),
                    $( $name: self.$name.or(under.$name), )*
                }
            }

            fn limits(&self) -> Limits {
                let default = Limits::default();
                Limits { $( $name: self.$name.unwrap_or(default.$name), )* }
            }
        }
    };
}

const ABOUT: &str = "Ethernet over WebSocket for tab86 and its kin: rooms with a switch and a gateway to the internet, \
                     Wisp, and a built site.";
const AFTER: &str = "Every flag but --config is also a key of the TOML file, with the same name. \
                     Endpoints: /r/NAME (Ethernet; / is the room \"default\"), /wisp/, /metrics, /healthz. See docs/relay.md.";

settings! {
    mtu: u16 = 1500, "BYTES", "Largest IP packet of the rooms, told to guests by DHCP and router advertisements";
    lease: u32 = 3600, "SECONDS", "DHCP lease";
    ra_interval: u64 = 600, "SECONDS", "Longest time between two IPv6 router advertisements";
    max_connections: usize = 4096, "N", "HTTP connections at a time, WebSockets included";
    max_connections_per_ip: usize = 128, "N", "HTTP connections at a time from one address";
    max_rooms: usize = 1024, "N", "Rooms at a time";
    max_clients_per_room: usize = 256, "N", "Clients of a room";
    max_message: usize = 65536, "BYTES", "Largest WebSocket message; a larger one ends the connection";
    max_macs: usize = 8, "N", "Source addresses that a client may use";
    queue: usize = 512, "FRAMES", "Frames that wait for a client before more are dropped";
    tcp_per_client: usize = 128, "N", "TCP connections of a client at a time";
    udp_per_client: usize = 256, "N", "UDP associations of a client at a time";
    flows_total: usize = 4096, "N", "TCP connections, UDP associations and Wisp streams of all clients at a time";
    flows_per_ip: usize = 1024, "N", "The same for all clients of one address";
    tcp_buffer: usize = 131072, "BYTES", "Buffer of a TCP connection in each direction, and its largest window";
    connect_rate: u64 = 100, "N", "New connections a second of a client; twice as many in a burst";
    dns_rate: u64 = 50, "N", "DNS questions a second of a client; twice as many in a burst";
    flood_rate: u64 = 500, "FRAMES", "Frames a second of a client that go to everybody; four times as many in a burst";
    rate_up: u64 = 33554432, "BYTES", "Bytes a second that are taken from a client, 0 for no limit";
    rate_down: u64 = 33554432, "BYTES", "Bytes a second that are sent to a client, 0 for no limit";
    wisp_streams: usize = 256, "N", "Streams of a Wisp client at a time";
    wisp_window: u32 = 64, "PACKETS", "Packets that a Wisp client may send ahead on a stream";
    handshake_timeout: u64 = 10, "SECONDS", "Time for TLS, the head of a request, and a guest's TCP handshake";
    connect_timeout: u64 = 10, "SECONDS", "Time for a destination to accept a connection or a name to resolve";
    idle_timeout: u64 = 60, "SECONDS", "A WebSocket from which nothing came for so long, no pong either, is closed";
    write_timeout: u64 = 30, "SECONDS", "A WebSocket that takes nothing for so long is closed";
    tcp_idle: u64 = 1800, "SECONDS", "A TCP connection on which nothing moved for so long is closed";
    udp_idle: u64 = 60, "SECONDS", "A UDP association on which nothing moved for so long is forgotten";
    shutdown_grace: u64 = 5, "SECONDS", "Time for connections to end at shutdown";
}

/// Everything that the relay needs to know, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Certificate chain and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Built site.
    pub site: Option<PathBuf>,
    /// Origins besides the relay's own.
    pub origins: Vec<String>,
    /// Secret of the clients.
    pub token: Option<String>,
    /// Rules that open.
    pub allow: Vec<Rule>,
    /// Rules that close.
    pub deny: Vec<Rule>,
    /// Names answered by the gateway.
    pub dns_hosts: Vec<DnsHost>,
    /// Proxies that are believed.
    pub trusted_proxies: Vec<Cidr>,
    /// Who reads the metrics.
    pub metrics_allow: Vec<Cidr>,
    /// TAP interface.
    pub tap: Option<String>,
    /// Room that is bridged to it.
    pub tap_room: String,
    /// The gateway's address.
    pub gateway: Ipv4Addr,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// The gateway's IPv6 address, the first of its network of 64 bits; `None`: rooms have no IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// Whether rooms have a gateway.
    pub with_gateway: bool,
    /// Whether there is Wisp.
    pub with_wisp: bool,
    /// What is logged.
    pub log: String,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Scalars.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8086))],
            tls: None,
            site: None,
            origins: Vec::new(),
            token: None,
            allow: Vec::new(),
            deny: Vec::new(),
            dns_hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            metrics_allow: loopback(),
            tap: None,
            tap_room: "default".to_owned(),
            gateway: Ipv4Addr::new(10, 86, 0, 1),
            prefix: 16,
            gateway6: Some(GATEWAY6),
            with_gateway: true,
            with_wisp: true,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            limits: Limits::default(),
        }
    }
}

/// A unique local network (RFC 4193) whose 40 bits of global identifier are "tab86". Always the same one, so that guests
/// keep their addresses when the relay is restarted; rooms never meet.
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd74, 0x6162, 0x3836, 0, 0, 0, 0, 1);
/// Smallest MTU of an IPv6 link (RFC 8200, section 5).
const IPV6_MIN_MTU: u16 = 1280;

/// The first address of a network that guests can make addresses from.
fn first_address6(network: Cidr) -> Option<Ipv6Addr> {
    let IpAddr::V6(address) = network.address() else { return None };
    // Global unicast or unique local.
    let first = address.segments()[0];
    let unicast = first & 0xe000 == 0x2000 || first & 0xfe00 == 0xfc00;
    let network_bits = u128::from(address) & (u128::MAX << 64);
    (unicast && network.prefix() == 64).then(|| Ipv6Addr::from(network_bits + 1))
}

fn loopback() -> Vec<Cidr> {
    [Cidr::new(Ipv4Addr::new(127, 0, 0, 0).into(), 8), Cidr::new(std::net::Ipv6Addr::LOCALHOST.into(), 128)]
        .into_iter()
        .flatten()
        .collect()
}

impl Settings {
    /// Reads the file that the flags name and puts the flags over it.
    pub fn load(flags: Options) -> Result<Settings, ConfigError> {
        let under = match &flags.config {
            Some(path) => parse_file(path)?,
            None => Options::default(),
        };
        Settings::from_options(flags.over(under))
    }

    /// Fills in defaults and checks.
    pub fn from_options(options: Options) -> Result<Settings, ConfigError> {
        let invalid = |text: &str| Err(ConfigError::Invalid(text.to_owned()));
        let default = Settings::default();
        let limits = options.limits();
        let or = |list: Vec<Cidr>, default: Vec<Cidr>| if list.is_empty() { default } else { list };
        let tls = match (options.tls_cert, options.tls_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return invalid("--tls-cert and --tls-key need each other"),
        };
        let token = match (options.token, options.token_file) {
            (Some(_), Some(_)) => return invalid("give --token or --token-file, not both"),
            (Some(token), None) => Some(token),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path, source })?;
                Some(text.trim().to_owned())
            }
            (None, None) => None,
        };
        if token.as_ref().is_some_and(|token| token.is_empty()) {
            return invalid("the token is empty");
        }
        let (gateway, prefix) = match options.subnet {
            None => (default.gateway, default.prefix),
            Some(cidr) => match cidr.address() {
                IpAddr::V4(address) if (8..=28).contains(&cidr.prefix()) => {
                    let mask = u32::MAX << (32 - u32::from(cidr.prefix()));
                    (Ipv4Addr::from((u32::from(address) & mask) + 1), cidr.prefix())
                }
                _ => return invalid("--subnet must be an IPv4 network with a prefix of 8 to 28 bits"),
            },
        };
        let gateway6 = match (options.no_ipv6.unwrap_or(false), options.subnet6) {
            (true, _) => None,
            (false, None) => default.gateway6,
            (false, Some(cidr)) => match first_address6(cidr) {
                Some(address) => Some(address),
                None => return invalid("--subnet6 must be a unicast IPv6 network with a prefix of 64 bits"),
            },
        };
        if !(576..=9000).contains(&limits.mtu) {
            return invalid("--mtu must be from 576 to 9000");
        }
        if gateway6.is_some() && limits.mtu < IPV6_MIN_MTU {
            return invalid("IPv6 needs an --mtu of 1280 at least: give --no-ipv6 as well");
        }
        // RFC 4861, 6.2.1.
        if !(4..=1800).contains(&limits.ra_interval) {
            return invalid("--ra-interval must be from 4 to 1800 seconds");
        }
        if limits.max_message < usize::from(limits.mtu) + 18 {
            return invalid("--max-message must hold a frame: at least the MTU and 18 bytes");
        }
        if limits.max_message > 16 << 20 || !(4096..=16 << 20).contains(&limits.tcp_buffer) {
            return invalid("--max-message may be 16 MiB at most, and --tcp-buffer 4 KiB to 16 MiB");
        }
        if limits.queue == 0 || limits.max_macs == 0 || limits.wisp_window == 0 || limits.wisp_window > 4096 {
            return invalid("--queue and --max-macs must not be 0, and --wisp-window must be 1 to 4096");
        }
        if limits.max_clients_per_room == 0 {
            return invalid("--max-clients-per-room must not be 0");
        }
        if limits.lease < 60 {
            return invalid("--lease must be at least 60 seconds");
        }
        let times = [limits.handshake_timeout, limits.connect_timeout, limits.idle_timeout, limits.write_timeout];
        if times.contains(&0) || limits.tcp_idle == 0 || limits.udp_idle == 0 {
            return invalid("a timeout must not be 0");
        }
        Ok(Settings {
            listen: if options.listen.is_empty() { default.listen } else { options.listen },
            tls,
            site: options.site,
            origins: options.origin,
            token,
            allow: options.allow,
            deny: options.deny,
            dns_hosts: options.dns_host,
            trusted_proxies: options.trusted_proxy,
            metrics_allow: or(options.metrics_allow, default.metrics_allow),
            tap: options.tap,
            tap_room: options.tap_room.unwrap_or(default.tap_room),
            gateway,
            prefix,
            gateway6,
            with_gateway: !options.no_gateway.unwrap_or(false),
            with_wisp: !options.no_wisp.unwrap_or(false),
            log: options.log.unwrap_or(default.log),
            log_format: options.log_format.unwrap_or(default.log_format),
            limits,
        })
    }

    /// The addresses of a name that the operator gave; none when it is no such name.
    pub fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        self.dns_hosts.iter().filter(|host| host.name == name).map(|host| host.address).collect()
    }

    /// Largest Ethernet frame: the MTU, a header and a VLAN tag.
    pub fn max_frame(&self) -> usize {
        usize::from(self.limits.mtu) + 18
    }
}

impl Limits {
    /// Time for TLS, the head of a request and a guest's TCP handshake.
    pub fn handshake(&self) -> Duration {
        Duration::from_secs(self.handshake_timeout)
    }

    /// Time for a destination to answer.
    pub fn connect(&self) -> Duration {
        Duration::from_secs(self.connect_timeout)
    }
}

fn parse_file(path: &Path) -> Result<Options, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    const DOC: &str = include_str!("../../docs/relay.md");

    fn example() -> &'static str {
        DOC.split("```toml\n").nth(1).unwrap().split("```").next().unwrap()
    }

    #[test]
    fn the_example_of_the_documentation_is_valid() {
        let options: Options = toml::from_str(example()).unwrap();
        let settings = Settings::from_options(Options { token_file: None, ..options }).unwrap();
        assert!(settings.site.is_some() && !settings.allow.is_empty());
    }

    #[test]
    fn the_documentation_names_every_flag_with_its_default() {
        for argument in Options::command().get_arguments() {
            let Some(name) = argument.get_long() else { continue };
            if name == "help" || name == "version" {
                continue;
            }
            let row = DOC.lines().find(|line| line.starts_with(&format!("| `--{name}")));
            let row = row.unwrap_or_else(|| panic!("docs/relay.md has no row for --{name}"));
            let help = argument.get_help().unwrap().to_string();
            if let Some((_, default)) = help.split_once("[default: ") {
                let default = default.trim_end_matches(']');
                assert!(
                    row.contains(&format!("| {default} |")),
                    "docs/relay.md: default of --{name} is {default}: {row}"
                );
            }
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let file: Options = toml::from_str("mtu = 1400\nqueue = 7\nallow = [\"10.0.0.0/8\"]\nno-wisp = true").unwrap();
        let flags =
            Options::try_parse_from(["x", "--mtu", "1300", "--allow", "127.0.0.1:80", "--no-wisp=false"]).unwrap();
        let settings = Settings::from_options(flags.over(file)).unwrap();
        assert_eq!((settings.limits.mtu, settings.limits.queue), (1300, 7));
        assert_eq!(settings.allow, ["127.0.0.1:80".parse().unwrap()]);
        assert!(settings.with_wisp);
        assert_eq!(settings.limits.lease, 3600);
    }

    #[test]
    fn mistakes_are_named() {
        assert!(toml::from_str::<Options>("mtv = 1").unwrap_err().to_string().contains("mtv"));
        assert!(toml::from_str::<Options>("allow = [\"10.0.0.0/64\"]").is_err());
        for flags in [
            &["x", "--mtu", "100"][..],
            &["x", "--subnet", "10.0.0.0/31"],
            &["x", "--subnet", "fd00::/64"],
            &["x", "--subnet6", "fd00::/48"],
            &["x", "--subnet6", "fe80::/64"],
            &["x", "--subnet6", "10.0.0.0/24"],
            &["x", "--mtu", "1000"],
            &["x", "--ra-interval", "3"],
            &["x", "--tls-cert", "a"],
            &["x", "--token", ""],
            &["x", "--idle-timeout", "0"],
            &["x", "--max-message", "1000"],
        ] {
            let options = Options::try_parse_from(flags).unwrap();
            assert!(matches!(Settings::from_options(options), Err(ConfigError::Invalid(_))), "{flags:?}");
        }
        let settings = Settings::from_options(Options::try_parse_from(["x", "--subnet", "192.168.7.9/24"]).unwrap());
        assert_eq!(settings.unwrap().gateway, Ipv4Addr::new(192, 168, 7, 1));
        let settings = |flags: &[&str]| Settings::from_options(Options::try_parse_from(flags).unwrap()).unwrap();
        let six = settings(&["x", "--subnet6", "fd12:3456:789a:1:2:3:4:5/64"]).gateway6;
        assert_eq!(six, "fd12:3456:789a:1::1".parse().ok());
        assert_eq!(settings(&["x", "--no-ipv6", "--mtu", "1000"]).gateway6, None);
    }
}
