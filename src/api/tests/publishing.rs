// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes over the wire when something changes, and in which order.

use super::super::publish::Extras;
use super::super::{Reply, path};
use super::*;
use crate::engine::event::{Answer, Refusal};
use crate::engine::view::{SourceView, WarningView};
use futures_util::StreamExt;
use std::collections::{BTreeSet, HashMap};
use zbus::message::{Message, Type};
use zbus::{MessageStream, OwnedVariant};

/// What the client hears.
struct Ear {
    stream: MessageStream,
}

impl Ear {
    /// Hears what is published from now on.
    async fn at(scene: &Scene) -> Ear {
        let mut ear = Ear { stream: MessageStream::from(&scene.client) };
        ear.heard(scene).await;
        ear
    }

    /// Signals up to a marker that the daemon's side sends now.
    async fn heard(&mut self, scene: &Scene) -> Vec<Message> {
        let marker = Message::signal("/marker", "test.Marker", "Here").build(&()).expect("valid");
        scene._server.send(&marker).await.expect("the client reads");
        let mut heard = Vec::new();
        let listen = async {
            while let Some(message) = self.stream.next().await {
                let message = message.expect("the connection works");
                if message.header().member().is_some_and(|member| member == "Here") {
                    return;
                }
                if message.message_type() == Type::Signal {
                    heard.push(message);
                }
            }
        };
        tokio::time::timeout(PATIENCE, listen).await.expect("in time");
        heard
    }

    async fn lines(&mut self, scene: &Scene) -> Vec<String> {
        self.heard(scene).await.iter().map(line).collect()
    }
}

fn line(message: &Message) -> String {
    let header = message.header();
    let path = header.path().expect("a path").to_string();
    let path = path.strip_prefix("/org/watcherd1").unwrap_or(&path);
    let member = header.member().expect("a member").to_string();
    match member.as_str() {
        "PropertiesChanged" => {
            let (_, changed, invalidated) = changes(message);
            format!("{path} {changed:?} {invalidated:?}")
        }
        "InterfacesAdded" | "InterfacesRemoved" => {
            let body = message.body();
            let path: zbus::OwnedObjectPath = match member.as_str() {
                "InterfacesAdded" => {
                    body.deserialize::<(zbus::OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>)>()
                        .expect("a{sa{sv}}")
                        .0
                }
                _ => body.deserialize::<(zbus::OwnedObjectPath, Vec<String>)>().expect("as").0,
            };
            format!("{member} {}", path.as_str().trim_start_matches("/org/watcherd1"))
        }
        _ => member,
    }
}

fn changes(message: &Message) -> (String, BTreeSet<String>, Vec<String>) {
    let body = message.body();
    let (interface, changed, invalidated): (String, HashMap<String, OwnedVariant>, Vec<String>) =
        body.deserialize().expect("a PropertiesChanged");
    (interface, changed.into_keys().collect(), invalidated)
}

#[tokio::test]
async fn objects_come_before_the_signals_that_speak_of_them() {
    let mut scene = Scene::open().await;
    let mut ear = Ear::at(&scene).await;
    scene.publish(everything()).await;
    assert_eq!(
        ear.lines(&scene).await,
        [
            "InterfacesAdded /worker/train_401_2eservice",
            "InterfacesAdded /incident/1",
            "InterfacesAdded /job/1",
            " {\"NIncidentsOpen\", \"NWorkers\"} []",
            "IncidentOpened",
            "JobNew",
        ]
    );
}

#[tokio::test]
async fn only_what_changed_is_sent_and_only_once() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let mut ear = Ear::at(&scene).await;

    scene.publish(everything()).await;
    assert_eq!(ear.lines(&scene).await, Vec::<String>::new());

    let mut view = worker("train@1");
    view.phase = Phase::Failed;
    view.main_pid = 0;
    view.downtime = Duration::from_secs(1);
    view.policy = [].into();
    scene.publish(vec![shows_worker(view.clone())]).await;
    assert_eq!(ear.lines(&scene).await, ["/worker/train_401_2eservice {\"MainPID\", \"Phase\"} [\"Policy\"]"]);

    // Moving numbers alone are not worth a signal.
    view.downtime = Duration::from_secs(2);
    scene.publish(vec![shows_worker(view)]).await;
    assert_eq!(ear.lines(&scene).await, Vec::<String>::new());

    let extras = Extras { degraded: vec!["a.toml: line 3".into()], configured: Wall(5) };
    let publication = Publication { extras: Some(extras), ..Publication::default() };
    scene.publisher.publish(publication).await.expect("the client reads");
    assert_eq!(ear.lines(&scene).await, [" {\"ConfigurationTimestamp\", \"Degraded\"} []"]);
}

