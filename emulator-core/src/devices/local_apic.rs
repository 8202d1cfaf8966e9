//! Local APIC (xAPIC) of one vCPU, memory-mapped at FEE00000h. Spec: Intel SDM vol. 3, chapter 11.
//!
//! Time of its timer comes from a fixed 1 GHz bus clock, as QEMU's. The board passes messages on: after
//! each access it empties [`LocalApic::take_ipis`] and [`LocalApic::take_eoi`].

use super::apic_bus::{ApicMessage, CpuRequest, DeliveryMode, Destination};
use crate::bus::{Device, IoCtx, MmioIo};
use crate::time::{EventId, Hz, VirtTime};
use serde::{Deserialize, Serialize};

/// Physical address of the window after reset.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;
/// IA32_APIC_BASE: this is the bootstrap processor.
pub const BASE_BSP: u64 = 1 << 8;
/// IA32_APIC_BASE: the APIC is on.
pub const BASE_ENABLE: u64 = 1 << 11;
/// Clock of the timer before its divider.
pub const BUS_CLOCK: Hz = Hz(1_000_000_000);

/// Version 14h, six local vectors.
const VERSION: u32 = 0x0005_0014;
const SVR_ENABLE: u32 = 1 << 8;

const LVT_TIMER: usize = 0;
const LVT_LINT0: usize = 3;
const LVT_LINT1: usize = 4;
const LVT_ERROR: usize = 5;
/// Writable bits of the local vectors: timer, thermal, performance, LINT0, LINT1, error.
const LVT_WRITABLE: [u32; 6] = [0x300ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff];

bitflags::bitflags! {
    /// Bits that local vectors share (SDM vol. 3, figure 11-8).
    struct Lvt: u32 {
        /// LINT pins: level-triggered.
        const LEVEL = 1 << 15;
        /// Masked.
        const MASKED = 1 << 16;
        /// Timer: periodic.
        const PERIODIC = 1 << 17;
    }

    /// Error status (SDM vol. 3, figure 11-9).
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
    struct ErrorStatus: u8 {
        /// An IPI with vector 0 to 15 was sent.
        const SEND_ILLEGAL_VECTOR = 1 << 5;
        /// A message with vector 0 to 15 arrived.
        const RECEIVED_ILLEGAL_VECTOR = 1 << 6;
        /// A reserved register was accessed.
        const ILLEGAL_REGISTER = 1 << 7;
    }
}

/// 256 bits, one for each vector (ISR, TMR, IRR).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct VectorSet([u32; 8]);

impl VectorSet {
    fn set(&mut self, vector: u8, on: bool) {
        let bit = 1 << (vector & 31);
        let word = &mut self.0[usize::from(vector >> 5)];
        *word = if on { *word | bit } else { *word & !bit };
    }

    fn contains(&self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] & 1 << (vector & 31) != 0
    }

    fn highest(&self) -> Option<u8> {
        let word = self.0.iter().rposition(|&w| w != 0)?;
        Some(word as u8 * 32 + (31 - self.0[word].leading_zeros()) as u8)
    }
}

/// The local APIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalApic {
    /// Index of the vCPU.
    index: usize,
    base: u64,
    id: u8,
    task_priority: u8,
    logical: u8,
    /// DFR bits 31:28: Fh flat, 0 cluster.
    model: u8,
    spurious: u32,
    in_service: VectorSet,
    trigger: VectorSet,
    request: VectorSet,
    errors: ErrorStatus,
    /// Errors since ESR was last written.
    new_errors: ErrorStatus,
    command: u64,
    lvt: [u32; 6],
    lint_level: [bool; 2],
    initial_count: u32,
    divide: u32,
    /// When the initial count was written.
    epoch: VirtTime,
    ipis: Vec<ApicMessage>,
    eoi: Option<u8>,
}

impl LocalApic {
    /// The APIC of vCPU `index` (which is also its ID), in its power-on state. vCPU 0 is the bootstrap
    /// processor.
    #[must_use]
    pub fn new(index: usize) -> Self {
        let mut apic = Self {
            index,
            base: 0,
            id: index as u8,
            task_priority: 0,
            logical: 0,
            model: 0xf,
            spurious: 0xff,
            in_service: VectorSet::default(),
            trigger: VectorSet::default(),
            request: VectorSet::default(),
            errors: ErrorStatus::empty(),
            new_errors: ErrorStatus::empty(),
            command: 0,
            lvt: [Lvt::MASKED.bits(); 6],
            lint_level: [false; 2],
            initial_count: 0,
            divide: 0,
            epoch: 0,
            ipis: Vec::new(),
            eoi: None,
        };
        apic.base = DEFAULT_BASE | BASE_ENABLE;
        if index == 0 {
            apic.base |= BASE_BSP;
            // Firmware that never touches the APIC expects the 8259 pair to reach the processor: LINT0 of
            // the bootstrap processor starts as ExtINT, as in QEMU.
            apic.lvt[LVT_LINT0] = 0x700;
        }
        apic
    }

