// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weighs the clues of one run: the heaviest one tells the cause, and of those that are about equal the first one.
//!
//! What is weighed: systemd's own facts as clues of their own, proofs, what a process's end stands for, and, where
//! nothing explains them, symptoms and hints; faint clues only where the run failed, as systemd or its own lines say, and
//! all others say nothing. A clue that another one explains does not count. Text of the worker counts less where lines
//! are missing, and less the farther it stands from the end.

use super::cause::Cause;
use super::classify::{Verdict, by_facts, classify, ending, facts};
use super::event::{Exit, RunEnd, UnitResult};
use super::evidence::{Clue, Clues, LAST_WORDS, Role, Source};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Clues within so many points of the heaviest one are about equal.
const BAND: u8 = 5;
/// Other causes within so many points are told as defensible.
const DEFENSIBLE: u8 = 15;
/// Lines before the end beyond which the worker's text is old news.
const OLD: u64 = 400;
const OLD_COSTS: u8 = 25;
const SUPPRESSED_COSTS: u8 = 10;
/// So many pieces of work at the end of a log say that it goes on, the last one within so many lines of the end.
const WORKS: usize = 2;
const AT_END: u64 = 2;
/// What it weighs that a log ends in work.
const WORKS_ON: u8 = 60;
/// Harmless lines up to this weight say no more than that they themselves are no reason to worry.
const NOISE: u8 = 23;
const BECAUSE_MAX: usize = 8;
const CASCADE_MAX: usize = 8;
const ALSO_MAX: usize = 3;
/// Xid lines of one device within this time belong to one fault.
const FAULT_SECONDS: u64 = 10;

/// Why a run ended.
pub fn judge(end: &RunEnd, clues: &Clues) -> Verdict {
    let is_faint = |clue: &Clue| clue.role == Role::Faint;
    let plain = weigh(clues).into_iter().filter(|one| !is_faint(one.clue));
    let verdict = judge_by(end, clues.lines, plain.collect());
    let failed = is_failure(end) || ends_badly(&clues.list);
    match failed && verdict.cause == Cause::Unknown && clues.list.iter().any(is_faint) {
        true => judge_by(end, clues.lines, weigh(clues)),
        false => verdict,
    }
}

fn judge_by(end: &RunEnd, lines: u64, mut weighed: Vec<Weighed<'_>>) -> Verdict {
    if is_failure(end) {
        weighed.iter_mut().filter(|one| one.clue.cause == Cause::NoCrash).for_each(|one| one.weight = 0);
    } else {
        work_goes_on(&mut weighed, lines);
    }
    lead_by_device(&mut weighed);
    drop_explained(&mut weighed);
    let facts_say = by_facts(end);
    let heaviest = weighed.iter().map(|clue| clue.weight).max().unwrap_or(0);
    if facts_say.weight > heaviest.saturating_add(BAND) && facts_say.weight > 0 {
        return by_facts_alone(end, facts_say.cause, facts_say.weight, &weighed);
    }
    // That nothing failed must outweigh every sign that something did.
    let leads = |one: &&Weighed| one.weight == heaviest || one.clue.cause != Cause::NoCrash;
    let close = |one: &&Weighed| one.weight > 0 && one.weight.saturating_add(BAND) >= heaviest;
    let winner = weighed.iter().filter(leads).filter(close);
    let Some(winner) = winner.min_by_key(|one| (one.clue.place, Reverse(one.weight))) else {
        return by_facts_alone(end, facts_say.cause, facts_say.weight, &weighed);
    };
    let mut also: Vec<Cause> = rivals(&weighed, winner);
    if facts_say.weight > 0 && facts_say.weight.saturating_add(DEFENSIBLE) >= winner.weight {
        also.push(facts_say.cause);
    }
    let contested = !also.is_empty();
    also.extend(winner.clue.also.iter());
    let cause = winner.clue.cause;
    let cited = cited(&weighed, cause, winner.clue);
    let mut cascade = consequences(&weighed, cause);
    cascade.retain(|line| !cited.contains(line));
    let mut confidence = winner.weight;
    if contested {
        confidence = confidence.saturating_sub(10);
    }
    if facts_say.cause == cause {
        confidence = confidence.saturating_add(10);
    }
    let mut because = facts(end);
    because.extend(cited);
    Verdict {
        cause,
        confidence: if cause == Cause::Unknown { 0 } else { confidence.clamp(1, 99) },
        because,
        also: tidy(also, cause),
        cascade,
        ending: ending(end),
    }
}

