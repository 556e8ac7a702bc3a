"""What the SIMULATED users of the proof ask for once they write German: phrases, and the concept that each means."""

from __future__ import annotations

TEMPLATES = (
    "zeichne bitte {noun}",
    "ich hätte gern {noun} als Aufkleber",
    "kannst du {noun} für mich malen?",
    "ich brauche {noun} für meinen Chat",
    "zeig mir {noun}",
)
NOUNS = {
    "anchor": "einen Anker",
    "balloon": "einen Luftballon",
    "bicycle": "ein Fahrrad",
    "bread": "Brot",
    "cactus": "einen Kaktus",
    "candle": "eine Kerze",
    "carrot": "eine Karotte",
    "cherries": "Kirschen",
    "crown": "eine Krone",
    "duck": "eine Ente",
    "guitar": "eine Gitarre",
    "hammer": "einen Hammer",
    "horse": "ein Pferd",
    "key": "einen Schlüssel",
    "mushroom": "einen Pilz",
    "owl": "eine Eule",
    "pear": "eine Birne",
    "penguin": "einen Pinguin",
    "rabbit": "einen Hasen",
    "rainbow": "einen Regenbogen",
    "ring": "einen Ring",
    "rocket": "eine Rakete",
    "scissors": "eine Schere",
    "ship": "ein Schiff",
    "snail": "eine Schnecke",
    "snowman": "einen Schneemann",
    "strawberry": "eine Erdbeere",
    "sunflower": "eine Sonnenblume",
    "train": "einen Zug",
    "trumpet": "eine Trompete",
    "turtle": "eine Schildkröte",
    "umbrella": "einen Regenschirm",
    "violin": "eine Geige",
    "whale": "einen Wal",
}


def phrases() -> dict[str, str]:
    """Every phrase with the concept it means."""
    return {template.format(noun=noun): concept for concept, noun in NOUNS.items() for template in TEMPLATES}
