// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the lines of one run in the order of time, and keeps what the rules recognise.
//!
//! 1. Make one for each run.
//! 2. Give it every line by [`Reader::line`], or blocks of whole lines of a plain log by [`Reader::block`].
//! 3. Ask for the clues with [`Reader::clues`] at any time, or [`Reader::finish`] at the end.
//!
//! What is kept has a bound: of each rule the first and the last few lines, each cut, and how many there were.

use super::line::{Line, split, without_escapes};
use super::long::{LONG, before_lines, next_line, telling};
use super::rule::{LINK, Rule, TRACEBACK, Table, usual_weight};
use super::{Rules, matcher};
use crate::engine::cause::Cause;
use crate::engine::evidence::{CLUES_MAX, Clue, Clues, LAST_WORDS, Role, Source, TEXT_MAX};
use crate::engine::time::Wall;
use crate::engine::xid::xid;
use memchr::memchr_iter;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Of a longer line only so many bytes are looked at.
pub const LINE_MAX: usize = 16 << 10;
/// How many lines are kept of each rule from the beginning, and as many from the end.
const KEPT: usize = 6;
/// The longest captured value, in bytes.
const VALUE_MAX: usize = 200;
/// The most rules of which lines are kept.
const RULES_KEPT: usize = 400;
/// Lines after which a traceback no longer belongs to the one before it.
const CHAIN_LINES: u64 = 300;
/// What a proof later in a chain of exceptions still weighs.
const FOLLOWER: u8 = 35;
/// From this weight on an exception explains those that follow it in its chain.
const EXPLAINS: u8 = 60;
/// What a later line says is over still explains a failure that nothing else does; it weighs so many times less.
const RESOLVED_LEAVES: u8 = 4;

/// So many lines at the end of a block of a long log are looked at whatever they tell.
const END_LINES: usize = 200;
/// So many lines are told of a run that nothing explains, each cut to so many bytes.
const LAST_MAX: usize = 3;
const LAST_WORD_MAX: usize = TEXT_MAX / 3;

pub struct Reader {
    rules: Arc<Rules>,
    kept: BTreeMap<usize, Kept>,
    /// The number of the current line, from 1.
    place: u64,
    chain: Chain,
    candidates: Vec<usize>,
    scratch: Vec<u8>,
    /// What was written last.
    last: VecDeque<LastWord>,
}

/// A line that no rule needs to recognise.
#[derive(Default)]
struct LastWord {
    place: u64,
    at: Wall,
    pid: u32,
    text: Vec<u8>,
}

/// Where in a chain of Python exceptions a line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chain {
    /// 0 before the first traceback.
    number: u64,
    position: u32,
    linked: bool,
    begun: u64,
}

#[derive(Default)]
struct Kept {
    first: Vec<Found>,
    last: VecDeque<Found>,
    count: u64,
}

struct Found {
    place: u64,
    at: Wall,
    pid: u32,
    source: Option<Source>,
    /// The beginning of the line, one byte more than is told.
    text: Vec<u8>,
    values: Vec<(Arc<str>, String)>,
    chain: Chain,
}

/// What is known about a line besides its bytes.
#[derive(Clone, Copy)]
struct Origin {
    source: Option<Source>,
    at: Wall,
    pid: u32,
}

impl Reader {
    pub fn new(rules: Arc<Rules>) -> Reader {
        Reader {
            rules,
            kept: BTreeMap::new(),
            place: 0,
            chain: Chain::default(),
            candidates: Vec::new(),
            scratch: Vec::new(),
            last: VecDeque::with_capacity(LAST_MAX),
        }
    }

    /// Reads one line. Without a source its front is looked at, and if that tells none every rule may match it.
    pub fn line(&mut self, source: Option<Source>, at: Wall, pid: u32, line: &[u8]) {
        self.place += 1;
        self.look(Origin { source, at, pid }, line);
    }

    /// Reads one line of the kernel's, as dmesg or journalctl print it.
    pub fn kernel_line(&mut self, line: &[u8]) {
        self.line(Some(Source::Kernel), Wall::NEVER, 0, split(line).text);
    }

