from __future__ import annotations

import pytest

from tests.support.tiny_bundle import KeyPair, make_key


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))
