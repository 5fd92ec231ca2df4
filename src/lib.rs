//! watcherd keeps long-running work alive on a systemd machine, and says why it died.

pub mod api;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod engine;
pub mod journal;
pub mod store;
pub mod systemd;