    /// Reads the lines of a block of a plain log; the block must end at the end of a line.
    ///
    /// Of a long block lines of every day count only near a line that tells something, at the beginning and at the end.
    pub fn block(&mut self, block: &[u8]) {
        if block.len() < LONG {
            self.all_lines(block);
            return;
        }
        let rules = self.rules.clone();
        let mut scratch = Vec::new();
        let block = without_escapes(block, &mut scratch).unwrap_or(block);
        let end = before_lines(block, block.len(), rules.near.max(END_LINES));
        let mut told = telling(&rules, block).into_iter().peekable();
        // So many lines are looked at in any case.
        let mut near = rules.near;
        let mut at = 0;
        while at < block.len() {
            if near > 0 || at >= end {
                let next = next_line(block, at);
                near = if self.plain_line(&block[at..next]) { rules.near } else { near.saturating_sub(1) };
                at = next;
            } else {
                while told.next_if(|line| *line < at).is_some() {}
                let begin = told.peek().map_or(end, |line| before_lines(block, *line, rules.near).min(end)).max(at);
                self.place += lines_in(&block[at..begin]);
                (at, near) = (begin, rules.near + 1);
            }
        }
    }

    fn all_lines(&mut self, text: &[u8]) {
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            self.plain_line(line);
        }
    }

    /// Reads a line of a plain log with its end, and says whether it tells something.
    fn plain_line(&mut self, line: &[u8]) -> bool {
        self.place += 1;
        let origin = Origin { source: None, at: Wall::NEVER, pid: 0 };
        self.look(origin, line.strip_suffix(b"\n").unwrap_or(line))
    }

    /// Keeps a line as one of the last ones.
    fn note_last(&mut self, origin: Origin, line: &[u8]) {
        let mut word = match self.last.len() {
            LAST_MAX => self.last.pop_front().unwrap_or_default(),
            _ => LastWord::default(),
        };
        (word.place, word.at, word.pid) = (self.place, origin.at, origin.pid);
        word.text.clear();
        word.text.extend_from_slice(&line[..line.len().min(LAST_WORD_MAX + 1)]);
        self.last.push_back(word);
    }

    /// How many lines were read.
    pub fn lines(&self) -> u64 {
        self.place
    }

    /// Says whether the line tells something.
    fn look(&mut self, origin: Origin, line: &[u8]) -> bool {
        let line = &line[..line.len().min(LINE_MAX)];
        let mut scratch = std::mem::take(&mut self.scratch);
        let line = without_escapes(line, &mut scratch).unwrap_or(line);
        let Line { source, text } = match origin.source {
            Some(source) => Line { source: Some(source), text: line },
            None => split(line),
        };
        if matches!(source, None | Some(Source::Output)) && !text.trim_ascii().is_empty() {
            self.note_last(origin, text);
        }
        let rules = self.rules.clone();
        let mut candidates = std::mem::take(&mut self.candidates);
        rules.matcher.all().candidates(text, &mut candidates);
        let (mut done, mut tells) = (None, false);
        for id in &candidates {
            let pattern = rules.matcher.pattern(*id);
            // One clue per rule and line; the patterns of a rule follow each other.
            if done != Some(pattern.rule) && self.try_pattern(&rules.list[pattern.rule], pattern, origin, source, text)
            {
                done = Some(pattern.rule);
                tells |= rules.list[pattern.rule].tells();
            }
        }
        self.candidates = candidates;
        self.scratch = scratch;
        tells
    }

    fn try_pattern(
        &mut self,
        rule: &Rule,
        pattern: &matcher::Pattern,
        origin: Origin,
        source: Option<Source>,
        text: &[u8],
    ) -> bool {
        if source.is_some_and(|source| !rule.sources.contains(&source)) {
            return false;
        }
        let Some(regex) = pattern.regex() else { return false };
        if regex.captures_len() > 1 {
            let Some(captures) = regex.captures(text) else { return false };
            let named = regex.capture_names().flatten().filter_map(|name| Some((name, captures.name(name)?)));
            let values: Vec<_> = named.map(|(name, value)| (name.into(), shown(value.as_bytes(), VALUE_MAX))).collect();
            self.keep(pattern.rule, rule, origin, source, text, values);
        } else if regex.is_match(text) {
            self.keep(pattern.rule, rule, origin, source, text, Vec::new());
        } else {
            return false;
        }
        true
    }

    fn follow(&mut self, rule: &str) {
        match rule {
            LINK => self.chain.linked = true,
            TRACEBACK => {
                let near = self.place.saturating_sub(self.chain.begun) <= CHAIN_LINES;
                if self.chain.linked && near && self.chain.number > 0 {
                    self.chain.position = self.chain.position.saturating_add(1);
                } else {
                    self.chain.number += 1;
                    self.chain.position = 0;
                }
                self.chain.linked = false;
                self.chain.begun = self.place;
            }
            _ => {}
        }
    }

    fn keep(
        &mut self,
        at: usize,
        rule: &Rule,
        origin: Origin,
        source: Option<Source>,
        text: &[u8],
        values: Vec<(Arc<str>, String)>,
    ) {
        self.follow(&rule.name);
        if self.kept.len() >= RULES_KEPT && !self.kept.contains_key(&at) {
            return;
        }
        let kept = self.kept.entry(at).or_default();
        kept.count += 1;
        // A line that comes again and again takes the room of an older one.
        let room = if kept.last.len() >= KEPT { kept.last.pop_front().map(|old| old.text) } else { None };
        let mut kept_text = room.unwrap_or_default();
        kept_text.clear();
        kept_text.extend_from_slice(&text[..text.len().min(TEXT_MAX + 1)]);
        let (place, chain) = (self.place, self.chain);
        let found = Found { place, at: origin.at, pid: origin.pid, source, text: kept_text, values, chain };
        match kept.first.len() {
            ..KEPT => kept.first.push(found),
            _ => kept.last.push_back(found),
        }
    }

    /// The clues so far.
    pub fn clues(&self) -> Clues {
        let mut list: Vec<(Clue, Chain)> = Vec::new();
        for (index, kept) in &self.kept {
            let rule = &self.rules.list[*index];
            if kept.count < rule.at_least {
                continue;
            }
            let counts = |found: &&Found| self.counts(*index, found.place);
            list.extend(kept.all().filter(counts).map(|found| (clue(rule, kept.count, found), found.chain)));
        }
        self.excuse(&mut list);
        list.sort_by_key(|(clue, _)| clue.place);
        demote_followers(&mut list);
        let mut list: Vec<Clue> = list.into_iter().map(|(clue, _)| clue).collect();
        let tells = |clue: &Clue| !matches!(clue.role, Role::Faint | Role::Harmless | Role::Work | Role::Context);
        if !list.iter().any(tells) {
            list.extend(self.last.iter().map(last_word));
        }
        if list.len() > CLUES_MAX {
            // The first ones and the last ones tell the most.
            list.drain(CLUES_MAX / 2..list.len() - CLUES_MAX / 2);
        }
        Clues { list, lines: self.place, suppressed: 0 }
    }

    pub fn finish(self) -> Clues {
        self.clues()
    }

    /// Whether the rule counts at that place, by the rules that it needs and those that exclude it.
    fn counts(&self, index: usize, place: u64) -> bool {
        let within = self.rules.list[index].within;
        self.has_needs(index, place)
            && !self.rules.unless[index].iter().any(|other| {
                let beside = |found: &&Found| found.place.abs_diff(place) <= within;
                let kept = self.kept.get(other);
                kept.is_some_and(|kept| kept.all().filter(beside).any(|found| self.has_needs(*other, found.place)))
            })
    }

    fn has_needs(&self, rule: usize, place: u64) -> bool {
        let needs = &self.rules.needs[rule];
        let within = self.rules.list[rule].within;
        self.rules.list[rule].needs.is_empty() || needs.iter().any(|other| self.near(*other, place, within))
    }

    fn near(&self, rule: usize, place: u64, within: u64) -> bool {
        self.kept.get(&rule).is_some_and(|kept| kept.all().any(|found| found.place.abs_diff(place) <= within))
    }

    /// Takes out what a line beside it says was handled, and makes faint what one doubts.
    fn excuse(&self, list: &mut Vec<(Clue, Chain)>) {
        let mut excuses: Vec<(u64, &Rule)> = Vec::new();
        for (index, kept) in &self.kept {
            let rule = &self.rules.list[*index];
            let says_nothing = rule.excuses.is_empty() && rule.doubts.is_empty() && rule.resolves.is_empty();
            if !says_nothing && kept.count >= rule.at_least {
                let counting = kept.all().filter(|found| self.counts(*index, found.place));
                excuses.extend(counting.map(|found| (found.place, rule)));
            }
        }
        let beside = |clue: &Clue, causes: fn(&Rule) -> &[Cause]| {
            let near = excuses.iter().filter(|(place, rule)| place.abs_diff(clue.place) <= rule.within);
            near.map(|(_, rule)| causes(rule)).any(|causes| causes.contains(&clue.cause))
        };
        list.retain(|(clue, _)| {
            matches!(clue.role, Role::Harmless | Role::Work) || !beside(clue, |rule| &rule.excuses)
        });
        for (clue, _) in list.iter_mut().filter(|(clue, _)| !matches!(clue.role, Role::Harmless | Role::Work)) {
            if clue.role != Role::Context && beside(clue, |rule| &rule.doubts) {
                clue.role = Role::Faint;
                clue.weight = clue.weight.min(usual_weight(Role::Faint));
            }
            if excuses.iter().any(|(place, rule)| clue.place < *place && rule.resolves.contains(&clue.cause)) {
                clue.weight = (clue.weight / RESOLVED_LEAVES).max(1);
            }
        }
    }
}

