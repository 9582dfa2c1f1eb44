"""Images are compared as references, not as text."""

import pytest

from raytrain.operator.image_reference import ImageReference, parse_image, parse_pattern
from raytrain.operator.settings import Settings
from raytrain_core.config.loader import ConfigError, from_mapping

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raytrain", ImageReference("docker.io", ("library", "raytrain"))),
        ("raytrain:1", ImageReference("docker.io", ("library", "raytrain"), "1")),
        ("index.docker.io/team/x", ImageReference("docker.io", ("team", "x"))),
        ("localhost/x", ImageReference("localhost", ("x",))),
        ("localhost:5000/x:y", ImageReference("localhost:5000", ("x",), "y")),
        ("GHCR.io/team/x", ImageReference("ghcr.io", ("team", "x"))),
        (f"ghcr.io/team/x:1@{DIGEST}", ImageReference("ghcr.io", ("team", "x"), "1", DIGEST)),
        ("team/sub/x", ImageReference("docker.io", ("team", "sub", "x"))),
    ],
)
def test_a_reference_is_parsed_as_runtimes_do(text, expected):
    assert parse_image(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "registry.example.org/../../x", "registry.example.org/./x", "ghcr.io//x", "ghcr.io/x/", "ghcr.io/X",
     "ghcr.io/x:", "ghcr.io/x@sha256:abc", "ghcr.io/x y", "ghcr.io/x:*", "http://ghcr.io/x", "ghcr.io/x\n", "-x"],
)  # fmt: skip
def test_what_no_runtime_accepts_is_no_reference(text):
    with pytest.raises(ValueError, match=r"is not the reference of an image|write .*/ for every image"):
        parse_image(text)


@pytest.mark.parametrize(
    ("pattern", "image", "allowed"),
    [
        ("ghcr.io/", "ghcr.io/team/x", True),
        ("ghcr.io/", "ghcr.io.evil.org/team/x", False),
        ("ghcr.io/", "evil.org/ghcr.io/x", False),
        ("ghcr.io/team", "ghcr.io/team/x:1", True),
        ("ghcr.io/team/", "ghcr.io/team/x:1", True),
        ("ghcr.io/team", "ghcr.io/teamster/x", False),
        ("ghcr.io/team/x", f"ghcr.io/team/x@{DIGEST}", True),
        ("ghcr.io/team/x:1.*", "ghcr.io/team/x:1.2", True),
        ("ghcr.io/team/x:1.*", "ghcr.io/team/x:2.1", False),
        ("ghcr.io/team/x:1.*", "ghcr.io/team/x", False),
        ("ghcr.io/team/x:latest", "ghcr.io/team/x", True),
        ("ghcr.io/team/x:1", f"ghcr.io/team/x:1@{DIGEST}", False),  # a runtime ignores this tag
        ("ghcr.io/team/x:1", "ghcr.io/team/x/y:1", False),
        ("ghcr.io/team/x@sha256:*", f"ghcr.io/team/x@{DIGEST}", True),
        ("ghcr.io/team/x@sha256:*", "ghcr.io/team/x:1", False),
        (f"ghcr.io/team/x@{DIGEST}", "ghcr.io/team/x@sha256:" + "b" * 64, False),
        ("raytrain", "docker.io/library/raytrain:1", True),
        ("docker.io/", "busybox", True),
        ("team/", "docker.io/team/x", True),
        ("ghcr.io:443/", "ghcr.io/x", False),
    ],
)
def test_a_pattern_allows_a_repository_and_what_is_below_it(pattern, image, allowed):
    assert parse_pattern(pattern).allows(parse_image(image)) is allowed


@pytest.mark.parametrize("pattern", ["ghcr.io", "registry.example.org:5000", "ghcr.io/Team", "*"])
def test_settings_with_a_pattern_that_means_something_else_are_refused(pattern):
    with pytest.raises(ConfigError, match=r"policy\.allowedImages"):
        from_mapping({"policy": {"allowedImages": [pattern]}}, Settings, name="settings")
