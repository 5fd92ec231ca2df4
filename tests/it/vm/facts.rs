// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workers that fail for real reasons: what systemd, the kernel and systemd-coredump say, and what watcherd concludes.

use super::story::Story;
use serde_json::Value;

/// A process of the unit was killed by the OOM killer (systemd).
const OOM: (&str, &str) = ("MESSAGE_ID", "fe6faa94e7774663a0da52717891d8ef");
/// A process dumped core (systemd-coredump).
const CORE: (&str, &str) = ("MESSAGE_ID", "fc2e22bc6ee647b6b90729ab34a250b1");
const KERNEL: (&str, &str) = ("_TRANSPORT", "kernel");

/// Takes memory without end.
const HOG: &str = "/usr/local/bin/hog";

/// What each failure is.
const CAUSES: [(&str, &str); 12] = [
    ("vm-oom-main", "oom-kill-cgroup"),
    ("vm-oom-child", "oom-kill-cgroup"),
    ("vm-oom-host", "oom-kill-host"),
    ("vm-core", "segfault"),
    ("vm-large", "segfault"),
    ("vm-abort", "unknown"),
    ("vm-disk", "disk-full"),
    ("vm-files", "fd-limit"),
    ("vm-tasks", "task-limit"),
    ("vm-watchdog", "unresponsive"),
    ("vm-exec", "unit-setup-failed"),
    ("vm-user", "unit-setup-failed"),
];

fn cause(name: &str) -> &'static str {
    CAUSES.iter().find(|(story, _)| *story == name).map(|(_, cause)| *cause).expect("each story has a row")
}

/// Begins a story, and waits for the end of its worker.
#[track_caller]
fn fails(name: &str, service: &str, facts: &[&str]) -> Story {
    let story = Story::begin(name, service);
    story.ends(cause(name), facts);
    story
}

#[test]
fn a_main_process_over_the_limit_of_its_unit_is_killed() {
    let service = format!("MemoryMax=32M\nExecStart={HOG}");
    let story = fails("vm-oom-main", &service, &["Result=oom-kill", "ExecMainCode=2", "ExecMainStatus=9"]);
    story.says(&[OOM, ("UNIT", &story.unit), ("_PID", "1")]);
    let line = story.says(&[KERNEL, ("MESSAGE", "task_memcg=/system.slice/vm-oom-main.service,")]);
    assert!(line["MESSAGE"].as_str().is_some_and(|text| text.starts_with("oom-kill:constraint=CONSTRAINT_MEMCG,")));
}

#[test]
fn a_child_over_the_limit_takes_its_unit_with_it() {
    let service = format!("MemoryMax=32M\nExecStart=/bin/sh -c '{HOG}; exec sleep infinity'");
    let story = fails("vm-oom-child", &service, &["Result=oom-kill", "ExecMainCode=2", "ExecMainStatus=15"]);
    story.says(&[OOM, ("UNIT", &story.unit)]);
    story.says(&[KERNEL, ("MESSAGE", "Memory cgroup out of memory: Killed process")]);
}

#[test]
fn a_child_over_the_limit_dies_alone_if_the_unit_says_so() {
    let script = format!("'{HOG}; exec sleep infinity'");
    let service = format!("MemoryMax=32M\nOOMPolicy=continue\nExecStart=/bin/sh -c {script}");
    let story = Story::begin("vm-oom-continue", &service);
    story.says(&[OOM, ("UNIT", &story.unit)]);
    story.says(&[KERNEL, ("MESSAGE", "task_memcg=/system.slice/vm-oom-continue.service,")]);
    let events = story.read("/sys/fs/cgroup/system.slice/vm-oom-continue.service/memory.events");
    assert!(events.contains("\noom_kill 1\n"), "{events}");
    assert_eq!(story.unit(&story.unit, "ActiveState"), "active");
    assert_eq!(story.unit(&story.unit, "Result"), "success");
    assert_eq!(story.property(&story.unit, "Phase"), "working");
    story.until("the warning", || story.property(&story.unit, "Warnings").contains("oom-kill-cgroup").then_some(()));
    assert_eq!(story.incidents(&story.unit).len(), 0);
}

#[test]
fn the_worker_dies_when_the_memory_of_the_machine_runs_out() {
    let service = format!("OOMScoreAdjust=1000\nExecStart={HOG}");
    let story = fails("vm-oom-host", &service, &["Result=oom-kill", "ExecMainCode=2", "ExecMainStatus=9"]);
    story.says(&[OOM, ("UNIT", &story.unit)]);
    let line = story.says(&[KERNEL, ("MESSAGE", "task_memcg=/system.slice/vm-oom-host.service,")]);
    assert!(
        line["MESSAGE"].as_str().is_some_and(|text| text.contains("CONSTRAINT_NONE") && text.contains("global_oom"))
    );
}

#[test]
fn a_worker_is_killed_and_runs_again() {
    let script = format!("test -e /run/second && exec sleep infinity; touch /run/second; exec {HOG}");
    let service = format!("MemoryMax=32M\nExecStart=/bin/sh -c '{script}'");
    let story = Story::begin("quick-oom", &service);
    story.until_property(&story.unit, "NRuns", "2");
    story.until("the proof that it runs", || {
        (story.incidents(&story.unit).first()?["Result"]["data"] == "recovered").then_some(())
    });
    assert_eq!(story.incidents(&story.unit)[0]["Cause"]["data"], cause("vm-oom-main"));
}

