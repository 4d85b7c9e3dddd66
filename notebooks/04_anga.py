# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · Can complete samples keep reconstructed ones from leading the training astray?
#
# Retrieval gives every sample a stand-in for what it lost. Some stand-ins are wrong. ANGA trains on all samples, but
# lets the reliable ones decide in which direction. This notebook builds the method equation by equation, checks each
# part on a toy, and then looks at real training runs, whatever they say.
#
# - **Needs:** one parameter file (below); data and checkpoints are part of the package. Runs that are not there yet
#   are trained now (`make demo` has trained them before).
# - **Leaves behind:** figures under `outputs/figures/`, the table of scores under `outputs/tables/`.
# - **Run time:** a minute or two on two CPU cores if the runs are there (half of a run is trained once more, to look
#   inside). Training the runs takes some minutes on a CPU; progress bars show how many are left.
# - **Before this:** `01_data` (missing tables), `02_retrieval` (reconstruction).

# %% [markdown]
# ## Parameters
#
# `params` names a file of knobs. It says which task we train on, how much is missing, and with which seeds.

# %% tags=["parameters"]
params = "../params/quick/clipart-pairs.yaml"
outputs = "../outputs"

# %% [markdown]
# ## Imports

# %%
import math
from itertools import islice, pairwise, product

import numpy as np
import pandas as pd
import torch
from torch.autograd import grad
from tqdm import tqdm

from anga import Case, GradientAligner, Group, plots
from anga.aligner import align, align_gradients, gramian
from anga.curriculum import admit, anchor_ratio, prediction_entropy
from anga.diagnosis import reconstruction_errors
from anga.evaluation import METRIC_NAMES
from anga.gradients import FORMS, boundary_form
from anga.inputs import prepare
from anga.method import sample_losses
from anga.model import build_model
from anga.parameters import VARIANTS, Params
from anga.plots.sliders import explore, movable_cone
from anga.products import Products
from anga.runs import provenance
from anga.statistics import in_words, mean_interval, mean_intervals, paired_difference, spearman_interval, verdict
from anga.study import SUBSETS, headline, run_variants, variants_table
from anga.training_state import TrainingState

# %% [markdown]
# `config` holds the knobs of full ANGA with the first pair of seeds. `keep` saves each figure together with
# the table that it was drawn from, and may write a note under it.

# %%
plots.set_style()
study_params = Params.from_yaml(params)
config = study_params.configs(**VARIANTS["full ANGA"])[0]
tau = config.cos_threshold
products = Products(outputs, study_params.place, "04_anga")
keep = products.figure

# %% [markdown]
# ## 1. Why groups?
#
# A toy with two parameters. A sample has a text and an image, one number each, and its label is their sum. The model
# is `w_text * text + w_image * image`. Of 200 samples, 60 are complete. The other 140 lost their text and got a
# stand-in that resembles it only weakly. They are the reconstructed samples.

# %%
generator = torch.Generator().manual_seed(0)
text, image, noise = torch.randn(3, 200, generator=generator)
complete = torch.arange(200) < 60
stand_in = 0.4 * text + 0.9 * noise
x = torch.stack([torch.where(complete, text, stand_in), image], dim=1)
label = text + image

# %% [markdown]
# Ordinary training takes the gradient of one mean over all samples. ANGA first takes two means, one per group:
#
# $$g_C = \nabla_\theta \frac{1}{|C|}\sum_{i\in C}\ell_i, \qquad
# g_M = \nabla_\theta \frac{1}{|M|}\sum_{i\in M}\ell_i \tag{4}$$


# %%
def group_gradients(w):
    w = w.clone().requires_grad_()
    losses = (x @ w - label) ** 2 / 2
    (g_C,) = grad(losses[complete].mean(), w, retain_graph=True)  # Eq. 4
    (g_M,) = grad(losses[~complete].mean(), w)
    return g_C, g_M


# %% [markdown]
# **Toy check.** Nothing is lost by the split: weighted with the group sizes, the two give back the ordinary gradient.

# %%
w = torch.tensor([-0.2, 0.1])
g_C, g_M = group_gradients(w)
ordinary = x.T @ (x @ w - label) / len(x)
assert torch.allclose((60 * g_C + 140 * g_M) / 200, ordinary, atol=1e-6)

# %% [markdown]
# Now we follow ordinary ("pooled") gradient descent and note both groups' mean losses and the cosine of their gradients
# at each step.


# %%
def descend(update, steps=60, rate=0.2):
    w, rows = torch.tensor([-0.2, 0.1]), []
    for step in range(steps):
        g_C, g_M = group_gradients(w)
        cosine = torch.cosine_similarity(g_C, g_M, dim=0)
        losses = (x @ w - label) ** 2 / 2
        means = losses[complete].mean().item(), losses[~complete].mean().item()
        rows.append([step, *w.tolist(), cosine.item(), *means])
        w = w - rate * update(g_C, g_M)
    return pd.DataFrame(rows, columns=["step", "w_text", "w_image", "cosine", "complete", "reconstructed"])


pooled_path = descend(lambda g_C, g_M: 0.3 * g_C + 0.7 * g_M).assign(rule="pooled")

# %% [markdown]
# For the picture we need both groups' losses on a grid of weights.

# %%
values = np.linspace(-0.3, 1.7, 101)
grid = pd.DataFrame([(a, b) for a in values for b in values], columns=["w_text", "w_image"])
squares = ((x.numpy() @ grid.to_numpy().T - label.numpy()[:, None]) ** 2) / 2
grid["complete"], grid["reconstructed"] = squares[:60].mean(0), squares[60:].mean(0)
keep(plots.method.toy_paths(grid, pooled_path), pooled_path, "toy_pooled")

# %%
start, end = pooled_path.iloc[0], pooled_path.iloc[-1]
goal = grid.set_index("w_text")[["complete", "reconstructed"]].idxmin()
print(f"Pooled training ends at w_text = {end.w_text:.2f}; complete samples want {goal.complete:.2f},", end=" ")
print(f"reconstructed ones {goal.reconstructed:.2f}.")
print(f"Cosine of g_C and g_M: {start.cosine:.2f} at the first step, {end.cosine:.2f} at the last;", end=" ")
print(f"below zero from step {int((pooled_path['cosine'] < 0).idxmax())} on.")
assert end.cosine < -0.99

# %%
turn = pooled_path.loc[pooled_path["reconstructed"].idxmin()]
for group in ("complete", "reconstructed"):
    print(f"Loss of {group} samples: {start[group]:.3f} at the start,", end=" ")
    print(f"{turn[group]:.3f} at step {turn.step:.0f}, {end[group]:.3f} at the end.")
