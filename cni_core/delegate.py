"""Running the IPAM plugin: in this process when it is built in, else by executing it from CNI_PATH.

CNI spec 1.1.0, section 4 "Plugin Delegation": the delegate gets the same environment and configuration, and
its own error is passed on unchanged.
"""

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Literal

from cni_core import waiting
from cni_core.call import Call
from cni_core.context import Context, dispatch
from cni_core.errors import CniError, DelegateError, DelegateFailed
from cni_core.result import Result
from cni_core.result_json import parse_result

if TYPE_CHECKING:
    from subprocess import Popen

_OUTPUT_SHOWN = 300
_LOOK_EVERY_S = 0.5  # to check that the caller still waits
_RELEASING_OVER_LINK = frozenset({"dhcp"})

Verb = Literal["DEL", "CHECK", "STATUS", "GC"]


def needs_link_to_release(ipam_type: str) -> bool:
    """Return whether a plugin releases an address over the pod's own link, which then has to exist still.

    For other plugins the link is deleted first: no other pod may get an address that a link still has.
    """
    return ipam_type in _RELEASING_OVER_LINK


def ipam_add(call: Call, context: Context, ipam_type: str, timeout_s: float) -> Result:
    """Request addresses; a failed request holds none. The caller registers DEL as its undo."""
    load = context.delegates.get(ipam_type)
    if load is not None:
        return load().add(call, context)
    find_plugin(call.path, ipam_type)
    try:
        return _parse_result(call, ipam_type, _execute(call, context, ipam_type, "ADD", timeout_s))
    except CniError:
        # Its changes before that are unknown (CNI spec 1.1.0, section 4, "Delegated Plugin Execution").
        with waiting.unwatched():
            try:
                _execute(call, context, ipam_type, "DEL", timeout_s)
            except CniError as error:
                context.warn(f"undo: {error.msg}")
        raise


def _parse_result(call: Call, ipam_type: str, output: bytes) -> Result:
    try:
        document = json.loads(output)
    except (ValueError, RecursionError) as error:
        shown = output[:_OUTPUT_SHOWN].decode(errors="replace")
        raise DelegateFailed(f"run IPAM plugin {ipam_type} ADD: its output is not JSON", shown) from error
    return parse_result(document, call.cni_version)


def ipam_run(call: Call, context: Context, ipam_type: str, verb: Verb, timeout_s: float) -> None:
    """Run a verb that has no result: DEL, CHECK, STATUS or GC."""
    load = context.delegates.get(ipam_type)
    if load is None:
        _execute(call, context, ipam_type, verb, timeout_s)
    else:
        dispatch(load(), verb, call, context)


def find_plugin(path: tuple[str, ...], plugin_type: str) -> str:
    """Return the executable of a plugin type, or raise DelegateFailed with the directories searched."""
    if "/" in plugin_type:
        raise DelegateFailed(f"find IPAM plugin {plugin_type}: a type is a file name, not a path")
    for directory in path:
        candidate = os.path.join(directory, plugin_type)
        if os.path.isfile(candidate):
            return candidate
    where = ":".join(path)
    raise DelegateFailed(f"find IPAM plugin {plugin_type}: not in CNI_PATH {where}")


def _execute(call: Call, context: Context, ipam_type: str, command: str, timeout_s: float) -> bytes:
    """Run an IPAM plugin and return its output, or raise its error."""
    import subprocess

    what = f"run IPAM plugin {ipam_type} {command}"
    with _start(call, context, ipam_type, command, what) as process:
        try:
            with waiting.aside():
                output, complaints = _communicate(process, timeout_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise DelegateFailed(f"{what}: no answer in {timeout_s:g} s, killed") from error
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    text = complaints.decode(errors="replace").strip()
    if process.returncode == 0:
        if text:
            context.warn(text)
        return output
    raise _delegate_error(what, process.returncode, output, text)


def _start(call: Call, context: Context, ipam_type: str, command: str, what: str) -> "Popen[bytes]":
    import subprocess

    executable = find_plugin(call.path, ipam_type)
    stdin = _in_memory(json.dumps(dict(call.conf)).encode())
    try:
        return subprocess.Popen(
            [executable],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**context.environ, **_identity(call), "CNI_COMMAND": command},
            start_new_session=True,  # so that its own children are killed with it at the deadline
        )
    except OSError as error:
        raise DelegateFailed(f"{what}: {executable}: {error.strerror}") from error
    finally:
        os.close(stdin)


def _identity(call: Call) -> dict[str, str]:
    """Return the variables that name the attachment: a GC releases ones that its own call does not name."""
    given = {"CNI_CONTAINERID": call.container_id, "CNI_IFNAME": call.ifname, "CNI_NETNS": call.netns}
    return {name: value for name, value in given.items() if value}


def _communicate(process: "Popen[bytes]", timeout_s: float) -> tuple[bytes, bytes]:
    """Wait for a process while the caller waits; raises subprocess.TimeoutExpired and CallerGone."""
    import subprocess

    until = time.monotonic() + timeout_s
    while True:
        left = until - time.monotonic()
        try:
            return process.communicate(timeout=max(0.0, min(left, _LOOK_EVERY_S)))
        except subprocess.TimeoutExpired:
            if left <= _LOOK_EVERY_S:
                raise
        waiting.check()


def _in_memory(data: bytes) -> int:
    """Return a descriptor of data in memory: a pipe would have to be fed until its reader has it all."""
    descriptor = os.memfd_create("stdin")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _delegate_error(what: str, status: int, output: bytes, complaints: str) -> Exception:
    """Return the error that the delegate printed, or one that says how it died."""
    try:
        document: Any = json.loads(output)
        return DelegateError(int(document["code"]), str(document["msg"]), str(document.get("details") or ""))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        shown = complaints or output.decode(errors="replace")
        return DelegateFailed(f"{what}: {how}, without an error document", shown[-_OUTPUT_SHOWN:])
