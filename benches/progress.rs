// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many workers with a progress file each, all of which say something new every second.

use crate::idle::{sample, settle};
use crate::machine::{Machine, Suite};
use crate::subject::now;
use crate::{quantile, sorted};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;
use watcherd::api::client::ROOT;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream};

const POLICY: &str = "[worker]\nunits = [\"busy@*.service\"]\n[progress]\nfile = \"/run/busy/%i\"\n";
const UNIT: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
/// Updates of each worker that are measured; one before them is for warming up.
const UPDATES: u64 = 20;
const SECOND: u64 = 1_000_000;

/// Times in microseconds of CLOCK_MONOTONIC, by worker and value.
type Times = HashMap<(usize, u64), u64>;

pub fn measure(size: usize) {
    println!("\n{size} workers with a progress file each, an update per second each");
    let machine = Machine::boot_with(
        Suite::Bookworm,
        &[("/etc/watcherd/workers.d/busy.toml", POLICY), ("/etc/systemd/system/busy@.service", UNIT)],
    );
    machine.ok(&["mkdir", "/run/busy"]);
    let script = format!("for n in $(seq 0 {}); do systemctl start --no-block busy@$n; done", size - 1);
    machine.ok(&["sh", "-c", &script]);
    machine.until("the fleet to run", || {
        let count = "systemctl list-units --plain --no-legend --state=running 'busy@*' | wc -l";
        (machine.ok(&["sh", "-c", count]).trim() == size.to_string()).then_some(())
    });
    let files = machine.root().join("run/busy");
    for worker in 0..size {
        write(&files, worker, 1);
    }
    machine.ok(&["systemctl", "start", "watcherd"]);
    settle(&machine);
    let pid = machine.unit("watcherd", "MainPID");
    let process = machine.root().join("proc").join(&pid);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bus = runtime.block_on(async {
        let bus = zbus::connection::Builder::address(machine.bus().as_str());
        let bus = bus.max_queued(std::num::NonZeroUsize::new(65_536).expect("not zero")).build().await;
        bus.expect("the bus can be reached")
    });
    runtime.block_on(listen(&bus));
    let writer = std::thread::spawn(move || keep_writing(&files, size));
    let before = sample(&process);
    let heard = runtime.block_on(hear(&bus, size));
    let after = sample(&process);
    let written = writer.join().expect("the writer works");

    let seconds = (after.at - before.at) as f64 / 1e6;
    let delay = |(key, at): (&(usize, u64), &u64)| heard.get(key).map(|heard| heard.saturating_sub(*at) as f64 / 1e3);
    let delays = sorted(written.iter().filter_map(delay).collect());
    println!("  CPU                       {:7.1} % of a core", (after.cpu - before.cpu) as f64 / seconds);
    println!(
        "  update -> PropertiesChanged {:5.1} ms median, {:.1} ms p99, {:.1} ms at most",
        quantile(&delays, 0.5),
        quantile(&delays, 0.99),
        quantile(&delays, 1.0)
    );
    // Two changes of one worker that are drawn together are told once.
    println!("  {} updates, {} of them told", written.len(), delays.len());
}

/// Replaces the files evenly over each second; returns when which value was written.
fn keep_writing(files: &Path, size: usize) -> Times {
    let begin = now() + SECOND / 10;
    let mut written = Times::new();
    for value in 2..2 + UPDATES {
        for worker in 0..size {
            let due = begin + (value - 2) * SECOND + worker as u64 * SECOND / size as u64;
            let wait = due.saturating_sub(now());
            if wait > 0 {
                std::thread::sleep(Duration::from_micros(wait));
            }
            written.insert((worker, value), now());
            write(files, worker, value);
        }
    }
    written
}

fn write(files: &Path, worker: usize, value: u64) {
    let new = files.join(format!(".{worker}"));
    fs::write(&new, format!("{{\"step\": {value}}}\n")).expect("it can be written");
    fs::rename(&new, files.join(worker.to_string())).expect("it can be renamed");
}

async fn listen(bus: &Connection) {
    let rule = MatchRule::builder().msg_type(Type::Signal).member("PropertiesChanged").path_namespace(ROOT).build();
    let proxy = zbus::fdo::DBusProxy::new(bus).await.expect("the bus answers");
    proxy.add_match_rule(rule.expect("it is valid")).await.expect("it can be subscribed");
}

/// Notes when which value was told, until all workers have told their last one or nothing more comes.
async fn hear(bus: &Connection, size: usize) -> Times {
    use futures_util::StreamExt;
    let mut heard = Times::new();
    let mut left = size;
    let mut stream = MessageStream::from(bus);
    let patience = Duration::from_secs(10);
    while left > 0 {
        let Ok(Some(Ok(message))) = tokio::time::timeout(patience, stream.next()).await else { break };
        let at = now();
        let Some((worker, value)) = told(&message) else { continue };
        heard.entry((worker, value)).or_insert(at);
        left -= usize::from(value == 1 + UPDATES);
    }
    heard
}

fn told(message: &zbus::Message) -> Option<(usize, u64)> {
    let header = message.header();
    let label = header.path()?.as_str().strip_prefix("/org/watcherd1/worker/busy_40")?;
    let worker = label.strip_suffix("_2eservice")?.parse().ok()?;
    type Body = (String, HashMap<String, zbus::OwnedVariant>, Vec<String>);
    let (_, changed, _): Body = message.body().deserialize().ok()?;
    let value = u64::try_from(changed.get("ProgressValue")?).ok()?;
    Some((worker, value))
}
