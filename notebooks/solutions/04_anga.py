# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Solutions: 04 · Can complete samples keep reconstructed ones from leading the training astray?
#
# Run it as a script in this folder (`python 04_anga.py`), or open it in JupyterLab as a notebook. Where an answer needs
# training runs, we train without the adapter: seconds instead of minutes, and the question stays the same. About half
# a minute on one CPU core; the first time a minute or two more.

# %% tags=["parameters"]
params = "../../params/quick/clipart-pairs.yaml"
outputs = "../../outputs"

# %%
from itertools import islice, product

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch.autograd import grad

from anga import Case, GradientAligner, Group, align_gradients, run
from anga.aligner import align, gramian
from anga.curriculum import admit, prediction_entropy
from anga.diagnosis import reconstruction_errors
from anga.gradients import boundary_form
from anga.inputs import inputs_key, prepare
from anga.statistics import mean_interval, mean_intervals, paired_difference, spearman_interval
from anga.study import SUBSETS, Params
from anga.training_state import TrainingState

study_params = Params.from_yaml(params)
plain = {"use_adapter": False, "unimodal_cue": 0.0}
kept = {}


def inputs_of(config, outputs):
    """What `prepare` makes, once for all runs that read the same."""
    if inputs_key(config) not in kept:
        kept[inputs_key(config)] = prepare(config, outputs)
    return kept[inputs_key(config)]


def runs_of(**knobs):
    """One run per pair of seeds of the parameter file, without the adapter."""
    configs = study_params.configs(**plain, **knobs)
    return [run(config, outputs, progress=False, make_inputs=inputs_of) for config in configs]


# %% [markdown]
# ## 1. `clipart-keywords`: in which section does the answer change most?
#
# Sections 1 to 9 are toys, apart from counts. The answers are in sections 10 and 11. We collect them for both tasks:
# how often steps are *opposite*; by how much real groups agree less than groups by lot (here after one epoch, to save
# time; section 10 asks in the middle of training); whether a low entropy goes with a good reconstruction; what
# alignment adds to the score.


# %%
def agreement(task):
    """Cosines of complete and reconstructed gradients minus those of groups by lot, after one epoch: `[12]`."""
    config = study_params.configs(**plain, dataset=task)[0]
    state = TrainingState(config, inputs_of(config, outputs))
    group = np.where(state.table.complete, Group.COMPLETE, Group.REMAINING)
    for rows in state.batches():
        gradients = boundary_form(state.model, state.make_batch(rows), group[rows])
        state.aligner.apply(gradients.vectors, gradients.counts)
        state.optimizer.step()
        state.scheduler.step()
    state.epoch += 1  # another order of batches
    lot, differences = np.random.default_rng(0), []
    for rows in islice(state.batches(), 12):
        real, drawn = (cosine(state, rows, codes) for codes in (group[rows], lot.permutation(group[rows])))
        differences.append(real - drawn)
    return differences


def cosine(state, rows, codes):
    gradients = boundary_form(state.model, state.make_batch(rows), codes)
    return align(gramian(gradients.vectors), gradients.counts, state.config.cos_threshold).cosine.item()


# %%
def entropy_and_error(task, result):
    """Spearman correlation over reconstructed test samples, with its interval."""
    inputs = inputs_of(result.config, outputs)
    test = result.predictions.query("split == 'test'")
    logits = torch.tensor(test.filter(regex=r"^logit_\d+$").to_numpy())
    multilabel = "bernoulli" if inputs.dataset.task == "multilabel" else None
    entropy = test[["row"]].assign(entropy=prediction_entropy(logits, multilabel).numpy())
    errors = reconstruction_errors(inputs, "test", sources=("retrieved",)).merge(entropy, on="row")
    return spearman_interval(errors["entropy"], errors["error"])


# %%
answers = {}
for task in ("clipart-pairs", "clipart-keywords"):
    aligned_runs, pooled_runs = (runs_of(dataset=task, use_alignment=use) for use in (True, False))
    telemetry = pd.concat(result.telemetry for result in aligned_runs)
    rows = {"10: opposite steps, share": ((telemetry["case"] == Case.OPPOSITE).mean(), np.nan, np.nan)}
    rows["10: cosine, real minus by lot"] = mean_interval(agreement(task))
    rows["10: entropy and error, Spearman"] = entropy_and_error(task, aligned_runs[0])
    dataset = inputs_of(aligned_runs[0].config, outputs).dataset
    for subset in SUBSETS:
        rows[f"11: alignment adds, {subset}"] = paired_difference(pooled_runs, aligned_runs, dataset, subset)
    answers[task] = pd.DataFrame(rows, index=["value", "low", "high"]).T
print(pd.concat(answers, axis=1).round(3).to_string())

