"""Network configuration files: for a single plugin, or for a list of plugins (.conflist)."""

import contextlib
import os
from typing import Any

from cni_core import statefile
from cni_core.document import decode_config
from cni_core.errors import CniError, InvalidConfig

CONF_DIR = "/etc/cni/net.d"
_ENDINGS = (".conf", ".conflist", ".json")  # the files that libcni reads


def files(directory: str) -> list[str]:
    """Return the paths of the files in a directory that a runtime reads."""
    names = sorted(statefile.list_directory(directory))
    return [os.path.join(directory, name) for name in names if name.endswith(_ENDINGS)]


def networks(directory: str) -> set[str]:
    """Return the names of the networks that are configured in a directory; skips invalid files."""
    found = set()
    for path in files(directory):
        with contextlib.suppress(CniError):
            found |= {str(plugin["name"]) for plugin in read_plugins(path)}
    return found


def read_plugins(path: str) -> list[dict[str, Any]]:
    """Return the configuration of each plugin in a file, with name and version as a runtime adds them.

    Raises IoFailure, DecodingFailure, or InvalidConfig if the file is absent.
    """
    text = statefile.read_file(path)
    if text is None:
        raise InvalidConfig(f"read {path}: no such file")
    document = decode_config(text.encode())
    plugins = document.get("plugins", [document])
    if not isinstance(plugins, list) or not all(isinstance(plugin, dict) for plugin in plugins):
        raise InvalidConfig(f"{path}: plugins is not a list of objects")
    shared = {key: document[key] for key in ("name", "cniVersion") if key in document}
    return [plugin | shared for plugin in plugins]
