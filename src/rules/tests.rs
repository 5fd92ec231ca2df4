// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::engine::cause::Cause;
use crate::engine::event::{Exit, UnitResult};
use crate::engine::evidence::{CLUES_MAX, Clue, Item, LAST_WORDS, Source, TEXT_MAX};
use crate::engine::time::Wall;
use std::collections::BTreeSet;

#[test]
fn the_packaged_files_have_no_fault() {
    for (name, text) in PACKAGED {
        let file = RuleFile::parse(name, text, Examples::Prove);
        let faults: Vec<String> = file.faults.iter().map(|fault| format!("{name}:{fault}")).collect();
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    }
}

#[test]
fn every_packaged_rule_has_an_example_a_name_of_its_own_and_names_only_rules_that_exist() {
    let rules = Rules::packaged();
    let count: usize =
        PACKAGED.iter().map(|(name, text)| RuleFile::parse(name, text, Examples::Skip).rules.len()).sum();
    assert_eq!(rules.list().len(), count, "a name is there twice");
    for rule in rules.list() {
        assert!(!rule.examples.is_empty(), "{} has no example", rule.name);
        for name in rule.needs.iter().chain(&rule.unless) {
            assert!(rules.rule(name).is_some(), "{} names {name}", rule.name);
        }
    }
    let told: BTreeSet<Cause> = rules.list().iter().map(|rule| rule.cause).collect();
    // Ceilings are measured, no line tells of them.
    assert_eq!(told.len(), Cause::ALL.len() - 1, "a cause has no rule");
    assert!(!told.contains(&Cause::OverLimit));
}

#[test]
fn a_pattern_that_matches_an_example_is_among_those_that_are_tried_on_it() {
    let rules = Rules::packaged();
    let patterns: Vec<_> = (0..).map_while(|number| rules.matcher.get(number)).collect();
    let examples = rules.list().iter().flat_map(|rule| &rule.examples);
    let (mut candidates, mut tried) = (Vec::new(), 0);
    for line in examples.flat_map(|example| [example.clone(), example.to_ascii_uppercase(), format!("x{example}")]) {
        rules.matcher.all().candidates(line.as_bytes(), &mut candidates);
        for (number, pattern) in patterns.iter().enumerate() {
            if !candidates.contains(&number) && pattern.regex().is_some_and(|regex| regex.is_match(line.as_bytes())) {
                panic!("{} is not tried on {line:?}", rules.list()[pattern.rule].name);
            }
        }
        tried += candidates.len();
    }
    assert!(tried > 2_000, "{tried}");
}

#[test]
fn the_packaged_directory_has_no_file_that_is_not_built_in() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/rules.d");
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .expect("the directory is there")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, PACKAGED.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
}

#[test]
fn a_fault_is_told_with_its_line_and_what_is_allowed() {
    let cases = [
        ("[[rule]]\ncause = 'gpu-oom'\n", "1: name: is missing"),
        ("[[rule]]\nname = 'A b'\n", "2: name: write lower-case letters, digits, dots and dashes, at most 80"),
        ("[[rule]]\nname = 'a'\npatterns = ['abc']\n", "1: a.cause: is missing"),
        ("[[rule]]\nname = 'a'\ncause = 'oops'\npatterns = ['abc']\n", "3: a.cause: \"oops\" is not one of gpu-oom, "),
        (
            "[[rule]]\nname = 'a'\nrole = 'boss'\ncause = 'unknown'\npatterns = ['abc']\n",
            "3: a.role: \"boss\" is not one of proof, symptom, hint, faint, end, harmless, work, context",
        ),
        ("[[rule]]\nname = 'a'\ncause = 'unknown'\n", "1: a.patterns: a rule needs at least one"),
        (
            "[[rule]]\nname = 'a'\ncause = 'unknown'\npatterns = ['a(b']\n",
            "4: a.patterns: not a valid pattern: unclosed group",
        ),
        (
            "[[rule]]\nname = 'a'\ncause = 'unknown'\npatterns = ['.*']\n",
            "4: a.patterns: the pattern can match without any fixed text",
        ),
        (
            "[[rule]]\nname = 'a'\ncause = 'unknown'\npatterns = ['abc\\w{500}{500}']\n",
            "4: a.patterns: the pattern is too large, 256 KiB are allowed",
        ),
        (
            "[[rule]]\nname = 'a'\ncause = 'unknown'\nweight = 101\npatterns = ['abc']\n",
            "4: a.weight: a whole number from 0 to 100 is expected",
        ),
        ("[[rule]]\nname = 'a'\ncause = 'unknown'\npatterns = 'abc'\n", "4: a.patterns: a list of texts is expected"),
        (
            "[[rule]]\nname = 'a'\ncause = 'unknown'\npatterns = ['abc']\nexamples = ['x']\n",
            "5: a.examples: no pattern of the rule matches this",
        ),
        (
            "[[rule]]\nname = 'a'\ncause = 'unknown'\npatterns = ['abc']\ncounter-examples = ['xabc']\n",
            "5: a.counter-examples: a pattern of the rule matches this",
        ),
        (
            "[[rule]]\nname = 'a'\nfoo = 1\ncause = 'unknown'\npatterns = ['abc']\n",
            "3: foo: is unknown and has no effect; known are name, ",
        ),
        ("rule = 1\n", "1: rule: write [[rule]] with two pairs of brackets"),
        ("a = [", "not valid TOML"),
    ];
    for (text, expected) in cases {
        let file = RuleFile::parse("x.toml", text, Examples::Prove);
        let told: Vec<String> = file.faults.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|line| line.contains(expected)), "{text:?}: {told:?}");
    }
}

