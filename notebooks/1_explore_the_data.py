# %% [markdown]
# # 1 · Explore the data
#
# **A CT is a grid of densities with a spacing in millimetres, and a nodule is a few hundred voxels among millions:
# look at both before you train anything.**
#
# You read a scan, look at its Hounsfield units (HU), see why spacing matters, and look at a nodule from three sides.
#
# *The scans are synthetic: a program has drawn them, and no patient was scanned. They have the file format, geometry
# and tables of LUNA16. Research use only; not a medical device.*

# %% [markdown]
# ## The data set
# All chapters use one small data set, in the folder `phantom` beside the notebook. The first chapter that you run
# makes it, in about half a minute. `create_cutouts` also writes the tables that describe the scans; chapter 2
# explains it.

# %%
import matplotlib.pyplot as plt
import numpy as np

from luna_pipeline.core.cutouts.cutting import CuttingParameters
from luna_pipeline.core.phantom.dataset import ensure_phantom
from luna_pipeline.launchers import CuttingRequest, create_cutouts
from luna_pipeline.launchers.installation import read_table
from luna_pipeline.settings import Settings

settings = Settings.in_folder("phantom")
ensure_phantom(settings.data_dir, num_series=20, num_subsets=5, seed=0, size_irc=(64, 160, 160))
create_cutouts(settings, CuttingRequest(CuttingParameters(chunk_shape_irc=(16, 32, 32))))

scans = read_table(settings, "ct_series")
scans[["series_instance_uid", "subset", "size_irc", "spacing_mm"]].head()

# %% [markdown]
# ## Read a scan
# `read_ct` returns the voxels in HU and their grid. The axes of the array are slice (`index`), `row` and `col`.
# Positions in the patient are millimetres `x, y, z`: x to the left, y to the back, z to the head.

# %%
from luna_pipeline.core.ct.reading import read_ct

scan = scans.iloc[2]
ct = read_ct(settings.data_dir / scan["path"], series_instance_uid=scan["series_instance_uid"])
print("voxels (index, row, col):", ct.hounsfield.shape, ct.hounsfield.dtype)
print("spacing (x, y, z):", ct.grid.spacing_mm, "mm")
print("first voxel at (x, y, z):", ct.grid.origin_xyz, "mm")

# %% [markdown]
# ## Hounsfield units
# HU measure density on a scale where air is -1000 and water is 0. The histogram shows what a chest is made of. Most
# voxels are air, outside the body or in the lungs. A nodule has the density of soft tissue, as vessels, heart and
# muscle have. **Density alone does not tell a nodule from a vessel.**

# %%
tissues = {"air": (-1024, -950), "lung": (-920, -700), "fat": (-120, -60), "soft tissue": (0, 100), "bone": (250, 700)}
figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
axes.hist(ct.hounsfield.ravel(), bins=np.arange(-1050, 800, 10), color="#0072B2", zorder=2)
axes.set(yscale="log", ylim=(1, 2e6), xlabel="Hounsfield units (HU)", ylabel="voxels", title="One synthetic scan")
for place, (tissue, (lower, upper)) in enumerate(tissues.items()):
    axes.axvspan(lower, upper, color="#E69F00", alpha=0.25, linewidth=0, zorder=1)
    axes.text((lower + upper) / 2, 1.2e6 if place % 2 else 5e5, tissue, ha="center", va="top", fontsize=9)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## A window decides what you see
# A screen has 256 grey levels, a CT has thousands of HU. A *window* is the range that is spread from black to white.
# The lung window shows vessels and nodules in the lung; in the soft-tissue window the lung is black, and fat,
# muscle and vessels differ.

# %%
from luna_pipeline.core.ct.pictures import LUNG_WINDOW_HU, SOFT_TISSUE_WINDOW_HU

