// SPDX-License-Identifier: MIT OR Apache-2.0
//! safetensors: the length of a header, the header in JSON with the place of each tensor, and the tensors without gaps.
//! See <https://github.com/huggingface/safetensors>.

use super::{Fault, bytes};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The longest header that is read; the format allows 100 MB, which nobody needs.
const HEADER_MAX: u64 = 16 << 20;

#[derive(Deserialize)]
struct Tensor {
    /// Missing where other things than tensors are described.
    #[serde(default)]
    data_offsets: Option<(u64, u64)>,
}

pub fn check(file: &File, length: u64) -> Result<(), Fault> {
    let header = u64::from_le_bytes(bytes(file, 0)?);
    let Some(data) = header.checked_add(8).and_then(|before| length.checked_sub(before)) else {
        return Fault::broken("it ends within its header");
    };
    if header > HEADER_MAX {
        return Err(Fault::Unknown(format!("its header is longer than {} MiB", HEADER_MAX >> 20)));
    }
    let mut text = vec![0; usize::try_from(header).unwrap_or(0)];
    file.read_exact_at(&mut text, 8)?;
    let tensors: BTreeMap<String, Tensor> = match serde_json::from_slice(&text) {
        Ok(tensors) => tensors,
        Err(error) => return Fault::broken(format!("its header cannot be read: {error}")),
    };
    let mut places: Vec<(u64, u64)> = tensors.into_values().filter_map(|tensor| tensor.data_offsets).collect();
    places.sort_unstable();
    let mut end = 0;
    for (begin, next) in places {
        if begin != end || next < begin {
            return Fault::broken("its tensors do not follow one another");
        }
        end = next;
    }
    match end.cmp(&data) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Fault::broken(format!("{} of {end} bytes of data are there", data)),
        std::cmp::Ordering::Less => Fault::broken("more data follows than its header speaks of"),
    }
}
