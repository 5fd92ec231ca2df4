// SPDX-License-Identifier: MIT OR Apache-2.0
//! What single lines of a program that still runs are a sign of. Nothing is known about its end, so only plain proofs
//! count: rules that need no other line, and no line that a rule calls harmless.

use super::Rules;
use super::line::without_escapes;
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
        let mut best: Option<(u8, Cause)> = None;
        for id in &self.candidates {
            let pattern = self.rules.matcher.pattern(*id);
            let rule = &self.rules.list[pattern.rule];
            let harmless = matches!(rule.role, Role::Harmless | Role::Work);
            let proof =
                rule.role == Role::Proof && rule.weight >= TELLING && rule.needs.is_empty() && rule.at_least <= 1;
            let better = proof && best.is_none_or(|(weight, _)| rule.weight > weight);
            if !rule.sources.contains(&Source::Output) || !(harmless || better) {
                continue;
            }
            if !pattern.regex().is_some_and(|regex| regex.is_match(text)) {
                continue;
            }
            if harmless {
                return None;
            }
            best = Some((rule.weight, rule.cause));
        }
        best.map(|(_, cause)| cause).filter(|cause| !matches!(cause, Cause::NoCrash | Cause::ExternalStop))
    }
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
            ("Please specify a different user using the --uid option.", None),
            ("", None),
        ];
        for (line, cause) in cases {
            assert_eq!(signs.of(line.as_bytes()), cause, "{line}");
        }
        assert_eq!(signs.of(&[0xff; 100_000]), None);
    }
}
