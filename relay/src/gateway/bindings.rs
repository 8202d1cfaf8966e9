//! Which Ethernet address has which IP address of the room's network: DHCP's leases and addresses seen in use.
//!
//! Both are in one table, so that DHCP never gives away an address that a guest chose for itself (or kept over a
//! restart of the relay), and so that a guest cannot speak for another one's address.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::owners::{Binding, Kind, Owners};
use crate::switch::Mac;

/// Addresses of one Ethernet address at a time.
const PER_MAC: usize = 8;
/// Addresses at the start of the network that DHCP leaves free for hand-made settings.
const RESERVED: u32 = 16;
/// How long an offered address is kept for its client.
const OFFER: Duration = Duration::from_secs(60);
/// How long an address that a client found in use is left alone.
const DECLINED: Duration = Duration::from_secs(600);

/// The table. Bounded: `capacity` addresses, and eight for one Ethernet address.
#[derive(Debug)]
pub struct Bindings {
    network: u32,
    prefix: u8,
    lease: Duration,
    owners: Owners<Ipv4Addr>,
}

impl Bindings {
    /// A network whose first address is the gateway's.
    pub fn new(gateway: Ipv4Addr, prefix: u8, capacity: usize, lease: Duration) -> Self {
        let network = u32::from(gateway) & (u32::MAX << (32 - u32::from(prefix)));
        Self { network, prefix, lease, owners: Owners::new(capacity, PER_MAC) }
    }

