// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which file systems are full, in bytes or in inodes.

use crate::engine::evidence::{Item, Source};
use crate::engine::time::Wall;
use nix::sys::statvfs::statvfs;
use procfs::process::{MountInfo, Process};
use std::collections::HashSet;

/// File systems that hold what programs write. Those of a network are not asked: they may hang.
const KINDS: [&str; 9] = ["ext4", "ext3", "ext2", "xfs", "btrfs", "f2fs", "tmpfs", "overlay", "zfs"];
/// The most mounts that are asked.
const MOUNTS_MAX: usize = 256;
/// A file system with less than this part of it free, in per mille, is called full.
const LITTLE: u64 = 2;
/// So many free bytes are enough on any file system.
const ENOUGH: u64 = 64 << 20;

/// One fact for each file system that is full now.
pub fn full(now: Wall) -> Vec<Item> {
    let Ok(mounts) = Process::myself().and_then(|process| process.mountinfo()) else { return Vec::new() };
    let mut seen = HashSet::new();
    let writable = mounts.into_iter().filter(|mount| KINDS.contains(&mount.fs_type.as_str()) && !is_read_only(mount));
    let once = writable.filter(|mount| seen.insert(mount.majmin.clone())).take(MOUNTS_MAX);
    let facts = once.filter_map(|mount| fact(&mount));
    facts.map(|text| Item { source: Source::Disk, at: now, pid: 0, text, cursor: String::new() }).collect()
}

fn is_read_only(mount: &MountInfo) -> bool {
    mount.super_options.contains_key("ro")
}

fn fact(mount: &MountInfo) -> Option<String> {
    let space = statvfs(&mount.mount_point).ok()?;
    let place = mount.mount_point.display();
    let size = |blocks: u64| blocks.saturating_mul(space.fragment_size());
    let (free, total) = (size(space.blocks_available()), size(space.blocks()));
    if is_little(free, total) && free < ENOUGH {
        return Some(format!("{place} is full: {free} bytes of {total} are free"));
    }
    let (free, total) = (space.files_available(), space.files());
    // Some file systems make inodes as they need them and say zero.
    if is_little(free, total) {
        return Some(format!("{place} has no inodes left: {free} of {total} are free"));
    }
    None
}

fn is_little(free: u64, total: u64) -> bool {
    total > 0 && free.saturating_mul(1_000) < total.saturating_mul(LITTLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_a_part_and_nothing_of_nothing_is_enough() {
        assert!(is_little(0, 1));
        assert!(is_little(1, 1_000));
        assert!(!is_little(2, 1_000));
        assert!(!is_little(0, 0));
        assert!(!is_little(u64::MAX, u64::MAX));
    }

    #[test]
    fn asking_is_harmless() {
        for item in full(Wall(1)) {
            assert!(item.text.contains("free"), "{item:?}");
        }
    }
}
