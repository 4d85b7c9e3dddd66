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
# # 03 · When does learning imbalance occur?
#
# The paper starts from an observation (its Fig. 1c): train on complete and reconstructed samples together, and the
# complete ones end far below what they reach alone. It calls this *learning imbalance*, and ANGA is the cure. Before
# we take a cure we look at the illness: on which task, at which missing rate, and how much of it has other causes.
#
# - **Needs:** one parameter file (below); data and checkpoints are part of the package. Runs that are not there yet
#   are trained now.
# - **Leaves behind:** figures under `outputs/figures/`, tables under `outputs/tables/`.
# - **Run time:** with the quick file about 4 minutes on two CPU cores, the full file (`../params/clipart/`) one and a
#   half to two hours, on a GPU a part of that. If the runs are there: a few minutes, for the resampling behind the
#   intervals.
# - **Before this:** `01_data` (missing tables), `02_retrieval` (reconstruction). `04_anga` explains the cure.

# %% [markdown]
# ## Parameters
#
# `params` names a file of grids: which tasks, rates and ways of training, and with which seeds.

# %% tags=["parameters"]
params = "../params/quick/03_imbalance.yaml"
outputs = "../outputs"

# %% [markdown]
# ## Imports

# %%
import pandas as pd

from anga import plots
from anga.evaluation import METRIC_NAMES
from anga.grids import GridFile
from anga.imbalance import GAPS, UPPER_BOUND, compare, joint_steps, quartiles, selection_effects
from anga.plots.imbalance import defect, maps, over_cues, over_epochs, over_rates, upper_bounds
from anga.products import Products
from anga.runs import provenance
from anga.statistics import in_words, mean_intervals, spearman_interval

# %% [markdown]
# Two small functions for the whole notebook: `keep` saves a figure with its table and writes under it how many runs are
# behind a point; `sign` says whether an interval lies above zero (1), below zero (-1), or contains it (0). Where there
# is no interval, the sign is 0.

# %%
plots.set_style()
study = GridFile.from_yaml(params)
products = Products(outputs, study.place, study.name)


def keep(figure, table, name, grid, spread="95 % intervals"):
    products.figure(figure, table, name, f"{study[grid].repeats}, {spread}")


def sign(row):
    return int(row.low > 0) - int(row.high < 0)


# %% [markdown]
# ## 1. The phenomenon
#
# Five ways of training the same model on the same missing tables: a frozen backbone and a small trained classifier,
# with retrieval (a lost text is replaced by the mean of those of K similar drawings) but without adapter. All may make
# the same number of steps.
#
# | training | samples | update |
# |---|---|---|
# | joint | all | ordinary mean over the batch ("pooled") |
# | complete only | complete | the same; this is the *upper bound* of complete samples |
# | reconstructed only | reconstructed | the same; the upper bound of reconstructed samples |
# | group means | all | $g_C + g_M$: each group's mean gradient counts once |
# | aligned | all | ANGA's alignment of the groups |

# %%
rates = study.run("rates", outputs)
tasks, missing_rates = rates.grid.axes["dataset"], rates.grid.axes["missing_rate"]
rate = min(missing_rates, key=lambda value: abs(value - 0.7))
metrics = {r.config.dataset: METRIC_NAMES[next(iter(r.metrics["test"]["all"]))] for r in rates.results}
hours = sum(result.seconds for result in rates.results) / 3600
print(f"{len(rates.results)} runs, {hours:.2f} hours of training; tasks and metrics: {metrics}")

# %% [markdown]
# As in Fig. 1c, we score both kinds of test samples apart, each beside its own upper bound.

# %%
scores = rates.scores(tuple(UPPER_BOUND)).query("missing_rate == @rate")
alone = scores["training"] == scores["subset"].map(UPPER_BOUND)
fig1c = scores[alone | (scores["training"] == "joint")]
fig1c = fig1c.replace({"training": dict.fromkeys(UPPER_BOUND.values(), "upper bound")})
bounds = mean_intervals(fig1c, ["dataset", "subset", "training"], "score")
bounds["metric"] = bounds["dataset"].map(metrics)
keep(upper_bounds(bounds), bounds, "upper_bounds", "rates")

# %% [markdown]
# **What you should see:** if the paper's observation holds, the grey point of the complete samples lies below the
# black one, and those of the reconstructed samples lie close together.
#
# These intervals contain luck that both trainings share, and over two runs they are wide enough for anything. The
# **imbalance gap** is upper bound minus joint score, with the same missing table, the same seed and the same test
# samples. Its interval has two parts: the test samples, drawn anew again and again, each time the same for all runs
# (there is one test split, however many runs are scored on it); and the missing tables, of which there are few.

# %%
gaps = compare(rates, GAPS)
products.table(gaps, "gaps")

