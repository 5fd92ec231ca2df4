// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use notice::Ways;

fn engine() -> Engine {
    let mut policies = Policies::default();
    policies.settings.notify.ways = Ways { desktop: true, ..Ways::default() };
    let now = Now { mono: Mono(1_000_000), wall: Wall(1_700_000_000_000_000) };
    Engine::new(policies, None, 1, now).0
}

fn notice(engine: &Engine, worker: &str, incident: u32) -> Notice {
    Notice {
        id: NoticeId(engine.outbox.next),
        stage: NoticeStage::Opened,
        is_final: false,
        incident: Some(IncidentId(incident)),
        worker: WorkerName::parse(worker).ok(),
        cause: cause::Cause::DiskFull,
        confidence: 90,
        result: IncidentResult::None,
        opened: engine.now.wall,
        retry_at: Wall::NEVER,
        text: String::new(),
        next: String::new(),
        lines: Vec::new(),
        repeats: 0,
    }
}

fn lost(actions: &[Action]) -> usize {
    let lost = |action: &&Action| matches!(action, Action::Record(entry) if entry.kind == EntryKind::NoticeLost);
    actions.iter().filter(lost).count()
}

#[test]
fn the_oldest_of_too_many_notices_that_wait_is_lost_and_said_to_be() {
    let mut engine = engine();
    for n in 1..=250 {
        let notice = notice(&engine, &format!("w{n}"), n);
        engine.put(notice, NoticeState::Waiting);
    }
    let waiting: Vec<_> = engine.outbox.rows.values().filter(|row| row.waits()).map(|row| row.notice.id.0).collect();
    assert_eq!((waiting.len(), waiting[0]), (WAITING_MAX, 51));
    assert_eq!(lost(&engine.step.actions), 50);
}

#[test]
fn what_is_over_is_kept_up_to_a_number_and_for_a_day() {
    let mut engine = engine();
    for n in 1..=1_200 {
        let notice = notice(&engine, "w", n);
        engine.put(notice, NoticeState::Repeated);
    }
    assert_eq!(engine.outbox.rows.len(), KEPT_MAX);
    engine.now.mono = engine.now.mono + KEPT_FOR * 2;
    let notice = notice(&engine, "w", 2_000);
    engine.put(notice, NoticeState::Waiting);
    assert_eq!(engine.outbox.rows.len(), 1);
}

#[test]
fn few_notices_are_under_way_at_once_and_each_end_lets_the_next_one_go() {
    let mut engine = engine();
    for n in 1..=6 {
        let notice = notice(&engine, &format!("w{n}"), n);
        engine.put(notice, NoticeState::Waiting);
    }
    let sent = |step: &Step| -> Vec<ActionId> {
        step.actions
            .iter()
            .filter_map(|action| if let Action::Notify(id, _) = action { Some(*id) } else { None })
            .collect()
    };
    let first = sent(&engine.handle(engine.now, Event::Wake));
    assert_eq!(first.len(), FLYING_MAX);
    assert_eq!(engine.next_wakeup(), None, "an end wakes it");
    assert_eq!(sent(&engine.handle(engine.now, Event::Done(first[0], Outcome::Ok))).len(), 1);
}

#[test]
fn switching_notices_off_forgets_those_that_wait() {
    let mut engine = engine();
    let notice = notice(&engine, "w", 1);
    engine.put(notice, NoticeState::Waiting);
    let step = engine.handle(engine.now, Event::Policies(Policies::default()));
    assert!(step.actions.iter().all(|action| !matches!(action, Action::Notify(..))));
    assert_eq!(engine.notices(), []);
}
