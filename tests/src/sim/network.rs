//! Links between the hosts of a simulated world: delay, loss, duplication, reordering, cuts in one or both directions.

use std::collections::BTreeMap;

use super::random::Random;

/// A host on the network: first the coordinators, then the tablets' hosts.
pub type Node = usize;

/// How bad the weather is, drawn once per seed.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay_ms_max: u64,
    /// Messages that take very long.
    pub slow_percent: u64,
    pub lost_percent: u64,
    pub doubled_percent: u64,
    /// Messages that may overtake earlier ones of their stream.
    pub reordered_percent: u64,
}

/// The state of every directed link.
#[derive(Debug)]
pub struct Network {
    random: Random,
    pub weather: Weather,
    cuts: BTreeMap<(Node, Node), u32>,
    /// When the last message of a directed stream arrives: the next is not earlier.
    last_arrival: BTreeMap<(Node, Node), u64>,
    /// The same for bytes between servers.
    last_connection_arrival: BTreeMap<(Node, Node), u64>,
}

impl Network {
    /// All links whole.
    pub fn new(mut random: Random) -> Self {
        let wild = random.chance(50);
        let percent = |random: &mut Random, max: u64| {
            if wild && random.chance(50) {
                random.between(0, max)
            } else {
                0
            }
        };
        let weather = Weather {
            delay_ms_max: *random.pick(&[2, 5, 20]),
            slow_percent: percent(&mut random, 5),
            lost_percent: percent(&mut random, 10),
            doubled_percent: percent(&mut random, 10),
            reordered_percent: percent(&mut random, 10),
        };
        Self {
            random,
            weather,
            cuts: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            last_connection_arrival: BTreeMap::new(),
        }
    }

    /// Whether messages pass from one node to the other.
    pub fn passes(&self, from: Node, to: Node) -> bool {
        from == to || !self.cuts.contains_key(&(from, to))
    }

    /// Whether they pass in both directions.
    pub fn connected(&self, one: Node, other: Node) -> bool {
        self.passes(one, other) && self.passes(other, one)
    }

    /// Cuts one direction; cuts add up.
    pub fn cut(&mut self, from: Node, to: Node) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut back.
    pub fn mend(&mut self, from: Node, to: Node) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// Everything whole, and good weather from now on.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.weather = Weather {
            delay_ms_max: 5,
            slow_percent: 0,
            lost_percent: 0,
            doubled_percent: 0,
            reordered_percent: 0,
        };
    }

    fn delay_ms(&mut self) -> u64 {
        if self.random.chance(self.weather.slow_percent) {
            return self.random.between(100, 800);
        }
        self.random.between(1, self.weather.delay_ms_max)
    }

    /// When a datagram-like message sent now arrives; nothing if the link is cut now or it is lost.
    pub fn arrival(&mut self, now_ms: u64, from: Node, to: Node) -> Option<u64> {
        let lost = self.random.chance(self.weather.lost_percent);
        let delay_ms = self.delay_ms();
        (self.passes(from, to) && !lost).then_some(now_ms + delay_ms)
    }

    /// When bytes of one connection arrive, in order and once; nothing if the connection breaks.
    pub fn connection_arrival(&mut self, now_ms: u64, from: Node, to: Node) -> Option<u64> {
        if !self.passes(from, to) {
            return None;
        }
        // What is lost is sent again a little later.
        let again_ms = if self.random.chance(self.weather.lost_percent) {
            300
        } else {
            0
        };
        let at_ms = now_ms + self.delay_ms() + again_ms;
        let last = self.last_connection_arrival.entry((from, to)).or_default();
        *last = at_ms.max(*last);
        Some(*last)
    }

    /// When a message of a stream arrives, behind those before it; sometimes twice, sometimes before them.
    pub fn stream_arrivals(&mut self, now_ms: u64, from: Node, to: Node) -> Vec<u64> {
        let Some(at_ms) = self.arrival(now_ms, from, to) else {
            return Vec::new();
        };
        if self.random.chance(self.weather.reordered_percent) {
            return vec![at_ms];
        }
        let last = self.last_arrival.entry((from, to)).or_default();
        let at_ms = at_ms.max(*last);
        *last = at_ms;
        if self.random.chance(self.weather.doubled_percent) {
            let again_ms = at_ms + self.delay_ms();
            return vec![at_ms, again_ms];
        }
        vec![at_ms]
    }
}
