// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel shows about workers and the machine: counters of control groups, full file systems, processes that
//! write their core. Everything here is optional: what cannot be read proves nothing.

pub mod activity;
pub mod condition;
pub mod counters;
pub mod disk;
pub mod dump;
pub mod reach;
