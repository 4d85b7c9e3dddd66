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
# # 01 · What is in the data, and what is lost when a modality is missing?
#
# A *sample* is a picture, a text and a label. In this study most samples lose their text or their picture. Before we
# try to get back what is lost, we look at what there is.
#
# - **Needs:** one parameter file (below). The data are part of the package; nothing is downloaded.
# - **Leaves behind:** figures (PNG, SVG and the CSV behind each) under `outputs/figures/`.
# - **Run time:** about 10 seconds on two CPU cores. A GPU does not make it faster.
# - **Next:** `02_retrieval` fetches stand-ins for what is lost.

# %% [markdown]
# ## Parameters
#
# `params` names a file of knobs, one `key: value` per line. It says which task we look at.

# %% tags=["parameters"]
params = "../params/quick/clipart-pairs.yaml"
outputs = "../outputs"

# %% [markdown]
# ## Imports

# %%
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer

from anga import plots
from anga.datasets import SPLITS, load_dataset
from anga.datasets.__main__ import main as datasets_command
from anga.datasets.clipart import sources
from anga.diagnosis import probe_scores
from anga.evaluation import METRIC_NAMES
from anga.inputs import draw_table, load_config_dataset
from anga.missing import MISSING_TYPES
from anga.parameters import Params
from anga.plots.pictures import Tile, contact_sheet, sample_tile
from anga.plots.sliders import explore
from anga.products import Products
from anga.runs import provenance

plots.set_style()

# %% [markdown]
# From the parameter file we make a `Config`: every knob of a run in one object. `keep` saves each figure together with
# the table that it was drawn from.

# %%
study_params = Params.from_yaml(params)
config = study_params.config
keep = Products(outputs, study_params.place, "01_data").figure

# %% [markdown]
# ## 1. What is in the data?
#
# `clipart` holds drawings that people gave to the Open Clip Art collection and placed in the public domain. The text is
# what they typed beside their drawing: a title, often a description. Nobody checked it. Three tasks are made from the
# same drawings:
#
# | task | question | answer | metric |
# |---|---|---|---|
# | `clipart-pairs` | does the text belong to the picture? | yes or no (binary) | AUROC |
# | `clipart-keywords` | which keywords did the author give? | several of many (multi-label) | F1-micro |
# | `clipart-folders` | into which folder was it filed? | one of many (multi-class) | accuracy |
#
# The table says which of them we are looking at now, and how large its splits are.

# %%
dataset = load_config_dataset(config)
train, test = dataset.rows("train"), dataset.rows("test")
print(f"{dataset.name}: {dataset.task}, measured by {METRIC_NAMES[dataset.metric]}")
dataset.describe()

# %% [markdown]
# The file that holds the drawings also knows each one's own text, author and group. We read it beside the data set,
# because one of the tasks (`clipart-pairs`) exchanges texts on purpose. Until section 4 we look at the own texts. (Of
# other data sets less is known; then every sample counts as a group of its own.)

# %%
source = sources(dataset)
own = source["text"]
source[["id", "text", "creator", "folder"]].sample(5, random_state=config.mask_seed)

# %% [markdown]
# Twelve training samples, drawn at random. Under each picture stands its own text.

# %%
generator = np.random.default_rng(config.mask_seed)
rows = generator.choice(train, 12, replace=False)
tiles = [Tile(dataset.image(row), own[row]) for row in rows]
keep(contact_sheet(tiles), source.loc[rows, ["id", "text"]], "samples")

# %% [markdown]
# **What you should see:** clean drawings on a plain ground, and short texts. Some texts name what is drawn. Others name
# an author or a series, are written in another language, or say almost nothing.

# %% [markdown]
# ## 2. How noisy are the texts?
#
# We count words, and we count how many samples share their text with another sample.

# %%
words = pd.DataFrame({"id": dataset.ids, "words": own.str.split().str.len()})
repeated = own.duplicated(keep=False).mean()
keep(plots.data.text_lengths(words), words, "text_lengths")
print(f"One word: {(words['words'] == 1).mean():.0%} of the texts. Median: {words['words'].median():.0f} words.")
print(f"Text shared with another sample: {repeated:.0%}.")

