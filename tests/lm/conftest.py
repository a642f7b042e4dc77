"""Small real parts for the tests of lm: one thread, a tiny recipe, the byte-level synthetic language."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from blueberry.lm.checkpoint import Checkpoints
from blueberry.lm.draws import keys_SNB
from blueberry.lm.training import Group, train
from blueberry.recipe import Recipe
from blueberry.records import Progress, Provenance, RunResult
from blueberry.text.dataset import Dataset, Split, load
from blueberry.text.tokenizer import Tokenizer, write_tokenizer

CPU = torch.device("cpu")
torch.testing._comparison._HAS_DTENSOR = False  # to look for distributed tensors among ours loads 500 modules


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TINY = Recipe().with_(
    {
        "model.width": 32,
        "model.num_layers": 2,
        "model.num_heads": 2,
        "model.context_tokens": 32,
        "model.feed_forward.hidden": 32,
        "model.feed_forward.num_experts": 4,
        "data.corpus": "synthetic",
        "data.tokenizer": "byte",
        "train.updates": 20,
        "train.batch_sequences": 4,
        "evaluate.every_updates": 10,
        "evaluate.tokens": 512,
    }
)


@pytest.fixture
def replace_gradients(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], None]:
    """Have every group that is made from now on take its gradients from `made(group, inputs, gradients)`."""
    initialize = Group.__init__

    def replace(made: Callable) -> None:
        def replaced(group, *given, **named):
            initialize(group, *given, **named)
            gradients = group.do.gradients
            group.do.gradients = lambda inputs: made(group, inputs, gradients)

        monkeypatch.setattr(Group, "__init__", replaced)

    return replace


@pytest.fixture
def tiny() -> Recipe:
    return TINY


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(TINY.data, tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def short_documents() -> Dataset:
    """Random bytes in documents of 2 to 9 tokens, so that a window holds several."""
    stream = np.random.default_rng(0)

    def split(name, num_documents):
        lengths = stream.integers(2, 10, num_documents)
        documents = [np.append(stream.integers(1, 256, length - 1), 0) for length in lengths]
        names = tuple(map(str, range(num_documents)))
        return Split(name, np.concatenate(documents).astype(np.uint16), names, np.append(0, lengths.cumsum()))

    return made_up(split("train", 200), split("validation", 40), split("test", 40))


def made_up(train: Split, validation: Split, test: Split) -> Dataset:
    """Tokens that stand for no corpus."""
    return Dataset(
        train=train,
        validation=validation,
        test=test,
        sets={},
        written_tokenizer=write_tokenizer(Tokenizer()).encode(),
        digest="made up",
        entropy_bits_per_byte=None,
    )


@pytest.fixture
def train_group(dataset: Dataset) -> Callable[..., list[RunResult]]:
    """Train recipes side by side and give their results in the recipes' order."""

    def run(*recipes: Recipe, checkpoints: Checkpoints | None = None) -> list[RunResult]:
        names = [f"run{index}" for index in range(len(recipes))]
        events = train(recipes, names, dataset, provenance(dataset), device=CPU, checkpoints=checkpoints)
        results = {event.fingerprint: event for event in events if not isinstance(event, Progress)}
        return [results[name] for name in names]

    return run


def keys_of(seeds: tuple[int, ...], update: int, sequences: range) -> torch.Tensor:
    """Of one seed a lane, and of those of the update's sequences that a micro-batch holds."""
    return torch.from_numpy(keys_SNB(seeds, update, sequences, 64)).flatten(1)


def provenance(dataset: Dataset) -> Provenance:
    return Provenance(
        code_digest="test",
        torch=torch.__version__,
        device="cpu",
        threads=1,
        lanes=1,
        data_digest=dataset.digest,
        evaluation_digest="",
    )


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", build="test")


def numbers(result: RunResult) -> dict:
    """Everything of a result but its clock."""
    kept = result.model_dump(exclude={"fingerprint", "train_seconds", "provenance"})
    for evaluation in kept["evaluations"]:
        del evaluation["seconds"]
    return kept