    // --- what the board asks ---

    /// The IA32_APIC_BASE MSR.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE. The bootstrap flag is read-only here, reserved bits are dropped; the window moves
    /// and the APIC goes off or on at once.
    pub fn set_base(&mut self, value: u64) {
        self.base = (value & (0xf_ffff_f000 | BASE_ENABLE)) | (self.base & BASE_BSP);
    }

    /// Physical address of the register window, while the APIC is on.
    #[must_use]
    pub fn window(&self) -> Option<u64> {
        self.enabled().then_some(self.base & !0xfff)
    }

    /// Whether IA32_APIC_BASE has the APIC on.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0
    }

    /// Whether the spurious vector register has the APIC on.
    #[must_use]
    pub fn software_enabled(&self) -> bool {
        self.spurious & SVR_ENABLE != 0
    }

    /// The APIC ID.
    #[must_use]
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Whether logical destination `mask` means this APIC.
    #[must_use]
    pub fn logical_match(&self, mask: u8) -> bool {
        match self.model {
            _ if mask == 0xff => true,
            0xf => mask & self.logical != 0,
            0 => mask >> 4 == self.logical >> 4 && mask & self.logical & 0xf != 0,
            _ => false,
        }
    }

    /// CR8: bits 7:4 of the task priority.
    #[must_use]
    pub fn task_priority(&self) -> u8 {
        self.task_priority >> 4
    }

    /// Writes CR8.
    pub fn set_task_priority(&mut self, class: u8) {
        self.task_priority = class << 4;
    }

    /// PPR: the higher of task priority and the class in service.
    #[must_use]
    pub fn processor_priority(&self) -> u8 {
        let class = self.in_service.highest().unwrap_or(0) & 0xf0;
        if self.task_priority & 0xf0 >= class { self.task_priority } else { class }
    }

    /// The vector to deliver now, if any outranks the processor's priority.
    #[must_use]
    pub fn intr(&self) -> Option<u8> {
        if !self.enabled() || !self.software_enabled() {
            return None;
        }
        self.request.highest().filter(|v| v & 0xf0 > self.processor_priority() & 0xf0)
    }

    /// Interrupt acknowledge: takes the vector into service; the spurious vector if it has gone.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(vector) = self.intr() else {
            return self.spurious as u8;
        };
        self.request.set(vector, false);
        self.in_service.set(vector, true);
        vector
    }

    /// Whether interrupts of the 8259 pair pass to this processor: the APIC is off, or LINT0 is an unmasked
    /// ExtINT ("virtual wire").
    #[must_use]
    pub fn accepts_pic(&self) -> bool {
        let lint0 = self.lvt[LVT_LINT0];
        !self.enabled()
            || (lint0 & Lvt::MASKED.bits() == 0 && DeliveryMode::from_bits(lint0 >> 8) == DeliveryMode::ExtInt)
    }

    /// Drives LINT0 (the 8259 pair's output) or LINT1 (NMI). ExtINT is seen through
    /// [`accepts_pic`](Self::accepts_pic) and not here.
    pub fn set_lint(&mut self, pin: usize, level: bool) -> Option<CpuRequest> {
        let was = std::mem::replace(self.lint_level.get_mut(pin)?, level);
        let lvt = self.lvt[[LVT_LINT0, LVT_LINT1][pin]];
        if !self.enabled() {
            return (pin == 1 && level && !was).then_some(CpuRequest::Nmi);
        }
        if !level || lvt & Lvt::MASKED.bits() != 0 {
            return None;
        }
        let by_level = lvt & Lvt::LEVEL.bits() != 0;
        match DeliveryMode::from_bits(lvt >> 8) {
            DeliveryMode::Fixed if by_level || !was => {
                self.set_irr(lvt as u8, by_level);
                None
            }
            DeliveryMode::Nmi if !was => Some(CpuRequest::Nmi),
            DeliveryMode::Smi if !was => Some(CpuRequest::Smi),
            DeliveryMode::Init if !was => Some(CpuRequest::Init),
            _ => None,
        }
    }

    /// Takes in an interrupt.
    pub fn set_irr(&mut self, vector: u8, level: bool) {
        if vector < 16 {
            self.error(ErrorStatus::RECEIVED_ILLEGAL_VECTOR);
            return;
        }
        self.request.set(vector, true);
        self.trigger.set(vector, level);
    }

    /// Takes in a message of the APIC bus; returns what concerns the processor itself.
    pub fn accept(&mut self, message: &ApicMessage) -> Option<CpuRequest> {
        match message.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                if self.software_enabled() {
                    self.set_irr(message.vector, message.level);
                }
                None
            }
            DeliveryMode::Smi => Some(CpuRequest::Smi),
            DeliveryMode::Nmi => Some(CpuRequest::Nmi),
            DeliveryMode::Init => Some(CpuRequest::Init),
            DeliveryMode::StartUp => Some(CpuRequest::StartUp(message.vector)),
            DeliveryMode::ExtInt => Some(CpuRequest::ExtInt),
            DeliveryMode::Reserved => None,
        }
    }

    /// Messages that the guest sent since the last call.
    pub fn take_ipis(&mut self) -> Vec<ApicMessage> {
        std::mem::take(&mut self.ipis)
    }

    /// Vector of a level-triggered interrupt that the guest finished: tell the I/O APIC.
    pub fn take_eoi(&mut self) -> Option<u8> {
        self.eoi.take()
    }

    /// INIT: everything but ID and base goes back to its reset value (SDM vol. 3, 11.4.7.3).
    pub fn init(&mut self, cx: &mut IoCtx) {
        let (id, base) = (self.id, self.base);
        *self = Self::new(self.index);
        self.id = id;
        self.base = base;
        self.arm_timer(cx);
    }

    // --- registers ---

    fn error(&mut self, error: ErrorStatus) {
        self.new_errors |= error;
        let lvt = self.lvt[LVT_ERROR];
        let vector = lvt as u8;
        // An illegal error vector must not raise the next error.
        if lvt & Lvt::MASKED.bits() == 0 && vector >= 16 {
            self.set_irr(vector, false);
        }
    }

    fn end_of_interrupt(&mut self) {
        if let Some(vector) = self.in_service.highest() {
            self.in_service.set(vector, false);
            if self.trigger.contains(vector) {
                self.eoi = Some(vector);
                self.trigger.set(vector, false);
            }
        }
    }

    fn send_ipi(&mut self) {
        let low = self.command as u32;
        let mode = DeliveryMode::from_bits(low >> 8);
        let vector = low as u8;
        let target = (self.command >> 56) as u8;
        let destination = match (low >> 18 & 3, low & 1 << 11 != 0) {
            (0, false) => Destination::Physical(target),
            (0, true) => Destination::Logical(target),
            (1, _) => Destination::OnlySelf,
            (2, _) => Destination::All,
            _ => Destination::Others,
        };
        let level_triggered = low & 1 << 15 != 0;
        let assert = low & 1 << 14 != 0;
        if mode == DeliveryMode::Init && level_triggered && !assert {
            return; // INIT level de-assert: arbitration IDs only
        }
        if matches!(mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority) && vector < 16 {
            self.error(ErrorStatus::SEND_ILLEGAL_VECTOR);
            return;
        }
        self.ipis.push(ApicMessage {
            destination,
            mode,
            vector,
            level: false, // IPIs are edge-triggered
        });
    }

    fn write_spurious(&mut self, value: u32) {
        self.spurious = value & 0x1ff;
        if !self.software_enabled() {
            for lvt in &mut self.lvt {
                *lvt |= Lvt::MASKED.bits();
            }
        }
    }

    fn write_lvt(&mut self, n: usize, value: u32, cx: &mut IoCtx) {
        self.lvt[n] = value & LVT_WRITABLE[n];
        if !self.software_enabled() {
            self.lvt[n] |= Lvt::MASKED.bits();
        }
        if n == LVT_TIMER {
            self.arm_timer(cx);
        }
    }

    // --- timer ---

    /// Bus clocks for each count: 1, 2, 4 … 128.
    fn divisor(&self) -> u64 {
        let field = self.divide & 3 | self.divide >> 1 & 4;
        1 << ((field + 1) & 7)
    }

    fn timer(&self, bit: Lvt) -> bool {
        self.lvt[LVT_TIMER] & bit.bits() != 0
    }

    /// Counts since the initial count was written.
    fn counts(&self, now: VirtTime) -> u64 {
        BUS_CLOCK.ticks(now.saturating_sub(self.epoch)) / self.divisor()
    }

    fn current_count(&self, now: VirtTime) -> u32 {
        let initial = u64::from(self.initial_count);
        let counts = self.counts(now);
        match initial {
            0 => 0,
            _ if self.timer(Lvt::PERIODIC) => (initial - counts % initial) as u32,
            _ => initial.saturating_sub(counts) as u32,
        }
    }

    /// Schedules the next expiry after now, if there is one and it would interrupt.
    fn arm_timer(&mut self, cx: &mut IoCtx) {
        let event = EventId::local_apic(self.index);
        let initial = u64::from(self.initial_count);
        let passed = self.counts(cx.now);
        let expired = !self.timer(Lvt::PERIODIC) && passed >= initial;
        if initial == 0 || self.timer(Lvt::MASKED) || expired {
            cx.events.cancel(event);
            return;
        }
        let expiry = (passed / initial + 1) * initial * self.divisor();
        let at = self.epoch.saturating_add(BUS_CLOCK.time_of(expiry));
        if self.timer(Lvt::PERIODIC) {
            cx.events.schedule(event, at);
        } else {
            cx.events.schedule_one_shot(event, at);
        }
    }

    fn read(&mut self, register: u64, now: VirtTime) -> u32 {
        let word = |set: &VectorSet| set.0[(register >> 4 & 7) as usize];
        match register {
            0x020 => u32::from(self.id) << 24,
            0x030 => VERSION,
            0x080 => u32::from(self.task_priority),
            0x090 => {
                let request = self.request.highest().unwrap_or(0) & 0xf0;
                u32::from(self.processor_priority().max(request))
            }
            0x0a0 => u32::from(self.processor_priority()),
            0x0b0 => 0,
            0x0d0 => u32::from(self.logical) << 24,
            0x0e0 => u32::from(self.model) << 28 | 0x0fff_ffff,
            0x0f0 => self.spurious,
            0x100..=0x170 => word(&self.in_service),
            0x180..=0x1f0 => word(&self.trigger),
            0x200..=0x270 => word(&self.request),
            0x280 => u32::from(self.errors.bits()),
            0x300 => self.command as u32,
            0x310 => (self.command >> 32) as u32,
            0x320..=0x370 => self.lvt[((register - 0x320) >> 4) as usize],
            0x380 => self.initial_count,
            0x390 => self.current_count(now),
            0x3e0 => self.divide,
            _ => {
                self.error(ErrorStatus::ILLEGAL_REGISTER);
                0
            }
        }
    }

    fn write(&mut self, register: u64, value: u32, cx: &mut IoCtx) {
        match register {
            0x020 => self.id = (value >> 24) as u8,
            0x080 => self.task_priority = value as u8,
            0x0b0 => self.end_of_interrupt(),
            0x0d0 => self.logical = (value >> 24) as u8,
            0x0e0 => self.model = (value >> 28) as u8,
            0x0f0 => {
                self.write_spurious(value);
                self.arm_timer(cx);
            }
            0x280 => self.errors = std::mem::take(&mut self.new_errors),
            0x300 => {
                // Bit 12, delivery status, reads as idle: messages arrive at once.
                let low = u64::from(value & 0x000c_cfff);
                self.command = self.command & 0xffff_ffff_0000_0000 | low;
                self.send_ipi();
            }
            0x310 => {
                let high = u64::from(value & 0xff00_0000) << 32;
                self.command = self.command & 0xffff_ffff | high;
            }
            0x320..=0x370 => self.write_lvt(((register - 0x320) >> 4) as usize, value, cx),
            0x380 => {
                self.initial_count = value;
                self.epoch = cx.now;
                self.arm_timer(cx);
            }
            0x3e0 => {
                self.divide = value & 0xb;
                self.arm_timer(cx);
            }
            // Read-only registers.
            0x030 | 0x090 | 0x0a0 | 0x100..=0x270 | 0x390 => {}
            _ => self.error(ErrorStatus::ILLEGAL_REGISTER),
        }
    }
}

