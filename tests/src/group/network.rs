//! Links between the members, and between them and clients: delay, loss, duplication, reordering, cuts in one direction or both.
//! Messages are datagrams here: worse than the streams that carry them in truth, which lose only what comes last.

use std::collections::BTreeMap;

use crate::sim::random::Random;

/// Microseconds in a millisecond.
pub(super) const MS: u64 = 1_000;

/// The end of links at which all clients are; members are at the ends of their ids.
pub(super) const CLIENTS: u64 = 0;

/// How bad the weather is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) delay_us_max: u64,
    /// Messages that take very long.
    pub(super) slow_percent: u64,
    /// The same of what clients ask: it may arrive when they have lost patience and were answered to another attempt.
    pub(super) late_requests_percent: u64,
    pub(super) lost_percent: u64,
    pub(super) doubled_percent: u64,
    /// Messages that do not wait for those sent before them.
    pub(super) reordered_percent: u64,
}

impl Weather {
    /// What a quiet network does.
    pub(super) const FAIR: Weather = Weather {
        delay_us_max: MS,
        slow_percent: 0,
        late_requests_percent: 0,
        lost_percent: 0,
        doubled_percent: 0,
        reordered_percent: 0,
    };

    /// What a seed begins with.
    pub(super) fn drawn(random: &mut Random) -> Self {
        let wild = random.chance(50);
        let mut percent = |max: u64| {
            if wild && random.chance(50) {
                random.between(0, max)
            } else {
                0
            }
        };
        let (slow, lost, doubled, reordered) = (percent(4), percent(10), percent(15), percent(30));
        Weather {
            delay_us_max: *random.pick(&[MS, 3 * MS, 20 * MS]),
            slow_percent: slow,
            late_requests_percent: *random.pick(&[0, 5, 30]),
            lost_percent: lost,
            doubled_percent: doubled,
            reordered_percent: reordered,
        }
    }
}

/// The state of all links.
#[derive(Debug)]
pub(super) struct Network {
    random: Random,
    pub(super) weather: Weather,
    /// How many faults cut a direction now.
    cuts: BTreeMap<(u64, u64), u32>,
    last_arrival: BTreeMap<(u64, u64), u64>,
}

impl Network {
    pub(super) fn new(mut random: Random) -> Self {
        Self {
            weather: Weather::drawn(&mut random),
            random,
            cuts: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
        }
    }

    fn passes(&self, from: u64, to: u64) -> bool {
        !self.cuts.contains_key(&(from, to))
    }

    /// Cuts one direction; cuts add up.
    pub(super) fn cut(&mut self, from: u64, to: u64) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Takes one cut back.
    pub(super) fn mend(&mut self, from: u64, to: u64) {
        if let Some(count) = self.cuts.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.cuts.remove(&(from, to));
            }
        }
    }

    /// Everything whole, and good weather from now on.
    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        self.weather = Weather::FAIR;
    }

    /// When a message sent now arrives: never, once or twice.
    pub(super) fn arrivals(&mut self, now_us: u64, from: u64, to: u64) -> Vec<u64> {
        let weather = self.weather;
        if self.random.chance(weather.lost_percent) || !self.passes(from, to) {
            return Vec::new();
        }
        let slow_percent = match from {
            CLIENTS => weather.slow_percent.max(weather.late_requests_percent),
            _ => weather.slow_percent,
        };
        let slow = self.random.chance(slow_percent);
        let delay_us = if slow {
            self.random.between(100 * MS, 1_500 * MS)
        } else {
            self.random.between(50, weather.delay_us_max)
        };
        let mut at_us = now_us + delay_us;
        if !slow && !self.random.chance(weather.reordered_percent) {
            let last = self.last_arrival.entry((from, to)).or_default();
            at_us = at_us.max(*last + 1);
            *last = at_us;
        }
        if self.random.chance(weather.doubled_percent) {
            let again_us = at_us + self.random.between(0, 300 * MS);
            return vec![at_us, again_us];
        }
        vec![at_us]
    }
}
