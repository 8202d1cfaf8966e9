//! CPUID (SDM vol. 2), truthful for each model: a feature shows exactly when its instructions decode.

use crate::bus::CpuBus;
use crate::cpu::fault::Exec;
use crate::cpu::state::{Cpu, CpuModel, RAX, RBX, RCX, RDX};

/// Feature bits of leaf 1: EDX, and ECX above it.
#[allow(missing_docs, reason = "bit names of the manual")]
pub mod feature {
    pub const FPU: u64 = 1;
    pub const VME: u64 = 1 << 1;
    pub const DE: u64 = 1 << 2;
    pub const PSE: u64 = 1 << 3;
    pub const TSC: u64 = 1 << 4;
    pub const MSR: u64 = 1 << 5;
    pub const PAE: u64 = 1 << 6;
    pub const MCE: u64 = 1 << 7;
    pub const CX8: u64 = 1 << 8;
    pub const APIC: u64 = 1 << 9;
    pub const SEP: u64 = 1 << 11;
    pub const MTRR: u64 = 1 << 12;
    pub const PGE: u64 = 1 << 13;
    pub const MCA: u64 = 1 << 14;
    pub const CMOV: u64 = 1 << 15;
    pub const PAT: u64 = 1 << 16;
    pub const PSE36: u64 = 1 << 17;
    pub const CLFSH: u64 = 1 << 19;
    pub const MMX: u64 = 1 << 23;
    pub const FXSR: u64 = 1 << 24;
    pub const SSE: u64 = 1 << 25;
    pub const SSE2: u64 = 1 << 26;
    // Bits of leaf 1 ECX, 32 higher.
    pub const SSE3: u64 = 1 << 32;
    pub const SSSE3: u64 = 1 << 41;
    pub const SSE4_1: u64 = 1 << 51;
    pub const SSE4_2: u64 = 1 << 52;
    pub const POPCNT: u64 = 1 << 55;

    /// The 486 that has CPUID.
    pub const I486: u64 = FPU | VME;
    /// P54C.
    pub const PENTIUM: u64 = FPU | VME | DE | PSE | TSC | MSR | MCE | CX8;
    /// Katmai.
    pub const PENTIUM_III: u64 = PENTIUM | PAE | APIC | SEP | MTRR | PGE | MCA | CMOV | PAT | PSE36 | MMX | FXSR | SSE;
    /// Northwood.
    pub const PENTIUM_4: u64 = PENTIUM_III | CLFSH | SSE2;
    /// Bloomfield, as far as there is anything of it here.
    pub const NEHALEM: u64 = PENTIUM_4 | SSE3 | SSSE3 | SSE4_1 | SSE4_2 | POPCNT;
}

/// IA32_APIC_BASE bit 11: the local APIC is on.
const APIC_ENABLE: u64 = 1 << 11;
/// Leaf 80000001h EDX: the execute-disable bit.
const NX: u32 = 1 << 20;
/// CLFLUSH line size in units of 8 bytes.
const CLFLUSH_LINE: u32 = 8 << 8;

const BRAND_P4: &[u8; 48] = b"              Intel(R) Pentium(R) 4 CPU 2.40GHz\0";
const BRAND_NEHALEM: &[u8; 48] = b"Intel(R) Core(TM) i7 CPU         920  @ 2.67GHz\0";

impl CpuModel {
    /// Leaf 1 EDX and, in the high half, ECX of this model (with the APIC bit whether or not the APIC is on).
    #[must_use]
    pub fn features(self) -> u64 {
        match self {
            CpuModel::I486 => feature::I486,
            CpuModel::Pentium => feature::PENTIUM,
            CpuModel::PentiumIII => feature::PENTIUM_III,
            CpuModel::Pentium4 => feature::PENTIUM_4,
            CpuModel::Nehalem => feature::NEHALEM,
        }
    }
}

impl Cpu {
    /// Features of this CPU's model.
    #[must_use]
    pub fn features(&self) -> u64 {
        self.model.features()
    }

    /// CPUID of EAX; answers in EAX, EBX, ECX, EDX.
    pub fn cpuid<B: CpuBus>(&mut self, bus: &mut B) -> Exec {
        let apic_on = bus.apic_base(self.index) & APIC_ENABLE != 0;
        let [a, b, c, d] = self.cpuid_leaf(self.reg32(RAX), apic_on);
        self.set_reg32(RAX, a);
        self.set_reg32(RBX, b);
        self.set_reg32(RCX, c);
        self.set_reg32(RDX, d);
        Ok(())
    }

    /// EAX, EBX, ECX, EDX of `leaf`. A leaf beyond the model's last answers as the last basic one.
    fn cpuid_leaf(&self, leaf: u32, apic_on: bool) -> [u32; 4] {
        let extended = self.model >= CpuModel::Pentium4;
        let name = if self.model == CpuModel::Nehalem { BRAND_NEHALEM } else { BRAND_P4 };
        match leaf {
            0 => {
                let text = |s: &[u8; 4]| u32::from_le_bytes(*s);
                [self.last_leaf(), text(b"Genu"), text(b"ntel"), text(b"ineI")]
            }
            0x8000_0000 if extended => [0x8000_0004, 0, 0, 0],
            0x8000_0001 if extended => [0, 0, 0, NX],
            0x8000_0002..=0x8000_0004 if extended => brand(name, leaf - 0x8000_0002),
            _ => match leaf.min(self.last_leaf()) {
                1 => self.version_leaf(apic_on),
                _ => self.cache_leaf(),
            },
        }
    }

    fn last_leaf(&self) -> u32 {
        match self.model {
            CpuModel::I486 | CpuModel::Pentium => 1,
            CpuModel::PentiumIII | CpuModel::Pentium4 | CpuModel::Nehalem => 2,
        }
    }

    fn version_leaf(&self, apic_on: bool) -> [u32; 4] {
        let mut features = self.features();
        if !apic_on {
            features &= !feature::APIC;
        }
        let mut ebx = 0;
        if features & feature::APIC != 0 {
            ebx |= (self.index as u32) << 24;
        }
        if features & feature::CLFSH != 0 {
            ebx |= CLFLUSH_LINE;
        }
        [self.signature(), ebx, (features >> 32) as u32, features as u32]
    }

    /// Leaf 2: one-byte descriptors of caches and TLBs (SDM vol. 2, table 3-12).
    fn cache_leaf(&self) -> [u32; 4] {
        match self.model {
            // L1 16 + 16 KiB, L2 512 KiB.
            CpuModel::PentiumIII => [0x0302_0101, 0, 0, 0x0c04_0843],
            // L1 32 + 32 KiB, L2 256 KiB, L3 8 MiB.
            CpuModel::Nehalem => [0x5503_5a01, 0x00f0_b2e4, 0, 0x09ca_212c],
            // L1 8 KiB, trace cache 12 K µops, L2 512 KiB.
            _ => [0x665b_5001, 0, 0, 0x007b_7040],
        }
    }
}

/// 16 of the 48 bytes of a brand string.
fn brand(text: &[u8; 48], part: u32) -> [u32; 4] {
    let mut out = [0; 4];
    let words = text.chunks_exact(4).skip(part as usize * 4);
    for (o, w) in out.iter_mut().zip(words) {
        *o = w.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b));
    }
    out
}
