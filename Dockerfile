# One image for every role; EXTRAS says which roles it can play (pyproject.toml, optional-dependencies).
#   CPU:  docker build --build-arg EXTRAS=cpu .
#   GPU:  docker build --build-arg EXTRAS=learner,report,rollout,verifier .
FROM python:3.11-slim

# DeepSpeed and vLLM compile small parts at run time.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ libnuma1 && rm -rf /var/lib/apt/lists/*

ARG EXTRAS=cpu
# For EXTRAS=cpu: PyTorch's CPU wheel index, where the package index in use has no CPU build of torch.
ARG TORCH_INDEX=

WORKDIR /src
RUN if [ "$EXTRAS" = cpu ]; then pip install --no-cache-dir ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch==2.13.0; fi
COPY . .
RUN pip install --no-cache-dir ".[$EXTRAS]" \
    && if [ "$EXTRAS" = cpu ]; then pip uninstall --yes torchvision torchaudio torchcodec; fi

WORKDIR /work
CMD ["leeway", "--help"]
