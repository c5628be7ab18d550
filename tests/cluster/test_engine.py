"""What both engines keep: one suite, over real etcd and a real kube-apiserver."""

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from cni_ipam.engine import Engine, EngineAway, Entry, Fields
from cni_ipam.objects import declined_fields
from tests.cluster.conftest import Subject
from tests.cluster.wire import Wire
from tests.lab.ports import free_port

INCARNATION = "0123456789abcdef"
_RACES = 200


def block(pool: str, number: int = 0, **more: object) -> Fields:
    return {
        "pool": pool,
        "start": f"10.0.{number >> 8}.{number & 255}",
        "size": 1,
        "node": "node1",
        "incarnation": INCARNATION,
        "since": "2026-11-27T10:00:00Z",
        **more,
    }


def name(pool: str, number: int = 0) -> str:
    return f"{pool}.{0x0A000000 + number:08x}"


def made(engine: Engine, pool: str, number: int = 0) -> Entry:
    entry = engine.create("block", name(pool, number), block(pool, number))
    assert entry is not None
    return entry


# Objects.


def test_an_object_is_created_once(subject: Subject) -> None:
    first, second = subject.engine(), subject.engine()

    entry = made(first, subject.pool)

    assert (entry.kind, entry.name, entry.fields) == ("block", name(subject.pool), block(subject.pool))
    assert second.create("block", entry.name, block(subject.pool, node="node2")) is None
    assert second.read("block", entry.name) == entry


def test_a_declined_address_is_an_object_that_both_accept(subject: Subject) -> None:
    fields = declined_fields(subject.pool, 4, 0x0A000001, "a host", "2026-11-27T10:00:00Z")

    assert subject.engine().create("pin", name(subject.pool, 1), fields) is not None


def test_an_object_that_is_not_there_is_none(subject: Subject) -> None:
    assert subject.engine().read("block", name(subject.pool)) is None


def test_an_object_is_replaced_by_who_knows_it_as_it_is(subject: Subject) -> None:
    engine = subject.engine()
    entry = made(engine, subject.pool)

    replaced = engine.replace(entry, block(subject.pool, node="node2"))

    assert replaced is not None
    assert replaced.revision != entry.revision
    assert engine.read("block", entry.name) == replaced
    assert engine.replace(entry, block(subject.pool, node="node3")) is None
    assert engine.read("block", entry.name) == replaced


def test_an_object_is_deleted_by_who_knows_it_as_it_is(subject: Subject) -> None:
    engine = subject.engine()
    entry = made(engine, subject.pool)
    replaced = engine.replace(entry, block(subject.pool, node="node2"))
    assert replaced is not None

    assert not engine.delete(entry)
    assert engine.read("block", entry.name) == replaced
    assert engine.delete(replaced)
    assert engine.read("block", entry.name) is None
    assert not engine.delete(replaced)
    assert engine.replace(replaced, block(subject.pool)) is None


def test_an_object_that_was_made_again_is_another(subject: Subject) -> None:
    engine = subject.engine()
    before = made(engine, subject.pool)
    assert engine.delete(before)

    again = made(engine, subject.pool)

    assert again.revision != before.revision
    assert not engine.delete(before)
    assert engine.replace(before, block(subject.pool, node="node2")) is None
    assert engine.read("block", again.name) == again


def test_a_list_has_the_objects_of_one_pool_or_of_all(subject: Subject) -> None:
    engine = subject.engine()
    inner = f"{subject.pool}.b"  # begins with the other's name and a dot
    names = {made(engine, *of).name for of in ((subject.pool, 1), (subject.pool, 2), (inner, 3))}
    want = {"pool": subject.pool, "node": "node1", "incarnation": INCARNATION, "family": 4}
    engine.create("want", f"{subject.pool}.0123456789ab", want)

    assert {entry.name for entry in engine.list("block", subject.pool).entries} == {
        name(subject.pool, 1),
        name(subject.pool, 2),
    }
    assert [entry.name for entry in engine.list("block", inner).entries] == [name(inner, 3)]
    assert names <= {entry.name for entry in engine.list("block").entries}
    assert [entry.fields for entry in engine.list("want", subject.pool).entries] == [want]
    assert engine.list("pin", subject.pool).entries == ()


def test_every_kind_is_kept(subject: Subject) -> None:
    engine, pool = subject.engine(), subject.pool
    node = f"node.{pool}"
    mine = {"node": node, "incarnation": INCARNATION}
    objects: tuple[tuple[str, str, Fields], ...] = (
        ("pool", pool, {"pool": pool, "blockSize": 16, "subnets": ["10.0.0.0/8", "fd00::/64"]}),
        ("block", f"{pool}.fd000000000000000000000000000000", block(pool, start="fd00::", size=256)),
        ("pin", name(pool), {"pool": pool, "address": "10.0.0.9", **mine, "owner": "web/db-0", "keep": 60}),
        ("want", f"{pool}.0123456789ab", {"pool": pool, **mine, "family": 6}),
        ("node", node, {**mine, "boot": "b", "machine": "a:b", "used": {name(pool): 3}}),
    )
    for kind, called, fields in objects:
        entry = engine.create(kind, called, fields)  # type: ignore[arg-type] # one of the kinds
        assert entry is not None
        assert engine.read(entry.kind, called) == entry
        assert entry in engine.list(entry.kind, "" if kind == "node" else pool).entries
        assert engine.create(entry.kind, called, fields) is None


def test_text_comes_back_as_it_was(subject: Subject) -> None:
    engine = subject.engine()
    fields = block(subject.pool, owner="größe/日本-\u2028\"'\\ \U0001f984", empty="", list=["a", 1])

    engine.create("block", name(subject.pool), fields)

    (entry,) = engine.list("block", subject.pool).entries
    assert entry.fields == fields


