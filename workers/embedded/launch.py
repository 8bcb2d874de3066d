"""Becomes another command that does not outlive its parent: `launch.py <parent's process id> <command> ...` (Linux).

A parent that can still act stops its children itself. One that is killed cannot, so the kernel is asked to kill the
child then. It is asked here, between fork and exec, because code run there by the parent (`preexec_fn`) may deadlock in
a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""See prctl(2). It lasts through exec."""

IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""What is ignored stays ignored through exec; the command is to start with the defaults."""


def main() -> None:
    """Ask for SIGKILL at the parent's death, then become the command."""
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the kernel was asked
        sys.exit(1)
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606 - becoming the given command is the purpose


if __name__ == "__main__":
    main()
