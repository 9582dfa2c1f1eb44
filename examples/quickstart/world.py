"""Builds the quickstart's world: rows of every task, a tokenizer and a small pre-trained T5.

    python -m examples.quickstart.world [--out FOLDER] [--force]

Deterministic and offline. The world is built in a scratch folder and moved to its place when it is
complete. The digest of the sources and settings shows a second call that the world is up to date.
Rows and tokenizer are byte-identical everywhere; the weights only on the same kind of machine, as
sums round differently on others.
"""

import argparse
import hashlib
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from random import Random
from typing import Any

import data_prep.text.tokenizer
from examples.quickstart.rows import SPLITS, TASKS, files, pair
from examples.quickstart.skills import Lesson, lessons, replay
from examples.quickstart.templates import TEMPLATES

HERE = Path(__file__).parent
MANIFEST = "world.json"
_LINE_EVERY = 5.0


@dataclass(frozen=True)
class Settings:
    """Everything that determines the world, apart from the sources."""

    seed: int = 17
    train_rows: int = 3000
    test_rows: int = 200
    replay_rows: int = 3000
    lessons: int = 90_000
    base_tokens: int = 2_400_000
    batch_positions: int = 1024
    vocabulary: int = 2000
    d_model: int = 128
    d_ff: int = 256
    heads: int = 4
    layers: int = 2
    processes: int = 2


TINY = Settings(
    train_rows=40, test_rows=8, replay_rows=30, lessons=300, base_tokens=4_000, d_model=32, d_ff=64, processes=1
)


def digest(settings: Settings) -> str:
    """Returns a digest of the settings, this package's sources and the tokenizer's source."""
    hasher = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for path in [*sorted(HERE.glob("*.py")), Path(data_prep.text.tokenizer.__file__)]:
        hasher.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return hasher.hexdigest()


def up_to_date(folder: Path, settings: Settings) -> bool:
    """Whether the folder contains exactly this world, with every file unchanged."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return bool(manifest["digest"] == digest(settings)) and all(
            _sha256(folder / name) == entry for name, entry in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError):
        return False


def build(folder: Path, settings: Settings, echo: Callable[[str], None]) -> None:
    """Builds the world in `folder`, replacing an older world."""
    from examples.quickstart import tokenizer

    if settings.processes > 1:
        _import_elsewhere()
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        echo("rows: generating")
        counts = {split: settings.train_rows if split == "train" else settings.test_rows for split in SPLITS}
        rows = files(settings.seed, counts)
        rehearsals = {
            "replay/all-skills.jsonl": replay(settings.seed, settings.replay_rows, with_probes=True),
            "replay/without-probes.jsonl": replay(settings.seed, settings.replay_rows, with_probes=False),
        }
        for name, content in (rows | {name: _lines(found) for name, found in rehearsals.items()}).items():
            (scratch / name).parent.mkdir(exist_ok=True)
            (scratch / name).write_bytes(content)
        taught = lessons(settings.seed, settings.lessons)
        echo(f"rows: {len(rows) + len(rehearsals)} files, {len(taught):,} lessons for the base model")

        model_folder = scratch / "model"
        model_folder.mkdir()
        pieces = tokenizer.train(_corpus(settings, taught), settings.vocabulary, model_folder)
        echo(f"tokenizer: {pieces.get_vocab_size():,} tokens")

        with ThreadPoolExecutor(1) as thread:
            encoding = thread.submit(tokenizer.encode, pieces, taught)  # the library's own threads, while torch loads
            from examples.quickstart import base

            shape = base.Shape(settings.d_model, settings.d_ff, settings.heads, settings.layers)
            model = base.new_model(shape, pieces.get_vocab_size(), settings.seed)
            encoded = encoding.result()
        echo(f"base model: {model.num_parameters():,} parameters, {settings.base_tokens:,} tokens of pre-training")
        outcome = base.pretrain(
            model,
            base.Lessons(encoded, settings.base_tokens, settings.batch_positions, settings.seed),
            processes=settings.processes,
            on_progress=_every(_LINE_EVERY, echo),
        )
        base.save_model(model, model_folder)
        _commit(scratch, folder, settings, outcome.loss)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _import_elsewhere() -> None:
    """Starts the process that pre-training forks its others from.

    It imports torch while this one is still making rows, so the others need not import it again.
    """
    multiprocessing.set_forkserver_preload(["examples.quickstart.base", "transformers.models.t5.modeling_t5"])
    forkserver.ensure_running()


def _corpus(settings: Settings, taught: list[Lesson]) -> list[str]:
    """Returns the tokenizer's corpus: lessons, and training rows of every task in all templates."""
    rng = Random(f"{settings.seed}/corpus")
    texts = [text for lesson in taught[:20_000] for text in (lesson.prompt, lesson.target)]
    for task in TASKS:
        for _ in range(settings.train_rows):
            prompt, target = pair(task, rng, "train")
            texts += [rng.choice(TEMPLATES[task]).replace("{input}", prompt), target]
    return texts


