// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which checkpoint a run resumes from: what was found is remembered and told.

use super::*;

/// Checkpoints that are named in one message.
const NAMED_MAX: usize = 5;

/// What was found before a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The newest one that can be used.
    pub chosen: Option<String>,
    /// Newer ones that cannot be used, and why.
    pub passed: Vec<(String, String)>,
    /// The names of those that were set aside, and what is wrong with each.
    pub set_aside: Vec<(String, String)>,
    /// The names of those that were removed.
    pub removed: Vec<String>,
    /// What is wrong besides; a fragment.
    pub trouble: Option<String>,
}

impl Engine {
    pub(super) fn resume_chosen(&mut self, name: &WorkerName, choice: Choice) {
        let Some(worker) = self.workers.get_mut(name) else { return };
        worker.resume_from.clone_from(&choice.chosen);
        if !choice.set_aside.is_empty() {
            let names = listed(choice.set_aside.iter().map(|(name, why)| format!("{name} ({why})")));
            let text = format!("{name}: set aside, because they are no whole checkpoints: {names}");
            self.record(EntryKind::CheckpointsSetAside, Some(name), text);
        }
        if !choice.removed.is_empty() {
            let names = listed(choice.removed.iter().cloned());
            let text = format!("{name}: removed checkpoints that newer ones replace: {names}");
            self.record(EntryKind::CheckpointsRemoved, Some(name), text);
        }
        if let Some(text) = complaint(&choice) {
            self.record(EntryKind::CheckpointsBroken, Some(name), format!("{name}: {text}"));
        }
        if let Some(chosen) = choice.chosen {
            self.record(EntryKind::ResumeChosen, Some(name), format!("{name}: the next run resumes from {chosen}"));
        }
    }
}

fn complaint(choice: &Choice) -> Option<String> {
    let named = choice.passed.iter().map(|(path, why)| format!("{path} ({why})"));
    let passed = match choice.passed.is_empty() {
        true => None,
        false => Some(format!("checkpoints that are passed over: {}", listed(named))),
    };
    let trouble = choice.trouble.clone();
    match (passed, trouble) {
        (Some(passed), Some(trouble)) => Some(format!("{passed}; {trouble}")),
        (passed, trouble) => passed.or(trouble),
    }
}

/// The first few, and how many more there are.
fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let mut parts: Vec<String> = names.take(NAMED_MAX).collect();
    parts.extend((more > 0).then(|| format!("{more} more")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over_is_named_within_limits() {
        let passed = |n: usize| (1..=n).map(|n| (format!("/c/{n}"), "cut off".to_owned())).collect();
        let told = |passed, trouble: Option<&str>| {
            complaint(&Choice { passed, trouble: trouble.map(str::to_owned), ..Choice::default() })
        };
        assert_eq!(told(passed(0), None), None);
        let one = "checkpoints that are passed over: /c/1 (cut off)";
        assert_eq!(told(passed(1), None).as_deref(), Some(one));
        let late = format!("{one}; late");
        assert_eq!(told(passed(1), Some("late")), Some(late));
        assert!(told(passed(9), None).is_some_and(|text| text.ends_with("/c/5 (cut off), 4 more")));
    }
}
