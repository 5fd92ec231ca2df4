// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where workers write down how far they are: files, counts and times of files, HTTP, and the lines of the journal.
//!
//! [`follow`] has a thread of its own that waits for inotify and for the clock; whatever may hang (other machines' file
//! systems, servers, large directories) is asked on further threads, one question at a time for each source. Each source is
//! told when it is first read, and then when what it says has changed. Nobody's file is trusted: what is read has a
//! cap, and nothing but regular files is ever opened.
//!
//! It does not judge: whether a number means progress is decided elsewhere. Commands are not run here, because that is
//! the service manager's business; [`document`] reads what they print.

pub mod document;
mod file;
pub mod follow;
mod glob;
mod http;
pub mod lines;
pub mod places;
mod probe;

pub use probe::ProbeId;

/// The longest document, in bytes.
pub const DOCUMENT_MAX: usize = 1 << 20;
