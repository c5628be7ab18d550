"""The places that CONTRIBUTING.md names exist."""

import re
from pkgutil import resolve_name

import pytest

from tests.unit.test_architecture import PACKAGES, ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
NAMES = sorted(set(re.findall(rf"`((?:{'|'.join(PACKAGES)})\.[\w.]+)`", TEXT)))


@pytest.mark.parametrize("name", NAMES)
def test_a_named_place_exists(name: str) -> None:
    assert resolve_name(name) is not None


def test_the_table_of_places_is_read() -> None:
    assert "cni_vlan.plan.configure" in NAMES
