// SPDX-License-Identifier: MIT OR Apache-2.0
//! One rule: which lines it recognises, what they say, and what it takes for them to count.

use crate::engine::cause::Cause;
use crate::engine::evidence::{Role, Source};
use std::sync::Arc;

/// What a captured number is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// NVIDIA's Xid codes, by the group `xid`.
    Xid,
}

/// A rule as its file says it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: Arc<str>,
    pub cause: Cause,
    pub role: Role,
    /// 0 to 100; the heaviest clue decides, and of those that are about equal the first one.
    pub weight: u8,
    /// Whose lines it reads.
    pub sources: Vec<Source>,
    pub patterns: Vec<String>,
    /// Names of rules of which one must have matched near the line.
    pub needs: Vec<String>,
    /// Names of rules of which none may have matched near the line.
    pub unless: Vec<String>,
    /// Causes whose clues near the line do not count.
    pub excuses: Vec<Cause>,
    /// Causes whose clues near the line are faint.
    pub doubts: Vec<Cause>,
    /// Causes whose clues in all lines before weigh little: that is over.
    pub resolves: Vec<Cause>,
    /// How many lines before and after are near.
    pub within: u64,
    /// Causes that are a mere consequence of this one.
    pub explains: Arc<[Cause]>,
    pub also: Arc<[Cause]>,
    /// How often it must match before it counts.
    pub at_least: u64,
    pub table: Option<Table>,
    pub advice: String,
    pub examples: Vec<String>,
    pub counter_examples: Vec<String>,
    /// Where it was written, as `FILE:LINE`.
    pub from: String,
}

/// The rule that recognises the head of a Python traceback.
pub const TRACEBACK: &str = "python.traceback";
/// The rule that recognises the line between two exceptions of a chain.
pub const LINK: &str = "python.chain";

impl Rule {
    /// Whether its lines matter wherever they stand. Those of the others are lines of every day, which matter near one
    /// that tells something and at the end of a log.
    pub fn tells(&self) -> bool {
        !matches!(self.role, Role::Harmless | Role::Work | Role::Context)
            || !self.resolves.is_empty()
            || self.at_least > 1
            || [TRACEBACK, LINK].contains(&&*self.name)
    }
}

/// The weight of a rule that gives none.
pub fn usual_weight(role: Role) -> u8 {
    match role {
        Role::Proof => 70,
        Role::End => 60,
        Role::Symptom => 40,
        Role::Hint => 30,
        Role::Faint => 20,
        Role::Harmless | Role::Work => 25,
        Role::Context => 0,
    }
}
