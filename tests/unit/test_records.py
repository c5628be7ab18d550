"""Records of every version are read, and the release before reads those of this one."""

import json
from typing import Any

import pytest

from cni_core.call import AttachmentKey, PodId
from cni_vlan.attachment import Claim
from cni_vlan.records import (
    FOUND,
    OURS,
    AttachmentRecord,
    ParentRecord,
    attachment_document,
    lasting_conf,
    parent_document,
    parse_attachment,
    parse_parent_record,
)

Json = dict[str, Any]
BOOT = "60b96285-0ef2-428b-ae78-ce420d26f205"
KEY = AttachmentKey("c1", "eth0")
ATTACHMENT_1 = {
    "version": 1, "boot": BOOT, "key": "c1:eth0", "network": "lan", "parent": "eth0.10", "mac": "",
    "pod": "default/web",
}  # fmt: skip
PARENT_1 = {"version": 1, "boot": BOOT, "link": "ours", "uplink": "eth0", "claim": ["macvlan", "bridge", ""]}
ATTACHMENT = AttachmentRecord(
    KEY, "lan", "eth0.10", "02:00:00:00:00:01", PodId("default", "web", "u-1"), "/run/netns/p1",
    {"parent": "eth0.10"}, {"ips": [{"address": "10.0.0.2/24"}]},
)  # fmt: skip
PARENT = ParentRecord("eth0.10", OURS, "eth0", Claim("macvlan", "bridge", ""), 10, "802.1q")
ISOLATED = ParentRecord("dm-lan", OURS, network="lan")


def as_written(document: Json) -> Json:
    read: Json = json.loads(json.dumps(document))
    return read


def test_version_1_of_an_attachment() -> None:
    read = parse_attachment(ATTACHMENT_1, BOOT)

    assert read == AttachmentRecord(KEY, "lan", "eth0.10", pod=PodId("default", "web"))
    assert read is not None
    assert read.addresses == ()


def test_version_1_of_a_parent() -> None:
    assert parse_parent_record("eth0.10", PARENT_1, BOOT) == PARENT._replace(vlan_id=0, protocol="")
    found = {**PARENT_1, "link": "found", "uplink": "", "claim": None}
    assert parse_parent_record("eth0", found, BOOT) == ParentRecord("eth0", FOUND)


@pytest.mark.parametrize("record", [PARENT, ISOLATED, ParentRecord("eth0", FOUND)])
def test_a_parent_is_read_as_it_was_written(record: ParentRecord) -> None:
    assert parse_parent_record(record.name, as_written(parent_document(record, BOOT)), BOOT) == record


def test_an_attachment_is_read_as_it_was_written() -> None:
    read = parse_attachment(as_written(attachment_document(ATTACHMENT, BOOT)), BOOT)

    assert read == ATTACHMENT
    assert read is not None
    assert read.addresses == ("10.0.0.2/24",)


def test_the_first_release_reads_what_is_written_now() -> None:
    """It takes each of its fields by name, and the claim as three words."""
    attachment = as_written(attachment_document(ATTACHMENT, BOOT))
    parent = as_written(parent_document(PARENT, BOOT))

    assert {key: attachment[key] for key in ATTACHMENT_1} == {
        **ATTACHMENT_1, "version": 4, "mac": "02:00:00:00:00:01",
    }  # fmt: skip
    assert {key: parent[key] for key in PARENT_1} == {**PARENT_1, "version": 4}


def test_fields_and_words_of_a_later_version_are_stepped_over() -> None:
    attachment = {**as_written(attachment_document(ATTACHMENT, BOOT)), "version": 4, "colour": "blue"}
    parent = {
        **as_written(parent_document(PARENT, BOOT)),
        "version": 4,
        "claim": ["macvlan", "bridge", "", "new"],
    }

    assert parse_attachment(attachment, BOOT) == ATTACHMENT
    assert parse_parent_record("eth0.10", parent, BOOT) == PARENT


@pytest.mark.parametrize(
    "damage",
    [
        {"boot": "another"}, {"boot": None}, {"network": 5}, {"parent": None}, {"key": ""}, {"pod": []},
        {"mac": {}}, {"sandbox": 7},
    ],
)  # fmt: skip
def test_an_attachment_that_was_damaged_is_none(damage: Json) -> None:
    assert parse_attachment({**attachment_document(ATTACHMENT, BOOT), **damage}, BOOT) is None
    assert parse_attachment({}, BOOT) is None


@pytest.mark.parametrize(
    "damage", [{"boot": "another"}, {"link": 5}, {"link": None}, {"uplink": 3}, {"network": []}]
)
def test_a_parent_that_was_damaged_is_none(damage: Json) -> None:
    assert parse_parent_record("eth0.10", {**parent_document(PARENT, BOOT), **damage}, BOOT) is None
    assert parse_parent_record("eth0.10", {}, BOOT) is None


@pytest.mark.parametrize("claim", [None, "macvlan", ["macvlan"], ["macvlan", "bridge", 5], {}])
def test_a_claim_that_was_damaged_is_none(claim: object) -> None:
    read = parse_parent_record("eth0.10", {**parent_document(PARENT, BOOT), "claim": claim}, BOOT)

    assert read == PARENT._replace(claim=None)


def test_a_configuration_is_kept_without_what_only_an_add_reads() -> None:
    conf = {
        "name": "lan", "parent": "eth0.10", "mode": "bridge",
        "prevResult": {}, "runtimeConfig": {"ips": []}, "args": {}, "cni.dev/valid-attachments": [],
        "ipam": {"type": "cni-ipam", "pool": "p", "dataDir": "/d", "subnets": [{"subnet": "10.0.0.0/24"}]},
    }  # fmt: skip
    other = {"type": "static", "addresses": [{"address": "10.0.0.9/24"}]}

    assert lasting_conf(conf) == {
        "name": "lan", "parent": "eth0.10", "mode": "bridge",
        "ipam": {"type": "cni-ipam", "pool": "p", "dataDir": "/d"},
    }  # fmt: skip
    assert lasting_conf({**conf, "ipam": other})["ipam"] == other
