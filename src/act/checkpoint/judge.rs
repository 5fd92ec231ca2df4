// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which checkpoints are whole: by their names, by what their files say about themselves, by their elders' size, or by a
//! command of the policy.

use super::command;
use super::find::{Found, words};
use super::format::{self, Verdict};
use super::place::{Place, Rights};
use super::{Checkpoint, State};
use crate::engine::action::Verify;
use crate::engine::policy::CommandLine;
use rustix::fs::{AtFlags, FileType, statat};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

/// Files in one checkpoint.
const FILES_MAX: usize = 20_000;
/// Directories below one another in a checkpoint.
const DEPTH_MAX: usize = 8;
/// The largest index of parts, in bytes.
const INDEX_MAX: u64 = 16 << 20;
/// The largest list of checksums, in bytes.
const SUMS_MAX: u64 = 1 << 20;
/// So many elders are needed to say what size is usual.
const ELDERS_MIN: usize = 2;

/// Everything that was found, the newest first. A command is asked until it has found a valid one.
pub fn all(found: &[Found], verify: &Verify, rights: &mut Rights, deadline: Instant) -> Vec<Checkpoint> {
    let mut order: Vec<&Found> = found.iter().collect();
    order.sort_by(|a, b| b.changed().cmp(&a.changed()).then_with(|| b.path.cmp(&a.path)));
    let mut judged: Vec<Judged> = Vec::new();
    let mut is_found = false;
    for found in order {
        let mut one = one(found, verify, rights, deadline);
        // What is certainly no checkpoint needs no command.
        if let Verify::Command(argv) = verify
            && one.checkpoint.counts
            && !is_found
        {
            one.refused = one.ask(argv, found, rights, deadline);
            is_found = one.checkpoint.state == State::Valid;
        }
        judged.push(one);
    }
    judged.sort_by(|Judged { checkpoint: a, .. }, Judged { checkpoint: b, .. }| {
        b.changed.cmp(&a.changed).then_with(|| b.path.cmp(&a.path))
    });
    by_elders(&mut judged);
    // A command that never says yes may be broken itself.
    judged.iter_mut().filter(|one| one.refused && is_found).for_each(|one| one.checkpoint.torn = true);
    judged.into_iter().map(|one| one.checkpoint).collect()
}

struct Judged {
    checkpoint: Checkpoint,
    /// Whether its content proves what is said of it.
    proven: bool,
    /// By the command of the policy.
    refused: bool,
}

impl Judged {
    /// What the command says; whether it has refused.
    fn ask(&mut self, argv: &CommandLine, found: &Found, rights: &mut Rights, deadline: Instant) -> bool {
        let (state, why) = command::ask(argv, found, rights, deadline);
        let one = &mut self.checkpoint;
        (one.state, one.why, one.usable, one.counts) = (state, why, false, state == State::Valid);
        self.proven = true;
        state == State::Broken
    }
}

fn one(found: &Found, verify: &Verify, rights: &mut Rights, deadline: Instant) -> Judged {
    let mut bytes = u64::try_from(found.stat.st_size).unwrap_or(0);
    let mut changed = found.changed();
    let verdict = if format::is_unfinished(&found.name) {
        Verdict::incomplete("", "its name says that it was not written to the end")
    } else if Instant::now() >= deadline {
        Verdict::unknown("", "it was not looked at in time")
    } else {
        match found.kind() {
            FileType::RegularFile => file(found, verify, rights),
            FileType::Directory => match Contents::read(found, rights) {
                Ok(contents) => {
                    bytes = contents.files.values().sum();
                    changed = contents.changed.unwrap_or(changed);
                    contents.judge(verify, rights, deadline)
                }
                Err(why) => Verdict::unknown("", &why),
            },
            _ => Verdict::unknown("", "it is neither a file nor a directory"),
        }
    };
    let by_command = matches!(verify, Verify::Command(_));
    let checkpoint = Checkpoint {
        path: found.path.clone(),
        bytes,
        changed,
        state: verdict.state,
        why: verdict.why,
        kind: verdict.kind.to_owned(),
        linked: found.linked,
        usable: verdict.usable && !by_command,
        counts: verdict.state == State::Valid || (verdict.usable && by_command),
        torn: verdict.torn && *verify != Verify::Off,
    };
    Judged { checkpoint, proven: verdict.proven, refused: false }
}

