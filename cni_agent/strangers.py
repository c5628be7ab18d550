"""Deciding on the answers for addresses that a pod may get next: of strangers, of routers. Pure functions."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

At = tuple[int, int]  # an IP version, and an address as a number

_FEW = 4  # addresses that one host may well have
_ASKED_MOST = 16  # at one look: a switch that limits ARP may close the port for more
_ASKED_IN_ALL = 1600  # by all nodes at their looks of a minute: each pod of the network hears every one


def share(nodes: int) -> int:
    """Return how many free addresses a node of a cluster asks for at one look."""
    return max(1, min(_ASKED_MOST, _ASKED_IN_ALL // max(1, nodes)))


def next_ones(free: Collection[At], after: At | None, most: int) -> list[At]:
    """Return the free addresses to ask for: those that follow the last one of the look before."""
    ordered = sorted(free)
    later = [at for at in ordered if after is not None and at > after]
    return [*later, *(at for at in ordered if after is None or at <= after)][:most]


def routers(asked: Iterable[At], heard: Mapping[At, str]) -> set[str]:
    """Return the MAC addresses of routers with proxy ARP: they answer for most addresses of a version."""
    total = Counter(version for version, _number in asked)
    answers = Counter((version, mac) for (version, _number), mac in heard.items())
    return {mac for (version, mac), n in answers.items() if n > _FEW and 2 * n > total[version]}


def confirmed(
    heard: Mapping[At, str], before: Mapping[At, str], free: Collection[At], most: int
) -> dict[At, str]:
    """Return the answers that the look before had too: a pod of our own may come and go within one."""
    again = sorted(at for at, mac in heard.items() if at in free and before.get(at) == mac)
    return {at: heard[at] for at in again[:most]}


def silences(
    since: Mapping[At, float], declined: Sequence[At], heard: Collection[At], now: float
) -> dict[At, float]:
    """Return the start of each silence, in seconds, of declined addresses."""
    return {at: since.get(at, now) for at in declined if at not in heard}
