"""A run's process that makes nothing, or comes to the end that its source's name says.

It speaks as impasto.service.job does, and starts in a tenth of its time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

CRASH = {"segv": signal.SIGSEGV, "abort": signal.SIGABRT, "kill": signal.SIGKILL}


def say(name: str, /, **message: Any) -> None:
    sys.stdout.write(f"{name} {json.dumps(message)}\n")
    sys.stdout.flush()


def make(source: str) -> None:
    name = source.rpartition("/")[2].partition(".")[0].partition("-")[0]
    if name == "unplanned":
        say("Ending", kind="refused", error="no video")
        return
    if name == "early":
        sys.stderr.write("boom in the probe\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    say("Said", kind="plan", data={}, columns={"plan_id": f"plan-{source}", "frames_total": 10})
    say("Said", kind="chunk", data={}, columns={"frames_done": 10, "state": "succeeded"})
    if name in CRASH:
        sys.stderr.write(f"the decoder is in {source}\npassword=hunter2\n")
        sys.stderr.flush()
        os.kill(os.getpid(), CRASH[name])
    elif name == "exit":
        os._exit(3)
    elif name == "babble":
        sys.stdout.write("no message\nSaid {\nEnding []\n" + "x" * 100_000 + "\n")
    elif name == "fail":
        say("Ending", kind="failed", error="it did not work")
        return
    elif name == "refuse":
        say("Ending", kind="refused", error="no video")
        return
    elif name == "sleep":
        time.sleep(600)
    say("Ending", kind="succeeded", report={"frames": 10, "target": "out"})


def main() -> None:
    sys.stdin.readline()
    for line in sys.stdin:
        make(json.loads(line)["source"])


if __name__ == "__main__":
    main()
