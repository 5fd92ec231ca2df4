// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::engine::until::Resource;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
const QUICK: Pace =
    Pace { first: Duration::from_millis(10), longest: Duration::from_millis(40), settle: Duration::from_millis(20) };

fn looks(reach: Reach) -> Looks {
    let gpus = Gpus::start("libnvidia-is-not-here.so.1".into()).expect("a thread");
    Looks { aside: Aside::new(), reach, gpus, pace: QUICK }
}

/// The answers one after the other, the last one for ever; and how often it was asked.
fn answers(answers: &[Result<bool, &str>]) -> (Reach, Arc<Mutex<usize>>) {
    let answers: VecDeque<_> = answers.iter().map(|answer| answer.map_err(str::to_owned)).collect();
    let (answers, asked) = (Arc::new(Mutex::new(answers)), Arc::new(Mutex::new(0)));
    let count = asked.clone();
    let reach: Reach = Arc::new(move |_| {
        *count.lock().expect("nobody panicked") += 1;
        let mut answers = answers.lock().expect("nobody panicked");
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.unwrap_or(Ok(false)) })
    });
    (reach, asked)
}

fn conditions() -> Conditions {
    Conditions::new(looks(answers(&[Ok(false)]).0)).expect("a thread")
}

fn db() -> Until {
    Until::Reachable("tcp://db:5432".into())
}

