// SPDX-License-Identifier: MIT OR Apache-2.0
//! HDF5: the superblock says where the file ends. See the HDF5 File Format Specification, version 3.0, II.A.

use super::{Fault, number};

pub const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

pub fn check(head: &[u8], length: u64) -> Result<(), Fault> {
    match superblock(head) {
        None => Fault::broken("it ends within its superblock"),
        Some(Err(version)) => Err(Fault::Unknown(format!("version {version} of its superblock is not known"))),
        Some(Ok((_, true))) => Fault::broken("its writer has not closed it"),
        Some(Ok((end, false))) if end > length => Fault::broken(format!("{length} of {end} bytes are there")),
        Some(Ok(_)) => Ok(()),
    }
}

/// Where the file ends, and whether it is open for writing; or the version that is not known.
fn superblock(head: &[u8]) -> Option<Result<(u64, bool), u8>> {
    let version = *head.get(8)?;
    let (offsets, base, writing) = match version {
        0 => (*head.get(13)?, 24, false),
        1 => (*head.get(13)?, 28, false),
        2 => (*head.get(9)?, 12, false),
        // Flags of consistency: bit 0 is set while somebody writes.
        3 => (*head.get(9)?, 12, head.get(11)? & 1 != 0),
        other => return Some(Err(other)),
    };
    let width = usize::from(offsets).min(8);
    let address = |index: usize| number(head, base + index * usize::from(offsets), width);
    // Base address, one other address, end of file; all addresses count from the base.
    Some(Ok((address(2)?.saturating_add(address(0)?), writing)))
}
