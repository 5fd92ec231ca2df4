// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any text as a file of the configuration; see tests/it/fuzz/configuration.rs.

#![no_main]

#[path = "../../tests/it/fuzz/configuration.rs"]
mod configuration;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| configuration::look(bytes));
