// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads a log of any size in blocks of whole lines.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// How much is read at once, in bytes.
const BLOCK: usize = 4 << 20;

/// Gives every block of whole lines to `take`, with the number of bytes read so far.
///
/// Of a line that is longer than a block only the beginning is given.
pub fn blocks(input: impl Read, take: impl FnMut(&[u8], u64)) -> io::Result<()> {
    blocks_of(BLOCK, input, take)
}

fn blocks_of(size: usize, mut input: impl Read, mut take: impl FnMut(&[u8], u64)) -> io::Result<()> {
    let mut buffer = vec![0; 2 * size];
    let (mut filled, mut total, mut skipping) = (0, 0, false);
    loop {
        let count = match input.read(&mut buffer[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let done = count == 0;
        total += count as u64;
        filled += count;
        // Pipes give little at a time.
        if !done && filled < size {
            continue;
        }
        let text = &buffer[..filled];
        let newline = memchr::memrchr(b'\n', text);
        let end = if done { filled } else { newline.map_or(filled, |at| at + 1) };
        let begin = if skipping { memchr::memchr(b'\n', text).map_or(end, |at| at + 1) } else { 0 };
        if begin < end {
            take(&text[begin..end], total);
        }
        if done {
            return Ok(());
        }
        skipping = newline.is_none();
        buffer.copy_within(end..filled, 0);
        filled -= end;
    }
}

/// Moves to where the last `lines` lines of a file begin.
pub fn seek_last_lines(file: &mut File, lines: u32) -> io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut wanted = u64::from(lines);
    let mut buffer = vec![0; 64 << 10];
    let mut last = true;
    while end > 0 {
        let size = end.min(buffer.len() as u64);
        let begin = end - size;
        let part = &mut buffer[..usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(part)?;
        for at in memchr::memrchr_iter(b'\n', part) {
            // The end of the last line begins no further one.
            if last && begin + at as u64 + 1 == end {
                last = false;
                continue;
            }
            last = false;
            wanted = wanted.saturating_sub(1);
            if wanted == 0 {
                file.seek(SeekFrom::Start(begin + at as u64 + 1))?;
                return Ok(());
            }
        }
        last = false;
        end = begin;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

/// The last lines of an input that cannot be read backwards.
pub fn last_lines(input: impl Read, lines: u32) -> io::Result<Vec<u8>> {
    let most = usize::try_from(lines).unwrap_or(usize::MAX);
    let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
    blocks(input, |block, _| {
        // One that was cut has no end of its own.
        if let Some(cut) = kept.back_mut().filter(|line| !line.ends_with(b"\n")) {
            cut.push(b'\n');
        }
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            if kept.len() >= most {
                kept.pop_front();
            }
            kept.push_back(line.to_vec());
        }
    })?;
    Ok(kept.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out a few bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn blocks_hold_whole_lines() {
        let text = b"one\ntwo\n\nthree";
        for (step, size) in (1..20).flat_map(|step| (6..20).map(move |size| (step, size))) {
            let mut all = Vec::new();
            blocks_of(size, Drip(text, step), |block, total| {
                assert!(block.ends_with(b"\n") || block.ends_with(b"three"), "{step} {size} {block:?}");
                all.extend_from_slice(block);
                assert!(block.len() <= 2 * size && all.len() as u64 <= total);
            })
            .expect("readable");
            assert_eq!(all, text);
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
        for (step, size) in (1..20).flat_map(|step| (6..20).map(move |size| (step, size))) {
            let mut text = b"first\n".to_vec();
            text.resize(5 * size, b'x');
            text.extend_from_slice(b"\nlast\n");
            let (mut all, mut most) = (Vec::new(), 0);
            blocks_of(size, Drip(&text, step), |block, _| {
                most = most.max(block.len());
                all.extend_from_slice(block);
            })
            .expect("readable");
            assert!(most <= 2 * size && all.len() <= 4 * size + b"last\n".len());
            assert!(all.starts_with(b"first\nx") && all.ends_with(b"xlast\n"), "{step} {size}");
        }
    }

    #[test]
    fn the_last_lines_are_found_from_both_kinds_of_input() {
        let text = b"1\n2\n3\n4\n";
        assert_eq!(last_lines(&text[..], 2).expect("readable"), b"3\n4\n");
        let mut file = tempfile::tempfile().expect("a file");
        io::Write::write_all(&mut file, text).expect("writable");
        for (lines, expected) in [(2, "3\n4\n"), (4, "1\n2\n3\n4\n"), (9, "1\n2\n3\n4\n")] {
            seek_last_lines(&mut file, lines).expect("seekable");
            let mut rest = String::new();
            file.read_to_string(&mut rest).expect("readable");
            assert_eq!(rest, expected);
        }
    }
}
