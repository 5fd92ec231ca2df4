// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as a recording: it is read or refused, and what is played is played again to the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use watcherd::replay::replay;
use watcherd::scenario::play::play;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let played = play(text);
    if let Ok(played) = played {
        assert_eq!(play(&played).as_deref(), Ok(played.as_str()));
    }
    let _ = replay(text, None);
    let _ = replay(text, Some(Default::default()));
});
