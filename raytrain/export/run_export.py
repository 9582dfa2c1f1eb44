"""Takes the model of a run out."""

from __future__ import annotations

import re
from typing import Literal

from raytrain.config.run_layout import RunLayout
from raytrain.export.bundle import Format, make_bundle
from raytrain.export.ctranslate2 import QUANTIZATIONS
from raytrain.export.placing import HubPlace, Placed
from raytrain_core.errors import UsageError
from raytrain_core.storage import Store, open_like
from raytrain_core.storage.uri import split_scheme

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@\s]+))?/?")


def export_run(
    store: Store,
    layout: RunLayout,
    *,
    to: str,
    form: Format | Literal["onnx"] = "transformers",
    quantization: str | None = None,
    revision: str | None = None,
    tag: str | None = None,
    public: bool = False,
    force: bool = False,
) -> Placed:
    """Takes a run's model out to a folder, a bucket or `hf://org/name[@branch]`.

    Verifies every file by its digest. The same call continues an export that was interrupted.
    Raises UsageError for a destination that cannot be one or that holds something else, DataError
    for a run without a model, StorageError if the destination does not answer or refuses.
    """
    if form == "onnx":
        raise UsageError(
            "there is no ONNX export: optimum-onnx, which writes and reads T5, does not work with transformers 5",
            hint="for fast answers on CPUs use --format ctranslate2",
        )
    if quantization is not None and form != "ctranslate2":
        raise UsageError(
            f"--quantization has no effect with --format {form}", hint="leave it out, or set --format ctranslate2"
        )
    hub = hub_place(to, revision=revision, tag=tag, public=public)
    place = None if hub else open_like(store, to)
    if place is not None and (place.uri == store.uri or f"{place.uri}/".startswith(f"{store.uri}/")):
        raise UsageError(f"--to {to} is inside of the storage of the runs", hint="choose a place outside of it")
    with make_bundle(store, layout, form, quantization=quantization or QUANTIZATIONS[0]) as bundle:
        if hub is not None:
            from raytrain.export.hub import push

            return push(bundle, hub, force=force)
        from raytrain.export.stored import place as put

        return put(bundle, place, force=force)  # type: ignore[arg-type]


def hub_place(to: str, *, revision: str | None, tag: str | None, public: bool) -> HubPlace | None:
    """Returns the repository that `to` names, None if it names a folder or a bucket.

    Raises UsageError if it is neither, or if an option does not apply.
    """
    scheme, rest = split_scheme(to, "--to")
    if scheme != "hf":
        if revision or tag or public:
            raise UsageError("--revision, --tag and --public are for a hub: --to hf://org/name")
        return None
    match = _HUB.fullmatch(rest)
    if match is None:
        raise UsageError(f"--to {to} names no repository", hint="write hf://org/name or hf://org/name@branch")
    if revision and match["revision"] and revision != match["revision"]:
        raise UsageError(f"--to names the branch {match['revision']}, --revision {revision}: give one of them")
    return HubPlace(match["repo"], revision or match["revision"] or "main", tag, public)
