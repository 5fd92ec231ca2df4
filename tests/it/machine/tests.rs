// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machines themselves.

use super::*;

#[test]
fn what_is_written_outlives_a_reboot_and_a_power_failure() {
    for suite in SUITES {
        let mut machine = Machine::boot(suite);
        machine.write("/var/lib/note", "before\n");
        let first = machine.ok(&["cat", "/proc/sys/kernel/random/boot_id"]);
        machine.reboot();
        assert_eq!(machine.read("/var/lib/note"), "before\n");
        let second = machine.ok(&["cat", "/proc/sys/kernel/random/boot_id"]);
        machine.crash();
        assert_eq!(machine.read("/var/lib/note"), "before\n");
        assert!(first != second && second != machine.ok(&["cat", "/proc/sys/kernel/random/boot_id"]));
    }
}

#[test]
fn machines_share_neither_names_nor_cgroups_nor_files() {
    let (one, other) = (Machine::boot(Suite::Bookworm), Machine::boot(Suite::Bookworm));
    for machine in [&one, &other] {
        machine.write_unit("same.service", "[Service]\nExecStart=sleep infinity\n");
        machine.ok(&["systemctl", "start", "same.service"]);
    }
    one.ok(&["systemctl", "freeze", "same.service"]);
    assert_eq!(one.ok(&["systemctl", "show", "-P", "FreezerState", "same.service"]), "frozen\n");
    assert_eq!(other.ok(&["systemctl", "show", "-P", "FreezerState", "same.service"]), "running\n");
    one.write("/mine", "");
    assert!(!other.root().join("mine").exists());
}

#[test]
fn nothing_is_left_of_a_machine() {
    let machine = Machine::boot(Suite::Trixie);
    let leader = machine.leader;
    let mut worker = machine.command(&["sleep", "infinity"]).spawn().expect("it starts");
    drop(machine);
    worker.wait().expect("it ended with the machine");
    assert!(!Path::new("/proc").join(leader.to_string()).exists());
    let name = format!("wd-{}-", std::process::id());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("it is readable");
    assert!(!mounts.contains(&name), "{mounts}");
}

#[test]
fn programs_on_the_host_reach_the_bus_and_users_their_manager() {
    for suite in SUITES {
        let machine = Machine::boot(suite);
        let mut busctl = Command::new("busctl");
        busctl.args(["--address", &machine.bus(), "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"]);
        let output = busctl.args(["org.freedesktop.DBus.Peer", "Ping"]).output().expect("busctl can be run");
        assert!(output.status.success(), "{output:?}");
        machine.start_user_manager("alice");
        let argv = ["systemd-run", "--user", "--pipe", "-q", "id", "-un"];
        let output = machine.command_as("alice", &argv).output().expect("it can be run");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "alice\n", "{output:?}");
    }
}
