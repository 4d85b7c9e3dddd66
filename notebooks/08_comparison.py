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
# # 08 · Which method copes best with missing modalities, on equal terms?
#
# The paper compares ANGA with thirteen methods. Their numbers come from repositories that differ in data code, splits,
# training time and bugs. Here each method is one small file on the same frozen backbone, with the same tokens, missing
# tables, optimiser, epochs, selection and head. What differs is the method's idea: its modules, losses and stages.
#
# - **Needs:** one file of grids (below), with at least two of the paper's methods, three methods in all columns, and a
#   row "... + GA". Runs that are not there yet are trained now, with a bar that shows the time left.
# - **Leaves behind:** figures under `outputs/figures/`; Table 1, all paired differences, costs and ranks under
#   `outputs/tables/`.
# - **Run time:** two minutes on two CPU cores once the runs are there (intervals are resampled); a GPU does not help
#   there. Training takes about five minutes with the quick file, four hours with `../params/comparison/`, which has the
#   columns "text missing" and "image missing", two and a quarter with `../params/comparison_both/`, which has the third
#   one, two and a half with `../params/comparison_more/`, which adds methods to it that Table 1 lacks, and one with
#   `../params/prior/`, which asks where classifiers start.
#   `../params/table1/` has all columns in one file; it takes seven to sixteen hours on two cores, by their kind, and an
#   estimated one on a GPU.
# - **Before this:** `04_anga` (the method), `05_ablations` (what alignment is worth, and to what to compare it).

# %% [markdown]
# ## Parameters
#
# `params` names a file of grids. All of them have the axes `dataset`, `missing_type` and `method`; there are several,
# because slow methods compute in bfloat16 where that pays, and some take part in fewer columns. `controls`, `start` and
# `subsets`, if they are there, are no part of the table (section 2).

# %% tags=["parameters"]
params = "../params/quick/08_comparison.yaml"
outputs = "../outputs"

# %% [markdown]
# ## Imports

# %%
import pandas as pd
from scipy.stats import friedmanchisquare

from anga import plots
from anga.backbone import Backbone
from anga.baselines import BASELINES
from anga.comparison import Comparison, beside_published, both_ways, learnable_parameters, orders, standings
from anga.evaluation import METRIC_NAMES
from anga.grids import GridFile
from anga.imbalance import compare
from anga.plots import comparison, sweeps
from anga.products import Products
from anga.published import published
from anga.ranks import against, average_ranks, cliques, critical_difference, rank_correlation
from anga.runs import provenance
from anga.statistics import in_words, mean_intervals, spearman_interval, verdict
from anga.workers import runs_backbone

# %% [markdown]
# `keep` saves a figure together with the table that it was drawn from, `keep_table` a table. `lacking` names missing
# types in figures: "both" is the paper's word for samples that lack either their text or their image.

# %%
plots.set_style()
cell_axes = ["dataset", "missing_type"]
study = GridFile.from_yaml(params)
products = Products(outputs, study.place, study.name)
keep, keep_table = products.figure, products.table
lacking = {"text": "texts missing", "image": "images missing", "both": "either missing"}

# %% [markdown]
# ## 1. What is compared?
#
# Throughout, $x^t$ and $x^v$ are what is known of a sample's text and image, $e$ is the frozen backbone's joint output
# on what is observed, $\ell$ the task's loss and $y$ the label. What is missing and not reconstructed is masked out of
# attention, so that no method meets a dummy text or a white image. The head, ViLT's pooling layer and a linear
# classifier, learns in all methods. $W$, $R$, $F$, $G$, $f$ and $g$ are learned maps, $m$ is a modality, $\odot$
# multiplies element by element, $\sigma$ is the sigmoid, JSD the Jensen-Shannon divergence, and a prime marks what a
# student makes. Losses that are only named are written out in the methods' files.
#
# ### Reference
#
# **ViLT** (ICML 2021). Nothing is done about what is missing: attention passes over it. Only the head learns. Whatever
# a method below is worth, it must show here.
#
# $$\hat y = \text{head}(e)$$
#
# ### Modality-invariant methods: learn what both modalities say
#
# They start from the frozen outputs on text alone and on image alone, $x^t$ and $x^v$, and fuse features of these. For
# fairness, the head reads $e$ plus what they fuse: none of them is denied the backbone's own fusion.
#
# **IF-MMIN** (ICASSP 2023). A teacher learns specific features $h$ and invariant features $H$ from complete samples. A
# student sees these samples with one modality hidden and imagines its features by a chain of autoencoders, which also
# read the invariant ones. At test time the imagined features take the place of lost ones.
#
# $$L = \ell + \lVert h'_{\text{lost}} - h_{\text{lost}}\rVert^2 + 100\,\lVert H' - H\rVert^2$$
#
# **ShaSpec** (CVPR 2023). One encoder for both modalities gives shared features $r$, one for each gives specific ones
# $s$. Shared features are pulled together, specific ones must tell which modality they come from. The shared feature of
# the modality that is there stands in for the other.
#
# $$f^m = W[r^m; s^m] + r^m, \qquad L = \ell + 0.1\,\lVert r^t - r^v\rVert_1 + 0.02\,\text{CE}(s^m, m)$$
#
# **DrFuse** (AAAI 2024). Features are split into distinct and shared ones, kept apart by their cosine; shared ones of
# the two modalities are averaged as probabilities. Every class has its own attention over the distinct and the shared
# features. Where a modality is missing, the shared feature of the other one is taken.
#
# $$L = \ell + \textstyle\sum_m \ell_m + \text{JSD}(r^t, r^v) + \sum_m |\cos(r^m, s^m)| + L_{\text{rank}}$$
#
# **CorrKD** (CVPR 2024). A teacher learns from complete samples; a student sees parts of them. The student must come
# close to the teacher's representation of the same sample and stay away from those of others, have the same
# similarities to the class prototypes, and agree on the target class and on the rest. Only complete samples have a
# teacher.
#
# $$L = \ell + L_{\text{sample}} + L_{\text{category}} + L_{\text{response}}$$
#
# **MoMKE** (ACM MM 2024). An expert per modality first learns alone. Then every modality that is there passes through
# all experts, and a router mixes what they say. So the text expert also has a word on images.
#
# $$h_m = \textstyle\sum_e w_{m,e} E_e(x^m), \qquad w_m = \text{softmax}(R_m(x^m))$$

