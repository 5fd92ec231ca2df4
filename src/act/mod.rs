// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done to workers beyond starting and stopping them. Everything here has a deadline and may fail without keeping
//! the next step from being taken.

pub mod capsule;
pub mod secrets;
pub mod snapshot;
