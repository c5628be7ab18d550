"""Who a node is: the same after a new name, another after its disk was cloned."""

import json
import shutil
from pathlib import Path

import pytest

from cni_core.errors import IoFailure
from cni_ipam import identity


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file with the id of this machine."""
    path = tmp_path / "machine-id"
    path.write_text("0" * 31 + "1\n")
    monkeypatch.setattr(identity, "_MACHINE", (str(path), str(tmp_path / "none")))
    return path


pytestmark = pytest.mark.usefixtures("machine")


def test_an_identity_is_drawn_once(tmp_path: Path) -> None:
    first = identity.identity(str(tmp_path), "n1")

    assert first.node == "n1"
    assert identity.identity(str(tmp_path)) == identity.identity(str(tmp_path), "n1") == first


def test_a_new_name_keeps_the_incarnation(tmp_path: Path) -> None:
    first = identity.identity(str(tmp_path), "n1")
    second = identity.identity(str(tmp_path), "n2")

    assert (second.node, second.incarnation) == ("n2", first.incarnation)
    assert identity.identity(str(tmp_path)) == second


def test_a_cloned_disk_is_another_node(machine: Path, tmp_path: Path) -> None:
    first = identity.identity(str(tmp_path), "n1")
    machine.write_text("0" * 31 + "2\n")

    assert identity.identity(str(tmp_path), "n1").incarnation != first.incarnation


def test_a_copied_directory_is_another_node(tmp_path: Path) -> None:
    first = identity.identity(str(tmp_path / "a"), "n1")
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    assert identity.identity(str(tmp_path / "b")).incarnation != first.incarnation
    assert identity.identity(str(tmp_path / "a")) == first


def test_a_moved_directory_is_the_same_node(tmp_path: Path) -> None:
    first = identity.identity(str(tmp_path / "a"), "n1")
    (tmp_path / "a").rename(tmp_path / "b")

    assert identity.identity(str(tmp_path / "b")).incarnation == first.incarnation


def test_a_directory_of_two_names_is_one_node(tmp_path: Path) -> None:
    first = identity.identity(str(tmp_path / "a"), "n1")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    assert identity.identity(str(tmp_path / "b")).incarnation == first.incarnation


def test_a_file_of_before_directories_were_written_is_read(tmp_path: Path) -> None:
    first = identity.identity(str(tmp_path), "n1")
    document = json.loads((tmp_path / ".node").read_text())
    del document["directory"]
    (tmp_path / ".node").write_text(json.dumps(document))

    assert identity.identity(str(tmp_path)).incarnation == first.incarnation


def test_a_container_that_shows_no_machine_id_is_the_same_node(machine: Path, tmp_path: Path) -> None:
    first = identity.identity(str(tmp_path), "n1")
    for text in ("", "uninitialized\n"):
        machine.write_text(text)

        assert identity.identity(str(tmp_path)) == first


def test_a_damaged_file_is_left_as_it_is(tmp_path: Path) -> None:
    """A node that drew another identity would claim blocks beside those that are its own."""
    (tmp_path / ".node").write_text('{"node": 1}')

    with pytest.raises(IoFailure, match=r"\.node: this node's identity in it is damaged"):
        identity.identity(str(tmp_path))
    assert (tmp_path / ".node").read_text() == '{"node": 1}'
