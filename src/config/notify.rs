// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table `[notify]` of watcherd.toml: who hears of incidents.

use super::complaint::{Complaint, Severity};
use super::dirs::shown;
use super::given::Given;
use super::value::quoted;
use crate::engine::notice::{NoticeSettings, Ways};
use crate::engine::policy::CommandLine;
use crate::engine::view::NoticeStage;
use std::fs::Metadata;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const PER_HOUR: RangeInclusive<u64> = 1..=500;
/// What is older is not kept.
const DEDUPE: RangeInclusive<Duration> = Duration::ZERO..=DAY;
const GIVE_UP: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
/// The configuration of apprise, beside watcherd.toml; the unit that sends gets it as a credential.
pub const APPRISE_FILE: &str = "apprise.conf";

/// Puts the value of `notify.KEY` into the settings.
pub fn set(settings: &mut NoticeSettings, key: &str, given: Given<'_>) -> Result<(), String> {
    let count = |given: Given<'_>| Ok::<u32, String>(u32::try_from(given.number(PER_HOUR)?).unwrap_or(u32::MAX));
    match key {
        "on" => settings.on = stages(given)?,
        "command" => settings.ways.command = Some(super::progress::command(given, "[\"/usr/local/bin/page-me\"]")?),
        "mail" => settings.ways.mail = Some(address(given)?),
        "desktop" => settings.ways.desktop = given.truth()?,
        "per-hour" => settings.per_hour = count(given)?,
        "per-worker" => settings.per_worker = count(given)?,
        "dedupe" => settings.dedupe = given.span(&DEDUPE)?,
        "retry" => settings.retry = given.back_off()?,
        "give-up-after" => settings.give_up_after = given.span(&GIVE_UP)?,
        _ => return Err("unknown key".into()),
    }
    Ok(())
}

/// Every key with its value in the spelling of the file.
pub fn values(settings: &NoticeSettings) -> Vec<(&'static str, String)> {
    let list = |words: Vec<String>| format!("[{}]", words.join(", "));
    let stages = settings.on.iter().map(|stage| quoted(stage.as_str())).collect();
    let Ways { command, mail, desktop, .. } = &settings.ways;
    let words = |CommandLine(words): &CommandLine| list(words.iter().map(|word| format!("{word:?}")).collect());
    vec![
        ("notify.on", list(stages)),
        ("notify.command", command.as_ref().map(words).unwrap_or_default()),
        ("notify.mail", mail.as_deref().map(quoted).unwrap_or_default()),
        ("notify.desktop", desktop.to_string()),
        ("notify.per-hour", settings.per_hour.to_string()),
        ("notify.per-worker", settings.per_worker.to_string()),
        ("notify.dedupe", super::show::span(&settings.dedupe)),
        ("notify.retry", super::show::pauses(&settings.retry)),
        ("notify.give-up-after", super::show::span(&settings.give_up_after)),
    ]
}

/// Looks for the configuration of apprise in the first directory of the search path, the only one that the unit looks
/// into; it is not read. A complaint warns that others may read the passwords in it.
pub fn find_apprise(directory: &Path) -> Option<(PathBuf, Option<Complaint>)> {
    let path = directory.join(APPRISE_FILE);
    let facts = path.metadata().ok().filter(Metadata::is_file)?;
    let open = facts.mode() & 0o004 != 0;
    let text = "everybody may read this file and the passwords in it; run chmod o-r";
    let complaint = open.then(|| Complaint::about(Severity::Warning, shown(&path), text));
    Some((path, complaint))
}

fn stages(given: Given<'_>) -> Result<Vec<NoticeStage>, String> {
    let known = [NoticeStage::Opened, NoticeStage::Final, NoticeStage::Closed];
    let mut stages = Vec::new();
    for word in given.words("[\"opened\", \"final\", \"closed\"]")? {
        match known.into_iter().find(|stage| stage.as_str() == word) {
            Some(stage) if !stages.contains(&stage) => stages.push(stage),
            Some(_) => return Err(format!("{} is there twice", quoted(&word))),
            None => return Err(format!("{} is not one of \"opened\", \"final\" and \"closed\"", quoted(&word))),
        }
    }
    if stages.is_empty() {
        return Err("the list is empty; without a command, mail and apprise.conf nothing is sent".into());
    }
    Ok(stages)
}

/// An address, or a user of this machine; sendmail takes it as a word of its own.
fn address(given: Given<'_>) -> Result<Arc<str>, String> {
    const LONGEST: usize = 254;
    let text = given.text("\"root\"")?;
    let plain = |c: char| c.is_ascii_graphic() && !"<>()[],;:\\\"'`|$&".contains(c);
    if text.is_empty() || text.len() > LONGEST || text.starts_with('-') || !text.chars().all(plain) {
        return Err(format!("{} is no mail address such as \"root\" or \"ops@example.org\"", quoted(text)));
    }
    Ok(text.into())
}
