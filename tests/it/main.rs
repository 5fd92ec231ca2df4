// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one integration binary: verdicts, scenarios and histories of the engine, the tidiness of the tree, what
//! `make install` installs, and watcherd on a real systemd, in containers and in a virtual machine.

mod accuracy;
mod diagnose;
mod histories;
mod installed;
mod machine;
mod scenario;
mod system;
mod tidy;
mod traces;
mod vm;
