//! The logic.

pub mod action;
pub mod cause;
pub mod event;
pub mod ids;
pub mod policy;
pub mod saved;
pub mod time;
pub mod view;
