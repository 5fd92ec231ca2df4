// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kinds of files that say themselves how long they are, so that a truncated one is known. Little is read of each.

mod gguf;
mod hdf5;
mod safetensors;
mod zip;

use super::State;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

pub const JSON: &str = "JSON";

/// The largest JSON document that is read, in bytes.
const JSON_MAX: u64 = 32 << 20;
/// What is read of the beginning of a file.
const HEAD: usize = 512;
/// Endings of names of files that are no checkpoints yet.
const UNFINISHED: [&str; 7] = [".tmp", ".temp", ".partial", ".part", ".incomplete", ".writing", ".swp"];
const UNFINISHED_BEGIN: [&str; 2] = ["tmp-", "tmp_"];

/// What is known about one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub state: State,
    /// Why it is not valid; a fragment.
    pub why: String,
    pub kind: &'static str,
    /// Whether the content itself proves that it is whole.
    pub proven: bool,
    pub usable: bool,
    pub torn: bool,
}

impl Verdict {
    pub fn valid(kind: &'static str) -> Verdict {
        Verdict { state: State::Valid, usable: true, ..Verdict::unknown(kind, "") }
    }

    pub fn broken(kind: &'static str, why: &str) -> Verdict {
        // A document may be something else than a checkpoint.
        Verdict { state: State::Broken, torn: kind != JSON, ..Verdict::unknown(kind, why) }
    }

    pub fn incomplete(kind: &'static str, why: &str) -> Verdict {
        Verdict { state: State::Incomplete, ..Verdict::unknown(kind, why) }
    }

    /// It cannot be told, and it must not be used.
    pub fn unknown(kind: &'static str, why: &str) -> Verdict {
        Verdict { state: State::Unknown, why: why.to_owned(), kind, proven: true, usable: false, torn: false }
    }

    /// It says nothing about itself.
    pub fn mute(kind: &'static str, why: &str) -> Verdict {
        Verdict { usable: true, proven: false, ..Verdict::unknown(kind, why) }
    }
}

/// Why a file of a known kind is not known to be whole.
#[derive(Debug)]
pub enum Fault {
    Broken(String),
    Unknown(String),
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Broken("it ends too early".into()),
            _ => Fault::Io(error),
        }
    }
}

impl Fault {
    fn broken<T>(why: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::Broken(why.into()))
    }
}

/// Whether a name is given to files that are still being written.
pub fn is_unfinished(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    UNFINISHED.iter().any(|end| name.ends_with(end)) || UNFINISHED_BEGIN.iter().any(|begin| name.starts_with(begin))
}

/// Whether a file lists other files with their checksums.
pub fn is_list_of_sums(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let stem = name.strip_suffix(".txt").unwrap_or(&name);
    ["md5sums", "sha1sums", "sha256sums", "sha512sums", "checksums.sha256", "checksums.md5"].contains(&stem)
}

/// The files that such a list names: `CHECKSUM  NAME`.
pub fn names_of_sums(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (sum, name) = line.trim_end().split_once([' ', '\t'])?;
        let name = name.trim_start().trim_start_matches('*');
        let is_sum = sum.len() >= 32 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_sum && !name.is_empty()).then_some(name)
    })
}

/// All of a text, if it is no longer than that.
pub fn text(file: &File, most: u64) -> io::Result<String> {
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text)?;
    match text.len() as u64 > most {
        true => Err(io::Error::other(format!("it is longer than {most} bytes"))),
        false => Ok(text),
    }
}

/// What a file says about itself.
pub fn judge(file: &File, name: &str) -> io::Result<Verdict> {
    let length = file.metadata()?.len();
    let extension = Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let extension = extension.to_ascii_lowercase();
    let expected = promised(&extension);
    if length == 0 {
        return Ok(match expected {
            Some(kind) => Verdict::broken(kind, "it is empty"),
            None => Verdict::unknown("", "it is empty"),
        });
    }
    let mut head = [0; HEAD];
    let read = usize::try_from(length).unwrap_or(HEAD).min(HEAD);
    file.read_exact_at(&mut head[..read], 0)?;
    let head = &head[..read];
    let (kind, whole) = if extension == "safetensors" {
        ("safetensors", safetensors::check(file, length))
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        zip::check(file, length, &extension)
    } else if head.starts_with(hdf5::SIGNATURE) {
        ("HDF5", hdf5::check(head, length))
    } else if head.starts_with(b"GGUF") {
        ("GGUF", gguf::check(file, length))
    } else if extension == "json" {
        (JSON, json(file))
    } else {
        return Ok(strange(head, expected));
    };
    Ok(match whole {
        Ok(()) => Verdict::valid(kind),
        Err(Fault::Broken(why)) => Verdict::broken(kind, &why),
        Err(Fault::Unknown(why)) => Verdict::mute(kind, &why),
        Err(Fault::Io(error)) => return Err(error),
    })
}

/// What a name's ending promises.
fn promised(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "safetensors" => "safetensors",
        "pt" | "pth" | "ckpt" | "bin" => "PyTorch",
        "h5" | "hdf5" => "HDF5",
        "gguf" => "GGUF",
        "npz" => "NumPy",
        "keras" => "Keras",
        "zip" => "zip",
        "json" => JSON,
        _ => return None,
    })
}

/// A file that begins like none of the kinds that are known.
fn strange(head: &[u8], expected: Option<&'static str>) -> Verdict {
    match expected {
        // What was written just before a crash of the machine often is so.
        Some(kind) if head.iter().all(|byte| *byte == 0) => Verdict::broken(kind, "it begins with zeros"),
        Some("PyTorch") if head[0] == 0x80 => Verdict::mute("pickle", "a pickle does not say how long it is"),
        Some("PyTorch") if b"PK\x03\x04".starts_with(head) => Verdict::broken("PyTorch", "it ends too early"),
        Some("PyTorch") | None => Verdict::mute("", "it is of no kind that can be verified"),
        Some(kind) => Verdict::broken(kind, "it does not begin as such a file does"),
    }
}

fn json(file: &File) -> Result<(), Fault> {
    if file.metadata()?.len() > JSON_MAX {
        return Err(Fault::Unknown(format!("it is longer than {} MiB", JSON_MAX >> 20)));
    }
    let reader = io::BufReader::new(file.take(JSON_MAX));
    // One document, or one on each line.
    for document in serde_json::Deserializer::from_reader(reader).into_iter::<serde::de::IgnoredAny>() {
        match document {
            Ok(_) => {}
            Err(error) if error.is_io() => return Err(Fault::Io(error.into())),
            Err(error) if error.is_eof() => return Fault::broken("it ends too early"),
            Err(error) => return Fault::broken(format!("it is no JSON: {error}")),
        }
    }
    Ok(())
}

/// The bytes at a place; the end of the file is the file's fault.
fn bytes<const N: usize>(file: &File, at: u64) -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

/// A little-endian number of up to eight bytes; `None` if they are not all there.
fn number(from: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = from.get(at..at.checked_add(width)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
