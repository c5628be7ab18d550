"""GC and STATUS (spec 1.1.0, section 2)."""

import pytest

from conformance.spec import judge
from conformance.spec.conftest import NUMBERS
from tests.lab.world import Host, Json, Pod

VALID = "cni.dev/valid-attachments"


@pytest.fixture
def network(conf: Json, latest: str) -> Json:
    """A network with five addresses for pods."""
    return {**conf, "cniVersion": latest, "ipam": {**conf["ipam"], "subnet": "10.2.0.0/29"}}


def fill(host: Host, network: Json) -> list[Pod]:
    """Use all addresses up."""
    pods = [host.namespace(f"pod{next(NUMBERS)}") for _ in range(5)]
    for pod in pods:
        judge.accepted(pod.add(network))
    return pods


def valid(pods: list[Pod]) -> list[Json]:
    return [{"containerID": pod.name, "ifname": "eth0"} for pod in pods]


def test_gc_frees_what_is_not_valid(host: Host, network: Json) -> None:
    pods = fill(host, network)
    for pod in pods[3:]:
        host.run("ip", "netns", "delete", pod.name)

    judge.silent(host.plugin("GC", {**network, VALID: valid(pods[:3])}))

    for _ in pods[3:]:
        judge.accepted(host.namespace(f"pod{next(NUMBERS)}").add(network))
    judge.refused(host.namespace(f"pod{next(NUMBERS)}").add(network))


def test_gc_keeps_what_is_valid(host: Host, network: Json) -> None:
    pods = fill(host, network)

    judge.silent(host.plugin("GC", {**network, VALID: valid(pods)}))

    assert all(pod.addresses() for pod in pods)
    judge.refused(host.namespace(f"pod{next(NUMBERS)}").add(network))


def test_gc_of_nothing_valid_frees_all(host: Host, network: Json) -> None:
    for pod in fill(host, network):
        host.run("ip", "netns", "delete", pod.name)

    judge.silent(host.plugin("GC", {**network, VALID: []}))

    fill(host, network)


def test_gc_without_a_list_frees_nothing(host: Host, network: Json) -> None:
    pods = fill(host, network)

    host.plugin("GC", network)

    assert all(pod.addresses() for pod in pods)
    judge.refused(host.namespace(f"pod{next(NUMBERS)}").add(network))


def test_status_of_a_network_that_works(host: Host, network: Json) -> None:
    judge.silent(host.plugin("STATUS", network))


def test_status_of_a_network_whose_uplink_is_absent(host: Host, network: Json) -> None:
    judge.refused(host.plugin("STATUS", {**network, "master": "absent0"}), [50, 51])


def test_status_of_a_network_without_a_free_address(host: Host, network: Json) -> None:
    fill(host, network)

    judge.refused(host.plugin("STATUS", network), [50, 51])


def test_status_of_a_network_whose_ipam_is_absent(host: Host, network: Json) -> None:
    judge.refused(host.plugin("STATUS", {**network, "ipam": {"type": "no-such-ipam"}}))
