"""Adds to mkdocs: pages from outside of docs/, and plain text for language models.

README, CONTRIBUTING and the examples' READMEs become pages of the site. Links are written for
people who read the repository; here each is rewritten to where its target lies in the site, and
linked files that are no pages (a job file, a schema) are copied into the site.
"""

import os
import posixpath
import re
from pathlib import Path
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "SECURITY.md": "SECURITY.md",
    "CODE_OF_CONDUCT.md": "CODE_OF_CONDUCT.md",
    "examples/quickstart/README.md": "examples/quickstart.md",
    "examples/forgetting/README.md": "examples/forgetting.md",
}
"""Path in the repository → path in the site."""

_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_texts: dict[str, str] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages from outside of docs/, and the files that any page links to."""
    for source, target in PAGES.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    for path in sorted(_linked_files()):
        if files.get_file_from_path(_site_path(path)) is None:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points every relative link to where its target lies in the site."""
    here = _repository_path(page.file.src_uri)
    text = _LINK.sub(lambda link: link[1] + _site_link(link[2], here) + link[3], markdown)
    if page.file.src_uri.startswith("reference/") and page.file.src_uri != "reference/python-api.md":
        text = text.replace("][", "]\\[")  # generated text, `name[:config][@revision]`, is no reference to a heading
    _texts[page.file.src_uri] = text
    return text


def on_post_build(config: MkDocsConfig) -> None:
    """Writes llms.txt (each page with its first sentence) and llms-full.txt (all text)."""
    site = Path(config.site_dir)
    index = [f"# {config.site_name}", "", f"> {config.site_description}", ""]
    for uri, text in _texts.items():
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        index.append(f"- [{title[1] if title else uri}]({uri.removesuffix('.md')}.html): {_first_sentence(text)}")
    (site / "llms.txt").write_text("\n".join(index) + "\n", encoding="utf-8")
    pages = "\n\n".join(f"<!-- {uri} -->\n\n{text.strip()}" for uri, text in _texts.items())
    (site / "llms-full.txt").write_text(pages + "\n", encoding="utf-8")


def _first_sentence(text: str) -> str:
    paragraphs = [part for part in text.split("\n\n") if part and part[0] not in "#<|!`-"]
    return " ".join(paragraphs[0].split()).partition(". ")[0].rstrip(".:") + "." if paragraphs else ""


def _repository_path(site_path: str) -> str:
    return next((source for source, target in PAGES.items() if target == site_path), f"docs/{site_path}")


def _site_path(path: str) -> str:
    return PAGES.get(path, path.removeprefix("docs/"))


def _target(link: str, here: str) -> str | None:
    """Returns a relative link's target in the repository; a folder means its README.

    None for any other link.
    """
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), parts.path))
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def _site_link(link: str, here: str) -> str:
    target = _target(link, here)
    if target is None:
        return link
    start = posixpath.dirname(_site_path(here)) or "."
    path = os.path.relpath(_site_path(target), start).replace(os.sep, "/")
    fragment = urlsplit(link).fragment
    return f"{path}#{fragment}" if fragment else path


def _linked_files() -> set[str]:
    """Files outside of docs/ that a page links to and that are no pages themselves."""
    pages = [*PAGES, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
    links = ((page, link[2]) for page in pages for link in _LINK.finditer((ROOT / page).read_text(encoding="utf-8")))
    targets = {_target(link, page) for page, link in links}
    return {
        target
        for target in targets
        if target and target not in PAGES and not target.startswith("docs/") and (ROOT / target).is_file()
    }