# %% [markdown]
# **What you should see:** most texts are shorter than a sentence, and the line above says how many have one word only.
# A text that many drawings share cannot tell them apart. The next pictures show the ends of the scale: two samples with
# the most frequent text, two with the shortest texts, two with the longest.

# %%
frequent = own.index[own == own.value_counts().index[0]]
by_length = own.str.len().sort_values(kind="stable").index
rows = [frequent[0], frequent[-1], *by_length[:2], *by_length[-2:]]
headings = ["most frequent"] * 2 + ["shortest"] * 2 + ["longest"] * 2
tiles = [Tile(dataset.image(row), own[row], heading) for row, heading in zip(rows, headings, strict=True)]
keep(contact_sheet(tiles, lines=5), source.loc[rows, ["id", "text"]].assign(why=headings), "noisy_texts")
print(f"The most frequent text, {own[rows[0]]!r}, stands beside {len(frequent)} drawings.")

# %% [markdown]
# ## 3. How are the samples split?
#
# Artists draw in series: one card after another, one flag in ten sizes. If one card is in the training split and its
# twin in the test split, a model can pass the test by remembering. So near-duplicates form a *group* (same series, same
# author and stem, nearly the same picture), and a group is never divided. These drawings are one group.

# %%
group = source["group"].to_numpy()
sizes = pd.Series(group[train]).value_counts()
siblings = train[group[train] == sizes.index[0]]
rows = siblings[np.linspace(0, len(siblings) - 1, min(6, len(siblings))).astype(int)]
tiles = [Tile(dataset.image(row), own[row]) for row in rows]
keep(contact_sheet(tiles, lines=2), source.loc[rows, ["id", "group"]], "one_group")
print(f"The largest group has {sizes.iloc[0]} drawings; {(sizes == 1).sum()} groups have only one.")

# %% [markdown]
# The claim "no group is divided" can be checked. We also count what would happen without groups: in a split drawn
# sample by sample, how many test samples would have a sibling in training?

# %%
assert pd.Series(dataset.split).groupby(group).nunique().max() == 1, "a group is divided between splits"
shuffled = generator.permutation(dataset.split)
leaked = np.isin(group[shuffled == "test"], group[shuffled == "train"]).mean()
print("No group is divided between splits.")
print(f"Without groups, {leaked:.0%} of the test samples would have a sibling in the training split.")

# %% [markdown]
# ## 4. What is the label?
#
# We count training samples per class: the commonest classes first, then the rarest.

# %%
labels = dataset.labels[train]
per_class = labels.sum(0) if labels.ndim == 2 else np.bincount(labels, minlength=len(dataset.classes))
counts = pd.DataFrame({"class": dataset.classes, "samples": per_class.astype(int)})
counts = counts.sort_values("samples", ascending=False, kind="stable", ignore_index=True)
keep(plots.data.class_counts(counts), counts, "class_counts")
first, last = counts.iloc[0], counts.iloc[-1]
print(f"Commonest: {first['class']} ({first['samples']}). Rarest: {last['class']} ({last['samples']}).")

# %% [markdown]
# **What you should see:** in `clipart-pairs` two equal bars, by construction; in the other two tasks a few common
# classes and many rare ones. Now the labels beside their samples.
#
# In `clipart-pairs` the label is *constructed*. Within a split and a top folder, half of the samples keep their own
# text (label `belongs`). The others pass their texts round among themselves (label `swapped`). So a swapped text is a
# real text about a drawing of the same kind, and it occurs exactly as often as before.

# %%
order = generator.permutation(train)
is_pairs = dataset.name == "clipart-pairs"
rows = np.concatenate([order[dataset.labels[order] == c][:3] for c in (1, 0)]) if is_pairs else order[:6]


def labelled_tile(row):
    label = dataset.labels[row]
    names = [dataset.classes[c] for c in (np.flatnonzero(label) if label.ndim else [label])]
    swapped = is_pairs and label == 0
    text = f"{dataset.texts[row]} (its own text: {own[row]})" if swapped else dataset.texts[row]
    return Tile(dataset.image(row), text, ", ".join(names))


tiles = [labelled_tile(row) for row in rows]
sheet = pd.DataFrame({"id": dataset.ids[rows], "text": [t.text for t in tiles], "label": [t.heading for t in tiles]})
keep(contact_sheet(tiles, lines=5, heading_lines=2), sheet, "labels")