assert (pooled_path["complete"].diff().dropna() < 1e-6).all(), "a step has raised the loss of complete samples"

# %% [markdown]
# **What you should see:** an almost straight path. At first every step serves both groups. Then the cosine falls below
# zero, and soon after it a step can serve only one of them. Here that is the complete group: its loss goes on falling
# a little at every step, while the loss of reconstructed samples has passed its lowest value and rises. So a negative
# cosine says that the two want different things; it does not say who is being hurt.
#
# The path stops (star) where the two gradients, weighted with the group sizes, cancel. There they point in exactly
# opposite directions: that is what a minimum of the pooled loss *is*. It lies between the two goals, nearer to that of
# the 70 %, and far from what complete samples want.
#
# > **Reader's note.** For reconstructed samples that weight is right: a weak stand-in deserves a small weight. One
# > `w_text` has to serve both groups, so what one wins the other loses. Keep this in mind for section 9.

# %% [markdown]
# ## 2. Which reconstructed samples can be trusted?
#
# ANGA asks the model. A reconstructed sample counts as reliable if its prediction has a low entropy:
#
# $$H(\tilde{x}_i) = -\sum_{j=1}^{k}\hat{y}_{i,j}\log\hat{y}_{i,j} \tag{5}$$


# %%
def entropy(logits):
    y_hat = logits.softmax(-1)
    return -(y_hat * y_hat.log()).sum(-1)  # Eq. 5


# %% [markdown]
# **Toy check.** Equal logits give the largest entropy, log k; one large logit gives almost none. The package's
# function does the same by `log_softmax`, which does not fail where a probability rounds to zero.

# %%
logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, 0.0]])
assert torch.allclose(entropy(logits), prediction_entropy(logits), atol=1e-6)
assert math.isclose(entropy(logits)[0], math.log(4), rel_tol=1e-6)
assert prediction_entropy(torch.tensor([[0.0, -500.0]])) == 0
entropy(logits)

# %% [markdown]
# > **Reader's note.** Eq. 5 makes the k classes compete. Where a sample may carry several labels (MM-IMDb,
# > `clipart-keywords`) that is odd: being sure of *two* labels looks like doubt between them. There we take the mean
# > entropy of k separate yes-or-no answers (Bernoulli). The knob is `multilabel_entropy`.

# %%
logits = torch.tensor([[9.0, -9, -9, -9], [9, 9, -9, -9], [0, 0, 0, 0]])
entropies = pd.DataFrame(index=["sure of one label", "sure of two", "unsure of all"])
entropies["softmax"] = prediction_entropy(logits)  # Eq. 5
entropies["Bernoulli"] = prediction_entropy(logits, "bernoulli")
assert entropies.loc["sure of two", "softmax"] > 0.69 and entropies.loc["sure of two", "Bernoulli"] < 0.01
entropies.round(3)

# %% [markdown]
# **What you should see:** in the row "sure of two" softmax sees an entropy of log 2 ≈ 0.69, Bernoulli almost none.

# %% [markdown]
# ## 3. How many are admitted, and when?
#
# A young model's confidence means little. So the share of reconstructed samples that may join the anchor starts
# small and grows from epoch to epoch, up to a limit:
#
# $$\lambda(z) = \min\left(\lambda_{\max}, \lambda_{\min} +
# \frac{\lambda_{\max}-\lambda_{\min}}{Z_{grow}} z\right) \tag{6}$$


# %%
def ratio(z, lambda_min=0.1, lambda_max=0.3, Z_grow=5):
    return min(lambda_max, lambda_min + (lambda_max - lambda_min) / Z_grow * z)  # Eq. 6


assert all(ratio(z) == anchor_ratio(z) for z in range(20))

# %% [markdown]
# All reconstructed training samples are ranked by entropy; the first of them enter the anchor set $\mathcal{A}_z$
# together with all complete samples ($N^m$ counts the reconstructed samples):
#
# $$\mathcal{A}_z = \mathcal{C} \cup \lbrace\tilde{x}_i \mid \tilde{x}_i \in \tilde{\mathcal{D}}^m_{rank},
# i \le \lfloor \lambda(z) N^m \rfloor\rbrace \tag{7}$$
#
# **Toy check.** Of five samples and a ratio of 0.4, the two with the lowest entropy are admitted.

# %%
toy_entropy = np.array([0.6, 0.1, 0.5, 0.2, 0.4])
admitted = admit(toy_entropy, 0.4, "lowest_entropy", np.random.default_rng(0))  # Eq. 7
assert admitted.tolist() == [False, True, False, True, False]

# %% [markdown]
# The same for our data. First everything that a run reads: data set, missing table, neighbours, tokens.

# %%
inputs = prepare(config, outputs)
dataset, metric = inputs.dataset, METRIC_NAMES[inputs.dataset.metric]
train_rows = dataset.rows("train")
n_reconstructed = int((~inputs.table.complete[train_rows]).sum())
print(f"{dataset.name}: {len(train_rows)} training samples, {n_reconstructed} of them reconstructed")

# %%
plan = pd.DataFrame({"epoch": range(config.epochs)})
growth = config.lambda_min, config.lambda_max, config.grow_epochs
plan["ratio"] = [anchor_ratio(z, *growth) for z in plan["epoch"]]
plan["admitted"] = np.floor(plan["ratio"] * n_reconstructed + 1e-9).astype(int)
keep(plots.method.curriculum(plan), plan, "curriculum")

# %% [markdown]
# **What you should see:** the number of admitted samples climbs for `grow_epochs` epochs and then stays. A run that
# ends before that never sees the largest anchor set.
#
# > **Reader's note.** The paper leaves open when the ranking is made and what happens after $Z_{grow}$. We rank at each
# > epoch's start with an extra pass over the reconstructed samples, and stay at $\lambda_{\max}$.

# %% [markdown]
# ## 4. The anchor is a weighted mean
#
# From here on a batch has three disjoint groups: complete, admitted, and remaining ($M'$, everything else). The
# anchor gradient is the mean over complete and admitted samples together:
#
# $$g_A = \nabla_\theta \frac{1}{|\mathcal{A}_z\cap\mathcal{B}|}
# \sum_{i\in\mathcal{A}_z\cap\mathcal{B}} \ell_i \tag{8}$$
#
# It needs no backward pass of its own. A gradient is linear in the loss, so $g_A$ is the mean of the two groups'
# gradients, weighted by their sizes. The check takes 60 complete and 20 admitted samples of the toy.

