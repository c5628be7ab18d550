"""Interface names: the rules of the kernel (dev_valid_name and dev_alloc_name, net/core/dev.c)."""

IFNAME_BYTES = 15


def ifname_problem(name: str) -> str:
    """Return the reason why the kernel would refuse an interface name, "" if there is none."""
    if not name:
        return "is empty"
    if not is_text(name):
        return "is not UTF-8"
    if len(name.encode()) > IFNAME_BYTES:
        return f"is too long: at most {IFNAME_BYTES} bytes"
    if name in {".", ".."}:
        return "is . or .."
    if any(c in "/:" or c.isspace() for c in name):
        return "contains / or : or whitespace characters"
    if "%" in name:  # dev_alloc_name takes net%d as a pattern, and a lone % as an error
        return "contains %"
    return ""


def is_text(value: str) -> bool:
    """Return whether the kernel and files can take a string: one without NUL and lone surrogates."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False
