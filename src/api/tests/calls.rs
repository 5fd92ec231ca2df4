// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every method through the client's proxies, against a scripted daemon.

use super::super::client::{IncidentProxy, JobProxy, ManagerProxy, WorkerProxy};
use super::super::error::{ApiError, ErrorName};
use super::super::guard::{Rule, TABLE};
use super::super::{PlanRow, path};
use super::*;
use crate::engine::event::{Answer, Refusal, Request, Verb};
use crate::engine::ids::HoldId;
use std::collections::HashMap;
use zbus::message::Message;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

async fn manager(scene: &Scene) -> ManagerProxy<'static> {
    ManagerProxy::builder(&scene.client)
        .cache_properties(zbus::proxy::CacheProperties::No)
        .build()
        .await
        .expect("a proxy")
}

async fn worker_object(scene: &Scene) -> WorkerProxy<'static> {
    let path = path::worker(&name("train@1"));
    let proxy = WorkerProxy::builder(&scene.client).path(path).cache_properties(zbus::proxy::CacheProperties::No);
    proxy.build().await.expect("a proxy")
}

/// Answers each call with what the script says, and hands back what was asked.
fn script(mut calls: mpsc::Receiver<Call>) -> mpsc::UnboundedReceiver<String> {
    let (sender, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(call) = calls.recv().await {
            let _ = sender.send(format!("{call:?}").chars().take(4000).collect());
            match call {
                Call::Ask { request, answer, .. } => answer.send(Ok(match *request {
                    Request::Change { dry_run: true, .. } => Answer::Jobs(Vec::new()),
                    Request::Change { .. } => Answer::Jobs(vec![JobId(1)]),
                    Request::Hold { .. } => Answer::Hold(HoldId(9)),
                    _ => Answer::Nothing,
                })),
                Call::Run { name, answer, .. } => {
                    answer.send(Ok(Answer::Worker(name.unwrap_or_else(|| super::name("w-1")))))
                }
                Call::Adopt { unit, policy_pairs, answer, .. } => match policy_pairs.is_empty() {
                    true => answer.send(Ok(Answer::Worker(unit))),
                    false => answer.fail(ApiError::InvalidPolicy("restart.bugdet: unknown key".into())),
                },
                Call::Incidents { answer, .. } => {
                    let _ = answer.send(Ok(vec![incident(3, "train@1")]));
                }
                Call::Notices { answer } => {
                    let _ = answer.send(vec![super::notice()]);
                }
                Call::Reload { answer, .. } => {
                    let file = PlanRow::File { file: "a.toml".into(), change: "warning", text: "unknown key".into() };
                    let unit = PlanRow::Unit {
                        unit: "train@1.service".into(),
                        change: "change",
                        keys: vec!["restart.budget".into()],
                        text: String::new(),
                    };
                    let _ = answer.send(Ok(vec![file, unit]));
                }
                Call::Beat { .. } | Call::LogLevel(_) => {}
            }
        }
    });
    heard
}

async fn heard(heard: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(PATIENCE, heard.recv()).await.expect("in time").expect("a call")
}

fn words(heard: &str, words: &[&str]) {
    for word in words {
        assert!(heard.contains(word), "{word:?} is not in {heard}");
    }
}

