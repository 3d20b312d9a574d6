"""Make the tiny preset: a Qwen2 model of 0.4M parameters that adds two-digit numbers and is right over half the time.

    python presets/tiny/make_model.py            # a few minutes on one core, the same bytes every time

Writes, beside this script, ``model/`` (a Hugging Face folder: config, weights, tokenizer with chat template) and
``addition.jsonl`` (the prompts, rows ``{"prompt": "47+85", "answer": "132", "ability": "exact"}``: judged as
mathematics, a copied question would be its own answer).

The model is trained from scratch on worked demonstrations, column by column:

    47+85=  7+5=12,4+8+1=13,\\boxed{132}

A share of them (``--wrong``) carries one wrong digit, and goes on from there as if it were right. So the model knows
how to add, but slips as its teacher did: at temperature 1 it starts at a reward near 0.6, and reinforcement learning
can take the slips away within a hundred steps.

The form is the teacher's choice and changes no result: the order of a column's terms, the separator after it
(``8+4+1=13;``). Mostly it follows its habit (``--habit``). So most of the entropy at the start is error and will go,
while there is room for as much that costs no reward: the controller can hold its target as the reward rises.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

BOX = "\\boxed{"
PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
SEPARATORS = ",;:"
VOCABULARY = [PAD, END, UNKNOWN, *"0123456789", "+", "=", *SEPARATORS, BOX, "}"]
CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}={% endif %}"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Every character is a token, and so is ``\\boxed{``."""
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    # An added token is cut out first, whatever class AutoTokenizer picks: for a Qwen2 model, one with its own splits.
    tokenizer.add_tokens([BOX])
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def make_model() -> Qwen2ForCausalLM:
    """The model, untrained. Its heads have width 32, the smallest that vLLM's CPU attention takes."""
    end, pad = VOCABULARY.index(END), VOCABULARY.index(PAD)
    config = Qwen2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.update(do_sample=True, temperature=1.0, top_p=1.0, top_k=0, eos_token_id=end)
    return model


def demonstration(a: int, b: int, rng: random.Random, wrong: float, habit: float) -> str:
    """The column sum of a and b; with probability ``wrong`` one digit of a result is off and what follows keeps it.

    How it is written is free. By ``habit``, a column's terms stand as in the prompt with the carry last,
    and it ends with a comma; otherwise the terms stand in any order, and it ends with any of ``SEPARATORS``.
    """
    slip = rng.choice(("ones", "tens", "box")) if rng.random() < wrong else "none"
    ones = a % 10 + b % 10
    carry = ones // 10
    tens = a // 10 + b // 10 + carry
    if slip == "ones":
        ones = replace_digit(ones, len(str(ones)) - 1, rng)
    if slip == "tens":
        tens = replace_digit(tens, len(str(tens)) - 1, rng)
    total = tens * 10 + ones % 10
    if slip == "box":
        total = replace_digit(total, rng.randrange(len(str(total))), rng)
    columns = column((a % 10, b % 10), ones, rng, habit) + column((a // 10, b // 10, *[1] * carry), tens, rng, habit)
    return f"{columns}{BOX}{total}}}"


def column(terms: tuple[int, ...], result: int, rng: random.Random, habit: float) -> str:
    """One column as text."""
    order = terms if rng.random() < habit else rng.sample(terms, len(terms))
    separator = SEPARATORS[0] if rng.random() < habit else rng.choice(SEPARATORS)
    return f"{'+'.join(map(str, order))}={result}{separator}"


def replace_digit(number: int, place: int, rng: random.Random) -> int:
    """Another digit at ``place``, counted from the left; never a leading zero in a longer number."""
    digits = list(str(number))
    choices = [d for d in "0123456789" if d != digits[place] and not (d == "0" and place == 0 and len(digits) > 1)]
    digits[place] = rng.choice(choices)
    return int("".join(digits))


def warm_up(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace) -> None:
    """Supervised training on fresh demonstrations; the loss is on what follows the prompt."""
    rng = random.Random(args.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1.0, (k + 1) / 50) * 0.5 * (1 + math.cos(math.pi * k / args.steps))
    )
    prompt_length = len(tokenizer("10+10=")["input_ids"])
    start = time.time()
    for step in range(args.steps):
        rows = []
        for _ in range(args.batch):
            a, b = rng.randint(10, 99), rng.randint(10, 99)
            rows.append(f"{a}+{b}={demonstration(a, b, rng, args.wrong, args.habit)}{END}")
        batch = tokenizer(rows, padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        labels[:, :prompt_length] = -100
        # Padding is on the right, where causal attention never looks back from a counted token: no mask needed.
        loss = model(input_ids=batch["input_ids"], labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step + 1 == args.steps:
            print(f"step {step:5d}  loss {loss.item():.4f}  {time.time() - start:5.1f} s", flush=True)


@torch.inference_mode()
def measure(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: int = 512) -> tuple[float, float]:
    """Mean reward and mean token entropy (nats) of samples at temperature 1."""
    rng = random.Random(12345)
    pairs = [(rng.randint(10, 99), rng.randint(10, 99)) for _ in range(prompts)]
    batch = tokenizer([f"{a}+{b}=" for a, b in pairs], return_tensors="pt")
    out = model.generate(**batch, max_new_tokens=40, return_dict_in_generate=True, output_logits=True)
    responses = out.sequences[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
    right = [f"{BOX}{a + b}}}" in text for (a, b), text in zip(pairs, texts, strict=True)]
    logp = torch.log_softmax(torch.stack(out.logits, dim=1).float(), dim=-1)
    entropy = -(logp.exp() * logp).sum(-1)
    counted = responses != tokenizer.pad_token_id
    print("samples:", *texts[:4], sep="\n  ")
    return sum(right) / prompts, (entropy * counted).sum().item() / counted.sum().item()


def write_prompts(path: Path, seed: int, rows: int) -> None:
    """``rows`` different additions in random order."""
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    random.Random(seed).shuffle(pairs)
    with path.open("w") as out:
        for a, b in pairs[:rows]:
            out.write(json.dumps({"prompt": f"{a}+{b}", "answer": str(a + b), "ability": "exact"}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for model/ and addition.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=500, help="training steps")
    parser.add_argument("--batch", type=int, default=128, help="demonstrations a step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--wrong", type=float, default=0.45, help="share of demonstrations with a wrong digit")
    parser.add_argument("--habit", type=float, default=0.92, help="share of choices of form that are made out of habit")
    parser.add_argument("--rows", type=int, default=4000, help="prompts written")
    args = parser.parse_args()

    torch.set_num_threads(1)  # sums depend on the number of threads; with one, the weights are the same bytes
    torch.manual_seed(args.seed)
    tokenizer, model = make_tokenizer(), make_model()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(VOCABULARY)} tokens")
    warm_up(model, tokenizer, args)
    model.eval()
    reward, entropy = measure(model, tokenizer)
    print(f"at temperature 1: reward {reward:.3f}, entropy {entropy:.3f} nats")
    model.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")
    write_prompts(args.out / "addition.jsonl", args.seed, args.rows)
    print(f"wrote {args.out / 'model'} and {args.out / 'addition.jsonl'}")


if __name__ == "__main__":
    main()
