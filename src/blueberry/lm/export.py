"""A trained model as files that others can load: our own form, and that of transformers where it agrees exactly.

DIR/model.safetensors   the weights, fp32, by our names
DIR/config.json         the recipe, what computed it, and which form of transformers stands beside it, or why none
DIR/tokenizer.json      for the `tokenizers` library
DIR/transformers/       config.json, model.safetensors, tokenizer.json: for AutoModelForCausalLM

Only architectures of transformers whose logits are equal, up to fp32's rounding, are here; nothing that is merely
similar. Common to all: our embedding is multiplied by sqrt(width) and is also the head, so both are written apart.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from blueberry.errors import ReportError, StoreError
from blueberry.files import refused_as, write_whole
from blueberry.lm.layers import head_weight
from blueberry.lm.model import LanguageModel
from blueberry.recipe import Recipe
from blueberry.text.tokenizer import SEPARATOR, AnyTokenizer, tokenizer_json

ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "relu-squared": "relu2"}
"""Our names to theirs."""

NEUTRAL = {
    "model.attention.query_key_norm": False,
    "model.document_mask": False,
    "model.feed_forward.num_shared_experts": 0,
    "model.feed_forward.router": "softmax-after",
}
"""Settings that none of the architectures below has, at the value that makes no difference."""


@dataclass(frozen=True)
class TransformersForm:
    architecture: str
    """The class that AutoModelForCausalLM makes."""
    config: dict[str, Any]
    weights: dict[str, Tensor]


def transformers_form(weights: dict[str, Tensor], recipe: Recipe) -> TransformersForm | str:
    """One lane's weights in the form of transformers, or in one line why there is none that agrees."""
    settings = recipe.flat()
    attention, feed_forward = settings["model.attention.kind"], settings["model.feed_forward.kind"]
    if attention not in ("multi-head", "grouped-query"):
        return f"no form of transformers: none of its architectures has our {attention} attention"
    for name, neutral in NEUTRAL.items():
        if settings.get(name, neutral) != neutral:
            return f"no form of transformers: none of the architectures we know has {name} = {settings[name]}"
    if feed_forward == "moe" and "expert.gate" not in weights:
        return "no form of transformers: its mixtures with rotary positions all have gated experts, these have none"
    if feed_forward not in FORMS:
        return f"no form of transformers: none of the architectures we know has our {feed_forward} feed-forward"
    architecture, model_type, layer = FORMS[feed_forward]
    made = {
        "model.embed_tokens.weight": weights["embedding"] * math.sqrt(recipe.model.width),
        "model.norm.weight": weights["norm.final"],
        "lm_head.weight": head_weight(weights).clone(),
    }
    for index in range(recipe.model.num_layers):
        of_layer = {name: w[index] for name, w in weights.items() if name not in ("embedding", "head", "norm.final")}
        named = {**_attention(of_layer, settings), **layer(of_layer)}
        made |= {f"model.layers.{index}.{name}": w.contiguous() for name, w in named.items()}
    config = {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": recipe.data.vocabulary_tokens,
        "hidden_size": recipe.model.width,
        "intermediate_size": settings["model.feed_forward.hidden"],
        "num_hidden_layers": recipe.model.num_layers,
        "num_attention_heads": recipe.model.num_heads,
        "num_key_value_heads": _kv_heads(settings),
        "head_dim": recipe.model.width // recipe.model.num_heads,
        "hidden_act": ACTIVATIONS[settings.get("model.feed_forward.activation", "silu")],
        "max_position_embeddings": recipe.model.context_tokens,
        "rope_theta": settings["model.attention.rotary_base"],
        "rope_parameters": {"rope_type": "default", "rope_theta": settings["model.attention.rotary_base"]},
        "rms_norm_eps": torch.finfo(torch.float32).eps,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": SEPARATOR,
        "eos_token_id": SEPARATOR,
        "pad_token_id": None,
    }
    if feed_forward == "moe":
        config |= {
            "num_local_experts": settings["model.feed_forward.num_experts"],
            "num_experts_per_tok": settings["model.feed_forward.top_k"],
            "sliding_window": None,
        }
    return TransformersForm(architecture, config, made)


def _kv_heads(settings: Mapping[str, Any]) -> int:
    return settings.get("model.attention.num_kv_heads", settings["model.num_heads"])


def _attention(w: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Ours are one matrix: queries, keys, values, each with its heads in order."""
    size = settings["model.width"] // settings["model.num_heads"]
    key_values = _kv_heads(settings) * size
    query, key, value = w["attention.qkv"].split([settings["model.width"], key_values, key_values])
    return {
        "self_attn.q_proj.weight": query,
        "self_attn.k_proj.weight": key,
        "self_attn.v_proj.weight": value,
        "self_attn.o_proj.weight": w["attention.out"],
        "input_layernorm.weight": w["norm.attention"],
        "post_attention_layernorm.weight": w["norm.feed_forward"],
    }


def _ungated(w: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"mlp.up_proj.weight": w["mlp.in"], "mlp.down_proj.weight": w["mlp.out"]}


def _gated(w: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"mlp.gate_proj.weight": w["mlp.gate"], **_ungated(w)}


def _mixture(w: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names under which Mixtral's weights are published, which every version of transformers reads."""
    made = {"block_sparse_moe.gate.weight": w["router"]}
    for expert in range(len(w["expert.in"])):
        for theirs, ours in (("w1", "gate"), ("w2", "out"), ("w3", "in")):
            made[f"block_sparse_moe.experts.{expert}.{theirs}.weight"] = w[f"expert.{ours}"][expert]
    return made


FORMS: dict[str, tuple[str, str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]] = {
    "mlp": ("ArceeForCausalLM", "arcee", _ungated),
    "swiglu": ("LlamaForCausalLM", "llama", _gated),
    "moe": ("MixtralForCausalLM", "mixtral", _mixture),
}
"""By our feed-forward: class, model type, and a layer's feed-forward by their names."""


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
    return (hidden.x_NSD[0] @ head_weight(one_lane)[0].T).view(*tokens_BT.shape, -1)


def _write(folder: Path, weights: dict[str, Tensor], texts: dict[str, str]) -> None:
    """Weights last."""
    for name, text in texts.items():
        write_whole(folder / name, text.encode())
    write_whole(folder / "model.safetensors", save(weights, {"format": "pt"}))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
