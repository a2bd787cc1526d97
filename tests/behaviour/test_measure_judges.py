"""Judges: the local one by brute force, the endpoint against a real server that misbehaves."""

import asyncio
import gzip
import json
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from thinned import thinned
from tiny import llama, tokenizer

from interp.base import labels
from interp.base.traits import TRAITS, Trait
from interp.behaviour import Response
from interp.data import OpinionQA
from interp.data.schema import OpinionRow
from interp.errors import InputError
from interp.measures import (
    EndpointJudge,
    LocalJudge,
    Verdict,
    adjective_evaluation,
    hear,
    judge_answers,
    judge_auroc,
    krippendorff_alpha,
)
from interp.measures.endpoint_judge import _loopback
from interp.models import ChatFormat

E = Trait.EXTRAVERSION


def said(*texts: str) -> list[Response]:
    return [Response(f"Q{i}?", f"t{i % 3}", (1,), (2,), text, True) for i, text in enumerate(texts)]


# --- the local judge -----------------------------------------------------------------------------


def test_markers_are_distinct_pairs_for_each_trait():
    words = [word for trait in TRAITS for pair in labels.of(trait).markers for word in pair]
    assert [len(labels.of(trait).markers) for trait in TRAITS] == [7] * 5
    assert len(set(words)) == 70
    assert ("talkative", "silent") in labels.of(E).markers
    assert ("nervous", "at ease") in labels.of(Trait.NEUROTICISM).markers


def test_local_scores_are_the_formula_on_single_rows():
    model, form = llama(), ChatFormat.from_tokenizer(tokenizer())
    judge = LocalJudge(model, form)
    answers = [("Rain?", "I love it!"), ("Day?", "  "), ("Plans?", "Well, I plan my day.")]
    made = judge.judge(answers, E)
    assert made[1] == Verdict(None, "empty answer")

    def log_prob(question: str, answer: str, adjective: str) -> float:
        request = (
            f"Someone was asked: {question}\nThe person said: {answer}\n"
            "Describe this person's character in one word."
        )
        whole = form.example(request, adjective)
        logits = model(input_ids=torch.tensor([whole.ids])).logits[0].double().log_softmax(-1)
        places = range(whole.answer_start, whole.answer_end)
        return sum(float(logits[k - 1, whole.ids[k]]) for k in places)

    for index in (0, 2):
        question, answer = answers[index]
        parts = []
        for high, low in labels.of(E).markers:
            own = log_prob(question, answer, high) - log_prob(question, answer, low)
            bare = log_prob(question, "No opinion.", high) - log_prob(question, "No opinion.", low)
            parts.append(1 / (1 + np.exp(bare - own)))
        assert made[index].score == pytest.approx(1 + 4 * np.mean(parts), abs=1e-3)


def test_a_neutral_answer_scores_the_middle():
    judge = LocalJudge(llama(), ChatFormat.from_tokenizer(tokenizer()))
    assert judge.judge([("Rain?", "No opinion.")], E)[0].score == pytest.approx(3.0, abs=1e-4)


# --- what is made of verdicts --------------------------------------------------------------------


class Told:
    """A judge that says what it is told to."""

    name = "told"

    def __init__(self, *verdicts: float | str) -> None:
        self.verdicts = [
            Verdict(None, v) if isinstance(v, str) else Verdict(float(v)) for v in verdicts
        ]

    def judge(self, answers, trait, *, progress=None):  # noqa: ARG002
        return self.verdicts[: len(answers)]


