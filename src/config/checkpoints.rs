// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the keys of `[checkpoints]` accept.

use super::given::{Given, put, with_value};
use super::progress::{command, path};
use super::value::quoted;
use crate::engine::action::Verify;
use crate::engine::policy::{Layer, Source};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

const MAX_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);
/// The newest two are always needed: the last one may turn out to be useless.
const KEEP: RangeInclusive<u64> = 2..=100_000;

/// Puts the value of `checkpoints.KEY` into the layer.
pub fn set(layer: &mut Layer, key: &str, given: Given<'_>, from: Source) -> Result<(), String> {
    match key {
        "path" => put(&mut layer.checkpoints_path, Some(pattern(given)?), from),
        "keep" => {
            let keep = u32::try_from(given.number(KEEP)?).unwrap_or(u32::MAX);
            put(&mut layer.checkpoints_keep, Some(keep), from);
        }
        "max-age" => put(&mut layer.checkpoints_max_age, Some(given.span(&MAX_AGE)?), from),
        "verify" => put(&mut layer.checkpoints_verify, verify(given)?, from),
        _ => return Err("unknown key".into()),
    }
    Ok(())
}

fn pattern(given: Given<'_>) -> Result<Arc<str>, String> {
    let text = path(given, "\"/srv/train/ckpt/*\"")?;
    if text.contains("**") {
        return Err(format!("{}: \"**\" is not supported", quoted(&text)));
    }
    let top = text.split('/').nth(1).unwrap_or_default();
    if top.is_empty() || top.contains(['*', '?', '[']) {
        return Err(format!("{}: the first directory must be named in full", quoted(&text)));
    }
    match glob::Pattern::new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{}: {}", quoted(&text), error.msg)),
    }
}

fn verify(given: Given<'_>) -> Result<Verify, String> {
    match given {
        Given::Text(_) => given.choice(&[("auto", Choice::Auto), ("off", Choice::Off)]).map(Verify::from),
        Given::Argument(text) if !text.starts_with('[') => {
            given.choice(&[("auto", Choice::Auto), ("off", Choice::Off)]).map(Verify::from)
        }
        other => {
            with_value(other, |given| command(given, "[\"/usr/local/bin/check-checkpoint\"]")).map(Verify::Command)
        }
    }
}

/// What can be said in one word.
#[derive(Clone, Copy)]
enum Choice {
    Auto,
    Off,
}

impl From<Choice> for Verify {
    fn from(choice: Choice) -> Verify {
        match choice {
            Choice::Auto => Verify::Auto,
            Choice::Off => Verify::Off,
        }
    }
}
