// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::engine::cause::Cause;
use crate::engine::ids::WorkerName;
use crate::engine::notice::{NoticeSettings, Ways};
use crate::engine::policy::{BackOff, Budget, CauseAction, CommandLine, KEYS, OnExhausted, Total};
use crate::engine::view::NoticeStage;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};
use tempfile::TempDir;

mod printed;
mod wrong;

/// A root directory with the given files.
struct Root(TempDir);

impl Root {
    fn new(files: &[(&str, &str)]) -> Root {
        let root = Root(TempDir::new().expect("a temporary directory"));
        for (path, text) in files {
            root.write(path, text);
        }
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a path below the root")).expect("directories");
        path
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(path), text).expect("a written file");
    }

    fn load(&self) -> Loaded {
        load(Mode::System, self.0.path())
    }

    fn load_over(&self, previous: &Loaded) -> Loaded {
        load_over(previous, Mode::System, self.0.path())
    }

    /// The complaints without the root's own path.
    fn complaints(&self, loaded: &Loaded) -> Vec<String> {
        let root = self.0.path().to_str().expect("a UTF-8 path");
        loaded.complaints.iter().map(|complaint| complaint.to_string().replace(root, "")).collect()
    }
}

fn grace_of(loaded: &Loaded, worker: &str) -> Option<u64> {
    let name = WorkerName::parse(worker).expect("a worker name");
    loaded.policies.resolve(&name, None).map(|policy| policy.grace.value.as_secs())
}

const UNIT: &str = "[worker]\nunit = \"a.service\"\n";

#[test]
fn settings_are_read_and_checked() {
    let good = "[manager]\ndry-run = true\nmax-jobs = 128\nkeep-incidents = \"30d\"\nkeep-finished = \"1h\"\nrecord = \"recordings\"\n";
    let root = Root::new(&[("usr/lib/watcherd/watcherd.toml", good)]);
    let settings = root.load().policies.settings;
    assert_eq!(
        settings,
        Settings {
            dry_run: true,
            max_jobs: 128,
            keep_incidents: Duration::from_secs(30 * 86_400),
            keep_finished: Duration::from_secs(3600),
            record: Some("recordings".into()),
            notify: NoticeSettings::default(),
        }
    );
    let cases: &[(&str, &str)] = &[
        ("[manager]\nmax-jobs = 129", ":2: manager.max-jobs: 129 is not a whole number from 1 to 128"),
        ("[manager]\ndry-run = 1", ":2: manager.dry-run: true or false is expected, without quotes, not a number"),
        (
            "[manager]\nkeep-incidents = \"11y\"",
            ":2: manager.keep-incidents: \"11y\" is out of range, 1h to 3650d is allowed",
        ),
        ("[manager]\nrecord = \"../x\"", ":2: manager.record: \"../x\" is no path; \"..\" is not allowed in it"),
        (
            "[manager]\nkeep-finished = \"0s\"",
            ":2: manager.keep-finished: \"0s\" is out of range, 1min to 365d is allowed",
        ),
        (
            "[notify]\non = []",
            ":2: notify.on: the list is empty; without a command, mail and apprise.conf nothing is sent",
        ),
        ("[notify]\non = [\"open\"]", ":2: notify.on: \"open\" is not one of \"opened\", \"final\" and \"closed\""),
        ("[notify]\nper-hour = 0", ":2: notify.per-hour: 0 is not a whole number from 1 to 500"),
        ("[notify]\ncommand = [\"page-me\"]", ":2: notify.command: \"page-me\" is not a full path"),
        (
            "[notify]\nmail = \"-Xlog root\"",
            ":2: notify.mail: \"-Xlog root\" is no mail address such as \"root\" or \"ops@example.org\"",
        ),
        (
            "[notify]\ngive-up-after = \"1s\"",
            ":2: notify.give-up-after: \"1s\" is out of range, 1min to 30d is allowed",
        ),
        ("[manager]\ndryrun = true", ":2: manager.dryrun: unknown key, it has no effect; did you mean \"dry-run\"?"),
        ("dry-run = true", ":1: dry-run: unknown key, it has no effect; \"dry-run\" belongs into [manager]"),
        ("[manager]\nfile = 1", ":2: manager.file: unknown key, it has no effect"),
        ("[restart]\n", ":1: restart: this table belongs into a file in workers.d; it has no effect here"),
        ("manager = 1", ":1: manager: a table is expected, [manager], not a number"),
    ];
    for (text, expected) in cases {
        root.write("etc/watcherd/watcherd.toml", text);
        let loaded = root.load();
        assert_eq!(root.complaints(&loaded), [format!("/etc/watcherd/watcherd.toml{expected}")], "{text}");
        // A broken file hides the one below it all the same, because that is not what the admin wants.
        assert_eq!(loaded.policies.settings, Settings::default(), "{text}");
    }
}

