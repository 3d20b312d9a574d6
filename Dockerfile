# One image for every role; EXTRAS says which roles it can play (pyproject.toml, optional-dependencies).
#   CPU:       docker build --build-arg EXTRAS=cpu .
#   GPU:       docker build --build-arg EXTRAS=learner,metrics,report,rollout,verifier .
#   verifier:  docker build --build-arg EXTRAS=metrics,verifier .    (no torch, no compiler)
FROM python:3.11-slim AS build

RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/leeway
ENV PATH=/opt/leeway/bin:$PATH

ARG EXTRAS=cpu
# For EXTRAS=cpu: PyTorch's CPU wheel index, where the package index in use has no CPU build of torch.
ARG TORCH_INDEX=
RUN if [ "$EXTRAS" = cpu ]; then pip install --no-cache-dir ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch==2.13.0; fi
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir ".[$EXTRAS]" \
    && if [ "$EXTRAS" = cpu ]; then pip uninstall --yes torchvision torchaudio torchcodec; fi


FROM python:3.11-slim

ARG EXTRAS=cpu
# DeepSpeed and vLLM compile small parts at run time; a verifier compiles nothing.
RUN case ",$EXTRAS," in *,cpu,* | *,learner,* | *,rollout*) \
        apt-get update && apt-get install --yes --no-install-recommends gcc g++ libnuma1 && rm -rf /var/lib/apt/lists/* ;; \
    esac
COPY --from=build /opt/leeway /opt/leeway

# Any user may run it: compose takes the one that owns runs/ on the host.
RUN useradd --uid 1000 --create-home leeway && mkdir -p /work /models && chmod 1777 /home/leeway /work /models
ENV PATH=/opt/leeway/bin:$PATH HOME=/home/leeway HF_HOME=/models
USER leeway
WORKDIR /work
CMD ["leeway", "--help"]
