//! QEMU's firmware configuration device, ports 510h-511h (selector, data) and 514h-51Bh (DMA).
//! Spec: QEMU `docs/specs/fw_cfg`.
//!
//! This is how SeaBIOS learns of boot order, option ROMs, memory and kernel. Everything is an item: a
//! 16-bit key with bytes behind it. Named files are items from key 20h on, listed in a directory item.

use crate::bus::{Device, IoCtx, PortIo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Selector register (16-bit writes).
pub const PORT_SELECTOR: u16 = 0x510;
/// Data register.
pub const PORT_DATA: u16 = 0x511;
/// DMA address register, high half (big-endian); the low half is at 518h.
pub const PORT_DMA: u16 = 0x514;
/// Last port of the device.
pub const PORT_LAST: u16 = 0x51b;

const PORT_DMA_LOW: u16 = PORT_DMA + 4;

/// What the DMA address register reads as: "QEMU CFG", big-endian.
const DMA_SIGNATURE: u64 = 0x5145_4d55_2043_4647;
/// Interface features in item [`key::ID`]: traditional and DMA.
const FEATURES: u32 = 3;
/// Writes through the data port went with QEMU 2.4; this bit of a key selects the write channel.
const WRITE_CHANNEL: u16 = 0x4000;
const FILE_FIRST: u16 = 0x20;
/// Bytes of a file's name in the directory, with its terminating zero.
const FILE_NAME_LEN: usize = 56;

/// Keys of the well-known items.
#[allow(missing_docs, reason = "named as in the specification")]
pub mod key {
    pub const SIGNATURE: u16 = 0x00;
    pub const ID: u16 = 0x01;
    pub const UUID: u16 = 0x02;
    pub const RAM_SIZE: u16 = 0x03;
    pub const NOGRAPHIC: u16 = 0x04;
    pub const NB_CPUS: u16 = 0x05;
    pub const MACHINE_ID: u16 = 0x06;
    pub const KERNEL_ADDR: u16 = 0x07;
    pub const KERNEL_SIZE: u16 = 0x08;
    pub const KERNEL_CMDLINE: u16 = 0x09;
    pub const INITRD_ADDR: u16 = 0x0a;
    pub const INITRD_SIZE: u16 = 0x0b;
    pub const BOOT_DEVICE: u16 = 0x0c;
    pub const NUMA: u16 = 0x0d;
    pub const BOOT_MENU: u16 = 0x0e;
    pub const MAX_CPUS: u16 = 0x0f;
    pub const KERNEL_ENTRY: u16 = 0x10;
    pub const KERNEL_DATA: u16 = 0x11;
    pub const INITRD_DATA: u16 = 0x12;
    pub const CMDLINE_ADDR: u16 = 0x13;
    pub const CMDLINE_SIZE: u16 = 0x14;
    pub const CMDLINE_DATA: u16 = 0x15;
    pub const SETUP_ADDR: u16 = 0x16;
    pub const SETUP_SIZE: u16 = 0x17;
    pub const SETUP_DATA: u16 = 0x18;
    pub const FILE_DIR: u16 = 0x19;
    pub const ACPI_TABLES: u16 = 0x8000;
    pub const SMBIOS_ENTRIES: u16 = 0x8001;
    pub const IRQ0_OVERRIDE: u16 = 0x8002;
    pub const E820_TABLE: u16 = 0x8003;
    pub const HPET: u16 = 0x8004;
}

bitflags::bitflags! {
    /// Low half of the control field of a DMA request.
    struct DmaControl: u32 {
        /// Set by the device: the request failed.
        const ERROR = 1;
        /// Item to memory.
        const READ = 2;
        /// Advance without moving anything.
        const SKIP = 4;
        /// Select the item in the high half first.
        const SELECT = 8;
        /// Memory to item.
        const WRITE = 16;
    }
}

/// The machine's facts that SeaBIOS reads from well-known items and files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFacts {
    /// Bytes of RAM below 4 GiB (all of it; it starts at 0).
    pub ram_size: u64,
    /// vCPUs.
    pub cpus: u16,
    /// Device paths, best first (see [`FwCfg::boot_path`]); none leaves the order to CMOS 3Dh and 38h.
    pub boot_order: Vec<String>,
    /// Milliseconds the boot menu's prompt waits; `None` shows no menu at all.
    pub boot_menu_wait: Option<u16>,
}

