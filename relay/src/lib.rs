//! `tab86-relay`: Ethernet over WebSocket. Rooms with a learning switch and a user-mode gateway to the internet, Wisp,
//! and a built site, in one process. See `docs/relay.md`.

pub mod client;
pub mod config;
pub mod gateway;
pub mod http;
pub mod metrics;
pub mod net;
pub mod policy;
pub mod port;
pub mod rate;
pub mod room;
pub mod server;
pub mod shared;
pub mod switch;
pub mod tap;
pub mod wisp;
