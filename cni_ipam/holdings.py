"""The blocks and pins that this node holds in a pool, on its disk. The only module that knows the file.

<data directory>/<pool>/cluster      JSON: the section "cluster" of the pool's configuration
<data directory>/<pool>/holdings     JSON: the blocks and pins, and the engine as it was last seen

Unlike leases, holdings outlive the boot: they are synced to the disk. They are written after the engine has
granted them, so that a lost write means a forgotten block, which the next contact with the engine finds, and
never a block that nobody granted. After a boot none is used before the engine has confirmed it, and none in a
copy of the data directory.
"""

import json
import os
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from cni_core import statefile
from cni_core.boot import boot_id
from cni_core.call import AttachmentKey
from cni_ipam.blocks import Block
from cni_ipam.cluster import Cluster, cluster_document, parse_document
from cni_ipam.place import CLUSTER_FILE, HOLDINGS_FILE, Place


class State(Enum):
    """The uses that a block is fit for."""

    HELD = "held"
    DRAINING = "draining"  # its leases stay, none is added; it is given back when it is empty
    RELEASING = "releasing"  # the engine is about to be told, or has been
    LOST = "lost"  # another node holds it: its leases stay, none is added


class HeldBlock(NamedTuple):
    """A block of this node; `revision` is that of its object in the engine."""

    block: Block
    revision: str
    state: State = State.HELD


class HeldPin(NamedTuple):
    """An address that the engine keeps for this node alone.

    `key` is the attachment that has it, None once it is released: it is given back at `until`, in seconds of
    CLOCK_BOOTTIME in this boot; 0 is at once. `is_told`: the engine knows that it is released. `owner` is
    that of the engine's object.
    """

    version: int
    number: int
    revision: str
    key: AttachmentKey | None = None
    keep_s: int = 0
    until: float = 0.0
    is_told: bool = False
    owner: str = ""

    @property
    def at(self) -> tuple[int, int]:
        """The version and number of the address."""
        return self.version, self.number


class Holdings(NamedTuple):
    """The blocks and pins of a node in one pool.

    `confirmed` is the boot in which the engine confirmed them, `incarnation` the node that they are of.
    `size` is the size of new blocks, 0 if the engine was never asked. `foreign` are addresses inside our
    blocks that other nodes have pinned, or that are declined; `aside` are those that will be declined once
    the engine was told, with words for who has them. `engine` and `revision` are the engine's id and
    highest revision so far. No block is claimed before `claim_after`, in seconds of CLOCK_BOOTTIME.
    `draining`: none is claimed ahead of need.
    """

    blocks: tuple[HeldBlock, ...] = ()
    pins: tuple[HeldPin, ...] = ()
    confirmed: str = ""
    incarnation: str = ""
    size: int = 0
    foreign: tuple[tuple[int, int], ...] = ()
    engine: str = ""
    revision: int = 0
    claim_after: float = 0.0
    draining: bool = False
    aside: tuple[tuple[int, int, str], ...] = ()

    @property
    def kept_from_pods(self) -> frozenset[tuple[int, int]]:
        """The versions and numbers of addresses in our blocks that no pod may get."""
        return frozenset((*self.foreign, *((version, number) for version, number, _who in self.aside)))

    @property
    def is_of_this_boot(self) -> bool:
        """Whether the engine confirmed them in this boot, even if that is in doubt now."""
        return boot_id() in self.confirmed

    @property
    def is_contested(self) -> bool:
        """Whether another node has what this one has: it gives that up if it has it from a backup."""
        has_lost = any(held.state is State.LOST for held in self.blocks)
        return has_lost or any(pin.key is not None and not pin.revision for pin in self.pins)

    @property
    def usable(self) -> tuple[Block, ...]:
        """The blocks from which addresses may be leased in this boot."""
        if self.confirmed != boot_id():
            return ()
        return tuple(held.block for held in self.blocks if held.state is State.HELD)

    def find(self, block: Block) -> HeldBlock | None:
        """Return the entry of a block, None if this node has none."""
        return next((held for held in self.blocks if held.block == block), None)

    def pin(self, version: int, number: int) -> HeldPin | None:
        """Return the entry of a pin, None if this node has none."""
        return next((pin for pin in self.pins if (pin.version, pin.number) == (version, number)), None)

    def with_block(self, held: HeldBlock) -> "Holdings":
        """Return the holdings with an entry added or replaced."""
        others = tuple(other for other in self.blocks if other.block != held.block)
        return self._replace(blocks=tuple(sorted((*others, held), key=lambda entry: entry.block)))

    def without_block(self, block: Block) -> "Holdings":
        """Return the holdings without a block."""
        return self._replace(blocks=tuple(other for other in self.blocks if other.block != block))

    def with_pin(self, pin: HeldPin) -> "Holdings":
        """Return the holdings with a pin added or replaced."""
        rest = self.without_pin(pin.version, pin.number)
        return rest._replace(pins=(*rest.pins, pin))

    def without_pin(self, version: int, number: int) -> "Holdings":
        """Return the holdings without a pin."""
        left = tuple(pin for pin in self.pins if (pin.version, pin.number) != (version, number))
        return self._replace(pins=left)


