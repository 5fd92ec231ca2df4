// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what systemd says about the end of a run to a verdict: the cause, how sure it is, and what proves it.
//!
//! Kernel lines, core dumps and the worker's text are joined with these facts in [`super::judge`].

use super::cause::Cause;
use super::event::{Exit, RunEnd, UnitResult};

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub cause: Cause,
    /// In percent.
    pub confidence: u8,
    /// systemd's facts, then the lines that led here in the order of time, each with its source.
    pub because: Vec<String>,
    /// Other causes that could be defended, likeliest first.
    pub also: Vec<Cause>,
    /// Lines about what was only a consequence.
    pub cascade: Vec<String>,
    /// How the run ended in a few words: `killed by SIGSEGV`, `exited with status 1`.
    pub ending: String,
}

/// Judges the end of a failed run by systemd's facts alone.
pub fn classify(end: &RunEnd) -> Verdict {
    let (cause, confidence) = by_result(end);
    Verdict { cause, confidence, because: facts(end), also: Vec::new(), cascade: Vec::new(), ending: ending(end) }
}

/// systemd's facts as lines; none if nothing is known about the end.
pub(super) fn facts(end: &RunEnd) -> Vec<String> {
    if (&end.result, end.exit) == (&UnitResult::Success, Exit::None) {
        return Vec::new();
    }
    let mut lines = vec![format!("systemd: Result={}, main process {}", end.result.as_str(), ending(end))];
    lines.extend(exec_step(end).map(|step| format!("systemd: status {step}")));
    lines
}

/// What systemd's facts say beside other clues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FactsSay {
    pub cause: Cause,
    /// As the weight of a clue; zero if they say nothing about the cause.
    pub weight: u8,
}

/// Weighs systemd's facts: where they name the cause they beat any text, a bare signal is beaten by its reason.
pub(super) fn by_facts(end: &RunEnd) -> FactsSay {
    let (cause, weight) = match (&end.result, end.exit) {
        (UnitResult::Success, Exit::None) => (Cause::Unknown, 0),
        (UnitResult::Success, Exit::Exited(0)) => (Cause::NoCrash, 84),
        (UnitResult::OomKill, _) => (Cause::OomKillHost, 78),
        (UnitResult::Watchdog, _) => (Cause::Unresponsive, 86),
        (UnitResult::Timeout, _) => (Cause::Unresponsive, 82),
        (UnitResult::Resources, _) => (Cause::UnitSetupFailed, 85),
        (UnitResult::ExitCode, Exit::Exited(200..=245)) => (Cause::UnitSetupFailed, 90),
        (_, Exit::Killed(SIGKILL)) => (Cause::KilledUnattributed, 66),
        (_, Exit::Killed(signal) | Exit::Dumped(signal)) => match by_signal(signal) {
            (Cause::Unknown, _) => (Cause::Unknown, 0),
            (cause, _) => (cause, 58),
        },
        (_, Exit::Exited(137)) => (Cause::KilledUnattributed, 58),
        (_, Exit::Exited(129..=192)) => match by_result(end) {
            (Cause::Unknown, _) => (Cause::Unknown, 0),
            (cause, _) => (cause, 56),
        },
        (_, Exit::Exited(126 | 127 | 101)) => (by_result(end).0, 38),
        _ => (Cause::Unknown, 0),
    };
    FactsSay { cause, weight }
}

fn by_result(end: &RunEnd) -> (Cause, u8) {
    match (&end.result, end.exit) {
        (UnitResult::OomKill, _) => (Cause::OomKillHost, 60),
        (UnitResult::Watchdog, _) => (Cause::Unresponsive, 95),
        (UnitResult::Timeout, _) => (Cause::Unresponsive, 80),
        (UnitResult::Resources, _) => (Cause::UnitSetupFailed, 80),
        (_, Exit::Killed(signal) | Exit::Dumped(signal)) => by_signal(signal),
        (_, Exit::Exited(status)) => by_status(status),
        (_, Exit::None) => (Cause::Unknown, 0),
    }
}

