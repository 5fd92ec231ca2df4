// SPDX-License-Identifier: MIT OR Apache-2.0
//! What NVIDIA's library (NVML) says about GPUs and the processes that use them.
//!
//! NVML is loaded at run time and asked on a thread of its own, with a deadline for each question: the driver of a sick
//! GPU may never answer. Without the library, or without the feature `gpu` of this crate, there is no support and no
//! complaint. What cannot be read is unknown and never zero. Nothing is changed on a device, and nothing is decided here.

#[cfg(feature = "gpu")]
mod nvml;
#[cfg(not(feature = "gpu"))]
#[path = "without.rs"]
mod nvml;
mod table;

use crate::engine::source::GpuUse;
use nvml::Driver;
use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// NVML's file name, for the loader of the system.
pub const LIBRARY: &str = "libnvidia-ml.so.1";
/// How long an answer may take.
pub const DEADLINE: Duration = Duration::from_secs(3);
/// Devices that are looked at.
pub const DEVICES_MAX: u32 = 64;
/// Processes of one device that are kept.
pub const PROCESSES_MAX: usize = 1_000;

/// Questions that may wait.
const QUESTIONS_MAX: usize = 64;
/// So long an answer is good for others who ask.
const FRESH: Duration = Duration::from_millis(500);
/// When NVML could not be used, it is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// Why nothing is known about GPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// The machine has no NVML or no device, or watcherd was built without support.
    #[error("there is no GPU that NVML knows of")]
    NoSupport,
    #[error("NVML did not answer within {} s", DEADLINE.as_secs())]
    NoAnswer,
    #[error("NVML: {0}")]
    Failed(String),
}

/// All devices at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// At most [`DEVICES_MAX`], by their index.
    pub devices: Vec<Device>,
}

/// One device; what it does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub index: u32,
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub memory: Option<Memory>,
    pub busy: Option<Busy>,
    /// In degrees Celsius.
    pub temperature: Option<u32>,
    /// Those that compute, at most [`PROCESSES_MAX`].
    pub processes: Option<Vec<Process>>,
    /// What is wrong with the device, a fragment.
    pub trouble: Option<String>,
}

/// Memory of a device, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub used: u64,
    pub free: u64,
    pub total: u64,
}

/// Shares of the last second or so, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// In which something was computed.
    pub compute: u32,
    /// In which the device's memory was read or written.
    pub memory: u32,
}

/// A process that computes on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// Memory of the device that it holds, in bytes.
    pub memory: Option<u64>,
    /// `None` where the device does not tell processes apart.
    pub busy: Option<Busy>,
}

/// A process that holds memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub device: u32,
    pub process: Process,
}

/// The memory that is free, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Free {
    /// The most on one device.
    pub largest: u64,
    /// By the index of the device; one that does not tell is missing.
    pub devices: Vec<(u32, u64)>,
}

impl Sample {
    /// Which of these processes are on a device.
    pub fn holders(&self, pids: &[u32]) -> Vec<Holder> {
        let on = |device: &'_ Device| {
            let (index, processes) = (device.index, device.processes.clone().unwrap_or_default());
            processes.into_iter().map(move |process| Holder { device: index, process })
        };
        self.devices.iter().flat_map(on).filter(|holder| pids.contains(&holder.process.pid)).collect()
    }

    /// How these processes use GPUs; `None` if they use none as far as is known.
    pub fn used_by(&self, pids: &[u32]) -> Option<GpuUse> {
        let holders = self.holders(pids);
        if holders.is_empty() {
            return None;
        }
        let of_device = |index| self.devices.iter().find(|device| device.index == index)?.busy;
        let busy = holders.iter().filter_map(|holder| holder.process.busy.or_else(|| of_device(holder.device)));
        // One device that works is enough.
        let busiest = busy.max_by_key(|busy| (busy.memory, busy.compute));
        let held = holders.iter().filter_map(|holder| holder.process.memory).fold(0, u64::saturating_add);
        Some(GpuUse { held, compute: busiest.map(|busy| busy.compute), memory: busiest.map(|busy| busy.memory) })
    }

    fn free(&self) -> Result<Free, Unknown> {
        let of = |device: &Device| Some((device.index, device.memory?.free));
        let devices: Vec<_> = self.devices.iter().filter_map(of).collect();
        match devices.iter().map(|(_, free)| *free).max() {
            Some(largest) => Ok(Free { largest, devices }),
            None => Err(Unknown::Failed("no device tells how much of its memory is free".into())),
        }
    }
}

