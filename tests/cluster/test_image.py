"""Images built from the Dockerfile contain the same packages as those assembled for test pods."""

import json

import pytest

from tests.cluster.harness import image, layers
from tests.cluster.harness.console import timed_echo

pytestmark = pytest.mark.slow

PACKAGES = """
import importlib.metadata as m, json
print(json.dumps(sorted(f"{d.name.lower()}=={d.version}" for d in m.distributions())))
"""


def _assembled(*trees):
    found = []
    for tree in trees:
        for folder in tree.folder.glob("opt/raytrain/lib/python*/site-packages/*.dist-info"):
            fields = dict(
                line.split(": ", 1)
                for line in (folder / "METADATA").read_text().split("\n\n", 1)[0].splitlines()
                if line.startswith(("Name: ", "Version: "))
            )
            found.append(f"{fields['Name'].lower()}=={fields['Version']}")
    return sorted(found)


@pytest.mark.parametrize(
    ("target", "command", "expected"),
    [
        ("operator", ["python", "-m", "raytrain.operator", "--help"], "usage"),
        ("run", ["raytrain", "--version"], "0."),
    ],
)
def test_the_dockerfile_builds_what_pods_run(target, command, expected):
    echo = timed_echo()
    reference = image.build(target, echo)
    assert expected in image.run_command(reference, *command).lower()
    assert image.run_command(reference, "id", "-u").strip() == "1000"
    installed = json.loads(image.run_command(reference, "python", "-c", PACKAGES))
    assert installed == _assembled(layers.environment(target, echo), layers.code())
    listed = json.loads(image.read_file(image.build(f"{target}-sbom", echo), f"{target}.cdx.json"))
    components = {f"{part['name'].lower()}=={part['version']}": part for part in listed["components"]}
    assert sorted(components) == installed
    assert all(part["purl"].startswith("pkg:pypi/") for name, part in components.items() if "raytrain" not in name)
