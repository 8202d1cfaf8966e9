//! Which Ethernet address speaks for which IP address: a bounded table of either family.
//!
//! The owner of an address keeps it while it is connected; nobody else may speak for it. DHCP's leases are entries of
//! the same table ([`super::bindings`]), so that it never gives away an address that is in use.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::switch::Mac;

/// How an address came to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The owner used it.
    Seen,
    /// Offered by DHCP.
    Offered,
    /// Leased by DHCP.
    Leased,
    /// Given back by the owner because it found it in use.
    Declined,
}

/// An address's owner.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Who.
    pub mac: Mac,
    /// How.
    pub kind: Kind,
    /// Until when.
    pub expires: Duration,
}

/// The table. Bounded: `capacity` addresses, and `per_mac` of one Ethernet address.
#[derive(Debug)]
pub struct Owners<A> {
    capacity: usize,
    per_mac: usize,
    by_ip: HashMap<A, Binding>,
    by_mac: HashMap<Mac, Vec<A>>,
}

impl<A: Copy + Ord + Hash> Owners<A> {
    /// An empty table.
    pub fn new(capacity: usize, per_mac: usize) -> Self {
        Self { capacity, per_mac, by_ip: HashMap::new(), by_mac: HashMap::new() }
    }

    /// Number of addresses.
    pub fn len(&self) -> usize {
        self.by_ip.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_ip.is_empty() && self.by_mac.is_empty()
    }

    /// The owner of an address.
    pub fn get(&self, ip: A) -> Option<&Binding> {
        self.by_ip.get(&ip)
    }

    /// The owner of an address, to be changed.
    pub fn get_mut(&mut self, ip: A) -> Option<&mut Binding> {
        self.by_ip.get_mut(&ip)
    }

    /// The addresses of an owner, the oldest first.
    pub fn of(&self, mac: Mac) -> &[A] {
        self.by_mac.get(&mac).map_or(&[], Vec::as_slice)
    }

    /// Enters an address; false when the table is full of addresses of those who are connected.
    pub fn put(&mut self, ip: A, binding: Binding, live: &impl Fn(Mac) -> bool) -> bool {
        if !self.by_ip.contains_key(&ip) && self.by_ip.len() >= self.capacity {
            // Only addresses of clients that are gone make room.
            let gone: Vec<_> =
                self.by_ip.iter().filter(|(_, b)| !live(b.mac)).map(|(ip, b)| (b.expires, *ip)).collect();
            match gone.into_iter().min() {
                Some((_, oldest)) => self.remove(oldest),
                None => return false,
            }
        }
        self.remove(ip);
        let own = self.by_mac.entry(binding.mac).or_default();
        own.push(ip);
        let surplus = if own.len() > self.per_mac { Some(own.remove(0)) } else { None };
        self.by_ip.insert(ip, binding);
        if let Some(surplus) = surplus {
            self.by_ip.remove(&surplus);
        }
        true
    }

    /// Takes an address out.
    pub fn remove(&mut self, ip: A) {
        let Some(binding) = self.by_ip.remove(&ip) else { return };
        if let Some(own) = self.by_mac.get_mut(&binding.mac) {
            own.retain(|other| *other != ip);
            if own.is_empty() {
                self.by_mac.remove(&binding.mac);
            }
        }
    }

    /// Notes that `mac` speaks for `ip`, if it may have it: false when the address is another one's.
    pub fn seen(
        &mut self,
        ip: A,
        mac: Mac,
        expires: Duration,
        now: Duration,
        allowed: bool,
        live: impl Fn(Mac) -> bool,
    ) -> bool {
        match self.by_ip.get_mut(&ip) {
            Some(binding) if binding.mac == mac => {
                binding.expires = binding.expires.max(expires);
                if matches!(binding.kind, Kind::Declined) {
                    binding.kind = Kind::Seen;
                }
                return true;
            }
            Some(binding) if live(binding.mac) && (binding.expires > now || binding.kind == Kind::Seen) => {
                return false;
            }
            _ => {}
        }
        allowed && self.put(ip, Binding { mac, kind: Kind::Seen, expires }, &live)
    }
}
