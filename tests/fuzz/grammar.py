"""Configurations, environments and files that nobody would write, next to ones that somebody did."""

import copy
from typing import Any

from hypothesis import strategies as st

Json = Any

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([-1, 0, 1, 255, 256, 4095, 65536, 2**31, 2**32, 2**33, 2**64]),
    st.floats(allow_nan=False),
    st.sampled_from(
        [
            "", " ", ".", "..", "/", "../x", "a/b", "\0", "eth0\0", "\ud800", "x\ud800y", "\n", "a\nb", "%",
            "net%d", "9" * 4400, "eth0." + "9" * 4400, "eth0.1.2.3.4.5.6.7.8.9", "é" * 20, "a" * 300,
            "a" * 5000, "none", "auto", "lo", "eth0", "eth0.5", "far0", "10.0.0.0/24", "10.0.0.5",
            "10.0.0.5-10.0.0.3", "::/0", "fe80::1",
            "0.0.0.0/0", "255.255.255.255/32", "2001:db8::/64", "02:00:00:00:00:01", "cni-ipam", "l2", "l3s",
            "passthru", "source", "802.1ad",
        ]
    ),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.just([[]]),
    st.just([{}]),
    st.just({"a": {"b": [None]}}),
)  # fmt: skip

CONFIGURATION: Json = {
    "cniVersion": "1.1.0",
    "name": "lan",
    "type": "cni-vlan",
    "parent": "eth0",
    "vlan": None,
    "vlanProtocol": "802.1q",
    "driver": None,
    "mode": "bridge",
    "flag": None,
    "internal": False,
    "mtu": 1400,
    "mac": "02:00:00:00:00:07",
    "macAddresses": None,
    "bcqueuelen": 10,
    "linkInContainer": False,
    "announce": 0,
    "acceptRA": False,
    "hostAccess": True,
    "hostRoutes": ["10.96.0.0/12", "fd00::/108"],
    "ipamTimeout": 1,
    "dns": {"nameservers": ["10.0.0.1"], "domain": "x", "search": ["y"], "options": ["z"]},
    "ipam": {
        "type": "cni-ipam",
        "subnets": [
            {
                "subnet": "10.0.0.0/24",
                "ipRange": "10.0.0.0/25",
                "gateway": "10.0.0.1",
                "exclude": ["10.0.0.9"],
            },
            {"subnet": "2001:db8::/64", "auxAddresses": {"a": "2001:db8::9"}},
        ],
        "ranges": None,
        "subnet": None,
        "rangeStart": None,
        "rangeEnd": None,
        "gateway": None,
        "routes": [
            {"dst": "10.9.0.0/16", "gw": "10.0.0.1", "mtu": 1300, "advmss": 1200, "priority": 5, "table": 99}
        ],
        "dns": {"nameservers": ["10.0.0.1"]},
        "resolvConf": None,
        "dataDir": "/var/lib/cni/cni-ipam",
        "pool": "lan",
    },
    "args": {"cni": {"ips": ["10.0.0.20"], "mac": "02:00:00:00:00:08"}},
    "runtimeConfig": {"ips": None, "mac": None, "ipRanges": None},
    "prevResult": None,
    "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}],
}
RESULT: Json = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:07", "sandbox": "/run/netns/pod", "mtu": 1400}],
    "ips": [{"address": "10.0.0.20/24", "gateway": "10.0.0.1", "interface": 0}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "scope": 0}],
    "dns": {"nameservers": ["10.0.0.1"], "search": ["x"]},
}


def paths(document: Json, before: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of a document."""
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    found = [before] if before else []
    for key, value in items:
        found += paths(value, (*before, key))
    return found


@st.composite
def mutated(draw: st.DrawFn, document: Json) -> Json:
    """A document with up to three of its places put to another value, or taken away."""
    changed = copy.deepcopy(document)
    for path in draw(st.lists(st.sampled_from(paths(document)), min_size=1, max_size=3)):
        place: Any = changed
        for key in path[:-1]:
            place = place[key] if _has(place, key) else None
        if _has(place, path[-1]):
            if draw(st.integers(0, 5)) == 0 and isinstance(place, dict):
                del place[path[-1]]
            else:
                place[path[-1]] = copy.deepcopy(draw(HOSTILE))
    return changed


def _has(place: Json, key: str | int) -> bool:
    if isinstance(place, dict):
        return key in place
    return isinstance(place, list) and isinstance(key, int) and key < len(place)


ENVIRONMENTS = st.fixed_dictionaries(
    {
        "CNI_CONTAINERID": st.one_of(st.just("c1"), st.text(max_size=10), st.just("x" * 400)),
        "CNI_IFNAME": st.one_of(
            st.just("eth0"), st.sampled_from(["net%d", "é" * 8, "a\udcff", "all", "lo", "1"])
        ),
        "CNI_NETNS": st.one_of(
            st.just("/run/netns/pod"),
            st.sampled_from(["", "/", "/etc/passwd", "/proc/self/ns/mnt", "x" * 5000]),
        ),
        "CNI_PATH": st.just("/nowhere"),
        "CNI_ARGS": st.one_of(
            st.just(""),
            st.sampled_from(
                [
                    "IP=x",
                    "IP=10.0.0.21",
                    "MAC=02:00:00:00:00:09",
                    "K8S_POD_NAME=a\nb;K8S_POD_NAMESPACE=\udcff",
                    "=",
                    ";;",
                ]
            ),
            st.text(max_size=20),
        ),
    }
)
