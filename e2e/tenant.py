"""One tenant: the client `tenure`, its jobs, and its money."""

import json
import re
import shutil
import subprocess
import time

from .chain import Chain
from .checks import DIGITS, Failure


class Tenant(Chain):
    """A tenant on a chain."""

    def tenure(self, *args, code=0):
        """Runs the client to its end. Returns its JSON document."""
        left = max(1, self.deadline - time.monotonic())
        argv = [str(a) for a in [self.programs / "tenure", *args, "-o", "json"]]
        try:
            done = subprocess.run(argv, env=self.tenant_env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=left)
        except subprocess.TimeoutExpired:
            raise Failure(f"tenure {' '.join(map(str, args))} did not end in time") from None
        with open(self.home / "commands.log", "a") as log:
            log.write(f"$ tenure {' '.join(map(str, args))}\n{done.stderr}{done.stdout}-> {done.returncode}\n")
        if done.returncode != code:
            raise Failure(f"tenure {' '.join(map(str, args))}: exit code {done.returncode}, must be {code}: {done.stderr.strip()[-600:]}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def start_tenant(self):
        self.tenure("init")
        self.tenure("faucet")

    def job(self, name, rounds=1, pace_ms=0, deposit="1ten", extra="", weights=None):
        """A copy of workloads/digits with other arguments. A round takes eight paces. Returns its job.toml."""
        folder = self.home / name
        folder.mkdir()
        for file in ("digits.wasm", "weights.bin", "digits.bin"):
            shutil.copy(DIGITS / file, folder / file)
        if weights is not None:
            (folder / "weights.bin").write_bytes(weights)
        text = (DIGITS / "job.toml").read_text()
        text = re.sub(r"(?m)^args = .*$", f'args = ["--rounds", "{rounds}", "--pace-ms", "{pace_ms}"]', text)
        text = re.sub(r"(?m)^deposit = .*$", f'deposit = "{deposit}"', text)
        (folder / "job.toml").write_text(text + extra)
        return folder / "job.toml"

    def run(self, *args):
        """`tenure run` or another command of the client in the background."""
        self.runs += 1
        argv = [self.programs / "tenure", *args, "-o", "json"]
        return self.spawn(f"run{self.runs}", argv, self.tenant_env)

    def result(self, run, code=0, limit=60):
        """Waits for a command begun with `run`. Returns its JSON document."""
        self.until(f"{run.log.stem} ends", lambda: run.popen.poll() is not None, limit)
        if run.popen.poll() != code:
            raise Failure(f"{run.log.stem}: exit code {run.popen.poll()}, must be {code}: {run.text().strip()[-600:]}")
        text = run.out.read_text()
        return json.loads(text) if text.strip() else None

    def told(self, run):
        """Milliseconds that `tenure run` told as attested."""
        return sum(int(text.replace(".", "")) for text in re.findall(r"attested: (\d+\.\d{3}) s of this lease more", run.text()))

    def balance(self, who):
        return sum(int(c["amount"]) for c in self.tenure("bank", "balance", who)["balances"])
