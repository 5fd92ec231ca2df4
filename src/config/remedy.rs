// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the keys of `[cause.NAME]` and `[parameters]` accept.

use super::complaint::Severity;
use super::given::{Given, with_value};
use super::value::{parse_size, quoted};
use crate::engine::parameter::{Allowed, Change, Number, Parameter, Scale};
use crate::engine::policy::remedy::{Assignments, Names, Remedy, Scales};
use crate::engine::policy::{CauseAction, CausePolicy, Layer, Setting, Source, WhenRunning};
use crate::engine::until::Until;
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Parameters of one worker, and changes of one remedy.
const PARAMETERS_MAX: usize = 64;
/// Rungs of a ladder.
const RUNGS_MAX: usize = 16;
/// The longest name and the longest value of a parameter, in bytes.
const NAME_MAX: usize = 128;
const VALUE_MAX: usize = 1_000;
const CHOICES_MAX: usize = 100;

const ACTIONS: [(&str, CauseAction); 5] = [
    ("restart", CauseAction::Restart),
    ("hold", CauseAction::Hold),
    ("quarantine", CauseAction::Quarantine),
    ("stop", CauseAction::Stop),
    ("ignore", CauseAction::Ignore),
];

/// Puts the value of `cause.NAME.KEY`, one of [`super::keys::CAUSE_KEYS`], into the policy for that cause.
pub fn set_cause(policy: &mut CausePolicy, key: &str, given: Given<'_>, from: Source) -> Result<(), String> {
    fn some<T>(value: T, from: Source) -> Option<Setting<T>> {
        Some(Setting { value, from })
    }
    match key {
        "action" => policy.action = some(given.choice(&ACTIONS)?, from),
        "when-running" => {
            let choices =
                [("ignore", WhenRunning::Ignore), ("warn", WhenRunning::Warn), ("incident", WhenRunning::Incident)];
            policy.when_running = some(given.choice(&choices)?, from);
        }
        "count" => policy.count = some(given.budget()?, from),
        "back-off" => policy.back_off = some(given.back_off()?, from),
        "budget" => policy.budget = some(given.budget()?, from),
        "until" => policy.until = some(until(given)?, from),
        "max-attempts" => {
            policy.max_attempts = some(u32::try_from(given.number(1..=1_000)?).unwrap_or(u32::MAX), from);
        }
        "set" => policy.set = some(with_value(given, assignments)?, from),
        "scale" => policy.scale = some(with_value(given, scales)?, from),
        "unset" => policy.unset = some(names(given)?, from),
        "try-next" => policy.try_next = some(with_value(given, ladder)?, from),
        _ => return Err("unknown key".into()),
    }
    Ok(())
}

/// Puts the declaration of a parameter into the layer.
pub fn set_parameter(layer: &mut Layer, name: &str, given: Given<'_>, from: Source) -> Result<(), String> {
    let name = parameter_name(name)?;
    if layer.parameters.len() >= PARAMETERS_MAX && !layer.parameters.contains_key(&name) {
        return Err(format!("at most {PARAMETERS_MAX} parameters are allowed"));
    }
    let parameter = with_value(given, parameter)?;
    layer.parameters.insert(name, Setting { value: parameter, from });
    Ok(())
}

/// What is wrong with the changes that remedies make: how bad, the line, the key, and a text.
pub fn doubtful_changes(layer: &Layer) -> Vec<(Severity, Source, String, String)> {
    let mut wrong = Vec::new();
    for (cause, policy) in &layer.causes {
        for (remedy, from) in (0..=RUNGS_MAX).filter_map(|rung| policy.remedy(rung)) {
            for (name, change) in &remedy.changes {
                if let Some((severity, text)) = doubt(layer, name, change) {
                    wrong.push((severity, from.clone(), format!("cause.{cause}"), text));
                }
            }
        }
    }
    wrong
}

fn doubt(layer: &Layer, name: &str, change: &Change) -> Option<(Severity, String)> {
    let Some(parameter) = layer.parameters.get(name).map(|setting| &setting.value) else {
        // Another file may declare it.
        let text =
            format!("{name} is not declared in [parameters] of this file; without a declaration it is not changed");
        return Some((Severity::Warning, text));
    };
    match change {
        Change::Set(value) => parameter.check(value).err().map(|why| (Severity::Error, format!("{name}: {why}"))),
        Change::Scale(_) if parameter.default.parse::<f64>().is_err() => {
            Some((Severity::Error, format!("{name}: the default is no number that could be scaled")))
        }
        _ => None,
    }
}

fn until(given: Given<'_>) -> Result<Until, String> {
    Until::parse(given.text("\"free(/srv) > 50G\"")?, parse_size)
}

fn table<'a>(given: Given<'a>, example: &str) -> Result<Vec<(&'a str, Given<'a>)>, String> {
    match given {
        Given::Table(table) if table.len() > PARAMETERS_MAX => {
            Err(format!("at most {PARAMETERS_MAX} entries are allowed"))
        }
        Given::Table(table) => Ok(entries(table)),
        other => Err(format!("a table is expected, as in {example}, not a {}", other.kind())),
    }
}

/// In the order of the file.
fn entries<'a>(table: &'a DeTable<'_>) -> Vec<(&'a str, Given<'a>)> {
    let mut rows: Vec<_> = table.iter().collect();
    rows.sort_by_key(|(key, _)| key.span().start);
    rows.into_iter().map(|(key, value)| (&**key.get_ref(), Given::new(value.get_ref()))).collect()
}

