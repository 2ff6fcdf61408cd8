"""What is left when a node, a provider or its files go away. Each scenario has one sentence that says what must hold."""

import json
import shutil
import signal
import subprocess
import threading
import time

from .checks import EXIT_WORKLOAD, PRICE, RIGHT_OUTPUT, check, check_that, digest
from .processes import free_port


def default(s):
    """A provider that dies is paid up to its last attestation; its lease defaults after three misses and a grace, and the tenant is told."""
    agent, owner = s.open()
    run = s.run("run", s.job("long", rounds=60, pace_ms=500), "--out", s.home / "out")
    lease = s.running(run=run)
    s.attested(owner, lease)
    agent.end(signal.SIGKILL)
    time.sleep(1.5)  # what it had sent gets into a block
    provider = s.provider(owner)
    last, epoch_ms = int(provider["final_until_ms"]), int(provider["epoch_ms"])
    began = time.monotonic()
    s.result(run, code=EXIT_WORKLOAD)
    waited = time.monotonic() - began
    found, paid_ms = s.settled(reason="DEFAULT")
    check("paid milliseconds", paid_ms, last - int(lease["ready_ms"]))
    # The first block in which the third deadline had passed, by its time and by its blocks.
    over = int(found["lease"]["ended_ms"]) - (last + 3 * epoch_ms + 2_000)
    check_that("instant of the default", 0 <= over < 3_000, f"{over} ms after the deadline's instant")
    text = run.text()
    check_that("the tenant is told why and what to do", "missed too many attestations" in text and "run the job again" in text, text[-400:])
    check("status of the provider", s.provider(owner)["open_leases"], 0)
    return f"tenant let go {waited:.1f} s after the provider died"


def comeback(s):
    """A provider that dies and comes back begins the work anew, excepts what it did not run, and completes the lease."""
    agent, owner = s.open()
    run = s.run("run", s.job("job", rounds=1, pace_ms=1_200), "--out", s.home / "out")
    s.attested(owner, s.running(run=run))
    agent.end(signal.SIGKILL)
    time.sleep(5)  # longer than a client tries again at once, shorter than a default
    s.start_agent("provider", join=False)
    result = s.result(run)
    found, paid_ms = s.settled()
    lease = found["lease"]
    paused, gaps, excepted = s.holes(lease, s.blocks())
    check_that("at least one epoch was reported down", excepted)
    ran = int(lease["ended_ms"]) - int(lease["ready_ms"])
    check_that("the work was begun anew", ran >= 2 * 8 * 1_200 * 0.6, ran)
    check_that("paid time excludes an epoch", paid_ms <= ran - 1_000, (paid_ms, ran))
    check("attested milliseconds as told", s.told(run), paid_ms)
    check_that("the tenant is told what was reported down", "reported down and not paid" in run.text(), run.text()[-400:])
    check_that("and in the end", int(result["excepted_ms"]) > 0, result["excepted_ms"])
    check_that("the log goes on for the tenant", "the program begins anew" in run.text() and "1797 of 1797" in run.text(), run.text()[-400:])
    check("SHA-256 of predictions.csv", digest(s.home / "out" / "predictions.csv"), RIGHT_OUTPUT)
    return f"{len(excepted)} epochs excepted, {paid_ms} of {ran} ms paid"


