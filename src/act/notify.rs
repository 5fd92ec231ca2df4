// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hands a notice to a unit of its own, which sends it: `watcherd-notify@ID.service`, or `watcherd-mail@ID.service` for
//! the system's mail.
//!
//! The notice lies in a spool that only its owner may read, as ID.json; the unit has it as its standard input, and renames
//! it to ID.sent when it was sent; it does not start while there is such a file. So whoever comes after us knows that it was
//! sent, also if we end in between; the mark, empty by then, outlives the saving of that. No secret and no address of a server is known here: what apprise needs goes from its
//! file to the unit, as a credential.

use super::desktop::{self, Desk};
use crate::engine::action::Start;
use crate::engine::event::Outcome;
use crate::engine::ids::{NoticeId, WorkerName};
use crate::engine::notice::{Delivery, Notice, Ways};
use crate::engine::time::Wall;
use crate::engine::view::{IncidentResult, NoticeStage};
use crate::systemd::jobs::Jobs;
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zbus::Connection;

/// The unit ends by itself before; see TimeoutStartSec= there.
const DEADLINE: Duration = Duration::from_secs(150);
/// So many marks of notices that were sent are kept; far more than can be under way at once.
const MARKS_MAX: usize = 256;
/// Where apprise is looked for.
const APPRISE: [&str; 2] = ["/usr/bin/apprise", "/usr/local/bin/apprise"];
/// Where the mail system's program is looked for, see the Filesystem Hierarchy Standard.
const SENDMAIL: [&str; 2] = ["/usr/sbin/sendmail", "/usr/lib/sendmail"];

/// How notices leave; cheap to clone.
#[derive(Clone)]
pub struct Notifier {
    pub jobs: Jobs,
    /// The bus of the desktop.
    pub connection: Connection,
    pub desk: Desk,
    /// Where notices lie until they are sent.
    pub spool: PathBuf,
}

/// The way that a notice takes, with the program to run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Apprise(String),
    Mail(String, String),
    Command(Vec<String>),
    /// Shown on the desktop, and nowhere else.
    Desktop,
}

impl Notifier {
    /// Sends a notice; the error is a fragment for people.
    pub async fn deliver(self, delivery: Delivery) -> Outcome {
        let Delivery { notice, attempt, ways } = delivery;
        let sent = self.spool.join(format!("{}.sent", notice.id));
        if attempt == 1 {
            // What lies there is of an earlier life.
            let _ = fs::remove_file(&sent);
        } else if sent.exists() {
            clear_away(&self.spool, notice.id);
            return Outcome::Ok;
        }
        let host = host();
        let way = match way(&ways) {
            Ok(way) => way,
            Err(why) => return Outcome::Failed(why),
        };
        let shown = match ways.desktop && attempt == 1 || way == Way::Desktop {
            true => desktop::show(&self.connection, self.desk, &title(&notice, &host), &summary(&notice)).await,
            false => Ok(()),
        };
        let Some((letter, unit)) = letter(&way, &notice, &host, self.desk) else {
            return shown.map_or_else(Outcome::Failed, |()| Outcome::Ok);
        };
        if let Err(error) = self.lay_down(notice.id, &letter) {
            return Outcome::Failed(format!("{} cannot be written: {error}", self.spool.display()));
        }
        let unit = format!("{unit}@{}.service", notice.id);
        let Ok(name) = WorkerName::parse(&unit) else { return Outcome::Failed(format!("{unit} is no unit")) };
        let start = Start {
            sweep: None,
            exports: None,
            tends_checkpoints: false,
            run: String::new(),
            definition: None,
            restart: false,
            reset_failed: false,
            thaw: false,
            grace: Duration::ZERO,
        };
        let outcome = match self.jobs.start(&name, &start, DEADLINE).await {
            Outcome::Failed(why) => Outcome::Failed(format!("{unit}: {why}; `journalctl -u {unit}` may say more")),
            other => other,
        };
        if outcome == Outcome::Ok {
            clear_away(&self.spool, notice.id);
        }
        outcome
    }

