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
# # 07 · What happens when more is missing, or more than expected?
#
# A model that was built for missing data should lose little when more goes missing. It should also survive a test that
# is harder than its training. Both are claims of the paper (Figs. 4 and 5). So are that its embeddings fall into
# clearer clusters (Fig. 6c-d) and that it needs few learnable parameters (Fig. 7). We draw the same four pictures, put
# an interval around each number, and let the code say what they bear out.
#
# - **Needs:** one grid file (below); data and checkpoints are part of the package. Runs that are not there yet are
#   trained now.
# - **Leaves behind:** figures under `outputs/figures/`, tables under `outputs/tables/`.
# - **Run time:** about two minutes on two CPU cores if the runs are there. Training the quick ones takes about five
#   minutes on a CPU, the full ones (`../params/clipart/07_robustness.yaml`) about an hour, half of it for the runs with
#   an adapter, which `05_ablations` shares; a GPU needs a fraction of that.
# - **Before this:** `03_imbalance` (what goes wrong in training), `04_anga` (the method).

# %% [markdown]
# ## Parameters
#
# `params` names a file of grids: which tasks, which missing rates, which methods, and with which seeds.

# %% tags=["parameters"]
params = "../params/quick/07_robustness.yaml"
outputs = "../outputs"

# %% [markdown]
# ## Imports

# %%
from itertools import product

import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE

from anga.backbone import Backbone
from anga.diagnosis import cluster_separation, probe_scores, silhouette
from anga.evaluation import METRIC_NAMES
from anga.gradients import boundary_form
from anga.grids import GridFile
from anga.inputs import load_config_dataset, prepare
from anga.model import AngaModel
from anga.plots import robustness, set_style
from anga.products import Products
from anga.runs import provenance
from anga.statistics import in_words, mean_intervals, paired_difference, verdict
from anga.training_state import TrainingState

# %% [markdown]
# Each figure is kept with the table that it was drawn from, and says how many runs stand behind a point. Of an interval
# we say on which side of zero it lies, if it does.

# %%
set_style()
study = GridFile.from_yaml(params)
products = Products(outputs, study.place, study.name)
ALIGNED = "retrieval + alignment"


def keep(figure, table, name):
    products.figure(figure, table, name)
    products.table(table, name)


def count(runs):
    spread = "95 % intervals" if len(runs.grid.seeds) > 1 else "so no interval"
    return f"{runs.grid.repeats}, {spread}"


# %% [markdown]
# ## 1. More is missing
#
# Training and test data lose their text at the same rate, from nothing to 90 %. Four ways to deal with it, all on the
# frozen backbone with a learned pooler and classifier, without the adapter:
#
# - *zero-filled*: lost tokens are absent; nothing stands in for them;
# - *retrieval only*: the mean of K neighbours stands in; ordinary training;
# - *group means*: the same, but complete and reconstructed samples count as two groups of equal weight;
# - *retrieval + alignment*: the same, with the gradients of `04_anga`. Against *group means* we see what alignment
#   does beyond weighting.

# %%
rates = study.run("rates", outputs)
datasets = {config.dataset: config for config in rates.grid.configs}
datasets = {name: load_config_dataset(config) for name, config in datasets.items()}
metrics = {name: METRIC_NAMES[dataset.metric] for name, dataset in datasets.items()}
methods = rates.grid.axes["method"]
print(f"{len(rates.results)} runs: {len(datasets)} task(s), rates {rates.grid.axes['missing_rate']}")

# %% [markdown]
# **Check.** Where nothing is missing there is nothing to fill, to weight or to align. All methods are then the same
# training, and must reach the same score with the same training seed, whatever the missing table's seed.

# %%
scores = rates.scores(subsets=["all"])
untouched = scores[scores["missing_rate"] == 0].groupby(["dataset", "train_seed"])["score"]
apart = (untouched.max() - untouched.min()).max()
print(f"Largest difference between methods where nothing is missing: {apart:.1e}")
assert apart < 0.01, "methods differ although nothing is missing: runs have been mixed up"

# %% [markdown]
# So at rate 0 only the training seed makes a difference, and of runs with the same one we keep one.

