"""Every relative link in Markdown leads to a file or folder, and every anchor to a heading."""

import re
import subprocess
from urllib.parse import unquote, urlsplit

import pytest

from tests.support import REPOSITORY

_FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(\s*([^)\s]+)[^)]*\)")
_HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)


def markdown_files():
    """All Markdown files of the repository; without git, those that are not built."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.splitlines() or [
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("docs", "examples", "helm")
        for path in (REPOSITORY / folder).rglob("*.md")
    ]
    return sorted(name for name in names if (REPOSITORY / name).is_file())


def anchors(path):
    """What GitHub makes of the headings of a page."""
    headings = _HEADING.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))
    words = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in words}


@pytest.mark.parametrize("name", markdown_files())
def test_links_lead_somewhere(name):
    page = REPOSITORY / name
    text = _CODE.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
    broken = []
    for link in _LINK.findall(text):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = page.parent / unquote(parts.path) if parts.path else page
        if not target.exists() or (parts.fragment and parts.fragment not in anchors(target)):
            broken.append(link)
    assert not broken
