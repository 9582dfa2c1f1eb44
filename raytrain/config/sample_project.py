"""The project that `raytrain init --sample` writes: rows, a tiny model and a job that runs."""

import shutil
from pathlib import Path

from raytrain.config.sample_model import write_model
from raytrain_core.errors import UsageError

_FILES = Path(__file__).parent / "sample"


def write_sample(folder: Path, *, force: bool = False) -> Path:
    """Writes the project into `folder` and returns its job file.

    Nothing of it needs the network. UsageError if one of its files exists (without `force`), or if
    it cannot be written.
    """
    names = sorted(str(path.relative_to(_FILES)) for path in _FILES.rglob("*") if path.is_file())
    present = [name for name in names if (folder / name).exists()]
    if present and not force:
        raise UsageError(
            f"{folder / present[0]} already exists", hint="give another folder, or replace its files with --force"
        )
    try:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_FILES / name, folder / name)
        write_model(folder / "model")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from None
    return folder / "job.yaml"