impl Kept {
    fn all(&self) -> impl Iterator<Item = &Found> {
        self.first.iter().chain(&self.last)
    }
}

fn last_word(word: &LastWord) -> Clue {
    Clue {
        rule: LAST_WORDS.into(),
        cause: Cause::Unknown,
        role: Role::Context,
        weight: 0,
        explains: Vec::new().into(),
        also: Vec::new().into(),
        source: Source::Output,
        place: word.place,
        at: word.at,
        pid: word.pid,
        count: 1,
        text: shown(&word.text, LAST_WORD_MAX),
        values: Vec::new(),
    }
}

fn clue(rule: &Rule, count: u64, found: &Found) -> Clue {
    let mut clue = Clue {
        rule: rule.name.clone(),
        cause: rule.cause,
        role: rule.role,
        weight: rule.weight,
        explains: rule.explains.clone(),
        also: rule.also.clone(),
        source: found.source.or_else(|| rule.sources.first().copied()).unwrap_or(Source::Output),
        place: found.place,
        at: found.at,
        pid: found.pid,
        count,
        text: shown(&found.text, TEXT_MAX),
        values: found.values.clone(),
    };
    if rule.table == Some(Table::Xid) {
        match clue.value("xid").parse().ok().and_then(|code| xid(code, &clue.text)) {
            Some(known) => {
                clue.cause = known.cause;
                clue.role = if known.cause == Cause::NoCrash { Role::Harmless } else { Role::Proof };
                clue.values.push(("rank".into(), known.rank.to_string()));
            }
            None => clue.role = Role::Context,
        }
    }
    clue
}

