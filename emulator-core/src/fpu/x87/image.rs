//! The memory images of the x87 state: FSTENV/FLDENV, FSAVE/FRSTOR in their four layouts, and the
//! x87 part of FXSAVE/FXRSTOR. Spec: Intel SDM vol. 1 figures 8-9 to 8-12, vol. 2 "FXSAVE".

use super::{EXCEPTIONS, TOP_FIELD, X87};
use crate::fpu::f80::{Class, F80};

/// Which layout an environment image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageMode {
    /// 32-bit operand size.
    pub operand32: bool,
    /// Protected mode (real and virtual-8086 mode store linear addresses instead of selectors).
    pub protected: bool,
}

impl ImageMode {
    /// Bytes of an environment image.
    pub const fn env_len(self) -> usize {
        if self.operand32 { 28 } else { 14 }
    }
}

impl X87 {
    /// The full tag word: two bits per physical register, worked out from the contents.
    pub fn tag_word(&self) -> u16 {
        (0..8).fold(0, |tags, p| {
            let tag = if self.empty >> p & 1 == 1 {
                3
            } else {
                match self.register(p).class() {
                    Class::Normal => 0,
                    Class::Zero => 1,
                    _ => 2,
                }
            };
            tags | tag << (2 * p)
        })
    }

    fn set_tag_word(&mut self, tags: u16) {
        self.empty = (0..8).fold(0, |e, p| e | u8::from(tags >> (2 * p) & 3 == 3) << p);
    }

    fn set_status(&mut self, sw: u16) {
        self.sw = sw & !TOP_FIELD;
        self.top = (sw >> 11 & 7) as u8;
        self.update_summary();
    }

    /// The environment image; its first `mode.env_len()` bytes count. After storing it FNSTENV
    /// calls [`X87::mask_all`].
    pub fn env_image(&self, mode: ImageMode) -> [u8; 28] {
        let mut out = [0; 28];
        let (ip, dp) = (self.fip as u32, self.fdp as u32);
        let words = [self.control(), self.status(), self.tag_word()];
        let linear = |segment: u16, offset: u32| (u32::from(segment) << 4).wrapping_add(offset);
        let (rip, rdp) = (linear(self.fcs, ip), linear(self.fds, dp));
        let fop = u32::from(self.fop);
        if mode.operand32 {
            let high = 0xFFFF_0000u32;
            let pointers = if mode.protected {
                [ip, u32::from(self.fcs) | fop << 16, dp, u32::from(self.fds) | high]
            } else {
                [rip & 0xFFFF | high, rip >> 16 << 12 | fop, rdp & 0xFFFF | high, rdp >> 16 << 12]
            };
            let dwords = words.iter().map(|w| u32::from(*w) | high).chain(pointers);
            for (slot, value) in out.chunks_exact_mut(4).zip(dwords) {
                slot.copy_from_slice(&value.to_le_bytes());
            }
        } else {
            let pointers = if mode.protected {
                [ip, u32::from(self.fcs), dp, u32::from(self.fds)]
            } else {
                [rip, rip >> 4 & 0xF000 | fop, rdp, rdp >> 4 & 0xF000]
            };
            let all = words.into_iter().chain(pointers.into_iter().map(|v| v as u16));
            for (slot, value) in out.chunks_exact_mut(2).zip(all) {
                slot.copy_from_slice(&value.to_le_bytes());
            }
        }
        out
    }

    /// FNSTENV's effect on the unit: all exceptions masked.
    pub fn mask_all(&mut self) {
        self.set_control(self.control() | EXCEPTIONS);
    }

    /// FLDENV. Short images are ignored.
    pub fn load_env(&mut self, image: &[u8], mode: ImageMode) {
        let Some(image) = image.get(..mode.env_len()) else {
            return;
        };
        let size = if mode.operand32 { 4 } else { 2 };
        let mut f = [0u32; 7];
        for (slot, bytes) in f.iter_mut().zip(image.chunks_exact(size)) {
            *slot = bytes.iter().rev().fold(0, |v, b| v << 8 | u32::from(*b));
        }
        let offset = |low: u32, rest: u32| {
            low & 0xFFFF | if mode.operand32 { rest << 4 & 0xFFFF_0000 } else { rest << 4 & 0xF_0000 }
        };
        if mode.protected {
            (self.fip, self.fcs) = (f[3].into(), f[4] as u16);
            (self.fdp, self.fds) = (f[5].into(), f[6] as u16);
            if mode.operand32 {
                self.fop = (f[4] >> 16) as u16 & 0x7FF;
            }
        } else {
            (self.fip, self.fcs) = (offset(f[3], f[4]).into(), 0);
            (self.fdp, self.fds) = (offset(f[5], f[6]).into(), 0);
            self.fop = f[4] as u16 & 0x7FF;
        }
        self.set_control(f[0] as u16);
        self.set_status(f[1] as u16);
        self.set_tag_word(f[2] as u16);
    }