#[tokio::test]
async fn every_manager_method_reaches_the_daemon_and_answers() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let proxy = manager(&scene).await;
    let mut said = script(scene.calls);
    let train = path::worker(&name("train@1"));

    assert_eq!(proxy.get_worker("train@1").await.expect("known"), train);
    let rows = proxy.list_workers().await.expect("open");
    let row = ("train@1.service", "working", "", "it runs", 1_000_000, train.clone());
    assert_eq!(rows, [(row.0.into(), row.1.into(), row.2.into(), row.3.into(), row.4, row.5)]);

    let filter = HashMap::from([("worker", Variant::from("train@*")), ("open", Variant::from(true))]);
    let incidents = proxy.list_incidents(filter).await.expect("open");
    assert_eq!(incidents[0]["Id"], OwnedVariant::from(3u32));
    assert_eq!(incidents[0].len(), 19);
    words(&heard(&mut said).await, &["Incidents", "train@*", "Some(true)"]);

    let properties = HashMap::from([("User", Variant::from("nobody"))]);
    let policy = HashMap::from([("restart.budget", Variant::from("3/5min"))]);
    let path = proxy.run("", &["/bin/true", "x"], properties, policy.clone(), 0).await.expect("allowed");
    assert_eq!(path.as_str(), "/org/watcherd1/worker/w_2d1_2eservice");
    words(&heard(&mut said).await, &["Run", "/bin/true", "nobody", "restart.budget", "name: None"]);

    assert_eq!(proxy.adopt("train@1", HashMap::new(), 0).await.expect("allowed"), train);
    words(&heard(&mut said).await, &["Adopt"]);
    let error = proxy.adopt("train@1", policy, 0).await.expect_err("the policy is wrong");
    assert_eq!(ErrorName::of(&error), Some(ErrorName::InvalidPolicy));
    words(&heard(&mut said).await, &["Adopt"]);

    proxy.forget("train@1").await.expect("allowed");
    words(&heard(&mut said).await, &["Forget", "train@1.service"]);

    let names = ["train@1", "train@2.service"];
    assert_eq!(proxy.start(&names, "because", 0).await.expect("allowed")[0].as_str(), "/org/watcherd1/job/1");
    words(&heard(&mut said).await, &["Start", "train@2.service", "because", "dry_run: false"]);
    assert_eq!(proxy.stop(&names, "", 1).await.expect("allowed"), Vec::<OwnedObjectPath>::new());
    words(&heard(&mut said).await, &["Stop", "dry_run: true"]);
    proxy.restart(&names, "", 0).await.expect("allowed");
    words(&heard(&mut said).await, &["Restart"]);
    proxy.pause(&names, "", 0).await.expect("allowed");
    words(&heard(&mut said).await, &["Pause"]);
    proxy.resume(&names, "", 0).await.expect("allowed");
    words(&heard(&mut said).await, &["Resume"]);

    assert_eq!(proxy.hold(&names, "alice", "backup", 5, 0).await.expect("allowed"), 9);
    words(&heard(&mut said).await, &["Hold", "alice", "backup", "until: Some(Wall(5))", "lock: false"]);
    proxy.release(9).await.expect("allowed");
    words(&heard(&mut said).await, &["Release", "9"]);

    let plan = proxy.reload(1).await.expect("allowed");
    assert_eq!(plan[0]["File"], OwnedVariant::from(zbus::Str::from("a.toml")));
    assert_eq!(plan[1].len(), 4);
    words(&heard(&mut said).await, &["Reload", "dry_run: true"]);

    let json: serde_json::Value = serde_json::from_str(&proxy.describe().await.expect("open")).expect("JSON");
    assert_eq!(json["Version"], "1.2.3");
    assert_eq!(json["Workers"][0]["Unit"], "train@1.service");
    assert_eq!(json["Workers"][0]["Path"], train.as_str());
    assert_eq!(json["Workers"][0]["InvocationID"], "07070707070707070707070707070707");
    assert_eq!(json["Workers"][0]["Policy"][0][0], "restart.budget");

    assert_eq!(proxy.version().await.expect("open"), "1.2.3");
    assert_eq!(proxy.features().await.expect("open"), ["store"]);
    assert_eq!((proxy.n_workers().await.expect("open"), proxy.n_incidents_open().await.expect("open")), (1, 1));
    assert_eq!(proxy.holds().await.expect("open"), []);
    assert!(!proxy.dry_run().await.expect("open"));
    assert_eq!(proxy.degraded().await.expect("open"), Vec::<String>::new());
    assert_eq!(proxy.configuration_timestamp().await.expect("open"), 0);
}

