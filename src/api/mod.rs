//! The D-Bus interface.

pub mod client;