    /// The subnet mask.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX << (32 - u32::from(self.prefix)))
    }

    /// The address for everybody on the network.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network | !u32::from(self.mask()))
    }

    /// Whether an address is in the network.
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & u32::from(self.mask()) == self.network
    }

    /// Whether an address is a guest's: in the network and neither the gateway's nor the first or last.
    pub fn is_host(&self, ip: Ipv4Addr) -> bool {
        self.contains(ip) && u32::from(ip) > self.network + 1 && ip != self.broadcast()
    }

    /// Number of addresses in the table.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    fn free(&self, ip: Ipv4Addr, mac: Mac, now: Duration, live: &impl Fn(Mac) -> bool) -> bool {
        match self.owners.get(ip) {
            None => true,
            Some(b) if b.mac == mac => b.kind != Kind::Declined || b.expires <= now,
            // An address in use without a lease stays its user's as long as that one is connected.
            Some(b) => b.expires <= now && !(b.kind == Kind::Seen && live(b.mac)),
        }
    }

    /// Notes that `mac` speaks for `ip`; false when the address is another one's.
    pub fn seen(&mut self, ip: Ipv4Addr, mac: Mac, now: Duration, live: impl Fn(Mac) -> bool) -> bool {
        let host = self.is_host(ip);
        self.owners.seen(ip, mac, now + self.lease, now, host, live)
    }

    /// An address to offer: the one it has, the one it asks for, or one computed from `mac` (so that a client gets the
    /// same address from a relay that was restarted).
    pub fn offer(
        &mut self,
        mac: Mac,
        wanted: Option<Ipv4Addr>,
        now: Duration,
        live: impl Fn(Mac) -> bool,
    ) -> Option<Ipv4Addr> {
        let own = self.owners.of(mac).iter().rev().copied();
        let leased = own.into_iter().find(|ip| self.free(*ip, mac, now, &live));
        let wanted = wanted.filter(|ip| self.is_host(*ip) && self.free(*ip, mac, now, &live));
        let ip = leased.or(wanted).or_else(|| self.pick(mac, now, &live))?;
        let kept = self.owners.get(ip).filter(|b| b.mac == mac && b.kind == Kind::Leased && b.expires > now).copied();
        let binding = kept.unwrap_or(Binding { mac, kind: Kind::Offered, expires: now + OFFER });
        self.owners.put(ip, binding, &live).then_some(ip)
    }

    fn pick(&self, mac: Mac, now: Duration, live: &impl Fn(Mac) -> bool) -> Option<Ipv4Addr> {
        let size = u32::from(self.broadcast()) - self.network;
        let first = RESERVED.min(size / 2).max(2);
        let count = size - first;
        // FNV-1a: stable over restarts, which the library's hash is not.
        let hash = mac.0.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        let tries = count.min(self.owners.len() as u32 + 1);
        (0..tries)
            .map(|step| Ipv4Addr::from(self.network + first + (hash.wrapping_add(step)) % count))
            .find(|ip| self.free(*ip, mac, now, live))
    }

    /// Leases `ip` to `mac`; false when it is not to be had.
    pub fn lease(&mut self, mac: Mac, ip: Ipv4Addr, now: Duration, live: impl Fn(Mac) -> bool) -> bool {
        self.is_host(ip)
            && self.free(ip, mac, now, &live)
            && self.owners.put(ip, Binding { mac, kind: Kind::Leased, expires: now + self.lease }, &live)
    }

    /// Gives an address back.
    pub fn release(&mut self, mac: Mac, ip: Ipv4Addr) {
        if self.owners.get(ip).is_some_and(|b| b.mac == mac) {
            self.owners.remove(ip);
        }
    }

    /// The client found its address in use by somebody else.
    pub fn decline(&mut self, mac: Mac, ip: Ipv4Addr, now: Duration) {
        if let Some(binding) = self.owners.get_mut(ip).filter(|b| b.mac == mac) {
            binding.kind = Kind::Declined;
            binding.expires = now + DECLINED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);
    const NOW: Duration = Duration::from_secs(1000);
    const LEASE: Duration = Duration::from_secs(3600);

    fn table(prefix: u8, capacity: usize) -> Bindings {
        Bindings::new(Ipv4Addr::new(10, 86, 0, 1), prefix, capacity, LEASE)
    }

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn the_same_client_gets_the_same_address_also_after_a_restart() {
        let first = table(16, 100).offer(A, None, NOW, |_| true).unwrap();
        let mut again = table(16, 100);
        assert_eq!(again.offer(A, None, NOW, |_| true), Some(first));
        assert!(again.lease(A, first, NOW, |_| true));
        assert_eq!(again.offer(A, Some(Ipv4Addr::new(10, 86, 9, 9)), NOW, |_| true), Some(first));
        assert_ne!(again.offer(B, Some(first), NOW, |_| true), Some(first));
    }

    #[test]
    fn only_hosts_of_the_network_are_leased() {
        let mut t = table(16, 100);
        for ip in
            [[10, 86, 0, 0], [10, 86, 0, 1], [10, 86, 255, 255], [10, 87, 0, 5], [0, 0, 0, 0], [255, 255, 255, 255]]
        {
            assert!(!t.lease(A, ip.into(), NOW, |_| true), "{ip:?}");
            assert!(!t.seen(ip.into(), A, NOW, |_| true), "{ip:?}");
        }
        assert!(t.is_empty());
    }

    #[test]
    fn an_address_belongs_to_whom_it_was_seen_with() {
        let mut t = table(16, 100);
        let ip = Ipv4Addr::new(10, 86, 0, 5);
        assert!(t.seen(ip, A, NOW, |_| true));
        assert!(!t.seen(ip, B, NOW, |_| true));
        assert!(!t.seen(ip, B, NOW + LEASE * 2, |_| true), "in use as long as its user lives");
        assert!(!t.lease(B, ip, NOW, |_| true));
        assert!(t.seen(ip, B, NOW, |mac| mac != A), "A is gone");
    }

    #[test]
    fn starvation_ends_at_the_capacity_and_spares_those_who_are_connected() {
        let mut t = table(24, 50);
        let leases = (0..500).filter(|n| t.offer(mac(*n), None, NOW, |_| true).is_some()).count();
        assert_eq!((leases, t.len()), (50, 50));
        assert!(t.offer(A, None, NOW, |m| m == A).is_some(), "clients that are gone make room");
        assert_eq!(t.len(), 50);
        let mut small = table(28, 1000);
        assert_eq!((0..100).filter(|n| small.offer(mac(*n), None, NOW, |_| true).is_some()).count(), 8);
        assert!(small.offer(A, None, NOW + OFFER, |_| true).is_some(), "offers that nobody took run out");
    }

    #[test]
    fn one_client_declines_and_claims_a_bounded_number() {
        let mut t = table(16, 1000);
        for _ in 0..100 {
            let ip = t.offer(A, None, NOW, |_| true).unwrap();
            t.decline(A, ip, NOW);
        }
        for last in 2..200 {
            t.seen(Ipv4Addr::new(10, 86, 1, last), A, NOW, |_| true);
        }
        assert!(t.len() <= PER_MAC);
        assert!(t.owners.of(A).len() <= PER_MAC);
    }

    #[test]
    fn release_is_for_the_owner() {
        let mut t = table(16, 10);
        let ip = Ipv4Addr::new(10, 86, 0, 50);
        assert!(t.lease(A, ip, NOW, |_| true));
        t.release(B, ip);
        assert_eq!(t.len(), 1);
        t.release(A, ip);
        assert!(t.is_empty());
    }
}
