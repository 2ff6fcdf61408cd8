"""Providers: the agent `tenure-agent`, and what the chain says of them."""

from .checks import PRICE, check
from .processes import free_port
from .tenant import Tenant


class Providers(Tenant):
    """Providers beside a tenant on a chain."""

    def start_agent(self, name, price=None, join=True, more=()):
        """A provider. Its port is kept, so that it can be begun again with the same home."""
        home = self.home / name
        argv = [self.programs / "tenure-agent", "--home", home, "--node", self.node_url, "run"]
        if join:
            argv += ["--join", "--bond", "500ten", "--faucet", "--keyring", "test", "--moniker", name]
            argv += ["--listen", f"127.0.0.1:{free_port()}"]
            argv += ["--price", price] if price else []
            argv += more
        serving = f"{name}.log"
        before = (self.home / serving).read_text().count("serving") if (self.home / serving).exists() else 0
        agent = self.spawn(name, argv, self.env)
        self.until(f"{name} serves", lambda: self.alive(agent, name) and agent.text().count("serving") > before)
        return agent

    def owner(self, moniker):
        found = [p["owner"] for p in self.tenure("provider", "list") if p["moniker"] == moniker]
        check(f"providers called {moniker}", len(found), 1)
        return found[0]

    def provider(self, owner):
        return self.tenure("provider", "show", owner)

    def attested(self, owner, lease, least_ms=1):
        """Waits until this much of a lease is attested."""
        wanted = int(lease["ready_ms"]) + least_ms
        self.until("an attestation", lambda: int(self.provider(owner)["final_until_ms"]) >= wanted)

    def open(self, price=PRICE):
        """A chain, one provider, one tenant with money. Returns the provider's process and its owner."""
        self.start_node()
        self.start_tenant()
        agent = self.start_agent("provider", price)
        return agent, self.owner("provider")
