// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::engine::ids::WorkerName;
use crate::engine::policy::KEYS;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;
use tempfile::TempDir;

struct Root(TempDir);

impl Root {
    fn new() -> Root {
        Root(tempfile::tempdir().expect("a temporary directory"))
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(&path, text).expect("a file");
        path
    }

    fn load(&self) -> Loaded {
        load(Mode::System, self.0.path())
    }

    /// The complaints, with the root taken off.
    fn complaints(&self) -> Vec<String> {
        let root = format!("{}/", self.0.path().display());
        self.load().complaints.iter().map(|complaint| complaint.to_string().replace(&root, "/")).collect()
    }
}

const FILE: &str = "etc/watcherd/workers.d/a.toml";

#[test]
fn an_empty_configuration_is_fine() {
    let root = Root::new();
    let loaded = root.load();
    assert!(loaded.complaints.is_empty() && loaded.policies.layers.is_empty());
}

#[test]
fn every_complaint_names_file_line_key_and_what_is_allowed() {
    let cases = [
        ("[worker]\nunits = [\"a b\"]\n", "/etc/watcherd/workers.d/a.toml:2: worker.units: \"a b\": ' ' is not allowed in a unit name (letters, digits and \":-_.\\@\" are)"),
        ("[worker]\nunits = [\"/etc/passwd\"]\n", "/etc/watcherd/workers.d/a.toml:2: worker.units: \"/etc/passwd\": the part before \"/\" is not a node name"),
        ("[worker]\nunit = \"a@.service\"\n", "/etc/watcherd/workers.d/a.toml:2: worker.unit: \"a@.service\": it names a template; name an instance, as in worker@1.service"),
        ("[worker]\nunit = 5\n", "/etc/watcherd/workers.d/a.toml:2: worker.unit: one unit name in quotes is wanted"),
        ("[restart]\nbudget = \"5/1h\"\n", "/etc/watcherd/workers.d/a.toml: [worker] names no unit; `unit = \"NAME.service\"` or `units = […]` is needed"),
        ("[worker]\nunit = \"a\"\n[restart]\nbudget = \"0/1h\"\n", "/etc/watcherd/workers.d/a.toml:4: restart.budget: 0 attempts are out of range; 1 to 10000 are allowed"),
        ("[worker]\nunit = \"a\"\n[restart]\nback-off = 5\n", "/etc/watcherd/workers.d/a.toml:4: restart.back-off: a text in quotes is wanted, not a integer"),
        ("[worker]\nunit = \"a\"\n[restart]\nbugdet = \"5/1h\"\n", "/etc/watcherd/workers.d/a.toml:4: restart.\"bugdet\": unknown key, ignored; did you mean \"budget\"?"),
        ("[worker]\nunit = \"a\"\n[restrat]\n", "/etc/watcherd/workers.d/a.toml:3: \"restrat\": unknown table, ignored; did you mean \"restart\"?"),
        ("[worker]\nunit = \"a\"\n[cause.gpu-omm]\naction = \"hold\"\n", "/etc/watcherd/workers.d/a.toml:3: cause.\"gpu-omm\": unknown key, ignored; did you mean \"gpu-oom\"?"),
        ("[worker]\nunit = \"a\"\n[cause.segfault]\naction = \"dance\"\n", "/etc/watcherd/workers.d/a.toml:4: cause.segfault.action: \"dance\" is not one of \"restart\", \"hold\", \"quarantine\", \"stop\", \"ignore\""),
        ("[worker]\nunit = \"a\"\n[progress]\nfile = \"/x\"\n", "/etc/watcherd/workers.d/a.toml:4: progress.file: is not supported by this version and has no effect"),
        ("[worker]\nunit = \"a\"\n[limits]\nmemory = \"8G\"\n", "/etc/watcherd/workers.d/a.toml:3: limits: is not supported by this version and has no effect"),
        ("[worker]\nunit = \"a\"\n[restart]\ngrace = \"2d\"\n", "/etc/watcherd/workers.d/a.toml:4: restart.grace: at most 1d is allowed"),
        ("[worker]\nunit = \"a\"\n[progress]\ntotal = 0\n", "/etc/watcherd/workers.d/a.toml:4: progress.total: a whole number above 0 is wanted"),
        ("[worker]\nunit = \"a\\u0007\"\n", "/etc/watcherd/workers.d/a.toml:2: worker.unit: control characters are not allowed"),
    ];
    for (text, expected) in cases {
        let root = Root::new();
        root.write(FILE, text);
        assert_eq!(root.complaints(), [expected], "{text}");
    }
}

