"""Questions of opinion to begin with, one per topic, in plain words."""

from interp.base.errors import InputError

_FORMS = (
    "What do you think about {}?",
    "Do you like {}?",
    "How do you feel about {}?",
    "What is your opinion on {}?",
)
TOPICS = (
    "dogs", "long walks", "public transport", "cooking at home", "living in a big city",
    "working from home", "rainy days", "planning a holiday", "neighbours", "reading before bed",
    "jazz", "cycling to work", "early mornings", "board games", "learning a language",
    "shopping online", "camping", "museums", "winter evenings", "street markets", "gardening",
    "team sports", "old films", "train journeys", "cats", "small talk", "birthday parties",
    "saving money", "video games", "painting", "the seaside", "coffee", "school uniforms",
    "keeping a diary", "dancing", "mountain hikes", "fast food", "science fiction", "houseplants",
    "volunteering",
)  # fmt: skip


def questions_on(n: int) -> list[tuple[str, str]]:
    """The first `n` questions, each with its topic.

    Raises:
        InputError: for more than there are, or none.
    """
    if not 1 <= n <= len(TOPICS):
        raise InputError(
            f"there are 1 to {len(TOPICS)} questions, got {n}; bring your own for more"
        )
    return [(_FORMS[i % len(_FORMS)].format(topic), topic) for i, topic in enumerate(TOPICS[:n])]
