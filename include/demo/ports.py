"""Ports for servers that take a while to start."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

PORTS = range(20000, 32768)
"""Linux gives others than these (net.ipv4.ip_local_port_range) to whoever asks for any: until our server listens, no
connection and no other server comes first."""


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now."""
    found: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise OSError(f"fewer than {count} of the ports from {PORTS.start} to {PORTS.stop} are free")
