// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands as units: from a [`Definition`], in the spelling of a unit file, to what StartTransientUnit takes.
//!
//! The unit is made anew for every run and never restarted: systemd 252 reads a transient unit wrongly after a
//! daemon-reload. `ExecStart` is always the plain form with `$` doubled, for the same reason.
//!
//! What systemd itself would refuse, or silently ignore, is refused here with a text for people.

mod table;
mod value;

use super::proxy::Property;
use crate::engine::event::Definition;
use crate::engine::ids::WorkerName;
use std::time::Duration;
use zbus::Variant;

/// Most arguments of a command line.
pub const ARGV_MAX: usize = 1024;
/// Most properties of a definition.
pub const PROPERTIES_MAX: usize = 256;
/// Most bytes of arguments and properties together.
pub const BYTES_MAX: usize = 128 * 1024;

const SLICE: &str = "watcherd.slice";
/// `Type=exec` fails the start job if the program cannot be executed.
const TYPE: &str = "exec";

/// Says what is wrong with a definition, if anything is.
pub fn check(definition: &Definition) -> Result<(), String> {
    check_sizes(definition)?;
    check_argv(&definition.argv)?;
    for (name, text) in &definition.properties {
        translate(name, text)?;
    }
    Ok(())
}

/// The properties of the unit for one run; `grace` is the time from SIGTERM to SIGKILL.
pub fn properties(
    name: &WorkerName,
    definition: &Definition,
    run: &str,
    grace: Duration,
) -> Result<Vec<Property>, String> {
    check_sizes(definition)?;
    check_argv(&definition.argv)?;
    refuse_control_characters("the run id", run)?;
    let mut properties = vec![("ExecStart", Variant::new(vec![command(&definition.argv, false)]))];
    for (name, text) in &definition.properties {
        properties.extend(translate(name, text)?);
    }
    let mut default = |property: &'static str, value: Variant<'static>| {
        if !properties.iter().any(|(given, _)| *given == property) {
            properties.push((property, value));
        }
    };
    default("Description", Variant::new(definition.argv.join(" ")));
    default("Slice", Variant::from(SLICE));
    default("Type", Variant::from(TYPE));
    default("TimeoutStopUSec", Variant::from(u64::try_from(grace.as_micros()).unwrap_or(u64::MAX)));
    let fields = [format!("WATCHERD_WORKER={name}"), format!("WATCHERD_RUN={run}")];
    properties.push(("LogExtraFields", Variant::new(fields.map(String::into_bytes).to_vec())));
    Ok(properties)
}

/// Adds variables to the environment of the unit; they win over those of the definition.
pub fn export(properties: &mut Vec<Property>, variables: &[(String, String)]) -> Result<(), String> {
    if variables.is_empty() {
        return Ok(());
    }
    let mut all = Vec::new();
    for (name, value) in variables {
        refuse_control_characters(name, value)?;
        all.push(format!("{name}={value}"));
    }
    // A property that is given twice is joined by systemd, and of two variables the later one counts.
    properties.push(("Environment", Variant::new(all)));
    Ok(())
}

/// Program, arguments, and whether a failure is ignored.
pub(super) fn command(argv: &[String], ignored: bool) -> (String, Vec<String>, bool) {
    let literal: Vec<_> = argv.iter().map(|word| word.replace('$', "$$")).collect();
    (argv.first().cloned().unwrap_or_default(), literal, ignored)
}

fn check_sizes(definition: &Definition) -> Result<(), String> {
    if definition.argv.len() > ARGV_MAX {
        return Err(format!("the command has {} arguments, {ARGV_MAX} are allowed", definition.argv.len()));
    }
    if definition.properties.len() > PROPERTIES_MAX {
        return Err(format!("{} properties are given, {PROPERTIES_MAX} are allowed", definition.properties.len()));
    }
    let of_properties = definition.properties.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>();
    let bytes = of_properties + definition.argv.iter().map(String::len).sum::<usize>();
    if bytes > BYTES_MAX {
        return Err(format!("the command and its properties are {bytes} bytes long, {BYTES_MAX} are allowed"));
    }
    Ok(())
}

fn check_argv(argv: &[String]) -> Result<(), String> {
    let Some(program) = argv.first() else { return Err("the command is empty".to_owned()) };
    argv.iter().try_for_each(|word| refuse_control_characters("the command", word))?;
    value::check_absolute(program).map_err(|why| format!("the command's program {why}"))
}

fn refuse_control_characters(what: &str, text: &str) -> Result<(), String> {
    match text.chars().find(|c| c.is_control()) {
        Some(bad) => Err(format!("{what} contains the control character {bad:?}")),
        None => Ok(()),
    }
}