def test_revisions_grow_with_each_change(subject: Subject) -> None:
    engine = subject.engine()
    seen = [engine.list("block", subject.pool)]

    entry = made(engine, subject.pool)
    seen.append(engine.list("block", subject.pool))
    replaced = engine.replace(entry, block(subject.pool, node="node2"))
    seen.append(engine.list("pin", subject.pool))  # whatever is listed
    assert replaced is not None
    assert engine.delete(replaced)
    seen.append(engine.list("block"))

    revisions = [snapshot.revision for snapshot in seen]
    assert revisions == sorted(set(revisions))
    assert len({snapshot.cluster for snapshot in seen}) == 1


def test_a_list_shows_what_was_just_made(subject: Subject) -> None:
    writer, reader = subject.engine(), subject.engine()
    for number in range(50):
        made(writer, subject.pool, number)
        assert len(reader.list("block", subject.pool).entries) == number + 1


def test_a_name_has_one_winner(subject: Subject) -> None:
    pool = subject.pool
    won: dict[str, list[str]] = {}
    start = threading.Barrier(2)

    def race(node: str) -> None:
        engine = subject.engine()
        engine.list("block", pool)
        start.wait()
        for number in range(_RACES):
            if engine.create("block", name(pool, number), block(pool, number, node=node)) is not None:
                won.setdefault(name(pool, number), []).append(node)

    threads = [threading.Thread(target=race, args=(node,)) for node in ("node1", "node2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    entries = subject.engine().list("block", pool).entries
    assert len(entries) == _RACES
    assert won == {entry.name: [entry.fields["node"]] for entry in entries}


def test_one_engine_serves_many_threads(subject: Subject) -> None:
    engine, pool = subject.engine(), subject.pool
    threads = [threading.Thread(target=made, args=(engine, pool, number)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(engine.list("block", pool).entries) == 24


# Answers that get lost.


@pytest.fixture
def wire(subject: Subject) -> Iterator[Wire]:
    with Wire(urlsplit(subject.conf.endpoints[0]).port or 0) as found:
        yield found


def over(subject: Subject, wire: Wire, *further: str) -> Engine:
    """Return an engine that is asked over a wire, with a connection that is up."""
    scheme = urlsplit(subject.conf.endpoints[0]).scheme
    endpoints = (f"{scheme}://127.0.0.1:{wire.port}", *further)
    engine = subject.open(subject.conf._replace(endpoints=endpoints))
    engine.list("block", subject.pool)
    return engine


def test_a_create_whose_answer_is_lost_is_tried_again(subject: Subject, wire: Wire) -> None:
    engine = over(subject, wire, *subject.conf.endpoints)
    wire.lose = "cut"

    entry = engine.create("block", name(subject.pool), block(subject.pool))

    assert wire.lost == 1
    assert entry is not None
    assert entry == subject.engine().read("block", name(subject.pool))


def test_a_replace_whose_answer_is_lost_is_tried_again(subject: Subject, wire: Wire) -> None:
    engine = over(subject, wire, *subject.conf.endpoints)
    before = made(engine, subject.pool)
    wire.lose = "cut"

    entry = engine.replace(before, block(subject.pool, node="node2"))

    assert wire.lost == 1
    assert entry is not None
    assert entry == subject.engine().read("block", name(subject.pool))


def test_a_delete_whose_answer_is_lost_is_tried_again(subject: Subject, wire: Wire) -> None:
    engine = over(subject, wire, *subject.conf.endpoints)
    before = made(engine, subject.pool)
    wire.lose = "cut"

    assert engine.delete(before)
    assert wire.lost == 1
    assert subject.engine().read("block", name(subject.pool)) is None


def test_what_another_made_is_not_taken_for_an_answer_that_was_lost(subject: Subject, wire: Wire) -> None:
    engine = over(subject, wire, *subject.conf.endpoints)
    before = made(subject.engine(), subject.pool)
    wire.lose = "cut"

    assert engine.create("block", before.name, block(subject.pool, node="node2")) is None
    assert wire.lost == 1


def test_a_create_without_any_answer_is_ambiguous(subject: Subject, wire: Wire) -> None:
    engine = over(subject, wire)
    wire.lose = "hang"

    start = time.monotonic()
    with pytest.raises(EngineAway, match=r"no answer within 2\.[45] s"):
        engine.create("block", name(subject.pool), block(subject.pool))

    assert time.monotonic() - start < 3
    assert subject.engine().read("block", name(subject.pool)) is not None


def test_an_endpoint_that_hangs_leaves_time_for_the_next(subject: Subject, wire: Wire) -> None:
    engine = over(subject, wire, *subject.conf.endpoints)
    wire.lose = "hang"

    start = time.monotonic()
    entry = engine.create("block", name(subject.pool), block(subject.pool))
    took = time.monotonic() - start
    made(engine, subject.pool, 1)

    assert entry == subject.engine().read("block", name(subject.pool))
    assert took < 2
    assert wire.lost == 1  # it was not asked again


def test_nobody_listens(subject: Subject) -> None:
    port, scheme = free_port(), urlsplit(subject.conf.endpoints[0]).scheme
    engine = subject.open(subject.conf._replace(endpoints=(f"{scheme}://127.0.0.1:{port}",)))

    start = time.monotonic()
    with pytest.raises(EngineAway, match=rf"reach \w+ on {scheme}://127.0.0.1:{port}: connection refused"):
        engine.read("block", name(subject.pool))

    assert time.monotonic() - start < 1
