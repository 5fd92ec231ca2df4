// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters: environment variables of a worker that remedies may change, within what the policy allows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Values that can be undone, one after the other.
const STEPS_MAX: usize = 64;

/// A number that can be compared for equality; never NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(f64);

impl Eq for Number {}

impl Number {
    /// `None` for NaN and infinity.
    pub fn new(value: f64) -> Option<Number> {
        value.is_finite().then_some(Number(value))
    }

    pub fn get(self) -> f64 {
        self.0
    }

    fn is_whole(self) -> bool {
        self.0.fract() == 0.0
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a policy says about one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// What the unit has by itself; scaling begins here.
    pub default: Arc<str>,
    pub allowed: Allowed,
}

/// The values that a parameter may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    Any,
    /// From the first to the second; whole numbers only if both and the default are whole.
    Range(Number, Number),
    Choices(Vec<Arc<str>>),
}

/// How a remedy changes a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Set(Arc<str>),
    Scale(Scale),
    /// Back to what the unit has by itself.
    Unset,
}

/// `x0.5, min 1`: multiplied, and kept within these and what the parameter allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    pub factor: Number,
    pub min: Option<Number>,
    pub max: Option<Number>,
}

/// Names and changes, in the order in which they were written.
pub type Changes = Vec<(Arc<str>, Change)>;

impl Scale {
    /// Reads `x0.5`, `x0.5, min 1` and `x2, max 512`; the error is a sentence fragment.
    pub fn parse(text: &str) -> Result<Scale, String> {
        let wrong = || format!("\"{text}\" is not a scale; write a factor and a limit, as in \"x0.5, min 1\"");
        let number = |text: &str| text.trim().parse().ok().and_then(Number::new).ok_or_else(wrong);
        let mut parts = text.split(',').map(str::trim);
        let factor = number(parts.next().and_then(|part| part.strip_prefix('x')).ok_or_else(wrong)?)?;
        if factor.get() <= 0.0 || factor.get() == 1.0 {
            return Err(format!("\"{text}\": the factor must be above 0 and different from 1"));
        }
        let mut scale = Scale { factor, min: None, max: None };
        for part in parts {
            match part.split_once(' ') {
                Some(("min", limit)) if scale.min.is_none() => scale.min = Some(number(limit)?),
                Some(("max", limit)) if scale.max.is_none() => scale.max = Some(number(limit)?),
                _ => return Err(wrong()),
            }
        }
        Ok(scale)
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x{}", self.factor)?;
        let limits = [("min", self.min), ("max", self.max)];
        limits
            .into_iter()
            .filter_map(|(word, limit)| Some((word, limit?)))
            .try_for_each(|(w, l)| write!(f, ", {w} {l}"))
    }
}

impl Parameter {
    /// Whether the parameter may take this value; the error says what is allowed, in a sentence fragment.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match &self.allowed {
            Allowed::Any => Ok(()),
            Allowed::Choices(choices) if choices.iter().any(|choice| **choice == *value) => Ok(()),
            Allowed::Choices(choices) => {
                let names: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
                Err(format!("\"{value}\" is not one of {}", names.join(", ")))
            }
            Allowed::Range(low, high) => {
                let number = value.parse().ok().and_then(Number::new);
                let inside = number.is_some_and(|number| (low.get()..=high.get()).contains(&number.get()));
                match number {
                    Some(number) if inside && (number.is_whole() || !self.is_whole()) => Ok(()),
                    _ => {
                        let kind = if self.is_whole() { "whole number" } else { "number" };
                        Err(format!("\"{value}\" is not a {kind} from {low} to {high}"))
                    }
                }
            }
        }
    }

    fn is_whole(&self) -> bool {
        let default = self.default.parse().ok().and_then(Number::new);
        match &self.allowed {
            Allowed::Range(low, high) => low.is_whole() && high.is_whole() && default.is_none_or(Number::is_whole),
            _ => default.is_some_and(Number::is_whole),
        }
    }

    /// The value after a change, `None` for what the unit has by itself.
    fn changed(&self, current: Option<&str>, change: &Change) -> Option<Arc<str>> {
        match change {
            Change::Unset => None,
            Change::Set(value) => Some(value.clone()),
            Change::Scale(scale) => {
                let before = current.unwrap_or(&self.default);
                let number = before.parse().ok().and_then(Number::new)?;
                let mut after = number.get() * scale.factor.get();
                let range = match &self.allowed {
                    Allowed::Range(low, high) => (Some(*low), Some(*high)),
                    _ => (None, None),
                };
                for low in [range.0, scale.min].into_iter().flatten() {
                    after = after.max(low.get());
                }
                for high in [range.1, scale.max].into_iter().flatten() {
                    after = after.min(high.get());
                }
                if self.is_whole() {
                    after = after.floor();
                }
                Some(Number::new(after)?.to_string().into())
            }
        }
    }
}