#[test]
fn a_pattern_that_would_explode_is_one_fault_or_takes_no_time() {
    let rule = |pattern: &str| format!("[[rule]]\nname = 'a'\ncause = 'unknown'\npatterns = ['{pattern}']\n");
    for pattern in ["abc((a{100}){100}){100}", "abc(\\w{1,300}){1,300}", "abc[a-z]{60000}"] {
        let file = RuleFile::parse("x.toml", &rule(pattern), Examples::Prove);
        let told: Vec<String> = file.faults.iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].contains("4: a.patterns: the pattern is too large"), "{pattern}: {told:?}");
        assert!(file.rules.is_empty());
    }
    // Whoever tries all ways to match these never ends.
    let rules = ["abc(x+x+)+y", "abc(x|xx)+y", "abc(.*)*y"].map(|pattern| {
        let file = RuleFile::parse("x.toml", &rule(pattern), Examples::Prove);
        assert!(file.faults.is_empty(), "{:?}", file.faults);
        file.rules
    });
    for rules in rules {
        let mut reader = Reader::new(Rules::new(rules));
        reader.line(None, Wall::NEVER, 0, format!("abc{}", "x".repeat(100_000)).as_bytes());
        assert!(reader.finish().list.iter().all(|clue| &*clue.rule == LAST_WORDS));
    }
}

#[test]
fn a_later_rule_of_the_same_name_counts() {
    let rule = |cause: &str| {
        let text = format!("[[rule]]\nname = 'a'\ncause = '{cause}'\npatterns = ['gremlin']\n");
        RuleFile::parse("x.toml", &text, Examples::Prove).rules
    };
    let rules = Rules::new([rule("disk-full"), rule("fd-limit")].concat());
    assert_eq!(verdict(&rules, &["a gremlin"]), Cause::FdLimit);
}

#[test]
fn what_a_rule_needs_and_what_excludes_it_must_be_near() {
    let text = "
[[rule]]
name = 'frame'
role = 'context'
patterns = ['frame one']
[[rule]]
name = 'boom'
cause = 'fd-limit'
patterns = ['boom']
needs = ['frame']
unless = ['calm']
within = 2
[[rule]]
name = 'calm'
role = 'context'
patterns = ['keep calm']
";
    let rules = Rules::new(RuleFile::parse("x.toml", text, Examples::Prove).rules);
    assert_eq!(verdict(&rules, &["boom"]), Cause::Unknown);
    assert_eq!(verdict(&rules, &["frame one", "", "boom"]), Cause::FdLimit);
    assert_eq!(verdict(&rules, &["frame one", "", "", "boom"]), Cause::Unknown);
    assert_eq!(verdict(&rules, &["keep calm", "frame one", "boom"]), Cause::Unknown);
}

