// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the admin wants: settings per worker, each with the line that set it.
//!
//! A policy file is a [`Layer`]: it holds only what the file says. The layers that match a worker are laid over the
//! defaults in order, so that the later one wins key by key; the result is the worker's [`Policy`].

pub mod remedy;

pub use remedy::{CAUSE_KEYS, CauseAction, CausePolicy, WhenRunning};

use super::action::Verify;
use super::cause::Cause;
use super::classify::signal_name;
use super::condition::Condition;
use super::ids::{WorkerName, is_unit_character};
use super::notice::NoticeSettings;
use super::pace::StallAfter;
use super::parameter::Parameter;
use super::time::Span;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where a value was written: `/etc/watcherd/workers.d/train.toml:12`, or `default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(pub Arc<str>);

impl Source {
    pub fn default_value() -> Source {
        Source("default".into())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value and the line that set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    pub value: T,
    pub from: Source,
}

impl<T> Setting<T> {
    pub fn default_value(value: T) -> Setting<T> {
        Setting { value, from: Source::default_value() }
    }
}

/// Defines [`Policy`], [`Layer`] and [`KEYS`] from one table, so that none of them can lack a key.
macro_rules! policy_keys {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr, $key:literal;)*) => {
        /// One worker's settings, complete.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Policy {
            $($(#[$doc])* pub $field: Setting<$type>,)*
            /// What to do on a certain cause; one without an entry is treated by what is known of it.
            pub causes: BTreeMap<Cause, CausePolicy>,
            /// What remedies may change.
            pub parameters: BTreeMap<Arc<str>, Setting<Parameter>>,
        }

        /// What one policy file, or one `watcherctl run`, says.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Layer {
            /// The file, for messages; empty for a layer that did not come from a file.
            pub file: String,
            /// The keys and values as they were given over D-Bus, from which the layer can be read again; empty for files.
            pub written: Vec<(String, String)>,
            /// The units that the layer is for; empty means that it belongs to one worker already.
            pub units: Vec<Setting<UnitPattern>>,
            $(pub $field: Option<Setting<$type>>,)*
            pub causes: BTreeMap<Cause, CausePolicy>,
            pub parameters: BTreeMap<Arc<str>, Setting<Parameter>>,
        }

        impl Default for Policy {
            fn default() -> Policy {
                Policy {
                    $($field: Setting::default_value($default),)*
                    causes: BTreeMap::new(),
                    parameters: BTreeMap::new(),
                }
            }
        }

        impl From<&Policy> for Layer {
            /// Every key is set.
            fn from(policy: &Policy) -> Layer {
                Layer {
                    file: String::new(),
                    written: Vec::new(),
                    units: Vec::new(),
                    $($field: Some(policy.$field.clone()),)*
                    causes: policy.causes.clone(),
                    parameters: policy.parameters.clone(),
                }
            }
        }

        impl Policy {
            /// Lays `layer` over this policy; what the layer does not mention stays.
            pub fn overlay(&mut self, layer: &Layer) {
                $(if let Some(setting) = &layer.$field { self.$field = setting.clone(); })*
                for (cause, policy) in &layer.causes {
                    self.causes.entry(*cause).or_default().overlay(policy);
                }
                for (name, parameter) in &layer.parameters {
                    self.parameters.insert(name.clone(), parameter.clone());
                }
            }

            /// Every key, its value in the spelling of a policy file, and the line that set it.
            pub fn rows(&self) -> Vec<(String, String, String)> {
                let settings = [$(($key.to_owned(), self.$field.value.text(), self.$field.from.to_string()),)*];
                let causes = self.causes.iter().flat_map(|(cause, policy)| policy.rows(*cause));
                let parameters = self.parameters.iter().map(|(name, setting)| {
                    (format!("parameters.{name}"), setting.value.text(), setting.from.to_string())
                });
                settings.into_iter().chain(causes).chain(parameters).collect()
            }

            /// The keys whose value differs from that in `other`.
            pub fn differing_keys(&self, other: &Policy) -> Vec<&'static str> {
                let mut keys = Vec::new();
                $(if self.$field.value != other.$field.value { keys.push($key); })*
                let rules = |policy: &Policy| -> Vec<_> {
                    policy.causes.iter().flat_map(|(cause, policy)| policy.rows(*cause)).map(|(k, v, _)| (k, v)).collect()
                };
                if rules(self) != rules(other) {
                    keys.push("cause");
                }
                let declared = |policy: &Policy| -> Vec<_> {
                    policy.parameters.iter().map(|(name, setting)| (name.clone(), setting.value.clone())).collect()
                };
                if declared(self) != declared(other) {
                    keys.push("parameters");
                }
                keys
            }
        }

        /// Every key of a policy file that a [`Layer`] can hold, as `table.key`.
        pub const KEYS: &[&str] = &[$($key,)*];
    };
}

policy_keys! {
    /// Decide and say, but do not touch this worker.
    dry_run: bool = false, "worker.dry-run";
    /// What a clean exit means.
    after_success: AfterSuccess = AfterSuccess::Complete, "worker.after-success";
    /// Whether notices about it are sent.
    notify: bool = true, "worker.notify";
    /// Whether `sd_notify("STATUS=…")` texts are read for progress such as `120/500`.
    progress_notify: bool = false, "progress.notify";
    /// A file to read progress from.
    progress_file: Option<Arc<str>> = None, "progress.file";
    /// A glob: as many files as match it are done.
    progress_count: Option<Arc<str>> = None, "progress.count";
    /// A glob: whenever a file that matches it changes, there is progress.
    progress_mtime: Option<Arc<str>> = None, "progress.mtime";
    /// An address to fetch progress from.
    progress_http: Option<Arc<str>> = None, "progress.http";
    /// A command that prints progress.
    progress_command: Option<CommandLine> = None, "progress.command";
    /// A pattern of the lines that tell of progress.
    progress_journal: Option<Arc<str>> = None, "progress.journal";
    /// How often to ask where nothing tells of a change.
    progress_every: Duration = Duration::from_secs(10), "progress.every";
    /// How long the worker may go without `Beat`; counted from the first one.
    progress_heartbeat: Option<Duration> = None, "progress.heartbeat";
    /// The value at which the work is done, or the field that says so.
    progress_total: Option<Total> = None, "progress.total";
    /// The field with the value itself.
    progress_value: Option<Arc<str>> = None, "progress.value";
    progress_active: Option<Arc<str>> = None, "progress.active";
    progress_pending: Option<Arc<str>> = None, "progress.pending";
    progress_failed: Option<Arc<str>> = None, "progress.failed";
    progress_completed: Option<Arc<str>> = None, "progress.completed";
    /// The field that says what the work is about; the same again and again is no progress.
    progress_cursor: Option<Arc<str>> = None, "progress.cursor";
    /// The field of the document that is the stage of the work.
    progress_stage: Option<Arc<str>> = None, "progress.stage";
    /// How long there may be no progress before the worker is called stalled.
    stall_after: StallAfter = StallAfter::Adaptive, "progress.stall-after";
    /// The shortest time that is learned.
    stall_min: Duration = Duration::from_secs(600), "progress.stall-min";
    /// The longest time that is learned, and the time while too little is known.
    stall_max: Duration = Duration::from_secs(3600), "progress.stall-max";
    /// How long a worker without any source may have done nothing before it is suspected.
    suspect_after: StallAfter = StallAfter::After(Duration::from_secs(1800)), "progress.suspect-after";
    /// How long the first progress of a run may take.
    warm_up: Duration = Duration::from_secs(3600), "progress.warm-up";
    /// Calls the worker stalled, too, when it holds.
    stalled_when: Option<Condition> = None, "progress.stalled-when";
    /// In so many readings in a row.
    strikes: u32 = 3, "progress.strikes";
    /// Nothing is left to do while it holds.
    complete_when: Option<Condition> = None, "progress.complete-when";
    /// How often the journal is told how far the worker is; never if nothing is set.
    progress_report: Option<Duration> = None, "progress.report";
    /// More memory than this for `limits.for` is an incident.
    limit_memory: Option<Size> = None, "limits.memory";
    /// So is more processor time than this.
    limit_cpu: Option<Percent> = None, "limits.cpu";
    limit_for: Duration = Duration::from_secs(300), "limits.for";
    /// The first pause before a restart and the longest one; each attempt doubles the pause.
    back_off: BackOff = BackOff { first: Duration::from_secs(1), cap: Duration::from_secs(300) }, "restart.back-off";
    /// How many attempts are allowed in a sliding window.
    budget: Budget = Budget { attempts: 5, window: Duration::from_secs(3600) }, "restart.budget";
    /// Healthy for so long: the attempts are forgotten.
    reset_after: Duration = Duration::from_secs(600), "restart.reset-after";
    /// Running for so long after a restart: the incident is closed as recovered.
    verify: Duration = Duration::from_secs(120), "restart.verify";
    /// Failures of one cause in a row, without progress, that end the attempts.
    same_cause: u32 = 3, "restart.same-cause";
    /// Whether a cause without an entry is treated by what is known of it: one that only a person can mend is held.
    by_verdict: bool = true, "restart.by-verdict";
    /// The shortest time between two changes of parameters.
    cooldown: Duration = Duration::ZERO, "restart.cooldown";
    /// Healthy for so long: the newest change of a parameter is taken back, for the next start.
    restore_after: Option<Duration> = None, "restart.restore-after";
    /// Whether processes that a failed run has left behind are ended before the next one.
    leftovers: Leftovers = Leftovers::End, "restart.leftovers";
    /// From a restart to its follow-up.
    settle: Duration = Duration::from_secs(5), "restart.settle";
    /// What is run after a restart.
    then: Option<CommandLine> = None, "restart.then";
    /// How often that is tried again when it fails.
    then_retries: u32 = 3, "restart.then-retries";
    /// How long it may take.
    then_within: Duration = Duration::from_secs(30), "restart.then-within";
    /// From SIGTERM to SIGKILL when watcherd stops the worker.
    grace: Duration = Duration::from_secs(10), "restart.grace";
    /// The signal that makes a stalled worker write down its stacks before it is stopped; zero for none.
    dump_signal: DumpSignal = DumpSignal(6), "restart.dump-signal";
    /// How long that may take.
    dump_grace: Duration = Duration::from_secs(10), "restart.dump-grace";
    /// A program that writes down the stacks of a stalled worker from outside, before that signal.
    dump_command: Option<CommandLine> = None, "restart.dump-command";
    /// What happens when the budget is spent.
    on_exhausted: OnExhausted = OnExhausted::Quarantine, "restart.on-exhausted";
    /// A glob: each file or directory that matches is a checkpoint.
    checkpoints_path: Option<Arc<str>> = None, "checkpoints.path";
    /// More valid ones than this are a finding.
    checkpoints_keep: Option<u32> = None, "checkpoints.keep";
    /// An older newest one is a finding.
    checkpoints_max_age: Option<Duration> = None, "checkpoints.max-age";
    /// How it is found out whether one is whole.
    checkpoints_verify: Verify = Verify::Auto, "checkpoints.verify";
}

/// A value in the spelling of a policy file.
pub trait Text {
    fn text(&self) -> String;
}

impl Text for bool {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for u32 {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Text for Option<u32> {
    fn text(&self) -> String {
        self.map(|number| number.to_string()).unwrap_or_default()
    }
}

impl Text for Verify {
    fn text(&self) -> String {
        match self {
            Verify::Auto => "auto".into(),
            Verify::Off => "off".into(),
            Verify::Command(command) => Some(command.clone()).text(),
        }
    }
}

impl Text for Option<Arc<str>> {
    fn text(&self) -> String {
        self.as_deref().unwrap_or_default().to_owned()
    }
}

impl Text for Option<Duration> {
    fn text(&self) -> String {
        self.as_ref().map(Text::text).unwrap_or_default()
    }
}

impl Text for Option<Total> {
    fn text(&self) -> String {
        match self {
            None => String::new(),
            Some(Total::Number(number)) => number.to_string(),
            Some(Total::Field(field)) => field.to_string(),
        }
    }
}

impl Text for Option<CommandLine> {
    fn text(&self) -> String {
        let words = self.as_ref().map(|command| command.0.as_slice()).unwrap_or_default();
        let quoted = words.iter().map(|word| format!("{word:?}"));
        if words.is_empty() { String::new() } else { format!("[{}]", quoted.collect::<Vec<_>>().join(", ")) }
    }
}

impl Text for DumpSignal {
    fn text(&self) -> String {
        if self.0 == 0 { "none".into() } else { signal_name(self.0) }
    }
}

impl Text for Duration {
    fn text(&self) -> String {
        Span(*self).to_string()
    }
}

impl Text for BackOff {
    fn text(&self) -> String {
        format!("{}..{}", Span(self.first), Span(self.cap))
    }
}

impl Text for Budget {
    fn text(&self) -> String {
        format!("{}/{}", self.attempts, Span(self.window))
    }
}

impl Text for AfterSuccess {
    fn text(&self) -> String {
        match self {
            AfterSuccess::Complete => "complete",
            AfterSuccess::Restart => "restart",
        }
        .into()
    }
}

impl Text for OnExhausted {
    fn text(&self) -> String {
        match self {
            OnExhausted::Quarantine => "quarantine",
            OnExhausted::Stop => "stop",
            OnExhausted::Pause => "pause",
            OnExhausted::NextRemedy => "next-remedy",
        }
        .into()
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// Reads what `Display` has written: bytes, rounded to hundredths of the unit.
    pub fn parse(text: &str) -> Result<u64, String> {
        let wrong = || format!("\"{text}\" is not a size");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_uppercase());
        let shift = match &text[digits.len()..] {
            "" => 0,
            unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let hundredths = format!("{whole}{part:0<2}").parse::<u128>().map_err(|_| wrong())?;
        u64::try_from((hundredths << shift) / 100).map_err(|_| wrong())
    }
}

/// Names of powers of two.
const SIZE_UNITS: [(&str, u32); 6] = [("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)];

impl fmt::Display for Size {
    /// As policy files spell it, base 1024, with at most two digits behind the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((unit, shift)) = SIZE_UNITS.into_iter().find(|(_, shift)| self.0 >> shift > 0) else {
            return write!(f, "{}", self.0);
        };
        let hundredths = (u128::from(self.0) * 100) >> shift;
        match (hundredths / 100, hundredths % 100) {
            (whole, 0) => write!(f, "{whole}{unit}"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}{unit}", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}{unit}"),
        }
    }
}

/// Percent of one processor, as in `CPUQuota=`: 400 are four of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u32);

impl Text for Option<Size> {
    fn text(&self) -> String {
        self.map(|size| size.to_string()).unwrap_or_default()
    }
}

impl Text for Option<Percent> {
    fn text(&self) -> String {
        self.map(|Percent(percent)| format!("{percent}%")).unwrap_or_default()
    }
}

/// Where the work ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Total {
    Number(u64),
    /// The readings say it, in this field.
    Field(Arc<str>),
}

/// A program with its arguments; no shell reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(pub Vec<Arc<str>>);

/// The number of a signal; zero for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpSignal(pub i32);

/// What a clean exit of a worker means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterSuccess {
    /// The work is done.
    Complete,
    /// The worker is a service that should not end: start it again.
    Restart,
}

/// The pause before attempt n is `first * 2^(n-1)`, at most `cap`, less up to a quarter of jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    pub first: Duration,
    pub cap: Duration,
}

/// At most `attempts` within any `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub attempts: u32,
    pub window: Duration,
}

