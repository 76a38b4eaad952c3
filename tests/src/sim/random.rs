//! The only source of chance in a simulated world: a small generator with a seed, forked per subsystem so that a draw added in
//! one place does not shift all others. Never the operating system's randomness.

/// SplitMix64: small, fast and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator that always draws the same from the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    /// Another generator, independent of how much is drawn from this one later.
    pub fn fork(&mut self, word: &str) -> Self {
        let salt = word
            .bytes()
            .fold(0u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte));
        Self::new(self.next() ^ salt)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `from` to `to`, both included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        assert!(from <= to, "an empty range has nothing to draw");
        from + self.next() % (to - from + 1)
    }

    /// True in `percent` of 100 draws.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.between(0, items.len() as u64 - 1) as usize;
        &items[index]
    }
}
