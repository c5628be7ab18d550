"""The keys of a pool that many nodes share."""

import json
from typing import Any

import pytest

from cni_ipam.cluster import (
    AUTO,
    BLOCK_SIZE,
    Cluster,
    EngineConf,
    cluster_document,
    parse_cluster,
    parse_document,
)

ETCD = {"store": "etcd", "endpoints": ["https://10.0.0.1:2379"]}
KUBERNETES = {"store": "kubernetes"}
PASSWORD, TOKEN = "/password", "/token"


def parse(
    keys: dict[str, Any], block_size: object = BLOCK_SIZE, pinned: tuple[str, ...] = ()
) -> tuple[Cluster, list[str]]:
    problems: list[str] = []
    return parse_cluster(keys, block_size, pinned, problems), problems  # type: ignore[arg-type] # JSON


@pytest.mark.parametrize(
    ("keys", "engine"),
    [
        (ETCD, EngineConf("etcd", ("https://10.0.0.1:2379",))),
        (KUBERNETES, EngineConf("kubernetes")),
        ({**KUBERNETES, "server": "https://api:6443/"}, EngineConf("kubernetes", ("https://api:6443",))),
        ({**ETCD, "server": "https://api:6443"}, EngineConf("etcd", ("https://10.0.0.1:2379",))),
        ({**ETCD, "endpoints": ["http://a:1/", "http://[fd00::1]:1"]},
         EngineConf("etcd", ("http://a:1", "http://[fd00::1]:1"))),
        ({**ETCD, "prefix": "a/b/"}, EngineConf("etcd", ("https://10.0.0.1:2379",), "/a/b")),
        ({**ETCD, "prefix": "/"}, EngineConf("etcd", ("https://10.0.0.1:2379",), "/")),
        ({**ETCD, "caFile": "/ca", "certFile": "/crt", "keyFile": "/key"},
         EngineConf("etcd", ("https://10.0.0.1:2379",), ca_file="/ca", cert_file="/crt", key_file="/key")),
        ({**ETCD, "user": "ipam", "passwordFile": PASSWORD},
         EngineConf("etcd", ("https://10.0.0.1:2379",), user="ipam", password_file=PASSWORD)),
        ({**KUBERNETES, "tokenFile": TOKEN}, EngineConf("kubernetes", token_file=TOKEN)),
    ],
)  # fmt: skip
def test_the_way_to_an_engine(keys: dict[str, Any], engine: EngineConf) -> None:
    cluster, problems = parse(keys)

    assert problems == []
    assert cluster.engine == engine


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({}, "ipam.cluster.store '': required, \"etcd\" or \"kubernetes\""),
        ({"store": "consul"}, "ipam.cluster.store 'consul': required, \"etcd\" or \"kubernetes\""),
        ({"store": "etcd"}, "ipam.cluster.endpoints: required for etcd"),
        ({**ETCD, "endpoints": []}, "ipam.cluster.endpoints: required for etcd"),
        ({**ETCD, "endpoints": ["10.0.0.1:2379"]},
         "ipam.cluster 10.0.0.1:2379: not an http:// or https:// URL"),
        ({**KUBERNETES, "server": "api"}, "ipam.cluster api: not an http:// or https:// URL"),
        ({**ETCD, "caFile": "ca.crt"}, "ipam.cluster.caFile ca.crt: not an absolute path"),
        ({**KUBERNETES, "tokenFile": "./t"}, "ipam.cluster.tokenFile ./t: not an absolute path"),
        ({**ETCD, "certFile": "/c"}, "ipam.cluster: certFile and keyFile go together"),
        ({**ETCD, "keyFile": "/k"}, "ipam.cluster: certFile and keyFile go together"),
        ({**ETCD, "user": "u"}, "ipam.cluster: user and passwordFile go together"),
        ({**ETCD, "passwordFile": "/p"}, "ipam.cluster: user and passwordFile go together"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_named(keys: dict[str, Any], problem: str) -> None:
    assert parse(keys)[1] == [problem]


def test_all_problems_are_named_at_once() -> None:
    keys = {"store": "etcd", "caFile": "ca", "user": "u"}

    assert len(parse(keys, 3, ("10.0.0.9-10.0.0.1",))[1]) == 5


@pytest.mark.parametrize(("value", "size"), [(1, 1), (2, 2), (16, 16), (256, 256), ("auto", AUTO)])
def test_block_sizes(value: object, size: int) -> None:
    cluster, problems = parse(ETCD, value)

    assert (cluster.block_size, problems) == (size, [])


@pytest.mark.parametrize("value", [0, -16, 3, 24, 512, "16", "Auto", "", None, 16.0])
def test_block_sizes_that_cannot_be(value: object) -> None:
    _cluster, problems = parse(ETCD, value)

    assert problems == [f'ipam.blockSize {value!r}: not a power of two from 1 to 256, nor "auto"']


def numbers(first: int, last: int) -> tuple[int, int]:
    return 0x0A000000 + first, 0x0A000000 + last


@pytest.mark.parametrize(
    ("pinned", "parts"),
    [
        (("10.0.0.9",), [numbers(9, 9)]),
        (("10.0.0.8/30",), [numbers(8, 11)]),
        (("10.0.0.9-10.0.0.20",), [numbers(9, 20)]),
        (("10.0.0.9 - 10.0.0.20",), [numbers(9, 20)]),
        (("10.0.0.9", "10.0.0.10", "10.0.0.1"), [numbers(1, 1), numbers(9, 10)]),
        (("10.0.0.0/28", "10.0.0.8-10.0.0.20"), [numbers(0, 20)]),
    ],
)
def test_pinned_addresses(pinned: tuple[str, ...], parts: list[tuple[int, int]]) -> None:
    cluster, problems = parse(ETCD, pinned=pinned)

    assert problems == []
    assert cluster.pinned_of(4) == parts
    assert cluster.pinned_of(6) == []


def test_pinned_addresses_of_both_families() -> None:
    cluster, problems = parse(ETCD, pinned=("10.0.0.9", "fd00::10/124"))

    assert problems == []
    assert cluster.pinned_of(4) == [numbers(9, 9)]
    assert cluster.pinned_of(6) == [((0xFD00 << 112) + 0x10, (0xFD00 << 112) + 0x1F)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("10.0.0.300", "not an address, a range first-last or a CIDR"),
        ("10.0.0.9/28", "not an address, a range first-last or a CIDR"),
        ("10.0.0.1-", "not an address, a range first-last or a CIDR"),
        ("10.0.0.1-10.0.0.2-10.0.0.3", "not an address, a range first-last or a CIDR"),
        ("fd00::5%eth0", "not an address, a range first-last or a CIDR"),
        ("fd00::5%eth0-fd00::9%eth0", "not an address, a range first-last or a CIDR"),
        ("10.0.0.9-10.0.0.1", "ends before it starts"),
        ("10.0.0.1-fd00::1", "ends before it starts"),
    ],
)
def test_pinned_addresses_that_cannot_be(text: str, problem: str) -> None:
    cluster, problems = parse(ETCD, pinned=(text,))

    assert problems == [f"ipam.pinned {text}: {problem}"]
    assert cluster.pinned == ()