#[tokio::test]
async fn worker_incident_and_job_objects_answer() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let train = worker_object(&scene).await;
    let path = path::incident(IncidentId(1));
    let incident = IncidentProxy::builder(&scene.client).path(path).build().await.expect("a proxy");
    let job = JobProxy::builder(&scene.client).path(path::job(JobId(1))).build().await.expect("a proxy");
    let mut said = script(scene.calls);

    train.quarantine("it burns").await.expect("allowed");
    words(&heard(&mut said).await, &["Quarantine", "train@1.service", "it burns"]);
    train.reset_quarantine().await.expect("allowed");
    words(&heard(&mut said).await, &["ResetQuarantine"]);
    incident.close("seen", 0).await.expect("allowed");
    words(&heard(&mut said).await, &["CloseIncident", "IncidentId(1)", "seen"]);
    job.cancel(0).await.expect("allowed");
    words(&heard(&mut said).await, &["CancelJob", "JobId(1)"]);

    assert_eq!(train.unit().await.expect("open"), "train@1.service");
    assert_eq!(train.pool().await.expect("open"), "");
    assert_eq!(train.origin().await.expect("open"), "policy");
    assert_eq!(train.phase().await.expect("open"), "working");
    assert_eq!(train.phase_reason().await.expect("open"), "it runs");
    assert_eq!(train.phase_timestamp().await.expect("open"), 1_000_000);
    assert_eq!(train.cause().await.expect("open"), "");
    assert_eq!(train.incident().await.expect("open").as_str(), "/");
    assert_eq!(train.main_pid().await.expect("open"), 4711);
    assert_eq!(train.invocation_id().await.expect("open"), [7; 16]);
    assert_eq!(train.progress_value().await.expect("open"), 120);
    assert_eq!(train.progress_total().await.expect("open"), 500);
    assert_eq!(train.progress_timestamp().await.expect("open"), 2_000_000);
    assert_eq!(train.progress_timestamp_monotonic().await.expect("open"), 1_000);
    assert_eq!(train.rate().await.expect("open"), 1.5);
    assert_eq!(train.eta_usec().await.expect("open"), 250_000_000);
    assert_eq!(train.attempts().await.expect("open"), 0);
    assert_eq!(train.budget_left().await.expect("open"), 5);
    assert_eq!(train.next_action().await.expect("open"), "");
    assert_eq!(train.next_action_timestamp().await.expect("open"), 0);
    assert_eq!(train.next_action_timestamp_monotonic().await.expect("open"), 0);
    assert!(!train.held().await.expect("open"));
    assert!(train.intended_up().await.expect("open"));
    assert_eq!(train.n_runs().await.expect("open"), 1);
    assert_eq!(train.downtime_usec().await.expect("open"), 0);
    assert_eq!(train.policy().await.expect("open")[0].1, "5/1h");

    assert_eq!(
        (incident.id().await.expect("open"), incident.worker().await.expect("open").as_str()),
        (1, "train@1.service")
    );
    assert_eq!(incident.run().await.expect("open").len(), 32);
    assert_eq!(incident.cause().await.expect("open"), "segfault");
    assert_eq!(incident.confidence().await.expect("open"), 0.9);
    assert_eq!(incident.because().await.expect("open").len(), 1);
    assert_eq!(incident.cascade().await.expect("open").len(), 0);
    assert_eq!(incident.opened().await.expect("open"), 3_000_000);
    assert_eq!(incident.detected().await.expect("open"), 3_000_100);
    assert_eq!(incident.decided().await.expect("open"), 0);
    assert_eq!(incident.started().await.expect("open"), 0);
    assert_eq!(incident.recovered().await.expect("open"), 0);
    assert_eq!(incident.closed().await.expect("open"), 0);
    assert_eq!(incident.state().await.expect("open"), "open");
    assert_eq!(incident.result().await.expect("open"), "");
    assert_eq!(incident.remedies().await.expect("open")[0].0, "restart");
    assert_eq!(incident.text().await.expect("open"), "killed by SIGSEGV");

    assert_eq!((job.id().await.expect("open"), job.kind().await.expect("open").as_str()), (1, "restart"));
    assert_eq!(job.worker().await.expect("open"), "train@1.service");
    assert_eq!(job.state().await.expect("open"), "waiting");
    assert_eq!(job.result().await.expect("open"), "");
    assert_eq!(job.detail().await.expect("open"), "");
}