def test_failures_are_counted_and_bounded():
    answers = said(*"abcdef")
    before = judge_answers(answers, E, Told(1, 2, "timeout", 3, 3, 2))
    after = judge_answers(answers, E, Told(4, 4, 5, "timeout", "http status 500", 2))
    made = adjective_evaluation(before, after)
    assert made.n_failed == 3
    table = made.to_dataframe().set_index("measure")
    assert table.loc["PAE", "value"] == pytest.approx((3 + 2 + 0) / 3)
    assert table.loc["PAE", "n"] == 3
    assert table.loc["failed", "value"] == 3
    assert table.loc["failed: timeout", "value"] == 2
    # Known: 3, 2, 0. Missing before: 5 - [1, 5]; missing after: [1, 5] - 3, twice.
    whole = table.loc["PAE, whatever the failures"]
    assert whole["low"] == pytest.approx((3 + 2 + 0 + 0 - 2 - 2) / 6)
    assert whole["high"] == pytest.approx((3 + 2 + 0 + 4 + 2 + 2) / 6)
    one = before.to_dataframe().set_index("measure")
    assert one.loc["judge's score", "value"] == pytest.approx(11 / 5)
    assert one.loc["score, whatever the failures", "high"] == pytest.approx((11 + 5) / 6)


def test_no_interval_leaves_the_scale():
    answers = said(*"abcdefgh")
    low = judge_answers(answers, E, Told(*[5] * 7, 2))
    row = low.to_dataframe().iloc[0]
    assert row["value"] < row["high"] == 5
    first = judge_answers(answers, E, Told(*[1] * 8))
    made = adjective_evaluation(first, low).to_dataframe().iloc[0]
    assert made["value"] < made["high"] == 4
    assert adjective_evaluation(low, first).to_dataframe().iloc[0]["low"] == -4


def test_all_failing_and_other_questions_are_errors():
    with pytest.raises(
        InputError, match="all 2 judgements failed, 2 of them with: http status 401"
    ):
        judge_answers(said("a", "b"), E, Told("http status 401", "http status 401"))
    one = judge_answers(said("a", "b"), E, Told(1, 2))
    with pytest.raises(InputError, match="same questions"):
        adjective_evaluation(one, judge_answers(said("a", "b", "c"), E, Told(1, 2, 3)))
    with pytest.raises(InputError, match="either a score or a problem"):
        Verdict(None)
    with pytest.raises(InputError, match=r"lies in 1\.\.5, got 6"):
        Verdict(6.0)


def test_auroc_is_scikit_learns_and_counts_failures():
    rng = np.random.default_rng(0)
    rows = [
        OpinionRow(trait, f"t{i % 12}", f"Q{i}?", f"answer {trait} {i}")
        for i in range(60)
        for trait in (E, Trait.OPENNESS)
    ]
    heard = {row.answer: float(np.clip(3 + (row.trait is E) + rng.normal(), 1, 5)) for row in rows}

    class Hears:
        name = "hears"

        def judge(self, answers, trait, *, progress=None):  # noqa: ARG002
            return [
                Verdict(None, "mute") if a.endswith(" 7") else Verdict(heard[a]) for _, a in answers
            ]

    made = judge_auroc(Hears(), OpinionQA(tuple(rows), "made", "0" * 64), E)
    kept = [row for row in rows if not row.answer.endswith(" 7")]
    wanted = roc_auc_score([r.trait is E for r in kept], [heard[r.answer] for r in kept])
    assert made.auroc == pytest.approx(wanted)
    assert made.low < wanted < made.high
    assert (made.n_own, made.n_other, made.n_failed) == (59, 59, 2)


# --- the jury ------------------------------------------------------------------------------------


def test_alpha_is_krippendorffs_own_example():
    """Krippendorff 2011, "Computing Krippendorff's alpha-reliability": interval, .849."""
    nan = float("nan")
    scores = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]
    assert krippendorff_alpha(torch.tensor(scores)) == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha(torch.tensor([[2.0, 2.0], [2.0, nan]])) is None
    assert krippendorff_alpha(torch.tensor([[1.0, 2.0]])) is None


