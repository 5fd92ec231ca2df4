// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workers that use a GPU: the real bindings and loader on a driver that says what the test wants.

use crate::machine::{Machine, SUITES, source};
use std::process::Command;

const LIBRARY: &str = "/opt/libnvidia-ml.so.1";
const DROP_IN: &str = "[Service]\nEnvironment=WATCHERD_NVML=/opt/libnvidia-ml.so.1\n";
const POLICY: &str = "[worker]\nunits = [\"w.service\"]\n\
    [progress]\nfile = \"/run/step\"\nstall-after = \"4s\"\nwarm-up = \"4s\"\n\
    [restart]\nback-off = \"0s\"\nverify = \"1s\"\nbudget = \"100/1h\"\ndump-signal = \"none\"\n";
/// A few steps, and then nothing more.
const UNIT: &str =
    "[Service]\nExecStart=/bin/sh -c 'for n in 1 2 3; do echo $n >/run/step; sleep 0.2; done; sleep infinity'\n";

/// What the driver says about the worker's process.
fn say(machine: &Machine, pid: &str, shares: &str, more: &str) {
    let text = format!(
        "devices 2\n0.total 85899345920\n0.free 80530636800\n0.used 5368709120\n0.busy 50\n0.traffic 20\n0.heat 61\n\
         1.lost 1\nprocess 0 {pid} 4294967296 {shares}\nprocess 0 1 1073741824 50 20\n{more}"
    );
    machine.write("/opt/new.state", &text);
    machine.ok(&["mv", "/opt/new.state", &format!("{LIBRARY}.state")]);
}

fn machine_with_driver(machine: &Machine) {
    let place = machine.root().join(LIBRARY.trim_start_matches('/'));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(place).arg(source().join("tests/system/nvml.c"));
    assert!(compiler.status().expect("cc can be run").success());
    say(machine, "0", "-1 -1", "");
}

#[test]
fn work_on_a_gpu_is_no_hang_and_the_evidence_names_its_processes() {
    for suite in SUITES {
        let files = [
            ("/etc/watcherd/workers.d/w.toml", POLICY),
            ("/etc/systemd/system/w.service", UNIT),
            ("/etc/systemd/system/watcherd.service.d/nvml.conf", DROP_IN),
        ];
        let machine = Machine::boot_with(suite, &files);
        machine.ok(&["mkdir", "-p", "/opt"]);
        machine_with_driver(&machine);
        machine.ok(&["systemctl", "start", "watcherd"]);
        machine.ok(&["systemctl", "start", "w.service"]);
        let pid = machine.unit("w.service", "MainPID");
        say(&machine, &pid, "60 20", "");
        let number = |property: &str| machine.property("w.service", property).parse().unwrap_or(0_u64);
        machine.until("the last step", || (number("ProgressValue") == 3).then_some(()));
        let deadline = machine.until("a deadline", || Some(number("StallDeadlineTimestamp")).filter(|at| *at > 0));
        machine.until("time that is granted", || (number("StallDeadlineTimestamp") > deadline + 500_000).then_some(()));
        assert_eq!(number("NRuns"), 1);
        say(&machine, &pid, "0 0", "");
        machine.until("the evidence", || machine.read("/var/lib/watcherd/incidents/1/gpu").contains('?').then_some(()));
        let saved = machine.ok(&["watcherctl", "incident", "1", "--evidence"]);
        for expected in [
            "GPUs:\n",
            "0 GPU-0 5120 76800 81920 50 20 61 Test 0\n",
            "1 ? ? ? ? ? ? ? ? (device fell off the bus",
            &format!("0 {pid} 4096 0 0 worker\n"),
            "0 1 1024 50 20 other\n",
        ] {
            assert!(saved.contains(expected), "{expected} in {saved}");
        }
        // A driver that hangs neither hides a stall nor keeps the evidence from being saved.
        say(&machine, &pid, "60 20", "hang 1\n");
        let noted = "grep -l 'GPUs: NVML did not answer within 3 s' /var/lib/watcherd/incidents/*/notes";
        let notes = machine.until("a note", || {
            let found = machine.run(&["sh", "-c", noted]);
            found.status.success().then(|| String::from_utf8_lossy(&found.stdout).trim().to_owned())
        });
        let threads = notes.lines().next().unwrap_or_default().replace("/notes", "/threads");
        assert!(machine.read(&threads).contains(" sleep"), "{threads}");
    }
}

#[test]
fn a_worker_waits_for_the_memory_of_a_gpu() {
    let policy = "[worker]\nunits = [\"w.service\"]\n[restart]\nback-off = \"0s\"\nverify = \"1s\"\n\
        [cause.gpu-oom]\nuntil = \"gpu-free(20G)\"\n";
    let unit = "[Service]\nExecStart=/bin/sh -c 'test -e /run/again && exec sleep infinity; touch /run/again; \
        echo torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB; exit 1'\n";
    let files = [
        ("/etc/watcherd/workers.d/w.toml", policy),
        ("/etc/systemd/system/w.service", unit),
        ("/etc/systemd/system/watcherd.service.d/nvml.conf", DROP_IN),
    ];
    let machine = Machine::boot_with(SUITES[0], &files);
    machine.ok(&["mkdir", "-p", "/opt"]);
    machine_with_driver(&machine);
    let free = |bytes: u64| {
        let text = format!("devices 1\n0.total 85899345920\n0.free {bytes}\n0.used 0\n");
        machine.write("/opt/new.state", &text);
        machine.ok(&["mv", "/opt/new.state", &format!("{LIBRARY}.state")]);
    };
    free(10 << 30);
    machine.ok(&["systemctl", "start", "watcherd"]);
    machine.ok(&["systemctl", "start", "w.service"]);
    machine.until_property("w.service", "Phase", "held");
    free(30 << 30);
    machine.until("the worker", || (machine.unit("w.service", "ActiveState") == "active").then_some(()));
    assert_eq!(machine.property("w.service", "Attempts"), "0");
}
