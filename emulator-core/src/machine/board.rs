//! The board: memory and devices, and the wires between them.
//!
//! It routes port and memory-mapped accesses to devices, feeds the interrupt controllers from the
//! interrupt lines after every device call, and fires due events.

use super::clock::Clock;
use crate::bus::{CpuBus, Device, IoCtx, IrqLines, MmioIo, PortIo, Signals};
use crate::devices::apic_bus::{self, ApicMessage, CpuRequest};
use crate::devices::block::Media;
use crate::devices::debug_port::{DebugExit, FirmwareLog};
use crate::devices::dma::Dma;
use crate::devices::floppy::Floppy;
use crate::devices::fw_cfg::FwCfg;
use crate::devices::host_bridge::HostBridge;
use crate::devices::hpet::{HPET_BASE, HPET_SIZE, Hpet};
use crate::devices::i8042::I8042;
use crate::devices::ide::Ide;
use crate::devices::io_apic::{self, IoApic};
use crate::devices::isa_bridge::IsaBridge;
use crate::devices::local_apic::{self, LocalApic};
use crate::devices::ne2000::{self, Ne2000};
use crate::devices::pci::{self, ConfigAddress, PciFunction};
use crate::devices::pic::Pic;
use crate::devices::pit::Pit;
use crate::devices::pm::Pm;
use crate::devices::port92::Port92;
use crate::devices::rtc::Rtc;
use crate::devices::uart::Uart;
use crate::devices::vga::Vga;
use crate::mem::Memory;
use crate::time::{EventId, EventQueue, VirtTime};

/// Serial ports: I/O base, IRQ and event of COM1 to COM4.
pub const SERIAL_PORTS: [(u16, u8, EventId); 4] = [
    (0x3f8, 4, EventId::Serial0),
    (0x2f8, 3, EventId::Serial1),
    (0x3e8, 4, EventId::Serial2),
    (0x2e8, 3, EventId::Serial3),
];

/// Which device decodes a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    None,
    Pic,
    Pit,
    Rtc,
    I8042,
    Dma,
    Port92,
    Uart(u8),
    Floppy,
    Ide,
    Vga,
    FwCfg,
    FirmwareLog,
    DebugExit,
    PciAddress,
    PciData,
    IsaBridge,
    Pm,
    Fpu,
    Network,
}

/// Memory windows of the VGA's BAR 2 and the classic window.
const VGA_WINDOW: std::ops::Range<u64> = 0xa0000..0xc0000;

/// Everything but the CPUs.
#[derive(Debug)]
pub struct Board {
    /// Physical memory.
    pub mem: Memory,
    /// Virtual time.
    pub clock: Clock,
    /// Armed events.
    pub events: EventQueue,
    /// Interrupt lines.
    pub irq: IrqLines,
    /// Requests of devices.
    pub signals: Signals,
    /// The deadline that bounds the present run of the CPU: an earlier event must end it.
    pub armed: VirtTime,
    /// What the APICs ask of vCPUs, by index.
    pub cpu_requests: Vec<(usize, CpuRequest)>,
    pub(super) pic: Pic,
    pub(super) pit: Pit,
    pub(super) rtc: Rtc,
    pub(super) i8042: I8042,
    pub(super) dma: Dma,
    pub(super) port92: Port92,
    pub(super) uarts: Vec<Uart>,
    pub(super) floppy: Floppy,
    pub(super) ide: Ide,
    pub(super) vga: Vga,
    pub(super) network: Option<Ne2000>,
    pub(super) fw_cfg: FwCfg,
    firmware_log: FirmwareLog,
    debug_exit: Option<(u16, DebugExit)>,
    pub(super) config_address: ConfigAddress,
    pub(super) host_bridge: HostBridge,
    pub(super) isa_bridge: IsaBridge,
    pub(super) pm: Pm,
    pub(super) io_apic: IoApic,
    pub(super) hpet: Hpet,
    pub(super) lapics: Vec<LocalApic>,
    ports: Box<[Slot]>,
    /// Where the VGA's register window is mapped.
    vga_mmio: Option<(u64, u64)>,
    /// Per vCPU: an interrupt can be taken.
    pub(super) intr: Vec<bool>,
}