# %%
words = {1: "joint training stays BELOW the bound", 0: "no clear gap", -1: "joint training is ABOVE its 'bound'"}
print(f"Imbalance gaps at a missing rate of {rate}:")
for row in gaps[gaps["missing_rate"] == rate].itertuples():
    print(f"{row.dataset}, {row.subset} samples: {in_words(row)}: {words[sign(row)]}.")

# %% [markdown]
# > **Reader's note.** An upper bound is one in name only: it is trained on fewer samples. Where all samples teach the
# > same thing, joint training passes it: a negative gap. A positive gap is the more remarkable: *less* data has given a
# > better model. But it must not make fewer *steps* as well, or a negative gap says nothing. So in an epoch of ours a
# > bound passes over its few samples until it has made as many steps as joint training makes (`epoch_steps: all`).
# > What comes out otherwise is shown at the end of section 2.

# %%
best = pd.Series([result.history["validation"].idxmax() for result in rates.results])
epochs = rates.table.assign(first=best == 0, last=best == rates.results[0].config.epochs - 1)
print("Share of runs whose best epoch is the first, and the last:")
epochs.groupby(["dataset", "training"], sort=False)[["first", "last"]].mean().map("{:.0%}".format)

# %% [markdown]
# A bound whose runs are at their best in the *last* epoch was cut short: it is too low, and its gap too small. Runs
# at their best in the *first* have learnt nothing since that helps: the frozen backbone knew it before. (Training
# stops 10 epochs after the best one, the knob `patience`.)
#
# ## 2. At which missing rates?
#
# The paper speaks of *severe* missing. So the gap should grow with the missing rate.

# %%
keep(over_rates(gaps, "subset", "imbalance gap"), gaps, "gaps", "rates")

# %% [markdown]
# **What you should see:** points above zero are imbalance. At high rates few complete samples are left: their bound
# learns from little and their test score is uncertain, so the intervals widen.

# %%
for (dataset, subset), part in gaps.groupby(["dataset", "subset"], sort=False):
    signs = {row.missing_rate: sign(row) for row in part.itertuples()}
    above, below = ([r for r, s in signs.items() if s == side] for side in (1, -1))
    print(f"{dataset}, {subset}: gap above zero at rates {above or 'none'}, below zero at {below or 'none'}.")

# %% [markdown]
# Each rate alone has few complete samples or few missing tables to speak from. Averaged over all rates, the gap of a
# task is one number, and surer:

# %%
overall = compare(rates, GAPS, over="missing_rate")
products.table(overall, "gaps_overall")
for row in overall.itertuples():
    print(f"{row.dataset}, {row.subset} samples, all rates: {in_words(row)}: {words[sign(row)]}.")

# %% [markdown]
# ### What if the bound made fewer steps?
#
# The obvious way to train a bound is to give it as many *epochs* as joint training. At a missing rate of 0.9 an epoch
# of complete samples is a tenth of the steps. Where scores still rise when training ends, such a bound lies too low,
# the lower, the more is missing. Papers rarely say which way theirs was trained. The gap both ways:

# %%
fewer_steps = [("joint", "complete only, fewer steps", "complete")]
fewer = compare(rates, fewer_steps)
if len(fewer):
    products.table(fewer, "gaps_fewer_steps")
    products.table(compare(rates, fewer_steps, over="missing_rate"), "gaps_fewer_steps_overall")
    sides = {"as many steps": gaps[gaps["subset"] == "complete"], "fewer steps": fewer}
    sides = pd.concat([part.assign(bound=name) for name, part in sides.items()])
    keep(over_rates(sides, "bound", "imbalance gap, complete"), sides, "fewer_steps", "rates")
    for dataset, part in fewer.groupby("dataset", sort=False):
        signs = [sign(row) for row in part.itertuples()]
        print(f"{dataset}, a bound with fewer steps: gap clearly above zero at {signs.count(1)}", end=" ")
        print(f"of {len(signs)} rates, clearly below at {signs.count(-1)}.")

# %% [markdown]
# **What you should see:** where the two lines part, the difference is not what samples teach, but how long they were
# taught.
#
# ### And if all train longer?
#
# As many steps are a fair race, but a race may end too early for both. So joint training and bound once more, with
# three times the epochs (and steps):


# %%
def gaps_beside(grid, usual, other):
    """The gaps of another grid beside those above; on multi-label tasks also at each run's own cut (section 5)."""
    runs = study.run(grid, outputs)
    found, recut = compare(runs, GAPS), compare(runs, GAPS, own_cut=True)
    above = gaps.merge(found[["dataset", "missing_rate", "subset"]])
    both = pd.concat([above.assign(kind=usual), found.assign(kind=other)])
    keep(over_rates(both, "kind", "imbalance gap, complete"), both, f"gaps_{grid}", grid)
    for table, suffix, where in ((found, "", ""), (recut, "_own_cut", ", own cut")):
        if len(table):
            products.table(table, f"gaps_{grid}{suffix}")
        for row in table.itertuples():
            print(f"{row.dataset}, rate {row.missing_rate}, {other}{where}: {in_words(row)}: {words[sign(row)]}.")