fn file(found: &Found, verify: &Verify, rights: &mut Rights) -> Verdict {
    match verify {
        Verify::Off if found.stat.st_size == 0 => Verdict::broken("", "it is empty"),
        Verify::Off => Verdict { proven: false, ..Verdict::valid("") },
        _ => content(&found.place, &found.name, rights),
    }
}

fn content(place: &Place, name: &str, rights: &mut Rights) -> Verdict {
    match rights.open(place, name).and_then(|file| format::judge(&file, name)) {
        Ok(verdict) => verdict,
        Err(error) => Verdict::unknown("", &format!("it cannot be read: {}", words(&error))),
    }
}

/// Whoever is much smaller than its elders of the same kind was not written to the end, unless it proves that itself.
fn by_elders(judged: &mut [Judged]) {
    let likes = |checkpoint: &Checkpoint| {
        let extension = Path::new(&checkpoint.path).extension().map(|extension| extension.to_owned());
        (checkpoint.kind.clone(), extension)
    };
    let can_be_used = |checkpoint: &Checkpoint| checkpoint.state == State::Valid || checkpoint.usable;
    for at in 0..judged.len() {
        let (one, elders) = (&judged[at], &judged[at + 1..]);
        if one.proven || !can_be_used(&one.checkpoint) {
            continue;
        }
        let of_its_kind = elders.iter().map(|elder| &elder.checkpoint).filter(|elder| can_be_used(elder));
        let of_its_kind = of_its_kind.filter(|elder| likes(elder) == likes(&one.checkpoint));
        let mut sizes: Vec<u64> = of_its_kind.map(|elder| elder.bytes).collect();
        if sizes.len() < ELDERS_MIN {
            continue;
        }
        sizes.sort_unstable();
        let usual = sizes[sizes.len() / 2];
        let one = &mut judged[at].checkpoint;
        if one.bytes < usual / 2 {
            one.state = State::Broken;
            one.why = format!("it has {} bytes, less than half of the {usual} that older ones have", one.bytes);
            (one.usable, one.counts) = (false, false);
        }
    }
}