/// An [`IoCtx`] over the board's shared parts, leaving the devices free to borrow.
macro_rules! cx {
    ($board:ident, $now:expr) => {
        &mut IoCtx {
            now: $now,
            mem: &mut $board.mem,
            irq: &mut $board.irq,
            events: &mut $board.events,
            signals: &mut $board.signals,
            isa_dma: Some(&mut $board.dma),
        }
    };
    ($board:ident, $now:expr, no_dma) => {
        &mut IoCtx {
            now: $now,
            mem: &mut $board.mem,
            irq: &mut $board.irq,
            events: &mut $board.events,
            signals: &mut $board.signals,
            isa_dma: None,
        }
    };
}

macro_rules! read_port {
    ($device:expr, $port:ident, $size:ident, $cx:expr) => {
        match $size {
            1 => $device.read_u8($port, $cx).into(),
            2 => $device.read_u16($port, $cx).into(),
            _ => $device.read_u32($port, $cx),
        }
    };
}

macro_rules! write_port {
    ($device:expr, $port:ident, $size:ident, $value:ident, $cx:expr) => {
        match $size {
            1 => $device.write_u8($port, $value as u8, $cx),
            2 => $device.write_u16($port, $value as u16, $cx),
            _ => $device.write_u32($port, $value, $cx),
        }
    };
}

impl Board {
    /// A board with `cpus` local APICs and `serials` serial ports (at most 4); devices are not reset yet.
    #[must_use]
    pub fn new(mem: Memory, clock: Clock, fw_cfg: FwCfg, cpus: usize, serials: usize, debug_exit: Option<u16>) -> Self {
        let ram = mem.ram_size();
        let mut board = Self {
            mem,
            clock,
            events: EventQueue::default(),
            irq: IrqLines::default(),
            signals: Signals::default(),
            armed: VirtTime::MAX,
            cpu_requests: Vec::new(),
            pic: Pic::new(),
            pit: Pit::new(),
            rtc: Rtc::new(),
            i8042: I8042::new(),
            dma: Dma::new(),
            port92: Port92::new(),
            uarts: SERIAL_PORTS[..serials.min(4)]
                .iter()
                .map(|&(base, irq, event)| Uart::new(base, irq, event))
                .collect(),
            floppy: Floppy::new(),
            ide: Ide::new(),
            vga: Vga::new(),
            network: None,
            fw_cfg,
            firmware_log: FirmwareLog,
            debug_exit: debug_exit.map(|port| (port, DebugExit::new(port))),
            config_address: ConfigAddress::default(),
            host_bridge: HostBridge::new(ram),
            isa_bridge: IsaBridge::new(),
            pm: Pm::new(),
            io_apic: IoApic::new(),
            hpet: Hpet::new(),
            lapics: (0..cpus).map(LocalApic::new).collect(),
            ports: vec![Slot::None; 0x1_0000].into_boxed_slice(),
            vga_mmio: None,
            intr: vec![false; cpus],
        };
        board.map();
        board
    }

    /// Hardware reset of all devices.
    pub fn reset(&mut self, now: VirtTime) {
        self.signals = Signals { firmware_log: std::mem::take(&mut self.signals.firmware_log), ..Signals::default() };
        self.irq = IrqLines::default();
        self.cpu_requests.clear();
        let cx = cx!(self, now, no_dma);
        self.pic.reset(cx);
        self.pit.reset(cx);
        self.rtc.reset(cx);
        self.i8042.reset(cx);
        self.dma.reset(cx);
        self.port92.reset(cx);
        self.uarts.iter_mut().for_each(|u| u.reset(cx));
        self.floppy.reset(cx);
        self.ide.reset(cx);
        self.vga.reset(cx);
        self.network.iter_mut().for_each(|n| n.reset(cx));
        self.fw_cfg.reset(cx);
        self.host_bridge.reset(cx);
        self.isa_bridge.reset(cx);
        self.pm.reset(cx);
        self.io_apic.reset(cx);
        self.hpet.reset(cx);
        self.lapics.iter_mut().for_each(|l| l.reset(cx));
        self.config_address.reset();
        self.mem.set_a20(true);
        self.signals.a20 = None;
        self.map();
        self.settle();
    }

