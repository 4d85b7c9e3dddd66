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
# # Solutions: 02 · Who can stand in for what is lost, and how well?
#
# Run it as a script in this folder (`python 02_retrieval.py`), or open it in JupyterLab as a notebook. Every answer is
# printed by code from the data. About half a minute on one CPU core once `02_retrieval` has run; a minute or two more
# before, since then every drawing is encoded here.

# %% tags=["parameters"]
params = "../../params/quick/clipart-pairs.yaml"
outputs = "../../outputs"

# %%
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from anga import diagnosis as dg
from anga.encoders import embed_dataset
from anga.inputs import prepare, retrieve
from anga.statistics import mean_interval
from anga.study import Params

study_params = Params.from_yaml(params)
config = study_params.config.with_(missing_type="both", use_retrieval=True, memory_bank="observed")
pairs = config.with_(dataset="clipart-pairs")
inputs = prepare(pairs, outputs)
cache = Path(outputs) / "cache"


def mean_errors(made_from):
    errors = dg.reconstruction_errors(made_from, "test", seed=pairs.mask_seed)
    return errors.pivot_table(index="source", columns="modality", values="error").loc[list(dg.SOURCES)]


def other_neighbours(**knobs):
    """The same data and missing table, other neighbours."""
    return replace(inputs, neighbours=retrieve(pairs.with_(**knobs), inputs.dataset, inputs.table, cache))


errors = mean_errors(inputs)

# %% [markdown]
# ## 1. Is the lost picture easier to get back in `clipart-keywords`?
#
# A lost picture is looked for by the text. In `clipart-pairs` half of the texts belong to another drawing, so half of
# the queries ask for the wrong thing. In `clipart-keywords` every text is the drawing's own. The two tasks differ in
# their samples too, so we read the errors beside those of random donors, and ask CLIP how alike the borrowed pictures
# are.


# %%
def alike(task, made_from):
    """Mean CLIP cosine of the lost pictures with the borrowed ones, and with random donors'."""
    _, pictures = embed_dataset(made_from.dataset, task.clip, cache)
    rows = dg.lost_rows(made_from.table, made_from.dataset.rows("test"), "image")
    drawn = dg.draw_donors(rows, dg.donor_rows(made_from), task.top_k, task.mask_seed)
    choices = made_from.neighbours.image[rows], drawn
    return [(pictures[rows][:, None] * pictures[ids]).sum(-1).mean() for ids in choices]


keywords = config.with_(dataset="clipart-keywords", unimodal_cue=0.0)
keyword_inputs = prepare(keywords, outputs)
for task, made_from in ((pairs, inputs), (keywords, keyword_inputs)):
    lost = mean_errors(made_from)["image"]
    gain = (lost["random donors"] - lost["retrieved"]) / (lost["random donors"] - lost["nearest by the truth"])
    borrowed, drawn = alike(task, made_from)
    print(f"{task.dataset}: error of retrieved pictures {lost['retrieved']:.3f}, random {lost['random donors']:.3f};")
    print(f"  {gain:.0%} of the way from random to the best; CLIP cosine {borrowed:.2f}, random donors {drawn:.2f}.")

# %% [markdown]
# What you should see: more of the way, and a larger step in CLIP's cosine, for `clipart-keywords`. In tokens the step
# stays small in both tasks: what is easier to get back is the *kind* of picture.

# %% [markdown]
# ## 2. `top_k: 1`
#
# A list of neighbours is sorted, so with K = 1 each sample keeps the first entry of its list. (Unless several are
# equally near: drawings given twice, texts of one wording. Then another of these may come first.)

# %%
one = other_neighbours(top_k=1)
for modality in ("text", "image"):
    ours, first = (getattr(n, f"{modality}_similarity")[:, 0] for n in (one.neighbours, inputs.neighbours))
    assert np.allclose(ours, first, atol=1e-5), "the nearest neighbour is not the nearest"
    same = getattr(one.neighbours, modality)[:, 0] == getattr(inputs.neighbours, modality)[:, 0]
    print(f"{modality}: the first neighbour is the same for {same.mean():.0%} of all samples, its cosine for all.")
compared = pd.concat({f"K = {pairs.top_k}": errors, "K = 1": mean_errors(one)}, axis=1)
print(compared.round(3))

# %%
unchanged = compared.index[np.isclose(compared[f"K = {pairs.top_k}"], compared["K = 1"]).all(axis=1)]
print(f"The same under both: {', '.join(unchanged)}. With K = 1 'random donors' is 'one random donor' by definition.")

# %% [markdown]
# What changes is all that is made of the K neighbours: the sheets of queries and neighbours (one column is left), the
# errors, the token maps, and the comparison of the two banks. What stays: the cosines and the probes (sections 1 and 2
# know no neighbours), the rules of section 4, and the curves of section 8, which vary K themselves. A stand-in made
# from one neighbour is a true text or picture, and yet further from the lost one than an average is.

