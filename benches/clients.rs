// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people wait for: a list of all workers, and news in `watcherctl monitor`.

use crate::machine::Machine;
use crate::{quantile, sorted};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 50;
const DEADLINE: Duration = Duration::from_secs(10);

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
    let output = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
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
    let wait_for = |word: &str, within: Duration| {
        let end = Instant::now() + within;
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(word) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    // The monitor listens once it has told of a change.
    let listens = (0..100).any(|_| {
        let id = hold();
        let told = wait_for("\"Held\":true", Duration::from_millis(200));
        release(id);
        told
    });
    assert!(listens, "watcherctl monitor tells nothing");
    assert!(wait_for("\"Held\":false", DEADLINE));
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let id = hold();
        assert!(wait_for("\"Held\":true", DEADLINE));
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        release(id);
        assert!(wait_for("\"Held\":false", DEADLINE));
    }
    child.kill().ok();
    child.wait().ok();
    times
}
