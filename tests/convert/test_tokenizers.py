"""Every kind of tokenizer: trained on a little text, converted, and llama.cpp makes the same tokens of hard texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import pytest

from localllm.convert.config import Config
from localllm.convert.tokenizer import model_proto, read_tokenizer
from localllm.convert.tokenizer import pre_tokenizers as known
from localllm.errors import UnsupportedModel
from localllm.llama import Model, ModelParams

tokenizers = pytest.importorskip("tokenizers")

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, processors, trainers  # noqa: E402
from tokenizers import pre_tokenizers as pre  # noqa: E402

KOREAN, HINDI = "한국어 문장입니다.", "हिन्दी में"
HARD_TEXTS = (
    "Hello, world! It's 3.14 o'clock; we'LL see, I'M sure.",
    "  leading and trailing   spaces   ",
    "tabs\t\tand\nnew\n\n\nlines\r\nand \r returns \n \n  ",
    "def f(x):\n    return {'a': x ** 2, \"b\": [1, 22, 333, 4444, 55555]}  # code\n",
    "Schrödinger's naïve café, Ærøskøbing, ĄĆĘŁŃ, ß, ﬁne",
    "中文分词很难。日本語の文章です。",
    KOREAN,
    "русский текст, Ελληνικά, עברית, العربية",
    HINDI,
    "emoji: 😀😃 👩‍👩‍👧‍👦 🇩🇪 ✋🏽 ❤️",
    "\u00a0no-break\u2003em\u3000wide\u200bzero",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>",
    "a<|im_end|>b <|im_end|> c",
    "ALLCAPS camelCase snake_case kebab-case PascalCase123 x1y2z3",
    "1234567890 0x1F 1e-10 1,000,000.00 ½ ² Ⅷ ٣٤",
    "!!!???...--==>><<&&||@@##$$%%^^**(())[[]]{{}}~~``//\\\\",
    "\x00\x01\x7f control",
    "'s 't 're 've 'm 'll 'd 'S 'T",
    "",
    " ",
    "\n",
)
CORPUS = [text * 3 for text in HARD_TEXTS if text.strip()] + [
    path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parents[2] / "docs").glob("*.md"))[:4]
]
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
N_VOCAB = 700
LEVEL = {"add_prefix_space": False}


def split(*expressions: str, way: str = "isolated") -> Any:
    steps = [pre.Split(Regex(one), way, invert=way == "removed") for one in expressions]
    return pre.Sequence([*steps, pre.ByteLevel(**LEVEL, use_regex=False)])


BYTE_LEVEL = {
    "gpt-2": pre.ByteLevel(**LEVEL),
    "smollm": pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(**LEVEL)]),
    "llama-bpe": split(known._LLAMA3),
    "dbrx": split(known._LLAMA3, way="removed"),
    "qwen2": split(known._QWEN2),
    "qwen35": split(known._QWEN35),
    "tekken": split(known._TEKKEN),
    "gpt-4o": split(known._GPT4O),
    "deepseek-v3": split(*known._DEEPSEEK3),
}
TAKES_WORDS = ("llama-bpe", "tekken")


def byte_level(name: str, folder: Path) -> Tokenizer:
    """Train a byte-level tokenizer and write its files."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=name in TAKES_WORDS))
    tokenizer.pre_tokenizer = BYTE_LEVEL[name]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_VOCAB, special_tokens=[*SPECIALS], initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(["<tool_call>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": SPECIALS[0], "eos_token": SPECIALS[2]}))
    return tokenizer


