"""What several commands take: three numbers in one option."""

import click


def voxel_numbers(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int, int] | None:
    """Read D,H,W: three positive numbers of voxels (index, row, col)."""
    if value is None:
        return None
    parts = value.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        rule = "Size must be three positive numbers of voxels D,H,W"
        raise click.BadParameter(f"{rule}, got {value}. Example: 64,128,128")
    return (int(parts[0]), int(parts[1]), int(parts[2]))


def spacing_mm(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[float, float, float] | None:
    """Read X,Y,Z: three positive lengths in mm."""
    if value is None:
        return None
    try:
        x_mm, y_mm, z_mm = (float(part) for part in value.split(","))
    except ValueError as error:
        rule = "Spacing must be three lengths in mm X,Y,Z"
        raise click.BadParameter(f"{rule}, got {value}. Example: 0.7,0.7,1.25") from error
    return (x_mm, y_mm, z_mm)
