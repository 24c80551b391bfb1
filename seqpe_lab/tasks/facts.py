"""Invented facts in varied sentences: no network, and nothing that anybody could know by heart.

Every fact is drawn anew (the tea of one prompt is the milk of the next), so it must be looked up in
the context. Sentences are short, because the contexts of small models are.
"""
from __future__ import annotations

import random
from typing import NamedTuple

# topic -> (ways to tell it, ways to ask for it, what it can be)
TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "colour": (("The door is {x}.", "They painted it {x}.", "Her coat is {x}."), ("Which colour?", "What is the colour?"), "black green red white yellow orange pink"),
    "city": (("He lives in {x}.", "She went to {x}.", "Home is {x}."), ("Which city?", "What is the city?"), "Athens Berlin Cairo Dublin Lima Oslo Rome Vienna"),
    "drink": (("We drank {x}.", "A cup of {x}, please.", "Pour some {x}."), ("Which drink?", "What is the drink?"), "beer coffee juice milk tea water"),
    "animal": (("I met a {x}.", "A {x} is outside.", "The {x} sleeps."), ("Which animal?", "What is the animal?"), "bear cat dog fox goat horse lion tiger wolf"),
    "number": (("Count up to {x}.", "We need {x} of them.", "All {x} came."), ("Which number?", "What is the number?"), "eight four nine six ten"),
    "day": (("See you on {x}.", "It rained on {x}.", "On {x} we rest."), ("Which day?", "What is the day?"), "Friday Monday Sunday Thursday Wednesday"),
    "fruit": (("Eat this {x}.", "The {x} is ripe.", "I like your {x}."), ("Which fruit?", "What is the fruit?"), "apple banana cherry grape lemon melon pear"),
    "tool": (("Hand me the {x}.", "My {x} broke.", "Use this {x}."), ("Which tool?", "What is the tool?"), "axe drill hammer knife saw pump"),
    "music": (("They play the {x}.", "Her {x} is old.", "That {x} sounds good."), ("Which instrument?", "What is the instrument?"), "cello flute harp piano violin"),
    "job": (("Ben is a {x}.", "She became a {x}.", "Ask the {x}."), ("Which job?", "What is the job?"), "baker doctor farmer judge nurse pilot teacher"),
}


class Fact(NamedTuple):
    topic: str
    told: str  # in one sentence
    asked: str  # as a question
    answer: str


def facts(split: str, count: int) -> list[Fact]:
    """So many facts, drawn; the same on every machine.

    >>> facts("test", 1)[0].topic in TOPICS
    True
    """
    chance, drawn = random.Random(f"facts, {split}"), []
    for _ in range(count):
        topic = chance.choice([*TOPICS])
        told, asked, answers = TOPICS[topic]
        answer = chance.choice(answers.split())
        drawn.append(Fact(topic, chance.choice(told).format(x=answer), chance.choice(asked), answer))
    return drawn