    /// Writes the letter where the unit reads it; another one of the same notice may be open, and stays as it is.
    fn lay_down(&self, id: NoticeId, letter: &Value) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.spool)?;
        fs::set_permissions(&self.spool, Permissions::from_mode(0o700))?;
        let (fresh, place) = (self.spool.join(format!("{id}.new")), self.spool.join(format!("{id}.json")));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(letter.to_string().as_bytes())?;
        fs::rename(&fresh, &place)
    }
}

/// Removes what a notice that was sent said. The mark itself stays, because we may end before it is saved that the notice
/// was sent; only the oldest marks go. What cannot be removed does no harm.
fn clear_away(spool: &Path, id: NoticeId) {
    let _ = fs::remove_file(spool.join(format!("{id}.json")));
    let mark = OpenOptions::new().write(true).open(spool.join(format!("{id}.sent")));
    let _ = mark.and_then(|mark| mark.set_len(0));
    let _ = remove_old_marks(spool);
}

fn remove_old_marks(spool: &Path) -> io::Result<()> {
    let mut marks = Vec::new();
    for entry in fs::read_dir(spool)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|suffix| suffix == "sent") {
            marks.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    marks.sort();
    let surplus = marks.len().saturating_sub(MARKS_MAX);
    marks[..surplus].iter().try_for_each(|(_, mark)| fs::remove_file(mark))
}

/// The first way that is configured and can be gone.
fn way(ways: &Ways) -> Result<Way, String> {
    let found = |places: [&str; 2]| places.into_iter().find(|place| Path::new(place).exists()).map(str::to_owned);
    let mut missing = Vec::new();
    if ways.apprise {
        match found(APPRISE) {
            Some(program) => return Ok(Way::Apprise(program)),
            None => missing.push("apprise is not installed"),
        }
    }
    if let Some(to) = &ways.mail {
        match found(SENDMAIL) {
            Some(program) => return Ok(Way::Mail(program, to.to_string())),
            None => missing.push("there is no sendmail"),
        }
    }
    match &ways.command {
        Some(command) => Ok(Way::Command(command.0.iter().map(|word| word.to_string()).collect())),
        None if ways.desktop => Ok(Way::Desktop),
        None if missing.is_empty() => Err("no way is configured".into()),
        None => Err(missing.join(" and ")),
    }
}

/// What `watcherctl notify --deliver` reads, and the template that runs it; `None` if nothing is to be run.
fn letter(way: &Way, notice: &Notice, host: &str, desk: Desk) -> Option<(Value, &'static str)> {
    let notice = written(notice, host);
    match way {
        Way::Apprise(program) => {
            Some((json!({"way": "apprise", "command": [program], "notice": notice}), "watcherd-notify"))
        }
        Way::Mail(program, to) => {
            // The system's mail programs are set-uid or write to spools of their own.
            let unit = if desk == Desk::System { "watcherd-mail" } else { "watcherd-notify" };
            Some((json!({"way": "mail", "command": [program], "to": to, "notice": notice}), unit))
        }
        Way::Command(words) => Some((json!({"way": "command", "command": words, "notice": notice}), "watcherd-notify")),
        Way::Desktop => None,
    }
}

/// The notice as the admin's command reads it; see watcherd.toml(5).
fn written(notice: &Notice, host: &str) -> Value {
    let when = |at: Wall| u64::try_from(at.0).unwrap_or(0);
    json!({
        "id": notice.id.0,
        "stage": notice.stage.as_str(),
        "final": notice.is_final,
        "host": host,
        "worker": notice.worker.as_ref().map(WorkerName::as_str),
        "incident": notice.incident.map(|id| id.0),
        "cause": notice.incident.map(|_| notice.cause.as_str()),
        "confidence": f64::from(notice.confidence) / 100.0,
        "result": notice.result.as_str(),
        "opened_usec": when(notice.opened),
        "retry_at_usec": when(notice.retry_at),
        "title": title(notice, host),
        "text": notice.text,
        "next": notice.next,
        "lines": notice.lines,
        "repeats": notice.repeats,
    })
}

fn title(notice: &Notice, host: &str) -> String {
    let worker = notice.worker.as_ref().map_or("watcherd", WorkerName::as_str);
    format!("[{host}] {worker} {}", what(notice))
}

