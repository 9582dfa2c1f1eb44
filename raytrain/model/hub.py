"""Access to the Hugging Face hub or a mirror (HF_ENDPOINT), and its refusals in its own words.

The token is huggingface_hub's matter: HF_TOKEN, or the file that `hf auth login` writes or that
HF_TOKEN_PATH names. It is never read here, and masked in whatever the hub answers.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raytrain.telemetry.redaction import mask_secrets
from raytrain_core.errors import TrainingError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

COMMIT = re.compile(r"[0-9a-f]{40}")
DEFAULT_BRANCH = "main"
_SECONDS = 10.0
_TOKEN_HINT = "set HF_TOKEN to your token, or HF_TOKEN_PATH to the file with it"
_TOKEN = re.compile(r"\bhf_\w{8,}")


def endpoint() -> str | None:
    """Returns the mirror that HF_ENDPOINT names; None for the hub itself."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def hub_api() -> HfApi:
    """Returns a client of the hub."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint())


def own_words(error: BaseException) -> str:
    """Returns what the hub itself said when it refused, else the first line of the error."""
    refusal = _refusal(error)
    said = (refusal and getattr(refusal, "server_message", None)) or str(error)
    first = (str(said).strip().splitlines() or [type(error).__name__])[0]
    return _TOKEN.sub("***", mask_secrets(first))


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status with which the hub answered."""
    found = getattr(getattr(_refusal(error), "response", None), "status_code", None)
    return found if isinstance(found, int) else None


def _refusal(error: BaseException | None) -> BaseException | None:
    """Returns the answer among the causes of an error: a failed upload says only that it failed."""
    while error is not None and not hasattr(error, "response"):
        error = error.__cause__
    return error


def split_revision(name: str) -> tuple[str, str | None]:
    """Splits `google/flan-t5-base@REVISION` into id and revision, which may be missing."""
    name, _, revision = name.partition("@")
    return name, revision or None


def commit_of(folder: Path, cache: Path) -> str | None:
    """Returns the commit of a folder that `fetch_model` downloaded; None for other folders."""
    is_ours = folder.is_relative_to(cache / "hub") and folder.parent.name == "snapshots"
    return folder.name if is_ours and COMMIT.fullmatch(folder.name) else None


def current_commit(name: str, revision: str) -> str | None:
    """Returns the commit that a branch or tag names now; None if the hub does not tell."""
    with contextlib.suppress(Exception):  # offline, or refused: the files at hand are still right
        return str(hub_api().model_info(name, revision=revision, timeout=_SECONDS).sha)
    return None


def fetch_model(name: str, patterns: Sequence[str], *, cache: Path, not_a_folder: Path) -> Path:
    """Downloads the files of `name[@revision]` to huggingface_hub's cache below `cache`.

    What is there already is not downloaded again. Raises TrainingError with the hub's own sentence
    if it refuses; `not_a_folder` is where a local model of that name would be.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, revision = split_revision(name)
    try:
        found = snapshot_download(
            repo, revision=revision, allow_patterns=list(patterns), cache_dir=cache / "hub", endpoint=endpoint()
        )
        return Path(found)
    except GatedRepoError as error:
        raise TrainingError(
            f"model {name}: access to it on the hub is restricted: {own_words(error)}",
            hint=f"request access on its page, and {_TOKEN_HINT}",
        ) from None
    except RevisionNotFoundError:
        raise TrainingError(
            f"model {name}: the hub has {repo}, but no revision {revision}",
            hint="give a branch, a tag or a commit of it after the @",
        ) from None
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise TrainingError(
            f"model {name}: there is no such model on the hub, and no folder {not_a_folder}: {own_words(error)}",
            hint=f"check the name; for a private model {_TOKEN_HINT}",
        ) from None
    except LocalEntryNotFoundError:
        raise TrainingError(
            f"model {name}: the hub cannot be reached, {cache / 'hub'} has no copy, and there is no folder "
            f"{not_a_folder}",
            hint="give a local or s3:// folder with the model's files, or set HF_ENDPOINT to a mirror",
        ) from None
    except OSError as error:  # HfHubHTTPError is one
        status = status_of(error)
        refused = f"the hub refused ({status})" if status else "cannot fetch it from the hub"
        hint = f"for a private model {_TOKEN_HINT}" if status in (401, 403) else None
        raise TrainingError(f"model {name}: {refused}: {own_words(error)}", hint=hint) from None