async fn told(conditions: &mut Conditions) -> (Until, Result<bool, String>) {
    match timeout(PATIENCE, conditions.next()).await.expect("news in time") {
        Event::Until(until, holds) => (until, holds),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_look_and_changes_are_told_and_nothing_else() {
    let (reach, asked) = answers(&[Ok(false), Ok(false), Err("the name cannot be resolved"), Ok(false), Ok(true)]);
    let mut conditions = Conditions::new(looks(reach)).expect("a thread");
    conditions.wait_for(&BTreeSet::from([db()]), clock::now().wall);
    let why = "the name cannot be resolved".to_owned();
    for expected in [Ok(false), Err(why), Ok(false), Ok(true)] {
        assert_eq!(told(&mut conditions).await, (db(), expected));
    }
    // What is waited for still is not begun anew.
    conditions.wait_for(&BTreeSet::from([db(), Until::At(0, 0)]), clock::now().wall);
    assert_eq!(told(&mut conditions).await, (Until::At(0, 0), Ok(false)));
    let before = *asked.lock().expect("nobody panicked");
    while *asked.lock().expect("nobody panicked") < before + 3 {
        tokio::task::yield_now().await;
    }
    assert!(conditions.told.try_recv().is_err(), "the same is told again");
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_told() {
    let mut conditions = Conditions::new(looks(answers(&[Ok(true)]).0)).expect("a thread");
    conditions.wait_for(&BTreeSet::from([db()]), clock::now().wall);
    while conditions.told.is_empty() {
        tokio::task::yield_now().await;
    }
    conditions.wait_for(&BTreeSet::new(), clock::now().wall);
    assert!(conditions.tasks.is_empty());
    // The old news is in the queue, in front of that of the new round.
    conditions.wait_for(&BTreeSet::from([db()]), clock::now().wall);
    let (round, ..) = conditions.told.recv().await.expect("it was told");
    assert_eq!(round, 1);
    assert_eq!(told(&mut conditions).await, (db(), Ok(true)));
}

#[tokio::test]
async fn free_space_must_be_there_twice_before_it_is_true() {
    let directory = tempfile::tempdir().expect("a directory");
    let path: Arc<str> = directory.path().to_str().expect("UTF-8").into();
    let missing: Arc<str> = format!("{path}/missing").into();
    let (little, much, unknown) =
        (Until::Free(path.clone(), 1), Until::Free(path, u64::MAX), Until::Free(missing.clone(), 1));
    let mut conditions = conditions();
    let begun = Instant::now();
    conditions.wait_for(&BTreeSet::from([little.clone(), much.clone(), unknown.clone()]), clock::now().wall);
    let mut news = BTreeMap::new();
    for _ in 0..3 {
        let (until, holds) = told(&mut conditions).await;
        if until == little {
            assert!(begun.elapsed() >= QUICK.settle, "told at the first look");
        }
        news.insert(until, holds);
    }
    assert_eq!(news[&little], Ok(true));
    assert_eq!(news[&much], Ok(false));
    assert_eq!(news[&unknown], Err(format!("{missing}: no such file or directory")));
}

#[tokio::test]
async fn pressure_is_below_the_limit_or_unknown() {
    let mut conditions = conditions();
    let until = Until::Pressure(Resource::Memory, 100);
    conditions.wait_for(&BTreeSet::from([until.clone()]), clock::now().wall);
    let (told, holds) = told(&mut conditions).await;
    assert_eq!(told, until);
    match condition::pressure(Resource::Memory) {
        Ok(_) => assert_eq!(holds, Ok(true)),
        Err(why) => assert_eq!(holds, Err(why)),
    }
}

#[tokio::test]
async fn a_name_that_comes_and_goes_is_told_by_the_kernel() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a/b/ready");
    let until = Until::Exists(path.to_str().expect("UTF-8").into());
    let mut looks = looks(answers(&[Ok(false)]).0);
    // So that looking now and then does not help.
    looks.pace.longest = PATIENCE * 10;
    let mut conditions = Conditions::new(looks).expect("a thread");
    conditions.wait_for(&BTreeSet::from([until.clone()]), clock::now().wall);
    assert_eq!(told(&mut conditions).await, (until.clone(), Ok(false)));
    let parent = path.parent().expect("it has one");
    for _ in 0..2 {
        std::fs::create_dir_all(parent).expect("directories");
        std::fs::write(&path, "").expect("a file");
        assert_eq!(told(&mut conditions).await, (until.clone(), Ok(true)));
        std::fs::remove_dir_all(directory.path().join("a")).expect("removed");
        assert_eq!(told(&mut conditions).await, (until.clone(), Ok(false)));
    }
}

#[tokio::test]
async fn a_file_system_that_hangs_is_unknown_and_delays_nothing_else() {
    let aside = Aside::new();
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let hang = aside.ask("/tmp", Duration::from_millis(1), move || gate.recv().is_ok());
    assert!(hang.await.is_err());
    let looks = Looks { aside, ..looks(answers(&[Ok(true)]).0) };
    let mut conditions = Conditions::new(looks).expect("a thread");
    let until = Until::Free("/tmp".into(), 1);
    conditions.wait_for(&BTreeSet::from([until.clone(), db()]), clock::now().wall);
    assert_eq!(told(&mut conditions).await, (db(), Ok(true)));
    assert_eq!(told(&mut conditions).await, (until.clone(), Err("/tmp: no answer within 5s".to_owned())));
    release.send(()).expect("the thread waits");
    assert_eq!(told(&mut conditions).await, (until, Ok(true)));
}

#[test]
fn the_next_time_of_day_is_that_of_the_zone() {
    let zoned = |text: &str| text.parse::<Zoned>().expect(text);
    for (now, hour, minute, expected) in [
        ("2026-11-25T13:59:59[Europe/Berlin]", 14, 0, "2026-11-25T14:00:00[Europe/Berlin]"),
        ("2026-11-25T14:00:00[Europe/Berlin]", 14, 0, "2026-11-26T14:00:00[Europe/Berlin]"),
        ("2026-12-31T23:59:59[UTC]", 0, 5, "2027-01-01T00:05:00[UTC]"),
        // Clocks are set forward from 2:00 to 3:00, and back from 3:00 to 2:00.
        ("2026-03-29T01:00:00[Europe/Berlin]", 2, 30, "2026-03-29T03:30:00[Europe/Berlin]"),
        ("2026-10-25T01:00:00[Europe/Berlin]", 2, 30, "2026-10-25T02:30:00+02:00[Europe/Berlin]"),
    ] {
        let next = next_time(&zoned(now), hour, minute).expect("there is one");
        assert_eq!(next, zoned(expected).timestamp(), "{now}");
    }
}

#[tokio::test]
async fn a_time_that_has_come_is_told_once() {
    let (tell, mut told) = mpsc::channel(4);
    let until = Until::At(14, 0);
    let teller = Teller { round: 1, until: until.clone(), tell, last: None };
    let task = tokio::spawn(at(clock::now().wall + Duration::from_millis(300), teller));
    assert_eq!(told.recv().await, Some((1, until.clone(), Ok(false))));
    assert_eq!(timeout(PATIENCE, told.recv()).await.expect("in time"), Some((1, until, Ok(true))));
    assert_eq!(told.recv().await, None);
    task.await.expect("it ends");
}

#[tokio::test]
async fn without_devices_their_memory_is_unknown() {
    let mut conditions = conditions();
    let until = Until::GpuFree(1);
    conditions.wait_for(&BTreeSet::from([until.clone()]), clock::now().wall);
    assert_eq!(told(&mut conditions).await, (until, Err("there is no GPU that NVML knows of".to_owned())));
}

#[tokio::test]
async fn a_time_of_day_that_passed_while_nobody_watched_has_come() {
    let mut conditions = conditions();
    let minute_ago = Zoned::now().checked_sub(1.minute()).expect("a time");
    let until = Until::At(minute_ago.hour().unsigned_abs(), minute_ago.minute().unsigned_abs());
    let since = clock::now().wall.0 - 120_000_000;
    conditions.wait_for(&BTreeSet::from([until.clone()]), Wall(since));
    assert_eq!(told(&mut conditions).await, (until, Ok(true)));
}