/// Largest budget that can be configured; every attempt in the window is remembered.
pub const BUDGET_MAX: u32 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExhausted {
    /// Leave the worker down, protected from further attempts, until somebody resets it.
    Quarantine,
    /// Leave the worker down as if it had been stopped.
    Stop,
    /// Hold the worker until somebody releases it.
    Pause,
    /// Go down the ladder of remedies; where there is none, wait until the budget allows another attempt.
    NextRemedy,
}

/// What becomes of processes that a failed run has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    End,
    Keep,
}

impl Text for Leftovers {
    fn text(&self) -> String {
        match self {
            Leftovers::End => "end",
            Leftovers::Keep => "keep",
        }
        .into()
    }
}

/// A unit name or a glob (`*`, `?`, `[a-z]`, `[!0-9]`) over unit names, as in fnmatch(3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnitPattern(Arc<str>);

impl UnitPattern {
    /// Reads a pattern; the error says what is wrong with it in a sentence fragment.
    pub fn parse(text: &str) -> Result<UnitPattern, String> {
        if !is_glob(text) {
            return WorkerName::parse(text)
                .map(|name| UnitPattern(name.as_str().into()))
                .map_err(|error| error.to_string());
        }
        if let Some(bad) = text.chars().find(|c| !is_unit_character(*c) && !"*?[]!^/".contains(*c)) {
            return Err(format!("{bad:?} is not allowed in a unit glob"));
        }
        if text.matches('*').count() > 16 {
            return Err("more than 16 \"*\" in one glob".into());
        }
        let ends_in_service = text.ends_with(".service") || text.ends_with('*');
        Ok(UnitPattern(if ends_in_service { text.into() } else { format!("{text}.service").into() }))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The worker that the pattern names, if it is no glob.
    pub fn exact(&self) -> Option<WorkerName> {
        if is_glob(&self.0) { None } else { WorkerName::parse(&self.0).ok() }
    }

    pub fn matches(&self, name: &WorkerName) -> bool {
        name.as_str().ends_with(".service") && glob_matches(self.0.as_bytes(), name.as_str().as_bytes())
    }
}

impl fmt::Display for UnitPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// fnmatch(3) without flags. Backtracks only to the last `*`, so the cost is bounded by the product of the lengths.
pub fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => {
                p += 1;
                t += 1;
                continue;
            }
            Some(b'[') => {
                if let Some((hit, after)) = class_matches(pattern, p, text[t])
                    && hit
                {
                    p = after;
                    t += 1;
                    continue;
                }
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        match star {
            Some((star_p, star_t)) => {
                p = star_p + 1;
                t = star_t + 1;
                star = Some((star_p, star_t + 1));
            }
            None => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Matches `byte` against the class that opens at `open`; `None` if the class is never closed.
fn class_matches(pattern: &[u8], open: usize, byte: u8) -> Option<(bool, usize)> {
    let mut at = open + 1;
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    if negated {
        at += 1;
    }
    let first = at;
    let mut hit = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((hit != negated, at + 1));
        }
        let range_end = pattern.get(at + 2).filter(|end| pattern.get(at + 1) == Some(&b'-') && **end != b']');
        match range_end {
            Some(high) => {
                hit |= (low..=*high).contains(&byte);
                at += 3;
            }
            None => {
                hit |= low == byte;
                at += 1;
            }
        }
    }
}

/// What is not tied to one worker (`watcherd.toml`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Decide and say, but touch nothing.
    pub dry_run: bool,
    /// Start, stop and restart jobs that may be under way at once.
    pub max_jobs: u32,
    /// Closed incidents older than this are dropped from the store.
    pub keep_incidents: Duration,
    /// Finished `watcherctl run` workers are forgotten after this.
    pub keep_finished: Duration,
    /// Where it is recorded what happens and what is decided; from the next start on.
    pub record: Option<Arc<str>>,
    /// Who hears of incidents.
    pub notify: NoticeSettings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            dry_run: false,
            max_jobs: 16,
            keep_incidents: Duration::from_secs(90 * 86_400),
            keep_finished: Duration::from_secs(86_400),
            record: None,
            notify: NoticeSettings::default(),
        }
    }
}