/// A device as SeaBIOS names it in the `bootorder` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootDevice {
    /// Floppy drive 0 or 1.
    Floppy(u8),
    /// Drive on the PIIX IDE function (slot 1, function 1): channel and unit (0 = master). Disk or CD.
    Ide {
        /// 0 = primary.
        channel: u8,
        /// 0 = master.
        unit: u8,
    },
    /// A PCI function with its own boot ROM (network).
    Pci {
        /// Device number.
        slot: u8,
    },
    /// A ROM given as file `genroms/NAME`.
    Rom(String),
    /// Don't try what isn't listed.
    Halt,
}

/// The fw_cfg device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FwCfg {
    items: BTreeMap<u16, Vec<u8>>,
    /// File names in key order, from key 20h.
    files: Vec<String>,
    selected: u16,
    offset: u32,
    /// High half of the DMA address, kept until the low half starts the transfer.
    dma_high: u32,
}

impl FwCfg {
    /// A device with the items that every machine has.
    #[must_use]
    pub fn new(facts: &MachineFacts) -> Self {
        let mut cfg = Self::default();
        cfg.set(key::SIGNATURE, b"QEMU".to_vec());
        cfg.set_u32(key::ID, FEATURES);
        cfg.set(key::UUID, vec![0; 16]);
        cfg.set(key::RAM_SIZE, facts.ram_size.to_le_bytes().to_vec());
        cfg.set_u16(key::NOGRAPHIC, 0);
        cfg.set_u16(key::NB_CPUS, facts.cpus);
        cfg.set_u16(key::MAX_CPUS, facts.cpus);
        cfg.set_u16(key::BOOT_MENU, u16::from(facts.boot_menu_wait.is_some()));
        // No NUMA nodes: a count of zero, then one node number for each possible CPU.
        cfg.set(key::NUMA, vec![0; 8 * (1 + usize::from(facts.cpus))]);
        // ISA IRQ 0 arrives at pin 2 of the I/O APIC.
        cfg.set_u32(key::IRQ0_OVERRIDE, 1);
        cfg.refresh_directory();
        cfg.add_file("etc/e820", e820(facts.ram_size));
        // S3 absent, S4 as sleep type 2, S5 as type 0 (one byte for each S-state, bit 7 = supported).
        cfg.add_file("etc/system-states", vec![0x80, 0, 0, 0x01, 0x82, 0x80]);
        if let Some(wait) = facts.boot_menu_wait {
            cfg.add_file("etc/boot-menu-wait", wait.to_le_bytes().to_vec());
        }
        if !facts.boot_order.is_empty() {
            let mut list = facts.boot_order.join("\n").into_bytes();
            list.push(0);
            cfg.add_file("bootorder", list);
        }
        cfg
    }

    /// The path of a device for [`MachineFacts::boot_order`].
    #[must_use]
    pub fn boot_path(device: &BootDevice) -> String {
        match device {
            BootDevice::Floppy(n) => format!("/pci@i0cf8/isa@1/fdc@03f0/floppy@{n:x}"),
            BootDevice::Ide { channel, unit } => {
                format!("/pci@i0cf8/ide@1,1/drive@{channel:x}/disk@{unit:x}")
            }
            BootDevice::Pci { slot } => format!("/pci@i0cf8/ethernet@{slot:x}"),
            BootDevice::Rom(name) => format!("/rom@genroms/{name}"),
            BootDevice::Halt => "HALT".to_owned(),
        }
    }

    /// What the guest can change: selected item, offset in it, high half of the DMA address. The items are
    /// configuration.
    #[must_use]
    pub fn registers(&self) -> (u16, u32, u32) {
        (self.selected, self.offset, self.dma_high)
    }

    /// Puts [`registers`](Self::registers) back.
    pub fn set_registers(&mut self, (selected, offset, dma_high): (u16, u32, u32)) {
        (self.selected, self.offset, self.dma_high) = (selected, offset, dma_high);
    }

