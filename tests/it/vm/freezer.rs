// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pausing and resuming with the kernel's freezer.

use super::story::Story;

#[test]
fn a_paused_worker_does_not_move_until_it_is_resumed() {
    let story = Story::begin("vm-busy", "CPUWeight=1\nExecStart=/bin/sh -c 'while :; do :; done'");
    story.until_property(&story.unit, "Phase", "working");
    let cgroup = "/sys/fs/cgroup/system.slice/vm-busy.service";
    let used = || story.read(&format!("{cgroup}/cpu.stat")).lines().next().map(str::to_owned);
    story.ok(&["watcherctl", "pause", &story.unit]);
    story.until_property(&story.unit, "Phase", "paused");
    assert_eq!(story.unit(&story.unit, "FreezerState"), "frozen");
    let events = story.read(&format!("{cgroup}/cgroup.events"));
    assert!(events.contains("frozen 1\n"), "{events}");
    let before = used();
    assert!(before.as_deref().is_some_and(|line| line.starts_with("usage_usec ")), "{before:?}");
    assert_eq!(used(), before);
    story.ok(&["watcherctl", "resume", &story.unit]);
    story.until_property(&story.unit, "Phase", "working");
    assert_eq!(story.unit(&story.unit, "FreezerState"), "running");
    story.until("the worker to move", || (used() != before).then_some(()));
    assert_eq!(story.incidents(&story.unit).len(), 0);
}
