// SPDX-License-Identifier: MIT OR Apache-2.0
//! systemd's properties in the engine's words.
//!
//! A property that is missing or has an unexpected type leaves the former value as it is: unknown is not zero.

use crate::engine::event::{Active, Exit, Load, UnitFacts, UnitResult};
use crate::engine::ids::InvocationId;
use crate::engine::time::{Mono, Wall};
use std::collections::HashMap;
use std::time::Duration;
use zbus::Variant;

/// An `a{sv}` as it lies in a message.
pub type Properties<'m> = HashMap<&'m str, Variant<'m>>;

/// Lays what `properties` says over `facts`. Accepts the properties of any interface, or of all of them at once.
pub fn apply(properties: &Properties<'_>, facts: &mut UnitFacts) {
    apply_unit(properties, facts);
    apply_run(properties, facts);
    apply_traits(properties, facts);
}

fn apply_unit(properties: &Properties<'_>, facts: &mut UnitFacts) {
    if let Some(state) = text(properties, "LoadState") {
        facts.load = Load::parse(state);
    }
    if let Some(state) = text(properties, "ActiveState") {
        facts.active = Active::parse(state);
    }
    if let Some(state) = text(properties, "SubState") {
        facts.sub = state.to_owned();
    }
    if let Some(job) = first_number(properties, "Job") {
        facts.job = job;
    }
    if let Some(id) = bytes(properties, "InvocationID") {
        facts.invocation = <[u8; 16]>::try_from(id).ok().filter(|id| *id != [0; 16]).map(InvocationId);
    }
    if let Some(state) = text(properties, "FreezerState") {
        facts.frozen = state.starts_with("frozen") || state.starts_with("freezing");
    }
    if let Some(at) = number(properties, "ActiveEnterTimestampMonotonic") {
        facts.active_enter = Mono(i64::try_from(at).unwrap_or(i64::MAX));
    }
}

fn apply_run(properties: &Properties<'_>, facts: &mut UnitFacts) {
    if let Some(pid) = number_u32(properties, "MainPID") {
        facts.main_pid = pid;
    }
    if let Some(count) = number_u32(properties, "NRestarts") {
        facts.restarts = count;
    }
    if let Some(status) = text(properties, "StatusText") {
        facts.status_text = status.to_owned();
    }
    if let Some(result) = text(properties, "Result") {
        facts.end.result = UnitResult::parse(result);
    }
    if let (Some(code), Some(status)) = (signed(properties, "ExecMainCode"), signed(properties, "ExecMainStatus")) {
        facts.end.exit = Exit::from_wait(code, status);
    }
    if let Some(pid) = number_u32(properties, "ExecMainPID") {
        facts.end.pid = pid;
    }
    if let Some(at) = wall(properties, "ExecMainStartTimestamp") {
        facts.end.started = at;
    }
    if let Some(at) = number(properties, "ExecMainStartTimestampMonotonic") {
        facts.main_started = Mono(i64::try_from(at).unwrap_or(i64::MAX));
    }
    if let Some(at) = wall(properties, "ExecMainExitTimestamp") {
        facts.end.ended = at;
    }
}

fn apply_traits(properties: &Properties<'_>, facts: &mut UnitFacts) {
    let traits = &mut facts.traits;
    if let Some(restart) = text(properties, "Restart") {
        traits.restarts_itself = restart != "no";
    }
    if let Some(span) = number(properties, "WatchdogUSec") {
        traits.watchdog = (span != 0 && span != u64::MAX).then(|| Duration::from_micros(span));
    }
    if let Some(can) = boolean(properties, "CanFreeze") {
        traits.can_freeze = can;
    }
    if let Some(burst) = number_u32(properties, "StartLimitBurst") {
        traits.start_limit_burst = burst;
    }
    if let Some(span) = number(properties, "StartLimitIntervalUSec") {
        traits.start_limit_interval = Duration::from_micros(span);
    }
    if let Some(kind) = text(properties, "Type") {
        traits.oneshot = kind == "oneshot";
    }
    if let Some(transient) = boolean(properties, "Transient") {
        traits.transient = transient;
    }
}

fn text<'a>(properties: &'a Properties<'_>, name: &str) -> Option<&'a str> {
    match properties.get(name)? {
        Variant::Str(text) => Some(text.as_str()),
        _ => None,
    }
}

fn boolean(properties: &Properties<'_>, name: &str) -> Option<bool> {
    match properties.get(name)? {
        Variant::Bool(value) => Some(*value),
        _ => None,
    }
}

