// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any text as a file of the configuration: bounded complaints or settings, and what is in force can be read again as it
//! is printed.

use std::fs;
use tempfile::TempDir;
use watcherd::config::{self, Mode, show};
use watcherd::engine::ids::WorkerName;
use watcherd::engine::policy::Policy;

/// More than this is not said about two files.
const COMPLAINTS_MAX: usize = 2 * config::COMPLAINTS_MAX + 2;

thread_local! {
    static ROOT: TempDir = {
        let root = tempfile::tempdir().expect("a directory can be made");
        fs::create_dir_all(root.path().join("etc/watcherd/workers.d")).expect("it can be made");
        root
    };
}

pub fn look(bytes: &[u8]) {
    let loaded = ROOT.with(|root| {
        for file in ["watcherd.toml", "workers.d/a.toml"] {
            fs::write(root.path().join("etc/watcherd").join(file), bytes).expect("it can be written");
        }
        config::load(Mode::System, root.path())
    });
    assert!(loaded.complaints.len() <= COMPLAINTS_MAX, "{}", loaded.complaints.len());
    for complaint in &loaded.complaints {
        let text = complaint.to_string();
        assert!(!text.chars().any(char::is_control) && text.len() < 4096, "{text:?}");
    }
    loaded.show();
    let worker = WorkerName::parse("w").expect("a name");
    let Some(policy) = loaded.policies.resolve(&worker, None) else { return };
    let entries = show::policy_entries(&policy);
    let rows: Vec<_> = entries.iter().map(|e| (e.key.clone(), show::argument(&e.value), e.from.clone())).collect();
    let layer = config::layer_of(&rows).unwrap_or_else(|why| panic!("{why}: {rows:?}"));
    let mut again = Policy::default();
    again.overlay(&layer);
    assert_eq!(show::policy_entries(&again), entries);
}
