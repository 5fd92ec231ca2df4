// SPDX-License-Identifier: MIT OR Apache-2.0
//! How policies and settings are spelt: with the keys of policy files, and a few short ones. Arguments of commands and
//! what may be secret in an address are left out when they are written.

use super::word::Word;
use crate::config::{self, show};
use crate::engine::action::Verify;
use crate::engine::cause::Cause;
use crate::engine::policy::{CommandLine, Layer, Setting, Settings, Source, UnitPattern};
use std::sync::Arc;

/// Where a policy comes from if nothing is said.
const USUAL_FILE: &str = "policy";
/// The unit that a policy is for if nothing is said.
const USUAL_UNIT: &str = "w";
/// Stands for what is not written down.
pub const LEFT_OUT: &str = "…";

/// Keys that may be written without their table.
const SHORT: [(&str, &str); 8] = [
    ("back-off", "restart.back-off"),
    ("budget", "restart.budget"),
    ("reset-after", "restart.reset-after"),
    ("verify", "restart.verify"),
    ("grace", "restart.grace"),
    ("on-exhausted", "restart.on-exhausted"),
    ("after-success", "worker.after-success"),
    ("progress-notify", "progress.notify"),
];

/// Reads `[PATTERN]… [file=FILE] [KEY=VALUE [@LINE]]…`.
pub fn read(words: &[Word]) -> Result<Layer, String> {
    let file = words.iter().find_map(|word| match word {
        Word::Pair(key, file) if key == "file" => Some(file.as_str()),
        _ => None,
    });
    let file = file.unwrap_or(USUAL_FILE);
    let whole = Source(file.into());
    let (mut pairs, mut units): (Vec<(String, String, Source)>, Vec<_>) = (Vec::new(), Vec::new());
    for word in words {
        match word {
            Word::Pair(key, _) if key == "file" => {}
            Word::Pair(key, value) => pairs.push((full_key(key), value.clone(), whole.clone())),
            Word::Plain(text) => match (text.strip_prefix('@'), pairs.last_mut()) {
                (Some(place), Some((.., from))) => *from = source(file, place),
                _ => units.push(Setting { value: UnitPattern::parse(text)?, from: whole.clone() }),
            },
        }
    }
    if units.is_empty() {
        units.push(Setting { value: UnitPattern::parse(USUAL_UNIT)?, from: whole });
    }
    let layer = config::layer_of(&pairs)?;
    Ok(Layer { file: file.into(), units, ..layer })
}

/// `12` is a line of the file; anything else stands for itself.
fn source(file: &str, place: &str) -> Source {
    let is_line = !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_digit());
    Source(if is_line { format!("{file}:{place}").into() } else { place.into() })
}

fn full_key(key: &str) -> String {
    if let Some((_, full)) = SHORT.iter().find(|(short, _)| *short == key) {
        return (*full).to_owned();
    }
    match key.strip_prefix("cause.") {
        Some(name) if Cause::parse(name).is_some() => format!("{key}.action"),
        _ => key.to_owned(),
    }
}

/// The words of a layer.
pub fn write(layer: &Layer) -> Vec<Word> {
    let file = if layer.file.is_empty() { USUAL_FILE } else { layer.file.as_str() };
    let mut words: Vec<Word> = layer.units.iter().map(|unit| Word::Plain(unit.value.to_string())).collect();
    if file != USUAL_FILE {
        words.push(Word::Pair("file".into(), file.into()));
    }
    for entry in show::entries(&masked(layer)) {
        words.push(Word::Pair(entry.key.clone(), show::argument(&entry.value)));
        let from = &*entry.from.0;
        if from != file {
            let line = from.strip_prefix(file).and_then(|rest| rest.strip_prefix(':'));
            words.push(Word::Plain(format!("@{}", line.unwrap_or(from))));
        }
    }
    words
}

/// Leaves out what could be secret and what no decision depends on.
fn masked(layer: &Layer) -> Layer {
    let mut layer = layer.clone();
    for command in [&mut layer.progress_command, &mut layer.then, &mut layer.dump_command].into_iter().flatten() {
        command.value = command.value.as_ref().map(program_only);
    }
    if let Some(Setting { value: Verify::Command(command), .. }) = &mut layer.checkpoints_verify {
        *command = program_only(command);
    }
    if let Some(address) = layer.progress_http.as_mut().and_then(|setting| setting.value.as_mut()) {
        *address = masked_address(address).into();
    }
    layer
}

/// The program, and whether it has arguments.
fn program_only(command: &CommandLine) -> CommandLine {
    let rest = (command.0.len() > 1).then(|| LEFT_OUT.into());
    CommandLine(command.0.first().cloned().into_iter().chain(rest).collect())
}

/// The address without user, password and query.
fn masked_address(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("http", address));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?"));
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}{query}")
}

/// Reads the words of `settings`.
pub fn read_settings(words: &[Word]) -> Result<Settings, String> {
    let (mut pairs, mut dry_run, mut apprise) = (Vec::new(), false, false);
    for word in words {
        match word {
            Word::Plain(text) => match text.as_str() {
                "dry-run" => dry_run = true,
                "apprise" => apprise = true,
                "notify" => pairs.push(("notify.command".into(), "[\"/bin/true\"]".into())),
                other => return Err(format!("{other:?} is no setting")),
            },
            Word::Pair(key, value) if key == "on" => {
                let stages = value.split(',').map(|stage| format!("{stage:?}")).collect::<Vec<_>>();
                pairs.push(("notify.on".into(), format!("[{}]", stages.join(", "))));
            }
            Word::Pair(key, value) => {
                let table = if ["max-jobs", "keep-finished", "keep-incidents"].contains(&key.as_str()) {
                    "manager"
                } else {
                    "notify"
                };
                let full = if key.contains('.') { key.clone() } else { format!("{table}.{key}") };
                pairs.push((full, value.clone()));
            }
        }
    }
    let mut settings = config::settings_of(&pairs)?;
    settings.dry_run |= dry_run;
    settings.notify.ways.apprise = apprise;
    Ok(settings)
}

/// The words of settings that differ from what is usual.
pub fn write_settings(settings: &Settings) -> Vec<Word> {
    let mut settings = settings.clone();
    let ways = &mut settings.notify.ways;
    ways.command = ways.command.as_ref().map(program_only);
    ways.mail = ways.mail.as_ref().map(|_| "somebody".into());
    let usual = show::settings_values(&Settings::default());
    let values = show::settings_values(&settings).into_iter().filter(|value| !usual.contains(value));
    let pairs = values.map(|(key, value)| Word::Pair(key.into(), show::argument(&value)));
    let apprise = settings.notify.ways.apprise.then(|| Word::Plain("apprise".into()));
    pairs.chain(apprise).collect()
}

/// One layer from one line.
pub fn layer(text: &str) -> Result<Arc<Layer>, String> {
    read(&super::word::split(text)?).map(Arc::new)
}