# %% [markdown]
# ## 3. `missing_rate: 0.9`
#
# Only complete training samples can lend to a sample that lacks something. With 0.9 a tenth is left of them.

# %%
scarce = prepare(pairs.with_(missing_rate=0.9), outputs)
scarce_errors = mean_errors(scarce)
print(f"Donors: {len(dg.donor_rows(inputs))} at δ = {pairs.missing_rate}, {len(dg.donor_rows(scarce))} at δ = 0.9.")
for modality in ("text", "image"):
    best, scarcer = (table.loc["nearest by the truth", modality] for table in (errors, scarce_errors))
    print(f"Lost {modality}, nearest by the truth: {best:.3f}, at δ = 0.9 {scarcer:.3f}.")
    print(f"  retrieved: {errors.loc['retrieved', modality]:.3f}, then {scarce_errors.loc['retrieved', modality]:.3f}.")

# %% [markdown]
# Who may choose among fewer donors finds none that is as near: the best possible stand-in gets worse. Retrieval, which
# did not find the nearest ones before, has less to lose. (At another rate other test samples are incomplete, too; their
# truth sets the scale of the error.)

# %% [markdown]
# ## 4. One minus the cosine instead of the distance
#
# Does an average still profit from being an average? A distance rewards caution: an average is shorter, and a short
# vector is never far wrong. The cosine does not see length. But it sees the *mean*: pooled tokens have a large part in
# common, so that everything is alike. So we ask twice, also with the bank's mean subtracted.


# %%
def angles(modality, centred):
    test = inputs.dataset.rows("test")
    rows, donors = dg.lost_rows(inputs.table, test, modality), dg.donor_rows(inputs)
    mean = dg.pooled_tokens(inputs.bank, modality, donors).mean(0)
    true = dg.pooled_tokens(inputs.bank, modality, rows)
    several = dg.draw_donors(rows, donors, pairs.top_k, pairs.mask_seed)
    picks = {"retrieved": getattr(inputs.neighbours, modality)[rows], "random donors": several}
    picks["one random donor"] = several[:, :1]
    made = {name: dg.pooled_reconstruction(inputs.bank, modality, ids) for name, ids in picks.items()}
    if not centred:
        return {name: one_minus_cosine(m, true) for name, m in {**made, "bank mean": mean[None]}.items()}
    return {name: one_minus_cosine(m - mean, true - mean) for name, m in made.items()}


def one_minus_cosine(a, b):
    return float((1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())


table = pd.DataFrame({(m, f"centred: {c}"): angles(m, c) for m in ("text", "image") for c in (False, True)})
print(table.round(3))

# %%
for column, values in table.items():
    several, single = values["random donors"], values["one random donor"]
    verdict = "still profits" if several < single - 0.005 else "gains nothing"
    print(f"{', '.join(column)}: an average of random donors {verdict} ({single:.3f} for one, {several:.3f} averaged).")

# %% [markdown]
# With the raw cosine an average comes closer, since it is nearer to the common part. With the common part taken away,
# random donors know nothing, one or many: 1 is a right angle. (Above or below 1 by a little: test and training samples
# differ, and texts of several texts are longer.) What "retrieved" keeps there is knowledge, not caution.

# %% [markdown]
# ## 5. Why can a picture not tell which text was lost if that text was swapped?
#
# A swapped text was given to the drawing by lot, among drawings of the same top folder. Given the folder, picture and
# text have nothing to do with one another, so the picture holds no information about *this* text, and no function of
# the picture does: neither a larger encoder nor a larger bank can help. A better retriever cannot either. It may return
# texts that fit the picture better, but it chooses them by the picture alone, so they would be the same under either
# label. We compare borrowed texts with lost own and lost swapped ones.

# %%
texts, _ = embed_dataset(inputs.dataset, pairs.clip, cache)
rows = dg.lost_rows(inputs.table, inputs.dataset.rows("test"), "text")
swapped = inputs.dataset.labels[rows] == 0
drawn = dg.draw_donors(rows, dg.donor_rows(inputs), pairs.top_k, pairs.mask_seed)
banks = {"observed": inputs.neighbours, "full": other_neighbours(memory_bank="full").neighbours}
for name, ids in {**{bank: found.text[rows] for bank, found in banks.items()}, "random": drawn}.items():
    alike_texts = (texts[rows][:, None] * texts[ids]).sum(-1).mean(1)
    for kind, part in (("own", ~swapped), ("swapped", swapped)):
        mean, low, high = mean_interval(alike_texts[part])
        print(f"{name:8} donors, lost {kind:7} texts: CLIP cosine {mean:.3f} [{low:.3f}, {high:.3f}]")

# %% [markdown]
# What you should see: borrowed texts are like lost *own* texts, and clearly less like swapped ones. What is left for
# swapped texts over random donors is the top folder, which picture and swapped text share. A full bank, several times
# as large, does not change that. The difference does not give the label away: to see it one needs the lost text.
