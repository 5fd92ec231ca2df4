// SPDX-License-Identifier: MIT OR Apache-2.0
//! org.watcherd1.Job: one start, stop, restart, pause or resume that is under way.

use super::arguments;
use super::board::Shown;
use super::error::ApiError;
use super::publish::Published;
use super::{SharedDesk, path};
use crate::engine::event::Request;
use crate::engine::view::JobView;
use std::sync::Arc;
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath};

pub struct Job {
    desk: SharedDesk,
    shown: Shown<JobView>,
}

impl Published for Job {
    type View = JobView;

    fn new(desk: SharedDesk, shown: Shown<JobView>) -> Job {
        Job { desk, shown }
    }

    fn path(view: &JobView) -> OwnedObjectPath {
        path::job(view.id)
    }
}

impl Job {
    fn view(&self) -> Arc<JobView> {
        self.shown.view()
    }
}

#[zbus::interface(name = "org.watcherd1.Job")]
impl Job {
    /// Gives the job up where that is still possible. No flags are defined.
    async fn cancel(
        &self,
        flags: u64,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), ApiError> {
        arguments::flags(flags, 0)?;
        let view = self.view();
        let caller = self.desk.guard.admit(connection, &header, std::slice::from_ref(&view.worker)).await?;
        self.desk.ask(caller, Request::CancelJob(view.id)).await.map(drop)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> u32 {
        self.view().id.0
    }

    /// `start`, `stop`, `restart`, `pause` or `resume`.
    #[zbus(property(emits_changed_signal = "const"), name = "Type")]
    fn kind(&self) -> &'static str {
        self.view().kind
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn worker(&self) -> String {
        self.view().worker.to_string()
    }

    /// `waiting`, `running` or `finished`.
    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.view().state
    }

    /// `done`, `failed`, `canceled` or `timeout`; empty until it is finished.
    #[zbus(property)]
    fn result(&self) -> &'static str {
        self.view().result
    }

    /// Why it failed, for people.
    #[zbus(property)]
    fn detail(&self) -> String {
        self.view().detail.clone()
    }
}
