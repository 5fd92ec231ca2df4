// SPDX-License-Identifier: MIT OR Apache-2.0
//! The password dialog on the terminal: polkit's pkttyagent, for as long as we run.

use std::io::{self, IsTerminal, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// pkttyagent needs milliseconds to register; without it the call only fails sooner.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Agent {
    child: Child,
}

impl Agent {
    /// Whether somebody sits at the terminal who may need it.
    pub fn is_useful() -> bool {
        !nix::unistd::geteuid().is_root() && io::stdin().is_terminal()
    }

    /// Starts the agent and waits until it is registered; `None` where it is not installed.
    pub async fn start() -> Option<Agent> {
        let (mut ready, theirs) = io::pipe().ok()?;
        // It talks to /dev/tty, so its standard output is free to be the descriptor that it closes when it is ready.
        let child = Command::new("pkttyagent")
            .args(["--notify-fd", "1", "--fallback"])
            .stdin(Stdio::inherit())
            .stdout(theirs)
            .spawn()
            .ok()?;
        let agent = Agent { child };
        let registered = tokio::task::spawn_blocking(move || ready.read(&mut [0; 1]));
        // Too slow or gone: the daemon's refusal says enough.
        let _ = tokio::time::timeout(PATIENCE, registered).await;
        Some(agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        // SIGTERM, not SIGKILL: it restores the terminal.
        let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
