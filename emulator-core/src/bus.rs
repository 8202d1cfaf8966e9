//! What devices and the CPU see of the rest of the machine.
//!
//! A device implements [`PortIo`], [`MmioIo`] and [`Device`] and reaches everything else (time,
//! interrupts, DMA, reset) through the [`IoCtx`] that each call hands it. A device knows no other device.
//! The CPU reaches memory and devices through [`CpuBus`].

use crate::mem::Memory;
use crate::time::{EventId, EventQueue, VirtTime};
use serde::{Deserialize, Serialize};

/// Deserialises a list of exactly `N` bytes: what a chip has is not for a snapshot to say.
pub(crate) fn exactly<'de, D: serde::Deserializer<'de>, const N: usize>(from: D) -> Result<Vec<u8>, D::Error> {
    let bytes = Vec::<u8>::deserialize(from)?;
    if bytes.len() == N { Ok(bytes) } else { Err(serde::de::Error::invalid_length(bytes.len(), &"another length")) }
}

/// Levels of the machine's interrupt request lines, as the devices drive them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IrqLines {
    isa: u16,
    /// Rising edges seen since the interrupt controllers last looked (so that a pulse is not lost).
    edges: u16,
    /// For each PIRQ A-D: a bit for each PCI slot that asserts it.
    pci: [u32; 4],
    changed: bool,
}

impl IrqLines {
    /// Drives ISA line `irq` (0 to 15).
    pub fn set_isa(&mut self, irq: u8, level: bool) {
        let bit = 1u16 << (irq & 15);
        if level && self.isa & bit == 0 {
            self.edges |= bit;
        }
        let isa = if level { self.isa | bit } else { self.isa & !bit };
        self.changed |= isa != self.isa;
        self.isa = isa;
    }

    /// A rising edge on ISA line `irq` that falls again at once.
    pub fn pulse_isa(&mut self, irq: u8) {
        self.set_isa(irq, false);
        self.set_isa(irq, true);
        self.set_isa(irq, false);
        self.changed = true;
    }

    /// Drives interrupt pin `pin` (0 = INTA) of PCI slot `slot` (device number, 1 to 31).
    /// The wiring to PIRQ A-D is the i440FX board's: `(slot - 1 + pin) mod 4`.
    pub fn set_pci(&mut self, slot: u8, pin: u8, level: bool) {
        let line = &mut self.pci[usize::from(slot.wrapping_sub(1).wrapping_add(pin) & 3)];
        let bit = 1u32 << (slot & 31);
        let new = if level { *line | bit } else { *line & !bit };
        self.changed |= new != *line;
        *line = new;
    }

    /// Levels of the ISA lines.
    #[must_use]
    pub fn isa(&self) -> u16 {
        self.isa
    }

    /// Level of PIRQ `n` (0 = A).
    #[must_use]
    pub fn pirq(&self, n: usize) -> bool {
        self.pci[n & 3] != 0
    }

    /// Whether any line changed since the last [`take_edges`](Self::take_edges).
    #[inline(always)]
    #[must_use]
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// Rising edges since the last call; clears the change mark.
    pub fn take_edges(&mut self) -> u16 {
        self.changed = false;
        std::mem::take(&mut self.edges)
    }
}

/// Requests from devices to the machine as a whole, acted on after the device call returns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signals {
    /// A device asks for a CPU reset (keyboard controller, port 92h) or a machine reset (port CF9h).
    pub reset: bool,
    /// ACPI soft-off.
    pub power_off: bool,
    /// A non-maskable interrupt is requested.
    pub nmi: bool,
    /// Value written to the isa-debug-exit port.
    pub debug_exit: Option<u32>,
    /// PCI configuration changed in a way that moves ports or memory windows.
    pub remap: bool,
    /// The A20 gate should be in this state.
    pub a20: Option<bool>,
    /// Bytes that the firmware wrote to its debug port (402h).
    pub firmware_log: Vec<u8>,
}

/// What a device may use while it handles an access or an event.
pub struct IoCtx<'a> {
    /// Virtual time of this access.
    pub now: VirtTime,
    /// Physical memory, for DMA.
    pub mem: &'a mut Memory,
    /// Interrupt lines.
    pub irq: &'a mut IrqLines,
    /// The event queue.
    pub events: &'a mut EventQueue,
    /// Requests to the machine.
    pub signals: &'a mut Signals,
    /// The ISA DMA controllers (absent while they themselves are being accessed).
    pub isa_dma: Option<&'a mut dyn IsaDma>,
}

