// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures watcherd on a real systemd (Debian 12) in a container, everything that is compared in one run.
//!
//! `make bench`; `ROUNDS=` changes the number of crashes, `WORKERS=100,1000` the sizes of the idle fleets, `PEERS=1`
//! adds monit, supervisord and runit from Debian, `ONLY=recovery,verdict,logs,idle,progress,capsule,ledger` leaves parts out.
//! Figures from a machine that does other things at the same time are orders of magnitude; the ratios within one run are
//! what counts.

#[path = "../tests/it/machine.rs"]
#[expect(dead_code, unused_imports, reason = "the tests use more of it")]
mod machine;

mod capsule;
mod clients;
mod idle;
mod ledger;
mod logs;
mod peers;
mod progress;
mod recovery;
mod subject;
mod verdict;

use std::env;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    // The worker that is killed is this program itself: it notes when it began to run.
    if arguments.get(1).is_some_and(|word| word == "worker") {
        subject::work(arguments.get(2).expect("worker FILE"));
    }
    let rounds = number("ROUNDS", 200);
    let only = env::var("ONLY").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || only.split(',').any(|name| name.trim() == part);
    if wanted("recovery") {
        recovery::measure(rounds);
    }
    if wanted("verdict") {
        verdict::measure(rounds.min(60));
    }
    if wanted("logs") {
        logs::measure(rounds.min(20));
    }
    if env::var("PEERS").is_ok_and(|value| value == "1") {
        peers::measure(rounds.min(50));
    }
    if wanted("progress") {
        progress::measure(number("PROGRESS", 1000));
    }
    if wanted("capsule") {
        capsule::measure(rounds.min(10));
    }
    if wanted("ledger") {
        ledger::measure(rounds.min(20));
    }
    if wanted("idle") {
        let fleets = env::var("WORKERS").unwrap_or_else(|_| "100,1000".into());
        for size in fleets.split(',').filter_map(|size| size.trim().parse().ok()) {
            let fleet = idle::measure(size);
            clients::measure(&fleet, size);
        }
    }
}

fn number(name: &str, default: usize) -> usize {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The value below which the given share of `sorted` lies.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Sorted, for quantiles.
fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}
