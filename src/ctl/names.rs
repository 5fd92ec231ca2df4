// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which workers are meant: names, globs, and what to say if there is no such worker.

use super::connect::Link;
use super::failure::{Failure, exit};
use super::out::escape::escaped;
use crate::engine::ids::WorkerName;
use crate::engine::policy::{UnitPattern, glob_matches};

/// The workers that `arguments` name, in the order of the arguments, each once.
pub async fn resolve(link: &Link, arguments: &[String]) -> Result<Vec<String>, Failure> {
    let rows = link.manager().await?.list_workers().await;
    let rows = rows.map_err(|error| Failure::from_bus("list the workers", &error))?;
    let known: Vec<String> = rows.into_iter().map(|row| row.0).collect();
    match find(&known, arguments) {
        Ok(found) => Ok(found),
        Err(Unknown { argument, unit: Some(unit) }) => Err(no_such_worker(link, &known, &argument, &unit).await),
        Err(Unknown { argument, unit: None }) => {
            Err(Failure::new(exit::NO_SUCH_WORKER, format!("{}: no worker matches", escaped(&argument))))
        }
    }
}

/// Those of `known` that `patterns` name; all, if there are no patterns. Nothing found is no error.
pub fn select<'a>(known: impl Iterator<Item = &'a str>, patterns: &[String]) -> Vec<&'a str> {
    let patterns: Vec<String> = patterns.iter().map(|pattern| completed(pattern)).collect();
    let wanted = |unit: &&str| patterns.is_empty() || patterns.iter().any(|pattern| matches(pattern, unit));
    known.filter(wanted).collect()
}

#[derive(Debug, PartialEq, Eq)]
struct Unknown {
    argument: String,
    /// The unit that it names; a glob names none.
    unit: Option<String>,
}

fn find(known: &[String], arguments: &[String]) -> Result<Vec<String>, Unknown> {
    let mut found: Vec<String> = Vec::new();
    for argument in arguments {
        let pattern = completed(argument);
        let before = found.len();
        let mut any = false;
        for unit in known.iter().filter(|unit| matches(&pattern, unit)) {
            any = true;
            if !found[..before].contains(unit) {
                found.push(unit.clone());
            }
        }
        if !any {
            let unit = if is_glob(argument) { None } else { Some(pattern) };
            return Err(Unknown { argument: argument.clone(), unit });
        }
    }
    Ok(found)
}

/// With `.service` at its end where it belongs.
fn completed(argument: &str) -> String {
    if is_glob(argument) {
        return UnitPattern::parse(argument)
            .map_or_else(|_| argument.to_owned(), |pattern| pattern.as_str().to_owned());
    }
    WorkerName::parse(argument).map_or_else(|_| argument.to_owned(), |name| name.as_str().to_owned())
}

fn matches(pattern: &str, unit: &str) -> bool {
    if is_glob(pattern) { glob_matches(pattern.as_bytes(), unit.as_bytes()) } else { pattern == unit }
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

async fn no_such_worker(link: &Link, known: &[String], argument: &str, unit: &str) -> Failure {
    let failure = Failure::new(exit::NO_SUCH_WORKER, format!("{}: no such worker", escaped(argument)));
    if let Err(error) = WorkerName::parse(argument) {
        return Failure { text: format!("{}: {error}", escaped(argument)), ..failure };
    }
    if let Some(near) = nearest(unit, known) {
        return failure.with_hint(format!("did you mean {near}?"));
    }
    if is_unit(link, unit).await {
        return failure.with_hint(format!("watcherctl adopt {unit}"));
    }
    failure.with_hint("watcherctl list shows the workers")
}

/// Whether the service manager beside the daemon knows the unit.
async fn is_unit(link: &Link, unit: &str) -> bool {
    if !link.connection.is_bus() {
        return false;
    }
    let (name, path) = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1");
    for method in ["GetUnitFileState", "GetUnit"] {
        let interface = Some("org.freedesktop.systemd1.Manager");
        if link.connection.call_method(Some(name), path, interface, method, &(unit,)).await.is_ok() {
            return true;
        }
    }
    false
}

/// The known unit that was probably meant.
fn nearest<'a>(unit: &str, known: &'a [String]) -> Option<&'a str> {
    let stem = |unit: &str| unit.strip_suffix(".service").unwrap_or(unit).to_lowercase();
    let wrong = stem(unit);
    let allowed = (wrong.chars().count() / 3).clamp(1, 3);
    let distances = known.iter().map(|other| (distance(&wrong, &stem(other)), other));
    distances.filter(|(distance, _)| *distance <= allowed).min().map(|(_, other)| other.as_str())
}

/// Insertions, deletions, replacements and swaps of neighbours that make one text the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (row[j - 1] + 1).min(rows[i - 1][j] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn names_and_globs_find_workers_once() {
        let known = texts(&["a.service", "train@1.service", "train@2.service"]);
        assert_eq!(
            find(&known, &texts(&["train@*", "a", "train@1"])),
            Ok(texts(&["train@1.service", "train@2.service", "a.service"]))
        );
        assert_eq!(find(&known, &texts(&["a.service"])), Ok(texts(&["a.service"])));
        assert_eq!(find(&known, &texts(&["b"])), Err(Unknown { argument: "b".into(), unit: Some("b.service".into()) }));
        assert_eq!(find(&known, &texts(&["b*"])), Err(Unknown { argument: "b*".into(), unit: None }));
    }

    #[test]
    fn without_patterns_all_are_selected() {
        let known = ["a.service", "b.service"];
        assert_eq!(select(known.into_iter(), &[]), known);
        assert_eq!(select(known.into_iter(), &texts(&["b"])), ["b.service"]);
        assert!(select(known.into_iter(), &texts(&["x*"])).is_empty());
    }

    #[test]
    fn the_nearest_name_is_offered_and_no_far_one() {
        let known = texts(&["train@1.service", "queue.service"]);
        assert_eq!(nearest("trian@1.service", &known), Some("train@1.service"));
        assert_eq!(nearest("qeue.service", &known), Some("queue.service"));
        assert_eq!(nearest("web.service", &known), None);
    }
}