# %% [markdown]
# ### Prompts: tell the frozen transformer what is missing
#
# These put learned vectors between the tokens. The backbone must therefore run in every training step, forwards and
# backwards (section 6 says what that costs).
#
# **MAPs** (CVPR 2023). There are three missing states: complete, text missing, image missing. Each has learned prompts
# of its own in the first six layers. A sample gets those of its state.
#
# $$h_i = \text{layer}_i([P_i^{\text{state}}; h_{i-1}])$$
#
# **MSPs** (ICASSP 2024). Prompts belong to modalities, not to states: a sample gets the sum of those that it has. So
# incomplete samples train the same prompts as complete ones. A loss keeps the two sets from saying the same.
#
# $$P = P_T\,[\text{text there}] + P_I\,[\text{image there}], \qquad L = \ell + |\cos(P_T, P_I)|$$
#
# **IPer** (IJCV 2025, from object tracking). The missing modality's prompts are generated from the available one. The
# map can be inverted, so that nothing of what is available is lost in them. On complete samples, a prediction with
# either modality hidden must resemble the one with both.
#
# $$P_v = f(x^t),\ x^t = f^{-1}(P_v), \qquad
# L = \ell + \text{KL}(\hat y, \hat y_{\text{hidden}}) + 0.5\,\lVert P - x\rVert^2$$
#
# **DCP** (NeurIPS 2024; cited by the paper, not compared). Prompts of a layer are computed from those of the layer
# below, for both modalities together. Others are shared by the modalities, and a third kind looks at the input. All
# depend on the missing state.
#
# $$P_i^M = F_i^M([P_{i-1}^I; P_{i-1}^T])$$
#
# **SyP** (ICCV 2025; cited by the paper, not compared). A static prompt is shared by both modalities. A dynamic one is
# scaled by the input's own features. Their sum enters the transformer.
#
# $$P^M = P_B^M \odot \sigma(g([x^t; x^v])) + G^M(P_S)$$

# %% [markdown]
# ### Reconstruction: fill in what is missing
#
# **AcMAE** (AAAI 2023). Each modality is one token; in training, one is dropped at random. An autoencoder with a memory
# token predicts it from the other. The classifier reads the tokens that are there and the predictions of the others.
#
# $$L = \ell + \lVert x^m - \hat x^m\rVert^2 \text{ over dropped tokens}$$
#
# **DiCMoR** (ICCV 2023). An invertible flow per modality maps features to one space in which every class has its
# Gaussian. A lost feature is recovered by the available one's flow forwards and the lost one's backwards. So it has the
# right distribution, not only the right mean.
#
# $$\hat x^v = R(F_v^{-1}(F_t(x^t))), \qquad
# L = \ell + 0.1 \textstyle\sum_m (\lVert x^m - \hat x^m\rVert^2 - \log p(x^m | y))$$
#
# **MMDS** (MIDL 2023, from brain imaging). An incomplete sample borrows what it lacks from another sample of its class,
# and the network learns from the mixture too. Each branch is supervised by a classifier of its own. At test time nobody
# lends anything.
#
# $$L = \ell(x_i) + \ell(x_i^t, x_j^v) + \textstyle\sum_m \ell_m$$
#
# **RAGPT** (AAAI 2025). Retrieval, as in ANGA: the mean of the neighbours' tokens, filtered in the frequency domain,
# stands in for what is lost. Dynamic prompts come from attention between a sample and its neighbours. All samples are
# trained alike.
#
# $$\hat x = W_l\,\text{LayerNorm}(F + \text{IFFT}(W \odot \text{FFT}(F))), \quad F = \text{mean of the neighbours}$$
#
# **ANGA** (the paper). Retrieval without a generator, and prompts from neighbours. Complete and reliably reconstructed
# samples form an anchor; gradients of the others must lie within a cone around it. *Retrieval* has the stand-ins alone:
# neither prompts nor alignment. *Retrieval + GA* is ANGA without its prompts, and so needs the backbone only once.
#
# $$g = g_C + \tilde g_{M'}, \qquad \cos(\tilde g_{M'}, g_A) \ge \tau \text{ or } \tilde g_{M'} = 0$$
#
# **... + GA** is the method named before, with ANGA's alignment in the place of ordinary training, and nothing else of
# ANGA. **... + group means** is a control: the reweighting that alignment brings along, but no cone (see
# `05_ablations`).

