"""The executable, as it is installed."""

from pathlib import Path

import pytest

from tests.lab import stage
from tests.store.ipam import Ipam

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bin")
    stage.install_executables(directory, stage.site_packages(), ROOT, interpreter=str(stage.interpreter()))
    return directory / "cni-ipam"


@pytest.fixture
def ipam(executable: Path, tmp_path: Path) -> Ipam:
    return Ipam(executable, tmp_path / "leases")
