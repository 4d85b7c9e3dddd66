"""Write the reference edition's numbers into the two README.md that show them, and draw the methods' ranks over all
columns: `python tools/readme_tables.py`.

What stands between `<!-- reference: NAME -->` and `<!-- /reference -->` is made here from the tables of
outputs/reference; a test holds the two together.
"""

import re
from pathlib import Path

import pandas as pd
from scipy.stats import friedmanchisquare

from anga.comparison import both_ways
from anga.plots import set_style
from anga.plots.comparison import VERDICTS, critical_differences
from anga.ranks import average_ranks, cliques, critical_difference

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "outputs" / "reference"
FILES = [ROOT / "README.md", REFERENCE / "README.md"]
TASKS = ["clipart-pairs", "clipart-keywords", "clipart-folders"]
METRICS = {"clipart-pairs": "AUROC", "clipart-keywords": "F1-micro", "clipart-folders": "accuracy"}
PUBLISHED = {"clipart-pairs": "HateMemes", "clipart-keywords": "MM-IMDb", "clipart-folders": "Food101"}
EDITIONS = {"text": "comparison", "image": "comparison", "both": "comparison_both"}  # by what is missing
COMPARISONS = ["comparison", "comparison_both", "comparison_more"]
CUTS = {"": "", "_own_cut": ", own cut"}
STARTS = ["from one half", "from the prior"]
SUBSETS = ["all", "complete", "reconstructed"]
BEHIND = " ↓"
BESIDE = [name for task in TASKS for name in (f"{PUBLISHED[task]} (paper)", f"{task}, {METRICS[task]}")]
BLOCK = re.compile(r"(<!-- reference: (\w+) -->\n).*?(<!-- /reference -->)", re.DOTALL)


def table2() -> str:
    """The paper's Table 2 beside ours, in %: test scores on all samples; clipart-keywords from both starts."""
    ours, prior = (
        _read("table2", "05_ablations", edition).query("subset == 'all'").set_index(["dataset", "part"])
        for edition in ("clipart", "prior")
    )
    paper = _read("table2_beside_paper", "05_ablations").set_index("part")
    rows = []
    for part, published in paper.iterrows():
        cells = [part]
        for task in TASKS:
            cells += [f"{published[f'paper, {PUBLISHED[task]}']:.2f}", _percent(ours.loc[(task, part)], ".1f")]
        rows.append([*cells, _percent(prior.loc[("clipart-keywords", part)], ".1f")])
    return _markdown(["row", *BESIDE, "clipart-keywords, from the prior"], rows)


def gaps() -> str:
    """Imbalance gap of complete test samples, by task and missing rate, and over all rates."""
    parts = [_read(name, "03_imbalance").query("subset == 'complete'") for name in ("gaps", "gaps_overall")]
    return _over_rates(*parts, ["task"])


def steps() -> str:
    """The gap of complete test samples to a bound with as many steps as joint training, and to one with fewer."""
    parts = []
    for suffix in ("", "_overall"):
        tables = {"as many steps": _read(f"gaps{suffix}", "03_imbalance").query("subset == 'complete'")}
        tables["fewer steps"] = _read(f"gaps_fewer_steps{suffix}", "03_imbalance")
        part = pd.concat([table.assign(bound=bound) for bound, table in tables.items()])
        parts.append(part.sort_values("dataset", key=lambda names: names.map(TASKS.index), kind="stable"))
    return _over_rates(*parts, ["task", "bound"])


def longer() -> str:
    """The gap of complete test samples where bound and joint training take three times as long, at both cuts."""
    return _beside_gaps("longer", ["up to 20 epochs", "up to 60 epochs"])


def unaided() -> str:
    """The gap of complete test samples with stand-ins for what is missing, and without, at both cuts."""
    return _beside_gaps("unaided", ["with stand-ins", "without"])


def cures() -> str:
    """What stand-ins, reweighting and alignment change where nothing stands in for what is missing, at both cuts."""
    parts = []
    for suffix in ("", "_overall"):
        tables = {cut: _read(f"changes_unaided{name}{suffix}", "03_imbalance") for name, cut in CUTS.items()}
        steps = {cut: (table["first"] + " → " + table["second"] + cut) for cut, table in tables.items()}
        parts.append(pd.concat([table.assign(step=steps[cut]) for cut, table in tables.items()]))
    return _over_rates(*parts, ["task", "step", "subset"])


