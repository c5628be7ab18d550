"""Network lists through libcni, the library that containerd, CRI-O and podman call plugins with."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.spec.subject import Subject, load
from tests.lab import world
from tests.lab.world import Host, Json, Pod

ROOT = Path(__file__).parents[2]
LIBCNI = ROOT / "dist" / "libcni"
SUBJECTS = {name: ROOT / "conformance" / "subjects" / f"{name}.toml" for name in ("agent", "one-shot")}
MAC = "02:00:00:00:00:77"


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return load(SUBJECTS[request.param])


@pytest.fixture
def host(subject: Subject) -> Iterator[Host]:
    with subject.host() as made:
        yield made


class Runtime:
    """A runtime with one pod and one network list."""

    def __init__(self, host: Host, **keys: Any) -> None:  # noqa: ANN401 - JSON
        self.host = host
        self.pod: Pod = host.namespace("p1")
        self.file = host.scratch / "list.conflist"
        self.environment = {"CNI_PATH": host.cni_path, "CACHE_DIR": str(host.scratch / "cache")}
        plugin = world.network("lan", "eth0", "10.1.0.0/24", "2001:db8::/64")
        self.write({**plugin, **keys})

    def write(self, *plugins: Json, version: str = "1.0.0") -> None:
        stripped = [{k: v for k, v in p.items() if k not in ("name", "cniVersion")} for p in plugins]
        self.file.write_text(json.dumps({"cniVersion": version, "name": "lan", "plugins": stripped}))

    def __call__(self, verb: str, **environment: str) -> Json:
        done = self.host.run(
            str(LIBCNI), verb, str(self.file), self.pod.name, self.pod.netns, "eth0",
            environment={**self.environment, **environment},
        )  # fmt: skip
        found: Json = json.loads(done.stdout) if done.stdout else {}
        return found

    def fails(self, verb: str, **environment: str) -> str:
        with pytest.raises(AssertionError) as caught:
            self(verb, **environment)
        return str(caught.value)


def test_add_check_del(host: Host) -> None:
    runtime = Runtime(host)

    result = runtime("add")
    runtime("check")

    assert runtime.pod.addresses() == ["10.1.0.2/24", "2001:db8::2/64"]
    assert runtime("cached")["ips"] == result["ips"]
    runtime("del")
    runtime("del")
    assert not runtime.pod.has_link("eth0")
    assert host.state() == []


def test_check_with_the_cached_result_sees_damage(host: Host) -> None:
    runtime = Runtime(host)
    runtime("add")
    runtime.pod.ip("address", "delete", "10.1.0.2/24", "dev", "eth0")

    assert "10.1.0.2" in runtime.fails("check")


def test_capabilities_reach_the_plugins(host: Host) -> None:
    runtime = Runtime(host, capabilities={"ips": True, "mac": True})
    asked = {"ips": ["10.1.0.77/24", "2001:db8::77/64"], "mac": MAC}

    runtime("add", CAP_ARGS=json.dumps(asked))

    assert runtime.pod.addresses() == asked["ips"]
    assert runtime.pod.link()["address"] == MAC
    runtime("check", CAP_ARGS=json.dumps(asked))
    runtime("del", CAP_ARGS=json.dumps(asked))
    assert host.state() == []


def test_a_capability_that_is_not_declared_is_not_passed(host: Host) -> None:
    runtime = Runtime(host)

    runtime("add", CAP_ARGS='{"ips": ["10.1.0.77/24"]}')

    assert runtime.pod.addresses()[0] == "10.1.0.2/24"


def test_port_mappings_without_portmap_are_no_error(host: Host) -> None:
    """Pods have addresses of their own: a list needs no portmap, though runtimes pass mappings."""
    runtime = Runtime(host, capabilities={"portMappings": True})

    runtime("add", CAP_ARGS='{"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}')
    runtime("check")

    runtime("del")
    assert host.state() == []


def test_a_chain_with_tuning(host: Host) -> None:
    runtime = Runtime(host)
    tuning = {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "mtu": 1400}
    runtime.write(world.network("lan", "eth0", "10.1.0.0/24"), tuning)

    result = runtime("add")
    runtime("check")

    assert [entry["name"] for entry in result["interfaces"]] == ["eth0"]
    assert runtime.pod.link()["mtu"] == 1400
    assert runtime.pod.sysctl("ipv4/conf/eth0/arp_filter") == "1"
    runtime("del")
    assert host.state() == []


def test_a_chain_whose_second_plugin_fails_is_undone_by_del(host: Host) -> None:
    runtime = Runtime(host)
    broken = {"type": "tuning", "sysctl": {"net.no.such": "1"}}
    runtime.write(world.network("lan", "eth0", "10.1.0.0/24"), broken)

    assert "no/such" in runtime.fails("add")
    runtime("del")

    assert not runtime.pod.has_link("eth0")
    assert host.state() == []


def test_the_error_that_a_person_sees(host: Host) -> None:
    runtime = Runtime(host)
    runtime.write(world.network("lan", "eth7", "10.1.0.0/24"))

    said = runtime.fails("add")

    assert "attach to network lan: parent eth7 does not exist" in said
