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
# # 05 · Which part of the method brings the gain?
#
# ANGA has three parts: retrieval (MIR), gradient alignment (GA) and an adapter (SEA). The paper takes them away one by
# one. We do the same, and then ask what it does not ask: is it the *alignment* that helps, or something that comes
# along with it? Each control changes one thing and leaves all others as they are.
#
# - **Needs:** one file of grids (below). Runs that are not there yet are trained now, with a bar that shows the time
#   left.
# - **Leaves behind:** figures under `outputs/figures/`; the rows of Table 2 and all differences under
#   `outputs/tables/`.
# - **Run time:** about a minute on two CPU cores once the runs are there (intervals are resampled); a GPU does not help
#   there. Training takes some minutes with the quick file and about two hours with the full one, most of it for the
#   rows with an adapter; these a GPU makes much faster.
# - **Before this:** `04_anga` (the method), `03_imbalance` (paired differences, and a cut of one's own).

# %% [markdown]
# ## Parameters
#
# `params` names a file with three grids: the rows of Table 2, the controls, and the memory bank. `../params/clipart/`
# is the full one. `../params/prior/` asks the same of one task whose classifier starts at how frequent labels are
# (`03_imbalance`, section 5, says why).

# %% tags=["parameters"]
params = "../params/quick/05_ablations.yaml"
outputs = "../outputs"

# %% [markdown]
# ## Imports

# %%
import pandas as pd
import torch
from scipy.stats import kendalltau

from anga import Case, plots
from anga.aligner import align_gradients
from anga.evaluation import METRIC_NAMES
from anga.grids import GridFile
from anga.imbalance import compare
from anga.inputs import load_config_dataset
from anga.plots import sweeps
from anga.products import Products
from anga.published import COUNTERPARTS, NAMES, published
from anga.runs import provenance
from anga.statistics import in_words, mean_intervals, paired_difference, summarise, verdict

# %% [markdown]
# `keep` saves a figure together with the table that it was drawn from, and writes under it how many runs stand behind a
# point; `keep_table` saves a table.

# %%
plots.set_style()
study = GridFile.from_yaml(params)
products = Products(outputs, study.place, study.name)
keep_table = products.table


def keep(figure, table, name, grid, over="missing tables and test samples"):
    products.figure(figure, table, name, f"{study[grid].repeats}, 95 % intervals over {over}")


# %% [markdown]
# One more for the numbers. All differences are *paired*: both sides share the missing table, the training seed and the
# test samples, so that an easy or a hard draw of what is missing cancels. Their intervals add up what other test
# samples and what other missing tables would change.


# %%
def minus(runs, first, second, dataset, subset="all"):
    """Score at the labels `second` minus score at the labels `first`, on one task."""
    sides = [runs.select(dataset=dataset, **labels) for labels in (first, second)]
    data = load_config_dataset(sides[0][0].config)
    mean, low, high = paired_difference(*sides, data, subset)
    metric = METRIC_NAMES[data.metric]
    return {"dataset": dataset, "metric": metric, "subset": subset, "mean": mean, "low": low, "high": high}


# %% [markdown]
# ## 1. Does each part add something?
#
# **Claim (Table 2 of the paper):** retrieval is better than nothing, alignment and adapter each add to it, and all
# three together are best. 70 % of the samples lack their text. Where there is no retrieval, the missing tokens are
# absent.

# %%
table2 = study.run("table2", outputs)
parts, tasks = table2.grid.axes["part"], table2.grid.axes["dataset"]
rows = []
for task in tasks:
    for part in parts:
        runs = table2.select(dataset=task, part=part)
        data = load_config_dataset(runs[0].config)
        rows.append(summarise(runs, data).assign(dataset=task, metric=METRIC_NAMES[data.metric], part=part))
scores = pd.concat(rows, ignore_index=True)

# %%
keep_table(scores, "table2")
figure = sweeps.forest(scores, "part", "subset", "test {metric}", zero=False)
keep(figure, scores, "table2", "table2", over=scores["over"].iloc[0])

