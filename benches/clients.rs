// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people wait for: a list of all workers, and news in `watcherctl monitor`.

use crate::machine::Machine;
use crate::{quantile, sorted};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

const ROUNDS: usize = 50;

pub fn measure(machine: &Machine, size: usize) {
    let list = sorted((0..ROUNDS).map(|_| timed(machine, &["watcherctl", "list"])).collect());
    let nothing = sorted((0..ROUNDS).map(|_| timed(machine, &["true"])).collect());
    let base = quantile(&nothing, 0.5);
    println!(
        "  watcherctl list of {size:5}  {:8.1} ms median, {:.1} ms p99 (of which {base:.1} ms to enter the container)",
        quantile(&list, 0.5),
        quantile(&list, 0.99)
    );
    let news = sorted(monitor(machine));
    println!(
        "  call -> watcherctl monitor {:6.1} ms median, {:.1} ms p99 (hold, save, publish, print; the call included)",
        quantile(&news, 0.5),
        quantile(&news, 0.99)
    );
}

/// Milliseconds that a command takes, from outside of the machine.
fn timed(machine: &Machine, argv: &[&str]) -> f64 {
    let mut command = machine.command(argv);
    command.stdout(Stdio::null());
    let start = Instant::now();
    assert!(command.status().expect("it can be run").success(), "{argv:?}");
    start.elapsed().as_secs_f64() * 1000.0
}

/// Milliseconds from a call that changes a worker to the line that tells of it.
fn monitor(machine: &Machine) -> Vec<f64> {
    let mut child = machine
        .command(&["watcherctl", "monitor", "--json", "idle@7"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("watcherctl can be run");
    let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bus = runtime.block_on(async {
        zbus::connection::Builder::address(machine.bus().as_str()).build().await.expect("the bus can be reached")
    });
    let hold = || {
        runtime.block_on(async {
            let arguments = (vec!["idle@7"], "bench", "", 0u64, 0u64);
            let reply = bus
                .call_method(Some("org.watcherd1"), "/org/watcherd1", Some("org.watcherd1.Manager"), "Hold", &arguments)
                .await
                .expect("it can be held");
            reply.body().deserialize::<u32>().expect("an id")
        })
    };
    let release = |id: u32| {
        runtime.block_on(async {
            bus.call_method(Some("org.watcherd1"), "/org/watcherd1", Some("org.watcherd1.Manager"), "Release", &(id,))
                .await
                .expect("it can be released");
        });
    };
    let mut wait_for = |word: &str| {
        loop {
            let line = lines.next().expect("monitor goes on").expect("a line");
            if line.contains(word) {
                return;
            }
        }
    };
    // The monitor listens once it has told of a first change.
    release(hold());
    let first = hold();
    wait_for("\"Held\"");
    release(first);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let id = {
            let start = Instant::now();
            let id = hold();
            wait_for("\"Held\":true");
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            id
        };
        release(id);
        wait_for("\"Held\":false");
    }
    child.kill().ok();
    child.wait().ok();
    times
}
