// SPDX-License-Identifier: MIT OR Apache-2.0
//! The causes of a failed run, and whether a plain restart can help.

use std::fmt;

/// Whether starting the worker again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A plain restart with back-off may succeed.
    Transient,
    /// The same input fails the same way; something must change first.
    NeedsChange,
    /// A person must act on the host first.
    NeedsOperator,
    /// There is nothing to restart.
    None,
}

impl Retry {
    pub fn as_str(self) -> &'static str {
        match self {
            Retry::Transient => "transient",
            Retry::NeedsChange => "needs-change",
            Retry::NeedsOperator => "needs-operator",
            Retry::None => "none",
        }
    }
}

macro_rules! causes {
    ($($variant:ident $name:literal $retry:ident $id:literal $meaning:literal $advice:literal;)*) => {
        /// Why a run ended; exactly one per run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Cause { $($variant,)* }

        impl Cause {
            pub const ALL: &[Cause] = &[$(Cause::$variant,)*];

            /// The name in policies, on D-Bus and in the journal.
            pub fn as_str(self) -> &'static str {
                match self { $(Cause::$variant => $name,)* }
            }

            /// Whether a plain restart can help.
            pub fn retry(self) -> Retry {
                match self { $(Cause::$variant => Retry::$retry,)* }
            }

            /// The MESSAGE_ID of a verdict with this cause.
            pub fn message_id(self) -> &'static str {
                match self { $(Cause::$variant => $id,)* }
            }

            /// What it means, as a sentence without a full stop.
            pub fn meaning(self) -> &'static str {
                match self { $(Cause::$variant => $meaning,)* }
            }

            /// What a person can do about it, as a sentence without a full stop.
            pub fn advice(self) -> &'static str {
                match self { $(Cause::$variant => $advice,)* }
            }
        }
    };
}

