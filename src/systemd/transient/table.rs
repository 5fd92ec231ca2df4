// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which lines of a unit file a definition may have, and what kind of value each takes.

/// A line of a unit file and the property that it becomes.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The spelling of the unit file.
    pub name: &'static str,
    /// The spelling on D-Bus.
    pub property: &'static str,
    pub kind: Kind,
}

/// How a value is read.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Text,
    Bool,
    /// An absolute path; `-` in front is allowed if the flag says so, and so is `~`.
    Path {
        optional: bool,
    },
    /// Unit names.
    Units,
    /// Words, quoted where they contain blanks.
    Words,
    /// Absolute paths with the prefixes `-` and `+`.
    Paths,
    /// One of these words.
    Choice(&'static [&'static str]),
    Slice,
    Integer(i32, i32),
    Unsigned,
    /// A number with K, M, G, T, or `infinity`; a percentage goes into this property.
    Size {
        scale: Option<&'static str>,
    },
    /// 1 to 10000; zero stands for `idle` where it is allowed.
    Weight {
        idle: bool,
    },
    Quota,
    Cpus,
    Span,
    /// `TimeoutSec=`: the time to start and to stop.
    StartAndStop,
    Signal,
    /// A word and the number that it stands for.
    Numbered(&'static [(&'static str, i32)]),
    Environment,
    EnvironmentFile,
    Fields,
    Command,
    Input,
    /// Where output goes; the properties for `file:`, `append:` and `truncate:`.
    Output([&'static str; 3]),
    /// A limit, soft and hard; the second property is the soft one.
    Limit(&'static str, Unit),
    Octal,
    Delegate,
    /// Exit codes and signals.
    Statuses,
    Devices,
    /// Words that are allowed, or with `~` in front refused.
    Filter,
    Credential,
}

/// What a resource limit counts.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Number,
    Bytes,
    Seconds,
    Microseconds,
}

/// The property that has this name in a unit file.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// Why a name that systemd knows is refused.
pub fn refused(name: &str) -> Option<&'static str> {
    if name.starts_with("X-") {
        return Some("systemd does not take X- keys for a unit that is made on the spot");
    }
    if name.starts_with("StartLimit") || name.starts_with("Restart") && name != "RestartKillSignal" {
        return Some("watcherd restarts the worker itself");
    }
    match name {
        "ExecStart" => Some("it is the command"),
        "WantedBy" | "RequiredBy" | "UpheldBy" | "Also" | "Alias" | "DefaultInstance" => {
            Some("a unit that is made for one run cannot be enabled")
        }
        "JobTimeoutSec" | "JobRunningTimeoutSec" | "JobTimeoutAction" => {
            Some("systemd does not take it for a unit that is made on the spot")
        }
        "CollectMode" => Some("a failed worker must stay visible"),
        "BusName" | "PIDFile" | "GuessMainPID" | "Sockets" => Some("the command must be the worker's main process"),
        _ => None,
    }
}

/// The known name that is nearest to a misspelled one, if one is near.
pub fn nearest(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    let near = ENTRIES.iter().map(|entry| (distance(&entry.name.to_ascii_lowercase(), &lower), entry.name)).min()?;
    (near.0 <= 1 + name.len().min(64) / 5).then_some(near.1)
}

/// Levenshtein's distance; of texts longer than any name, only the difference in length.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > 8 {
        return a.len().abs_diff(b.len());
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

const fn same(name: &'static str, kind: Kind) -> Entry {
    Entry { name, property: name, kind }
}

const fn renamed(name: &'static str, property: &'static str, kind: Kind) -> Entry {
    Entry { name, property, kind }
}