def start() -> str:
    """Gaps and changes over all rates, by where the head's bias starts; with a threshold, at both cuts."""
    tables = [_with_metrics(_read(f"start{name}_overall", "03_imbalance"), cut) for name, cut in CUTS.items()]
    rows = []
    for key, part in pd.concat(tables).groupby(["task", "first", "second", "subset"], sort=False):
        task, first, second, subset = key
        gap = first.replace("joint", "imbalance gap") if second == "complete only" else f"{first} → {second}"
        part = part.set_index("start")
        rows.append([task, gap, subset, *(_interval(part.loc[where], "+.3f") for where in STARTS)])
    return _markdown(["task", "difference", "subset", *STARTS], rows)


def memory() -> str:
    """Joint training without stand-ins and its gap, by the classifier's start and what AdamW remembers of it."""
    table = pd.read_csv(REFERENCE / "optimizer_memory" / "table.csv")
    columns = {("joint", "all"): "F1-micro, all test samples", ("joint", "complete"): "complete test samples"}
    columns |= {("gap", "complete"): "imbalance gap", ("gap, own cut", "complete"): "imbalance gap, own cut"}
    rows = []
    for treatment, part in table.groupby("treatment", sort=False):
        part = part.set_index(["what", "subset"])
        forms = [".3f" if what == "joint" else "+.3f" for what, _ in columns]
        rows.append([treatment, *(_interval(part.loc[key], form) for key, form in zip(columns, forms, strict=True))])
    return _markdown(["start", *columns.values()], rows)


def changes() -> str:
    """What reweighting and alignment change on both kinds of test samples."""
    parts = [_read(name, "03_imbalance") for name in ("changes", "changes_overall")]
    return _over_rates(*(t.assign(step=t["first"] + " → " + t["second"]) for t in parts), ["task", "step", "subset"])


def selection() -> str:
    """Gap and changes on clipart-pairs over all rates, by the validation samples that choose the epoch."""
    usual = pd.concat([_read(name, "03_imbalance") for name in ("gaps_overall", "changes_overall")])
    names = ("selection_tested_overall", "changes_selection_overall")
    alike = pd.concat([_read(name, "03_imbalance") for name in names])
    keys = ["dataset", "first", "second", "subset"]
    usual = usual.set_index(keys)
    rows = []
    for key, row in alike.set_index(keys).iterrows():
        _, first, second, subset = key
        step = "imbalance gap" if second == "complete only" else f"{first} → {second}"
        rows.append([step, subset, _interval(usual.loc[key], "+.3f"), _interval(row, "+.3f")])
    return _markdown(["difference", "subset", "as each training chooses", "by complete samples"], rows)


def own_cut() -> str:
    """Gap and changes on clipart-keywords, each run cut where it is best on validation samples."""
    parts = [_read(name, "03_imbalance") for name in ("changes_own_cut", "changes_own_cut_overall")]
    steps = [(t["first"] + " → " + t["second"]).replace("joint → complete only", "imbalance gap") for t in parts]
    parts = [table.assign(difference=step) for table, step in zip(parts, steps, strict=True)]
    return _over_rates(*parts, ["difference", "subset"])


def lengths() -> str:
    """What alignment adds to group means at 70 %, by the epochs that training may take; with a threshold, both cuts."""
    names = {"epochs_differences": "", "epochs_own_cut": ", own cut"}
    table = pd.concat([_from_both_starts(name, "06_sensitivity", cut) for name, cut in names.items()])
    rows = []
    for key, part in table.groupby(["task", "epochs"], sort=False):
        part = part.set_index("subset")
        rows.append([*key, *(_interval(part.loc[subset], "+.3f") for subset in SUBSETS)])
    return _markdown(["task", "epochs at most", *(f"{subset} test samples" for subset in SUBSETS)], rows)


def table2_own_cut() -> str:
    """The steps of Table 2 on clipart-keywords from both starts, at 0.5 and where a run is best on validation."""
    keys, names = ["step", "subset"], {"table2_differences": "", "table2_own_cut": ", own cut"}
    columns = {}
    for edition, where in zip(("clipart", "prior"), STARTS, strict=True):
        for name, cut in names.items():
            table = _read(name, "05_ablations", edition).query("dataset == 'clipart-keywords'")
            columns[where + cut] = table.set_index(keys)
    rows = [
        [*key, *(_interval(table.loc[key], "+.3f") for table in columns.values())]
        for key in columns["from one half, own cut"].index
    ]
    return _markdown(["difference", "subset", *columns], rows)


