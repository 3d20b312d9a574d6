# One image for every role; EXTRAS says which roles it can play (pyproject.toml, optional-dependencies).
#   CPU:       docker build --build-arg EXTRAS=cpu .                 (EXTRAS=cpu,s3 copies checkpoints to S3 besides)
#   GPU:       docker build --build-arg EXTRAS=learner,metrics,report,rollout,verifier .
#   verifier:  docker build --build-arg EXTRAS=metrics,verifier,watch .    (no torch, no compiler)
FROM python:3.11-slim AS build

RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/leeway
ENV PATH=/opt/leeway/bin:$PATH

ARG EXTRAS=cpu
# Where an image without GPUs has torch from: the package index itself has the build for CUDA, of several gigabytes.
# TORCH_INDEX= (empty) takes the package index that pip is set to.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN case ",$EXTRAS," in *,cpu,*) \
        pip install --no-cache-dir ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch==2.13.0 ;; \
    esac
WORKDIR /src
COPY . .
# The versions that the tests ran with, but for an image with GPUs, whose packages are others.
RUN case ",$EXTRAS," in *,learner,* | *,rollout,*) ;; *) tested="--constraint constraints-cpu.txt" ;; esac; \
    pip install --no-cache-dir $tested ".[$EXTRAS]" \
    && case ",$EXTRAS," in *,cpu,*) pip uninstall --yes torchvision torchaudio torchcodec ;; esac


FROM python:3.11-slim

ARG EXTRAS=cpu
# DeepSpeed and vLLM compile small parts at run time; a verifier compiles nothing.
RUN case ",$EXTRAS," in *,cpu,* | *,learner,* | *,rollout*) \
        apt-get update && apt-get install --yes --no-install-recommends gcc g++ libnuma1 && rm -rf /var/lib/apt/lists/* ;; \
    esac
COPY --from=build /opt/leeway /opt/leeway

# Any user may run it: compose takes the one that owns runs/ on the host. A new volume gets the mode of the folder that it is
# mounted on, so any user may write to one at these places.
RUN useradd --uid 1000 --create-home leeway && mkdir -p /work/runs /models /copies \
    && chmod 1777 /home/leeway /work /work/runs /models /copies
ENV PATH=/opt/leeway/bin:$PATH HOME=/home/leeway HF_HOME=/models
USER leeway
WORKDIR /work
CMD ["leeway", "--help"]
