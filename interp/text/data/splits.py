"""Train and test by topic, so that no question about a test topic is ever trained on."""

from interp.base.errors import DataError
from interp.text.data.schema import OpinionQA, topic_key


def split_by_topic(data: OpinionQA, *, test_share: float, seed: int) -> tuple[OpinionQA, OpinionQA]:
    """Draw `test_share` of the topics for the test set; every row follows its topic.

    The draw depends on the topics and the seed only, not on the order of the rows, so two traits
    with the same topics are split alike. At least one topic goes to each side.

    Args:
        data: rows with at least two topics.
        test_share: share of the topics (not of the rows) in the test set, between 0 and 1.
        seed: of the draw.

    Returns:
        `(train, test)`, rows in their old order.

    Raises:
        DataError: if the share is not inside (0, 1) or there are fewer than two topics.
    """
    import numpy as np

    if not 0 < test_share < 1:
        raise DataError(f"test share {test_share}: must be above 0 and below 1")
    topics = sorted({topic_key(row.topic) for row in data.rows})
    if len(topics) < 2:
        raise DataError(f"{data.source}: {len(topics)} topic; a split by topic needs two or more")
    count = min(max(round(test_share * len(topics)), 1), len(topics) - 1)
    drawn = np.random.default_rng(seed).permutation(len(topics))[:count]
    in_test = {topics[index] for index in drawn}
    train = data.only(row for row in data.rows if topic_key(row.topic) not in in_test)
    test = data.only(row for row in data.rows if topic_key(row.topic) in in_test)
    return train, test
