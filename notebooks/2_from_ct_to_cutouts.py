# %% [markdown]
# # 2 · From CT to cutouts
#
# **A classifier does not look at a whole CT: it looks at a small box around each candidate, so the box decides what
# it can know.**
#
# You turn a position in mm into a voxel, cut boxes, read the cutout file, and see what happens at the border of a
# scan.
#
# *Synthetic data; research use only.*

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

from luna_pipeline.core.cutouts.cutting import CuttingParameters, cut_chunks
from luna_pipeline.core.phantom.dataset import ensure_phantom
from luna_pipeline.launchers import CuttingRequest, create_cutouts
from luna_pipeline.launchers.installation import cutout_store, read_index, read_table
from luna_pipeline.settings import Settings

settings = Settings.in_folder("phantom")
ensure_phantom(settings.data_dir, num_series=20, num_subsets=5, seed=0, size_irc=(64, 160, 160))

# %% [markdown]
# ## Candidates
# A *candidate* is a position that some detector has proposed. Most are no nodules. LUNA16 has 755,000 candidates and
# 1,557 of them are nodules; this data set has fewer of the others, so that training takes seconds. The class is 1
# where a candidate hits an annotated nodule.

# %%
request = CuttingRequest(CuttingParameters(chunk_shape_irc=(16, 32, 32)))
create_cutouts(settings, request)
index = read_index(settings)
counts = index[index["source"] == "candidate"].groupby(["fold", "class"]).size().unstack()
counts.columns = ["others", "nodules"]
axes = counts.plot.bar(stacked=True, figsize=(6, 3.6), color=["#BBBBBB", "#D55E00"], rot=0)
axes.set(xlabel="fold", ylabel="candidates", title="Candidates of each fold")
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# ## From millimetres to a voxel
# The table has world positions. The scan's grid turns them into voxels: subtract the origin, undo the rotation,
# divide by the spacing, reverse the order. `nearest_voxel` does all four, also for flipped and oblique scans.

# %%
from luna_pipeline.core.ct.reading import read_ct

scans = read_table(settings, "ct_series")
candidates = read_table(settings, "candidates")
nodules = candidates[(candidates["class"] == 1) & (candidates["source"] == "candidate")]
nodule = nodules.sort_values("diameter_mm").iloc[-1]
scan = scans.set_index("series_instance_uid").loc[nodule["series_instance_uid"]]
ct = read_ct(settings.data_dir / scan["path"], series_instance_uid=scan.name)
center_xyz = nodule[["x_mm", "y_mm", "z_mm"]].to_numpy(dtype=float)
center_irc = ct.grid.nearest_voxel(center_xyz)
print("world (x, y, z):", center_xyz, "mm")
print("voxel (index, row, col):", center_irc, "of", ct.hounsfield.shape)

# %% [markdown]
# ## The box in the scan
# The cutout has 16 × 32 × 32 voxels. The yellow box is what the classifier gets: everything outside is unknown to it.
# The default of the project is 32 × 48 × 48; here it is smaller, so that training takes less time.