/// Inside a chain of exceptions the first one that explains something is the cause.
fn demote_followers(list: &mut [(Clue, Chain)]) {
    let mut leaders: BTreeMap<u64, (u32, Cause)> = BTreeMap::new();
    for (clue, chain) in list {
        if chain.number == 0 || clue.role != Role::Proof || clue.source != Source::Output {
            continue;
        }
        match leaders.get(&chain.number) {
            Some((position, cause)) if *position < chain.position && clue.cause != *cause => {
                clue.role = Role::Symptom;
                clue.weight = clue.weight.min(FOLLOWER);
            }
            Some(_) => {}
            None if clue.weight >= EXPLAINS => {
                leaders.insert(chain.number, (chain.position, clue.cause));
            }
            None => {}
        }
    }
}

fn lines_in(text: &[u8]) -> u64 {
    u64::try_from(memchr_iter(b'\n', text).count()).unwrap_or(u64::MAX)
}

/// Text of any bytes, cut at a character.
fn shown(bytes: &[u8], most: usize) -> String {
    let cut = &bytes[..bytes.len().min(most)];
    let text = String::from_utf8_lossy(cut);
    let text = if cut.len() < bytes.len() { text.trim_end_matches('\u{fffd}') } else { &text };
    text.trim_end().to_owned()
}