def test_a_jury_hides_who_wrote_shuffles_and_leaves_out_the_deaf():
    class Hears:
        """Scores the party of an answer; notes the order of what it reads."""

        def __init__(self, name: str, sign: int) -> None:
            self.name, self.sign, self.read = name, sign, []

        def judge(self, answers, trait, *, progress=None):  # noqa: ARG002
            self.read.append([answer for _, answer in answers])
            return [Verdict(3.0 + self.sign * ("party" in answer)) for _, answer in answers]

    rows = tuple(
        OpinionRow(trait, f"t{i % 12}", f"Q{i}?", f"{'party' if trait is E else 'plan'} {i}")
        for i in range(24) for trait in (E, Trait.OPENNESS)
    )  # fmt: skip
    reference = OpinionQA(rows, "made", "0" * 64)
    answers = {"base": said(*(f"plan {i}" for i in range(9))),
               "tuned": said(*(f"party {i}" for i in range(9)))}  # fmt: skip
    one, two, deaf = Hears("one", 2), Hears("two", 1), Hears("deaf", -1)
    made = hear(answers, E, [one, two, deaf], reference, seed=3)
    assert made.used == ("one", "two")
    assert made.scores[2].isnan().all()
    table = made.to_dataframe().set_index("measure")
    assert table.loc["judge's AUROC: deaf", "note"] == "not above chance: left out"
    assert len(deaf.read) == 1  # the reference answers alone
    orders = [judge.read[-1] for judge in (one, two)]
    given = [answer.text for some in answers.values() for answer in some]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(given)
    assert orders[0] != orders[1] != given
    pae = adjective_evaluation(made.of("base"), made.of("tuned")).to_dataframe()
    assert pae.iloc[0]["value"] == pytest.approx(1.5)
    assert made.alpha == pytest.approx(krippendorff_alpha(made.scores[:2]))
    with pytest.raises(InputError, match="no judge tells extraversion above chance"):
        hear(answers, E, [deaf], reference)
    with pytest.raises(InputError, match="have one name"):
        hear(answers, E, [one, one], reference)


class Ear:
    """Hears a party, from a middle of its own; mute on some answers."""

    def __init__(self, name: str, middle: float, mute: str = "none") -> None:
        self.name, self.middle, self.mute = name, middle, mute

    def judge(self, answers, trait, *, progress=None):  # noqa: ARG002
        return [
            Verdict(None, "mute") if a == self.mute else Verdict(self.middle + ("party" in a))
            for _, a in answers
        ]


def parties(topics: int) -> OpinionQA:
    rows = tuple(
        OpinionRow(trait, f"t{i % topics}", f"Q{i}?", f"{'party' if trait is E else 'plan'} {i}")
        for i in range(24) for trait in (E, Trait.OPENNESS)
    )  # fmt: skip
    return OpinionQA(rows, "made", "0" * 64)


def test_a_judge_that_fails_on_one_side_moves_no_mean_of_a_jury():
    """Both models write alike, and each judge says so; a strict one is mute about one answer."""
    answers = {"base": said(*(f"plan {i}" for i in range(6))),
               "tuned": said(*(f"plan {i}" for i in range(5)), "plan 5.")}  # fmt: skip
    made = hear(answers, E, [Ear("mild", 4.0), Ear("strict", 1.0, "plan 5.")], parties(12))
    pae = adjective_evaluation(made.of("base"), made.of("tuned"))
    assert pae.n_failed == 1
    assert pae.to_dataframe().iloc[0]["value"] == pytest.approx(0)


def test_reference_answers_of_one_topic_let_no_judge_in():
    answers = {"base": said("plan 1", "party 2")}
    with pytest.raises(InputError, match=r"nan\]\); give reference answers about more topics"):
        hear(answers, E, [Ear("mild", 4.0)], parties(1))


# --- the endpoint --------------------------------------------------------------------------------

KEY = "sk-very-secret-0123"


