"""Results in every version, there and back."""

import pytest

from cni_core.errors import DecodingFailure
from cni_core.result import DNS, SUPPORTED, Interface, IPConfig, Result, Route
from cni_core.result_json import parse_result, render_result

FULL = Result(
    (Interface("eth0", "02:00:00:00:00:01", "/run/netns/p", 1400),),
    (IPConfig("10.0.0.2/24", "10.0.0.1", 0), IPConfig("2001:db8::2/64", "", 0)),
    (Route("0.0.0.0/0", "10.0.0.1"), Route("10.9.0.0/16", "10.0.0.9", 1300, 1260, 7, 100, 0)),
    DNS(("10.0.0.53",), "example.org", ("a", "b"), ("ndots:5",)),
)


@pytest.mark.parametrize("version", SUPPORTED)
def test_what_a_version_can_hold_survives(version: str) -> None:
    back = parse_result(render_result(FULL, version), version)

    assert [ip.address for ip in back.ips] == ["10.0.0.2/24", "2001:db8::2/64"]
    assert back.dns == FULL.dns
    assert [route.dst for route in back.routes] == ["0.0.0.0/0", "10.9.0.0/16"]
    if version >= "0.3.0":
        assert [ip.interface for ip in back.ips] == [0, 0]


def test_the_latest_version_holds_everything() -> None:
    assert parse_result(render_result(FULL, "1.1.0"), "1.1.0") == FULL


def test_fields_of_1_1_0_stay_out_of_earlier_results() -> None:
    document = render_result(FULL, "1.0.0")

    assert "mtu" not in document["interfaces"][0]
    assert document["routes"][1] == {"dst": "10.9.0.0/16", "gw": "10.0.0.9"}


def test_ips_have_a_version_from_0_3_0_to_0_4_0_only() -> None:
    for version in ("0.3.0", "0.3.1", "0.4.0"):
        assert [ip["version"] for ip in render_result(FULL, version)["ips"]] == ["4", "6"]
    assert "version" not in render_result(FULL, "1.0.0")["ips"][0]


@pytest.mark.parametrize("document", [None, [], {"ips": [{}]}, {"ips": 7}, {"interfaces": [{"mac": "x"}]}])
def test_rubbish_is_a_decoding_failure(document: object) -> None:
    with pytest.raises(DecodingFailure):
        parse_result(document, "1.1.0")
