//! The frame check sequence of IEEE 802.3 (clause 3.2.9), and the multicast hash that is taken from it.

/// Reflected form of the polynomial 04C11DB7h.
const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
};

/// The shift register after `data`, not yet complemented.
fn register(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, &byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// The four bytes that follow `data` on the wire.
pub fn frame_check(data: &[u8]) -> [u8; 4] {
    (!register(data)).to_le_bytes()
}

/// Bit of the multicast registers that `destination` selects, 0 to 63: the six most significant bits of the
/// shift register after the address (DP8390D, "Multicast Address Registers").
pub fn multicast_hash(destination: &[u8]) -> u8 {
    (register(destination).reverse_bits() >> 26) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_crc_32() {
        assert_eq!(frame_check(b"123456789"), 0xcbf4_3926_u32.to_le_bytes());
    }

    #[test]
    fn hashes_are_those_that_drivers_compute() {
        // Big-endian CRC as Linux's `ether_crc` forms it, bit by bit.
        let slow = |address: &[u8]| {
            let mut crc = u32::MAX;
            for byte in address {
                for bit in 0..8 {
                    let feedback = crc >> 31 ^ u32::from(byte >> bit & 1);
                    crc = crc << 1 ^ if feedback != 0 { 0x04c1_1db7 } else { 0 };
                }
            }
            (crc >> 26) as u8
        };
        for address in [[1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [1, 0x80, 0xc2, 0, 0, 0], [0xff; 6]] {
            assert_eq!(multicast_hash(&address), slow(&address));
        }
    }
}