def _lines(found: list[Lesson]) -> bytes:
    rows = ({"input": lesson.prompt, "target": lesson.target, "skill": lesson.skill} for lesson in found)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _commit(scratch: Path, folder: Path, settings: Settings, loss: float) -> None:
    """Writes the manifest last, then moves the world to its place."""
    import tokenizers
    import torch
    import transformers

    names = sorted(str(path.relative_to(scratch)) for path in scratch.rglob("*") if path.is_file())
    manifest = {
        "digest": digest(settings),
        "settings": asdict(settings),
        "base_loss": round(loss, 4),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, tokenizers)},
        "files": {name: _sha256(scratch / name) for name in names},
    }
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    scratch.chmod(0o755)  # mkdtemp creates it for its owner only
    if folder.exists():
        shutil.rmtree(folder)
    scratch.replace(folder)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _every(seconds: float, echo: Callable[[str], None]) -> Callable[[Any], None]:
    """Returns a progress callback that echoes at most once every `seconds`, and at the end."""
    last = time.monotonic()

    def report(now: Any) -> None:
        nonlocal last
        if now.tokens < now.total and time.monotonic() - last < seconds:
            return
        last = time.monotonic()
        left = now.seconds / now.tokens * max(0, now.total - now.tokens)
        echo(
            f"base model: {min(1.0, now.tokens / now.total):4.0%}, loss {now.loss:.2f}, "
            f"{now.tokens / now.seconds:,.0f} tokens/s, {left:.0f} s left"
        )

    return report


@dataclass
class _Screen:
    """A line that is rewritten in a terminal; separate lines elsewhere."""

    start: float = field(default_factory=time.monotonic)
    open_line: bool = False

    def echo(self, text: str) -> None:
        text = f"[{time.monotonic() - self.start:4.0f} s] {text}"
        if sys.stdout.isatty():
            print(f"\r\033[K{text}", end="", flush=True)
            self.open_line = True
        else:
            print(text, flush=True)

    def close(self) -> None:
        if self.open_line:
            print(flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns 0 on success, 2 if the folder is in use, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.quickstart.world", description="Build the quickstart's world."
    )
    parser.add_argument("--out", type=Path, default=HERE / "world", help="folder of the world (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="rebuild it even if it is up to date")
    parser.add_argument(
        "--base-tokens",
        type=int,
        default=Settings.base_tokens,
        help="pre-training tokens (default: %(default)s); half of it gives a weaker model in half the time",
    )
    given = parser.parse_args(arguments)
    settings = Settings(base_tokens=given.base_tokens)
    if not given.force and up_to_date(given.out, settings):
        print(f"{given.out} is up to date")
        return 0
    if given.out.exists() and any(given.out.iterdir()) and not (given.out / MANIFEST).exists():
        print(
            f"{given.out} is not empty and contains no quickstart world\n  Choose another folder with --out.",
            file=sys.stderr,
        )
        return 2
    screen = _Screen()
    try:
        build(given.out, settings, screen.echo)
    except KeyboardInterrupt:
        screen.close()
        print("interrupted; no files were left behind", file=sys.stderr)
        return 130
    screen.echo(f"the world is in {given.out}")
    screen.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