    /// Rebuilds the port map and the moving memory windows.
    pub(super) fn map(&mut self) {
        self.signals.remap = false;
        self.ports.fill(Slot::None);
        let mut put = |first: u16, count: u16, slot: Slot| {
            let first = usize::from(first);
            let end = (first + usize::from(count)).min(self.ports.len());
            self.ports[first..end].fill(slot);
        };
        put(0x00, 0x10, Slot::Dma);
        put(0x20, 2, Slot::Pic);
        put(0x40, 4, Slot::Pit);
        put(0x60, 1, Slot::I8042);
        put(0x61, 1, Slot::Pit);
        put(0x64, 1, Slot::I8042);
        put(0x70, 2, Slot::Rtc);
        put(0x80, 0x10, Slot::Dma);
        put(0x92, 1, Slot::Port92);
        put(0xa0, 2, Slot::Pic);
        put(0xb2, 2, Slot::Pm);
        put(0xc0, 0x20, Slot::Dma);
        put(0xf0, 2, Slot::Fpu);
        put(0x170, 8, Slot::Ide);
        put(0x1f0, 8, Slot::Ide);
        put(0x376, 1, Slot::Ide);
        put(0x3f6, 1, Slot::Ide);
        put(0x3f0, 6, Slot::Floppy);
        put(0x3f7, 1, Slot::Floppy);
        put(0x1ce, 3, Slot::Vga);
        put(0x3b4, 2, Slot::Vga);
        put(0x3ba, 1, Slot::Vga);
        put(0x3c0, 0x20, Slot::Vga);
        put(0x402, 1, Slot::FirmwareLog);
        put(0x4d0, 2, Slot::Pic);
        put(0x510, 12, Slot::FwCfg);
        put(0xcf8, 4, Slot::PciAddress);
        put(0xcf9, 1, Slot::IsaBridge);
        put(0xcfc, 4, Slot::PciData);
        put(crate::devices::pm::PORT_GPE, crate::devices::pm::GPE_LEN, Slot::Pm);
        put(crate::devices::pm::PORT_HOTPLUG, crate::devices::pm::HOTPLUG_LEN, Slot::Pm);
        for (i, uart) in self.uarts.iter().enumerate() {
            put(uart.base(), 8, Slot::Uart(i as u8));
        }
        if let Some((port, _)) = &self.debug_exit {
            put(*port, 4, Slot::DebugExit);
        }
        if let Some(bar) = self.ide.pci().mapped(4).filter(|b| b.io) {
            put(bar.base as u16, bar.size as u16, Slot::Ide);
        }
        if let Some(base) = self.network.as_ref().and_then(Ne2000::base) {
            put(base, ne2000::PORTS, Slot::Network);
        }
        for window in [self.pm.pm_window(), self.pm.smbus_window()].into_iter().flatten() {
            put(window.base, window.len, Slot::Pm);
        }
        let vga = &self.vga.pci;
        match vga.mapped(0) {
            Some(bar) => self.mem.map_frame_buffer(bar.base.into(), bar.size),
            None => self.mem.map_frame_buffer(0, 0),
        }
        self.vga_mmio = vga.mapped(2).map(|bar| (bar.base.into(), bar.size.into()));
    }

    /// Where the isa-debug-exit device is, if there is one.
    #[must_use]
    pub fn debug_exit_port(&self) -> Option<u16> {
        self.debug_exit.as_ref().map(|(port, _)| *port)
    }

    /// The image in IDE drive 0 to 3, or in floppy drive 4 or 5.
    #[must_use]
    pub fn media(&self, n: usize) -> Option<&Media> {
        if n < 4 { self.ide.media(n) } else { self.floppy.media(n - 4) }
    }

