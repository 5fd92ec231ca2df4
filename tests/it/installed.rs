// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `make install` puts on a machine is accepted by the programs that read it.

use crate::machine::{Machine, SUITES, Suite, base, installed, source};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use watcherd::engine::action::EntryKind;
use watcherd::engine::cause::Cause;

const CATALOG: &str = include_str!("../../systemd/catalog/watcherd.catalog");

#[test]
fn systemd_has_no_complaint_about_the_units_for_users() {
    for suite in SUITES {
        let machine = Machine::boot(suite);
        machine.start_user_manager("alice");
        let (unit, slice) = ("/usr/lib/systemd/user/watcherd.service", "/usr/lib/systemd/user/watcherd.slice");
        let argv = ["systemd-analyze", "verify", "--user", "--man=no", unit, slice];
        let output = machine.command_as("alice", &argv).output().expect("it can be run");
        // An unknown key is only a warning, so silence is demanded too.
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(output.status.success());
    }
}

#[test]
fn systemd_has_no_complaint_about_the_units_of_the_system() {
    for suite in SUITES {
        let machine = Machine::boot(suite);
        let listed = machine.ok(&["sh", "-c", "ls -d /usr/lib/systemd/system/watcherd*"]);
        // Of a template an instance is verified.
        let units: Vec<_> = listed.lines().map(|unit| unit.replace("@.", "@1.")).collect();
        assert!(units.len() > 1, "{units:?}");
        let argv = ["systemd-analyze", "verify", "--man=no"].into_iter().chain(units.iter().map(String::as_str));
        let output = machine.run(&argv.collect::<Vec<_>>());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(output.status.success());
    }
}

#[test]
fn systemd_counts_little_that_the_daemon_could_do_without() {
    for suite in SUITES {
        let machine = Machine::boot(suite);
        // In tenths; the unit says why each of the points that are left is.
        machine.ok(&["systemd-analyze", "security", "--no-pager", "--threshold=24", "watcherd.service"]);
        let refused = machine.run(&["systemd-analyze", "security", "--no-pager", "--threshold=10", "watcherd.service"]);
        assert!(!refused.status.success(), "the threshold counts for nothing");
    }
}

