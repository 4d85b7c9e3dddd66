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
# # 02 · Who can stand in for what is lost, and how well?
#
# A sample that has lost its text still has its picture. The retriever looks for training samples with a similar picture
# and borrows their texts; a lost picture is borrowed in the same way by similar texts. Here we watch the retriever at
# work, then measure how far the borrowed tokens lie from the true ones.
#
# - **Needs:** one parameter file (below), and the retriever's and the backbone's checkpoints that it names.
# - **Leaves behind:** embeddings, tokens (`outputs/cache/`) and figures (`outputs/figures/`).
# - **Run time:** half a minute on two CPU cores; a minute or two more the first time, when every drawing is encoded.
# - **Before:** `01_data`. **Next:** `04_anga` trains on what is made here.

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
params = "../params/quick/clipart-pairs.yaml"
outputs = "../outputs"

# %% [markdown]
# ## Imports

# %%
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE
from sklearn.metrics import roc_auc_score

from anga import diagnosis as dg
from anga import plots
from anga.datasets.clipart import sources
from anga.encoders import embed_dataset
from anga.evaluation import METRIC_NAMES
from anga.inputs import prepare, retrieve
from anga.parameters import Params
from anga.plots.pictures import contact_sheet, sample_tile
from anga.products import Products
from anga.retriever import MemoryBank, Retriever
from anga.runs import provenance
from anga.statistics import mean_interval

plots.set_style()

# %% [markdown]
# Whatever the parameter file says, we use `missing_type: both` and the `observed` memory bank here, so that lost texts
# *and* lost pictures appear. All other knobs are the file's. `prepare` does everything that comes before a batch: data,
# missing table, embeddings, neighbours and tokens; what it has made before, it reads.

# %%
study_params = Params.from_yaml(params)
config = study_params.config.with_(missing_type="both", use_retrieval=True, memory_bank="observed")
inputs = prepare(config, outputs)
dataset, table, neighbours = inputs.dataset, inputs.table, inputs.neighbours
train, test = dataset.rows("train"), dataset.rows("test")
print(
    f"{dataset.name}: {len(train)} training samples, {table.complete[train].sum()} of them complete; K = {config.top_k}"
)

# %%
cache = Path(outputs) / "cache"
keep = Products(outputs, study_params.place, "02_retrieval").figure
generator = np.random.default_rng(config.mask_seed)

# %% [markdown]
# ## 1. Do texts and pictures meet in one space?
#
# CLIP has two encoders: one turns a text into a vector, one turns a picture into a vector of the same length. It was
# trained so that a text and its picture point in similar directions. All vectors have length 1, so the cosine of two of
# them is their inner product.

# %%
text_embeddings, image_embeddings = embed_dataset(dataset, config.clip, cache)
assert np.allclose(np.linalg.norm(text_embeddings, axis=1), 1, atol=1e-4)
assert np.allclose(np.linalg.norm(image_embeddings, axis=1), 1, atol=1e-4)
print(f"{config.clip}: {text_embeddings.shape[0]} texts and pictures, vectors of length {text_embeddings.shape[1]}")

# %% [markdown]
# We compare each test picture with its text and with the text of a random other test sample. In `clipart-pairs` half of
# the texts are swapped; those are counted apart.


# %%
def pair_cosines(rows):
    swapped = (dataset.labels[rows] == 0) if dataset.name == "clipart-pairs" else np.zeros(len(rows), bool)
    matched = (image_embeddings[rows] * text_embeddings[rows]).sum(1)
    random = (image_embeddings[rows] * text_embeddings[np.roll(generator.permutation(rows), 1)]).sum(1)
    kinds = np.where(swapped, "swapped text", "own text")
    kinds = np.concatenate([kinds, ["random text"] * len(rows)])
    return pd.DataFrame({"kind": kinds, "cosine": np.concatenate([matched, random])})


pairs = pair_cosines(test).sort_values("kind", kind="stable", ignore_index=True)
keep(plots.data.cosines(pairs), pairs, "cosines")

# %% [markdown]
# How well does the cosine alone tell a picture's own text from another one? AUROC: 0.5 is chance, 1 is always right. We
# also ask on the training split, whose pairs the embedded `mini-clip` has seen while it was trained.


