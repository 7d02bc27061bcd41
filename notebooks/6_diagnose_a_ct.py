# %% [markdown]
# # 6 · Diagnose a CT and look at it
#
# **On an unseen CT there are no candidates: a segmenter proposes places, the classifier scores them, and you look at
# each finding, and at what was missed.**
#
# You train a small segmenter, diagnose a scan of the test fold, look at the findings, and compare them with the
# truth.
#
# *Synthetic data. Research use only; not a medical device. A CT without findings may have nodules.*

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image

from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.phantom.dataset import ensure_phantom
from luna_pipeline.core.training.recipes import recipe_by_name
from luna_pipeline.launchers import CuttingRequest, RunOptions, TrainingRequest, create_cutouts, train_once
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.settings import Settings

settings = Settings.in_folder("phantom")
ensure_phantom(settings.data_dir, num_series=20, num_subsets=5, seed=0, size_irc=(64, 160, 160))
create_cutouts(settings, CuttingRequest(CuttingParameters(chunk_shape_irc=(16, 32, 32))))

# %% [markdown]
# ## Two models
# The segmenter gives each voxel a score; it is trained on whole places of the scans. The classifier is that of
# chapter 3. Both leave fold 0 alone. The segmenter is small and trained briefly: it misses nodules, and it proposes
# places that are none. The classifier scores what it proposes.

# %%
options = RunOptions(show_progress=False)
small = {"network.n_blocks": 3, "network.conv_channels": 4, "network.chunk_shape_irc": (16, 32, 32)}
classifier_config = recipe_by_name("demo").with_changes({**small, "num_epochs": 6})
segmenter_config = recipe_by_name("demo_segmenter").with_changes({**small, "num_epochs": 4})
classifier, segmenter = (
    train_once(settings, TrainingRequest(config=config, uses_mlflow=False, options=options))
    for config in (classifier_config, segmenter_config)
)
print(f"classifier: validation AUC {classifier.best_score:.2f}; segmenter: validation Dice {segmenter.best_score:.2f}")

# %% [markdown]
# ## Diagnose
# `diagnose_ct` reads the scan, finds the lungs, runs the segmenter over them, groups voxels to findings, and scores
# each with the classifier. It writes tables, pictures and a report; it is what `luna diagnose` and the service call.

# %%
from luna_pipeline.launchers.diagnosis.diagnose import DiagnosisRequest, diagnose_ct

folds, scans = read_table(settings, "folds"), read_table(settings, "ct_series").set_index("series_instance_uid")
truth = read_table(settings, "candidates").query("source == 'annotation'")
unseen = folds.loc[folds["fold"] == 0, "series_instance_uid"]
uid = truth[truth["series_instance_uid"].isin(unseen)]["series_instance_uid"].value_counts().index[0]
path, out = settings.data_dir / scans.loc[uid, "path"], settings.home / "diagnosis"
names = {"classifier": f"{classifier.name} {classifier.version}", "segmenter": f"{segmenter.name} {segmenter.version}"}
diagnosis = diagnose_ct(settings, DiagnosisRequest(ct=path, out=out, **names))
print(f"{len(diagnosis.nodules)} findings; {', '.join(f'{stage} {s:.1f} s' for stage, s in diagnosis.seconds.items())}")

# %% [markdown]
# ## Look at it
# First the lungs: what is outside the mask is not searched. **A nodule at the chest wall is lost here if the mask is
# too tight**, which is why the search has a margin of 5 mm.

# %%
Image((out / "lungs.png").read_bytes(), width=800)

# %% [markdown]
# Then the findings in falling probability, and where they lie. `report.html` in the same folder has three planes of
# each.

# %%
Image((out / "montage.png").read_bytes(), width=900)

# %% [markdown]
# ## Compare with the truth
# For a phantom we know where the nodules are. A finding hits a nodule if it is nearer to its centre than the radius.
# On a real scan you have no such table: then the findings are what a reader has to check.

# %%
real = truth[truth["series_instance_uid"] == uid]
centers = real[["x_mm", "y_mm", "z_mm"]].to_numpy(dtype=float)
findings = np.array([nodule.center_xyz for nodule in diagnosis.nodules]).reshape(-1, 3)
distance_mm = np.linalg.norm(centers[:, None] - findings[None], axis=2)
is_hit = distance_mm < real["diameter_mm"].to_numpy()[:, None] / 2
rows = []
for number, (diameter, hits) in enumerate(zip(real["diameter_mm"], is_hit), start=1):
    first = int(np.argmax(hits)) if hits.any() else None
    probability = np.nan if first is None else diagnosis.nodules[first].probability
    rows.append({"nodule": number, "diameter_mm": diameter, "finding": first, "probability": probability})
pd.DataFrame(rows).assign(finding=lambda table: (table["finding"] + 1).astype("Int64")).round(2)

# %% [markdown]
# The slice through each nodule: the yellow ring is the truth, the crosses are findings within 5 mm of the slice with
# their probability.

# %%
from luna_pipeline.core.ct.reading import read_ct

ct = read_ct(path, series_instance_uid=uid)
num_shown = min(len(real), 4)
figure, grid = plt.subplots(1, num_shown, figsize=(3.2 * num_shown, 3.6), layout="constrained", squeeze=False)
height, width = np.asarray(ct.hounsfield.shape[1:]) * ct.grid.spacing_irc[1:]
for axes, center, diameter in zip(grid[0], centers, real["diameter_mm"]):
    index, row, col = ct.grid.world_to_voxel(center)
    mm = (ct.hounsfield[round(index)], (0, width, height, 0))
    axes.imshow(mm[0], cmap="gray", vmin=-1350, vmax=150, extent=mm[1])
    place = (np.array([col, row]) + 0.5) * ct.grid.spacing_irc[:0:-1]
    axes.add_patch(plt.Circle(place, diameter / 2 + 2, fill=False, color="#FFD600", linewidth=1.5))
    for number, (nodule, voxel) in enumerate(zip(diagnosis.nodules, ct.grid.world_to_voxel(findings))):
        if abs(voxel[0] - index) * ct.grid.spacing_irc[0] < 5:
            x, y = (voxel[:0:-1] + 0.5) * ct.grid.spacing_irc[:0:-1]
            axes.plot(x, y, "+", color="#56B4E9", markersize=10, markeredgewidth=2)
            label = {"color": "black", "backgroundcolor": "#56B4E9", "fontsize": 8, "ha": "center", "va": "center"}
            axes.text(x, y + (5 if number % 2 else -5), f"{nodule.probability:.2f}", **label, clip_on=True)
    axes.set(title=f"nodule of {diameter:.0f} mm", xlabel="col (mm)", ylabel="row (mm)")
    axes.set(xlim=(place[0] - 25, place[0] + 25), ylim=(place[1] + 25, place[1] - 25))
plt.show()

# %% [markdown]
# ## What can go wrong
# * **A scan that the models know.** A diagnosis of a training scan looks wonderful. The report says so
#   (`diagnosis.notes`).
# * **No finding is no all-clear.** What the segmenter misses, the classifier never sees.
# * **A phantom is easy.** Synthetic nodules are round and clean; these models would fail on patients.
# * **Names of files.** The name of a volume file is shown in the report: do not name files after patients.
#
# ## Exercises
# 1. Diagnose with `recipe=default().with_changes(segmentation_threshold=0.8)` (`core.diagnosis.recipes`). What is
#    lost?
# 2. Diagnose a scan of fold 3 and read `diagnosis.notes`.
