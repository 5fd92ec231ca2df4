// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends holds, by their numbers or by what they hold.

use crate::ctl::args::Release;
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::names;
use crate::ctl::session::Session;

pub async fn perform(session: &Session, given: &Release) -> Outcome {
    let link = session.connect().await?;
    let mut ids = Vec::new();
    let (numbers, workers): (Vec<_>, Vec<_>) =
        given.holds.iter().cloned().partition(|text| text.parse::<u32>().is_ok());
    ids.extend(numbers.iter().filter_map(|text| text.parse::<u32>().ok()));
    if !workers.is_empty() {
        let everything = link.everything().await?;
        for unit in names::resolve(&link, &workers).await? {
            let mut holds = everything.holds_of(&unit).map(|hold| hold.0).peekable();
            if holds.peek().is_none() {
                return Err(Failure::failed(format!("{unit}: nobody holds it")));
            }
            ids.extend(holds);
        }
    }
    let mut done: Vec<u32> = Vec::new();
    for id in ids {
        if done.contains(&id) {
            continue;
        }
        done.push(id);
        if session.options.dry_run {
            session.print(&format!("would release hold {id}\n"))?;
            continue;
        }
        let released: zbus::Result<()> = link.ask("Release", &(id,)).await;
        released.map_err(|error| Failure::from_bus(&format!("release hold {id}"), &error))?;
    }
    Ok(exit::OK)
}