@contextmanager
def server(script, drips=0):
    """A chat endpoint; `script(text, nth time that text's answer was asked)` says what it does.

    Returns a number or text (the reply), a status as `int` below 0, `"hang"`, raw bytes, or a list
    of what is written to the socket, piece by piece and slowly.
    """
    asked: Counter[str] = Counter()
    seen: list[dict] = []
    hung_up: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][0]["content"]
            name = next(word for word in text.split() if word.startswith("answer-"))
            asked[name] += 1
            seen.append(
                {
                    "path": self.path,
                    "key": self.headers.get("Authorization"),
                    "encoding": self.headers["Accept-Encoding"],
                    "says": self.headers.get("OpenAI-Organization"),
                    **body,
                }
            )
            said = script(name, asked[name])
            if said == "hang":
                self.connection.recv(1)  # until the client leaves
                self.close_connection = True
                return
            if isinstance(said, list):
                try:
                    for piece in said:
                        self.wfile.write(piece)
                        time.sleep(0.05)
                except OSError:
                    hung_up.append(name)
                self.close_connection = True
                return
            if isinstance(said, int) and said < 0:
                self.send_response(-said)
                self.send_header("Location", "http://127.0.0.1:9/stolen")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            reply = {"choices": [{"message": {"role": "assistant", "content": str(said)}}]}
            raw = said if isinstance(said, bytes) else json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", asked, seen
        while len(hung_up) < drips:  # a client that waits for the end of a drip never comes here
            time.sleep(0.01)
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def endpoint(address: str, **changes) -> EndpointJudge:
    settings = {"timeout": 60.0, "attempts": 3, "wait": 0.01, "workers": 1, **changes}
    return EndpointJudge(address, "judge-1", **settings)


def pairs(*names: str) -> list[tuple[str, str]]:
    return [("Why?", f"answer-{name}") for name in names]


def test_right_answers_are_read_in_order_whatever_their_dress():
    replies = {
        "a": "4",
        "b": " **2**. ",
        "c": "Score: 5",
        "d": "3/5",
        "e": "1.0",
        "f": "4 out of 5",
    }
    with server(lambda name, _: replies[name[-1]]) as (address, asked, seen):
        made = endpoint(address, workers=3).judge(pairs(*"abcdef"), E)
    assert [v.score for v in made] == [4, 2, 5, 3, 1, 4]
    assert set(asked.values()) == {1}
    assert {s["path"] for s in seen} == {"/v1/chat/completions"}
    assert {(s["model"], s["temperature"], s["key"]) for s in seen} == {("judge-1", 0, None)}
    assert all("talkative" in s["messages"][0]["content"] for s in seen)


def test_a_number_on_the_way_to_a_score_is_none():
    """A reply that was cut may hold any number; one that begins with its score holds that."""
    replies = {"a": "Of the 5 adjectives, most fit", "b": "4. The answer is", "c": "Score: 3, for"}

    def script(name, _):
        message = {"role": "assistant", "content": replies[name[-1]]}
        return json.dumps({"choices": [{"message": message, "finish_reason": "length"}]}).encode()

    with server(script) as (address, asked, _):
        made = endpoint(address, attempts=2).judge(pairs(*"abc"), E)
    assert [v.score for v in made] == [None, 4, 3]
    assert made[0].problem == "nonsense reply (cut at max_tokens 16, no score yet)"
    assert asked["answer-a"] == 2


def test_passing_failures_are_tried_again_and_lasting_ones_counted():
    def script(name, nth):
        good = {"answer-late": "hang", "answer-busy": -429, "answer-odd": "I like it"}
        if name in good:
            return good[name] if nth == 1 else 4
        return {
            "answer-dead": "hang", "answer-broken": -500, "answer-vague": "between 2 and 4",
            "answer-high": 9, "answer-shape": b'{"choices": []}', "answer-text": b"<html>",
            "answer-gone": -404, "answer-moved": -307,
        }[name]  # fmt: skip

    names = ["late", "busy", "odd", "dead", "broken", "vague", "high", "shape", "text", "gone",
             "moved"]  # fmt: skip
    with server(script) as (address, asked, _):
        made = endpoint(address, timeout=2).judge(pairs(names[0]), E)
        made += endpoint(address, give_up_after=99).judge(pairs(*names[1:3], *names[4:]), E)
        made.insert(3, endpoint(address, timeout=0.2).judge(pairs(names[3]), E)[0])
    assert [v.score for v in made[:3]] == [4, 4, 4]
    problems = [v.problem for v in made[3:]]
    assert problems == [
        "timeout after 0.2 s", "http status 500", "nonsense reply (no score from 1 to 5)",
        "nonsense reply (no score from 1 to 5)", "nonsense reply (no message in it)",
        "nonsense reply (no message in it)", "http status 404", "http status 307",
    ]  # fmt: skip
    counts = [asked[f"answer-{name}"] for name in names if name != "dead"]
    assert counts == [2, 2, 2, 3, 3, 3, 3, 3, 1, 1], "what cannot pass is asked once"


OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "headers": [OK, b"X-Slow: ", *[b"a"] * 400],
    "interim": [b"HTTP/1.1 100 Continue\r\n\r\n"] * 400,
    "body": [OK + b"\r\n", *[b" "] * 400],
    "length": [OK + b"Content-Length: 400\r\n\r\n", *[b" "] * 400],
    "chunks": [OK + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 400],
}


@pytest.mark.parametrize("kind", thinned(list(DRIPS), keep=2))
def test_the_timeout_holds_for_the_whole_exchange_however_it_drips(kind):
    with server(lambda *_: DRIPS[kind], drips=1) as (address, asked, _):
        made = endpoint(address, attempts=1, timeout=1).judge(pairs("a"), E)
    assert made == [Verdict(None, "timeout after 1 s")]
    assert asked["answer-a"] == 1


def test_a_name_that_is_looked_up_for_ever_is_not_waited_for(monkeypatch):
    found, real = threading.Event(), socket.getaddrinfo

    def slow(host, *args, **options):
        if host in ("slow.example", b"slow.example"):
            assert found.wait(60)
            host = "127.0.0.1"
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    made = endpoint("http://slow.example/v1", timeout=0.2, attempts=1).judge(pairs("a"), E)
    assert made == [Verdict(None, "timeout after 0.2 s")]
    assert not found.is_set()
    found.set()


def test_interrupting_ends_what_drips():
    both = threading.Barrier(2, timeout=60)
    main = threading.main_thread().ident

    def script(*_):
        if both.wait() == 0:
            signal.pthread_kill(main, signal.SIGINT)
        return DRIPS["body"]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with server(script, drips=2) as (address, asked, _), pytest.raises(KeyboardInterrupt):
            endpoint(address, timeout=600, workers=2).judge(pairs("a", "b", "c"), E)
    finally:
        signal.signal(signal.SIGINT, before)
    assert set(asked) == {"answer-a", "answer-b"}


def test_a_reply_is_bounded_and_never_unpacked():
    packed = gzip.compress(gzip.compress(bytes(1_000_000)))
    replies = {
        "answer-flood": [OK + b"\r\n" + b" " * 1_100_000],
        "answer-packed": [OK + b"Content-Encoding: gzip, gzip\r\nContent-Length: "
                          + str(len(packed)).encode() + b"\r\n\r\n" + packed],
    }  # fmt: skip
    with server(lambda name, _: replies[name]) as (address, _, seen):
        made = endpoint(address, attempts=1, timeout=10).judge(pairs("flood", "packed"), E)
    assert [v.problem for v in made] == [
        "reply of more than 1,000,000 bytes", "compressed reply, which was not asked for",
    ]  # fmt: skip
    assert {s["encoding"] for s in seen} == {"identity"}


