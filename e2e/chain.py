"""One chain of one validator, and what its blocks say."""

import base64
import json
import re
from datetime import datetime

from .checks import check
from .processes import cometbft
from .rpc import fields
from .stage import Stage


class Chain(Stage):
    """A chain."""

    def start_node(self, engine=None):
        """A chain of one validator, on the embedded engine unless another is named."""
        run_file = self.home / "node" / "run.json"
        run_file.unlink(missing_ok=True)
        env = self.env | {
            "TENURED_GRPC_ADDRESS": f"127.0.0.1:{self.grpc}",
            "TENURED_RPC_LADDR": f"tcp://127.0.0.1:{self.rpc_port}",
        }
        argv = [self.programs / "tenured", "devnet", "--fast", "--auto-ports", "--home", self.home / "node"]
        if engine == "comet":
            argv += ["--engine", engine]
            env |= {"TENURE_COMETBFT": cometbft()}
        self.node = self.spawn("node", argv, env)
        self.until("tenured is up", lambda: self.alive(self.node, "tenured") and run_file.exists())
        run = json.loads(run_file.read_text())
        check("gRPC address", run["grpc"], f"127.0.0.1:{self.grpc}")
        check("RPC address", run["rpc"], f"127.0.0.1:{self.rpc_port}")

    def blocks(self):
        """(height, live ms, events) of every block. Live time is header time less what any gap exceeds the chain's limit by."""
        genesis = json.loads((self.home / "node" / "config" / "genesis.json").read_text())
        longest = int(genesis["app_state"]["chain"]["params"]["max_block_gap_ms"])
        top = int(self.rpc.call("status")["sync_info"]["latest_block_height"])
        headers = {}
        for low in range(1, top + 1, 20):
            for meta in self.rpc.call("blockchain", minHeight=str(low), maxHeight=str(min(low + 19, top)))["block_metas"]:
                when = re.fullmatch(r"(.*T\d\d:\d\d:\d\d)(?:\.(\d+))?Z", meta["header"]["time"])
                seconds = int(datetime.fromisoformat(when[1] + "+00:00").timestamp())
                headers[int(meta["header"]["height"])] = seconds * 1000 + int((when[2] or "0").ljust(9, "0")[:9]) // 1_000_000
        halted, last, all_blocks = 0, None, []
        for height in range(1, top + 1):
            now = headers[height]
            halted += max(0, now - last - longest) if last is not None else 0
            last = now
            results = self.rpc.call("block_results", height=str(height))
            events = list(results.get("finalize_block_events") or [])
            for tx in results.get("txs_results") or []:
                events += tx["events"] or []
            named = [(e["type"], {a["key"]: a["value"] for a in e["attributes"]}) for e in events]
            all_blocks.append((height, now - halted, named))
        return all_blocks

    def gaps(self, provider):
        owner = provider.encode()
        request = b"\x0a" + bytes([len(owner)]) + owner
        answer = self.rpc.call("abci_query", path="/tenure.provider.v1.Query/Gaps", data=request.hex())["response"]
        check("code of the query Gaps", answer["code"], 0)
        message = base64.b64decode(answer["value"] or "")
        found = [dict(fields(value)) for number, value in fields(message) if number == 1]
        return [(gap.get(2, 0), gap.get(3, 0)) for gap in found]
