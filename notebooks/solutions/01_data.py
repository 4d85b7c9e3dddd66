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
# # Solutions: 01 · What is in the data, and what is lost when a modality is missing?
#
# Run it as a script in this folder (`python 01_data.py`), or open it in JupyterLab as a notebook. Every answer is
# printed by code from the data: change a number and see what becomes of it. About 15 seconds on one CPU core.

# %% tags=["parameters"]
params = "../../params/quick/clipart-pairs.yaml"
outputs = "../../outputs"

# %%
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.metrics import roc_auc_score

from anga import plots
from anga.diagnosis import probe_scores
from anga.encoders import ClipEncoder
from anga.inputs import draw_table, load_config_dataset
from anga.missing import MISSING_TYPES
from anga.plots.pictures import Tile, contact_sheet
from anga.study import Params

study_params = Params.from_yaml(params)
config = study_params.config
pairs = config.with_(dataset="clipart-pairs", unimodal_cue=0.0)
dataset = load_config_dataset(pairs)
train = dataset.rows("train")

# %% [markdown]
# ## 1. Which class keeps the fewest complete samples?
#
# We draw the missing table of `clipart-keywords` at δ = 0.7 and count complete training samples class by class. The
# class that is rarest altogether need not be the one that keeps fewest: chance has its say. So we ask ten seeds.

# %%
keywords = config.with_(dataset="clipart-keywords", unimodal_cue=0.0, missing_rate=0.7)
words = load_config_dataset(keywords)
labels = words.labels[words.rows("train")]
counts = pd.DataFrame(index=list(words.classes))
for seed in range(10):
    complete = draw_table(keywords.with_(mask_seed=seed), words).complete[words.rows("train")]
    counts[seed] = labels[complete].sum(0).astype(int)

# %%
fewest = {seed: counts.index[counts[seed] == counts[seed].min()].tolist() for seed in counts}
print(f"Rarest class altogether: {words.classes[labels.sum(0).argmin()]} ({labels.sum(0).min():.0f} training samples).")
print(f"Fewest complete ones under seed {config.mask_seed % 10}: {fewest[config.mask_seed % 10]}.")
for seed, names in fewest.items():
    print(f"  seed {seed}: {counts[seed].min()} complete samples of {', '.join(names)}")
print(f"Over ten seeds the name changes: {len({name for names in fewest.values() for name in names})} classes appear.")

# %% [markdown]
# ## 2. How many complete training samples are left at δ = 0.9?
#
# Exactly n - round(0.9 n), whatever the type and the seed.

# %%
for kind in MISSING_TYPES:
    left = draw_table(pairs.with_(missing_rate=0.9, missing_type=kind), dataset).complete[train].sum()
    assert left == len(train) - round(0.9 * len(train))
    print(f"missing_type {kind}: {left} of {len(train)} training samples stay complete.")

# %% [markdown]
# ## 3. What does `unimodal_cue: 0.3` change in section 5?
#
# With a cue of c, each text begins with one of two words, and the word agrees with the label with probability
# (1 + c) / 2. Who reads only this word is right in 65 % of all cases at c = 0.3, which is also its AUROC (two equally
# large classes, a yes-or-no answer). We repeat section 5 with and without the cue.

# %%
pieces = HashingVectorizer(n_features=1024, analyzer="char_wb", ngram_range=(3, 3), alternate_sign=False)


def features_of(samples):
    text = pieces.transform(samples.texts).toarray()
    image = np.stack([np.asarray(samples.image(i).resize((8, 8))).ravel() / 255 for i in range(len(samples))])
    return {"text": text, "image": image, "both": np.hstack([text, image])}


cues = {c: load_config_dataset(pairs.with_(unimodal_cue=c)) for c in (0.0, 0.3)}
scores = pd.concat(probe_scores(samples, features_of(samples)).assign(cue=c) for c, samples in cues.items())

# %%
wide = scores.pivot(index="features", columns="cue", values="score").loc[["text", "image", "both"]]
print(wide.round(3))
assert wide.loc["image", 0.0] == wide.loc["image", 0.3], "the cue has changed the pictures"
assert (wide.loc[["text", "both"], 0.3] > wide.loc[["text", "both"], 0.0]).all()
cued, test = cues[0.3], cues[0.3].rows("test")
first_word = [text.split(":")[0] for text in cued.texts[test]]
one_word = pd.Series(first_word).eq(first_word[int(np.argmax(cued.labels[test] == 1))])
reader = roc_auc_score(cued.labels[test], one_word)
print(f"The first word alone, read without fault: {max(reader, 1 - reader):.3f} (0.65 expected, give or take chance).")

# %% [markdown]
# "Text" and "both" rise, since the word stands in the text; the picture is the same picture as before, so "image" stays
# exactly where it was. A linear classifier that finds the two words among its 1,024 boxes comes near the faultless
# reader; it may even pass it, by the little that text alone seems to know without a cue.

# %% [markdown]
# ## 4. Samples that have *at least* their image, with `missing_type: text`
#
# A flat line: with this type nobody loses an image, whatever the rate. What falls is the count of complete samples.

# %%
for rate in (0.0, 0.3, 0.7, 0.9):
    drawn = draw_table(pairs.with_(missing_rate=rate, missing_type="text"), dataset)
    assert drawn.has_image.all()
    print(f"δ = {rate}: {drawn.has_image[train].sum()} have their image, {drawn.complete[train].sum()} are complete.")

# %% [markdown]
# ## 5. Could you tell swapped pairs from true ones?
#
# A quiz: ten swapped and ten true pairs of the test split, in random order. Write down your twenty answers before you
# read the next cell.

# %%
generator = np.random.default_rng(config.mask_seed)
order = generator.permutation(dataset.rows("test"))
quiz = generator.permutation(np.concatenate([order[dataset.labels[order] == label][:10] for label in (0, 1)]))
tiles = [Tile(dataset.image(row), dataset.texts[row], str(number)) for number, row in enumerate(quiz, start=1)]
listed = pd.DataFrame({"number": range(1, len(quiz) + 1), "id": dataset.ids[quiz], "text": dataset.texts[quiz]})
figure = Path(outputs) / "figures" / "solutions" / "01_data_quiz"
plots.save_figure(contact_sheet(tiles, columns=5, lines=4), listed, figure)
print(f"The quiz is in {figure}.png.")

# %% [markdown]
# The key, and a machine that took the quiz: `mini-clip` answers "belongs" to the ten pairs with the highest cosine.

# %%
encoder = ClipEncoder.from_name("mini-clip")
text_vectors = encoder.encode_texts([dataset.texts[row] for row in quiz], progress=False)
image_vectors = encoder.encode_images([dataset.image(row) for row in quiz], progress=False)
cosine = (text_vectors * image_vectors).sum(1)
says_true, is_true = cosine >= np.sort(cosine)[-10], dataset.labels[quiz] == 1
print("Swapped:", ", ".join(str(n) for n, true in enumerate(is_true, start=1) if not true))
print(f"mini-clip has {(says_true == is_true).sum()} of {len(quiz)} right; guessing gives 10 on average.")

# %% [markdown]
# There is no right number. You should do better than guessing where the text names a thing, and no better where it
# names an author or a series (section 2). A swapped text may even fit, since it comes from a drawing of the same top
# folder. Nobody can get such pairs right from the pair alone: they bound every model's score.