# %% [markdown]
# For `clipart-pairs` we check the construction: half of the labels are 1 in every split, and swapping has moved texts
# without adding or losing one.

# %%
if is_pairs:
    for name in SPLITS:
        assert dataset.labels[dataset.rows(name)].mean() == 0.5, f"{name}: labels are not balanced"
    if config.unimodal_cue == 0:
        assert sorted(dataset.texts) == sorted(own), "swapping has changed the texts themselves"
    print("Labels are balanced in every split, and the texts are the same texts, moved.")
else:
    print(f"{dataset.name} has labels that people gave; nothing was constructed.")

# %% [markdown]
# ## 5. Does one modality suffice?
#
# If one modality were enough, losing the other would cost nothing. We ask a very simple model: a linear (ridge)
# classifier on features made by hand. For a text: how often each three-letter piece occurs (hashed into 1,024 boxes).
# For a picture: its 8 x 8 thumbnail. The dashed line is the answer that knows nothing: the commonest class for all.

# %%
pieces = HashingVectorizer(n_features=1024, analyzer="char_wb", ngram_range=(3, 3), alternate_sign=False)
text_features = pieces.transform(dataset.texts).toarray()
image_features = np.stack([np.asarray(dataset.image(i).resize((8, 8))).ravel() / 255 for i in range(len(dataset))])
features = {"text": text_features, "image": image_features, "both": np.hstack([text_features, image_features])}

# %% [markdown]
# The classifier is trained on the training split; its penalty is chosen on the validation split.

# %%
scores = probe_scores(dataset, features)
keep(plots.data.probe_scores(scores, METRIC_NAMES[dataset.metric]), scores, "one_modality")
for row in scores.itertuples():
    print(f"{row.features}: {row.score:.3f} [{row.low:.3f}, {row.high:.3f}]")

# %% [markdown]
# **What you should see:** in `clipart-pairs` all intervals lie around chance (0.5): neither the text nor the picture
# knows whether the other belongs to it, and a *linear* model cannot compare the two, so "both" fails as well. (An
# interval may miss 0.5 by luck: one in twenty does.) Here both modalities are needed. In `clipart-keywords` and
# `clipart-folders` the text alone knows a good part of the answer. The thumbnail knows little, for 72 folders nothing;
# but that may be the thumbnail's fault, not the picture's. `02_retrieval` repeats the test with CLIP's features. What
# one modality knows decides later how much the loss of the other one hurts.

# %% [markdown]
# ## 6. What is a missing table?
#
# A *missing table* says for every sample what is left: `has_text` and `has_image`. With `missing_rate` δ and n samples
# in a split, exactly round(n·δ) samples lose one modality. `missing_type` says which: `text`, `image`, or `both` (one
# half of them loses the text, the other half the image). No sample loses everything. We draw one table per type.

# %%
tables = {kind: draw_table(config.with_(missing_type=kind), dataset) for kind in MISSING_TYPES}
rows = np.sort(generator.choice(train, min(60, len(train)), replace=False))
strips = pd.concat(
    pd.DataFrame({"missing_type": k, "row": rows, "has_text": t.has_text[rows], "has_image": t.has_image[rows]})
    for k, t in tables.items()
)
keep(plots.data.missing_strips(tables, rows), strips, "missing_tables")

# %% [markdown]
# **What you should see:** at most one white box per column. A column without a white box is a *complete* sample. The
# counts are exact in every split, not only on average; the next cell counts and checks them.

# %%
counted = []
for kind, table in tables.items():
    for name in SPLITS:
        part = dataset.rows(name)
        lost = {"text lost": (~table.has_text[part]).sum(), "image lost": (~table.has_image[part]).sum()}
        complete = table.complete[part].sum()
        counted.append({"missing_type": kind, "split": name, "samples": len(part), "complete": complete, **lost})
counted = pd.DataFrame(counted)
rate = counted["split"].map(lambda s: config.test_missing_rate if s == "test" else None).astype(float)
expected = (counted["samples"] * rate.fillna(config.missing_rate)).round()
assert (counted["text lost"] + counted["image lost"] == expected).all(), "the counts are not exact"
counted

