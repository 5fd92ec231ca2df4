// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other supervisors from Debian with the same worker, each as fast as it can be configured to be.

use crate::recovery::print_table;
use crate::subject::Subject;
use crate::{quantile, sorted};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub fn measure(rounds: usize) {
    println!("\nother supervisors, {rounds} SIGKILLs each, in turns (ms)");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = std::env::current_exe().expect("we have a name");
    let worker = |name: &str| format!("{} worker {}", program.display(), dir.path().join(name).display());
    let peers = [
        Peer(runit(dir.path(), &worker("runit"))),
        Peer(supervisord(dir.path(), &worker("supervisord"))),
        Peer(monit(dir.path(), &worker("monit"))),
    ];
    let mut subjects = [
        Subject::new("runit", dir.path().join("runit"), None),
        Subject::new("supervisord", dir.path().join("supervisord"), None),
        Subject::new("monit, cycle of 1 s", dir.path().join("monit"), None),
    ];
    subjects.iter().for_each(Subject::settle);
    for _ in 0..rounds {
        subjects.iter_mut().for_each(Subject::round);
    }
    let base = quantile(&sorted(subjects[0].times.clone()), 0.5);
    print_table(&subjects, base);
    drop(peers);
}

/// A supervisor that ends with the benchmark.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGTERM).ok();
        self.0.wait().ok();
    }
}

fn start(command: &mut Command) -> Child {
    use std::os::unix::process::CommandExt;
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn script(path: &Path, line: &str) {
    fs::write(path, format!("#!/bin/sh\nexec {line}\n")).expect("a script");
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("a mode");
}

fn runit(dir: &Path, worker: &str) -> Child {
    let service = dir.join("service");
    fs::create_dir(&service).expect("a directory");
    script(&service.join("run"), worker);
    start(Command::new("runsv").arg(service))
}

fn supervisord(dir: &Path, worker: &str) -> Child {
    let config = dir.join("supervisord.conf");
    let text = format!(
        "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={0}/supervisord.pid\n\
         [program:worker]\ncommand={worker}\nautorestart=true\nstartsecs=0\nstartretries=1000000\n",
        dir.display()
    );
    fs::write(&config, text).expect("a configuration");
    start(Command::new("supervisord").arg("-n").arg("-c").arg(config))
}

fn monit(dir: &Path, worker: &str) -> Child {
    let (config, launch, pid) = (dir.join("monitrc"), dir.join("launch"), dir.join("monit.worker.pid"));
    let text = format!("#!/bin/sh\nsetsid {worker} </dev/null >/dev/null 2>&1 &\necho $! >{}\n", pid.display());
    fs::write(&launch, text).expect("a script");
    fs::set_permissions(&launch, PermissionsExt::from_mode(0o755)).expect("a mode");
    let text = format!(
        "set daemon 1\nset pidfile {0}/monit.pid\nset idfile {0}/monit.id\nset statefile {0}/monit.state\n\
         check process worker with pidfile {1}\n  start program = \"{2}\"\n",
        dir.display(),
        pid.display(),
        launch.display()
    );
    fs::write(&config, text).expect("a configuration");
    fs::set_permissions(&config, PermissionsExt::from_mode(0o600)).expect("a mode");
    start(Command::new("monit").arg("-I").arg("-c").arg(config))
}
