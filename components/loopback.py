"""This machine's own addresses never go through a proxy, whatever `http_proxy` says.

Called where this package is imported, so that it holds in every command, stage, Bento and test, and in every program
that one of them starts. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

LOOPBACK = "127.0.0.1"  # where every program listens but the gateway, whose address is a parameter
# 0.0.0.0 is where a server listens on all interfaces; as a destination it means this machine.
OWN_ADDRESSES = ("127.0.0.1", "localhost", "::1", "0.0.0.0")  # noqa: S104 - addresses to call, none to listen on
# Some clients prefer one spelling, some the other.
NO_PROXY, ALL_PROXY = ("no_proxy", "NO_PROXY"), ("all_proxy", "ALL_PROXY")


def bypass_proxies(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add this machine's addresses to the user's own exceptions from proxies, in both spellings of the variable."""
    given = [address.strip() for name in NO_PROXY for address in environment.get(name, "").split(",")]
    # An asterisk, which means every address, is understood by urllib and requests only where it stands alone.
    addresses = ["*"] if "*" in given else [*given, *OWN_ADDRESSES]
    exceptions = ",".join(dict.fromkeys(address for address in addresses if address))
    environment.update(dict.fromkeys(NO_PROXY, exceptions))
    for name in ALL_PROXY:
        # GNOME's settings write `socks://`; httpx refuses to make a client at all where it reads that.
        if environment.get(name, "").startswith("socks://"):
            environment[name] = environment[name].replace("socks", "socks5", 1)