    /// The FNSAVE image; its first `mode.env_len() + 80` bytes count. After storing it FNSAVE calls
    /// [`X87::init`].
    pub fn state_image(&self, mode: ImageMode) -> [u8; 108] {
        let mut out = [0; 108];
        let at = mode.env_len();
        out[..28].copy_from_slice(&self.env_image(mode));
        for (i, slot) in (0..8).zip(out[at..].chunks_exact_mut(10)) {
            slot.copy_from_slice(&self.st(i).to_bits().to_le_bytes()[..10]);
        }
        out
    }

    /// FRSTOR. Short images are ignored.
    pub fn load_state(&mut self, image: &[u8], mode: ImageMode) {
        let at = mode.env_len();
        let Some(stack) = image.get(at..at + 80) else {
            return;
        };
        self.load_env(image, mode);
        for (i, bytes) in stack.chunks_exact(10).enumerate() {
            self.set_raw(i as u8, bytes);
        }
    }

    fn set_raw(&mut self, i: u8, bytes: &[u8]) {
        let bits = bytes.iter().rev().fold(0u128, |v, b| v << 8 | u128::from(*b));
        let p = usize::from(self.top.wrapping_add(i) & 7);
        self.set_register(p, F80::from_bits(bits));
    }

    /// The x87 part of an FXSAVE image: bytes 0..24 and 32..160 (24..32 are MXCSR's, left 0).
    /// `wide` is FXSAVE64.
    pub fn fxsave(&self, wide: bool) -> [u8; 160] {
        let mut out = [0; 160];
        out[0..2].copy_from_slice(&self.control().to_le_bytes());
        out[2..4].copy_from_slice(&self.status().to_le_bytes());
        out[4] = !self.empty;
        out[6..8].copy_from_slice(&self.fop.to_le_bytes());
        out[8..16].copy_from_slice(&self.fip.to_le_bytes());
        out[16..24].copy_from_slice(&self.fdp.to_le_bytes());
        if !wide {
            out[12..16].copy_from_slice(&u32::from(self.fcs).to_le_bytes());
            out[20..24].copy_from_slice(&u32::from(self.fds).to_le_bytes());
        }
        for (i, slot) in (0..8).zip(out[32..].chunks_exact_mut(16)) {
            slot[..10].copy_from_slice(&self.st(i).to_bits().to_le_bytes()[..10]);
        }
        out
    }

    /// FXRSTOR of the x87 part.
    pub fn fxrstor(&mut self, image: &[u8; 160], wide: bool) {
        let word = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let quad = |at: usize| image[at..at + 8].iter().rev().fold(0u64, |v, b| v << 8 | u64::from(*b));
        self.set_control(word(0));
        self.set_status(word(2));
        self.empty = !image[4];
        self.fop = word(6) & 0x7FF;
        (self.fip, self.fdp) = (quad(8), quad(16));
        if !wide {
            (self.fip, self.fdp) = (self.fip & 0xFFFF_FFFF, self.fdp & 0xFFFF_FFFF);
            (self.fcs, self.fds) = (word(12), word(20));
        }
        for (i, bytes) in image[32..].chunks_exact(16).enumerate() {
            self.set_raw(i as u8, &bytes[..10]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fpu::X87Op;

    fn sample() -> X87 {
        let mut x = X87::new();
        x.init();
        let _ = x.exec_reg(X87Op::Fldpi, 0, false);
        let _ = x.exec_reg(X87Op::Fldz, 0, false);
        x.set_instruction(0x0001_2345, 0xF000, 0x5EE);
        x.set_data(0x0000_4321, 0x1000);
        x
    }

    #[test]
    fn real_mode_images_hold_linear_addresses_and_the_opcode() {
        let x = sample();
        let image = x.env_image(ImageMode { operand32: false, protected: false });
        let words: Vec<u16> = image[..14].chunks(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(words, [0x37F, 0x3000, 0x1FFF, 0x2345, 0x05EE, 0x4321, 0x1000]);
        let image = x.env_image(ImageMode { operand32: true, protected: false });
        let dwords: Vec<u32> = image.chunks(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!(dwords, [0xFFFF_037F, 0xFFFF_3000, 0xFFFF_1FFF, 0xFFFF_2345, 0x0001_05EE, 0xFFFF_4321, 0x1000]);
    }

    #[test]
    fn every_image_layout_restores_the_stack() {
        let x = sample();
        for (operand32, protected) in [(false, false), (false, true), (true, false), (true, true)] {
            let mode = ImageMode { operand32, protected };
            let mut y = X87::new();
            y.load_state(&x.state_image(mode), mode);
            assert_eq!((y.st(0), y.st(1)), (x.st(0), x.st(1)));
            assert_eq!((y.status(), y.tag_word()), (x.status(), x.tag_word()));
            y.load_state(&[0; 10], mode);
            assert_eq!(y.status(), x.status(), "a short image is ignored");
        }
        let mut y = X87::new();
        y.fxrstor(&x.fxsave(false), false);
        assert_eq!(y, x);
    }
}