#[tokio::test]
async fn notices_are_shown_without_what_they_say_and_can_be_tried() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let proxy = manager(&scene).await;
    let mut said = script(scene.calls);
    let rows = proxy.list_notices().await.expect("open to all");
    assert_eq!(rows.len(), 1);
    let shown = format!("{:?}", rows[0]);
    words(&shown, &["\"train@1.service\"", "\"waiting\"", "\"the unit failed\"", "Attempts", "Due", "Final"]);
    assert!(!shown.contains("a line of a log"), "{shown}");
    assert_eq!(rows[0].len(), 11);
    heard(&mut said).await;
    proxy.test_notice(0).await.expect("allowed");
    words(&heard(&mut said).await, &["TestNotice"]);
    let error = proxy.test_notice(1).await.expect_err("no flags are defined");
    assert_eq!(ErrorName::of(&error), Some(ErrorName::InvalidArgs));
}

#[tokio::test]
async fn a_lock_holds_until_its_last_copy_is_closed() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let proxy = manager(&scene).await;
    let mut said = script(scene.calls);
    let (_publications, inbox) = mpsc::channel(8);
    tokio::spawn(scene.publisher.run(inbox));

    let lock = proxy.hold_lock(&["train@1"], "alice", "backup").await.expect("allowed");
    words(&heard(&mut said).await, &["Hold", "lock: true"]);
    let copy = std::os::fd::OwnedFd::from(lock).try_clone().expect("a copy");
    // The first descriptor went with the line above; the copy still holds.
    proxy.release(1).await.expect("allowed");
    words(&heard(&mut said).await, &["Release(HoldId(1))"]);
    drop(copy);
    words(&heard(&mut said).await, &["Release(HoldId(9))"]);
}

#[tokio::test]
async fn refusals_and_a_silent_daemon_become_errors() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let proxy = manager(&scene).await;
    let error = proxy.get_worker("nobody").await.expect_err("unknown");
    assert_eq!(ErrorName::of(&error), Some(ErrorName::NoSuchWorker));
    assert!(error.to_string().contains("nobody.service"), "{error}");

    let forget = tokio::spawn({
        let proxy = proxy.clone();
        async move { proxy.forget("train@1").await }
    });
    let asked = tokio::time::timeout(PATIENCE, scene.calls.recv()).await.expect("in time");
    let Some(Call::Ask { answer, .. }) = asked else { panic!("no call") };
    answer.send(Err(Refusal::NotSupported("train@1.service: it comes from a policy".into())));
    let error = forget.await.expect("no panic").expect_err("refused");
    assert_eq!(ErrorName::of(&error), Some(ErrorName::NotSupported));

    drop(scene.calls);
    let error = proxy.forget("train@1").await.expect_err("nobody listens");
    assert_eq!(ErrorName::of(&error), Some(ErrorName::Stopping));
}

