// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a hold waits for, as in `free(/srv) > 50G`: the spelling and the limits; others find out whether it holds.

use super::policy::{Size, Text};
use std::fmt;
use std::sync::Arc;

/// The longest spelling, in bytes.
const LENGTH_MAX: usize = 1_000;

/// A condition of the machine that ends a hold when it comes true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// The file system of this directory has more free space than this, in bytes.
    Free(Arc<str>, u64),
    /// The share of time in which tasks waited for the resource in the last ten seconds (PSI, "some avg10") is below this
    /// many percent.
    Pressure(Resource, u8),
    /// A TCP connection can be made: `tcp://HOST:PORT`; or a GET is answered with a status below 500: `http://…`.
    Reachable(Arc<str>),
    /// Something of this name is there.
    Exists(Arc<str>),
    /// The next time that the clock shows these hours and minutes, in the machine's time zone.
    At(u8, u8),
    /// Some device of the machine has this much free memory, in bytes.
    GpuFree(u64),
}

/// What the kernel counts pressure on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Cpu,
    Memory,
    Io,
}

impl Resource {
    pub const ALL: [Resource; 3] = [Resource::Cpu, Resource::Memory, Resource::Io];

    pub fn as_str(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
            Resource::Io => "io",
        }
    }
}

impl Until {
    /// Reads a condition; `size` reads sizes such as `50G`. The error says what is wrong in a sentence fragment.
    pub fn parse(text: &str, size: impl Fn(&str) -> Result<u64, String>) -> Result<Until, String> {
        if text.len() > LENGTH_MAX {
            return Err(format!("the condition is longer than {LENGTH_MAX} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err("control characters are not allowed in a condition".into());
        }
        let (name, rest) = text.trim().split_once('(').ok_or_else(unknown)?;
        let (argument, rest) = rest.rsplit_once(')').ok_or("the closing parenthesis is missing")?;
        let (name, argument, rest) = (name.trim(), argument.trim(), rest.trim());
        match name {
            "free" => Ok(Until::Free(path(argument)?, size(after(rest, '>', "free(/srv) > 50G")?)?)),
            "pressure" => {
                let resource = Resource::ALL.into_iter().find(|resource| resource.as_str() == argument);
                let resource = resource.ok_or_else(|| format!("\"{argument}\" is not one of cpu, memory and io"))?;
                let percent = after(rest, '<', "pressure(memory) < 10")?.trim_end_matches('%').trim_end();
                match percent.parse::<u8>() {
                    Ok(percent @ 1..=100) => Ok(Until::Pressure(resource, percent)),
                    _ => Err(format!("\"{percent}\" is not a percentage from 1 to 100")),
                }
            }
            "reachable" => nothing_after(rest).and_then(|()| address(argument)).map(Until::Reachable),
            "exists" => nothing_after(rest).and_then(|()| path(argument)).map(Until::Exists),
            "at" => nothing_after(rest).and_then(|()| clock(argument)),
            "gpu-free" => nothing_after(rest).and_then(|()| size(argument)).map(Until::GpuFree),
            _ => Err(unknown()),
        }
    }
}

fn unknown() -> String {
    "a condition is one of free(PATH) > SIZE, pressure(cpu|memory|io) < PERCENT, reachable(tcp://HOST:PORT), \
     exists(PATH), at(HH:MM) and gpu-free(SIZE)"
        .into()
}

fn after<'a>(rest: &'a str, sign: char, example: &str) -> Result<&'a str, String> {
    rest.strip_prefix(sign).map(str::trim).ok_or_else(|| format!("\"{sign}\" and a value are missing, as in {example}"))
}

fn nothing_after(rest: &str) -> Result<(), String> {
    if rest.is_empty() { Ok(()) } else { Err(format!("\"{rest}\" stands where the end is expected")) }
}

fn path(text: &str) -> Result<Arc<str>, String> {
    if text.starts_with('/') { Ok(text.into()) } else { Err(format!("\"{text}\" is not an absolute path")) }
}

fn address(text: &str) -> Result<Arc<str>, String> {
    let expected = || format!("\"{text}\" is not an address such as tcp://db:5432 or http://127.0.0.1:8000/health");
    if text.contains(char::is_whitespace) {
        return Err(expected());
    }
    if text.strip_prefix("http://").is_some_and(|rest| !rest.is_empty()) {
        return Ok(text.into());
    }
    let (host, port) = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(expected)?;
    match port.parse::<u16>() {
        Ok(1..) if !host.is_empty() => Ok(text.into()),
        _ => Err(expected()),
    }
}

fn clock(text: &str) -> Result<Until, String> {
    let expected = || format!("\"{text}\" is not a time of day such as 14:00");
    let (hours, minutes) = text.split_once(':').ok_or_else(expected)?;
    match (hours.parse::<u8>(), minutes.parse::<u8>()) {
        (Ok(hours @ 0..=23), Ok(minutes @ 0..=59)) => Ok(Until::At(hours, minutes)),
        _ => Err(expected()),
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Until::Free(path, bytes) => write!(f, "free({path}) > {}", Size(*bytes)),
            Until::Pressure(resource, percent) => write!(f, "pressure({}) < {percent}", resource.as_str()),
            Until::Reachable(address) => write!(f, "reachable({address})"),
            Until::Exists(path) => write!(f, "exists({path})"),
            Until::At(hours, minutes) => write!(f, "at({hours:02}:{minutes:02})"),
            Until::GpuFree(bytes) => write!(f, "gpu-free({})", Size(*bytes)),
        }
    }
}

impl Text for Until {
    fn text(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Until, String> {
        Until::parse(text, |size| {
            let number = size.strip_suffix('G').ok_or("not a size")?;
            number.parse::<u64>().map(|number| number << 30).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn every_kind_is_read_and_written_the_same() {
        for text in [
            "free(/srv) > 50G",
            "free(/a (b)) > 1G",
            "pressure(memory) < 10",
            "reachable(tcp://db:5432)",
            "reachable(tcp://[::1]:5432)",
            "reachable(http://127.0.0.1:8000/health)",
            "exists(/run/ready)",
            "at(14:05)",
            "gpu-free(20G)",
        ] {
            assert_eq!(parse(text).map(|until| until.to_string()).as_deref(), Ok(text));
        }
        assert_eq!(parse(" free( /srv )>50G "), parse("free(/srv) > 50G"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "one of free(PATH)"),
            ("full(/srv)", "one of free(PATH)"),
            ("free(/srv", "parenthesis"),
            ("free(srv) > 1G", "absolute path"),
            ("free(/srv)", "as in free(/srv) > 50G"),
            ("free(/srv) < 1G", "\">\" and a value are missing"),
            ("free(/srv) > much", "not a size"),
            ("pressure(gpu) < 10", "cpu, memory and io"),
            ("pressure(io) < 0", "from 1 to 100"),
            ("reachable(db:5432)", "not an address"),
            ("reachable(tcp://db)", "not an address"),
            ("reachable(tcp://:1)", "not an address"),
            ("reachable(tcp://db:99999)", "not an address"),
            ("exists(/a) and more", "where the end is expected"),
            ("at(24:00)", "time of day"),
            ("exists(/a\nb)", "control characters"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