if "longer" in study.grids:
    gaps_beside("longer", "usual length", "three times as long")

# %% [markdown]
# ### And where nothing stands in for what is missing?
#
# So far a lost text was replaced. In a model without retrieval, attention passes over it, and complete samples and
# others lie further apart, though one classifier must serve both. The bound trains on complete samples, where nothing
# is missing, and so is the same as before. Joint training is not:

# %%
if "unaided" in study.grids:
    gaps_beside("unaided", "with stand-ins", "without stand-ins")

# %% [markdown]
# **What you should see:** a gap that opens without stand-ins is one that reconstruction cures. The paper looks for the
# cause of imbalance in reconstructed samples; samples that nobody reconstructs may be the worse company.

# %% [markdown]
# ## 3. How much of the gap is made by the choice of the epoch?
#
# Both runs are tested in their best epoch, but best on what? The joint run keeps the epoch that is best on *all*
# validation samples; at a rate of 0.7 these are mostly reconstructed. The bound keeps the one that is best on its own
# subset. Part of the gap may be this choice and no imbalance at all. The history has the validation score on complete
# samples for each epoch, so we can let the joint run choose by the same samples as its bound.

# %%
effects = selection_effects(rates)
names = {"as_selected": "as selected", "same_selection": "same selection"}
effects["metric"] = effects["dataset"].map(metrics)
known = ["dataset", "metric", "missing_rate"]
long = effects.rename(columns=names).melt([*known, "mask_seed"], list(names.values()), "choice", "gap")
selection = mean_intervals(long, [*known, "choice"], "gap")
keep(over_rates(selection, "choice", "validation gap, complete"), selection, "selection", "rates")

# %%
for dataset in tasks:
    part = effects[(effects["dataset"] == dataset) & (effects["missing_rate"] == rate)]
    whole, chosen = part["as_selected"].mean(), part["selection"].mean()
    print(f"{dataset}, rate {rate}: the joint runs' best epoch on complete samples lies {chosen:.3f} above", end=" ")
    print(f"the kept one; the whole validation gap is {whole:+.3f}.")

# %% [markdown]
# And over all rates: does a gap remain when both choose by the same samples?

# %%
for (dataset, choice), part in selection.groupby(["dataset", "choice"], sort=False):
    signs = [sign(row) for row in part.itertuples()]
    print(f"{dataset}, {choice}: validation gap clearly above zero at {signs.count(1)} of {len(signs)} rates,", end=" ")
    print(f"clearly below at {signs.count(-1)}.")

# %%
per_table = long.groupby(["dataset", "choice", "mask_seed"], as_index=False, sort=False)["gap"].mean()
chosen_overall = mean_intervals(per_table, ["dataset", "choice"], "gap")
products.table(chosen_overall, "selection_overall")
print("Averaged over all missing rates:")
for row in chosen_overall.itertuples():
    print(f"{row.dataset}, {row.choice}: validation gap {in_words(row)}.")

# %% [markdown]
# **What you should see:** the black line is never above the grey one; what lies between them is the price of
# selecting on all samples. What is left of the black line above zero is imbalance that no choice of the epoch repairs.
# A black line at or below zero says: in one of its epochs the joint run did serve complete samples as well as their
# bound, but was not stopped there. (A run with more epochs has more to choose from. That favours runs that go on.)
#
# Best of many epochs, on the samples that chose it, is a flattering number. So a grid `selection`, if the file has one,
# trains again and lets complete validation samples choose the epoch of every run; then *test* samples tell the gap:

# %%
if "selection" in study.grids:
    alike = study.run("selection", outputs)
    task = alike.results[0].config.dataset
    tested = compare(alike, GAPS).assign(dataset=task, choice="same selection")
    before = gaps[(gaps["dataset"] == task) & (gaps["subset"] == "complete")].assign(choice="as selected")
    tested = pd.concat([before, tested])
    keep(over_rates(tested, "choice", "imbalance gap, complete"), tested, "selection_tested", "selection")
    tested_overall = compare(alike, GAPS, over="missing_rate").assign(dataset=task)
    products.table(tested_overall, "selection_tested_overall")
    (whole,) = tested_overall.itertuples()
    print(f"{task}, all rates, both epochs chosen by complete samples: gap {in_words(whole)}: {words[sign(whole)]}.")
    choosers = [("joint, by all samples", "joint", subset) for subset in UPPER_BOUND]
    chosen_tested = compare(alike, choosers, over="missing_rate").assign(dataset=task)
    products.table(chosen_tested, "selection_joint_overall")
    for row in chosen_tested.itertuples():
        print(f"Joint training with its epoch chosen by complete samples, minus chosen by all: {row.subset}", end=" ")
        print(f"samples {in_words(row)}.")

