"""What a hostile or unlucky hand does to configurations, lists and files, and what must not come of it."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.store.ipam import Ipam, Json

VALID = "cni.dev/valid-attachments"


def host_local(executable: Path, data_dir: Path, *range_sets: Sequence[Json]) -> Ipam:
    made = Ipam(executable, data_dir)
    made.conf["ipam"] = {"type": "cni-ipam", "ranges": [*range_sets], "dataDir": str(data_dir)}
    return made


def request(ipam: Ipam, container: str, address: str) -> Json:
    return ipam.call("ADD", container, extra={"runtimeConfig": {"ips": [address]}}).document


TWO_RANGES = (
    {"subnet": "10.1.0.0/16", "rangeStart": "10.1.1.1", "rangeEnd": "10.1.1.1", "gateway": "10.1.0.1"},
    {"subnet": "10.1.0.0/16", "rangeStart": "10.1.2.1", "rangeEnd": "10.1.2.9", "gateway": "10.1.0.2"},
)


def test_of_two_ranges_of_one_subnet_each_has_its_own_gateway(executable: Path, tmp_path: Path) -> None:
    ipam = host_local(executable, tmp_path / "leases", TWO_RANGES)

    (first,) = ipam.call("ADD", "a").document["ips"]
    (second,) = ipam.call("ADD", "b").document["ips"]

    assert (first["address"], first["gateway"]) == ("10.1.1.1/16", "10.1.0.1")
    assert (second["address"], second["gateway"]) == ("10.1.2.1/16", "10.1.0.2")


@pytest.mark.parametrize("gateway", ["10.1.0.1", "10.1.0.2"])
def test_the_gateway_of_no_range_is_given(executable: Path, tmp_path: Path, gateway: str) -> None:
    ipam = host_local(executable, tmp_path / "leases", TWO_RANGES)

    assert request(ipam, "a", gateway)["code"] == 111


def test_a_gateway_in_the_subnet_of_another_range_is_given_by_neither(
    executable: Path, tmp_path: Path
) -> None:
    ranges = [{"subnet": "10.0.0.0/24", "gateway": "10.0.1.2"}], [{"subnet": "10.0.1.0/24"}]
    ipam = host_local(executable, tmp_path / "leases", *ranges)

    assert ipam.add("a") == ["10.0.0.1/24", "10.0.1.3/24"]


def test_a_subnet_within_another_keeps_its_prefix_gateway_and_reservations(
    executable: Path, tmp_path: Path
) -> None:
    ipam = Ipam(
        executable,
        tmp_path / "leases",
        {"subnet": "10.0.0.0/16", "ipRange": "10.0.5.0/31"},
        {"subnet": "10.0.9.0/24", "gateway": "10.0.9.1", "auxAddresses": {"router": "10.0.9.77"}},
    )
    ipam.add("a")
    ipam.add("b")

    (third,) = ipam.call("ADD", "c").document["ips"]

    assert (third["address"], third["gateway"]) == ("10.0.9.2/24", "10.0.9.1")
    assert request(ipam, "d", "10.0.9.77")["code"] == 111
    (asked,) = request(ipam, "e", "10.0.9.78")["ips"]
    assert (asked["address"], asked["gateway"]) == ("10.0.9.78/24", "10.0.9.1")


@pytest.mark.parametrize(
    "valid",
    [
        "abc", {"a": 1}, ["x"], "", False, 0, {}, 5,
        [{"containerId": "a", "ifname": "eth0"}], [{"containerID": "", "ifname": "eth0"}],
    ],
    ids=repr,
)  # fmt: skip
def test_a_list_that_gc_cannot_read_releases_nothing(ipam: Ipam, valid: object) -> None:
    addresses = ipam.add("a")

    reply = ipam.call("GC", extra={VALID: valid})

    assert reply.code == 7
    assert ipam.check("a", addresses).status == 0


def test_an_empty_list_of_gc_releases_all(ipam: Ipam) -> None:
    addresses = ipam.add("a")

    assert ipam.call("GC", extra={VALID: None}).status == 0
    assert ipam.check("a", addresses).code == 120


def test_a_pod_s_name_ends_no_line_of_its_lease(ipam: Ipam) -> None:
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=p\naddress 10.0.0.99/24"
    reply = ipam.call("ADD", "a", before=["env", f"CNI_ARGS={args}"])

    assert ipam.check("a", reply.addresses).status == 0
    assert [lease["address"] for lease in json.loads(leases(ipam))] == reply.addresses


def leases(ipam: Ipam) -> str:
    return ipam.tool("leases", "--json", "--data-dir", str(ipam.data_dir)).stdout


def owner_file(ipam: Ipam) -> Path:
    (path,) = ipam.data_dir.glob("lan/*-*/owners/*")
    return path


@pytest.mark.parametrize("text", ["", "cni-ipam lease 1\n", "nonsense"])
@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_a_lease_whose_text_is_lost_is_released(ipam: Ipam, text: str, verb: str) -> None:
    ipam.add("a")
    owner_file(ipam).write_text(text)

    reply = ipam.call(verb, "a", extra={VALID: None})

    assert reply.status == 0
    assert not list(ipam.data_dir.glob("lan/*-*/leases/*/*"))
    assert ipam.call("ADD", "a").status == 0


def test_a_file_that_is_no_lease_is_stepped_over(ipam: Ipam) -> None:
    ipam.add("a")
    (block,) = ipam.data_dir.glob("lan/*-*/leases/*")
    (block / "core.1234").touch()
    (block.parent / "notes").touch()

    assert ipam.add("b") == ["10.0.0.3/24"]
    assert ipam.call("STATUS").status == 0
    assert ipam.tool("pools", "--data-dir", str(ipam.data_dir)).returncode == 0


@pytest.mark.parametrize("verb", ["ADD", "DEL", "GC", "STATUS"])
def test_a_pool_s_name_leads_out_of_no_directory(ipam: Ipam, verb: str) -> None:
    earlier = ipam.data_dir.parent / "elsewhere" / "00000000-0000-4000-8000-000000000000"
    earlier.mkdir(parents=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (earlier.parent / boot).mkdir()
    ipam.data_dir.mkdir()
    ipam.conf["ipam"]["pool"] = "../elsewhere"

    reply = ipam.call(verb, "a", extra={VALID: None})

    assert reply.code in ({"DEL": (0,), "GC": (0,), "ADD": (7,), "STATUS": (7, 50)}[verb])
    assert earlier.exists()
    assert not (earlier.parent / "lock").exists()


@pytest.mark.parametrize("data_dir", ["/proc/none/leases", "/dev/null/leases", "/sys/none"])
def test_a_directory_that_cannot_be_is_an_error_with_words(ipam: Ipam, data_dir: str) -> None:
    ipam.conf["ipam"]["dataDir"] = data_dir

    reply = ipam.call("ADD", "a")

    assert reply.code == 5
    assert reply.document["msg"].startswith(f"create {data_dir[:9]}")
    assert ipam.call("DEL", "a").status == 0


REFERENCE = Path("/usr/lib/cni/host-local")
RANGE = {"subnet": "10.1.0.0/29"}


@pytest.mark.parametrize(
    "calls",
    [
        [""] * 6,
        ["10.1.0.1"],
        ["10.1.0.5", "10.1.0.5"],
        ["10.9.0.7"],
        ["10.1.0.5", "SAME"],
    ],
    ids=["exhausted", "gateway", "taken", "foreign", "duplicate"],
)
def test_errors_read_as_those_of_host_local(executable: Path, tmp_path: Path, calls: list[str]) -> None:
    shown = []
    for program in (REFERENCE, executable):
        ipam = host_local(program, tmp_path / program.name, [RANGE])
        ipam.conf |= {"cniVersion": "1.0.0", "args": {}}
        document: Json = {}
        for at, address in enumerate(calls):
            container = "c0" if address == "SAME" else f"c{at}"
            args = f"CNI_ARGS=IP={address}" if address not in {"", "SAME"} else "CNI_ARGS="
            document = ipam.call("ADD", container, before=["env", args]).document
        shown.append("; ".join(filter(None, [document["msg"], document.get("details")])))

    assert shown[0] == shown[1]


@pytest.mark.parametrize("args", ["A=1;IP=10.1.0.5;B=2", "IP", "IP=a=b"])
def test_errors_of_arguments_read_as_those_of_host_local(executable: Path, tmp_path: Path, args: str) -> None:
    shown = []
    for program in (REFERENCE, executable):
        ipam = host_local(program, tmp_path / program.name, [RANGE])
        ipam.conf["cniVersion"] = "1.0.0"
        document = ipam.call("ADD", "c", before=["env", f"CNI_ARGS={args}"]).document
        shown.append("; ".join(filter(None, [document["msg"], document.get("details")])))

    assert shown[0] == shown[1]


FIRST = {"subnet": "10.0.0.0/24"}


@pytest.mark.parametrize(
    "changed",
    [
        {"ranges": []},
        {"ranges": [[]]},
        {"ranges": [[FIRST], [{"subnet": "10.0.0.1/24"}]]},
        {"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.3"}]]},
        {"ranges": [[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.1.3"}]]},
        {"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.30", "rangeEnd": "10.0.0.3"}]]},
        {"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "fd00::1"}]]},
        {"ranges": [[{"subnet": "10.0.0.0/24", "gateway": "x"}]]},
        {"ranges": [[{"subnet": "10.0.0.x/24"}]]},
        {"ranges": [[{"subnet": "fd00::%a/64"}]]},
        {"ranges": [[FIRST, {"subnet": "fd00::/64"}]]},
        {"ranges": [[FIRST], [{"subnet": "10.0.0.0/25"}]]},
        {"ranges": [[FIRST, {"subnet": "10.0.0.0/25"}]]},
        {"subnet": "10.0.0.0/24", "ranges": [[{"subnet": "10.0.0.128/25"}]]},
        {"routes": [{"dst": "x"}]},
        {"resolvConf": "/nowhere"},
    ],
    ids=json.dumps,
)
def test_errors_of_configurations_read_as_those_of_host_local(
    executable: Path, tmp_path: Path, changed: Json
) -> None:
    shown = []
    for program in (REFERENCE, executable):
        ipam = host_local(program, tmp_path / program.name, [FIRST])
        ipam.conf |= {"cniVersion": "1.0.0", "args": {}}
        ipam.conf["ipam"] |= {"type": "host-local", **changed}
        document = ipam.call("ADD", "c").document
        shown.append("; ".join(filter(None, [document.get("msg"), document.get("details")])))

    assert shown[0]
    assert shown[0] == shown[1]