def vocabulary_file(folder: Path, n_vocab: int, *, arch: str = "llama") -> Path:
    """Convert a folder's tokenizer alone, to a file that llama.cpp loads as a vocabulary."""
    path = folder / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, arch)
    read_tokenizer(folder, Config({}), n_vocab).add_metadata(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def assert_same_tokens(path: Path, tokenizer: Tokenizer, texts: Sequence[str] = HARD_TEXTS) -> None:
    with Model(path, ModelParams(vocab_only=True)) as model:
        for text in texts:
            for add_special in (False, True):
                expected = tokenizer.encode(text, add_special_tokens=add_special).ids
                assert model.vocab.tokenize(text, add_special=add_special, parse_special=True) == expected, text


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_tokens_are_the_same(tmp_path: Path, name: str) -> None:
    tokenizer = byte_level(name, tmp_path)
    path = vocabulary_file(tmp_path, tokenizer.get_vocab_size())
    assert gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents() == name
    assert_same_tokens(path, tokenizer, [*HARD_TEXTS, "call <tool_call>now"])


def test_what_the_template_adds_is_added(tmp_path: Path) -> None:
    tokenizer = byte_level("qwen2", tmp_path)
    ids = {text: tokenizer.token_to_id(text) for text in SPECIALS}
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{SPECIALS[0]} $A {SPECIALS[2]}", special_tokens=[(text, ids[text]) for text in SPECIALS]
            ),
        ]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert_same_tokens(vocabulary_file(tmp_path, tokenizer.get_vocab_size()), tokenizer)


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("pre_tokenizer", {"type": "Whitespace"}, "Whitespace"),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True}, "ByteLevel"),
        ("pre_tokenizer", None, "nothing"),
        ("normalizer", {"type": "Lowercase"}, "Lowercase"),
        ("model", {"type": "WordLevel", "vocab": {}}, "WordLevel"),
    ],
)
def test_tokenizer_that_llama_cpp_does_not_compute_is_refused(
    tmp_path: Path, part: str, value: object, words: str
) -> None:
    tokenizer = byte_level("gpt-2", tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**described, part: value}))
    with pytest.raises(UnsupportedModel, match=words):
        vocabulary_file(tmp_path, tokenizer.get_vocab_size())


def test_rows_without_a_token_are_filled(tmp_path: Path) -> None:
    tokenizer = byte_level("gpt-2", tmp_path)
    path = vocabulary_file(tmp_path, tokenizer.get_vocab_size() + 5)
    with Model(path, ModelParams(vocab_only=True)) as model:
        assert model.vocab.n_tokens == tokenizer.get_vocab_size() + 5
    assert_same_tokens(path, tokenizer)


# SentencePiece.


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BPE that SentencePiece trained, with bytes for what it does not know."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("sentencepiece")
    (folder / "corpus.txt").write_text("\n".join(CORPUS), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "tokenizer"), vocab_size=900, model_type="bpe",
        byte_fallback=True, character_coverage=0.99, normalization_rule_name="identity", num_threads=1,
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, split_digits=True, minloglevel=2,
        max_sentence_length=100000,
    )  # fmt: skip
    return folder / "tokenizer.model"


def fast_tokenizer(model: Path, normalizer: Any, pre_tokenizer: Any) -> Tokenizer:
    """Return what transformers makes of such a model: merges of all pairs of pieces, the better result first."""
    sentencepiece = pytest.importorskip("sentencepiece")
    loaded = sentencepiece.SentencePieceProcessor(model_file=str(model))
    vocab = {loaded.id_to_piece(id): id for id in range(loaded.get_piece_size())}
    merges = []
    for piece, id in vocab.items():
        if not (loaded.is_byte(id) or loaded.is_control(id) or loaded.is_unknown(id)):
            cuts = [(piece[:n], piece[n:]) for n in range(1, len(piece))]
            merges += [(-loaded.get_score(id), id, cut) for cut in cuts if cut[0] in vocab and cut[1] in vocab]
    tokenizer = Tokenizer(
        models.BPE(vocab, [cut for _, _, cut in sorted(merges)], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


LLAMA2 = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
SPM = {
    "llama-2": (LLAMA2, None),
    "gemma": (normalizers.Replace(" ", "▁"), pre.Split(" ", "merged_with_previous")),
    "metaspace": (None, pre.Metaspace(prepend_scheme="first", split=False)),
}
SPM_TEXTS = [text for text in HARD_TEXTS if "<|" not in text and text and "\x00" not in text]


@pytest.mark.parametrize("name", SPM)
@pytest.mark.parametrize("with_json", [True, False])
def test_sentencepiece_tokens_are_the_same(
    tmp_path: Path, sentencepiece_model: Path, name: str, with_json: bool
) -> None:
    tokenizer = fast_tokenizer(sentencepiece_model, *SPM[name])
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True})
    )
    if with_json:
        tokenizer.save(str(tmp_path / "tokenizer.json"))
    elif name == "gemma":
        pytest.skip("tokenizer.model says itself that it puts a space before a text")
    else:
        (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model.read_bytes())
    # Metaspace puts no space before a space; SentencePiece and llama.cpp do.
    texts = [text for text in SPM_TEXTS if name != "metaspace" or not text.startswith(" ")]
    assert_same_tokens(vocabulary_file(tmp_path, tokenizer.get_vocab_size()), tokenizer, texts)


