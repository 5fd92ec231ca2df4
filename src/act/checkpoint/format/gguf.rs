// SPDX-License-Identifier: MIT OR Apache-2.0
//! GGUF: metadata, a description of each tensor, and the tensors. See docs/gguf.md of ggml.

use super::Fault;
use std::fs::File;
use std::io::{BufReader, Read};

/// Descriptions and values that are read.
const ITEMS_MAX: u64 = 8 << 20;
/// What stands before the tensors, in bytes.
const HEADER_MAX: u64 = 256 << 20;
const NAME_MAX: u64 = 1 << 16;
const ALIGNMENT: &[u8] = b"general.alignment";

/// Kinds of tensors: number, values in a block, bytes of a block.
const KINDS: [(u32, u64, u64); 20] = [
    (0, 1, 4),
    (1, 1, 2),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (8, 32, 34),
    (9, 32, 36),
    (10, 256, 84),
    (11, 256, 110),
    (12, 256, 144),
    (13, 256, 176),
    (14, 256, 210),
    (15, 256, 292),
    (24, 1, 1),
    (25, 1, 2),
    (26, 1, 4),
    (27, 1, 8),
    (28, 1, 8),
    (30, 1, 2),
];

pub fn check(file: &File, length: u64) -> Result<(), Fault> {
    let mut reader = Reader { file: BufReader::new(file), length, at: 0, left: ITEMS_MAX };
    reader.skip(4)?;
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(Fault::Unknown(format!("version {version} of the format is not known")));
    }
    let (tensors, values) = (reader.u64()?, reader.u64()?);
    let mut alignment = 32;
    for _ in 0..values {
        let name = reader.text()?;
        let kind = reader.u32()?;
        if name == ALIGNMENT && kind == 4 {
            alignment = u64::from(reader.u32()?).max(1);
        } else {
            reader.value(kind)?;
        }
    }
    let mut end = 0;
    for _ in 0..tensors {
        end = end.max(reader.tensor()?);
    }
    let data = reader.at.checked_next_multiple_of(alignment).and_then(|begin| length.checked_sub(begin));
    match data {
        _ if tensors == 0 => Ok(()),
        Some(data) if end <= data => Ok(()),
        Some(data) => Fault::broken(format!("{data} of {end} bytes of data are there")),
        None => Fault::broken("it ends before its data"),
    }
}

struct Reader<'a> {
    file: BufReader<&'a File>,
    length: u64,
    at: u64,
    /// Items that may still be read.
    left: u64,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.count(N as u64)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    /// Notes that so many bytes are read.
    fn count(&mut self, bytes: u64) -> Result<(), Fault> {
        self.at = self.at.saturating_add(bytes);
        let too_many = self.left == 0 || self.at > HEADER_MAX;
        self.left = self.left.saturating_sub(1);
        if too_many { Err(Fault::Unknown("its description is too long".into())) } else { Ok(()) }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Fault> {
        self.count(bytes)?;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.file.seek_relative(bytes)?;
        // What lies behind the end can be sought, but not read.
        if self.at > self.length { Fault::broken("it ends within its description") } else { Ok(()) }
    }

    fn text(&mut self) -> Result<Vec<u8>, Fault> {
        let length = self.u64()?;
        if length > NAME_MAX {
            return Fault::broken("a name in it is too long");
        }
        self.count(length)?;
        let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact(&mut text)?;
        Ok(text)
    }

    fn value(&mut self, kind: u32) -> Result<(), Fault> {
        match width(kind) {
            Some(width) => self.skip(width),
            None if kind == 8 => {
                let length = self.u64()?;
                self.skip(length)
            }
            None if kind == 9 => {
                let (kind, count) = (self.u32()?, self.u64()?);
                match width(kind) {
                    Some(width) => self.skip(count.saturating_mul(width)),
                    // Lists of lists are not in use.
                    None if kind == 8 => {
                        for _ in 0..count {
                            let length = self.u64()?;
                            self.skip(length)?;
                        }
                        Ok(())
                    }
                    None => Err(Fault::Unknown("it has values of an unknown kind".into())),
                }
            }
            None => Err(Fault::Unknown("it has values of an unknown kind".into())),
        }
    }

    /// Where a tensor ends, from the beginning of the data.
    fn tensor(&mut self) -> Result<u64, Fault> {
        self.text()?;
        let dimensions = self.u32()?;
        if dimensions > 8 {
            return Fault::broken("a tensor has too many dimensions");
        }
        let mut count: u64 = 1;
        for _ in 0..dimensions {
            count = count.saturating_mul(self.u64()?);
        }
        let (kind, begin) = (self.u32()?, self.u64()?);
        // Of an unknown kind at least the beginning must be there.
        let known = KINDS.iter().find(|(number, ..)| *number == kind);
        let bytes = known.map_or(1, |(_, values, bytes)| count.div_ceil(*values).saturating_mul(*bytes));
        Ok(begin.saturating_add(bytes))
    }
}

/// How many bytes a plain value of a kind has.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
