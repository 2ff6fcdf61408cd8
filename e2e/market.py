"""What a lease costs and gives while everybody does their part. Each scenario has one sentence that says what must hold."""

import re
import signal
import time

from .checks import (
    DIGITS,
    EXIT_DETACHED,
    EXIT_WORKLOAD,
    MS_PER_HOUR,
    PRICE,
    RATE,
    RIGHT_OUTPUT,
    check,
    check_that,
    digest,
)


def main(s):
    """The main job is paid to the unit for attested time, its output is the right one, and all of it can be proven."""
    s.open(price=None)
    run = s.run("run", DIGITS / "job.toml", "--out", s.home / "out", "--score", DIGITS / "labels.csv")
    result = s.result(run)
    found, paid_ms = s.settled()
    check("attested milliseconds as told", s.told(run), paid_ms)
    money = {k: int(v) for k, v in result["money"].items() if k != "denom"}
    check("deposited", money["deposited"], money["provider"] + money["take"] + money["refunded"])
    check("paid as told", money["provider"] + money["take"], int(found["balance"]["paid"]["amount"]))
    check("gaps in a quiet run", [h for h in s.gaps(found["lease"]["provider"]) if h[1] > int(found["lease"]["ready_ms"])], [])
    s.paid_whole(found["lease"], paid_ms)
    check_that("it ran at least as long as its 16 paces", paid_ms >= 6_000, paid_ms)
    check("SHA-256 of predictions.csv", digest(s.home / "out" / "predictions.csv"), RIGHT_OUTPUT)
    check("held-out digits right", result["score"]["held_out"]["right"], 355)
    s.prove(1, found["lease"]["tenant"])


def proofs(s):
    """The same job on CometBFT: lease and balance are proven from headers that a real engine made."""
    s.start_node(engine="comet")
    s.start_tenant()
    s.start_agent("provider", PRICE)
    run = s.run("run", s.job("job", pace_ms=300), "--out", s.home / "out")
    s.result(run)
    found, paid_ms = s.settled()
    check("attested milliseconds as told", s.told(run), paid_ms)
    check("SHA-256 of predictions.csv", digest(s.home / "out" / "predictions.csv"), RIGHT_OUTPUT)
    s.prove(1, found["lease"]["tenant"])


