"""Writes the JSON Schemas of reports and comparisons to docs/reference.

Run it with `python -m raytrain.report.schema`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytrain.report.comparison import Comparison
from raytrain.report.model import ReportData, ReportPart

FOLDER = Path("docs/reference")
SCHEMAS: Mapping[str, tuple[str, type[ReportPart]]] = {
    "report.schema.json": ("raytrain report", ReportData),
    "comparison.schema.json": ("raytrain comparison", Comparison),
}
"""Maps file name to title and model."""


def schema(name: str) -> dict[str, Any]:
    """Returns the JSON Schema (2020-12) of one of `SCHEMAS`."""
    title, model = SCHEMAS[name]
    described = {k: v for k, v in model.model_json_schema(mode="serialization").items() if k != "title"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **described}


if __name__ == "__main__":
    for file in SCHEMAS:
        (FOLDER / file).write_text(json.dumps(schema(file), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
