"""Shell completion of local runs, their tasks, and field paths; never uses the network."""

from pathlib import Path
from urllib.parse import urlsplit


def runs(incomplete: str) -> list[str]:
    """Completes names of runs in RAYTRAIN_STORAGE or ./raytrain-storage, if that is a folder."""
    folder = _folder()
    if folder is None:
        return []
    return sorted(p.name for p in (folder / "runs").glob(f"{_literal(incomplete)}*") if p.is_dir())


def tasks(incomplete: str) -> list[str]:
    """Completes names of tasks that some run in the local storage has scored."""
    folder = _folder()
    if folder is None:
        return []
    found = {p.name for p in folder.glob("runs/*/scores/before/*") if p.is_dir()}
    return sorted(name for name in found if name.startswith(incomplete))


def fields(incomplete: str) -> list[str]:
    """Completes paths of the job's fields."""
    from raytrain.config.explain import all_fields

    paths = [f.path.replace("[]", "") for f in all_fields()]
    return [p for full in paths for p in (full, full.removeprefix("spec.")) if p.startswith(incomplete)]


def _folder() -> Path | None:
    from raytrain.config.locations import storage_location

    uri = storage_location(None).uri
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(parts.path if parts.scheme else uri)


def _literal(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)
