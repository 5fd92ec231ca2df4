// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with the configuration, where, and what would be right.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The line has no effect, or not the one that was probably meant.
    Warning,
    /// The file, or the `KEY=VALUE`, is refused as a whole.
    Error,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing that is wrong. Prints as `FILE:LINE: KEY: text`, less what is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub severity: Severity,
    /// The file or directory, or who gave the value, as in `watcherctl run`.
    pub file: String,
    /// Counted from 1; 0 if the complaint is about the file as a whole.
    pub line: usize,
    /// In characters, counted from 1; 0 if the complaint is about the file as a whole.
    pub column: usize,
    /// As `table.key`; empty if the complaint is about no key.
    pub key: String,
    pub text: String,
}

impl Complaint {
    /// A complaint about a file as a whole.
    pub fn about(severity: Severity, file: impl Into<String>, text: impl Into<String>) -> Complaint {
        Complaint { severity, file: file.into(), line: 0, column: 0, key: String::new(), text: text.into() }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.text)
    }
}
