//! The devices of the PC, one file (or folder) each. None knows another.

pub mod block;
pub mod fw_cfg;
pub mod host_bridge;
pub mod isa_bridge;
pub mod pci;
pub mod pci_config;
pub mod pm;
