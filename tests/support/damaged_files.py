"""Reads damaged files one after the other, in a process whose memory and time are watched.

`python -m tests.support.damaged_files COUNT NAME...` prints, as JSON, how many were read and
refused, and by how many bytes the largest memory of the process grew. It ends with a traceback and
exit code 1 at the first file that takes longer than `SECONDS`, and at any error but a refusal.
"""

import faulthandler
import io
import json
import random
import resource
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.sources.file_names import format_of
from data_prep.sources.readers import read_rows
from raytrain_core.errors import DataError

SECONDS = 60.0
"""For one file of a few kilobytes, which takes milliseconds: longer is a hang."""
NAMES = ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.conll", "a.parquet")


def originals() -> dict[str, bytes]:
    """Returns small files of every format, before damage."""
    rows = [{"text": f'say "{i}", é', "out": f"{i}"} for i in range(20)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), table)
    quoted = [[row["text"].replace('"', '""'), row["out"]] for row in rows]
    return {
        "a.jsonl": lines,
        "a.json": json.dumps({"data": rows}, indent=1).encode(),
        "a.csv": "".join(f'"{text}",{out}\n' for text, out in [["text", "out"], *quoted]).encode(),
        "a.tsv": "".join(f'"{text}"\t{out}\n' for text, out in [["text", "out"], *quoted]).encode(),
        "a.conll": b"EU NNP B-ORG\nrejects VBZ O\n\n" * 10,
        "a.parquet": table.getvalue(),
    }


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Returns the bytes with one to six places changed, put in, taken out or doubled."""
    damaged = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(damaged))
        action = chance.randrange(4)
        if action == 0:
            damaged[at] = chance.randrange(256)
        elif action == 1:
            damaged[at:at] = chance.choice([b'"', b"\\", b"\n", b"\r", b"\x00", b"{", b"[", b"\xef\xbb\xbf"])
        elif action == 2 and len(damaged) > 9:
            del damaged[at : at + chance.randint(1, 8)]
        else:
            damaged[at:at] = damaged[at : at + chance.randint(1, 40)]
    return bytes(damaged)


def was_read(path: Path) -> bool:
    """Reads all rows; returns whether the file was not refused."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        for _ in read_rows(path, format_of(path.name) or "jsonl", path.name):
            pass
    except DataError:
        return False
    finally:
        faulthandler.cancel_dump_traceback_later()
    return True


def peak() -> int:
    """Returns the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(count: int, names: list[str]) -> None:
    """Reads `count` damaged files of each name."""
    read = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder, name)
            path.write_bytes(originals()[name])
            assert was_read(path), f"{name} is refused before it is damaged"
        before = peak()
        for name in names:
            chance = random.Random(name)
            for number in range(count):
                path = Path(folder, f"{number}-{name}")  # a new name each: what was detected is remembered
                path.write_bytes(mutate(originals()[name], chance))
                read += was_read(path)
                path.unlink()
    total = count * len(names)
    print(json.dumps({"read": read, "refused": total - read, "grown": peak() - before}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:] or list(NAMES))