def adapter() -> str:
    """What the adapter costs complete samples of clipart-keywords, and how closely it fits those it learns from."""
    rows = []
    for key, part in _read("adapter", "06_sensitivity").groupby(["missing_rate", "epochs"], sort=False):
        part = part.set_index("cut")
        differences = (_interval(part.loc[cut], "+.3f") for cut in ("at 0.5", "own cut"))
        losses = (f"{part[column].iloc[0]:.3f}" for column in ("loss_without", "loss_with"))
        rows.append([f"{key[0]:.0%}", key[1], *differences, *losses])
    names = ["cut at 0.5", "own cut", "training loss without", "training loss with adapter"]
    return _markdown(["texts missing", "epochs at most", *names], rows)


def knobs() -> str:
    """How far a knob moves the mean score, beside how far the draw of a run does and what noise alone would make."""
    table = _from_both_starts("spreads", "06_sensitivity")
    spreads = ["values of the knob", "draws", "noise"]
    rows = [
        [task, row["knob"], *(f"{row[name]:.4f}" for name in spreads), f"{row['p']:.3f}"]
        for task in table["task"].unique()
        for _, row in table[table["task"] == task].iterrows()
    ]
    return _markdown(["task", "knob", *spreads, "p"], rows)


def rules() -> str:
    """What each way of updating changes on all test samples at 70 %, against ordinary training and its reweighting."""
    table = _from_both_starts("controls", "05_ablations").set_index(["control", "minus", "task"])
    tasks, rows = table.index.unique("task"), []
    for control, minus in table.index.droplevel("task").unique():
        cells = [_interval(table.loc[(control, minus, task)], "+.3f") for task in tasks]
        rows.append([f"{control} minus {minus}", *cells])
    return _markdown(["difference", *tasks], rows)


def robustness() -> str:
    """Alignment minus other ways to train, where the test lacks as much as training, and where it lacks 90 %."""
    tables = [_with_metrics(_read(f"{name}_differences", "07_robustness")) for name in ("rates", "shift")]
    columns = [(table, rate) for table in tables for rate in sorted(table["missing_rate"].unique())]
    rows = []
    for key in tables[0][["task", "against"]].drop_duplicates().itertuples(index=False):
        cells = []
        for table, rate in columns:
            part = table.set_index(["task", "against", "missing_rate"])
            cells.append(_interval(part.loc[(*key, rate)], "+.3f") if (*key, rate) in part.index else "")
        rows.append([key.task, f"aligned minus {key.against}", *cells])
    heads = [f"{rate:.0%}" if table is tables[0] else f"{rate:.0%}, test 90%" for table, rate in columns]
    return _markdown(["task", "difference", *heads], rows)


def comparison() -> str:
    """Table 1's column of missing texts."""
    return _table1("text")


def comparison_image() -> str:
    """Table 1's column of missing images."""
    return _table1("image")


def comparison_both() -> str:
    """Table 1's column of texts or images missing, which is an edition of its own."""
    return _table1("both")


def orders() -> str:
    """How many published orders of two methods hold, by column; and of those, the ones that put ANGA first."""
    rows = []
    for missing_type, edition in EDITIONS.items():
        found = _read("published_orders", "08_comparison", edition).query("missing_type == @missing_type")
        for who, part in (("all", found), ("ANGA above another", found[found["better"] == "ANGA"])):
            counts = part["verdict"].value_counts()
            rows.append([missing_type, who, len(part), *(counts.get(verdict, 0) for verdict in VERDICTS)])
    return _markdown(["missing", "orders", "number", *VERDICTS], rows)


def ranks() -> str:
    """The paper's methods by their average rank over all columns, in the paper and here, and how far apart is clear."""
    paper, ours = _columns("paper"), _columns("mean")
    theirs = average_ranks(paper)
    rows = [[method, f"{rank:.1f}", f"{theirs[method]:.1f}"] for method, rank in average_ranks(ours).items()]
    p, apart = friedmanchisquare(*ours.to_numpy().T).pvalue, critical_difference(len(theirs), len(ours))
    table = _markdown(["method", "average rank, ours", "average rank, paper"], rows)
    return f"{table}\nFriedman's test of ours: p = {p:.2g}; critical difference {apart:.1f} ranks.\n"