#[test]
fn what_a_later_line_says_is_over_weighs_little_and_what_comes_after_it_weighs_as_before() {
    let text = "
[[rule]]
name = 'refused'
cause = 'service-unreachable'
weight = 68
patterns = ['refused']
[[rule]]
name = 'again'
role = 'harmless'
weight = 24
patterns = ['connected to']
resolves = ['service-unreachable']
";
    let rules = Rules::new(RuleFile::parse("x.toml", text, Examples::Prove).rules);
    let weights = |lines: &str| {
        let mut reader = Reader::new(rules.clone());
        reader.block(lines.as_bytes());
        reader.finish().list.iter().map(|clue| (clue.cause, clue.weight)).collect::<Vec<_>>()
    };
    let up = (Cause::NoCrash, 24);
    assert_eq!(weights("refused\nconnected to db\n"), [(Cause::ServiceUnreachable, 17), up]);
    assert_eq!(weights("connected to db\nrefused\n"), [up, (Cause::ServiceUnreachable, 68)]);
}

#[test]
fn what_was_only_warned_of_explains_a_failure_that_nothing_else_does() {
    let text = "
[[rule]]
name = 'refused'
cause = 'service-unreachable'
patterns = ['refused']
[[rule]]
name = 'warned'
role = 'harmless'
weight = 21
patterns = ['WARN']
doubts = ['service-unreachable']
within = 0
[[rule]]
name = 'unset'
cause = 'config-invalid'
role = 'faint'
patterns = ['is not set']
";
    let rules = Rules::new(RuleFile::parse("x.toml", text, Examples::Prove).rules);
    let failed = RunEnd { result: UnitResult::ExitCode, exit: Exit::Exited(1), ..RunEnd::default() };
    let judged = |end: &RunEnd, lines: &str| {
        let mut reader = Reader::new(rules.clone());
        reader.block(lines.as_bytes());
        let verdict = judge(end, &reader.finish());
        (verdict.cause, verdict.confidence)
    };
    assert_eq!(judged(&failed, "WARN refused\nnext\n"), (Cause::ServiceUnreachable, 20));
    assert_eq!(judged(&failed, "WARN refused\nrefused\n"), (Cause::ServiceUnreachable, 70));
    assert_eq!(judged(&RunEnd::default(), "WARN refused\n"), (Cause::NoCrash, 21));
    assert_eq!(judged(&failed, "HOME is not set\n"), (Cause::ConfigInvalid, 20));
    assert_eq!(judged(&failed, "HOME is not set\nrefused\n"), (Cause::ServiceUnreachable, 70));
    assert_eq!(judged(&RunEnd::default(), "HOME is not set\n").0, Cause::Unknown);
}

#[test]
fn a_line_counts_only_for_rules_that_read_its_source() {
    let rules = Rules::packaged();
    let evidence = |source| Evidence {
        items: vec![Item {
            source,
            at: Wall(1),
            pid: 7,
            text: "EXT4-fs error (device sda1): x".into(),
            cursor: String::new(),
        }],
        ..Evidence::default()
    };
    assert_eq!(rules.verdict(&RunEnd::default(), &evidence(Source::Kernel)).cause, Cause::StorageFault);
    assert_eq!(rules.verdict(&RunEnd::default(), &evidence(Source::CoreDump)).cause, Cause::Unknown);
}

#[test]
fn a_file_system_that_is_full_explains_what_nothing_else_does() {
    let rules = Rules::packaged();
    let item = |source, text: &str| Item { source, at: Wall(1), pid: 7, text: text.into(), cursor: String::new() };
    let disk = |text| item(Source::Disk, text);
    let cause = |exit, items: Vec<Item>| {
        let end = RunEnd { result: UnitResult::ExitCode, exit, ..RunEnd::default() };
        rules.verdict(&end, &Evidence { items, ..Evidence::default() }).cause
    };
    let (root, inodes) = ("/ is full: 0 bytes of 9 are free", "/srv has no inodes left: 0 of 65536 are free");
    let failed = Exit::Exited(1);
    assert_eq!(cause(failed, vec![disk(root)]), Cause::DiskFull);
    assert_eq!(cause(failed, vec![disk(inodes)]), Cause::DiskFull);
    assert_eq!(cause(Exit::Dumped(11), vec![disk(root)]), Cause::Segfault);
    let refused = "ConnectionRefusedError: [Errno 111] Connection refused";
    assert_eq!(cause(failed, vec![item(Source::Output, refused), disk(root)]), Cause::ServiceUnreachable);
    let no_space = item(Source::Output, "OSError: [Errno 28] No space left on device");
    assert_eq!(cause(failed, vec![no_space.clone(), disk(root)]), Cause::DiskFull);
    let memory = disk("/dev/shm is full: 0 bytes of 67108864 are free");
    assert_eq!(cause(failed, vec![no_space, memory.clone()]), Cause::ShmExhausted);
    assert_eq!(cause(Exit::Dumped(11), vec![memory]), Cause::Segfault);
}

