"""Who is at work on a run, so that drivers that share a store train nothing twice.

A claim is a lease: its owner renews it with every heartbeat, and loses it when it stays silent for LEASE_SECONDS
or when its process is gone from this host. Claims spare work, they do not guard results: should two owners train
one run after all, its numbers are the same and the store keeps the first.
"""

import os
import socket
import uuid
from dataclasses import dataclass
from functools import cache

LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 2.0


@dataclass(frozen=True)
class Owner:
    """One call of `run`."""

    id: str
    host: str
    pid: int

    @classmethod
    def here(cls) -> "Owner":
        """A new owner, in this process."""
        return cls(uuid.uuid4().hex, this_host(), os.getpid())


@dataclass(frozen=True)
class Claim:
    """A run that somebody said to be training."""

    fingerprint: str
    owner: Owner
    expires: float
    """Seconds since 1970."""
    alive: bool
    """False: its owner is gone, and anybody may take the run over."""
    update: int | None = None
    num_updates: int | None = None
    tokens_per_second: float | None = None


def is_abandoned(host: str, pid: int, expires: float, now: float) -> bool:
    """Whether a claim may be taken over.

    A lease is never granted for more than LEASE_SECONDS. One that lies further ahead was granted before the clock
    was set back; it is void, or else it would hold its run for as long as the clock was moved. Its owner, if it
    lives, has a lease by the new clock after its next heartbeat.
    """
    if expires <= now or expires > now + 2 * LEASE_SECONDS:
        return True
    return host == this_host() and not _is_running(pid)


@cache
def this_host() -> str:
    """Names the machine and, where there are such, the container: process numbers mean nothing in another one."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
