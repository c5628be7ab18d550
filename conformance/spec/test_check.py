"""CHECK: an error as soon as something is not as it was left (spec 1.1.0, section 2, CHECK)."""

import copy

import pytest

from conformance.spec import judge
from conformance.spec.conftest import NUMBERS
from tests.lab.world import Json, Pod

DAMAGE = {
    "interface gone": "link delete eth0",
    "interface down": "link set eth0 down",
    "address gone": "address flush dev eth0",
    "default route gone": "route delete default",
    "another hardware address": "link set eth0 address {other}",
}


def test_all_is_as_it_was_left(version_with_check: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version_with_check}
    result = judge.accepted(pod.add(network))

    judge.silent(pod.check(network, result))
    judge.silent(pod.check(network, result))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_told(damage: str, version_with_check: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version_with_check}
    result = judge.accepted(pod.add(network))
    other = "02:00:00:00:" + next(NUMBERS).to_bytes(2).hex(":")
    pod.ip(*damage.format(other=other).split())

    judge.refused(pod.check(network, result))


def test_another_address_than_was_given_is_told(version_with_check: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version_with_check}
    result = copy.deepcopy(judge.accepted(pod.add(network)))
    result["ips"][0]["address"] = "10.1.0.250/24"

    judge.refused(pod.check(network, result))


def test_what_was_never_added_is_told(version_with_check: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version_with_check}
    previous = {
        "cniVersion": version_with_check,
        "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": pod.netns}],
        "ips": [{"version": "4", "address": "10.1.0.9/24", "interface": 0}],
    }

    judge.refused(pod.check(network, previous))


def test_a_previous_result_is_needed(version_with_check: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version_with_check}
    judge.accepted(pod.add(network))

    judge.refused(pod.host.plugin("CHECK", network, pod))


def test_check_changes_nothing(version_with_check: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version_with_check}
    result = judge.accepted(pod.add(network))
    pod.run("ip", "address", "flush", "dev", "eth0")

    pod.check(network, result)

    assert pod.addresses() == []
