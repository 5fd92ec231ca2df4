// SPDX-License-Identifier: MIT OR Apache-2.0
//! A seeded generator of random numbers (xorshift64*), so that every history can be played again.

use std::time::Duration;

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Mostly milliseconds, sometimes nothing, sometimes seconds.
    pub fn pause(&mut self) -> Duration {
        match self.below(10) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(self.below(5_000)),
            _ => Duration::from_micros(self.below(40_000)),
        }
    }
}
