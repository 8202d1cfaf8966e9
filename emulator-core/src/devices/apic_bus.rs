//! Messages between I/O APIC and local APICs, and who receives them (Intel SDM vol. 3, 11.6 and 11.5.1).

use super::local_apic::LocalApic;
use serde::{Deserialize, Serialize};

/// Delivery mode of a message or a local vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryMode {
    /// The vector, at every destination.
    Fixed,
    /// The vector, at the destination of lowest priority.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// Reserved encoding; delivers nothing.
    Reserved,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT: reset to wait-for-SIPI.
    Init,
    /// Start-up IPI: real mode at vector × 4 KiB.
    StartUp,
    /// The vector comes from the 8259 pair.
    ExtInt,
}

impl DeliveryMode {
    /// From the three-bit field of ICR, LVT and redirection entries.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        use DeliveryMode::*;
        [Fixed, LowestPriority, Smi, Reserved, Nmi, Init, StartUp, ExtInt][(bits & 7) as usize]
    }
}

/// Destination of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// The APIC with this ID; FFh is all.
    Physical(u8),
    /// Those whose logical destination register matches.
    Logical(u8),
    /// The sender.
    OnlySelf,
    /// All, with the sender.
    All,
    /// All but the sender.
    Others,
}

/// A message on the APIC bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApicMessage {
    /// Who gets it.
    pub destination: Destination,
    /// What happens there.
    pub mode: DeliveryMode,
    /// Interrupt vector or start-up page.
    pub vector: u8,
    /// Level-triggered: its EOI goes back to the I/O APIC.
    pub level: bool,
}

/// What a vCPU must do beside looking at its local APIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuRequest {
    /// Non-maskable interrupt.
    Nmi,
    /// System management interrupt.
    Smi,
    /// Reset the vCPU; all but the bootstrap processor wait for a start-up IPI.
    Init,
    /// If it waits: start at CS = vector << 8, IP = 0.
    StartUp(u8),
    /// Take the vector that the 8259 pair gives.
    ExtInt,
}

/// Delivers `message`, sent by the local APIC with index `source` (or the I/O APIC), to `apics` and returns
/// what vCPUs (by index) must do about it. Vectored interrupts need no more: [`LocalApic::intr`] shows them.
pub fn deliver(message: &ApicMessage, source: Option<usize>, apics: &mut [LocalApic]) -> Vec<(usize, CpuRequest)> {
    let matches = |(i, apic): (usize, &LocalApic)| match message.destination {
        Destination::Physical(id) => id == 0xff || id == apic.id(),
        Destination::Logical(mask) => apic.logical_match(mask),
        Destination::OnlySelf => Some(i) == source,
        Destination::All => true,
        Destination::Others => Some(i) != source,
    };
    let mut targets: Vec<usize> = (0..apics.len()).filter(|&i| apics[i].enabled() && matches((i, &apics[i]))).collect();
    if message.mode == DeliveryMode::LowestPriority {
        // Ties go to the lowest index; hardware leaves that open.
        targets = targets
            .into_iter()
            .filter(|&i| apics[i].software_enabled())
            .min_by_key(|&i| apics[i].processor_priority())
            .into_iter()
            .collect();
    }
    targets.into_iter().filter_map(|i| apics[i].accept(message).map(|request| (i, request))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::MmioIo;
    use crate::bus::testing::Bench;

    fn message(destination: Destination, mode: DeliveryMode) -> ApicMessage {
        ApicMessage { destination, mode, vector: 0x60, level: false }
    }

    fn two() -> Vec<LocalApic> {
        let mut bench = Bench::new();
        (0..2)
            .map(|n| {
                let mut apic = LocalApic::new(n);
                apic.mmio_write(0xf0, 4, 0x1ff, &mut bench.cx());
                apic.mmio_write(0xd0, 4, 1 << (24 + n), &mut bench.cx());
                apic
            })
            .collect()
    }

    #[test]
    fn destinations_select_receivers() {
        let received = |m: ApicMessage, source| {
            let mut apics = two();
            deliver(&m, source, &mut apics);
            [apics[0].intr().is_some(), apics[1].intr().is_some()]
        };
        use Destination::*;
        let fixed = |d| message(d, DeliveryMode::Fixed);
        assert_eq!(received(fixed(Physical(1)), None), [false, true]);
        assert_eq!(received(fixed(Physical(0xff)), None), [true, true]);
        assert_eq!(received(fixed(Logical(3)), None), [true, true]);
        assert_eq!(received(fixed(Logical(2)), None), [false, true]);
        assert_eq!(received(fixed(OnlySelf), Some(1)), [false, true]);
        assert_eq!(received(fixed(Others), Some(1)), [true, false]);
        let lowest = message(Logical(3), DeliveryMode::LowestPriority);
        assert_eq!(received(lowest, None), [true, false]);
    }

    #[test]
    fn lowest_priority_avoids_a_busy_processor() {
        let mut apics = two();
        apics[0].mmio_write(0x80, 4, 0x40, &mut Bench::new().cx());
        let lowest = message(Destination::Logical(3), DeliveryMode::LowestPriority);
        deliver(&lowest, None, &mut apics);
        assert_eq!(apics[1].intr(), Some(0x60));
    }

    #[test]
    fn init_and_startup_reach_the_cpu() {
        let mut apics = two();
        let init = message(Destination::Others, DeliveryMode::Init);
        assert_eq!(deliver(&init, Some(0), &mut apics), [(1, CpuRequest::Init)]);
        let start = message(Destination::Physical(1), DeliveryMode::StartUp);
        assert_eq!(deliver(&start, Some(0), &mut apics), [(1, CpuRequest::StartUp(0x60))]);
    }
}
