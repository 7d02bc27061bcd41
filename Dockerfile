# One image for every part of a deployment: code location, webserver, daemon, runs, MLflow, TensorBoard, service, `luna`.
# Research use only; not a medical device. It holds no data.
#
#   docker build -t luna-pipeline:local .                                      CPU
#   docker build -t luna-pipeline:cuda --build-arg ACCELERATOR=cuda .          CUDA (and no other torch)
#
# Needs BuildKit (Docker 20.10 or newer). pip's own package index is used. TORCH_INDEX is the address of a further index
# for torch, because not every index has a build without CUDA.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Lists of packages to install, from pyproject.toml at the versions of requirements.lock. The long steps below depend on
# these lists only, so that other changes of the two files do not repeat them.
FROM ${PYTHON_IMAGE} AS pins
WORKDIR /pins
COPY pyproject.toml requirements.lock ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = project['optional-dependencies']; \
    print(*project['dependencies'], *extras['postgres'], *extras['s3'], *extras['serving'], sep='\n')" > packages.txt \
 && grep -vE '^ *(#|$)' requirements.lock > constraints.txt \
 && grep -iE '^(torch|filelock|fsspec|jinja2|markupsafe|mpmath|networkx|setuptools|sympy|typing_extensions)==' \
    constraints.txt > torch.txt
# In a separate file, because the error message of a failed step repeats the whole step.
RUN printf '%s\n' \
    'import sys' \
    'import torch' \
    'wanted, index = sys.argv[1:]' \
    'cuda = torch.version.cuda' \
    'if wanted not in ("cpu", "cuda"):' \
    '    sys.exit(f"The accelerator must be cpu or cuda, got {wanted!r} (ACCELERATOR). Name one of the two.")' \
    'if wanted == "cuda" and not cuda:' \
    '    said = f"An image for CUDA must have a torch with CUDA, got {torch.__version__} (TORCH_INDEX={index!r})."' \
    '    sys.exit(f"{said} Name an index that has one, or none.")' \
    'if wanted == "cpu" and cuda:' \
    '    print(f"WARNING: torch {torch.__version__} has CUDA {cuda} in it: the image is several GB larger than it")' \
    '    print("WARNING: need be. Let the build argument TORCH_INDEX name an index of CPU builds.")' \
    > check_torch.py

# The user, then /opt/venv: torch in one layer, everything else in the next. No compiler, no pip cache.
FROM ${PYTHON_IMAGE} AS packages
RUN groupadd --gid 1000 luna \
 && useradd --uid 1000 --gid luna --home-dir /tmp --no-create-home --shell /bin/bash luna \
 && install -d -o luna -g luna /luna /luna/data /luna/incoming /luna/home /luna/cache /luna/cache/s3 /luna/cache/local /luna/dagster /luna/service \
 && python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
ARG PIP_CACHE_DIR=/var/cache/pip
ARG PIP_DISABLE_PIP_VERSION_CHECK=1
ARG TORCH_INDEX=""
# Compile byte code here: later the file system may be read only, and every start would compile everything again. Files
# for testing or extending torch are removed (`torch.compile`, `is_compiled` in a recipe, needs a compiler, which this
# image does not have). Of torch's programs one is needed to share memory between processes.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip --mount=type=bind,from=pins,source=/pins/torch.txt,target=/tmp/torch.txt \
    if [ -n "$TORCH_INDEX" ]; then \
      pip install --no-deps --index-url "$TORCH_INDEX" "$(grep '^torch==' /tmp/torch.txt)"; \
    fi \
 && pip install -r /tmp/torch.txt \
 && torch="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch" \
 && rm -rf "$torch/test" "$torch/include" "$torch/share/cmake" \
 && find "$torch/bin" -mindepth 1 ! -name torch_shm_manager -delete
ARG ACCELERATOR=cpu
RUN --mount=type=bind,from=pins,source=/pins/check_torch.py,target=/tmp/check_torch.py \
    python -W ignore /tmp/check_torch.py "$ACCELERATOR" "$TORCH_INDEX"
# Remove tests of other packages, Java and the sources of minified pages; `testing` modules stay.
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/var/cache/pip \
    --mount=type=bind,from=pins,source=/pins/constraints.txt,target=/tmp/constraints.txt \
    --mount=type=bind,from=pins,source=/pins/packages.txt,target=/tmp/packages.txt \
    pip install --constraint /tmp/constraints.txt -r /tmp/packages.txt \
 && site="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && for package in matplotlib mpl_toolkits mpmath networkx numpy pandas pyarrow scipy sklearn sympy; do \
      find "$site/$package" -type d -name tests -prune -exec rm -r {} + || exit 1; \
    done \
 && find "$site/dagster_webserver" "$site/mlflow" "$site/ray" -name '*.js.map' -delete \
 && rm -rf "$site/pyarrow/include" "$site/ray/jars"

# A compiler for the two C helpers, and the init process; nothing else of this stage gets into the image.
FROM ${PYTHON_IMAGE} AS code
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The versions of Debian's stable release are used for both.
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends gcc libc6-dev tini \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /code
RUN --mount=type=bind,from=pins,source=/pins/torch.txt,target=/tmp/torch.txt \
    python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check "$(grep '^setuptools==' /tmp/torch.txt)"
COPY pyproject.toml setup.py README.md LICENSE ./
COPY luna_pipeline luna_pipeline
# Check that both helpers were built: without a compiler the package is built without them and is slower.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir /wheels . \
 && test "$(python -m zipfile -l /wheels/*.whl | grep -cE '_(gather|augment)\..*\.so ')" = 2

FROM packages
COPY --from=code /usr/bin/tini-static /usr/bin/tini
# The root file system may be read only: all files are written below /luna (volumes) or to /tmp.
ENV LUNA_DATA_DIR=/luna/data \
    LUNA_HOME=/luna/home \
    LUNA_CACHE=/luna/cache/s3 \
    LUNA_SERVICE_DIR=/luna/service \
    DAGSTER_HOME=/luna/dagster \
    HOME=/tmp \
    USER=luna \
    LOGNAME=luna \
    MPLCONFIGDIR=/tmp/matplotlib \
    XDG_CACHE_HOME=/tmp/.cache \
    DAGSTER_DISABLE_TELEMETRY=true \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR=false \
    RAY_USAGE_STATS_ENABLED=0 \
    GIT_PYTHON_REFRESH=quiet \
    PYTHONUNBUFFERED=1 \
    PYTHONWARNINGS=ignore
COPY dagster.yaml /opt/luna/dagster.yaml
# A single container works like `make demo`; the stack sets another DAGSTER_HOME.
RUN ln -s /opt/luna/dagster.yaml /luna/dagster/dagster.yaml
COPY config /opt/luna/config
COPY deploy/stack /opt/luna/stack
RUN --mount=type=bind,from=code,source=/wheels,target=/tmp/wheels \
    pip install --no-deps --no-index --no-cache-dir /tmp/wheels/*.whl
LABEL org.opencontainers.image.title="luna-pipeline" \
      org.opencontainers.image.description="From raw chest CT to scored lung-nodule classifiers. Research use only; not a medical device." \
      org.opencontainers.image.licenses="MIT"
# By number, so that a platform can verify that it is not root.
USER 1000:1000
WORKDIR /luna
EXPOSE 4000
HEALTHCHECK --interval=30s --timeout=20s --start-period=90s --retries=3 \
    CMD ["dagster", "api", "grpc-health-check", "-p", "4000"]
ENTRYPOINT ["tini", "--"]
CMD ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", "4000", "-m", "luna_pipeline.definitions"]