# %% [markdown]
# The files say more: the papers' formulas, published hyper-parameters (our defaults), what was adapted to the shared
# backbone and what is left out. For instance, two of the adaptations:


# %%
def adapted(name):
    """The sentences of a method's file from "Adapted" to the list of its parameters."""
    text = BASELINES[name].__doc__
    return " ".join(text[text.index("Adapted") : text.index("Learnable parameters")].split())


for name in ("maps", "shaspec"):
    print(f"{name}: {adapted(name)}\n")

# %% [markdown]
# ## 2. Table 1: who is best?
#
# All runs of all grids, with one row per run:

# %%
table1_grids = [name for name in study.grids if name not in ("controls", "start", "subsets")]
ours = Comparison.of(*(study.run(name, outputs) for name in table1_grids))
families = published().query("table == 'Table 1'").set_index("row")["family"].to_dict()
families |= {"ViLT": "reference", "DCP": "vlp", "SyP": "vlp", "Retrieval": "reconstruction"}


def family(method):
    """That of the method before "+ GA" and the like, or before a comma."""
    return families[method.split(" + ")[0].split(", ")[0]]


epochs = " or ".join(str(n) for n in sorted({result.config.epochs for result in ours.results}))
runs_note = "; ".join(sorted({study[name].repeats for name in table1_grids}))
print(f"{len(ours.results)} runs of {len(ours.methods)} methods, at most {epochs} epochs; {runs_note}")

# %% [markdown]
# A mean's interval contains everything that differs between runs, also what hits all methods alike: an easy or hard
# draw of what is missing. So a method is marked **best** only where its *paired* difference to every other method lies
# above zero with its whole 95 % interval (same missing table, same training seed, same test samples), and **second**
# only where there is a best and the same holds against all the rest. The interval has two parts: test samples, drawn
# anew again and again, each time the same for all runs; and missing tables. Three tables say little of a fourth one, so
# the second part is often the wider, and with three it is still a little too narrow (92 in place of 95 of 100).

# %%
pairs = ours.pairs()
table1 = standings(ours.summary(), pairs)
table1.insert(4, "family", table1["method"].map(family))
keep_table(table1, "table1")
keep_table(pairs, "table1_differences")
sign = table1["mark"].map({"best": " 1st", "second": " 2nd", "": ""})
half = (table1["high"] - table1["low"]) / 2
cells = table1.assign(
    cell=table1["mean"].map("{:.3f}".format) + half.map(" ±{:.3f}".format).where(half.notna(), "") + sign
)
cells.pivot(index="method", columns=cell_axes, values="cell").loc[ours.methods, ours.cells].fillna("")

# %% [markdown]
# 1st, 2nd: by paired intervals; ± half the 95 % interval of the mean over missing tables (over test samples, where
# there is one run). The same as pictures, one per missing type:

# %%
over = " and ".join(table1["over"].unique())
for missing_type, part in table1.groupby("missing_type", sort=False):
    note = f"{lacking[missing_type]}; {runs_note},\n95 % intervals over {over}; filling by paired differences"
    keep(comparison.scores(part, note), part, f"table1_{missing_type}")

# %% [markdown]
# **What you should see:** intervals of neighbours overlap nearly everywhere. Filled markers are methods whose paired
# difference to the leader does not exclude zero: a set, not a single winner. What we saw:

# %%
for (dataset, missing_type), part in table1.groupby(cell_axes, sort=False):
    marked = part[part["mark"] != ""].set_index("mark")["method"]
    tied, leader = part[~part["behind"]]["method"], part.loc[part["mean"].idxmax(), "method"]
    said = f"best is {marked['best']}" if "best" in marked else f"nobody is marked; highest mean: {leader}"
    said += f", second {marked['second']}" if "second" in marked else ""
    print(f"{dataset}, {missing_type}: {said}; not clearly behind the leader: {len(tied)} of {len(part)} methods.")

# %% [markdown]
# With many methods there are many pairs, and some intervals exclude zero by chance:

# %%
clear = ((pairs["low"] > 0) | (pairs["high"] < 0)).sum()
print(f"{clear} of {len(pairs)} paired intervals exclude zero; about {0.05 * len(pairs):.0f} would by chance alone.")

# %% [markdown]
# All have the same number of epochs, but some methods first train a teacher, experts or features, as they were
# published, and this comes on top. Where many are at their best in the last epoch, more epochs would have helped, and
# the table also compares how *fast* and how *long* methods learn:

# %%
first_stage = ours.table.assign(epochs=[result.history["validation"].isna().sum() for result in ours.results])
first_stage = first_stage.groupby("method")["epochs"].max().loc[ours.methods]
print("epochs of a first stage:", ", ".join(f"{m} {n}" for m, n in first_stage[first_stage > 0].items()) or "none")
at_end = [result.history["validation"].idxmax() == len(result.history) - 1 for result in ours.results]
for dataset, share in ours.table.assign(at_end=at_end).groupby("dataset", sort=False)["at_end"].mean().items():
    print(f"{dataset}: {share:.0%} of the runs are best in their last epoch.")

