"""Builds the Croissant description of candidate table, folds and cutouts.

Source:
    Croissant Format Specification 1.1, MLCommons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from luna_pipeline.core.croissant.files import MANIFEST_COLUMNS, DescribedFile
from luna_pipeline.core.sources.card import SourceCard
from luna_pipeline.core.storage.columns import COLUMNS

if TYPE_CHECKING:
    from mlcroissant import Context, Field, FileObject, FileSet, Metadata, RecordSet

INTENDED_USE = "Research use only; not a medical device."
_SYNTHETIC = "Synthetic data: computed phantoms in the form of this source, not patients."
_NAMES = (
    *("candidate_id", "series_instance_uid", "x_mm", "y_mm", "z_mm", "class", "diameter_mm", "malignancy"),
    *("is_malignant", "source", "fold", "rule", "num_bytes", "sha256"),
)
# Keyed hashes of patients are left out.
_COLUMNS = {name: COLUMNS[name] for name in _NAMES} | {"file": "Cutouts of the CT, a NumPy .npz file."}
CANDIDATES, FOLDS, SPLITS, CUTOUT_FILES = "candidates", "folds", "splits", "cutout_files"
_CUTOUT_SET = "cutouts"
_CROISSANT = "http://mlcommons.org/croissant/1.1"


@dataclass(frozen=True, kw_only=True)
class DescribedTables:
    """What a description is made from.

    Attributes:
        cards: Cards of the data sources.
        is_synthetic: Whether the CTs are phantoms.
        version: Version of the description, three numbers with points.
        published: Date of the description.
        candidates: File and content of the candidate table.
        folds: File and content of the folds.
        manifest: File of ``write_manifest``; None without cutouts.
        cutouts: Pattern of the cutout files, relative to the description.
    """

    cards: Sequence[SourceCard]
    is_synthetic: bool
    version: str
    published: datetime
    candidates: tuple[DescribedFile, pd.DataFrame]
    folds: tuple[DescribedFile, pd.DataFrame]
    manifest: DescribedFile | None
    cutouts: str


def croissant_json(tables: DescribedTables) -> dict[str, Any]:
    """Return the description as JSON-LD.

    Raises:
        ValueError: If mlcroissant finds an error in it.
    """
    import mlcroissant as mlc

    context = mlc.Context(conforms_to=_CROISSANT)
    try:
        metadata = _metadata(context, tables)
    except mlc.ValidationError as error:
        text = " ".join(str(error).split())[:300]
        msg = f"A description must be valid Croissant, got: {text}. Report it as an issue."
        raise ValueError(msg) from error
    made: dict[str, Any] = metadata.to_json()
    made["datePublished"] = tables.published.date().isoformat()
    return made


def _metadata(context: "Context", tables: DescribedTables) -> "Metadata":
    import mlcroissant as mlc

    names = "+".join(card.name for card in tables.cards)
    titles = "; ".join(card.title for card in tables.cards)
    about = f"Candidates of lung nodules in chest CT, folds and cutouts, made by luna_pipeline from: {titles}."
    head = [about, _SYNTHETIC] if tables.is_synthetic else [about]
    licences = [card.licence for card in tables.cards]
    return mlc.Metadata(
        ctx=context,
        name=f"{names}-synthetic" if tables.is_synthetic else names,
        description=" ".join([*head, INTENDED_USE]),
        license=["None of others: computed by luna_pipeline."] if tables.is_synthetic else licences,
        cite_as=None if tables.is_synthetic else "; ".join(card.citation for card in tables.cards),
        url=tables.cards[0].address,
        version=tables.version,
        date_published=tables.published,
        data_limitations=[INTENDED_USE, *(trap for card in tables.cards for trap in card.traps)],
        distribution=_distribution(context, tables),
        record_sets=_record_sets(context, tables),
    )


def _distribution(context: "Context", tables: DescribedTables) -> "list[FileObject | FileSet]":
    import mlcroissant as mlc

    files = [tables.candidates[0], tables.folds[0], *([tables.manifest] if tables.manifest else [])]
    made: list[FileObject | FileSet] = [
        mlc.FileObject(
            ctx=context,
            id=file.name,
            name=file.name,
            description=file.description,
            content_url=file.path,
            content_size=f"{file.num_bytes} B",
            encoding_formats=[file.encoding],
            sha256=file.sha256,
        )
        for file in files
    ]
    if tables.manifest:
        described = "Cutouts of HU around the candidates, a NumPy .npz file a CT; digests are in the manifest."
        made.append(
            mlc.FileSet(
                ctx=context,
                id=_CUTOUT_SET,
                name=_CUTOUT_SET,
                description=described,
                includes=[tables.cutouts],
                encoding_formats=["application/octet-stream"],
            )
        )
    return made


def _record_sets(context: "Context", tables: DescribedTables) -> "list[RecordSet]":
    import mlcroissant as mlc

    to_folds = mlc.Source(field=f"{FOLDS}/series_instance_uid")
    candidates = _fields(context, CANDIDATES, *tables.candidates, references={"series_instance_uid": to_folds})
    # Joined by the series, which the reference states.
    candidates.append(_field(context, CANDIDATES, "fold", mlc.DataType.INTEGER, mlc.Source(field=f"{FOLDS}/fold")))
    made = [
        _splits(context, sorted({int(fold) for fold in tables.folds[1]["fold"]})),
        _record_set(context, FOLDS, "series_instance_uid", _fields(context, FOLDS, *tables.folds)),
        _record_set(context, CANDIDATES, "candidate_id", candidates),
    ]
    if tables.manifest:
        kinds = pd.DataFrame(columns=list(MANIFEST_COLUMNS)).astype({"num_bytes": "int64"})
        fields = _fields(context, CUTOUT_FILES, tables.manifest, kinds)
        made.append(_record_set(context, CUTOUT_FILES, "series_instance_uid", fields))
    return made


def _record_set(context: "Context", name: str, key: str, fields: "list[Field]") -> "RecordSet":
    import mlcroissant as mlc

    return mlc.RecordSet(ctx=context, id=name, name=name, key=[f"{name}/{key}"], fields=fields)


def _splits(context: "Context", folds: Sequence[int]) -> "RecordSet":
    """Return the enumeration of the splits: one a fold, of which the fold is the test part."""
    import mlcroissant as mlc

    return mlc.RecordSet(
        ctx=context,
        id=SPLITS,
        name=SPLITS,
        description="Cross-validation: each fold is the test part of one split.",
        data_types=[mlc.DataType.SPLIT],
        key=[f"{SPLITS}/name"],
        fields=[
            mlc.Field(ctx=context, id=f"{SPLITS}/name", name="name", data_types=mlc.DataType.TEXT),
            mlc.Field(ctx=context, id=f"{SPLITS}/fold", name="fold", data_types=mlc.DataType.INTEGER),
        ],
        data=[{f"{SPLITS}/name": f"fold_{fold}", f"{SPLITS}/fold": fold} for fold in folds],
    )


def _fields(
    context: "Context",
    name: str,
    file: DescribedFile,
    table: pd.DataFrame,
    *,
    references: Mapping[str, Any] | None = None,
) -> "list[Field]":
    """Return a field for each column that is described; keyed hashes of patients are not."""
    import mlcroissant as mlc

    return [
        _field(
            context,
            name,
            column,
            _kind_of(table[column].dtype),
            mlc.Source(file_object=file.name, extract=mlc.Extract(column=column)),
            **({"references": references[column]} if references and column in references else {}),
        )
        for column in table.columns
        if column in _COLUMNS
    ]


def _field(context: "Context", name: str, column: str, kind: Any, source: Any, **options: Any) -> "Field":
    import mlcroissant as mlc

    return mlc.Field(
        ctx=context,
        id=f"{name}/{column}",
        name=column,
        description=_COLUMNS[column],
        data_types=kind,
        source=source,
        **options,
    )


def _kind_of(dtype: Any) -> Any:
    import mlcroissant as mlc

    if pd.api.types.is_bool_dtype(dtype):
        return mlc.DataType.BOOL
    if pd.api.types.is_integer_dtype(dtype):
        return mlc.DataType.INTEGER
    return mlc.DataType.FLOAT64 if pd.api.types.is_float_dtype(dtype) else mlc.DataType.TEXT