# %%
repeated = scores.duplicated(["dataset", "missing_rate", "method", "train_seed"])
distinct = scores[(scores["missing_rate"] > 0) | ~repeated]
over_rates = mean_intervals(distinct, ["dataset", "missing_rate", "method"], "score")
over_rates["runs"] = distinct.groupby(["dataset", "missing_rate", "method"], sort=False).size().to_numpy()
n_seeds = distinct["train_seed"].nunique()
note = f"{count(rates)}; at rate 0: n = {n_seeds}"
keep(robustness.scores_over_rates(over_rates, metrics, "missing rate, training and test", note), over_rates, "rates")

# %% [markdown]
# **What you should see:** lines that start in one point and fall to the right. Near 90 % the lines of the methods that
# retrieve should approach what the modality that is left can tell alone. Where a line runs level, the lost text was
# not needed.
#
# Is *retrieval + alignment* above the others? We compare in pairs: same missing table, same training seed, same test
# samples. (`differences` gives the others minus alignment; we turn the sign.)


# %%
def gains_of_alignment(runs):
    gains = runs.differences("method", minus=ALIGNED, subsets=["all"])
    gains[["mean", "low", "high"]] = -gains[["mean", "high", "low"]].to_numpy()
    return gains.rename(columns={"method": "against"})


def say(part, what="rates"):
    better, worse = (part["low"] > 0).sum(), (part["high"] < 0).sum()
    undecided = len(part) - better - worse
    return f"better at {better}, worse at {worse}, undecided at {undecided} of {len(part)} {what}"


# %%
gains = gains_of_alignment(rates).query("missing_rate > 0")
products.table(gains, "rates_differences")
for (dataset, other), part in gains.groupby(["dataset", "against"], sort=False):
    print(f"{dataset}: alignment against {other}: {say(part)}; mean {part['mean'].mean():+.3f} {metrics[dataset]}")
always = (gains["low"] > 0).all()
print(f"The best at every missing rate, as in Fig. 4a-b? {'Yes.' if always else 'No.'}")

# %% [markdown]
# *Undecided* means that the interval contains zero. With this many comparisons, about one in twenty would be decided
# even if there was no difference at all; one decided rate is no finding.

# %% [markdown]
# ## 2. How much is lost?
#
# The paper's Fig. 4c-d shows the *relative degradation*: which share of the score at rate 0 is gone at rate δ,
#
# $$D(\delta) = \frac{s(0) - s(\delta)}{s(0)}$$
#
# > **Reader's note.** An AUROC of 0.5 is what a coin reaches; nobody can lose it. Dividing by s(0) counts it as
# > something that could be lost, and makes every model look robust. So we also divide by $s(0) - c$, with
# > the score $c$ of a constant answer.
#
# **Toy check.** An AUROC that falls from 0.60 to 0.55 has lost 8 % of its score, and half of what the model knew.

# %%
toy_loss = 0.60 - 0.55
assert np.isclose(toy_loss / 0.60, 0.083, atol=1e-3)
assert np.isclose(toy_loss / (0.60 - 0.50), 0.5)

# %% [markdown]
# The loss is taken in pairs (same method, missing table and training seed). The interval is that of the mean loss; the
# denominator is the mean score at rate 0 and is taken as known. Where the score at rate 0 does not exceed the constant
# answer there is nothing to lose, and the second measure is left out.

# %%
chance = {name: probe_scores(dataset, {}).loc[0, "score"] for name, dataset in datasets.items()}
keys = ["dataset", "method", "mask_seed", "train_seed"]
base = scores[scores["missing_rate"] == 0][[*keys, "score"]].rename(columns={"score": "base"})
paired = scores.merge(base, on=keys)
paired["lost"] = paired["base"] - paired["score"]
start = paired.groupby("dataset")["base"].mean()
pd.DataFrame({"score at rate 0": start, "constant answer": chance}).round(3)

# %%
lost = mean_intervals(paired[paired["missing_rate"] > 0], ["dataset", "missing_rate", "method"], "lost")
shares = []
for measure in ("the score", "what exceeds chance"):
    whole = start - (pd.Series(chance) if measure == "what exceeds chance" else 0)
    part = lost[lost["dataset"].map(whole) > 0].copy()
    part[["mean", "low", "high"]] = part[["mean", "low", "high"]].div(part["dataset"].map(whole), axis=0)
    shares.append(part.assign(measure=measure))
