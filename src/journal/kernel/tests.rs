// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines are those of Linux 4.18, 6.1 and 6.12, and of NVIDIA's driver 550.

use super::*;
use crate::journal::Scope;

/// Weighs lines for a.service, which has the processes 354 and 355 called python3, and ended at second 100.
fn weighed(lines: &[&str]) -> Vec<Concern> {
    let at = |second: usize| Wall(90_000_000 + i64::try_from(second).unwrap_or(0));
    let lines: Vec<(Wall, &str)> = lines.iter().enumerate().map(|(n, text)| (at(n), *text)).collect();
    weighed_at(&lines)
}

fn weighed_at(lines: &[(Wall, &str)]) -> Vec<Concern> {
    let cgroup = UnitCgroup::new("a.service", Scope::System);
    let pids = HashSet::from([354, 355]);
    let names = HashSet::from(["python3".to_owned()]);
    let known = Known { cgroup: &cgroup, pids: &pids, names: &names, ended: Wall(100_000_000) };
    weigh(lines.iter().copied(), &known)
}

use Concern::{Host, Other, Run};

fn report(oom: &str, task: &str, pid: u32) -> Vec<String> {
    vec![
        "python3 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0".to_owned(),
        "CPU: 1 PID: 354 Comm: python3 Not tainted 6.1.0".to_owned(),
        "memory: usage 40960kB, limit 40960kB, failcnt 66".to_owned(),
        format!(
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg={oom},task_memcg={task},task=python3,pid={pid},uid=0"
        ),
        format!(
            "Memory cgroup out of memory: Killed process {pid} (python3) total-vm:60000kB, anon-rss:40516kB, UID:0"
        ),
        format!("oom_reaper: reaped process {pid} (python3), now anon-rss:0kB"),
    ]
}

