//! The devices of the PC, one file (or folder) each. None knows another.

pub mod block;
pub mod i8042;
pub mod pci_config;
pub mod pic;
pub mod pit;
pub mod rtc;
pub mod uart;
