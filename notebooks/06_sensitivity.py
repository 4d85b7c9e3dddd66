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
# # 06 · How much do the knobs matter?
#
# ANGA has knobs: how many neighbours are retrieved, how wide the cone is, how many reconstructed samples may join the
# anchor and how soon, where the prompts go. The paper calls the method insensitive to the first, and finds a medium
# width best. A method that works only at one setting is of little use. But a flat curve alone proves nothing: it must
# be held against the spread that chance makes.
#
# - **Needs:** one file of grids (below). Runs that are not there yet are trained now, with a bar that shows the time
#   left.
# - **Leaves behind:** figures under `outputs/figures/`; curves and spreads under `outputs/tables/`.
# - **Run time:** about a minute on two CPU cores or on a GPU machine once the runs are there. Training takes some
#   minutes with the quick file and about two hours with the full one, most of it for the runs with an adapter.
# - **Before this:** `04_anga` (the knobs), `05_ablations` (what a fair reference is).

# %% [markdown]
# ## Parameters
#
# `params` names a file with one grid per knob and one, `variant1`, for the references. `../params/clipart/` is the full
# one. `../params/prior/` asks the same of one task whose classifier starts at how frequent labels are (`03_imbalance`,
# section 5, says why).

# %% tags=["parameters"]
params = "../params/quick/06_sensitivity.yaml"
outputs = "../outputs"

# %% [markdown]
# ## Imports

# %%
import math

import numpy as np
import pandas as pd

from anga import Config, plots
from anga.evaluation import METRIC_NAMES
from anga.grids import SUBSETS, GridFile
from anga.imbalance import compare
from anga.inputs import load_config_dataset
from anga.plots import sweeps
from anga.products import Products
from anga.runs import provenance
from anga.statistics import in_words, paired_difference, summarise, verdict

# %% [markdown]
# One knob moves at a time; all others stay at their defaults, which are the paper's. `keep` and `keep_table`
# save figures and tables; `keep` also writes under a figure how many runs stand behind a point.

# %%
plots.set_style()
study = GridFile.from_yaml(params)
products = Products(outputs, study.place, study.name)
keep_table = products.table
default = Config().to_dict()


def keep(figure, table, name, grid=None, spread=None):
    runs = study[grid or name]
    over = "missing tables" if len(runs.seeds) > 1 else "test samples"
    products.figure(figure, table, name, f"{runs.repeats}, {spread or f'95 % intervals over {over}'}")


# %% [markdown]
# A curve is the mean score at each value of a knob, on all test samples. On clip art the method is trained without the
# adapter (retrieval + alignment), since its runs are fast; section 5 needs the adapter and says so. The parameter file
# for the paper's data keeps the adapter throughout. In the figures, the values of a knob stand at equal distances, also
# where they are not evenly spaced (10, 20 and 60 epochs): compare heights, not slopes.


# %%
def points(runs, **columns):
    """Mean score of each task over its runs, with its interval."""
    data = load_config_dataset(runs[0].config)
    metric = METRIC_NAMES[data.metric]
    return summarise(runs, data, ["all"]).assign(dataset=data.name, metric=metric, **columns)


def curve(runs, knob, method="retrieval + alignment"):
    axes = runs.grid.axes
    rows = []
    for task in axes["dataset"]:
        for name in axes.get("method", [method]):
            chosen = {"method": name} if "method" in axes else {}
            for value in axes[knob]:
                rows.append(points(runs.select(dataset=task, **{knob: value}, **chosen), value=value, method=name))
    return pd.concat(rows, ignore_index=True)


# %% [markdown]
# The references do not depend on the knob and become horizontal lines. *Zero-filled* is Variant 1 in Table 2 of the
# paper: no retrieval, no alignment. *Retrieval only* is the method without alignment. *Group means* is `g_C + g_M`
# without a cone: `05_ablations` shows why one must look at it.