# %% [markdown]
# What is a longer training worth, and what a first stage? A grid `controls`, if the file has one, trains some methods
# of the table otherwise, and is no part of it. Its methods against each other, paired, on all test samples:

# %%
if "controls" in study.grids:
    controls = Comparison.of(study.run("controls", outputs))
    controlled, against_controls = controls.summary(), controls.pairs()
    keep_table(controlled, "controls")
    keep_table(against_controls, "controls_differences")
    for row in controlled.itertuples():
        print(f"{row.dataset}: {row.method} {row.mean:.3f} [{row.low:.3f}, {row.high:.3f}] {row.metric}")
    for row in against_controls.itertuples():
        print(f"{row.first} minus {row.second}: {in_words(row)}")

# %% [markdown]
# Does any of them beat plain ViLT, which does nothing about what is missing?

# %%
to_vilt = both_ways(pairs).query("second == 'ViLT'")
words = {"up": "better", "down": "worse", "unclear": "undecided"}
counted = to_vilt.assign(word=[verdict(row, **words) for row in to_vilt.itertuples()])
counted = counted.groupby(["first", "word"], sort=False).size().unstack(fill_value=0)
counted.reindex([m for m in ours.methods if m in counted.index]).rename_axis(index="against ViLT", columns="cells")

# %% [markdown]
# ### Is it a matter of the threshold?
#
# On multi-label tasks F1-micro counts a label as predicted where its sigmoid is above 0.5. True labels are rare, so a
# model that is still unsure predicts few of them and loses F1, even if it *ranks* labels well. How fast a model grows
# sure depends on depth, learning rate and first stage, not only on a method's idea. So we cut each run where its own
# F1-micro is best on the *validation* split, and compare again:

# %%
at_half = ours.multilabel()
own_cut = at_half.recut()
if own_cut.results:
    own_pairs = own_cut.pairs()
    own_table = standings(own_cut.summary(), own_pairs)
    own_table.insert(4, "family", own_table["method"].map(family))
    keep_table(own_table, "table1_own_cut")
    keep_table(own_pairs, "table1_own_cut_differences")
    half_table = table1[table1["dataset"].isin(own_table["dataset"])]
    looks = {"cut at 0.5": half_table, "cut on validation": own_table}
    both_cuts = pd.concat(part.assign(dataset=part["dataset"] + f",\n{name}") for name, part in looks.items())
    for missing_type, part in both_cuts.groupby("missing_type", sort=False):
        note = f"{lacking[missing_type]}; {runs_note},\n95 % intervals over {over}; filling by paired differences"
        keep(comparison.scores(part, note), part, f"cuts_{missing_type}")

# %% [markdown]
# *Average precision* (micro) needs no cut at all: it asks only whether true labels are ranked above false ones. Beside
# it, how many labels a method predicts per sample at 0.5, also on complete and on other samples alone, and how many are
# true:

# %%
if own_cut.results:
    by_kind = at_half.sureness().pivot_table(
        ["predicted", "average_precision"], [*cell_axes, "method"], "subset", sort=False
    )
    sure = by_kind["predicted"].add_prefix("predicted_").rename(columns={"predicted_all": "predicted"})
    sure["average_precision"] = by_kind["average_precision", "all"]
    f1 = {"F1 at 0.5": half_table, "F1, own cut": own_table}
    sure = sure.assign(**{name: part.set_index([*cell_axes, "method"])["mean"] for name, part in f1.items()})
    sure = sure.sort_values([*cell_axes, "average_precision"], ascending=[True, True, False])
    keep_table(sure.reset_index(), "sureness")
    for dataset in own_table["dataset"].unique():
        data = ours.dataset(dataset)
        print(f"{dataset}: {data.labels[data.rows('test')].sum(1).mean():.2f} labels of a test sample are true.")
sure.round(3) if own_cut.results else "no multi-label task here"

# %% [markdown]
# **What you should see:** methods that predict far fewer labels than are true gain most by a cut of their own. Where
# the order changes, the first one was in part an order of confidence. What we saw:

# %%
for dataset, missing_type in own_cut.cells:
    where = f"dataset == '{dataset}' and missing_type == '{missing_type}'"
    for name, found in (("at 0.5", pairs), ("own cut", own_pairs)):
        found = found.query(where)
        to_vilt = both_ways(found).query("second == 'ViLT'")
        clear = {
            w: ", ".join(to_vilt[to_vilt[e] * s > 0]["first"])
            for w, e, s in (("above", "low", 1), ("below", "high", -1))
        }
        said = "; ".join(f"{word} ViLT: {names or 'nobody'}" for word, names in clear.items())
        said_of_orders = orders(found)["verdict"].value_counts()
        counts = ", ".join(f"{v} {said_of_orders.get(v, 0)}" for v in comparison.VERDICTS)
        print(f"{dataset}, {missing_type}, {name}: clearly {said}. Published orders (section 3): {counts}.")

