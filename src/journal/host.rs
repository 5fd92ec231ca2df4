// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of the kernel that tell of trouble which any process on this host may suffer from: disks, memory, processors, GPUs.

/// Each of these is trouble wherever it stands.
const PHRASES: &[&str] = &[
    "I/O error",
    "critical medium error",
    "soft lockup",
    "hard LOCKUP",
    "blocked for more than",
    "self-detected stall",
    "detected stalls on",
    "[Hardware Error]",
    "Machine check",
    "Machine Check",
    "temperature above threshold",
    "fallen off the bus",
    "page allocation failure",
    "Kernel panic",
    "kernel BUG at",
    "general protection fault, ",
    "unable to handle kernel",
    "Remounting filesystem read-only",
    "not responding",
    "no killable processes",
    "PCIe Bus Error",
];

/// Lines that begin so are trouble.
const BEGINS: &[&str] = &["mce: ", "EDAC ", "BUG: ", "Oops: ", "watchdog: BUG"];

/// What speaks of a disk, a file system or a device, and is trouble only with one of [`TROUBLE`].
const SUBJECTS: &[&str] = &[
    "EXT4-fs",
    "EXT3-fs",
    "EXT2-fs",
    "XFS",
    "BTRFS",
    "F2FS-fs",
    "JBD2",
    "Buffer I/O",
    "blk_",
    "nvme",
    "ata",
    "sd ",
    "scsi",
    "md/",
    "md: ",
    "device-mapper",
    "dm-",
    "nfs: ",
    "NFS: ",
    "CIFS: ",
    "ceph",
    "libceph",
    "Lustre",
    "LustreError",
    "FAT-fs",
    "SQUASHFS",
    "virtio",
    "zram",
    "mlx5_core",
    "mlx4_core",
    "amdgpu",
    "[drm",
    "i915",
    "xe ",
    "pcieport",
    "mmc",
    "overlayfs",
    "fuse",
];

const TROUBLE: &[&str] = &[
    "error",
    "ERROR",
    "Error",
    "fail",
    "FAIL",
    "Fail",
    "orrupt",
    "timeout",
    "timed out",
    "Timeout",
    "shutdown",
    "shutting down",
    "Shutting down",
    "aborted",
    "Abort",
    "is down",
    "reset",
    "offline",
    "lost",
    "exception",
    "Sense Key",
    "degraded",
    "hung",
];

/// Whether the line tells of trouble of the host.
pub fn is_trouble(text: &str) -> bool {
    PHRASES.iter().any(|phrase| text.contains(phrase))
        || BEGINS.iter().any(|begin| text.starts_with(begin))
        || (SUBJECTS.iter().any(|subject| text.starts_with(subject))
            && TROUBLE.iter().any(|trouble| text.contains(trouble)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_from_the_daily_lines_of_the_same_drivers() {
        let trouble = [
            "blk_update_request: I/O error, dev sda, sector 2048 op 0x0:(READ)",
            "EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm python3: reading directory lblock 0",
            "EXT4-fs (sda1): Remounting filesystem read-only",
            "XFS (nvme0n1p1): Corruption of in-memory data detected.  Shutting down filesystem",
            "nvme nvme0: I/O 22 QID 3 timeout, aborting",
            "nvme nvme0: controller is down; will reset: CSTS=0xffffffff",
            "ata1.00: exception Emask 0x0 SAct 0x0 SErr 0x0 action 0x6 frozen",
            "sd 0:0:0:0: [sda] tag#0 Sense Key : Medium Error [current]",
            "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_Ha#0_Chan#1_DIMM#0",
            "mce: [Hardware Error]: Machine check events logged",
            "INFO: task python3:1234 blocked for more than 120 seconds.",
            "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [python3:1234]",
            "rcu: INFO: rcu_sched self-detected stall on CPU",
            "nfs: server storage not responding, still trying",
            "amdgpu 0000:03:00.0: amdgpu: GPU reset begin!",
            "CPU3: Package temperature above threshold, cpu clock throttled (total events = 1)",
        ];
        let daily = [
            "",
            "EXT4-fs (sda1): mounted filesystem with ordered data mode. Quota mode: none.",
            "XFS (sda1): Mounting V5 Filesystem",
            "nvme nvme0: 8/0/0 default/read/poll queues",
            "ata1: SATA link up 6.0 Gbps (SStatus 133 SControl 300)",
            "sd 0:0:0:0: [sda] Attached SCSI disk",
            "IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready",
            "[  354]     0   354     3044     1234    65536        0             0 python3",
        ];
        for text in trouble {
            assert!(is_trouble(text), "{text}");
        }
        for text in daily {
            assert!(!is_trouble(text), "{text}");
        }
    }
}
