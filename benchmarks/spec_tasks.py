"""Prompts of work that repeats itself, and of work that does not."""

from __future__ import annotations

import numpy as np
from prompts import sentence

from localllm.llama import Vocab

_CODE = """\
import csv
from dataclasses import dataclass


@dataclass
class Account:
    number: str
    owner: str
    balance: float = 0.0

    def deposit(self, amount: float) -> None:
        if amount <= 0:
            raise ValueError("a deposit must be positive")
        self.balance += amount

    def withdraw(self, amount: float) -> None:
        if amount <= 0:
            raise ValueError("a withdrawal must be positive")
        if amount > self.balance:
            raise ValueError("the balance is too low")
        self.balance -= amount


class Bank:
    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}

    def open(self, number: str, owner: str) -> Account:
        if number in self.accounts:
            raise ValueError("there is such an account")
        account = Account(number, owner)
        self.accounts[number] = account
        return account

    def transfer(self, source: str, target: str, amount: float) -> None:
        self.accounts[source].withdraw(amount)
        self.accounts[target].deposit(amount)

    def load(self, path: str) -> None:
        with open(path) as file:
            for row in csv.DictReader(file):
                account = self.open(row["number"], row["owner"])
                account.balance = float(row["balance"])
"""

_REPORT = """\
The harbour authority met on Tuesday to discuss the repair of the north pier. The engineer, Ms Varga, reported that \
eleven of the forty piles are rotten below the waterline and that the pier must not carry vehicles before they are \
replaced. The cost is estimated at 340,000 euros, of which the region will pay a third. Mr Lindqvist, who speaks for \
the fishermen, said that the boats cannot land their catch elsewhere in winter and asked that the work begin in May. \
The treasurer warned that the budget of this year is spent, and that a loan would cost 12,000 euros in interest. After \
an hour of debate the authority decided, by seven votes to two, to begin the work in May, to ask the region for an \
advance, and to close the pier to vehicles from Monday. The ferry company will be told today that its lorries must use \
the south pier, where a second ramp will be built if the weather allows."""

_TABLE = """\
Order 4711, 3 March 2024, Anna Keller, Bergstrasse 12, Zurich: 2 lamps at 49.90, 1 table at 320.00, paid.
Order 4712, 3 March 2024, Jon Aldous, Mill Lane 4, York: 6 chairs at 75.50, not paid.
Order 4713, 4 March 2024, Marie Petit, Rue Haute 8, Lyon: 1 shelf at 189.00, 3 lamps at 49.90, paid.
Order 4714, 5 March 2024, Pedro Alves, Rua Nova 21, Porto: 4 chairs at 75.50, 1 table at 320.00, paid.
Order 4715, 6 March 2024, Anna Keller, Bergstrasse 12, Zurich: 1 lamp at 49.90, not paid."""

TASKS = {
    "edit": "Rename the method withdraw to take_out everywhere, and change nothing else. Answer with the whole"
    f" changed file only.\n\n```python\n{_CODE}```",
    "quote": "Summarise this report in five points. After each point, quote the sentence that it rests on, word by"
    f" word.\n\n{_REPORT}",
    "json": "Turn these orders into a JSON list of objects with the keys order, date, name, street, city, items (a list"
    f" of objects with name, count, price) and paid.\n\n{_TABLE}",
    "translate": f"Translate this Python code to JavaScript. Answer with the code only.\n\n```python\n{_CODE}```",
}


def chat_prompt(vocab: Vocab, text: str) -> list[int]:
    """Return a question in ChatML, which the demo model and Qwen were trained on."""
    prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return vocab.tokenize(prompt, add_special=True, parse_special=True)


def prose_prompt(vocab: Vocab, seed: int) -> list[int]:
    """Return a question whose answer is a story."""
    return chat_prompt(vocab, f"Go on with this story, in many words. {sentence(np.random.default_rng(seed))}")