# %% [markdown]
# **What you should see:** the score on *complete* test samples usually lies above that on *reconstructed* ones: they
# hold more information. Where it does not in the row *none*, think of the head: it learned mostly from samples without
# text, and so may be unfit for samples with one. What we saw:

# %%
means = scores.pivot(index=["dataset", "part"], columns="subset", values="mean").reset_index()
above = (means["complete"] > means["reconstructed"]).sum()
print(f"Complete samples score higher in {above} of {len(means)} rows.")
for row in means[means["complete"] < means["reconstructed"]].itertuples():
    print(f"Not so: {row.dataset}, {row.part}: complete {row.complete:.3f}, reconstructed {row.reconstructed:.3f}.")

# %% [markdown]
# The intervals of single rows are wide, since they contain what all rows share. So do not compare them by eye. Paired
# differences answer the question:

# %%
steps = [("MIR", "none"), ("MIR + GA", "MIR"), ("MIR + SEA", "MIR")]
steps += [("MIR + GA + SEA", "MIR + SEA"), ("MIR + GA + SEA", "MIR + GA"), ("MIR + GA + SEA", "none")]
steps = [step for step in steps if set(step) <= set(parts)]
rows = []
for task in tasks:
    for part, base in steps:
        for subset in ("all", "complete", "reconstructed"):
            row = minus(table2, {"part": base}, {"part": part}, task, subset)
            rows.append({"step": f"{part}\nminus {base}", **row})
added = pd.DataFrame(rows)

# %%
keep_table(added.assign(step=added["step"].str.replace("\n", " ")), "table2_differences")
keep(sweeps.forest(added, "step", "subset", "difference in\n{metric}"), added, "table2_differences", "table2")

# %% [markdown]
# **How to read it:** right of zero, the part is a gain. What we saw, on all test samples:

# %%
for task in tasks:
    print(f"{task}:")
    for row in added[(added["dataset"] == task) & (added["subset"] == "all")].itertuples():
        print(f"  {row.step.splitlines()[0]} {row.step.splitlines()[1]}: {verdict(row)} ({in_words(row)})")

# %% [markdown]
# **For whom does retrieval work?** For a complete sample nothing is retrieved: with and without MIR, the model gets the
# same input. What complete samples gain or lose by MIR, they owe to a head that learned from *other* inputs. So this
# step needs all three rows:

# %%
for task, part in added[added["step"] == "MIR\nminus none"].groupby("dataset", sort=False):
    said = {row.subset: row for row in part.itertuples()}
    print(f"{task}: " + "; ".join(f"{name} {verdict(row)} ({in_words(row)})" for name, row in said.items()) + ".")
    if said["all"].low > 0 and said["complete"].low > 0:
        hurt = " and hurts those it was meant for" if said["reconstructed"].high < 0 else ""
        print(f"  It helps samples for which nothing was retrieved{hurt}. Our reading: it makes both kinds look alike.")
    elif said["all"].low > 0:
        print("  It does not clearly help complete samples: it helps those for which something was retrieved.")

# %% [markdown]
# *Both kinds look alike*: stand-ins give every sample a text, so that one head can serve all. Then complete samples may
# gain as well. `08_comparison` tests this reading on a multi-label task (section 2, "Who makes a model sure"): without
# stand-ins, a head that learned mostly from one kind may predict far too many labels for the other.
#
# ### Does a threshold decide?
#
# In a multi-label task a label is predicted where its sigmoid is above 0.5. A part that makes the model less sure then
# predicts fewer labels, and loses F1 even where it ranks them as well as before. The same steps, each run cut where its
# F1-micro is best on validation samples of the subset (`03_imbalance`, section 5, explains it):

# %%
pairs = [(base, part, subset) for part, base in steps for subset in ("all", "complete", "reconstructed")]
own_cut = compare(table2, pairs, axis="part", own_cut=True)
if len(own_cut):
    keep_table(own_cut.assign(step=own_cut["second"] + " minus " + own_cut["first"]), "table2_own_cut")
    own_cut["step"] = own_cut["second"] + "\nminus " + own_cut["first"]
    figure = sweeps.forest(own_cut, "step", "subset", "difference in\n{metric}, own cut")
    keep(figure, own_cut, "table2_own_cut", "table2")
