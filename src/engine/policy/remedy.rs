// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a policy does about a cause: the remedy, the ladder of those that are tried when it does not help, and what they
//! change.

use super::super::cause::Cause;
use super::super::parameter::{Allowed, Change, Changes, Parameter, Scale};
use super::super::until::Until;
use super::{BackOff, Budget, Setting, Source, Text};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a policy does about a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CauseAction {
    Restart,
    /// Leave it down and wait for `watcherctl release`.
    Hold,
    Quarantine,
    Stop,
    /// Write the incident down and leave the unit to systemd.
    Ignore,
}

/// What to do about signs of a cause while the worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenRunning {
    Ignore,
    /// Say so, once per run.
    Warn,
    /// Open an incident, and act as if the run had failed of it.
    Incident,
}

impl Text for WhenRunning {
    fn text(&self) -> String {
        match self {
            WhenRunning::Ignore => "ignore",
            WhenRunning::Warn => "warn",
            WhenRunning::Incident => "incident",
        }
        .into()
    }
}

impl super::Policy {
    /// The parameters that remedies may change.
    pub fn declared(&self) -> BTreeMap<Arc<str>, Parameter> {
        self.parameters.iter().map(|(name, setting)| (name.clone(), setting.value.clone())).collect()
    }
}

impl CauseAction {
    pub fn as_str(self) -> &'static str {
        match self {
            CauseAction::Restart => "restart",
            CauseAction::Hold => "hold",
            CauseAction::Quarantine => "quarantine",
            CauseAction::Stop => "stop",
            CauseAction::Ignore => "ignore",
        }
    }
}

impl Text for CauseAction {
    fn text(&self) -> String {
        self.as_str().into()
    }
}

/// Defines [`CausePolicy`] and [`CAUSE_KEYS`] from one table.
macro_rules! cause_keys {
    ($($(#[$doc:meta])* $field:ident: $type:ty, $key:literal;)*) => {
        /// What a policy says about one cause.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct CausePolicy {
            $($(#[$doc])* pub $field: Option<Setting<$type>>,)*
        }

        impl CausePolicy {
            pub(super) fn overlay(&mut self, other: &CausePolicy) {
                $(if let Some(setting) = &other.$field { self.$field = Some(setting.clone()); })*
            }

            pub(super) fn rows(&self, cause: Cause) -> impl Iterator<Item = (String, String, String)> {
                let rows = [$(self.$field.as_ref().map(|setting| {
                    (format!("cause.{cause}.{}", $key), setting.value.text(), setting.from.to_string())
                }),)*];
                rows.into_iter().flatten()
            }
        }

        /// Every key below `cause.NAME`.
        pub const CAUSE_KEYS: &[&str] = &[$($key,)*];
    };
}

cause_keys! {
    /// What to do about a run that failed of it.
    action: CauseAction, "action";
    /// What to do about signs of it while the worker runs; a warning if nothing is set.
    when_running: WhenRunning, "when-running";
    /// So many signs within so long count; the first one if nothing is set.
    count: Budget, "count";
    /// Instead of the worker's own.
    back_off: BackOff, "back-off";
    /// Instead of the worker's own; attempts because of this cause are counted by themselves.
    budget: Budget, "budget";
    /// What a hold waits for.
    until: Until, "until";
    /// Parameters and the values that they get.
    set: Assignments, "set";
    /// Parameters and by how much they are changed.
    scale: Scales, "scale";
    /// Parameters that get the unit's own value again.
    unset: Names, "unset";
    /// How often the remedy may fail before the next one is tried.
    max_attempts: u32, "max-attempts";
    /// What to do when it does not help.
    try_next: Vec<Remedy>, "try-next";
}

/// One rung of the ladder of remedies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    pub action: CauseAction,
    /// What a hold waits for.
    pub until: Option<Until>,
    /// What is changed before the next start.
    pub changes: Changes,
}

/// Names of parameters and the values that they get.
pub type Assignments = Vec<(Arc<str>, Arc<str>)>;
/// Names of parameters and how they are scaled.
pub type Scales = Vec<(Arc<str>, Scale)>;
/// Names of parameters.
pub type Names = Vec<Arc<str>>;

/// How often a remedy may fail if nothing is set.
const MAX_ATTEMPTS: u32 = 3;

impl CausePolicy {
    /// Whether it says what to do about a run that failed.
    pub fn is_remedy(&self) -> bool {
        let changes = self.set.is_some() || self.scale.is_some() || self.unset.is_some();
        changes || self.action.is_some() || self.until.is_some() || self.try_next.is_some()
    }

    /// Whether what follows a failure of it differs from what follows any other one.
    pub fn makes_a_difference(&self) -> bool {
        self.is_remedy() || self.back_off.is_some() || self.budget.is_some()
    }

    /// The remedy of this rung of the ladder, from 0, and the line that set it.
    pub fn remedy(&self, rung: usize) -> Option<(Remedy, Source)> {
        if let Some(rung) = rung.checked_sub(1) {
            let ladder = self.try_next.as_ref()?;
            return Some((ladder.value.get(rung)?.clone(), ladder.from.clone()));
        }
        let changes = self.changes();
        let lines = [
            self.action.as_ref().map(|setting| &setting.from),
            self.until.as_ref().map(|setting| &setting.from),
            self.set.as_ref().map(|setting| &setting.from),
            self.scale.as_ref().map(|setting| &setting.from),
            self.unset.as_ref().map(|setting| &setting.from),
            self.try_next.as_ref().map(|setting| &setting.from),
        ];
        let from = lines.into_iter().flatten().next()?.clone();
        let implied = if self.until.is_some() { CauseAction::Hold } else { CauseAction::Restart };
        let action = self.action.as_ref().map_or(implied, |setting| setting.value);
        Some((Remedy { action, until: self.until.as_ref().map(|setting| setting.value.clone()), changes }, from))
    }

    pub fn max_attempts(&self) -> u32 {
        self.max_attempts.as_ref().map_or(MAX_ATTEMPTS, |setting| setting.value)
    }

    fn changes(&self) -> Changes {
        let set = self.set.iter().flat_map(|setting| &setting.value);
        let set = set.map(|(name, value)| (name.clone(), Change::Set(value.clone())));
        let scale = self.scale.iter().flat_map(|setting| &setting.value);
        let scale = scale.map(|(name, scale)| (name.clone(), Change::Scale(*scale)));
        let unset = self.unset.iter().flat_map(|setting| &setting.value);
        set.chain(scale).chain(unset.map(|name| (name.clone(), Change::Unset))).collect()
    }
}

fn inline<N: fmt::Display>(entries: impl IntoIterator<Item = (N, String)>) -> String {
    let entries: Vec<_> = entries.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    format!("{{ {} }}", entries.join(", "))
}

fn listed<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("{name:?}")).collect();
    format!("[{}]", names.join(", "))
}

