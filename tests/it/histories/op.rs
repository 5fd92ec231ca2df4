// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens from outside, chosen at random.

use super::NAMES;
use super::dice::Dice;
use std::time::Duration;
use watcherd::engine::event::Verb;

/// One thing that happens from outside.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    pub after: Duration,
    pub what: What,
    pub worker: usize,
    pub value: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    Ends,
    SystemctlStart,
    SystemctlStop,
    SystemctlRestart,
    SystemctlFreeze,
    Change(Verb),
    Run,
    Adopt,
    Forget,
    Hold,
    Release,
    Quarantine,
    Reset,
    CloseIncident,
    CancelJob,
    DuplicateDone,
    UnknownDone,
    OddFacts,
    EarlyWake,
    NewPolicies,
    Settings,
    Listed,
    Unload,
    Beat,
    Read,
    Sign,
    WallJump,
    Killed,
    Rebooted,
    HostStopping,
}

pub fn invent(seed: u64) -> Vec<Op> {
    use What::*;
    let mut dice = Dice::new(seed);
    let common = [Ends, Ends, Ends, Ends, SystemctlStart, SystemctlStop, SystemctlRestart];
    let requests = [
        Change(Verb::Start),
        Change(Verb::Stop),
        Change(Verb::Restart),
        Change(Verb::Pause),
        Change(Verb::Resume),
        Run,
        Run,
        Adopt,
        Forget,
        Hold,
        Release,
        Release,
        Quarantine,
        Reset,
        CloseIncident,
        CancelJob,
    ];
    let rare = [
        DuplicateDone,
        UnknownDone,
        OddFacts,
        EarlyWake,
        NewPolicies,
        Settings,
        Listed,
        Unload,
        Beat,
        Read,
        Read,
        Read,
        Sign,
        Sign,
        WallJump,
        Killed,
        Killed,
        SystemctlFreeze,
        Rebooted,
        HostStopping,
    ];
    // Some histories have no chaos, so that more can be asked of them.
    let calm = seed.is_multiple_of(3);
    let count = 5 + dice.below(60);
    (0..count)
        .map(|_| {
            let from: &[What] = match dice.below(10) {
                0..5 => &common,
                5..8 => &requests,
                _ if calm => &[Listed, EarlyWake, Killed, Killed, DuplicateDone],
                _ => &rare,
            };
            let what = from[dice.below(from.len() as u64) as usize];
            // The machine stops once.
            let what = if matches!(what, HostStopping) && !dice.one_in(6) { Listed } else { what };
            let after = match dice.below(6) {
                0 => Duration::ZERO,
                1 => Duration::from_micros(dice.below(500)),
                2 | 3 => Duration::from_millis(dice.below(3_000)),
                4 => Duration::from_secs(dice.below(90)),
                _ => Duration::from_secs(dice.below(20)),
            };
            Op { after, what, worker: dice.below(NAMES.len() as u64) as usize, value: dice.next() }
        })
        .collect()
}