# %%
variant1 = study.run("variant1", outputs)
tasks = variant1.grid.axes["dataset"]
lines = [
    points(variant1.select(dataset=task, method=method), method=method)
    for task in tasks
    for method in variant1.grid.axes["method"]
]
references = pd.concat(lines, ignore_index=True)
keep_table(references, "references")

# %% [markdown]
# ## 1. K, the number of neighbours
#
# **Claim (Fig. 3 of the paper):** performance is only marginally affected by K, and always better than Variant 1. K
# changes the reconstruction itself, so the method without alignment is trained for every K as well.

# %%
top_k = study.run("top_k", outputs)
k_curve = curve(top_k, "top_k")
dummy = references[references["method"] == "zero-filled"]
keep(sweeps.over_knob(k_curve, dummy, "K, retrieved neighbours", default["top_k"]), k_curve, "top_k")
keep_table(k_curve, "top_k")

# %% [markdown]
# **What you should see:** a flat curve if the claim holds. The mean of more neighbours has less noise, but also less
# detail, so that a curve may rise and fall. (With the quick file there are two runs per point, and the intervals show
# what two runs are worth: little.) The default is printed in bold. Intervals are wide because they contain what all
# values of K share; so we print paired differences, which do not.

# %%
by_k = top_k.differences("method", minus="retrieval only", subsets=["all"])
by_k = by_k[by_k["method"] == "retrieval + alignment"]
for task, part in by_k.groupby("dataset", sort=False):
    up, down = (part["low"] > 0).sum(), (part["high"] < 0).sum()
    print(f"{task}: alignment helps at {up} of {len(part)} values of K and hurts at {down};", end=" ")
    print(f"its gain runs from {part['mean'].min():+.3f} to {part['mean'].max():+.3f}.")

# %% [markdown]
# And against Variant 1, on the same missing tables:

# %%
aligned = {"method": "retrieval + alignment"}
for task in top_k.grid.axes["dataset"] if len(dummy) else []:
    base = variant1.select(dataset=task, method="zero-filled")
    data = load_config_dataset(base[0].config)
    sides = [top_k.select(dataset=task, top_k=k, **aligned) for k in top_k.grid.axes["top_k"]]
    gains = [paired_difference(base, runs, data) for runs in sides]
    better = sum(low > 0 for _, low, _ in gains)
    print(f"{task}: clearly better than Variant 1 at {better} of {len(gains)} values of K", end=" ")
    print(f"(differences {min(gains)[0]:+.3f} to {max(gains)[0]:+.3f}).")

# %% [markdown]
# ## 2. τ, the width of the cone
#
# **Claim (Fig. 3):** as τ grows, performance first improves and then declines. At τ = 0 the cone is a half-space: only
# opposite gradients are dropped. Towards 1 it closes: of the remaining gradient, only the part along the anchor stays.

# %%
cone = study.run("cos_threshold", outputs)
tau_curve = curve(cone, "cos_threshold")
shown = references[references["dataset"].isin(cone.grid.axes["dataset"])]
keep(sweeps.over_knob(tau_curve, shown, "τ, cosine threshold", default["cos_threshold"]), tau_curve, "cos_threshold")
keep_table(tau_curve, "cos_threshold")

# %% [markdown]
# **How to read it:** the lines are means of the references. The curve should lie above *group means* if the cone
# helps, and have its top between the ends if the claim holds. For the claim to be borne out, the best value in between
# must also beat both ends by more than chance. (The best value is picked among many, which favours it: a test that it
# fails, it fails for good.)


# %%
def rise_and_fall(runs, knob, task):
    values = runs.grid.axes[knob]
    means = {value: np.mean([r.score() for r in runs.select(dataset=task, **{knob: value})]) for value in values}
    best, (first, *_, last) = max(means, key=means.get), values
    if best in (first, last):
        return f"the best value is {best}, at the end of the curve: no rise and fall."
    data = load_config_dataset(runs.results[0].config.with_(dataset=task))
    top = runs.select(dataset=task, **{knob: best})
    lows = [paired_difference(runs.select(dataset=task, **{knob: end}), top, data)[1] for end in (first, last)]
    said = "by more than chance at both ends" if min(lows) > 0 else "but not by more than chance at both ends"
    return f"the best value is {best}, between the ends, {said}."