/// Everything that was configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// In the order in which they are laid over each other.
    pub layers: Vec<Arc<Layer>>,
    pub settings: Settings,
}

impl Policies {
    /// The layers that match `name`, in order.
    pub fn layers_for<'a>(&'a self, name: &'a WorkerName) -> impl Iterator<Item = &'a Arc<Layer>> {
        self.layers.iter().filter(move |layer| layer.units.iter().any(|pattern| pattern.value.matches(name)))
    }

    /// The policy of `name` with `own` (from `adopt` or `run`) on top; `None` if nothing claims the unit.
    pub fn resolve(&self, name: &WorkerName, own: Option<&Layer>) -> Option<Policy> {
        let mut policy = Policy::default();
        let mut claimed = false;
        for layer in self.layers_for(name) {
            policy.overlay(layer);
            claimed = true;
        }
        if let Some(layer) = own {
            policy.overlay(layer);
            claimed = true;
        }
        claimed.then_some(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_fnmatch_does() {
        let cases = [
            ("train@*.service", "train@1.service", true),
            ("train@*.service", "train.service", false),
            ("*.service", "x.service", true),
            ("w?.service", "w1.service", true),
            ("w[0-9].service", "wa.service", false),
            ("w[!0-9].service", "wa.service", true),
            ("w[].service", "w].service", false),
            ("*a*b*c.service", "xaybzc.service", true),
            ("*a*b*c.service", "xaybz.service", false),
            ("", "", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(glob_matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_glob_without_a_suffix_is_about_services() {
        let pattern = UnitPattern::parse("train@[12]").expect("a valid glob");
        assert_eq!(pattern.as_str(), "train@[12].service");
        assert!(UnitPattern::parse("a b*").is_err());
    }

    #[test]
    fn the_later_layer_wins_key_by_key() {
        let layer = |budget: Option<u32>, grace: Option<u64>| Layer {
            units: vec![Setting::default_value(UnitPattern::parse("a*").expect("a glob"))],
            budget: budget.map(|attempts| Setting::default_value(Budget { attempts, window: Duration::from_secs(1) })),
            grace: grace.map(|secs| Setting::default_value(Duration::from_secs(secs))),
            ..Layer::default()
        };
        let policies = Policies {
            layers: vec![layer(Some(1), Some(1)).into(), layer(Some(2), None).into()],
            settings: Settings::default(),
        };
        let name = WorkerName::parse("abc").expect("a name");
        let policy = policies.resolve(&name, None).expect("two layers match");
        assert_eq!(policy.budget.value.attempts, 2);
        assert_eq!(policy.grace.value, Duration::from_secs(1));
        assert!(policies.resolve(&WorkerName::parse("b").expect("a name"), None).is_none());
    }
}
