"""A server with the part of the Hugging Face hub's API that models need.

Private and gated repositories, commits, LFS uploads, branches and tags.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.hub_http import HubHandler, serving

TOKEN = "hf_" + "t" * 20  # made up
_LARGE = (".safetensors", ".bin")
_INVALID = "Invalid username or password."


@dataclass
class Repository:
    """Files by commit, commits by branch, tag and commit."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Adds a commit with these files alone."""
        parts = "".join(f"{name}{hashlib.sha1(data).hexdigest()}" for name, data in sorted(files.items()))
        number = hashlib.sha1(f"{len(self.commits)}{parts}".encode()).hexdigest()
        self.commits[number] = dict(files)
        self.branches[branch] = number
        return number

    def find(self, revision: str) -> str | None:
        """Returns the commit of a branch, tag or commit."""
        found = self.branches.get(revision) or self.tags.get(revision)
        return found or (revision if revision in self.commits else None)


@dataclass
class ModelHub:
    """Repositories by name, large files by sha256, and method and path of every request."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    refuse_uploads: bool = False

    def add(self, name: str, files: Mapping[str, bytes], *, private: bool = False, gated: bool = False) -> str:
        """Adds a repository with one commit, which is returned."""
        self.repositories[name] = Repository(private, gated)
        return self.repositories[name].commit(files)

    def uploads(self) -> list[str]:
        """Returns the uploads of large files so far."""
        return [asked for asked in self.asked if asked.startswith("PUT ")]


@contextmanager
def model_hub() -> Iterator[ModelHub]:
    """Runs an empty hub on a free port; TOKEN may read and write everything."""
    hub = ModelHub(tokens={TOKEN})

    class Handler(_Handler):
        known = hub

    with serving(Handler) as hub.endpoint:
        yield hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    """An empty hub that huggingface_hub uses in this process, without a token."""
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nonexistent/token")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with model_hub() as known:
        monkeypatch.setenv("HF_ENDPOINT", known.endpoint)
        yield known


class _Handler(HubHandler):
    known: ModelHub

    @property
    def _allowed(self) -> bool:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") in self.known.tokens

    def answer(self, body: bytes) -> None:
        path = urlsplit(self.path).path
        self.known.asked.append(f"{self.command} {unquote(path)}")
        for pattern, answer in _ROUTES:
            if match := re.fullmatch(pattern, path):
                answer(self, body, *(unquote(part) for part in match.groups()))
                return
        self.send(404, b"Not found", {"X-Error-Code": "RepoNotFound"})

    # Repositories

    def _create(self, body: bytes) -> None:
        if not self._allowed:
            self._refuse(401, _INVALID)
            return
        asked = json.loads(body)
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        if name in self.known.repositories:
            self._refuse(409, "You already created this model repo")
            return
        self.known.add(name, {".gitattributes": b""}, private=asked.get("visibility") == "private")
        self.send_json({"url": f"{self.known.endpoint}/{name}", "name": name})

    def _validate(self, _: bytes) -> None:
        self.send_json({"errors": [], "warnings": []})

    def _repository(self, name: str, *, write: bool = False) -> Repository | None:
        found = self.known.repositories.get(name)
        if found is None or (found.private and not self._allowed):
            code = 404 if self._allowed else 401
            self._refuse(code, "Repository not found" if self._allowed else _INVALID, "RepoNotFound")
            return None
        if write and not self._allowed:
            self._refuse(403, "You don't have the rights to write to this repository")
            return None
        return found

    def _revision(self, repository: Repository, revision: str) -> str | None:
        commit = repository.find(revision)
        if commit is None:
            self._refuse(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def _info(self, _: bytes, name: str, revision: str = "main") -> None:
        repository = self._repository(name)
        if repository is None or (commit := self._revision(repository, revision)) is None:
            return
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        self.send_json({"_id": "1", "id": name, "sha": commit, "private": repository.private, "disabled": False,
                    "gated": "manual" if repository.gated else False, "downloads": 0, "likes": 0, "tags": [],
                    "siblings": siblings, "lastModified": "2026-01-01T00:00:00.000Z",
                    "createdAt": "2026-01-01T00:00:00.000Z"})  # fmt: skip

    def _tree(self, _: bytes, name: str, revision: str, under: str = "") -> None:
        repository = self._repository(name)
        if repository is None or (commit := self._revision(repository, revision)) is None:
            return
        found = [_entry(path, data) for path, data in repository.commits[commit].items() if path.startswith(under)]
        if found:
            self.send_json(found)
        else:
            self._refuse(404, f"{under} does not exist on {revision}", "EntryNotFound")

    def _refs(self, _: bytes, name: str) -> None:
        if (repository := self._repository(name)) is not None:
            kinds = (("branches", "heads", repository.branches), ("tags", "tags", repository.tags))
            refs = {
                kind: [{"name": n, "ref": f"refs/{under}/{n}", "targetCommit": c} for n, c in named.items()]
                for kind, under, named in kinds
            }
            self.send_json({**refs, "converts": []})

    def _branch(self, body: bytes, name: str, branch: str) -> None:
        if (repository := self._repository(name, write=True)) is None:
            return
        if branch in repository.branches:
            self._refuse(409, "Reference already exists")
            return
        start = json.loads(body or b"{}").get("startingPoint") or "main"
        repository.branches[branch] = str(repository.find(start))
        self.send_json({})

    def _tag(self, body: bytes, name: str, revision: str) -> None:
        if (repository := self._repository(name, write=True)) is None:
            return
        if self.command == "DELETE":
            repository.tags.pop(revision, None)
        else:
            repository.tags[json.loads(body)["tag"]] = str(repository.find(revision))
        self.send_json({})

    # Commits and large files

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        if self._repository(name, write=True) is not None:
            files = json.loads(body)["files"]
            modes = [(one["path"], "lfs" if one["path"].endswith(_LARGE) else "regular") for one in files]
            self.send_json({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes]})

    def _batch(self, body: bytes, name: str) -> None:
        if self._repository(name, write=True) is None:
            return
        objects = []
        for one in json.loads(body)["objects"]:
            href = f"{self.known.endpoint}/large/{one['oid']}"
            actions = {} if one["oid"] in self.known.large else {"actions": {"upload": {"href": href}}}
            objects.append({"oid": one["oid"], "size": one["size"], **actions})
        self.send_json({"transfer": "basic", "objects": objects})

    def _large(self, body: bytes, sha256: str) -> None:
        if self.known.refuse_uploads:
            self._refuse(403, "Storage quota exceeded")
            return
        assert hashlib.sha256(body).hexdigest() == sha256
        self.known.large[sha256] = body
        self.send(200, b"", {})

    def _commit(self, body: bytes, name: str, branch: str) -> None:
        if (repository := self._repository(name, write=True)) is None:
            return
        files = dict(repository.commits[repository.branches[branch]])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.known.large[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
            elif value.get("parentCommit") not in (None, repository.branches[branch]):
                self._refuse(412, "A commit has happened since")
                return
        number = repository.commit(files, branch)
        url = f"{self.known.endpoint}/{name}/commit/{number}"
        self.send_json({"commitUrl": url, "commitOid": number, "pullRequestUrl": None})

    def _resolve(self, _: bytes, name: str, revision: str, file: str) -> None:
        repository = self._repository(name)
        if repository is None or (commit := self._revision(repository, revision)) is None:
            return
        if repository.gated and not self._allowed:
            self._refuse(403, f"Access to model {name} is restricted. You must be authorized", "GatedRepo")
            return
        data = repository.commits[commit].get(file)
        if data is None:
            self._refuse(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit})
            return
        self.send(200, data, {"ETag": f'"{_etag(file, data)}"', "X-Repo-Commit": commit})

    # Answers

    def _refuse(self, status: int, sentence: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        named = {"X-Error-Code": code} if code else {}
        told = {"X-Error-Message": sentence, "Content-Type": "application/json", **named, **(headers or {})}
        self.send(status, json.dumps({"error": sentence}).encode(), told)


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    (r"/api/repos/create", _Handler._create),
    (r"/api/validate-yaml", _Handler._validate),
    (rf"/api/models/{_NAME}/preupload/([^/]+)", _Handler._preupload),
    (rf"/api/models/{_NAME}/commit/([^/]+)", _Handler._commit),
    (rf"/api/models/{_NAME}/tag/([^/]+)", _Handler._tag),
    (rf"/api/models/{_NAME}/branch/([^/]+)", _Handler._branch),
    (rf"/api/models/{_NAME}/refs", _Handler._refs),
    (rf"/api/models/{_NAME}/tree/([^/]+)", _Handler._tree),
    (rf"/api/models/{_NAME}/tree/([^/]+)/(.+)", _Handler._tree),
    (rf"/api/models/{_NAME}/revision/([^/]+)", _Handler._info),
    (rf"/api/models/{_NAME}", _Handler._info),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler._batch),
    (r"/large/(\w+)", _Handler._large),
    (rf"/{_NAME}/resolve/([^/]+)/(.+)", _Handler._resolve),
)


def _entry(path: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": blob}
    if path.endswith(_LARGE):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


def _etag(path: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if path.endswith(_LARGE) else hashlib.sha1(data).hexdigest()
