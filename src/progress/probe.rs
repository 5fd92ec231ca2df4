// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions that may hang, each asked on a thread of its own.

use super::document::{self, Fields};
use super::file::{self, Trouble};
use super::glob::{self, Look};
use super::http::{Client, without_credentials};
use crate::engine::source::Reading;
use nix::sys::statfs::statfs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tells one source of one worker from all others, also from former ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// What a look at a source found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Of what was there; the same as long as nothing has changed.
    pub mark: u64,
    pub reading: Reading,
}

/// A question.
#[derive(Clone, Debug)]
pub enum Question {
    File(PathBuf, Arc<Fields>),
    Count(Arc<str>),
    Mtime(Arc<str>),
    Http(Arc<str>, Arc<Fields>),
}

/// An answer, and whether whoever gave it tells of changes by itself.
#[derive(Debug)]
pub struct Answer {
    pub found: Result<Found, Trouble>,
    pub tells: bool,
}

/// File systems that other machines or processes change without a word to inotify: NFS, SMB (both versions), CIFS, 9P,
/// FUSE, Ceph, AFS, Lustre, GFS2 and OCFS2; see statfs(2).
const SILENT: [u32; 11] = [
    0x6969,
    0x517b,
    0xfe53_4d42,
    0xff53_4d42,
    0x0102_1997,
    0x6573_5546,
    0x00c3_6400,
    0x5346_414f,
    0x0bd0_0bd0,
    0x0116_1970,
    0x7461_636f,
];

impl Question {
    /// Asks; blocks as long as it takes.
    pub fn ask(&self, client: &Client) -> Answer {
        match self {
            Question::File(path, fields) => {
                let tells = !is_silent(path);
                Answer { found: read_file(path, fields, &mut Vec::new()), tells }
            }
            Question::Count(pattern) => {
                let found = glob::find(pattern, Look::Names).map(|matches| {
                    let mut reading = Reading::default();
                    reading.values.insert("value".into(), matches.count as f64);
                    Found { mark: matches.count, reading }
                });
                Answer { found: found.map_err(Trouble::lasting), tells: false }
            }
            Question::Mtime(pattern) => Answer { found: newest(pattern).map_err(Trouble::lasting), tells: false },
            Question::Http(url, fields) => {
                let body = client.get(url).map_err(Trouble::lasting);
                let found = body.and_then(|body| {
                    found(&body, fields, &without_credentials(url)).map_err(|why| Trouble::lasting(why.text))
                });
                Answer { found, tells: false }
            }
        }
    }
}

/// Reads a file and what it says; `content` is room to work in.
pub fn read_file(path: &Path, fields: &Fields, content: &mut Vec<u8>) -> Result<Found, Trouble> {
    file::read(path, content)?;
    found(content, fields, &path.display().to_string())
}

fn found(content: &[u8], fields: &Fields, name: &str) -> Result<Found, Trouble> {
    // Whoever writes it may be about to finish.
    let reading = document::read(content, fields).map_err(|why| Trouble::passing(format!("{name}: {why}")))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    Ok(Found { mark: hasher.finish(), reading })
}

fn newest(pattern: &str) -> Result<Found, String> {
    let matches = glob::find(pattern, Look::Times)?;
    let newest = matches.newest.ok_or_else(|| format!("{pattern}: no file matches"))?;
    let mut reading = Reading::default();
    reading.values.insert("mtime".into(), newest.as_secs_f64());
    Ok(Found { mark: newest.as_secs_f64().to_bits(), reading })
}

/// Whether the file is, or would be, on a file system that tells of no changes.
fn is_silent(path: &Path) -> bool {
    let directory = path.ancestors().skip(1).find_map(|directory| statfs(directory).ok());
    // The magic numbers have 32 bits, whatever the type's sign and size are.
    directory.is_some_and(|found| SILENT.contains(&(found.filesystem_type().0 as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_files_tell_of_changes() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let path = directory.path().join("not/yet/there");
        let answer = Question::File(path.clone(), Arc::default()).ask(&Client::new(super::super::http::DEADLINE));
        assert!(answer.tells);
        assert_eq!(answer.found, Err(Trouble::passing(format!("{}: no such file", path.display()))));
    }
}
