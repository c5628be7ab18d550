"""The answers of strangers on the wires of this node, for addresses that its pods may get."""

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from cni_agent import strangers
from cni_agent.strangers import At
from cni_core.errors import LinkFailure
from cni_ipam.ranges import to_address
from cni_net.probe import ROUNDS, answering
from cni_net.rtnl import open_rtnl


class Answers(NamedTuple):
    """The MAC addresses of strangers by address, whether every link could be asked, and troubles in words."""

    heard: dict[At, str]
    is_whole: bool
    troubles: set[str]


def ask(links: Mapping[str, Collection[At]], asked: Sequence[At]) -> Answers:
    """Ask for addresses on links, given with the addresses of their pods; without the answers of routers."""
    heard: dict[At, str] = {}
    routers: set[str] = set()
    troubles = set()
    is_whole = True
    for link, theirs in links.items():
        try:
            answers = _answers(link, asked, rounds=1)
            controls = strangers.controls(theirs, {version for version, _number in answers})
            routers |= strangers.routers(controls, _answers(link, controls))
        except LinkFailure as error:
            troubles.add(f"probe {link}: {_reason(error)}")
            is_whole = False
            continue
        heard |= answers
    for mac in routers & set(heard.values()):
        troubles.add(f"{mac} answers for leased addresses too, as by proxy ARP: none is declined for it")
    return Answers({at: mac for at, mac in heard.items() if mac not in routers}, is_whole, troubles)


def _answers(link: str, asked: Sequence[At], rounds: int = ROUNDS) -> dict[At, str]:
    texts = {str(to_address(*at)): at for at in asked}
    return {texts[text]: mac for text, mac in answering(link, list(texts), rounds).items()}


def _reason(error: LinkFailure) -> str:
    """Return the end of a message: what is before it names an address, another one each time."""
    return error.msg.rpartition(": ")[2]


def of_this_node() -> set[At]:
    """Return the addresses of the node's own links, which do not answer it."""
    with open_rtnl() as rtnl:
        found = [ipaddress.ip_address(own.ip) for own in rtnl.host_addresses()]
    return {(ip.version, int(ip)) for ip in found}