# %% [markdown]
# ### Is it a matter of where the classifier starts?
#
# A linear layer starts by calling each label as likely as not. Where labels are rare, the first steps are one large
# gradient that all samples share, and AdamW remembers it for long (`03_imbalance`, section 5). Methods that are deeper,
# or that start their optimiser anew after a first stage, may suffer less from it. A grid `start`, if the file has one,
# trains methods both ways: with a bias as usual, and with one that starts at how frequent labels are (`head_bias:
# prior`; in all classifiers of a method, those of teachers, experts and branches included). In such a file the table
# itself is *from the prior*. What does each method gain by a fair start, paired, on all test samples?

# %%
if "start" in study.grids:
    starts = study.run("start", outputs)
    by_start = starts.scores(["all"])
    levels = mean_intervals(by_start, [*cell_axes, "method", "start"], "score")
    keep_table(levels, "start_scores")

# %%
if "start" in study.grids:
    ways, cuts = [("from one half", "from the prior", "all")], {"cut at 0.5": False, "own cut": True}
    gained = [compare(starts, ways, axis="start", own_cut=own).assign(cut=cut) for cut, own in cuts.items()]
    gained = pd.concat(gained)
    keep_table(gained, "start")
    shown = gained.assign(dataset=gained["dataset"] + ",\n" + gained["missing_type"].map(lacking))  # a panel each
    keep(sweeps.forest(shown, "method", "cut", "from the prior minus\nfrom one half, {metric}"), shown, "start")

# %%
for row in gained[gained["cut"] == "cut at 0.5"].itertuples() if "start" in study.grids else []:
    print(f"{row.dataset}, {lacking[row.missing_type]}, {row.method}: {in_words(row)}")

# %% [markdown]
# Who is above a model that does nothing about what is missing (*ViLT*), from either start?

# %%
if "start" in study.grids and "ViLT" in starts.grid.axes["method"]:
    asked = [("ViLT", method, "all") for method in starts.grid.axes["method"] if method != "ViLT"]
    beside_vilt = [compare(starts, asked, axis="method", own_cut=own).assign(cut=cut) for cut, own in cuts.items()]
    beside_vilt = pd.concat(beside_vilt)
    keep_table(beside_vilt, "start_beside_vilt")
    for cell, part in beside_vilt.groupby([*cell_axes, "start", "cut"], sort=False):
        above, below = (", ".join(part.loc[clear, "second"]) for clear in (part["low"] > 0, part["high"] < 0))
        print(f"{cell[0]}, {lacking[cell[1]]}, {', '.join(cell[2:])}: clearly above ViLT {above or 'nobody'};", end=" ")
        print(f"clearly below {below or 'nobody'}.")

# %% [markdown]
# Does the order of the methods stay? Places by mean score at 0.5; a line that falls to the right belongs to a method
# whose place was owed to the start. Both orders are of noisy means, which draws ρ (Spearman's) towards zero:


# %%
def moved(dataset, missing_type):
    """Places from either start, and ρ of the two orders."""
    means = levels.query("dataset == @dataset and missing_type == @missing_type")
    means = means.pivot(index="method", columns="start", values="mean")
    place = means.rank(ascending=False, method="first")
    table = pd.DataFrame({"first": place["from one half"], "second": place["from the prior"]}).reset_index()
    rho = means["from one half"].corr(means["from the prior"], method="spearman")
    return table.assign(family=table["method"].map(family)), rho


# %%
for cell in by_start[cell_axes].drop_duplicates().to_numpy() if "start" in study.grids else []:
    table, rho = moved(*cell)
    where = f"{cell[0]}, {lacking[cell[1]]}"
    figure = comparison.places(table.sort_values("first"), ("from one half", "from the prior"), f"{where}; {runs_note}")
    keep(figure, table, f"start_places_{cell[1]}")
    print(f"{where}: ρ of the two orders {rho:+.2f}")

# %% [markdown]
# ### Who makes a model sure, and who makes it good, on complete samples?
#
# Where nothing stands in for what is missing, the frozen outputs of complete and of other samples lie apart, and one
# head must serve both. A grid `subsets`, if the file has one, trains a model without stand-ins (*ViLT*) and one with
# them (*Retrieval*) on all samples, on the complete ones alone, and on the others alone. It is no part of the table.
# The question is that of `03_imbalance`, asked of sureness and of ranking apart:

# %%
if "subsets" in study.grids:
    trained = Comparison.of(study.run("subsets", outputs)).sureness()
    keys = [*cell_axes, "method", "subset", "measure"]
    kinds = trained.query("subset != 'all'").melt(keys[:-1], ["predicted", "average_precision"], "measure", "value")
    kinds = mean_intervals(kinds, keys, "value")
    keep_table(kinds, "subsets")
    kinds["shown"] = [f"{row.mean:.2f} [{row.low:.2f}, {row.high:.2f}]" for row in kinds.itertuples()]
    kinds = kinds.pivot(index=[*cell_axes, "method"], columns=["measure", "subset"], values="shown")
kinds if "subsets" in study.grids else "no grid subsets here"