# %%
shape_irc = np.asarray(request.parameters.chunk_shape_irc)
first = center_irc - shape_irc // 2
figure, both = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
gray = {"cmap": "gray", "vmin": -1000, "vmax": 400}
both[0].imshow(ct.hounsfield[center_irc[0]], **gray)
both[0].add_patch(plt.Rectangle(first[:0:-1] - 0.5, shape_irc[2], shape_irc[1], fill=False, color="#FFD600"))
both[0].set(title=f"slice {center_irc[0]} of the scan", xlabel="col (voxels)", ylabel="row (voxels)")
chunk = cut_chunks(ct.hounsfield, center_irc[None], request.parameters)[0]
both[1].imshow(chunk[shape_irc[0] // 2], **gray)
both[1].set(title=f"cutout of a nodule of {nodule['diameter_mm']:.0f} mm", xlabel="col (voxels)", ylabel="row (voxels)")
plt.show()

# %% [markdown]
# ## Nodules and what looks like one
# `cutout_sheet` shows the middle slice of many cutouts. In the first row are nodules, in the others candidates that
# are none: vessels, scars, ends of ribs. **Try to tell them apart before the network does.**

# %%
from luna_pipeline.core.cutouts.sheet import cutout_sheet

store = cutout_store(settings)
rows = index[index["source"] == "candidate"]
shown = [*rows[rows["class"] == 1].iloc[::12][:6].itertuples(), *rows[rows["class"] == 0].iloc[::20][:12].itertuples()]
chunks = np.stack([store.read(row.series_instance_uid).ct_chunks[row.row] for row in shown])
captions = ["no nodule" if np.isnan(row.diameter_mm) else f"nodule {row.diameter_mm:.0f} mm" for row in shown]
Image(cutout_sheet(chunks, captions, columns=6, scale=4))

# %% [markdown]
# ## The file
# All cutouts of a scan are in one `.npz` file, which plain numpy reads. Labels are not in it: they are in the table
# `cutout_index`, so a corrected label changes a table and no file.

# %%
with np.load(settings.cutouts_dir / f"{scan.name}.npz") as file:
    for name in ("ct_chunks", "center_irc", "center_xyz", "candidate_id"):
        print(f"{name:13} {file[name].dtype!s:8} {file[name].shape}")

# %% [markdown]
# ## At the border of the scan
# A box may leave the scan. The rule `pad` keeps the candidate in the middle and fills up with air (-1000 HU). The
# rule `shift`, which the book and the tutorial use, moves the box into the scan: then the candidate is no longer in
# the middle, and the network has to guess which structure is meant. The pictures show the nodule from the front, as
# if the scan ended four slices below its centre; the cross is the middle of the cutout.

# %%
below = center_irc[0] - 4
shorter, center = ct.hounsfield[below:], center_irc - [below, 0, 0]
figure, both = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for axes, rule in zip(both, ("pad", "shift")):
    parameters = CuttingParameters(chunk_shape_irc=(16, 32, 32), edge_rule=rule)
    chunk = cut_chunks(shorter, center[None], parameters)[0]
    axes.imshow(chunk[::-1, 16], **gray, aspect=ct.grid.spacing_mm[2] / ct.grid.spacing_mm[0])
    axes.plot(16, 7, "+", color="#D55E00", markersize=16, markeredgewidth=2)
    axes.set(title=f"edge_rule = {rule!r}", xlabel="col (voxels)", ylabel="slice of the cutout, from the top")
plt.show()

# %% [markdown]
# ## What is cut again
# Each file knows from what it was made. A second call finds nothing to do, and other parameters would change every
# file.

# %%
from luna_pipeline.core.cutouts.service import CtCutoutService

print("second call:", create_cutouts(settings, request))
inputs = {"data_root": settings.data_dir, "catalogue": scans, "candidates": candidates, "store": store}
for rule in ("pad", "shift"):
    asked = CuttingParameters(chunk_shape_irc=(16, 32, 32), edge_rule=rule)
    print(
        f"with edge rule {rule}:", CtCutoutService(**inputs, parameters=asked).plan()["state"].value_counts().to_dict()
    )

# %% [markdown]
# ## What can go wrong
# * **Off by one.** For an even size, "the middle" is voxel `size // 2`. A shift of half a slice is 1 mm and is hard
#   to see.
# * **A box in voxels.** With 0.5 mm pixels a box of 32 voxels ends inside a nodule of 20 mm. `resampled_spacing_mm`
#   cuts all scans at one spacing instead.
# * **A full disk.** All of LUNA16 takes 111 GB as cutouts. `create_cutouts` says so before it starts; training can
#   also cut from the raw CT (`RunOptions(cutouts="on_the_fly")`).
#
# ## Exercises
# 1. Cut the largest nodule with 1 mm in all directions (`resampled_spacing_mm=(1.0, 1.0, 1.0)`) and compare.
# 2. How much of its nodule does each cutout hold? Compare `diameter_mm` with the box's side in mm, scan by scan.