const PATH: Kind = Kind::Path { optional: false };
const WEIGHT: Kind = Kind::Weight { idle: false };
const CPU_WEIGHT: Kind = Kind::Weight { idle: true };
const ON_OOM: Kind = Kind::Choice(&["auto", "kill"]);
const PROTECT: Kind = Kind::Choice(&["no", "yes", "full", "strict"]);
const LEVELS: Kind = Kind::Numbered(&[
    ("emerg", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("warning", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
]);

const fn scaled(scale: &'static str) -> Kind {
    Kind::Size { scale: Some(scale) }
}

#[rustfmt::skip]
const ENTRIES: &[Entry] = &[
    same("Description", Kind::Text),
    same("Documentation", Kind::Words),
    same("Requires", Kind::Units),
    same("Requisite", Kind::Units),
    same("Wants", Kind::Units),
    same("BindsTo", Kind::Units),
    same("PartOf", Kind::Units),
    same("Upholds", Kind::Units),
    same("Conflicts", Kind::Units),
    same("After", Kind::Units),
    same("Before", Kind::Units),
    same("OnFailure", Kind::Units),
    same("OnSuccess", Kind::Units),
    same("PropagatesReloadTo", Kind::Units),
    same("PropagatesStopTo", Kind::Units),
    same("RequiresMountsFor", Kind::Paths),

    same("Type", Kind::Choice(&["simple", "exec", "oneshot", "notify", "notify-reload", "idle"])),
    same("ExitType", Kind::Choice(&["main", "cgroup"])),
    same("RemainAfterExit", Kind::Bool),
    same("SuccessExitStatus", Kind::Statuses),
    same("NotifyAccess", Kind::Choice(&["none", "main", "exec", "all"])),
    same("FileDescriptorStoreMax", Kind::Unsigned),
    same("ExecCondition", Kind::Command),
    same("ExecStartPre", Kind::Command),
    same("ExecStartPost", Kind::Command),
    same("ExecReload", Kind::Command),
    same("ExecStop", Kind::Command),
    same("ExecStopPost", Kind::Command),
    renamed("TimeoutSec", "TimeoutStartUSec", Kind::StartAndStop),
    renamed("TimeoutStartSec", "TimeoutStartUSec", Kind::Span),
    renamed("TimeoutStopSec", "TimeoutStopUSec", Kind::Span),
    renamed("TimeoutAbortSec", "TimeoutAbortUSec", Kind::Span),
    renamed("RuntimeMaxSec", "RuntimeMaxUSec", Kind::Span),
    renamed("RuntimeRandomizedExtraSec", "RuntimeRandomizedExtraUSec", Kind::Span),
    renamed("WatchdogSec", "WatchdogUSec", Kind::Span),
    same("WatchdogSignal", Kind::Signal),
    same("KillMode", Kind::Choice(&["control-group", "mixed", "process", "none"])),
    same("KillSignal", Kind::Signal),
    same("RestartKillSignal", Kind::Signal),
    same("FinalKillSignal", Kind::Signal),
    same("SendSIGKILL", Kind::Bool),
    same("SendSIGHUP", Kind::Bool),
    same("OOMPolicy", Kind::Choice(&["continue", "stop", "kill"])),

    same("Slice", Kind::Slice),
    same("Delegate", Kind::Delegate),
    same("CPUAccounting", Kind::Bool),
    same("MemoryAccounting", Kind::Bool),
    same("IOAccounting", Kind::Bool),
    same("TasksAccounting", Kind::Bool),
    same("MemoryMin", scaled("MemoryMinScale")),
    same("MemoryLow", scaled("MemoryLowScale")),
    same("MemoryHigh", scaled("MemoryHighScale")),
    same("MemoryMax", scaled("MemoryMaxScale")),
    same("MemorySwapMax", scaled("MemorySwapMaxScale")),
    same("TasksMax", scaled("TasksMaxScale")),
    same("CPUWeight", CPU_WEIGHT),
    same("StartupCPUWeight", CPU_WEIGHT),
    renamed("CPUQuota", "CPUQuotaPerSecUSec", Kind::Quota),
    renamed("CPUQuotaPeriodSec", "CPUQuotaPeriodUSec", Kind::Span),
    same("AllowedCPUs", Kind::Cpus),
    same("AllowedMemoryNodes", Kind::Cpus),
    same("IOWeight", WEIGHT),
    same("StartupIOWeight", WEIGHT),
    same("DevicePolicy", Kind::Choice(&["auto", "closed", "strict"])),
    same("DeviceAllow", Kind::Devices),
    same("ManagedOOMSwap", ON_OOM),
    same("ManagedOOMMemoryPressure", ON_OOM),
    same("ManagedOOMPreference", Kind::Choice(&["none", "avoid", "omit"])),

    same("User", Kind::Text),
    same("Group", Kind::Text),
    same("DynamicUser", Kind::Bool),
    same("SupplementaryGroups", Kind::Words),
    same("UMask", Kind::Octal),
    same("WorkingDirectory", Kind::Path { optional: true }),
    same("RootDirectory", PATH),
    same("Environment", Kind::Environment),
    renamed("EnvironmentFile", "EnvironmentFiles", Kind::EnvironmentFile),
    same("PassEnvironment", Kind::Words),
    same("UnsetEnvironment", Kind::Words),
    same("LoadCredential", Kind::Credential),
    same("LoadCredentialEncrypted", Kind::Credential),
    same("Nice", Kind::Integer(-20, 19)),
    same("OOMScoreAdjust", Kind::Integer(-1000, 1000)),
    same("CPUAffinity", Kind::Cpus),
    same("CPUSchedulingPolicy", Kind::Numbered(&[("other", 0), ("fifo", 1), ("rr", 2), ("batch", 3), ("idle", 5)])),
    same("CPUSchedulingPriority", Kind::Integer(0, 99)),
    same("IOSchedulingClass", Kind::Numbered(&[("none", 0), ("realtime", 1), ("best-effort", 2), ("idle", 3)])),
    same("IOSchedulingPriority", Kind::Integer(0, 7)),

    same("StandardInput", Kind::Input),
    same("StandardOutput", Kind::Output(["StandardOutputFile", "StandardOutputFileToAppend", "StandardOutputFileToTruncate"])),
    same("StandardError", Kind::Output(["StandardErrorFile", "StandardErrorFileToAppend", "StandardErrorFileToTruncate"])),
    same("SyslogIdentifier", Kind::Text),
    same("LogExtraFields", Kind::Fields),
    same("LogLevelMax", LEVELS),
    same("LogNamespace", Kind::Text),
    renamed("LogRateLimitIntervalSec", "LogRateLimitIntervalUSec", Kind::Span),
    same("LogRateLimitBurst", Kind::Unsigned),

    same("LimitCPU", Kind::Limit("LimitCPUSoft", Unit::Seconds)),
    same("LimitFSIZE", Kind::Limit("LimitFSIZESoft", Unit::Bytes)),
    same("LimitDATA", Kind::Limit("LimitDATASoft", Unit::Bytes)),
    same("LimitSTACK", Kind::Limit("LimitSTACKSoft", Unit::Bytes)),
    same("LimitCORE", Kind::Limit("LimitCORESoft", Unit::Bytes)),
    same("LimitRSS", Kind::Limit("LimitRSSSoft", Unit::Bytes)),
    same("LimitNOFILE", Kind::Limit("LimitNOFILESoft", Unit::Number)),
    same("LimitAS", Kind::Limit("LimitASSoft", Unit::Bytes)),
    same("LimitNPROC", Kind::Limit("LimitNPROCSoft", Unit::Number)),
    same("LimitMEMLOCK", Kind::Limit("LimitMEMLOCKSoft", Unit::Bytes)),
    same("LimitLOCKS", Kind::Limit("LimitLOCKSSoft", Unit::Number)),
    same("LimitSIGPENDING", Kind::Limit("LimitSIGPENDINGSoft", Unit::Number)),
    same("LimitMSGQUEUE", Kind::Limit("LimitMSGQUEUESoft", Unit::Bytes)),
    same("LimitRTPRIO", Kind::Limit("LimitRTPRIOSoft", Unit::Number)),
    same("LimitRTTIME", Kind::Limit("LimitRTTIMESoft", Unit::Microseconds)),

    same("NoNewPrivileges", Kind::Bool),
    same("ProtectSystem", PROTECT),
    same("ProtectHome", Kind::Choice(&["no", "yes", "read-only", "tmpfs"])),
    same("ProtectProc", Kind::Choice(&["default", "noaccess", "invisible", "ptraceable"])),
    same("ProcSubset", Kind::Choice(&["all", "pid"])),
    same("PrivateTmp", Kind::Bool),
    same("PrivateNetwork", Kind::Bool),
    same("PrivateDevices", Kind::Bool),
    same("PrivateUsers", Kind::Bool),
    same("PrivateIPC", Kind::Bool),
    same("PrivateMounts", Kind::Bool),
    same("ProtectKernelTunables", Kind::Bool),
    same("ProtectKernelModules", Kind::Bool),
    same("ProtectKernelLogs", Kind::Bool),
    same("ProtectControlGroups", Kind::Bool),
    same("ProtectClock", Kind::Bool),
    same("ProtectHostname", Kind::Bool),
    same("RestrictRealtime", Kind::Bool),
    same("RestrictSUIDSGID", Kind::Bool),
    same("LockPersonality", Kind::Bool),
    same("MemoryDenyWriteExecute", Kind::Bool),
    same("RemoveIPC", Kind::Bool),
    same("RestrictAddressFamilies", Kind::Filter),
    same("SystemCallFilter", Kind::Filter),
    same("ReadWritePaths", Kind::Paths),
    same("ReadOnlyPaths", Kind::Paths),
    same("InaccessiblePaths", Kind::Paths),
    same("RuntimeDirectory", Kind::Words),
    same("StateDirectory", Kind::Words),
    same("CacheDirectory", Kind::Words),
    same("LogsDirectory", Kind::Words),
    same("ConfigurationDirectory", Kind::Words),
    same("RuntimeDirectoryMode", Kind::Octal),
    same("StateDirectoryMode", Kind::Octal),
    same("CacheDirectoryMode", Kind::Octal),
    same("LogsDirectoryMode", Kind::Octal),
    same("ConfigurationDirectoryMode", Kind::Octal),
    same("RuntimeDirectoryPreserve", Kind::Choice(&["no", "yes", "restart"])),
    same("KeyringMode", Kind::Choice(&["inherit", "private", "shared"])),
];
