"""The data card: what was prepared for every task, from the shard set that the run names."""

from data_prep.storage import Store
from raytrain.evaluation.report.document import Document
from raytrain.evaluation.report.model import Data
from raytrain.evaluation.report.stored import StoredRun


def data(store: Store, run: StoredRun, document: Document) -> Data:
    """Mixture, note and what was prepared for every task."""
    return Data(mixture=document.mixture, note=document.note)