depth, height, width = np.asarray(ct.hounsfield.shape) * ct.grid.spacing_irc
middle = ct.hounsfield[len(ct.hounsfield) // 2]
figure, both = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
for axes, (name, window) in zip(both, {"lung": LUNG_WINDOW_HU, "soft-tissue": SOFT_TISSUE_WINDOW_HU}.items()):
    shown = axes.imshow(middle, cmap="gray", vmin=window[0], vmax=window[1], extent=(0, width, height, 0))
    axes.set(title=f"{name}: {window[0]} to {window[1]} HU", xlabel="col (mm)", ylabel="row (mm)")
    figure.colorbar(shown, ax=axes, shrink=0.75, label="HU")
plt.show()

# %% [markdown]
# ## Spacing
# Slices are farther apart than pixels, and by another distance in every scan. On the left, a slice from the front is
# drawn with square voxels, as a program does that ignores the spacing: the chest is squashed and round nodules are
# flat. On the right, a millimetre is equally long in both directions. **Measure in millimetres, never in voxels.**

# %%
coronal = ct.hounsfield[::-1, ct.hounsfield.shape[1] // 2]
figure, both = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
gray = {"cmap": "gray", "vmin": LUNG_WINDOW_HU[0], "vmax": LUNG_WINDOW_HU[1]}
both[0].imshow(coronal, **gray)
both[0].set(title="wrong: voxels as squares", xlabel="col (voxels)", ylabel="slice (voxels)")
both[1].imshow(coronal, **gray, extent=(0, width, depth, 0))
both[1].set(title=f"right: slices are {ct.grid.spacing_mm[2]:g} mm apart", xlabel="col (mm)", ylabel="slice (mm)")
plt.show()

# %% [markdown]
# All 20 scans: the same number of pixels covers another length in each. That is why chapter 2 asks how large a cutout
# should be.

# %%
figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
spacing_mm = np.stack(scans["spacing_mm"])
axes.scatter(spacing_mm[:, 0], spacing_mm[:, 2], color="#0072B2")
axes.set(xlabel="pixel spacing (mm)", ylabel="slice spacing (mm)", title="Each dot is a scan", xlim=(0.45, 0.95))
axes.set_ylim(0, spacing_mm[:, 2].max() + 0.5)
axes.grid(color="#DDDDDD")
plt.show()
print(f"48 pixels are {48 * spacing_mm[:, 0].min():.0f} to {48 * spacing_mm[:, 0].max():.0f} mm")

# %% [markdown]
# ## Nodules in three planes
# The table of annotations has a centre in mm and a diameter for each nodule. `plane_pictures` shows the axial,
# coronal and sagittal plane through a position, with the patient's sides (R, L, A, P, H, F) and a scale. Look at all
# three: a vessel that runs through a slice is as round as a nodule there, and long in another plane.

# %%
from luna_pipeline.core.diagnosis.pictures import plane_pictures

candidates = read_table(settings, "candidates")
here = candidates[candidates["series_instance_uid"] == scan["series_instance_uid"]]
nodule = here[here["source"] == "annotation"].sort_values("diameter_mm").iloc[-1]
vessel = here[(here["source"] == "candidate") & (here["class"] == 0)].iloc[-1]
figure, grid = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
rows = {f"nodule, {nodule['diameter_mm']:.1f} mm": nodule, "vessel": vessel}
for row, (name, place) in zip(grid, rows.items()):
    pictures = plane_pictures((place["x_mm"], place["y_mm"], place["z_mm"]), ct.hounsfield, ct.grid, field_mm=30)
    for axes, (plane, picture) in zip(row, pictures.items()):
        axes.imshow(picture)
        axes.set_title(f"{name}: {plane}", fontsize=10)
        axes.axis("off")
plt.show()

# %% [markdown]
# ## What can go wrong
# * **Numbers that are no HU.** DICOM files store raw numbers with a slope and an intercept. A reader that forgets
#   them shows a picture that looks right. `read_ct` applies them and refuses a scan without air near -1000 HU.
# * **Flipped axes.** Some scans of LUNA16 run against x and y. A position in mm must go through the scan's grid
#   (`ct.grid.nearest_voxel`), never through your own arithmetic.
# * **One scan in two folds.** Scans of the same patient must be in the same fold; the table `folds` sees to it.
#
# ## Exercises
# 1. How many voxels does the largest nodule have? Count the voxels above -400 HU within its radius, and compare the
#    volume in mm³ with that of a ball of its diameter.
# 2. Draw the histogram of the lung only (HU below -500, inside the body). What moves if you add noise of 50 HU?
# 3. Replace the data by your own: `Settings.from_environment()` reads `LUNA_DATA_DIR` and `LUNA_HOME`.
