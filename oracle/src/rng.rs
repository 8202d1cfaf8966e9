//! Random numbers with a preference for boundaries. Deterministic: a seed is a reproduction.

/// xorshift64*.
#[derive(Debug, Clone)]
pub struct Rng(u64);

const EDGES32: [u32; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xffff_ffff,
    0xffff_fffe,
];

impl Rng {
    /// A generator; equal seeds give equal numbers.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        // splitmix64's finaliser: neighbouring seeds must not give similar sequences.
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng((z ^ z >> 31) | 1)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `n - 1`.
    pub fn below(&mut self, n: u32) -> u32 {
        ((self.bits() >> 32) * u64::from(n) >> 32) as u32
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0x81, 0xff, 0xfe, 0x10];
        if self.one_in(2) { self.pick(&EDGES) } else { self.bits() as u8 }
    }

    /// A 32-bit integer.
    pub fn int32(&mut self) -> u32 {
        match self.below(8) {
            0 | 1 => self.pick(&EDGES32),
            2 => self.below(64),
            3 => 1 << self.below(32),
            4 => u32::from_le_bytes(std::array::from_fn(|_| self.byte())),
            _ => self.bits() as u32,
        }
    }

    /// A significand with long runs of equal bits, or few bits, or random ones.
    fn significand(&mut self) -> u64 {
        let r = self.bits();
        match self.below(10) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => u64::MAX << self.below(64),
            4 => u64::MAX >> self.below(64),
            5 => (r & 3) << self.below(63) | 1 << 63,
            6 => r << 11,
            7 => r << 40,
            8 => (r & 0xfff).wrapping_sub(0x800),
            _ => r,
        }
    }

    /// An 80-bit value: significand, then sign and exponent. Mostly valid, of every class, with exponents near each
    /// other and near the ends of each format.
    pub fn extended(&mut self) -> (u64, u16) {
        let sign = (self.bits() >> 63) as u16;
        let sig = self.significand();
        let exp = match self.below(16) {
            0 => 0,
            1 => 0x7fff,
            2 => 1,
            3 => 0x7ffe,
            4 => self.below(130),
            5 => 0x7ffe - self.below(130),
            6 => self.below(0x8000),
            7 => 0x3fff + 63 - self.below(4),
            8 => 0x3fff + self.below(70),
            9 => 0x3fff - self.below(1080),
            10 => 0x3fff - 126 - self.below(30),
            11 => 0x3fff + 120 + self.below(10),
            12 => 0x3fff - 1022 - self.below(60),
            13 => 0x3fff + 1020 + self.below(6),
            _ => 0x3fff + 8 - self.below(16),
        } as u16;
        let sig = if self.one_in(40) {
            sig & !(1 << 63)
        } else if exp == 0 {
            sig
        } else {
            sig | 1 << 63
        };
        (sig, sign << 15 | exp)
    }

    /// A binary32.
    pub fn single(&mut self) -> u32 {
        let exp = match self.below(8) {
            0 => 0,
            1 => 0xff,
            2 => 1 + self.below(3),
            3 => 0xfe - self.below(3),
            4 => self.below(0x100),
            5 => 127 + self.below(34),
            _ => 127 + 3 - self.below(6),
        };
        let fraction = self.bits() as u32 & 0x7f_ffff;
        let fraction = match self.below(4) {
            0 => 0,
            1 => fraction & 0x7f_0000,
            _ => fraction,
        };
        (self.bits() as u32 & 0x8000_0000) | exp << 23 | fraction
    }

    /// A binary64.
    pub fn double(&mut self) -> u64 {
        let exp = match self.below(8) {
            0 => 0,
            1 => 0x7ff,
            2 => 1 + self.below(3),
            3 => 0x7fe - self.below(3),
            4 => self.below(0x800),
            5 => 1023 + self.below(70),
            6 => 1023 + 120 + self.below(10),
            _ => 1023 + 3 - self.below(6),
        };
        let fraction = self.bits() & 0xf_ffff_ffff_ffff;
        let fraction = match self.below(4) {
            0 => 0,
            1 => fraction & 0xf_ffff_0000_0000,
            _ => fraction,
        };
        self.bits() & 1 << 63 | u64::from(exp) << 52 | fraction
    }

    /// Eight bytes that mean something to some instruction.
    pub fn quad(&mut self) -> u64 {
        match self.below(8) {
            0 => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
            1 => u64::from(self.int32()) << 32 | u64::from(self.int32()),
            2 | 3 => u64::from(self.single()) << 32 | u64::from(self.single()),
            4 | 5 => self.double(),
            6 => u64::from(self.below(70)),
            _ => self.bits(),
        }
    }
}