    /// The same, to change it.
    pub fn media_mut(&mut self, n: usize) -> Option<&mut Media> {
        if n < 4 { self.ide.media_mut(n) } else { self.floppy.media_mut(n - 4) }
    }

    /// vCPUs that the board has local APICs for.
    #[must_use]
    pub fn cpu_count(&self) -> usize {
        self.lapics.len()
    }

    /// Whether a drive waits for a streamed image.
    #[must_use]
    pub fn blocked(&self) -> bool {
        self.ide.blocked() || self.floppy.blocked()
    }

    /// Virtual time at an instruction count.
    #[must_use]
    pub fn now(&self, icount: u64) -> VirtTime {
        self.clock.time_at(icount)
    }

    /// Calls `f` with an [`IoCtx`] for host-side input, then settles the wires.
    pub fn with<R>(&mut self, icount: u64, f: impl FnOnce(&mut Parts, &mut IoCtx) -> R) -> R {
        let now = self.now(icount);
        let r = f(
            &mut Parts {
                i8042: &mut self.i8042,
                uarts: &mut self.uarts,
                rtc: &mut self.rtc,
                pm: &mut self.pm,
                network: &mut self.network,
            },
            cx!(self, now),
        );
        self.settle();
        r
    }

    /// Fires every event that is due.
    pub fn fire_due(&mut self, now: VirtTime) {
        while let Some(event) = self.events.pop_due(now) {
            let cx = cx!(self, now);
            match event {
                EventId::PitChannel0 => self.pit.on_event(event, cx),
                EventId::RtcPeriodic | EventId::RtcUpdate | EventId::RtcAlarm => self.rtc.on_event(event, cx),
                EventId::Keyboard => self.i8042.on_event(event, cx),
                EventId::Serial0 | EventId::Serial1 | EventId::Serial2 | EventId::Serial3 => {
                    if let Some(u) = self.uarts.get_mut(event as usize - EventId::Serial0 as usize) {
                        u.on_event(event, cx);
                    }
                }
                EventId::IdePrimary | EventId::IdeSecondary => self.ide.on_event(event, cx),
                EventId::Floppy => self.floppy.on_event(event, cx),
                EventId::Network | EventId::NetworkReceive => {
                    if let Some(card) = &mut self.network {
                        card.on_event(event, cx);
                    }
                }
                EventId::VgaRetrace => self.vga.on_event(event, cx),
                EventId::PmTimer => self.pm.on_event(event, cx),
                EventId::Hpet0 | EventId::Hpet1 | EventId::Hpet2 => self.hpet.on_event(event, cx),
                _ => {
                    let n = (event as usize).wrapping_sub(EventId::LocalApic0 as usize);
                    if let Some(l) = self.lapics.get_mut(n) {
                        l.on_event(event, cx);
                    }
                }
            }
            self.settle();
        }
    }

    /// Carries line levels to the interrupt controllers, messages between APICs and requests to memory, until
    /// nothing moves any more.
    fn settle(&mut self) {
        if self.signals.remap {
            self.map();
        }
        if let Some(open) = self.signals.a20.take() {
            self.mem.set_a20(open);
        }
        let levels = self.isa_bridge.levels(&self.irq);
        let edges = self.irq.take_edges();
        self.pic.update(levels, edges);
        self.io_apic.update(IoApic::pins(levels), IoApic::pins(edges));
        self.route_messages();
        let pic = self.pic.intr();
        if let Some(bsp) = self.lapics.first_mut()
            && let Some(request) = bsp.set_lint(0, pic)
        {
            self.cpu_requests.push((0, request));
        }
        for (i, (intr, lapic)) in self.intr.iter_mut().zip(&self.lapics).enumerate() {
            *intr = lapic.intr().is_some() || (i == 0 && pic && lapic.accepts_pic());
        }
    }