#[test]
fn the_advice_of_a_rule_is_found_again_by_the_lines_of_a_verdict() {
    let text = r#"
        [[rule]]
        name = "seats"
        cause = "rate-limited"
        weight = 90
        patterns = ["no seat left"]
        advice = "Wait for a seat"
    "#;
    let ours = RuleFile::parse("ours.toml", text, Examples::Prove).rules;
    let rules = Rules::new(ours);
    let because = ["systemd: Result=exit-code".to_owned(), "output: E7: no seat left on lic1".to_owned()];
    assert_eq!(rules.advice(Cause::RateLimited, &because), Some("Wait for a seat"));
    assert_eq!(rules.advice(Cause::DiskFull, &because), None);
    assert_eq!(rules.advice(Cause::RateLimited, &["kernel: no seat left".to_owned()]), None);
    assert_eq!(rules.advice(Cause::RateLimited, &["no seat left".to_owned()]), None);
}

#[test]
fn blocks_and_single_lines_have_the_same_clues() {
    let rules = Rules::packaged();
    let text = b"one\nKeyError: 'x'\n\nNov 23 10:11:12 box kernel: Out of memory: Killed process 7 (a)\nlast: Segmentation fault";
    let mut by_block = Reader::new(rules.clone());
    by_block.block(text);
    let mut by_line = Reader::new(rules);
    for line in text.split(|byte| *byte == b'\n') {
        by_line.line(None, Wall::NEVER, 0, line);
    }
    assert_eq!(by_block.lines(), 5);
    assert_eq!(by_block.finish(), by_line.finish());
}

#[test]
fn in_a_long_log_everything_that_tells_is_found_at_its_place() {
    let rules = Rules::packaged();
    let examples = |tells: bool| -> Vec<&str> {
        let some = rules.list().iter().filter(|rule| rule.tells() == tells);
        some.flat_map(|rule| &rule.examples).map(String::as_str).filter(|line| !line.contains('\n')).collect()
    };
    let (telling, all_days) = (examples(true), examples(false));
    for seed in 1..=6 {
        let mut dice = Dice(seed);
        // Few of them: what is told has a bound, and they are told, too.
        let everyday: Vec<&str> = (0..6).map(|_| all_days[dice.next() % all_days.len()]).collect();
        let mut log = Vec::new();
        while log.len() < 3 * long::LONG {
            let words = if dice.next().is_multiple_of(400) { &telling } else { &everyday };
            let line = words[dice.next() % words.len()];
            // Some in colours, which may stand before the line and in the middle of what a rule looks for.
            if dice.next().is_multiple_of(10) {
                let middle =
                    (0..=dice.next() % (line.len() / 2 + 1)).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
                log.extend_from_slice(&line.as_bytes()[..middle]);
                log.extend_from_slice(b"\x1b[0m");
                log.extend_from_slice(&line.as_bytes()[middle..]);
            } else {
                log.extend_from_slice(line.as_bytes());
            }
            log.push(b'\n');
        }
        log.extend_from_slice(b"the end");
        let (mut by_block, mut by_line) = (Reader::new(rules.clone()), Reader::new(rules.clone()));
        by_block.block(&log);
        log.split(|byte| *byte == b'\n').for_each(|line| by_line.line(None, Wall::NEVER, 0, line));
        assert_eq!(by_block.lines(), by_line.lines());
        let tells = |clue: &&Clue| rules.rule(&clue.rule).is_some_and(Rule::tells);
        let (block, lines) = (by_block.finish(), by_line.finish());
        assert!(block.list.len() < CLUES_MAX && lines.list.len() < CLUES_MAX);
        let (block, lines): (Vec<_>, Vec<_>) =
            (block.list.iter().filter(tells).collect(), lines.list.iter().filter(tells).collect());
        assert!(block.len() > 40, "{}", block.len());
        for (found, expected) in block.iter().zip(&lines) {
            assert_eq!(found, expected, "seed {seed}");
        }
        assert_eq!(block.len(), lines.len());
    }
}

