"""A server with the part of the Hugging Face hub's API that data sets need: info, tree, ranges."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.support.hub_http import HubHandler, serving


@dataclass
class Hub:
    """Data sets by name: commits by revision, files by commit.

    `asked` collects method and path of every request.
    """

    endpoint: str = ""
    revisions: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[tuple[str, str], Mapping[str, bytes]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    """Earlier names of data sets."""
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, commit: str, files: Mapping[str, bytes], revisions: tuple[str, ...] = ("main",)) -> None:
        """Adds a data set, or another commit to it."""
        known = self.revisions.setdefault(name, {})
        known[commit] = commit
        known.update(dict.fromkeys(revisions, commit))
        self.files[name, commit] = files


@contextmanager
def dataset_hub() -> Iterator[Hub]:
    """Runs an empty hub on a free port."""
    hub = Hub()

    class Handler(_Handler):
        known = hub

    with serving(Handler) as hub.endpoint:
        yield hub


class _Handler(HubHandler):
    known: Hub

    def answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.known.asked.append(f"{self.command} {path}")
        if match := re.fullmatch(r"/api/datasets/(.+?)/(revision|tree|paths-info)/([^/]+)(?:/(.*))?", path):
            name, what, revision, under = match.groups()
            name = self.known.aliases.get(name, name) if what == "revision" else name
            commit = self.known.revisions.get(name, {}).get(revision)
            if commit is None:
                self._no_revision(name)
            elif what == "revision":
                self.send_json(self._info(name, commit))
            elif what == "tree":
                self.send_json(self._tree(name, commit, f"{under}/" if under else ""))
            else:
                fields = json.loads(body) if body.startswith(b"{") else {}
                paths = fields.get("paths") or [part[6:] for part in unquote(body.decode()).split("&")]
                self.send_json(self._entries(name, commit, [p for p in paths if p in self._files(name, commit)]))
        elif match := re.fullmatch(r"/api/datasets/(.+)", path):
            name = self.known.aliases.get(match[1], match[1])
            commit = self.known.revisions.get(name, {}).get("main")
            self.send_json(self._info(name, commit)) if commit else self._no_revision(name)
        elif match := re.fullmatch(r"/datasets/(.+?)/resolve/([^/]+)/(.+)", path):
            name, revision, file = match.groups()
            commit = self.known.revisions.get(name, {}).get(revision)
            if commit is None:
                self._no_revision(name)
            elif file in self._files(name, commit):
                self._file(commit, self._files(name, commit)[file])
            else:
                self.send(404, b"Entry not found", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        else:
            self.send(404, b"Not found", {"X-Error-Code": "RepoNotFound"})

    def _files(self, name: str, commit: str) -> Mapping[str, bytes]:
        return self.known.files[name, commit]

    def _info(self, name: str, commit: str) -> object:
        siblings = [{"rfilename": path} for path in self._files(name, commit)]
        return {"_id": "1", "id": name, "sha": commit, "private": False, "gated": False, "disabled": False,
                "downloads": 0, "likes": 0, "tags": [], "siblings": siblings,
                "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z"}  # fmt: skip

    def _tree(self, name: str, commit: str, prefix: str) -> object:
        below = [path for path in self._files(name, commit) if path.startswith(prefix)]
        if "recursive=true" in self.path.lower():
            return self._entries(name, commit, below)
        folders = {prefix + path[len(prefix) :].split("/")[0] for path in below if "/" in path[len(prefix) :]}
        here = [path for path in below if "/" not in path[len(prefix) :]]
        listed = [{"type": "directory", "path": folder, "size": 0, "oid": commit} for folder in sorted(folders)]
        return [*listed, *self._entries(name, commit, here)]

    def _entries(self, name: str, commit: str, paths: list[str]) -> list[object]:
        files = self._files(name, commit)
        return [{"type": "file", "path": p, "size": len(files[p]), "oid": _etag(files[p])} for p in paths]

    def _file(self, commit: str, data: bytes) -> None:
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if match is None:
            self.send(200, data, headers)
            return
        start, stop = int(match[1]), min(int(match[2] or len(data) - 1) + 1, len(data))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        self.send(206, data[start:stop], headers)

    def _no_revision(self, name: str) -> None:
        code = "RevisionNotFound" if name in self.known.revisions else "RepoNotFound"
        self.send(404, b'{"error": "not found"}', {"X-Error-Code": code})


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
