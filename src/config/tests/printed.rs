// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is printed, and what the samples show, is what counts.

use super::*;

#[test]
fn show_and_cat_print_the_files_that_count() {
    let root = Root::new(&[
        ("etc/watcherd/watcherd.toml", "[manager]\nmax-jobs = 3"),
        (
            "etc/watcherd/workers.d/a.toml",
            "[worker]\nunit = \"a\"\n[restart]\nbudget = \"5/3661\"\n[cause.segfault]\naction = \"hold\"\n",
        ),
        ("usr/lib/watcherd/workers.d/a.toml", "hidden"),
        ("etc/watcherd/workers.d/b.toml", "\u{1b}[2J\n"),
    ]);
    let at = root.0.path().to_str().expect("a UTF-8 path");
    assert_eq!(
        root.load().show().replace(at, ""),
        "# /etc/watcherd/watcherd.toml\n\
         manager.max-jobs = 3  # /etc/watcherd/watcherd.toml:2\n\
         \n# /etc/watcherd/workers.d/a.toml\n\
         worker.units = \"a.service\"  # /etc/watcherd/workers.d/a.toml:2\n\
         restart.budget = \"5/1h 1min 1s\"  # /etc/watcherd/workers.d/a.toml:4\n\
         cause.segfault.action = \"hold\"  # /etc/watcherd/workers.d/a.toml:6\n\
         \n# /etc/watcherd/workers.d/b.toml  (refused)\n"
    );
    let (text, complaints) = cat(Mode::System, root.0.path());
    assert!(complaints.is_empty());
    assert_eq!(
        text.replace(at, ""),
        "# /etc/watcherd/watcherd.toml\n[manager]\nmax-jobs = 3\n\
         \n# /etc/watcherd/workers.d/a.toml\n[worker]\nunit = \"a\"\n[restart]\nbudget = \"5/3661\"\n[cause.segfault]\naction = \"hold\"\n\
         \n# /etc/watcherd/workers.d/b.toml\n\u{fffd}[2J\n"
    );
}

const SAMPLE_SETTINGS: &str = include_str!("../../../packaging/watcherd.toml");
const SAMPLE_WORKER: &str = include_str!("../../../packaging/workers.d/example.toml.sample");

/// Turns `#key = value` into a line that counts; prose has a space after the `#`.
fn uncommented(sample: &str) -> String {
    let line = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
    sample.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_samples_show_every_key_with_its_default() {
    let root = Root::new(&[
        ("etc/watcherd/watcherd.toml", &uncommented(SAMPLE_SETTINGS)),
        ("etc/watcherd/workers.d/example.toml", &uncommented(SAMPLE_WORKER)),
    ]);
    let loaded = root.load();
    assert_eq!(root.complaints(&loaded), [""; 0]);
    let shown = loaded.show();
    for key in KEYS.iter().chain(keys::SETTINGS_KEYS) {
        assert!(shown.contains(&format!("\n{key} = ")), "{key} is not in the sample");
    }
    for key in keys::UNIT_KEYS {
        let key = key.trim_start_matches("worker.");
        assert!(SAMPLE_WORKER.contains(&format!("\n#{key} = ")), "{key} is not in the sample");
    }
    let ways = Ways { mail: Some("root".into()), command: None, ..Ways::default() };
    let mut settings = loaded.policies.settings.clone();
    assert_eq!(settings.notify.ways.command.take().expect("the sample has one").0.len(), 1);
    assert_eq!(settings.record.take().as_deref(), Some("recordings"));
    assert_eq!(std::mem::take(&mut settings.notify.ways), ways, "only these have no default to show");
    assert_eq!(settings, Settings::default());
    let name = WorkerName::parse("train").expect("a name");
    let policy = loaded.policies.resolve(&name, None).expect("a policy");
    let differing = policy.differing_keys(&Default::default());
    let defaults: Vec<String> = show::policy_entries(&Default::default()).into_iter().map(|entry| entry.key).collect();
    let without: Vec<&str> = KEYS.iter().copied().filter(|key| !defaults.iter().any(|known| known == key)).collect();
    assert_eq!(differing, [&without[..], &["cause", "parameters"]].concat(), "only these have no default to show");

    let untouched = Root::new(&[("etc/watcherd/watcherd.toml", SAMPLE_SETTINGS)]).load();
    assert!(untouched.complaints.is_empty());
    assert_eq!(untouched.policies.settings, Settings::default());
}

#[test]
fn every_key_has_a_reader_and_is_printed_so_that_it_can_be_read_back() {
    let value = |key: &str| match key {
        "worker.after-success" => "restart",
        "progress.notify" | "worker.dry-run" => "true",
        "restart.by-verdict" => "false",
        "restart.same-cause" | "restart.then-retries" => "9",
        "restart.leftovers" => "keep",
        "checkpoints.keep" => "3",
        "restart.then" | "checkpoints.verify" => "[\"/bin/curl\", \"a b\"]",
        "worker.notify" => "false",
        "progress.total" => "7",
        "restart.back-off" => "1s..1min 1s",
        "restart.budget" => "3/1h 1min 1s",
        "restart.on-exhausted" => "stop",
        "restart.dump-signal" => "SIGUSR1",
        "limits.memory" => "1536M",
        "limits.cpu" => "350%",
        "progress.strikes" => "7",
        "progress.stalled-when" | "progress.complete-when" => "a == 0 and b > 1.5",
        "progress.http" => "http://localhost:8001/status",
        "checkpoints.path" | "progress.file" | "progress.count" | "progress.mtime" => "/srv/out/*.csv",
        "progress.journal" => "step (.+)/(.+)",
        "progress.command" | "restart.dump-command" => "[\"/bin/true\", \"a b\"]",
        "progress.value" | "progress.active" | "progress.pending" | "progress.failed" => "/queue/it",
        "progress.completed" | "progress.cursor" | "progress.stage" => "name",
        _ => "1min 1s 1ms",
    };
    let pairs: Vec<(String, String)> = KEYS.iter().map(|key| ((*key).into(), value(key).into())).collect();
    let layer = own_layer(&pairs, "test").expect("a layer");
    let entries = show::entries(&layer);
    let printed: Vec<(String, String)> =
        entries.into_iter().map(|entry| (entry.key, entry.value.trim_matches('"').into())).collect();
    assert_eq!(printed, pairs);
}