for task in cone.grid.axes["dataset"]:
    print(f"{task}: {rise_and_fall(cone, 'cos_threshold', task)}")

# %% [markdown]
# ## 3. The curriculum: λ_max and Z_grow
#
# The paper sets λ_max = 0.3 and Z_grow = 5 and shows no curve. λ_max is the largest share of reconstructed samples in
# the anchor, Z_grow the number of epochs until it is reached. At λ_max = 1 everybody is admitted in the end. Then
# nobody remains, and by Eq. 15 only complete samples push. First λ_max:

# %%
ratio = study.run("lambda_max", outputs)
ratio_curve = curve(ratio, "lambda_max")
shown = references[references["dataset"].isin(ratio.grid.axes["dataset"])]
keep(sweeps.over_knob(ratio_curve, shown, "λ_max, anchor ratio", default["lambda_max"]), ratio_curve, "lambda_max")
keep_table(ratio_curve, "lambda_max")

# %% [markdown]
# And Z_grow. At 0 the ratio is λ_max from the first epoch on.

# %%
grow = study.run("grow_epochs", outputs)
grow_curve = curve(grow, "grow_epochs")
shown = references[references["dataset"].isin(grow.grid.axes["dataset"])]
keep(sweeps.over_knob(grow_curve, shown, "Z_grow, epochs", default["grow_epochs"]), grow_curve, "grow_epochs")
keep_table(grow_curve, "grow_epochs")

# %% [markdown]
# **What you should see:** where admitted samples hardly differ from remaining ones, both curves are flat. A decline
# towards λ_max = 1 says that an anchor of many reconstructed samples is worse than one of few, a rise that it is
# better. Why, a curve does not say: whoever joins the anchor steers, and at the same time leaves the update. What we
# saw, from one end of each curve to the other, paired:

# %%
for knob, runs in (("lambda_max", ratio), ("grow_epochs", grow)):
    first, *_, last = runs.grid.axes[knob]
    ends = runs.differences(knob, minus=first, subsets=["all"])
    for row in ends[ends[knob] == last].itertuples():
        word = verdict(row, "a rise", "a decline", "no clear difference")
        print(f"{row.dataset}: {knob} {last} minus {first}: {in_words(row)}, {word};", end=" ")
        print(rise_and_fall(runs, knob, row.dataset))

# %% [markdown]
# ## 4. Do the knobs matter more than the luck of the draw?
#
# **Claim (ours to test; the paper says it of K):** ANGA is robust to its knobs. We make this a number. A *draw* is one
# missing table with one training seed: which samples lose their text, and how the training starts and shuffles. Per
# knob and task, three standard deviations: of the mean scores over the *values* of the knob; over the *draws*, averaged
# over the values; and the *noise*: how far the values' means would scatter if the knob did nothing, estimated from what
# neither value nor draw explains.


# %%
def scores_of(runs, knob, task, split="test"):
    """One row per draw, one column per value."""
    table = runs.scores(["all"], split).query("dataset == @task")
    if "method" in table:
        table = table[table["method"] == "retrieval + alignment"]
    return table.pivot(index=["mask_seed", "train_seed"], columns=knob, values="score")


def spread(wide):
    n_draws, n_values = wide.shape
    rest = wide.sub(wide.mean(axis=1), axis=0).sub(wide.mean() - wide.to_numpy().mean())
    free = (n_draws - 1) * (n_values - 1)
    noise = np.sqrt((rest**2).to_numpy().sum() / free / n_draws) if free else np.nan
    return {"values of the knob": wide.mean().std(), "draws": wide.mean(axis=1).std(), "noise": noise}


# %% [markdown]
# Is the knob's spread more than noise? If the knob did nothing, the scores of one draw could be dealt out to the
# values in any order. We do that 999 times and count how often the values' means scatter as far as they did. With few
# draws and values there are few orders, and p cannot become small: then we do not judge.


