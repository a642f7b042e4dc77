"""The hub: never waited for, asked once, pinned. A server on this machine stands in for it."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from blueberry.api import train
from blueberry.errors import DataError
from blueberry.recipe import Recipe
from blueberry.settings import Data, HuggingFace
from blueberry.text import hub
from blueberry.text.dataset import data_digest, load

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = COMMIT[::-1]
ALPHABET = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
TOKENIZER = Tokenizer(models.BPE({**ALPHABET, "</s>": 256}, []))
TOKENIZER.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
TOKENIZER.decoder = decoders.ByteLevel()

HUB = Data(
    corpus="hugging-face",
    tokenizer="byte",
    hugging_face=HuggingFace(repository="owner/name", revision=COMMIT, text_column="body"),
    max_documents=70,
    max_characters=200,
)
NAMED = Data(
    corpus="synthetic",
    tokenizer="hugging-face",
    tokenizer_repository="owner/name",
    tokenizer_revision=COMMIT,
    vocabulary_tokens=257,
    max_documents=150,
)
UNPINNED = NAMED.model_copy(update={"tokenizer_revision": None})


class FakeHub(BaseHTTPRequestHandler):
    """As much of the hub as serves one file of one repository at one commit."""

    FILES = {  # noqa: RUF012
        f"/owner/name/resolve/{commit}/tokenizer.json": TOKENIZER.to_str().encode()
        for commit in (COMMIT, LATER, "main")
    }
    newest = COMMIT

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        content = self.FILES.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("X-Repo-Commit", LATER if LATER in self.path else FakeHub.newest)
        self.end_headers()
        if body and content:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def fake_hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent_hub(monkeypatch):
    """Accepts a connection and never answers: the worst that being offline can be."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{listening.getsockname()[1]}")
        yield