# %%
w = torch.zeros(2, requires_grad=True)
losses = (x @ w - label) ** 2 / 2
(g_A,) = grad(losses[:80].mean(), w, retain_graph=True)  # Eq. 8
(g_complete,) = grad(losses[:60].mean(), w, retain_graph=True)
(g_admitted,) = grad(losses[60:80].mean(), w)
assert torch.allclose(g_A, (60 * g_complete + 20 * g_admitted) / 80, atol=1e-6)

# %% [markdown]
# ## 5. The cone
#
# Around the anchor gradient lies a cone of half-angle $\theta$, with $\tau = \cos\theta$. Where the remaining gradient
# $g_{M'}$ lies decides what is done with it.
#
# | case | condition | result | |
# |---|---|---|---|
# | inside | cosine ≥ τ | $\tilde{g}_{M'} = g_{M'}$ | (9) |
# | outside | 0 < cosine < τ | sideways part shrunk until the cosine is τ | (10-13) |
# | opposite | cosine < 0 | $\tilde{g}_{M'} = 0$ | (14) |
#
# For the case outside, the gradient is split into a part along the anchor and a part across it, and the latter is
# multiplied by $\alpha$:
#
# $$g^{\parallel} = \frac{g_{M'}\cdot g_A}{\lVert g_A\rVert^{2}} g_A, \quad
# g^{\perp} = g_{M'} - g^{\parallel} \tag{10}$$
#
# $$\kappa_{\max} = \tan\theta = \frac{\sqrt{1-\tau^2}}{\tau} \tag{11}$$
#
# $$\alpha = \frac{\kappa_{\max} \lVert g^{\parallel}\rVert}{\lVert g^{\perp}\rVert} \tag{12}$$
#
# $$\tilde{g}_{M'} = g^{\parallel} + \alpha g^{\perp} \tag{13}$$
#
# > **Reader's note.** The paper prints $\lVert g_A\rVert$ without the square in Eq. 10. Section 6 shows what that
# > would do. And it leaves a cosine of exactly 0 open; we let it count as opposite, to which the case outside leads.


# %%
def aligned(g_M, g_A, tau, power=2):
    """Eqs. 9-14 for two vectors; power = 1 is Eq. 10 as printed."""
    cosine = g_M @ g_A / (g_M.norm() * g_A.norm())
    if cosine >= tau:
        return g_M  # Eq. 9, inside
    if cosine <= 0:
        return torch.zeros_like(g_M)  # Eq. 14, opposite
    parallel = (g_M @ g_A) / g_A.norm() ** power * g_A  # Eq. 10
    across = g_M - parallel
    kappa_max = math.sqrt(1 - tau**2) / tau  # Eq. 11
    alpha = kappa_max * parallel.norm() / across.norm()  # Eq. 12
    return parallel + alpha * across  # Eq. 13


# %% [markdown]
# **Toy check.** A thousand random pairs in five dimensions. Outside, the cosine must end at τ exactly, and the length
# must shrink by cosine/τ. The package computes all this from inner products alone; it must give the same vector.

# %%
pairs = torch.randn(1000, 2, 5, generator=generator, dtype=torch.float64)
nothing, cases = torch.zeros(5, dtype=torch.float64), []
for g_M, g_A in pairs:
    ours, cosine = aligned(g_M, g_A, 0.2), torch.cosine_similarity(g_M, g_A, dim=0)
    update, case = align_gradients(g_A, nothing, g_M, n_complete=1, n_admitted=0, cos_threshold=0.2)
    assert torch.allclose(update - g_A, ours, atol=1e-9)
    if case == Case.OUTSIDE:
        assert torch.isclose(torch.cosine_similarity(ours, g_A, dim=0), torch.tensor(0.2).double())
        assert torch.isclose(ours.norm() / g_M.norm(), cosine / 0.2)
    cases.append(case.name.lower())
pd.Series(cases).value_counts()

# %% [markdown]
# In the plane the three cases can be drawn. The anchor points upwards; `turned` makes a vector at a given cosine to
# it. The grey wedge is the cone of our τ.


# %%
def turned(cosine, length=1.0):
    return length * torch.tensor([math.sqrt(1 - cosine**2), cosine], dtype=torch.float64)


arrows = []
for case, cosine in {"inside": 0.75, "outside": tau / 2, "opposite": -0.6}.items():
    g_M, g_A = turned(cosine), turned(1, length=1.2)
    for name, vector in {"anchor": g_A, "before": g_M, "after": aligned(g_M, g_A, tau)}.items():
        arrows.append({"case": case, "vector": name, "x": vector[0].item(), "y": vector[1].item()})
arrows = pd.DataFrame(arrows)
keep(plots.method.cone(arrows, tau), arrows, "cone")

# %% [markdown]
# **What you should see:** inside, nothing changes (both arrows coincide). Outside, the arrow is shortened sideways
# until it lies on the edge of the cone. Opposite, nothing is left but a dot.
#
# How much is taken away? We turn a gradient of length 1 from opposite to parallel and watch its direction and length,
# for our τ and for a narrower cone.

# %%
g_A, rows = turned(1), []
for threshold in (tau, 0.7):
    for cosine in np.linspace(-0.999, 0.999, 200):
        after = aligned(turned(cosine), g_A, threshold)
        gram = gramian(torch.stack([g_A, 0 * g_A, turned(cosine)]))
        shrink = align(gram, (1, 0, 1), threshold).shrink.item()
        direction = torch.cosine_similarity(after, g_A, dim=0).item()
        rows.append((threshold, cosine, direction, shrink, after.norm().item()))
curve = pd.DataFrame(rows, columns=["cos_threshold", "cosine", "cosine_after", "shrink", "length"])
keep(plots.method.shrinking(curve), curve, "shrinking")

# %% [markdown]
# **What you should see:** left, the direction is held at τ for every cosine between 0 and τ. Right, the length grows
# from 0 to 1 on the same stretch, so nothing jumps at either end. (For a wide cone α and the length nearly coincide.)
# A gradient that is barely correlated with the anchor is not only turned, it is almost removed.

# %% [markdown]
# **Try it.** In JupyterLab the next cell has two sliders: the cone's τ, and the cosine at which the remaining gradient
# stands. Elsewhere it shows our τ and a gradient outside. Where does the black dot fall to the axis, and from where on
# does it stay on top?