else:
    print("No multi-label task here.")

# %%
at_half = {(row.dataset, row.step, row.subset): row for row in added.itertuples()}
for row in own_cut.itertuples():
    half = at_half[row.dataset, row.step, row.subset]
    said = f"{row.step.replace(chr(10), ' ')}, {row.subset} samples"
    print(f"{row.dataset}, {said}: at 0.5 {in_words(half)}, own cut {in_words(row)}: {verdict(row)}.")

# %% [markdown]
# ### The paper's numbers beside ours
#
# The numbers are from Table 2 of the paper (HateMemes AUROC, MM-IMDb F1-micro, Food101 accuracy, in %; single numbers,
# no intervals). **For clip art they are not comparable in level: other data and other checkpoints.** Its tasks are only
# of the same kind: binary, multi-label, multi-class. What can be compared is the order of the rows.

# %%
numbers = published().query("table == 'Table 2'").set_index(["dataset", "row"])["percent"]
columns, paper_column = {}, {task: f"paper, {NAMES[COUNTERPARTS.get(task, task)]}" for task in tasks}
for task in tasks:
    columns[paper_column[task]] = numbers[COUNTERPARTS.get(task, task)]
    ours = scores[(scores["dataset"] == task) & (scores["subset"] == "all")].set_index("part")["mean"]
    columns[f"ours, {task}"] = 100 * ours
beside = pd.DataFrame(columns).loc[parts]
keep_table(beside.rename_axis("part").reset_index(), "table2_beside_paper")
beside.round(2)

# %% [markdown]
# Kendall's τ counts pairs of rows: +1 if all pairs stand in the same order as in the paper, -1 if all are reversed, 0
# if half and half. (Five rows have ten pairs; τ says nothing about whether a difference is larger than chance.)

# %%
for task in tasks:
    papers, ours = beside[paper_column[task]], beside[f"ours, {task}"]
    tau = kendalltau(papers, ours).statistic
    print(f"{task}: order of {len(parts)} rows against {papers.name}: Kendall's τ = {tau:+.2f};", end=" ")
    print(f"best row ours: {ours.idxmax()}, paper: {papers.idxmax()}.")

# %% [markdown]
# ## 2. Is it the alignment, or only the weights?
#
# Pooled training takes one mean over the batch. ANGA takes one mean *per group* and adds them. With 70 % missing, that
# alone changes how much a complete sample counts:

# %%
rate = table2.results[0].config.missing_rate
pooled_weight, group_weight = 1 - rate, 1 / 2  # share of the update that is due to complete samples
factor = (group_weight / (1 - rate)) / ((1 - group_weight) / rate)
print(f"Complete samples hold {pooled_weight:.0%} of the pooled update and {group_weight:.0%} of g_C + g_M:")
print(f"one complete sample weighs {factor:.1f} times as much as one reconstructed sample.")

# %% [markdown]
# So alignment must be compared with two references. **Pooled** is ordinary training. **Group means** is `g_C + g_M`
# without any cone: the reweighting, but no alignment. *Only a gain over group means is due to alignment itself.*
#
# These runs have no adapter: they are fast, so that we can afford many, and nothing but the update rule differs.

# %%
controls = study.run("controls", outputs)
tasks, rules = controls.grid.axes["dataset"], controls.grid.axes["control"]
pairs = [("group means", "pooled"), ("aligned", "pooled"), ("aligned", "group means")]
rows = []
for task in tasks:
    for rule, base in pairs:
        for subset in ("all", "complete", "reconstructed"):
            row = minus(controls, {"control": base}, {"control": rule}, task, subset)
            rows.append({"comparison": f"{rule}\nminus {base}", **row})
alignment = pd.DataFrame(rows)

# %%
keep(sweeps.forest(alignment, "comparison", "subset", "difference in\n{metric}"), alignment, "alignment", "controls")

