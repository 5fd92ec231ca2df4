// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two clocks of the engine. Monotonic time decides, wall time is only written down.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on CLOCK_MONOTONIC, in microseconds; it stands still while the machine sleeps.
///
/// Signed, because a point that was saved before a reboot lies before the new boot's zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub i64);

/// A point on CLOCK_REALTIME, in microseconds since 1970-01-01 UTC. Zero means "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub i64);

/// Both clocks, read at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono: Mono,
    pub wall: Wall,
}

impl Now {
    /// What the wall clock will say when the monotonic clock reaches `at`.
    pub fn wall_at(self, at: Mono) -> Wall {
        Wall(self.wall.0.saturating_add(at.0.saturating_sub(self.mono.0)))
    }

    /// What the monotonic clock said, or will say, at wall time `at`.
    pub fn mono_at(self, at: Wall) -> Mono {
        Mono(self.mono.0.saturating_add(at.0.saturating_sub(self.wall.0)))
    }
}

impl Mono {
    /// The time from `earlier` to here, zero if `earlier` lies later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }
}

impl Wall {
    pub const NEVER: Wall = Wall(0);

    /// The time from `earlier` to here, zero if `earlier` lies later or never was.
    pub fn since(self, earlier: Wall) -> Duration {
        if earlier == Wall::NEVER {
            return Duration::ZERO;
        }
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(micros(span)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;
    fn sub(self, span: Duration) -> Mono {
        Mono(self.0.saturating_sub(micros(span)))
    }
}

impl Add<Duration> for Wall {
    type Output = Wall;
    fn add(self, span: Duration) -> Wall {
        Wall(self.0.saturating_add(micros(span)))
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Prints a time span in systemd's spelling: `1min 30s`, `250ms`, `0`; see systemd.time(7).
///
/// At most two units are printed, so that `2d 3h 4min` reads `2d 3h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u128); 7] = [
            ("w", 604_800_000_000),
            ("d", 86_400_000_000),
            ("h", 3_600_000_000),
            ("min", 60_000_000),
            ("s", 1_000_000),
            ("ms", 1_000),
            ("us", 1),
        ];
        let mut rest = self.0.as_micros();
        let mut printed = 0;
        for (unit, size) in UNITS {
            let count = rest / size;
            if count == 0 {
                if printed > 0 {
                    break;
                }
                continue;
            }
            if printed > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{count}{unit}")?;
            rest %= size;
            printed += 1;
            // Below a second, one unit is exact enough.
            if printed == 2 || size < 1_000_000 {
                break;
            }
        }
        if printed == 0 {
            f.write_str("0")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_systemd_writes_them() {
        let cases = [
            (0, "0"),
            (250_000, "250ms"),
            (18_206, "18ms"),
            (90_000_000, "1min 30s"),
            (3_600_000_000, "1h"),
            (183_845_000_000, "2d 3h"),
            (3_600_000_001, "1h"),
        ];
        for (micros, text) in cases {
            assert_eq!(Span(Duration::from_micros(micros)).to_string(), text);
        }
    }

    #[test]
    fn the_clocks_convert_into_each_other() {
        let now = Now { mono: Mono(5_000_000), wall: Wall(1_700_000_000_000_000) };
        let later = now.mono + Duration::from_secs(3);
        assert_eq!(now.wall_at(later), Wall(1_700_000_003_000_000));
        assert_eq!(now.mono_at(now.wall_at(later)), later);
    }
}