# %%
def at(cos_threshold, cosine):
    g_A, g_M = turned(1, 1.2), turned(cosine)
    after = aligned(g_M, g_A, cos_threshold)
    arrows = pd.DataFrame([g_A.tolist(), g_M.tolist(), after.tolist()], columns=["x", "y"])
    arrows.insert(0, "vector", ["anchor", "before", "after"])
    curve = pd.DataFrame({"cosine": np.linspace(-1, 1, 401)})
    curve["length"] = [aligned(turned(c), g_A, cos_threshold).norm().item() for c in curve["cosine"]]
    case = "inside" if cosine >= cos_threshold else "outside" if cosine > 0 else "opposite"
    print(f"{case}: of a gradient of length 1, {after.norm():.2f} is left.")
    return movable_cone(arrows, curve, cos_threshold)


explore(at, cos_threshold=(tau, 0.05, 0.95, 0.05), cosine=(tau / 2, -1.0, 1.0, 0.05))

# %% [markdown]
# **What you should see:** the dot is on the axis for every cosine up to 0 (opposite) and on top from τ on (inside);
# between them it climbs. A larger τ makes a narrower cone and a longer climb: more gradients are shortened, and more.

# %% [markdown]
# ## 6. Eq. 10 as printed
#
# A projection divides by the *square* of the anchor's norm. The paper prints the norm itself. Both agree only if
# $\lVert g_A\rVert = 1$. We try anchors of several lengths.

# %%
forms = {"printed": (1, (0.01, 0.3, 1.0, 3.0, 100.0)), "squared": (2, (0.01, 100.0))}
rows = []
for form, (power, lengths) in forms.items():
    for length, cosine in product(lengths, np.linspace(0.001, tau - 0.001, 60)):
        after = aligned(turned(cosine), turned(1, length), tau, power)
        rows.append((form, length, cosine, (after[1] / after.norm()).item()))
printed = pd.DataFrame(rows, columns=["form", "anchor_norm", "cosine", "cosine_after"])
keep(plots.method.printed_projection(printed, tau), printed, "printed_eq10")

# %%
ends = printed.groupby("form")["cosine_after"].agg(["min", "max"])
assert np.allclose(ends.loc["squared"], tau)
ends.round(3)

# %% [markdown]
# **What you should see:** the black line is flat at τ. The printed form meets it for $\lVert g_A\rVert = 1$ only.
# For other lengths the result depends on the anchor's length, and for long anchors it points *against* the anchor. We
# take this for a slip of the pen and square the norm. Section 10 tells how long our anchors really are.

# %% [markdown]
# ## 7. The update
#
# $$\theta \leftarrow \theta - \eta (g_C + \tilde{g}_{M'}) \tag{15}$$
#
# > **Reader's note.** Eq. 15 adds the aligned gradient to $g_C$, not to $g_A$. So admitted samples help to choose the
# > direction but get no push of their own. The knob `update_base` lets you choose: `complete` (as printed) or `anchor`.
#
# Every update is a weighted sum of three group gradients. The table shows the weights, for a batch with 18 complete,
# 9 admitted and 37 remaining samples.

# %%
rows = {}
for base in ("complete", "anchor"):
    for cosine in (0.5, tau / 2, -0.5):
        gram = torch.tensor([[1, 0.3, cosine], [0.3, 1, cosine], [cosine, cosine, 1]]).double()
        result = align(gram, (18, 9, 37), tau, base)  # Eqs. 9-15
        rows[base, Case(int(result.case)).name.lower()] = result.weights.tolist()
weights = pd.DataFrame(rows, index=["g_C", "g_admitted", "g_M'"]).T.round(2)
assert (weights.loc[("complete", ["inside", "opposite"]), "g_admitted"] == 0).all()
weights

# %% [markdown]
# **What you should see:** with `complete`, admitted samples have no weight of their own; outside they get a trace,
# because there the sideways part is replaced by a piece of the anchor. With `anchor` they share the push.
#
# Back to the toy of section 1: the same start, now with the update of Eq. 15. The third rule, `group_means`, adds
# $g_C + g_M$ without any alignment. It is the control: already this gives the complete samples more weight than they
# have in the pooled mean.

# %%
cone_path = descend(lambda g_C, g_M: g_C + aligned(g_M, g_C, tau)).assign(rule="cone")
means_path = descend(lambda g_C, g_M: g_C + g_M).assign(rule="group_means")
paths = pd.concat([pooled_path, means_path, cone_path])
keep(plots.method.toy_paths(grid, paths), paths, "toy_rules")

# %%
for rule, path in paths.groupby("rule", sort=False):
    w = torch.tensor(path[["w_text", "w_image"]].to_numpy()[-1]).float()
    losses = (x @ w - label) ** 2 / 2
    means = losses[complete].mean(), losses[~complete].mean()
    print("{:12s} complete {:.2f}   reconstructed {:.2f}".format(rule, *means))

# %% [markdown]
# **What you should see:** with the cone the path ends where complete samples want it. Their loss falls to zero; the
# loss of reconstructed samples is the highest of the three. The control ends in between. Alignment is no free gift:
# in this toy it takes sides.

# %% [markdown]
# ### Three ways to the same gradients
#
# How are group gradients computed in a large model? `loop` runs one backward pass per group: easy to read, slow.
# `sub_batch` runs each group by itself. `boundary` passes the frozen backbone once for all groups and separates them
# only in the adapter and the head: as fast as one ordinary step. All three must agree. We take 64 real samples.

