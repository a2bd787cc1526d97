"""Emojis in text, against brute force and against the `emoji` package's own finder."""

import emoji
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.emoji import EmojiMatch, canonical, find, name, rgi
from interp.emoji.data import assigned_characters, countable, emoji_characters
from interp.errors import InputError


def test_the_set_is_unicodes() -> None:
    """3,963 fully-qualified emojis in Unicode 17; at least that many in any later one."""
    assert len(rgi()) == 3963 or emoji.__version__ != "2.16.0"
    assert len(rgi()) >= 3963
    assert set(rgi()) < countable()
    assert not countable() & set("0123456789#*©®™\ufe0f\u200d🏽🇩")


def test_every_emoji_is_found_whole_between_words() -> None:
    for text in rgi():
        assert find(f"a{text}b {text} c") == [
            EmojiMatch(text, 1, 1 + len(text)),
            EmojiMatch(text, 3 + len(text), 3 + 2 * len(text)),
        ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("family 👨‍👩‍👧‍👦!", ["👨‍👩‍👧‍👦"]),
        ("skin 👍🏽 tone", ["👍🏽"]),
        ("flag 🇩🇪🇫🇷, England 🏴󠁧󠁢󠁥󠁮󠁧󠁿", ["🇩🇪", "🇫🇷", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]),
        ("keycap 1️⃣1 and #️⃣ and 2⃣", ["1️⃣", "#️⃣", "2⃣"]),
        ("unqualified ❤ ☀", ["❤", "☀"]),
        ("qualified ❤️ ☀️", ["❤️", "☀️"]),
        ("unqualified inside: ❤‍🔥 🏳‍🌈", ["❤‍🔥", "🏳‍🌈"]),
        ("doubled 😂😂", ["😂", "😂"]),
        ("signs with a selector ©️ ™️", ["©️", "™️"]),
        ("plain 123 # * © ® ™", []),
        ("selector alone \ufe0f, joiner alone \u200d", []),
        ("asks for text: ❤\ufe0e ☺\ufe0e", []),
        ("tone alone 🏽, half a flag 🇩", []),
        ("not joined by Unicode 🐶‍🐶", ["🐶", "🐶"]),
        ("kaomoji :-) (╯°□°) ♩ ★ →", []),
        ("", []),
    ],
)
def test_what_counts(text: str, expected: list[str]) -> None:
    matches = find(text)
    assert [match.text for match in matches] == expected
    assert all(text[match.start : match.end] == match.text for match in matches)


PIECES = st.sampled_from([*rgi()[::11], *sorted(countable())[::17], "\ufe0f", "\ufe0e", "\u200d"])
PIECES |= st.sampled_from([*"1#*© ab.\n🏽🇩🇪👩❤", "é", "中"])


@given(st.lists(PIECES, max_size=12).map("".join))
def test_agrees_with_longest_match_by_brute_force(text: str) -> None:
    found, place = [], 0
    while place < len(text):
        longest = max((e for e in countable() if text.startswith(e, place)), key=len, default="")
        if longest and not text[place + len(longest) :].startswith("\ufe0e"):
            found.append(EmojiMatch(longest, place, place + len(longest)))
            place += len(longest)
        else:
            place += 1
    assert find(text) == found


def test_agrees_with_the_emoji_package_on_ordinary_text() -> None:
    text = " text ".join(rgi())
    theirs = [(hit["emoji"], hit["match_start"]) for hit in emoji.emoji_list(text)]
    assert [(match.text, match.start) for match in find(text)] == theirs


def test_spellings_share_one_canonical_form_and_name() -> None:
    assert canonical("❤") == canonical("❤️") == "❤️"
    assert EmojiMatch("☀", 0, 1).canonical == "☀️"
    assert (name("❤"), name("🇩🇪")) == ("red heart", "Germany")
    assert {canonical(spelling) for spelling in countable() | {"©️"}} == set(rgi())
    for wrong in ("1", "©", "a", "", "😊😊"):
        with pytest.raises(InputError, match="not one emoji"):
            canonical(wrong)


def test_every_emoji_begins_with_an_emoji_character_or_a_plain_sign() -> None:
    assert {text[0] for text in rgi()} - emoji_characters() == set("0123456789#*©®™")
    assert emoji_characters() < set(assigned_characters())
