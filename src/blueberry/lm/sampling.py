"""Text from a trained model, one token after another."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blueberry.errors import DataError
from blueberry.lm.model import LanguageModel
from blueberry.lm.trained import Trained
from blueberry.lm.weights import head_weight


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
