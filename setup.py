"""The one part of the build that pyproject.toml cannot say: compiled helpers that may be missing."""

from setuptools import Extension, setup


def helper(name: str, *arguments: str) -> Extension:
    """Describe a helper of one C file; without a compiler the package installs all the same, only slower."""
    path = f"{name.replace('.', '/')}.c"
    return Extension(name, [path], extra_compile_args=["-O3", *arguments], optional=True)


setup(
    ext_modules=[
        helper("luna_pipeline.core.cutouts._gather"),
        # No fused multiply-add: the same bits on every processor.
        helper("luna_pipeline.core.datasets._augment", "-ffp-contract=off"),
    ]
)