#[test]
fn an_invalid_access_leaves_a_core() {
    let service = "ExecStart=/usr/bin/python3 -c 'import ctypes; ctypes.string_at(0)'";
    let story = fails("vm-core", service, &["Result=core-dump", "ExecMainCode=3", "ExecMainStatus=11"]);
    let core = story.says(&[CORE, ("COREDUMP_UNIT", &story.unit), ("COREDUMP_SIGNAL_NAME", "SIGSEGV")]);
    assert_eq!(core["COREDUMP_PID"], story.unit(&story.unit, "ExecMainPID"));
    story.says(&[KERNEL, ("MESSAGE", "segfault at 0 ip ")]);
}

#[test]
fn a_core_that_is_being_written_is_told_before_systemd_sees_the_end() {
    let service = "ExecStart=/usr/bin/python3 -c \
        'import ctypes, os; held = os.urandom(64 << 20); ctypes.string_at(0)'";
    let story = fails("vm-large", service, &["Result=core-dump", "ExecMainCode=3", "ExecMainStatus=11"]);
    let at = |entry: &Value| entry["__REALTIME_TIMESTAMP"].as_str().and_then(|time| time.parse::<u64>().ok());
    let told = story.says(&[("OBJECT_SYSTEMD_UNIT", &story.unit), ("MESSAGE", "crashed and is writing its core")]);
    let seen = story.says(&[("UNIT", &story.unit), ("MESSAGE", "Main process exited, code=dumped")]);
    assert!(at(&told).expect("a time") < at(&seen).expect("a time"), "{told}\n{seen}");
}

#[test]
fn an_abort_leaves_a_core() {
    let story = fails(
        "vm-abort",
        "ExecStart=/bin/sh -c 'kill -ABRT $$$$'",
        &["Result=core-dump", "ExecMainCode=3", "ExecMainStatus=6"],
    );
    story.says(&[CORE, ("COREDUMP_UNIT", &story.unit), ("COREDUMP_SIGNAL_NAME", "SIGABRT")]);
}

#[test]
fn a_full_disk_is_said_by_the_worker_only() {
    let service = "TemporaryFileSystem=/mnt:size=1M\nExecStart=/bin/dd if=/dev/zero of=/mnt/file bs=64k";
    let story = fails("vm-disk", service, &["Result=exit-code", "ExecMainStatus=1"]);
    story.says(&[("_SYSTEMD_UNIT", &story.unit), ("MESSAGE", "No space left on device")]);
}

#[test]
fn too_many_open_files_are_said_by_the_worker_only() {
    let service = "LimitNOFILE=32\nExecStart=/usr/bin/python3 -c 'files = [open(\"/dev/null\") for _ in iter(int, 1)]'";
    let story = fails("vm-files", service, &["Result=exit-code", "ExecMainStatus=1"]);
    story.says(&[("_SYSTEMD_UNIT", &story.unit), ("MESSAGE", "[Errno 24] Too many open files")]);
}

#[test]
fn too_many_tasks_are_said_by_the_kernel_and_the_worker() {
    let script = "import os, time; [os.fork() or time.sleep(3600) for _ in iter(int, 1)]";
    let service = format!("TasksMax=8\nExecStart=/usr/bin/python3 -c '{script}'");
    let story = fails("vm-tasks", &service, &["Result=exit-code", "ExecMainStatus=1"]);
    story.says(&[("_SYSTEMD_UNIT", &story.unit), ("MESSAGE", "[Errno 11] Resource temporarily unavailable")]);
    story.says(&[KERNEL, ("MESSAGE", "fork rejected by pids controller in /system.slice/vm-tasks.service")]);
}

#[test]
fn a_silent_worker_is_ended_by_its_watchdog() {
    let script = "/bin/sh -c 'systemd-notify --ready; exec sleep infinity'";
    let service = format!("Type=notify\nNotifyAccess=all\nWatchdogSec=1s\nExecStart={script}");
    let story = fails("vm-watchdog", &service, &["Result=watchdog", "ExecMainCode=3", "ExecMainStatus=6"]);
    story.says(&[("UNIT", &story.unit), ("MESSAGE", "Watchdog timeout (limit 1s)!")]);
}

#[test]
fn a_program_that_does_not_exist_is_a_failed_setup() {
    let facts = ["Result=exit-code", "ExecMainCode=1", "ExecMainStatus=203"];
    let story = fails("vm-exec", "ExecStart=/usr/bin/nothing-here", &facts);
    story.says(&[("UNIT", &story.unit), ("MESSAGE", "Failed at step EXEC spawning /usr/bin/nothing-here")]);
}

#[test]
fn a_user_that_does_not_exist_is_a_failed_setup() {
    let facts = ["Result=exit-code", "ExecMainCode=1", "ExecMainStatus=217"];
    let story = fails("vm-user", "User=nobody-here\nExecStart=/bin/sleep infinity", &facts);
    story.says(&[("UNIT", &story.unit), ("MESSAGE", "Failed to determine user credentials")]);
}