    fn route_messages(&mut self) {
        // A level-triggered line that stays up may answer an EOI with a new message; that ends because
        // each message sets remote IRR.
        loop {
            let mut messages: Vec<(Option<usize>, ApicMessage)> =
                self.io_apic.take_messages().into_iter().map(|m| (None, m)).collect();
            let mut ended = Vec::new();
            for (i, lapic) in self.lapics.iter_mut().enumerate() {
                messages.extend(lapic.take_ipis().into_iter().map(|m| (Some(i), m)));
                ended.extend(lapic.take_eoi());
            }
            if messages.is_empty() && ended.is_empty() {
                return;
            }
            for (source, message) in messages {
                self.cpu_requests.extend(apic_bus::deliver(&message, source, &mut self.lapics));
            }
            for vector in ended {
                self.io_apic.end_of_interrupt(vector);
            }
        }
    }

    fn pci_function(&mut self, slot: u8, function: u8) -> Option<&mut dyn PciFunction> {
        Some(match (slot, function) {
            (0, 0) => &mut self.host_bridge,
            (1, 0) => &mut self.isa_bridge,
            (1, 1) => &mut self.ide,
            (1, 3) => &mut self.pm,
            (2, 0) => &mut self.vga,
            (ne2000::PCI_SLOT, 0) => self.network.as_mut()?.pci_function()?,
            _ => return None,
        })
    }

    fn pci_data_read(&mut self, port: u16, size: u8) -> u32 {
        let target = self.config_address.target(port).filter(|t| t.bus == 0);
        match target {
            Some(t) => {
                let function = self.pci_function(t.slot, t.function).map(|f| &*f);
                pci::config_read(function, t.offset, size)
            }
            None => u32::MAX >> (32 - 8 * u32::from(size)),
        }
    }

    fn pci_data_write(&mut self, now: VirtTime, port: u16, size: u8, value: u32) {
        let Some(t) = self.config_address.target(port).filter(|t| t.bus == 0) else { return };
        let cx = cx!(self, now);
        let function: Option<&mut dyn PciFunction> = match (t.slot, t.function) {
            (0, 0) => Some(&mut self.host_bridge),
            (1, 0) => Some(&mut self.isa_bridge),
            (1, 1) => Some(&mut self.ide),
            (1, 3) => Some(&mut self.pm),
            (2, 0) => Some(&mut self.vga),
            (ne2000::PCI_SLOT, 0) => self.network.as_mut().and_then(Ne2000::pci_function),
            _ => None,
        };
        pci::config_write(function, t.offset, size, value, cx);
    }

    fn lapic_window(&self, cpu: usize, addr: u64) -> Option<u64> {
        let base = self.lapics.get(cpu)?.window()?;
        addr.checked_sub(base).filter(|&o| o < 0x1000)
    }

    fn vga_register_window(&self, addr: u64) -> Option<u64> {
        let (base, size) = self.vga_mmio?;
        addr.checked_sub(base).filter(|&o| o < size)
    }

    /// The 8-bit value that an undecoded port shows.
    fn open_bus(size: u8) -> u32 {
        u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))
    }
}

/// The devices that take input from the host.
pub struct Parts<'a> {
    /// Keyboard and mouse.
    pub i8042: &'a mut I8042,
    /// Serial ports.
    pub uarts: &'a mut Vec<Uart>,
    /// Real-time clock.
    pub rtc: &'a mut Rtc,
    /// Power management.
    pub pm: &'a mut Pm,
    /// Network card.
    pub network: &'a mut Option<Ne2000>,
}

impl CpuBus for Board {
    #[inline(always)]
    fn mem(&self) -> &Memory {
        &self.mem
    }

    #[inline(always)]
    fn mem_mut(&mut self) -> &mut Memory {
        &mut self.mem
    }