def draw_ranks() -> None:
    """The same ranks as a figure with their critical difference, under outputs/reference/figures."""
    ours = _columns("mean")
    found, apart = average_ranks(ours), critical_difference(ours.shape[1], len(ours))
    note = f"average ranks over {len(ours)} columns, 1 is best; a bar joins methods that cannot be told apart"
    set_style()
    figure = critical_differences(found, cliques(found, apart), apart, note)
    figure.savefig(REFERENCE / "figures" / "ranks.png", bbox_inches="tight")  # the SVG would differ at every call


def thresholds() -> str:
    """Methods on clipart-keywords, texts missing, in %: F1-micro at 0.5 and at each run's own cut."""
    tables = (_read(name, "08_comparison", "comparison") for name in ("table1", "table1_own_cut", "sureness"))
    half, own, sure = (
        t.query("dataset == 'clipart-keywords' and missing_type == 'text'").set_index("method") for t in tables
    )
    rows = []
    for method in half.index:
        cuts = [_marked(table.loc[method]) for table in (half, own)]
        rows.append(
            [
                method,
                f"{sure.loc[method, 'predicted']:.2f}",
                *cuts,
                f"{100 * sure.loc[method, 'average_precision']:.1f}",
            ]
        )
    return _markdown(
        ["method", "labels per sample", "F1-micro, cut at 0.5", "F1-micro, own cut", "average precision"], rows
    )


def methods_start() -> str:
    """Methods on clipart-keywords, texts missing, in %, by where their classifiers start, marked as in Table 1.

    What was not trained from one half there is taken from the edition `comparison`, and marked.
    """
    names = ("start_scores", "start", "table1", "table1_own_cut", "sureness")
    levels, gained, half, own, sure = (_read(name, "08_comparison", "prior") for name in names)
    older = _read("table1", "08_comparison", "comparison")
    older = older.query("dataset == 'clipart-keywords' and missing_type == 'text'").set_index("method")
    levels, gained = (table.query("missing_type == 'text'") for table in (levels, gained))
    usual = levels[levels["start"] == "from one half"].set_index("method")
    gained, half, own, sure = (t.set_index("method") for t in (gained[gained["cut"] == "cut at 0.5"], half, own, sure))
    rows = []
    for method in half.index:
        before = f"{_percent(older.loc[method], '.1f')} ⁑" if method in older.index else ""
        before = _percent(usual.loc[method], ".1f") if method in usual.index else before
        scores = [_marked(table.loc[method]) for table in (half, own)]
        gain = _percent(gained.loc[method], "+.1f") if method in gained.index else ""
        rows.append([method, before, *scores, gain, f"{sure.loc[method, 'predicted']:.2f}"])
    names = [*STARTS, "from the prior, own cut", "gained by the start", "labels per sample, from the prior"]
    return _markdown(["method", *names], rows)


def methods_start_more() -> str:
    """Methods on clipart-keywords, images or either missing, in %, from both starts, and beside ViLT from the prior."""
    levels, beside = (_read(name, "08_comparison", "prior") for name in ("start_scores", "start_beside_vilt"))
    levels = levels.set_index(["missing_type", "start", "method"])
    beside = beside.query("start == 'from the prior' and cut == 'cut at 0.5'").set_index(["missing_type", "second"])
    lacking = {"image": "images", "both": "either"}
    rows = []
    for method in levels.index.unique("method"):
        cells = [method]
        for kind in lacking:
            cells += [_percent(levels.loc[(kind, start, method)], ".1f") for start in STARTS]
            cells.append("" if method == "ViLT" else _percent(beside.loc[(kind, method)], "+.1f"))
        rows.append(cells)
    heads = (*STARTS, "minus ViLT, from the prior")
    return _markdown(["method", *(f"{name}, {head}" for name in lacking.values() for head in heads)], rows)


