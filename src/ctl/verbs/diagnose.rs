// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judges logs and cases without the daemon.

use crate::config;
use crate::ctl::args::Diagnose;
use crate::ctl::cases::{self, Case};
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::log;
use crate::ctl::out::diagnosis;
use crate::ctl::session::Session;
use crate::ctl::unit_run;
use crate::ctl::verbs::check::mode;
use crate::engine::classify::Verdict;
use crate::engine::event::RunEnd;
use crate::engine::evidence::Clues;
use crate::engine::judge::judge;
use crate::engine::time::Wall;
use crate::rules::{Reader, Rules};
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

pub fn perform(session: &Session, given: &Diagnose) -> Outcome {
    let rules = rules(session);
    match &given.batch {
        Some(cases) => batch(session, &rules, cases),
        None => single(session, &rules, given),
    }
}

/// The rules in force. A broken file of the admin is told, and the others count.
fn rules(session: &Session) -> Arc<Rules> {
    let loaded = config::load(mode(session), Path::new("/"));
    for complaint in loaded.complaints.iter().filter(|complaint| complaint.file.contains("rules.d")) {
        session.note(&format!("watcherctl: warning: {complaint}"));
    }
    loaded.rules()
}

fn single(session: &Session, rules: &Arc<Rules>, given: &Diagnose) -> Outcome {
    if let Some(unit) = &given.unit {
        let run = unit_run::find(session, unit, given.run.as_deref(), rules)?;
        return tell(session, rules, &run.name, &run.end, &run.clues, &run.gaps);
    }
    let end = cases::run_end(given.result.as_deref(), given.exit_code, given.signal.as_deref(), false)
        .map_err(Failure::usage)?;
    let mut reader = Reader::new(rules.clone());
    if let Some(path) = &given.kernel {
        let cannot = |error: io::Error| Failure::failed(format!("{}: {}", path.display(), plain(&error)));
        let kernel = File::open(path).map_err(cannot)?;
        log::blocks(kernel, |block, _| {
            for line in block.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                reader.kernel_line(line);
            }
        })
        .map_err(cannot)?;
    }
    let path = given.file.as_deref().filter(|path| *path != Path::new("-"));
    let name = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    read_log(session, path, given.last_n_lines, &mut reader)
        .map_err(|error| Failure::failed(format!("{name}: {}", plain(&error))))?;
    tell(session, rules, &name, &end, &reader.finish(), &[])
}

/// Judges and prints.
fn tell(session: &Session, rules: &Rules, name: &str, end: &RunEnd, clues: &Clues, gaps: &[String]) -> Outcome {
    let mut verdict = judge(end, clues);
    verdict.because.extend(gaps.iter().map(|gap| format!("not known: {gap}")));
    let advice = rules.advice_of(verdict.cause, clues).unwrap_or_else(|| verdict.cause.advice());
    if let Some(form) = session.json() {
        return session.print_json(&Value::Array(vec![diagnosis::json(name, &verdict, advice)]), form);
    }
    if session.options.quiet {
        session.print(&diagnosis::line(&verdict))?;
    } else {
        session.print_list(&diagnosis::block(name, &verdict, advice, &session.look_now()))?;
    }
    Ok(exit::OK)
}

fn read_log(session: &Session, path: Option<&Path>, last: Option<u32>, reader: &mut Reader) -> io::Result<()> {
    let Some(path) = path else {
        let input = io::stdin().lock();
        return match last {
            Some(lines) => {
                reader.block(&log::last_lines(input, lines)?);
                Ok(())
            }
            None => log::blocks(input, |block, _| reader.block(block)),
        };
    };
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    if let Some(lines) = last {
        log::seek_last_lines(&mut file, lines)?;
        return log::blocks(file, |block, _| reader.block(block));
    }
    let mut told = 0;
    log::blocks(file, |block, total| {
        reader.block(block);
        told = session.progress(total, size, told);
    })?;
    session.progress_ends(told);
    Ok(())
}

fn batch(session: &Session, rules: &Arc<Rules>, path: &Path) -> Outcome {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let cannot = |error: io::Error| Failure::failed(format!("{name}: {}", plain(&error)));
    let input: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).map_err(cannot)?),
    };
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    for number in 1.. {
        let refuse = |text: String| Failure::failed(format!("{name}:{number}: {text}"));
        line.clear();
        let most = u64::try_from(cases::LINE_MAX).unwrap_or(u64::MAX);
        if (&mut input).take(most + 1).read_until(b'\n', &mut line).map_err(cannot)? == 0 {
            break;
        }
        if line.len() > cases::LINE_MAX {
            return Err(refuse(format!("the line is longer than {} MiB", cases::LINE_MAX >> 20)));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let text = std::str::from_utf8(&line).map_err(|_| refuse("not UTF-8".into()))?;
        let case = Case::parse(text).map_err(refuse)?;
        let verdict = verdict(rules, &case).map_err(refuse)?;
        session.print(&diagnosis::batch_line(&case.id, &verdict))?;
    }
    Ok(exit::OK)
}

fn verdict(rules: &Arc<Rules>, case: &Case) -> Result<Verdict, String> {
    let end = case.end()?;
    let mut reader = Reader::new(rules.clone());
    for text in case.kernel.iter().flatten().flat_map(|text| text.lines()) {
        reader.kernel_line(text.as_bytes());
    }
    for text in case.journal.iter().flatten().flat_map(|text| text.lines()) {
        reader.line(None, Wall::NEVER, 0, text.as_bytes());
    }
    Ok(judge(&end, &reader.finish()))
}

/// The system's words without Rust's "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