fn by_signal(signal: i32) -> (Cause, u8) {
    match signal {
        SIGSEGV | SIGBUS | SIGFPE => (Cause::Segfault, 90),
        SIGILL => (Cause::CpuIncompatible, 70),
        SIGSYS => (Cause::PermissionDenied, 80),
        SIGKILL => (Cause::KilledUnattributed, 90),
        SIGHUP | SIGINT | SIGTERM => (Cause::ExternalStop, 50),
        _ => (Cause::Unknown, 0),
    }
}

fn by_status(status: i32) -> (Cause, u8) {
    match status {
        200..=245 => (Cause::UnitSetupFailed, 95),
        126 => (Cause::PermissionDenied, 40),
        127 => (Cause::MissingDependency, 50),
        101 => (Cause::AppException, 40),
        // A shell reports the signal that ended its child in this way.
        129..=192 => {
            let (cause, confidence) = by_signal(status - 128);
            (cause, confidence.saturating_sub(20))
        }
        _ => (Cause::Unknown, 0),
    }
}

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGILL: i32 = 4;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGTERM: i32 = 15;
const SIGSYS: i32 = 31;

pub(super) fn ending(end: &RunEnd) -> String {
    match end.exit {
        Exit::None => match end.result {
            UnitResult::Success => "ended".into(),
            // It had its time.
            UnitResult::Timeout | UnitResult::Watchdog => "was ended by systemd".into(),
            _ => "never started".into(),
        },
        Exit::Exited(status) => format!("exited with status {status}"),
        Exit::Killed(signal) => format!("killed by {}", signal_name(signal)),
        Exit::Dumped(signal) => format!("killed by {} (core dumped)", signal_name(signal)),
    }
}

/// The name of a signal number on Linux (x86-64, arm64); see signal(7).
pub fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    usize::try_from(signal)
        .ok()
        .and_then(|n| n.checked_sub(1))
        .and_then(|n| NAMES.get(n))
        .map_or_else(|| format!("signal {signal}"), |name| (*name).to_owned())
}

