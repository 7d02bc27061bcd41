# %% [markdown]
# # 7 · Train on a rented GPU
#
# **The code is the same on a CPU and on a GPU; what differs is what you pay for: waiting data, lost hours and a
# machine that nobody stops.**
#
# You see which device is used, measure its speed, estimate hours and money before you rent, lose a machine in the
# middle of a run, and resume. Everything here also runs on a CPU.
#
# *Synthetic data. Research use only.*

# %%
import time

import matplotlib.pyplot as plt
import torch

from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.distributed import SINGLE_PROCESS
from luna_pipeline.core.phantom.dataset import ensure_phantom
from luna_pipeline.core.training.recipes import recipe_by_name
from luna_pipeline.launchers import CuttingRequest, RunOptions, TrainingRequest, create_cutouts, train
from luna_pipeline.settings import Settings

settings = Settings.in_folder("phantom")
ensure_phantom(settings.data_dir, num_series=20, num_subsets=5, seed=0, size_irc=(64, 160, 160))
create_cutouts(settings, CuttingRequest(CuttingParameters(chunk_shape_irc=(16, 32, 32))))

# %% [markdown]
# ## Which device?
# Training uses a CUDA device where there is one, and the CPU otherwise. You change nothing. If this cell says `cpu`
# on a rented machine, stop: you pay for a GPU that nobody uses. Usually torch was installed without CUDA, or the
# driver is old.

# %%
device = SINGLE_PROCESS.device
print("device:", device, f"({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "")
print("torch", torch.__version__, "with CUDA", torch.version.cuda)

# %% [markdown]
# ## What to change for a GPU
# A GPU is fast if it gets enough at once. Three values matter: a larger batch, 16-bit arithmetic (`mixed_precision`;
# a CPU ignores it), and processes that load the next batch while the GPU computes (`num_workers`). The first two are
# part of the configuration, because they change the result a little; the last one does not.

# %%
small = {"network.n_blocks": 3, "network.conv_channels": 4, "network.chunk_shape_irc": (16, 32, 32)}
config = recipe_by_name("demo").with_changes({**small, "num_epochs": 2, "name": "rented"})
if device.type == "cuda":
    config = config.with_changes({"batch_size": 64, "compute.mixed_precision": True})
num_workers = 4 if device.type == "cuda" else 0
print("batch", config.batch_size, "| mixed precision", config.compute.mixed_precision, "| workers", num_workers)

# %% [markdown]
# ## Measure before you rent for a week
# The cell times training steps of the network on cutouts that are already in memory. That is the upper limit; a
# training run also loads. Throw the first step away: it allocates memory. On a GPU, wait for the device before you
# read the clock.

# %%
from luna_pipeline.core.networks.luna import build_network

network = build_network(config.network).to(device).train()
optimizer = torch.optim.AdamW(network.parameters())
speed = {}
for batch_size in (2, 8, 32):
    chunks = torch.randn(batch_size, 1, 16, 32, 32, device=device) * 400 - 600
    labels = torch.arange(batch_size, device=device) % 2
    for step in range(4):
        if step == 1:
            started = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(chunks), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
    speed[batch_size] = 3 * batch_size / (time.perf_counter() - started)
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
bars = axes.bar([str(size) for size in speed], list(speed.values()), color="#0072B2", width=0.6)
axes.bar_label(bars, fmt="%.0f")
axes.margins(y=0.12)
axes.set(xlabel="batch size", ylabel="samples a second", title=f"Training steps on {device.type}")
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## Hours and money
# LUNA16 has about 755,000 candidates, nine tenths of them in nine training folds. The default cutout has 4.5 times
# the voxels of this one. **Set your own price and your measured speed**; the figure below is a rough estimate,
# without loading, validation and evaluation.

# %%
price_per_hour = 0.50  # in your currency, as the provider shows it
num_samples, num_epochs, larger_cutouts = 755_000 * 8 // 10, 10, (32 * 48 * 48) / (16 * 32 * 32)
hours = {size: num_samples * num_epochs * larger_cutouts / value / 3600 for size, value in speed.items()}
for size, value in hours.items():
    print(f"batch {size:>2}: {value:7.1f} hours, {value * price_per_hour:8.2f} at {price_per_hour:.2f} an hour")

# %% [markdown]
# ## The machine is taken away
# Cheap machines can be taken back at any time, with some seconds of notice (SIGTERM) or none. A run writes its state
# when it gets the notice, after each epoch, and every few minutes (`seconds_between_checkpoints`), to a disk that
# survives the machine. The cell interrupts training after the first epoch, as the notice would.


# %%
def lose_the_machine_after_epoch_1(line: str) -> None:
    if line.startswith("epoch 1/2 validation: loss"):
        raise KeyboardInterrupt
    print(line)


def options(show_progress) -> RunOptions:
    return RunOptions(show_progress=show_progress, num_workers=num_workers, seconds_between_checkpoints=60)


try:
    train(settings, TrainingRequest(config=config, uses_mlflow=False, options=options(lose_the_machine_after_epoch_1)))
except KeyboardInterrupt:
    print("The machine is gone.")

# %% [markdown]
# ## Start the same command again
# The new machine has the same disk. The same request finds the unfinished run and continues it: the result is the
# same to the bit as without the interruption. Epoch 1 takes no time now, because its result is in the
# checkpoint. Nothing that was paid for is computed twice, but the time since the
# last checkpoint.

# %%
trained = train(settings, TrainingRequest(config=config, uses_mlflow=False, options=options(print)))
print(f"{trained.checkpoint.name} {trained.version}: epochs of this process {list(trained.history['epoch'])}")

# %% [markdown]
# ## On the rented machine
# ```sh
# # once, on a volume that outlives the machine
# git clone … && cd luna_pipeline && make setup
# export LUNA_DATA_DIR=/workspace/data LUNA_HOME=/workspace/home LUNA_CACHE=/workspace/cache
# luna create_cutouts
# # after each start; the spend guard stops the machine when the work is done or the budget is used
# bash deploy/runpod/start.sh luna train_luna_classification 0.1.0 --epochs 10
# ```
# `deploy/README.md` has RunPod, Slurm and Kubernetes, and says what was tried on real machines and what was not.
#
# ## What can go wrong
# * **Results on the machine's own disk.** They are gone with it. `LUNA_HOME` must be on a volume or in S3.
# * **A GPU that waits.** If samples a second do not rise with a faster GPU, loading is the limit: more workers, a local
#   copy of the cutouts, or a cheaper GPU.
# * **A forgotten machine.** An idle machine costs as much as a busy one: set `LUNA_MAX_HOURS` and `LUNA_MAX_MONEY`.
# * **Patient data.** Rent only where your data may lie. LUNA16 is public; your own scans are not.
#
# ## Exercises
# 1. Measure with `{"network.conv_channels": 16}`. The work grows by sixteen; does the speed fall as much?
# 2. Which costs less for you: a slow cheap machine for a day, or a fast one for two hours? Where is the break-even?
