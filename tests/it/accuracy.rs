// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often the verdicts are right: on our own cases always, and on a larger labelled set where one lies beside us.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use watcherd::engine::cause::{Cause, Retry};

/// What a classifier must not see.
const HIDDEN: [&str; 7] = ["label", "also", "note", "source", "hard", "hard_kind", "end_from"];
const ENDS: [&str; 4] = ["unit_result", "exec_main_code", "exit_code", "signal"];

#[test]
fn our_own_cases_are_judged_right() {
    let cases = read(&root().join("tests/cases.jsonl"));
    let labels: BTreeSet<&str> = cases.iter().map(label).collect();
    assert!(
        cases.len() >= 80 && labels.len() == Cause::ALL.len() - 1,
        "{} cases, {} causes",
        cases.len(),
        labels.len()
    );
    let figures = Figures::of(&judged(&cases));
    assert!(figures.wrong.is_empty(), "\n{}", figures.wrong.join("\n"));
}

#[test]
fn the_larger_set_is_judged_well_where_it_is_there() {
    let path = root().join("../shared/corpus/dev.jsonl");
    if !path.exists() {
        return;
    }
    let figures = Figures::of(&judged(&read(&path)));
    let Figures { strict, lenient, verdict, harmful, benign, macro_f1, wrong } = &figures;
    let told = format!(
        "strict {strict:.3} lenient {lenient:.3} verdict {verdict:.3} unsafe {harmful:.3} benign {benign:.3} macro-F1 {macro_f1:.3}\n{}",
        wrong.join("\n")
    );
    println!("{told}");
    assert!(*strict >= 0.92 && *lenient >= 0.97 && *verdict >= 0.95 && *macro_f1 >= 0.90, "{told}");
    assert!(*harmful <= 0.02 && *benign == 0.0, "{told}");
}

struct Figures {
    strict: f64,
    lenient: f64,
    verdict: f64,
    /// A plain restart is advised where the label says that it must not be.
    harmful: f64,
    /// Cases without a crash that were called one.
    benign: f64,
    macro_f1: f64,
    wrong: Vec<String>,
}

impl Figures {
    fn of(rows: &[(Value, Cause)]) -> Figures {
        let share = |wanted: &dyn Fn(&Value, Cause) -> bool| {
            rows.iter().filter(|(case, cause)| wanted(case, *cause)).count() as f64 / rows.len() as f64
        };
        let right = |case: &Value, cause: Cause| label(case) == cause.as_str();
        let defensible = |case: &Value, cause: Cause| {
            case["also"].as_array().is_some_and(|also| also.contains(&json!(cause.as_str())))
        };
        let wanted = |case: &Value| Cause::parse(label(case)).expect("a known label").retry();
        let quiet = rows.iter().filter(|(case, _)| label(case) == "no-crash").count().max(1);
        let alarms = rows
            .iter()
            .filter(|(case, cause)| label(case) == "no-crash" && !matches!(cause, Cause::NoCrash | Cause::Unknown));
        Figures {
            strict: share(&right),
            lenient: share(&|case, cause| right(case, cause) || defensible(case, cause)),
            verdict: share(&|case, cause| cause.retry() == wanted(case)),
            harmful: share(&|case, cause| {
                cause.retry() == Retry::Transient
                    && matches!(wanted(case), Retry::NeedsChange | Retry::NeedsOperator)
                    && !defensible(case, cause)
            }),
            benign: alarms.count() as f64 / quiet as f64,
            macro_f1: macro_f1(rows),
            wrong: rows
                .iter()
                .filter(|(case, cause)| !right(case, *cause))
                .map(|(case, cause)| format!("{}: {} is called {cause}", case["id"], label(case)))
                .collect(),
        }
    }
}

fn macro_f1(rows: &[(Value, Cause)]) -> f64 {
    let mut counts: BTreeMap<&str, (f64, f64, f64)> = BTreeMap::new();
    for (case, cause) in rows {
        if label(case) == cause.as_str() {
            counts.entry(label(case)).or_default().0 += 1.0;
        } else {
            counts.entry(label(case)).or_default().2 += 1.0;
            counts.entry(cause.as_str()).or_default().1 += 1.0;
        }
    }
    let labels: BTreeSet<&str> = rows.iter().map(|(case, _)| label(case)).collect();
    let sum: f64 =
        labels.iter().filter_map(|name| counts.get(name)).map(|(tp, fp, fn_)| 2.0 * tp / (2.0 * tp + fp + fn_)).sum();
    sum / labels.len() as f64
}

/// What the real program says about the cases, without their labels.
fn judged(cases: &[Value]) -> Vec<(Value, Cause)> {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("cases.jsonl");
    let text: String = cases.iter().map(|case| format!("{}\n", blinded(case))).collect();
    fs::write(&file, text).expect("it can be written");
    let output = Command::new(env!("CARGO_BIN_EXE_watcherctl"))
        .args(["--user", "diagnose", "--batch"])
        .arg(&file)
        .env("XDG_CONFIG_HOME", place.path())
        .output()
        .expect("watcherctl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let verdicts: Vec<Value> = lines(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(verdicts.len(), cases.len());
    let cause = |(case, verdict): (&Value, Value)| {
        assert_eq!(case["id"], verdict["id"]);
        (case.clone(), verdict["cause"].as_str().and_then(Cause::parse).expect("a known cause"))
    };
    cases.iter().zip(verdicts).map(cause).collect()
}

fn blinded(case: &Value) -> Value {
    let mut case = case.clone();
    let seen = case.get("end_from").is_none_or(|from| from == "seen");
    let object = case.as_object_mut().expect("an object");
    object.retain(|key, _| !HIDDEN.contains(&key.as_str()));
    for end in ENDS.iter().filter(|_| !seen) {
        object.insert((*end).into(), Value::Null);
    }
    case
}

fn label(case: &Value) -> &str {
    case["label"].as_str().expect("a label")
}

fn read(path: &Path) -> Vec<Value> {
    lines(&fs::read_to_string(path).expect("a readable file"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
