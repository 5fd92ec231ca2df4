// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machines themselves.

use super::*;

#[test]
fn what_is_written_outlives_a_reboot_and_a_power_failure() {
    on_each(|machine| {
        machine.write("/var/lib/note", "before\n");
        let first = machine.sh("cat /proc/sys/kernel/random/boot_id");
        machine.reboot();
        assert_eq!(machine.read("/var/lib/note"), "before\n");
        let second = machine.sh("cat /proc/sys/kernel/random/boot_id");
        machine.crash();
        assert_eq!(machine.read("/var/lib/note"), "before\n");
        assert!(first != second && second != machine.sh("cat /proc/sys/kernel/random/boot_id"));
    });
}

#[test]
fn machines_share_neither_names_nor_cgroups_nor_files() {
    let (one, other) = (Machine::boot(Suite::Bookworm), Machine::boot(Suite::Bookworm));
    for machine in [&one, &other] {
        machine.unit("same.service", "[Service]\nExecStart=sleep infinity\n");
        machine.ok(&["systemctl", "start", "same.service"]);
    }
    one.ok(&["systemctl", "freeze", "same.service"]);
    assert_eq!(one.ok(&["systemctl", "show", "-P", "FreezerState", "same.service"]), "frozen\n");
    assert_eq!(other.ok(&["systemctl", "show", "-P", "FreezerState", "same.service"]), "running\n");
    one.write("/mine", "");
    assert!(!other.path("/mine").exists());
}

#[test]
fn nothing_is_left_of_a_machine() {
    let machine = Machine::boot(Suite::Trixie);
    let leader = machine.leader();
    let mut worker = machine.spawn(&["sleep", "infinity"]);
    drop(machine);
    worker.wait().expect("it ended with the machine");
    assert!(!Path::new("/proc").join(leader.to_string()).exists());
    let name = format!("wd-{}-", std::process::id());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("it is readable");
    assert!(!mounts.contains(&name), "{mounts}");
}

#[test]
fn programs_on_the_host_reach_the_bus_and_users_their_manager() {
    on_each(|machine| {
        let address = machine.bus_address();
        stdout_of(Command::new("busctl").args(["--address", &address, "call", "org.freedesktop.systemd1"]).args([
            "/org/freedesktop/systemd1",
            "org.freedesktop.DBus.Peer",
            "Ping",
        ]));
        machine.start_user_manager("bob");
        machine.write_program("/usr/local/bin/hello", "#!/bin/sh\nid -un\n");
        let who = stdout_of(&mut machine.command_as("bob", &["systemd-run", "--user", "--pipe", "-q", "hello"]));
        assert_eq!(who, "bob\n");
    });
}