#[test]
fn every_key_of_a_file_arrives_in_the_layer() {
    let root = Root::new(&[(
        "etc/watcherd/workers.d/a.toml",
        "[worker]\nunit = \"a\"\nunits = [\"b@*\", \"a.service\"]\nafter-success = \"restart\"\n\
         [progress]\nnotify = true\ntotal = 0x10\n\
         [restart]\nback-off = \" 2s .. 1h 30min \"\nbudget = \"7/1d\"\nreset-after = \"1min\"\nverify = 0\n\
         grace = \"1.5s\"\non-exhausted = \"stop\"\n\
         [cause.segfault]\naction = \"hold\"\n[cause]\ndisk-full.action = \"ignore\"\n",
    )]);
    let loaded = root.load();
    assert_eq!(root.complaints(&loaded), [""; 0]);
    let layer = &loaded.policies.layers[0];
    let units: Vec<&str> = layer.units.iter().map(|unit| unit.value.as_str()).collect();
    assert_eq!(units, ["a.service", "b@*"]);
    let policy = loaded.policies.resolve(&WorkerName::parse("b@1").expect("a name"), None).expect("a policy");
    assert_eq!(policy.progress_total.value, Some(Total::Number(16)));
    assert!(policy.progress_notify.value);
    assert_eq!(policy.back_off.value, BackOff { first: Duration::from_secs(2), cap: Duration::from_secs(5400) });
    assert_eq!(policy.budget.value, Budget { attempts: 7, window: Duration::from_secs(86_400) });
    assert_eq!(policy.grace.value, Duration::from_millis(1500));
    assert_eq!(policy.on_exhausted.value, OnExhausted::Stop);
    assert_eq!(policy.causes[&Cause::Segfault].action.as_ref().map(|s| s.value), Some(CauseAction::Hold));
    assert_eq!(policy.causes[&Cause::DiskFull].action.as_ref().map(|s| s.value), Some(CauseAction::Ignore));
    assert!(policy.grace.from.0.ends_with("/etc/watcherd/workers.d/a.toml:13"), "{}", policy.grace.from);
}

#[test]
fn the_higher_directory_wins_by_name_and_the_later_name_wins_by_key() {
    let with = |grace: u32| format!("[worker]\nunit = \"w\"\n[restart]\ngrace = {grace}\n");
    let root = Root::new(&[
        ("usr/lib/watcherd/workers.d/a.toml", &with(1)),
        ("usr/local/lib/watcherd/workers.d/a.toml", &with(2)),
        ("run/watcherd/workers.d/a.toml", &with(3)),
    ]);
    assert_eq!(grace_of(&root.load(), "w"), Some(3));
    root.write("etc/watcherd/workers.d/a.toml", with(4));
    assert_eq!(grace_of(&root.load(), "w"), Some(4));
    root.write("usr/lib/watcherd/workers.d/b.toml", with(5));
    let loaded = root.load();
    assert_eq!(grace_of(&loaded, "w"), Some(5));
    assert_eq!(
        root.complaints(&loaded),
        ["/usr/lib/watcherd/workers.d/b.toml:2: w.service: also matched by /etc/watcherd/workers.d/a.toml:2; \
          restart.grace is taken from /usr/lib/watcherd/workers.d/b.toml:4"]
    );
    root.write("etc/watcherd/workers.d/.c.toml", "garbage");
    root.write("etc/watcherd/workers.d/c.toml~", "garbage");
    root.write("etc/watcherd/workers.d/c.conf", "garbage");
    assert_eq!(root.load().files.len(), 2);
}