/// Translates one line of a unit file; a list continues with every line of the same name, as it does there.
fn translate(name: &str, text: &str) -> Result<Vec<Property>, String> {
    refuse_control_characters(name, text)?;
    if let Some(why) = table::refused(name) {
        return Err(format!("{name}= cannot be set: {why}"));
    }
    let Some(entry) = table::find(name) else {
        return Err(match table::nearest(name) {
            Some(near) => format!("unknown property {name:?}, did you mean {near}=?"),
            None => format!("unknown property {name:?}"),
        });
    };
    value::read(entry, text).map_err(|why| format!("{name}={text}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Result<Vec<Property>, String> {
        translate(name, text)
    }

    fn rendered(name: &str, text: &str) -> String {
        match one(name, text) {
            Ok(properties) => {
                let texts: Vec<_> = properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
                texts.join("; ")
            }
            Err(why) => format!("! {why}"),
        }
    }

    #[test]
    fn lines_of_a_unit_file_become_typed_properties() {
        let cases = [
            ("Environment", "A=1 'B=x y' C=\"q\"", r#"Environment=["A=1", "B=x y", "C=q"]"#),
            ("EnvironmentFile", "-/etc/x", r#"EnvironmentFiles=[("/etc/x", true)]"#),
            ("WorkingDirectory", "-/srv", r#"WorkingDirectory="-/srv""#),
            ("User", "alice", r#"User="alice""#),
            ("DynamicUser", "yes", "DynamicUser=true"),
            ("MemoryMax", "4G", "MemoryMax=uint64 4294967296"),
            ("MemoryMax", "infinity", "MemoryMax=uint64 18446744073709551615"),
            ("MemoryHigh", "50%", "MemoryHighScale=uint32 2147483647"),
            ("CPUQuota", "150%", "CPUQuotaPerSecUSec=uint64 1500000"),
            ("CPUWeight", "idle", "CPUWeight=uint64 0"),
            ("TasksMax", "64", "TasksMax=uint64 64"),
            ("AllowedCPUs", "0-2,9", "AllowedCPUs=[byte 0x07, 0x02]"),
            ("Nice", "-5", "Nice=-5"),
            ("KillSignal", "SIGINT", "KillSignal=2"),
            ("KillSignal", "USR1", "KillSignal=10"),
            ("WatchdogSec", "1min 30s", "WatchdogUSec=uint64 90000000"),
            ("TimeoutSec", "5", "TimeoutStartUSec=uint64 5000000; TimeoutStopUSec=uint64 5000000"),
            ("StandardOutput", "append:/var/log/x", r#"StandardOutputFileToAppend="/var/log/x""#),
            ("StandardOutput", "journal", r#"StandardOutput="journal""#),
            ("LimitNOFILE", "1024:2048", "LimitNOFILE=uint64 2048; LimitNOFILESoft=uint64 1024"),
            ("UMask", "0027", "UMask=uint32 23"),
            ("SuccessExitStatus", "3 SIGTERM", "SuccessExitStatus=([3], [15])"),
            ("ExecStartPre", "-/bin/sh -c 'a b'", r#"ExecStartPre=[("/bin/sh", ["/bin/sh", "-c", "a b"], true)]"#),
            ("Delegate", "yes", "Delegate=true"),
            ("SystemCallFilter", "~@mount", r#"SystemCallFilter=(false, ["@mount"])"#),
            ("LoadCredential", "key:/etc/key", r#"LoadCredential=[("key", "/etc/key")]"#),
        ];
        for (name, text, expected) in cases {
            assert_eq!(rendered(name, text), expected, "{name}={text}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        let cases = [
            ("Restart", "always", "watcherd restarts the worker itself"),
            ("X-Foo", "1", "X- keys"),
            ("WantedBy", "a.target", "cannot be enabled"),
            ("MemroyMax", "1", "did you mean MemoryMax=?"),
            ("Zzzzzzzz", "1", "unknown property \"Zzzzzzzz\""),
            ("MemoryMax", "lots", "a size such as 512M"),
            ("KillMode", "hard", "control-group, mixed, process or none"),
            ("Nice", "30", "-20 to 19"),
            ("WatchdogSec", "soon", "a time span such as"),
            ("WorkingDirectory", "srv", "absolute path"),
            ("User", "a\nb", "control character"),
            ("Environment", "A", "NAME=VALUE"),
            ("Environment", "A=\"x", "quote"),
            ("KillSignal", "SIGFOO", "a signal such as SIGTERM"),
            ("ExecStop", "@/bin/x y", "prefix"),
            ("After", "a b/c", "unit name"),
        ];
        for (name, text, part) in cases {
            let why = rendered(name, text);
            assert!(why.starts_with("! ") && why.contains(part), "{name}={text}: {why}");
        }
    }

    #[test]
    fn a_command_is_passed_on_literally() {
        let definition = Definition {
            argv: vec!["/bin/echo".into(), "$HOME;%n \\x".into()],
            properties: vec![("Type".into(), "simple".into()), ("LogExtraFields".into(), "A=1".into())],
        };
        let name = WorkerName::parse("a").expect("a name");
        let made = properties(&name, &definition, "r1", Duration::from_secs(5)).expect("a valid definition");
        let text: Vec<_> = made.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text[0], r#"ExecStart=[("/bin/echo", ["/bin/echo", "$$HOME;%n \\x"], false)]"#);
        assert!(text.contains(&"Type=\"simple\"".to_owned()));
        assert!(text.contains(&"TimeoutStopUSec=uint64 5000000".to_owned()));
        assert!(text.contains(&"Slice=\"watcherd.slice\"".to_owned()));
        assert_eq!(made.iter().filter(|(name, _)| *name == "LogExtraFields").count(), 2);
    }

    #[test]
    fn a_command_must_be_one() {
        let argv = |words: &[&str]| Definition {
            argv: words.iter().map(|word| (*word).to_owned()).collect(),
            properties: Vec::new(),
        };
        assert!(check(&argv(&["/bin/true"])).is_ok());
        assert!(check(&argv(&[])).is_err_and(|why| why.contains("empty")));
        assert!(check(&argv(&["true"])).is_err_and(|why| why.contains("absolute path")));
        assert!(check(&argv(&["/bin/true", "a\u{7f}"])).is_err_and(|why| why.contains("control character")));
        assert!(check(&argv(&["/bin/true"; 1025])).is_err_and(|why| why.contains("1024")));
        assert!(check(&argv(&["/bin/true", &"x".repeat(200_000)])).is_err_and(|why| why.contains("bytes")));
    }
}
