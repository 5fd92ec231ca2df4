// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of the package on a machine with a kernel of its own: installed, put to work, rebooted, purged.

use super::Vm;
use crate::machine::Suite;
use crate::package::PACKAGE;

const WORKER: &str = "story.service";
/// Crashes in its first run.
const SCRIPT: &str = "test -e /var/tmp/second && exec sleep infinity; touch /var/tmp/second; \
    exec python3 -c 'import ctypes; ctypes.string_at(0)'";

/// Plays it, and leaves the machine without the package.
pub fn live(vm: &Vm) {
    vm.ok(&["dpkg", "-i", PACKAGE]);
    assert_well(vm);
    vm.ok(&["watcherctl", "run", "--name=story", "--back-off=1s", "--verify=1s", "--", "/bin/sh", "-c", SCRIPT]);
    vm.until_property(WORKER, "NRuns", "2");
    vm.until_property(WORKER, "Phase", "working");
    vm.until("the proof that it runs", || {
        (vm.incidents(WORKER).first()?["Result"]["data"] == "recovered").then_some(())
    });
    // systemd-coredump takes its time; the verdict is completed then.
    vm.until("what the core dump says", || {
        let why = vm.ok(&["watcherctl", "why", WORKER]);
        (why.starts_with("story.service: segfault") && why.contains("\n  coredump: SIGSEGV in ")).then_some(())
    });

    vm.reboot();
    assert_well(vm);
    vm.until_property(WORKER, "Phase", "working");
    let incidents = vm.incidents(WORKER);
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    assert_eq!(incidents[0]["Cause"]["data"], "segfault");

    vm.ok(&["watcherctl", "stop", WORKER]);
    vm.ok(&["dpkg", "--purge", "watcherd"]);
    let looked = "ls -d /etc/watcherd /run/watcherd /var/lib/watcherd /usr/bin/watcher* /usr/share/*/watcherd* \
        /etc/systemd/system/*watcherd* /etc/systemd/system/*/watcherd* 2>/dev/null || :";
    assert_eq!(vm.ok(&["sh", "-c", looked]), "");
    assert_eq!(vm.unit("watcherd", "LoadState"), "not-found");
}

#[track_caller]
fn assert_well(vm: &Vm) {
    vm.until("watcherd", || (vm.unit("watcherd", "ActiveState") == "active").then_some(()));
    assert_eq!(vm.unit("watcherd", "NRestarts"), "0");
}

#[test]
fn the_package_lives_on_debian_12() {
    assert_eq!(Vm::shared().package_lived, Some(Ok(())));
}

#[test]
fn the_package_lives_on_debian_13() {
    live(&Vm::boot(Suite::Trixie));
}