# %%
def own_against(other, table):
    own, wrong = (table.loc[table["kind"] == kind, "cosine"] for kind in ("own text", other))
    return roc_auc_score([1] * len(own) + [0] * len(wrong), [*own, *wrong])


for split, values in {"test": pairs, "training": pair_cosines(train)}.items():
    others = [kind for kind in ("random text", "swapped text") if (values["kind"] == kind).any()]
    print(f"{split}: " + ", ".join(f"own against {kind} {own_against(kind, values):.3f}" for kind in others))

# %% [markdown]
# **What you should see:** the curve of own texts lies to the right of the random ones, with overlap. Swapped texts are
# harder to tell, since they come from a drawing of the same top folder. The training split looks easier than the test
# split: the encoder remembers pairs that it has seen. Nothing of the test split was shown to it.

# %% [markdown]
# ## 2. What do these vectors know of the label?
#
# `01_data` asked a linear classifier with features made by hand. The same question for CLIP's vectors. "Product" is the
# elementwise product of both vectors: with it, a linear classifier can *compare* text and picture.

# %%
features = {"text": text_embeddings, "image": image_embeddings}
features["both"] = np.hstack([text_embeddings, image_embeddings])
features["both + product"] = np.hstack([features["both"], text_embeddings * image_embeddings])
scores = dg.probe_scores(dataset, features)
keep(plots.data.probe_scores(scores, METRIC_NAMES[dataset.metric]), scores, "probes")
for row in scores.itertuples():
    print(f"{row.features}: {row.score:.3f} [{row.low:.3f}, {row.high:.3f}]")

# %% [markdown]
# **What you should see:** in `clipart-pairs` text or picture alone stay at chance, and so does "both"; only comparing
# helps. In the other two tasks each modality alone knows a good part, and both together know most. So losing a modality
# costs a part there, and everything in `clipart-pairs`.

# %% [markdown]
# ## 3. Who are the neighbours?
#
# A query is compared with every sample of the *memory bank* ℳ, and the K most similar ones are its neighbours:
#
# $$\mathcal{N}_i = \text{Top-}K_{r \in \mathcal{M}} \left(\frac{e_i^{\top} e_r}{\|e_i\|_2 \|e_r\|_2} \right)
# \qquad \text{(Eq. 3)}$$
#
# A sample without its text asks by its picture (picture vectors on both sides), one without its picture by its text.
# A donor must have both: one modality to be found by, the other to lend. Here are the lines that compute it for
# one query, and the check that the retriever finds the same.

# %%
lost_text, lost_image = (dg.lost_rows(table, test, modality) for modality in ("text", "image"))
donors = dg.donor_rows(inputs)
query = lost_text[0]
cosine = image_embeddings[donors] @ image_embeddings[query]  # unit vectors: Eq. 3 without its denominator
nearest = donors[np.argsort(-cosine, kind="stable")[: config.top_k]]
by_hand = np.sort(cosine)[::-1][: config.top_k]
assert np.allclose(by_hand, neighbours.text_similarity[query], atol=1e-5)
print("By hand:  ", nearest.tolist(), "\nRetriever:", neighbours.text[query].tolist())

# %% [markdown]
# **Picture queries.** Left, with a thick frame: three test samples that have lost their text. To the right their
# neighbours with the cosine above; their *texts* are borrowed. The query's lost text is shown in grey for us to
# compare; the retriever does not see it.


# %%
def neighbour_sheet(rows, ids, similarity, name):
    tiles, lines = [], []
    for row in rows:
        tiles.append(sample_tile(dataset, row, "query", table, framed=True))
        for rank, (other, cosine) in enumerate(zip(ids[row][:5], similarity[row], strict=False), start=1):
            tiles.append(sample_tile(dataset, other, f"{cosine:.2f}"))
            lines.append({"query": dataset.ids[row], "rank": rank, "id": dataset.ids[other], "cosine": cosine})
    keep(contact_sheet(tiles, columns=1 + min(5, config.top_k)), pd.DataFrame(lines), name)


