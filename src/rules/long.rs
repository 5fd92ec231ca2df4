// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long logs: which lines are worth a look.
//!
//! Most lines of a log are those of every day, and rules know many of them. They matter only beside a line that tells
//! of a cause, and at the end of the log. So only the literals of the rules that tell are looked for, by several threads.

use super::Rules;
use super::line::split;
use super::reader::LINE_MAX;
use memchr::{memchr, memchr_iter, memrchr, memrchr_iter};
use std::num::NonZero;
use std::ops::Range;
use std::thread;

/// A block of so many bytes is part of a long log.
pub const LONG: usize = 512 << 10;
/// More threads do not make it quicker: the log has to be read as well.
const THREADS_MAX: usize = 4;

/// Where lines begin that a telling rule recognises, ascending; not those that are near another one, as all lines there are
/// looked at in any case.
pub fn telling(rules: &Rules, block: &[u8]) -> Vec<usize> {
    telling_by(thread::available_parallelism().map_or(1, NonZero::get).clamp(1, THREADS_MAX), rules, block)
}

fn telling_by(threads: usize, rules: &Rules, block: &[u8]) -> Vec<usize> {
    // Made once, before there are threads that would wait for each other.
    rules.matcher.telling(&rules.list);
    let mut begin = 0;
    let mut part = |number: usize| {
        let end = if number == threads { block.len() } else { next_line(block, block.len() / threads * number) };
        std::mem::replace(&mut begin, end)..end
    };
    thread::scope(|scope| {
        let first = part(1);
        let start = |part: Range<usize>| {
            let theirs = part.clone();
            let thread = thread::Builder::new().spawn_scoped(scope, move || telling_in(rules, block, theirs));
            // Where there can be no more threads, which may be what the log tells of, this one does it.
            thread.map_err(|_| part)
        };
        let others: Vec<_> = (2..=threads).map(|number| start(part(number))).collect();
        let mut all = telling_in(rules, block, first);
        for other in others {
            all.extend(match other {
                Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(part) => telling_in(rules, block, part),
            });
        }
        all
    })
}

fn telling_in(rules: &Rules, block: &[u8], part: Range<usize>) -> Vec<usize> {
    let index = rules.matcher.telling(&rules.list);
    let (mut found, mut candidates) = (Vec::new(), Vec::new());
    let text = &block[..part.end];
    let mut from = part.start;
    while let Some(hit) = index.first(text, from) {
        let begin = memrchr(b'\n', &text[from..hit]).map_or(from, |at| from + at + 1);
        let end = memchr(b'\n', &text[hit..]).map_or(text.len(), |at| hit + at);
        let line = split(&text[begin..end.min(begin + LINE_MAX)]);
        index.candidates(line.text, &mut candidates);
        let told = candidates.iter().map(|number| rules.matcher.pattern(*number)).any(|pattern| {
            line.source.is_none_or(|source| rules.list[pattern.rule].sources.contains(&source))
                && pattern.regex().is_some_and(|regex| regex.is_match(line.text))
        });
        from = end + 1;
        if told {
            found.push(begin);
            let near = rules.near.checked_sub(1).and_then(|near| memchr_iter(b'\n', text.get(from..)?).nth(near));
            from += near.map_or(0, |newline| newline + 1);
        }
        if from >= text.len() {
            break;
        }
    }
    found
}

/// Where the line begins that is so many lines before the one that begins at `at`.
pub fn before_lines(block: &[u8], at: usize, lines: usize) -> usize {
    // The newline right before `at` ends the line before it.
    memrchr_iter(b'\n', &block[..at]).nth(lines).map_or(0, |newline| newline + 1)
}

/// Where the line after the one in which `at` lies begins.
pub fn next_line(block: &[u8], at: usize) -> usize {
    memchr(b'\n', &block[at..]).map_or(block.len(), |newline| at + newline + 1)
}

#[cfg(test)]
mod tests {
    use super::super::{Examples, RuleFile};
    use super::*;

    #[test]
    fn lines_are_counted_from_where_they_begin() {
        let block = b"a\nbb\n\nc";
        for (at, lines, before, next) in
            [(0, 0, 0, 2), (2, 1, 0, 5), (3, 0, 2, 5), (5, 1, 2, 6), (5, 9, 0, 6), (7, 1, 5, 7)]
        {
            assert_eq!((before_lines(block, at, lines), next_line(block, at)), (before, next), "{at} {lines}");
        }
    }

    #[test]
    fn each_telling_line_is_found_or_near_one_that_is_wherever_the_parts_of_the_block_begin() {
        let text = "[[rule]]\nname = 'x'\ncause = 'segfault'\npatterns = ['^- core']\nwithin = 1\n";
        let rules = Rules::new(RuleFile::parse("x.toml", text, Examples::Prove).rules);
        assert_eq!(rules.near, 3);
        let mut near_ones = 0;
        for (size, threads) in (1..150).flat_map(|size| (1..5).map(move |threads| (size, threads))) {
            // Lines of very different lengths, and none at all.
            let block = b"- core\nx\n\n- core\na core\n\n\n\n- core\n".repeat(size % 7);
            let block = [&b"-".repeat(size)[..], b"\n", &block].concat();
            let found = telling_by(threads, &rules, &block);
            let mut begin = 0;
            for line in block.split_inclusive(|byte| *byte == b'\n') {
                let tells = line.starts_with(b"- core");
                let is_found = found.contains(&begin);
                let is_near = found.contains(&before_lines(&block, begin, 1))
                    || found.contains(&before_lines(&block, begin, 2))
                    || found.contains(&before_lines(&block, begin, 3));
                assert!(tells || !is_found, "{size} {threads}");
                assert!(!tells || is_found || is_near, "{size} {threads}");
                near_ones += usize::from(tells && !is_found);
                begin += line.len();
            }
            assert!(found.is_sorted());
        }
        assert!(near_ones > 100);
    }
}
