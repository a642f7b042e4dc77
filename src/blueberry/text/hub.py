"""The Hugging Face hub: datasets streamed once into the store, and tokenizers.

Nothing here waits for a hub that is out of reach: `datasets` takes 23 s to say so, a probe 2 s at most.
"""

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blueberry.errors import BlueberryError, DataError
from blueberry.files import canonical_json, digest, prepared
from blueberry.settings import Data, HuggingFace, Source
from blueberry.text.corpus import Corpus, Document, require
from blueberry.text.files import no_column

PROBE_SECONDS = 2.0
_DOCUMENTS = "documents.jsonl"
_A_TOKENIZER_AT_HAND = 'use a file at hand: data.tokenizer = "file"'


def hub_corpus(source: Source, cache_dir: Path | None, place: str = "data") -> Corpus:
    """A dataset of the hub, read from the store after the first time. `place` names the corpus in messages."""
    wanted = source.hugging_face
    assert wanted is not None
    taken = {"max_documents": source.max_documents, "max_characters": source.max_characters}
    name = digest("blueberry/hub/1", canonical_json({**wanted.model_dump(), **taken}))

    def documents() -> Iterator[Document]:
        assert cache_dir is not None, "text of the hub is kept in a store"
        store = cache_dir

        def download(folder: Path) -> None:
            with (folder / _DOCUMENTS).open("w", encoding="utf-8") as file:
                for text in stream(wanted, source.max_documents, f"{place}.hugging_face"):
                    file.write(json.dumps(text[: source.max_characters]) + "\n")

        folder = prepared(store, f"hub-{name}", download)
        with (folder / _DOCUMENTS).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                text = json.loads(line).encode(errors="replace")
                yield Document(f"{wanted.repository}:{number}", text, is_named=False)

    # A commit never changes, so what names the rows names their content.
    return Corpus(documents, lambda: name)


def stream(wanted: HuggingFace, max_documents: int | None, place: str) -> Iterator[str]:
    """The text of the first rows of a dataset.

    Raises: DataError if `datasets` is missing, the hub is out of reach, or it has no such dataset or column.
    """
    instead = 'use files at hand: data.corpus = "files"'
    with _asking(f"{place}.repository", wanted.repository, "datasets", instead):
        import datasets  # pyright: ignore[reportMissingImports]

        datasets.disable_progress_bars()
        rows = datasets.load_dataset(
            wanted.repository, wanted.configuration, split=wanted.split, revision=wanted.revision, streaming=True
        )
        yield from texts(rows, wanted.text_column, max_documents, place)


def texts(rows: Any, column: str, max_documents: int | None, place: str) -> Iterator[str]:
    """One column of the first rows; "" where a row holds none."""
    for number, row in enumerate(islice(rows, max_documents), 1):
        if column not in row:
            raise DataError(f"{place}.text_column: row {number} has {no_column(column, dict(row), place)}")
        if not isinstance(row[column], str | None):
            raise DataError(
                f'{place}.text_column: "{column}" of row {number} holds {type(row[column]).__name__}; '
                "a document is a text; name the column that holds text"
            )
        yield row[column] or ""


def tokenizer_revision(data: Data, cache_dir: Path | None) -> str:
    """The commit that the hub's tokenizer is taken at.

    Where the recipe names none, it is the newest when a store first asks, and the same in that store from then on.
    Raises: DataError if it must be asked for and the hub is out of reach, or there is no store to keep it.
    """
    repository, place = data.tokenizer_repository, "data.tokenizer_repository"
    assert repository is not None, "another tokenizer than the hub's has no revision"
    if data.tokenizer_revision is not None:
        return data.tokenizer_revision
    if cache_dir is None:
        raise DataError(
            f'data.tokenizer_revision: left out; only a store knows at which commit it took "{repository}"; name one, '
            "or give the commit"
        )

    def ask(folder: Path) -> None:
        with _asking(place, repository, "huggingface_hub", _A_TOKENIZER_AT_HAND):
            from huggingface_hub import get_hf_file_metadata, hf_hub_url

            found = get_hf_file_metadata(hf_hub_url(repository, "tokenizer.json", endpoint=_endpoint())).commit_hash
            if found is None:
                raise ValueError("it does not say at which commit it is")
        (folder / "revision").write_text(found, encoding="ascii")

    name = digest("blueberry/hub-revision/1", repository)
    return (prepared(cache_dir, f"hub-{name}", ask) / "revision").read_text(encoding="ascii")


def tokenizer_file(repository: str, revision: str, cache_dir: Path) -> str:
    """The `tokenizer.json` of a repository at a commit, kept in the store.

    Raises: DataError if the hub is out of reach and it is not in the store, or there is no such file.
    """
    place = "data.tokenizer_repository"

    def download(folder: Path) -> None:
        with TemporaryDirectory() as passing:
            with _asking(place, repository, "huggingface_hub", _A_TOKENIZER_AT_HAND):
                from huggingface_hub import hf_hub_download

                found = hf_hub_download(
                    repository, "tokenizer.json", revision=revision, cache_dir=passing, endpoint=_endpoint()
                )
            (folder / "tokenizer.json").write_bytes(Path(found).read_bytes())

    name = digest("blueberry/hub-tokenizer/1", repository, revision)
    return (prepared(cache_dir, f"hub-{name}", download) / "tokenizer.json").read_text(encoding="utf-8")


def require_reachable(place: str, given: str, instead: str) -> None:
    """Raises: DataError, within 4 seconds, if the hub does not answer."""
    endpoint = _endpoint()
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    reason = "HF_HUB_OFFLINE is set" if offline else _unreachable(endpoint)
    if reason is not None:
        raise DataError(
            f'{place}: "{given}"; offline: {endpoint} cannot be reached ({reason}); it is asked once, then the store '
            f"keeps the answer; go online for that, {instead}, or train on the embedded corpus, as the recipe "
            "moe-79m-offline does"
        )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def _unreachable(endpoint: str) -> str | None:
    """Why the hub does not answer, or None. Looking up a name can hang and cannot be stopped, so a thread does it."""
    answers: list[str | None] = []

    def ask() -> None:
        request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "blueberry"})
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):
                answers.append(None)
        except urllib.error.HTTPError:
            answers.append(None)  # whatever it says, it is there
        except Exception as cause:  # whatever went wrong, there is no hub to ask
            answers.append(str(getattr(cause, "reason", cause)))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PROBE_SECONDS)
    return answers[0] if answers else f"no answer within {PROBE_SECONDS:g} s"


@contextmanager
def _asking(place: str, given: str, package: str, instead: str) -> Iterator[None]:
    """Within, the hub answers, its library is there, and what that raises is one line."""
    require_reachable(place, given, instead)
    require(package, "hf", place)
    try:
        yield
    except BlueberryError:
        raise
    except Exception as cause:  # they raise dozens of kinds, and each is the user's to mend
        said = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise DataError(
            f'{place}: "{given}"; the hub gives no such thing ({said[:300]}); mend the name, configuration, split or '
            "revision, or try again"
        ) from None
