// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names and numbers that outlive a single event: workers, runs, incidents, actions, jobs, holds.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest unit name that systemd accepts, in bytes (UNIT_NAME_MAX).
pub const UNIT_NAME_MAX: usize = 255;

/// The name of a worker: `[NODE/]UNIT`, where the unit carries its `.service` suffix.
///
/// Without a node the unit lives under the service manager that this daemon talks to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerName(Arc<str>);

/// Why a text is no worker name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    Empty,
    TooLong(usize),
    BadCharacter(char),
    /// The suffix names a unit type that cannot be a worker.
    WrongType(String),
    /// `foo@.service` is a template; only its instances run.
    Template,
    BadNode,
}

impl WorkerName {
    /// Reads a name as people write it; a missing `.service` is added.
    pub fn parse(text: &str) -> Result<WorkerName, NameError> {
        let (node, unit) = match text.split_once('/') {
            Some((node, unit)) => (Some(node), unit),
            None => (None, text),
        };
        if let Some(node) = node
            && (node.is_empty() || !node.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)))
        {
            return Err(NameError::BadNode);
        }
        if unit.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(bad) = unit.chars().find(|c| !is_unit_character(*c)) {
            return Err(NameError::BadCharacter(bad));
        }
        let unit = with_suffix(unit)?;
        if unit.len() > UNIT_NAME_MAX {
            return Err(NameError::TooLong(unit.len()));
        }
        let stem = unit.strip_suffix(".service").unwrap_or(&unit);
        if stem.is_empty() || stem.starts_with('@') {
            return Err(NameError::Empty);
        }
        if stem.ends_with('@') {
            return Err(NameError::Template);
        }
        Ok(WorkerName(match node {
            Some(node) => format!("{node}/{unit}").into(),
            None => unit.into(),
        }))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit's name without the node.
    pub fn unit(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(_, unit)| unit)
    }
}

fn with_suffix(unit: &str) -> Result<String, NameError> {
    const OTHER_TYPES: [&str; 10] =
        ["socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope"];
    match unit.rsplit_once('.') {
        Some((_, "service")) => Ok(unit.to_owned()),
        Some((_, suffix)) if OTHER_TYPES.contains(&suffix) => Err(NameError::WrongType(suffix.to_owned())),
        _ => Ok(format!("{unit}.service")),
    }
}

/// The characters of systemd.unit(5): ASCII letters, digits and `:-_.\`, and `@`.
pub fn is_unit_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || ":-_.\\@".contains(c)
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for WorkerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => f.write_str("the name is empty"),
            NameError::TooLong(len) => write!(f, "the name is {len} bytes long, {UNIT_NAME_MAX} are allowed"),
            NameError::BadCharacter(c) => {
                write!(f, "{c:?} is not allowed in a unit name (letters, digits and \":-_.\\@\" are)")
            }
            NameError::WrongType(suffix) => write!(f, "a .{suffix} unit cannot be a worker, only a .service can"),
            NameError::Template => f.write_str("it names a template; name an instance, as in worker@1.service"),
            NameError::BadNode => f.write_str("the part before \"/\" is not a node name"),
        }
    }
}

impl std::error::Error for NameError {}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// One action; used once, answered by exactly one `Event::Done`. Starts anew with every daemon.
    ActionId(u64)
);
number!(
    /// One call by a D-Bus client that waits for its answer.
    RequestId(u64)
);
number!(
    /// One incident; counts up for ever, over restarts too.
    IncidentId(u32)
);
number!(
    /// One job object on D-Bus.
    JobId(u32)
);
number!(
    /// One notice; counts up, over restarts too.
    NoticeId(u32)
);
number!(
    /// One hold; counts up for ever, over restarts too.
    HoldId(u32)
);

/// systemd's 128-bit identifier of one run of a unit; see systemd.exec(5), `$INVOCATION_ID`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvocationId(pub [u8; 16]);

impl InvocationId {
    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<InvocationId> {
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 16];
        for (byte, at) in bytes.iter_mut().zip((0..32).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(InvocationId(bytes))
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a step changed; the daemon publishes and saves these, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    Manager,
    Worker(WorkerName),
    Incident(IncidentId),
    Job(JobId),
    /// Is saved; no object on D-Bus shows it.
    Notice(NoticeId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_checked() {
        assert_eq!(WorkerName::parse("train").map(|n| n.to_string()), Ok("train.service".into()));
        assert_eq!(WorkerName::parse("a@1.service").map(|n| n.to_string()), Ok("a@1.service".into()));
        assert_eq!(WorkerName::parse("py3.11").map(|n| n.to_string()), Ok("py3.11.service".into()));
        assert_eq!(WorkerName::parse("n1/a").map(|n| n.unit().to_owned()), Ok("a.service".into()));
        assert_eq!(WorkerName::parse(""), Err(NameError::Empty));
        assert_eq!(WorkerName::parse("a b"), Err(NameError::BadCharacter(' ')));
        assert_eq!(WorkerName::parse("a\n"), Err(NameError::BadCharacter('\n')));
        assert_eq!(WorkerName::parse("/etc/passwd"), Err(NameError::BadNode));
        assert_eq!(WorkerName::parse("n/../x"), Err(NameError::BadCharacter('/')));
        assert_eq!(WorkerName::parse("a@.service"), Err(NameError::Template));
        assert_eq!(WorkerName::parse("a.timer"), Err(NameError::WrongType("timer".into())));
        assert!(matches!(WorkerName::parse(&"x".repeat(300)), Err(NameError::TooLong(_))));
    }

    #[test]
    fn invocation_ids_survive_their_text_form() {
        let id = InvocationId(*b"0123456789abcdef");
        assert_eq!(InvocationId::parse(&id.to_string()), Some(id));
        assert_eq!(InvocationId::parse("xyz"), None);
    }
}