# %% [markdown]
# **Try it.** In JupyterLab the next cell has two sliders; where nobody can move them (an executed or a printed
# notebook) it shows the file's own rate and seed. Columns are the same samples all the time. What does the rate decide,
# and what the seed?


# %%
def strips_at(missing_rate, mask_seed):
    knobs = {"missing_rate": missing_rate, "mask_seed": mask_seed, "test_missing_rate": None}
    drawn = {kind: draw_table(config.with_(missing_type=kind, **knobs), dataset) for kind in MISSING_TYPES}
    left = ", ".join(f"{kind} {table.complete[train].sum()}" for kind, table in drawn.items())
    print(f"Complete samples out of {len(train)} for training, by missing_type: {left}.")
    return plots.data.missing_strips(drawn, rows)


explore(strips_at, missing_rate=(config.missing_rate, 0.0, 1.0, 0.05), mask_seed=(config.mask_seed, 0, 20, 1))

# %% [markdown]
# **What you should see:** the rate decides how many columns stay whole, the seed only which ones. At equal rates all
# three types leave the same *number* of complete samples, but not the same samples: each type is a draw of its own.

# %% [markdown]
# ## 7. What is lost?
#
# The same six samples twice: above as they are, below as a model gets to see them. What is lost is not shown there. We
# use `missing_type: both` here, whatever the parameter file says, so that both kinds of loss appear.

# %%
table = tables["both"]
states = [table.complete, ~table.has_text, ~table.has_image]
rows = np.concatenate([order[state[order]][:2] for state in states])
headings = ["complete"] * 2 + ["text lost"] * 2 + ["image lost"] * 2
before = [sample_tile(dataset, row) for row in rows]
after = [sample_tile(dataset, row, heading, table, hidden=True) for row, heading in zip(rows, headings, strict=True)]
sheet = pd.DataFrame({"id": dataset.ids[rows], "text": dataset.texts[rows], "state": headings})
keep(contact_sheet([*before, *after]), sheet, "before_and_after")

# %% [markdown]
# **What you should see:** cover the upper row and try to name what is lost, then look. A lost text can often be guessed
# from its picture, though not word by word. A lost picture can be guessed from its text in kind, hardly in look. (In
# `clipart-pairs` this goes for pairs that belong together; a swapped partner cannot be guessed.)

# %% [markdown]
# ## 8. How much do rate and seed change?
#
# Overall counts are exact, but *which* samples stay complete is chance. A class with few samples may lose all of its
# complete ones. We draw tables at ten rates with ten seeds each and count complete training samples of three classes:
# the commonest, the middle one and the rarest.