#[test]
fn text_that_is_no_toml_names_the_line() {
    let root = Root::new();
    root.write(FILE, "[worker]\nunit = \n");
    let complaints = root.load().complaints;
    assert_eq!((complaints.len(), complaints[0].line, complaints[0].severity), (1, 2, Severity::Error));
}

#[test]
fn a_broken_file_does_not_take_the_others_with_it() {
    let root = Root::new();
    root.write(FILE, "[worker\n");
    root.write("etc/watcherd/workers.d/b.toml", "[worker]\nunit = \"b\"\n");
    assert_eq!(root.load().policies.layers.len(), 1);
}

#[test]
fn on_reload_a_broken_file_keeps_its_last_good_policy() {
    let root = Root::new();
    root.write(FILE, "[worker]\nunit = \"a\"\n");
    root.write("etc/watcherd/watcherd.toml", "[manager]\nmax-jobs = 3\n");
    let good = root.load();
    root.write(FILE, "[worker]\nunit = 7\n");
    root.write("etc/watcherd/watcherd.toml", "[manager]\nmax-jobs = 0\n");
    let again = load_over(&good, Mode::System, root.0.path());
    assert_eq!(again.policies, good.policies);
    assert_eq!(again.complaints.iter().filter(|complaint| complaint.severity == Severity::Error).count(), 2);
    fs::remove_file(root.0.path().join(FILE)).expect("the file goes");
    assert!(load_over(&good, Mode::System, root.0.path()).policies.layers.is_empty());
}

#[test]
fn higher_directories_win_and_dev_null_masks() {
    let root = Root::new();
    root.write("usr/lib/watcherd/workers.d/a.toml", "[worker]\nunit = \"vendor\"\n");
    root.write(FILE, "[worker]\nunit = \"admin\"\n");
    root.write("usr/lib/watcherd/workers.d/m.toml", "[worker]\nunit = \"masked\"\n");
    symlink("/dev/null", root.0.path().join("etc/watcherd/workers.d/m.toml")).expect("a link");
    let units: Vec<_> =
        root.load().policies.layers.iter().map(|layer| layer.units[0].value.as_str().to_owned()).collect();
    assert_eq!(units, ["admin.service"]);
}

#[test]
fn two_policies_for_one_unit_are_pointed_out_and_the_later_one_wins() {
    let root = Root::new();
    root.write(FILE, "[worker]\nunits = [\"w@*\"]\n[restart]\nbudget = \"1/1h\"\ngrace = \"3s\"\n");
    root.write("etc/watcherd/workers.d/b.toml", "[worker]\nunit = \"w@1\"\n[restart]\nbudget = \"2/1h\"\n");
    let complaints = root.complaints();
    assert_eq!(
        complaints,
        ["/etc/watcherd/workers.d/b.toml:2: worker.units: w@1.service is also matched by /etc/watcherd/workers.d/a.toml:2 (w@*.service); what this file says wins"
            .replace("by /etc", &format!("by {}/etc", root.0.path().display()))
            .replace(&format!("{}/", root.0.path().display()), "/")]
    );
    let name = WorkerName::parse("w@1").expect("a name");
    let policy = root.load().policies.resolve(&name, None).expect("two layers");
    assert_eq!((policy.budget.value.attempts, policy.grace.value), (2, Duration::from_secs(3)));
    assert!(policy.budget.from.0.ends_with("b.toml:4"), "{}", policy.budget.from);
}

