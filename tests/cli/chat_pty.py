#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Chats with weir on a pseudo-terminal, as a person would: python3 chat_pty.py WEIR MODEL.

Prints what the terminal showed. Types a line that is not ASCII, stops the long answer with
Ctrl-C, types another line, and ends with Ctrl-D.
"""
import os
import pty
import select
import signal
import sys
import termios
import time


def main():
    weir, model = sys.argv[1:3]
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(LC_ALL="C.UTF-8", TERM="xterm")
        os.execv(weir, [weir, "chat", model, "-q", "--chat-template", "chatml", "-n", "400",
                        "--temp", "0", "--budget", "50%"])
    seen = b""

    def read(until, seconds):
        """Until these bytes have come; b"": until anything has."""
        nonlocal seen
        end = time.time() + seconds
        start = len(seen)
        while time.time() < end and (until not in seen[start:] if until else len(seen) == start):
            if select.select([fd], [], [], 0.1)[0]:
                try:
                    seen += os.read(fd, 4096)
                except OSError:
                    return
        if until and until not in seen[start:]:
            print(f"waited in vain for {until!r}", file=sys.stderr)

    def at_prompt():
        """The line editor shows the prompt, and has taken over the terminal."""
        read(b"> ", 30)
        end = time.time() + 10
        while termios.tcgetattr(fd)[3] & termios.ICANON and time.time() < end:
            time.sleep(0.01)

    def ask(line):
        at_prompt()
        os.write(fd, line.encode() + b"\r")
        read(b"\n", 10)
        read(b"", 30)  # the answer has begun

    ask("café é")
    os.write(fd, b"\x03")  # the terminal makes a signal of it while weir answers
    ask("again")
    os.kill(pid, signal.SIGINT)
    at_prompt()
    os.write(fd, b"\x04")
    read(b"", 1)
    _, status = os.waitpid(pid, 0)
    sys.stdout.buffer.write(seen)
    print(f"\nstatus {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