# %%
def permutation_p(wide, n=999, seed=0):
    scores, generator = wide.to_numpy(), np.random.default_rng(seed)
    seen = scores.mean(axis=0).std()
    dealt = [generator.permuted(scores, axis=1).mean(axis=0).std() for _ in range(n)]
    return (1 + np.sum(np.array(dealt) >= seen - 1e-12)) / (n + 1)


def smallest_p(wide):
    """Were the values in the same order in all draws: one deal out of so many that differ."""
    return 1 / math.factorial(wide.shape[1]) ** (wide.shape[0] - 1)


# %%
swept = {"top_k": top_k, "cos_threshold": cone, "lambda_max": ratio, "grow_epochs": grow}
rows = []
for knob, runs in swept.items():
    for task in runs.grid.axes["dataset"]:
        wide = scores_of(runs, knob, task)
        metric = METRIC_NAMES[load_config_dataset(runs.select(dataset=task)[0].config).metric]
        rows.append({"dataset": task, "metric": metric, "knob": knob, **spread(wide), "p": permutation_p(wide)})
        rows[-1]["smallest p"] = smallest_p(wide)
sizes = pd.DataFrame(rows)
keep_table(sizes, "spreads")
sizes.round(4).assign(**{"smallest p": [f"{p:.4f}" if p >= 1e-4 else "<1e-4" for p in sizes["smallest p"]]})

# %% [markdown]
# The same as a picture:

# %%
kinds = ["values of the knob", "draws", "noise"]
long = sizes.melt(["dataset", "metric", "knob"], kinds, "spread_over", "spread")
keep(sweeps.spreads(long), long, "spreads", "cos_threshold", "standard deviations, without intervals")

# %% [markdown]
# **What you should see:** for a robust method the dark bar is the shortest, or no longer than the grey one. A dark bar
# longer than the hatched one means: choosing this knob matters more than which missing table and which training seed
# one happened to have. With a handful of draws the hatched bar is a rough estimate.

# %%
for row in sizes.to_dict("records"):
    where, over_values, over_draws = f"{row['dataset']}, {row['knob']}", row["values of the knob"], row["draws"]
    if np.isnan(row["noise"]) or row["smallest p"] > 0.05:
        print(f"{where}: too few runs to tell a knob from chance.")
        continue
    size = "exceeds" if over_values > over_draws else "stays below"
    chance = "more than noise" if row["p"] < 0.05 else "no more than noise can make"
    print(f"{where}: spread over the knob {over_values:.4f} {size} that over draws, {over_draws:.4f};", end=" ")
    print(f"it is {chance} (p = {row['p']:.3f}).")

# %%
known = sizes.dropna().query("`smallest p` <= 0.05")
larger, real = known["values of the knob"] > known["draws"], known["p"] < 0.05
print(f"Of {len(known)} sweeps with enough runs, the knob spreads more than the draw in {larger.sum()}", end=" ")
print(f"and more than noise in {real.sum()}.")
if len(known):
    robust = not (larger & real).any()
    exceptions = ", ".join(f"{row.knob} on {row.dataset}" for row in known[larger & real].itertuples())
    print("Robust to its knobs:", "borne out here." if robust else f"not borne out by {exceptions}.")

# %% [markdown]
# ### What would tuning have bought?
#
# Test curves tempt one to pick their top, which would be cheating. An honest user picks the value with the best
# *validation* score. What would that have gained on the test split over the default?

# %%
rows = []
for knob, runs in swept.items():
    for task in runs.grid.axes["dataset"]:
        tuned, usual = scores_of(runs, knob, task, "validation").mean().idxmax(), default[knob]
        wide = scores_of(runs, knob, task)
        gain, top = wide[tuned].mean() - wide[usual].mean(), wide.mean().max() - wide[usual].mean()
        rows.append((task, knob, usual, tuned, gain, top))