# %%
model = build_model(config, inputs)
rows = np.random.default_rng(0).permutation(train_rows)[:64]
batch = inputs.batch_maker(with_pools=True)(rows)
group = np.where(inputs.table.complete[rows], Group.COMPLETE, Group.REMAINING)
reconstructed = np.flatnonzero(group == Group.REMAINING)
group[reconstructed[: len(reconstructed) // 5]] = Group.ADMITTED
dict(zip([g.name.lower() for g in Group], np.bincount(group, minlength=3).tolist(), strict=True))

# %%
vectors = {name: form(model, batch, group).vectors for name, form in FORMS.items()}
scale = vectors["loop"].norm()
apart = {name: ((v - vectors["loop"]).norm() / scale).item() for name, v in vectors.items()}
assert max(apart.values()) < 1e-4, "the forms of the group gradients do not agree"
print(f"{vectors['loop'].shape[1]:,} parameters; relative distance to the loop:")
pd.Series(apart).map("{:.1e}".format)

# %% [markdown]
# **What you should see:** distances in the range of rounding errors. `make bench` measures what each form costs.

# %% [markdown]
# ## 8. The adapter
#
# The second half of the method gives each sample two prompts, one per modality. The sample's own tokens
# $\mathcal{T}_i$ ask, the tokens of its K neighbours $\mathcal{T}^{\mathcal{R}}_i$ answer:
#
# $$\tilde{P}^t_i = \mathrm{softmax}\left(
# \frac{f^Q_t(\mathcal{T}_i)  f^K_t(\mathcal{T}^{\mathcal{R}}_i)^\top}{\sqrt d}\right)
# f^V_t(\mathcal{T}^{\mathcal{R}}_i) \tag{16}$$
#
# The mean over the sample's tokens then gives one prompt. Written down literally:


# %%
def literal(attention, target, target_mask, pool, pool_mask):
    """Eq. 16 for a batch, then the mean over the sample's real tokens; `pool` is `[B, K, n, d]`."""
    pool, pool_mask = pool.flatten(1, 2), pool_mask.flatten(1, 2)
    Q, K, V = attention.query(target), attention.key(pool), attention.value(pool)
    score = Q @ K.mT / math.sqrt(target.shape[-1])
    prompts = score.masked_fill(~pool_mask[:, None], -torch.inf).softmax(-1) @ V  # Eq. 16
    weight = target_mask[..., None].float()
    return (prompts * weight).sum(1) / weight.sum(1)


# %% [markdown]
# This sends all K·n neighbour tokens through two d × d matrices. The package reaches the same result with less work:
# it applies $f^K$ to the few queries instead, and $f^V$ to the one pooled token at the end. Same batch, both ways:

# %%
adapter = model.adapter
all_real = torch.ones(batch.image_pool.shape[:3], dtype=torch.bool, device=batch.image_pool.device)
with torch.no_grad():
    text_pool = batch.text_pool, batch.text_pool_mask
    slow_text = literal(adapter.text, batch.text, batch.text_mask, *text_pool)
    slow_image = literal(adapter.image, batch.image, batch.image_mask, batch.image_pool, all_real)
    gap = (torch.stack([slow_text, slow_image], dim=1) - adapter(batch)).abs().max().item()
assert gap < 1e-4, "the folded adapter differs from Eq. 16"

# %%
(n, d), K = batch.image.shape[1:], config.top_k
literal_cost = n * d * d + 2 * K * n * d * d + 2 * n * K * n * d
folded_cost = 2 * n * d * d + n * K * n * d + n * K * n + K * n * d + d * d
print(f"Largest difference between Eq. 16 and the folded form: {gap:.1e}")
print(f"One image prompt (K = {K}, n = {n}, d = {d}) takes", end=" ")
print(f"{literal_cost / folded_cost:.1f} times fewer multiplications.")

# %% [markdown]
# ## 9. Alignment in anybody's training loop
#
# `GradientAligner` replaces one line of an ordinary loop: instead of `losses.mean().backward()`, it gets the losses
# one by one and the group of each sample. We train a small network on a toy with the same two numbers per sample.
# Two kinds of label: with *both needed* it depends on the product of text and image, so that neither tells alone;
# with *either helps* on their sum. A reconstructed sample's stand-in says next to nothing about its text.


# %%
def make_samples(task, n, missing_rate, generator):
    text, image, noise = torch.randn(3, n, generator=generator)
    label = (text * image if task == "both needed" else text + image) > 0
    complete = torch.arange(n) >= missing_rate * n
    shown = torch.where(complete, text, 0.3 * text + 0.95 * noise)
    return torch.stack([shown, image], dim=1), label.float(), complete


# %% [markdown]
# The training loop. The lines of the aligner are marked; `rule="pooled"` is ordinary training.


# %%
def fit(task, rule, seed):
    generator = torch.Generator().manual_seed(seed)
    x, label, complete = make_samples(task, 300, 0.7, generator)
    group = torch.where(complete, Group.COMPLETE, Group.REMAINING)
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-2)
    aligner = GradientAligner(network.parameters(), cos_threshold=0.2, rule=rule)  # <-
    for _ in range(60):
        losses = torch.nn.functional.binary_cross_entropy_with_logits(network(x)[:, 0], label, reduction="none")
        optimizer.zero_grad()
        aligner.backward(losses, group)  # <- instead of losses.mean().backward()
        optimizer.step()
    return network


# %% [markdown]
# Six seeds; each rule sees the same data and starts from the same weights. Accuracy on 4,000 new samples, half of them
# reconstructed.

# %%
records = []
for task, seed in product(("both needed", "either helps"), range(6)):
    test_samples = make_samples(task, 4000, 0.5, torch.Generator().manual_seed(1000 + seed))
    x_test, label_test, complete_test = test_samples
    for rule in ("pooled", "group_means", "cone"):
        right = (fit(task, rule, seed)(x_test)[:, 0] > 0) == label_test.bool()
        for name, part in (("complete", complete_test), ("reconstructed", ~complete_test)):
            records.append((task, name, rule, seed, right[part].double().mean().item()))

# %%
scores = pd.DataFrame(records, columns=["task", "subset", "rule", "seed", "accuracy"])
toy_table = mean_intervals(scores, ["task", "subset", "rule"], "accuracy")
keep(plots.method.toy_scores(toy_table), toy_table, "toy_scores")

# %% [markdown]
# The intervals contain luck that all rules share: data and first weights. The difference between rules on the same
# seed is the fairer measure. So: cone minus each of the others, mean and 95 % interval over the six seeds.

# %%
wide = scores.pivot(index=["task", "subset", "seed"], columns="rule", values="accuracy")
gains = wide[["pooled", "group_means"]].rsub(wide["cone"], axis=0).melt(ignore_index=False).reset_index()
gains = gains.rename(columns={"rule": "cone minus"})
gains = mean_intervals(gains, ["task", "subset", "cone minus"], "value")
versus_pooled = gains[gains["cone minus"] == "pooled"].set_index(["task", "subset"])["mean"]
assert (versus_pooled.xs("complete", level="subset") > 0).all()
assert versus_pooled["either helps", "reconstructed"] < 0
gains.round(3)

# %% [markdown]
# **What you should see:** where both modalities are needed, a wrong stand-in turns the label into noise. Alignment
# keeps that noise out: complete samples gain, reconstructed ones have nothing to lose. Where either helps, complete
# samples gain too, but reconstructed ones pay. And in both, the control `group_means` already brings a part of the
# change: that part is reweighting, not alignment.

# %% [markdown]
# ## 10. What happens in real training?
#
# First the training itself, in the open: the first 1,280 samples of full ANGA. This is the loop of `anga.train`, with
# nothing left out but saving; we only stop before the epoch is over, to save time. First one step.


# %%
def take_step(state, rows, codes):
    gradients = state.group_gradients(state.make_batch(rows), codes[rows])  # Eqs. 4 and 8
    state.optimizer.zero_grad()
    alignment = state.aligner.apply(gradients.vectors, gradients.counts)  # Eqs. 9-15
    state.optimizer.step()
    state.scheduler.step()
    state.log_step(rows, gradients, alignment)
    return alignment


# %% [markdown]
# Then the steps. The bar shows the case and the cosine of the latest one.

# %%
state = TrainingState(config, inputs)
codes = state.assign_groups()  # Eqs. 5-7
first_batches = list(islice(state.batches(), math.ceil(1280 / config.batch_size)))
bar = tqdm(first_batches, desc="first steps", unit="step", mininterval=2)
for rows in bar:
    alignment = take_step(state, rows, codes)
    shown = {"case": Case(int(alignment.case)).name.lower(), "cosine": f"{alignment.cosine:+.2f}"}
    bar.set_postfix(shown, refresh=False)
state.end_epoch(codes)

# %% [markdown]
# Every step leaves one line of telemetry (here turned on its side): loss, case (0 inside, 1 outside, 2 opposite),
# cosine, the factor α (`shrink`), and the lengths and sizes of the group gradients.

# %%
first_steps = state.telemetry[0]
first_steps.head(6).round(3).T

# %% [markdown]
# Now the full runs: four variants, each with every pair of seeds of the parameter file. Finished runs are read from
# disk. From here on `telemetry` holds all steps of the runs of full ANGA.

# %%
results = run_variants(study_params, outputs)
runs = results["full ANGA"]
telemetry = pd.concat([run.telemetry.assign(run=i) for i, run in enumerate(runs)], ignore_index=True)
behind = f"{len(runs)} run(s) of full ANGA"  # for the notes under figures
minutes = sum(run.seconds for several in results.values() for run in several) / 60
print(f"{len(VARIANTS)} variants x {len(runs)} runs, trained in {minutes:.1f} minutes altogether")
apart = np.abs(first_steps["cosine"] - runs[0].telemetry["cosine"][: len(first_steps)]).max()
print(f"The steps above are the first ones of the first run again: cosines differ by {apart:.0e} at most.")

# %% [markdown]
# **Is the curriculum kept?** Batches are drawn at random, but over an epoch every sample is seen once. So the share of
# admitted samples among the reconstructed ones must be λ(z), but for rounding.

# %%
sizes = telemetry.groupby("epoch")[["n_admitted", "n_remaining"]].sum()
seen = sizes["n_admitted"] / sizes.sum(axis=1)
shares = pd.DataFrame({"planned": plan.set_index("epoch")["ratio"], "seen": seen}).dropna()
assert (shares["planned"] - shares["seen"]).abs().max() <= 1 / n_reconstructed + 1e-9
shares.round(4).T

# %% [markdown]
# ### Which cases occur?

# %%
names = telemetry["case"].map(lambda code: Case(code).name.lower().replace("_", " "))
case_table = pd.crosstab(telemetry["epoch"], names, normalize="index").stack().reset_index()
case_table.columns = ["epoch", "case", "share"]
keep(plots.training.case_shares(case_table), case_table, "cases", behind)

# %%
total = names.value_counts(normalize=True)
opposite = telemetry["case"] == Case.OPPOSITE
dropped = telemetry.loc[opposite, "n_remaining"].sum() / telemetry["n_remaining"].sum()
print(", ".join(f"{case}: {share:.0%} of all steps" for case, share in total.items()))
print(f"Of the gradients of remaining samples, {dropped:.0%} were dropped.")

# %% [markdown]
# **What you should see:** how often each case occurs depends on the task, and it changes while training goes on. A
# single *opposite* step throws away the gradients of about half of its batch. (Two more cases may turn up where a batch
# is small: *no anchor*, a batch without complete and admitted samples, whose gradient is kept as it is, and
# *no remaining*, a batch without remaining samples, or one where their gradient is zero.)
#
# ### How strongly do the gradients disagree?

# %%
levels = [0.05, 0.25, 0.5, 0.75, 0.95]
quantiles = telemetry.groupby("epoch")["cosine"].quantile(levels).unstack().reset_index()
quantiles.columns = ["epoch", "q05", "q25", "q50", "q75", "q95"]
keep(plots.training.cosines_by_epoch(quantiles, tau), quantiles, "cosines", behind)

# %%
later = telemetry.loc[telemetry["epoch"] > 0, "cosine"]
later = later if len(later) else telemetry["cosine"]
low, middle, high = later.quantile([0.25, 0.5, 0.75])
print(f"After the first epoch: median cosine {middle:+.2f}, middle half {low:+.2f} to {high:+.2f};")
below, between = (later < 0).mean(), later.between(0, tau).mean()
print(f"below zero in {below:.0%} of steps, between 0 and τ in {between:.0%}.")

# %% [markdown]
# **What you should see:** the cosines scatter from step to step, in most tasks on both sides of zero. Is that a
# disagreement of complete and reconstructed samples, or just the noise of small batches? A control answers. We take
# the plain question, complete against reconstructed (nobody is admitted), and compute the cosine once for the real
# groups and once for groups drawn *by lot*, with the same sizes in the same batches. If reconstructed samples really
# pull elsewhere, the real groups must have lower cosines.
#
# The answer changes while a model learns: in the first steps all samples may still ask for the same thing. So we ask in
# the middle of training. We train the first run of full ANGA once more, half of its epochs.

# %%
middle = math.ceil(len(runs[0].history) / 2)
state = TrainingState(config, inputs)
with tqdm(total=middle, desc="to the middle of training", unit="epoch") as bar:
    while state.epoch < middle:
        codes = state.assign_groups()
        for rows in state.batches():
            take_step(state, rows, codes)
        state.end_epoch(codes)
        bar.update()

# %% [markdown]
# Now both kinds of groups, in the first batches of the epoch that would follow.

# %%
codes = np.where(inputs.table.complete, Group.COMPLETE, Group.REMAINING)


def cosine_of(rows, group):
    gradients = boundary_form(state.model, state.make_batch(rows), group)
    return align(gramian(gradients.vectors), gradients.counts, tau).cosine.item()


# %%
lot, rows_of = np.random.default_rng(0), list(islice(state.batches(), math.ceil(768 / config.batch_size)))
real = [cosine_of(rows, codes[rows]) for rows in rows_of]
by_lot = [cosine_of(rows, lot.permutation(codes[rows])) for rows in rows_of]
kinds = np.repeat(["real", "by lot"], len(real))
reference = pd.DataFrame({"groups": kinds, "cosine": real + by_lot})
keep(plots.training.cosine_reference(reference, tau), reference, "cosine_reference", "1 run of full ANGA")

# %%
mean, low, high = mean_interval(np.subtract(real, by_lot))
print(f"After {middle} of {len(runs[0].history)} epochs: mean cosine of real groups {np.mean(real):+.2f},", end=" ")
print(f"of groups by lot {np.mean(by_lot):+.2f}.")
print(f"Difference {mean:+.2f}, 95 % interval over {len(real)} batches [{low:+.2f}, {high:+.2f}].")
if high < 0:
    print("At this moment real groups agree less than groups by lot: a part of the disagreement is real.")
elif low > 0:
    print("At this moment real groups agree even more than groups by lot.")
else:
    print("At this moment, over these batches, real groups cannot be told from groups by lot.")

# %% [markdown]
# **What to make of it:** groups by lot contain no conflict between kinds of samples, yet their cosines scatter as well.
# Only the distance between the two lines is disagreement; the rest is the noise of a batch. Where the lines lie close,
# an *opposite* step says little about reconstructed samples. The control answers for one moment of one run; at another
# moment the answer may be another one. And it asks the complete samples alone. The cosines by epoch (figure before)
# are those with the anchor, in which admitted samples have a say. So the two need not be alike.
#
# > **Reader's note.** If the gap is wide in `clipart-pairs` with lost texts, a likely reason is this: a borrowed text
# > is chosen by the picture alone, so it cannot depend on the label. Of the reconstructed samples about half are
# > labelled `belongs` and half `swapped`, and nothing in them tells which. What the model still learns from them is
# > one label after the other by heart, and that hardly serves complete samples.
#
# ### How long are the gradients?

# %%
groups = ["complete", "admitted", "remaining", "anchor"]
norms = telemetry.melt("epoch", [f"norm_{g}" for g in groups], "group", "norm")
norms["group"] = norms["group"].str.removeprefix("norm_")
by_group = norms.groupby(["epoch", "group"])["norm"]
norm_table = by_group.quantile([0.25, 0.5, 0.75]).unstack().reset_index()
norm_table.columns = ["epoch", "group", "q25", "q50", "q75"]
keep(plots.training.gradient_norms(norm_table), norm_table, "norms", behind)

# %% [markdown]
# **What you should see:** two things make a gradient long. One is how much its group still has to learn. The other is
# noise: the mean over few samples keeps more of it. Either way, lengths are weights. Eq. 15 adds $g_C$ and
# $\tilde{g}_{M'}$ as they are, so on a step inside the cone the longer one has the greater say, and in the anchor
# (section 4) the group with the longer part. The cone limits directions, not lengths. (`03_imbalance`, section 4,
# measures by lengths who leads ordinary training.)
#
# Two numbers. How much longer is the remaining gradient than that of complete samples, on steps inside? And how much of
# the anchor is due to the admitted samples? We take their part of $g_A$ along $g_A$; the two groups' shares add up
# to 1, and a share beyond 1 means that the other group pulls backwards.

# %%
n_anchor = telemetry["n_complete"] + telemetry["n_admitted"]
part = {g: telemetry[f"n_{g}"] * telemetry[f"norm_{g}"] / n_anchor for g in ("complete", "admitted")}
lead = telemetry[["epoch", "case"]].assign(longer=telemetry["norm_remaining"] / telemetry["norm_complete"])
lead["due"] = (1 + (part["admitted"] ** 2 - part["complete"] ** 2) / telemetry["norm_anchor"] ** 2) / 2
lead["samples"] = telemetry["n_admitted"] / n_anchor
inside = lead[lead["case"] == Case.INSIDE]
for name, when in {"all epochs": lead["epoch"] >= 0, "the last epoch": lead["epoch"] == lead["epoch"].max()}.items():
    longer, here = inside.loc[when[inside.index], "longer"], lead[when]
    median = f" with a median |g_M'| / |g_C| of {longer.median():.1f}" if len(longer) else ""
    print(f"In {name}: {len(longer)} steps inside{median};", end=" ")
    print(f"admitted: {here['samples'].mean():.0%} of the anchor's samples,", end=" ")
    print(f"median share of g_A {here['due'].median():.0%}.")

# %% [markdown]
# Eq. 10 as printed would meet anchors of these lengths. What cosine would it have given on the steps outside?

# %%
outside = telemetry[telemetry["case"] == Case.OUTSIDE]
ends = []
for step in outside.itertuples():
    g_M, g_A = turned(step.cosine, step.norm_remaining), turned(1, step.norm_anchor)
    after = aligned(g_M, g_A, tau, power=1)
    ends.append((after[1] / after.norm()).item())
norm = telemetry["norm_anchor"]
print(f"Anchor norms: {norm.quantile(0.05):.2f} to {norm.quantile(0.95):.2f} (middle nine tenths).")
print(f"{len(ends)} steps fell outside. As printed they would have ended at cosines of", end=" ")
print(f"{min(ends, default=tau):.2f} to {max(ends, default=tau):.2f} instead of {tau}.")

# %% [markdown]
# ### Does a low entropy mean a reliable reconstruction?
#
# The curriculum stands on this. Here we can test it: the study took the modalities away itself, so the true tokens are
# known. For each reconstructed *test* sample we compare its prediction entropy with how far its reconstruction lies
# from the truth (`02_retrieval` explains the error), and with its loss: how wrong the prediction was. (The curriculum
# ranks training samples. There a low entropy can also mean that the model knows the answer by heart.)

# %%
predictions = runs[0].predictions.query("split == 'test'")
logits = torch.tensor(predictions.filter(regex=r"^logit_\d+$").to_numpy())
labels = torch.from_numpy(dataset.labels[predictions["row"]])
multilabel = config.multilabel_entropy if dataset.task == "multilabel" else None
known = predictions[["row"]].assign(entropy=prediction_entropy(logits, multilabel).numpy())
known["loss"] = sample_losses(logits, labels).numpy()
errors = reconstruction_errors(inputs, "test").query("source == 'retrieved'")
samples = errors.merge(known, on="row")

# %%
ranks = samples["entropy"].rank(method="first")
samples["bin"] = pd.qcut(ranks, min(8, max(1, len(samples) // 5)), labels=False)
binned = mean_intervals(samples, ["bin"], "error")
binned["entropy"] = samples.groupby("bin")["entropy"].mean().to_numpy()
keep(plots.training.entropy_bins(binned, samples["error"].mean()), binned, "entropy_error", "1 run of full ANGA")

# %%
questions = {"entropy and error": ("entropy", "error"), "entropy and loss": ("entropy", "loss")}
questions["error and loss"] = ("error", "loss")
correlation = {q: spearman_interval(samples[a], samples[b]) for q, (a, b) in questions.items()}
pd.DataFrame(correlation, index=["Spearman", "low", "high"]).T.round(3)

# %%
rho, low, high = correlation["entropy and error"]
if low > 0:
    print(f"Yes, to a degree: a lower entropy goes with a better reconstruction (ρ = {rho:.2f}).")
elif high < 0:
    print(f"No, the reverse: a lower entropy goes with a worse reconstruction (ρ = {rho:.2f}).")
else:
    print(f"We cannot say so: ρ = {rho:.2f}, and its interval contains zero.")
print(f"Interval [{low:.2f}, {high:.2f}], {len(samples)} test samples of one run.", end=" ")
print(f"Entropy explains {rho**2:.1%} of the differences in rank.")

# %% [markdown]
# **How to read it:** a positive Spearman correlation of entropy and error is what the curriculum hopes for. Entropy
# and loss may go together for another reason: confident predictions tend to be right, with good stand-ins or bad
# ones. The model can be sure because the modality that is left suffices.
#
# ### Learning curves

# %%
curves = [
    run.history[["epoch", "validation"]].assign(variant=name, run=i)
    for name, several in results.items()
    for i, run in enumerate(several)
]
curves = pd.concat(curves, ignore_index=True)
keep(plots.training.learning_curves(curves, metric), curves, "learning_curves", f"{len(runs)} run(s) per variant")

# %% [markdown]
# **What you should see:** thin lines are single runs, thick ones their means. A run stops once `patience` epochs (10 by
# default) have not bettered its best one. A thick line ends where the first of its runs does: the mean of those left
# would jump although no run did. If the thin lines of one variant lie further apart than the thick lines of two
# variants, no single run could tell these variants apart. The epoch with the best validation score is the one that is
# tested. If that is the last epoch, training was cut short, and a comparison says who learns faster rather than who
# ends better.

# %%
best = curves.loc[curves.groupby(["variant", "run"], sort=False)["validation"].idxmax()]
unfinished = best[best["epoch"] == config.epochs - 1]
print(f"{len(unfinished)} of {len(best)} runs are at their best in the last of {config.epochs} epochs:", end=" ")
print(", ".join(f"{name} ({n})" for name, n in unfinished["variant"].value_counts(sort=False).items()) or "none")

# %% [markdown]
# ## 11. The result, by subset
#
# Each variant adds one part: retrieval, then the adapter, then alignment. All are scored on all test samples, and
# apart on complete and on reconstructed ones.

# %%
table = variants_table(study_params, outputs, progress=False)
products.table(table, "variants")
note = f"{len(runs)} run(s) per variant, 95 % intervals over {table['over'].iloc[0]}"
keep(plots.training.scores_by_subset(table, metric), table, "scores", note)

# %%
headline(table)

# %% [markdown]
# Intervals of single variants contain what all variants share: an easy or a hard missing table, the same test
# samples. So we compare in pairs: the same seeds, the same samples. What does each part add?

# %%
rows = []
for first, second in pairwise(VARIANTS):
    for subset in SUBSETS:
        difference = paired_difference(results[first], results[second], dataset, subset)
        rows.append((f"{second}\nminus {first}", subset, *difference))
added = pd.DataFrame(rows, columns=["step", "subset", "mean", "low", "high"])
over = "test samples" if len(runs) == 1 else "missing tables and test samples"
note = f"{len(runs)} pair(s) of runs, 95 % intervals over {over}"
keep(plots.training.differences(added, metric), added, "differences", note)

# %% [markdown]
# **What you should see:** points to the right of zero are gains, to the left losses. An interval that contains zero
# means that these test samples and missing tables cannot tell. The interval adds up what other test samples and what
# other missing tables would change. With one run per variant it is over test samples alone: another training seed may
# well move a point out of it.

# %%
print(f"Full ANGA minus retrieval + adapter, {metric} on {dataset.name}, {len(runs)} pair(s) of runs:")
for row in added[added["step"].str.startswith("full ANGA")].itertuples():
    effect = verdict(row, "helped", "hurt", "made no clear difference")
    print(f"On {row.subset} test samples alignment {effect}: {in_words(row)}.")

# %% [markdown]
# This compares full ANGA with the same model trained by the pooled loss, after the same number of epochs. Three
# warnings. It does not tell *why*: alignment and reweighting come together here. The control `group_means` (section 9)
# separates them; a later notebook, `05_ablations`, uses it on the real task. And if the runs were cut short (see the
# learning curves), remember that alignment leaves gradients out, so that it has learnt from less after the same time.
# And where labels are many and rare, as in `clipart-keywords`, most of what retrieval gains at the usual start of the
# classifier is gone with a better one: `03_imbalance` shows it in section 5 (*Or is it the first steps?*).

# %% [markdown]
# ## Summary
#
# - A minimum of the pooled loss is a place where complete and reconstructed samples pull in opposite directions.
# - ANGA takes the gradients apart (Eq. 4), builds an anchor from complete and confident reconstructed samples
#   (Eqs. 5-8), and keeps, shrinks or drops the remaining gradient by its place in the cone (Eqs. 9-14).
# - Eq. 10 needs the square of the norm; without it the result depends on the anchor's length.
# - By Eq. 15, admitted samples steer but do not push. That is a choice, and a knob.
# - Alignment takes sides with complete samples. In the toy of section 9 it pays where wrong stand-ins act as label
#   noise, and costs reconstructed samples where one modality suffices. Whether real training follows, section 11 says.
# - A low entropy says that the model is sure. Whether the stand-in is right is another question; we measured it.
# - Cosines of single batches are noisy; compare them with groups by lot before reading anything into them.
# - The cone limits the direction of the remaining gradient, not its length; in Eq. 15 the longer gradient leads.
# - Whether alignment helped on this task is said by the sentences above, with an interval.

# %% [markdown]
# ## Exercises
#
# 1. Run the notebook with `../params/quick/clipart-keywords.yaml`. In which section does the answer change most?
# 2. Set τ to 0.7 in the `aligned(...)` calls of section 7. Where does the toy's path end now, and why?
# 3. In section 9, replace `0.3 * text + 0.95 * noise` by `0.8 * text + 0.6 * noise` (good stand-ins). What is left of
#    alignment's gain, and of its price?
# 4. Give section 9 admitted samples: mark the 20 reconstructed samples with the lowest entropy as `Group.ADMITTED` at
#    every tenth step. Does it matter in this toy?
# 5. Copy a parameter file, set `update_base: anchor`, and compare section 11. Which samples should profit?

# %% [markdown]
# ## Provenance

# %%
facts = {"params": study_params.path.name, "commit of the runs": runs[0].provenance["commit"]}
facts |= {"seeds (missing table, training)": study_params.seeds}
pd.Series({**facts, **provenance(config, dataset.content_hash)}, name="value").to_frame()
