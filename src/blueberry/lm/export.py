"""A trained model as files that others can load: our own form, and that of transformers where it agrees exactly.

DIR/model.safetensors   the weights, fp32, by our names
DIR/config.json         the recipe, what computed it, and which form of transformers stands beside it, or why none
DIR/tokenizer.json      for the `tokenizers` library
DIR/transformers/       config.json, model.safetensors, tokenizer.json: for AutoModelForCausalLM
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from blueberry.errors import ReportError, StoreError
from blueberry.files import refused_as, write_whole
from blueberry.lm.model import LanguageModel
from blueberry.lm.transformers_form import TransformersForm, transformers_form
from blueberry.recipe import Recipe
from blueberry.text import AnyTokenizer
from blueberry.text.tokenizer_json import tokenizer_json

FORMAT = "blueberry/export/1"


def export(
    weights: Mapping[str, Tensor], recipe: Recipe, tokenizer: AnyTokenizer, folder: Path
) -> TransformersForm | str:
    """Write one lane's weights, its recipe and its tokenizer to a folder, made where it is missing.

    Returns the form of transformers that was written too, or in one line why there is none.
    Raises: StoreError if the tokenizer is not the recipe's; ReportError if the folder cannot be written.
    """
    if tokenizer.vocabulary_tokens != recipe.data.vocabulary_tokens:
        raise StoreError(
            f"tokenizer: {tokenizer.vocabulary_tokens} tokens; the weights are of a vocabulary of "
            f"{recipe.data.vocabulary_tokens}; export with the text that the run was trained on"
        )
    weights = {name: w.detach().float().contiguous().cpu() for name, w in weights.items()}
    form = transformers_form(weights, recipe)
    said = {"none": form} if isinstance(form, str) else {"folder": "transformers", "class": form.architecture}
    config = {"format": FORMAT, "recipe": recipe.model_dump(), "transformers": said}
    tokens = tokenizer_json(tokenizer)
    with refused_as(ReportError, folder, "cannot be written", "give a folder that can, or make room"):
        _write(folder, weights, {"config.json": _json(config), "tokenizer.json": tokens})
        if not isinstance(form, str):
            files = {"config.json": _json(form.config), "tokenizer.json": tokens}
            files["tokenizer_config.json"] = _json({"tokenizer_class": "PreTrainedTokenizerFast"})
            _write(folder / "transformers", form.weights, files)
    return form


def load(folder: Path) -> tuple[Recipe, dict[str, Tensor]]:
    """An exported model's recipe and weights. Raises: StoreError if the folder holds none."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError):
        config, weights = {}, {}
    if config.get("format") != FORMAT:
        raise StoreError(
            f"{folder}: no model exported by Blueberry; our config.json and model.safetensors must be there, whole; "
            "blueberry export RUN DIR writes them"
        )
    return Recipe.parse(config["recipe"], place=str(folder / "config.json")), weights


@torch.no_grad()
def logits(weights: Mapping[str, Tensor], recipe: Recipe, tokens_BT: Tensor) -> Tensor:
    """What one lane's weights predict after each token, in fp32 on the CPU: int64 (B, T) -> (B, T, V).

    T is at most model.context_tokens.
    """
    one_lane = {name: w.float()[None] for name, w in weights.items()}
    hidden = LanguageModel.build(recipe, torch.device("cpu")).hidden(one_lane, tokens_BT[None])
    head_VD = weights.get("head", weights["embedding"]).float()
    return (hidden.x_NSD[0] @ head_VD.T).view(*tokens_BT.shape, -1)


def _write(folder: Path, weights: dict[str, Tensor], texts: dict[str, str]) -> None:
    """Weights last."""
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    write_whole(folder / "model.safetensors", save(weights, {"format": "pt"}))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
