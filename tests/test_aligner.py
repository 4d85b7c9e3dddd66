"""The cone rule against Eqs. 8 to 15 written out in float64, and the aligner against gradients made by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from anga.aligner import UPDATE_RULES, Case, GradientAligner, align, align_gradients, gramian, weighted_sum
from anga.errors import AngaError

pytestmark = pytest.mark.filterwarnings("error")

TAUS = (0.05, 0.2, 0.7, 0.999)
SCALES = (1e-6, 1e-3, 1.0, 1e3, 1e6)
DTYPES = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 4e-3}  # with their tolerances
SIZES = [sizes for sizes in itertools.product((0, 1, 3), repeat=3) if any(sizes)]  # complete, admitted, remaining


def anchor_of(complete, admitted, n_complete, n_admitted):
    """Eq. 8: the mean gradient over the anchor's samples."""
    return (n_complete * complete + n_admitted * admitted) / (n_complete + n_admitted)


def written_out(remaining, anchor, tau, power=2):
    """Eqs. 9 to 14; `power=1` divides by the anchor's norm as Eq. 10 is printed, 2 by its square."""
    length = np.linalg.norm
    cosine = remaining @ anchor / (length(remaining) * length(anchor))
    if cosine >= tau:
        return remaining
    if cosine <= 0:
        return np.zeros_like(remaining)
    parallel = remaining @ anchor / length(anchor) ** power * anchor
    orthogonal = remaining - parallel
    kappa_max = np.sqrt(1 - tau**2) / tau
    alpha = kappa_max * length(parallel) / length(orthogonal)
    return parallel + alpha * orthogonal


def cosine_of(a, b) -> float:
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def at_cosine(anchor: np.ndarray, cosine: float, generator) -> np.ndarray:
    """A random unit vector at the given cosine to the anchor."""
    unit = anchor / np.linalg.norm(anchor)
    across = generator.standard_normal(len(anchor))
    across -= (across @ unit) * unit
    return cosine * unit + math.sqrt(1 - cosine**2) * across / np.linalg.norm(across)


def three_gradients(cosine: float, n_complete=3, n_admitted=2, seed=0, size=50):
    """Complete, admitted and remaining gradients; the last at the given cosine to the anchor of the first two."""
    generator = np.random.default_rng(seed)
    complete, admitted = generator.standard_normal((2, size)) + generator.standard_normal(size)
    return complete, admitted, at_cosine(anchor_of(complete, admitted, n_complete, n_admitted), cosine, generator)


def tensors(*vectors, dtype=torch.float64):
    return [torch.as_tensor(vector, dtype=dtype) for vector in vectors]


