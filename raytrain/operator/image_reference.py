"""References of container images, parsed as container runtimes parse them.

Grammar: https://github.com/distribution/reference (`[registry/]path[:tag][@digest]`). Compared as
text, `registry.example.org/../other` and `registry.example.org.evil.org/x` would pass for images of
`registry.example.org`.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>(?=[^/]*[.:]|localhost/){_HOST})/)?"
    rf"(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[\w*?][\w.*?-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]+:(?:[a-fA-F0-9]{32,}|\*)))?",
    re.ASCII,
)
_ALL_OF_A_REGISTRY = re.compile(
    r"(?=.*[.:]|localhost/)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?/?", re.ASCII
)
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image, or in a policy a pattern of images.

    In a pattern an empty tag stands for every tag; tag and digest may hold `*`.
    """

    registry: str
    path: tuple[str, ...]
    tag: str = ""
    digest: str = ""

    def allows(self, image: ImageReference) -> bool:
        """Whether this pattern allows an image: its repository or one below it.

        A runtime ignores the tag of an image that has a digest, so a pattern with a tag alone
        allows no such image.
        """
        if self.registry != image.registry or image.path[: len(self.path)] != self.path:
            return False
        exact = not self.tag and not self.digest
        if not exact and image.path != self.path:
            return False
        if self.digest:
            return bool(image.digest) and fnmatch.fnmatchcase(image.digest, self.digest)
        return not self.tag or (not image.digest and fnmatch.fnmatchcase(image.tag or "latest", self.tag))


def parse_image(text: str) -> ImageReference:
    """Parses a reference; ValueError if no runtime would accept it."""
    if "*" in text or "?" in text or text.endswith("/"):
        raise ValueError(f"{text!r} is not the reference of an image")
    return _parse(text)


def parse_pattern(text: str) -> ImageReference:
    """Parses an entry of `policy.allowedImages`: registry/, registry/path, with tag or digest."""
    if (text.endswith("/") and text.count("/") == 1) and _ALL_OF_A_REGISTRY.fullmatch(text):
        return ImageReference(_registry(text.rstrip("/")), ())
    if "/" not in text and "." in text.partition(":")[0]:
        raise ValueError(f"{text!r}: write {text}/ for every image of a registry")
    return _parse(text)


def _parse(text: str) -> ImageReference:
    found = _REFERENCE.fullmatch(text.removesuffix("/"))
    if found is None:
        raise ValueError(f"{text!r} is not the reference of an image")
    registry, path = _registry(found["registry"] or "docker.io"), tuple(found["path"].split("/"))
    if registry == "docker.io" and len(path) == 1 and not text.endswith("/"):
        path = ("library", *path)
    return ImageReference(registry, path, found["tag"] or "", found["digest"] or "")


def _registry(name: str) -> str:
    lower = name.lower()
    return "docker.io" if lower in _DOCKER_HUB else lower
