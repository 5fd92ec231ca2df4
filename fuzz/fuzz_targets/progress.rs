// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes as what a worker says about its progress; see tests/it/fuzz/progress.rs.

#![no_main]

#[path = "../../tests/it/fuzz/progress.rs"]
mod progress;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| progress::look(bytes));
