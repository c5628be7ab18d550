"""The protocol shell over in-memory inputs and outputs."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from cni_core import plugin
from cni_core.call import Call
from cni_core.context import Context
from cni_core.errors import CniError, PoolExhausted
from cni_core.events import Finished, StageEnded
from cni_core.plugin import ProcessIO
from cni_core.result import SUPPORTED, Interface, IPConfig, Result

ENVIRONMENT = {
    "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": "/n", "CNI_IFNAME": "eth0", "CNI_PATH": "/p",
}  # fmt: skip
Verb = Callable[[Call, Context], Any]


class Run:
    """One run of the shell with one verb, whatever it is called."""

    def __init__(
        self,
        verb: Verb,
        conf: object = None,
        on_event: Callable[[object], None] | None = None,
        **environment: str,
    ) -> None:
        self.stdout = ""
        self.stderr = ""
        self.heard: list[object] = []
        text = (
            conf
            if isinstance(conf, bytes)
            else json.dumps(conf or {"name": "lan", "cniVersion": "1.1.0"}).encode()
        )
        with tempfile.TemporaryDirectory() as attachments:
            self._run(
                verb,
                ProcessIO(
                    {**ENVIRONMENT, **environment},
                    lambda: text,
                    self._out,
                    self._err,
                    lambda event, _call, _context: (on_event or self.heard.append)(event),
                    attachments=attachments,
                ),
            )

    def _run(self, verb: Verb, io: ProcessIO) -> None:
        commands = SimpleNamespace(add=verb, delete=verb, check=verb, status=verb, gc=verb)
        self.status = plugin.run("cni-test", lambda: commands, io, {})

    def _out(self, _status: int, text: str) -> None:
        self.stdout += text

    def _err(self, text: str) -> None:
        self.stderr += text

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.stdout)
        return document


def raising(error: Exception) -> Verb:
    def verb(_call: Call, _context: Context) -> None:
        raise error

    return verb


def nothing(_call: Call, _context: Context) -> Result:
    return Result()


def test_no_command_tells_what_it_is_on_stderr() -> None:
    run = Run(nothing, CNI_COMMAND="")

    assert (run.status, run.stdout) == (0, "")
    assert "CNI protocol versions supported: 0.1.0" in run.stderr


@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL", "GC", "STATUS"])
def test_every_missing_variable_is_named(command: str) -> None:
    run = Run(nothing, CNI_COMMAND=command, CNI_CONTAINERID="", CNI_NETNS="", CNI_IFNAME="", CNI_PATH="")

    needed = {
        "ADD": "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH",
        "CHECK": "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH",
        "DEL": "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH",
        "GC": "CNI_PATH",
        "STATUS": "CNI_PATH",
    }[command]
    assert (run.status, run.document["code"]) == (1, 4)
    assert run.document["msg"] == f"required env variables [{needed}] missing"


@pytest.mark.parametrize(("command", "since"), [("CHECK", "0.4.0"), ("GC", "1.1.0"), ("STATUS", "1.1.0")])
def test_a_verb_needs_its_version(command: str, since: str) -> None:
    for version in SUPPORTED:
        run = Run(lambda _call, _context: None, {"name": "lan", "cniVersion": version}, CNI_COMMAND=command)

        assert run.status == (1 if version < since else 0), version
        assert run.stdout == "" if run.status == 0 else run.document["code"] == 1


def test_a_typed_error_keeps_its_code_and_version() -> None:
    run = Run(raising(PoolExhausted("full", "details")), {"name": "lan", "cniVersion": "0.4.0"})

    assert run.status == 1
    assert run.document == {"cniVersion": "0.4.0", "code": 110, "msg": "full", "details": "details"}


def test_a_bug_is_code_999_with_its_traceback_on_stderr_only() -> None:
    run = Run(raising(ZeroDivisionError("oops")))

    assert (run.status, run.document["code"], run.document["msg"]) == (1, 999, "ZeroDivisionError: oops")
    assert "Traceback" in run.stderr


@pytest.mark.parametrize("stdin", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_code_6(stdin: bytes) -> None:
    run = Run(nothing, stdin or b" ")

    assert (run.status, run.document["code"]) == (1, 6)


def test_events_are_heard_after_the_reply() -> None:
    def verb(_call: Call, context: Context) -> Result:
        context.emit("attached")
        return Result()

    run = Run(verb)

    assert run.heard == ["attached", Finished("lan", 0)]
    assert run.stdout


def test_of_a_verb_that_failed_only_stages_and_the_code_are_heard() -> None:
    def verb(_call: Call, context: Context) -> Result:
        context.emit(StageEnded("config", 1.0))
        context.emit("attached")
        raise PoolExhausted("full")

    assert Run(verb).heard == [StageEnded("config", 1.0), Finished("lan", 110)]


def test_a_listener_that_fails_does_not_change_the_answer() -> None:
    def verb(_call: Call, context: Context) -> Result:
        context.emit("attached")
        return Result()

    def deaf(_event: object) -> None:
        raise BlockingIOError("fork: no process left")

    run = Run(verb, on_event=deaf)

    assert (run.status, run.document["cniVersion"]) == (0, "1.1.0")
    assert "no process left" in run.stderr


def test_a_missing_version_is_the_first() -> None:
    result = Result((Interface("eth0"),), (IPConfig("10.0.0.2/24", "10.0.0.1", 0),))

    run = Run(lambda _call, _context: result, {"name": "lan"})

    assert run.document == {
        "cniVersion": "0.1.0",
        "ip4": {"ip": "10.0.0.2/24", "gateway": "10.0.0.1"},
        "dns": {},
    }


def _subclasses(cls: type[CniError]) -> list[type[CniError]]:
    return [cls, *(deeper for sub in cls.__subclasses__() for deeper in _subclasses(sub))]


def test_every_code_of_ours_is_in_the_tree_that_is_drawn() -> None:
    from cni_core import errors

    drawn = errors.__doc__ or ""
    named = [cls for cls in _subclasses(CniError) if cls.__module__ == errors.__name__]

    missing = [c.__name__ for c in named if c is not errors.DelegateError and f"{c.__name__} " not in drawn]
    assert missing == []
    assert all(str(cls.code) in drawn for cls in named)


def test_a_one_shot_by_hand_without_stdout_says_what_it_is() -> None:
    command = ["sh", "-c", 'exec "$0" -m cni_vlan >&-', sys.executable]

    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})

    assert done.returncode == 0
    assert done.stderr.startswith("cni-vlan: a CNI plugin")