#[tokio::test]
async fn a_daemon_that_does_not_keep_up_is_busy() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let proxy = manager(&scene).await;
    for _ in 0..CALLS_MAX {
        let call = Message::method_call("/org/watcherd1", "Forget").interface("org.watcherd1.Manager");
        scene.client.send(&call.build(&("train@1",)).expect("a message")).await.expect("sent");
    }
    // Calls are handled in tasks of their own: wait until all of them are in the queue.
    let full = async {
        while scene.calls.len() < CALLS_MAX {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("in time");
    let error = proxy.forget("train@1").await.expect_err("the queue is full");
    assert_eq!(ErrorName::of(&error), Some(ErrorName::Busy));
}

#[tokio::test]
async fn strangers_may_read_and_nothing_else() {
    let mut scene = Scene::closed().await;
    scene.publish(everything()).await;
    let proxy = manager(&scene).await;
    proxy.list_workers().await.expect("open");
    proxy.describe().await.expect("open");
    let no_dict = HashMap::<&str, Variant<'_>>::new;
    for (interface, member, rule) in TABLE {
        let place = match *interface {
            "org.watcherd1.Manager" => path::root(),
            "org.watcherd1.Worker" => path::worker(&name("train@1")),
            "org.watcherd1.Incident" => path::incident(IncidentId(1)),
            "org.watcherd1.Job" => path::job(JobId(1)),
            _ => OwnedObjectPath::try_from(path::LOG_CONTROL).expect("a path"),
        };
        if *rule == Rule::Open {
            continue;
        }
        let call = Message::method_call(place.clone(), *member).interface(*interface);
        let set = Message::method_call(place.clone(), "Set").interface("org.freedesktop.DBus.Properties");
        let one = vec!["train@1"];
        let message = match *member {
            "LogLevel" | "LogTarget" => set.build(&(*interface, *member, Variant::from("debug"))),
            "Run" => call.build(&("", &one, no_dict(), no_dict(), 0u64)),
            "Adopt" => call.build(&("a", no_dict(), 0u64)),
            "Forget" => call.build(&("a",)),
            "Start" | "Stop" | "Restart" | "Pause" | "Resume" => call.build(&(&one, "", 0u64)),
            "Hold" => call.build(&(&one, "", "", 0u64, 0u64)),
            "HoldLock" => call.build(&(&one, "", "")),
            "Release" => call.build(&(1u32,)),
            "Reload" | "Cancel" | "TestNotice" => call.build(&(0u64,)),
            "Beat" => call.build(&(1u64, no_dict())),
            "Quarantine" => call.build(&("",)),
            "SetParameter" => call.build(&("BATCH", "1")),
            "ResetQuarantine" => call.build(&()),
            "Close" => call.build(&("", 0u64)),
            other => panic!("no arguments are known for {other}"),
        };
        let message = message.expect("a message");
        let error = reply_to(&scene.client, message).await.expect_err("a stranger");
        assert_eq!(ErrorName::of(&error), Some(ErrorName::AccessDenied), "{interface}.{member}: {error}");
    }
    assert!(scene.calls.try_recv().is_err(), "the daemon heard a stranger");
}

/// Sends a call and waits for its reply; a proxy would not let us send what we want.
async fn reply_to(connection: &Connection, call: Message) -> zbus::Result<Message> {
    use futures_util::StreamExt;
    let serial = call.primary_header().serial_num();
    let mut stream = zbus::MessageStream::from(connection);
    connection.send(&call).await?;
    let wait = async {
        while let Some(message) = stream.next().await {
            let message = message?;
            if message.header().reply_serial() == Some(serial) {
                return match message.message_type() {
                    zbus::message::Type::Error => Err(zbus::Error::from(message)),
                    _ => Ok(message),
                };
            }
        }
        panic!("the connection ended")
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("in time")
}

#[tokio::test]
async fn a_beat_counts_only_from_the_workers_own_unit() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let error = worker_object(&scene).await.beat(5, HashMap::new()).await.expect_err("this test is no worker");
    assert_eq!(ErrorName::of(&error), Some(ErrorName::AccessDenied));
    assert!(scene.calls.try_recv().is_err());
}

#[tokio::test]
async fn extreme_arguments_are_refused_before_the_daemon_hears_of_them() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let proxy = manager(&scene).await;
    let long = "x".repeat(10_000);
    let many: Vec<&str> = vec!["a"; 100_000];
    let dict = || HashMap::<&str, Variant<'_>>::new();
    let fails = |result: Result<(), zbus::Error>, expected: ErrorName| {
        let error = result.expect_err("refused");
        assert_eq!(ErrorName::of(&error), Some(expected), "{error}");
        assert!(error.to_string().len() < 1000, "{}", error.to_string().len());
    };
    fails(proxy.get_worker(&long).await.map(drop), ErrorName::InvalidArgs);
    fails(proxy.get_worker("a\n\u{1b}b").await.map(drop), ErrorName::InvalidArgs);
    fails(proxy.start(&many, "", 0).await.map(drop), ErrorName::LimitsExceeded);
    fails(proxy.start(&[], "", 0).await.map(drop), ErrorName::InvalidArgs);
    fails(proxy.start(&["a"], &long, 0).await.map(drop), ErrorName::LimitsExceeded);
    fails(proxy.start(&["a"], "", 2).await.map(drop), ErrorName::InvalidArgs);
    fails(proxy.hold(&["a"], &long, "", 0, 0).await.map(drop), ErrorName::LimitsExceeded);
    fails(proxy.hold(&["a"], "", "", 0, 1).await.map(drop), ErrorName::InvalidArgs);
    fails(proxy.hold_lock(&many, "", "").await.map(drop), ErrorName::LimitsExceeded);
    fails(proxy.run("", &many, dict(), dict(), 0).await.map(drop), ErrorName::LimitsExceeded);
    fails(proxy.run("", &["a"], dict(), dict(), 1).await.map(drop), ErrorName::InvalidArgs);
    fails(proxy.run("a/b/c", &["a"], dict(), dict(), 0).await.map(drop), ErrorName::InvalidArgs);
    let list: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    fails(
        proxy.run("", &["a"], HashMap::from([("Environment", Variant::from(list))]), dict(), 0).await.map(drop),
        ErrorName::LimitsExceeded,
    );
    fails(proxy.adopt("a", dict(), u64::MAX).await.map(drop), ErrorName::InvalidArgs);
    fails(proxy.reload(2).await.map(drop), ErrorName::InvalidArgs);
    let filter = HashMap::from([("limit", Variant::from(-1))]);
    fails(proxy.list_incidents(filter).await.map(drop), ErrorName::InvalidArgs);
    assert!(scene.calls.try_recv().is_err());
}

