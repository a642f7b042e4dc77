"""The nearest semi-orthogonal matrix by Newton-Schulz iteration, over any stack of matrices."""

from collections.abc import Sequence

import torch
from torch import Tensor

Coefficients = tuple[float, float, float]
"""a, b, c of x <- a x + b x x^T x + c (x x^T)^2 x."""

QUINTIC: Coefficients = (3.4445, -4.7750, 2.0315)
"""For every iteration. Jordan et al. 2024 (Muon): steep at 0, so that it need not converge."""

POLAR_EXPRESS: tuple[Coefficients, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
"""One an iteration, the last for all that follow: each the best for the singular values that those before it leave.

Amsel et al. 2025, "The Polar Express" (arXiv 2505.16932), Algorithm 1.
"""
POLAR_EXPRESS_SAFETY = 1.01
"""Singular values are held this factor below where the polynomials grow without bound, but for the last."""


GRAM_PAYS_FROM = 1.5
"""Ratio of a matrix's sides. For one R x C, R <= C, the usual iteration takes 2 R^2 C + R^3 multiplications, that on
the Gram matrix 4 R^3, and once 2 R^2 C: from here on that is less over five of them."""


def orthogonalize(g_NRC: Tensor, *, num_iterations: int = 5, coefficients: str = "quintic") -> Tensor:
    """Replace each matrix by its nearest semi-orthogonal one, approximately.

    Shapes: (..., R, C) -> (..., R, C). Units: none; singular values above a hundredth of the norm land in 0.68 to
    1.14 after 5 quintic iterations, in 0.87 to 1.13 after 5 of polar-express and in 0.997 to 1.002 after 6.
    Raises: ValueError if g is not a batch of matrices.
    Source: Newton-Schulz quintic of Jordan et al. 2024 (Muon); Amsel et al. 2025 (Polar Express).
    """
    return orthogonalize_all([g_NRC], num_iterations=num_iterations, coefficients=coefficients)[0]


def orthogonalize_all(
    stacks: Sequence[Tensor], *, num_iterations: int = 5, coefficients: str = "quintic"
) -> list[Tensor]:
    """`orthogonalize` of several stacks: matrices that share their shorter side go through one chain of products.

    Every step of the iteration is a polynomial of the Gram matrix x x^T times x, so where a matrix is long it is the
    Gram matrix, R x R, that is iterated on, and the product of all polynomials is multiplied with x once.
    Source: Gram Newton-Schulz (Dao et al. 2026); in fp32 it agrees with the usual iteration to some 1e-6.
    """
    steps = iterations(coefficients, num_iterations)
    wide = [_wide(g_NRC) for g_NRC in stacks]
    made: dict[int, Tensor] = {}
    chains: dict[int, list[int]] = {}
    for index, x in enumerate(wide):
        rows, columns = x.shape[-2:]
        if columns < GRAM_PAYS_FROM * rows:
            made[index] = _usual(x, steps)
        else:
            chains.setdefault(rows, []).append(index)
    for members in chains.values():
        grams = torch.cat([wide[index] @ wide[index].transpose(-2, -1) for index in members])
        polynomials = _gram_chain(grams, steps).split([len(wide[index]) for index in members])
        for index, polynomial in zip(members, polynomials, strict=True):
            made[index] = polynomial @ wide[index]
    return [
        (made[index].transpose(-2, -1) if _is_tall(g_NRC) else made[index]).view_as(g_NRC)
        for index, g_NRC in enumerate(stacks)
    ]


def _wide(g_NRC: Tensor) -> Tensor:
    """A stack of matrices of norm 1 with no more rows than columns: (n, R, C)."""
    if g_NRC.ndim < 3:
        raise ValueError(f"expected a batch of matrices, got shape {tuple(g_NRC.shape)}")
    x = g_NRC.flatten(0, -3)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    return x.transpose(-2, -1) if _is_tall(g_NRC) else x


def _is_tall(g_NRC: Tensor) -> bool:
    return g_NRC.shape[-2] > g_NRC.shape[-1]


def _usual(x: Tensor, steps: Sequence[Coefficients]) -> Tensor:
    """Iterate on the matrices themselves."""
    for a, b, c in steps:
        gram = x @ x.transpose(-2, -1)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


def _gram_chain(gram: Tensor, steps: Sequence[Coefficients]) -> Tensor:
    """The product of all steps' polynomials, of which each is taken of the Gram matrix that those before it leave.

    All are polynomials of one matrix, so they commute.
    """
    product: Tensor | None = None
    for index, (a, b, c) in enumerate(steps):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        if index + 1 < len(steps):
            gram = polynomial @ (gram @ polynomial)
        product = polynomial if product is None else polynomial @ product
    assert product is not None
    return product


def iterations(name: str, num_iterations: int) -> list[Coefficients]:
    """The coefficients of each iteration, for matrices of norm 1."""
    if name == "quintic":
        return [QUINTIC] * num_iterations
    assert name == "polar-express"
    *early, last = POLAR_EXPRESS
    s = POLAR_EXPRESS_SAFETY
    held = [(a / s, b / s**3, c / s**5) for a, b, c in early]
    a, b, c = held[0]
    held[0] = (a / s, b / s**3, c / s**5)  # the paper also divides the matrix by s before it begins
    return (held + [last] * max(0, num_iterations - len(held)))[:num_iterations]