shown = generator.choice(lost_text, 3, replace=False)
neighbour_sheet(shown, neighbours.text, neighbours.text_similarity, "picture_queries")

# %% [markdown]
# **Text queries.** Three test samples that have lost their picture. Neighbours are found by their texts, and their
# *pictures* are borrowed.

# %%
shown = generator.choice(lost_image, 3, replace=False)
neighbour_sheet(shown, neighbours.image, neighbours.image_similarity, "text_queries")

# %% [markdown]
# **What you should see:** neighbours that look or read alike, of the same kind more often than not; but a borrowed text
# need not fit: it describes *another* drawing. (In `clipart-pairs` it may even be a text that was swapped with a third
# one.) A number for "of the same kind": how often is a neighbour from the query's own top folder?

# %%
origin = sources(dataset)
top_folder = origin["folder"].str.split("/").str[0].to_numpy()
chance = (top_folder[test][:, None] == top_folder[donors]).mean()
for by, rows, ids in (("picture", lost_text, neighbours.text), ("text", lost_image, neighbours.image)):
    same = (top_folder[ids[rows]] == top_folder[rows][:, None]).mean()
    print(f"Found by {by}: {same:.0%} from the same top folder (chance {chance:.0%}).")

# %% [markdown]
# ## 4. Is anything in the bank that must not be there?
#
# Three rules. A sample never retrieves itself. Only training samples are in the bank. And with the `observed` bank, a
# donor lends only what the missing table has left it. All three are checked for every sample of every split.

# %%
everyone = np.arange(len(dataset))[:, None]
for ids in (neighbours.text, neighbours.image):
    assert (ids != everyone).all(), "a sample has retrieved itself"
    assert np.isin(ids, train).all(), "a validation or test sample is in the bank"
assert table.has_text[neighbours.text].all(), "a text was lent that is lost"
assert table.has_image[neighbours.image].all(), "a picture was lent that is lost"
print(f"{neighbours.text.size + neighbours.image.size} entries checked: all three rules hold.")

# %% [markdown]
# Why exclude a sample by its id? A complete training sample is in the bank itself. Without the rule it would be its own
# best neighbour with cosine 1, and would learn from an answer that no test sample gets. (Who does not find itself even
# so has a twin: the same drawing was given to the collection twice.)

# %%
whole = train[table.complete[train]]
best = donors[(image_embeddings[whole] @ image_embeddings[donors].T).argmax(1)]
print(f"Without the rule, {(best == whole).mean():.1%} of the complete training samples would find themselves first.")

# %% [markdown]
# ## 5. How is a lost modality reconstructed?
#
# The backbone reads *tokens*: vectors that its embedding layers make of word pieces and of picture patches. For a lost
# picture, the tokens of the K borrowed pictures are averaged, place by place (mean pooling, Sec. 3.3):
#
# $$\tilde{\mathcal{V}}_i = \frac{1}{K} \sum_{r \in \mathcal{N}_i} \mathcal{V}_r, \qquad
# \tilde{\mathcal{T}}_i = \frac{1}{K} \sum_{r \in \mathcal{N}_i} \mathcal{T}_r$$
#
# Texts differ in length; at each place the average runs over the neighbours that have a token there (our reading; the
# paper does not say). The next lines do it by hand for one picture, and compare with what a batch contains.

# %%
row = lost_image[:1]
borrowed = inputs.bank.images(neighbours.image[row])  # [1, K, n_v, d]
by_hand = borrowed.mean(1)  # [1, n_v, d]
batch = inputs.batch_maker(with_pools=False)(row)
assert torch.allclose(batch.image, by_hand, atol=1e-5), "the batch holds other tokens"
print(f"{borrowed.shape[1]} pictures of {borrowed.shape[2]} tokens, {borrowed.shape[3]} numbers each, become one.")

# %% [markdown]
# Pictures all have the same number of tokens. A text that is made from K texts is as long as the longest of them:

# %%
length = inputs.bank.lengths
made_length = length[neighbours.text[lost_text]].max(1)
print(f"Tokens per text: {length[lost_text].mean():.1f} in truth, {made_length.mean():.1f} as reconstructed.")

