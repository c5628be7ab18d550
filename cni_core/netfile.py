"""Network configuration files as people write them: a single plugin's, or a list of plugins (.conflist)."""

from typing import Any

from cni_core import statefile
from cni_core.document import decode_config
from cni_core.errors import InvalidConfig


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
