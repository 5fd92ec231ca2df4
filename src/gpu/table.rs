// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sample as text, for people: a line for each device, then one for each process. What is unknown is a question mark.

use super::{Busy, Device, Process, Sample};
use std::fmt::{Display, Write as _};

const DEVICES: &str = "DEVICE UUID USED-MIB FREE-MIB TOTAL-MIB COMPUTE% MEMORY% CELSIUS NAME\n";
const PROCESSES: &str = "\nDEVICE PID USED-MIB COMPUTE% MEMORY% WHOSE\n";

impl Sample {
    /// `own` are the processes that it is about.
    pub fn table(&self, own: &[u32]) -> String {
        let mut text = String::from(DEVICES);
        self.devices.iter().for_each(|seen| device(&mut text, seen));
        text.push_str(PROCESSES);
        for seen in &self.devices {
            match &seen.processes {
                Some(processes) => {
                    processes.iter().for_each(|one| process(&mut text, seen.index, one, own.contains(&one.pid)));
                }
                None => {
                    let _ = writeln!(text, "{} ? ? ? ? ?", seen.index);
                }
            }
        }
        text
    }
}

fn device(text: &mut String, device: &Device) {
    let memory = device.memory;
    let (used, free) = (mib(memory.map(|memory| memory.used)), mib(memory.map(|memory| memory.free)));
    let total = mib(memory.map(|memory| memory.total));
    let (uuid, name) = (known(device.uuid.as_ref()), known(device.name.as_ref()));
    let (busy, heat) = (shares(device.busy), known(device.temperature));
    let trouble = device.trouble.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    let _ = writeln!(text, "{} {uuid} {used} {free} {total} {busy} {heat} {name}{trouble}", device.index);
}

fn process(text: &mut String, device: u32, process: &Process, own: bool) {
    let whose = if own { "worker" } else { "other" };
    let (pid, memory, busy) = (process.pid, mib(process.memory), shares(process.busy));
    let _ = writeln!(text, "{device} {pid} {memory} {busy} {whose}");
}

fn shares(busy: Option<Busy>) -> String {
    busy.map_or("? ?".into(), |busy| format!("{} {}", busy.compute, busy.memory))
}

fn mib(bytes: Option<u64>) -> String {
    known(bytes.map(|bytes| bytes >> 20))
}

fn known(value: Option<impl Display>) -> String {
    value.map_or("?".into(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Memory;

    #[test]
    fn what_is_unknown_is_not_zero() {
        let busy = Some(Busy { compute: 100, memory: 0 });
        let healthy = Device {
            uuid: Some("GPU-a".into()),
            name: Some("Big GPU".into()),
            memory: Some(Memory { used: 70 << 20, free: 10 << 20, total: 80 << 20 }),
            busy,
            temperature: Some(61),
            processes: Some(vec![
                Process { pid: 7, memory: Some(60 << 20), busy },
                Process { pid: 8, memory: None, busy: None },
            ]),
            ..Device::default()
        };
        let lost = Device { index: 1, trouble: Some("fell off".into()), ..Device::default() };
        let table = Sample { devices: vec![healthy, lost] }.table(&[7]);
        let expected = "0 GPU-a 70 10 80 100 0 61 Big GPU\n1 ? ? ? ? ? ? ? ? (fell off)\n";
        assert_eq!(table.split(PROCESSES).next(), Some(format!("{DEVICES}{expected}").as_str()));
        assert_eq!(table.split(PROCESSES).nth(1), Some("0 7 60 100 0 worker\n0 8 ? ? ? other\n1 ? ? ? ? ?\n"));
    }
}
