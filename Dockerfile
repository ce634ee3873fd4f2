# The `lpgnet` command in an image, without the source folder. `docker build -t lpgnet .` takes PyTorch for NVIDIA GPUs;
# for the much smaller CPU build add `--build-arg TORCH_INDEX=<the CPU index that pytorch.org names>`. Label a folder by
#   docker run --rm -v "$PWD/exported:/model:ro" -v "$PWD/calls:/recordings:ro" -v "$PWD/timelines:/timelines" lpgnet
# with `--gpus all` on a GPU, and a model of `lpgnet export --bundle_encoders true`, which brings its encoders along.
# /timelines must be writable by the user with the number 1000. No build of the image was run: its commands were, one by
# one, in a fresh virtual environment.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY lpgnet lpgnet
COPY pipeline pipeline
COPY feature_extractors feature_extractors
COPY model model
COPY cache cache
COPY configs configs
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim
ARG TORCH_INDEX=
# PyTorch first, in a layer of its own: it is most of the image, and changes least.
RUN --mount=type=bind,source=constraints.txt,target=/tmp/constraints.txt \
    pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -c /tmp/constraints.txt torch torchaudio
RUN --mount=type=bind,source=constraints.txt,target=/tmp/constraints.txt \
    --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c /tmp/constraints.txt "$(echo /wheels/lpgnet-*.whl)[media,serve]"
RUN useradd --create-home --uid 1000 lpgnet \
    && mkdir /model /recordings /timelines && chown lpgnet /timelines
USER lpgnet
WORKDIR /home/lpgnet
VOLUME ["/model", "/recordings", "/timelines"]
ENTRYPOINT ["lpgnet"]
CMD ["predict", "/recordings", "--model", "/model", "--out", "/timelines"]
