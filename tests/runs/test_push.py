"""A run pushed to a local stand-in of the hub: which files arrive, whose token, what is refused."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from interp.base.errors import InputError, RunError
from interp.study.runs import LOG, RunFolder
from interp.study.runs.to_hub import push

REPO = "org/a-run"


@pytest.fixture
def hub(monkeypatch):
    """Its address, what was asked of it, and the files that were committed."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # as it is for all other tests
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # whose protocol is no plain HTTP
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    asked, files = [], {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, self.headers["Authorization"], raw))
            if self.path == "/api/repos/create":
                said = {"url": f"{address}/datasets/{REPO}", "id": REPO}
            elif self.path.endswith("/preupload/main"):
                names = [one["path"] for one in json.loads(raw)["files"]]
                modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                said = {"files": [{"path": name, **modes} for name in names]}
            elif self.path == f"/api/datasets/{REPO}/commit/main":
                for line in map(json.loads, raw.splitlines()):
                    if line["key"] == "file":
                        one = line["value"]
                        files[one["path"]] = base64.b64decode(one["content"])
                said = {"commitUrl": f"{address}/datasets/{REPO}/commit/1", "commitOid": "1" * 40}
            else:  # what it says of a card before that is committed
                said = {"errors": [], "warnings": []}
            self.answer(200, said)

        def answer(self, code, said):
            body = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"], b""))
            self.answer(404, {"error": "not found"})

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield address, asked, files
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"adapters": {"extraversion": "a"}})
    for name in ("tables/rates.csv", "report.html", "extraversion/merge.safetensors", LOG):
        folder.file(name).parent.mkdir(exist_ok=True)
        folder.file(name).write_text(name)
    folder.finish(1)
    return folder


def test_a_run_arrives_with_a_card_and_without_its_lock(hub, run):
    address, asked, files = hub
    assert push(run, REPO, endpoint=address) == f"{address}/datasets/{REPO}"
    assert set(files) == {
        "README.md", "manifest.json", "report.html", "tables/rates.csv",
        "extraversion/merge.safetensors",
    }  # fmt: skip
    assert files["report.html"] == b"report.html"
    made = next(json.loads(raw) for path, _, raw in asked if path == "/api/repos/create")
    assert (made["type"], made["visibility"]) == ("dataset", "private")
    assert {token for _, token, _ in asked} == {"Bearer hf_test"}
    front = files["README.md"].decode().split("---")[1]
    assert yaml.safe_load(front)["configs"] == [
        {"config_name": "rates", "data_files": "tables/rates.csv"}
    ]


def test_what_cannot_be_pushed_is_said(hub, run, monkeypatch):
    address, _, files = hub
    with pytest.raises(InputError, match="'nowhere' names no repository; write it as ORG/NAME"):
        push(run, "nowhere", endpoint=address)
    with pytest.raises(InputError, match=r"org/other: the hub does not take it"):
        push(run, "org/other", endpoint=f"{address}/no/hub")
    run.note(status="running")
    with pytest.raises(RunError, match="is not finished; go on with: interp run resume"):
        push(run, REPO, endpoint=address)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="no token for the hub"):
        push(run, REPO, endpoint=address)
    assert not files