    /// A CRC-32 of all items and their names.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        let mut crc = flate2::Crc::new();
        for (key, data) in &self.items {
            crc.update(&key.to_le_bytes());
            crc.update(&(data.len() as u64).to_le_bytes());
            crc.update(data);
        }
        self.files.iter().for_each(|name| crc.update(name.as_bytes()));
        crc.sum()
    }

    /// Sets item `key`.
    pub fn set(&mut self, key: u16, data: Vec<u8>) {
        self.items.insert(key & !WRITE_CHANNEL, data);
    }

    /// Sets item `key` to a 16-bit number.
    pub fn set_u16(&mut self, key: u16, value: u16) {
        self.set(key, value.to_le_bytes().to_vec());
    }

    /// Sets item `key` to a 32-bit number.
    pub fn set_u32(&mut self, key: u16, value: u32) {
        self.set(key, value.to_le_bytes().to_vec());
    }

    /// Adds (or replaces) the named file. The directory is kept sorted by name, as QEMU's is, so keys of
    /// files move: add all files before the machine starts.
    pub fn add_file(&mut self, name: &str, data: Vec<u8>) {
        let mut files: BTreeMap<String, Vec<u8>> = std::mem::take(&mut self.files)
            .into_iter()
            .zip(FILE_FIRST..)
            .map(|(name, key)| (name, self.items.remove(&key).unwrap_or_default()))
            .collect();
        files.insert(name.to_owned(), data);
        for ((name, data), key) in files.into_iter().zip(FILE_FIRST..WRITE_CHANNEL) {
            self.files.push(name);
            self.items.insert(key, data);
        }
        self.refresh_directory();
    }

    /// The option ROM of PCI function `vendor:device`. SeaBIOS runs it with the function's address in AX,
    /// which SeaVGABIOS needs to find its frame buffer (a `vgaroms/` file would get 0).
    pub fn add_pci_rom(&mut self, vendor: u16, device: u16, rom: Vec<u8>) {
        self.add_file(&format!("pci{vendor:04x},{device:04x}.rom"), rom);
    }

    /// Directory item: count, then size, key, reserved, name of each file, all big-endian.
    fn refresh_directory(&mut self) {
        let mut dir = (self.files.len() as u32).to_be_bytes().to_vec();
        for (name, key) in self.files.iter().zip(FILE_FIRST..) {
            let size = self.items.get(&key).map_or(0, Vec::len) as u32;
            dir.extend(size.to_be_bytes());
            dir.extend(key.to_be_bytes());
            dir.extend([0, 0]);
            let mut field = [0; FILE_NAME_LEN];
            for (to, from) in field[..FILE_NAME_LEN - 1].iter_mut().zip(name.bytes()) {
                *to = from;
            }
            dir.extend(field);
        }
        self.set(key::FILE_DIR, dir);
    }

    fn select(&mut self, key: u16) {
        self.selected = key & !WRITE_CHANNEL;
        self.offset = 0;
    }

    /// What is left of the selected item from the current offset, at most `len` bytes.
    fn rest(&self, len: usize) -> &[u8] {
        let item = self.items.get(&self.selected).map(Vec::as_slice).unwrap_or_default();
        let from = (self.offset as usize).min(item.len());
        &item[from..from.saturating_add(len).min(item.len())]
    }

    fn next_byte(&mut self) -> u8 {
        // Beyond the end, and in items that don't exist, everything is zero.
        let byte = self.rest(1).first().copied();
        self.offset += u32::from(byte.is_some());
        byte.unwrap_or(0)
    }

    /// Carries out the request at `address`: control, length and address, big-endian (16 bytes).
    fn dma(&mut self, address: u64, cx: &mut IoCtx) {
        let mut request = [0; 16];
        cx.mem.dma_read(address, &mut request);
        let field = |at: usize| u32::from_be_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
        let raw = field(0);
        let control = DmaControl::from_bits_truncate(raw);
        let length = field(4);
        let buffer = u64::from(field(8)) << 32 | u64::from(field(12));
        if control.contains(DmaControl::SELECT) {
            self.select((raw >> 16) as u16);
        }
        let mut result = DmaControl::empty();
        if control.contains(DmaControl::READ) {
            self.dma_read_item(buffer, length, cx);
        } else if control.contains(DmaControl::WRITE) {
            // No item of ours is writable.
            if length > 0 {
                result = DmaControl::ERROR;
            }
        } else if control.contains(DmaControl::SKIP) {
            self.offset += self.rest(length as usize).len() as u32;
        }
        cx.mem.dma_write(address, &result.bits().to_be_bytes());
    }

    fn dma_read_item(&mut self, buffer: u64, length: u32, cx: &mut IoCtx) {
        const ZEROS: [u8; 4096] = [0; 4096];
        // Addresses wrap in 64 bits on the bus; past the RAM nothing is stored anyway.
        let end = u64::from(length).min(u64::MAX - buffer);
        let data = self.rest(length as usize);
        let filled = data.len() as u64;
        cx.mem.dma_write(buffer, &data[..filled.min(end) as usize]);
        self.offset += filled as u32;
        let mut at = filled;
        let ram_end = u64::from(cx.mem.ram_size()).saturating_sub(buffer).max(0x10_0000);
        while at < end.min(ram_end) {
            let n = (end - at).min(ZEROS.len() as u64);
            cx.mem.dma_write(buffer + at, &ZEROS[..n as usize]);
            at += n;
        }
    }
}