# %%
one, other = answers["clipart-pairs"], answers["clipart-keywords"]
apart = (one["high"] < other["low"]) | (other["high"] < one["low"])
print("Answers whose intervals do not overlap:", "; ".join(apart.index[apart]) or "none")
flipped = apart & (np.sign(one["value"]) != np.sign(other["value"]))
print("Of these with another sign:", "; ".join(flipped.index[flipped]) or "none")

# %% [markdown]
# Expect the largest change in section 10's comparison with groups by lot. In `clipart-pairs` a retrieved text is
# chosen by the picture alone and cannot depend on the label: nothing in a reconstructed sample tells its label, and
# what is learned from it hardly serves complete samples. The groups really disagree. In `clipart-keywords` a
# retrieved text names the right *kind* of thing, what is learned from it serves complete samples too, and the groups
# agree about as well as groups by lot. Where there is no conflict, there is nothing for alignment to win.

# %% [markdown]
# ## 2. τ = 0.7 in the toy of section 7
#
# The toy once more. `align_gradients` is the package's form of the notebook's `aligned`.

# %%
generator = torch.Generator().manual_seed(0)
text, image, noise = torch.randn(3, 200, generator=generator)
complete = torch.arange(200) < 60
x = torch.stack([torch.where(complete, text, 0.4 * text + 0.9 * noise), image], dim=1)
label = text + image


def descend(tau, steps=60, rate=0.2):
    w, taken = torch.tensor([-0.2, 0.1]), []
    for _ in range(steps):
        w = w.clone().requires_grad_()
        losses = (x @ w - label) ** 2 / 2
        (g_C,) = grad(losses[complete].mean(), w, retain_graph=True)
        (g_M,) = grad(losses[~complete].mean(), w)
        update, case = align_gradients(g_C, torch.zeros(2), g_M, 60, 0, cos_threshold=tau)
        w, taken = w.detach() - rate * update, [*taken, case.name.lower()]
    return w, taken


# %%
ends = {tau: descend(tau) for tau in (0.2, 0.7)}
for tau, (w, taken) in ends.items():
    cases = ", ".join(f"{case} {n}" for case, n in pd.Series(taken).value_counts().items())
    print(f"τ = {tau}: ends at w_text = {w[0]:.3f}, w_image = {w[1]:.3f}; steps: {cases}.")
first = next(i for i, pair in enumerate(zip(ends[0.2][1], ends[0.7][1], strict=True)) if pair[0] != pair[1])
print(f"The first step whose case differs is number {first + 1}.")
assert torch.allclose(ends[0.2][0], ends[0.7][0], atol=0.01)

# %% [markdown]
# It ends at the same place: where complete samples are best. With either cone the path can only stop where
# $g_C + \tilde{g}_{M'} = 0$. The aligned gradient never points against $g_C$, so the two cannot cancel; the sum is zero
# only if $g_C$ is. A narrower cone changes the way, not the goal: early steps that were inside are now outside, so that
# part of the remaining gradient is taken away sooner. From where the groups disagree, both drop it anyway.

# %% [markdown]
# ## 3. Good stand-ins
#
# Section 9 with `0.8 * text + 0.6 * noise` instead of `0.3 * text + 0.95 * noise`. For exercise 4 the training loop can
# mark admitted samples; here it does not.

# %%
POOR, GOOD = (0.3, 0.95), (0.8, 0.6)


def make_samples(task, n, missing_rate, generator, stand_in):
    text, image, noise = torch.randn(3, n, generator=generator)
    label = (text * image if task == "both needed" else text + image) > 0
    complete = torch.arange(n) >= missing_rate * n
    shown = torch.where(complete, text, stand_in[0] * text + stand_in[1] * noise)
    return torch.stack([shown, image], dim=1), label.float(), complete


def fit(task, rule, seed, stand_in, n_admitted=0):
    x, label, complete = make_samples(task, 300, 0.7, torch.Generator().manual_seed(seed), stand_in)
    group = np.where(complete, Group.COMPLETE, Group.REMAINING)
    torch.manual_seed(seed)
    network = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-2)
    aligner, cases = GradientAligner(network.parameters(), cos_threshold=0.2, rule=rule), []
    for step in range(60):
        logit = network(x)[:, 0]
        if n_admitted and step % 10 == 0:
            group = admit_surest(logit.detach(), complete.numpy(), n_admitted)
        losses = F.binary_cross_entropy_with_logits(logit, label, reduction="none")
        optimizer.zero_grad()
        cases.append(int(aligner.backward(losses, group).case))
        optimizer.step()
    return network, np.mean(np.array(cases) == Case.OPPOSITE)


