"""What the wheel holds."""

import re
import zipfile
from email.parser import Parser

import pytest

from tests.support import REPOSITORY
from tests.support.built_wheel import PACKAGES, files_of

CHARTS = "raytrain/operator/install/charts/"


@pytest.fixture(scope="module")
def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_file_of_the_packages_is_in_it(contents):
    assert files_of(*PACKAGES) - set(contents) == set()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(contents)


def test_both_charts_are_in_it_as_they_are_in_the_repository(contents):
    charts = {name.removeprefix(CHARTS): text for name, text in contents.items() if name.startswith(CHARTS)}
    assert charts == {name.removeprefix("helm/"): (REPOSITORY / name).read_bytes() for name in files_of("helm")}


def test_its_metadata_name_licence_and_extras(contents):
    (name,) = [name for name in contents if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(contents[name].decode())
    assert metadata["License-Expression"] == "Apache-2.0"
    assert name.replace("METADATA", "licenses/LICENSE") in contents
    assert {"train", "serve", "operator", "plots", "pii"} <= set(metadata.get_all("Provides-Extra"))
    base = {re.split(r"[\[><=;]", line)[0] for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert not base & {"torch", "ray", "transformers", "datasets", "numpy", "pyarrow", "kubernetes"}