fn concerns(report: &[String]) -> Vec<Concern> {
    weighed(&report.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_kill_in_the_units_control_group_is_the_runs_with_its_whole_report() {
    let ours = [Run, Other, Run, Run, Run, Run];
    assert_eq!(concerns(&report("/system.slice/a.service", "/system.slice/a.service", 999)), ours);
    assert_eq!(concerns(&report("/system.slice/a.service", "/system.slice/a.service/child", 999)), ours);
    assert_eq!(concerns(&report("/system.slice", "/system.slice/a.service", 999)), ours);
    assert_eq!(concerns(&report("/system.slice", "/system.slice/moved", 354)), ours);
}

#[test]
fn a_kill_in_another_units_control_group_is_nobodys() {
    let other = [Other; 6];
    assert_eq!(concerns(&report("/system.slice/b.service", "/system.slice/b.service", 999)), other);
    assert_eq!(concerns(&report("/machine.slice/x.scope/a.service", "/machine.slice/x.scope/a.service", 999)), other);
    let of_user = "/user.slice/user-1.slice/user@1.service/app.slice/a.service";
    assert_eq!(concerns(&report(of_user, of_user, 999)), other);
    // A new report ends the one before.
    let two = [
        report("/system.slice/a.service", "/system.slice/a.service", 999),
        report("/system.slice/b.service", "/system.slice/b.service", 998),
    ];
    assert_eq!(concerns(&two.concat()), [[Run, Other, Run, Run, Run, Run], [Other; 6]].concat());
}

#[test]
fn a_host_without_memory_concerns_whom_it_kills() {
    let global = |task: &str, pid: u32| {
        vec![
            "cc1 invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), order=0".to_owned(),
            format!(
                "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg={task},task=x,pid={pid},uid=0"
            ),
            format!("Out of memory: Killed process {pid} (x) total-vm:60000kB, anon-rss:40516kB"),
        ]
    };
    assert_eq!(concerns(&global("/system.slice/b.service", 999)), [Other; 3]);
    assert_eq!(concerns(&global("/system.slice/a.service", 999)), [Run; 3]);
    assert_eq!(concerns(&global("/system.slice/b.service", 355)), [Run; 3]);
    assert_eq!(weighed(&["Out of memory: Killed process 12 (x) total-vm:1kB"]), [Other]);
    assert_eq!(weighed(&["Out of memory: Killed process 354 (x) total-vm:1kB"]), [Run]);
    assert_eq!(weighed(&["Memory cgroup out of memory: Killed process 12 (x) total-vm:1kB"]), [Other]);
}

#[test]
fn a_whole_group_is_killed_and_old_kernels_say_it_otherwise() {
    let group = [
        "x invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/system.slice/a.service,task_memcg=/system.slice/a.service,task=x,pid=7,uid=0",
        "Memory cgroup out of memory: Killed process 7 (x) total-vm:1kB",
        "Tasks in /system.slice/a.service are going to be killed due to memory.oom.group set",
        "Memory cgroup out of memory: Killed process 8 (y) total-vm:1kB",
        "Memory cgroup out of memory: Killed process 9 (z) total-vm:1kB",
    ];
    assert_eq!(weighed(&group), [Run; 6]);
    let old = [
        "x invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "Task in /system.slice/a.service killed as a result of limit of /system.slice/a.service",
        "Killed process 8 (y) total-vm:1kB, anon-rss:1kB",
    ];
    assert_eq!(weighed(&old), [Run; 3]);
}

#[test]
fn what_stands_between_or_long_after_a_report_is_not_part_of_it() {
    let mut lines = report("/system.slice/a.service", "/system.slice/a.service", 999);
    lines.insert(1, "nginx[77]: segfault at 0 ip 00007f sp 00007ffc error 4 in nginx[55+1]".to_owned());
    // The line with the processor and the registers is no candidate.
    assert_eq!(concerns(&lines), [Run, Other, Other, Run, Run, Run, Run]);
    let group = "Tasks in /system.slice/a.service are going to be killed due to memory.oom.group set";
    let killed = "Memory cgroup out of memory: Killed process 8 (y) total-vm:1kB";
    let (soon, late) = (Wall(1_000_000), Wall(9_000_000));
    assert_eq!(weighed_at(&[(soon, group), (soon, killed), (late, killed)]), [Run, Run, Other]);
}

#[test]
fn a_name_that_looks_like_a_field_moves_no_blame() {
    let forged = [
        "oom-kill:constraint=CONSTRAINT_MEMCG,cpuset=/u/x,task_memcg=/system.slice/a.service,oom_memcg=/u,task_memcg=/u/x,task=x,pid=7,uid=1",
        "oom-kill:constraint=CONSTRAINT_MEMCG,cpuset=/,oom_memcg=/u,task_memcg=/u/x,task=x,pid=354,uid=0,pid=7,uid=1",
        "oom-kill:constraint=CONSTRAINT_MEMCG,cpuset=/,oom_memcg=/u,task_memcg=/u/x,task_memcg=/system.slice/a.service,task=x,pid=7,uid=1",
        "x[354]: segfau[7]: segfault at 0 ip 00 sp 00 error 4 in libc.so.6[7f00+1000]",
        "x[7]: segfault at 0 ip 00 sp 00 error 4 in x[354]: segfault at 0[7f00+1000]",
    ];
    for text in forged {
        assert_eq!(weighed(&[text]), [Other], "{text}");
    }
}

#[test]
fn faults_are_the_runs_by_thread_or_by_name_just_before_the_end() {
    let of_run = [
        "python3[354]: segfault at 0 ip 00007f sp 00007ffc error 4 in libc.so.6[7f00+1000] likely on CPU 1 (core 1, socket 0)",
        "pool worker[355]: segfault at 0 ip 00007f sp 00007ffc error 4",
        "traps: python3[354] general protection fault ip:7f sp:7f error:0 in libtorch.so[7f+1]",
        "traps: python3[354] trap invalid opcode ip:7f sp:7f error:0 in libtorch.so[7f+1]",
        "python3[9999]: segfault at 0 ip 00007f sp 00007ffc error 4",
        "NVRM: Xid (PCI:0000:3b:00): 31, pid=354, name=python3, Ch 00000010, intr 10000000",
        "audit: type=1326 audit(1.2:3): auid=0 uid=0 gid=0 ses=1 pid=354 comm=\"python3\" exe=\"/usr/bin/python3\" sig=31",
        "audit: type=1400 audit(1.2:3): apparmor=\"DENIED\" operation=\"open\" profile=\"p\" name=\"/x\" pid=355 comm=\"x\"",
        "cgroup: fork rejected by pids controller in /system.slice/a.service",
        "oom_reaper: reaped process 354 (python3), now anon-rss:0kB",
    ];
    for text in of_run {
        assert_eq!(weighed(&[text]), [Run], "{text}");
    }
    let of_others = [
        "nginx[77]: segfault at 0 ip 00007f sp 00007ffc error 4 in nginx[55+1]",
        "NVRM: Xid (PCI:0000:3b:00): 31, pid=77, name=python3, Ch 00000010, intr 10000000",
        "audit: type=1400 audit(1.2:3): apparmor=\"DENIED\" operation=\"open\" profile=\"p\" name=\"/x\" pid=77 ppid=354",
        "audit: type=1400 audit(1.2:3): apparmor=\"STATUS\" operation=\"profile_load\" name=\"x\" pid=354",
        "cgroup: fork rejected by pids controller in /system.slice/b.service",
        "usb 1-1: new high-speed USB device number 2 using xhci_hcd",
    ];
    for text in of_others {
        assert_eq!(weighed(&[text]), [Other], "{text}");
    }
    let long_before = (Wall(1_000_000), "python3[9999]: segfault at 0 ip 00007f sp 00007ffc error 4");
    assert_eq!(weighed_at(&[long_before]), [Other]);
    let of_host = [
        "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        "NVRM: GPU at PCI:0000:3b:00: GPU-8e0b",
        "EXT4-fs (sda1): Remounting filesystem read-only",
    ];
    for text in of_host {
        assert_eq!(weighed(&[text]), [Host], "{text}");
    }
}

#[test]
fn no_text_is_too_strange() {
    let seeds = report("/system.slice/a.service", "/system.slice/a.service", 354);
    let more = [
        "x[354]: segfault at ",
        "NVRM: pid=",
        "audit: type=1326 pid=",
        "traps: [",
        "Tasks in ",
        "\u{1f980}[",
        "oom-kill:",
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).expect("it is below")
    };
    let words: Vec<&str> = seeds.iter().map(String::as_str).chain(more).collect();
    for _ in 0..20_000 {
        let mut bytes = words[next(words.len())].as_bytes().to_vec();
        bytes.extend_from_slice(words[next(words.len())].as_bytes());
        for _ in 0..next(4) {
            let at = next(bytes.len());
            bytes[at] = next(256) as u8;
        }
        let from = next(bytes.len());
        let text = String::from_utf8_lossy(&bytes[from..]);
        assert_eq!(weighed(&[&text, &text]).len(), 2);
    }
}
