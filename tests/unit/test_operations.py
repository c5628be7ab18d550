"""The error messages that docs/operations.md explains are those of the code, with their codes."""

import re
from pathlib import Path

import pytest

from cni_core import errors

ROOT = Path(__file__).parents[2]
TABLE = re.findall(
    r"^\| ([0-9, ]+) \| (.*?) \| .* \|$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE
)
CODE = "".join(
    path.read_text() for pattern in ("cni_*/*.py", "launcher/*.c") for path in sorted(ROOT.glob(pattern))
)
GIVEN_BY_THE_KERNEL = {"No space left on device", "Read-only file system"}
FILLED_IN = re.compile(r"9000|1500|eth0|30 s|…|: ")  # what a message holds of the case at hand


def known_codes() -> set[int]:
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    return {int(item.code) for item in classes if issubclass(item, errors.CniError)}


def test_every_code_is_explained() -> None:
    told = {int(code) for codes, _messages in TABLE for code in codes.split(", ")}

    assert told >= known_codes()


@pytest.mark.parametrize("messages", [messages for _codes, messages in TABLE])
def test_a_message_is_in_the_code(messages: str) -> None:
    for message in re.findall("`(.*?)`", messages):
        for part in filter(None, (part.strip() for part in FILLED_IN.split(message))):
            assert part in CODE or part in GIVEN_BY_THE_KERNEL, part
