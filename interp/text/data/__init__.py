"""Opinion QA data: schema, loading, the checks before training, and splits by topic."""

from interp.text.data.checks import check_splits, check_trainable
from interp.text.data.columns import ColumnMap, Constant
from interp.text.data.load import load, load_train_test
from interp.text.data.schema import PUBLISHED, Cleaning, OpinionQA, OpinionRow
from interp.text.data.splits import split_by_topic
from interp.text.data.writing import save

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
