// SPDX-License-Identifier: MIT OR Apache-2.0
//! `watcherctl diagnose` as a person or a script calls it, without any daemon.

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const LOG: &str = "\
2026-11-23T10:00:00+0100 box train[7]: step 12: loss 2.1
2026-11-23T10:00:09+0100 box kernel: Out of memory: Killed process 7 (python3) total-vm:9kB, anon-rss:7kB, UID:1000
2026-11-23T10:00:09+0100 box systemd[1]: train.service: Main process exited, code=killed, status=9/KILL
2026-11-23T10:00:09+0100 box systemd[1]: train.service: Failed with result 'oom-kill'.
";

fn diagnose(home: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_watcherctl"))
        .args(["--user", "diagnose"])
        .args(arguments)
        .env("XDG_CONFIG_HOME", home)
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("watcherctl runs");
    // It may have refused its arguments and be gone.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn a_log_with_journal_fronts_is_explained_in_the_order_of_time() {
    let home = tempfile::tempdir().expect("a directory");
    fs::write(home.path().join("a.log"), LOG).expect("it can be written");
    let output = diagnose(home.path(), &["a.log"], b"");
    let shown = text(&output.stdout);
    assert!(shown.starts_with("a.log: oom-kill-host ("), "{shown}");
    let kernel = shown.find("  kernel: Out of memory: Killed process 7").expect("the kernel's line");
    let systemd = shown.find("  systemd: train.service: Failed with result 'oom-kill'.").expect("systemd's line");
    assert!(kernel < systemd, "{shown}");
    assert!(shown.contains("A restart:\n  fails the same way; something must change first.\n"), "{shown}");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn standard_input_quiet_and_json_have_the_same_verdict() {
    let home = tempfile::tempdir().expect("a directory");
    assert_eq!(text(&diagnose(home.path(), &["-q", "-"], LOG.as_bytes()).stdout), "oom-kill-host\n");
    assert_eq!(text(&diagnose(home.path(), &["-q"], LOG.as_bytes()).stdout), "oom-kill-host\n");
    let output = diagnose(home.path(), &["--json=short"], LOG.as_bytes());
    let array: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(array[0]["Cause"], "oom-kill-host");
    assert_eq!(array[0]["Retry"], "needs-change");
}

#[test]
fn the_end_and_kernel_lines_can_be_given_beside_the_log() {
    let home = tempfile::tempdir().expect("a directory");
    let quiet = |arguments: &[&str], input: &str| {
        let output = diagnose(home.path(), &[&["-q"], arguments].concat(), input.as_bytes());
        text(&output.stdout).trim_end().to_owned()
    };
    assert_eq!(quiet(&["--signal", "SEGV"], ""), "segfault");
    assert_eq!(quiet(&["--result", "success"], "KeyError: 'x'"), "no-crash");
    assert_eq!(quiet(&["--exit-code", "203"], ""), "unit-setup-failed");
    fs::write(home.path().join("k"), "EXT4-fs error (device sda1): x\n").expect("it can be written");
    assert_eq!(quiet(&["--kernel", "k"], "KeyError: 'x'"), "storage-fault");
    assert_eq!(quiet(&["--last-n-lines", "1"], "KeyError: 'x'\nall quiet\n"), "unknown");
    assert_eq!(quiet(&[], ""), "unknown");
}

#[test]
fn bad_input_gets_one_error_that_names_file_and_line() {
    let home = tempfile::tempdir().expect("a directory");
    let refused = |arguments: &[&str], input: &[u8], status: i32, expected: &str| {
        let output = diagnose(home.path(), arguments, input);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert_eq!(text(&output.stderr), format!("watcherctl: {expected}\n"));
    };
    refused(&["gone.log"], b"", 1, "gone.log: No such file or directory");
    refused(&["."], b"", 1, ".: Is a directory");
    refused(&["--batch", "-"], b"{\"id\": 1}\n\n{\"id\"", 1, "standard input:3: column 5: EOF while parsing an object");
    refused(&["--batch", "-"], b"[]\n", 1, "standard input:1: an object is expected");
    refused(&["--batch", "-"], b"\xff\n", 1, "standard input:1: not UTF-8");
    refused(
        &["--signal", "NONE"],
        b"",
        2,
        "\"NONE\" is not a signal; write a name such as SIGSEGV, or a number from 1 to 64",
    );
}

#[test]
fn a_reader_that_has_left_is_no_failure() {
    let home = tempfile::tempdir().expect("a directory");
    let cases = "{\"id\": 1, \"journal\": [\"Segmentation fault\"]}\n".repeat(20_000);
    fs::write(home.path().join("cases"), cases).expect("it can be written");
    let mut child = Command::new(env!("CARGO_BIN_EXE_watcherctl"))
        .args(["--user", "diagnose", "--batch", "cases"])
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("watcherctl runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn a_rule_of_the_admin_counts_and_a_broken_one_is_told_with_its_line() {
    let home = tempfile::tempdir().expect("a directory");
    let rules = home.path().join("watcherd/rules.d");
    fs::create_dir_all(&rules).expect("it can be made");
    let good = "[[rule]]\nname = \"mine\"\ncause = \"disk-full\"\npatterns = ['gremlins ate (?<what>\\w+)']\n";
    fs::write(rules.join("mine.toml"), good).expect("it can be written");
    assert_eq!(text(&diagnose(home.path(), &["-q"], b"gremlins ate bytes\n").stdout), "disk-full\n");
    fs::write(rules.join("bad.toml"), "[[rule]]\nname = \"b\"\ncause = \"gremlins\"\npatterns = ['[0-9]+']\n")
        .expect("it can be written");
    let output = diagnose(home.path(), &[], b"gremlins ate bytes\n");
    let told = text(&output.stderr);
    assert!(told.contains("bad.toml:3: b.cause: \"gremlins\" is not one of gpu-oom, "), "{told}");
    assert!(told.contains("bad.toml:4: b.patterns: the pattern can match without any fixed text"), "{told}");
    assert!(text(&output.stdout).starts_with("standard input: disk-full"), "{output:?}");
    // A file of the package's name replaces it.
    fs::remove_file(rules.join("bad.toml")).expect("it can be removed");
    std::os::unix::fs::symlink("/dev/null", rules.join("process.toml")).expect("it can be made");
    assert_eq!(text(&diagnose(home.path(), &["-q"], b"free(): invalid pointer\n").stdout), "unknown\n");
}

#[test]
fn the_example_of_the_man_page_works() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man/watcherd.rules.5"));
    let page = page.expect("a readable page");
    let example = page.split(".SH EXAMPLE\n.nf\n").nth(1).and_then(|rest| rest.split(".fi\n").next());
    let home = tempfile::tempdir().expect("a directory");
    let rules = home.path().join("watcherd/rules.d");
    fs::create_dir_all(&rules).expect("it can be made");
    fs::write(rules.join("mine.toml"), example.expect("an example").replace("\\\\", "\\")).expect("it can be written");
    let output = diagnose(home.path(), &[], b"ERROR no seat left on lic1:27000\n");
    let shown = text(&output.stdout);
    assert!(shown.starts_with("standard input: service-unreachable (78% sure)"), "{shown}");
    assert!(shown.ends_with("Advice:\n  Wait for a seat, or ask for more.\n"), "{shown}");
    assert_eq!(text(&output.stderr), "");
}