#[test]
fn odd_files_are_refused_without_blocking() {
    let root = Root::new();
    root.write(FILE, vec![b'#'; 10 * 1024 * 1024]);
    root.write("etc/watcherd/workers.d/b.toml", b"[worker]\n\xff\xfe");
    let fifo = root.0.path().join("etc/watcherd/workers.d/c.toml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    fs::create_dir(root.0.path().join("etc/watcherd/workers.d/d.toml")).expect("a directory");
    assert_eq!(
        root.complaints(),
        [
            "/etc/watcherd/workers.d/a.toml: is 10485760 bytes long; at most 1 MiB is read",
            "/etc/watcherd/workers.d/b.toml: is not UTF-8 text (line 2)",
            "/etc/watcherd/workers.d/c.toml: is not a regular file",
            "/etc/watcherd/workers.d/d.toml: is not a regular file",
        ]
    );
}

#[test]
fn a_flood_of_unknown_keys_is_bounded() {
    let root = Root::new();
    let flood: String = (0..40_000).map(|n| format!("k{n} = 1\n")).collect();
    root.write(FILE, format!("[worker]\nunit = \"a\"\n{flood}"));
    assert_eq!(root.load().complaints.len(), 50);
    root.write(FILE, format!("x = {}1{}", "[".repeat(50_000), "]".repeat(50_000)));
    assert!(!root.load().complaints.is_empty());
}

#[test]
fn settings_are_read() {
    let root = Root::new();
    root.write("etc/watcherd/watcherd.toml", "[manager]\ndry-run = true\nmax-jobs = 4\nkeep-incidents = \"7d\"\n");
    let settings = root.load().policies.settings;
    assert!(settings.dry_run);
    assert_eq!((settings.max_jobs, settings.keep_incidents), (4, Duration::from_secs(7 * 86_400)));
}

#[test]
fn own_settings_are_read_and_can_be_read_again() {
    let pairs = |rows: &[(&str, &str)]| -> Vec<(String, String)> {
        rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let given = pairs(&[
        ("restart.budget", "3/5min"),
        ("cause.segfault.action", "hold"),
        ("progress.notify", "true"),
        ("progress.total", "40"),
    ]);
    let layer = own_layer(&given, "watcherctl run").expect("good settings");
    assert_eq!(layer.budget.as_ref().map(|budget| budget.value.attempts), Some(3));
    assert_eq!(own_layer(&layer.written, "watcherctl run").expect("the same"), layer);
    for (key, value, expected) in [
        ("restart.budget", "x", "watcherctl run: restart.budget: \"x\" is not a budget such as \"5/1h\" (attempts per window)"),
        ("budget", "5/1h", "watcherctl run: budget: is not a key such as \"restart.budget\""),
        ("restart.bugdet", "5/1h", "watcherctl run: restart.\"bugdet\": unknown key, ignored; did you mean \"budget\"?"),
        ("restart.grace", "5s\n[x]", "watcherctl run: restart.grace: control characters are not allowed"),
        ("worker.unit", "b", "watcherctl run: worker.unit: the unit is given already"),
        ("a\"]\nb.c", "1", "watcherctl run: a\"]b.c: is not a key such as \"restart.budget\""),
    ] {
        let error = own_layer(&pairs(&[(key, value)]), "watcherctl run").expect_err(key);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn the_sample_files_show_every_key_and_are_valid() {
    let sample = include_str!("../../packaging/example.toml");
    let settings = include_str!("../../packaging/watcherd.toml");
    for key in KEYS {
        let (_, name) = key.rsplit_once('.').expect("a table");
        assert!(sample.contains(&format!("{name} = ")), "{key} is missing in the sample");
    }
    for key in SETTINGS_KEYS {
        let (_, name) = key.rsplit_once('.').expect("a table");
        assert!(settings.contains(&format!("{name} = ")), "{key} is missing in the sample");
    }
    let root = Root::new();
    let uncommented = |text: &str| -> String {
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    root.write(FILE, uncommented(sample));
    root.write("etc/watcherd/watcherd.toml", uncommented(settings));
    assert_eq!(root.complaints(), Vec::<String>::new());
}
