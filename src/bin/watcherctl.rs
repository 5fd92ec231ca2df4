// SPDX-License-Identifier: MIT OR Apache-2.0
//! The client.

use std::process::ExitCode;

fn main() -> ExitCode {
    watcherd::ctl::main()
}
