"""How long an example takes on a shared machine, or with a first import in it, says nothing: no deadlines."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("selfloop", deadline=None)
settings.load_profile("selfloop")

DATA = Path(__file__).parent / "data"


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What datasets converts is kept with the test."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))
