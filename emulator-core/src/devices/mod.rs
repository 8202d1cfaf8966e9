//! The devices of the PC, one file (or folder) each. None knows another.

pub mod block;
pub mod debug_port;
pub mod dma;
pub mod hpet;
pub mod i8042;
pub mod pci_config;
pub mod pic;
pub mod pit;
pub mod port92;
pub mod rtc;
pub mod uart;