# %% [markdown]
# **What you should see:** if alignment itself helps, the third line lies right of zero. If all of the gain over pooled
# training is reweighting, the first two lines look alike and the third one sits at zero. A trade is possible as well:
# right of zero on complete samples, left of it on reconstructed ones.

# %%
wording = {"up": "is better", "down": "is worse", "unclear": "cannot be told apart"}
for row in alignment.itertuples():
    rule, base = row.comparison.replace("\n", " ").split(" minus ")
    if base == "group means":
        said = f"{verdict(row, **wording)} against group means ({in_words(row)})"
        print(f"{row.dataset}, {row.subset} test samples: aligned {said}.")
overall = alignment[alignment["comparison"].str.endswith("minus group means") & (alignment["subset"] == "all")]
gains, losses = list(overall[overall["low"] > 0]["dataset"]), list(overall[overall["high"] < 0]["dataset"])
print(f"Alignment itself helps on {', '.join(gains) or 'no task'}; it hurts on {', '.join(losses) or 'no task'}.")

# %% [markdown]
# ## 3. Every control against both references
#
# | control | what it changes | what it asks |
# |---|---|---|
# | complete-only anchor | nobody is admitted | do admitted samples help at all? |
# | all admitted | everybody is admitted at once | is a curriculum needed? |
# | random admission | as many as in the paper, by lot | does entropy choose well? |
# | highest-entropy admission | the least confident first | ... or even the wrong way round? |
# | anchor as base | admitted samples push too (`update_base`) | is Eq. 15 as printed the better choice? |
# | running ranking | ranks by the last epoch's outputs | is the extra pass at each epoch's start needed? |

# %%
rows = []
for task in tasks:
    for base in ("pooled", "group means"):
        for rule in [rule for rule in rules if rule not in ("pooled", base)]:
            rows.append({"control": rule, "minus": base, **minus(controls, {"control": base}, {"control": rule}, task)})
against = pd.DataFrame(rows)
keep_table(against, "controls")
keep(sweeps.forest(against, "control", "minus", "difference in\n{metric}"), against, "controls", "controls")

# %% [markdown]
# **What you should see:** squares are gains over ordinary training, triangles gains over the mere reweighting. A
# control whose square is right of zero while its triangle is not owes its gain to the weights. Many intervals at once
# need care:

# %%
clear = against[(against["low"] > 0) | (against["high"] < 0)]
print(f"{len(clear)} of {len(against)} intervals exclude zero; about {0.05 * len(against):.0f} would by chance alone.")
for row in clear.sort_values("mean", ascending=False).itertuples():
    print(f"  {row.dataset}: {row.control} against {row.minus}: {in_words(row)}")

# %% [markdown]
# ### Does the way of admission matter?
#
# Now the same controls directly against the paper's rule (`aligned`: lowest entropy first, 10 % growing to 30 %). If
# the curriculum matters, they should lie to the left.

# %%
others = [rule for rule in rules if rule not in ("pooled", "group means", "aligned")]
rows = [
    {"control": rule, **minus(controls, {"control": "aligned"}, {"control": rule}, task)}
    for task in tasks
    for rule in others
]
curriculum = pd.DataFrame(rows)
xlabel = "difference in {metric}\nto the paper's rule"
keep(sweeps.forest(curriculum, "control", None, xlabel), curriculum, "curriculum", "controls")

# %%
wording = {"up": "is better than the paper's rule", "down": "is worse than the paper's rule"}
for rule, part in curriculum.groupby("control", sort=False):
    said = [f"{row.dataset} {verdict(row, **wording)} ({in_words(row)})" for row in part.itertuples()]
    print(f"{rule}: " + "; ".join(said) + ".")

# %% [markdown]
# ### What do the controls do to the gradients?
#
# Scores say whether a control differs, the telemetry of its runs says how. How many reconstructed samples were in the
# anchor, how often was the gradient of the remaining ones shrunk or dropped, and how many reconstructed samples had a
# push of their own in the end?


