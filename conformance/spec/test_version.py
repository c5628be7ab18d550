"""VERSION, and how versions are negotiated (spec 1.1.0, sections 1 and 2)."""

import json

import pytest

from conformance.spec import judge
from conformance.spec.subject import Subject
from tests.lab.world import Host, Json, Pod


@pytest.mark.parametrize("stdin", ['{"cniVersion": "1.0.0"}', '{"cniVersion": "0.4.0"}', "{}", ""])
def test_version_lists_what_is_supported(host: Host, subject: Subject, stdin: str) -> None:
    finished = host.run(host.find(subject.plugin), stdin=stdin, environment={"CNI_COMMAND": "VERSION"})

    document = json.loads(finished.stdout)
    assert document["cniVersion"] in document["supportedVersions"]
    assert {"0.3.1", "0.4.0", "1.0.0"} <= set(document["supportedVersions"])


def test_version_supports_the_newest_specification(supported: list[str]) -> None:
    assert "1.1.0" in supported


def test_the_result_has_the_version_that_was_asked_for(version: str, conf: Json, pod: Pod) -> None:
    result = judge.accepted(pod.add({**conf, "cniVersion": version}))

    assert result["cniVersion"] == version


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_an_unknown_version_is_refused(verb: str, host: Host, conf: Json, pod: Pod) -> None:
    reply = host.plugin(verb, {**conf, "cniVersion": "9.9.9"}, pod)

    judge.refused(reply, [judge.UNSUPPORTED_VERSION])
    judge.untouched(pod)


@pytest.mark.parametrize("wrong", [1, None, "", "x", "1.0", "1.0.0.0", ["1.0.0"]])
def test_a_malformed_version_is_refused_or_the_oldest(wrong: object, conf: Json, pod: Pod) -> None:
    reply = pod.add({**conf, "cniVersion": wrong})

    if reply.status:
        judge.refused(reply, [judge.UNSUPPORTED_VERSION, judge.DECODING, judge.CONFIGURATION])
        judge.untouched(pod)
    else:
        assert wrong in (None, "")
        assert reply.document["cniVersion"] in {"0.1.0", "0.2.0"}


@pytest.mark.parametrize("old", ["0.3.0", "0.3.1"])
def test_check_needs_a_newer_version(old: str, conf: Json, pod: Pod) -> None:
    result = judge.accepted(pod.add({**conf, "cniVersion": old}))

    judge.refused(pod.check({**conf, "cniVersion": old}, result), [judge.UNSUPPORTED_VERSION])


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
@pytest.mark.parametrize("old", ["0.3.0", "0.4.0", "1.0.0"])
def test_gc_and_status_need_the_newest_version(verb: str, old: str, host: Host, conf: Json) -> None:
    judge.refused(
        host.plugin(verb, {**conf, "cniVersion": old}), [judge.UNSUPPORTED_VERSION, judge.ENVIRONMENT]
    )
