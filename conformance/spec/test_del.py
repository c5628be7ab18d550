"""DEL: it succeeds whatever is left to do (spec 1.1.0, section 2, DEL)."""

from conformance.spec import judge
from tests.lab.world import Host, Json, Pod


def test_it_removes_what_add_made_and_may_be_repeated(version: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version}
    result = judge.accepted(pod.add(network))

    judge.silent(pod.delete({**network, "prevResult": result}))
    judge.untouched(pod)
    judge.silent(pod.delete({**network, "prevResult": result}))


def test_it_needs_no_previous_result(version: str, conf: Json, pod: Pod) -> None:
    judge.accepted(pod.add({**conf, "cniVersion": version}))

    judge.silent(pod.delete({**conf, "cniVersion": version}))

    judge.untouched(pod)


def test_nothing_was_added(version: str, conf: Json, pod: Pod) -> None:
    judge.silent(pod.delete({**conf, "cniVersion": version}))


def test_the_sandbox_is_gone(version: str, host: Host, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version}
    judge.accepted(pod.add(network))
    host.run("ip", "netns", "delete", pod.name)

    judge.silent(pod.delete(network))


def test_the_sandbox_is_not_told(version: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version}
    judge.accepted(pod.add(network))

    judge.silent(pod.delete(network, CNI_NETNS=""))


def test_the_interface_is_gone(version: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version}
    judge.accepted(pod.add(network))
    pod.run("ip", "link", "delete", "eth0")

    judge.silent(pod.delete(network))


def test_the_uplink_is_gone(version: str, host: Host, conf: Json, pod: Pod) -> None:
    other = f"up{pod.name}"
    host.run("ip", "link", "add", other, "type", "veth", "peer", "name", f"far{pod.name}")
    host.run("ip", "link", "set", other, "up")
    host.run("ip", "link", "set", f"far{pod.name}", "up")
    network = {**conf, "cniVersion": version, "master": other}
    judge.accepted(pod.add(network))
    host.run("ip", "link", "delete", other)

    judge.silent(pod.delete(network))


def test_the_address_is_free_again(version: str, conf: Json, pod: Pod) -> None:
    """Of a subnet with five addresses for pods, ten come and go."""
    network = {**conf, "cniVersion": version, "ipam": {**conf["ipam"], "subnet": "10.2.0.0/29"}}
    for _ in range(10):
        judge.accepted(pod.add(network))
        judge.silent(pod.delete(network))


def test_a_late_del_of_another_container_harms_nothing(version: str, conf: Json, pod: Pod) -> None:
    network = {**conf, "cniVersion": version}
    judge.accepted(pod.add(network))

    judge.silent(pod.delete(network, CNI_CONTAINERID="older"))

    assert pod.has_link("eth0"), "another container's interface was removed"
