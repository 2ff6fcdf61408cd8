"""A folder, the programs that run in it, and time that is limited: what every scenario stands on."""

import os
import subprocess
import time

from .checks import Failure, check_that
from .processes import Process, free_port, stopping
from .rpc import Rpc

SCENARIO_LIMIT = 100  # seconds


class Stage:
    """A temporary folder with its ports, and the programs that were begun in it."""

    def __init__(self, name, home, programs):
        self.name, self.home, self.programs = name, home, programs
        self.deadline = time.monotonic() + SCENARIO_LIMIT
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("TENURE_", "TENURED_"))}
        self.grpc, self.rpc_port = free_port(), free_port()
        self.rpc = Rpc(self.rpc_port)
        self.started, self.node, self.runs = [], None, 0
        self.node_url = f"http://127.0.0.1:{self.grpc}"
        self.tenant_env = self.env | {
            "TENURE_HOME": str(home / "tenant"),
            "TENURE_NODE": self.node_url,
            "TENURE_KEYRING": "test",
        }

    def spawn(self, name, argv, env):
        process = Process(self.home / f"{name}.log", [str(a) for a in argv], env)
        self.started.append(process)
        return process

    def close(self):
        """Ends everything, the newest first and the node last: a provider that stops still settles what it has sent."""
        for process in sorted(reversed(self.started), key=lambda p: p.log.stem == "node"):
            if process.popen.poll() is None:
                process.popen.terminate()
            try:
                process.popen.wait(15)
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait(5)

    def until(self, what, probe, limit=30, every=0.1):
        """The first true value of `probe`."""
        end = min(self.deadline, time.monotonic() + limit)
        while time.monotonic() < end:
            if stopping.is_set():
                raise Failure("interrupted")
            found = probe()
            if found:
                return found
            time.sleep(every)
        raise Failure(f"not in time: {what}")

    def alive(self, process, what):
        check_that(f"{what} runs", process.popen.poll() is None, f"exit code {process.popen.poll()}")
        return True