# %% [markdown]
# **What you should see:** without stand-ins, a model that learned from one kind alone may predict far too many labels
# for the other, and one that learned mostly from one kind still may. With stand-ins the two kinds lie close. Whether
# the other samples also *teach* something about complete ones, average precision says: all samples minus complete ones
# alone, paired, with an interval over missing tables. What we saw:

# %%
if "subsets" in study.grids:
    print("Average precision on complete test samples, trained on all minus trained on complete ones alone:")
    seeds = ["mask_seed", "train_seed"]
    of_complete = trained.query("subset == 'complete'")
    of_complete = of_complete.pivot(index=[*cell_axes, *seeds], columns="method", values="average_precision")
    for method in (m for m in of_complete if f"{m}, complete alone" in of_complete):
        gain = (of_complete[method] - of_complete[f"{method}, complete alone"]).rename("gain").reset_index()
        for row in mean_intervals(gain, cell_axes, "gain").itertuples():
            print(f"{row.dataset}, {lacking[row.missing_type]}, {method}: {in_words(row)}")

# %% [markdown]
# ## 3. The paper's numbers beside ours
#
# The numbers are from Table 1 of the paper (single numbers, no intervals). Where the data set is not the same, **they
# are not comparable in level: other data, other checkpoints, another backbone**. Our tasks are of the same kind
# (binary, multi-label, multi-class). What can be compared is the order of the methods.

# %%
beside = beside_published(table1)
kept = ["data", *cell_axes, "method", "paper", "mean", "low", "high", "runs", "comparable"]
keep_table(beside[kept], "table1_beside_paper")
long = beside.rename(columns={"mean": "ours"}).melt(kept[:4], ["paper", "ours"], "whose", "score")
wide = long.pivot(index="method", columns=["data", *cell_axes, "whose"], values="score")
columns = [c for cell in ours.cells for whose in ("paper", "ours") for c in wide if c[1:] == (*cell, whose)]
print("levels comparable:", ", ".join(beside[beside["comparable"]]["dataset"].unique()) or "nowhere")
(100 * wide.loc[[m for m in ours.methods if m in wide.index], columns]).round(1)

# %% [markdown]
# ### Is the order of the methods the same?
#
# Spearman's ρ: 1 if the order is the paper's, 0 if it is unrelated, -1 if it is reversed. Beside it stands the range
# that it has when our runs are drawn anew (missing tables, and training seeds within them). That is no confidence
# interval: every draw adds the noise of the runs once more, so the range lies too near zero and is too narrow. Nor does
# it contain what another data set, or another run of the paper's experiments, would change.

# %%
rows = []
for (dataset, missing_type), part in beside.groupby(cell_axes, sort=False):
    runs = ours.scores().query("dataset == @dataset and missing_type == @missing_type")
    rho, low, high = rank_correlation(part.set_index("method")["paper"], runs)
    rows.append((dataset, missing_type, len(part), rho, low, high))
agreement = pd.DataFrame(rows, columns=[*cell_axes, "methods", "rho", "redrawn_low", "redrawn_high"])
keep_table(agreement, "rank_agreement")
for row in agreement.itertuples():
    drawn = "" if pd.isna(row.redrawn_low) else f"; redrawn {row.redrawn_low:+.2f} to {row.redrawn_high:+.2f}"
    print(f"{row.dataset}, {row.missing_type}, {row.methods} methods: ρ = {row.rho:+.2f}{drawn}")

# %% [markdown]
# (Where there is one run per method, there is no range.) Over all columns together, by average rank:

# %%
whole = {
    whose: beside.pivot(index=cell_axes, columns="method", values=whose).dropna(axis=1) for whose in ("paper", "mean")
}
place = {whose: average_ranks(scores).rank(method="first") for whose, scores in whole.items()}
placed = pd.DataFrame({"first": place["paper"], "second": place["mean"]}).dropna().rename_axis("method").reset_index()
placed["family"] = placed["method"].map(family)
note = f"places by average rank; columns of Table 1: {len(whole['mean'])}\n{runs_note}"
keep(comparison.places(placed.sort_values("first"), ("paper", "ours"), note), placed, "places")

# %% [markdown]
# **What you should see:** lines that do not cross are agreement. But a place says nothing about distances: two methods
# may swap places over a thousandth. So we ask of every published order of two methods, in every column: does our
# paired interval confirm it (*holds*), contradict it (*reversed*), or neither (*open*)?

# %%
claims = orders(pairs)
keep_table(claims, "published_orders")
sides = pd.concat([claims.assign(method=claims[side]) for side in ("better", "worse")])
tally = sides.groupby(["method", "verdict"]).size().unstack(fill_value=0)
tally = tally.reindex(
    index=[m for m in ours.methods if m in tally.index], columns=list(comparison.VERDICTS), fill_value=0
)
note = f"each order counts for both of its methods; columns of Table 1: {len(agreement)}\n{runs_note}"
keep(comparison.published_orders(tally.reset_index(), note), tally.reset_index(), "published_orders")