shares = pd.concat(shares, ignore_index=True)
figure = robustness.degradation(shares, "missing rate, training and test", count(rates))
keep(figure, shares, "degradation")

# %%
worst = shares[shares["missing_rate"] == shares["missing_rate"].max()]
for (dataset, measure), part in worst.groupby(["dataset", "measure"], sort=False):
    order = part.sort_values("mean")
    text = ", ".join(f"{r.method} {r.mean:.0%} [{r.low:.0%}, {r.high:.0%}]" for r in order.itertuples())
    print(f"{dataset} at rate {part['missing_rate'].iloc[0]}, lost of {measure}: {text}")

# %%
few = gains[gains["against"] != "zero-filled"]
mildest = shares[shares["measure"] == "the score"].groupby(["dataset", "missing_rate"], sort=False)
mildest = mildest.apply(lambda part: part.loc[part["mean"].idxmin(), "method"], include_groups=False)
print(f"Alignment loses least at {(mildest == ALIGNED).sum()} of {len(mildest)} points by the mean alone;")
print(f"against the other methods that retrieve, this is beyond doubt at {(few['low'] > 0).sum()} of {len(few)} pairs.")

# %% [markdown]
# **What you should see:** the same losses twice, on one scale. Where a constant answer already has much of the score,
# the lower row stands far above the upper one; where it has next to nothing, the rows hardly differ. Here, as means
# over the methods:

# %%
for dataset, part in worst.groupby("dataset", sort=False):
    means = part.groupby("measure", sort=False)["mean"].mean()
    said = " are ".join(f"{mean:.0%} of {measure}" for measure, mean in means.items())
    print(f"{dataset}: {said} (score at rate 0: {start[dataset]:.3f}, constant answer: {chance[dataset]:.3f}).")

# %% [markdown]
# > **Reader's note.** Here all methods start from the same score. So whoever has the higher score has the smaller
# > degradation, and the second picture cannot tell more about the methods than the first. Between methods that start
# > from *different* scores it would even mislead: a weak model with little to lose looks robust.

# %% [markdown]
# ## 3. More is missing than expected
#
# Now the model does not know what awaits it: it is trained while little is missing and tested while most is (the
# paper's Fig. 5). Beside it we set the model of section 1 that was trained at the test's own rate: same test
# samples, same losses, only the training differs.

# %%
shift = study.run("shift", outputs)
severe = shift.grid.configs[0].test_missing_rate
known = shift.grid.axes["method"]
expected = scores[(scores["missing_rate"] == severe) & scores["method"].isin(known)]
both = pd.concat([shift.scores(subsets=["all"]).assign(apart=False), expected.assign(apart=True)])
shifted = mean_intervals(both, ["dataset", "missing_rate", "method", "apart"], "score")
label = f"missing rate in training; test: {severe:.0%} (hollow: trained at the test's rate)"
keep(robustness.scores_over_rates(shifted, metrics, label, count(shift)), shifted, "shift")

# %% [markdown]
# **Check.** Both kinds of run lost the same test texts.

# %%
for some, other in zip(shift.results, shift.table.itertuples(), strict=True):
    at = {"dataset": other.dataset, "method": other.method, "missing_rate": severe}
    twins = [r for r in rates.select(**at) if r.config.mask_seed == other.mask_seed]
    seen, meant = (r.predictions.query("split == 'test'")["has_text"].to_numpy() for r in (some, twins[0]))
    assert np.array_equal(seen, meant)

# %% [markdown]
# The paper says: the more is missing in training, the better the model does when most is missing in the test. Paired
# differences to the lowest training rate say whether that holds here. The last rate is that of the test itself.


# %%
def tested_at_severe(dataset, method, rate):
    runs = rates if rate == severe else shift
    return runs.select(dataset=dataset, method=method, missing_rate=rate)


lowest, *more = [*shift.grid.axes["missing_rate"], severe]
rows = []
for dataset, method, rate in product(shift.grid.axes["dataset"], known, more):
    pair = [tested_at_severe(dataset, method, r) for r in (lowest, rate)]
    rows.append((dataset, method, rate, *paired_difference(*pair, datasets[dataset]), len(pair[0])))