def test_this_machine_is_never_asked_through_a_proxy(monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with server(lambda *_: 3) as (address, _, seen), server(lambda *_: 4) as (proxy, _, through):
        monkeypatch.setenv("HTTP_PROXY", proxy.removesuffix("/v1"))
        other = address.replace("127.0.0.1", "localhost")
        made = [endpoint(a, timeout=10).judge(pairs("a"), E)[0].score for a in (address, other)]
        assert (made, len(seen), through) == ([3, 3], 2, [])
        far = endpoint("http://judge.example/v1", timeout=10).judge(pairs("a"), E)
    assert far == [Verdict(4.0)], "others go where the environment says"
    assert through[0]["path"] == "http://judge.example/v1/chat/completions"


@pytest.mark.parametrize(
    "host",
    ["localhost.", "LOCALHOST", "127.1", "2130706433", "0x7f.1", "0.0.0.0", "::", "::1",
     "::ffff:127.0.0.1", "a.localhost", socket.gethostname()],
)  # fmt: skip
def test_this_machine_is_known_however_it_is_written(host):
    assert _loopback(host)
    assert not any(map(_loopback, ("localhost.example", "127.0.0.1.example", "128.1", "")))


def test_a_running_loop_may_ask():
    async def inside(address):
        return endpoint(address).judge(pairs("a"), E)

    with server(lambda *_: 2) as (address, *_):
        assert asyncio.run(inside(address)) == [Verdict(2.0)]


def test_a_nonsense_reply_is_answered_with_a_reminder():
    with server(lambda _, nth: "Well..." if nth == 1 else 2) as (address, _, seen):
        endpoint(address).judge(pairs("a"), E)
    first, second = (s["messages"][0]["content"] for s in seen)
    assert second.startswith(first)
    assert "held no score" in second


def test_a_dead_endpoint_is_given_up_and_the_rest_counted():
    steps = []
    with server(lambda *_: -503) as (address, asked, _):
        judge = endpoint(address, give_up_after=3)
        made = judge.judge(pairs(*map(str, range(9))), E, progress=lambda *step: steps.append(step))
    assert [v.problem for v in made] == ["http status 503"] * 3 + [
        "not asked: 3 failures in a row"
    ] * 6
    assert len(asked) == 3
    assert steps[-1] == ("judging extraversion", 9, 9)
    nobody = endpoint(address, attempts=1).judge(pairs("a"), E)
    assert nobody[0].problem == "no connection (ConnectError)"


def test_the_key_goes_to_the_address_and_nowhere_else(monkeypatch, caplog):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-another")
    monkeypatch.setenv("OPENAI_ORG_ID", "somebody")
    caplog.set_level(0)
    with server(lambda name, _: -302 if name == "answer-b" else 3) as (address, _, seen):
        judge = endpoint(address, key_variable="JUDGE_KEY")
        made = judge.judge(pairs("a", "b"), E)
    assert {(s["key"], s["says"]) for s in seen} == {(f"Bearer {KEY}", None)}
    assert made[1].problem == "http status 302", "a redirect is not followed"
    assert KEY not in repr(judge) + repr(made) + judge.name + caplog.text
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n")
    with pytest.raises(InputError, match="variable JUDGE_KEY") as problem:
        judge.judge(pairs("a"), E)
    assert KEY not in str(problem.value)
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(InputError, match="JUDGE_KEY that should hold the key is not set"):
        judge.judge(pairs("a"), E)


@pytest.mark.parametrize(
    ("address", "changes"),
    [
        ("localhost:8000", {}),
        ("http://user:secret@localhost/v1", {}),
        ("http://[::1", {}),
        ("http://localhost/v1?key=secret", {}),
        ("file:///etc/passwd", {}),
        ("http://localhost/v1", {"attempts": 0}),
        ("http://localhost/v1", {"timeout": 0.0}),
        ("http://localhost/v1", {"timeout": float("nan")}),
        ("http://localhost/v1", {"wait": float("inf")}),
    ],
)
def test_senseless_settings_are_refused(address, changes):
    with pytest.raises(InputError) as problem:
        endpoint(address, **changes)
    assert "secret" not in str(problem.value)


@pytest.mark.parametrize("address", ["https://api.example.com/v1/", "http://[::1]:8000/v1"])
def test_sound_addresses_name_their_host(address):
    assert endpoint(address).name in ("judge-1 at api.example.com", "judge-1 at ::1")


def test_an_empty_answer_is_counted_and_not_sent():
    with server(lambda *_: 5) as (address, asked, _):
        made = endpoint(address).judge([("Why?", " "), *pairs("a")], E)
    assert made == [Verdict(None, "empty answer"), Verdict(5.0)]
    assert list(asked) == ["answer-a"]