impl IoCtx<'_> {
    /// Arms `event` to fire `delay` nanoseconds from now.
    pub fn after(&mut self, event: EventId, delay: VirtTime) {
        self.events.schedule(event, self.now.saturating_add(delay));
    }

    /// Moves bytes from a device to memory over ISA DMA `channel`. Returns how many were taken before the
    /// channel stopped, and whether it reached terminal count.
    pub fn isa_dma_to_memory(&mut self, channel: u8, data: &[u8]) -> (usize, bool) {
        match self.isa_dma.as_deref_mut() {
            Some(dma) => dma.write_memory(channel, data, self.mem),
            None => (0, false),
        }
    }

    /// Moves bytes from memory to a device over ISA DMA `channel`; as [`isa_dma_to_memory`](Self::isa_dma_to_memory).
    pub fn isa_dma_from_memory(&mut self, channel: u8, data: &mut [u8]) -> (usize, bool) {
        match self.isa_dma.as_deref_mut() {
            Some(dma) => dma.read_memory(channel, data, self.mem),
            None => (0, false),
        }
    }
}

/// The data side of the 8237 pair, as a device on an ISA DMA channel sees it.
pub trait IsaDma {
    /// Device to memory. Returns (bytes moved, terminal count reached).
    fn write_memory(&mut self, channel: u8, data: &[u8], mem: &mut Memory) -> (usize, bool);
    /// Memory to device. Returns (bytes moved, terminal count reached).
    fn read_memory(&mut self, channel: u8, data: &mut [u8], mem: &mut Memory) -> (usize, bool);
}

/// A device with I/O ports. `port` is the full port number. Wider accesses default to byte accesses at
/// consecutive ports, low byte first, as the ISA bus splits them.
pub trait PortIo {
    /// Reads one byte. A port the device does not decode reads FFh.
    fn read_u8(&mut self, port: u16, cx: &mut IoCtx) -> u8;
    /// Writes one byte.
    fn write_u8(&mut self, port: u16, value: u8, cx: &mut IoCtx);
    /// Reads two bytes.
    fn read_u16(&mut self, port: u16, cx: &mut IoCtx) -> u16 {
        u16::from_le_bytes([self.read_u8(port, cx), self.read_u8(port.wrapping_add(1), cx)])
    }
    /// Writes two bytes.
    fn write_u16(&mut self, port: u16, value: u16, cx: &mut IoCtx) {
        let [a, b] = value.to_le_bytes();
        self.write_u8(port, a, cx);
        self.write_u8(port.wrapping_add(1), b, cx);
    }
    /// Reads four bytes.
    fn read_u32(&mut self, port: u16, cx: &mut IoCtx) -> u32 {
        u32::from(self.read_u16(port, cx)) | u32::from(self.read_u16(port.wrapping_add(2), cx)) << 16
    }
    /// Writes four bytes.
    fn write_u32(&mut self, port: u16, value: u32, cx: &mut IoCtx) {
        self.write_u16(port, value as u16, cx);
        self.write_u16(port.wrapping_add(2), (value >> 16) as u16, cx);
    }
}

/// A device with a memory window. `offset` is relative to the window; `size` is 1, 2, 4 or 8 bytes.
pub trait MmioIo {
    /// Reads `size` bytes, zero-extended.
    fn mmio_read(&mut self, offset: u64, size: u8, cx: &mut IoCtx) -> u64;
    /// Writes the low `size` bytes of `value`.
    fn mmio_write(&mut self, offset: u64, size: u8, value: u64, cx: &mut IoCtx);
}

/// What every device can do.
pub trait Device {
    /// Hardware reset (RESET# or power-on).
    fn reset(&mut self, cx: &mut IoCtx);
    /// A timer armed by this device fired.
    fn on_event(&mut self, event: EventId, cx: &mut IoCtx) {
        let _ = (event, cx);
    }
}

