// SPDX-License-Identifier: MIT OR Apache-2.0
//! The daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    watcherd::daemon::main()
}
