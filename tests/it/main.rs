// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one integration binary: verdicts, scenarios and histories of the engine, any bytes as input, the tidiness of the tree, what
//! `make install` installs and packages contain, and watcherd on a real systemd, in containers and in a virtual machine.

mod accuracy;
mod diagnose;
mod examples;
mod fuzz;
mod histories;
mod installed;
mod machine;
mod package;
mod replay;
mod scenario;
mod system;
mod tidy;
mod traces;
mod vm;
