# %% [markdown]
# # 4 · Tune
#
# **A search compares configurations on the validation fold, and its winner is partly luck: always compare it with the
# unchanged recipe, on scans that the search has never seen.**
#
# You search learning rate and width of the network, look at the trials, and judge the winner.
#
# *Synthetic data; the scores say nothing about patients. Research use only.*

# %%
import matplotlib.pyplot as plt
from IPython.display import Image

from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.phantom.dataset import ensure_phantom
from luna_pipeline.core.training.recipes import recipe_by_name
from luna_pipeline.launchers import CuttingRequest, create_cutouts
from luna_pipeline.settings import Settings

settings = Settings.in_folder("phantom")
ensure_phantom(settings.data_dir, num_series=20, num_subsets=5, seed=0, size_irc=(64, 160, 160))
create_cutouts(settings, CuttingRequest(CuttingParameters(chunk_shape_irc=(16, 32, 32))))

# %% [markdown]
# ## What is searched
# A search space names values of the configuration and their ranges. A learning rate is drawn on a logarithmic scale,
# because 0.0001 to 0.001 is as large a step as 0.001 to 0.01. A wrong name or range is refused before anything is
# trained.

# %%
from luna_pipeline.tuning.space import SearchSpace
from luna_pipeline.tuning.study import StudyConfig

space = SearchSpace.from_dict(
    {"optimizer.learning_rate": {"log_uniform": [0.0002, 0.02]}, "network.conv_channels": {"choices": [2, 4]}}
)
base = recipe_by_name("demo").with_changes(
    {"network.n_blocks": 3, "network.conv_channels": 4, "network.chunk_shape_irc": (16, 32, 32)}
)
study = StudyConfig(base=base, space=space, searcher="random", scheduler="none", num_trials=4, num_epochs=2, seed=1)
for variant in study.variants():
    print(f"trial {variant.trial}: {variant}")

# %% [markdown]
# Trial 0 is always the recipe as it is. Without it you would not know whether the search was worth its hours.
#
# ## Run the study
# Ray runs the trials, here one after the other on this machine. Two epochs and four trials are far too few for a real
# search; they show the way in under a minute. On real data use `scheduler="asha"`, which stops poor trials early.

# %%
from luna_pipeline.tuning.request import TuningRequest
from luna_pipeline.tuning.resources import TrialResources
from luna_pipeline.tuning.tune import tune_parameters

one_at_a_time = TrialResources(max_concurrent=1)
request = TuningRequest(study=study, resources=one_at_a_time, uses_mlflow=False, trains_winner=False, report=str)
tuned = tune_parameters(settings, request)
tuned.table[["trial", "rank", "score", "auc", *space.domains, "seconds"]].round(4)

# %% [markdown]
# ## Look at the trials
# Each line is a trial; it runs through its values to its score (CPM of the validation fold). The dashed line is the
# recipe. Look for a pattern: do all good trials lie in one region? **If good and poor trials lie everywhere, you see
# noise.**

# %%
Image(tuned.pictures["parallel_coordinates.png"], width=620)

# %% [markdown]
# ## How much is luck?
# The same configuration with another seed gives another score. Here the recipe is trained with two other seeds. If
# the winner's lead is not clearly larger than this spread, the search has found nothing.

# %%
from luna_pipeline.launchers import RunOptions, TrainingRequest, train_once

options = RunOptions(show_progress=False)
seeds = [base.with_changes(num_epochs=2, seed=seed, name="seeds") for seed in (1, 2)]
again = [train_once(settings, TrainingRequest(config=it, uses_mlflow=False, options=options)) for it in seeds]
figure, axes = plt.subplots(figsize=(7, 2.8), layout="constrained")
axes.plot(tuned.table["auc"], [1] * len(tuned.table), "o", color="#0072B2", label="trials")
axes.plot(tuned.table["auc"][:1], [1], "D", color="#000000", label="trial 0: the recipe")
axes.plot([it.best_score for it in again], [0] * len(again), "s", color="#D55E00", label="recipe, other seeds")
axes.set(xlabel="validation AUC", yticks=[0, 1], yticklabels=["seeds", "study"], ylim=(-0.5, 1.5), xlim=(None, 1))
axes.set_title("Trials and seeds, synthetic")
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
axes.grid(axis="x", color="#DDDDDD")
plt.show()

# %%
print(tuned.conclusion)

# %% [markdown]
# ## What can go wrong
# * **The winner's curse.** The best of many noisy scores is too high. With `trains_winner=True` the winner and the
#   recipe are trained again on all folds but the test fold and compared there, with an interval.
# * **Tuning on the test fold.** Who looks at the test score, changes something and looks again, is tuning on it.
# * **A range that ends too early.** If the best trials lie at the end of a range, widen it.
#
# ## Exercises
# 1. Run the study with `searcher="grid"` and two choices for each value. When is a grid better than random draws?
# 2. Set `trains_winner=True` and read `tuned.comparison`. Does the interval of the difference contain 0?
