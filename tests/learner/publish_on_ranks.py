"""Run under torchrun by ``test_publication.py``: rank 0 publishes two versions under ZeRO 0 and 3, by file.

Arguments: model folder, output folder. The weights of version 1 are those of version 0, halved, so that every number of
ranks has the same."""

import sys
from pathlib import Path

import torch
from leeway_rl.common.tensors import tensors_of
from leeway_rl.common.weights import WeightPublisher
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.publication import FlatBuffers
from tiny_policy import make_config


class NoStream:
    """The manifests of one publisher, in this process."""

    def __init__(self) -> None:
        self.manifests_ = []

    def manifests(self):
        return list(self.manifests_)

    def publish_manifest(self, manifest):
        self.manifests_.append(manifest)

    def leased_versions(self):
        return set()


def main() -> None:
    torch.set_num_threads(1)
    model_path, out = sys.argv[1], Path(sys.argv[2])
    for stage in (0, 3):
        policy = Policy(make_config(model_path, train__zero_stage=stage))
        buffers = FlatBuffers(policy.shapes(), "bfloat16", lag=0)
        folder = out / f"{policy.world}-ranks-zero-{stage}"
        options = {"incarnation": 1, "transport": "file", "folder": folder, "threads": 2, "shard_bytes": 1 << 16}
        publisher = WeightPublisher(NoStream(), **options) if policy.rank == 0 else None
        for version in range(2):
            weights = buffers.at(version)
            policy.copy_weights(tensors_of(weights) if policy.rank == 0 else None)
            if publisher is not None:
                publisher.publish(version, weights)
            for parameter in policy.module.parameters():
                getattr(parameter, "ds_tensor", parameter).data.mul_(0.5)  # under ZeRO 3, this rank's part


if __name__ == "__main__":
    main()
