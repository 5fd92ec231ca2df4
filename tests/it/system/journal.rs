// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal tells the story of each worker, for people and for scripts.

use super::{QUICK, SLEEPER, with_worker};
use crate::machine::SUITES;

#[test]
fn the_workers_own_log_tells_the_story_in_fields_and_words() {
    for suite in SUITES {
        let machine = with_worker(suite, QUICK, SLEEPER);
        machine.ok(&["systemctl", "kill", "-s", "SEGV", "w.service"]);
        machine.until_property("w.service", "NRuns", "2");
        machine.until_property("w.service", "Phase", "working");
        let lines = machine.until("the story", || {
            let text =
                machine.ok(&["journalctl", "-b", "-u", "w.service", "-t", "watcherd", "-o", "json", "--no-pager"]);
            let lines: Vec<serde_json::Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (lines.len() >= 4).then_some(lines)
        });
        let opened = lines
            .iter()
            .find(|line| line["MESSAGE_ID"] == "8e3cdb5b1ea14d4e9b7b6ac1f8b4a503")
            .expect("the incident is told");
        assert_eq!(opened["MESSAGE"], "w.service killed by SIGSEGV (segfault): restart #1 at once");
        assert_eq!(opened["WATCHERD_WORKER"], "w.service");
        assert_eq!(opened["WATCHERD_CAUSE"], "segfault");
        assert_eq!(opened["WATCHERD_CONFIDENCE"], "90");
        assert_eq!(opened["WATCHERD_INCIDENT"], "1");
        assert_eq!(opened["OBJECT_SYSTEMD_UNIT"], "w.service");
        assert_eq!(opened["PRIORITY"], "4");
        let run = opened["WATCHERD_RUN"].as_str().expect("the failed run");
        assert_eq!(machine.incidents("w.service")[0]["Run"]["data"], run);
        let status = machine.ok(&["systemctl", "status", "w.service", "--no-pager"]);
        assert!(status.contains("w.service has recovered"), "{status}");
        machine.ok(&["journalctl", "--update-catalog"]);
        let explained = machine.ok(&["journalctl", "-b", "-x", "-u", "w.service", "-t", "watcherd", "--no-pager"]);
        assert!(explained.contains("The cause is: segfault"), "{explained}");
    }
}
