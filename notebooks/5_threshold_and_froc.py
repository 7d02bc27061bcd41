# %% [markdown]
# # 5 · Choose a threshold, read a FROC
#
# **A threshold is chosen on the validation fold and then left alone; a score without an interval over scans is an
# anecdote.**
#
# You choose thresholds on the validation fold, apply them to the test fold, and read LUNA16's score, the FROC, with
# its interval.
#
# *Synthetic data; the scores say nothing about patients. Research use only.*

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image

from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.phantom.dataset import ensure_phantom
from luna_pipeline.core.training.recipes import recipe_by_name
from luna_pipeline.launchers import CuttingRequest, RunOptions, TrainingRequest, create_cutouts, train_once
from luna_pipeline.launchers.installation import cutout_store, read_index, read_table
from luna_pipeline.settings import Settings

settings = Settings.in_folder("phantom")
ensure_phantom(settings.data_dir, num_series=20, num_subsets=5, seed=0, size_irc=(64, 160, 160))
create_cutouts(settings, CuttingRequest(CuttingParameters(chunk_shape_irc=(16, 32, 32))))

# %% [markdown]
# `train_once` returns the model of chapter 3. If you have not run that chapter, it trains the same model now.

# %%
small = {"network.n_blocks": 3, "network.conv_channels": 4, "network.chunk_shape_irc": (16, 32, 32), "num_epochs": 6}
config = recipe_by_name("demo").with_changes(small)
options = RunOptions(show_progress=False)
checkpoint = train_once(settings, TrainingRequest(config=config, uses_mlflow=False, options=options))

# %% [markdown]
# ## Scores of both held-out folds
# The model was trained on folds 2 to 4. Fold 1 is for choices, fold 0 for the result.

# %%
from luna_pipeline.launchers import predict_table

index, candidates, store = read_index(settings), read_table(settings, "candidates"), cutout_store(settings)
of_candidates = index[index["source"] == "candidate"]
folds = {"validation": 1, "test": 0}
scores = {
    name: predict_table(checkpoint, of_candidates[of_candidates["fold"] == fold], candidates, store)
    for name, fold in folds.items()
}
pd.DataFrame({name: table.groupby("class").size() for name, table in scores.items()}).rename(
    {0: "others", 1: "nodules"}
)

# %% [markdown]
# ## Choose a threshold on validation
# There is no best threshold, only a price for each kind of error. Three usual choices: the highest sensitivity plus
# specificity (Youden), the highest F1, and at least 95 % sensitivity, for a reader who must not miss much.

# %%
from luna_pipeline.core.metrics.decision import Decision

labels, probabilities = (scores["validation"][name].to_numpy() for name in ("class", "probability"))
decision = Decision.of(labels, probabilities)
chosen = {"Youden": decision.threshold, "F1": decision.threshold_f1, "95 % found": decision.threshold_sensitivity}
thresholds = np.linspace(0, 1, 201)
found = [(probabilities[labels == 1] >= value).mean() for value in thresholds]
alarms = [(probabilities[labels == 0] >= value).mean() for value in thresholds]
figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
axes.plot(thresholds, found, color="#0072B2", label="nodules found (sensitivity)")
axes.plot(thresholds, alarms, "--", color="#D55E00", label="others called nodules")
for place, (name, value) in enumerate(sorted(chosen.items(), key=lambda item: -item[1])):
    axes.plot([value, value], [0, 1.11 + 0.07 * place], color="#6E6E6E", linewidth=1)
    axes.text(value, 1.06 + 0.07 * place, f" {name}: {value:.2f}", fontsize=9)
axes.set(xlabel="threshold", ylabel="share of candidates", ylim=(0, 1.28), xlim=(0, 1))
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

# %% [markdown]
# ## Apply it to the test fold
# The same thresholds on scans that had no part in choosing them. **Sensitivity usually falls**: the threshold was
# fitted to the chance of the validation fold. That is the honest number.


# %%
def rates(table: pd.DataFrame, threshold: float) -> dict[str, float]:
    """Return sensitivity, and false positives of a scan."""
    is_called = table["probability"] >= threshold
    num_scans = table["series_instance_uid"].nunique()
    is_nodule = table["class"] == 1
    return {
        "sensitivity": is_called[is_nodule].mean(),
        "false positives a scan": (is_called & ~is_nodule).sum() / num_scans,
    }


results = {(name, fold): rates(table, value) for name, value in chosen.items() for fold, table in scores.items()}
pd.DataFrame(results).T.round(2)

# %% [markdown]
# ## The FROC
# A radiologist asks: how many nodules are found, and how many false alarms do I look at in each scan? The FROC draws
# one against the other for all thresholds. LUNA16's score, the CPM, is the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4
# and 8 false positives a scan.
#
# The band is the 95 % interval: the evaluation is repeated 1,000 times with scans drawn at random. **With four scans
# it is very wide**, and a difference between two models within it means nothing.

# %%
from luna_pipeline.core.evaluation.froc_plot import froc_png
from luna_pipeline.core.evaluation.official import evaluate_froc
from luna_pipeline.core.evaluation.reference import read_reference

froc = {}
for name, fold in folds.items():
    reference = read_reference(settings.data_dir, read_table(settings, "folds"), of_folds=[fold])
    froc[f"{name} fold"] = evaluate_froc(reference.tables_of(scores[name]), num_bootstraps=1000)
Image(froc_png({"test fold": froc["test fold"], "validation fold": froc["validation fold"]}, is_synthetic=True))

# %%
result = froc["test fold"]
lower, upper = result.band.cpm_interval
print(f"Test fold: CPM {result.curve.cpm:.3f}, 95 % interval {lower:.3f} to {upper:.3f}")
print(result.samples.counts)

# %% [markdown]
# ## More scans, a narrower interval
# The scores of several folds, each by a model that has not seen it, can be pooled; the job `cross_validate` does
# that. To see the effect, the interval is drawn for each fold and for both together. (The validation fold has chosen
# the epoch, so the pooled score is for the picture only.)

# %%
both = pd.concat(scores.values())
reference = read_reference(settings.data_dir, read_table(settings, "folds"), of_folds=[0, 1])
pooled = {**froc, "both folds": evaluate_froc(reference.tables_of(both), num_bootstraps=1000)}
figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
for place, result in enumerate(pooled.values()):
    lower, upper = result.band.cpm_interval
    axes.plot([lower, upper], [place, place], color="#0072B2", linewidth=3, solid_capstyle="butt")
    axes.plot(result.curve.cpm, place, "o", color="#D55E00", markersize=8)
axes.set(yticks=range(3), yticklabels=pooled, xlabel="CPM with its 95 % interval over scans", xlim=(0, 1.02))
axes.set(ylim=(-0.5, 2.5), title="Synthetic")
axes.grid(axis="x", color="#DDDDDD")
plt.show()

# %% [markdown]
# ## What can go wrong
# * **A threshold from the test fold.** It is the most common way to a number that nobody can repeat.
# * **Candidates instead of scans.** Candidates of one scan are alike. An interval over candidates is too narrow.
# * **Nodules without a candidate.** A nodule that the detector did not propose counts as missed. The FROC counts it,
#   the AUC does not.
# * **Odd rules.** LUNA16's script has quirks, such as ties that help; `is_corrected=True` corrects them. See the page
#   on evaluation.
#
# ## Exercises
# 1. Give all candidates of the test fold the same score. What is the CPM, and why is it not 0?
# 2. Choose a threshold with at most one false positive a scan on validation. How many has it on the test fold?