/// Which properties differ is told by hand for workers, since they change all the time; nothing may be forgotten there.
#[tokio::test]
async fn every_property_of_a_worker_that_differs_is_told() {
    type Change = fn(&mut WorkerView);
    let changes: [Change; 27] = [
        |view| view.phase = Phase::Failed,
        |view| view.reason = "so".into(),
        |view| view.since = Wall(7),
        |view| view.origin = "run",
        |view| view.cause = Some(Cause::Segfault),
        |view| view.incident = Some(IncidentId(7)),
        |view| view.main_pid = 7,
        |view| view.invocation = None,
        |view| view.progress = None,
        |view| view.progress = Some(ProgressView { value: 121, ..view.progress.clone().unwrap_or_default() }),
        |view| view.progress = Some(ProgressView { rate: 9.0, ..view.progress.clone().unwrap_or_default() }),
        |view| view.attempts = 7,
        |view| view.budget_left = 7,
        |view| view.next_action = "restart",
        |view| view.next_action_at = Wall(7),
        |view| view.next_action_at_mono = Mono(7),
        |view| view.held = true,
        |view| view.runs = 7,
        |view| view.downtime = Duration::from_secs(7),
        |view| view.intended_up = false,
        |view| view.stall_at = Wall(7),
        |view| view.stall_at_mono = Mono(7),
        |view| {
            let source = SourceView { key: "file", readable: false, text: "gone".into(), at: Wall(7) };
            view.sources.push(source);
        },
        |view| view.values.clear(),
        |view| {
            let warning =
                WarningView { cause: Cause::GpuOom, count: 7, first: Wall(7), last: Wall(7), text: "so".into() };
            view.warnings.push(warning);
        },
        |view| view.policy = [].into(),
        |_| {},
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut told = Vec::new();
        for all in [false, true] {
            let mut scene = Scene::open().await;
            scene.publish(vec![shows_worker(worker("w"))]).await;
            scene.publisher.compares_all = all;
            let mut ear = Ear::at(&scene).await;
            let mut view = worker("w");
            change(&mut view);
            scene.publish(vec![shows_worker(view)]).await;
            told.push(ear.lines(&scene).await);
        }
        assert_eq!(told[0], told[1], "change {at}");
    }
}

#[tokio::test]
async fn an_incident_is_opened_updated_and_closed_once() {
    let mut scene = Scene::open().await;
    let mut ear = Ear::at(&scene).await;
    let mut view = incident(5, "train@1");
    scene.publish(vec![shows_incident(view.clone())]).await;
    view.state = IncidentState::Recovering;
    scene.publish(vec![shows_incident(view.clone())]).await;
    view.state = IncidentState::Closed;
    view.result = IncidentResult::Recovered;
    scene.publish(vec![shows_incident(view.clone())]).await;
    view.text = "a late remark".into();
    scene.publish(vec![shows_incident(view)]).await;
    scene.publish(vec![(ObjectId::Incident(IncidentId(5)), None)]).await;
    assert_eq!(
        ear.lines(&scene).await,
        [
            "InterfacesAdded /incident/5",
            "IncidentOpened",
            "/incident/5 {\"State\"} []",
            "IncidentUpdated",
            "/incident/5 {\"Result\", \"State\"} []",
            "IncidentClosed",
            "/incident/5 {\"Text\"} []",
            "InterfacesRemoved /incident/5",
        ]
    );
}

