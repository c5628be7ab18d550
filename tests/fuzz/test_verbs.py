"""Whatever is asked: an answer in JSON, a code that is not "a bug of ours", a DEL that leaves nothing."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_core import plugin
from cni_core.plugin import ProcessIO
from tests.fuzz.grammar import CONFIGURATION, ENVIRONMENTS, RESULT, mutated

GOOD = {
    "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/netns/pod", "CNI_PATH": "/nowhere",
    "CNI_ARGS": "",
}  # fmt: skip
PLUGINS = ("cni-vlan", "cni-ipam")


def call(name: str, verb: str, conf: Any, environment: dict[str, str]) -> tuple[int, Any, str]:  # noqa: ANN401 - JSON
    """Run a verb in this process; return the status, the document and what was said on stderr."""
    from cni_ipam import commands as ipam
    from cni_vlan import commands as vlan

    said: list[str] = []
    answered: list[str] = []
    stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode(errors="surrogatepass")
    io = ProcessIO(
        {**environment, "CNI_COMMAND": verb},
        lambda: stdin,
        lambda _status, text: answered.append(text),
        said.append,
    )
    status = plugin.run(name, lambda: vlan if name == "cni-vlan" else ipam, io, {"cni-ipam": lambda: ipam})
    text = "".join(answered)
    return status, json.loads(text) if text else None, "".join(said)


def judge(status: int, document: Any, said: str) -> None:  # noqa: ANN401 - JSON
    assert "Traceback" not in said, said
    if status:
        assert isinstance(document["code"], int)
        assert document["code"] != 999, document
        assert document["msg"]


def nothing_is_left() -> None:
    shown = json.loads(
        subprocess.run(["ip", "-n", "pod", "-j", "link"], capture_output=True, check=True).stdout
    )
    assert [link["ifname"] for link in shown if link["ifname"] != "lo"] == []
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout)
    assert {link["ifname"] for link in links} == {"lo", "eth0", "far0"}
    assert not list(Path("/var/lib/cni/cni-vlan").glob("parents/*/users/*"))
    assert not list(Path("/var/lib/cni/cni-ipam").glob("*/*-*/leases/*/*"))


@given(mutated(CONFIGURATION), st.sampled_from(PLUGINS))
def test_a_configuration_that_nobody_would_write(conf: Any, name: str) -> None:  # noqa: ANN401 - JSON
    status, document, said = call(name, "ADD", conf, GOOD)
    judge(status, document, said)
    if status == 0:
        judge(*call(name, "CHECK", {**conf, "prevResult": document}, GOOD))
    judge(*call(name, "STATUS", conf, GOOD))
    for verb in ("DEL", "GC"):
        judge(*call(name, verb, conf, GOOD))
    if status == 0 and name == "cni-vlan":
        nothing_is_left()
    if not isinstance(conf.get("ipam"), dict) or not isinstance(conf["ipam"].get("dataDir"), str):
        return
    judge(*call("cni-ipam", "DEL", {**CONFIGURATION, "name": "lan"}, GOOD))


@given(
    ENVIRONMENTS,
    st.sampled_from(("ADD", "DEL", "CHECK", "STATUS", "GC", "", "add")),
    st.sampled_from(PLUGINS),
)
def test_an_environment_that_no_runtime_sets(environment: dict[str, str], verb: str, name: str) -> None:
    conf = {**CONFIGURATION, "prevResult": RESULT}
    status, document, said = call(name, verb, conf, environment)
    judge(status, document, said)
    if status == 0 and verb == "ADD":
        judge(*call(name, "DEL", conf, environment))
        nothing_is_left()


@given(mutated(RESULT), st.sampled_from(("ADD", "CHECK")), st.sampled_from(("1.1.0", "0.4.0", "0.3.1")))
def test_a_previous_result_that_no_plugin_gave(previous: Any, verb: str, version: str) -> None:  # noqa: ANN401 - JSON
    conf = {**CONFIGURATION, "cniVersion": version, "prevResult": previous}
    judge(*call("cni-vlan", verb, conf, GOOD))
    judge(*call("cni-vlan", "DEL", conf, GOOD))
    nothing_is_left()


@given(st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode)), st.sampled_from(PLUGINS))
def test_a_stdin_that_is_no_configuration(stdin: bytes, name: str) -> None:
    for verb in ("ADD", "DEL"):
        judge(*call(name, verb, stdin, GOOD))


TEXTS = st.one_of(
    st.text(max_size=80),
    st.just(""),
    st.just('{"version": 1}'),
    st.just('{"version": 1, "boot": 5, "claim": "x"}'),
    st.just("cni-ipam lease 1\naddress x\ncontainer c1\ninterface eth0\n"),
    st.just("cni-ipam lease 9\naddress 10.0.0.9/24\n"),
    st.dictionaries(
        st.sampled_from(
            ["version", "boot", "key", "network", "parent", "mac", "pod", "link", "uplink", "claim"]
        ),
        st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.text(max_size=3))),
    ).map(json.dumps),
)


@given(TEXTS, st.integers(0, 20), st.booleans())
def test_a_file_that_was_written_by_hand(text: str, which: int, same_boot: bool) -> None:  # noqa: FBT001 - drawn
    subprocess.run(["sh", "-c", "rm -rf /var/lib/cni/*; ip -n pod link delete eth0 2>/dev/null"], check=False)
    result = call("cni-vlan", "ADD", CONFIGURATION, GOOD)
    assert result[0] == 0, result
    files = sorted(path for path in Path("/var/lib/cni").rglob("*") if path.is_file() and path.stat().st_size)
    victim = files[which % len(files)]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if same_boot and text.startswith("{"):
        text = json.dumps({**json.loads(text), "boot": boot})
    victim.write_text(text, encoding="utf-8", errors="replace")
    for verb in ("CHECK", "STATUS", "DEL", "GC"):
        conf = {**CONFIGURATION, "prevResult": result[1], "cni.dev/valid-attachments": None}
        judge(*call("cni-vlan", verb, conf, GOOD))
    again = call("cni-vlan", "ADD", CONFIGURATION, GOOD)
    judge(*again)
    judge(*call("cni-vlan", "DEL", CONFIGURATION, GOOD))


@pytest.fixture(scope="session", autouse=True)
def _agreed(_apart: None) -> None:
    from cni_core import boot

    boot.agree()
