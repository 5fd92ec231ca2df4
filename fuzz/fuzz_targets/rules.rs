// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any text as a rule file: faults or rules, never a panic, and what is accepted can be used.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watcherd::rules::{Examples, Reader, RuleFile, Rules};

fuzz_target!(|text: &str| {
    let file = RuleFile::parse("fuzz.toml", text, Examples::Prove);
    let mut reader = Reader::new(Rules::new(file.rules));
    reader.block(text.as_bytes());
    reader.finish();
});