# %% [markdown]
# ## 4. Who leads the training?
#
# The explanation offered is that reconstructed samples *dominate the optimisation*. The pooled gradient is a mean of
# the group means, weighted with counts: $g = (n_C\, g_C + n_M\, g_M)/n$. So each step of a joint run tells us
#
# - `samples`: the share of reconstructed samples in the batch;
# - `pull`: their share of $n_C\lVert g_C\rVert + n_M\lVert g_M\rVert$, the lengths that are added;
# - `by_chance`: the pull that equally strong samples without any common direction would have. Noise adds up with the
#   root of a group's size, so the smaller group has more than its share;
# - `cosine` of $g_C$ and $g_M$;
# - `against`: whether the step points against the complete samples, $g \cdot g_C < 0$, so that to first order (and
#   before AdamW rescales it) their loss rises.

# %%
steps = pd.concat(
    [
        joint_steps(rates.select(dataset=d, missing_rate=r, training="joint")).assign(dataset=d, missing_rate=r)
        for d in tasks
        for r in missing_rates
    ]
)
columns = ["samples", "pull", "by_chance", "cosine", "against"]
leads = steps.groupby(["dataset", "missing_rate"], sort=False)[columns].mean()
products.table(leads.reset_index(), "leads")
leads.round(2)

# %% [markdown]
# **What you should see:** `samples` is the missing rate. A `pull` above both `samples` and `by_chance` means that a
# reconstructed sample pulls harder than a complete one: the model fits complete samples easily and keeps pushing on
# the others. Domination begins when the groups also disagree (cosine below zero).

# %%
for row in leads.reset_index().query("missing_rate == @rate").itertuples():
    print(f"{row.dataset}, rate {rate}: reconstructed samples are {row.samples:.0%} of a batch and", end=" ")
    harder = "harder than" if row.pull > max(row.samples, row.by_chance) else "no harder than"
    print(f"{row.pull:.0%} of the pull: one by one they pull {harder} complete ones.", end=" ")
    print(f"{row.against:.0%} of the steps point against the complete samples.")

# %% [markdown]
# ### Shares over training
#
# The same over the epochs: does the share of reconstructed samples grow, once the model fits the complete ones?

# %%
here = steps[steps["missing_rate"] == rate]
middle_half = "median and middle half of the steps"
shares = here.melt(["dataset", "epoch"], ["pull", "by_chance"], "share", "of the pull")
shares["share"] = shares["share"].replace({"pull": "reconstructed", "by_chance": "by chance"})
shares = quartiles(shares, ["dataset", "epoch", "share"], "of the pull")
keep(over_epochs(shares, "share", "share of the pull", ylim=(0, 1)), shares, "shares", "rates", middle_half)

# %% [markdown]
# **What you should see:** the coloured line above the grey one means that reconstructed samples have more than the
# share that their number alone would give them.
#
# ### Lengths over training

# %%
lengths = here.melt(["dataset", "epoch"], ["norm_complete", "norm_reconstructed"], "group", "norm")
lengths["group"] = lengths["group"].str.removeprefix("norm_")
lengths = quartiles(lengths, ["dataset", "epoch", "group"], "norm")
keep(over_epochs(lengths, "group", "gradient norm", yscale="log"), lengths, "norms", "rates", middle_half)

# %% [markdown]
# **What you should see:** which mean gradient is longer. The mean of a smaller group is noisier, and noise is length.
# So before asking who leads, multiply by the counts, as the table above does.
#
# ### Directions over training
#
# At a minimum of the pooled loss $n_C\,g_C + n_M\,g_M = 0$: over all samples the two point in opposite directions (see
# `04_anga`, section 1). How soon, and how far, single batches get there tells how much the groups want different
# things. For the aligned runs the cosine is that of $g_{M'}$ with the anchor: it is what alignment acts on. The anchor
# also holds reconstructed samples, which turn it towards the others (`05_ablations`, section 3). So where the two lines
# differ, that is not all the work of alignment.

# %%
aligned = pd.concat(
    [
        result.telemetry[["epoch", "cosine"]].assign(dataset=dataset)
        for dataset in tasks
        for result in rates.select(dataset=dataset, missing_rate=rate, training="aligned")
    ]
)
cosines = pd.concat([here.assign(training="joint"), aligned.assign(training="aligned")])
cosines = quartiles(cosines, ["dataset", "training", "epoch"], "cosine")
keep(over_epochs(cosines, "training", "cosine"), cosines, "cosines", "rates", middle_half)

# %% [markdown]
# **What you should see:** lines are medians, bands the middle half of the steps. A band on both sides of zero says
# that a single batch is mostly noise; the median's course is the signal. Late epochs rest on fewer runs, since runs
# stop that do not get better.

# %%
ends = here[here["epoch"] == here.groupby(["dataset", "run"])["epoch"].transform("max")]
for dataset, part in ends.groupby("dataset", sort=False):
    per_run = part.groupby(["dataset", "run"], as_index=False)["cosine"].mean()
    (row,) = mean_intervals(per_run, ["dataset"], "cosine").itertuples()
    side = {1: "with", 0: "neither clearly with nor against", -1: "against"}[sign(row)]
    print(f"{dataset}, last epoch of joint training: mean cosine {in_words(row)}:", end=" ")
    print(f"reconstructed samples pull {side} complete ones.")