type Answer = Result<Arc<Sample>, Unknown>;
type Question = oneshot::Sender<Answer>;

/// Where NVML can be asked; cheap to clone.
#[derive(Clone, Debug)]
pub struct Gpus {
    questions: mpsc::Sender<Question>,
    state: Arc<Mutex<State>>,
}

/// What the thread is about.
#[derive(Debug, Default)]
struct State {
    /// Since when it waits for NVML.
    waits: Option<Instant>,
    /// Somebody has noticed that it waits for too long.
    hangs: bool,
}

impl Gpus {
    /// Starts the thread; `library` is [`LIBRARY`] or a path. It is loaded when something is asked for the first time.
    pub fn start(library: OsString) -> io::Result<Gpus> {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let state = Arc::new(Mutex::default());
        let thread = Thread { library, driver: Err(Unknown::NoSupport), tried: None, last: None, state: state.clone() };
        thread::Builder::new().name("gpu".into()).spawn(move || thread.answer(asked))?;
        Ok(Gpus { questions, state })
    }

    /// All devices, as of the last half second.
    pub async fn sample(&self) -> Answer {
        if self.hangs() {
            return Err(Unknown::NoAnswer);
        }
        let (tell, told) = oneshot::channel();
        let asked = async {
            self.questions.send(tell).await.ok()?;
            told.await.ok()
        };
        match timeout(DEADLINE, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(Unknown::NoSupport),
            Err(_) => {
                self.hangs();
                Err(Unknown::NoAnswer)
            }
        }
    }

    /// Whether it is of no use to ask.
    fn hangs(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let hangs = state.waits.is_some_and(|since| since.elapsed() >= DEADLINE);
        if hangs && !state.hangs {
            state.hangs = true;
            tracing::warn!("NVML does not answer; until it does nothing is known about GPUs");
        }
        hangs
    }

    /// How much memory is free, on the device that has most of it and on each of them.
    pub async fn free_memory(&self) -> Result<Free, Unknown> {
        self.sample().await?.free()
    }

    /// Which of these processes hold memory of a device, also when all else of them has ended.
    pub async fn holders(&self, pids: &[u32]) -> Result<Vec<Holder>, Unknown> {
        Ok(self.sample().await?.holders(pids))
    }
}

/// What the thread owns.
struct Thread {
    library: OsString,
    driver: Result<Driver, Unknown>,
    tried: Option<Instant>,
    last: Option<(Instant, Answer)>,
    state: Arc<Mutex<State>>,
}

impl Thread {
    /// Ends when nobody can ask any more.
    fn answer(mut self, mut asked: mpsc::Receiver<Question>) {
        while let Some(question) = asked.blocking_recv() {
            if question.is_closed() {
                continue;
            }
            self.state(Some(Instant::now()));
            let answer = self.look();
            if self.state(None).hangs {
                tracing::info!("NVML answers again");
            }
            // Who has given up needs no answer.
            let _ = question.send(answer);
        }
    }

    /// Says since when NVML is waited for; returns what was so before.
    fn state(&self, waits: Option<Instant>) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *state, State { waits, hangs: false })
    }

    fn look(&mut self) -> Answer {
        if let Some((_, answer)) = self.last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return answer.clone();
        }
        if self.driver.is_err() && self.tried.is_none_or(|at| at.elapsed() >= AGAIN) {
            self.driver = Driver::open(&self.library);
            self.tried = Some(Instant::now());
            if let Err(why) = &self.driver {
                tracing::debug!(%why, "GPUs are not looked at");
            }
        }
        let answer = match &self.driver {
            Ok(driver) => driver.sample().map(Arc::new),
            Err(why) => Err(why.clone()),
        };
        if let (Ok(_), Err(why)) = (&self.driver, &answer) {
            // A library that lost its driver must be loaded anew.
            self.driver = Err(why.clone());
        }
        self.last = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(all(test, feature = "gpu"))]
mod tests;
