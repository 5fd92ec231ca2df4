// SPDX-License-Identifier: MIT OR Apache-2.0
//! Verbs against a fake watcherd: what they ask, print and return.

use crate::api::error::ApiError;
use crate::ctl::fake::{Bus, Fake, Script, dict, is_closed, lock};
use crate::ctl::out::tests::{failed, incident_object, working};
use serde_json::{Value, json};
use std::time::Duration;

fn script() -> Script {
    let mut incident = Value::Object(incident_object());
    // Remedies are structures, which the fake does not make.
    if let Some(object) = incident.as_object_mut() {
        object.remove("Remedies");
    }
    let mut incident = dict(incident);
    incident.insert("Id".into(), zbus::OwnedVariant::from(7u32));
    Script { workers: vec![working(), failed()], incidents: vec![incident], ..Script::default() }
}

#[tokio::test]
async fn no_verb_lists_the_workers() {
    let fake = Fake::with(script()).await;
    let plain = fake.run(&[]).await;
    assert_eq!((plain.status, plain.err.as_str()), (0, ""));
    assert!(plain.out.contains("train@1.service recovering"), "{}", plain.out);
    assert_eq!(plain, fake.run(&["list"]).await);
    assert_eq!(fake.run(&["list", "train@*", "-o", "name"]).await.out, "train@1.service\n");
    assert_eq!(fake.run(&["list", "no*", "--no-legend"]).await.out, "");
    let text = fake.run(&["list", "--json=short", "-n1"]).await.out;
    let array: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(array[0]["Unit"], "queue.service");
    assert_eq!(array[0]["PhaseTimestampRFC3339"], "2026-11-23T14:03:02.000000Z");
    assert_eq!(array.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn status_says_by_its_exit_status_whether_workers_are_well() {
    let fake = Fake::with(script()).await;
    let well = fake.run(&["status", "queue", "-n0"]).await;
    assert_eq!(well.status, 0);
    assert!(well.out.starts_with("● queue.service - working (it gets on)\n"), "{}", well.out);
    let mut broken = failed();
    broken.insert("Phase".into(), "failed".into());
    let fake = Fake::with(Script { workers: vec![broken, working()], ..script() }).await;
    let ill = fake.run(&["status", "-n0"]).await;
    assert_eq!(ill.status, 3);
    assert!(ill.out.contains("Incident: 7 recovering, opened 8s ago"), "{}", ill.out);
    assert_eq!(fake.run(&["status", "-q"]).await.out, "");
    assert_eq!(fake.run(&["status", "queue", "--json=short"]).await.status, 0);
}

#[tokio::test]
async fn an_unknown_worker_has_its_own_exit_status_and_a_hint() {
    let fake = Fake::with(script()).await;
    for verb in ["status", "restart", "show", "why", "logs", "hold", "reset"] {
        let printed = fake.run(&[verb, "quue"]).await;
        assert_eq!(printed.status, 4, "{verb}");
        assert_eq!(printed.err, "watcherctl: quue: no such worker\nhint: did you mean queue.service?\n", "{verb}");
    }
    let printed = fake.run(&["stop", "x*"]).await;
    assert_eq!((printed.status, printed.err.as_str()), (4, "watcherctl: x*: no worker matches\n"));
    let printed = fake.run(&["stop", "a b"]).await;
    assert_eq!(printed.status, 4);
    assert!(printed.err.starts_with("watcherctl: a b: ' ' is not allowed in a unit name"), "{}", printed.err);
}

#[tokio::test]
async fn restart_waits_for_its_jobs_and_is_silent() {
    let fake = Fake::with(script()).await;
    let printed = fake.run(&["restart", "queue", "train@1", "--reason", "new model"]).await;
    assert_eq!((printed.status, printed.out.as_str(), printed.err.as_str()), (0, "", ""));
    assert_eq!(fake.calls(), ["Restart queue.service,train@1.service \"new model\" 0"]);
}

#[tokio::test]
async fn a_failed_job_is_explained_in_the_workers_words() {
    let fake = Fake::with(script()).await;
    lock(&fake.script).job_result = "failed";
    let printed = fake.run(&["restart", "queue"]).await;
    assert_eq!(printed.status, 1);
    assert_eq!(
        printed.err,
        "watcherctl: cannot restart queue.service: it gets on\nhint: watcherctl status queue.service\n"
    );
    assert_eq!(fake.run(&["restart", "queue", "--no-block"]).await.status, 0);
    lock(&fake.script).job_result = "timeout";
    let printed = fake.run(&["restart", "queue", "-q"]).await;
    assert_eq!(printed.err, "watcherctl: cannot restart queue.service: it did not end in time\n");
}

#[tokio::test]
async fn a_refusal_names_the_holder_and_the_end_of_the_hold() {
    let holds = vec![(3, vec!["train@1.service".into()], "alice".into(), "backup".into(), 1_795_456_800_000_000)];
    let fake = Fake::with(Script { holds, ..script() }).await;
    let refuse = |error: ApiError| lock(&fake.script).refusal = Some(error);
    refuse(ApiError::WorkerHeld("train@1.service: held by alice (backup)".into()));
    let printed = fake.run(&["restart", "queue", "train@1"]).await;
    assert_eq!(printed.status, 1);
    assert_eq!(
        printed.err,
        "watcherctl: cannot restart train@1.service: held by alice (backup) until 18:00\nhint: watcherctl release 3\n"
    );
    refuse(ApiError::AccessDenied("not authorised".into()));
    let printed = fake.run(&["restart", "queue"]).await;
    assert_eq!(
        (printed.status, printed.err.as_str()),
        (77, "watcherctl: cannot restart queue.service: not authorised\n")
    );
    refuse(ApiError::InvalidPolicy("restart.budget: wrong".into()));
    assert_eq!(fake.run(&["restart", "queue"]).await.status, 78);
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_do() {
    let fake = Fake::with(script()).await;
    assert_eq!(fake.run(&["restart", "queue", "--dry-run"]).await.out, "would restart queue.service\n");
    assert_eq!(fake.calls(), ["Restart queue.service \"\" 1"]);
    assert_eq!(fake.run(&["quarantine", "queue", "--dry-run"]).await.out, "would quarantine queue.service\n");
    assert_eq!(fake.run(&["hold", "queue", "--dry-run"]).await.out, "would hold queue.service\n");
    assert_eq!(fake.calls().len(), 1);
}

#[tokio::test]
async fn show_prints_one_line_per_property() {
    let fake = Fake::with(script()).await;
    let printed = fake.run(&["show", "queue"]).await;
    assert_eq!(
        printed.out,
        "IntendedUp=yes\nInvocationID=abababababababababababababababab\nPhase=working\n\
         Policy=restart.budget 5/1h /etc/watcherd/workers.d/train.toml:12\nPolicy=restart.back-off 1s..5min default\n\
         Unit=queue.service\n"
    );
    assert_eq!(fake.run(&["show", "train@1", "-p", "Phase", "--value"]).await.out, "recovering\n");
}

#[tokio::test]
async fn why_gives_the_cause_first() {
    let fake = Fake::with(script()).await;
    let line = "train@1.service: oom-kill-cgroup (95% sure): The unit's own memory limit killed a process";
    let about_worker = fake.run(&["why", "train@1"]).await;
    assert_eq!(about_worker.out.lines().next(), Some(line));
    assert_eq!(fake.run(&["why", "7"]).await.out.lines().next(), Some(line));
    assert_eq!(fake.calls()[0], "ListIncidents id=7");
    let unknown = fake.run(&["why", "99"]).await;
    assert_eq!((unknown.status, unknown.err.lines().next()), (1, Some("watcherctl: incident 99: no such incident")));
}

#[tokio::test]
async fn incidents_are_filtered_by_the_daemon() {
    let fake = Fake::with(script()).await;
    let words = ["incidents", "--worker", "train@*", "--cause", "disk-full", "--since", "1h", "--open", "-n", "5"];
    assert_eq!(fake.run(&words).await.status, 0);
    let call = "ListIncidents cause=\"disk-full\" limit=5 open=true since=1795439107000000 worker=\"train@*\"";
    assert_eq!(fake.calls(), [call]);
    let wrong = fake.run(&["incidents", "--cause", "gremlins"]).await;
    assert_eq!(wrong.status, 2);
    assert_eq!(fake.run(&["incidents", "--since", "soon"]).await.status, 2);
    assert_eq!(fake.run(&["incidents", "-o", "name"]).await.out, "7\n");
    assert!(fake.run(&["incident", "7"]).await.out.starts_with("● Incident 7 - train@1.service: recovering\n"));
}

#[tokio::test]
async fn a_hold_prints_its_number_and_can_be_released() {
    let holds = vec![(3, vec!["queue.service".into()], "alice".into(), String::new(), 0)];
    let fake = Fake::with(Script { holds, ..script() }).await;
    let printed = fake.run(&["hold", "queue", "--until", "18:00", "--reason", "backup"]).await;
    assert_eq!((printed.status, printed.out.as_str()), (0, "7\n"));
    assert_eq!(fake.run(&["hold", "queue", "--until", "2020-01-01"]).await.status, 2);
    assert_eq!(fake.run(&["release", "7", "queue"]).await.status, 0);
    assert_eq!(fake.calls(), ["Hold queue.service \"backup\" 1795456800000000 0", "Release 7", "Release 3"]);
    let unknown = fake.run(&["release", "404"]).await;
    assert_eq!((unknown.status, unknown.err.as_str()), (1, "watcherctl: hold 404: no such hold\n"));
    assert_eq!(fake.run(&["release", "train@1"]).await.err, "watcherctl: train@1.service: nobody holds it\n");
}

#[tokio::test]
async fn a_hold_lasts_as_long_as_its_command() {
    let fake = Fake::with(script()).await;
    let printed = fake.run(&["hold", "queue", "--", "sh", "-c", "exit 42"]).await;
    assert_eq!(printed.status, 42);
    assert_eq!(fake.calls(), ["HoldLock queue.service \"\""]);
    assert!(is_closed(&lock(&fake.script).locks[0]), "the lock outlives the command");
    assert_eq!(fake.run(&["hold", "queue", "--", "sh", "-c", "kill -9 $$"]).await.status, 128 + 9);
    assert_eq!(fake.run(&["hold", "queue", "--", "/no/such/program"]).await.status, 1);
}

#[tokio::test]
async fn run_sends_the_absolute_command_and_prints_the_unit() {
    let fake = Fake::with(script()).await;
    let words =
        ["run", "--name", "queue", "-p", "MemoryMax=1G", "-E", "A=1 2", "--budget", "3/1h", "--", "/bin/sh", "-c", "x"];
    let printed = fake.run(&words).await;
    assert_eq!((printed.status, printed.out.as_str(), printed.err.as_str()), (0, "queue.service\n", ""));
    assert_eq!(
        fake.calls(),
        [
            r#"Run queue ["/bin/sh", "-c", "x"] {"Environment":"\"A=1 2\"","MemoryMax":"1G"} {"restart.budget":"3/1h"} 0"#
        ]
    );
    let dry = fake.run(&["run", "--dry-run", "--nice=5", "--", "/bin/sh"]).await;
    assert_eq!(dry.out, "would run /bin/sh\nNice=5\n");
    assert_eq!(fake.run(&["run", "--", "no-such-program"]).await.status, 1);
}

#[tokio::test]
async fn run_with_wait_follows_to_the_end() {
    for (phase, intended_up, status) in [("completed", false, 0), ("quarantined", true, 1), ("inactive", false, 1)] {
        let fake = Fake::with(script()).await;
        let words = ["run", "--wait", "--name", "queue", "--", "/bin/sh"];
        let news = async {
            // A restart and a pause between two runs are not the end.
            fake.change("queue.service", json!({"Phase": "failed"})).await;
            fake.incident_opened(9, "queue.service", "segfault").await;
            fake.change("queue.service", json!({"Phase": "inactive"})).await;
            fake.change("queue.service", json!({"Phase": phase, "IntendedUp": intended_up, "PhaseReason": "so"})).await;
        };
        let follow = async { tokio::time::timeout(Duration::from_secs(20), fake.run(&words)).await.expect("it ends") };
        let called = async {
            while fake.calls().is_empty() {
                tokio::task::yield_now().await;
            }
            news.await;
        };
        let (printed, ()) = tokio::join!(follow, called);
        assert_eq!(printed.status, status, "{phase}: {}", printed.err);
        assert!(printed.err.contains("queue.service: incident 9: segfault\n"), "{}", printed.err);
    }
}

#[tokio::test]
async fn monitor_prints_one_line_per_change() {
    for (words, expected) in [
        (
            &["monitor", "queue", "-n", "2"][..],
            "14:05:07.000 queue.service stalled (no progress)\n14:05:07.000 queue.service stalled -> working\n",
        ),
        (
            &["monitor", "-n", "1", "--json=short"][..],
            "{\"Event\":\"Changed\",\"Properties\":{\"Phase\":\"stalled\",\"PhaseReason\":\"no progress\"},\
             \"Timestamp\":1795442707000000,\"TimestampRFC3339\":\"2026-11-23T14:05:07.000000Z\",\
             \"Unit\":\"queue.service\"}\n",
        ),
    ] {
        let fake = Fake::with(script()).await;
        let news = async {
            loop {
                fake.change("other.service", json!({"Rate": 1})).await;
                fake.change("queue.service", json!({"Phase": "stalled", "PhaseReason": "no progress"})).await;
                fake.change("queue.service", json!({"Phase": "working"})).await;
                tokio::task::yield_now().await;
            }
        };
        let printed = tokio::select! {
            printed = fake.run(words) => printed,
            () = news => unreachable!(),
        };
        assert_eq!((printed.status, printed.out.as_str()), (0, expected));
    }
}

#[tokio::test]
async fn reload_prints_the_plan_and_fails_on_errors() {
    let plan = || {
        vec![
            dict(json!({"Unit": "train.service", "Change": "change", "Keys": ["restart.budget"], "Text": "x"})),
            dict(json!({"Unit": "old.service", "Change": "unchanged", "Keys": [], "Text": ""})),
            dict(json!({"File": "/etc/a.toml", "Change": "warning", "Text": "/etc/a.toml:3: unknown key"})),
            dict(json!({"File": "/etc/watcherd.toml", "Change": "change", "Text": ""})),
        ]
    };
    let fake = Fake::with(Script { plan: plan(), ..script() }).await;
    let printed = fake.run(&["reload"]).await;
    assert_eq!(
        (printed.status, printed.out.as_str()),
        (0, "change train.service: restart.budget\nchange /etc/watcherd.toml\n")
    );
    assert_eq!(printed.err, "watcherctl: warning: /etc/a.toml:3: unknown key\n");
    let mut broken = plan();
    broken.push(dict(json!({"File": "/etc/b.toml", "Change": "error", "Text": "not TOML"})));
    lock(&fake.script).plan = broken;
    let printed = fake.run(&["reload", "--dry-run"]).await;
    assert_eq!(printed.status, 78);
    assert!(printed.err.ends_with("watcherctl: /etc/b.toml: not TOML\n"), "{}", printed.err);
    assert_eq!(fake.calls(), ["Reload 0", "Reload 1"]);
}

#[tokio::test]
async fn a_test_notice_is_waited_for_and_says_why_it_was_not_sent() {
    let fake = Fake::with(Script::default()).await;
    let sent = fake.run(&["notify", "--test"]).await;
    assert_eq!((sent.status, sent.err.as_str()), (0, "The test notice was sent.\n"));
    let why = "watcherd-notify@7.service: the job ended with failed";
    lock(&fake.script).refusal = Some(ApiError::Failed(why.into()));
    let failed = fake.run(&["notify", "--test"]).await;
    assert_eq!((failed.status, failed.err), (1, format!("watcherctl: cannot send a test notice: {why}\n")));
    assert_eq!(fake.calls(), ["TestNotice 0", "TestNotice 0"]);
    assert_eq!(fake.run(&["notify"]).await.status, 2);
    assert_eq!(fake.run(&["notify", "--test", "--list"]).await.status, 2);
}

#[tokio::test]
async fn notices_are_listed_with_what_became_of_them() {
    let row = |id: u64, state: &str| dict(json!({"Id": id, "Stage": "opened", "Worker": "w.service", "State": state}));
    let fake = Fake::with(Script { notices: vec![row(1, "sent"), row(2, "lost")], ..Script::default() }).await;
    let listed = fake.run(&["notify", "--list", "--json=short", "-n1"]).await;
    assert_eq!(listed.out, "[{\"Id\":2,\"Stage\":\"opened\",\"State\":\"lost\",\"Worker\":\"w.service\"}]\n");
}

#[tokio::test]
async fn check_needs_no_daemon_and_names_the_line() {
    let fake = Fake::with(Script::default()).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.toml");
    std::fs::write(&file, "[worker]\nunit = \"a.service\"\n[restart]\nbudget = \"many\"\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    let printed = fake.run(&["check", path]).await;
    assert_eq!(printed.status, 78);
    assert!(printed.err.starts_with(&format!("watcherctl: {path}:4")), "{}", printed.err);
    let array: Value = serde_json::from_str(&fake.run(&["check", path, "--json=short"]).await.out).expect("JSON");
    assert_eq!((&array[0]["Severity"], &array[0]["Line"]), (&json!("error"), &json!(4)));
    std::fs::write(&file, "[worker]\nunit = \"a.service\"\n").expect("written");
    assert_eq!(fake.run(&["check", path]).await.status, 0);
    assert_eq!(fake.run(&["check", "/no/such/file"]).await.status, 78);
    let root = directory.path().to_str().expect("UTF-8");
    assert_eq!(fake.run(&["config", "show", "--root", root]).await.status, 0);
}

#[tokio::test]
async fn wrong_command_lines_are_usage_errors() {
    let fake = Fake::with(script()).await;
    for words in [&["frobnicate"][..], &["stop"], &["run"], &["--wait", "--no-block"], &["run", "-p", "x", "--", "a"]] {
        assert_eq!(fake.run(words).await.status, 2, "{words:?}");
    }
    assert_eq!(fake.run(&["reset", "queue"]).await.status, 0);
    assert_eq!(fake.run(&["quarantine", "queue", "--reason", "bad"]).await.status, 0);
    assert_eq!(fake.calls(), ["ResetQuarantine queue.service", "Quarantine queue.service \"bad\""]);
}

#[tokio::test]
async fn an_absent_daemon_has_its_own_exit_status_and_a_hint() {
    let Some(bus) = Bus::start() else { return };
    for words in [&["list"][..], &["restart", "a"], &["status"], &["incidents"], &["run", "--", "/bin/sh"], &["reload"]]
    {
        let printed = bus.run(words).await;
        assert_eq!(printed.status, 5, "{words:?}");
        assert_eq!(printed.err, "watcherctl: watcherd is not running\nhint: systemctl start watcherd\n", "{words:?}");
    }
}

#[tokio::test]
async fn on_a_bus_only_the_daemon_is_believed_and_locks_outlive_its_restart() {
    let Some(bus) = Bus::start() else { return };
    let daemon = bus.daemon(script()).await;
    let printed = bus.run(&["restart", "queue"]).await;
    assert_eq!((printed.status, printed.err.as_str()), (0, ""));
    // A signal of a stranger that looks like the daemon's.
    let stranger = bus.connect().await;
    let lie =
        ("org.watcherd1.Worker", std::collections::HashMap::from([("Phase", zbus::Variant::from("failed"))]), [""; 0]);
    let path = "/org/watcherd1/worker/queue_2eservice";
    let watching = bus.run(&["monitor", "-n", "2"]);
    let news = async {
        loop {
            let sent =
                stranger.emit_signal(None::<&str>, path, "org.freedesktop.DBus.Properties", "PropertiesChanged", &lie);
            sent.await.expect("the bus runs");
            daemon.change("queue.service", json!({"Phase": "stalled"})).await;
            daemon.change("queue.service", json!({"Phase": "working"})).await;
            // No faster than the bus can pass it on.
            let bus = Some("org.freedesktop.DBus");
            stranger.call_method(bus, "/", bus, "GetId", &()).await.expect("the bus runs");
        }
    };
    let printed = tokio::select! {
        printed = watching => printed,
        () = news => unreachable!(),
    };
    assert!(!printed.out.contains("failed"), "{}", printed.out);
    let until_told = "while ! test -e \"$0\"; do sleep 0.05; done";
    let words = ["hold", "queue", "--", "sh", "-c", until_told, bus.flag()];
    let held = bus.run(&words);
    let restart = async {
        let locks = |daemon: &Fake| lock(&daemon.script).locks.len();
        while locks(&daemon) == 0 {
            tokio::task::yield_now().await;
        }
        daemon.leave().await;
        daemon.come().await;
        while locks(&daemon) == 1 {
            tokio::task::yield_now().await;
        }
        std::fs::write(bus.flag(), "").expect("the directory is writable");
    };
    let (printed, ()) = tokio::join!(held, restart);
    assert_eq!((printed.status, printed.err.as_str()), (0, ""));
}