# %% [markdown]
# ## 6. How far are reconstructed tokens from the true ones?
#
# We know the truth, since we took it away ourselves. To compare texts of different length, a sample's tokens are first
# averaged over their places (*pooled tokens*, $\bar x_i$). The error is a distance, relative to what the bank's mean
# $\bar m$ would cost:
#
# $$\text{error}_i = \frac{\|\tilde{x}_i - \bar{x}_i\|_2}{\sqrt{\frac{1}{n} \sum_j \|\bar{x}_j - \bar{m}\|_2^2}}$$
#
# 0 is exact; 1 is as far as an answer that ignores the query. For comparison: K random donors, one random donor, the
# bank's mean, and the K donors nearest *to the truth itself*, which nobody could look up: the best that this bank can
# do.

# %%
errors = dg.reconstruction_errors(inputs, "test", seed=config.mask_seed)
keep(plots.data.errors_by_source(errors), errors, "errors")

# %%
means = errors.pivot_table(index="source", columns="modality", values="error")
means.loc[list(dg.SOURCES), ["text", "image"]].round(3)

# %%
gain = means.loc["random donors"] - means.loc["retrieved"]
room = means.loc["random donors"] - means.loc["nearest by the truth"]
for modality in ("text", "image"):
    print(f"lost {modality}: retrieval goes {gain[modality] / room[modality]:.0%} of the way from random to the best.")

# %% [markdown]
# **What you should see:** curves further left are closer to the truth. Averaging alone brings tokens closer: K random
# donors beat one random donor without knowing anything, because an average avoids large mistakes. So "retrieved" has to
# be compared with "random donors" and with the bank's mean, never with one random sample. Against those it gains
# little: near or beyond 1, a reconstruction is no closer to the truth than an answer that ignores the query.
#
# Is retrieval no better than chance, then? We ask CLIP: how much is a borrowed text (or picture) like the lost one?

# %%
for modality, vectors, ids, rows in (
    ("text", text_embeddings, neighbours.text, lost_text),
    ("image", image_embeddings, neighbours.image, lost_image),
):
    random = dg.draw_donors(rows, donors, config.top_k, config.mask_seed)
    alike = [(vectors[rows][:, None] * vectors[picks]).sum(-1).mean() for picks in (ids[rows], random)]
    print(f"CLIP cosine with the lost {modality}: borrowed {alike[0]:.2f}, random donors' {alike[1]:.2f}.")

# %% [markdown]
# **What you should see:** borrowed items are more like the lost ones than random donors' are: clearly in
# `clipart-keywords` and `clipart-folders`, less in `clipart-pairs`, where half of the texts on either side are swapped.
# So retrieval finds what is related in *meaning*, but the tokens hardly show it. At the embedding layer a token stands
# for a word piece or a patch at a place, not for what the whole means; "cat" and "kitten" are two different vectors
# there. A reconstruction is a hint at the kind of thing, in tokens that are wrong in detail.
#
# In `clipart-pairs` there is one more question: is a *swapped* text harder to get back than an own one?

# %%
if dataset.name == "clipart-pairs":
    retrieved = errors.query("source == 'retrieved' and modality == 'text'")
    names = np.array(dataset.classes)[dataset.labels[retrieved["row"]]]
    print(retrieved.groupby(names)["error"].apply(lambda e: "mean {:.3f} [{:.3f}, {:.3f}]".format(*mean_interval(e))))
else:
    print(f"{dataset.name} has no swapped texts.")

# %% [markdown]
# In `clipart-pairs` these lines only tell whether own texts are easier to get back, and who asks so must know the lost
# text. Whatever they say, the label cannot be read from the reconstruction: it is made from the picture alone, and the
# picture alone knows nothing of the label (section 2). For the model the label of such a sample is noise. This is where
# learning imbalance begins. (Exercise 5 asks the same in CLIP's space.)

# %% [markdown]
# ## 7. Is there a semantic gap?
#
# The paper's Fig. 6a-b shows true and reconstructed tokens on a t-SNE map and reads a "semantic gap" from it. We draw
# the same picture: up to 500 test samples that have lost a modality, each as a true and as a reconstructed point.