    fn port_read(&mut self, _cpu: usize, icount: u64, port: u16, size: u8) -> u32 {
        let now = self.now(icount);
        let cx = cx!(self, now);
        let value = match self.ports[usize::from(port)] {
            Slot::None | Slot::Fpu => return Self::open_bus(size),
            Slot::Pic => read_port!(self.pic, port, size, cx),
            Slot::Pit => read_port!(self.pit, port, size, cx),
            Slot::Rtc => read_port!(self.rtc, port, size, cx),
            Slot::I8042 => read_port!(self.i8042, port, size, cx),
            Slot::Dma => read_port!(self.dma, port, size, cx!(self, now, no_dma)),
            Slot::Port92 => read_port!(self.port92, port, size, cx),
            Slot::Uart(n) => read_port!(self.uarts[usize::from(n)], port, size, cx),
            Slot::Floppy => read_port!(self.floppy, port, size, cx),
            Slot::Ide => read_port!(self.ide, port, size, cx),
            Slot::Vga => read_port!(self.vga, port, size, cx),
            Slot::FwCfg => read_port!(self.fw_cfg, port, size, cx),
            Slot::FirmwareLog => read_port!(self.firmware_log, port, size, cx),
            Slot::DebugExit => 0,
            Slot::PciAddress if size == 4 => return self.config_address.read(),
            Slot::PciAddress => return Self::open_bus(size),
            Slot::PciData => return self.pci_data_read(port, size),
            Slot::IsaBridge => read_port!(self.isa_bridge, port, size, cx),
            Slot::Pm => read_port!(self.pm, port, size, cx),
            Slot::Network => {
                let Some(card) = &mut self.network else { return Self::open_bus(size) };
                let value = read_port!(card, port, size, cx);
                if !self.irq.changed() {
                    // Most accesses move data: nothing to settle.
                    return value;
                }
                value
            }
        };
        self.settle();
        value
    }

    fn port_write(&mut self, _cpu: usize, icount: u64, port: u16, size: u8, value: u32) {
        let now = self.now(icount);
        let cx = cx!(self, now);
        match self.ports[usize::from(port)] {
            Slot::None => return,
            Slot::Fpu => cx.irq.set_isa(13, false),
            Slot::Pic => write_port!(self.pic, port, size, value, cx),
            Slot::Pit => write_port!(self.pit, port, size, value, cx),
            Slot::Rtc => write_port!(self.rtc, port, size, value, cx),
            Slot::I8042 => write_port!(self.i8042, port, size, value, cx),
            Slot::Dma => write_port!(self.dma, port, size, value, cx!(self, now, no_dma)),
            Slot::Port92 => write_port!(self.port92, port, size, value, cx),
            Slot::Uart(n) => write_port!(self.uarts[usize::from(n)], port, size, value, cx),
            Slot::Floppy => write_port!(self.floppy, port, size, value, cx),
            Slot::Ide => write_port!(self.ide, port, size, value, cx),
            Slot::Vga => write_port!(self.vga, port, size, value, cx),
            Slot::FwCfg => write_port!(self.fw_cfg, port, size, value, cx),
            Slot::FirmwareLog => write_port!(self.firmware_log, port, size, value, cx),
            Slot::DebugExit => {
                if let Some((_, exit)) = &mut self.debug_exit {
                    write_port!(exit, port, size, value, cx);
                }
            }
            Slot::PciAddress if size == 4 => return self.config_address.write(value),
            Slot::PciAddress => return,
            Slot::PciData => self.pci_data_write(now, port, size, value),
            Slot::IsaBridge if size == 4 => return self.config_address.write(value),
            Slot::IsaBridge => write_port!(self.isa_bridge, port, size, value, cx),
            Slot::Pm => write_port!(self.pm, port, size, value, cx),
            Slot::Network => {
                let Some(card) = &mut self.network else { return };
                write_port!(card, port, size, value, cx);
                if !self.irq.changed() {
                    return;
                }
            }
        }
        self.settle();
    }

    fn port_read_many(&mut self, port: u16, size: u8, offset: u32, count: u32) -> u32 {
        match (self.ports[usize::from(port)], &mut self.network) {
            (Slot::Network, Some(card)) => {
                card.read_many(port, size, count, |data| self.mem.block().write(offset, data))
            }
            _ => 0,
        }
    }

    fn port_write_many(&mut self, port: u16, size: u8, offset: u32, count: u32) -> u32 {
        match (self.ports[usize::from(port)], &mut self.network) {
            (Slot::Network, Some(card)) => {
                card.write_many(port, size, count, |data| self.mem.block().read(offset, data))
            }
            _ => 0,
        }
    }

