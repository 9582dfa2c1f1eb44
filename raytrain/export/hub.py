"""Puts an export into a repository of the Hugging Face hub, in one commit.

Large files are uploaded before the commit; the hub keeps them, so a later attempt uploads only the
others, and the repository shows either nothing or all of the export. Afterwards every file is
compared with what the hub says that it holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytrain.export.bundle import LISTING, Bundle
from raytrain.export.placing import Comparison, HubPlace, Placed, compare, listed, refuse
from raytrain.model.hub import DEFAULT_BRANCH, hub_api, own_words, status_of
from raytrain_core.errors import StorageError, UsageError, UserError
from raytrain_core.storage import CorruptError
from raytrain_core.storage.store import sha256_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_OWN = (LISTING, ".gitattributes")
_REFUSED = (401, 403, 404)


@dataclass(frozen=True, slots=True)
class _Digests:
    """A file by both digests that the hub uses: sha256 of large files, git's sha1 of small ones."""

    sha256: str
    blob: str


def push(bundle: Bundle, place: HubPlace, *, force: bool) -> Placed:
    """Commits what is missing to the repository, which is created (private) if there is none.

    Raises UsageError where something else is there, where the repository is public without
    `place.public`, and where the tag names another commit; StorageError if the hub refuses.
    """
    uri = f"hf://{place.repo}" + (f"@{place.branch}" if place.branch != DEFAULT_BRANCH else "")
    with _refusals(uri):
        api = hub_api()
        notes = _open(api, place, uri)
        head = str(api.repo_info(place.repo, revision=place.branch).sha)
        contents: dict[str, Path | bytes] = {**bundle.files, LISTING: bundle.listing}
        digests = {name: _digests(content) for name, content in contents.items()}
        found = _compare(api, place.repo, head, digests)
        refuse(found, uri, force=force)
        commit = _commit(api, place, head, contents, found) if _differs(found) else head
        _verify(api, place.repo, commit, digests, uri)
        if place.tag:
            _tag(api, place, commit, uri, force=force)
    notes.append(f"commit {commit}" + (f", tag {place.tag}" if place.tag else ""))
    written = (*found.missing, *found.unlike)
    return Placed(uri, tuple(sorted(written)), found.same, found.stale, len(found.others), tuple(notes))


def _open(api: HfApi, place: HubPlace, uri: str) -> list[str]:
    """Creates repository and branch where they are missing; returns what is worth saying."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        private = bool(api.repo_info(place.repo).private)
    except RepositoryNotFoundError:
        api.create_repo(place.repo, private=not place.public)
        notes = [f"created as a {'public' if place.public else 'private'} repository"]
    else:
        if not private and not place.public:
            raise UsageError(
                f"{uri} is public: everybody could read this model",
                hint="say so with --public, or make the repository private on the hub first",
            )
        notes = ["the repository stays private"] if private and place.public else []
    if place.branch != DEFAULT_BRANCH:
        api.create_branch(place.repo, branch=place.branch, exist_ok=True)
    return notes


def _compare(api: HfApi, repo: str, revision: str, digests: dict[str, _Digests]) -> Comparison:
    there = _tree(api, repo, revision)
    same = [name for name, own in digests.items() if there.get(name) in (own.sha256, own.blob)]
    earlier = listed(_listing(api, repo, revision)) if LISTING in there else {}
    # The listing differs whenever a file or raytrain's version does, and refuses nothing by itself.
    found = compare([n for n in digests if n != LISTING], there, [n for n in same if n != LISTING], earlier, _OWN)
    if LISTING in same:
        return found
    missing = tuple(sorted({*found.missing, LISTING}))
    return Comparison(found.same, found.unlike, missing, found.stale, found.others)


def _differs(found: Comparison) -> bool:
    return bool(found.missing or found.unlike or found.stale)


def _commit(api: HfApi, place: HubPlace, head: str, contents: dict[str, Path | bytes], found: Comparison) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [CommitOperationDelete(name) for name in found.stale]
    operations += [CommitOperationAdd(name, contents[name]) for name in sorted({*found.missing, *found.unlike})]
    info = api.create_commit(
        place.repo, operations, commit_message="Export of a raytrain run", revision=place.branch, parent_commit=head
    )
    return str(info.oid)


def _verify(api: HfApi, repo: str, commit: str, digests: dict[str, _Digests], uri: str) -> None:
    there = _tree(api, repo, commit)
    for name, own in digests.items():
        if there.get(name) not in (own.sha256, own.blob):
            raise CorruptError(f"{uri}/{name}: the hub holds other bytes than were sent", hint="run the command again")


def _tag(api: HfApi, place: HubPlace, commit: str, uri: str, *, force: bool) -> None:
    tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(place.repo).tags}
    if tags.get(str(place.tag)) == commit:
        return
    if place.tag in tags:
        if not force:
            raise UsageError(
                f"{uri}: the tag {place.tag} names another commit, {tags[place.tag][:12]}",
                hint=f"the model is there as commit {commit[:12]}; choose another tag, or move this one with --force",
            )
        api.delete_tag(place.repo, tag=place.tag)
    api.create_tag(place.repo, tag=str(place.tag), revision=commit)


def _tree(api: HfApi, repo: str, revision: str) -> dict[str, str]:
    """Returns each file's digest at a revision: sha256 of large files, git's sha1 of others."""
    found: dict[str, str] = {}
    for one in api.list_repo_tree(repo, recursive=True, revision=revision):
        entry: Any = one
        if hasattr(entry, "blob_id"):
            found[entry.path] = entry.lfs.sha256 if entry.lfs else entry.blob_id
    return found


def _listing(api: HfApi, repo: str, revision: str) -> bytes:
    from raytrain_core.storage.scratch import scratch

    with scratch("listing") as folder:
        return Path(api.hf_hub_download(repo, LISTING, revision=revision, local_dir=folder)).read_bytes()


def _digests(content: Path | bytes) -> _Digests:
    if isinstance(content, bytes):
        return _Digests(sha256_of(content), hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest())
    blob, sha256 = hashlib.sha1(b"blob %d\0" % content.stat().st_size), hashlib.sha256()
    with content.open("rb") as file:
        while part := file.read(1 << 20):
            blob.update(part)
            sha256.update(part)
    return _Digests(sha256.hexdigest(), blob.hexdigest())


@contextmanager
def _refusals(uri: str) -> Iterator[None]:
    """Turns the hub's refusals and broken connections into errors with the hub's own sentence."""
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise UsageError(f"{uri}: not the name of a repository: {own_words(error)}") from None
    except UserError:
        raise
    except Exception as error:  # answers, connections and uploads of two libraries
        status, again = status_of(error), "run the same command again: it continues"
        if status is None:
            raise StorageError(f"{uri}: the hub cannot be used: {own_words(error)}", hint=again) from None
        may = "set HF_TOKEN to a token that may write there (or HF_TOKEN_PATH to its file)"
        hint = may if status in _REFUSED else again
        raise StorageError(f"{uri}: the hub refused ({status}): {own_words(error)}", hint=hint) from None