def close(s):
    """A tenant that closes has at once back what cannot be owed, the rest after the epoch; the workload is ended within seconds."""
    agent, owner = s.open()
    run = s.run("run", s.job("job", rounds=60, pace_ms=500), "--out", s.home / "out")
    s.attested(owner, s.running(run=run))
    began = time.monotonic()
    s.tenure("lease", "close", 1)
    found = s.lease()
    lease, money = found["lease"], {k: int(v["amount"]) for k, v in found["balance"].items()}
    if lease["state"] == "LEASE_STATE_CLOSING":  # nearly always: two chances in three seconds that an epoch was just settled
        check_that("no more is held than two epochs and a grace can cost", 0 < money["held"] <= RATE * 9_000 // MS_PER_HOUR, money)
    check_that("the refund came at once", money["refunded"] >= 1_000_000 - RATE * 40_000 // MS_PER_HOUR, money)
    s.until("the workload is ended", lambda: "ended by the lease: tenant" in agent.text(), limit=5)
    killed = time.monotonic() - began
    s.result(run, code=EXIT_WORKLOAD)
    _, paid_ms = s.settled(reason="TENANT")
    check_that("it was paid for what it ran", paid_ms > 0, paid_ms)
    return f"ended {killed:.1f} s after the command, {lease['state'].removeprefix('LEASE_STATE_').lower()} then"


def failing(s):
    """A workload that fails is reported with its exit code, paid for its run alone, and the client's exit code says so."""
    s.open()
    weights = (DIGITS / "weights.bin").read_bytes()[:-1]
    run = s.run("run", s.job("job", pace_ms=500, weights=weights), "--out", s.home / "out")
    s.result(run, code=EXIT_WORKLOAD)
    found, paid_ms = s.settled(reason="WORKLOAD_FAILED")
    check("exit code", found["lease"]["exit_code"], 2)
    # It was over before the chain could know that it ran; on a loaded machine perhaps not.
    check_that("it was paid for the moment that it ran, if that", paid_ms <= 1_000, paid_ms)
    text = run.text()
    check_that("the tenant sees the exit code", "exit code 2" in text, text[-400:])
    check_that("the tenant sees the program's own words", "weights.bin: length is 5311, truncated" in text, text[-400:])
    return f"{paid_ms} ms paid"


def exhaustion(s):
    """A lease whose money runs out pauses to the millisecond; a top-up resumes it, and without one it ends after the grace."""
    s.open()
    topped = s.run("run", s.job("topped", pace_ms=1_200, deposit="5000uten"), "--out", s.home / "topped-out")
    s.running(1, run=topped)
    left = s.run("run", s.job("left", pace_ms=1_200, deposit="4000uten"), "--out", s.home / "left-out")
    s.running(2, run=left)
    s.until("lease 1 pauses", lambda: s.state(1) == "PAUSED")
    s.tenure("lease", "deposit", 1, "20000uten")
    check("state after the top-up", s.state(1), "ACTIVE")
    s.result(topped)
    found, paid_ms = s.settled(1)
    paused, _, _ = s.holes(found["lease"], s.blocks())
    check("pauses of lease 1", len(paused), 1)
    check("money ran out of lease 1", paused[0][0] - int(found["lease"]["ready_ms"]), 5_000 * MS_PER_HOUR // RATE)
    check_that("it was paid for all of its run", 7_000 <= paid_ms <= 12_000, paid_ms)
    check("attested milliseconds as told", s.told(topped), paid_ms)
    check("SHA-256 of predictions.csv", digest(s.home / "topped-out" / "predictions.csv"), RIGHT_OUTPUT)
    s.result(left, code=EXIT_WORKLOAD)
    found, paid_ms = s.settled(2, reason="EXHAUSTED")
    ran_out = 4_000 * MS_PER_HOUR // RATE
    check("paid milliseconds of lease 2", paid_ms, ran_out)
    check("end of lease 2", int(found["lease"]["ended_ms"]), int(found["lease"]["ready_ms"]) + ran_out + 10_000)
    check_that("the tenant is told", "the money ran out" in left.text(), left.text()[-400:])


def cheapest(s):
    """Of two providers that claim within the bid's window the cheaper one gets the lease."""
    s.start_node()
    s.start_tenant()
    s.start_agent("dear", "floor=2ten")
    s.start_agent("cheap", "floor=1ten")
    job = s.job("job", extra='claim_window = "2s"\n')
    bid = int(s.tenure("bid", "post", job)["bid_id"])
    run = s.run("run", job, "--bid", bid, "--out", s.home / "out")
    claims = s.until("two claims", lambda: [c for c in [s.tenure("bid", "claims", bid)] if len(c) == 2], limit=10)[0]
    check("rates claimed", sorted(int(c["rate"]) for c in claims), [1_000_000, 2_000_000])
    s.result(run)
    found, _ = s.settled()
    check("provider", found["lease"]["provider"], s.owner("cheap"))
    check("rate", found["lease"]["rate"], "1000000")


def detach(s):
    """Ctrl-C and SIGTERM let go of a lease that runs; attaching to it again brings it to its end."""
    s.open()
    run = s.run("run", s.job("job", pace_ms=700), "--out", s.home / "unused")
    s.running(run=run)
    for asked in (signal.SIGINT, signal.SIGTERM):
        check(f"exit code at {asked.name}", run.end(asked, limit=5), EXIT_DETACHED)
        check_that("the way back is told", "tenure lease attach 1" in run.text(), run.text()[-400:])
        run = s.run("lease", "attach", 1, "--out", s.home / "unused")
        time.sleep(1)
    run.end(signal.SIGKILL, limit=5)
    check("state after the detachment", s.state(), "ACTIVE")
    s.result(s.run("lease", "attach", 1, "--out", s.home / "out"))
    s.settled()
    check("SHA-256 of predictions.csv", digest(s.home / "out" / "predictions.csv"), RIGHT_OUTPUT)


def earnings(s):
    """What a provider earned is in its balance to the unit, across a restart of the agent; with nothing for fees it still attests and is paid."""
    agent, owner = s.open()
    balance = lambda: s.balance(owner)
    fees = lambda: sum(
        int(a["fee"].removesuffix("uten")) for _, _, events in s.blocks() for kind, a in events if kind == "tx" and a.get("fee_payer") == owner
    )
    for lease_id in (1, 2):
        before, fees_before = balance(), fees()
        s.result(s.run("run", s.job(f"job{lease_id}", pace_ms=400), "--out", s.home / f"out{lease_id}"))
        found, _ = s.settled(lease_id)
        money = found["balance"]
        earned = int(money["paid"]["amount"]) - int(money["take"]["amount"])
        check_that("something was earned", earned > 0)
        time.sleep(1)  # no transaction of the agent is under way any more
        check(f"gain of lease {lease_id}", balance() - before, earned - (fees() - fees_before))
        if lease_id == 1:
            began = time.monotonic()
            check("exit code of the agent at SIGTERM", agent.end(signal.SIGTERM), 0)
            stopped = time.monotonic() - began
            agent = s.start_agent("provider", join=False)
    # Everything the provider can spend goes away while a third lease runs.
    run = s.run("run", s.job("job3", rounds=60, pace_ms=500), "--out", s.home / "out3")
    s.attested(owner, s.running(3, run=run))
    fee, gas = 100, 100_000
    send = ["--home", s.home / "provider", "bank", "send", s.tenure("keys", "show", "default")["address"], f"{balance() - fee}uten"]
    s.tenure(*send, "--gas", gas, "--gas-price-micro", fee * 1_000_000 // gas)
    check("balance of a provider that has sent everything away", balance(), 0)
    poor, fees_before = s.provider(owner), fees()
    more = int(poor["final_until_ms"]) + 3 * int(poor["epoch_ms"])
    s.until("three more attestations", lambda: int(s.provider(owner)["final_until_ms"]) >= more)
    check("missed epochs", s.provider(owner)["missed_epochs"], "0")
    check("fees of attestations", (fees() - fees_before, balance()), (0, 0))
    s.tenure("lease", "close", 3)
    s.result(run, code=EXIT_WORKLOAD)
    found, paid_ms = s.settled(3, reason="TENANT")
    check_that("more than three epochs are paid", paid_ms > 3 * int(poor["epoch_ms"]), paid_ms)
    check("balance in the end", balance(), int(found["balance"]["paid"]["amount"]) - int(found["balance"]["take"]["amount"]))
    return f"agent stopped in {stopped:.1f} s; {paid_ms} ms paid to one without a balance"


def standing(s):
    """A standing order pays in before the money runs out: the lease never pauses, and what is not spent returns."""
    s.open()
    told = s.run("run", s.job("told", pace_ms=2_500, deposit="9000uten", extra='auto_top_up = "40000uten"\n'), "--out", s.home / "told-out")
    s.running(1, run=told)
    later = s.run("run", s.job("later", pace_ms=2_500, deposit="9000uten"), "--out", s.home / "later-out")
    s.running(2, run=later)
    s.tenure("lease", "auto-top-up", 2, "4000uten", "--up-to", "2000uten", code=2)
    s.tenure("lease", "auto-top-up", 2, "4000uten", "--up-to", "40000uten")
    order = s.lease(2)["account"]["auto_top_up"]
    check("order", (order["amount"], order["maximum"]), ("4000", "40000"))
    for number, (run, part) in enumerate([(told, 9_000), (later, 4_000)], 1):
        s.result(run)
        found, paid_ms = s.settled(number)
        paused, _, _ = s.holes(found["lease"], s.blocks())
        check(f"pauses of lease {number}", paused, [])
        s.paid_whole(found["lease"], paid_ms)
        check_that("it ran longer than its deposit lasts", paid_ms > 9_000 * MS_PER_HOUR // RATE, paid_ms)
        drawn = int(found["balance"]["deposited"]["amount"]) - 9_000
        check_that("whole parts were drawn", drawn > 0 and drawn % part == 0, drawn)
        check_that("no more than was ordered", drawn <= 40_000, drawn)
    # An order that was stopped draws nothing.
    left = s.run("run", s.job("left", pace_ms=1_200, deposit="9000uten", extra='auto_top_up = "40000uten"\n'), "--out", s.home / "left-out")
    s.running(3, run=left)
    s.tenure("escrow", "auto-top-up", int(s.lease(3)["lease"]["bid_id"]), "--off")
    check("order after --off", s.lease(3)["account"].get("auto_top_up"), None)
    s.tenure("lease", "close", 3)
    s.result(left, code=EXIT_WORKLOAD)
    check("deposited without an order", int(s.lease(3)["balance"]["deposited"]["amount"]), 9_000)


def standstill(s):
    """A lease that its tenant pauses costs nothing, and its program stands still until it is resumed."""
    _, owner = s.open()
    run = s.run("run", s.job("job", pace_ms=1_000), "--out", s.home / "out")
    s.attested(owner, s.running(run=run))
    s.tenure("lease", "pause", 1)
    time.sleep(1.5)  # the provider learns of it, and a pace under way ends
    lines = run.text().count(" digits\n")
    time.sleep(4)
    check("lines of log in a pause", run.text().count(" digits\n") - lines, 0)
    check("state in the pause", s.state(), "PAUSED")
    s.tenure("lease", "resume", 1)
    s.result(run)
    found, paid_ms = s.settled()
    paused, _, _ = s.holes(found["lease"], s.blocks())
    check("pauses", len(paused), 1)
    s.paid_whole(found["lease"], paid_ms, paused_ms=paused[0][1] - paused[0][0])
    check("attested milliseconds as told", s.told(run), paid_ms)
    check_that("the tenant is told what was paused", "paused and not paid" in run.text(), run.text()[-400:])
    check_that("the pause is as long as it was", 5_000 <= paused[0][1] - paused[0][0] <= 8_000, paused)
    check("SHA-256 of predictions.csv", digest(s.home / "out" / "predictions.csv"), RIGHT_OUTPUT)


def crowd(s):
    """More jobs than a provider has room for run two at a time, and all are done and paid for."""
    s.start_node()
    s.start_tenant()
    s.start_agent("provider", PRICE, more=["--cpu-milli", "1000"])
    jobs = [s.job(f"job{n}", pace_ms=300) for n in range(1, 6)]
    bids = [int(s.tenure("bid", "post", job)["bid_id"]) for job in jobs]
    runs = [s.run("run", job, "--bid", bid, "--out", s.home / f"out{bid}") for job, bid in zip(jobs, bids)]
    most = 0

    def over():
        nonlocal most
        open_leases = [l for l in s.tenure("lease", "list") if l["state"] != "LEASE_STATE_CLOSED"]
        most = max(most, len(open_leases))
        return all(run.popen.poll() is not None for run in runs)

    s.until("all jobs", over, limit=80)
    leases = [int(s.result(run)["lease"]["id"]) for run in runs]
    check("leases", sorted(leases), [1, 2, 3, 4, 5])
    for lease_id, bid in zip(leases, bids):
        s.settled(lease_id)
        check("SHA-256 of predictions.csv", digest(s.home / f"out{bid}" / "predictions.csv"), RIGHT_OUTPUT)
    check("most leases at a time", most, 2)


def abandoned(s):
    """A lease whose workload nobody hands over ends when its start window does, unpaid; a bid that nobody takes is cancelled in full."""
    _, owner = s.open()
    s.tenure("bid", "post", s.job("job"))
    s.until("a lease", lambda: s.state() == "STARTING")
    cheap = s.job("cheap")
    cheap.write_text(re.sub(r"(?m)^max_price_per_hour = .*$", 'max_price_per_hour = "0.5ten"', cheap.read_text()))
    bid = int(s.tenure("bid", "post", cheap)["bid_id"])
    time.sleep(2)
    check("claims below the provider's price", s.tenure("bid", "claims", bid), [])
    s.tenure("bid", "cancel", bid)
    check("refunded of the bid", s.tenure("escrow", "show", bid)["account"]["refunded_total"], "1000000")
    s.until("the start window's end", lambda: s.state() == "CLOSED", limit=45, every=0.5)
    found = s.lease()
    check("reason", found["lease"]["reason"], "CLOSE_REASON_START_TIMEOUT")
    check("refunded", found["balance"]["refunded"]["amount"], "1000000")
    check("reserved capacity", s.provider(owner)["reserved"]["cpu_milli"], "0")
