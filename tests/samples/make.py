"""Writes the fixtures in this folder: a few rows of ours with the files, columns and types of each source on the hub.

python tests/samples/make.py
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)
CHAT = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
PAIRS = pa.schema(
    [("rejected", CHAT), ("rejected_score", pa.float64()), ("chosen_score", pa.float64()), ("chosen", CHAT)]
)
ULTRAFEEDBACK = pa.schema(
    [
        ("prompt", pa.string()),
        ("prompt_id", pa.string()),
        ("chosen", CHAT),
        ("rejected", CHAT),
        ("messages", CHAT),
        ("score_chosen", pa.float64()),
        ("score_rejected", pa.float64()),
    ]
)


def parquet(name: str, rows: list[dict[str, Any]], schema: pa.Schema | None = None) -> None:
    file = HERE / name
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)


def jsonl(name: str, rows: list[dict[str, Any]]) -> None:
    file = HERE / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def jsonl_gz(name: str, rows: list[dict[str, Any]]) -> None:
    file = HERE / name
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_bytes(gzip.compress(lines.encode(), mtime=0))


def gsm8k(question: str, answer: str) -> dict[str, Any]:
    return {"question": question, "answer": answer}


def math(problem: str, solution: str, kind: str = "Algebra") -> dict[str, Any]:
    return {"problem": problem, "level": "Level 1", "solution": solution, "type": kind}


def math500(row: dict[str, Any], answer: str, unique_id: str) -> dict[str, Any]:
    shared = {"problem": row["problem"], "solution": row["solution"], "answer": answer, "subject": row["type"]}
    return {**shared, "level": 1, "unique_id": unique_id}


def dapo(number: int, problem: str, truth: str) -> dict[str, Any]:
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": DAPO.format(problem), "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": truth, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": f"00000000-0000-4000-8000-{number:012d}"},
    }


def deepscaler(problem: str, answer: str, solution: str = "") -> dict[str, Any]:
    return {"problem": problem, "answer": answer, "solution": solution}


def aime24(number: int, problem: str, solution: str, answer: str) -> dict[str, Any]:
    url = f"https://example.org/{number}"
    return {"id": number, "problem": problem, "solution": solution, "answer": answer, "url": url, "year": "2024"}


def chat(*texts: str) -> list[dict[str, str]]:
    return [{"content": text, "role": ("user", "assistant")[turn % 2]} for turn, text in enumerate(texts)]


def pair(*prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    scores = {"rejected_score": 1.0, "chosen_score": 4.0}
    return {"rejected": chat(*prompt, rejected), **scores, "chosen": chat(*prompt, chosen)}


def big_math(problem: str, answer: str) -> dict[str, Any]:
    return {"problem": problem, "answer": answer, "source": "cn_k12", "domain": ["Algebra"], "llama8b_solve_rate": 0.5}


def numina(problem: str, answer: str, kind: str = "math-word-problem") -> dict[str, Any]:
    return {
        "problem": problem,
        "solution": f"It is {answer}.",
        "answer": answer,
        "problem_type": "Algebra",
        "question_type": kind,
        "problem_is_valid": "Yes",
        "solution_is_valid": "Yes",
        "source": "olympiads",
        "synthetic": False,
    }


def open_r1(problem: str, answer: str) -> dict[str, Any]:
    row = {key: value for key, value in numina(problem, answer).items() if key != "synthetic"}
    more = {"uuid": "0", "generations": ["<think>\nHm.\n</think>\n"], "correctness_math_verify": [True]}
    return row | more | {"messages": chat(problem, f"It is {answer}.")}


def numina_cot(problem: str, solution: str) -> dict[str, Any]:
    return {"source": "olympiads", "problem": problem, "solution": solution, "messages": chat(problem, solution)}


def orz(problem: str, answer: str) -> list[dict[str, Any]]:
    return [{"from": "human", "value": problem}, {"from": "assistant", "ground_truth": {"value": answer}}]


def dapo_processed(number: int, problem: str, truth: str) -> dict[str, Any]:
    original = dapo(number, problem, truth)
    row = {"prompt": problem, "solution": truth, "source_prompt": original.pop("prompt")}
    return row | original


def dialogues(*prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    def text(*turns: str) -> str:
        return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {turn}" for i, turn in enumerate(turns))

    return {"chosen": text(*prompt, chosen), "rejected": text(*prompt, rejected)}


def ultrafeedback(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    chats = {"chosen": chat(prompt, chosen), "rejected": chat(prompt, rejected), "messages": chat(prompt, chosen)}
    return {"prompt": prompt, "prompt_id": "0", **chats, "score_chosen": 8.0, "score_rejected": 5.0}


TULIPS = "A gardener plants 4 rows of 12 tulips and gives away 5 of the tulips. How many tulips are left?"
JUG = gsm8k("A jug holds 3 litres. How many litres do 9 jugs hold?", "9*3=<<9*3=27>>27\n#### 27")
GSM8K_TRAIN = [
    gsm8k(TULIPS, "She plants 4*12=<<4*12=48>>48 tulips.\nThen 48-5=<<48-5=43>>43 are left.\n#### 43"),
    gsm8k(
        "A mill grinds 1,250 kg of grain a day. How many kilograms does it grind in 4 days?",
        "It grinds 1250*4=<<1250*4=5000>>5000 kg.\n#### 5,000",
    ),
    # The same question with different white space.
    gsm8k(TULIPS.replace("A ", "A  ").replace(". ", ".\n"), "48-5=<<48-5=43>>43\n#### 43"),
    gsm8k("Nora owes 7 coins and pays back 3 of them. What is her balance in coins?", "3-7=<<3-7=-4>>-4\n#### -4"),
    JUG,
]
GSM8K_TEST = [
    gsm8k(
        "A ferry takes 18 cars on each trip. How many cars does it take on 6 trips?", "18*6=<<18*6=108>>108\n#### 108"
    ),
    JUG,
]
MATH_TRAIN = [
    math("Find $x$ if $4x = 3$.", r"Dividing both sides by $4$ gives $x = \boxed{\frac{3}{4}}$."),
    math(
        "What is the set of the two smallest primes?",
        r"First we might try $\boxed{1}$, which is no prime. Hence $\boxed{\left\{2, 3\right\}}$.",
        "Number Theory",
    ),
    math("Give the smallest odd prime.", r"It is $\boxed 3$.", "Number Theory"),
    math("Which day follows Monday?", r"The answer is $\boxed{\text{Tuesday}}$.", "Prealgebra"),
]
MATH_TEST = [
    math("Expand $(x+1)^2$.", r"We have $(x+1)^2 = \boxed{x^2 + 2x + 1}$."),
    math(r"Write $\frac{1}{8}$ as a decimal.", r"$1 \div 8 = \boxed{0.125}$.", "Prealgebra"),
]
HEPTAGON = "How many diagonals does a convex heptagon have?"
CUBE = "Find the number of edges of a cube."
COLOUR = "Name a colour of the rainbow."


def main() -> None:
    """Write all fixtures."""
    parquet("gsm8k/main/train-00000-of-00001.parquet", GSM8K_TRAIN)
    parquet("gsm8k/main/test-00000-of-00001.parquet", GSM8K_TEST)
    parquet("gsm8k/socratic/train-00000-of-00001.parquet", [gsm8k("Two jugs?", "How many? ** 2*3=<<2*3=6>>6\n#### 6")])
    parquet("math/data/train-00000-of-00001.parquet", MATH_TRAIN)
    parquet("math/data/test-00000-of-00001.parquet", MATH_TEST)
    parquet("math/algebra/train-00000-of-00001.parquet", MATH_TRAIN[:1])
    parquet("math/algebra/test-00000-of-00001.parquet", MATH_TEST[:1])
    answers = [("x^2 + 2x + 1", "test/algebra/1.json"), ("0.125", "test/prealgebra/2.json")]
    jsonl("math500/test.jsonl", [math500(row, *more) for row, more in zip(MATH_TEST, answers, strict=True)])
    dapo_rows = [
        dapo(1, "Let $n$ be the number of positive divisors of $60$. Find $n$.", "12"),
        dapo(2, HEPTAGON, "14"),
        dapo(3, "Find the remainder of $7^{5}$ modulo $10$.", "7"),
    ]
    parquet("dapo_math_17k/data/dapo-math-17k.parquet", dapo_rows * 3)
    deepscaler_rows = [
        deepscaler(r"Evaluate $\frac{2}{3} - \frac{4}{3}$.", r"-\frac{2}{3}", r"It is $\frac{2-4}{3} = -\frac{2}{3}$."),
        deepscaler("Expand $(x + 1)^2$.", "x^2+2x+1"),
        deepscaler("expand $(x+1)^2$.", "x^2 + 2x + 1"),
        deepscaler(CUBE, "12", "Each of the $8$ corners has $3$ edges."),
        deepscaler(CUBE, "8", "A wrong copy."),
    ]
    (HERE / "deepscaler").mkdir(exist_ok=True)
    (HERE / "deepscaler/deepscaler.json").write_text(json.dumps(deepscaler_rows, indent=2) + "\n")
    aime24_rows = [
        aime24(60, "Find the number of ways to colour the corners of a square red or blue.", "$2^4 = 16$.", "016"),
        aime24(61, "Find the sum of the integers from $1$ to $25$.", r"$\frac{25 \cdot 26}{2} = 325$.", "325"),
    ]
    parquet("aime24/data/train-00000-of-00001.parquet", aime24_rows)
    aime25_rows = [
        {"problem": "Find the sum of a pentagon's angles in degrees.", "answer": r"540^\circ", "id": "0"},
        {"problem": "Find the largest two-digit prime.", "answer": "97", "id": "1"},
    ]
    jsonl("aime25/test.jsonl", aime25_rows)
    pairs = [
        pair(COLOUR, chosen="Green.", rejected="Brown."),
        pair("Hello!", "How can I help?", "A fact about bees?", chosen="Bees see ultraviolet light.", rejected="No."),
        pair(COLOUR, chosen="Violet.", rejected="I would rather talk about something else."),
        pair(COLOUR, chosen="Green.", rejected="Brown."),
    ]
    parquet("preferences/data/train-00000-of-00001.parquet", pairs, PAIRS)
    more_questions()
    more_pairs()


def more_questions() -> None:
    """Write the larger collections of mathematics."""
    questions = [("Solve $x+2=5$.", "$x=3$"), (HEPTAGON, "14"), ("Evaluate $2^{-1}$.", r"\frac{1}{2}")]
    parquet("big_math/data/train-00000-of-00001.parquet", [big_math(*question) for question in questions])
    parquet("open_r1_math/data/train-00000-of-00001.parquet", [open_r1(*question) for question in questions])
    parquet("open_r1_math/extended/train-00000-of-00001.parquet", [open_r1(CUBE, "12")])
    without_answer = [
        numina("Prove that $2$ is prime.", "proof", "proof"),
        numina("Which line is longest?", "notfound"),
    ]
    numina_rows = [*(numina(*question) for question in questions), *without_answer]
    parquet("numina_math/data/train-00000-of-00001.parquet", numina_rows)
    boxed = [numina_cot(problem, f"Hence $\\boxed{{{answer}}}$.") for problem, answer in questions]
    proof = numina_cot("Prove that $2$ is prime.", "Its only divisors are $1$ and $2$. $\\blacksquare$")
    parquet("numina_math_cot/data/train-00000-of-00001.parquet", [*boxed, proof])
    parquet("numina_math_cot/data/test-00000-of-00001.parquet", [numina_cot(CUBE, r"It has $\boxed{12}$ edges.")])
    orz_rows = json.dumps([orz(*question) for question in questions], indent=1)
    (HERE / "orz_math").mkdir(exist_ok=True)
    (HERE / "orz_math/orz_math_57k_collection.json").write_text(orz_rows + "\n")
    processed = [dapo_processed(1, HEPTAGON, "14"), dapo_processed(2, "求$7^{5}$除以$10$的余数。", "7")]
    parquet("dapo_math_17k_processed/all/train-00000-of-00001.parquet", processed)
    parquet("dapo_math_17k_processed/en/train-00000-of-00001.parquet", processed[:1])


def more_pairs() -> None:
    """Write the pairs that are one text, and those with scores."""
    train = [
        dialogues(COLOUR, chosen="Green.", rejected="Brown."),
        dialogues("Hello!", "How can I help?", "A fact about bees?", chosen="They see ultraviolet.", rejected="No."),
    ]
    test = [dialogues("Name a\n\nprime.", chosen="2.", rejected="4.")]
    for subset in ("harmless-base", "helpful-base"):
        jsonl_gz(f"hh_rlhf/{subset}/train.jsonl.gz", train[subset == "harmless-base" :][:1])
        jsonl_gz(f"hh_rlhf/{subset}/test.jsonl.gz", test)
    jsonl_gz("hh_rlhf/red-team-attempts/red_team_attempts.jsonl.gz", [{"transcript": "\n\nHuman: Hi."}])
    rated = [ultrafeedback(COLOUR, "Green.", "Brown."), ultrafeedback("Say hi.", "Hi!", "No.")]
    for split, part in (("train_prefs", rated), ("test_prefs", rated[1:]), ("train_sft", rated), ("test_gen", rated)):
        parquet(f"ultrafeedback/data/{split}-00000-of-00001.parquet", part, ULTRAFEEDBACK)


if __name__ == "__main__":
    main()