/// systemd's name for the step at which it could not start the process; see systemd.exec(5), "Process Exit Codes".
fn exec_step(end: &RunEnd) -> Option<String> {
    const STEPS: [(i32, &str, &str); 46] = [
        (200, "CHDIR", "WorkingDirectory= cannot be entered"),
        (201, "NICE", "Nice= cannot be set"),
        (202, "FDS", "file descriptors cannot be passed"),
        (203, "EXEC", "the executable of ExecStart= cannot be run"),
        (204, "MEMORY", "not enough memory to start"),
        (205, "LIMITS", "a Limit…= cannot be set"),
        (206, "OOM_ADJUST", "OOMScoreAdjust= cannot be set"),
        (207, "SIGNAL_MASK", "the signal mask cannot be set"),
        (208, "STDIN", "StandardInput= cannot be set up"),
        (209, "STDOUT", "StandardOutput= cannot be set up"),
        (210, "CHROOT", "RootDirectory= cannot be entered"),
        (211, "IOPRIO", "IOSchedulingClass= cannot be set"),
        (212, "TIMERSLACK", "TimerSlackNSec= cannot be set"),
        (213, "SECUREBITS", "SecureBits= cannot be set"),
        (214, "SETSCHEDULER", "CPUSchedulingPolicy= cannot be set"),
        (215, "CPUAFFINITY", "CPUAffinity= cannot be set"),
        (216, "GROUP", "Group= does not exist or cannot be set"),
        (217, "USER", "User= does not exist or cannot be set"),
        (218, "CAPABILITIES", "capabilities cannot be set"),
        (219, "CGROUP", "the control group cannot be set up"),
        (220, "SETSID", "no new session"),
        (221, "CONFIRM", "somebody declined to start it"),
        (222, "STDERR", "StandardError= cannot be set up"),
        (224, "PAM", "PAMName= failed"),
        (225, "NETWORK", "PrivateNetwork= cannot be set up"),
        (226, "NAMESPACE", "mount namespace: a path of the sandbox is missing"),
        (227, "NO_NEW_PRIVILEGES", "NoNewPrivileges= cannot be set"),
        (228, "SECCOMP", "SystemCallFilter= cannot be set"),
        (229, "SELINUX_CONTEXT", "SELinuxContext= cannot be set"),
        (230, "PERSONALITY", "Personality= cannot be set"),
        (231, "APPARMOR_PROFILE", "AppArmorProfile= cannot be set"),
        (232, "ADDRESS_FAMILIES", "RestrictAddressFamilies= cannot be set"),
        (233, "RUNTIME_DIRECTORY", "RuntimeDirectory= cannot be made"),
        (235, "CHOWN", "a socket cannot be given to its owner"),
        (236, "SMACK_PROCESS_LABEL", "SmackProcessLabel= cannot be set"),
        (237, "KEYRING", "the kernel keyring cannot be set up"),
        (238, "STATE_DIRECTORY", "StateDirectory= cannot be made"),
        (239, "CACHE_DIRECTORY", "CacheDirectory= cannot be made"),
        (240, "LOGS_DIRECTORY", "LogsDirectory= cannot be made"),
        (241, "CONFIGURATION_DIRECTORY", "ConfigurationDirectory= cannot be made"),
        (242, "NUMA_POLICY", "NUMAPolicy= cannot be set"),
        (243, "CREDENTIALS", "LoadCredential= failed"),
        (244, "BPF", "a BPF filter cannot be attached"),
        (245, "KSM", "MemoryKSM= cannot be set"),
        (126, "NOPERM", "found, but not executable"),
        (127, "NOTFOUND", "a command was not found"),
    ];
    let Exit::Exited(status) = end.exit else { return None };
    STEPS.iter().find(|(code, _, _)| *code == status).map(|(code, name, meaning)| format!("{code}/{name}: {meaning}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_facts_lead_to_a_cause() {
        let cases = [
            (UnitResult::OomKill, Exit::Killed(9), Cause::OomKillHost),
            (UnitResult::Watchdog, Exit::Dumped(6), Cause::Unresponsive),
            (UnitResult::Timeout, Exit::Killed(15), Cause::Unresponsive),
            (UnitResult::Signal, Exit::Killed(11), Cause::Segfault),
            (UnitResult::CoreDump, Exit::Dumped(11), Cause::Segfault),
            (UnitResult::CoreDump, Exit::Dumped(4), Cause::CpuIncompatible),
            (UnitResult::Signal, Exit::Killed(9), Cause::KilledUnattributed),
            (UnitResult::ExitCode, Exit::Exited(203), Cause::UnitSetupFailed),
            (UnitResult::ExitCode, Exit::Exited(217), Cause::UnitSetupFailed),
            (UnitResult::ExitCode, Exit::Exited(139), Cause::Segfault),
            (UnitResult::ExitCode, Exit::Exited(137), Cause::KilledUnattributed),
            (UnitResult::ExitCode, Exit::Exited(127), Cause::MissingDependency),
            (UnitResult::ExitCode, Exit::Exited(1), Cause::Unknown),
            (UnitResult::Resources, Exit::None, Cause::UnitSetupFailed),
            (UnitResult::CoreDump, Exit::Dumped(6), Cause::Unknown),
        ];
        for (result, exit, cause) in cases {
            let verdict = classify(&RunEnd { result, exit, ..RunEnd::default() });
            assert_eq!(verdict.cause, cause, "{verdict:?}");
            assert!(!verdict.because.is_empty());
            assert_eq!(verdict.cause == Cause::Unknown, verdict.confidence == 0);
        }
    }

    #[test]
    fn the_step_that_systemd_failed_at_is_named() {
        let end = RunEnd { result: UnitResult::ExitCode, exit: Exit::Exited(217), ..RunEnd::default() };
        assert_eq!(
            classify(&end).because,
            [
                "systemd: Result=exit-code, main process exited with status 217",
                "systemd: status 217/USER: User= does not exist or cannot be set"
            ]
        );
    }
}
