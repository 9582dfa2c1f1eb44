"""The wheel, built once for all tests of this folder."""

import pytest

from tests.support.built_wheel import build_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel"))
