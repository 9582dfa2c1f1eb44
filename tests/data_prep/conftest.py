import pytest

from data_prep.text.tokenizer_folder import read_tokenizer
from tests.support.data_prep_bench import Workbench, t5_like


@pytest.fixture(scope="session")
def base_tokenizer():
    return t5_like()


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory, base_tokenizer):
    folder = tmp_path_factory.mktemp("base-tokenizer")
    base_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tokenizer(base_folder):
    return read_tokenizer(base_folder)


@pytest.fixture
def bench(tmp_path, tokenizer):
    return Workbench(tmp_path, tokenizer)
