"""Leases, and what they must have been paid: computed a second time, from the chain's blocks alone."""

from .checks import EXIT_NOT_FOUND, EXIT_VERIFICATION, MS_PER_HOUR, Failure, check, check_that
from .provider import Providers


def subtract(spans, hole):
    """Half-open spans without what lies in the hole."""
    pieces = []
    for start, end in spans:
        pieces += [(start, min(end, hole[0])), (max(start, hole[1]), end)]
    return [(start, end) for start, end in pieces if start < end]


class Scene(Providers):
    """One chain with its providers and one tenant, in a temporary folder."""

    def lease(self, lease_id=1):
        return self.tenure("lease", "show", lease_id)

    def state(self, lease_id=1):
        leases = [l for l in self.tenure("lease", "list", "--closed") if l["id"] == str(lease_id)]
        return leases[0]["state"].removeprefix("LEASE_STATE_") if leases else None

    def running(self, lease_id=1, run=None):
        def active():
            if run is not None and run.popen.poll() is not None:
                raise Failure(f"{run.log.stem} ended with {run.popen.poll()}: {run.text().strip()[-600:]}")
            return self.state(lease_id) == "ACTIVE"

        self.until(f"lease {lease_id} runs", active)
        return self.lease(lease_id)["lease"]

    def holes(self, lease, blocks):
        """What of a lease is not paid: (paused, missed, excepted) spans."""
        ended, paused, since, excepted = int(lease["ended_ms"]), [], None, []
        provider = self.provider(lease["provider"])
        epoch_ms, offset = int(provider["epoch_ms"]), int(provider["grid_offset_ms"])
        for _, live_ms, events in blocks:
            for kind, attributes in events:
                if not kind.startswith("tenure.market.v1.EventLease") or attributes.get("lease_id") != lease["id"]:
                    continue
                kind = kind.removeprefix("tenure.market.v1.EventLease")
                if kind == "Paused":
                    since = int(attributes["at_ms"])
                elif kind == "Resumed":
                    paused.append((since, live_ms))
                    since = None
                elif kind == "Excepted":
                    start = offset + int(attributes["epoch"]) * epoch_ms
                    excepted.append((start, start + epoch_ms))
        if since is not None:
            paused.append((since, ended))
        return paused, self.gaps(lease["provider"]), excepted

    def settled(self, lease_id=1, reason="COMPLETED"):
        """Checks a closed lease against what its blocks say, to the unit. Returns its query and its paid milliseconds."""
        found = self.lease(lease_id)
        lease = found["lease"]
        check(f"state of lease {lease_id}", lease["state"], "LEASE_STATE_CLOSED")
        check(f"reason of lease {lease_id}", lease["reason"], f"CLOSE_REASON_{reason}")
        spans = [(int(lease["ready_ms"]), int(lease["ended_ms"]))]
        for hole in sum(self.holes(lease, self.blocks()), []):
            spans = subtract(spans, hole)
        paid_ms = sum(end - start for start, end in spans)
        money = {part: int(coin["amount"]) for part, coin in found["balance"].items()}
        check("paid", money["paid"], int(lease["rate"]) * paid_ms // MS_PER_HOUR)
        check("protocol fee", money["take"], money["paid"] * int(found["payment"]["take_bps"]) // 10_000)
        check("paid + refunded", money["paid"] + money["refunded"], money["deposited"])
        check("held", money["held"], 0)
        return found, paid_ms

    def paid_whole(self, lease, paid_ms, paused_ms=0):
        """All of a run is paid. A provider dates a program's end by the last block that it saw before; if an epoch begins between the two,
        it excepts the lease from that epoch, and the moment until the end is not paid."""
        ended, provider = int(lease["ended_ms"]), self.provider(lease["provider"])
        moment = (ended - int(provider["grid_offset_ms"])) % int(provider["epoch_ms"])
        unpaid = ended - int(lease["ready_ms"]) - paused_ms - paid_ms
        check_that("all of the run is paid", unpaid == 0 or (unpaid == moment and moment <= 2_000), f"{unpaid} ms are not")

    def prove(self, lease_id, who):
        """A closed lease and a balance that does not change any more, proven from block 1, are what the node says they are; one that is not is proven
        absent."""
        found, height = self.lease(lease_id), int(self.tenure("status")["height"])
        # Proofs are of the block before the newest: everything that is compared must be older.
        self.until("two more blocks", lambda: int(self.rpc.call("status")["sync_info"]["latest_block_height"]) >= height + 2)
        rpc = ["--rpc", f"http://127.0.0.1:{self.rpc_port}"]
        trusted = self.rpc.call("commit", height="1")["signed_header"]["commit"]["block_id"]["hash"]
        first = self.tenure("verify", "lease", lease_id, *rpc, "--trust-height", 1, "--trust-hash", trusted)
        check("lease as proven", first["proven"]["lease"], found["lease"])
        check("payment as proven", first["proven"]["payment"], found["payment"])
        check_that("the headers begin with the one that was named", first["verified_over"][0] == "1", first["verified_over"])
        check("voting power that signed", first["signed_power"], first["total_power"])
        # From here on from the header that was verified last.
        second = self.tenure("verify", "balance", who, *rpc)
        check("balance as proven", int(second["proven"]["amount"]), self.balance(who))
        check_that("it begins where the first ended", int(second["verified_over"][0]) >= height, second["verified_over"])
        self.tenure("verify", "lease", lease_id + 1000, *rpc, code=EXIT_NOT_FOUND)
        wrong = ("0" if trusted[0] != "0" else "1") + trusted[1:]
        self.tenure("verify", "lease", lease_id, *rpc, "--trust-height", 1, "--trust-hash", wrong, code=EXIT_VERIFICATION)

    def sheet(self):
        """The balance sheet adds up, and escrow holds nothing."""
        sheet = self.tenure("bank", "sheet")
        check("sum of the balance sheet", sum(int(row["units"]) for row in sheet["rows"]), int(sheet["supply"]))
        open_leases = [l for l in self.tenure("lease", "list", "--all") if l["state"] != "LEASE_STATE_CLOSED"]
        check("open leases at the end", open_leases, [])
        escrow = [row for row in sheet["rows"] if "escrow" in row["name"].lower()]
        check("money in escrow at the end", escrow, [])
