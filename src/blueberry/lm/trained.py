"""A run's final weights on disk, with all that is needed to use them again, and text from them.

`STORE/weights/FINGERPRINT.safetensors` holds the tensors of one lane, without the lane axis; recipe, data digest
and tokenizer are text in its header. Nothing in it is executed when it is read.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from blueberry.architecture import state_shapes, weight_shapes
from blueberry.errors import DataError, StoreError
from blueberry.files import DIGEST_TO_COME, begun_by, is_whole, refused_as, sealed, write_whole
from blueberry.lm.layers import head_weight
from blueberry.lm.model import LanguageModel
from blueberry.recipe import Recipe
from blueberry.text.tokenizer import AnyTokenizer, read_tokenizer, write_tokenizer

FORMAT = "blueberry/weights/1"


@dataclass(frozen=True)
class Trained:
    """A model as a run left it."""

    recipe: Recipe
    data_digest: str
    tokenizer: AnyTokenizer
    tensors: dict[str, Tensor]
    """By name, of one lane."""


def save_weights(path: Path, trained: Trained) -> None:
    """Write, sync and rename. Raises: StoreError if the disk refuses."""
    header = {
        "format": FORMAT,
        "recipe": trained.recipe.model_dump(mode="json"),
        "data_digest": trained.data_digest,
        "tokenizer": write_tokenizer(trained.tokenizer),
        "sha256": DIGEST_TO_COME,
    }
    # One entry, because safetensors writes several in any order: equal runs give equal files.
    content = save_tensors(trained.tensors, {"blueberry": json.dumps(header)})
    remedy = "a run keeps its weights; free space there, choose another --store, or set train.keep_weights = false"
    with refused_as(StoreError, path, "cannot write the weights", remedy):
        write_whole(path, sealed(content))


def load_weights(path: Path) -> Trained:
    """Read a file of `save_weights`.

    Raises: StoreError if it is damaged or of another kind, or its tokenizer disagrees with its weights.
    """
    with refused_as(StoreError, path, "cannot be read", "train that run again to write it anew"):
        whole = is_whole(path.read_bytes())
    if whole is False:
        raise StoreError(f"{path}: damaged: not the bytes that were written; train that run again to write it anew")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("blueberry", "{}"))  # of weights without a digest too
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (OSError, SafetensorError) as cause:
        raise StoreError(f"{path}: cannot be read ({cause}); train that run again to write it anew") from None
    if header.get("format") != FORMAT:
        raise StoreError(f"{path}: holds {header.get('format')!r}; only {FORMAT!r} is read here; train the run again")
    trained = Trained(
        recipe=Recipe.parse(header["recipe"], place=str(path)),
        data_digest=header["data_digest"],
        tokenizer=read_tokenizer(header["tokenizer"]),
        tensors=tensors,
    )
    for name, shape in {**weight_shapes(trained.recipe), **state_shapes(trained.recipe)}.items():
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != tuple(shape):
            raise StoreError(
                f"{path}: {name} has shape {found}; its recipe makes it {tuple(shape)}; train that run again"
            )
    rows, entries = tensors["embedding"].shape[0], trained.tokenizer.vocabulary_tokens
    if rows != entries:
        raise StoreError(
            f"{path}: weights for {rows} tokens, a tokenizer of {entries}; they must agree; train that run again"
        )
    return trained


def find_weights(folder: Path, run: str) -> Path:
    """The weights of the run with this fingerprint, or this beginning of one.

    Raises: StoreError if there are none, or those of several runs.
    """
    found = sorted(begun_by(run, (path.stem for path in folder.glob("*.safetensors")))) if run else []
    if len(found) == 1:
        return folder / f"{found[0]}.safetensors"
    if found:
        some = ", ".join(found[:3])
        raise StoreError(f'run "{run}": begins {len(found)} runs ({some}, ...); give more of the fingerprint')
    raise StoreError(
        f'run "{run}": no weights of it in {folder}; weights are kept of runs that were completed with '
        "train.keep_weights = true; blueberry train RECIPE trains it, mend the name or mend --store"
    )


@dataclass(frozen=True)
class Sample:
    """A prompt and what a model made of it."""

    prompt: str
    continuation: str
    num_tokens: int
    """Of the continuation."""
    ended: bool
    """Whether the model ended the document itself."""

    @property
    def text(self) -> str:
        return self.prompt + self.continuation


@torch.no_grad()
def sample(
    trained: Trained, prompt: str, *, num_tokens: int, temperature: float, seed: int, device: torch.device | None = None
) -> Sample:
    """Continue a prompt by at most `num_tokens` tokens; it ends sooner where the model ends the document.

    `temperature` divides the logits; 0 takes the likeliest token each time. The model sees at most its context:
    past it, the window slides. A function of its arguments, on one build and device; by default the first CUDA
    device, else the CPU.
    Raises: DataError if the prompt is empty and the tokenizer has no mark to begin a document after.
    """
    tokenizer = trained.tokenizer
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokens = [int(token) for token in tokenizer.encode(prompt)]
    if not tokens and tokenizer.separator is None:
        raise DataError("prompt: empty; this run's documents have no mark to begin after; give some text")
    # A document begins after the mark that ended the one before it.
    seen = [*([] if tokenizer.separator is None else [tokenizer.separator]), *tokens]
    model = LanguageModel.build(trained.recipe, device, trained.tokenizer.separator)
    weights = {name: w[None].to(device) for name, w in trained.tensors.items()}
    draws = torch.Generator().manual_seed(seed)
    made: list[int] = []
    while len(made) < num_tokens:
        window_11T = torch.tensor([[seen[-trained.recipe.model.context_tokens :]]], device=device)
        last_D = model.hidden(weights, window_11T).x_NSD[0, -1]
        token = _choose(head_weight(weights)[0] @ last_D, temperature, draws)
        if token == tokenizer.separator:
            return Sample(prompt, tokenizer.decode(made), len(made), ended=True)
        made.append(token)
        seen.append(token)
    return Sample(prompt, tokenizer.decode(made), len(made), ended=False)


def _choose(logits_V: Tensor, temperature: float, draws: torch.Generator) -> int:
    logits_V = logits_V.double().cpu()
    if temperature == 0:
        return int(logits_V.argmax())
    # Softmax of differences from the largest: a tiny temperature must not overflow.
    share_V = ((logits_V - logits_V.max()) / temperature).softmax(-1)
    return int(torch.multinomial(share_V, 1, generator=draws))
