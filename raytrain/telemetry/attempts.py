"""Attempts: numbered starts of a run. The numbers let two drivers of one run notice each other."""

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

from raytrain.config.run_layout import RunLayout
from raytrain_core.errors import TrainingError
from raytrain_core.storage import AlreadyExistsError, CorruptError, NotFoundError, Store

_RECORD = re.compile(r"/a(\d+)\.json$")


class SupersededError(TrainingError):
    """A newer attempt has taken over the run, so this one must stop writing."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a run; `number` counts from 1. Picklable, so that workers can check it."""

    store: Store
    layout: RunLayout
    number: int
    token: str

    @classmethod
    def begin(cls, store: Store, layout: RunLayout, info: Mapping[str, Any] | None = None) -> Self:
        """Takes the next free number; concurrent starts get different numbers.

        `info` (JSON) is added to the attempt's record.
        """
        token = uuid4().hex
        number = max(_numbers(store, layout), default=0) + 1
        while True:
            record = {
                **(info or {}),
                "attempt": number,
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "token": token,
            }
            try:
                store.put(layout.attempt(number), (json.dumps(record, indent=1) + "\n").encode(), if_absent=True)
            except AlreadyExistsError:
                number += 1
            else:
                return cls(store, layout, number, token)

    def check(self) -> None:
        """Raises SupersededError if a newer attempt exists or the run was started over.

        This is the `guard` of every commit.
        """
        newest = max(_numbers(self.store, self.layout), default=0)
        if newest > self.number:
            raise self._superseded(f"attempt {newest}", newest)
        record = _read(self.store, self.layout, self.number)
        if record is None or record.get("token") != self.token:
            raise self._superseded("a fresh start", newest)

    def superseded(self) -> bool:
        """Whether `check` would raise."""
        try:
            self.check()
        except SupersededError:
            return True
        return False

    def _superseded(self, what: str, newest: int) -> SupersededError:
        record = (_read(self.store, self.layout, newest) if newest else None) or {}
        where = (
            f" on {record['host']} (pid {record.get('pid')}, started {record.get('started')})"
            if "host" in record
            else ""
        )
        return SupersededError(
            f"run {self.layout.name}: {what}{where} took over from attempt {self.number}, which stops now",
            hint="only one driver may write a run; nothing is lost, the newer attempt continues",
        )


def read_attempts(store: Store, layout: RunLayout) -> list[dict[str, Any]]:
    """Returns the records of all attempts, oldest first: attempt, started, host, pid and more."""
    records = (_read(store, layout, number) for number in sorted(_numbers(store, layout)))
    return [record for record in records if record is not None]


def _numbers(store: Store, layout: RunLayout) -> list[int]:
    found = (_RECORD.search(stat.key) for stat in store.list(f"{layout.attempts}/"))
    return [int(match[1]) for match in found if match]


def _read(store: Store, layout: RunLayout, number: int) -> dict[str, Any] | None:
    key = layout.attempt(number)
    try:
        record = json.loads(store.get(key))
    except NotFoundError:
        return None
    except ValueError as error:
        raise CorruptError(f"{store.uri}/{key}: not an attempt record ({error})") from None
    if not isinstance(record, dict):
        raise CorruptError(f"{store.uri}/{key}: not an attempt record")
    return record