    fn mmio_read(&mut self, cpu: usize, icount: u64, addr: u64, size: u8) -> u64 {
        let now = self.now(icount);
        let value = if VGA_WINDOW.contains(&addr) {
            return self.vga.mmio_read(addr - VGA_WINDOW.start, size, cx!(self, now));
        } else if let Some(offset) = self.lapic_window(cpu, addr) {
            self.lapics[cpu].mmio_read(offset, size, cx!(self, now))
        } else if (io_apic::DEFAULT_BASE..io_apic::DEFAULT_BASE + io_apic::WINDOW_LEN).contains(&addr) {
            self.io_apic.mmio_read(addr - io_apic::DEFAULT_BASE, size, cx!(self, now))
        } else if (HPET_BASE..HPET_BASE + HPET_SIZE).contains(&addr) {
            self.hpet.mmio_read(addr - HPET_BASE, size, cx!(self, now))
        } else if let Some(offset) = self.vga_register_window(addr) {
            self.vga.window_read(offset, size, cx!(self, now))
        } else {
            return u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        };
        self.settle();
        value
    }

    fn mmio_write(&mut self, cpu: usize, icount: u64, addr: u64, size: u8, value: u64) {
        let now = self.now(icount);
        if VGA_WINDOW.contains(&addr) {
            self.vga.mmio_write(addr - VGA_WINDOW.start, size, value, cx!(self, now));
            return;
        } else if let Some(offset) = self.lapic_window(cpu, addr) {
            self.lapics[cpu].mmio_write(offset, size, value, cx!(self, now));
        } else if (io_apic::DEFAULT_BASE..io_apic::DEFAULT_BASE + io_apic::WINDOW_LEN).contains(&addr) {
            self.io_apic.mmio_write(addr - io_apic::DEFAULT_BASE, size, value, cx!(self, now));
        } else if (HPET_BASE..HPET_BASE + HPET_SIZE).contains(&addr) {
            self.hpet.mmio_write(addr - HPET_BASE, size, value, cx!(self, now));
            self.pit.set_irq_enabled(!self.hpet.legacy_replacement(), cx!(self, now));
        } else if let Some(offset) = self.vga_register_window(addr) {
            self.vga.window_write(offset, size, value, cx!(self, now));
        } else {
            return;
        }
        self.settle();
    }

    #[inline]
    fn interrupt_pending(&self, cpu: usize) -> bool {
        self.intr.get(cpu).copied().unwrap_or(false)
    }

    fn acknowledge_interrupt(&mut self, cpu: usize, _icount: u64) -> Option<u8> {
        let lapic = self.lapics.get_mut(cpu)?;
        let vector = if lapic.intr().is_some() {
            lapic.acknowledge()
        } else if cpu == 0 && self.pic.intr() && lapic.accepts_pic() {
            self.pic.acknowledge()
        } else {
            return None;
        };
        self.settle();
        Some(vector)
    }

    #[inline]
    fn attention(&self) -> bool {
        let s = &self.signals;
        self.events.earliest() < self.armed
            || s.reset
            || s.power_off
            || s.nmi
            || s.debug_exit.is_some()
            || !self.cpu_requests.is_empty()
    }

    fn tsc(&mut self, icount: u64) -> u64 {
        self.now(icount)
    }

    fn apic_base(&self, cpu: usize) -> u64 {
        self.lapics.get(cpu).map_or(0, LocalApic::base)
    }

    fn set_apic_base(&mut self, cpu: usize, value: u64) {
        if let Some(lapic) = self.lapics.get_mut(cpu) {
            lapic.set_base(value);
        }
        self.settle();
    }

    fn task_priority(&self, cpu: usize) -> u8 {
        self.lapics.get(cpu).map_or(0, LocalApic::task_priority)
    }

    fn ferr(&mut self, _cpu: usize, asserted: bool) {
        self.irq.set_isa(13, asserted);
        self.settle();
    }
}

/// Where local APICs answer unless their base was moved; used by documentation and tests.
pub const LOCAL_APIC_BASE: u64 = local_apic::DEFAULT_BASE;