# %%
def token_map(modality, neighbour_ids, rows):
    rows = rows[:500]
    true = dg.pooled_tokens(inputs.bank, modality, rows)
    points = np.concatenate([true, dg.pooled_reconstruction(inputs.bank, modality, neighbour_ids[rows])])
    tsne = TSNE(perplexity=min(30, len(points) // 4), max_iter=500, random_state=config.mask_seed)
    x, y = tsne.fit_transform(points).T
    kind = np.repeat(["true", "reconstructed"], len(rows))
    return pd.DataFrame({"modality": modality, "kind": kind, "x": x, "y": y})


maps = [token_map("text", neighbours.text, lost_text), token_map("image", neighbours.image, lost_image)]
maps = pd.concat(maps, ignore_index=True)
keep(plots.data.token_maps(maps), maps, "token_maps")

# %% [markdown]
# A map bends distances, so numbers go with it. *Separability*: how well does a linear classifier tell reconstructed
# from true tokens (AUROC; 0.5: not at all, 1: always)? *Spread*: the total variance of the reconstructed tokens, as a
# fraction of the true ones'. If the gap were one of meaning, random donors would show a wider one than retrieved
# neighbours; if it came from averaging, it would shrink with K. So we vary both. One search with the largest K serves
# for all, since a list of neighbours can be cut.

# %%
sizes = sorted({1, 2, 5, 10, 20, 50, config.top_k})
bank = MemoryBank.observed(train, table)
many = Retriever(text_embeddings, image_embeddings, bank, dataset.ids).neighbours(table, sizes[-1])
sweep = []
for modality, ids, rows in (("text", many.text, lost_text), ("image", many.image, lost_image)):
    mean = dg.pooled_tokens(inputs.bank, modality, donors).mean(0)
    true = dg.pooled_tokens(inputs.bank, modality, rows)
    random = dg.draw_donors(rows, donors, sizes[-1], config.mask_seed)
    for source, picks in {"retrieved": ids[rows], "random": random}.items():
        for k in sizes:
            made = dg.pooled_reconstruction(inputs.bank, modality, picks[:, :k])
            gap = {"separability": dg.separability(true, made), "spread": dg.spread_ratio(true, made)}
            error = dg.relative_error(made, true, mean).mean()
            sweep.append({"modality": modality, "source": source, "top_k": k, "error": error, **gap})
sweep = pd.DataFrame(sweep)
sweep[sweep["top_k"].isin([1, config.top_k])].round(3)

# %% [markdown]
# **What you should see:** the gap is there: averaged tokens huddle together (spread well below 1), and a classifier
# tells made texts from true ones nearly always. But averages of *random* donors show the same gap, so it cannot be one
# of meaning. And some of it is there for one random donor (K = 1), whose text *is* a true text: training and test
# splits hold different series. Averaging adds more to it for texts than for pictures, since a text made of K texts is
# also longer (section 5). So the visible gap tells of splits and averaging more than of meaning. Nor is a small gap a
# sign of a good reconstruction: with K = 1 a made text is hardest to tell from a true one, and its error is largest.

# %% [markdown]
# ## 8. How many neighbours?
#
# The same numbers as curves over K (`top_k`).

# %%
keep(plots.data.errors_by_k(sweep), sweep, "top_k")
best = sweep[sweep["source"] == "retrieved"].sort_values("error").groupby("modality", sort=False).first()
print(", ".join(f"lost {modality}: smallest error at K = {row.top_k}" for modality, row in best.iterrows()))

# %% [markdown]
# **What you should see:** the error falls quickly with K, with and without retrieval: most of the fall is averaging.
# The distance between filled and open marks is what retrieval adds. Random pictures approach the bank's mean (the line
# at 1), retrieved ones get a little below it. Texts stay above it, since more texts make a longer one (section 5). The
# smallest *distance* is not the best *prediction* either: the adapter of notebook 04 reads the K neighbours' own
# tokens, not their average.

# %% [markdown]
# ## 9. What would a full memory bank change?
#
# Published code often fills the bank with *every* training sample whole (`memory_bank: full`). Then more donors are
# available, among them texts and pictures that the missing table has taken away. We compare both banks, for samples of
# the training and of the test split.

# %%
full = replace(inputs, neighbours=retrieve(config.with_(memory_bank="full"), dataset, table, cache))
parts = []
for name, source in {"observed": inputs, "full": full}.items():
    for split in ("train", "test"):
        found = dg.reconstruction_errors(source, split, sources=("retrieved",))
        parts.append(found.assign(memory_bank=name, split=split))
grouped = pd.concat(parts).groupby(["memory_bank", "split", "modality"], sort=False)["error"]
banks = pd.DataFrame(
    [(*key, *mean_interval(errors)) for key, errors in grouped],
    columns=["memory_bank", "split", "modality", "mean", "low", "high"],
)
keep(plots.data.errors_by_bank(banks), banks, "banks")

# %% [markdown]
# Where does the difference come from? Two counts: how much of what the full bank lends to training samples was itself
# lost; and how many neighbours belong to the query's own group (the same series; see `01_data`). The last two lines are
# the errors of training samples that have a neighbour of their own group, and of those that have none.

# %%
hidden = [~table.has_text[full.neighbours.text[dg.lost_rows(table, train, "text")]]]
hidden += [~table.has_image[full.neighbours.image[dg.lost_rows(table, train, "image")]]]
print(f"Lent to training samples by the full bank although lost: {np.concatenate(hidden).mean():.0%}.")
group = origin["group"].to_numpy()
for name, found in {"observed": inputs, "full": full}.items():
    for split, rows in {"training": train, "test": test}.items():
        kin = (group[found.neighbours.text[rows]] == group[rows][:, None]).mean()
        print(f"{name} bank, {split} queries: {kin:.0%} of the neighbours are from the query's own group.")
has_kin = (group[neighbours.text] == group[:, None]).any(1)
for kin, found in parts[0].groupby(has_kin[parts[0]["row"]])["error"]:
    print(f"observed bank, training queries {'with' if kin else 'without'} own group: mean error {found.mean():.2f}.")

# %% [markdown]
# **What you should see:** the full bank is closer, above all for training samples. For them it is an *oracle*: a part
# of what it lends is what other training samples have lost, and somebody who has only the incomplete data cannot look
# it up. For test samples the full bank merely has more donors, which changes little. There is a second lesson, and it
# holds for both banks: many training samples find drawings of their own series, test samples never do. So
# reconstructions are better in training than at test time, and a model may learn to trust them more than it should.

# %% [markdown]
# ## Summary
#
# - CLIP's vectors bring texts and pictures of the same thing together, with overlap; on the training split, which
#   `mini-clip` has seen, with little.
# - Neighbours are often of the query's kind. No sample retrieves itself, and only training samples are in the bank.
# - A reconstruction is an average of K borrowed token sequences. Borrowed items are related in meaning; their tokens
#   are hardly closer to the truth than those of random donors.
# - The "semantic gap" of Fig. 6 can be measured, but random donors show the same one: it tells of averaging and of
#   different splits more than of meaning.
# - The full bank lends what is lost. With either bank, training samples find their own series, which test samples
#   cannot; their reconstructions are closer to the truth.

# %% [markdown]
# ## Exercises
#
# 1. Set `params` to `../params/quick/clipart-keywords.yaml`. Is the lost picture now easier to get back?
# 2. Copy a parameter file, set `top_k: 1`, and run again. Which figures change, and which stay?
# 3. Set `missing_rate: 0.9`. How many donors are left, and what happens to the error of "nearest by the truth"?
# 4. In section 6 replace the distance by one minus the cosine. Does an average still profit from being an average?
# 5. In `clipart-pairs`, why can a picture not tell which text was lost if that text was a swapped one? Would a larger
#    encoder or a larger bank help?

# %% [markdown]
# ## Provenance

# %%
facts = {"params": study_params.path.name, "mask_seed": config.mask_seed, "samples": len(dataset)}
pd.Series({**facts, **provenance(config, dataset.content_hash)}).map(lambda fact: str(fact)[:24]).to_frame("value")