tuning = pd.DataFrame(rows, columns=["dataset", "knob", "default", "best on validation", "gain on test", "at the top"])
keep_table(tuning, "tuning")
tuning.round(4)

# %%
gain = tuning["gain on test"]
print(f"Tuning one knob on validation changes the test score by {gain.min():+.4f} to {gain.max():+.4f},", end=" ")
print(f"on average {gain.mean():+.4f}; the tops of the test curves promise {tuning['at the top'].mean():+.4f}.")
more = (tuning["at the top"] > gain + 1e-12).sum()
print(f"The top promises more than tuning keeps in {more} of {len(tuning)} cases, and as much in the others.")

# %% [markdown]
# ## 5. Where should the prompts go?
#
# The adapter's prompts join the input of layer b (the paper: b = 2, without a reason). Early prompts pass through more
# layers, late ones leave the lower layers as they were pretrained. These are runs of full ANGA, slow on a CPU, so there
# are fewer than above. Where there is one per layer, the interval is over test samples and knows nothing of seeds.

# %%
layers = study.run("prompt_layer", outputs)
layer_curve = curve(layers, "prompt_layer", "full ANGA")
nothing = references.iloc[:0]
figure = sweeps.over_knob(layer_curve, nothing, "b, prompt layer", default["prompt_layer"])
keep(figure, layer_curve, "prompt_layer")
keep_table(layer_curve, "prompt_layer")

# %%
for row in layers.differences("prompt_layer", minus=default["prompt_layer"], subsets=["all"]).itertuples():
    word = verdict(row, "better", "worse", "not told apart")
    print(f"{row.dataset}: layer {row.prompt_layer} minus layer {default['prompt_layer']}:", end=" ")
    print(f"{in_words(row)}, {word}.")

# %% [markdown]
# ## 6. How long to train?
#
# A method that learns more slowly loses by an early end what it might win back later. The paper trains for 20 epochs;
# where runs are at their best in the last of them, the end came early. (`patience` stops a run 10 epochs after its best
# one, so a longer limit costs little where it is not needed.)

# %%
lengths = study.run("epochs", outputs)
length_curve = curve(lengths, "epochs")
keep(sweeps.over_knob(length_curve, nothing, "epochs at most", default["epochs"]), length_curve, "epochs")

# %% [markdown]
# **What you should see:** where a curve is level, training was long enough. Where all rise, the default stops early;
# where one gains more than another beyond the default, their difference there is also one of speed. So how large is the
# difference between alignment and *group means*, for every limit?

# %%
by_length = lengths.differences("method", minus="group means")
by_length = by_length[by_length["method"] == "retrieval + alignment"]
keep_table(by_length, "epochs_differences")
for row in by_length.itertuples():
    print(f"{row.dataset}, {row.epochs} epochs, {row.subset}: alignment {verdict(row)} ({in_words(row)}).")

# %% [markdown]
# In a multi-label task there is a second suspect. A model that learns more slowly is also less *sure*: at a threshold
# of 0.5 it predicts fewer labels, even where it ranks them as well. So once more, with each run cut where its F1-micro
# is best on validation samples of the subset (`03_imbalance`, section 5). A difference that is gone at this cut was
# only the threshold; one that stands at this cut, and goes with longer training, was one of speed.

# %%
asked = [("group means", "retrieval + alignment", subset) for subset in SUBSETS]
own_cut = compare(lengths, asked, axis="method", own_cut=True)
if len(own_cut):
    keep_table(own_cut, "epochs_own_cut")
else:
    print("No multi-label task here.")
for row in own_cut.itertuples():
    said = f"{row.dataset}, {row.epochs} epochs, {row.subset}"
    print(f"{said}, own cut: alignment {verdict(row)} ({in_words(row)}).")