# %% [markdown]
# ## 5. What do the group means alone change?
#
# Alignment comes with a change that has nothing to do with angles. Eq. 4 takes the mean of *each group*, and Eq. 15
# adds them: a group of 30 % counts as much as one of 70 %. So we split ANGA's step in two: joint to group means is
# *reweighting*; group means to aligned is *alignment* (with the admission of reconstructed samples to the anchor).

# %%
parts = [("joint", "group means", subset) for subset in UPPER_BOUND]
parts += [("group means", "aligned", subset) for subset in UPPER_BOUND]
changes = compare(rates, parts)
products.table(changes, "changes")
changes_overall = compare(rates, parts, over="missing_rate")
products.table(changes_overall, "changes_overall")
reweighting, alignment = (changes[changes["second"] == label] for label in ("group means", "aligned"))

# %%
keep(over_rates(reweighting, "subset", "group means minus joint"), reweighting, "reweighting", "rates")

# %%
keep(over_rates(alignment, "subset", "aligned minus group means"), alignment, "alignment", "rates")

# %% [markdown]
# **What you should see:** at a rate of 0.5 group means and joint training weight alike, so there the first figure
# should be near zero. Below 0.5 group means *lower* the weight of complete samples, above they raise it. The second
# figure is what alignment adds to that, for complete samples and at the cost or to the benefit of reconstructed ones.

# %%
print(f"At a missing rate of {rate}, by 95 % intervals:")
verdict = {1: "gained", 0: "did not clearly change", -1: "lost"}
for row in changes[changes["missing_rate"] == rate].itertuples():
    print(f"{row.dataset}, {row.first} -> {row.second}: {row.subset} samples {verdict[sign(row)]}, {in_words(row)}.")

# %%
print("Averaged over all missing rates:")
for row in changes_overall.itertuples():
    print(f"{row.dataset}, {row.first} -> {row.second}: {row.subset} samples {verdict[sign(row)]}, {in_words(row)}.")

# %% [markdown]
# Both changes may also move the epoch that is chosen. The same where complete validation samples choose it (section 3):

# %%
if "selection" in study.grids:
    by_complete = compare(alike, parts, over="missing_rate").assign(dataset=task)
    products.table(by_complete, "changes_selection_overall")
    for row in by_complete.itertuples():
        print(f"{task}, {row.first} -> {row.second}: {row.subset} samples {verdict[sign(row)]}, {in_words(row)}.")

# %% [markdown]
# ### Is it a matter of the threshold?
#
# On multi-label tasks F1-micro counts a label as predicted where its sigmoid is above 0.5. Whoever makes a model learn
# more slowly makes it less sure, and a less sure model predicts fewer labels, even if it *ranks* them as well as
# before. So we cut each run where its own F1-micro is best on the validation samples of the subset, and ask again what
# the gap is and what alignment changes.

# %%
asked = [("joint", "complete only", "complete"), *parts]
recut = compare(rates, asked, own_cut=True)
if len(recut):
    products.table(recut, "changes_own_cut")
    products.table(compare(rates, asked, own_cut=True, over="missing_rate"), "changes_own_cut_overall")
    realigned = recut[recut["second"] == "aligned"]
    keep(over_rates(realigned, "subset", "aligned minus group means"), realigned, "alignment_own_cut", "rates")
    for row in recut[recut["missing_rate"] == rate].itertuples():
        print(
            f"{row.dataset}, {row.first} -> {row.second}: {row.subset} samples {verdict[sign(row)]}, {in_words(row)}."
        )

# %% [markdown]
# **What you should see:** what is gone now was a matter of sureness. What is still there is not.
#
# ### What helps where nothing stands in?
#
# Section 2 found how wide the gap is where a lost text is not replaced. A cure for imbalance should pay most where the
# gap is widest. So we train the model without retrieval with group means and with alignment as well. (The groups are
# the same: complete samples, and those without text, the surest of which join the anchor.) What does each leave of
# the gap, and what do the stand-ins?

# %%
if "unaided" in study.grids:
    unaided = study.run("unaided", outputs)
    ways = [label for label in unaided.grid.axes["training"] if label != "complete only"]
    left = compare(unaided, [(label, "complete only", "complete") for label in ways])
    products.table(left, "gaps_left")
    keep(over_rates(left, "first", "gap left, complete"), left, "gaps_left", "unaided")

# %% [markdown]
# Whatever closes the gap for complete samples may be paid for by the others. Each step apart, and where there is a
# threshold, also at each run's own cut:

# %%
if "unaided" in study.grids:
    helps = [("joint", "joint, with stand-ins", subset) for subset in UPPER_BOUND] + parts
    for suffix, where in (("", ""), ("_own_cut", ", own cut")):
        helped = compare(unaided, helps, own_cut=bool(suffix))
        if len(helped):
            products.table(helped, f"changes_unaided{suffix}")
            whole = compare(unaided, helps, own_cut=bool(suffix), over="missing_rate")
            products.table(whole, f"changes_unaided{suffix}_overall")
        for row in helped.itertuples():
            step = f"{row.dataset}, rate {row.missing_rate}{where}, {row.first} -> {row.second}"
            print(f"{step}: {row.subset} samples {verdict[sign(row)]}, {in_words(row)}.")

# %% [markdown]
# **What you should see:** a line below the grey one closes a part of the gap. ("Reconstructed" samples are here those
# whose text is missing, whether something stands in for it or not.)
#
# ### Or is it the first steps?
#
# In `clipart-keywords` each of 63 labels is true for one sample in thirty, and a linear layer starts by calling each as
# likely as not. So the first steps are one large gradient, the same for all samples: *rarer!* AdamW divides its steps
# by the root of a mean of squared gradients that reaches back about $1/(1-\beta_2) = 1000$ steps, and a run of ours has
# 700. The first steps may slow all others, for each way of training in its own measure. A head whose bias starts at how
# frequent labels are (`head_bias: prior`) needs no such steps. What is left of gaps and costs then? `clipart-folders`
# is a control: its 72 classes exclude each other, and a softmax starts at one in 72 by itself.

# %%
if "start" in study.grids:
    starts = study.run("start", outputs)
    levels = mean_intervals(starts.scores(), ["dataset", "missing_rate", "start", "training", "subset"], "score")
    products.table(levels, "start_scores")
    shown = levels[levels["missing_rate"] == rate]
    shown = shown.pivot(index=["dataset", "training"], columns=["subset", "start"], values="mean")
    print(f"Mean scores at a missing rate of {rate}:", shown.round(3).to_string(), sep="\n")

# %%
if "start" in study.grids:
    asked = [("joint", "complete only", "complete"), ("joint, no stand-ins", "complete only", "complete"), *parts]
    asked += [("joint, no stand-ins", "aligned, no stand-ins", subset) for subset in UPPER_BOUND]
    for suffix, where in (("", ""), ("_own_cut", ", own cut")):
        found = compare(starts, asked, own_cut=bool(suffix))
        whole = compare(starts, asked, own_cut=bool(suffix), over="missing_rate")
        products.table(found, f"start{suffix}")
        products.table(whole, f"start{suffix}_overall")
        for row in whole.itertuples():
            step = f"{row.dataset}, {row.start}{where}, {row.first} -> {row.second}"
            print(f"{step}: {row.subset} samples, all rates {in_words(row)}.")
        if not suffix:
            bounded = found[found["second"] == "complete only"].copy()
            with_or_without = {"joint": "with stand-ins", "joint, no stand-ins": "no stand-ins"}
            bounded["dataset"] += ",\n" + bounded["first"].map(with_or_without)  # a panel each
            keep(over_rates(bounded, "start", "imbalance gap, complete"), bounded, "gaps_start", "start")

# %% [markdown]
# **What you should see:** first, in the table, what a fair start is worth by itself. Then whether the gap was one:
# where the black line lies at zero and the grey one does not, joint training had only been slower than its bound to
# recover from its first steps. Where the start was fair already, the two lines lie together.
# (`tools/optimizer_memory.py` asks whether it is AdamW's memory: it throws the running means away after two epochs, and
# most of the gap with them.) What a fair start does to other methods, `08_comparison` asks (section 2).

# %% [markdown]
# ## 6. How much imbalance does a known defect make?
#
# Until August 2025 the published code of a retrieval baseline mixed observed and retrieved tokens with an *integer*
# mask: `x * has + r * ~has`. For integers `~1` is -2 and `~0` is -1. So a complete sample was fed $x - 2r$ and a lost
# modality $-r$, where $r$ is the mean of what was retrieved. The knob `integer_mask` reproduces this in the modality
# that can be missing, here the text. Complete samples, whose true tokens now come mixed with those of strangers, must
# suffer. We ask at a missing rate of 0.7.
#
# The gap depends on whom we ask. The *own bound* is trained on the same defective inputs: the gap says how much worse
# joint training is than training alone, given the defect. The *sound bound* is what complete samples could have
# reached without it: the gap also contains what the defect takes from everybody.

# %%
masks = study.run("integer_mask", outputs)
measures = {
    "sound": ("joint", "complete only"),
    "defect, own bound": ("joint, integer mask", "complete only, integer mask"),
    "defect, sound bound": ("joint, integer mask", "complete only"),
}
defects = compare(masks, [(*pair, "complete") for pair in measures.values()])
defects["measure"] = [n for row in defects.itertuples() for n, p in measures.items() if p == (row.first, row.second)]
products.table(defects, "defect")
keep(defect(defects), defects, "defect", "integer_mask")

