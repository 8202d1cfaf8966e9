//! `tab86-relay`: Ethernet over WebSocket. Rooms with a learning switch and a user-mode gateway to the internet, Wisp,
//! and a built site, in one process. See `docs/relay.md`.

pub mod config;
pub mod gateway;
pub mod metrics;
pub mod net;
pub mod policy;
pub mod port;
pub mod rate;
pub mod room;
pub mod shared;
pub mod switch;