prepared = pd.DataFrame(rows, columns=["dataset", "method", "missing_rate", "mean", "low", "high", "runs"])
prepared.round(3)

# %%
for (dataset, rate), part in prepared.groupby(["dataset", "missing_rate"], sort=False):
    cells = ", ".join(f"{r.method} {in_words(r)}" for r in part.itertuples())
    print(f"{dataset}, trained at {rate} instead of {lowest}: {cells}")
print(f"More missing in training is {say(prepared, 'comparisons')}.")

# %% [markdown]
# **What you should see:** two things work against each other. Who trains with more missing data meets more of what the
# test will bring, but has less: fewer complete samples to learn from, fewer texts to retrieve. Where reconstructed
# samples carry information on the label, the first should win and the line rises; where they are noise, the second
# may. So does it pay to be prepared, that is, to train at the test's own rate (hollow) instead of the lowest one?

# %%
own = prepared[prepared["missing_rate"] == severe]
lower, clearly, higher = (own["mean"] < 0).sum(), (own["high"] < 0).sum(), (own["low"] > 0).sum()
print(f"Trained at the test's rate of {severe} instead of {lowest}: lower in {lower} of {len(own)} cases,", end=" ")
print(f"clearly in {clearly}; clearly higher in {higher}.")
pays = "Being prepared pays." if higher > clearly else "Neither side clearly wins."
print("Having less to learn from costs more than the surprise." if clearly > higher else pays)

# %% [markdown]
# (What of this is due to fewer complete samples, and what to their company, asks exercise 5.)
#
# And is alignment the method for such surprises?

# %%
surprise = gains_of_alignment(shift)
products.table(surprise, "shift_differences")
for (dataset, other), part in surprise.groupby(["dataset", "against"], sort=False):
    print(f"{dataset}: alignment against {other}: {say(part, 'training rates')}; mean {part['mean'].mean():+.3f}")
always = (surprise["low"] > 0).all()
print(f"The best whatever the training rate, as in Fig. 5? {'Yes.' if always else 'No.'}")

# %% [markdown]
# ## 4. Do the embeddings fall into clearer clusters?
#
# The paper's Fig. 6c-d shows t-SNE maps before and after training and says that the classes separate. t-SNE makes
# clusters by design, distances between its clusters mean little, and an eye is easily convinced. So a number goes with
# each map, computed on the vectors themselves: the *silhouette*. For a sample, a is its mean distance to the samples of
# its own class, b that to the nearest other class, and
#
# $$s = \frac{b - a}{\max(a, b)}$$
#
# **Toy check.** Two pairs of points, 1 apart within the pair and about 9 between pairs.

# %%
positions = np.array([0.0, 1.0, 9.0, 10.0])
toy = silhouette(np.abs(positions[:, None] - positions), np.array(["left", "left", "right", "right"]))
assert np.isclose(toy, np.mean([1 - 1 / 9.5, 1 - 1 / 8.5]))
print(f"Silhouette of two clear clusters: {toy:.2f}. Of clusters that overlap entirely it is 0 or a little less.")

# %% [markdown]
# Stored results hold scores, not weights. So we train here, in the open: the loop of `anga.train`, once by ordinary
# training and once with alignment. What we look at is what the classifier reads: the pooler's output. (Without adapter
# the [CLS] vector below it is frozen and never changes.)


# %%
def fit(state):
    while not state.finished():
        codes = state.assign_groups()  # Eqs. 5-7
        for rows in state.batches():
            gradients = boundary_form(state.model, state.make_batch(rows), codes[rows])  # Eqs. 4 and 8
            state.optimizer.zero_grad()
            alignment = state.aligner.apply(gradients.vectors, gradients.counts)  # Eqs. 9-15
            state.optimizer.step()
            state.scheduler.step()
            state.log_step(rows, gradients, alignment)
        state.end_epoch(codes)
    state.model.load_state_dict(state.best_weights, strict=False)


@torch.no_grad()
def pooler_output(state, rows):
    batch = state.make_batch(rows)
    return state.model.head[0](state.model.encode(batch, state.model.prompts(batch))).cpu().numpy()


# %% [markdown]
# The picture shows test samples of the five largest classes, at most 200 of them.