# %%
def habits(runs):
    steps = pd.concat([run.telemetry for run in runs])
    admitted, remaining = steps["n_admitted"].sum(), steps["n_remaining"].sum()
    pushing = remaining - steps.loc[steps["case"] == Case.OPPOSITE, "n_remaining"].sum()
    pushing += admitted if runs[0].config.update_base == "anchor" else 0
    return {
        "admitted": admitted / (admitted + remaining),
        "shrunk": (steps["case"] == Case.OUTSIDE).mean(),
        "dropped": (steps["case"] == Case.OPPOSITE).mean(),
        "pushing": pushing / (admitted + remaining),
    }


aligned_rules = [rule for rule in rules if rule not in ("pooled", "group means")]
habit = [
    {"dataset": t, "control": r, **habits(controls.select(dataset=t, control=r))} for t in tasks for r in aligned_rules
]
habit = pd.DataFrame(habit)
keep_table(habit, "habits")
habit.set_index(["dataset", "control"]).map("{:.0%}".format)

# %% [markdown]
# *admitted* and *pushing* are shares of reconstructed samples, *shrunk* and *dropped* shares of steps.

# %%
for task, part in habit.groupby("dataset", sort=False):
    push = part.set_index("control")["pushing"]
    print(f"{task}: under the paper's rule {push['aligned']:.0%} of the reconstructed samples push;", end=" ")
    print(f"fewest do with {push.idxmin()} ({push.min():.0%}), most with {push.idxmax()} ({push.max():.0%}).")

# %% [markdown]
# Now read the column *dropped*. With a *complete-only anchor* it says how often complete and reconstructed samples
# oppose each other; beside it, the paper's rule says what admission does about that. (*All admitted* leaves nobody to
# drop and is left out.)

# %%
for task, part in habit.groupby("dataset", sort=False):
    drop = part.set_index("control")["dropped"].drop("all admitted", errors="ignore").sort_values(ascending=False)
    print(f"{task}, steps dropped: " + ", ".join(f"{name} {share:.0%}" for name, share in drop.items()) + ".")
    if {"complete-only anchor", "aligned"} <= set(drop.index):
        alone, admitted = drop["complete-only anchor"], drop["aligned"]
        print(f"  Without admission the anchor opposes the others in {alone:.0%} of steps, with it in {admitted:.0%}:")
        turned = "towards" if admitted < 0.75 * alone else "away from" if admitted > 1.25 * alone else None
        print(f"  admission turns it {turned} the reconstructed samples." if turned else "  admission changes little.")

# %% [markdown]
# **What you should see:** *complete-only anchor* admits nobody and *all admitted* everybody. The second is less gentle
# than it sounds. Nobody remains, and by Eq. 15 admitted samples give a direction but do not push. So what is left?

# %%
g_C, g_admitted, nobody = torch.tensor([1.0, 0.0]), torch.tensor([0.3, 2.0]), torch.zeros(2)
for base in ("complete", "anchor"):
    update, case = align_gradients(g_C, g_admitted, nobody, 19, 45, update_base=base)
    print(f"base {base}: update {[round(value, 2) for value in update.tolist()]}, case {case.name.lower()}")

# %% [markdown]
# With the base as printed, the update is `g_C` alone: *all admitted* is training on the complete samples only, at the
# same learning rate. With the anchor as base, it would be the pooled mean. Keep that in mind when you read its line.
#
# ## 4. Would a memory bank that knows more change the picture?
#
# **Claim to test:** published code often retrieves from the full training set, as if no training sample had lost
# anything. Ours (`observed`) holds only what the missing table leaves. The full bank is an oracle: it gives better
# stand-ins than anybody could have. Does alignment profit more, or less, from better stand-ins?

# %%
bank = study.run("bank", outputs)
bank_tasks, bank_rules = bank.grid.axes["dataset"], bank.grid.axes["control"]
observed, full = {"memory_bank": "observed"}, {"memory_bank": "full"}
rows = [
    {"control": rule, **minus(bank, {**observed, "control": rule}, {**full, "control": rule}, task)}
    for task in bank_tasks
    for rule in bank_rules
]
full_bank = pd.DataFrame(rows)

