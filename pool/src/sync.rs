//! The atomics of the platform, or loom's in a model check.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{Ordering, fence};
#[cfg(loom)]
pub use modelled::{AtomicU8, AtomicU32, AtomicU64};

/// Loom's atomics with a remedy. To find the orders worth running, loom 0.7 compares a write with the last access to
/// the same atomic only. A thread that reads what it then writes hides another thread's read before its own, and the
/// order in which that one comes later is never run: most of this crate does just that. Here every read is announced
/// by a write to a second atomic that nobody reads, which makes reads worth ordering, and synchronises nothing.
#[cfg(loom)]
mod modelled {
    use super::Ordering;
    use loom::sync::atomic as inner;

    macro_rules! atomic {
        ($name:ident, $value:ty) => {
            #[derive(Debug)]
            pub struct $name(inner::$name, inner::AtomicBool);

            #[allow(dead_code, reason = "no width needs all of them")]
            impl $name {
                pub fn new(value: $value) -> Self {
                    Self(inner::$name::new(value), inner::AtomicBool::new(false))
                }

                pub fn load(&self, order: Ordering) -> $value {
                    self.1.store(true, Ordering::Relaxed);
                    self.0.load(order)
                }

                pub fn store(&self, value: $value, order: Ordering) {
                    self.0.store(value, order);
                }

                pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    self.0.fetch_add(value, order)
                }

                pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                    self.0.fetch_and(value, order)
                }

                pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                    self.0.fetch_or(value, order)
                }

                pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                    self.0.fetch_max(value, order)
                }

                pub fn compare_exchange(
                    &self,
                    from: $value,
                    to: $value,
                    ok: Ordering,
                    err: Ordering,
                ) -> Result<$value, $value> {
                    self.0.compare_exchange(from, to, ok, err)
                }
            }
        };
    }

    atomic!(AtomicU8, u8);
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
}