fn number(properties: &Properties<'_>, name: &str) -> Option<u64> {
    as_number(properties.get(name)?)
}

fn as_number(value: &Variant<'_>) -> Option<u64> {
    match value {
        Variant::U64(value) => Some(*value),
        Variant::U32(value) => Some(u64::from(*value)),
        Variant::U16(value) => Some(u64::from(*value)),
        Variant::I32(value) => u64::try_from(*value).ok(),
        Variant::I64(value) => u64::try_from(*value).ok(),
        _ => None,
    }
}

fn number_u32(properties: &Properties<'_>, name: &str) -> Option<u32> {
    u32::try_from(number(properties, name)?).ok()
}

fn signed(properties: &Properties<'_>, name: &str) -> Option<i32> {
    match properties.get(name)? {
        Variant::I32(value) => Some(*value),
        other => i32::try_from(as_number(other)?).ok(),
    }
}

fn wall(properties: &Properties<'_>, name: &str) -> Option<Wall> {
    number(properties, name).and_then(|at| i64::try_from(at).ok()).map(Wall)
}

/// The first field of a structure, as in `Job (uo)`.
fn first_number(properties: &Properties<'_>, name: &str) -> Option<u32> {
    match properties.get(name)? {
        Variant::Structure(fields) => u32::try_from(as_number(fields.fields().first()?)?).ok(),
        _ => None,
    }
}

fn bytes(properties: &Properties<'_>, name: &str) -> Option<Vec<u8>> {
    match properties.get(name)? {
        Variant::Array(array) => array
            .iter()
            .map(|item| match item {
                Variant::U8(byte) => Some(*byte),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::ObjectPath;

    fn job(id: u32) -> Variant<'static> {
        Variant::new((id, ObjectPath::try_from("/org/freedesktop/systemd1/job/7").expect("a valid path")))
    }

    #[test]
    fn a_crash_is_read_in_full() {
        let mut facts = UnitFacts::default();
        let properties = Properties::from([
            ("ActiveState", Variant::from("failed")),
            ("SubState", Variant::from("failed")),
            ("Job", job(7)),
            ("InvocationID", Variant::new(vec![1u8; 16])),
            ("MainPID", Variant::from(0u32)),
            ("Result", Variant::from("signal")),
            ("ExecMainCode", Variant::from(2i32)),
            ("ExecMainStatus", Variant::from(9i32)),
            ("ExecMainPID", Variant::from(42u32)),
            ("ExecMainStartTimestamp", Variant::from(5u64)),
            ("ExecMainStartTimestampMonotonic", Variant::from(4u64)),
            ("ExecMainExitTimestamp", Variant::from(6u64)),
            ("NRestarts", Variant::from(3u32)),
            ("FreezerState", Variant::from("running")),
            ("Restart", Variant::from("always")),
            ("WatchdogUSec", Variant::from(u64::MAX)),
            ("Type", Variant::from("oneshot")),
        ]);
        apply(&properties, &mut facts);
        assert_eq!(facts.active, Active::Failed);
        assert_eq!(facts.job, 7);
        assert_eq!(facts.invocation, Some(InvocationId([1; 16])));
        assert_eq!(facts.end.result, UnitResult::Signal);
        assert_eq!(facts.end.exit, Exit::Killed(9));
        assert_eq!((facts.end.pid, facts.end.started, facts.end.ended), (42, Wall(5), Wall(6)));
        assert_eq!((facts.main_started, facts.restarts), (Mono(4), 3));
        assert!(facts.traits.restarts_itself && facts.traits.oneshot && facts.traits.watchdog.is_none());
    }

    #[test]
    fn what_is_missing_or_odd_stays_as_it_was() {
        let before = UnitFacts {
            active: Active::Active,
            job: 3,
            main_pid: 5,
            invocation: Some(InvocationId([2; 16])),
            frozen: true,
            ..UnitFacts::default()
        };
        let mut facts = before.clone();
        let odd = Properties::from([
            ("ActiveState", Variant::from(1u32)),
            ("Job", Variant::from("x")),
            ("MainPID", Variant::from("5")),
            ("InvocationID", Variant::from(true)),
            ("ExecMainCode", Variant::from(2i32)),
        ]);
        apply(&odd, &mut facts);
        apply(&Properties::new(), &mut facts);
        assert_eq!(facts, before);
    }
}