# %% [markdown]
# The scores behind it. Where the defect has pushed both trainings to the floor, there is no gap because there is
# nothing left to lose.

# %%
masks.scores(("complete",)).groupby(["dataset", "training"], sort=False)["score"].mean().unstack().round(3)

# %% [markdown]
# How much gap does the defect make by itself? Two differences of differences, run by run: the gap with the defect
# minus the sound gap, once for each bound. Their intervals are over runs.

# %%
pairs = masks.scores(("complete",)).pivot(
    index=["dataset", "mask_seed", "train_seed"], columns="training", values="score"
)
gap = {name: pairs[bound] - pairs[joint] for name, (joint, bound) in measures.items()}
extra = {name: gap[name] - gap["sound"] for name in list(measures)[1:]}
extra = pd.DataFrame(extra).melt(var_name="measure", value_name="extra", ignore_index=False).reset_index()
extra = mean_intervals(extra, ["dataset", "measure"], "extra")
products.table(extra, "defect_extra")
for row in extra.itertuples():
    effect = {1: "widens the gap", 0: "does not clearly move the gap", -1: "narrows the gap"}[sign(row)]
    print(f"{row.dataset}, {row.measure}: the defect {effect}, {in_words(row)} on top of the sound one.")

# %% [markdown]
# **What you should see:** if only the gap to the sound bound grows, the defect harms complete samples however they are
# trained: that is worse input, not imbalance. A figure such as Fig. 1c, drawn with a bound from sound inputs, would
# show it as imbalance all the same. (We cannot tell which inputs the paper's bounds had.)
#
# ## 7. A map: when does it occur?
#
# In `clipart-pairs` the label needs both modalities: does this text belong to this picture? A reconstructed sample
# cannot know. Now we add a *unimodal cue*: a first word in the text that agrees with the label with probability
# $(1+c)/2$. With $c = 0$ there is no cue, with $c = 1$ the text alone tells all. So the map runs from "both needed" to
# "one suffices" and from few to many reconstructed samples.

# %%
cues = study.run("map", outputs)
sought = {"imbalance gap": ("joint", "complete only"), "aligned minus group means": ("group means", "aligned")}
mapped = compare(cues, [(*pair, "complete") for pair in sought.values()])
products.table(mapped, "map")
values = ["unimodal_cue", "missing_rate", "mean", "low", "high"]
panels = {title: mapped.loc[mapped["second"] == second, values] for title, (_, second) in sought.items()}
keep(maps(panels, "difference in AUROC"), mapped, "map", "map", "clipart-pairs; star: 95 % interval excludes zero")

# %% [markdown]
# **What you should see:** left the gap, right what alignment gains over group means, both on complete test samples. A
# star marks cells whose 95 % interval excludes zero. Of many cells one in twenty gets its star by chance. Does
# alignment gain where the gap is? The interval of ρ (Spearman's) draws cells anew as if they were independent; they
# share missing tables, seeds and test samples, so it is too narrow.

# %%
for title, part in panels.items():
    stars = {side: sum(sign(row) == side for row in part.itertuples()) for side in (1, -1)}
    print(f"{title}: {stars[1]} of {len(part)} cells clearly above zero, {stars[-1]} clearly below.")
gap_cells, gain_cells = (part["mean"].to_numpy() for part in panels.values())
if len(gap_cells) < 6:
    print("Too few cells to ask whether alignment gains where the gap is.")
else:
    rho, low, high = spearman_interval(gap_cells, gain_cells)
    tie = "Yes" if low > 0 else "No, the reverse" if high < 0 else "Not clearly"
    print(f"Does alignment gain where the gap is? {tie}: Spearman {rho:+.2f} [{low:+.2f}, {high:+.2f}] over cells.")

# %% [markdown]
# > **Reader's note.** Here the *text* is missing, and the cue with it: reconstructed samples carry, if anything, a
# > cue borrowed from strangers. So a strong cue helps complete samples alone. The other case, "one modality suffices
# > and it is still there", arises when the *image* is missing.

# %%
kinds = study.run("modality", outputs)
compared = compare(kinds, [(*pair, "complete") for pair in sought.values()])
products.table(compared, "modality")
sides = {title: compared[compared["second"] == second] for title, (_, second) in sought.items()}
keep(over_cues(sides), compared, "modality", "modality")

# %%
for title, part in sides.items():
    for row in part[part["unimodal_cue"] == part["unimodal_cue"].max()].itertuples():
        word = {1: "clearly above zero", 0: "not clear", -1: "clearly below zero"}[sign(row)]
        print(f"{title}, strongest cue ({row.unimodal_cue}), {row.missing_type} missing: {in_words(row)}, {word}.")

# %% [markdown]
# **What you should see:** with images missing and a strong cue, reconstructed samples are as good teachers as
# complete ones. They cannot drag anybody below a bound, and there should be nothing left to align.
#
# ## 8. What to tell a class
#
# The sentences below are written by the data of this run, not by us.

