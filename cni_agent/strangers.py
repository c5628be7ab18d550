"""Deciding on the answers for addresses that a pod may get next: of strangers, of routers. Pure functions."""

from collections.abc import Collection, Iterable, Mapping, Sequence

At = tuple[int, int]  # an IP version, and an address as a number

_ASKED_MOST = 16  # at one look: a switch that limits ARP may close the port for more
_ASKED_IN_ALL = 1600  # by all nodes at their looks of a minute: each pod of the network hears every one
_DECLINED_MOST = 4  # at one look, so that a fault of the wire cannot empty a pool at once
_CONTROLS = 4  # one may be in use twice


def share(nodes: int) -> int:
    """Return how many free addresses a node of a cluster asks for at one look."""
    return max(1, min(_ASKED_MOST, _ASKED_IN_ALL // max(1, nodes)))


def next_ones(free: Collection[At], after: At | None, most: int) -> list[At]:
    """Return the next addresses of a tour of all free ones, after the last one of the look before."""
    ordered = sorted(free)
    later = [at for at in ordered if after is not None and at > after]
    return [*later, *(at for at in ordered if after is None or at <= after)][:most]


def controls(leased: Iterable[At], versions: Collection[int]) -> list[At]:
    """Return addresses of this node's pods, some of each version, far from one another."""
    ordered = sorted(leased)
    found = []
    for version in sorted(versions):
        own = [at for at in ordered if at[0] == version]
        found += own[:: -(-len(own) // _CONTROLS)] if own else []
    return found


def routers(controls: Collection[At], heard: Mapping[At, str]) -> set[str]:
    """Return the MAC addresses that answer for all controls of a version, as routers with proxy ARP do.

    A pod does not hear its own node's question, and no other host has all of their addresses.
    """
    found: set[str] = set()
    for version in {version for version, _number in controls}:
        macs = {heard.get(at, "") for at in controls if at[0] == version}
        found |= macs if len(macs) == 1 else set()
    return found - {""}


def room(held: int, declined: int) -> int:
    """Return how many addresses may be declined at a look, never more than half of those held."""
    return max(0, min(_DECLINED_MOST, (held + 1) // 2 - declined))


def confirmed(heard: Mapping[At, str], before: Mapping[At, str], free: Collection[At]) -> dict[At, str]:
    """Return the answers that the look before had too: a pod of our own may come and go within one look."""
    return {at: heard[at] for at in sorted(heard) if at in free and before.get(at) == heard[at]}


def silences(
    since: Mapping[At, float], declined: Sequence[At], heard: Collection[At], now: float
) -> dict[At, float]:
    """Return the start of each silence, in seconds, of declined addresses."""
    return {at: since.get(at, now) for at in declined if at not in heard}
