// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows the configuration as it is on the disk; what the daemon has in force may be older.

use super::check;
use crate::config;
use crate::ctl::args::{Config, ConfigVerb};
use crate::ctl::failure::{Failure, Outcome, exit};
use crate::ctl::out::escape::escaped;
use crate::ctl::session::Session;

pub fn perform(session: &Session, given: &Config) -> Outcome {
    let mode = check::mode(session);
    let (text, complaints) = match given.verb {
        ConfigVerb::Cat => config::cat(mode, &given.root),
        ConfigVerb::Show => {
            let loaded = config::load(mode, &given.root);
            (loaded.show(), loaded.complaints)
        }
    };
    session.print_list(&text)?;
    let mut status = exit::OK;
    for complaint in complaints.iter().filter(|complaint| complaint.is_error()) {
        status = exit::CONFIGURATION;
        session.complain(&Failure::new(status, escaped(&complaint.to_string()).into_owned()));
    }
    Ok(status)
}
