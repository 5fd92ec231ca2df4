// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// A library of its own for one test: the real loader and bindings, and a driver that says what the test wants.
struct Library {
    directory: TempDir,
}

impl Library {
    fn build(options: &[&str]) -> Library {
        let library = Library { directory: tempfile::tempdir().expect("a directory") };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/nvml.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]).args(options).arg("-o").arg(library.path());
        assert!(compiler.arg(source).status().expect("cc can be run").success());
        library
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(LIBRARY)
    }

    /// Replaces what the driver says.
    fn say(&self, text: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, text).expect("it can be written");
        fs::rename(new, self.path().with_file_name(format!("{LIBRARY}.state"))).expect("it can be renamed");
    }

    fn gpus(&self) -> Gpus {
        Gpus::start(self.path().into()).expect("a thread")
    }
}

const TWO: &str = "devices 2\n\
    0.total 80000\n0.free 10000\n0.used 70000\n0.busy 90\n0.traffic 40\n0.heat 61\n\
    1.total 80000\n1.free 79000\n1.used 1000\n1.busy 0\n1.traffic 0\n1.heat 30\n\
    process 0 77 60000 55 20\nprocess 0 78 9000 0 0\nprocess 1 77 500 -1 -1\n";

#[tokio::test]
async fn devices_and_their_processes_are_listed() {
    let library = Library::build(&[]);
    library.say(TWO);
    let gpus = library.gpus();
    let sample = gpus.sample().await.expect("an answer");
    let process = |pid, memory, busy| Process { pid, memory: Some(memory), busy };
    let first = Device {
        index: 0,
        uuid: Some("GPU-0".into()),
        name: Some("Test 0".into()),
        memory: Some(Memory { used: 70_000, free: 10_000, total: 80_000 }),
        busy: Some(Busy { compute: 90, memory: 40 }),
        temperature: Some(61),
        processes: Some(vec![
            process(77, 60_000, Some(Busy { compute: 55, memory: 20 })),
            process(78, 9_000, Some(Busy { compute: 0, memory: 0 })),
        ]),
        trouble: None,
    };
    assert_eq!((sample.devices.len(), &sample.devices[0]), (2, &first));
    // The second device does not tell processes apart.
    assert_eq!(sample.devices[1].processes, Some(vec![process(77, 500, None)]));
    assert_eq!(gpus.free_memory().await, Ok(Free { largest: 79_000, devices: vec![(0, 10_000), (1, 79_000)] }));

    let holders = gpus.holders(&[77, 5]).await.expect("an answer");
    assert_eq!(holders.iter().map(|holder| holder.device).collect::<Vec<_>>(), [0, 1]);
    let used = |pids: &[u32]| sample.used_by(pids);
    assert_eq!(used(&[77]), Some(GpuUse { held: 60_500, compute: Some(55), memory: Some(20) }));
    assert_eq!(used(&[78]), Some(GpuUse { held: 9_000, compute: Some(0), memory: Some(0) }));
    assert_eq!(used(&[5]), None);
}

#[tokio::test]
async fn a_lost_device_does_not_hide_the_others() {
    let library = Library::build(&[]);
    library.say(&format!("{TWO}0.lost 1\n"));
    let gpus = library.gpus();
    let sample = gpus.sample().await.expect("an answer");
    let lost = &sample.devices[0];
    assert_eq!((lost.memory, &lost.processes, lost.busy), (None, &None, None));
    assert!(lost.trouble.as_ref().is_some_and(|why| why.contains("fell off the bus")), "{lost:?}");
    assert_eq!(gpus.free_memory().await, Ok(Free { largest: 79_000, devices: vec![(1, 79_000)] }));
}

#[tokio::test]
async fn a_driver_that_hangs_is_unknown_until_it_answers() {
    let library = Library::build(&[]);
    library.say(&format!("{TWO}hang 1\n"));
    let gpus = library.gpus();
    assert_eq!(gpus.sample().await, Err(Unknown::NoAnswer));
    // Others do not wait for it again.
    let begun = Instant::now();
    assert_eq!(gpus.free_memory().await, Err(Unknown::NoAnswer));
    assert_eq!(gpus.holders(&[77]).await, Err(Unknown::NoAnswer));
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    library.say(TWO);
    let end = Instant::now() + Duration::from_secs(20);
    while gpus.sample().await.is_err() {
        assert!(Instant::now() < end, "it is never asked again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn functions_that_an_old_driver_lacks_are_unknown() {
    let library = Library::build(&["-DOLD"]);
    library.say(TWO);
    let gpus = library.gpus();
    let sample = gpus.sample().await.expect("an answer");
    let device = &sample.devices[0];
    assert_eq!((device.memory, &device.processes, &device.trouble), (None, &None, &None));
    assert_eq!(device.busy, Some(Busy { compute: 90, memory: 40 }));
    assert!(matches!(gpus.free_memory().await, Err(Unknown::Failed(_))));
    assert_eq!(gpus.holders(&[77]).await, Ok(Vec::new()));
}

#[tokio::test]
async fn without_library_driver_or_device_there_is_no_support() {
    let none = Gpus::start("/no/such/library.so".into()).expect("a thread");
    assert_eq!(none.sample().await, Err(Unknown::NoSupport));
    let library = Library::build(&[]);
    assert_eq!(library.gpus().sample().await, Err(Unknown::NoSupport));
    library.say("devices 0\n");
    assert_eq!(library.gpus().free_memory().await, Err(Unknown::NoSupport));
    let text = library.directory.path().join("text");
    fs::write(&text, "no library").expect("it can be written");
    assert_eq!(Gpus::start(text.into()).expect("a thread").sample().await, Err(Unknown::NoSupport));
}

#[tokio::test]
async fn many_who_ask_at_once_are_all_answered() {
    let library = Library::build(&[]);
    library.say(TWO);
    let gpus = library.gpus();
    let all = (0..1_000).map(|_| {
        let gpus = gpus.clone();
        tokio::spawn(async move { gpus.sample().await })
    });
    for asked in all.collect::<Vec<_>>() {
        assert!(asked.await.expect("it ends").is_ok());
    }
}