/// What is in a directory that is a checkpoint.
struct Contents {
    place: Place,
    /// Paths within it, and sizes.
    files: BTreeMap<String, u64>,
    changed: Option<u64>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Contents {
    fn read(found: &Found, rights: &mut Rights) -> Result<Contents, String> {
        let place = rights.enter(&found.place, Path::new(&found.name)).map_err(|error| words(&error))?;
        let mut contents = Contents { place, files: BTreeMap::new(), changed: None };
        let (mut open, mut seen) = (vec![(String::new(), 0)], 0);
        while let Some((path, depth)) = open.pop() {
            let below = rights.enter(&contents.place, Path::new(&path)).map_err(|error| words(&error))?;
            for name in rights.names(&below, FILES_MAX).map_err(|error| words(&error))? {
                seen += 1;
                if seen > FILES_MAX {
                    return Err(format!("there are more than {FILES_MAX} files in it"));
                }
                let Ok(name) = name.into_string() else { continue };
                rights.act(&below).map_err(|error| words(&error))?;
                let Ok(stat) = statat(&below.directory, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
                let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Directory if depth < DEPTH_MAX => open.push((path, depth + 1)),
                    FileType::Directory => return Err("its directories are too deep".into()),
                    FileType::RegularFile => {
                        contents.changed = contents.changed.max(Some(super::find::micros(&stat)));
                        contents.files.insert(path, u64::try_from(stat.st_size).unwrap_or(0));
                    }
                    _ => {}
                }
            }
        }
        Ok(contents)
    }

    fn judge(&self, verify: &Verify, rights: &mut Rights, deadline: Instant) -> Verdict {
        const KIND: &str = "directory";
        if self.files.is_empty() {
            return Verdict::incomplete(KIND, "there is no file in it");
        }
        if let Some(name) = self.files.keys().find(|path| format::is_unfinished(last(path))) {
            return Verdict::incomplete(KIND, &format!("{name} in it was not written to the end"));
        }
        if *verify == Verify::Off {
            return Verdict { proven: false, ..Verdict::valid(KIND) };
        }
        let mut wanted = BTreeSet::new();
        for path in self.files.keys() {
            match self.named_by(path, rights) {
                Ok(names) => wanted.extend(names),
                Err(why) => return Verdict::broken(KIND, &format!("{path}: {why}")),
            }
        }
        wanted.extend(self.files.keys().flat_map(|path| parts(path, &self.files)));
        if let Some(missing) = wanted.iter().find(|path| !self.files.contains_key(*path)) {
            return Verdict::broken(KIND, &format!("{missing} is missing"));
        }
        let (mut some, mut wrong) = (false, None);
        for path in self.files.keys() {
            if Instant::now() >= deadline {
                return Verdict::unknown(KIND, "it was not looked at in time");
            }
            let verdict = self.content(path, rights);
            some |= verdict.kind != format::JSON && (verdict.state == State::Valid || verdict.torn);
            if verdict.state == State::Broken && wrong.is_none() {
                wrong = Some(format!("{path}: {}", verdict.why));
            }
        }
        match (wrong, some) {
            (Some(why), true) => Verdict::broken(KIND, &why),
            (Some(why), false) => Verdict { torn: false, ..Verdict::broken(KIND, &why) },
            (None, true) => Verdict { proven: !wanted.is_empty(), ..Verdict::valid(KIND) },
            (None, false) => Verdict::mute(KIND, "no file in it is of a kind that can be verified"),
        }
    }

    fn content(&self, path: &str, rights: &mut Rights) -> Verdict {
        match self.below(path, rights) {
            Ok(place) => content(&place, last(path), rights),
            Err(error) => Verdict::unknown("", &words(&error)),
        }
    }

    /// The directory in which a file is; the file may be exchanged, but not for one elsewhere that its owner cannot read.
    fn below(&self, path: &str, rights: &mut Rights) -> std::io::Result<Place> {
        rights.enter(&self.place, Path::new(path).parent().unwrap_or(Path::new("")))
    }

    /// The files that an index or a list of checksums names.
    fn named_by(&self, path: &str, rights: &mut Rights) -> Result<Vec<String>, String> {
        let name = last(path);
        let is_sums = format::is_list_of_sums(name);
        if !is_sums && !name.ends_with(".index.json") {
            return Ok(Vec::new());
        }
        let most = if is_sums { SUMS_MAX } else { INDEX_MAX };
        let text = self
            .below(path, rights)
            .and_then(|place| rights.open(&place, name))
            .and_then(|file| format::text(&file, most))
            .map_err(|error| words(&error))?;
        let beside = |name: &str| match path.rsplit_once('/') {
            Some((directory, _)) => format!("{directory}/{name}"),
            None => name.to_owned(),
        };
        if is_sums {
            return Ok(format::names_of_sums(&text).map(|name| beside(name.trim_start_matches("./"))).collect());
        }
        let index: Index = serde_json::from_str(&text).map_err(|error| format!("it is no index: {error}"))?;
        let names: BTreeSet<String> = index.weight_map.into_values().collect();
        Ok(names.iter().map(|name| beside(name)).collect())
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// All parts of which this is one: `model-00002-of-00003.safetensors` needs two others. Some count from zero.
fn parts(path: &str, files: &BTreeMap<String, u64>) -> Vec<String> {
    const PARTS_MAX: usize = 10_000;
    let split = || {
        let (before, rest) = path.rsplit_once("-of-")?;
        let (stem, number) = before.rsplit_once('-')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (count, ending) = rest.split_at(end);
        let plain = number.len() >= 3 && number.len() == count.len() && number.bytes().all(|b| b.is_ascii_digit());
        let count: usize = count.parse().ok().filter(|count| plain && *count <= PARTS_MAX)?;
        Some((stem, number.len(), count, ending))
    };
    let Some((stem, width, count, ending)) = split() else { return Vec::new() };
    let part = |part: usize| format!("{stem}-{part:0width$}-of-{count:0width$}{ending}");
    let first = usize::from(!files.contains_key(&part(0)));
    (first..first + count).map(part).collect()
}
