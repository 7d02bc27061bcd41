"""The one part of the build that pyproject.toml cannot say: a compiled helper that may be missing."""

from setuptools import Extension, setup

# Without a compiler the package installs all the same, and NumPy does the work in about twice the time.
setup(
    ext_modules=[
        Extension(
            "luna_pipeline.core.cutouts._gather",
            ["luna_pipeline/core/cutouts/_gather.c"],
            extra_compile_args=["-O3"],
            optional=True,
        )
    ]
)