#[test]
fn the_bus_lets_root_alone_own_the_name() {
    for suite in SUITES {
        let machine = Machine::boot(suite);
        let own =
            ["busctl", "--system", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"];
        let own = [&own[..], &["RequestName", "su", "org.watcherd1", "4"]].concat();
        machine.ok(&own);
        let refused = machine.command_as("alice", &own).output().expect("busctl can be run");
        let complaint = String::from_utf8_lossy(&refused.stderr);
        assert!(complaint.contains("Access denied") || complaint.contains("not allowed to own"), "{complaint}");
    }
}

#[test]
fn polkit_knows_the_actions_and_allows_none_of_them_without_a_password() {
    for suite in SUITES {
        let machine = Machine::boot(suite);
        let listed = machine.ok(&["pkaction", "--verbose"]);
        let blocks: Vec<_> = listed.split("\n\n").filter(|block| block.trim().starts_with("org.watcherd1.")).collect();
        let written = include_str!("../../dbus/org.watcherd1.policy").matches("<action id=").count();
        assert_eq!(blocks.len(), written, "{listed}");
        for block in blocks {
            let implicit = block.lines().filter(|line| line.trim().starts_with("implicit"));
            assert!(
                implicit.clone().count() == 3 && implicit.clone().all(|line| line.contains("auth_admin")),
                "{block}"
            );
        }
    }
}

#[test]
fn the_policy_files_are_valid() {
    let data = installed().join("usr/share");
    let dtd = base(Suite::Bookworm).join("usr/share/polkit-1/policyconfig-1.dtd");
    let policy = data.join("polkit-1/actions/org.watcherd1.policy");
    stdout_of(Command::new("xmllint").args(["--noout", "--nonet", "--dtdvalid"]).arg(dtd).arg(policy));
    stdout_of(
        Command::new("xmllint").args(["--noout", "--nonet"]).arg(data.join("dbus-1/system.d/org.watcherd1.conf")),
    );
}

#[test]
fn the_catalog_has_exactly_the_message_ids_of_the_code() {
    let ids = CATALOG.lines().filter_map(|line| line.strip_prefix("-- "));
    let causes = Cause::ALL.iter().map(|cause| cause.message_id());
    let coded: BTreeSet<_> = EntryKind::ALL.iter().map(|kind| kind.message_id()).chain(causes).collect();
    assert_eq!(ids.clone().count(), coded.len(), "an id is there twice");
    assert_eq!(ids.collect::<BTreeSet<_>>(), coded);
}

#[test]
fn the_catalog_names_only_fields_that_entries_have() {
    let fields = ["WORKER", "INCIDENT", "CAUSE", "CONFIDENCE", "ATTEMPT", "CALLER_UID"];
    for word in CATALOG.split('@').skip(1).step_by(2) {
        let known = word.strip_prefix("WATCHERD_").is_some_and(|field| fields.contains(&field));
        assert!(known, "@{word}@");
    }
}

#[test]
fn uninstall_removes_every_file_and_keeps_the_configuration() {
    let place = tempfile::tempdir().expect("a directory can be made");
    stdout_of(Command::new("cp").arg("-a").arg(installed().join(".")).arg(place.path()));
    let policy = place.path().join("etc/watcherd/workers.d/mine.toml");
    std::fs::write(&policy, "").expect("it can be written");
    let mut make = Command::new("make");
    make.current_dir(env!("CARGO_MANIFEST_DIR")).args(["--silent", "uninstall"]);
    make.arg(format!("DESTDIR={}", place.path().display()));
    stdout_of(&mut make);
    let left = stdout_of(Command::new("find").arg(place.path()).args(["-type", "f"]));
    assert_eq!(left.trim_end(), policy.display().to_string());
}

#[test]
fn zsh_and_fish_complete_names_too() {
    let place = tempfile::tempdir().expect("a directory can be made");
    let stub = place.path().join("watcherctl");
    // Stands in for a system with two workers.
    let text =
        "#!/bin/sh\n[ \"$*\" = \"--user names workers\" ] || exit 0\nprintf 'w@alpha.service\\nw@beta.service\\n'\n";
    std::fs::write(&stub, text).expect("it can be written");
    std::fs::set_permissions(&stub, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap_or_default());
    let data = installed().join("usr/share");
    let zsh = |line: &str| {
        let mut python = Command::new("python3");
        python.arg(source().join("tests/system/complete.py")).args(["zsh"]).env("PATH", &path);
        stdout_of(python.arg(data.join("zsh/site-functions/_watcherctl")).arg(line))
    };
    assert_eq!(zsh("watcherctl rest"), "watcherctl\nrestart\n");
    assert_eq!(zsh("watcherctl --user restart w@al"), "watcherctl\n--user\nrestart\nw@alpha.service\n");
    assert_eq!(
        zsh("watcherctl --user incidents --worker=w@b"),
        "watcherctl\n--user\nincidents\n--worker=w@beta.service\n"
    );
    let script = data.join("fish/vendor_completions.d/watcherctl.fish");
    let fish = |line: &str| {
        let command = format!("source {}; complete -C '{line}'", script.display());
        stdout_of(
            Command::new("fish").args(["--no-config", "-c", &command]).env("PATH", &path).env("HOME", place.path()),
        )
    };
    assert!(fish("watcherctl rest").starts_with("restart\t"));
    assert_eq!(fish("watcherctl --user restart w@"), "w@alpha.service\nw@beta.service\n");
    assert_eq!(fish("watcherctl --user incidents --worker w@b"), "w@beta.service\n");
}

#[test]
fn the_tree_has_no_file_that_only_its_owner_may_read() {
    let private = stdout_of(Command::new("find").arg(installed()).args(["-mindepth", "1", "-not", "-perm", "-444"]));
    assert_eq!(private, "", "{}", Path::new(&private).display());
}

fn stdout_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