#[test]
fn any_bytes_give_bounded_clues_and_exactly_one_verdict() {
    let rules = Rules::packaged();
    let words: Vec<&str> = rules.list().iter().flat_map(|rule| &rule.examples).map(String::as_str).collect();
    for seed in 1..=40 {
        let mut dice = Dice(seed);
        let mut reader = Reader::new(rules.clone());
        for _ in 0..400 {
            reader.line(None, Wall::NEVER, 0, &dice.line(&words));
        }
        let clues = reader.finish();
        assert!(clues.list.len() <= CLUES_MAX && clues.lines == 400);
        assert!(clues.list.iter().all(|clue| clue.text.len() <= 3 * TEXT_MAX && clue.place <= 400));
        let ends = [RunEnd::default(), RunEnd { exit: crate::engine::event::Exit::Killed(9), ..RunEnd::default() }];
        for end in ends {
            let verdict = judge(&end, &clues);
            assert!(verdict.confidence < 100 && verdict.because.len() <= 12 && verdict.also.len() <= 3);
            assert!(!verdict.also.contains(&verdict.cause));
            assert_eq!(verdict, judge(&end, &clues), "the same clues, the same verdict");
        }
    }
}

#[test]
fn a_line_of_a_mebibyte_is_cut() {
    let mut line = vec![b'x'; 1 << 20];
    line.extend_from_slice(b" Segmentation fault");
    let mut reader = Reader::new(Rules::packaged());
    reader.block(&line);
    assert_eq!(judge(&RunEnd::default(), &reader.finish()).cause, Cause::Unknown);
}

#[test]
fn the_first_exception_of_a_chain_that_explains_something_is_the_cause() {
    let rules = Rules::packaged();
    let head = "Traceback (most recent call last):";
    let link = "During handling of the above exception, another exception occurred:";
    let chain = |first: &str, second: &str| verdict(&rules, &[head, first, link, head, second]);
    assert_eq!(
        chain("OSError: [Errno 28] No space left on device", "requests.exceptions.ReadTimeout: Read timed out."),
        Cause::DiskFull
    );
    assert_eq!(
        chain(
            "FileNotFoundError: [Errno 2] No such file or directory: 'a'",
            "psycopg2.OperationalError: Connection refused"
        ),
        Cause::FileNotFound
    );
    assert_eq!(
        chain("KeyError: 'cached'", "requests.exceptions.ReadTimeout: Read timed out."),
        Cause::OperationTimeout
    );
}

fn verdict(rules: &Arc<Rules>, lines: &[&str]) -> Cause {
    let mut reader = Reader::new(rules.clone());
    for line in lines {
        reader.line(None, Wall::NEVER, 0, line.as_bytes());
    }
    judge(&RunEnd::default(), &reader.finish()).cause
}

/// A seeded generator (xorshift64*), so that every failure can be played again.
pub(super) struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
    }

    /// An example, a piece of one, noise, or a mixture.
    fn line(&mut self, words: &[&str]) -> Vec<u8> {
        let mut line = Vec::new();
        for _ in 0..self.next() % 4 {
            let word = words[self.next() % words.len()].as_bytes();
            match self.next() % 4 {
                0 => line.extend_from_slice(word),
                1 => line.extend_from_slice(&word[..self.next() % word.len().max(1)]),
                2 => line.extend((0..self.next() % 60).map(|_| 0_u8).map(|_| b'\x1b')),
                _ => line.extend((0..self.next() % 80).map(|at| (at * 31 + word.len()) as u8)),
            }
        }
        line.retain(|byte| *byte != b'\n');
        line
    }
}