# %%
grid = study["embeddings"]
inputs = prepare(grid.configs[0], outputs)
dataset, test = inputs.dataset, inputs.dataset.rows("test")
largest = np.bincount(dataset.labels).argsort()[::-1][:5]
chosen = test[np.isin(dataset.labels[test], largest)]
chosen = np.sort(np.random.default_rng(0).permutation(chosen)[:200])
names = np.array(dataset.classes)[dataset.labels[chosen]]
states = np.where(inputs.table.complete[chosen], "complete", "reconstructed")
pd.crosstab(names, states)

# %%
stages, trained = {}, {}
for method, config in zip(grid.table["method"], grid.configs, strict=True):
    state = TrainingState(config, inputs)
    stages.setdefault("before training", pooler_output(state, chosen))
    fit(state)
    stages[method], trained[method] = pooler_output(state, chosen), state

# %% [markdown]
# **Check.** These are the models behind the stored runs of the same configs.

# %%
metric = METRIC_NAMES[dataset.metric]
for method, run in zip(grid.table["method"], study.run("embeddings", outputs).results, strict=True):
    here = next(iter(trained[method].score("test")[0]["all"].values()))
    print(f"{method}: {metric} {here:.3f} here, {run.score():.3f} in the stored run")

# %% [markdown]
# Four questions to the vectors. The first three: how far are the classes apart, among all these samples, among the
# complete ones, among the reconstructed ones? The fourth: do complete and reconstructed samples form two clouds?
# Intervals are a bootstrap over test samples; changes are taken on the same resamples.

# %%
complete = states == "complete"
questions = {"classes, all": (names, np.full(len(names), True)), "classes, complete": (names, complete)}
questions |= {"classes, reconstructed": (names, ~complete)}
questions |= {"complete from\nreconstructed": (states, np.full(len(names), True))}
parts = []
for question, (groups, kept) in questions.items():
    part = cluster_separation({name: vectors[kept] for name, vectors in stages.items()}, groups[kept])
    parts.append(part.assign(question=question, n=kept.sum()))
separated = pd.concat(parts, ignore_index=True)
one_run = "one run per method; intervals (95 %) over test samples"
keep(robustness.separation(separated, f"{one_run}, n = {len(chosen)}"), separated, "separation")

# %% [markdown]
# The maps. Each is made from its own vectors alone; places and distances cannot be compared across panels.

# %%
points = []
for stage, vectors in stages.items():
    tsne = TSNE(perplexity=min(30, (len(chosen) - 1) / 3), init="pca", random_state=0)
    x, y = tsne.fit_transform(vectors.astype(np.float64)).T
    points.append(pd.DataFrame({"stage": stage, "x": x, "y": y, "class": names, "state": states}))
points = pd.concat(points, ignore_index=True)
by_class = separated[separated["question"] == "classes, all"].set_index("embedding")
captions = {s: f"silhouette {r['silhouette']:+.2f} [{r['low']:+.2f}, {r['high']:+.2f}]" for s, r in by_class.iterrows()}
figure = robustness.embeddings(points, captions, f"{dataset.name}; {one_run}, n = {len(chosen)}")
keep(figure, points, "embeddings")


# %%
def changes(table):
    """Rows with the change of the silhouette, against the first embedding, as mean, low and high."""
    kept = table[table["embedding"] != table["embedding"].iloc[0]].drop(columns=["low", "high"])
    return kept.rename(columns={"change": "mean", "change_low": "low", "change_high": "high"}).itertuples()


for row in changes(separated):
    words = verdict(row, "further apart", "closer together", "not clearly moved")
    print(f"{row.question.replace(chr(10), ' ')}, after {row.embedding}: {words} ({in_words(row)}, n = {row.n}).")

# %% [markdown]
# **What you should see:** training pulls classes apart: that is what a classifier is trained for, with or without
# alignment. So the picture "before and after" does not speak for a method; the difference between the two trained
# models would.

# %%
pair = {name: stages[name] for name in grid.axes["method"]}
for question, (groups, kept) in questions.items():
    (row,) = changes(cluster_separation({name: vectors[kept] for name, vectors in pair.items()}, groups[kept]))
    effect = verdict(row, "increases", "decreases", "does not clearly change")
    print(f"{question.replace(chr(10), ' ')}: alignment {effect} ordinary training's silhouette ({in_words(row)}).")

