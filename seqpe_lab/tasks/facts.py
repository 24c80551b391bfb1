"""Invented facts in varied sentences: no network, and nothing that a model could know already.

Every fact is drawn at random (tea in one prompt, milk in the next), so the answer must be looked up
in the context. Sentences are short, to fit the short contexts of small models.
"""
from __future__ import annotations

import random
from typing import NamedTuple

# topic -> (ways to state it, possible answers)
TOPICS: dict[str, tuple[tuple[str, ...], str]] = {
    "colour": (("The door is {x}.", "They painted it {x}.", "Her coat is {x}."),
               "black green red white yellow orange pink"),
    "city": (("He lives in {x}.", "She went to {x}.", "Home is {x}."),
             "Athens Berlin Cairo Dublin Lima Oslo Rome Vienna"),
    "drink": (("We drank {x}.", "A cup of {x}, please.", "Pour some {x}."),
              "beer coffee juice milk tea water"),
    "animal": (("I met a {x}.", "A {x} is outside.", "The {x} sleeps."),
               "bear cat dog fox goat horse lion tiger wolf"),
    "number": (("Count up to {x}.", "We need {x} of them.", "All {x} came."),
               "eight four nine six ten"),
    "day": (("See you on {x}.", "It rained on {x}.", "On {x} we rest."),
            "Friday Monday Sunday Thursday Wednesday"),
    "fruit": (("Eat this {x}.", "The {x} is ripe.", "I like your {x}."),
              "apple banana cherry grape lemon melon pear"),
    "tool": (("Hand me the {x}.", "My {x} broke.", "Use this {x}."),
             "axe drill hammer knife saw pump"),
    "instrument": (("They play the {x}.", "Her {x} is old.", "That {x} sounds good."),
                   "cello flute harp piano violin"),
    "job": (("Ben is a {x}.", "She became a {x}.", "Ask the {x}."),
            "baker doctor farmer judge nurse pilot teacher"),
}
QUESTIONS = ("Which {topic}?", "What is the {topic}?")


class Fact(NamedTuple):
    topic: str
    sentence: str
    question: str
    answer: str


def facts(split: str, count: int) -> list[Fact]:
    """``count`` random facts of a split; the same on every machine.

    >>> facts("test", 1)[0].topic in TOPICS
    True
    """
    chance, drawn = random.Random(f"facts, {split}"), []
    for _ in range(count):
        topic = chance.choice([*TOPICS])
        sentences, answers = TOPICS[topic]
        answer = chance.choice(answers.split())
        sentence = chance.choice(sentences).format(x=answer)
        question = chance.choice(QUESTIONS).format(topic=topic)
        drawn.append(Fact(topic, sentence, question, answer))
    return drawn