# --- the cone


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("remaining_scale", SCALES)
@pytest.mark.parametrize("anchor_scale", SCALES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_shrinking_puts_the_cosine_on_tau_and_the_norm_at_cos_over_tau(dtype, anchor_scale, remaining_scale, tau):
    for share in (0.02, 0.5, 0.98):
        anchor = np.random.default_rng(0).standard_normal(200)
        remaining = at_cosine(anchor, share * tau, np.random.default_rng(1))
        anchor, remaining = tensors(anchor_scale * anchor, remaining_scale * remaining, dtype=dtype)
        cosine = cosine_of(remaining.double(), anchor.double())  # after rounding to dtype
        # Without complete samples nothing is added to the aligned gradient, and the admitted ones are the anchor.
        aligned, case = align_gradients(torch.zeros_like(anchor), anchor, remaining, 0, 4, tau)
        assert case is Case.OUTSIDE and aligned.dtype == dtype
        assert cosine_of(aligned.double(), anchor.double()) == pytest.approx(tau, abs=DTYPES[dtype])
        ratio = aligned.double().norm() / remaining.double().norm()
        assert float(ratio) == pytest.approx(cosine / tau, rel=DTYPES[dtype])


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("base", ["complete", "anchor"])
@pytest.mark.parametrize("sizes", [(3, 2), (1, 0), (0, 1), (7, 1)])
def test_update_equals_the_equations_written_out(sizes, base, tau):
    for seed, cosine in enumerate(np.linspace(-0.95, 0.9995, 41)):
        complete, admitted, remaining = three_gradients(cosine, *sizes, seed=seed)
        anchor = anchor_of(complete, admitted, *sizes)
        added_to = anchor if base == "anchor" else complete * (sizes[0] > 0)
        update, case = align_gradients(*tensors(complete, admitted, remaining), *sizes, tau, base)
        np.testing.assert_allclose(update, added_to + written_out(remaining, anchor, tau), atol=1e-12)
        assert case is (Case.INSIDE if cosine >= tau else Case.OUTSIDE if cosine > 0 else Case.OPPOSITE)


@pytest.mark.parametrize("anchor_norm", [0.03, 0.5, 2.0, 40.0])
def test_dividing_by_the_norm_as_eq_10_is_printed_would_miss_tau(anchor_norm):
    tau, generator = 0.2, np.random.default_rng(0)
    anchor = generator.standard_normal(50)
    anchor *= anchor_norm / np.linalg.norm(anchor)
    remaining = at_cosine(anchor, 0.1, generator)
    ours, _ = align_gradients(*tensors(0 * anchor, anchor, remaining), 0, 1, tau)
    assert cosine_of(ours, anchor) == pytest.approx(tau, abs=1e-12)
    assert abs(cosine_of(written_out(remaining, anchor, tau, power=1), anchor) - tau) > 0.01


def test_the_part_along_the_anchor_is_kept_and_the_rest_shrinks():
    complete, admitted, remaining = three_gradients(0.1)
    anchor = anchor_of(complete, admitted, 3, 2)
    stats = align(gramian(torch.stack(tensors(complete, admitted, remaining))), (3, 2, 4), 0.2)
    aligned = align_gradients(*tensors(complete, admitted, remaining), 3, 2, 0.2)[0].numpy() - complete
    assert aligned @ anchor == pytest.approx(remaining @ anchor)
    along = anchor / (anchor @ anchor)
    across = [vector - vector @ anchor * along for vector in (aligned, remaining)]
    np.testing.assert_allclose(across[0], float(stats.shrink) * across[1], atol=1e-13)
    assert 0 < float(stats.shrink) < 1


def test_turning_all_gradients_turns_the_update():
    vectors = torch.stack(tensors(*three_gradients(0.1)))
    turn = torch.linalg.qr(torch.randn(50, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    plain, _ = align_gradients(*vectors, 3, 2)
    turned, _ = align_gradients(*(vectors @ turn), 3, 2)
    torch.testing.assert_close(turned, plain @ turn, rtol=0, atol=1e-12)


def test_update_is_continuous_where_the_cases_meet():
    tau, step = 0.2, 1e-9
    for cosine in (0.0, tau):
        below, above = (
            align_gradients(*tensors(*three_gradients(cosine + sign * step)), 3, 2, tau) for sign in (-1, 1)
        )
        assert below[1] is not above[1]
        torch.testing.assert_close(below[0], above[0], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("remaining", "tau", "case", "expected"),
    [
        ([3.0, 4.0], 0.6, Case.INSIDE, [3.0, 4.0]),  # cosine exactly tau
        ([0.0, 4.0], 0.6, Case.OPPOSITE, [0.0, 0.0]),  # cosine exactly 0
        ([0.0, 4.0], 0.0, Case.OPPOSITE, [0.0, 0.0]),
        ([5.0, 0.0], 0.6, Case.INSIDE, [5.0, 0.0]),  # cosine 1: no orthogonal part to divide by
        ([-5.0, 0.0], 0.6, Case.OPPOSITE, [0.0, 0.0]),
        ([0.0, 0.0], 0.6, Case.NO_REMAINING, [0.0, 0.0]),
    ],
)
def test_exact_cosines_fall_into_the_case_that_the_design_says(remaining, tau, case, expected):
    complete, admitted, remaining = tensors([2.0, 0.0], [2.0, 0.0], remaining)
    update, found = align_gradients(complete, admitted, remaining, 1, 1, tau)
    assert found is case and (update - complete).tolist() == expected


def test_tau_zero_keeps_every_positive_cosine_as_it_is():
    for cosine, factor in ((1e-6, 1), (0.5, 1), (-1e-6, 0), (-0.5, 0)):
        complete, admitted, remaining = tensors(*three_gradients(cosine))
        update, case = align_gradients(complete, admitted, remaining, 3, 2, cos_threshold=0.0)
        torch.testing.assert_close(update, complete + factor * remaining, rtol=0, atol=1e-15)
        assert case is (Case.INSIDE if factor else Case.OPPOSITE)


@pytest.mark.parametrize("tau", [0.999, 1 - 1e-6, 1 - 1e-9])
def test_tau_close_to_one_leaves_the_part_along_the_anchor(tau):
    anchor = np.random.default_rng(0).standard_normal(50)
    remaining = at_cosine(anchor, 0.3, np.random.default_rng(1))
    aligned, _ = align_gradients(*tensors(0 * anchor, anchor, remaining), 0, 1, tau)
    assert cosine_of(aligned, anchor) == pytest.approx(tau, abs=1e-13)
    np.testing.assert_allclose(aligned.numpy() @ anchor, remaining @ anchor)


@pytest.mark.parametrize("which", [0, 1, (0, 1)])
@pytest.mark.parametrize("base", ["complete", "anchor"])
def test_zero_gradients_of_present_groups_give_finite_updates(which, base):
    vectors = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    vectors[2] += vectors[0] + vectors[1]  # inside the cone of either
    vectors[torch.tensor(which)] = 0
    update, case = align_gradients(*vectors, 2, 2, 0.2, base)
    added_to = vectors[0] if base == "complete" else (vectors[0] + vectors[1]) / 2
    kept = vectors[2] if case is Case.INSIDE else torch.zeros(20)
    assert case is (Case.OPPOSITE if which == (0, 1) else Case.INSIDE)
    torch.testing.assert_close(update, added_to + kept, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_anchor_whose_halves_cancel_up_to_rounding_cannot_blow_up_the_update(dtype):
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        complete, remaining = torch.randn(2, 300, generator=generator, dtype=torch.float64).to(dtype)
        update, _ = align_gradients(complete, -complete / 3, remaining, 1, 3, update_base="anchor")
        assert float(update.double().norm()) < 2 * float(remaining.double().norm())


@pytest.mark.parametrize("rule", UPDATE_RULES)
def test_reported_weights_are_those_of_the_update(rule):
    parameter, counts = torch.nn.Parameter(torch.zeros(20)), (3, 1, 4)
    vectors = torch.from_numpy(np.random.default_rng(5).standard_normal((3, 20))).float()
    stats = GradientAligner([parameter], rule=rule).apply(vectors, counts)
    torch.testing.assert_close(stats.weights.float() @ vectors, parameter.grad)


@pytest.mark.parametrize("base", ["complete", "anchor"])
@pytest.mark.parametrize("sizes", SIZES)
def test_absent_groups_contribute_nothing(sizes, base):
    generator = np.random.default_rng(5)
    vectors = [generator.standard_normal(20) * (size > 0) for size in sizes]
    complete, admitted, remaining = vectors
    stats = align(gramian(torch.stack(tensors(*vectors))), sizes, 0.2, base)
    update = weighted_sum(torch.stack(tensors(*vectors)), stats.weights)
    if sizes[:2] == (0, 0):
        assert stats.case == Case.NO_ANCHOR
        np.testing.assert_array_equal(update, remaining)
        return
    anchor = anchor_of(complete, admitted, *sizes[:2])
    aligned = written_out(remaining, anchor, 0.2) if sizes[2] else 0
    assert (stats.case == Case.NO_REMAINING) == (sizes[2] == 0)
    np.testing.assert_allclose(update, (anchor if base == "anchor" else complete) + aligned, atol=1e-14)


@pytest.mark.parametrize(
    ("knobs", "culprit"),
    [
        ({"cos_threshold": -0.1}, "cos_threshold"),
        ({"cos_threshold": 1.0}, "cos_threshold"),
        ({"cos_threshold": math.nan}, "cos_threshold"),
        ({"update_base": "admitted"}, "update_base"),
        ({"n_complete": -1}, "n_complete"),
        ({"n_admitted": -1}, "n_admitted"),
        ({"remaining": torch.ones(4)}, "remaining"),
        ({"complete": torch.ones(3, 1), "admitted": torch.ones(3, 1), "remaining": torch.ones(3, 1)}, "flat"),
    ],
)
def test_bad_arguments_are_named(knobs, culprit):
    vectors = {name: torch.ones(3) for name in ("complete", "admitted", "remaining")}
    with pytest.raises(AngaError, match=culprit):
        align_gradients(**{**vectors, "n_complete": 1, "n_admitted": 1, **knobs})


# --- the aligner in somebody's training loop

GROUPS = [np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [2 * size for size in sizes])) for sizes in SIZES]


def mlp(dtype=torch.float64) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def data(n: int):
    generator = np.random.default_rng(n)
    return generator.standard_normal((n, 5)), generator.integers(0, 3, n)


def losses_of(model: nn.Module, x: np.ndarray, y: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(x).to(next(model.parameters()).dtype)
    return nn.functional.cross_entropy(model(x), torch.from_numpy(y), reduction="none")


def gradients_by_hand(model: nn.Module, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Per-sample gradients `[N, P]` of softmax cross-entropy after two layers, by the chain rule in float64."""
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in model.parameters())
    hidden = np.tanh(x @ w1.T + b1)
    odds = np.exp(hidden @ w2.T + b2)
    at_logits = odds / odds.sum(1, keepdims=True) - np.eye(3)[y]
    at_hidden = at_logits @ w2 * (1 - hidden**2)
    outer = [np.einsum("ni,nj->nij", at_hidden, x), at_hidden, np.einsum("ni,nj->nij", at_logits, hidden), at_logits]
    return np.concatenate([part.reshape(len(x), -1) for part in outer], 1)


def flat_grad(model: nn.Module) -> np.ndarray:
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double().numpy()


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "-".join(map(str, np.bincount(group, minlength=3))))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_backward_on_an_ordinary_network_equals_a_hand_computation(dtype, tolerance, group):
    model, (x, y) = mlp(dtype), data(len(group))
    rows = gradients_by_hand(model, x, y)
    complete, admitted, remaining = (rows[group == g].mean(0) if (group == g).any() else 0 * rows[0] for g in range(3))
    n_complete, n_admitted, n_remaining = np.bincount(group, minlength=3)
    expected = complete + remaining
    if n_complete + n_admitted and n_remaining:
        anchor = anchor_of(complete, admitted, n_complete, n_admitted)
        expected = complete + written_out(remaining, anchor, 0.6)
    stats = GradientAligner(model.parameters(), cos_threshold=0.6).backward(losses_of(model, x, y), group)
    np.testing.assert_allclose(flat_grad(model), expected, atol=tolerance)
    assert stats.counts == (n_complete, n_admitted, n_remaining)
    assert all(p.grad.dtype == dtype for p in model.parameters())


def test_those_networks_meet_all_cases():
    cases = set()
    for group in GROUPS:
        model = mlp()
        stats = GradientAligner(model.parameters(), 0.6).backward(losses_of(model, *data(len(group))), group)
        cases.add(Case(int(stats.case)))
    assert cases == set(Case) - {Case.NOT_ALIGNED}  # which no group gradients lead to


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "-".join(map(str, np.bincount(group, minlength=3))))
def test_pooled_rule_is_the_ordinary_backward_pass(group):
    ours, plain = mlp(), mlp()
    GradientAligner(ours.parameters(), rule="pooled").backward(losses_of(ours, *data(len(group))), group)
    losses_of(plain, *data(len(group))).mean().backward()
    np.testing.assert_allclose(flat_grad(ours), flat_grad(plain), atol=1e-15)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "-".join(map(str, np.bincount(group, minlength=3))))
def test_group_means_rule_adds_the_means_of_complete_and_reconstructed_samples(group):
    ours, plain = mlp(), mlp()
    GradientAligner(ours.parameters(), rule="group_means").backward(losses_of(ours, *data(len(group))), group)
    losses = losses_of(plain, *data(len(group)))
    sum(losses[mask].mean() for mask in (group == 0, group > 0) if mask.any()).backward()
    np.testing.assert_allclose(flat_grad(ours), flat_grad(plain), atol=1e-15)


def test_backward_adds_to_what_is_in_grad():
    group, (x, y) = np.array([0, 0, 1, 2, 2]), data(5)
    once, twice = mlp(), mlp()
    GradientAligner(once.parameters()).backward(losses_of(once, x, y), group)
    for parameter in twice.parameters():
        parameter.grad = torch.ones_like(parameter)
    held = [parameter.grad for parameter in twice.parameters()]
    aligner = GradientAligner(twice.parameters())
    aligner.backward(losses_of(twice, x, y), group)
    aligner.backward(losses_of(twice, x, y), group)
    np.testing.assert_allclose(flat_grad(twice), 1 + 2 * flat_grad(once), atol=1e-14)
    assert all(p.grad is g for p, g in zip(twice.parameters(), held, strict=True)), "added in place, as autograd does"


def test_frozen_parameters_are_left_alone_and_do_not_change_the_others():
    group, (x, y) = np.array([0, 1, 2, 2, 0]), data(5)
    part, alone = mlp(), mlp()
    part[0].requires_grad_(False)
    GradientAligner(part.parameters()).backward(losses_of(part, x, y), group)
    assert part[0].weight.grad is None and part[0].bias.grad is None
    GradientAligner(alone[2].parameters()).backward(losses_of(alone, x, y), group)
    assert torch.equal(part[2].weight.grad, alone[2].weight.grad)


def test_unused_parameters_do_no_harm_and_stay_where_they_are():
    model, unused = mlp(), nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = torch.optim.SGD([*model.parameters(), unused], lr=0.1)
    aligner = GradientAligner([unused, *model.parameters()])
    aligner.backward(losses_of(model, *data(4)), [0, 1, 2, 2])
    optimizer.step()
    assert unused.tolist() == [1, 1, 1, 1]
    reference = mlp()
    GradientAligner(reference.parameters()).backward(losses_of(reference, *data(4)), [0, 1, 2, 2])
    # a longer vector may be summed in another order: the last bits depend on the processor
    np.testing.assert_allclose(flat_grad(model), flat_grad(reference), rtol=1e-12)


@pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor])
def test_groups_may_be_any_sequence_of_codes(make):
    ours, reference = mlp(), mlp()
    GradientAligner(ours.parameters()).backward(losses_of(ours, *data(4)), make([2, 0, 1, 2]))
    GradientAligner(reference.parameters()).backward(losses_of(reference, *data(4)), np.array([2, 0, 1, 2]))
    assert np.array_equal(flat_grad(ours), flat_grad(reference))


@pytest.mark.parametrize(
    ("group", "tau", "case"),
    [
        ([0, 0, 0, 1, 2, 2], 0.9, Case.OPPOSITE),
        ([2, 0, 0, 0, 0, 1], 0.9, Case.OUTSIDE),
        ([2, 0, 0, 0, 0, 1], 0.1, Case.INSIDE),
    ],
)
def test_reported_norms_cosine_and_shrink_are_those_of_the_gradients(group, tau, case):
    group, model, (x, y) = np.array(group), mlp(), data(6)
    rows = gradients_by_hand(model, x, y)
    vectors = [rows[group == g].mean(0) for g in range(3)]
    anchor = rows[group < 2].mean(0)
    stats = GradientAligner(model.parameters(), cos_threshold=tau).backward(losses_of(model, x, y), group)
    np.testing.assert_allclose(stats.norms, [np.linalg.norm(v) for v in [*vectors, anchor]])
    cosine = cosine_of(vectors[2], anchor)
    to_the_edge = math.sqrt(1 - tau**2) / tau * cosine / math.sqrt(1 - cosine**2)
    shrink = {Case.OPPOSITE: 0, Case.OUTSIDE: to_the_edge, Case.INSIDE: 1}[case]
    assert stats.case == case and float(stats.cosine) == pytest.approx(cosine)
    assert float(stats.shrink) == pytest.approx(shrink)


@pytest.mark.parametrize("group", [[0, 1], [0, 1, 2, 2, 2], [0, 1, 2, 3], [0, 1, 2, -1], [[0], [1], [2], [2]], 0])
def test_groups_that_do_not_fit_the_losses_are_refused(group):
    model = mlp()
    with pytest.raises(AngaError, match="group"):
        GradientAligner(model.parameters()).backward(losses_of(model, *data(4)), group)


def test_losses_that_are_already_averaged_are_refused():
    model = mlp()
    with pytest.raises(AngaError, match="losses"):
        GradientAligner(model.parameters()).backward(losses_of(model, *data(4)).mean(), [0])


@pytest.mark.parametrize("knobs", [{"cos_threshold": 1.0}, {"update_base": "all"}, {"rule": "pcgrad"}])
def test_an_impossible_aligner_cannot_be_made(knobs):
    with pytest.raises(AngaError, match=next(iter(knobs))):
        GradientAligner(mlp().parameters(), **knobs)


def test_every_rule_of_the_registry_is_known_to_the_aligner():
    for rule in UPDATE_RULES:
        model = mlp()
        GradientAligner(model.parameters(), rule=rule).backward(losses_of(model, *data(4)), [0, 1, 2, 2])
        assert np.isfinite(flat_grad(model)).all() and np.abs(flat_grad(model)).max() > 0
