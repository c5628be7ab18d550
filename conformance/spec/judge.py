"""What the specification asks of an answer."""

import json
from collections.abc import Collection

from tests.lab.world import Json, Pod, Reply

UNSUPPORTED_VERSION, ENVIRONMENT, IO_FAILURE, DECODING, CONFIGURATION, TRY_AGAIN = 1, 4, 5, 6, 7, 11


def accepted(reply: Reply) -> Json:
    """A success of ADD: one JSON document and nothing else on stdout."""
    assert reply.status == 0, f"refused: {reply.stdout}{reply.stderr}"
    return reply.document


def silent(reply: Reply) -> None:
    """A success of DEL, CHECK, GC or STATUS: nothing on stdout."""
    assert reply.status == 0, f"refused: {reply.stdout}{reply.stderr}"
    assert reply.stdout.strip() == "", f"printed on stdout: {reply.stdout}"


def refused(reply: Reply, codes: Collection[int] = ()) -> Json:
    """An error: a status that is not 0, one JSON document with a code and a message on stdout."""
    assert reply.status != 0, f"succeeded: {reply.stdout}"
    error: Json = json.loads(reply.stdout)
    assert isinstance(error["code"], int), error
    assert error["code"] > 0, error
    assert isinstance(error["msg"], str), error
    assert error["msg"], error
    assert "Traceback" not in reply.stderr, reply.stderr
    assert "panic" not in reply.stderr, reply.stderr
    if codes:
        assert error["code"] in codes, (
            f"code {error['code']}, not {' or '.join(map(str, codes))}: {error['msg']}"
        )
    return error


def untouched(pod: Pod) -> None:
    """Nothing but the loopback in the pod."""
    names = [link["ifname"] for link in pod.ip("link")]
    assert names == ["lo"], f"left in the sandbox: {names}"
