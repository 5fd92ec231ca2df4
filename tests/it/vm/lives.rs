// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workers that live but are not well, seen through control groups.

use super::story::Story;

#[test]
fn the_evidence_about_a_worker_that_hangs_comes_from_its_control_group() {
    let script =
        "i=0; while [ $i -lt 5 ]; do i=$((i+1)); echo $i >/run/lives-hangs; sleep 0.5; done; exec sleep infinity";
    let story = Story::begin("lives-hangs", &format!("ExecStart=/bin/sh -c '{script}'"));
    story.until("the second run", || (story.property(&story.unit, "NRuns") == "2").then_some(()));
    let incidents = story.incidents(&story.unit);
    assert_eq!(incidents[0]["Cause"]["data"], "unresponsive");
    let id = incidents[0]["Id"]["data"].to_string();
    let saved = story.ok(&["watcherctl", "incident", &id, "--evidence"]);
    let asleep = ["nanosleep", "pause"].iter().any(|call| saved.contains(call));
    assert!(asleep, "where it slept: {saved}");
    let directory = format!("/var/lib/watcherd/incidents/{id}");
    let current: u64 = story.read(&format!("{directory}/cgroup/memory.current")).trim().parse().expect("bytes");
    assert!(current > 0);
    assert!(story.read(&format!("{directory}/cgroup/memory.pressure")).starts_with("some avg10="), "{directory}");
}

#[test]
fn memory_is_measured_of_the_control_group() {
    // Two processes that are each below the ceiling, in the first run only.
    let held = "(head -c 14000000 /dev/zero; sleep infinity) | tail -c 14000000";
    let script = format!("test -e /run/leaked && exec sleep infinity; touch /run/leaked; ({held}) & {held}");
    let story = Story::begin("lives-leaks", &format!("ExecStart=/bin/sh -c '{script}'"));
    story.until("the second run", || (story.property(&story.unit, "NRuns") == "2").then_some(()));
    let incidents = story.incidents(&story.unit);
    assert_eq!(incidents[0]["Cause"]["data"], "over-limit", "{incidents:?}");
    let why = story.ok(&["watcherctl", "why", &incidents[0]["Id"]["data"].to_string()]);
    assert!(why.contains("of memory in use, 24M are allowed"), "{why}");
}