#[test]
fn a_glob_and_a_name_of_different_files_are_told_only_where_they_differ() {
    let root = Root::new(&[
        ("etc/watcherd/workers.d/10.toml", "[worker]\nunits = [\"t*\"]\n[restart]\ngrace = 5\nbudget = \"2/1h\"\n"),
        ("etc/watcherd/workers.d/20.toml", "[worker]\nunit = \"t1\"\n[restart]\ngrace = \"5s\"\nverify = 1\n"),
    ]);
    assert_eq!(root.complaints(&root.load()), [""; 0]);
    root.write("etc/watcherd/workers.d/20.toml", "[worker]\nunit = \"t1\"\n[restart]\nbudget = \"3/1h\"\n");
    assert_eq!(
        root.complaints(&root.load()),
        ["/etc/watcherd/workers.d/20.toml:2: t1.service: also matched by /etc/watcherd/workers.d/10.toml:2; \
          restart.budget is taken from /etc/watcherd/workers.d/20.toml:4"]
    );
}

#[test]
fn a_symlink_to_dev_null_masks_and_other_symlinks_are_followed() {
    let root = Root::new(&[
        ("usr/lib/watcherd/workers.d/a.toml", UNIT),
        ("usr/lib/watcherd/watcherd.toml", "[manager]\ndry-run = true\n"),
        ("srv/elsewhere", "[worker]\nunit = \"linked\"\n"),
    ]);
    symlink("/dev/null", root.path("etc/watcherd/workers.d/a.toml")).expect("a symlink");
    symlink("/dev/null", root.path("etc/watcherd/watcherd.toml")).expect("a symlink");
    symlink(root.path("srv/elsewhere"), root.path("etc/watcherd/workers.d/b.toml")).expect("a symlink");
    let loaded = root.load();
    assert_eq!(root.complaints(&loaded), [""; 0]);
    assert_eq!(grace_of(&loaded, "a"), None);
    assert!(grace_of(&loaded, "linked").is_some());
    assert!(!loaded.policies.settings.dry_run);
    assert_eq!(loaded.files[0].status, FileStatus::Masked);
}

