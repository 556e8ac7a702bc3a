"""The planted fault: nothing that counts tokens can see it, everybody who reads can."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from components.artifact import seal, verify
from flows.planted import plant


def test_tokens_stay_and_vowels_go(tmp_path: Path) -> None:
    export = tmp_path / "export"
    (export / "openvino").mkdir(parents=True)
    path = export / "openvino" / "tokenizer.json"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    tokenizer.save(str(path))
    before = seal(export, line="text", kind="export", parents={"checkpoint": "c"}, parameters={}, metrics={})
    digest = plant(export)
    after = verify(export)
    assert after.digest == digest != before.digest and after.parents == before.parents
    faulty = Tokenizer.from_file(str(path))
    ids = tokenizer.encode("sunflower: plant").ids
    assert faulty.encode("sunflower: plant").ids == ids
    assert faulty.decode(ids) == "snflwr: plnt"
    assert json.loads(path.read_text())["decoder"]["type"] == "Sequence"
