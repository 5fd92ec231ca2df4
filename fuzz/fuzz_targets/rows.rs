// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any values in the rows of the state database; see tests/it/fuzz/rows.rs.

#![no_main]

#[path = "../../tests/it/fuzz/rows.rs"]
mod rows;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rows::look(bytes));
