// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only place that reads clocks, the boot id and randomness.
//!
//! What is decided goes by CLOCK_MONOTONIC, which stands still while the machine sleeps (clock_gettime(2)): a night in
//! which nothing runs is no stall. The timers of the runtime go by the same clock.

use crate::engine::time::{Mono, Now, Wall};
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// Both clocks, now.
pub fn now() -> Now {
    Now { mono: Mono(read(ClockId::CLOCK_MONOTONIC)), wall: Wall(read(ClockId::CLOCK_REALTIME)) }
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock).map(Duration::from).unwrap_or_default();
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// The moment at which the monotonic clock will say `at`.
pub fn instant(at: Mono) -> tokio::time::Instant {
    tokio::time::Instant::now() + at.since(now().mono)
}

/// Identifies this boot of the machine; see random(4).
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// A seed for jitter and run ids.
pub fn seed() -> u64 {
    let mut bytes = [0; 8];
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => read(ClockId::CLOCK_REALTIME).unsigned_abs(),
    }
}
