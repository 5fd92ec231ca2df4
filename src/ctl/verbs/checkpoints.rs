// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists the checkpoints of a worker. The daemon says where they are; the files are read here, with the caller's rights.

use super::status;
use crate::act::checkpoint::{self, fixed_part};
use crate::config::own_layer;
use crate::ctl::args;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::model::Worker;
use crate::ctl::names;
use crate::ctl::out::checkpoints::{Shelf, is_well, objects, text};
use crate::ctl::out::json;
use crate::ctl::session::Session;
use crate::engine::action::{Checkpoints, Verify};
use crate::engine::policy::Policy;
use crate::engine::specifier::expand;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long looking at the checkpoints of one worker may take.
const WITHIN: Duration = Duration::from_secs(25);
/// The same if a command is asked about each.
const VERIFY_WITHIN: Duration = Duration::from_secs(3600);

pub async fn perform(session: &Session, given: &args::Checkpoints) -> Outcome {
    if session.options.host.is_some() || session.options.machine.is_some() {
        return Err(Failure::failed("the checkpoints of another machine cannot be read from here"));
    }
    let link = session.connect().await?;
    let everything = link.everything().await?;
    let units = names::resolve(&link, std::slice::from_ref(&given.worker)).await?;
    let mut shelves = Vec::new();
    for unit in units {
        let worker = status::find(&everything, &unit).map(Worker::read).unwrap_or_default();
        let Some(wanted) = wanted(&unit, &worker.policy)? else {
            let failure = Failure::failed(format!("{unit}: its policy names no checkpoints"));
            return Err(failure.with_hint("set path in [checkpoints], see watcherd-worker(5)"));
        };
        shelves.push(look(unit, &wanted, given.verify)?);
    }
    let look = session.look_now();
    let well = shelves.iter().all(|shelf| is_well(shelf, look.now));
    if let Some(form) = session.json() {
        let array: Value = shelves.iter().flat_map(objects).map(json::complete).collect();
        session.print_json(&array, form)?;
    } else if !session.options.quiet {
        session.print_list(&shelves.iter().map(|shelf| text(shelf, &look)).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(if well { exit::OK } else { exit::NOT_HEALTHY })
}

/// What the policy of a worker says, from the rows that the daemon shows.
fn wanted(unit: &str, rows: &[(String, String, String)]) -> Result<Option<Checkpoints>, Failure> {
    let ours = rows.iter().filter(|(key, value, _)| key.starts_with("checkpoints.") && !value.is_empty());
    let pairs: Vec<_> = ours.map(|(key, value, _)| (key.clone(), value.clone())).collect();
    let layer = own_layer(&pairs, "watcherd").map_err(|complaint| {
        Failure::failed(format!("what watcherd says of its policy cannot be read: {complaint}"))
    })?;
    let mut policy = Policy::default();
    policy.overlay(&layer);
    let path = policy.checkpoints_path.value.as_deref().map(|path| expand(path, unit));
    Ok(path.map(|path| Checkpoints {
        path,
        keep: policy.checkpoints_keep.value,
        max_age: policy.checkpoints_max_age.value,
        verify: policy.checkpoints_verify.value,
    }))
}

fn look(unit: String, wanted: &Checkpoints, verify: bool) -> Result<Shelf, Failure> {
    let asks = matches!(wanted.verify, Verify::Command(_));
    let (how, within) = match (verify, asks) {
        (true, true) => (wanted.verify.clone(), VERIFY_WITHIN),
        (false, true) | (true, false) => (Verify::Auto, WITHIN),
        (false, false) => (wanted.verify.clone(), WITHIN),
    };
    let report = checkpoint::look(&wanted.path, &how, Instant::now() + within);
    let report = report.map_err(|why| Failure::failed(format!("{unit}: {why}")))?;
    Ok(Shelf {
        unit,
        pattern: wanted.path.to_string(),
        place: fixed_part(&wanted.path).to_string_lossy().into_owned(),
        checkpoints: report.checkpoints,
        max_age: wanted.max_age,
        unasked: asks && !verify,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_read_back_from_its_rows() {
        let mut policy = Policy::default();
        let pairs = [
            ("checkpoints.path", "/srv/%i/*"),
            ("checkpoints.keep", "5"),
            ("checkpoints.max-age", "24h"),
            ("checkpoints.verify", "[\"/bin/check\", \"-x y\"]"),
        ];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        policy.overlay(&own_layer(&pairs, "test").expect("a policy"));
        let read = wanted("train@1.service", &policy.rows()).expect("rows can be read").expect("a path is set");
        assert_eq!((&*read.path, read.keep), ("/srv/1/*", Some(5)));
        assert_eq!((read.max_age, read.verify), (Some(Duration::from_secs(86_400)), policy.checkpoints_verify.value));
        assert_eq!(wanted("w.service", &Policy::default().rows()), Ok(None));
    }
}