# %%
for whole in overall[overall["subset"] == "complete"].itertuples():
    part = gaps[(gaps["dataset"] == whole.dataset) & (gaps["subset"] == "complete")]
    signs = [sign(row) for row in part.itertuples()]
    somewhere = "shows at some rates alone" if 1 in signs else "does not clearly show"
    occurs = "occurs" if sign(whole) == 1 else somewhere
    print(
        f"On {whole.dataset} learning imbalance {occurs}: bound minus joint, over all rates, {in_words(whole)};",
        end=" ",
    )
    print(f"clearly above zero at {signs.count(1)} of {len(signs)} rates, clearly below at {signs.count(-1)}.")
if "selection" in study.grids:
    for row in tested_overall.itertuples():
        print(f"Where complete samples choose every epoch, {in_words(row)} is left of the gap on {row.dataset}.")

# %%
for label, part in (("Reweighting (group means)", reweighting), ("Alignment on top of it", alignment)):
    for subset, rows in part.groupby("subset", sort=False):
        signs = [sign(row) for row in rows.itertuples()]
        print(f"{label}: {subset} samples clearly gain in {signs.count(1)} of {len(signs)} cases", end=" ")
        print(f"(task x rate), and clearly lose in {signs.count(-1)}.")

# %%
gain = alignment.merge(gaps[gaps["subset"] == "complete"], on=["dataset", "missing_rate"], suffixes=("", "_gap"))
gain = gain[gain["subset"] == "complete"]
ill = gain[gain["low_gap"] > 0]
cured = int((ill["low"] > 0).sum())
print(f"There is a clear gap in {len(ill)} of {len(gain)} cases; in {cured} of them alignment clearly helps", end=" ")
print(f"complete samples beyond reweighting, in {int((ill['high'] < 0).sum())} it clearly hurts them.")

# %%
if "unaided" in study.grids:
    usual = left[left["first"] == "joint"]
    wide = usual.loc[usual["low"] > 0, ["dataset", "missing_rate"]]
    print(f"Without stand-ins there is a clear gap in {len(wide)} of {len(usual)} cases;", end=" ")
    still = {way: int((left[left["first"] == way].merge(wide)["low"] > 0).sum()) for way in ways[1:]}
    print(", ".join(f"with {way} it is still clear in {count} of them" for way, count in still.items()) + ".")

# %%
raised = [row.dataset for row in extra.itertuples() if row.measure == "defect, own bound" and sign(row) == 1]
below = [row.dataset for row in defects.itertuples() if row.measure == "defect, own bound" and sign(row) == 1]
made = [dataset for dataset in raised if dataset in below]
print(f"The integer-mask defect widens the gap (own bound) on: {', '.join(raised) or 'no task'};", end=" ")
print(f"there is a clear gap then on: {', '.join(made) or 'none of these'}.")

# %% [markdown]
# ## Summary
#
# - The imbalance gap is an upper bound (the subset alone) minus the joint score, in pairs and with an interval. It can
#   be negative: other samples may teach more than they disturb.
# - A bound that makes fewer steps than joint training measures how long it was trained. Section 2 tells the two apart.
# - Imbalance may need no reconstruction: section 2 also asks for it where nothing stands in for what is missing,
#   section 5 what helps there.
# - A part of a gap can be mere selection of the epoch; the history tells how much.
# - "Dominated by reconstructed samples" has two sides: they are many (counts are the weights), and they disagree (the
#   cosine). Only both together drag complete samples away.
# - Group means change the weights, alignment the direction. A comparison with ordinary training contains both.
# - A metric with a threshold also measures how sure a model is. Section 5 tells the two apart.
# - A defect in the inputs can look like imbalance when the bound comes from sound inputs.
# - Where the label needs the lost modality, reconstructed samples are label noise. Where the other one suffices, they
#   are data like any other. Which case a task is, the sections above say with intervals.

# %% [markdown]
# ## Exercises
#
# 1. Section 5: at which missing rate do joint training and group means have the same weights? Show it with the formula
#    of the pooled gradient, then check the figure.
# 2. Copy the parameter file and set `missing_type: image` in its `knobs`. On which task does the gap change most, and
#    could you have told from the scores of single modalities in `01_data`?
# 3. In section 3, let the *bound* select on all validation samples in thought. Would the gap grow or shrink?
# 4. With the integer mask a complete sample becomes $x - 2r$. Suppose the retrieved $r$ equals $x$. What does the
#    model see, and does a linear layer after it mind?
# 5. Add `lambda_min: 0, lambda_max: 0` to `aligned` in a copy of the file (nobody is admitted). Does section 5 change?

# %% [markdown]
# ## Provenance

# %%
first = rates.results[0]
facts = {"params": study.path.name, "commit of the runs": first.provenance["commit"]}
facts |= {"mask_seeds": sorted(rates.table["mask_seed"].unique()), "runs": len(study.configs)}
pd.Series({**facts, **provenance(first.config, first.provenance["data"])}, name="value").to_frame()
