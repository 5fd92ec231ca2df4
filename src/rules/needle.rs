// SPDX-License-Identifier: MIT OR Apache-2.0
//! The literal texts of a pattern: every line that matches contains at least one of them.
//!
//! They are what makes many patterns cheap: a line without any of them needs no pattern at all.

use regex_syntax::hir::{Class, Hir, HirKind};

/// The shortest literal that may stand for a pattern, in bytes.
pub const SHORTEST: usize = 3;
/// Literals are cut to this length; more would find no fewer lines.
const LONGEST: usize = 24;
/// The most literals for one pattern.
const MOST: usize = 256;

/// The literals of a pattern, in lower case; `None` if it can match without a text of [`SHORTEST`] bytes.
pub fn needles(pattern: &Hir) -> Option<Vec<Vec<u8>>> {
    let mut set = required(pattern)?;
    for needle in &mut set {
        needle.make_ascii_lowercase();
        needle.truncate(LONGEST);
    }
    set.sort();
    set.dedup();
    set.iter().all(|needle| needle.len() >= SHORTEST).then_some(set)
}

/// The best set of literals of which each match contains one.
fn required(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    if let Some(whole) = exact(hir) {
        return usable(whole);
    }
    match hir.kind() {
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(required(branch)?);
            }
            usable(all)
        }
        HirKind::Concat(parts) => in_sequence(parts),
        _ => None,
    }
}

fn in_sequence(parts: &[Hir]) -> Option<Vec<Vec<u8>>> {
    let mut best: Option<Vec<Vec<u8>>> = None;
    let mut run: Vec<Vec<u8>> = vec![Vec::new()];
    let keep = |candidate: Option<Vec<Vec<u8>>>, best: &mut Option<Vec<Vec<u8>>>| {
        if let Some(candidate) = candidate
            && best.as_ref().is_none_or(|best| worth(&candidate) > worth(best))
        {
            *best = Some(candidate);
        }
    };
    for part in parts {
        if matches!(part.kind(), HirKind::Look(_)) {
            continue;
        }
        let part_set = exact(part);
        match part_set.as_ref().and_then(|set| product(&run, set)) {
            Some(longer) => run = longer,
            None => {
                keep(usable(std::mem::take(&mut run)), &mut best);
                run = part_set.unwrap_or_else(|| {
                    keep(required(part), &mut best);
                    vec![Vec::new()]
                });
            }
        }
    }
    keep(usable(run), &mut best);
    best
}

/// All texts that the expression matches, if they are few.
fn exact(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    const FEW: usize = 4;
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(vec![Vec::new()]),
        HirKind::Literal(literal) => Some(vec![literal.0.to_vec()]),
        HirKind::Class(Class::Bytes(class)) => {
            let mut bytes: Vec<u8> = Vec::new();
            for range in class.iter() {
                for byte in range.start()..=range.end() {
                    if !bytes.contains(&byte.to_ascii_lowercase()) {
                        bytes.push(byte.to_ascii_lowercase());
                    }
                    if bytes.len() > FEW {
                        return None;
                    }
                }
            }
            Some(bytes.into_iter().map(|byte| vec![byte]).collect())
        }
        HirKind::Capture(capture) => exact(&capture.sub),
        HirKind::Repetition(repetition) if (repetition.min, repetition.max) == (0, Some(1)) => {
            let mut set = exact(&repetition.sub)?;
            set.push(Vec::new());
            Some(set)
        }
        HirKind::Concat(parts) => parts.iter().try_fold(vec![Vec::new()], |run, part| product(&run, &exact(part)?)),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(exact(branch)?);
            }
            (all.len() <= MOST).then_some(all)
        }
        _ => None,
    }
}

fn product(left: &[Vec<u8>], right: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    const MOST_PRODUCTS: usize = 128;
    if right.is_empty() || left.len().saturating_mul(right.len()) > MOST_PRODUCTS {
        return None;
    }
    Some(left.iter().flat_map(|one| right.iter().map(move |other| [one.as_slice(), other].concat())).collect())
}

fn usable(set: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let fine = !set.is_empty() && set.len() <= MOST && set.iter().all(|needle| needle.len() >= SHORTEST);
    fine.then_some(set)
}

/// Words that stand in the lines of every day; a pattern with something rarer in it is not looked for by them.
const COMMON: [&[u8]; 23] = [
    b"loss",
    b"http",
    b"worker",
    b"step",
    b"epoch",
    b"error",
    b"fail",
    b"info",
    b"warn",
    b"file",
    b"time",
    b"memory",
    b"process",
    b"connect",
    b"request",
    b"server",
    b"client",
    b"service",
    b"task",
    b"train",
    b"status",
    b"code",
    b"grad_norm",
];

/// Longer literals are rarer; beyond a dozen bytes fewer literals are better than longer ones. A common word counts as
/// one letter, and numbers are everywhere.
fn worth(set: &[Vec<u8>]) -> (usize, usize) {
    let rare = |needle: &Vec<u8>| {
        if needle.iter().all(|byte| !byte.is_ascii_alphabetic()) {
            return 2;
        }
        let needle = needle.to_ascii_lowercase();
        let common = COMMON.iter().filter(|word| needle.windows(word.len()).any(|part| part == **word));
        needle.len().saturating_sub(common.map(|word| word.len() - 1).max().unwrap_or(0)).max(1)
    };
    let shortest = set.iter().map(rare).min().unwrap_or(0);
    (shortest.min(12), MOST.saturating_sub(set.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_syntax::ParserBuilder;

    fn of(pattern: &str) -> Option<Vec<String>> {
        let hir = ParserBuilder::new().utf8(false).unicode(false).build().parse(pattern).expect(pattern);
        Some(needles(&hir)?.into_iter().map(|needle| String::from_utf8_lossy(&needle).into_owned()).collect())
    }

    #[test]
    fn every_match_contains_one_of_them() {
        let cases: &[(&str, &[&str])] = &[
            ("CUDA out of memory", &["cuda out of memory"]),
            ("(?i)Killed process", &["killed process"]),
            (r"\w+(?:Error|Exception): ", &["error: ", "exception: "]),
            (r"(?:exit )?code \d+ was returned", &[" was returned"]),
            (r"^\s*Killed$", &["killed"]),
            (r"ab+cde", &["cde"]),
            (r"foo[12]bar", &["foo1bar", "foo2bar"]),
            (r"(?:abc|def)+x", &["abc", "def"]),
        ];
        for (pattern, expected) in cases {
            assert_eq!(of(pattern).expect(pattern), *expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_without_a_text_of_its_own_has_none() {
        for pattern in [r"\d+", "ab", ".*", "(?:abc)?", "abc|x", "[a-z]+"] {
            assert_eq!(of(pattern), None, "{pattern}");
        }
    }
}
