// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done about workers beyond starting and stopping them. Everything here has a deadline and may fail without keeping
//! the next step from being taken.

pub mod capsule;
pub mod checkpoint;
pub mod desktop;
pub mod notify;
pub mod secrets;
pub mod snapshot;
pub mod sweep;