fn assignments(given: Given<'_>) -> Result<Assignments, String> {
    let rows = table(given, "{ BATCH_SIZE = 16 }")?;
    rows.into_iter().map(|(name, value)| Ok((parameter_name(name)?, value_text(value)?))).collect()
}

fn scales(given: Given<'_>) -> Result<Scales, String> {
    let example = "{ BATCH_SIZE = \"x0.5, min 1\" }";
    let rows = table(given, example)?;
    rows.into_iter().map(|(name, value)| Ok((parameter_name(name)?, Scale::parse(value.text(example)?)?))).collect()
}

fn names(given: Given<'_>) -> Result<Names, String> {
    let words = given.words("[\"BATCH_SIZE\"]")?;
    words.iter().take(PARAMETERS_MAX).map(|name| parameter_name(name)).collect()
}

fn ladder(given: Given<'_>) -> Result<Vec<Remedy>, String> {
    let example = "[{ action = \"hold\", until = \"gpu-free(20G)\" }]";
    let Given::List(list) = given else {
        return Err(format!("a list of remedies is expected, as in {example}, not a {}", given.kind()));
    };
    if list.len() > RUNGS_MAX {
        return Err(format!("at most {RUNGS_MAX} remedies are allowed"));
    }
    list.iter().map(|rung: &Spanned<DeValue<'_>>| rung_of(Given::new(rung.get_ref()), example)).collect()
}

fn rung_of(given: Given<'_>, example: &str) -> Result<Remedy, String> {
    let mut policy = CausePolicy::default();
    for (key, value) in table(given, example)? {
        if !["action", "until", "set", "scale", "unset"].contains(&key) {
            return Err(format!("{} is not one of action, until, set, scale and unset", quoted(key)));
        }
        set_cause(&mut policy, key, value, Source::default_value()).map_err(|why| format!("{key}: {why}"))?;
    }
    policy.remedy(0).map(|(remedy, _)| remedy).ok_or_else(|| format!("a remedy says nothing; write {example}"))
}

fn parameter(given: Given<'_>) -> Result<Parameter, String> {
    let example = "{ default = 64, range = [1, 512] }";
    let rows: BTreeMap<&str, Given<'_>> = table(given, example)?.into_iter().collect();
    if let Some(key) = rows.keys().find(|key| !["default", "range", "choices"].contains(*key)) {
        return Err(format!("{} is not one of default, range and choices", quoted(key)));
    }
    let default = value_text(*rows.get("default").ok_or_else(|| format!("the default is missing, as in {example}"))?)?;
    let allowed = match (rows.get("range"), rows.get("choices")) {
        (Some(_), Some(_)) => return Err("give either a range or choices".into()),
        (Some(range), None) => range_of(*range)?,
        (None, Some(choices)) => choices_of(*choices)?,
        (None, None) => Allowed::Any,
    };
    let parameter = Parameter { default, allowed };
    parameter.check(&parameter.default).map_err(|why| format!("default: {why}"))?;
    Ok(parameter)
}

fn range_of(given: Given<'_>) -> Result<Allowed, String> {
    let wrong = || "a range is two numbers, as in [1, 512]".to_owned();
    let Given::List(list) = given else { return Err(wrong()) };
    let numbers: Vec<_> = list.iter().map(|value| number(value.get_ref())).collect();
    match numbers[..] {
        [Some(low), Some(high)] if low.get() <= high.get() => Ok(Allowed::Range(low, high)),
        [Some(_), Some(_)] => Err("the range begins above its end".into()),
        _ => Err(wrong()),
    }
}

fn number(value: &DeValue<'_>) -> Option<Number> {
    let text = match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => return None,
    };
    text.parse().ok().and_then(Number::new)
}

fn choices_of(given: Given<'_>) -> Result<Allowed, String> {
    let wrong = "choices are a list of values, as in [\"fp16\", \"bf16\"]";
    let Given::List(list) = given else { return Err(wrong.into()) };
    if list.is_empty() || list.len() > CHOICES_MAX {
        return Err(format!("{wrong}; from 1 to {CHOICES_MAX} are allowed"));
    }
    let values = list.iter().map(|value| value_text(Given::new(value.get_ref())));
    Ok(Allowed::Choices(values.collect::<Result<_, _>>()?))
}

/// A value as the environment shall have it.
fn value_text(given: Given<'_>) -> Result<Arc<str>, String> {
    let text = match given {
        Given::Number(Some(number)) => number.to_string(),
        Given::Truth(truth) => truth.to_string(),
        Given::Decimal(text) => text.to_owned(),
        other => other.text("64 or \"bf16\"")?.to_owned(),
    };
    if text.len() > VALUE_MAX {
        return Err(format!("the value is {} bytes long, {VALUE_MAX} are allowed", text.len()));
    }
    Ok(text.into())
}

/// A name that an environment variable may have.
fn parameter_name(name: &str) -> Result<Arc<str>, String> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !first || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || name.len() > NAME_MAX {
        return Err(format!("{} is not the name of an environment variable", quoted(name)));
    }
    if name.starts_with("WATCHERD_") {
        return Err(format!("{}: names that begin with WATCHERD_ are watcherd's own", quoted(name)));
    }
    Ok(name.into())
}