/// The `etc/e820` file: base, length, type (1 = RAM). SeaBIOS reserves its own ranges.
fn e820(ram_size: u64) -> Vec<u8> {
    let mut table = Vec::with_capacity(20);
    table.extend(0_u64.to_le_bytes());
    table.extend(ram_size.to_le_bytes());
    table.extend(1_u32.to_le_bytes());
    table
}

impl PortIo for FwCfg {
    fn read_u8(&mut self, port: u16, _cx: &mut IoCtx) -> u8 {
        match port {
            PORT_SELECTOR | PORT_DATA => self.next_byte(),
            PORT_DMA..=PORT_LAST => DMA_SIGNATURE.to_be_bytes()[usize::from(port - PORT_DMA)],
            _ => 0xff,
        }
    }

    /// The data port takes no writes, and the selector and DMA registers no byte writes.
    fn write_u8(&mut self, _port: u16, _value: u8, _cx: &mut IoCtx) {}

    fn write_u16(&mut self, port: u16, value: u16, _cx: &mut IoCtx) {
        if port == PORT_SELECTOR {
            self.select(value);
        }
    }

    fn write_u32(&mut self, port: u16, value: u32, cx: &mut IoCtx) {
        match port {
            PORT_DMA => self.dma_high = value.swap_bytes(),
            PORT_DMA_LOW => {
                let high = std::mem::take(&mut self.dma_high);
                self.dma(u64::from(high) << 32 | u64::from(value.swap_bytes()), cx);
            }
            _ => {}
        }
    }
}

