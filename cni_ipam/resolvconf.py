"""Reading a resolv.conf (resolv.conf(5)) into the DNS part of a result."""

import os

from cni_core.errors import IoFailure
from cni_core.result import DNS


def read_resolv_conf(path: str) -> DNS:
    """Return the settings in a resolv.conf, or raise IoFailure."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse_resolv_conf(file.read())
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()  # as host-local says it, whose users match on it
        raise IoFailure(f"open {path}: {reason}") from error


def parse_resolv_conf(text: str) -> DNS:
    """Return name servers, domain, search list and options; of two search lines the last counts."""
    nameservers: list[str] = []
    options: list[str] = []
    search: list[str] = []
    domain = ""
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        match words:
            case ["nameserver", address, *_]:
                nameservers.append(address)
            case ["domain", name, *_]:
                domain = name
            case ["search", *names]:
                search = names
            case ["options", *given]:
                options += given
            case _:
                pass
    return DNS(tuple(nameservers), domain, tuple(search), tuple(options))