# %% [markdown]
# One model of each kind: the interval knows nothing of other training seeds. A silhouette near zero does not mean that
# a classifier must fail, either: classes can lie in thin layers that a straight cut tells apart.

# %% [markdown]
# ## 5. Do more learnable parameters buy a better score?
#
# The backbone is frozen. What learns is the pooler and the classifier, and in two of the methods the adapter. We count
# the parameters of the models themselves, and read scores at one missing rate.

# %%
size = study.run("size", outputs)
first = size.grid.configs[0]
dataset, backbone = load_config_dataset(first), Backbone.from_name(first.backbone)
metric, learnable = METRIC_NAMES[dataset.metric], {}
for method, config in zip(size.table["method"], size.grid.configs, strict=True):
    model = AngaModel(config, backbone, len(dataset.classes))
    learnable[method] = sum(p.numel() for p in model.trainable().values())

# %%
sized = size.scores(subsets=["all"])
by_size = mean_intervals(sized, ["method"], "score")
by_size.insert(1, "parameters", by_size["method"].map(learnable))
seconds = size.table.assign(seconds=[run.seconds for run in size.results]).groupby("method")["seconds"]
by_size["seconds"] = by_size["method"].map(seconds.median())
note = f"{dataset.name}, missing rate {first.missing_rate:g}; {count(size)}"
keep(robustness.size_and_score(by_size, metric, note), by_size, "size")
by_size.round(3)

# %% [markdown]
# **What you should see:** methods without an adapter stand at one place on the axis: retrieval and alignment have no
# parameters of their own. The column `seconds` (median training time of a run) is a reminder that a parameter count is
# not a cost. Without an adapter the frozen backbone runs once per sample; with it, at every step.

# %%
spent = size.differences("method", minus=ALIGNED, subsets=["all"])
for row in spent.itertuples():
    ratio = learnable[row.method] / learnable[ALIGNED]
    cost = f"{ratio:.1f} times as many parameters" if ratio != 1 else "as many parameters"
    effect = verdict(row, "better", "worse", "not clearly different")
    print(f"{row.method} ({cost} as {ALIGNED}): {effect}, {in_words(row)}")

# %% [markdown]
# Numbers of the paper's Fig. 7 are not comparable: other data, and a backbone several times wider. Other methods stand
# in `08_comparison`.

# %% [markdown]
# ## Summary
#
# - Section 1 says at how many missing rates alignment is better than its controls, and at how many that is undecided.
# - Relative degradation shrinks when chance counts as something to lose; and for methods with a common start it says
#   the same as the scores.
# - A model tested under heavier losses than it was trained for is compared with one that was trained for them, on the
#   same test samples. The difference shows whether being prepared pays.
# - Maps of embeddings show that training separates classes. Whether alignment separates them more is a question for
#   the number beside the map and its interval.
# - Retrieval and alignment add no parameters. The adapter does, and costs much more time than its share of parameters.

# %% [markdown]
# ## Exercises
#
# 1. Two models have an AUROC of 0.90 and 0.60 where nothing is missing, and 0.75 and 0.56 at a rate of 0.7. Which one
#    is more robust by the paper's relative degradation, which by the share of what exceeds chance?
# 2. In section 4, replace `names` by labels in random order (`np.random.default_rng(0).permutation(names)`). What
#    silhouette do you expect, and what do the maps look like?
# 3. Change the perplexity of the t-SNE from 30 to 5. Which conclusion changes, and which number does not?
# 4. Copy the grid file and set `missing_type: image` in its knobs. Which task now loses most at a rate of 0.9, and why?
# 5. In section 3 a model trained at a high rate sees fewer complete samples. How would you separate "fewer complete
#    samples" from "used to losses"? (A hint: the knobs `train_subset` and `epoch_steps`.)

# %% [markdown]
# ## Provenance

# %%
config = rates.grid.configs[0]
facts = {"params": study.place, "commit of the runs": rates.results[0].provenance["commit"]}
facts |= {"runs": len(rates.results) + len(shift.results) + len(size.results)}
pd.Series({**facts, **provenance(config, datasets[config.dataset].content_hash)}, name="value").to_frame()