impl Device for FwCfg {
    fn reset(&mut self, _cx: &mut IoCtx) {
        self.select(key::SIGNATURE);
        self.dma_high = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::{Bench, conformance};

    fn facts() -> MachineFacts {
        MachineFacts {
            ram_size: 16 << 20,
            cpus: 1,
            boot_order: vec![FwCfg::boot_path(&BootDevice::Rom("linuxboot.bin".into()))],
            boot_menu_wait: Some(500),
        }
    }

    fn read(dev: &mut FwCfg, bench: &mut Bench, n: usize) -> Vec<u8> {
        (0..n).map(|_| dev.read_u8(PORT_DATA, &mut bench.cx())).collect()
    }

    /// Issues a DMA request as SeaBIOS does: 16 bytes on its stack, only the low half written.
    fn dma(bench: &mut Bench, dev: &mut FwCfg, control: u32, len: u32, to: u64) -> u32 {
        let mut request = Vec::new();
        request.extend(control.to_be_bytes());
        request.extend(len.to_be_bytes());
        request.extend(to.to_be_bytes());
        bench.mem.dma_write(0x6000, &request);
        dev.write_u32(PORT_DMA_LOW, 0x6000_u32.swap_bytes(), &mut bench.cx());
        let mut result = [0; 4];
        bench.mem.dma_read(0x6000, &mut result);
        u32::from_be_bytes(result)
    }

    #[test]
    fn seabios_detects_the_device_and_its_dma() {
        let (mut dev, mut bench) = (FwCfg::new(&facts()), Bench::new());
        dev.write_u16(PORT_SELECTOR, key::SIGNATURE, &mut bench.cx());
        assert_eq!(read(&mut dev, &mut bench, 5), b"QEMU\0");
        dev.write_u16(PORT_SELECTOR, key::ID, &mut bench.cx());
        assert_eq!(read(&mut dev, &mut bench, 4), [3, 0, 0, 0]);
        assert_eq!(dev.read_u32(PORT_DMA, &mut bench.cx()), u32::from_le_bytes(*b"QEMU"));
        assert_eq!(dev.read_u32(PORT_DMA_LOW, &mut bench.cx()), u32::from_le_bytes(*b" CFG"));
    }

    #[test]
    fn the_directory_is_sorted_and_leads_to_the_files() {
        let (mut dev, mut bench) = (FwCfg::new(&facts()), Bench::new());
        dev.add_pci_rom(0x1234, 0x1111, vec![0x55, 0xaa, 1]);
        // SeaBIOS: select and read the count in one request, then entry by entry.
        let select_read = |key: u16| u32::from(key) << 16 | 0x0a;
        assert_eq!(dma(&mut bench, &mut dev, select_read(key::FILE_DIR), 4, 0x7000), 0);
        let mut count = [0; 4];
        bench.mem.dma_read(0x7000, &mut count);
        let mut names = Vec::new();
        let mut rom_key = 0;
        for _ in 0..u32::from_be_bytes(count) {
            assert_eq!(dma(&mut bench, &mut dev, 2, 64, 0x7000), 0);
            let mut entry = [0; 64];
            bench.mem.dma_read(0x7000, &mut entry);
            let name = String::from_utf8_lossy(&entry[8..]).trim_end_matches('\0').to_owned();
            if name == "pci1234,1111.rom" {
                assert_eq!(entry[..4], [0, 0, 0, 3]);
                rom_key = u16::from_be_bytes([entry[4], entry[5]]);
            }
            names.push(name);
        }
        assert_eq!(names, ["bootorder", "etc/boot-menu-wait", "etc/e820", "etc/system-states", "pci1234,1111.rom"]);
        // Reading past the end fills with zeros.
        bench.mem.dma_write(0x7000, &[0xee; 8]);
        assert_eq!(dma(&mut bench, &mut dev, select_read(rom_key), 6, 0x7000), 0);
        let mut rom = [0; 8];
        bench.mem.dma_read(0x7000, &mut rom);
        assert_eq!(rom, [0x55, 0xaa, 1, 0, 0, 0, 0xee, 0xee]);
    }

    #[test]
    fn skip_advances_and_a_write_is_an_error() {
        let (mut dev, mut bench) = (FwCfg::new(&facts()), Bench::new());
        let select = u32::from(key::SIGNATURE) << 16 | 8;
        assert_eq!(dma(&mut bench, &mut dev, select | 4, 2, 0), 0);
        assert_eq!(read(&mut dev, &mut bench, 2), b"MU");
        assert_eq!(dma(&mut bench, &mut dev, select | 16, 4, 0x7000), 1);
        dev.write_u8(PORT_DATA, b'x', &mut bench.cx());
        dev.write_u16(PORT_SELECTOR, key::SIGNATURE, &mut bench.cx());
        assert_eq!(read(&mut dev, &mut bench, 4), b"QEMU");
    }

    #[test]
    fn absent_items_read_zero() {
        let (mut dev, mut bench) = (FwCfg::new(&facts()), Bench::new());
        dev.write_u16(PORT_SELECTOR, key::SMBIOS_ENTRIES, &mut bench.cx());
        assert_eq!(read(&mut dev, &mut bench, 2), [0, 0]);
        assert_eq!(dma(&mut bench, &mut dev, 2, u32::MAX, u64::MAX - 5), 0);
    }

    #[test]
    fn replacing_a_file_keeps_one_entry() {
        let (mut dev, mut bench) = (FwCfg::new(&facts()), Bench::new());
        dev.add_file("bootorder", b"HALT\0".to_vec());
        dev.write_u16(PORT_SELECTOR, key::FILE_DIR, &mut bench.cx());
        assert_eq!(read(&mut dev, &mut bench, 8), [0, 0, 0, 4, 0, 0, 0, 5]);
        dev.write_u16(PORT_SELECTOR, FILE_FIRST, &mut bench.cx());
        assert_eq!(read(&mut dev, &mut bench, 5), b"HALT\0");
    }

    #[test]
    fn conforms() {
        let ports: Vec<u16> = (PORT_SELECTOR..=PORT_LAST).collect();
        conformance(FwCfg::new(&facts()), &ports);
    }
}