def crash(s):
    """A node that is killed and comes back loses no acknowledged transaction, and the lease goes on."""
    _, owner = s.open()
    receiver = s.tenure("keys", "add", "other")["address"]
    run = s.run("run", s.job("job", rounds=1, pace_ms=1_500), "--out", s.home / "out")
    s.attested(owner, s.running(run=run))
    acknowledged, failures, enough = [], [], threading.Event()

    def send():
        while not enough.is_set():
            argv = [str(a) for a in [s.programs / "tenure", "bank", "send", receiver, "1uten", "-o", "json", "--tx-timeout", "5s"]]
            done = subprocess.run(argv, env=s.tenant_env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            if done.returncode == 0:
                acknowledged.append(json.loads(done.stdout))
            else:
                failures.append(done.stderr)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        s.until("some transfers", lambda: len(acknowledged) >= 4)
        height = int(s.tenure("status")["height"])
        s.node.end(signal.SIGKILL)
    finally:
        enough.set()
    time.sleep(1)
    s.start_node()
    sender.join(60)
    check_that("the chain went on", int(s.tenure("status")["height"]) >= height)
    for sent in acknowledged:
        tx = s.tenure("tx", sent["tx"])
        check(f"height of transfer {sent['tx']}", int(tx["height"]), int(sent["height"]))
    got = sum(int(c["amount"]) for c in s.tenure("bank", "balance", receiver)["balances"])
    # One more may have been under way at the kill: sent, and not acknowledged.
    check_that("every acknowledged transfer arrived once", len(acknowledged) <= got <= len(acknowledged) + len(failures), (len(acknowledged), got))
    s.result(run)
    s.settled()
    check("SHA-256 of predictions.csv", digest(s.home / "out" / "predictions.csv"), RIGHT_OUTPUT)
    return f"{len(acknowledged)} transfers acknowledged before the kill"


def halt(s):
    """Fifteen seconds without a chain cost nobody anything: no miss, no default, no payment."""
    _, owner = s.open()
    run = s.run("run", s.job("job", rounds=1, pace_ms=3_600), "--out", s.home / "out")
    lease = s.running(run=run)
    s.attested(owner, lease)
    before = s.tenure("status")
    check("exit code of tenured at SIGTERM", s.node.end(signal.SIGTERM), 0)
    time.sleep(15)
    s.start_node()
    s.until("blocks", lambda: int(s.tenure("status")["height"]) > int(before["height"]) + 2)
    after = s.tenure("status")
    wall = int(after["header_ms"]) - int(before["header_ms"])
    live = int(after["live_ms"]) - int(before["live_ms"])
    check_that("block time shows the halt", wall >= 15_000, wall)
    check_that("live time does not", live <= wall - 12_000, (live, wall))
    s.result(run)
    found, paid_ms = s.settled()
    s.paid_whole(found["lease"], paid_ms)
    check("missed epochs", s.provider(owner)["missed_epochs"], "0")
    check("SHA-256 of predictions.csv", digest(s.home / "out" / "predictions.csv"), RIGHT_OUTPUT)
    return f"halt of {wall / 1000:.1f} s, {live / 1000:.1f} s of it live"


def behind(s):
    """An agent whose node does not have its account yet waits for it, and serves once it is registered."""
    s.start_node()
    s.start_tenant()
    base = [s.programs / "tenure-agent", "--home", s.home / "late", "--node", s.node_url]
    command = lambda *args: subprocess.run([str(a) for a in [*base, *args]], env=s.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    made = command("init", "--keyring", "test", "--moniker", "late", "--listen", f"127.0.0.1:{free_port()}", "--price", PRICE)
    check("exit code of init", made.returncode, 0)
    agent = s.spawn("late", [*base, "run"], s.env)
    s.until("it waits and says so", lambda: "does not exist yet" in agent.text())
    time.sleep(1)
    check_that("it goes on waiting", agent.popen.poll() is None, agent.popen.poll())
    joined = command("join", "--bond", "500ten", "--faucet")
    check_that("it is registered by another process", joined.returncode == 0, joined.stderr[-400:])
    s.until("it serves", lambda: s.alive(agent, "late") and "serving" in agent.text(), limit=10)
    s.result(s.run("run", s.job("job", pace_ms=200), "--out", s.home / "out"))
    s.settled()


def outage(s):
    """Node and provider killed in one instant come back, and the lease goes on."""
    agent, owner = s.open()
    run = s.run("run", s.job("job", pace_ms=1_200), "--out", s.home / "out")
    s.attested(owner, s.running(run=run))
    s.node.popen.kill()
    agent.end(signal.SIGKILL)
    s.node.popen.wait(5)
    time.sleep(2)
    s.start_node()
    s.start_agent("provider", join=False)
    s.result(run)
    found, paid_ms = s.settled()
    check("SHA-256 of predictions.csv", digest(s.home / "out" / "predictions.csv"), RIGHT_OUTPUT)
    return f"{paid_ms} of {int(found['lease']['ended_ms']) - int(found['lease']['ready_ms'])} ms paid"


def lost(s):
    """A provider that comes back without the workload's files gives the lease up, paid up to its last attestation."""
    agent, owner = s.open()
    run = s.run("run", s.job("job", rounds=60, pace_ms=500), "--out", s.home / "out")
    s.attested(owner, s.running(run=run))
    agent.end(signal.SIGKILL)
    time.sleep(1)
    last = int(s.provider(owner)["final_until_ms"])
    shutil.rmtree(s.home / "provider" / "leases" / "1")
    s.start_agent("provider", join=False)
    s.result(run, code=EXIT_WORKLOAD)
    found, paid_ms = s.settled(reason="PROVIDER")
    check("paid milliseconds", paid_ms, last - int(found["lease"]["ready_ms"]))
    check_that("the tenant is told", "the provider gave it up" in run.text(), run.text()[-400:])
