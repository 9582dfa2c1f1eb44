import pytest

from data_prep.text.tokenizer import Tokenizer
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
    return Tokenizer.from_folder(base_folder)


@pytest.fixture
def bench(tmp_path, tokenizer):
    return Workbench(tmp_path, tokenizer)