impl MmioIo for LocalApic {
    /// Registers are 32 bits at multiples of 16; other accesses are undefined and read as 0.
    fn mmio_read(&mut self, offset: u64, size: u8, cx: &mut IoCtx) -> u64 {
        let offset = offset & 0xfff;
        let shift = 8 * (offset & 3);
        if offset & 0xc != 0 || offset & 3 != 0 && size >= 4 {
            return 0;
        }
        let value = u64::from(self.read(offset & !3, cx.now)) >> shift;
        match size {
            1 => value & 0xff,
            2 => value & 0xffff,
            _ => value,
        }
    }

    fn mmio_write(&mut self, offset: u64, size: u8, value: u64, cx: &mut IoCtx) {
        if size >= 4 && offset & 0xf == 0 {
            self.write(offset & 0xff0, value as u32, cx);
        }
    }
}

impl Device for LocalApic {
    fn reset(&mut self, cx: &mut IoCtx) {
        *self = Self::new(self.index);
        self.arm_timer(cx);
    }

    fn on_event(&mut self, event: EventId, cx: &mut IoCtx) {
        if event == EventId::local_apic(self.index) && !self.timer(Lvt::MASKED) {
            self.set_irr(self.lvt[LVT_TIMER] as u8, false);
            self.arm_timer(cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::testing::Bench;

    fn enabled() -> (LocalApic, Bench) {
        let (mut apic, mut bench) = (LocalApic::new(0), Bench::new());
        apic.mmio_write(0xf0, 4, 0x1ff, &mut bench.cx());
        (apic, bench)
    }

    fn write(apic: &mut LocalApic, bench: &mut Bench, at: u64, value: u32) {
        apic.mmio_write(at, 4, u64::from(value), &mut bench.cx());
    }

    fn read(apic: &mut LocalApic, bench: &mut Bench, at: u64) -> u32 {
        apic.mmio_read(at, 4, &mut bench.cx()) as u32
    }

    #[test]
    fn reset_state_passes_the_pic_through_on_the_bootstrap_processor() {
        let mut bench = Bench::new();
        let mut bsp = LocalApic::new(0);
        assert!(bsp.accepts_pic());
        assert_eq!(bsp.base(), 0xfee0_0900);
        assert_eq!(bsp.window(), Some(0xfee0_0000));
        assert_eq!(read(&mut bsp, &mut bench, 0x30), 0x0005_0014);
        assert_eq!(read(&mut bsp, &mut bench, 0xf0), 0xff);
        assert_eq!(read(&mut bsp, &mut bench, 0xe0), 0xffff_ffff);
        let mut ap = LocalApic::new(3);
        assert!(!ap.accepts_pic());
        assert_eq!(read(&mut ap, &mut bench, 0x20), 3 << 24);
        bsp.set_base(DEFAULT_BASE);
        assert!(bsp.accepts_pic());
        assert_eq!(bsp.window(), None);
        assert_eq!(bsp.base() & BASE_BSP, BASE_BSP);
    }

    #[test]
    fn seabios_virtual_wire_setup() {
        let (mut apic, mut bench) = enabled();
        write(&mut apic, &mut bench, 0x350, 0x8700); // LINT0: ExtINT, level
        write(&mut apic, &mut bench, 0x360, 0x8400); // LINT1: NMI, level
        assert!(apic.accepts_pic());
        assert_eq!(apic.set_lint(0, true), None);
        assert_eq!(apic.intr(), None);
        assert_eq!(apic.set_lint(1, true), Some(CpuRequest::Nmi));
        // INIT and start-up to the others.
        write(&mut apic, &mut bench, 0x300, 0x000c_4500);
        write(&mut apic, &mut bench, 0x300, 0x000c_4610);
        let ipis = apic.take_ipis();
        assert_eq!(ipis.len(), 2);
        assert!(ipis.iter().all(|m| m.destination == Destination::Others));
        assert_eq!(ipis[0].mode, DeliveryMode::Init);
        assert_eq!((ipis[1].mode, ipis[1].vector), (DeliveryMode::StartUp, 0x10));
    }

    #[test]
    fn priorities_nest_and_eoi_ends_the_highest() {
        let (mut apic, mut bench) = enabled();
        apic.set_irr(0x41, false);
        apic.set_irr(0x45, false);
        assert_eq!(apic.acknowledge(), 0x45);
        assert_eq!(apic.intr(), None, "same class waits");
        apic.set_irr(0x51, true);
        assert_eq!(apic.acknowledge(), 0x51);
        assert_eq!(read(&mut apic, &mut bench, 0xa0), 0x50);
        assert_eq!(read(&mut apic, &mut bench, 0x120), 1 << 5 | 1 << 17);
        write(&mut apic, &mut bench, 0xb0, 0);
        assert_eq!(apic.take_eoi(), Some(0x51));
        write(&mut apic, &mut bench, 0xb0, 0);
        assert_eq!(apic.take_eoi(), None, "edge-triggered");
        assert_eq!(apic.intr(), Some(0x41));
        write(&mut apic, &mut bench, 0x80, 0x40);
        assert_eq!(apic.intr(), None);
        assert_eq!(apic.task_priority(), 4);
        assert_eq!(apic.acknowledge(), 0xff, "spurious");
    }

    #[test]
    fn one_shot_timer_fires_once_and_counts_down() {
        let (mut apic, mut bench) = enabled();
        bench.now = 1000;
        write(&mut apic, &mut bench, 0x3e0, 3); // divide by 16
        write(&mut apic, &mut bench, 0x320, 0x30);
        write(&mut apic, &mut bench, 0x380, 1000);
        bench.now = 1000 + 160;
        assert_eq!(read(&mut apic, &mut bench, 0x390), 990);
        assert_eq!(bench.advance(&mut apic, 16_999), 0);
        assert_eq!(bench.advance(&mut apic, 17_000), 1);
        assert_eq!(apic.acknowledge(), 0x30);
        assert_eq!(read(&mut apic, &mut bench, 0x390), 0);
        assert_eq!(bench.advance(&mut apic, 1_000_000), 0);
    }

    #[test]
    fn periodic_timer_keeps_its_phase_while_masked() {
        let (mut apic, mut bench) = enabled();
        write(&mut apic, &mut bench, 0x3e0, 0xb); // divide by 1
        write(&mut apic, &mut bench, 0x320, 0x2_0030);
        write(&mut apic, &mut bench, 0x380, 1000);
        assert_eq!(bench.advance(&mut apic, 3500), 3);
        assert_eq!(read(&mut apic, &mut bench, 0x390), 500);
        write(&mut apic, &mut bench, 0x320, 0x3_0030);
        assert_eq!(bench.advance(&mut apic, 5500), 0);
        write(&mut apic, &mut bench, 0x320, 0x2_0030);
        assert_eq!(bench.events.earliest(), 6000);
        write(&mut apic, &mut bench, 0x380, 0);
        assert_eq!(bench.events.earliest(), VirtTime::MAX);
    }

    #[test]
    fn errors_show_after_a_write_of_esr() {
        let (mut apic, mut bench) = enabled();
        write(&mut apic, &mut bench, 0x370, 0xfe);
        write(&mut apic, &mut bench, 0x300, 0x0000_4005);
        assert_eq!(read(&mut apic, &mut bench, 0x280), 0);
        write(&mut apic, &mut bench, 0x280, 0);
        assert_eq!(read(&mut apic, &mut bench, 0x280), 0x20);
        assert_eq!(apic.acknowledge(), 0xfe);
        assert!(apic.take_ipis().is_empty());
    }

    #[test]
    fn disabling_masks_the_local_vectors() {
        let (mut apic, mut bench) = enabled();
        write(&mut apic, &mut bench, 0x320, 0x30);
        write(&mut apic, &mut bench, 0xf0, 0xff);
        assert_eq!(read(&mut apic, &mut bench, 0x320), 0x1_0030);
        write(&mut apic, &mut bench, 0x320, 0x30);
        assert_eq!(read(&mut apic, &mut bench, 0x320), 0x1_0030);
        apic.set_irr(0x60, false);
        assert_eq!(apic.intr(), None);
        assert!(!apic.accepts_pic());
    }

    #[test]
    fn random_traffic_is_survived_and_the_state_round_trips() {
        let (mut apic, mut bench) = enabled();
        let mut seed = 0x1234_5678_9abc_def1_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let (at, size) = (seed >> 20 & 0xfff, [1, 2, 4, 8][(seed >> 4 & 3) as usize]);
            match seed & 3 {
                0 => drop(apic.mmio_read(at, size, &mut bench.cx())),
                1 => drop(apic.acknowledge()),
                2 => {
                    bench.now += seed >> 44;
                    let now = bench.now;
                    if let Some(event) = bench.events.pop_due(now) {
                        apic.on_event(event, &mut bench.cx());
                    }
                }
                _ => apic.mmio_write(at & 0xff0, 4, seed >> 32, &mut bench.cx()),
            }
            apic.take_ipis();
        }
        let saved = serde_json::to_string(&apic).expect("serialises");
        let restored: LocalApic = serde_json::from_str(&saved).expect("deserialises");
        assert_eq!(apic, restored);
        apic.reset(&mut bench.cx());
        assert_eq!(apic, LocalApic::new(0));
    }
}
