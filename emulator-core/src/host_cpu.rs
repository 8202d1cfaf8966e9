//! The processor that the tests compare with.

/// Whether the host is Intel's. Where the manuals leave a choice (approximations, what the last pointers of the x87 are,
/// underflow of transcendentals next to the smallest numbers) this machine does what Intel's processors do.
pub fn is_intel() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    (vendor.ebx, vendor.edx, vendor.ecx)
        == (u32::from_le_bytes(*b"Genu"), u32::from_le_bytes(*b"ineI"), u32::from_le_bytes(*b"ntel"))
}
