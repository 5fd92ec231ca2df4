// SPDX-License-Identifier: MIT OR Apache-2.0
//! What single lines of a program that still runs are a sign of. Nothing is known about its end, so only plain proofs
//! count: rules that need no other line, where no rule that matches the same line calls it harmless, excuses it, or
//! stands against it.

use super::Rules;
use super::line::without_escapes;
use super::rule::Rule;
use crate::engine::cause::Cause;
use crate::engine::evidence::{Role, Source};
use std::sync::Arc;

/// From this weight on a proof is worth a warning.
const TELLING: u8 = 60;

/// Recognises lines one by one.
pub struct Signs {
    rules: Arc<Rules>,
    candidates: Vec<usize>,
    scratch: Vec<u8>,
}

impl Signs {
    pub fn new(rules: Arc<Rules>) -> Signs {
        Signs { rules, candidates: Vec::new(), scratch: Vec::new() }
    }

    /// The cause that a line of the program's output speaks of, if it does.
    pub fn of(&mut self, line: &[u8]) -> Option<Cause> {
        let text = without_escapes(line, &mut self.scratch).unwrap_or(line);
        self.rules.matcher.all().candidates(text, &mut self.candidates);
        let candidates = self.candidates.iter().map(|id| self.rules.matcher.pattern(*id));
        let matching = |is_wanted: fn(&Rule) -> bool| {
            let rules = candidates.clone().map(|pattern| (pattern, &self.rules.list[pattern.rule]));
            let wanted = rules.filter(move |(_, rule)| rule.sources.contains(&Source::Output) && is_wanted(rule));
            let matching = wanted.filter(|(pattern, _)| pattern.regex().is_some_and(|regex| regex.is_match(text)));
            matching.map(|(_, rule)| rule)
        };
        // Most lines prove nothing, and are not looked at any closer.
        matching(is_proof).next()?;
        let beside: Vec<&Rule> = matching(stands_alone).collect();
        let is_void = |rule: &Rule| {
            let voids = |other: &&Rule| {
                matches!(other.role, Role::Harmless | Role::Work)
                    || other.excuses.contains(&rule.cause)
                    || other.doubts.contains(&rule.cause)
                    || rule.unless.iter().any(|name| *name == *other.name)
            };
            beside.iter().any(voids)
        };
        let found = matching(is_proof).filter(|rule| !is_void(rule));
        // Of equally heavy ones the first.
        let best = found.reduce(|best, rule| if rule.weight > best.weight { rule } else { best });
        best.map(|rule| rule.cause).filter(|cause| !matches!(cause, Cause::NoCrash | Cause::ExternalStop))
    }
}

/// Whether the rule proves its cause by one line.
fn is_proof(rule: &Rule) -> bool {
    rule.role == Role::Proof && rule.weight >= TELLING && stands_alone(rule)
}

/// Whether the rule needs no other line.
fn stands_alone(rule: &Rule) -> bool {
    rule.needs.is_empty() && rule.at_least <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telling_lines_are_signs_and_others_are_not() {
        let mut signs = Signs::new(Rules::packaged());
        let cases = [
            ("RuntimeError: CUDA error: an illegal memory access was encountered", Some(Cause::GpuProgramFault)),
            ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", Some(Cause::GpuOom)),
            ("OSError: [Errno 28] No space left on device", Some(Cause::DiskFull)),
            ("epoch 3 step 120/500 loss 0.71 lr 1e-4", None),
            ("INFO: 0 errors", None),
            ("DEBUG dialer: dial tcp: lookup a.example: no such host", None),
            ("dial tcp: lookup a.example: no such host", Some(Cause::DnsFailure)),
            ("# WARNING: kernel file descriptor limit: too many open files", None),
            ("Error: failed to load config: open /etc/a.yaml: permission denied", Some(Cause::PermissionDenied)),
            ("apt: cannot read the cache: Permission denied, falling back to none", None),
            ("Please specify a different user using the --uid option.", None),
            ("", None),
        ];
        for (line, cause) in cases {
            assert_eq!(signs.of(line.as_bytes()), cause, "{line}");
        }
        assert_eq!(signs.of(&[0xff; 100_000]), None);
    }
}
