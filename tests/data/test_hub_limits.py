"""The hub: waited for a bounded time, asked last, its files held to the limits of files."""

import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from tiny import save_base

from interp import load_pair
from interp.base import hub
from interp.data import load
from interp.errors import AdapterError, DataError, ModelError
from interp.models import load_base, read_adapter


@contextmanager
def silent_server():
    """A server that takes connections and never answers."""
    taken = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        going = True

        def take():
            while going:
                try:
                    taken.append(server.accept()[0])
                except TimeoutError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            going = False
            thread.join()
            for one in taken:
                one.close()


@pytest.fixture
def asked(monkeypatch):
    """What the hub is asked for; it is never reached."""
    seen = []

    def describe(source, kind, error):  # noqa: ARG001
        seen.append(source)

    monkeypatch.setattr(hub, "describe", describe)
    return seen


def test_a_hub_that_never_answers_is_given_up_in_time(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "SECONDS", 0.5)
    with silent_server() as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
        began = time.monotonic()
        assert hub.describe("someone/thing", "model", ModelError) is None
        assert hub.describe("someone/thing", "dataset", DataError) is None
        assert time.monotonic() - began < 18, "each would be waited for 10 s"


def test_what_does_not_come_in_time_is_left_behind():
    done = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.1 s"):
        hub.within(0.1, done.wait)
    done.set()
    assert hub.within(5, lambda: 7) == 7
    with pytest.raises(KeyError):
        hub.within(5, lambda: {}["a"])


@pytest.mark.parametrize(
    ("read", "error"),
    [(load_base, ModelError), (read_adapter, AdapterError)],
)
def test_what_is_not_there_names_the_hub_and_the_mend(asked, read, error):
    with pytest.raises(error, match="someone/thing@v2: no such folder, not in the cache, and the"):
        read("someone/thing@v2")
    assert asked == ["someone/thing@v2"]


def test_the_hub_is_asked_last(asked, tmp_path):
    with pytest.raises(AdapterError, match="no such adapter folder"):
        load_pair("someone/thing", tmp_path / "nothing")
    (tmp_path / "broken").mkdir()
    with pytest.raises(ModelError, match="config"):
        load_pair(tmp_path / "broken", "someone/adapter")
    assert not asked
    with pytest.raises(AdapterError, match="someone/adapter"):
        load_pair(save_base(tmp_path / "base"), "someone/adapter")
    assert asked == ["someone/adapter"]


@pytest.mark.parametrize("name", ["adapter_config.json", "interp.json"])
def test_files_from_the_hub_have_the_limits_of_files(monkeypatch, name):
    known = SimpleNamespace(sha="a" * 40, siblings=[SimpleNamespace(rfilename=name, size=2**30)])
    monkeypatch.setattr(hub, "describe", lambda *_: known)
    with pytest.raises(AdapterError, match=f"{name} has 1024 MiB, above the 64 MiB"):
        read_adapter("someone/thing")
    monkeypatch.setattr("interp.data.hub.describe", lambda *_: known)
    with pytest.raises(DataError, match="above the 64 MiB"):
        load("someone/thing")
