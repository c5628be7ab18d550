"""What the command-line tool tells of a node: `doctor` and `networks`."""

import json

import pytest

from tests.lab.world import Host, Json, network

pytestmark = pytest.mark.kernel

LAN = network("lan", "eth0.10", "10.0.0.0/24", "2001:db8::/64")
OTHER = network("other", "eth0.20", "10.2.0.0/24", mode="l2")


class Operator:
    """Somebody at the keyboard of a host with networks below a directory."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.networks = host.scratch / "net.d"
        self.networks.mkdir()

    def configures(self, conf: Json | str, name: str = "") -> None:
        text = conf if isinstance(conf, str) else json.dumps(conf)
        (self.networks / f"{name or json.loads(text)['name']}.conf").write_text(text)

    def sees(self, *command: str, status: int = 0) -> str:
        words = [self.host.find("cni-vlan"), *command, "--conf-dir", str(self.networks)]
        if command[0] == "doctor":
            words += ["--agent", str(self.host.socket)]
        done = self.host.run(*words, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def finds(self, status: int = 0) -> list[tuple[str, str, str]]:
        """Verdict, subject and text of what doctor found."""
        found = json.loads(self.sees("doctor", "--json", status=status))
        assert all(finding["advice"] for finding in found if finding["verdict"] != "ok")
        return [(finding["verdict"], finding["subject"], finding["text"]) for finding in found]


@pytest.fixture
def operator(host: Host) -> Operator:
    return Operator(host)


def test_a_node_that_is_well(host: Host, operator: Operator) -> None:
    host.uplink()
    operator.configures(LAN)
    (pod,) = host.pods("p1")
    pod.attach(LAN)

    found = operator.finds()

    assert {verdict for verdict, _subject, _text in found} == {"ok"}
    assert ("ok", "kernel", "supports macvlan, ipvlan, vlan, dummy") in found
    assert ("ok", "lan", "parent eth0.10 is ready") in found
    assert ("ok", "eth0.10", "carries 1 pod interface") in found
    assert ("ok", "agent", f"listens on {host.socket}") in found
    assert set(host.links()) == {"lo", "eth0", "eth0.10"}


def test_what_is_wrong_with_a_file_is_told(host: Host, operator: Operator) -> None:
    host.uplink()
    operator.configures({**LAN, "mtu": -1, "mode": "brigde"}, "bad")
    operator.configures("{", "worse")
    operator.configures({**OTHER, "paernt": "x"})

    found = operator.finds(status=1)

    assert ("fail", "bad.conf", "mtu -1: must be 0 to 65535") in found
    assert any(v == "fail" and s == "bad.conf" and "brigde" in text for v, s, text in found)
    assert any(v == "fail" and s == "worse.conf" for v, s, _text in found)
    assert ("warn", "other.conf", "unknown key paernt is ignored; did you mean parent?") in found


def test_an_uplink_that_is_missing_or_down_is_told(host: Host, operator: Operator) -> None:
    host.uplink()
    host.ip("link", "set", "eth0", "down")
    operator.configures(LAN)
    operator.configures(network("far", "eth7.5", "10.7.0.0/24"))

    found = operator.finds(status=1)

    assert ("fail", "lan", "eth0 is down") in found
    assert ("fail", "far", "eth7 does not exist") in found


def test_networks_that_cannot_share_a_parent_are_told(host: Host, operator: Operator) -> None:
    host.uplink()
    operator.configures(LAN)
    operator.configures({**LAN, "name": "clash", "mode": "l3"})
    (pod,) = host.pods("p1")
    pod.attach({**LAN, "name": "running", "mode": "l2"})

    found = [
        text
        for verdict, subject, text in operator.finds(status=1)
        if (verdict, subject) == ("fail", "eth0.10")
    ]

    assert any("clash is ipvlan l3" in text and "lan macvlan bridge" in text for text in found)
    assert any("pods use it as ipvlan l2" in text and "lan asks for" in text for text in found)


def test_leftovers_are_told(host: Host, operator: Operator) -> None:
    host.uplink()
    operator.configures(LAN)
    operator.configures(OTHER)
    gone, cut_off = host.pods("p1", "p2")
    gone.attach(LAN)
    cut_off.attach(OTHER)
    host.run("ip", "netns", "delete", gone.name)
    host.ip("link", "delete", "eth0.20")
    host.ip("link", "add", "link", "eth0", "name", "eth0.9", "type", "vlan", "id", "9")
    host.ip("link", "set", "eth0.9", "alias", "cni-vlan parent: vlan 9 802.1q on eth0")

    found = operator.finds(status=1)

    assert ("fail", "eth0.20", "is missing, with 1 pod interface on it") in found
    assert ("warn", "eth0.9", "was created for pods, but has no record of its users") in found
    text = next(text for verdict, subject, text in found if (verdict, subject) == ("warn", "lan"))
    assert "p1:eth0 is gone" in text
    assert "10.0.0.2/24" in text


def test_a_lost_carrier_and_a_full_pool_are_told(host: Host, operator: Operator) -> None:
    router = host.uplink()
    router.run("ip", "link", "set", "trunk", "down")
    small = network("small", "eth0", "10.5.0.0/30", {"subnet": "2001:db8:5::/64"})
    operator.configures(small)
    (pod,) = host.pods("p1")
    pod.attach(small)

    found = operator.finds()

    assert ("warn", "small", "eth0 has no carrier") in found
    assert ("warn", "pool small", "no address of 10.5.0.0/30 is free (1 leased)") in found
    assert [subject for verdict, subject, _text in found if verdict == "warn"] == ["small", "pool small"]


def test_the_host_s_way_to_pods_is_told(host: Host, operator: Operator) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    near = {**LAN, "hostAccess": True}
    operator.configures(near)
    pod.attach(near)

    shown = operator.sees("networks")
    well = operator.finds()
    host.ip("link", "delete", "host-eth0.10")
    gone = operator.finds(status=1)
    pod.detach(near)
    host.run("sh", "-c", "ip link add host-eth0 link eth0 type macvlan mode bridge")
    host.ip("link", "set", "host-eth0", "alias", "cni-vlan shim: host access on eth0")
    left = operator.finds()

    assert (
        "eth0.10 (macvlan bridge, created, removed with its last pod, host access by host-eth0.10)" in shown
    )
    assert {verdict for verdict, _subject, _text in well} == {"ok"}
    assert ("fail", "host-eth0.10", "is missing: the host cannot reach 1 pod interface") in gone
    assert ("warn", "host-eth0", "is left over: no pod needs it") in left


def test_a_container_that_is_gone_is_released(host: Host, operator: Operator) -> None:
    host.uplink()
    operator.configures(LAN)
    gone, stays = host.pods("p1", "p2")
    gone.attach(LAN)
    gone.attach(OTHER, "net1")
    stays.attach(LAN)
    host.run("ip", "netns", "delete", gone.name)

    advice = operator.sees("doctor")
    done = host.run(host.find("cni-vlan"), "release", "p1", "--yes")

    assert "cni-vlan release p1 net1" in advice
    assert done.stdout.count("released container p1") == 2
    assert set(host.links()) == {"lo", "eth0", "eth0.10"}
    assert "p1" not in "\n".join(host.state())
    stays.detach(LAN)
    assert host.state() == []


def test_an_id_that_another_begins_with_is_released_alone(host: Host) -> None:
    host.uplink()
    short, long = host.pods("abc", "abcdef")
    for pod in (short, long):
        pod.attach(LAN)
    host.run("ip", "netns", "delete", short.name)

    host.run(host.find("cni-vlan"), "release", "abc", "--yes")

    assert "abcdef" in "\n".join(host.state())
    assert "abc:eth0" not in "\n".join(host.state()).replace("abcdef", "")
    long.detach(LAN)


def test_a_container_that_lives_is_not_released(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)
    plugin = host.find("cni-vlan")

    refused = host.run(plugin, "release", "p1", "--yes", check=False)
    nobody = host.run(plugin, "release", "p2", "--yes", check=False)
    everybody = host.run(plugin, "release", "", "--yes", "--force", check=False)
    still_there = pod.has_link("eth0")
    host.run(plugin, "release", "p1", "eth0", "--yes", "--force")

    assert refused.returncode == 1
    assert "still exists, at /run/netns/p1" in refused.stderr
    assert "no attachment of such a container" in nobody.stderr
    assert everybody.returncode == 1
    assert still_there
    assert not pod.has_link("eth0")
    assert host.state() == []


def test_no_agent_and_no_network_are_warnings(cold_host: Host) -> None:
    found = Operator(cold_host).finds()

    assert [subject for verdict, subject, _text in found if verdict == "warn"] == ["networks", "agent"]


def test_the_words_for_a_person(host: Host, operator: Operator) -> None:
    host.uplink()
    operator.configures(network("far", "eth7.5", "10.7.0.0/24"))

    shown = operator.sees("doctor", status=1)

    assert "ok    kernel: supports" in shown
    assert "fail  far: eth7 does not exist\n      -> " in shown


def test_networks_are_shown_as_a_tree(host: Host, operator: Operator) -> None:
    host.uplink()
    one, two = host.pods("p1", "p2")
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"
    one.attach(LAN, CNI_ARGS=arguments)
    two.attach(LAN)
    two.attach(OTHER, "net1")
    operator.configures(LAN)
    operator.configures(network("idle", "eth0.30"))

    shown = operator.sees("networks").splitlines()
    told = json.loads(operator.sees("networks", "--json"))

    assert shown == [
        "eth0",
        "├─ eth0.10 (macvlan bridge, created, removed with its last pod)",
        "│  └─ network lan, 2 pods",
        "│     ├─ p2 eth0 10.0.0.3/24 2001:db8::3/64",
        "│     └─ default/web eth0 10.0.0.2/24 2001:db8::2/64",
        "└─ eth0.20 (ipvlan l2 flag bridge, created, removed with its last pod)",
        "   └─ network other, 1 pod",
        "      └─ p2 net1 10.2.0.2/24",
        "idle: no pods on this node",
    ]
    assert told["idle"] == ["idle"]
    assert {parent["name"]: sorted(parent["networks"]) for parent in told["parents"]} == {
        "eth0.10": ["lan"],
        "eth0.20": ["other"],
    }


@pytest.mark.macvlan
def test_nothing_to_show(operator: Operator) -> None:
    assert operator.sees("networks") == "no networks\n"


@pytest.mark.macvlan
def test_who_may_not_ask_the_kernel_is_told_so(host: Host) -> None:
    host.uplink()
    drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]

    done = host.run(*drop, host.find("cni-vlan"), "doctor", check=False)

    assert done.returncode == 1
    assert "ask for links of kind macvlan: Operation not permitted" in done.stderr
    assert "ok" not in done.stdout
