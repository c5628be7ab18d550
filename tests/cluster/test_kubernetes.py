"""The Kubernetes API alone: accounts, rights, the resource types and what people see of them."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cni_agent.claimer import Claimer
from cni_ipam import kubernetes
from cni_ipam.cluster import EngineConf
from cni_ipam.engine import EngineAway, EngineRefused
from cni_ipam.kubernetes import Kubernetes
from tests.cluster.apiserver import AGENT, STRANGER, ApiServer
from tests.cluster.certificates import Certificates
from tests.cluster.nodes import POOL, Node
from tests.cluster.test_engine import INCARNATION, block, made, name

_INSTALL = "kubectl apply -k manifests/kubernetes/overlays/cluster"


def refusal(engine: Kubernetes) -> str:
    """Return the words of an engine that refuses."""
    with pytest.raises(EngineRefused) as found:
        engine.list("block")
    return found.value.msg


# Credentials.


def test_a_token_that_is_not_accepted(api: ApiServer) -> None:
    conf = api.conf("nobody")

    assert refusal(Kubernetes(conf)) == (
        f"list blocks on Kubernetes {api.url}: the credentials in {conf.token_file} are not accepted"
    )


def test_a_token_is_read_again_once_it_is_not_accepted(api: ApiServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("ended\n")
    engine = Kubernetes(api.conf(token_file=str(file)))
    refusal(engine)

    file.write_text(AGENT + "\n")

    engine.list("block")


def test_a_token_is_read_again_after_a_while(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(AGENT)
    engine = Kubernetes(api.conf(token_file=str(file)))
    engine.list("block")
    file.write_text(STRANGER)
    engine.list("block")  # with the token that was read before

    monkeypatch.setattr(kubernetes, "_TOKEN_S", 0.0)
    another = Kubernetes(api.conf(token_file=str(file)))
    refusal(another)
    file.write_text(AGENT)

    another.list("block")


def test_a_token_file_that_is_missing(api: ApiServer, tmp_path: Path) -> None:
    words = refusal(Kubernetes(api.conf(token_file=str(tmp_path / "none"))))

    assert words == f"log in to Kubernetes: token file {tmp_path}/none does not exist"


@pytest.mark.parametrize("text", ["", "\n", "two\nlines", "größe"])
def test_a_token_file_without_a_token(api: ApiServer, tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)

    assert refusal(Kubernetes(api.conf(token_file=str(file)))).endswith(f"token file {file} has no token")


@pytest.mark.parametrize("endpoints", [(), ("https://127.0.0.1:1",)])
def test_no_credentials(endpoints: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(EngineRefused) as found:
        Kubernetes(EngineConf("kubernetes", endpoints)).list("block")

    assert found.value.msg == "log in to Kubernetes: no credentials"
    for word in ("the agent as a pod", "ipam.cluster.server", "tokenFile", "certFile"):
        assert word in found.value.details


def test_an_agent_in_a_pod_finds_its_api_server(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(AGENT)
    (tmp_path / "ca.crt").write_bytes(api.certificates.ca.read_bytes())
    monkeypatch.setattr(kubernetes, "_ACCOUNT", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(urlsplit(api.url).port))

    Kubernetes(EngineConf("kubernetes")).list("block")


def test_an_authority_that_did_not_sign(api: ApiServer, stranger: Certificates) -> None:
    words = refusal(Kubernetes(api.conf(ca_file=str(stranger.ca))))

    assert f"reach Kubernetes on {api.url}: its certificate is not trusted: " in words


# Rights.


def test_who_may_not_list(api: ApiServer) -> None:
    words = refusal(Kubernetes(api.conf(STRANGER)))

    assert 'User "stranger" cannot list resource "vlanblocks"' in words


def test_an_agent_may_do_what_it_has_to(api: ApiServer) -> None:
    """The agent of these tests has the role of the manifests, and nothing else."""
    engine = Kubernetes(api.conf())

    engine.nodes()
    for kind in ("pool", "block", "pin", "want", "node"):
        engine.list(kind)


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("delete", "vlanpools"),
        ("deletecollection", "vlanblocks"),
        ("get", "secrets"),
        ("list", "pods"),
        ("update", "nodes"),
        ("update", "customresourcedefinitions"),
    ],
)
def test_an_agent_may_do_no_more(api: ApiServer, verb: str, resource: str) -> None:
    agent = ("--as=system:serviceaccount:kube-system:cni-vlan", "--all-namespaces")

    assert api.kubectl("auth", "can-i", verb, resource, *agent, check=False).splitlines()[-1] == "no"


# Resource types.


def test_a_resource_type_that_is_missing(api: ApiServer) -> None:
    engine = Kubernetes(api.conf())
    fields = {"pool": "vlan50", "node": "node1", "incarnation": INCARNATION}
    api.kubectl("delete", "crd", "vlanwants.ipam.cni-vlan.io")
    try:
        for ask in (
            lambda: engine.list("want"),
            lambda: engine.read("want", "vlan50.0123456789ab"),
            lambda: engine.create("want", "vlan50.0123456789ab", fields),
        ):
            with pytest.raises(EngineRefused) as found:
                ask()
            assert found.value.msg.endswith(f": the resource type is not installed: {_INSTALL}")
    finally:
        api.install_types()


def test_the_types_are_applied_again_without_a_change(api: ApiServer) -> None:
    before = api.kubectl("get", "crd", "vlanblocks.ipam.cni-vlan.io", "-o", "jsonpath={.metadata.generation}")

    api.install_types()

    assert before == api.kubectl(
        "get", "crd", "vlanblocks.ipam.cni-vlan.io", "-o", "jsonpath={.metadata.generation}"
    )


def resource(kind: str, called: str, **spec: object) -> str:
    return json.dumps(
        {
            "apiVersion": "ipam.cni-vlan.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": called},
            "spec": spec,
        }
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 3}, "spec.size"),
        ({"size": "16"}, "spec.size"),
        ({"start": "10.0.0"}, "spec.start"),
        ({"node": ""}, "spec.node"),
        ({"incarnation": "node1"}, "spec.incarnation"),
        ({"pool": "VLAN50"}, "spec.pool"),
        ({"since": "yesterday"}, "spec.since"),
    ],
)
def test_a_malformed_block_is_rejected(api: ApiServer, change: dict[str, Any], words: str) -> None:
    text = resource("VlanBlock", "vlan50.0a000000", **{**block("vlan50"), **change})

    said = api.kubectl("apply", "--server-side", "-f", "-", stdin=text, check=False)

    assert words in said
    assert Kubernetes(api.conf()).read("block", "vlan50.0a000000") is None


def test_a_block_without_a_node_is_rejected(api: ApiServer) -> None:
    text = resource("VlanBlock", "vlan50.0a000000", pool="vlan50", start="10.0.0.0", size=16)

    said = api.kubectl("apply", "--server-side", "-f", "-", stdin=text, check=False)

    assert "spec.node: Required value" in said


def test_a_refused_object_says_why(api: ApiServer) -> None:
    with pytest.raises(EngineRefused, match=r"HTTP 422: .*spec\.size"):
        Kubernetes(api.conf()).create("block", name("vlan51"), block("vlan51", size=3))


def test_fields_of_a_later_release_are_kept(api: ApiServer) -> None:
    engine = Kubernetes(api.conf())
    fields = block("vlan52", later={"than": ["this"]})

    engine.create("block", name("vlan52"), fields)

    (entry,) = engine.list("block", "vlan52").entries
    assert entry.fields == fields


@pytest.mark.parametrize(
    ("types", "kind", "fields", "heads", "cells"),
    [
        (
            "vlanblocks",
            "block",
            block("vlan53"),
            "NAME POOL START SIZE NODE AGE",
            "vlan53 10.0.0.0 1 node1",
        ),
        (
            "vlanpins",
            "pin",
            {
                "pool": "vlan53",
                "address": "10.0.0.9",
                "node": "node1",
                "incarnation": INCARNATION,
                "owner": "web/db-0",
                "container": "c",
            },
            "NAME POOL ADDRESS NODE OWNER AGE",
            "vlan53 10.0.0.9 node1 web/db-0",
        ),
        (
            "vlanwants",
            "want",
            {"pool": "vlan53", "node": "node1", "incarnation": INCARNATION, "family": 4},
            "NAME POOL NODE FAMILY AGE",
            "vlan53 node1 4",
        ),
        (
            "vlanpools",
            "pool",
            {"pool": "vlan53", "blockSize": 16, "subnets": ["10.0.0.0/24"]},
            "NAME SIZE SUBNETS AGE",
            '16 ["10.0.0.0/24"]',
        ),
        ("vlannodes", "node", {"node": "n", "incarnation": INCARNATION}, "NAME INCARNATION AGE", INCARNATION),
    ],
)
def test_people_see_what_matters(
    api: ApiServer, types: str, kind: str, fields: dict[str, Any], heads: str, cells: str
) -> None:
    engine = Kubernetes(api.conf())
    called = "vlan53" if kind == "pool" else "vlan53.0a000000"
    engine.create(kind, called, fields)  # type: ignore[arg-type] # one of the kinds

    head, row = api.kubectl("get", types, called).splitlines()

    assert head.split() == heads.split()
    assert row.split()[:-1] == [called, *cells.split()]


def test_objects_are_selected_by_pool_and_node(api: ApiServer) -> None:
    engine = Kubernetes(api.conf())
    made(engine, "vlan54")
    engine.create("block", name("vlan54", 1), block("vlan54", 1, node="node2"))
    selector = "ipam.cni-vlan.io/pool=vlan54,ipam.cni-vlan.io/node=node2"

    found = api.kubectl("get", "vlanblocks", "-l", selector, "-o", "name")

    assert found == f"vlanblock.ipam.cni-vlan.io/{name('vlan54', 1)}"


def test_names_longer_than_a_label(api: ApiServer) -> None:
    engine = Kubernetes(api.conf())
    pool = "p" * 100
    node = "n." * 100 + "n"

    engine.create("block", name(pool), block(pool, node=node))

    (entry,) = engine.list("block", pool).entries
    assert entry.fields["node"] == node


def test_an_object_belongs_to_no_other(api: ApiServer) -> None:
    made(Kubernetes(api.conf()), "vlan55")

    found = json.loads(api.kubectl("get", "vlanblocks", name("vlan55"), "-o", "json"))

    assert "ownerReferences" not in found["metadata"]


def test_an_object_of_before_a_restored_backup_is_another(api: ApiServer) -> None:
    engine = Kubernetes(api.conf())
    entry = made(engine, "vlan58")
    number = entry.revision.partition(".")[0]
    other = entry._replace(revision=f"{number}.4b3a4f1c-0000-4000-8000-000000000000")

    assert engine.replace(other, block("vlan58", node="node2")) is None
    assert not engine.delete(other)
    assert engine.read("block", entry.name) == entry


def test_a_long_list_comes_in_pages(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Kubernetes(api.conf())
    for number in range(7):
        made(engine, "vlan56", number)
    monkeypatch.setattr(kubernetes, "_PAGE", 3)

    snapshot = engine.list("block", "vlan56")

    assert len({entry.name for entry in snapshot.entries}) == 7


# Nodes.


@pytest.fixture
def machines(api: ApiServer) -> Iterator[None]:
    """Four Nodes: two without a taint, one that is not reachable, one that is out of service."""
    taints = {
        "node3": {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
        "node4": {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"},
    }
    items = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": each},
            "spec": {"taints": [taints[each]] if each in taints else []},
        }
        for each in ("node1", "node2", "node3", "node4")
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    api.kubectl("apply", "-f", "-", stdin=text)
    yield
    api.kubectl("delete", "-f", "-", stdin=text)


@pytest.mark.parametrize("page", [100, 2])
@pytest.mark.usefixtures("machines")
def test_the_nodes_with_the_proof_of_their_death(
    api: ApiServer, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "_NODES", page)

    found = Kubernetes(api.conf()).nodes()

    assert found == {
        "node1": "",
        "node2": "",
        "node3": "",  # its pods may be alive
        "node4": "taint node.kubernetes.io/out-of-service",
    }


# Absence.


def test_an_api_server_that_hangs_is_away(api: ApiServer) -> None:
    engine = Kubernetes(api.conf())
    engine.list("block")
    api.suspend()
    try:
        start = time.monotonic()
        with pytest.raises(EngineAway, match=r"no answer within 2\.[45] s"):
            engine.list("block")
        assert time.monotonic() - start < 3
    finally:
        api.resume()

    engine.list("block")


def test_an_api_server_without_its_etcd_is_away(api: ApiServer) -> None:
    engine = Kubernetes(api.conf())
    engine.list("block")
    api.etcd.suspend(0)
    try:
        start = time.monotonic()
        with pytest.raises(EngineAway):
            engine.create("block", name("vlan57"), block("vlan57"))
        assert time.monotonic() - start < 3
    finally:
        api.etcd.resume(0)
    api.await_types()

    engine.list("block")


# A backup.


def test_a_node_that_joins_once_a_restored_backup_was_noticed_waits(executable: Path, tmp_path: Path) -> None:
    """The API has no id that differs after a restore: the first node that notices tells those that join."""
    (tmp_path / "api").mkdir()
    with ApiServer(tmp_path / "api") as api:
        api.install_types()
        one, two, three, four = (Node(executable, tmp_path, api.conf(), f"n{n}") for n in range(1, 5))
        one.add("a")
        snapshot = api.etcd.snapshot()
        two.add("x")
        for number in range(200):
            api.etcd.put("/others", str(number))  # the cluster lives on for a while
        agents = {node: Claimer(print, str(node.data_dir), contact_s=0) for node in (one, two)}
        agents[one].look_after()
        api.kill()
        api.etcd.restore(snapshot)
        api.start()
        agents[one].look_after()

        refused = three.call("ADD", "z")
        assert refused.code == 11
        assert "the store was restored from a backup" in refused.document["msg"]
        agents[two].look_after()

        path = three.data_dir / POOL / "holdings"
        path.write_text(json.dumps({**three.holdings(), "claimAfter": 1e-9}))  # the time is over
        three.add("z")
        four.add("z")
        nodes = (one, two, three, four)
        held = [block for node in nodes for block in (*node.blocks(), *node.blocks("draining"))]
        assert len(held) == len(set(held)) == 4