# %%
counts = claims["verdict"].value_counts()
print(f"{len(claims)} published orders:", ", ".join(f"{v} {counts.get(v, 0)}" for v in comparison.VERDICTS) + ".")
for word in ("holds", "reversed"):
    widest = claims[claims["verdict"] == word].assign(size=lambda t: t["mean"].abs()).nlargest(5, "size")
    for row in widest.itertuples():
        where = f"{row.dataset}, {row.missing_type}"
        print(f"  {word}: {row.better} above {row.worse} ({where}): {in_words(row)}, paper {row.margin:+.3f}")

# %% [markdown]
# The paper's main statements, one by one:


# %%
def check(statement, chosen):
    found = claims[chosen]["verdict"].value_counts()
    said = ", ".join(f"{v} {found.get(v, 0)}" for v in comparison.VERDICTS)
    print(f"{statement}: {said}." if chosen.any() else f"{statement}: no runs.")


prompts = claims["better"].isin([m for m, kind in families.items() if kind == "vlp"])
check("ANGA is above every other method", claims["better"] == "ANGA")
check("ANGA is above RAGPT, the second best", (claims["better"] == "ANGA") & (claims["worse"] == "RAGPT"))
check("RAGPT is above all but ANGA", claims["better"] == "RAGPT")
check("prompt methods are above ViLT", prompts & (claims["worse"] == "ViLT"))

# %% [markdown]
# ## 4. Is alignment worth something to other methods?
#
# **Claim:** the alignment fits into other methods as well; the paper says so and does not show it. We switch it on
# (`use_alignment: true`) and change nothing else. Differences are paired: with minus without. *Retrieval + GA* shows
# what it is worth in ANGA itself.

# %%
subset_names = ("all", "complete", "reconstructed")
gains = pd.concat([ours.additions(subset) for subset in subset_names], ignore_index=True)
gains["metric"] = gains["dataset"].map({name: METRIC_NAMES[ours.dataset(name).metric] for name, _ in ours.cells})
keep_table(gains, "alignment")


def switched_on(table, title):
    """The figure of "X + ..." minus X."""
    shown = table[~table["minus"].str.contains(" + ", regex=False)]
    shown = shown.assign(line=shown["method"] + ", " + shown["missing_type"].map(lacking))
    keep(sweeps.forest(shown, "line", "subset", "difference in\n{metric}"), shown, title)


def say(table):
    for row in table.query("subset == 'all'").itertuples():
        print(f"{row.dataset}, {row.missing_type}: {row.method} minus {row.minus}: {verdict(row)} ({in_words(row)})")


switched_on(gains, "alignment")

# %% [markdown]
# **What you should see:** right of zero, switching alignment on is a gain. Where there is a line "+ group means", only
# what "+ GA" gains beyond it is due to the cone; the rest is reweighting. A gain on complete samples that reconstructed
# ones pay for is a trade. What we saw, on all test samples:

# %%
n_pairs = " to ".join(str(n) for n in sorted({gains["runs"].min(), gains["runs"].max()}))
print(f"pairs of runs behind each: {n_pairs}; 95 % intervals over missing tables and test samples")
say(gains)

# %% [markdown]
# Alignment drops part of the gradient, which may make a model grow sure more slowly. So on multi-label tasks the same
# again, each run cut where its F1-micro is best on validation samples of the kind that is scored:

# %%
if at_half.results:
    own_gains = pd.concat([at_half.recut(subset).additions(subset) for subset in subset_names], ignore_index=True)
    own_gains["metric"] = METRIC_NAMES["f1_micro"]
    keep_table(own_gains, "alignment_own_cut")
    switched_on(own_gains, "alignment_own_cut")
    say(own_gains)

# %% [markdown]
# ## 5. Do more learnable parameters buy a better score?
#
# As in Fig. 7 of the paper: one task, one missing type. We count what learns in any stage (the backbone never does), on
# the built models. Teachers count, although they are not needed at test time.

# %%
dataset, missing_type = ours.cells[0]
data, backbone = ours.dataset(dataset), Backbone.from_name(ours.results[0].config.backbone)
price = table1.query("dataset == @dataset and missing_type == @missing_type").copy()
runs = [list(ours.at(dataset, missing_type, method).values()) for method in price["method"]]
price["parameters"] = [learnable_parameters(group[0].config, backbone, len(data.classes)) for group in runs]
price["seconds"] = [pd.Series([run.seconds for run in group]).median() for group in runs]
price["in every step"] = [runs_backbone(group[0].config) for group in runs]
keep_table(price, "costs")
note = f"{dataset}, {lacking[missing_type]}; {runs_note}\n95 % intervals over {over}"

# %%
metric = METRIC_NAMES[data.metric]
keep(comparison.costs(price, "parameters", "learnable parameters", metric, note), price, "parameters")

# %% [markdown]
# **What you should see:** if parameters bought scores, the markers on the right would wander to the right from top to
# bottom. What we saw (ρ over methods, drawn anew for its interval):

# %%
if len(price) > 2:
    rho, low, high = spearman_interval(price["parameters"], price["mean"])
    print(f"learnable parameters and score, {len(price)} methods: ρ = {rho:+.2f} [{low:+.2f}, {high:+.2f}]")
most, least = (price.loc[price["parameters"].pipe(pick)] for pick in (pd.Series.idxmax, pd.Series.idxmin))
print(f"most: {most['method']}, {most['parameters']:,} ({most['mean']:.3f});", end=" ")
print(f"fewest: {least['method']}, {least['parameters']:,} ({least['mean']:.3f}).")

