"""Opinion QA data: schema, loading, the checks before training, and splits by topic."""

from interp.data.checks import check_splits, check_trainable
from interp.data.columns import ColumnMap, Constant
from interp.data.load import load, load_train_test
from interp.data.schema import PUBLISHED, Cleaning, OpinionQA, OpinionRow
from interp.data.splits import split_by_topic
from interp.data.writing import save

__all__ = [
    "PUBLISHED",
    "Cleaning",
    "ColumnMap",
    "Constant",
    "OpinionQA",
    "OpinionRow",
    "check_splits",
    "check_trainable",
    "load",
    "load_train_test",
    "save",
    "split_by_topic",
]
