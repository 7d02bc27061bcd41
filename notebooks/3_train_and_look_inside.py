# %% [markdown]
# # 3 · Train and look inside
#
# **A falling training loss proves nothing: the validation curve, the worst errors and a look at what the network
# attends to show whether it has learned what a nodule is.**
#
# You train a small network, read its curves, look at the cutouts it gets most wrong, and draw its activations.
#
# *Synthetic data; the scores say nothing about patients. Research use only.*

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image

from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.phantom.dataset import ensure_phantom
from luna_pipeline.launchers import CuttingRequest, create_cutouts
from luna_pipeline.launchers.installation import cutout_store, read_index, read_table
from luna_pipeline.settings import Settings

settings = Settings.in_folder("phantom")
ensure_phantom(settings.data_dir, num_series=20, num_subsets=5, seed=0, size_irc=(64, 160, 160))
create_cutouts(settings, CuttingRequest(CuttingParameters(chunk_shape_irc=(16, 32, 32))))
index = read_index(settings)

# %% [markdown]
# ## The configuration is a value
# A recipe is a function that returns the complete configuration of a run. `with_changes` returns a variant, and
# checks it. The values are stored in the checkpoint, so that you always know how a model was made.

# %%
from luna_pipeline.core.training.recipes import recipe_by_name

small = {"network.n_blocks": 3, "network.conv_channels": 4, "network.chunk_shape_irc": (16, 32, 32), "num_epochs": 6}
config = recipe_by_name("demo").with_changes(small)
for place in ("network.name", "network.n_blocks", "optimizer.learning_rate", "ratio", "batch_size", "num_epochs"):
    print(f"{place}: {config.flat().get(place, getattr(config, place, None))}")

# %% [markdown]
# ## Train
# Fold 0 is the test fold: nothing here looks at it. Fold 1 is the validation fold: it decides which epoch is kept.
# The other folds are for training. No scan and no patient is in two folds.

# %%
from luna_pipeline.launchers import RunOptions, TrainingRequest, train

options = RunOptions(show_progress=False)
trained = train(settings, TrainingRequest(config=config, uses_mlflow=False, options=options))
checkpoint = trained.checkpoint
print(f"{trained.seconds:.0f} s; kept epoch {checkpoint.epoch}, validation AUC {checkpoint.best_score:.3f}")

# %% [markdown]
# ## Read the curves
# Training loss nearly always falls. **The validation curve decides**: where it rises while training loss falls, the
# network learns its training scans by heart. Validation has a few dozen nodules here, so its curve jumps: differences
# of some hundredths between epochs are chance.

# %%
from luna_pipeline.core.evaluation.plots import training_curves_png

Image(training_curves_png(trained.history, is_synthetic=True), width=800)

# %% [markdown]
# ## Look at the worst errors
# The sheet shows the candidates without a nodule that score highest, and the nodules that score lowest. Ask of each:
# could I have told? Is the label right? Is it a kind of structure that training hardly has?

# %%
from luna_pipeline.core.evaluation.error_sheet import error_sheet
from luna_pipeline.launchers import predict_table

candidates, store = read_table(settings, "candidates"), cutout_store(settings)
validation = index[(index["fold"] == 1) & (index["source"] == "candidate")]
scores = predict_table(checkpoint, validation, candidates, store)
Image(error_sheet(scores, index, store, num_each=6, scale=3, is_synthetic=True))

# %% [markdown]
# ## The scores of both classes
# A good classifier pushes the two histograms apart. Where they overlap, every threshold makes errors; chapter 5
# chooses one.

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for label, name, colour in ((0, "no nodule", "#999999"), (1, "nodule", "#D55E00")):
    chosen = scores.loc[scores["class"] == label, "probability"]
    axes.hist(chosen, bins=np.linspace(0, 1, 21), alpha=0.7, color=colour, label=f"{name} ({len(chosen)})")
axes.set(xlabel="score", ylabel="candidates", title="Validation fold, synthetic")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## What the first layers see
# The network is a stack of blocks. Each halves the cutout and doubles the channels. The pictures show the middle
# slice of a nodule and the four channels after the first block: some are bright in dense tissue, some at edges, some
# in air.

# %%
from luna_pipeline.core.training.building import network_of

network = network_of(checkpoint).eval()
best = scores[scores["class"] == 1].sort_values("probability").iloc[-1]
row = validation.set_index("candidate_id").loc[best["candidate_id"]]
chunk = store.read(row["series_instance_uid"]).ct_chunks[row["row"]]
volume = torch.tensor(chunk, dtype=torch.float32)[None, None]
with torch.inference_mode():
    features = network.luna_blocks[0](network.tail_batchnorm(volume))[0].numpy()
figure, grid = plt.subplots(1, 5, figsize=(9, 2.1), layout="constrained")
grid[0].imshow(chunk[len(chunk) // 2], cmap="gray", vmin=-1000, vmax=400)
grid[0].set_title("cutout", fontsize=9)
for number, (axes, channel) in enumerate(zip(grid[1:], features)):
    axes.imshow(channel[len(channel) // 2], cmap="viridis")
    axes.set_title(f"channel {number}", fontsize=9)
for axes in grid:
    axes.axis("off")
plt.show()

# %% [markdown]
# ## Where the score comes from
# `activation_map` (Grad-CAM) shows which places raise the score of class 1. For a nodule the map should lie on the
# nodule. **If it lies elsewhere, the network may use a shortcut**: the chest wall, the border of the scan, the noise
# of one scanner.

# %%
from luna_pipeline.core.networks.activation import activation_map

false_alarm = scores[scores["class"] == 0].sort_values("probability").iloc[-1]
missed = scores[scores["class"] == 1].sort_values("probability").iloc[0]
cases = {"found nodule": best, "highest false score": false_alarm, "lowest nodule": missed}
figure, grid = plt.subplots(2, 3, figsize=(8.4, 5.2), layout="constrained")
for column, (name, case) in zip(grid.T, cases.items()):
    row = validation.set_index("candidate_id").loc[case["candidate_id"]]
    chunk = store.read(row["series_instance_uid"]).ct_chunks[row["row"]]
    map_ = activation_map(network, network.luna_blocks[1], torch.tensor(chunk, dtype=torch.float32)[None, None])[0]
    middle = len(chunk) // 2
    for axes in column:
        axes.imshow(chunk[middle], cmap="gray", vmin=-1000, vmax=400)
        axes.axis("off")
    shown = column[1].imshow(map_[middle], cmap="inferno", alpha=0.6, vmin=0, vmax=1)
    column[0].set_title(f"{name}: score {case['probability']:.2f}", fontsize=10)
figure.colorbar(shown, ax=grid[1], label="share of the highest", shrink=0.8)
plt.show()

# %% [markdown]
# ## What can go wrong
# * **Leaks.** If scans of one patient are in training and validation, validation is too good. The project refuses it
#   where patients are known; look at the check `no_leak` where they are not.
# * **The best of many epochs.** The kept epoch is the best of six on the same few nodules, so its score is too
#   optimistic. Only the test fold, used once, is fair.
# * **A map is no explanation.** A map on the nodule does not prove that the network is right for the right reason.
#
# ## Exercises
# 1. Train with `{"ratio.non_nodule": 5}`. What happens to the scores of both classes?
# 2. Draw the maps of `network.luna_blocks[2]`. Why are they coarser?
# 3. Cover the nodule with lung (`chunk[6:10, 10:22, 10:22] = -850`) and score it again.