@pytest.mark.parametrize(
    "keys", [ETCD, KUBERNETES, {**ETCD, "user": "u", "passwordFile": "/p", "node": "n1"}]
)
def test_a_pool_remembers_its_section(keys: dict[str, Any]) -> None:
    cluster, _problems = parse(keys, "auto", ("10.0.0.9", "fd00::/120"))

    document = json.loads(json.dumps(cluster_document(cluster)))

    assert parse_document(document) == cluster
    assert hash(parse_document(document)) == hash(cluster)


def test_a_later_release_may_have_written_the_section() -> None:
    cluster, _problems = parse(ETCD)
    document = cluster_document(cluster)
    document["engine"] = {**document["engine"], "later": 1}

    assert parse_document({**document, "later": 1}) == cluster


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"engine": None},
        {"engine": {}},
        {"engine": {"store": "etcd", "endpoints": 1}, "blockSize": 16, "pinned": [], "node": ""},
        {"engine": {"store": "etcd", "endpoints": []}, "blockSize": "x", "pinned": [], "node": ""},
        {"engine": {"store": "etcd", "endpoints": []}, "blockSize": 16, "pinned": [[4]], "node": ""},
    ],
)
def test_a_damaged_section_is_none(document: dict[str, Any]) -> None:
    assert parse_document(document) is None