def controls() -> str:
    """What longer training and first stages are worth, in %, and each row's paired differences to ViLT."""
    own = _read("controls", "08_comparison", "comparison").set_index("method")
    minus = both_ways(_read("controls_differences", "08_comparison", "comparison")).set_index(["first", "second"])
    references, rows = ["ViLT", "ViLT, 60 epochs"], []
    for method in own.index:
        differences = ["" if method == other else _percent(minus.loc[(method, other)], "+.1f") for other in references]
        rows.append([method, _percent(own.loc[method], ".1f"), *differences])
    return _markdown(["method", "F1-micro", *(f"minus {name}" for name in references)], rows)


def uncompared() -> str:
    """The two methods that Table 1 lacks, in its column of texts or images missing, and paired differences."""
    others = ["ViLT", "MAPs", "Retrieval"]
    looks = {f"{task}, {METRICS[task]}": (task, "table1", "table1_differences") for task in TASKS}
    looks["clipart-keywords, own cut"] = ("clipart-keywords", "table1_own_cut", "table1_own_cut_differences")
    rows = []
    for name, (task, *names) in looks.items():
        scores, pairs = (_read(table, "08_comparison", "comparison_more") for table in names)
        scores = scores[scores["dataset"] == task].set_index("method")
        minus = both_ways(pairs[pairs["dataset"] == task]).set_index(["first", "second"])
        for method in ("DCP", "SyP"):
            differences = [_percent(minus.loc[(method, other)], "+.1f") for other in others]
            rows.append([name, method, _percent(scores.loc[method], ".1f"), *differences])
    return _markdown(["task", "method", "score", *(f"minus {other}" for other in others)], rows)


def subsets() -> str:
    """What models without and with stand-ins learn from complete and from other samples of clipart-keywords."""
    table = _read("subsets", "08_comparison", "comparison_more")
    measures = {"predicted": "labels per sample", "average_precision": "average precision"}
    kinds = {"complete": "complete", "reconstructed": "other"}
    rows = []
    for (missing_type, method), part in table.groupby(["missing_type", "method"], sort=False):
        part = part.set_index(["measure", "subset"])
        model, _, alone = method.partition(", ")
        cells = [_interval(part.loc[(measure, kind)], ".2f") for measure in measures for kind in kinds]
        rows.append([missing_type, model, alone or "all", *cells])
    head = [f"{measure}, {kind} samples" for measure in measures.values() for kind in kinds.values()]
    return _markdown(["missing", "method", "trained on", *head], rows)


def alignment() -> str:
    """What switching alignment on changes in each method, on all test samples, in %."""
    tables = {
        name: pd.concat([_read(name, "08_comparison", edition) for edition in COMPARISONS])
        .query("subset == 'all' and method.str.endswith(' + GA')")
        .drop_duplicates(["dataset", "missing_type", "method", "minus"])
        .set_index(["method", "minus", "missing_type", "dataset"])
        for name in ("alignment", "alignment_own_cut")
    }
    looks = {f"{task}, {METRICS[task]}": ("alignment", task) for task in TASKS}
    looks["clipart-keywords, own cut"] = ("alignment_own_cut", "clipart-keywords")
    keys = tables["alignment"].index.droplevel("dataset").unique().to_frame(index=False)
    keys["control"] = keys["minus"].str.endswith(" + group means")
    rows = []
    for key in keys.sort_values("control", kind="stable").itertuples():
        where = (key.method, key.minus, key.missing_type)
        cells = [_percent(tables[name].loc[(*where, task)], "+.1f") for name, task in looks.values()]
        rows.append([f"{key.method} minus {key.minus}", key.missing_type, *cells])
    return _markdown(["difference", "missing", *looks], rows)


BLOCKS = (
    *(gaps, steps, longer, unaided, cures, start, memory, changes, selection, own_cut, lengths),
    *(table2, table2_own_cut, adapter, rules, knobs, robustness),
    *(comparison, comparison_image, comparison_both, uncompared, ranks, orders),
    *(methods_start, methods_start_more, thresholds, subsets, controls, alignment),
)
BLOCKS = {block.__name__: block for block in BLOCKS}


def filled(text: str) -> str:
    """The text with every block made anew."""
    return BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[3], text)


def _read(name: str, place: str, params: str = "clipart") -> pd.DataFrame:
    return pd.read_csv(REFERENCE / params / "tables" / place / f"{name}.csv")