# %% [markdown]
# ## 6. How long does each method train?
#
# Median seconds of a run, validation and test included. Methods that read the frozen outputs let the backbone run once
# over the data, for all their runs together; that is not counted. Runs shared the machine with others, so read orders
# of magnitude, not seconds.

# %%
device = ", ".join(sorted({result.provenance["device"] for result in ours.results}))
keep(comparison.costs(price, "seconds", "seconds of training", metric, f"{note}; device: {device}"), price, "seconds")

# %%
kinds = price.groupby("in every step")["seconds"].median()
if len(kinds) == 2:
    print(f"median run: {kinds[True]:.0f} s where the backbone runs in every step, {kinds[False]:.1f} s elsewhere:")
    print(f"that is {kinds[True] / kinds[False]:.0f} times as long.")
    scores = price.groupby("in every step")["mean"].max()
    print(f"best mean {metric}: {scores[True]:.3f} with the backbone in every step, {scores[False]:.3f} without.")

# %% [markdown]
# ## 7. Ranks over all tasks
#
# One rank per method and column of Table 1, averaged; here among all methods, in section 3 only among those of the
# paper. Friedman's test asks whether methods differ at all; Nemenyi's *critical difference* how far apart two average
# ranks must lie (95 %, all pairs together). Only methods with runs in all columns take part. Columns of one task are
# not independent, so both tests are somewhat too bold.

# %%
scores = table1.pivot(index=cell_axes, columns="method", values="mean")[ours.methods]
ranked = scores.dropna(axis=1)
left_out = [m for m in ours.methods if m not in ranked]
ranks = average_ranks(ranked)
difference = critical_difference(len(ranks), len(ranked))
keep_table(ranks.rename("average_rank").reset_index(), "ranks")
note = f"average ranks, 1 is best; columns of Table 1: {len(ranked)}; a bar joins methods that cannot be told apart"
figure = comparison.critical_differences(ranks, cliques(ranks, difference), difference, f"{note}\n{runs_note}")
keep(figure, ranks.rename("average_rank").reset_index(), "ranks")
print("not in all columns:", ", ".join(left_out) or "nobody")

# %% [markdown]
# **What you should see:** with few columns and many methods the critical difference is wide, and most methods hang
# under one bar. That is no proof that they are equal, only that so few columns cannot tell them apart.

# %%
test = friedmanchisquare(*ranked.to_numpy().T)
print(f"Friedman: {len(ranks)} methods, columns: {len(ranked)}; statistic {test.statistic:.1f}, p = {test.pvalue:.2g}")
if test.pvalue >= 0.05:
    print("Friedman's test does not reject: no two methods may be told apart by their ranks, whatever follows.")
control = next((m for m in ("ANGA", "Retrieval + GA") if m in ranks.index), ranks.index[0])
tested = against(ranks, control, len(ranked))
keep_table(tested, "ranks_against_control")
for side, word in ((1, "behind"), (-1, "ahead of")):
    names = tested[(tested["p_holm"] < 0.05) & (tested["difference"] * side > 0)]["method"]
    print(f"clearly {word} {control} (Holm, 95 %): {', '.join(names) or 'nobody'}")

# %% [markdown]
# ## Summary
#
# - On equal terms, a winner is rarely a single method: section 2 prints, column by column, who cannot be told from the
#   leader.
# - A metric with a threshold also ranks methods by how sure they are. Section 2 tells the two apart.
# - A published table of single numbers is a set of claims about orders. Section 3 prints how many of them our intervals
#   confirm, contradict or leave open; levels cannot be compared across data sets.
# - Alignment can be switched on for any method. Section 4 says whether it pays, and whether the cone or the weights do.
# - Learnable parameters and training time are different costs: prompts are few, but the backbone must run in every step
#   for them.
# - Many methods and few tasks make a wide critical difference: to separate methods, add data sets, not methods.

# %% [markdown]
# ## Exercises
#
# 1. Mark the best of each column as the paper does: the highest mean, whatever the intervals. How often would a mark
#    move to another method if you had only the runs of `mask_seed: 0`?
# 2. `MAPs` has two forms. Copy the grid file, add a row `MAPs, attention: {method: maps, method_options: {form:
#    attention}}` and compare the two, paired.
# 3. Add "+ group means" rows for two more methods (`plain_update: group_means`). For which is the gain of "+ GA" due to
#    the cone?
# 4. Give one method an advantage that is easily overlooked in published comparisons, say twice the epochs. How many
#    places does it gain in section 7?
# 5. How many columns would the critical difference of section 7 need to fall below two ranks? What does adding ten more
#    methods do to it?

# %% [markdown]
# ## Provenance

# %%
run = ours.results[0]
facts = {"params": study.place, "runs": len(ours.results)}
facts["commits of the runs"] = ", ".join(sorted({result.provenance["commit"] for result in ours.results}))
facts |= {name: sorted(ours.table[name].unique().tolist()) for name in ("mask_seed", "train_seed")}
pd.Series({**facts, **provenance(run.config, ours.dataset(dataset).content_hash)}, name="value").to_frame()
