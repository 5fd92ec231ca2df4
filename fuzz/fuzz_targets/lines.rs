// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a log: bounded clues, one verdict, the same for blocks and for single lines.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use watcherd::engine::event::RunEnd;
use watcherd::engine::evidence::CLUES_MAX;
use watcherd::engine::judge::judge;
use watcherd::engine::time::Wall;
use watcherd::rules::{Reader, Rules};

static RULES: LazyLock<Arc<Rules>> = LazyLock::new(Rules::packaged);

fuzz_target!(|log: &[u8]| {
    // An escape inside a word is seen through only where another word of the line is looked for.
    if log.contains(&0x1b) {
        return;
    }
    let mut blocks = Reader::new(RULES.clone());
    blocks.block(log);
    let mut lines = Reader::new(RULES.clone());
    for line in log.strip_suffix(b"\n").unwrap_or(log).split(|byte| *byte == b'\n') {
        lines.line(None, Wall::NEVER, 0, line);
    }
    let clues = blocks.finish();
    assert!(clues.list.len() <= CLUES_MAX);
    assert_eq!(clues.list, lines.finish().list);
    let verdict = judge(&RunEnd::default(), &clues);
    assert!(verdict.confidence < 100);
});