# %%
column = {name: i for i, name in enumerate(dataset.classes)}
ranks = {0: "commonest", len(counts) // 2: "middle", len(counts) - 1: "rarest"}
member = labels if labels.ndim == 2 else np.eye(len(dataset.classes))[labels]
draws = []
for rate in np.arange(0, 1, 0.1).round(1):
    for seed in range(10):
        drawn = draw_table(config.with_(missing_rate=float(rate), mask_seed=seed), dataset)
        left = member[drawn.complete[train]].sum(0)
        for place, rank in ranks.items():
            samples = int(left[column[counts["class"][place]]])
            draws.append({"missing_rate": rate, "seed": seed, "rank": rank, "samples": samples})
draws = pd.DataFrame(draws)
keep(plots.data.complete_per_class(draws), draws, "rates_and_seeds")

# %% [markdown]
# **What you should see:** lines fall with the rate; bands (lowest to highest of ten seeds) are wide where samples are
# few. (`clipart-pairs` has two large classes and hence narrow bands.) The numbers at δ = 0.7, the paper's setting:

# %%
at = draws[np.isclose(draws["missing_rate"], 0.7)].groupby("rank", sort=False)["samples"]
at.agg(["min", "median", "max"])

# %% [markdown]
# Seeds matter for another reason: methods can only be compared on the *same* table. The table depends on the data set,
# the split, the type, the rate and the seed, and on nothing else. Three checks: the same seed gives the same table;
# another seed gives another one; changing the test rate leaves training untouched.

# %%
again, other = (draw_table(config.with_(mask_seed=seed), dataset) for seed in (config.mask_seed, config.mask_seed + 1))
severe = draw_table(config.with_(test_missing_rate=0.9), dataset)
mine = draw_table(config, dataset)
assert (again.has_text == mine.has_text).all() and (again.has_image == mine.has_image).all()
assert (severe.complete[train] == mine.complete[train]).all(), "the test rate has changed the training table"
shared = other.complete[train][mine.complete[train]].mean()
assert config.missing_rate in (0, 1) or shared < 1, "another seed has given the same table"
print(f"Complete under this seed and under the next one as well: {shared:.0%} (chance: {1 - config.missing_rate:.0%}).")

# %% [markdown]
# ## 9. Your own data
#
# A folder with pictures and one table (CSV, JSONL or Parquet) is a data set: it loads by the name `table`, without
# code. We make one in a temporary folder: eight samples of each split, and a new question, "bright or dark?"

# %%
place = tempfile.TemporaryDirectory()
root = Path(place.name) / "my-pictures"
root.mkdir()
lines = []
for split in SPLITS:
    rows = generator.choice(dataset.rows(split), 8, replace=False)
    brightness = np.array([np.asarray(dataset.image(row).convert("L")).mean() for row in rows])
    for row, label in zip(rows, np.where(brightness > np.median(brightness), "bright", "dark"), strict=True):
        line = {"id": len(lines), "text": dataset.texts[row], "image": f"{len(lines)}.png", "label": label}
        dataset.image(row).save(root / line["image"])
        lines.append({**line, "split": split})
pd.DataFrame(lines).to_csv(root / "table.csv", index=False)
pd.DataFrame(lines).groupby("split", sort=False).head(2)

# %% [markdown]
# The report says how many rows were found and skipped; the table of section 1 now describes our own data. One class
# per sample in a column `label` makes a binary task (two classes) or a multi-class one; several classes in a column
# `labels`, written `bird|sky`, make a multi-label one.

# %%
my_data = load_dataset("table", root)
assert len(my_data) == len(lines) and my_data.task == "binary"
print(my_data.report, end="\n\n")
print(f"{my_data.task}: {', '.join(my_data.classes)}")
my_data.describe()

# %% [markdown]
# What if something is wrong? We add a row whose picture does not exist, and call the check. In a terminal it is
# `python -m anga.datasets check table my-pictures`.

# %%
with open(root / "table.csv", "a") as file:
    file.write("24,a picture that was never drawn,24.png,dark,train\n")
status = datasets_command(["check", "table", str(root)])
assert status == 0, "the other rows can still be trained on"

# %% [markdown]
# **What you should see:** one row skipped, with the reason and the name of the picture; the others load as before. Such
# a row is never trained on in silence. To train on the folder, write `dataset: table` and `root: my-pictures` into a
# parameter file: every notebook and command takes it from there.

# %% [markdown]
# ## Summary
#
# - The samples are real drawings with short, unchecked texts; many texts are one word, and many are shared.
# - Near-duplicates form groups, and no group is divided between splits.
# - `clipart-pairs` needs both modalities by construction. In the other tasks one modality knows part of the answer.
# - A missing table takes exactly round(n·δ) modalities per split, is drawn from a seed, and is the same for every
#   method.
# - Own data are a folder with a table; what does not load is counted and named.
# - At δ = 0.7 rare classes keep few complete samples, and how many depends on the seed. So a result from one seed is
#   not enough.

# %% [markdown]
# ## Exercises
#
# 1. Set `params` to `../params/quick/clipart-keywords.yaml` and run the notebook again. Which class has the fewest
#    complete samples at δ = 0.7?
# 2. Copy a parameter file, set `missing_rate: 0.9`, and run again. How many complete training samples are left?
# 3. For `clipart-pairs`, set `unimodal_cue: 0.3` in your copy. What happens to the bars of section 5, and why only to
#    some?
# 4. In section 8 we count complete samples. What would the same curve look like for samples that have *at least* their
#    image, with `missing_type: text`?
# 5. Look at ten swapped pairs in section 4 (change 3 to 10). How many could you tell from true pairs yourself?

# %% [markdown]
# ## Provenance

# %%
facts = {"params": study_params.path.name, "mask_seed": config.mask_seed, "samples": len(dataset)}
pd.Series({**facts, **provenance(config, dataset.content_hash)}).map(lambda fact: str(fact)[:24]).to_frame("value")
