// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends what is left of a run that is over: by proof wherever it is, and without one in the unit's control group.
//!
//! Looking is cheap and done here; only where something was found our own program is started with what it takes to signal
//! others ([`crate::act::sweep`]). What is in the unit's control group counts while the unit is down.

use super::aside::Aside;
use super::options::Scope;
use crate::act::sweep::{Census, Process, Swept, Wanted};
use crate::engine::ids::{InvocationId, WorkerName};
use crate::systemd::jobs::Jobs;
use crate::systemd::jobs::command::{Errand, Sandbox};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long systemd may take to name the processes of a unit, and to tell its state.
const SYSTEMD_DEADLINE: Duration = Duration::from_secs(5);
/// How long reading the environments of all processes may take.
const CENSUS_DEADLINE: Duration = Duration::from_secs(3);
const CENSUS: &str = "/proc";
/// After this the next run begins all the same.
const DEADLINE: Duration = Duration::from_secs(30);
/// Our own program needs less.
const ERRAND_DEADLINE: Duration = Duration::from_secs(15);
/// Processes in the control group that are ended at once; as many arguments has a command.
const GROUP_MAX: usize = 400;
/// What is in the control group may have children that nobody has named.
const ROUNDS: usize = 3;

/// How sweeping is done; clones share what they saw.
#[derive(Clone)]
pub struct Sweeper {
    scope: Scope,
    jobs: Jobs,
    aside: Aside,
    last: Arc<Mutex<Option<Seen>>>,
}

/// A census, and when it began.
struct Seen {
    begun: Instant,
    census: Arc<Census>,
}

impl Sweeper {
    pub fn new(scope: Scope, jobs: Jobs, aside: Aside) -> Sweeper {
        Sweeper { scope, jobs, aside, last: Arc::default() }
    }

    /// Ends what is left of that run of the worker, and names it; the error is a fragment.
    pub async fn sweep(&self, worker: &WorkerName, run: InvocationId) -> Result<Vec<String>, String> {
        let swept = timeout(DEADLINE, self.rounds(worker, run)).await;
        let swept = swept.unwrap_or_else(|_| Err(format!("not done within {}s", DEADLINE.as_secs())))?;
        match swept.stays.is_empty() {
            true => Ok(swept.ended),
            false => Err(format!("{} does not end", swept.stays.join(", "))),
        }
    }

    async fn rounds(&self, worker: &WorkerName, run: InvocationId) -> Result<Swept, String> {
        let mut swept = Swept::default();
        for _ in 0..ROUNDS {
            let also = self.in_group(worker, run).await?;
            if also.is_empty() && self.census().await?.count(run) == 0 {
                break;
            }
            let round = self.end(&Wanted { run, also }).await?;
            swept.ended.extend(round.ended);
            swept.stays = round.stays;
        }
        Ok(swept)
    }

    /// One that began after it was asked for. Where many workers fail at once they share it.
    async fn census(&self) -> Result<Arc<Census>, String> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(seen) = last.as_ref().filter(|seen| seen.begun >= asked) {
            return Ok(seen.census.clone());
        }
        let cannot = |why: &str| format!("the processes of the machine cannot be looked at: {why}");
        // The memory of some process is locked; nobody else needs to wait for it, too.
        if self.aside.is_busy(CENSUS) {
            return Err(cannot("the last look has not ended"));
        }
        let begun = Instant::now();
        let taken = self.aside.ask(CENSUS, CENSUS_DEADLINE, Census::take).await.map_err(|why| cannot(&why))?;
        let census = Arc::new(taken);
        *last = Some(Seen { begun, census: census.clone() });
        Ok(census)
    }

    async fn end(&self, wanted: &Wanted) -> Result<Swept, String> {
        let sandbox = match self.scope {
            Scope::System => Sandbox::Sweep,
            Scope::User => Sandbox::User,
        };
        let run = wanted.run.to_string();
        let mut argv = vec![super::own_program()?, "--sweep".into(), run.as_str().into()];
        argv.extend(wanted.also.iter().map(|process| format!("--also={process}").into()));
        let printed = self.jobs.run_errand(Errand::Sweep, &run, &argv, sandbox, ERRAND_DEADLINE).await;
        let printed = printed.map_err(|why| format!("what is left of the run cannot be ended: {why}"))?;
        Ok(Swept::parse(&String::from_utf8_lossy(&printed)))
    }

    /// The processes in the unit's control group while no run of it is up; none while another one is. While this one is,
    /// nothing may be ended.
    async fn in_group(&self, worker: &WorkerName, run: InvocationId) -> Result<Vec<Process>, String> {
        let asked = timeout(SYSTEMD_DEADLINE, self.jobs.processes(worker)).await;
        // Where the control group cannot be read the proof has to do.
        let Ok(Ok(processes)) = asked else { return Ok(Vec::new()) };
        if processes.pids.is_empty() {
            return Ok(Vec::new());
        }
        let named: Vec<_> = processes.pids.into_iter().filter_map(Process::of).take(GROUP_MAX).collect();
        let standing = timeout(SYSTEMD_DEADLINE, self.jobs.standing(worker)).await;
        let standing = standing.map_err(|_| "systemd did not answer in time".to_owned())??;
        match standing.is_up() {
            false => Ok(named),
            true if standing.invocation == Some(run) => Err("the run is not over".to_owned()),
            true => Ok(Vec::new()),
        }
    }
}