/// The parameters of one worker that differ from what the unit has by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    now: BTreeMap<Arc<str>, Arc<str>>,
    /// What was changed, oldest first: the name and the value before.
    steps: Vec<(Arc<str>, Option<Arc<str>>)>,
}

impl Tuning {
    /// What was saved.
    pub fn restore(now: BTreeMap<Arc<str>, Arc<str>>, steps: Vec<(Arc<str>, Option<Arc<str>>)>) -> Tuning {
        Tuning { now, steps }
    }

    pub fn values(&self) -> &BTreeMap<Arc<str>, Arc<str>> {
        &self.now
    }

    pub fn steps(&self) -> &[(Arc<str>, Option<Arc<str>>)] {
        &self.steps
    }

    pub fn value(&self, name: &str) -> Option<&Arc<str>> {
        self.now.get(name)
    }

    pub fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    /// Whether the policy still declares what is tuned; what it does not is dropped.
    pub fn keep_only(&mut self, parameters: &BTreeMap<Arc<str>, Parameter>) -> bool {
        let before = self.now.len();
        self.now.retain(|name, value| parameters.get(name).is_some_and(|parameter| parameter.check(value).is_ok()));
        self.steps.retain(|(name, _)| parameters.contains_key(name));
        self.now.len() != before
    }

    /// Makes the changes; returns what has changed, as `BATCH_SIZE 64 -> 32`. Nothing changes where a limit is reached.
    pub fn apply(&mut self, parameters: &BTreeMap<Arc<str>, Parameter>, changes: &Changes) -> Vec<String> {
        let mut told = Vec::new();
        for (name, change) in changes {
            let Some(parameter) = parameters.get(name) else { continue };
            let before = self.now.get(name).cloned();
            let after = parameter.changed(before.as_deref(), change);
            let same =
                before.as_deref().unwrap_or(&parameter.default) == after.as_deref().unwrap_or(&parameter.default);
            let allowed = after.as_deref().is_none_or(|value| parameter.check(value).is_ok());
            if same || !allowed {
                continue;
            }
            let shown = |value: &Option<Arc<str>>| value.as_deref().unwrap_or(&parameter.default).to_owned();
            told.push(format!("{name} {} -> {}", shown(&before), shown(&after)));
            self.put(name, after);
            self.steps.push((name.clone(), before));
            if self.steps.len() > STEPS_MAX {
                self.steps.remove(0);
            }
        }
        told
    }

    /// Takes the newest step back; returns what has changed.
    pub fn step_back(&mut self) -> Option<String> {
        let (name, before) = self.steps.pop()?;
        let shown = |value: Option<&Arc<str>>| value.map_or("the unit's own".to_owned(), |value| value.to_string());
        let told = format!("{name} {} -> {}", shown(self.now.get(&name)), shown(before.as_ref()));
        self.put(&name, before);
        Some(told)
    }

    /// Takes steps back until only so many are left; returns what has changed.
    pub fn back_to(&mut self, steps: usize) -> Vec<String> {
        let mut told = Vec::new();
        while self.steps.len() > steps {
            told.extend(self.step_back());
        }
        told
    }