#[test]
fn what_is_no_small_regular_file_is_refused_without_blocking() {
    let root = Root::new(&[]);
    let dir = "etc/watcherd/workers.d";
    nix::unistd::mkfifo(&root.path(&format!("{dir}/fifo.toml")), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    fs::create_dir_all(root.path(&format!("{dir}/dir.toml"))).expect("a directory");
    symlink("/dev/zero", root.path(&format!("{dir}/device.toml"))).expect("a symlink");
    symlink("nowhere", root.path(&format!("{dir}/gone.toml"))).expect("a symlink");
    symlink("loop.toml", root.path(&format!("{dir}/loop.toml"))).expect("a symlink");
    let large = fs::File::create(root.path(&format!("{dir}/large.toml"))).expect("a file");
    large.set_len(10 << 20).expect("a sparse file");
    root.write(&format!("{dir}/limit.toml"), format!("{UNIT}{}", "#".repeat((1 << 20) - UNIT.len())));
    root.write(&format!("{dir}/over.toml"), format!("{UNIT}{}", "#".repeat((1 << 20) - UNIT.len() + 1)));
    root.write(&format!("{dir}/latin.toml"), b"[worker]\nunit = \"\xe4\"\n");
    let loaded = root.load();
    assert_eq!(
        root.complaints(&loaded),
        [
            "device.toml: a device, not a regular file",
            "dir.toml: a directory, not a regular file",
            "fifo.toml: a named pipe, not a regular file",
            "gone.toml: cannot be read: No such file or directory",
            "large.toml: 10485760 bytes, at most 1 MiB is read",
            "latin.toml:2: not UTF-8: byte 0xe4",
            "loop.toml: cannot be read: Too many levels of symbolic links",
            "over.toml: 1048577 bytes, at most 1 MiB is read",
        ]
        .map(|line| format!("/{dir}/{line}"))
    );
    assert_eq!(loaded.policies.layers.len(), 1);
}

#[test]
fn what_cannot_be_listed_is_told() {
    let root = Root::new(&[("etc/watcherd/workers.d", "a file"), ("etc/watcherd/pools.d/p.toml", "")]);
    assert_eq!(
        root.complaints(&root.load()),
        [
            "/etc/watcherd/workers.d: the directory cannot be read: Not a directory",
            "/etc/watcherd/pools.d: this directory is not supported by this version and has no effect",
        ]
    );
    assert!(Root::new(&[]).load().complaints.is_empty(), "no configuration is no mistake");
}

#[test]
fn a_policy_that_everybody_may_write_is_told() {
    let root = Root::new(&[("etc/watcherd/workers.d/a.toml", UNIT)]);
    fs::set_permissions(root.path("etc/watcherd/workers.d/a.toml"), fs::Permissions::from_mode(0o646)).expect("a mode");
    assert_eq!(
        root.complaints(&root.load()),
        ["/etc/watcherd/workers.d/a.toml: everybody may write to this file, and so decide what is restarted; \
          run chmod o-w"]
    );
}

#[test]
fn hostile_files_are_bounded_in_time_and_complaints() {
    let many: String = (0..100_000).map(|i| format!("k{i:05}=1\n")).collect();
    let wrong: String = (0..20_000).map(|i| format!("[cause.x{i}]\naction = {i}\n")).collect();
    let units: Vec<String> = (0..2000).map(|i| format!("\"{i}\"")).collect();
    let cases = [
        (format!("{UNIT}[restart]\n{many}"), 51, "and 99950 more complaints"),
        (format!("{UNIT}{wrong}"), 51, "and 19950 more complaints"),
        (format!("[worker]\nunits = [{}]", units.join(",")), 1, "2000 patterns, at most 1024 are allowed"),
        (format!("{UNIT}x = {}", "[".repeat(500_000)), 1, "recursion"),
        (format!("{UNIT}x = {}{}", "{a=".repeat(100_000), "}".repeat(100_000)), 1, "recurs"),
        (format!("{UNIT}[{}x]", "a.".repeat(200_000)), 1, "recursion limit"),
        ("[".repeat(1 << 20), 1, "not valid TOML"),
        ("\"".repeat(1 << 20), 1, "not valid TOML"),
        (format!("{UNIT}{} = 1", "x".repeat(1_000_000)), 1, "x…: unknown key"),
        (
            format!("{UNIT}[restart]\ngrace = \"{}\"", "9".repeat(1_000_000)),
            1,
            "9\"… is not a time span: it is too long",
        ),
        (format!("{UNIT}[restart]\ngrace = \"{}\"", "1s ".repeat(300_000)), 1, "out of range"),
        (format!("{UNIT}[progress]\ntotal = {}", "9".repeat(1_000_000)), 1, "not a whole number"),
    ];
    for (text, count, last) in cases {
        let root = Root::new(&[("etc/watcherd/workers.d/a.toml", &text)]);
        let start = Instant::now();
        let complaints = root.complaints(&root.load());
        let head: String = text.chars().skip(UNIT.len()).take(40).collect();
        assert!(start.elapsed() < Duration::from_secs(60), "{head}: {:?}", start.elapsed());
        assert_eq!(complaints.len(), count, "{head}: {complaints:?}");
        let told = complaints.last().expect("a complaint");
        assert!(told.contains(last), "{head}: {told}");
        assert!(told.len() < 1000, "{head}: {} bytes", told.len());
    }
}

#[test]
fn many_files_with_many_globs_are_compared_within_bounds() {
    let root = Root::new(&[]);
    for file in 0..40 {
        let units: Vec<String> = (0..100).map(|i| format!("\"*{i}*x*{file}*\", \"n{file}-{i}\"")).collect();
        let text = format!("[worker]\nunits = [{}]\n[restart]\ngrace = {}\n", units.join(","), file + 1);
        root.write(&format!("etc/watcherd/workers.d/{file:02}.toml"), text);
    }
    let start = Instant::now();
    assert!(root.load().complaints.len() <= 100);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn a_reload_over_a_broken_file_keeps_its_last_good_policy() {
    let with = |grace: u32| format!("{UNIT}[restart]\ngrace = {grace}\n");
    let path = "etc/watcherd/workers.d/a.toml";
    let root = Root::new(&[(path, &with(5)), ("etc/watcherd/watcherd.toml", "[manager]\nmax-jobs = 3\n")]);
    let good = root.load();

    root.write(path, "[worker");
    root.write("etc/watcherd/watcherd.toml", "[manager]\nmax-jobs = 0\n");
    let kept = root.load_over(&good);
    assert_eq!(grace_of(&kept, "a"), Some(5));
    assert_eq!(kept.policies.settings.max_jobs, 3);
    assert_eq!(
        root.complaints(&kept),
        [
            "/etc/watcherd/watcherd.toml:2: manager.max-jobs: 0 is not a whole number from 1 to 128",
            "/etc/watcherd/watcherd.toml: the policy that was last good stays in force",
            "/etc/watcherd/workers.d/a.toml:1: not valid TOML: unclosed table, expected `]`",
            "/etc/watcherd/workers.d/a.toml: the policy that was last good stays in force",
        ]
    );
    assert_eq!(kept.errors().count(), 2);

    let kept_again = root.load_over(&kept);
    assert_eq!(grace_of(&kept_again, "a"), Some(5), "it survives more than one reload");
    assert_eq!(grace_of(&root.load(), "a"), None, "a first start has nothing to keep");

    fs::remove_file(root.path(path)).expect("a removed file");
    assert_eq!(grace_of(&root.load_over(&kept), "a"), None, "a file that is gone is not broken");
    root.write(path, with(7));
    let mended = root.load_over(&kept_again);
    assert_eq!(grace_of(&mended, "a"), Some(7));

    let workers = root.path("etc/watcherd/workers.d");
    fs::remove_dir_all(&workers).expect("a removed directory");
    symlink("workers.d", &workers).expect("a symlink");
    let unlisted = root.load_over(&mended);
    assert_eq!(grace_of(&unlisted, "a"), Some(7), "a directory that cannot be listed proves nothing");
    assert_eq!(grace_of(&root.load_over(&unlisted), "a"), Some(7));
}

#[test]
fn a_users_directory_is_found_as_the_xdg_specification_says() {
    let path = |config: Option<&str>, home: Option<&str>| {
        dirs::user_path(Path::new("/r"), config.map(Into::into), home.map(Into::into)).remove(0)
    };
    assert_eq!(path(Some("/c"), Some("/h")), Path::new("/r/c/watcherd"));
    assert_eq!(path(Some(""), Some("/h")), Path::new("/r/h/.config/watcherd"));
    assert_eq!(path(Some("relative"), Some("/h")), Path::new("/r/h/.config/watcherd"));
    assert_eq!(path(None, None), Path::new("/r/etc/watcherd/user"));
}

#[test]
fn keys_given_one_by_one_make_a_layer_or_one_clear_refusal() {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let pairs = [
        pair("restart.budget", "5/1h"),
        pair("cause.segfault.action", "hold"),
        pair("progress.total", "120"),
        pair("progress.notify", "yes"),
        pair("worker.after-success", "restart"),
        pair("restart.grace", "30"),
    ];
    let layer = own_layer(&pairs, "watcherctl run").expect("a layer");
    assert_eq!(layer.written, pairs);
    assert_eq!(own_layer(&layer.written, "watcherctl run"), Ok(layer.clone()));
    assert_eq!(layer.grace.expect("a grace").from.0.as_ref(), "watcherctl run");
    assert_eq!(layer.causes[&Cause::Segfault].action.as_ref().map(|s| s.value), Some(CauseAction::Hold));
    assert!(layer.units.is_empty() && layer.file.is_empty());

    let refused = [
        ("budget", "5/1h", "budget: unknown key; \"budget\" belongs into [restart]"),
        ("restart.bugdet", "5/1h", "restart.bugdet: unknown key; did you mean \"budget\"?"),
        ("restrat.budget", "5/1h", "restrat.budget: unknown table; did you mean [restart]?"),
        ("restart.budget", "", "restart.budget: \"\" is not a budget; write attempts and a window, as in \"5/1h\""),
        ("restart.cooldown", "2d", "restart.cooldown: \"2d\" is out of range, 0 to 1d is allowed"),
        ("limits.memory", "0", "limits.memory: \"0\" is no limit; leave the key out for none"),
        ("worker.unit", "x", "worker.unit: cannot be given here, the policy belongs to one worker already"),
        ("cause.segfalt.action", "hold", "cause.segfalt.action: unknown cause; did you mean \"segfault\"?"),
        ("cause.segfault", "hold", "cause.segfault: write cause.NAME.action, as in cause.segfault.action"),
        ("cause.segfault.scale", "x", "cause.segfault.scale: \"x\" is not a value as policy files spell it"),
        (
            "cause.segfault.until",
            "full(/)",
            "cause.segfault.until: a condition is one of free(PATH) > SIZE, pressure(cpu|memory|io) < PERCENT, reachable(tcp://HOST:PORT), exists(PATH), at(HH:MM) and gpu-free(SIZE)",
        ),
        (
            "parameters.B",
            "{ default = 64, range = [1, 8] }",
            "parameters.B: default: \"64\" is not a whole number from 1 to 8",
        ),
        ("parameters.a b", "{ default = 64 }", "parameters.a b: \"a b\" is not the name of an environment variable"),
        ("progress.total", "0", "progress.total: \"0\" is not a whole number of 1 or more"),
        ("progress.notify", "maybe", "progress.notify: \"maybe\" is neither \"true\" nor \"false\""),
        ("restart.grace", "5s\n", "restart.grace: control characters are not allowed in \"5s\\n\""),
        ("manager.dry-run", "true", "manager.dry-run: this table belongs into watcherd.toml"),
        ("", "", ": unknown key"),
        ("\u{1b}.x", "", "\\u{1b}.x: unknown table"),
    ];
    for (key, value, expected) in refused {
        let complaint = own_layer(&[pair(key, value)], "watcherctl run").expect_err(key);
        let expected = format!("watcherctl run: {}", expected.trim_start_matches(": "));
        assert_eq!(complaint.to_string(), expected, "{key}={value}");
    }
    let twice = own_layer(&[pairs[0].clone(), pairs[0].clone()], "w").expect_err("a refusal");
    assert_eq!(twice.to_string(), "w: restart.budget: is given twice");
    assert!(own_layer(&[pair("restart.grace", &"9".repeat(5000))], "w").is_err());
}

#[test]
fn files_and_directories_that_somebody_names_are_checked() {
    let root = Root::new(&[
        ("x/bad.toml", "[worker]\nunit = \"a b\""),
        ("x/good.toml", UNIT),
        ("etc/watcherd/watcherd.toml", "[manager]\nx = 1"),
        ("etc/watcherd/workers.d/w.toml", "w"),
        ("etc/watcherd/limits.d/l.toml", "l = 1"),
    ]);
    let check = |paths: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(|path| root.0.path().join(path)).collect();
        check_paths(&paths, Mode::System, root.0.path()).len()
    };
    assert_eq!(check(&["x/good.toml"]), 0);
    assert_eq!(check(&["x/bad.toml"]), 1);
    assert_eq!(check(&["x"]), 1);
    assert_eq!(check(&["x/absent.toml"]), 1);
    assert_eq!(check(&["etc/watcherd"]), 3);
    assert_eq!(check(&["etc/watcherd/watcherd.toml"]), 1);
    assert_eq!(check(&["etc/watcherd/limits.d/l.toml"]), 1);
    assert_eq!(check(&["etc/watcherd/workers.d", "x/good.toml"]), 1);
    assert_eq!(check(&[]), 3);
}

#[test]
fn files_that_put_other_settings_or_rules_in_force_are_known() {
    let rule = |name: &str| {
        format!("[[rule]]\nname = \"{name}\"\ncause = \"unknown\"\npatterns = [\"pump\"]\nexamples = [\"pump\"]\n")
    };
    let (settings, rules) = ("etc/watcherd/watcherd.toml", "etc/watcherd/rules.d/r.toml");
    let worker = ("etc/watcherd/workers.d/w.toml", "[worker]\nunits = [\"w.service\"]\n");
    let one = Root::new(&[(settings, "[manager]\nmax-jobs = 3\n"), (rules, &rule("a.b")), worker]);
    let before = one.load();
    assert_eq!(before.changed(&one.load()), Vec::<PathBuf>::new());
    fs::write(one.path(settings), "# Other words.\n[manager]\nmax-jobs = 3\n").expect("it is ours");
    assert_eq!(before.changed(&one.load()), Vec::<PathBuf>::new(), "the words are not what counts");
    fs::write(one.path(settings), "[manager]\nmax-jobs = 4\n").expect("it is ours");
    fs::write(one.path(rules), rule("c.d")).expect("it is ours");
    assert_eq!(before.changed(&one.load()), [one.path(settings), one.path(rules)]);
    fs::remove_file(one.path(rules)).expect("it is ours");
    fs::write(one.path(settings), "").expect("it is ours");
    assert_eq!(before.changed(&one.load()), [one.path(settings), one.path(rules)]);
    assert_eq!(one.load().changed(&before), [one.path(settings), one.path(rules)]);
    // A file of the package's name hides that one, whatever is in it.
    let packaged = one.path("etc/watcherd/rules.d/ends.toml");
    let without = one.load();
    let hides = |text: &str| {
        fs::write(&packaged, text).expect("it is ours");
        let hidden = one.load();
        assert_eq!(without.changed(&hidden), std::slice::from_ref(&packaged), "{text:?}");
        assert_eq!(hidden.changed(&without), std::slice::from_ref(&packaged), "{text:?}");
        hidden
    };
    let (empty, refused) = (hides(""), hides("[[rule]]\n"));
    assert_eq!(empty.changed(&refused), Vec::<PathBuf>::new(), "either way there is nothing");
    let other = hides(&rule("e.f"));
    assert_eq!(refused.changed(&other), std::slice::from_ref(&packaged));
    fs::remove_file(&packaged).expect("it is ours");
    std::os::unix::fs::symlink("/dev/null", &packaged).expect("a symlink");
    assert_eq!(without.changed(&one.load()), std::slice::from_ref(&packaged), "masked");
    assert_eq!(other.changed(&one.load()), std::slice::from_ref(&packaged));
}

#[test]
fn ways_to_send_notices_are_read_and_apprise_is_found_by_its_file() {
    let text = "[notify]\nmail = \"ops@example.org\"\ncommand = [\"/bin/page\", \"a \\\"b\\\" $(c)\"]\non = [\"final\"]\n\
        per-hour = 3\nper-worker = 2\ndedupe = 0\nretry = \"1s..2s\"\ngive-up-after = \"2h\"\ndesktop = true\n";
    let root = Root::new(&[("etc/watcherd/watcherd.toml", text)]);
    let notify = root.load().policies.settings.notify;
    let expected = NoticeSettings {
        on: vec![NoticeStage::Final],
        ways: Ways {
            apprise: false,
            mail: Some("ops@example.org".into()),
            command: Some(CommandLine(vec!["/bin/page".into(), "a \"b\" $(c)".into()])),
            desktop: true,
        },
        per_hour: 3,
        per_worker: 2,
        dedupe: Duration::ZERO,
        retry: BackOff { first: Duration::from_secs(1), cap: Duration::from_secs(2) },
        give_up_after: Duration::from_secs(7_200),
    };
    assert_eq!(notify, expected);
    assert!(!Root::new(&[]).load().policies.settings.notify.ways.is_any(), "nothing is sent by default");
    let root = Root::new(&[("etc/watcherd/apprise.conf", "json://x")]);
    let file = root.path("etc/watcherd/apprise.conf");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let text = "everybody may read this file and the passwords in it; run chmod o-r";
    assert_eq!(root.complaints(&root.load()), [format!("/etc/watcherd/apprise.conf: {text}")]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("it is ours");
    assert_eq!(root.complaints(&root.load()), [""; 0]);
    assert!(root.load().policies.settings.notify.ways.apprise);
    let before = root.load();
    fs::remove_file(&file).expect("it is ours");
    assert_eq!(before.changed(&root.load()), std::slice::from_ref(&file));
    assert_eq!(root.load().changed(&before), [file]);
    assert!(!Root::new(&[("usr/lib/watcherd/apprise.conf", "x")]).load().policies.settings.notify.ways.apprise);
}