def _table1(missing_type: str) -> str:
    """The paper's scores and ours, in %; ours marked by who stands out."""
    edition = EDITIONS[missing_type]
    tables = (_read(name, "08_comparison", edition) for name in ("table1", "table1_beside_paper"))
    ours, paper = (t[t["missing_type"] == missing_type].set_index(["method", "dataset"]) for t in tables)
    rows = []
    for method in ours.index.unique("method"):
        cells = [method]
        for task in TASKS:
            published = paper["paper"].get((method, task))
            cells += ["" if published is None else f"{100 * published:.2f}", _marked(ours.loc[(method, task)])]
        rows.append(cells)
    return _markdown(["method", *BESIDE], rows)


def _over_rates(table: pd.DataFrame, overall: pd.DataFrame, names: list[str]) -> str:
    """One row per combination of names, one column per missing rate, and one for all rates together."""
    table, rates = _with_metrics(table), sorted(table["missing_rate"].unique())
    whole = {tuple(row[names]): row for _, row in _with_metrics(overall).iterrows()}
    rows = []
    for key, part in table.groupby(names, sort=False):
        part = part.set_index("missing_rate")
        rows.append([*key, *(_interval(row, "+.3f") for row in (*(part.loc[rate] for rate in rates), whole[key]))])
    return _markdown([*names, *(f"{rate:.0%}" for rate in rates), "all rates"], rows)


def _columns(whose: str) -> pd.DataFrame:
    """Scores of the paper's methods in all nine columns, one row each: `paper` as published, `mean` ours."""
    tables = [_read("table1_beside_paper", "08_comparison", edition) for edition in dict.fromkeys(EDITIONS.values())]
    return pd.concat(tables).pivot(index=["dataset", "missing_type"], columns="method", values=whose).dropna(axis=1)


def _beside_gaps(grid: str, names: list[str]) -> str:
    """The gaps of complete test samples in another grid of 03 beside the usual ones, at both cuts."""
    usual = {"": _read("gaps", "03_imbalance"), ", own cut": _read("changes_own_cut", "03_imbalance")}
    others = {"": _read(f"gaps_{grid}", "03_imbalance"), ", own cut": _read(f"gaps_{grid}_own_cut", "03_imbalance")}
    rows = []
    for cut, table in usual.items():
        first = table.query("second == 'complete only'").set_index(["dataset", "missing_rate"])
        for _, row in _with_metrics(others[cut]).query("subset == 'complete'").iterrows():
            gaps_of_both = first.loc[(row["dataset"], row["missing_rate"])], row
            cells = (_interval(gap, "+.3f") for gap in gaps_of_both)
            rows.append([row["task"] + cut, f"{row['missing_rate']:.0%}", *cells])
    return _markdown(["task", "missing", *names], rows)


def _with_metrics(table: pd.DataFrame, more: str = "") -> pd.DataFrame:
    """The table and a column task, "clipart-pairs, AUROC" and whatever more there is to say."""
    return table.assign(task=table["dataset"] + ", " + table["dataset"].map(METRICS) + more)


def _from_both_starts(name: str, place: str, more: str = "") -> pd.DataFrame:
    """A table of all tasks, and below it that of clipart-keywords from the prior; a column task tells them apart."""
    usual, prior = (_read(name, place, edition) for edition in ("clipart", "prior"))
    return pd.concat([_with_metrics(usual, more), _with_metrics(prior, f", from the prior{more}")])


def _percent(row: pd.Series, form: str) -> str:
    """`_interval` of a row in %."""
    return _interval(100 * row[["mean", "low", "high"]].astype(float), form)


def _marked(row: pd.Series) -> str:
    """Mean and interval in %, marked by `anga.comparison.standings`.

    Bold: clearly the best; italics: clearly the second; an arrow: clearly behind the highest mean.
    """
    around = {"best": "**", "second": "*"}.get(row["mark"], "")
    return around + _percent(row, ".1f") + around + BEHIND * bool(row["behind"])


def _interval(row: pd.Series, form: str) -> str:
    """Mean and interval, in bold where the interval of a difference excludes zero."""
    text = f"{row['mean']:{form}} [{row['low']:{form}}, {row['high']:{form}}]"
    decided = form.startswith("+") and (row["low"] > 0 or row["high"] < 0)
    return f"**{text}**" if decided else text


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


if __name__ == "__main__":
    draw_ranks()
    for path in FILES:
        path.write_text(filled(path.read_text()))
        print(f"{path}: {', '.join(name for _, name, _ in BLOCK.findall(path.read_text()))}")
