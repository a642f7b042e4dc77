import pytest

from blueberry.architecture import cost, flops_per_token, num_threads
from blueberry.recipe import Recipe

DOCUMENTS = Recipe().with_(
    {
        "model.width": 384,
        "model.num_layers": 6,
        "model.num_heads": 8,
        "model.context_tokens": 512,
        "model.feed_forward.hidden": 1536,
        "data.vocabulary_tokens": 49152,
    }
)


def test_flops_of_the_documents_model():
    # 36.6 M active matrix parameters a token, times 6; causal attention: 6 layers * 6 * 384 * 512 a token.
    matrices = 6 * (384 * 49152 + 6 * (4 * 384 * 384 + 8 * 384 + 2 * 2 * 384 * 1536))
    attention = 6 * 6 * 384 * 512
    assert flops_per_token(DOCUMENTS) == matrices + attention
    assert matrices == pytest.approx(219.5e6, rel=1e-3)
    assert attention == pytest.approx(7.1e6, rel=1e-2)


def test_a_run_costs_its_tokens():
    spent = cost(Recipe().with_({"train.updates": 10}))
    assert (spent.num_updates, spent.num_tokens) == (10, 10 * 16 * 64)
    assert spent.num_flops == spent.num_tokens * spent.flops_per_token


def test_micro_batches_save_memory():
    whole, pieces = (cost(DOCUMENTS.with_(c)).memory_bytes for c in ({}, {"train.micro_batch_sequences": 4}))
    assert pieces < whole


def test_checkpointed_activations_and_bf16_save_memory_where_activations_are_most_of_it():
    large = DOCUMENTS.with_({"train.batch_sequences": 64})
    whole, again, half = (
        cost(large.with_(c)).memory_bytes
        for c in ({}, {"train.checkpoint_activations": True}, {"train.precision": "bf16"})
    )
    state, copy = 4 * (3 * 60_180_480 + 4 * 18_879_360), 2 * 79_059_840
    assert half - state - copy == (whole - state) / 2
    assert (again - state) / (whole - state) == pytest.approx(1 / 6, abs=0.05)


def test_attention_under_dropout_keeps_every_heads_shares():
    # Of each of 8 heads and 512 visible tokens: the softmax, its mask and their product, in fp32.
    plain, dropped = (cost(DOCUMENTS.with_({"model.dropout": p})).memory_bytes for p in (0.0, 0.1))
    assert dropped - plain == 6 * 16 * 512 * 8 * 512 * 3 * 4


def test_threads_depend_on_the_recipe_and_the_machine_alone():
    assert num_threads(Recipe(), 8) == 1
    assert num_threads(DOCUMENTS, 8) == 8
