//! The devices of the PC, one file (or folder) each. None knows another.

pub mod apic_bus;
pub mod block;
pub mod debug_port;
pub mod dma;
pub mod floppy;
pub mod fw_cfg;
pub mod host_bridge;
pub mod hpet;
pub mod i8042;
pub mod ide;
pub mod io_apic;
pub mod isa_bridge;
pub mod local_apic;
pub mod ne2000;
pub mod pci;
pub mod pci_config;
pub mod pic;
pub mod pit;
pub mod pm;
pub mod port92;
pub mod rtc;
pub mod uart;
pub mod vga;
