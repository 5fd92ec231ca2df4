# SPDX-License-Identifier: MIT OR Apache-2.0
"""Uses `watcherctl top` as a person does: on a terminal, with keys, over a restart of watcherd."""
import fcntl, os, pty, select, struct, subprocess, sys, termios, time

pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm-256color"
    os.environ["LANG"] = "C.UTF-8"
    # The size must be known before anything is drawn.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))
    os.execvp("watcherctl", ["watcherctl", "top"])

seen = ""


def until(text):
    global seen
    end = time.monotonic() + 30
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        if not ready:
            sys.exit(f"{text!r} does not appear in {seen!r}")
        seen += os.read(terminal, 65536).decode(errors="replace")
    seen = seen[seen.index(text) + len(text):]


def press(keys):
    os.write(terminal, keys.encode())


until("1 worker, 1 well")
until("w.service")
press("r")
until("restart w.service? [y/N]")
press("n")
until("q quit")
press("r")
until("restart w.service? [y/N]")
press("y")
until("restart w.service: asked for")
press("h")
until("hold w.service? [y/N]")
press("y")
until("held by")
press("\r")
until("Main PID: ")
press("q")
until("q quit")
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 60, 0, 0))
until("\x1b[10;1H")
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))
until("\x1b[24;1H")
subprocess.run(["systemctl", "stop", "watcherd"], check=True)
until("watcherd is gone")
subprocess.run(["systemctl", "start", "watcherd"], check=True)
until("1 worker, 1 well")
press("q")
while True:
    try:
        if not os.read(terminal, 65536):
            break
    except OSError:
        break
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
