"""Limits of a data set's scans, each with its reason and source.

A problem makes results wrong. A warning names what is only odd, and may be right.
"""

from dataclasses import dataclass

PROBLEM, WARNING = "problem", "warning"

_LUNA16 = "Setio et al., Medical Image Analysis 42 (2017) 1-13"
_LIDC = "Armato et al., Medical Physics 38 (2011) 915-931"
_PHYSICS = "definition of the Hounsfield scale"
_OURS = "rule of this project"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A rule for scans, or for the data set as a whole.

    Attributes:
        name: Name of the asset check and in tables.
        level: ``PROBLEM`` or ``WARNING``.
        rule: What must hold, in one clause.
        reason: Why.
        source: Where the number comes from.
        advice: What to do.
        column: Number of the scan that is compared; empty for rules that need more than one number.
        lower: Least allowed value, None for any.
        upper: Largest allowed value, None for any.
        unit: Unit of the number.
    """

    name: str
    level: str
    rule: str
    reason: str
    source: str
    advice: str
    column: str = ""
    lower: float | None = None
    upper: float | None = None
    unit: str = ""


SCAN_PROBLEMS = (
    Limit(
        name="no_missing_slices",
        level=PROBLEM,
        rule="No slice is missing between the first and the last",
        reason="nodules behind a gap are at the wrong place; the series is left out until it is complete",
        source=_LUNA16 + " (such scans were left out)",
        advice="Copy the series again.",
        column="missing_slices",
        upper=0,
    ),
    Limit(
        name="voxels_are_hounsfield",
        level=PROBLEM,
        rule="Voxels are Hounsfield units, with air near -1000 and tissue near 0",
        reason="all thresholds, windows and networks take HU",
        source=_PHYSICS,
        advice="Write the CT in HU; see docs/how_to/cut.md.",
    ),
    Limit(
        name="no_scan_twice_across_folds",
        level=PROBLEM,
        rule="The same voxels are not in two folds",
        reason="a model would be tested on scans that it was trained on",
        source=_OURS,
        advice="Remove one of the copies, or give both the same fold.",
    ),
)
SCAN_WARNINGS = (
    Limit(
        name="no_scan_twice",
        level=WARNING,
        rule="The same voxels are in the data set once",
        reason="a scan that is there twice counts twice",
        source=_OURS,
        advice="Remove one of the copies.",
    ),
    Limit(
        name="slice_thickness",
        level=WARNING,
        rule="Slices are at most 2.5 mm thick",
        reason="small nodules are blurred into one slice",
        source=_LUNA16 + " (thicker ones were left out)",
        advice="Take a thinner reconstruction, or report these scans as a subgroup.",
        column="slice_thickness_mm",
        upper=2.5,
        unit="mm",
    ),
    Limit(
        name="slice_spacing",
        level=WARNING,
        rule="Slices are at most 3 mm apart",
        reason="a nodule of 3 mm, the smallest that is annotated, may lie between two slices",
        source=_LIDC + " (nodules from 3 mm)",
        advice="Take a thinner reconstruction, or report these scans as a subgroup.",
        column="slice_spacing_mm",
        upper=3.0,
        unit="mm",
    ),
    Limit(
        name="slices_touch",
        level=WARNING,
        rule="Slices are not farther apart than they are thick, by more than 0.1 mm",
        reason="tissue between the slices was not imaged",
        source=_OURS,
        advice="Take a contiguous reconstruction.",
        column="gap_mm",
        upper=0.1,
        unit="mm",
    ),
    Limit(
        name="pixel_spacing",
        level=WARNING,
        rule="Pixels are 0.4 to 1 mm wide",
        reason="others are of children, of one lung, of a photon-counting scanner, or the header is wrong",
        source=_LIDC + " (0.461 to 0.977 mm)",
        advice="Compare with the scanner's record.",
        column="pixel_spacing_mm",
        lower=0.4,
        upper=1.0,
        unit="mm",
    ),
    Limit(
        name="field_of_view",
        level=WARNING,
        rule="The field of view is 200 to 500 mm wide",
        reason="a smaller one cuts the lungs of adults off; scanners measure to 500 mm",
        source=_OURS,
        advice="Look at a slice: both lungs must be inside.",
        column="field_of_view_mm",
        lower=200.0,
        upper=500.0,
        unit="mm",
    ),
    Limit(
        name="coverage",
        level=WARNING,
        rule="The scan is 200 to 600 mm long",
        reason="lungs of adults are 250 to 300 mm high: a shorter scan lacks a part, a longer one has other organs",
        source=_OURS,
        advice="Look at the coronal overview.",
        column="coverage_mm",
        lower=200.0,
        upper=600.0,
        unit="mm",
    ),
    Limit(
        name="axes_are_straight",
        level=WARNING,
        rule="Axes are within 1 degree of the patient's",
        reason="cutouts follow the scan's axes, so that nodules appear turned",
        source=_OURS,
        advice="Nothing to do if the gantry or the reconstruction was tilted.",
        column="tilt_deg",
        upper=1.0,
        unit="degrees",
    ),
    Limit(
        name="axes_are_axial_lps",
        level=WARNING,
        rule="Slices are axial from feet to head, rows to the back, columns to the left (LPS)",
        reason="other orders are read rightly, and are often the sign of a conversion that lost them",
        source="DICOM PS3.3, C.7.6.2",
        advice="Compare one nodule's place with the original.",
    ),
    Limit(
        name="tube_voltage",
        level=WARNING,
        rule="The tube's voltage is 80 to 140 kV",
        reason="contrast of bone and iodine depends on it",
        source=_LIDC + " (120 to 140 kV; low-dose scans have 80 and 100)",
        advice="Compare with the scanner's record.",
        column="tube_kv",
        lower=80.0,
        upper=140.0,
        unit="kV",
    ),
    Limit(
        name="kernel_is_known",
        level=WARNING,
        rule="DICOM headers name the reconstruction kernel",
        reason="sharp and soft kernels differ in noise and in the look of small nodules",
        source="DICOM PS3.3, C.8.2.1",
        advice="Ask the source of the data.",
    ),
    Limit(
        name="padding",
        level=WARNING,
        rule="At most 30 % of the voxels are padding",
        reason="the circle in a square leaves 1 - pi/4 = 21 % outside; more is a crop or a mask",
        source="geometry",
        advice="Look at a slice.",
        column="padding_share",
        upper=0.30,
    ),
    Limit(
        name="air_peak",
        level=WARNING,
        rule="The peak of air and lung is at -1050 to -800 HU",
        reason="another place is a shifted or scaled scale",
        source=_PHYSICS,
        advice="Check the intercept and slope of the conversion.",
        column="air_peak_hu",
        lower=-1050.0,
        upper=-800.0,
        unit="HU",
    ),
    Limit(
        name="tissue_peak",
        level=WARNING,
        rule="The peak of soft tissue is at 0 to 150 HU",
        reason="muscle and blood have 30 to 70 HU, with contrast up to 150",
        source=_PHYSICS,
        advice="Check the intercept and slope of the conversion.",
        column="tissue_peak_hu",
        lower=0.0,
        upper=150.0,
        unit="HU",
    ),
    Limit(
        name="noise",
        level=WARNING,
        rule="Noise in soft tissue is 2 to 100 HU",
        reason="more hides nodules of low density; less is a smoothed or computed image",
        source=_OURS,
        advice="Look at a slice; report these scans as a subgroup.",
        column="noise_hu",
        lower=2.0,
        upper=100.0,
        unit="HU",
    ),
    Limit(
        name="nodules_per_scan",
        level=WARNING,
        rule="A scan has at most 12 nodules",
        reason="more are metastases or doubled annotations",
        source="LUNA16's annotations.csv (1 to 12 in 601 scans)",
        advice="Look for doubled rows in the annotations.",
        column="num_nodules",
        upper=12,
    ),
    Limit(
        name="smallest_nodule",
        level=WARNING,
        rule="Nodules have 3 mm or more",
        reason="smaller ones were not measured in LIDC-IDRI and LUNA16",
        source=_LIDC,
        advice="Check the unit: diameter, not radius, in mm.",
        column="smallest_nodule_mm",
        lower=3.0,
        unit="mm",
    ),
    Limit(
        name="largest_nodule",
        level=WARNING,
        rule="Nodules have at most 35 mm",
        reason="larger ones are masses (more than 30 mm), or the number is in another unit",
        source="Hansell et al., Radiology 246 (2008) 697-722; largest of LUNA16: 32.3 mm",
        advice="Check the unit: diameter in mm.",
        column="largest_nodule_mm",
        upper=35.0,
        unit="mm",
    ),
)
DATA_SET_WARNINGS = (
    Limit(
        name="contrast_is_uniform",
        level=WARNING,
        rule="Scans are all with a contrast agent, or all without",
        reason="vessels look like nodules without it, and HU of nodules rise with it",
        source=_OURS,
        advice="Report both as subgroups.",
    ),
    Limit(
        name="no_rare_manufacturer",
        level=WARNING,
        rule="Each manufacturer has 5 % of the scans or more, in data sets of 20 scans or more",
        reason="results on so few scans say little about its scanners",
        source=_OURS,
        advice="Do not claim that results hold for these scanners.",
    ),
    Limit(
        name="folds_are_even",
        level=WARNING,
        rule="The largest fold has at most twice as many scans as the smallest",
        reason="figures by fold have different uncertainties",
        source=_OURS,
        advice="Nothing to do for LUNA16's subsets; else assign the folds again.",
    ),
)
LIMITS = (*SCAN_PROBLEMS, *SCAN_WARNINGS, *DATA_SET_WARNINGS)
OF_VOXELS = ("voxels_are_hounsfield", "no_scan_twice_across_folds")
"""Problems that only voxels show."""
RARE_SHARE, MIN_SCANS_FOR_SHARES, MAX_FOLD_RATIO = 0.05, 20, 2.0
