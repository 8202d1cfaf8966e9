//! A vector: an instruction and the state that it starts from; and an outcome: the state that it leaves.

use crate::layout::{CODE, DATA, DATA_LEN, DATA_RW, FILLER, USER_CS, USER_DS, base, is_code32};
use crate::rng::Rng;

/// Bytes of the FXSAVE area that a vector uses: x87, MXCSR, XMM0-XMM7.
pub const FX_LEN: usize = 288;
/// Offsets in it (SDM vol. 1, table 10-2).
pub const FX_MXCSR: usize = 24;
/// ST(0), then the others every 16 bytes.
pub const FX_ST: usize = 32;
/// XMM0, then the others every 16 bytes.
pub const FX_XMM: usize = 160;

/// EFLAGS of a user program that nothing happened to: IF and the bit that is always set.
pub const PLAIN_FLAGS: u32 = 0x202;

/// An instruction (or a short run of them) and where it starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// Bytes of code.
    pub code: Vec<u8>,
    /// Linear address of the first.
    pub at: u32,
    /// Instructions in it.
    pub count: u32,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub gpr: [u32; 8],
    /// EFLAGS.
    pub flags: u32,
    /// ES, CS, SS, DS, FS, GS.
    pub sel: [u16; 6],
    /// FXSAVE area.
    pub fx: [u8; FX_LEN],
    /// What the data pages are filled from; 0 for zeros.
    pub fill: u64,
    /// What is then written there: linear address and bytes.
    pub memory: Vec<(u32, Vec<u8>)>,
}

/// A fault or trap that was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Vector.
    pub vector: u8,
    /// Error code; 0 where there is none.
    pub code: u32,
    /// CR2 of a page fault, otherwise 0.
    pub address: u32,
}

/// What a vector left behind, but for the data pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where execution goes on, or EIP as an exception's handler sees it.
    pub eip: u32,
    /// General registers.
    pub gpr: [u32; 8],
    /// EFLAGS.
    pub flags: u32,
    /// Segment registers.
    pub sel: [u16; 6],
    /// FXSAVE area.
    pub fx: [u8; FX_LEN],
    /// What was raised.
    pub exception: Option<Exception>,
}

impl Default for Vector {
    fn default() -> Vector {
        let mut fx = [0; FX_LEN];
        fx[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        fx[FX_MXCSR..FX_MXCSR + 4].copy_from_slice(&0x1f80_u32.to_le_bytes());
        Vector {
            code: Vec::new(),
            at: CODE + 0x100,
            count: 1,
            gpr: [0; 8],
            flags: PLAIN_FLAGS,
            sel: [USER_DS, USER_CS, USER_DS, USER_DS, 0, 0],
            fx,
            fill: 0,
            memory: Vec::new(),
        }
    }
}

impl Vector {
    /// Whether the code segment is 32-bit.
    #[must_use]
    pub fn code32(&self) -> bool {
        is_code32(self.sel[1])
    }

    /// EIP at the start.
    #[must_use]
    pub fn eip(&self) -> u32 {
        self.at.wrapping_sub(base(self.sel[1]))
    }

    /// EIP behind the code.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.eip() + self.code.len() as u32
    }

    /// Far jump behind the code that leaves for 64-bit mode.
    #[must_use]
    pub fn stub(&self) -> Vec<u8> {
        let mut stub = if self.code32() { vec![] } else { vec![0x66] };
        stub.push(0xea);
        stub.extend(crate::layout::EXIT.to_le_bytes());
        stub.extend(crate::layout::LONG_CS.to_le_bytes());
        stub
    }

    /// The code pages around it: (linear address, bytes), cut at their end.
    #[must_use]
    pub fn code_bytes(&self) -> Vec<u8> {
        let mut bytes = self.code.clone();
        bytes.extend(self.stub());
        bytes.truncate((CODE + crate::layout::CODE_LEN - self.at) as usize);
        bytes
    }

    /// Fills the data pages.
    pub fn fill_data(&self, out: &mut [u8; DATA_LEN as usize], base_image: &DataImage) {
        out.copy_from_slice(base_image.of(self.fill));
        for (at, bytes) in &self.memory {
            for (i, b) in bytes.iter().enumerate() {
                if let Some(slot) = out.get_mut(at.wrapping_sub(DATA).wrapping_add(i as u32) as usize) {
                    *slot = *b;
                }
            }
        }
    }
}

/// Data pages by their fill seed: the last one is kept.
#[derive(Debug)]
pub struct DataImage {
    seed: u64,
    bytes: Box<[u8; DATA_LEN as usize]>,
    zeros: Box<[u8; DATA_LEN as usize]>,
}

impl Default for DataImage {
    fn default() -> DataImage {
        DataImage { seed: 0, bytes: Box::new([0; DATA_LEN as usize]), zeros: Box::new([0; DATA_LEN as usize]) }
    }
}

impl DataImage {
    /// Makes the pages of `seed` the kept ones.
    pub fn prepare(&mut self, seed: u64) {
        if seed != self.seed {
            self.seed = seed;
            let mut rng = Rng::new(seed);
            for quad in self.bytes.chunks_exact_mut(8) {
                quad.copy_from_slice(&rng.quad().to_le_bytes());
            }
        }
    }

    fn of(&self, seed: u64) -> &[u8; DATA_LEN as usize] {
        if seed == 0 { &self.zeros } else { &self.bytes }
    }
}

/// Bytes at a linear address of the data pages before the vector ran.
#[must_use]
pub fn data_slice(data: &[u8; DATA_LEN as usize], at: u32, len: usize) -> Option<&[u8]> {
    let from = at.wrapping_sub(DATA) as usize;
    data.get(from..from.checked_add(len)?)
}

/// Whether `len` bytes at `at` may be written.
#[must_use]
pub fn writable(at: u32, len: u32) -> bool {
    at.wrapping_sub(DATA) < DATA_RW && at.wrapping_sub(DATA) + len <= DATA_RW
}

/// A page of filler.
#[must_use]
pub fn filler() -> Vec<u8> {
    vec![FILLER; crate::layout::CODE_LEN as usize]
}