_NONE = Holdings()


class HoldingsFile:
    """The holdings of one pool. Whoever changes them holds the lock of the pool."""

    def __init__(self, place: Place) -> None:
        self._data_dir = place.data_dir
        self._directory = f"{place.data_dir}/{place.pool}"
        self._path = f"{self._directory}/{HOLDINGS_FILE}"
        self._cluster = f"{self._directory}/{CLUSTER_FILE}"

    def read(self) -> Holdings:
        """Return the holdings; none if the file is absent or damaged, since the engine knows them too."""
        return statefile.read_parsed(self._path, self._parsed) or _NONE

    def _parsed(self, document: Mapping[str, Any]) -> Holdings:
        from cni_ipam.identity import is_copy

        found = _parse(document)
        return found._replace(confirmed="") if is_copy(document, self._data_dir) else found

    def write(self, holdings: Holdings) -> None:
        """Replace the holdings durably."""
        statefile.make_directory(self._directory)
        document = {**_document(holdings), "directory": self._data_dir}
        statefile.write_file(self._path, json.dumps(document, indent=1) + "\n", durable=True)

    def cluster(self) -> Cluster | None:
        """Return the section "cluster" as it was last configured, None if the pool is this node's own."""
        return statefile.read_parsed(self._cluster, parse_document)

    def record_cluster(self, cluster: Cluster) -> None:
        """Record the section for calls without a configuration, such as DEL, and for the agent."""
        if self.cluster() != cluster:
            statefile.make_directory(self._directory)
            text = json.dumps(cluster_document(cluster), indent=1) + "\n"
            temporary = f"{self._cluster}.{os.urandom(4).hex()}"  # the lock of the pool is not held
            statefile.write_file(self._cluster, text, durable=True, temporary=temporary)

    def forget_cluster(self) -> None:
        """Make the pool this node's own."""
        statefile.remove_file(self._cluster)


def _document(holdings: Holdings) -> dict[str, Any]:
    return {
        "version": 1,
        "incarnation": holdings.incarnation,
        "confirmed": holdings.confirmed,
        "size": holdings.size,
        "engine": holdings.engine,
        "revision": holdings.revision,
        "claimAfter": holdings.claim_after,
        "draining": holdings.draining,
        "foreign": [list(pair) for pair in holdings.foreign],
        "aside": [list(each) for each in holdings.aside],
        "blocks": [
            {
                "start": held.block.address,
                "size": held.block.size,
                "revision": held.revision,
                "state": held.state.value,
            }
            for held in holdings.blocks
        ],
        "pins": [
            {
                "version": pin.version,
                "number": str(pin.number),
                "revision": pin.revision,
                "key": pin.key.text if pin.key else "",
                "keep": pin.keep_s,
                "until": pin.until,
                "told": pin.is_told,
                "owner": pin.owner,
            }
            for pin in holdings.pins
        ],
    }


def _parse(document: Mapping[str, Any]) -> Holdings:
    """Return the holdings in a document; a damaged one has none, and the engine is asked again."""
    try:
        return Holdings(
            tuple(_parse_block(item) for item in document.get("blocks", ())),
            tuple(_parse_pin(item) for item in document.get("pins", ())),
            str(document.get("confirmed", "")),
            str(document.get("incarnation", "")),
            int(document.get("size", 0)),
            tuple((int(version), int(number)) for version, number in document.get("foreign", ())),
            str(document.get("engine", "")),
            int(document.get("revision", 0)),
            float(document.get("claimAfter", 0)),
            document.get("draining") is True,
            tuple(
                (int(version), int(number), str(who)) for version, number, who in document.get("aside", ())
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return _NONE


def _parse_block(item: Mapping[str, Any]) -> HeldBlock:
    block = Block.parse(str(item["start"]), int(item["size"]))
    return HeldBlock(block, str(item["revision"]), State(item.get("state", "held")))


def _parse_pin(item: Mapping[str, Any]) -> HeldPin:
    key = str(item.get("key", ""))
    return HeldPin(
        int(item["version"]),
        int(item["number"]),
        str(item["revision"]),
        AttachmentKey.parse(key) if key else None,
        int(item.get("keep", 0)),
        float(item.get("until", 0)),
        item.get("told") is True,
        str(item.get("owner", "")),
    )
