// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zip archives, as PyTorch (since 1.6), NumPy and Keras write them: the list of what is in them is at the end, so that a
//! truncated one has none. See APPNOTE.TXT of PKWARE, 4.3.

use super::{Fault, bytes, number};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The end of the archive: 22 bytes, and a comment.
const END: usize = 22;
const COMMENT_MAX: usize = 65_535;
const END_MARK: &[u8] = b"PK\x05\x06";
const LOCATOR: u64 = 20;
const ENTRY: usize = 46;
/// The longest list that is read, in bytes.
const LIST_MAX: u64 = 32 << 20;
/// Beginnings of entries that are looked at.
const LOOKED_AT_MAX: usize = 4_096;

/// Where the list is.
struct List {
    at: u64,
    length: u64,
    entries: u64,
    /// Where the archive must be followed by nothing else than its end.
    end: u64,
}

pub fn check(file: &File, length: u64, extension: &str) -> (&'static str, Result<(), Fault>) {
    let pytorch = matches!(extension, "pt" | "pth" | "ckpt" | "bin");
    let mut kind = match extension {
        "npz" => "NumPy",
        "keras" => "Keras",
        _ if pytorch => "PyTorch",
        _ => "zip",
    };
    let names = match read(file, length) {
        Ok(names) => names,
        Err(fault) => return (kind, Err(fault)),
    };
    let has_pickle = names.iter().any(|name| name == b"data.pkl" || name.ends_with(b"/data.pkl"));
    if has_pickle {
        kind = "PyTorch";
    }
    match pytorch && !has_pickle {
        true => (kind, Fault::broken("there is no data.pkl in it")),
        false => (kind, Ok(())),
    }
}

/// The names in the archive, if it is whole.
fn read(file: &File, length: u64) -> Result<Vec<Vec<u8>>, Fault> {
    let list = find(file, length)?;
    if list.at.checked_add(list.length).is_none_or(|end| end > list.end) {
        return Fault::broken("its list of contents lies outside of it");
    }
    if list.length > LIST_MAX {
        return Err(Fault::Unknown(format!("its list of contents is longer than {} MiB", LIST_MAX >> 20)));
    }
    let mut text = vec![0; usize::try_from(list.length).unwrap_or(0)];
    file.read_exact_at(&mut text, list.at)?;
    let (mut names, mut rest) = (Vec::new(), text.as_slice());
    for index in 0..list.entries {
        let Some((entry, after)) = entry(rest) else { return Fault::broken("its list of contents is damaged") };
        rest = after;
        if entry.end().is_none_or(|end| end > list.at) {
            return Fault::broken("a file in it lies outside of it");
        }
        // Data that never reached the disk is all zeros.
        if index < LOOKED_AT_MAX as u64 && bytes::<4>(file, entry.at)? != *b"PK\x03\x04" {
            return Fault::broken("a file in it does not begin where it should");
        }
        names.push(entry.name.to_vec());
    }
    Ok(names)
}

struct Entry<'a> {
    name: &'a [u8],
    at: u64,
    stored: u64,
}

impl Entry<'_> {
    /// At the least: its beginning has 30 bytes and its name.
    fn end(&self) -> Option<u64> {
        self.at.checked_add(self.stored)?.checked_add(30 + self.name.len() as u64)
    }
}

/// The first entry of a list, and what follows.
fn entry(list: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    if !list.starts_with(b"PK\x01\x02") {
        return None;
    }
    let short = |at| number(list, at, 2).and_then(|length| usize::try_from(length).ok());
    let (name, extra, comment) = (short(28)?, short(30)?, short(32)?);
    let (stored, full, at) = (number(list, 20, 4)?, number(list, 24, 4)?, number(list, 42, 4)?);
    let text = list.get(ENTRY..ENTRY + name)?;
    let more = list.get(ENTRY + name..ENTRY + name + extra)?;
    let after = list.get(ENTRY + name + extra + comment..)?;
    let (stored, at) = large(more, full, stored, at)?;
    Some((Entry { name: text, at, stored }, after))
}

/// Numbers that do not fit into four bytes stand in an extra field of kind 1, in this order.
fn large(mut extra: &[u8], full: u64, stored: u64, at: u64) -> Option<(u64, u64)> {
    const ELSEWHERE: u64 = 0xffff_ffff;
    if ![full, stored, at].contains(&ELSEWHERE) {
        return Some((stored, at));
    }
    loop {
        let (kind, length) = (number(extra, 0, 2)?, usize::try_from(number(extra, 2, 2)?).ok()?);
        let field = extra.get(4..4 + length)?;
        if kind != 1 {
            extra = &extra[4 + length..];
            continue;
        }
        let mut place = 0;
        let mut take = |value: u64| match value {
            ELSEWHERE => {
                let found = number(field, place, 8);
                place += 8;
                found
            }
            value => Some(value),
        };
        take(full)?;
        return Some((take(stored)?, take(at)?));
    }
}

fn find(file: &File, length: u64) -> Result<List, Fault> {
    let tail = usize::try_from(length).unwrap_or(usize::MAX).min(END + COMMENT_MAX);
    let begin = length - tail as u64;
    let mut text = vec![0; tail];
    file.read_exact_at(&mut text, begin)?;
    let is_end = |at: &usize| {
        let comment = number(&text, at + 20, 2).and_then(|length| usize::try_from(length).ok());
        text[*at..].starts_with(END_MARK) && comment == Some(tail - at - END)
    };
    let Some(at) = (0..=tail.saturating_sub(END)).rev().find(is_end) else {
        return Fault::broken("the end of the archive is missing");
    };
    let field = |offset, width| number(&text, at + offset, width).unwrap_or(0);
    let end = begin + at as u64;
    let list = List { at: field(16, 4), length: field(12, 4), entries: field(10, 2), end };
    if list.at != 0xffff_ffff && list.length != 0xffff_ffff && list.entries != 0xffff {
        return Ok(list);
    }
    // The long form stands before, and before this one where that is.
    let Some(locator) = end.checked_sub(LOCATOR) else { return Fault::broken("the end of the archive is damaged") };
    let found: [u8; LOCATOR as usize] = bytes(file, locator)?;
    if !found.starts_with(b"PK\x06\x07") {
        return Ok(list);
    }
    let record = number(&found, 8, 8).unwrap_or(u64::MAX);
    if record.checked_add(56).is_none_or(|end| end > locator) {
        return Fault::broken("the end of the archive is damaged");
    }
    let found: [u8; 56] = bytes(file, record)?;
    if !found.starts_with(b"PK\x06\x06") {
        return Fault::broken("the end of the archive is damaged");
    }
    let field = |offset| number(&found, offset, 8).unwrap_or(0);
    Ok(List { at: field(48), length: field(40), entries: field(32), end: record })
}