/// Whether the lines say that the program ended, and none after them that it works.
fn ends_badly(list: &[Clue]) -> bool {
    let works = |clue: &&Clue| match clue.role {
        Role::Work => true,
        Role::Harmless => clue.weight > NOISE,
        _ => false,
    };
    let last = |place: &dyn Fn(&&Clue) -> bool| list.iter().filter(place).map(|clue| clue.place).max();
    last(&|clue| clue.role == Role::End) > last(&works)
}

/// Whether systemd itself says that the run failed.
fn is_failure(end: &RunEnd) -> bool {
    !matches!((&end.result, end.exit), (UnitResult::Success, Exit::None | Exit::Exited(0)))
}

/// A clue with the weight that it has in this run.
struct Weighed<'a> {
    clue: &'a Clue,
    weight: u8,
}

fn weigh(clues: &Clues) -> Vec<Weighed<'_>> {
    let weight = |clue: &Clue| {
        if clue.role == Role::Context {
            return 0;
        }
        let mut weight = clue.weight;
        if clue.source == Source::Output {
            if clues.lines.saturating_sub(clue.place) > OLD {
                weight = weight.saturating_sub(OLD_COSTS);
            }
            if clues.suppressed > 0 {
                weight = weight.saturating_sub(SUPPRESSED_COSTS);
            }
        }
        // It weighs little enough, wherever it stands.
        if clue.role == Role::Faint { weight.max(1) } else { weight }
    };
    clues.list.iter().map(|clue| Weighed { clue, weight: weight(clue) }).collect()
}