# Unigram.


@pytest.fixture(scope="module")
def unigram_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Unigram that SentencePiece trained, with its map of characters."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("unigram")
    (folder / "corpus.txt").write_text("\n".join(CORPUS), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "tokenizer"), vocab_size=900, model_type="unigram",
        character_coverage=0.99, normalization_rule_name="nmt_nfkc", num_threads=1, minloglevel=2,
        max_sentence_length=100000, hard_vocab_limit=False,
    )  # fmt: skip
    return folder / "tokenizer.model"


def charsmap_of(model: Path) -> bytes:
    """Return the compiled map in a tokenizer.model."""
    normalizer = dict(model_proto._fields(model.read_bytes()))[3]
    charsmap = dict(model_proto._fields(normalizer))[2]  # type: ignore[arg-type]
    assert isinstance(charsmap, bytes) and len(charsmap) > 100_000
    return charsmap


@pytest.mark.parametrize("way", ["words", "spaces replaced"])
def test_unigram_tokens_are_the_same(tmp_path: Path, unigram_model: Path, way: str) -> None:
    pieces = model_proto.read_model(unigram_model).pieces
    tokenizer = Tokenizer(models.Unigram([(piece.text, piece.score) for piece in pieces], 0, False))
    charsmap = normalizers.Precompiled(charsmap_of(unigram_model))
    if way == "words":
        tokenizer.normalizer = charsmap
        tokenizer.pre_tokenizer = pre.Sequence([pre.WhitespaceSplit(), pre.Metaspace()])
    else:
        spaces = [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
        tokenizer.normalizer = normalizers.Sequence([charsmap, *spaces])
        tokenizer.pre_tokenizer = pre.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "cls_token": "<s>"})
    )
    path = vocabulary_file(tmp_path, tokenizer.get_vocab_size() + 3, arch="bert")
    assert_same_tokens(path, tokenizer, [*SPM_TEXTS, "", "ﬁ ㎏ Å ｶﾞ"])


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("normalizer", {"type": "Lowercase"}, "normalizes text by 'Lowercase'"),
        ("pre_tokenizer", {"type": "Digits"}, "splits text by 'Digits'"),
        ("pre_tokenizer", None, "keeps spaces"),
    ],
)
def test_unigram_that_llama_cpp_does_not_compute_is_refused(
    tmp_path: Path, unigram_model: Path, part: str, value: object, words: str
) -> None:
    pieces = model_proto.read_model(unigram_model).pieces
    tokenizer = Tokenizer(models.Unigram([(piece.text, piece.score) for piece in pieces], 0, False))
    tokenizer.pre_tokenizer = pre.Metaspace()
    described = json.loads(tokenizer.to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**described, part: value}))
    with pytest.raises(UnsupportedModel, match=words):
        vocabulary_file(tmp_path, tokenizer.get_vocab_size())


# WordPiece.


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_tokens_are_the_same(tmp_path: Path, lowercase: bool) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=N_VOCAB, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    ids = [(text, tokenizer.token_to_id(text)) for text in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({f"{text[1:-1].lower()}_token": text for text in specials})
    )
    path = vocabulary_file(tmp_path, tokenizer.get_vocab_size(), arch="bert")
    # Where accents are stripped, BERT takes Korean syllables apart and keeps spacing vowel signs; llama.cpp does not.
    texts = [text for text in HARD_TEXTS if not (lowercase and text in (KOREAN, HINDI))]
    assert_same_tokens(path, tokenizer, [*texts, "one [MASK] two"])