impl Text for Assignments {
    fn text(&self) -> String {
        inline(self.iter().map(|(name, value)| (name, format!("{value:?}"))))
    }
}

impl Text for Scales {
    fn text(&self) -> String {
        inline(self.iter().map(|(name, scale)| (name, format!("\"{scale}\""))))
    }
}

impl Text for Names {
    fn text(&self) -> String {
        listed(self)
    }
}

impl Text for Vec<Remedy> {
    fn text(&self) -> String {
        let remedies: Vec<_> = self.iter().map(Remedy::text).collect();
        format!("[{}]", remedies.join(", "))
    }
}

impl Text for Remedy {
    fn text(&self) -> String {
        let mut entries = vec![("action", format!("\"{}\"", self.action.as_str()))];
        entries.extend(self.until.iter().map(|until| ("until", format!("\"{until}\""))));
        let (mut set, mut scale, mut unset) = (Assignments::new(), Scales::new(), Names::new());
        for (name, change) in &self.changes {
            match change {
                Change::Set(value) => set.push((name.clone(), value.clone())),
                Change::Scale(by) => scale.push((name.clone(), *by)),
                Change::Unset => unset.push(name.clone()),
            }
        }
        entries.extend((!set.is_empty()).then(|| ("set", set.text())));
        entries.extend((!scale.is_empty()).then(|| ("scale", scale.text())));
        entries.extend((!unset.is_empty()).then(|| ("unset", unset.text())));
        inline(entries)
    }
}

impl Text for Parameter {
    fn text(&self) -> String {
        let mut entries = vec![("default", format!("{:?}", &*self.default))];
        match &self.allowed {
            Allowed::Any => {}
            Allowed::Range(low, high) => entries.push(("range", format!("[{low}, {high}]"))),
            Allowed::Choices(choices) => entries.push(("choices", listed(choices))),
        }
        inline(entries)
    }
}
