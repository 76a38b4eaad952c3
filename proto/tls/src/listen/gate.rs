//! How many may come in, and who is in. Counts only; closes nothing itself.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::gauge::Gauge;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::files::{Loaded, unix_now_s};

/// What a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all; those of coordinators come on top, they are few.
    pub connections: usize,
    /// Of these from one address.
    pub connections_per_address: usize,
    /// Connections whose handshake is not through.
    pub handshakes: usize,
    pub handshakes_per_address: usize,
    /// How long a handshake may take.
    pub handshake_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Two for each of 10,000 agents, one for each of as many routers and room, within the file descriptors of the unit.
            connections: 32_768,
            // A host has a few agents; some hundred programs may share an address behind a translation.
            connections_per_address: 1_024,
            // All agents come at once when a leader changes; each handshake takes a millisecond of a core.
            handshakes: 512,
            handshakes_per_address: 64,
            handshake_time: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// For loopback without TLS: there is one address only, and no handshake.
    #[must_use]
    pub fn plaintext(self) -> Self {
        Self {
            connections_per_address: self.connections,
            handshakes: self.connections,
            handshakes_per_address: self.connections,
            ..self
        }
    }
}

/// An open connection with a certificate.
pub(super) struct Held {
    pub chain: Vec<CertificateDer<'static>>,
    pub expires_unix_s: i64,
    /// Ends it.
    pub ended: CancellationToken,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    handshakes: usize,
    open: usize,
}

#[derive(Default)]
struct Inside {
    all: Tally,
    by_address: BTreeMap<IpAddr, Tally>,
    held: BTreeMap<u64, Held>,
    next: u64,
}

pub(super) struct Gate {
    limits: Limits,
    inside: Mutex<Inside>,
    open: Gauge,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Open,
    /// Open and not counted.
    Member,
}

/// A place inside; dropping it gives it back.
pub(super) struct Slot {
    gate: Arc<Gate>,
    address: IpAddr,
    stage: Stage,
    number: u64,
}

impl Gate {
    pub(super) fn new(limits: Limits, open: Gauge) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inside: Mutex::default(),
            open,
        })
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// A place for a handshake, or the reason why not.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Slot, &'static str> {
        let address = network(address);
        let mut inside = self.inside();
        let mine = inside.by_address.get(&address).copied().unwrap_or_default();
        if inside.all.handshakes >= self.limits.handshakes {
            return Err("too_many_handshakes");
        }
        if mine.handshakes >= self.limits.handshakes_per_address {
            return Err("too_many_handshakes_of_address");
        }
        inside.all.handshakes += 1;
        inside.by_address.entry(address).or_default().handshakes += 1;
        inside.next += 1;
        Ok(Slot {
            gate: self.clone(),
            address,
            stage: Stage::Handshake,
            number: inside.next,
        })
    }

    /// Those whose certificate has expired.
    pub(super) fn expired(&self) -> Vec<CancellationToken> {
        let now = unix_now_s();
        self.which(|held| held.expires_unix_s < now)
    }

    /// Those whose certificate is no longer accepted.
    pub(super) fn no_longer_accepted(&self, loaded: &Loaded) -> Vec<CancellationToken> {
        self.which(|held| !loaded.accepts(&held.chain))
    }

    fn which(&self, bad: impl Fn(&Held) -> bool) -> Vec<CancellationToken> {
        let inside = self.inside();
        let bad = inside.held.values().filter(|held| bad(held));
        let open = bad.filter(|held| !held.ended.is_cancelled());
        open.map(|held| held.ended.clone()).collect()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Nothing panics while it holds the lock.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The handshake is through: the place becomes that of an open connection, or the reason why not.
    pub(super) fn open(&mut self, member: bool) -> Result<(), &'static str> {
        let gate = self.gate.clone();
        let mut inside = gate.inside();
        let mine = inside.by_address.get(&self.address).copied();
        if !member {
            if inside.all.open >= gate.limits.connections {
                return Err("too_many_connections");
            }
            if mine.unwrap_or_default().open >= gate.limits.connections_per_address {
                return Err("too_many_connections_of_address");
            }
        }
        self.leave(&mut inside);
        self.stage = if member { Stage::Member } else { Stage::Open };
        if !member {
            inside.all.open += 1;
            inside.by_address.entry(self.address).or_default().open += 1;
        }
        gate.open.inc();
        Ok(())
    }

    /// The connection ends when its certificate does.
    pub(super) fn hold(&self, held: Held) {
        self.gate.inside().held.insert(self.number, held);
    }

    /// Takes it out of the counts.
    fn leave(&self, inside: &mut Inside) {
        let part = |tally: &mut Tally| match self.stage {
            Stage::Handshake => tally.handshakes -= 1,
            Stage::Open => tally.open -= 1,
            Stage::Member => {}
        };
        part(&mut inside.all);
        if let Some(mine) = inside.by_address.get_mut(&self.address) {
            part(mine);
            if mine.handshakes == 0 && mine.open == 0 {
                inside.by_address.remove(&self.address);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let gate = self.gate.clone();
        let mut inside = gate.inside();
        self.leave(&mut inside);
        inside.held.remove(&self.number);
        if self.stage != Stage::Handshake {
            gate.open.dec();
        }
    }
}

/// Whoever has an IPv6 address has 2^64 of them: these count as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connections: 3,
        connections_per_address: 2,
        handshakes: 3,
        handshakes_per_address: 2,
        handshake_time: Duration::from_secs(1),
    };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let gate = Gate::new(LIMITS, Gauge::default());
        let (a, b) = (address("10.0.0.1"), address("10.0.0.2"));
        let mut first = gate.enter(a).ok().unwrap();
        let mut second = gate.enter(a).ok().unwrap();
        assert_eq!(gate.enter(a).err(), Some("too_many_handshakes_of_address"));
        let mut other = gate.enter(b).ok().unwrap();
        assert_eq!(gate.enter(b).err(), Some("too_many_handshakes"));
        assert_eq!(first.open(false), Ok(()));
        assert_eq!(second.open(false), Ok(()));
        let mut third = gate.enter(a).ok().unwrap();
        assert_eq!(third.open(false), Err("too_many_connections_of_address"));
        assert_eq!(other.open(false), Ok(()));
        let mut fourth = gate.enter(b).ok().unwrap();
        assert_eq!(fourth.open(false), Err("too_many_connections"));
        assert_eq!(fourth.open(true), Ok(()), "members come in on top");
        assert_eq!(gate.open.get(), 4);
        drop((first, second, third, other, fourth));
        assert_eq!(gate.open.get(), 0);
        let inside = gate.inside();
        assert!(inside.by_address.is_empty() && inside.held.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        assert_eq!(
            network(address("2001:db8::1")),
            network(address("2001:db8::ffff:1"))
        );
        assert_ne!(
            network(address("2001:db8::1")),
            network(address("2001:db8:0:1::1"))
        );
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }
}
