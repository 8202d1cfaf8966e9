//! Counters and gauges in Prometheus' text format (exposition format 0.0.4).

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::policy::Refusal;

/// One number. Gauges go down as well.
#[derive(Debug, Default)]
pub struct Value(AtomicU64);

impl Value {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    (values { $( $name:ident: $kind:literal, $help:literal; )* } families {
     $( $family:ident: $flabel:literal, $fhelp:literal { $( $field:ident = $value:literal, )* } )* }) => {
        /// Everything that is counted.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $( #[doc = $help] pub $name: Value, )*
            $( $( #[doc = concat!($fhelp, " (", $flabel, " `", $value, "`)")] pub $field: Value, )* )*
            refused: [Value; Refusal::ALL.len()],
        }

        impl Metrics {
            /// The names of all metrics, without prefix.
            pub const NAMES: &'static [&'static str] =
                &[$( stringify!($name), )* $( stringify!($family), )* "refused_total"];

            /// The page at `/metrics`.
            pub fn render(&self) -> String {
                let mut out = String::new();
                $( head(&mut out, stringify!($name), $kind, $help);
                   let _ = writeln!(out, "tab86_relay_{} {}", stringify!($name), self.$name.get()); )*
                $( head(&mut out, stringify!($family), "counter", $fhelp);
                   $( let _ = writeln!(out, "tab86_relay_{}{{{}=\"{}\"}} {}",
                        stringify!($family), $flabel, $value, self.$field.get()); )* )*
                head(&mut out, "refused_total", "counter", "Destinations refused by policy");
                for (reason, value) in Refusal::ALL.iter().zip(&self.refused) {
                    let _ = writeln!(out, "tab86_relay_refused_total{{reason=\"{reason}\"}} {}", value.get());
                }
                out
            }
        }
    };
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP tab86_relay_{name} {help}.\n# TYPE tab86_relay_{name} {kind}");
}

metrics! {
    values {
    rooms: "gauge", "Rooms with at least one client";
    clients: "gauge", "Connected Ethernet clients";
    clients_total: "counter", "Ethernet clients since the start";
    http_connections: "gauge", "Open HTTP connections, WebSockets included";
    http_requests_total: "counter", "HTTP requests";
    frames_received_total: "counter", "Frames from clients";
    frames_sent_total: "counter", "Frames to clients";
    bytes_received_total: "counter", "Bytes of frames from clients";
    bytes_sent_total: "counter", "Bytes of frames to clients";
    throttled_total: "counter", "Times a client was made to wait for its rate";
    tcp_flows: "gauge", "TCP connections through the gateway";
    tcp_flows_total: "counter", "TCP connections through the gateway since the start";
    tcp_failed_total: "counter", "TCP connections that the destination did not accept";
    udp_flows: "gauge", "UDP associations through the gateway";
    udp_flows_total: "counter", "UDP associations through the gateway since the start";
    dns_queries_total: "counter", "DNS questions from guests";
    dns_failed_total: "counter", "DNS questions that got no answer";
    dhcp_leases_total: "counter", "DHCP leases acknowledged";
    router_advertisements_total: "counter", "IPv6 router advertisements that nobody asked for";
    icmp_echo_total: "counter", "Pings answered by the gateway";
    wisp_clients: "gauge", "Connected Wisp clients";
    wisp_streams: "gauge", "Open Wisp streams";
    wisp_streams_total: "counter", "Wisp streams since the start";
    }
    families {
    dropped_total: "reason", "Frames dropped" {
        drop_runt = "runt",
        drop_oversized = "oversized",
        drop_text = "text",
        drop_spoofed_mac = "spoofed_mac",
        drop_too_many_macs = "too_many_macs",
        drop_spoofed_ip = "spoofed_ip",
        drop_rogue_dhcp = "rogue_dhcp",
        drop_rogue_router = "rogue_router",
        drop_hairpin = "hairpin",
        drop_flood = "flood_limit",
        drop_queue_full = "queue_full",
        drop_malformed = "malformed",
        drop_fragment = "fragment",
        drop_unsupported = "unsupported",
        drop_dhcp_exhausted = "dhcp_exhausted",
    }
    limited_total: "limit", "Requests refused because a limit was reached" {
        limit_connections = "connections",
        limit_address = "connections_per_address",
        limit_rooms = "rooms",
        limit_room_full = "clients_per_room",
        limit_tcp = "tcp_per_client",
        limit_udp = "udp_per_client",
        limit_flows = "flows_total",
        limit_flows_address = "flows_per_address",
        limit_rate = "connect_rate",
        limit_dns = "dns_rate",
        limit_wisp = "wisp_streams",
    }
    rejected_total: "reason", "HTTP and WebSocket requests rejected" {
        reject_origin = "origin",
        reject_token = "token",
        reject_name = "room_name",
        reject_handshake = "handshake",
    }
    disconnected_total: "reason", "WebSocket clients disconnected by the relay" {
        gone_idle = "idle",
        gone_slow = "slow_reader",
        gone_oversized = "oversized_message",
        gone_shutdown = "shutdown",
        gone_protocol = "protocol",
    }
    }
}

impl Metrics {
    /// Counts a destination refused by policy.
    pub fn refused(&self, reason: Refusal) {
        self.refused_value(reason).inc();
    }

    /// The counter of one reason.
    pub fn refused_value(&self, reason: Refusal) -> &Value {
        let index = Refusal::ALL.iter().position(|r| *r == reason).unwrap_or(0);
        &self.refused[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_prometheus_text() {
        let metrics = Metrics::default();
        metrics.clients.inc();
        metrics.drop_spoofed_mac.add(3);
        metrics.refused(Refusal::Metadata);
        let page = metrics.render();
        assert!(page.contains("\ntab86_relay_clients 1\n"));
        assert!(page.contains("\ntab86_relay_dropped_total{reason=\"spoofed_mac\"} 3\n"));
        assert!(page.contains("\ntab86_relay_refused_total{reason=\"metadata\"} 1\n"));
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<u64>().is_ok() && name.starts_with("tab86_relay_"), "{line}");
        }
        for name in Metrics::NAMES {
            assert!(page.contains(&format!("# TYPE tab86_relay_{name} ")), "{name}");
        }
    }
}