/// Where nothing says that the run failed and the log ends in work, the worker has got over what it told before.
fn work_goes_on(weighed: &mut [Weighed<'_>], lines: u64) {
    let is_trouble = |clue: &Clue| {
        clue.source == Source::Output && !matches!(clue.role, Role::Harmless | Role::Work | Role::Context)
    };
    let trouble = weighed.iter().filter(|one| is_trouble(one.clue)).map(|one| one.clue.place).max();
    let Some(trouble) = trouble else { return };
    let works = |clue: &Clue| clue.role == Role::Work && clue.place > trouble;
    let after: Vec<u64> = weighed.iter().filter(|one| works(one.clue)).map(|one| one.clue.place).collect();
    if after.len() < WORKS || after.iter().max().is_none_or(|last| last + AT_END < lines) {
        return;
    }
    for one in weighed {
        if is_trouble(one.clue) {
            one.weight = 0;
        } else if works(one.clue) {
            one.weight = WORKS_ON;
        }
    }
}

/// Of the error codes of one device that belong together only the one that causes the others counts.
fn lead_by_device(weighed: &mut [Weighed<'_>]) {
    let rank = |clue: &Clue| clue.value("rank").parse::<u8>().ok();
    let mut leaders: BTreeMap<(&str, u64), u8> = BTreeMap::new();
    let mut groups: Vec<Option<(&str, u64)>> = Vec::new();
    let mut current: BTreeMap<&str, (u64, super::time::Wall)> = BTreeMap::new();
    for one in weighed.iter() {
        let clue = one.clue;
        let Some(rank) = rank(clue) else {
            groups.push(None);
            continue;
        };
        let device = clue.value("device");
        let (group, last) = current.entry(device).or_insert((0, clue.at));
        if clue.at.since(*last).as_secs() > FAULT_SECONDS {
            *group += 1;
        }
        *last = clue.at;
        let key = (device, *group);
        let leader = leaders.entry(key).or_insert(rank);
        *leader = (*leader).min(rank);
        groups.push(Some(key));
    }
    for (one, group) in weighed.iter_mut().zip(groups) {
        let follows = group.and_then(|key| leaders.get(&key)).is_some_and(|leader| rank(one.clue) > Some(*leader));
        if follows {
            one.weight = 0;
        }
    }
}

/// Of two that explain each other the heavier one counts.
fn drop_explained(weighed: &mut [Weighed<'_>]) {
    let explains = |one: &Weighed, other: &Weighed| one.clue.explains.contains(&other.clue.cause);
    let explained = |one: &Weighed| {
        weighed.iter().filter(|by| by.weight > 0 && explains(by, one)).any(|by| {
            let outweighed = (one.weight, Reverse(one.clue.place)) > (by.weight, Reverse(by.clue.place));
            !(outweighed && explains(one, by))
        })
    };
    let dropped: Vec<bool> = weighed.iter().map(explained).collect();
    for (one, _) in weighed.iter_mut().zip(dropped).filter(|(_, dropped)| *dropped) {
        one.weight = 0;
    }
}

fn rivals(weighed: &[Weighed<'_>], winner: &Weighed<'_>) -> Vec<Cause> {
    let mut close: Vec<&Weighed> = weighed
        .iter()
        .filter(|one| one.clue.cause != winner.clue.cause && one.weight > 0)
        .filter(|one| one.weight.saturating_add(DEFENSIBLE) >= winner.weight)
        .collect();
    close.sort_by_key(|one| (Reverse(one.weight), one.clue.place));
    close.into_iter().map(|one| one.clue.cause).collect()
}

fn tidy(mut also: Vec<Cause>, cause: Cause) -> Vec<Cause> {
    let mut seen = vec![cause];
    also.retain(|other| {
        let new = !seen.contains(other) && *other != Cause::Unknown;
        seen.push(*other);
        new
    });
    also.truncate(ALSO_MAX);
    also
}

/// The lines that speak for the cause, in the order of time, the decisive one always among them.
fn cited(weighed: &[Weighed<'_>], cause: Cause, winner: &Clue) -> Vec<String> {
    let mut chosen: Vec<&Clue> =
        weighed.iter().map(|one| one.clue).filter(|clue| clue.cause == cause && clue.role != Role::Context).collect();
    if chosen.len() > BECAUSE_MAX {
        chosen.truncate(BECAUSE_MAX);
        if !chosen.contains(&winner) {
            chosen.pop();
            chosen.push(winner);
        }
    }
    chosen.sort_by_key(|clue| clue.place);
    told(chosen)
}

fn consequences(weighed: &[Weighed<'_>], cause: Cause) -> Vec<String> {
    let roles = [Role::Proof, Role::Symptom, Role::End];
    let others = weighed.iter().map(|one| one.clue).filter(|clue| clue.cause != cause && roles.contains(&clue.role));
    let mut lines = told(others.collect());
    lines.truncate(CASCADE_MAX);
    lines
}

fn told(clues: Vec<&Clue>) -> Vec<String> {
    let mut texts: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for clue in clues {
        let text = clue.text.trim();
        if !texts.contains(&text) {
            texts.push(text);
            lines.push(format!("{}: {text}", clue.source.as_str()));
        }
    }
    lines
}

fn by_facts_alone(end: &RunEnd, cause: Cause, weight: u8, weighed: &[Weighed<'_>]) -> Verdict {
    let also = weighed.iter().filter(|one| one.weight.saturating_add(DEFENSIBLE) >= weight && one.weight > 0);
    let also: Vec<Cause> = also.map(|one| one.clue.cause).collect();
    // Where nothing contradicts, the facts are as sure as they are by themselves.
    let alone = classify(end);
    let sure = if also.is_empty() && alone.cause == cause { weight.max(alone.confidence) } else { weight };
    let mut because = facts(end);
    if cause == Cause::Unknown {
        let last = weighed.iter().map(|one| one.clue).filter(|clue| &*clue.rule == LAST_WORDS);
        because.extend(told(last.collect()));
    } else {
        let same = weighed.iter().map(|one| one.clue).filter(|clue| clue.cause == cause && clue.role != Role::Context);
        because.extend(told(same.take(BECAUSE_MAX).collect()));
    }
    Verdict {
        cause,
        confidence: if cause == Cause::Unknown { 0 } else { sure.clamp(1, 99) },
        because,
        also: tidy(also, cause),
        cascade: consequences(weighed, cause),
        ending: ending(end),
    }
}

#[cfg(test)]
mod tests;
