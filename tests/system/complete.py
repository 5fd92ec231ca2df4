# SPDX-License-Identifier: MIT OR Apache-2.0
"""Types a line in a shell, presses Tab, and prints the words that are in the line then, one a row

usage: complete.py bash|zsh SCRIPT LINE
"""

import os
import pty
import re
import select
import sys
import time

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source {}\nPS1='pro''mpt:'\n", "\x01"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -U compinit; compinit -u -D; source {}; compdef _watcherctl watcherctl; bindkey -e; PS1='pro''mpt:'\n",
        "\x01",
    ),
}

shell, script, line = sys.argv[1:]
argv, setup, home = SHELLS[shell]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "dumb"
    os.execvp(argv[0], argv)


def until(text, seconds=20):
    seen, deadline = "", time.monotonic() + seconds
    while text not in seen:
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            sys.exit(f"{text!r} does not come: {seen!r}")
        seen += os.read(terminal, 65536).decode(errors="replace")
    return seen


def press(text):
    os.write(terminal, text.encode())


press(setup.format(script))
until("prompt:")
# What was completed is an argument of echo when the line is sent.
press(line + "\t")
press(home + "printf '<%s>' begin \x05 end\n")
seen = until("<end>")
print("\n".join(re.findall(r"<([^>]*)>", seen[seen.index("<begin>") :])[1:-1]))