/// What a vCPU sees of the machine. `cpu` is the vCPU's index, `icount` the machine's count of retired
/// instructions at this access (from which the bus derives the virtual time).
pub trait CpuBus {
    /// Physical memory.
    fn mem(&self) -> &Memory;
    /// Physical memory.
    fn mem_mut(&mut self) -> &mut Memory;
    /// IN of `size` (1, 2, 4) bytes.
    fn port_read(&mut self, cpu: usize, icount: u64, port: u16, size: u8) -> u32;
    /// OUT of `size` (1, 2, 4) bytes.
    fn port_write(&mut self, cpu: usize, icount: u64, port: u16, size: u8, value: u32);
    /// INS of up to `count` elements into the memory block at `offset`, where plain memory is: as many as are the same
    /// as that many [`port_read`](Self::port_read)s of which none does anything else. Returns how many; the rest, or all,
    /// is read one by one.
    fn port_read_many(&mut self, port: u16, size: u8, offset: u32, count: u32) -> u32 {
        let _ = (port, size, offset, count);
        0
    }
    /// OUTS, the other way round.
    fn port_write_many(&mut self, port: u16, size: u8, offset: u32, count: u32) -> u32 {
        let _ = (port, size, offset, count);
        0
    }
    /// Reads `size` (1, 2, 4, 8) bytes of a page that [`Memory::frame`] calls MMIO.
    fn mmio_read(&mut self, cpu: usize, icount: u64, addr: u64, size: u8) -> u64;
    /// Writes to a page that [`Memory::frame`] calls MMIO.
    fn mmio_write(&mut self, cpu: usize, icount: u64, addr: u64, size: u8, value: u64);
    /// Whether an external interrupt waits for this vCPU.
    fn interrupt_pending(&self, cpu: usize) -> bool;
    /// Interrupt acknowledge: the vector to take.
    fn acknowledge_interrupt(&mut self, cpu: usize, icount: u64) -> Option<u8>;
    /// Whether a device wants the machine's attention (reset, power-off, …): the CPU then returns.
    fn attention(&self) -> bool {
        false
    }
    /// The time-stamp counter.
    fn tsc(&mut self, icount: u64) -> u64;
    /// The IA32_APIC_BASE MSR of this vCPU.
    fn apic_base(&self, cpu: usize) -> u64;
    /// Writes IA32_APIC_BASE.
    fn set_apic_base(&mut self, cpu: usize, value: u64);
    /// Task priority register bits 7:4 (CR8), for long mode.
    fn task_priority(&self, cpu: usize) -> u8 {
        let _ = cpu;
        0
    }
    /// The FERR# output (x87 error with CR0.NE clear): raises IRQ 13.
    fn ferr(&mut self, cpu: usize, asserted: bool) {
        let _ = (cpu, asserted);
    }
}

/// A bench for device tests: memory, lines, events and a clock, and nothing else.
#[cfg(test)]
pub mod testing {
    use super::*;

    /// Everything an [`IoCtx`] points to.
    pub struct Bench {
        /// The clock; tests move it by hand.
        pub now: VirtTime,
        /// 16 MiB of RAM, no firmware.
        pub mem: Memory,
        /// Interrupt lines.
        pub irq: IrqLines,
        /// Armed events.
        pub events: EventQueue,
        /// Requests.
        pub signals: Signals,
    }

    impl Default for Bench {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Bench {
        /// A new bench at time zero.
        pub fn new() -> Self {
            Self {
                now: 0,
                mem: Memory::new(16 << 20, &[]),
                irq: IrqLines::default(),
                events: EventQueue::default(),
                signals: Signals::default(),
            }
        }

        /// The context to hand to a device.
        pub fn cx(&mut self) -> IoCtx<'_> {
            IoCtx {
                now: self.now,
                mem: &mut self.mem,
                irq: &mut self.irq,
                events: &mut self.events,
                signals: &mut self.signals,
                isa_dma: None,
            }
        }

        /// Advances the clock to `until`, firing this device's events on the way; returns how many fired.
        pub fn advance<D: Device>(&mut self, device: &mut D, until: VirtTime) -> usize {
            let mut fired = 0;
            while self.events.earliest() <= until {
                self.now = self.events.earliest().max(self.now);
                let now = self.now;
                while let Some(event) = self.events.pop_due(now) {
                    fired += 1;
                    device.on_event(event, &mut self.cx());
                }
            }
            self.now = until;
            fired
        }
    }

    /// The conformance that every device with ports must show: random traffic on `ports` neither panics nor
    /// hangs, and a state that went through serde equals the original.
    pub fn conformance<D>(mut device: D, ports: &[u16])
    where
        D: Device + PortIo + Clone + PartialEq + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let mut bench = Bench::new();
        device.reset(&mut bench.cx());
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let port = ports[(seed >> 8) as usize % ports.len()];
            let value = (seed >> 24) as u32;
            match seed % 9 {
                0 => drop(device.read_u8(port, &mut bench.cx())),
                1 => drop(device.read_u16(port, &mut bench.cx())),
                2 => drop(device.read_u32(port, &mut bench.cx())),
                3 => device.write_u16(port, value as u16, &mut bench.cx()),
                4 => device.write_u32(port, value, &mut bench.cx()),
                5 => {
                    // At most a few events at a time: a device may re-arm itself for ever.
                    bench.now += seed >> 44;
                    for _ in 0..4 {
                        let now = bench.now;
                        if let Some(e) = bench.events.pop_due(now) {
                            device.on_event(e, &mut bench.cx());
                        }
                    }
                }
                _ => device.write_u8(port, value as u8, &mut bench.cx()),
            }
        }
        let state = serde_json::to_string(&device).expect("state serialises");
        let restored: D = serde_json::from_str(&state).expect("state deserialises");
        assert_eq!(device, restored);
        device.reset(&mut bench.cx());
    }
}