@pytest.fixture
def no_hub(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("offline", ["silent_hub", "no_hub", "variable"])
@pytest.mark.parametrize("data", [HUB, NAMED, UNPINNED], ids=["dataset", "tokenizer", "unpinned"])
def test_offline_is_said_within_four_seconds_with_what_to_do(data, offline, request, monkeypatch, tmp_path):
    if offline == "variable":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    else:
        request.getfixturevalue(offline)
    before = time.monotonic()
    with pytest.raises(DataError) as error:
        load(data, tmp_path)
    assert time.monotonic() - before < 4
    said = str(error.value)
    setting = "data.hugging_face.repository" if data is HUB else "data.tokenizer_repository"
    assert said.startswith(f'{setting}: "owner/name"; ')
    assert "offline: http" in said
    assert "use a" in said or "use files" in said
    assert said.endswith("or train on the embedded corpus, as the recipe moe-79m-offline does")
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_never_looked_up_is_not_waited_for(monkeypatch, tmp_path):
    def slow(*_, **__):
        time.sleep(0.6)
        raise OSError("too late")

    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(hub.urllib.request, "urlopen", slow)
    before = time.monotonic()
    with pytest.raises(DataError, match=r"no answer within 0\.2 s"):
        load(HUB, tmp_path)
    assert time.monotonic() - before < 0.5


def test_without_the_extra_the_line_names_it(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(hub, "_unreachable", lambda endpoint: None)
    with pytest.raises(DataError, match=r"^data\.hugging_face\.repository: needs the package datasets, .*\[hf\]"):
        load(HUB, tmp_path)


def test_the_digest_of_a_pinned_dataset_asks_nobody(monkeypatch):
    monkeypatch.setattr(hub, "_unreachable", lambda endpoint: pytest.fail("asked"))
    assert data_digest(HUB) != data_digest(HUB.model_copy(update={"max_documents": 71}))
    assert data_digest(NAMED) != data_digest(NAMED.model_copy(update={"vocabulary_tokens": 258}))


def test_a_tokenizer_is_fetched_once_and_then_kept(fake_hub, monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    dataset = load(NAMED, tmp_path)
    assert dataset.tokenizer.separator == 256
    assert dataset.tokenizer.decode(dataset.train.tokens[:5]).isascii()
    monkeypatch.setattr(hub, "_unreachable", lambda endpoint: pytest.fail("asked again"))
    load(NAMED.model_copy(update={"max_documents": 140}), tmp_path)
    with pytest.raises(DataError, match=r"the tokenizer owner/name has 257 entries; set data\.vocabulary_tokens = 257"):
        load(NAMED.model_copy(update={"vocabulary_tokens": 300}), tmp_path)


def test_a_revision_left_out_is_found_once_by_a_store_and_names_the_text_from_then_on(fake_hub, monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    first, second = tmp_path / "first", tmp_path / "second"
    dataset = load(UNPINNED, first)
    assert dataset.digest == data_digest(NAMED, first), "the same text under the same name"
    monkeypatch.setattr(FakeHub, "newest", LATER)
    assert data_digest(UNPINNED, second) == data_digest(NAMED.model_copy(update={"tokenizer_revision": LATER}), second)
    assert data_digest(UNPINNED, second) != dataset.digest
    monkeypatch.setattr(hub, "_unreachable", lambda endpoint: pytest.fail("asked again"))
    assert load(UNPINNED, first).digest == dataset.digest
    with pytest.raises(DataError, match=r"^data\.tokenizer_revision: left out; only a store knows .* \"owner/name\""):
        data_digest(UNPINNED)


def test_what_a_store_has_found_is_said_by_each_training(fake_hub, monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    small = {"model.width": 8, "model.num_layers": 1, "model.context_tokens": 8, "train.batch_sequences": 1}
    recipe = Recipe().with_({"train.updates": 1, "evaluate.tokens": 8, **small}).model_copy(update={"data": UNPINNED})
    notes = []
    result = train(recipe, store=tmp_path, on_progress=lambda progress: notes.append(progress.note))
    said = next(filter(None, notes))
    assert said == (
        f"the tokenizer owner/name is that of commit {COMMIT}, the newest when this store first asked; another store may "
        f'find another: data.tokenizer_revision = "{COMMIT}" names it'
    )
    assert result.provenance is not None
    assert result.provenance.data_digest == data_digest(NAMED, tmp_path / "data")


@pytest.mark.parametrize("name", ["moe-79m", "deepseek-47m"])
def test_the_large_recipes_ask_for_the_documents_text_and_offline_say_what_to_do(name, no_hub, tmp_path):
    recipe = Recipe.load(name)
    with pytest.raises(DataError, match=r"^data\.[a-z_.]+: \"HuggingFaceTB/.*, as the recipe moe-79m-offline does$"):
        train(recipe, store=tmp_path)
    offline = Recipe.load(f"{name}-offline")
    assert recipe.with_({}).model_copy(update={"data": offline.data}) == offline


def test_what_the_hub_does_not_have_is_one_line(fake_hub, tmp_path):
    pytest.importorskip("huggingface_hub")
    with pytest.raises(
        DataError, match=r'^data\.tokenizer_repository: "owner/other"; the hub gives no such thing [^\n]*$'
    ):
        load(NAMED.model_copy(update={"tokenizer_repository": "owner/other"}), tmp_path)


ROWS = [{"body": f"row {number} says {number**2} " * 20} for number in range(100)]


@pytest.fixture
def streamed(monkeypatch):
    """Rows as a stream gives them, with how many were asked for."""
    asked = []

    def stream(wanted, max_documents, place):
        return hub.texts((asked.append(row) or row for row in ROWS), wanted.text_column, max_documents, place)

    monkeypatch.setattr(hub, "stream", stream)
    return asked


def test_a_dataset_is_streamed_once_and_no_further_than_asked(streamed, tmp_path):
    dataset = load(HUB, tmp_path)
    assert len(streamed) == 70
    text = dataset.tokenizer.decode(dataset.train.tokens[: dataset.train.document_starts[1] - 1])
    assert text in [row["body"][:200] for row in ROWS]
    load(HUB.model_copy(update={"tokenizer": "bpe", "vocabulary_tokens": 300}), tmp_path)
    assert len(streamed) == 70, "another tokenizer reads what the store keeps"


def test_a_column_that_is_not_there_is_named_with_those_that_are(streamed, tmp_path):
    wrong = HUB.hugging_face.model_copy(update={"text_column": "text"})
    message = r'^data\.hugging_face\.text_column: row 1 has no column "text"; it has body; set data\.hugging_face\.text_column'
    with pytest.raises(DataError, match=message):
        load(HUB.model_copy(update={"hugging_face": wrong}), tmp_path)
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import json, sys
from blueberry.settings import HuggingFace
from blueberry.errors import DataError
from blueberry.text import hub
hub.require_reachable = lambda *_: None
wanted = HuggingFace(repository="owner/name", revision="0" * 40, text_column="body").model_copy(
    update={"repository": sys.argv[1]})
print(json.dumps(list(hub.stream(wanted, 7, "data.hugging_face"))))
try:
    list(hub.stream(wanted.model_copy(update={"split": "none"}), 7, "data.hugging_face"))
except DataError as error:
    print(error)
"""


def test_the_datasets_library_streams_a_repository(tmp_path):
    """A folder stands in for a repository: the library reads both by the same path."""
    pytest.importorskip("datasets")
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "repository")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    rows, refused = done.stdout.splitlines()
    assert json.loads(rows) == [row["body"] for row in ROWS[:7]]
    assert refused.startswith('data.hugging_face.repository: "')
    assert "none" in refused
