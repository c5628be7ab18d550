"""Files of a node that are damaged, and a disk that is full: an error with words, and nothing is leaked."""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_agent.claimer import Claimer
from tests.cluster.etcds import Etcds
from tests.cluster.nodes import POOL, Node
from tests.cluster.proxy import Proxy, slowed
from tests.lab.waiting import wait_until

Damage = Callable[[Path], object]


def text(content: str) -> Damage:
    return lambda path: path.write_text(content)


def unreadable(path: Path) -> None:
    """Make a file that even root cannot read."""
    path.unlink()
    path.mkdir()


def mended(path: Path, content: str) -> None:
    if path.is_dir():
        path.rmdir()
    path.write_text(content)


@pytest.fixture
def node(etcd: Etcds, executable: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Node:
    conf = etcd.conf(prefix=f"/{request.node.name}")
    return Node(executable, tmp_path, conf, "n1", blockSize=2)


def blocks(etcd: Etcds, node: Node) -> list[str]:
    return etcd.keys(f"{node.conf['ipam']['cluster']['prefix']}/v1/block/")


DAMAGED = {
    "empty": text(""),
    "garbage": text("\0\0garbage"),
    "no object": text("[1, 2]"),
    "half": text('{"version": 1, "node": "n1", "incarna'),
    "fields of other kinds": text('{"version": 1, "node": "n1", "incarnation": 7}'),
    "of a later release": text('{"version": 2, "node": "n1", "id": "0123456789abcdef"}'),
    "unreadable": unreadable,
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_identity_is_an_error_and_never_a_new_node(etcd: Etcds, node: Node, damage: Damage) -> None:
    given = [*node.add("a"), *node.add("b")]
    before = blocks(etcd, node)
    path = node.data_dir / ".node"
    whole = path.read_text()
    damage(path)

    while (reply := node.call("ADD", f"c{len(given)}")).status == 0:
        given += reply.addresses  # while a block has room, nobody asks who this node is

    assert reply.code == 5
    assert f"{node.data_dir}/.node" in reply.document["msg"]
    node.delete("a")  # needs no identity
    assert given[0] in node.add("again")
    assert blocks(etcd, node) == before
    mended(path, whole)
    assert len(set(given) | set(node.add("late"))) == len(given) + 1
    assert len(blocks(etcd, node)) == len(before) + 1


def test_a_lost_identity_claims_nothing_before_its_former_node_is_forgotten(etcd: Etcds, node: Node) -> None:
    given = [*node.add("a"), *node.add("b")]
    (node.data_dir / ".node").unlink()
    while (reply := node.call("ADD", f"c{len(given)}")).status == 0:
        given += reply.addresses

    assert reply.code == 11
    assert "cni-ipam forget n1" in reply.document["details"]
    before = set(blocks(etcd, node))
    assert len(before) == len(node.blocks())

    done = node.tool("forget", "n1", "--yes", "--data-dir", str(node.data_dir))
    assert done.returncode == 0, done.stderr
    given += [address for pod in "xyz" for address in node.add(pod)]
    assert len(set(given)) == len(given)
    assert before < set(blocks(etcd, node))  # the former ones stay, for its pods


def test_an_identity_with_additions_of_a_later_release_is_read(etcd: Etcds, node: Node) -> None:
    node.add("a")
    path = node.data_dir / ".node"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2, "color": "blue"}))

    for container in "bcd":
        node.add(container)

    assert len(blocks(etcd, node)) == len(node.blocks())


@pytest.mark.parametrize("damage", [text(""), unreadable], ids=["empty", "unreadable"])
def test_a_damaged_identity_does_not_end_the_agent_s_task(etcd: Etcds, node: Node, damage: Damage) -> None:
    node.add("a")
    said: list[str] = []
    task = Claimer(said.append, str(node.data_dir), contact_s=0)
    task.look_after()
    path = node.data_dir / ".node"
    whole = path.read_text()
    damage(path)

    task.look_after()
    assert any(".node" in words for words in said)

    mended(path, whole)
    node.add("b")

    def has_claimed() -> bool:
        task.look_after()
        return len(blocks(etcd, node)) > 1

    wait_until(has_claimed)


@pytest.mark.parametrize(
    "damage",
    [
        text(""),
        text("garbage"),
        text('{"version": 2, "blocks": [{"start": "10.0.0.3", "size": 7}]}'),
        unreadable,
    ],
    ids=["empty", "garbage", "no block", "unreadable"],
)
def test_damaged_records_of_blocks_are_asked_for_again(etcd: Etcds, node: Node, damage: Damage) -> None:
    given = [*node.add("a"), *node.add("b"), *node.add("c")]
    before, held = blocks(etcd, node), node.blocks()
    path = node.data_dir / POOL / "holdings"
    damage(path)

    if path.is_dir():
        assert node.call("ADD", "d").code == 5
        path.rmdir()
    given += node.add("d")

    assert len(set(given)) == len(given)
    assert set(before) <= set(blocks(etcd, node))
    assert set(held) <= set(node.blocks())
    assert len(node.blocks()) == len(blocks(etcd, node))


# A full disk.


class Disk:
    """A small disk for the files of a node, in a mount namespace of its own: `enter` is put before a call."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        script = f"mount -t tmpfs -o size=256k disk {directory} && echo ready && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self.files = Path(f"/proc/{self._holder.pid}/root{directory}")
        self.enter = ("nsenter", f"--target={self._holder.pid}", "--mount", "--")

    def fill(self) -> None:
        with (self.files / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                return

    def empty(self) -> None:
        (self.files / "filler").unlink()

    def end(self) -> None:
        self._holder.communicate("")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "n1")
    yield made
    made.end()


@pytest.fixture
def proxy(etcd: Etcds) -> Iterator[Proxy]:
    with slowed(etcd.endpoints[0]) as found:
        yield found


@pytest.mark.parametrize("fills_at", ["/block/", "/pool/", "/node/"])
def test_a_disk_that_is_full_between_the_claim_and_its_record(
    etcd: Etcds, executable: Path, tmp_path: Path, disk: Disk, proxy: Proxy, fills_at: str
) -> None:
    """What the engine has granted by then is found again by the next call."""
    prefix = f"/full{fills_at.strip('/')}"
    node = Node(executable, tmp_path, etcd.conf(endpoints=(proxy.url,), prefix=prefix), "n1", blockSize=2)

    def fill(path: str, body: bytes) -> None:
        if path.endswith("txn") and fills_at in _key_of(body):
            disk.fill()

    proxy.on_request = fill

    refused = node.call("ADD", "a", before=disk.enter)

    assert refused.code == 5, refused
    assert "No space left on device" in refused.document["msg"]
    proxy.on_request = None
    assert node.call("ADD", "b", before=disk.enter).code in {5, 11}
    disk.empty()
    given = [address for pod in "cde" for address in node.call("ADD", pod, before=disk.enter).addresses]
    assert len(set(given)) == 3
    holdings = json.loads((disk.files / POOL / "holdings").read_text())
    assert len(holdings["blocks"]) == len(blocks(etcd, node)) == 2
    for pod in "abcde":
        assert node.call("DEL", pod, before=disk.enter).status == 0


def _key_of(body: bytes) -> str:
    return base64.b64decode(json.loads(body)["compare"][0]["key"]).decode()