/// Words and names only, never a line of a log: everybody on the machine may see it.
fn summary(notice: &Notice) -> String {
    let text = &notice.text;
    match notice.next.as_str() {
        "" => text.clone(),
        next => format!("{text}\n{next}"),
    }
}

fn what(notice: &Notice) -> String {
    let cause = notice.cause;
    match (notice.stage, notice.result) {
        (NoticeStage::Test, _) => "sends a test notice".into(),
        (NoticeStage::Closed, IncidentResult::Recovered | IncidentResult::RecoveredUnseen) => {
            format!("has recovered ({cause})")
        }
        (NoticeStage::Closed, IncidentResult::Completed) => format!("is done ({cause} before)"),
        (NoticeStage::Closed, result) => format!("closed: {result} ({cause})"),
        _ if notice.is_final => format!("is down and needs you ({cause})"),
        _ => format!("failed ({cause})"),
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cause::Cause;
    use crate::engine::ids::IncidentId;
    use crate::engine::policy::CommandLine;

    fn notice() -> Notice {
        Notice {
            id: NoticeId(7),
            stage: NoticeStage::Opened,
            is_final: true,
            incident: Some(IncidentId(3)),
            worker: Some(WorkerName::parse("w").expect("a name")),
            cause: Cause::DiskFull,
            confidence: 90,
            result: IncidentResult::None,
            opened: Wall(5),
            retry_at: Wall::NEVER,
            text: "w.service failed with status 1".into(),
            next: "Free space".into(),
            lines: vec!["output: \"quoted\" $(reboot)\nand more".into()],
            repeats: 2,
        }
    }

    #[test]
    fn a_mark_outlives_the_end_of_watcherd_and_the_oldest_marks_go() {
        let spool = tempfile::tempdir().expect("a directory");
        let place = |name: String| spool.path().join(name);
        for id in 0..=MARKS_MAX {
            fs::write(place(format!("{id}.sent")), "its text").expect("written");
            let at = std::time::UNIX_EPOCH + Duration::from_secs(id as u64);
            let mark = OpenOptions::new().write(true).open(place(format!("{id}.sent"))).expect("a mark");
            mark.set_modified(at).expect("a time");
        }
        fs::write(place("7.json".into()), "its text").expect("written");
        clear_away(spool.path(), NoticeId(7));
        assert_eq!(fs::read_to_string(place("7.sent".into())).expect("the mark"), "");
        assert!(!place("7.json".into()).exists());
        assert!(!place("0.sent".into()).exists() && place("1.sent".into()).exists());
    }

    #[test]
    fn the_first_way_that_can_be_gone_is_taken() {
        let command = Some(CommandLine(vec!["/bin/true".into(), "a b".into()]));
        let ways = Ways { command: command.clone(), desktop: true, ..Ways::default() };
        assert_eq!(way(&ways), Ok(Way::Command(vec!["/bin/true".into(), "a b".into()])));
        assert_eq!(way(&Ways { command: None, ..ways }), Ok(Way::Desktop));
        assert_eq!(way(&Ways::default()), Err("no way is configured".into()));
    }

    #[test]
    fn a_notice_is_written_down_literally_and_with_what_programs_want_to_know() {
        let (letter, unit) =
            letter(&Way::Command(vec!["/bin/true".into()]), &notice(), "box", Desk::System).expect("a program is run");
        assert_eq!(unit, "watcherd-notify");
        let read: Value = serde_json::from_str(&letter.to_string()).expect("JSON");
        assert_eq!(read["notice"]["lines"][0], "output: \"quoted\" $(reboot)\nand more");
        assert_eq!(read["notice"]["title"], "[box] w.service is down and needs you (disk-full)");
        assert_eq!(read["notice"]["confidence"], 0.9);
        assert_eq!(read["notice"]["retry_at_usec"], 0);
    }

    #[test]
    fn what_everybody_may_see_has_no_lines() {
        let text = summary(&notice());
        assert!(!text.contains("reboot") && text.contains("Free space"), "{text}");
    }
}
