"""Make the tiny preset: a Qwen2 model of 0.4M parameters that adds two-digit numbers and is right over half the time.

    python presets/tiny/make_model.py               # a few minutes on one core, the same bytes every time
    python presets/tiny/make_model.py --calculator  # the model of tiny-calculator, likewise

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

With ``--calculator`` the numbers have three digits, the teacher slips more often, and a few demonstrations
(``--calls``) call a calculator in a turn of their own. What it answers is the environment's, and carries no loss:

    347+585=calc(347+585)<end>932=\\boxed{932}

So the model can add either way, seldom calls, and is right more often where it does.
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
CALL, ERROR = "calc(", "error"
CALCULATOR = [CALL, ")", ERROR]
"""What the vocabulary has besides with ``--calculator``: a call's beginning and end, and what answers one that is no
sum."""
CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}={% endif %}"
ANSWERED = "{% if m['role'] == 'assistant' %}={{ m['content'] }}<end>{% else %}{{ m['content'] }}{% endif %}"
TURNS_TEMPLATE = CHAT_TEMPLATE.replace("{{ m['content'] }}", ANSWERED)


def make_tokenizer(calculator: bool) -> PreTrainedTokenizerFast:
    """Every character is a token, and so are ``\\boxed{`` and, for the ``calculator``, ``calc(`` and ``error``."""
    tokens = [*VOCABULARY, *CALCULATOR] if calculator else VOCABULARY
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    # An added token is cut out first, whatever class AutoTokenizer picks: for a Qwen2 model, one with its own splits.
    tokenizer.add_tokens([BOX, CALL, ERROR] if calculator else [BOX])
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        chat_template=TURNS_TEMPLATE if calculator else CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def make_model(tokens: int) -> Qwen2ForCausalLM:
    """The model, untrained. Its heads have width 32, the smallest that vLLM's CPU attention takes."""
    end, pad = VOCABULARY.index(END), VOCABULARY.index(PAD)
    config = Qwen2Config(
        vocab_size=tokens,
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


Numbers = tuple[int, int]


def drawn(rng: random.Random, digits: int) -> Numbers:
    """Two numbers of so many ``digits``."""
    least = 10 ** (digits - 1)
    return rng.randint(least, 10 * least - 1), rng.randint(least, 10 * least - 1)


def demonstration(numbers: Numbers, digits: int, rng: random.Random, wrong: float, habit: float) -> str:
    """The column sum of two numbers; with probability ``wrong`` one digit of a result is off and what follows keeps it.

    How it is written is free. By ``habit``, a column's terms stand as in the prompt with the carry last,
    and it ends with a comma; otherwise the terms stand in any order, and it ends with any of ``SEPARATORS``.
    """
    slip = rng.choice(range(digits + 1)) if rng.random() < wrong else None  # a column from the right, or the box
    worked, carry, total = [], 0, 0
    for place in range(digits):
        pair = tuple(number // 10**place % 10 for number in numbers)
        terms = (*pair, *[1] * carry)
        result, carry = sum(terms), sum(terms) // 10
        if slip == place:
            result = replace_digit(result, len(str(result)) - 1, rng)
        worked.append((terms, result))
        total += (result if place == digits - 1 else result % 10) * 10**place
    if slip == digits:
        total = replace_digit(total, rng.randrange(len(str(total))), rng)
    columns = "".join(column(terms, result, rng, habit) for terms, result in worked)
    return f"{columns}{BOX}{total}}}"


def call(numbers: Numbers) -> tuple[str, str, str]:
    """A conversation with the calculator: what the model calls, what the environment answers, what the model boxes."""
    a, b = numbers
    return f"{CALL}{a}+{b}){END}", f"{a + b}=", f"{BOX}{a + b}}}"


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
    """Supervised training on fresh demonstrations; the loss is on what the model is to write."""
    rng = random.Random(args.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1.0, (k + 1) / 50) * 0.5 * (1 + math.cos(math.pi * k / args.steps))
    )
    start = time.time()
    for step in range(args.steps):
        rows = [written(drawn(rng, args.digits), rng, args) for _ in range(args.batch)]
        batch = tokenizer(["".join(row) for row in rows], padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for row, parts in zip(labels, rows, strict=True):
            ends = [len(tokenizer("".join(parts[:n]))["input_ids"]) for n in range(len(parts) + 1)]
            for given in range(0, len(parts), 2):
                row[ends[given] : ends[given + 1]] = -100
        # Padding is on the right, where causal attention never looks back from a counted token: no mask needed.
        loss = model(input_ids=batch["input_ids"], labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step + 1 == args.steps:
            print(f"step {step:5d}  loss {loss.item():.4f}  {time.time() - start:5.1f} s", flush=True)


def written(numbers: Numbers, rng: random.Random, args: argparse.Namespace) -> list[str]:
    """A demonstration's parts: what is given and what the model is to write, by turns."""
    prompt = f"{numbers[0]}+{numbers[1]}="
    if args.calls and rng.random() < args.calls:
        called, answered, boxed = call(numbers)
        return [prompt, called, answered, boxed + END]
    return [prompt, demonstration(numbers, args.digits, rng, args.wrong, args.habit) + END]


@torch.inference_mode()
def measure(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, digits: int, prompts: int = 512) -> str:
    """What samples at temperature 1 are like: mean reward, the share that calls the calculator, and mean token entropy
    (nats). A call of the prompt's own sum counts as right: what would follow it is not sampled here."""
    rng = random.Random(12345)
    pairs = [drawn(rng, digits) for _ in range(prompts)]
    batch = tokenizer([f"{a}+{b}=" for a, b in pairs], return_tensors="pt")
    out = model.generate(**batch, max_new_tokens=20 * digits, return_dict_in_generate=True, output_logits=True)
    responses = out.sequences[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
    right = [f"{BOX}{a + b}}}" in text for (a, b), text in zip(pairs, texts, strict=True)]
    called = [text == f"{CALL}{a}+{b})" for (a, b), text in zip(pairs, texts, strict=True)]
    logp = torch.log_softmax(torch.stack(out.logits, dim=1).float(), dim=-1)
    entropy = -(logp.exp() * logp).sum(-1)
    counted = responses != tokenizer.pad_token_id
    print("samples:", *texts[:4], sep="\n  ")
    nats = (entropy * counted).sum().item() / counted.sum().item()
    calls = f", calls {sum(called) / prompts:.3f}" if any(called) else ""
    return f"reward {(sum(right) + sum(called)) / prompts:.3f}{calls}, entropy {nats:.3f} nats"


def write_prompts(path: Path, seed: int, rows: int, digits: int) -> None:
    """``rows`` different additions in random order."""
    least = 10 ** (digits - 1)
    if digits == 2:
        pairs = [(a, b) for a in range(least, 10 * least) for b in range(least, 10 * least)]
        random.Random(seed).shuffle(pairs)
    else:  # too many to shuffle
        rng = random.Random(seed)
        pairs = list(dict.fromkeys(drawn(rng, digits) for _ in range(2 * rows)))
    with path.open("w") as out:
        for a, b in pairs[:rows]:
            out.write(json.dumps({"prompt": f"{a}+{b}", "answer": str(a + b), "ability": "exact"}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent
    parser.add_argument("--calculator", action="store_true", help="the model and the prompts of tiny-calculator")
    parser.add_argument("--out", type=Path, default=None, help="folder for model/ and addition.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=500, help="training steps")
    parser.add_argument("--batch", type=int, default=128, help="demonstrations a step")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--digits", type=int, default=2, help="of each number")
    parser.add_argument("--wrong", type=float, default=0.45, help="share of column sums with a wrong digit")
    parser.add_argument("--calls", type=float, default=0.0, help="share of demonstrations that call the calculator")
    parser.add_argument("--habit", type=float, default=0.92, help="share of choices of form that are made out of habit")
    parser.add_argument("--rows", type=int, default=4000, help="prompts written")
    if parser.parse_known_args()[0].calculator:
        parser.set_defaults(digits=3, steps=800, wrong=0.65, calls=0.08)
    args = parser.parse_args()
    folder = args.out or (here.parent / "tiny-calculator" if args.calculator else here)

    torch.set_num_threads(1)  # sums depend on the number of threads; with one, the weights are the same bytes
    torch.manual_seed(args.seed)
    tokenizer = make_tokenizer(args.calculator)
    model = make_model(len(tokenizer))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    warm_up(model, tokenizer, args)
    model.eval()
    print(f"at temperature 1: {measure(model, tokenizer, args.digits)}")
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_prompts(folder / "addition.jsonl", args.seed, args.rows, args.digits)
    print(f"wrote {folder / 'model'} and {folder / 'addition.jsonl'}")


if __name__ == "__main__":
    main()
