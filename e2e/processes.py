"""Programs that run beside a scenario, and what they listen on. Whatever was begun here is ended by its id."""

import itertools
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

from .checks import ROOT, Failure, Skipped, check

stopping = threading.Event()
processes = []  # all that were ever begun; Popen never signals an id that was reaped
processes_lock = threading.Lock()


def tenure_bin():
    script = f'. "{ROOT}/scripts/env" && printf %s "$TENURE_BIN"'
    return Path(subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True).stdout)


def cometbft():
    """The program of CometBFT, installed if need be. Skips the scenario where it cannot be."""
    done = subprocess.run([ROOT / "scripts" / "cometbft"], capture_output=True, text=True)
    if done.returncode == 3:
        raise Skipped("CometBFT cannot be installed here")
    check(f"exit code of scripts/cometbft ({done.stderr.strip()[-300:]})", done.returncode, 0)
    return done.stdout.strip()


# Below the ports that the kernel gives to outgoing connections and beside those that `tenured --auto-ports` hands on to CometBFT, so
# that a node can have its port again after a restart. Each is given once: scenarios run side by side and bind theirs later.
PORTS = itertools.cycle(30_000 + (os.getpid() * 61 + port) % 2_000 for port in range(2_000))
ports_lock = threading.Lock()


def free_port():
    """A port that is free and that no other scenario of this run was given."""
    with ports_lock:
        for port in itertools.islice(PORTS, 2_000):
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    continue
    raise Failure("no free port from 30000 to 31999")


class Process:
    """A program that runs beside the scenario, its output in a file."""

    def __init__(self, log, argv, env):
        self.log = log
        self.out = log.with_suffix(".out")
        with processes_lock:
            if stopping.is_set():
                raise Failure("interrupted")
            # A session of its own: Ctrl-C on the terminal is for this script, which then ends them one by one.
            with open(log, "ab") as err, open(self.out, "wb") as out:
                self.popen = subprocess.Popen(
                    argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
                )
            processes.append(self.popen)

    def text(self):
        return self.log.read_text(errors="replace")

    def end(self, how=signal.SIGTERM, limit=15):
        """Signals it and waits. Returns its exit code, negative for a signal."""
        self.popen.send_signal(how)
        try:
            return self.popen.wait(limit)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(5)
            raise Failure(f"{self.log.stem} did not end within {limit} s of signal {how}") from None


def end_all(*_):
    stopping.set()
    with processes_lock:
        for popen in processes:
            if popen.poll() is None:
                popen.kill()