    fn put(&mut self, name: &Arc<str>, value: Option<Arc<str>>) {
        match value {
            Some(value) => drop(self.now.insert(name.clone(), value)),
            None => drop(self.now.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> Number {
        Number::new(value).expect("finite")
    }

    fn batch() -> BTreeMap<Arc<str>, Parameter> {
        let allowed = Allowed::Range(number(1.0), number(512.0));
        [("BATCH".into(), Parameter { default: "65".into(), allowed })].into()
    }

    fn scale(text: &str) -> Changes {
        vec![("BATCH".into(), Change::Scale(Scale::parse(text).expect(text)))]
    }

    #[test]
    fn halving_stays_whole_and_ends_at_the_limit() {
        let (parameters, mut tuning) = (batch(), Tuning::default());
        let halve = scale("x0.5, min 10");
        assert_eq!(tuning.apply(&parameters, &halve), ["BATCH 65 -> 32"]);
        assert_eq!(tuning.apply(&parameters, &halve), ["BATCH 32 -> 16"]);
        assert_eq!(tuning.apply(&parameters, &halve), ["BATCH 16 -> 10"]);
        assert!(tuning.apply(&parameters, &halve).is_empty(), "it cannot go on");
        assert_eq!(tuning.step_back().as_deref(), Some("BATCH 10 -> 16"));
        assert_eq!(tuning.back_to(0), ["BATCH 16 -> 32", "BATCH 32 -> the unit's own"]);
        assert!(tuning.is_empty());
    }

    #[test]
    fn nothing_leaves_what_the_policy_allows() {
        let (parameters, mut tuning) = (batch(), Tuning::default());
        assert_eq!(tuning.apply(&parameters, &scale("x100")), ["BATCH 65 -> 512"]);
        let set = |value: &str| vec![("BATCH".into(), Change::Set(value.into()))];
        for value in ["0", "513", "1.5", "many", ""] {
            assert!(tuning.apply(&parameters, &set(value)).is_empty(), "{value}");
        }
        assert!(tuning.apply(&parameters, &vec![("OTHER".into(), Change::Set("1".into()))]).is_empty());
        assert_eq!(tuning.apply(&parameters, &vec![("BATCH".into(), Change::Unset)]), ["BATCH 512 -> 65"]);
        assert!(tuning.is_empty());
    }

    #[test]
    fn what_the_policy_does_not_declare_any_more_is_dropped() {
        let (parameters, mut tuning) = (batch(), Tuning::default());
        tuning.apply(&parameters, &scale("x0.5"));
        assert!(!tuning.keep_only(&parameters));
        assert!(tuning.keep_only(&BTreeMap::new()));
        assert!(tuning.is_empty() && tuning.steps().is_empty());
    }

    #[test]
    fn choices_and_decimals() {
        let choices = Parameter { default: "a".into(), allowed: Allowed::Choices(vec!["a".into(), "b".into()]) };
        assert!(choices.check("b").is_ok());
        assert_eq!(choices.check("c").expect_err("not a choice"), "\"c\" is not one of \"a\", \"b\"");
        let rate = Parameter { default: "0.1".into(), allowed: Allowed::Range(number(0.0), number(1.0)) };
        let half = Change::Scale(Scale::parse("x0.5").expect("a scale"));
        assert_eq!(rate.changed(None, &half).as_deref(), Some("0.05"));
        assert!(rate.check("0.25").is_ok());
    }

    #[test]
    fn scales_are_read_and_written_the_same() {
        for text in ["x0.5", "x0.5, min 1", "x2, max 512", "x0.9, min 1, max 9"] {
            assert_eq!(Scale::parse(text).map(|scale| scale.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "0.5", "x", "x0", "x-1", "x1", "xNaN", "x0.5, least 1", "x0.5, min", "x0.5, min 1, min 2"] {
            assert!(Scale::parse(text).is_err(), "{text}");
        }
    }
}
