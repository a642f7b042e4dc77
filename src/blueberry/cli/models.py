"""The commands for what a run has trained: its model written for others, and text from it."""

from pathlib import Path
from typing import Annotated

import typer

from blueberry.cli import JsonOption, StoreOption, _answer, app


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run's fingerprint, or the beginning of it.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Write a trained model as safetensors, config and tokenizer, and for transformers where that agrees exactly."""
    from blueberry import api

    said = api.export(run, folder, store=store)
    _answer(json, {"folder": str(folder), "wrote": said}, said)
    return 0


@app.command()
def sample(
    run: Annotated[
        str, typer.Argument(help="A run's fingerprint, the beginning of one, or its result.json.", show_default=False)
    ],
    prompt: Annotated[str, typer.Option(help="Text to continue; empty begins a document.")] = "",
    tokens: Annotated[int, typer.Option(min=1, max=10**6, help="Tokens to write, at most.")] = 100,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="Divides the logits; 0 takes the likeliest token each time.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the draws.")] = 0,
    json: JsonOption = False,
    store: StoreOption = None,
) -> int:
    """Print text from a trained run."""
    from dataclasses import asdict

    from blueberry import api

    made = api.sample(run, prompt, num_tokens=tokens, temperature=temperature, seed=seed, store=store)
    _answer(json, asdict(made), made.text, longest=True)
    return 0
