// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads all devices with NVML. Old drivers lack some functions and cheap devices some figures; both are merely unknown.

use super::{Busy, DEVICES_MAX, Device, Memory, PROCESSES_MAX, Process, Sample, Unknown};
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

/// What processes did before this is not asked for.
const RECENT: Duration = Duration::from_secs(10);

/// The loaded library.
pub struct Driver(Nvml);

impl Driver {
    /// Without library, driver or permission there is no support.
    pub fn open(library: &OsStr) -> Result<Driver, Unknown> {
        match Nvml::builder().lib_path(library).init() {
            Ok(nvml) => Ok(Driver(nvml)),
            Err(NvmlError::LibloadingError(_) | NvmlError::FailedToLoadSymbol(_)) => Err(Unknown::NoSupport),
            Err(NvmlError::DriverNotLoaded | NvmlError::LibraryNotFound) => Err(Unknown::NoSupport),
            Err(error) => Err(Unknown::Failed(error.to_string())),
        }
    }

    pub fn sample(&self) -> Result<Sample, Unknown> {
        let count = self.0.device_count().map_err(|error| Unknown::Failed(error.to_string()))?;
        if count == 0 {
            return Err(Unknown::NoSupport);
        }
        Ok(Sample { devices: (0..count.min(DEVICES_MAX)).map(|index| self.device(index)).collect() })
    }

    fn device(&self, index: u32) -> Device {
        let mut seen = Device { index, ..Device::default() };
        let trouble = &mut seen.trouble;
        let Some(device) = known(trouble, self.0.device_by_index(index)) else { return seen };
        seen.uuid = known(trouble, device.uuid());
        seen.name = known(trouble, device.name());
        let memory = known(trouble, device.memory_info());
        seen.memory = memory.map(|memory| Memory { used: memory.used, free: memory.free, total: memory.total });
        let busy = known(trouble, device.utilization_rates());
        seen.busy = busy.map(|busy| Busy { compute: busy.gpu, memory: busy.memory });
        seen.temperature = known(trouble, device.temperature(TemperatureSensor::Gpu));
        let processes = known(trouble, device.running_compute_processes());
        // Where all is still there is nothing to tell processes apart by; the device's own figures say the same.
        let shares = device.process_utilization_stats(since()).ok().filter(|samples| !samples.is_empty());
        let shares = shares.map(|samples| {
            let mut shares = HashMap::new();
            for sample in samples {
                let busy = Busy { compute: sample.sm_util, memory: sample.mem_util };
                let share = shares.entry(sample.pid).or_insert(busy);
                *share = Busy { compute: share.compute.max(busy.compute), memory: share.memory.max(busy.memory) };
            }
            shares
        });
        let idle = Busy { compute: 0, memory: 0 };
        seen.processes = processes.map(|processes| {
            let process = |info: nvml_wrapper::struct_wrappers::device::ProcessInfo| Process {
                pid: info.pid,
                memory: match info.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Some(bytes),
                    UsedGpuMemory::Unavailable => None,
                },
                busy: shares.as_ref().map(|shares| shares.get(&info.pid).copied().unwrap_or(idle)),
            };
            processes.into_iter().take(PROCESSES_MAX).map(process).collect()
        });
        seen
    }
}

/// In microseconds since 1970.
fn since() -> Option<u64> {
    let start = SystemTime::now().checked_sub(RECENT)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(start.as_micros()).ok()
}

/// The figure, if the device gives it; the first error that means trouble is kept.
fn known<T>(trouble: &mut Option<String>, answer: Result<T, NvmlError>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::NoPermission) => None,
        Err(NvmlError::NotFound | NvmlError::NoData | NvmlError::FunctionNotFound) => None,
        Err(error) => {
            trouble.get_or_insert_with(|| error.to_string());
            None
        }
    }
}
