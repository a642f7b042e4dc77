import pytest
import torch
import torch.nn.functional as F

from blueberry.lm.feed_forward import Assignment, combine, dispatch, grouped_branch, softmax_after
from blueberry.lm.layers import ACTIVATIONS

LANES, TOKENS, WIDTH, HIDDEN, EXPERTS, CHOSEN = 3, 17, 6, 5, 4, 2


def _dense(x_NSD, logits_NSE, w_in, w_out):
    """Every token, expert by expert, in the plainest way there is."""
    out = torch.zeros_like(x_NSD)
    for n in range(LANES):
        for s in range(TOKENS):
            values, indices = logits_NSE[n, s].topk(CHOSEN)
            for share, e in zip(values.softmax(-1), indices, strict=True):
                out[n, s] += share * (w_out[n, e] @ F.silu(w_in[n, e] @ x_NSD[n, s]))
    return out


def _ours(x_NSD, logits_NSE, w_in, w_out):
    indices, weights = softmax_after(logits_NSE, None, CHOSEN)
    assignment = Assignment.of(indices, EXPERTS)
    rows, matrices = dispatch(x_NSD.flatten(0, 1), assignment), (w_in.flatten(0, 1), None, w_out.flatten(0, 1))
    y = grouped_branch(rows, *matrices, None, assignment, "silu")
    return combine(y, weights.flatten(0, 1), assignment).view_as(x_NSD)


def test_mixture_and_its_gradients_equal_a_dense_loop_in_float64():
    stream = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(shape, generator=stream, dtype=torch.float64).requires_grad_()

    inputs = (
        leaf(LANES, TOKENS, WIDTH),
        leaf(LANES, TOKENS, EXPERTS),
        leaf(LANES, EXPERTS, HIDDEN, WIDTH),
        leaf(LANES, EXPERTS, WIDTH, HIDDEN),
    )
    weight = torch.randn(LANES, TOKENS, WIDTH, generator=stream, dtype=torch.float64)
    made, expected = _ours(*inputs), _dense(*inputs)
    torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad((made * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_an_expert_that_receives_nothing_gets_a_zero_gradient():
    logits = torch.full((1, 5, EXPERTS), -9.0)
    logits[..., :CHOSEN] = 9.0
    w_in = torch.randn(1, EXPERTS, HIDDEN, WIDTH).requires_grad_()
    w_out = torch.randn(1, EXPERTS, WIDTH, HIDDEN)
    indices, weights = softmax_after(logits, None, CHOSEN)
    assignment = Assignment.of(indices, EXPERTS)
    assert assignment.count_G().tolist() == [5, 5, 0, 0]
    rows, matrices = dispatch(torch.randn(5, WIDTH), assignment), (w_in.flatten(0, 1), None, w_out.flatten(0, 1))
    y = combine(grouped_branch(rows, *matrices, None, assignment, "silu"), weights.flatten(0, 1), assignment)
    (grad,) = torch.autograd.grad(y.sum(), [w_in])
    assert grad[0, :CHOSEN].abs().sum() > 0
    assert grad[0, CHOSEN:].abs().sum() == 0


def test_the_choice_agrees_with_topk():
    logits = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(1))
    indices, weights = softmax_after(logits, None, 3)
    values, expected = logits.topk(3)
    assert torch.equal(indices, expected)
    torch.testing.assert_close(weights, values.softmax(-1))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dropped", [False, True])
def test_a_branch_and_its_gradients_are_those_that_autograd_finds(activation, gated, dropped):
    stream = torch.Generator().manual_seed(2)

    def leaf(*shape):
        return torch.randn(shape, generator=stream, dtype=torch.float64).requires_grad_()

    indices, _ = softmax_after(torch.randn(1, TOKENS, EXPERTS, generator=stream), None, CHOSEN)
    assignment = Assignment.of(indices, EXPERTS)
    x, w_in, w_out = leaf(TOKENS * CHOSEN, WIDTH), leaf(EXPERTS, HIDDEN, WIDTH), leaf(EXPERTS, WIDTH, HIDDEN)
    w_gate = leaf(EXPERTS, HIDDEN, WIDTH) if gated else None
    keep = (torch.rand(len(x), HIDDEN, generator=stream, dtype=torch.float64) > 0.3) / 0.7 if dropped else None
    made = grouped_branch(x, w_in, w_gate, w_out, keep, assignment, activation)
    rows, start, act = [], 0, ACTIVATIONS[activation]
    for e, count in enumerate(assignment.count_G().tolist()):
        piece = slice(start, start + count)
        start += count
        h = x[piece] @ w_in[e].T
        h = act(h) if w_gate is None else act(x[piece] @ w_gate[e].T) * h
        rows.append((h if keep is None else h * keep[piece]) @ w_out[e].T)
    expected = torch.cat(rows)
    torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn(made.shape, generator=stream, dtype=torch.float64)
    leaves = [one for one in (x, w_in, w_gate, w_out) if one is not None]
    for mine, theirs in zip(
        torch.autograd.grad((made * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)
