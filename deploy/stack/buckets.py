"""The store's buckets: `make NAME …`, `save NAME FOLDER`, `load NAME FOLDER`. Address and key are AWS's environment."""

import sys
from pathlib import Path

import s3fs


def make(files: s3fs.S3FileSystem, names: list[str]) -> None:
    """Make buckets that are not there."""
    for name in names:
        if not files.exists(name):
            files.mkdir(name)
            print(f"Bucket {name} made")


def save(files: s3fs.S3FileSystem, name: str, folder: Path) -> None:
    """Copy all objects of a bucket below a folder; whole ones only, since an object shows when its upload is done."""
    found = files.find(name, detail=True)
    for number, (path, entry) in enumerate(sorted(found.items()), 1):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(path, str(target))
        if target.stat().st_size != entry["size"]:
            raise OSError(
                f"A copy must be as long as its object, got {target.stat().st_size} bytes ({path}). Try again."
            )
        if number % 100 == 0:
            print(f"{number} of {len(found)} objects of {name}", flush=True)
    print(f"{len(found)} objects of {name} saved")


def load(files: s3fs.S3FileSystem, name: str, folder: Path) -> None:
    """Make a bucket what the folder says: objects that it does not know are removed."""
    kept = {str(path.relative_to(folder)): path for path in sorted((folder / name).rglob("*")) if path.is_file()}
    make(files, [name])
    for path in files.find(name):
        if path not in kept:
            files.rm_file(path)
    for path, source in kept.items():
        files.put_file(str(source), path)
    print(f"{len(kept)} objects of {name} loaded")


def main(command: str, *arguments: str) -> None:
    """Do what is asked for."""
    files = s3fs.S3FileSystem(use_listings_cache=False)
    if command == "make":
        make(files, list(arguments))
    else:
        name, folder = arguments
        {"save": save, "load": load}[command](files, name, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
