"""The fields of blocks, pins and pools in an engine, read with care and written. Pure functions.

People and other releases write into an engine too: a damaged object is as good as none, and stops nobody.
"""

import contextlib
import ipaddress
from collections.abc import Iterable

from cni_core.call import AttachmentKey
from cni_ipam.blocks import Block
from cni_ipam.cluster import LARGEST_BLOCK
from cni_ipam.engine import NOBODY, EngineRefused, Entry, Fields
from cni_ipam.identity import Identity
from cni_ipam.lease import Tenant
from cni_ipam.ranges import Network, to_address


def is_of(entry: Entry, incarnation: str) -> bool:
    """Return whether an object belongs to a node."""
    return entry.fields.get("incarnation") == incarnation


def block_of(entry: Entry) -> Block | None:
    """Return the block of an object, None if the object is damaged."""
    try:
        size = int(entry.fields["size"])
        return Block.parse(str(entry.fields["start"]), size) if size <= LARGEST_BLOCK else None
    except (KeyError, TypeError, ValueError):
        return None


def block_fields(pool: str, block: Block, me: Identity, since: str) -> Fields:
    """Return the fields of a block of this node."""
    return {
        "pool": pool,
        "start": block.address,
        "size": block.size,
        "node": me.node,
        "incarnation": me.incarnation,
        "since": since,
    }


def pool_fields(pool: str, size: int, engine: str, subnets: Iterable[Network]) -> Fields:
    """Return the fields of a pool; `engine` is the id of the engine in which its blocks are known."""
    return {"pool": pool, "blockSize": size, "engine": engine, "subnets": [str(each) for each in subnets]}


def subnets_of(pool: Entry) -> list[Network]:
    """Return the subnets of a pool, as far as its object names them."""
    listed = pool.fields.get("subnets")
    found = []
    for text in listed if isinstance(listed, list) else ():
        with contextlib.suppress(ValueError):
            found.append(ipaddress.ip_network(str(text)))
    return found


def restored_fields(pool: Entry) -> Fields:
    """Return the fields of a pool whose engine was restored, and has no id that tells so."""
    return {**pool.fields, "engine": "restored"}


def is_of_another_engine(pool: Entry, engine: str) -> bool:
    """Return whether an engine was restored since the pool was written, and nobody has claimed since."""
    return str(pool.fields.get("engine") or engine) != engine


def block_size(entry: Entry) -> int:
    """Return the size of a pool's blocks; raises EngineRefused if its object is damaged."""
    size = entry.fields.get("blockSize")
    if isinstance(size, int) and 1 <= size <= LARGEST_BLOCK and size.bit_count() == 1:
        return size
    raise EngineRefused(
        f"read pool {entry.name}: its blockSize {size!r} is not a power of two up to {LARGEST_BLOCK}"
    )


def pinned(entry: Entry) -> tuple[int, int] | None:
    """Return version and number of a pinned address, None if the object is damaged."""
    try:
        address = ipaddress.ip_address(str(entry.fields["address"]))
    except (KeyError, ValueError):
        return None
    return address.version, int(address)


def pin_fields(pool: str, version: int, number: int, me: Identity, tenant: Tenant) -> Fields:
    """Return the fields of a pin that an attachment of this node has."""
    return {
        "pool": pool,
        "address": str(to_address(version, number)),
        "node": me.node,
        "incarnation": me.incarnation,
        "container": tenant.key.container_id,
        "interface": tenant.key.ifname,
        "owner": tenant.owner or tenant.pod.label,
        "keep": tenant.keep_s,
    }


def declined_fields(pool: str, version: int, number: int, who: str, since: str) -> Fields:
    """Return the fields of a pin that is no node's, since somebody else has the address."""
    return {
        "pool": pool,
        "address": str(to_address(version, number)),
        "node": "-",
        "incarnation": NOBODY,
        "container": "",
        "owner": who,
        "since": since,
    }


def is_declined(entry: Entry) -> bool:
    """Return whether an address is declined: no node may lease it."""
    return is_of(entry, NOBODY)


def is_same(entry: Entry, fields: Fields) -> bool:
    """Return whether an object has all of some fields: an answer that was lost had made it."""
    return all(entry.fields.get(name) == value for name, value in fields.items())


def key_of(entry: Entry) -> AttachmentKey | None:
    """Return the attachment that has a pin, None if none has."""
    container = str(entry.fields.get("container") or "")
    return AttachmentKey(container, str(entry.fields.get("interface"))) if container else None


def number_in(entry: Entry, name: str) -> int:
    """Return a number of an object, 0 if there is none."""
    value = entry.fields.get(name)
    return value if isinstance(value, int) else 0


def family_of(entry: Entry) -> int:
    """Return the IP version of the block that a want asks for."""
    return number_in(entry, "family")


def used_of(node: Entry) -> dict[str, int]:
    """Return the leased addresses of a node by the name of the block, as it has told them last."""
    used = node.fields.get("used")
    return {name: n for name, n in used.items() if isinstance(n, int)} if isinstance(used, dict) else {}


def pools_of(node: Entry) -> list[str] | None:
    """Return the pools that a node has joined; None if its object does not say."""
    pools = node.fields.get("pools")
    return [str(pool) for pool in pools] if isinstance(pools, list) else None


def addresses_of(entry: Entry) -> list[str]:
    """Return the addresses of a block or pin, as text."""
    block = block_of(entry)
    if block is not None:
        first, last = block.interval
        return [str(to_address(block.version, number)) for number in range(first, last + 1)]
    at = pinned(entry)
    return [str(to_address(*at))] if at is not None else []