# %%
keep_table(full_bank, "full_bank")
xlabel = "difference in {metric},\nfull minus observed bank"
keep(sweeps.forest(full_bank, "control", None, xlabel), full_bank, "full_bank", "bank")

# %%
for row in full_bank.itertuples():
    print(f"{row.dataset}, {row.control}: the full bank {verdict(row)} ({in_words(row)}).")

# %% [markdown]
# And is alignment worth more, or less, when stand-ins are better? The same difference as in section 2, with both
# banks:

# %%
bases = [rule for rule in bank_rules if rule != "aligned"]
rows = []
for task in bank_tasks:
    for kind in (observed, full):
        for base in bases:
            row = minus(bank, {**kind, "control": base}, {**kind, "control": "aligned"}, task)
            rows.append({"comparison": f"aligned\nminus {base}", **kind, **row})
by_bank = pd.DataFrame(rows)
figure = sweeps.forest(by_bank, "comparison", "memory_bank", "difference in\n{metric}")
keep(figure, by_bank, "alignment_by_bank", "bank")

# %% [markdown]
# **What you should see:** if alignment protects from wrong stand-ins, it should be worth less with the full bank, whose
# stand-ins are better: diamonds left of circles. The two share missing tables and test samples, so their intervals must
# not be compared by eye. A difference of differences, draw by draw, with an interval over draws:

# %%
by_draw = bank.scores(["all"]).pivot(
    index=["dataset", "mask_seed", "train_seed"], columns=["memory_bank", "control"], values="score"
)
for base in bases:
    gain = {kind: by_draw[kind, "aligned"] - by_draw[kind, base] for kind in ("observed", "full")}
    extra = (gain["full"] - gain["observed"]).rename("extra").reset_index()
    for row in mean_intervals(extra, ["dataset"], "extra").itertuples():
        said = verdict(row, "worth more", "worth less", "not clearly worth more or less")
        print(f"{row.dataset}, aligned minus {base}: with the full bank {said} ({in_words(row)}).")

# %% [markdown]
# ## Summary
#
# - A row of an ablation table says that *something* in it helps. Which ingredient it is, only a control can tell.
# - Group means alone already count complete samples more than twice as much at 70 % missing. The gain of alignment is
#   what remains beyond that; section 2 prints it with its interval, task by task.
# - Admitting all samples at once does not mean learning from all of them: by Eq. 15 it means learning from complete
#   ones.
# - The order of the rows can be compared with the paper's, the level cannot.
# - Dozens of intervals at 95 % exclude zero a few times by chance. Section 3 prints how many do and how many would.

# %% [markdown]
# ## Exercises
#
# 1. With the full file, "MIR + GA minus MIR" in section 1 and "aligned minus pooled" in section 2 are the same runs
#    under two names. Check that their numbers agree. Then keep only the runs on the first three missing tables
#    (`mask_seed < 3`): how do mean and interval change, and which would you publish?
# 2. Add a control that admits everybody *and* uses the anchor as base (`lambda_min: 1`, `lambda_max: 1`,
#    `update_base: anchor`). Which other control should it equal, up to rounding?
# 3. Add a row with `use_alignment: false`, `plain_update: group_means`, `train_subset: complete` and `epoch_steps:
#    all`. Which control of section 3 should it resemble, and why not exactly? What if you leave `epoch_steps` out?
# 4. Pair the runs wrongly: shift one list of `minus` by one run (`sides[1][1:] + sides[1][:1]`). What happens, and why
#    is it good that it does?
# 5. Count: how many differences does this notebook print? How wide would intervals have to be for a 5 % chance of
#    *any* false alarm in the table of section 3 (Bonferroni)?

# %% [markdown]
# ## Provenance

# %%
run = controls.results[0]
facts = {"params": study.place, "commit of the runs": run.provenance["commit"]}
facts |= {name: sorted(controls.table[name].unique().tolist()) for name in ("mask_seed", "train_seed")}
data_hash = load_config_dataset(run.config).content_hash
pd.Series({**facts, **provenance(run.config, data_hash)}, name="value").to_frame()
