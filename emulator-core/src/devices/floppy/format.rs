//! Formats of floppy disks, told apart by the size of the image.

use serde::{Deserialize, Serialize};

/// Bytes of a sector in every format here (size code 2).
pub const SECTOR: usize = 512;

/// Data rate as the two bits of the DSR and CCR (82077AA, table 2-6).
pub const RATE_500K: u8 = 0;
/// 300 kbit/s: double density in a 1.2 MB drive, which spins faster.
pub const RATE_300K: u8 = 1;
/// 250 kbit/s: double density.
pub const RATE_250K: u8 = 2;
/// 1 Mbit/s: extra density.
pub const RATE_1M: u8 = 3;

/// A drive's type, with the codes of the CMOS floppy byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriveType {
    /// No drive.
    #[default]
    None = 0,
    /// 5.25 inch, 1.2 MB (also reads and writes double density).
    Inch5High = 2,
    /// 3.5 inch, 1.44 MB (also double density).
    Inch3High = 4,
    /// 3.5 inch, 2.88 MB (also high and double density).
    Inch3Extra = 5,
}

/// How a disk is laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Cylinders.
    pub cylinders: u8,
    /// Sides, 1 or 2.
    pub heads: u8,
    /// Sectors per track.
    pub sectors: u8,
    /// Data rate, one of the `RATE_` constants, in the drive that [`Format::drive`] names.
    pub rate: u8,
}

const fn format(cylinders: u8, heads: u8, sectors: u8, rate: u8) -> Format {
    Format { cylinders, heads, sectors, rate }
}

/// All formats by size.
const FORMATS: [Format; 10] = [
    format(40, 1, 8, RATE_300K),  // 160 K
    format(40, 1, 9, RATE_300K),  // 180 K
    format(40, 2, 8, RATE_300K),  // 320 K
    format(40, 2, 9, RATE_300K),  // 360 K
    format(80, 2, 9, RATE_250K),  // 720 K
    format(80, 2, 15, RATE_500K), // 1.2 M
    format(80, 2, 18, RATE_500K), // 1.44 M
    format(80, 2, 21, RATE_500K), // 1.68 M
    format(82, 2, 21, RATE_500K), // 1.72 M
    format(80, 2, 36, RATE_1M),   // 2.88 M
];

impl Format {
    /// The smallest format that holds an image of `bytes` bytes; `None` when it is empty or fits on no floppy.
    /// An image of just [`size`](Self::size) bytes is that format; a shorter one must be padded with zeros.
    #[must_use]
    pub fn holding(bytes: u64) -> Option<Self> {
        FORMATS.into_iter().find(|f| bytes > 0 && bytes <= f.size())
    }

    /// Bytes of an image of this format.
    #[must_use]
    pub fn size(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors) * SECTOR as u64
    }

    /// The drive that a PC would have for it.
    #[must_use]
    pub fn drive(self) -> DriveType {
        match (self.cylinders, self.sectors) {
            (40, _) | (_, 15) => DriveType::Inch5High,
            (_, 36) => DriveType::Inch3Extra,
            _ => DriveType::Inch3High,
        }
    }

    /// Byte offset of a sector in the image, if the format has it. Sectors count from 1.
    #[must_use]
    pub fn offset(self, cylinder: u8, head: u8, sector: u8) -> Option<u64> {
        let ok = cylinder < self.cylinders && head < self.heads && (1..=self.sectors).contains(&sector);
        let track = u64::from(cylinder) * u64::from(self.heads) + u64::from(head);
        ok.then(|| (track * u64::from(self.sectors) + u64::from(sector) - 1) * SECTOR as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_found_by_size() {
        let f = Format::holding(1_474_560).expect("1.44 MB");
        assert_eq!((f.cylinders, f.heads, f.sectors), (80, 2, 18));
        assert_eq!(f.drive() as u8, 4);
        assert_eq!(f.offset(1, 0, 1), Some(36 * 512));
        assert_eq!(f.offset(79, 1, 18), Some(1_474_560 - 512));
        for bad in [(80, 0, 1), (0, 2, 1), (0, 0, 0), (0, 0, 19)] {
            assert_eq!(f.offset(bad.0, bad.1, bad.2), None);
        }
        assert_eq!(Format::holding(1000).map(Format::size), Some(160 << 10));
        assert_eq!(Format::holding(1_474_561).map(|f| f.sectors), Some(21));
        assert_eq!(Format::holding(2880 << 10).map(|f| f.rate), Some(RATE_1M));
        assert_eq!(Format::holding((2880 << 10) + 1), None);
        assert_eq!(Format::holding(0), None);
        assert!(FORMATS.is_sorted_by_key(|f| f.size()));
    }
}