def admit_surest(logit, complete, n_admitted):
    """Groups, with the n reconstructed samples of the lowest prediction entropy admitted (Eqs. 5 and 7)."""
    group = np.where(complete, Group.COMPLETE, Group.REMAINING)
    reconstructed = np.flatnonzero(~complete)
    entropy = prediction_entropy(torch.stack([-logit / 2, logit / 2], dim=1)).numpy()[reconstructed]
    ratio = n_admitted / len(reconstructed)
    group[reconstructed[admit(entropy, ratio, "lowest_entropy", np.random.default_rng(0))]] = Group.ADMITTED
    return group


# %%
def accuracies(ways, stand_in):
    """Accuracy and share of opposite steps by task, subset, way and seed; `ways` is name -> knobs of `fit`."""
    records = []
    for task, seed in product(("both needed", "either helps"), range(6)):
        samples = make_samples(task, 4000, 0.5, torch.Generator().manual_seed(1000 + seed), stand_in)
        for name, knobs in ways.items():
            network, opposite = fit(task, seed=seed, stand_in=stand_in, **knobs)
            right = (network(samples[0])[:, 0] > 0) == samples[1].bool()
            for subset, part in (("complete", samples[2]), ("reconstructed", ~samples[2])):
                records.append((task, subset, name, seed, right[part].double().mean().item(), opposite))
    return pd.DataFrame(records, columns=["task", "subset", "way", "seed", "accuracy", "opposite"])


def gains(scores, way, minus):
    """Mean difference of two ways over the seeds, with its interval."""
    wide = scores.pivot(index=["task", "subset", "seed"], columns="way", values="accuracy")
    return mean_intervals((wide[way] - wide[minus]).reset_index(name="gain"), ["task", "subset"], "gain")


# %%
rules = {rule: {"rule": rule} for rule in ("pooled", "group_means", "cone")}
scores = {name: accuracies(rules, stand_in) for name, stand_in in (("poor", POOR), ("good", GOOD))}
price = {name: gains(table, "cone", "pooled").set_index(["task", "subset"]) for name, table in scores.items()}
print("Cone minus pooled, accuracy:")
print(pd.concat(price, axis=1).round(3).to_string())

# %%
for task, subset in price["poor"].index:
    poor, good = (price[name].loc[task, subset] for name in ("poor", "good"))
    verdict = "a gain" if good["low"] > 0 else "a loss" if good["high"] < 0 else "no clear difference"
    change = f"{poor['mean']:+.3f} with poor stand-ins, {good['mean']:+.3f} with good ones"
    print(f"{task}, {subset}: {change}: {verdict} is left.")

# %% [markdown]
# Good stand-ins make reconstructed samples nearly complete: both groups want nearly the same weights, their gradients
# agree, and there is little left to align. Gain and price shrink together.

# %% [markdown]
# ## 4. Admitted samples in the toy
#
# The 20 surest reconstructed samples (of 210) enter the anchor at every tenth step.

# %%
ways = {"cone": {"rule": "cone"}, "cone, 20 admitted": {"rule": "cone", "n_admitted": 20}}
table = accuracies(ways, POOR)
for row in gains(table, "cone, 20 admitted", "cone").itertuples():
    verdict = "more" if row.low > 0 else "less" if row.high < 0 else "no clear difference"
    print(f"{row.task}, {row.subset}: admission brings {verdict} ({row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}]).")
print("Share of opposite steps:")
print(table.groupby(["task", "way"])["opposite"].mean().unstack().round(3).to_string())

# %% [markdown]
# By Eq. 15 admitted samples get no push of their own, so one may expect little. But they turn the anchor, and their own
# stand-ins are as poor as the others': the anchor now lies nearer to what reconstructed samples want, fewer steps are
# *opposite* (second table), and more of their gradient passes. Where that gradient is noise ("both needed"), expect the
# complete samples to lose a part of what alignment had won for them. Being sure is not being right: in this toy every
# reconstructed sample is equally unreliable, and the entropy cannot tell which one to trust.

# %% [markdown]
# ## 5. `update_base: anchor`
#
# Now the update is $g_A + \tilde{g}_{M'}$, so that admitted samples push as well. They are reconstructed samples that
# the model is sure of. So if anybody profits, it should be reconstructed test samples; complete ones give up a part of
# the base.

# %%
task = study_params.config.dataset
bases = {base: runs_of(dataset=task, update_base=base) for base in ("complete", "anchor")}
dataset = inputs_of(bases["anchor"][0].config, outputs).dataset
for subset in SUBSETS:
    mean, low, high = paired_difference(bases["complete"], bases["anchor"], dataset, subset)
    verdict = "helps" if low > 0 else "hurts" if high < 0 else "makes no clear difference"
    print(f"{task}, {subset}: update_base anchor {verdict}: {mean:+.3f} [{low:+.3f}, {high:+.3f}].")

# %% [markdown]
# These are the parameter file's epochs and seeds, without the adapter. With few of either, "no clear difference" is
# what to expect; `05_ablations` asks the same question with more runs.