#[tokio::test]
async fn a_finished_job_is_announced_and_goes_for_good() {
    let mut scene = Scene::open().await;
    let mut ear = Ear::at(&scene).await;
    let mut view = job(2, "train@1");
    scene.publish(vec![shows_job(view.clone())]).await;
    (view.state, view.result) = ("finished", "done");
    scene.publish(vec![shows_job(view.clone())]).await;
    scene.publish(vec![shows_job(view.clone())]).await;
    scene.publish(vec![(ObjectId::Job(JobId(2)), None)]).await;
    view.id = JobId(3);
    scene.publish(vec![shows_job(view)]).await;
    let heard = ear.heard(&scene).await;
    assert_eq!(
        heard.iter().map(line).collect::<Vec<_>>(),
        [
            "InterfacesAdded /job/2",
            "JobNew",
            "/job/2 {\"Result\", \"State\"} []",
            "JobRemoved",
            "InterfacesRemoved /job/2",
            "InterfacesAdded /job/3",
            "JobNew",
            "JobRemoved",
            "InterfacesRemoved /job/3",
        ]
    );
    let removed: (u32, zbus::OwnedObjectPath, String, String) = heard[3].body().deserialize().expect("uoss");
    assert_eq!(removed, (2, path::job(JobId(2)), "train@1.service".into(), "done".into()));
}

#[tokio::test]
async fn a_forgotten_worker_has_no_object() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let mut ear = Ear::at(&scene).await;
    scene.publish(vec![(ObjectId::Worker(name("train@1")), None), (ObjectId::Worker(name("never-seen")), None)]).await;
    assert_eq!(ear.lines(&scene).await, ["InterfacesRemoved /worker/train_401_2eservice"]);
}

#[tokio::test]
async fn the_answer_comes_after_what_it_speaks_of() {
    let mut scene = Scene::open().await;
    let (reply, answer) = Reply::channel();
    let publication = Publication {
        changes: vec![shows_job(job(7, "train@1"))],
        extras: None,
        replies: vec![(reply, Ok(Answer::Jobs(vec![JobId(7)])))],
    };
    let desk_sees = |scene: &Scene| scene.publisher.shows_job(JobId(7));
    assert!(!desk_sees(&scene));
    scene.publisher.publish(publication).await.expect("the client reads");
    assert!(desk_sees(&scene));
    assert_eq!(answer.await.expect("answered"), Ok(Answer::Jobs(vec![JobId(7)])));
}

#[tokio::test]
async fn a_caller_hears_the_signals_before_its_answer() {
    let mut scene = Scene::open().await;
    scene.publish(everything()).await;
    let mut stream = Ear::at(&scene).await.stream;
    let call = Message::method_call("/org/watcherd1", "Start");
    let call = call.interface("org.watcherd1.Manager").build(&(vec!["train@1"], "", 0u64)).expect("valid");
    scene.client.send(&call).await.expect("sent");
    let asked = tokio::time::timeout(PATIENCE, scene.calls.recv()).await.expect("in time");
    let Some(Call::Ask { answer, .. }) = asked else { panic!("no call") };
    let publication = Publication {
        changes: vec![shows_job(job(8, "train@1"))],
        extras: None,
        replies: vec![(answer, Ok(Answer::Jobs(vec![JobId(8)])))],
    };
    scene.publisher.publish(publication).await.expect("the client reads");
    let mut order = Vec::new();
    let listen = async {
        while order.last().is_none_or(|last| last != "answer") {
            let message = stream.next().await.expect("open").expect("works");
            match message.message_type() {
                Type::Signal => order.push(line(&message)),
                Type::MethodReturn => order.push("answer".to_owned()),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, listen).await.expect("in time");
    assert_eq!(order, ["InterfacesAdded /job/8", "JobNew", "answer"]);
}

#[tokio::test]
async fn callers_are_answered_even_if_the_bus_is_gone() {
    let mut scene = Scene::open().await;
    scene._server.clone().close().await.expect("closed");
    let (reply, answer) = Reply::channel();
    let publication =
        Publication { changes: everything(), extras: None, replies: vec![(reply, Err(Refusal::Stopping))] };
    assert!(scene.publisher.publish(publication).await.is_err());
    assert!(answer.await.expect("answered").is_err());
}