# %% [markdown]
# ### And what does the adapter cost, where it costs?
#
# In Table 2 (`05_ablations`) the adapter costs most clearly the *complete* samples of the multi-label task. Three
# suspects. It may learn more *slowly*: then longer training helps. Joint training may *mislead* it, since most samples
# are reconstructed: then it costs nothing where nothing is missing. Or it *overfits*, and learns its training samples
# without learning what others share with them: then its training loss is no higher than without it, and its test score
# is lower. Paired differences of complete test samples; loss is the mean of the epoch that is tested:


# %%
def tested_loss(runs):
    """Training loss in the epoch whose weights are tested, mean over runs."""
    return np.mean([run.history.loc[run.history["validation"].idxmax(), "loss"] for run in runs])


# %%
if "adapter" in study.grids:
    adapter = study.run("adapter", outputs)
    asked, cuts = [("retrieval only", "retrieval + adapter", "complete")], {"at 0.5": False, "own cut": True}
    costs = [compare(adapter, asked, "method", own_cut=own).assign(cut=cut) for cut, own in cuts.items()]
    costs = pd.concat(costs, ignore_index=True).assign(dataset=adapter.results[0].config.dataset)
    for part, column in (("retrieval only", "loss_without"), ("retrieval + adapter", "loss_with")):
        places = [{"missing_rate": row.missing_rate, "epochs": row.epochs} for row in costs.itertuples()]
        costs[column] = [tested_loss(adapter.select(**place, method=part)) for place in places]
    keep_table(costs, "adapter")
    costs["case"] = [f"{row.missing_rate:.0%} missing, {row.epochs} epochs" for row in costs.itertuples()]
    spread = "95 % intervals over missing tables and test samples"
    figure = sweeps.forest(costs, "case", "cut", "with minus without\nadapter, {metric}")
    keep(figure, costs, "adapter", spread=spread)
else:
    print("No grid `adapter` here.")

# %%
for row in costs.itertuples() if "adapter" in study.grids else []:
    print(f"{row.case}, {row.cut}: the adapter {verdict(row)} ({in_words(row)});", end=" ")
    print(f"training loss {row.loss_without:.3f} without it, {row.loss_with:.3f} with it.")

# %% [markdown]
# ## Summary
#
# - A flat curve is a finding only beside the spread that chance makes. Section 4 prints both.
# - What all values of a knob share (the draw, the test samples) makes single intervals wide and cancels in paired
#   differences.
# - A robust knob need not be a useful one: a curve may be flat because the part it steers does nothing.
# - The top of a test curve never promises less than tuning keeps. Section 4 counts how often it promises more.
# - A difference between methods at a fixed number of epochs may be one of speed, and at a fixed threshold one of
#   sureness. Section 6 tells them apart.
# - A part may cost because it learns slowly, because others mislead it, or because it fits too well. Longer training,
#   complete data and the training loss are hints at which.
# - One knob at a time says nothing of knobs that work together.

# %% [markdown]
# ## Exercises
#
# 1. The dotted curve of section 1 is the method without alignment. Which K is best for it? Is it the same as with
#    alignment, and should it be?
# 2. Which value of τ makes the cone change nothing but opposite gradients? And which setting of which *other* knob
#    drops nothing at all? Find it among the references.
# 3. In `permutation_p`, deal out all scores of the table and not only those of one draw
#    (`generator.permuted(scores.ravel()).reshape(scores.shape)`). Does p rise or fall, and why is that the wrong test?
# 4. Write a grid with two axes, `cos_threshold: [0.0, 0.6]` and `lambda_max: [0.1, 0.7]`. Do the two knobs work
#    together, or do their effects add up?
# 5. Set λ_max to 1 and Z_grow to 0. Which control of `05_ablations` do you get? And with Z_grow at 5?

# %% [markdown]
# ## Provenance

# %%
run = cone.results[0]
facts = {"params": study.place, "commit of the runs": run.provenance["commit"]}
facts |= {name: sorted(cone.table[name].unique().tolist()) for name in ("mask_seed", "train_seed")}
data_hash = load_config_dataset(run.config).content_hash
pd.Series({**facts, **provenance(run.config, data_hash)}, name="value").to_frame()
