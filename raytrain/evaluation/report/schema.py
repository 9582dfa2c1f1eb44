"""The published JSON Schema of report.json: `python -m raytrain.evaluation.report.schema > SCHEMA_PATH`."""

import json
import sys
from typing import Any

from raytrain.evaluation.report.model import ReportData

SCHEMA_PATH = "docs/reference/report.schema.json"


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a report as it is written."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "raytrain report",
        **{k: v for k, v in ReportData.model_json_schema(mode="serialization").items() if k != "title"},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n")