#[tokio::test]
async fn the_log_level_can_be_read_and_set() {
    let mut scene = Scene::open().await;
    let properties = zbus::fdo::PropertiesProxy::builder(&scene.client).destination("org.watcherd1");
    let properties = properties.path(path::LOG_CONTROL).build().await.expect("a proxy");
    let interface = || "org.freedesktop.LogControl1".try_into().expect("a name");
    let text = |value: OwnedVariant| String::try_from(value).expect("a string");
    assert_eq!(text(properties.get(interface(), "LogLevel").await.expect("open")), "info");
    properties.set(interface(), "LogLevel", &Variant::from("debug")).await.expect("allowed");
    assert!(matches!(scene.calls.recv().await, Some(Call::LogLevel(LogLevel::Debug))));
    assert_eq!(text(properties.get(interface(), "LogLevel").await.expect("open")), "debug");
    assert_eq!(text(properties.get(interface(), "LogTarget").await.expect("open")), "journal");
    assert_eq!(text(properties.get(interface(), "SyslogIdentifier").await.expect("open")), "watcherd");
    assert!(properties.set(interface(), "LogLevel", &Variant::from("loud")).await.is_err());
    assert!(properties.set(interface(), "LogTarget", &Variant::from("console")).await.is_err());
    properties.set(interface(), "LogTarget", &Variant::from("journal")).await.expect("no change");
}

#[test]
fn verbs_are_called_as_jobs_are() {
    let verbs = [Verb::Start, Verb::Stop, Verb::Restart, Verb::Pause, Verb::Resume];
    for verb in verbs {
        let member = TABLE.iter().find(|row| matches!(row.2, Rule::Needs(_, shown) if shown == verb.as_str()));
        assert!(member.is_some(), "{verb:?}");
    }
}