causes! {
    GpuOom "gpu-oom" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b001" "Device memory ran out" "Use a smaller batch, or free the other process on the device";
    GpuProgramFault "gpu-program-fault" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b002" "The program made an invalid device access" "Run once with CUDA_LAUNCH_BLOCKING=1 or under compute-sanitizer";
    GpuHardwareFault "gpu-hardware-fault" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b003" "The device, its memory, its link or its firmware failed" "Drain the device, reset it or reboot; take it out of service if it happens again";
    GpuUnavailable "gpu-unavailable" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b004" "No usable device or driver for this process" "Compare driver and library versions, device rights and CUDA_VISIBLE_DEVICES";
    OomKillHost "oom-kill-host" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b005" "The memory of the whole machine ran out and a process of the unit was killed" "Use less memory, or set MemoryMax= so that the guilty unit dies first";
    OomKillCgroup "oom-kill-cgroup" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b006" "The unit's own memory limit killed a process" "Raise MemoryMax= or use less memory";
    HeapExhausted "heap-exhausted" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b007" "The program's own allocator or heap limit gave up" "Raise the heap limit, or process less at a time";
    Segfault "segfault" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b008" "Invalid memory access in native code" "Look at the core dump with coredumpctl; update or pin the library that it names";
    MemoryCorruption "memory-corruption" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b009" "The process was stopped because its memory was damaged" "Look at the core dump with coredumpctl; run once under valgrind or AddressSanitizer";
    CpuIncompatible "cpu-incompatible" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b00a" "The binary does not run on this processor" "Install a build for this processor";
    AppException "app-exception" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b00b" "The program stopped on an error of its own logic" "Read the innermost frame of the traceback in the unit's journal";
    MissingDependency "missing-dependency" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b00c" "A module, library or interpreter is not there" "Install it in the environment that the unit really uses";
    FileNotFound "file-not-found" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b00d" "A file that the program needs is absent" "Check the path, WorkingDirectory= and what creates the file";
    PermissionDenied "permission-denied" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b00e" "The kernel or a security module refused access" "Check User=, file modes, ReadWritePaths= and security profiles";
    UnitSetupFailed "unit-setup-failed" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b00f" "systemd could not start the process at all" "Run systemd-analyze verify on the unit; check the path, the user and the directories that it names";
    DiskFull "disk-full" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b010" "No space, no inodes or no quota left on a file system" "Free space, check df -i and quotas, then verify the newest checkpoint";
    ShmExhausted "shm-exhausted" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b011" "Shared memory ran out" "Enlarge /dev/shm, or use fewer workers";
    StorageFault "storage-fault" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b012" "A disk or a file system failed" "Read the kernel log, check SMART data and the file system";
    CorruptArtifact "corrupt-artifact" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b013" "A file that the program reads is damaged" "Use the newest valid copy; set the damaged one aside";
    HostHardwareFault "host-hardware-fault" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b014" "Processor, memory or board reported an error" "Read the machine-check records; take the machine out of service";
    FdLimit "fd-limit" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b015" "The limit of open files was reached" "Raise LimitNOFILE=, or close files";
    TaskLimit "task-limit" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b016" "The limit of processes or threads was reached" "Raise TasksMax= or LimitNPROC=, or use fewer threads";
    AddressInUse "address-in-use" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b017" "Another process listens on the address" "Find the holder with ss -ltnp";
    ServiceUnreachable "service-unreachable" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b018" "A service that the program needs does not answer" "Check that service and the way to it";
    DnsFailure "dns-failure" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b019" "A name could not be resolved" "Check resolvectl status";
    DbContention "db-contention" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b01a" "A database refused because of locks or conflicts" "Shorten transactions, or run fewer workers at once";
    RateLimited "rate-limited" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b01b" "A remote service refused because of too many requests" "Wait for the time that the service names; use a limit";
    AuthFailure "auth-failure" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b01c" "Credentials were refused" "Renew the credentials";
    OperationTimeout "operation-timeout" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b01d" "An operation did not end in its time" "Find out what it waited for; raise the time limit if it is only slow";
    DistributedComm "distributed-comm" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b01e" "Communication among the ranks of one job broke" "Look for the rank that failed first";
    Unresponsive "unresponsive" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b01f" "The process was alive but did not react" "Look at the stacks in the evidence, and at the storage if it was in D state";
    MultiprocessingError "multiprocessing-error" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b020" "A helper process failed in a way that its parent could not handle" "Look at the helper's own error";
    ConfigInvalid "config-invalid" NeedsOperator "8e3cdb5b1ea14d4e9b7b6ac1f8b4b021" "The program refused its configuration" "Correct the option or file that the message names";
    NumericDivergence "numeric-divergence" NeedsChange "8e3cdb5b1ea14d4e9b7b6ac1f8b4b022" "The computation left the range of numbers" "Lower the learning rate, or restart from an earlier checkpoint";
    OverLimit "over-limit" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b027" "It used more than its policy allows" "Raise the ceiling in [limits], or find out what the unit needs so much for";
    KilledUnattributed "killed-unattributed" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b023" "Somebody sent SIGKILL, and nothing says who" "Watch the memory of the host; twice in a row points at an OOM killer that left no trace";
    ExternalStop "external-stop" None "8e3cdb5b1ea14d4e9b7b6ac1f8b4b024" "Somebody stopped it on purpose" "Start it when you want it to run";
    NoCrash "no-crash" None "8e3cdb5b1ea14d4e9b7b6ac1f8b4b025" "Nothing failed" "Nothing needs to be done";
    Unknown "unknown" Transient "8e3cdb5b1ea14d4e9b7b6ac1f8b4b026" "Nothing says why it ended" "Let the program log why it gives up";
}

impl Cause {
    /// Whether it may pass by itself once, but hardly again and again: the same invalid access is no chance.
    pub fn is_rarely_chance(self) -> bool {
        matches!(self, Cause::Segfault | Cause::MemoryCorruption)
    }

    pub fn parse(text: &str) -> Option<Cause> {
        Cause::ALL.iter().copied().find(|cause| cause.as_str() == text)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_found_by_its_name() {
        for cause in Cause::ALL {
            assert_eq!(Cause::parse(cause.as_str()), Some(*cause));
        }
        assert_eq!(Cause::parse("gremlins"), None);
    }
}
