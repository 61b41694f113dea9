"""Text as data: windows counted by hand, speakers, files, tokenizers, and a sentence for everything unusable."""

import doctest
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fedhm_jax.config import check_config, config_from_dict
from fedhm_jax.data import (
    check_text,
    decode,
    given,
    hold_out,
    load_dataset,
    load_text,
    natural,
    partition_unlabelled,
    text_from_strings,
    text_from_tokens,
)
from fedhm_jax.data.text.files import compile_pattern, texts_by_client
from fedhm_jax.errors import ConfigError

PAGE = Path(__file__).parents[2] / "docs" / "text.md"
SHAKESPEARE = Path(__file__).parents[3] / "shared" / "data" / "tiny_shakespeare" / "input.txt"
SPEAKERS = r"(?<!.\n)^([A-Z][A-Za-z ]*):$"


def refusal(call, *arguments, **options):
    """The message of the ConfigError that the call must raise: one line."""
    with pytest.raises(ConfigError) as error:
        call(*arguments, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


def windows_twin(documents, window, test_share):
    """Every window with its owner, one token at a time: lists of inputs and targets of both parts."""
    parts = ([], [])
    for owner, document in documents.items():
        cut = len(document) - round(test_share * len(document))
        for found, own in zip(parts, (document[:cut], document[cut:]), strict=True):
            start = 0
            while start + window + 1 <= len(own):
                found.append((owner, own[start : start + window], own[start + 1 : start + window + 1]))
                start += window
    return parts


# --- windows --------------------------------------------------------------------------------------------------------


def test_windows_by_hand():
    # Of 11 tokens 3 are for the test. Of the 8 others windows of 2 start at 0, 2, 4; at 6 the target of 7 is missing.
    text = text_from_strings({"ann": "abcabcabcab", "bob": "ccbbc", "cem": "", "dan": "a"}, window=2, test_share=0.3)
    assert text.vocabulary == ("a", "b", "c")
    assert text.train_tokens.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, *(2, 2, 1), 0]
    assert text.test_tokens.tolist() == [2, 0, 1, *(1, 2)]
    assert text.train_starts.tolist() == [0, 2, 4, 8]
    assert text.train_clients.tolist() == ["ann", "ann", "ann", "bob"]
    assert text.test_starts.tolist() == [0]
    assert (text.train_tokens.dtype, text.train_starts.dtype, text.test_starts.dtype) == (np.uint8, np.int32, np.int32)
    assert repr(text) == "Text('strings': 4 training and 1 test windows of 2 tokens, 3 in the vocabulary, 2 clients)"
    nobody = text_from_strings(["abcabcabcab", "ccbbc"], window=2, test_share=0.3, name="mine")
    assert nobody.train_clients is None
    assert repr(nobody) == "Text('mine': 4 training and 1 test windows of 2 tokens, 3 in the vocabulary)"


@pytest.mark.parametrize(("window", "test_share"), [(1, 0.5), (3, 0.25), (8, 0.4), (64, 0.1)])
def test_windows_are_those_of_the_twin(window, test_share):
    rng = np.random.default_rng(0)
    documents = {client: rng.integers(0, 300, size) for client, size in enumerate((700, 0, 3, 65, 66, 129, 1, 1000))}
    text = text_from_tokens(documents, [str(token) for token in range(300)], window=window, test_share=test_share)
    train, test = windows_twin(documents, window, test_share)
    assert text.train_tokens.dtype == np.uint16
    for tokens, starts, owners, twin in (
        (text.train_tokens, text.train_starts, text.train_clients, train),
        (text.test_tokens, text.test_starts, [None] * len(test), test),
    ):
        assert len(starts) == len(twin) > 0
        for start, owner, (whose, inputs, targets) in zip(starts, owners, twin, strict=True):
            assert owner in (whose, None)
            assert np.array_equal(tokens[start : start + window], inputs)
            assert np.array_equal(tokens[start + 1 : start + window + 1], targets)


@pytest.mark.parametrize(
    ("size", "dtype"), [(256, np.uint8), (257, np.uint16), (2**16, np.uint16), (2**16 + 1, np.int32)]
)
def test_tokens_have_the_smallest_type_that_holds_the_vocabulary(size, dtype):
    text = text_from_tokens([[0, size - 1] * 5], ["x"] * size, window=1, test_share=0.5)
    assert (text.train_tokens.dtype, text.test_tokens.dtype) == (dtype, dtype)
    assert text.train_tokens.tolist() == [0, size - 1, 0, size - 1, 0]


def test_clients_may_be_integers():
    text = text_from_strings({np.int64(7): "abcdefgh", 3: "abcdefgh"}, window=2, test_share=0.4)
    assert text.train_clients.tolist() == [7, 7, 3, 3]
    assert text.train_clients.dtype == np.int64


BAD_STRINGS = [
    ("abc", {}, "data.documents is of type str, but must be a list, or a mapping from client to document"),
    (3, {}, "data.documents is of type int, but must be a list, or a mapping from client to document"),
    ([], {}, "data.documents is empty, but must hold at least one document"),
    (["abc", 3], {}, "data.documents[1] is of type int, but must be a string"),
    ({"ann": b"abc"}, {}, "data.documents['ann'] is of type bytes, but must be a string"),
    (["a\ud800"], {}, "data.documents[0] holds half of a surrogate pair, but must be text that UTF-8 can write"),
    ({1: "a", "b": "a"}, {}, "data.documents has client ids of type int, str, but must have strings alone or integers"),
    ({1.5: "a"}, {}, "data.documents has client ids of type float, but must have strings alone or integers alone"),
    ({2**70: "a"}, {}, "data.documents has client ids beyond 64 bits, but must have integers below 2**63"),
    (["a" * 99], {"window": 0}, "data.window is 0, but must be an integer of at least 1"),
    (["a" * 99], {"window": 2.0}, "data.window is 2.0, but must be an integer of at least 1"),
    (["a" * 99], {"test_share": 0}, "data.test_share is 0, but must be a number above 0 and below 1"),
    (["a" * 99], {"test_share": 1.0}, "data.test_share is 1.0, but must be a number above 0 and below 1"),
    (
        ["a" * 30, "b" * 60],
        {"window": 54},
        "data.window is 54, but must be below the length of the longest document's training part, 54 tokens",
    ),
    (
        ["a" * 30, "b" * 60],
        {"window": 6},
        "data.test_share is 0.1, but must be so large that some document's end holds more than data.window, 6 tokens "
        "(the longest: 6 tokens)",
    ),
    ([""], {}, "data.window is 64, but must be below the length of the longest document's training part, 0 tokens"),
    (["a"], {"tokenizer": "words"}, "data.tokenizer is 'words', but must be 'characters', 'bytes' or the path of a "),
    (
        ["a"],
        {"tokenizer": "x" * 300},
        f"data.tokenizer is '{'x' * 300}', but must be 'characters', 'bytes' or the path ",
    ),
    (["a"], {"tokenizer": "a\0b"}, "data.tokenizer is 'a\\x00b', but must be 'characters', 'bytes' or the path of a "),
    (
        ["a"],
        {"tokenizer": "~nobody-here/t.json"},
        "data.tokenizer is '~nobody-here/t.json', but must be 'characters', ",
    ),
]


@pytest.mark.parametrize(("documents", "options", "says"), BAD_STRINGS)
def test_strings_that_do_not_fit(documents, options, says):
    assert refusal(text_from_strings, documents, **options).startswith(says)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (
            [0, 3],
            "data.documents[0] holds the token 3, but must hold tokens from 0 to 2 (data.vocabulary has 3 strings)",
        ),
        ([0, -1], "data.documents[0] holds the token -1, but must hold tokens from 0 to 2"),
        ([0.5, 1.0], "data.documents[0] is of type float64, but must be integers"),
        ([[0, 1]], "data.documents[0] has shape (1, 2), but must be one row of tokens"),
        ([[0], [1, 2]], "data.documents[0] has rows of different lengths, but must be one row of tokens"),
        (2, "data.documents[0] has shape (), but must be one row of tokens"),
        ("ab", "data.documents[0] has shape (), but must be one row of tokens"),
    ],
)
def test_tokens_that_do_not_fit(document, says):
    assert refusal(text_from_tokens, [document], "abc").startswith(says)


def test_a_vocabulary_is_of_strings():
    assert refusal(text_from_tokens, [[0]], [1]) == "data.vocabulary[0] is of type int, but must be a string"


ROW = np.arange(12) % 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window": 0}, "data.window is 0, but must be an integer of at least 1"),
        ({"train_tokens": ROW + 1}, "data.train_tokens holds the token 3, but must hold tokens from 0 to 2"),
        ({"test_tokens": ROW * 0.5}, "data.test_tokens is of type float64, but must be integers"),
        (
            {"test_starts": np.array([9, 10])},
            "data.test_starts holds the start 10, but must hold starts from 0 to 9, as data.test_tokens has 12 tokens "
            "and data.window is 2",
        ),
        ({"train_starts": np.array([-1])}, "data.train_starts holds the start -1, but must hold starts from 0 to 9"),
        (
            {"train_starts": np.zeros(0, int)},
            "data.train_starts is an array of shape (0,) and type int64, but must be ",
        ),
        (
            {"train_clients": np.array([1])},
            "data.train_clients has shape (1,), but must be (2,), one client id per window",
        ),
    ],
)
def test_a_text_put_together_by_hand_is_checked(changes, says):
    text = text_from_tokens({"ann": ROW}, "abc", window=2, test_share=0.5)
    good = text._replace(train_tokens=ROW, test_tokens=ROW, train_starts=np.array([0, 9]), test_starts=np.array([9]))
    good = good._replace(train_clients=np.array(["ann", "ann"]))
    check_text(good)
    assert refusal(check_text, good._replace(**changes)).startswith(says)


# --- tokens ---------------------------------------------------------------------------------------------------------

PROSE = "Ça va? 😀 it was the best of times, it was the wörst of times. " * 8


@pytest.mark.parametrize("tokenizer", ["characters", "bytes"])
def test_decoding_gives_the_text_back(tokenizer):
    text = text_from_strings([PROSE], tokenizer=tokenizer, window=4)
    units = sorted(set(PROSE)) if tokenizer == "characters" else range(256)
    assert len(text.vocabulary) == len(units)
    tokens = np.concatenate([text.train_tokens, text.test_tokens])
    assert len(tokens) == len(PROSE if tokenizer == "characters" else PROSE.encode())
    assert decode(text, tokens) == PROSE
    assert decode(text, []) == ""
    assert text.unit == tokenizer.removesuffix("s")


def test_a_part_of_a_character_is_shown_as_missing():
    text = text_from_strings([PROSE], tokenizer="bytes", window=4)
    assert decode(text, text.train_tokens[1:4]) == "\ufffda "
    assert refusal(decode, text, [256]).startswith("tokens holds the token 256, but must hold tokens from 0 to 255")


def test_what_looks_like_a_byte_in_a_text_stays():
    text = text_from_strings(["<0xC3>" * 20], window=4)
    assert decode(text, text.train_tokens[:12]) == "<0xC3><0xC3>"


@pytest.mark.parametrize("kind", ["ByteLevel", "Metaspace"])
def test_a_tokenizer_file(tmp_path, kind):
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra text")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = getattr(tokenizers.pre_tokenizers, kind)()
    made.decoder = getattr(tokenizers.decoders, kind)()
    made.train_from_iterator([PROSE], tokenizers.trainers.BpeTrainer(vocab_size=120, show_progress=False))
    expected, words = made.encode(PROSE).ids, made.encode("it was the best").ids
    # A file may ask for a length, which would cut documents or fill them up.
    made.enable_truncation(5)
    made.enable_padding(length=9999)
    made.save(str(tmp_path / "tokenizer.json"))
    text = text_from_strings([PROSE], tokenizer=str(tmp_path / "tokenizer.json"), window=4)
    tokens = np.concatenate([text.train_tokens, text.test_tokens])
    assert tokens.tolist() == expected
    assert " times" in text.vocabulary
    assert len(text.vocabulary) == made.get_vocab_size()
    assert decode(text, words) == " it was the best"
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{}")
    message = refusal(text_from_strings, [PROSE], tokenizer=str(damaged))
    assert message.startswith(f"data.tokenizer is {str(damaged)!r}, but must be 'characters', 'bytes' or the path of")


def test_a_tokenizer_file_needs_a_library(tmp_path, monkeypatch):
    file = tmp_path / "tokenizer.json"
    file.touch()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert refusal(text_from_strings, [PROSE], tokenizer=str(file)) == (
        f"data.tokenizer is {str(file)!r}, but must be 'characters' or 'bytes' as long as "
        'pip install "fedhm-jax[text]" has not brought tokenizers'
    )


# --- files ----------------------------------------------------------------------------------------------------------

PLAY = "A play\n\nANN:\nTo be.\n\nBOB:\n\n\nCEM JR:\nOr not\nto be:\n\nANN:\nTrue.\n"


@pytest.mark.parametrize(
    ("pattern", "clients"),
    [
        ("^([A-Z ]+):$", {"ANN": ["To be.", "True."], "CEM JR": ["Or not\nto be:"]}),
        ("^[A-Z]+", {"O": ["to be:"]}),  # all other lines begin texts as well, and leave none to the one before
        ("^(ANN|(B)OB):", {"ANN": ["To be.", "True."], "BOB": ["CEM JR:\nOr not\nto be:"]}),
        ("^(?:ANN|B(O)B):", {"": ["To be.", "True."], "O": ["CEM JR:\nOr not\nto be:"]}),
        ("nobody", {}),
    ],
)
def test_lines_that_a_pattern_matches_begin_texts(pattern, clients):
    assert texts_by_client(PLAY, compile_pattern(pattern)) == clients


def write(folder, **texts):
    for name, text in texts.items():
        file = folder / f"{name.replace('__', '/')}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")


def test_a_file_has_no_clients_and_a_folder_those_of_its_files(tmp_path):
    write(tmp_path, ann="to be or not", deep__bob="that is", empty="", **{".hidden": "x", ".deep__cem": "x"})
    whole = load_text(data_dir=tmp_path, window=2, test_share=0.4)
    assert (whole.name, sorted(set(whole.train_clients.tolist()))) == (tmp_path.name, ["ann", "deep/bob"])
    assert "x" not in whole.vocabulary
    alone = load_text(data_dir=str(tmp_path / "ann.txt"), window=2, test_share=0.4)
    assert (alone.name, alone.train_clients) == ("ann", None)
    assert decode(alone, alone.train_tokens) + decode(alone, alone.test_tokens) == "to be or not"


def test_a_speaker_of_several_files_is_one_client(tmp_path):
    write(tmp_path, first="ANN:\nto be\n", second="BOB:\nor not\n\nANN:\nthat is\n")
    text = load_text(data_dir=tmp_path, window=2, test_share=0.4, client_pattern="^([A-Z]+):$")
    # "to be\nthat is" of 13 characters and "or not" of 6: 8 and 4 for training.
    assert text.train_clients.tolist() == ["ANN"] * 3 + ["BOB"]
    assert decode(text, text.train_tokens) == "to be\nthor n"


def test_line_ends_and_marks_of_other_systems_are_no_part_of_a_text(tmp_path):
    (tmp_path / "dos.txt").write_bytes("\ufeffto be\r\nor not\r\n".encode())
    text = load_text(data_dir=tmp_path / "dos.txt", window=2, test_share=0.4)
    assert "".join(text.vocabulary) == "\n benort"


LINES = [{"text": "to be or", "by": "ann", "at": 1}, {"text": "not to be", "by": "bob", "at": 2}]


def write_lines(folder, lines):
    file = folder / "lines.jsonl"
    file.write_text("\n\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def test_json_lines(tmp_path):
    # A separator that is a line's end to Python, but not in JSON lines.
    file = write_lines(tmp_path, [*LINES, '{"text": "a\u2028b", "by": "ann", "at": 1}'])
    text = load_text("jsonl", data_dir=file, client_field="by", window=2, test_share=0.4)
    # "to be or\na b" of 12 and "not to be" of 9 characters: 7 and 5 for training.
    assert decode(text, text.train_tokens) == "to be onot t"
    assert text.train_clients.tolist() == ["ann"] * 3 + ["bob"] * 2
    assert load_text("jsonl", data_dir=file, window=2, test_share=0.4).train_clients is None
    # "ann\nann" of 7 characters has 4 for training, "bob" 2.
    numbered = load_text("jsonl", data_dir=file, text_field="by", client_field="at", window=1, test_share=0.4)
    assert numbered.train_clients.tolist() == [1, 1, 1, 2]
    assert "".join(numbered.vocabulary) == "\nabno"


@pytest.mark.parametrize(
    ("lines", "options", "says"),
    [
        (["{"], {}, "data.data_dir is {file!r}, but must be a file of JSON lines, and line 1 is not JSON ("),
        ([*LINES, "[1]"], {}, "data.data_dir is {file!r}, but must be a file of JSON lines, and line 5 is no object"),
        ([], {}, "data.data_dir is {file!r}, but must be where text is, and there is none in it"),
        (LINES, {"text_field": "body"}, "data.text_field is 'body', but must be a key that has text in every line, "),
        (
            LINES,
            {"text_field": "at"},
            "data.text_field is 'at', but must be a key that has text in every line, unlike in ",
        ),
        (['{"text": "\\ud800"}'], {}, "data.text_field is 'text', but must be a key that has text in every line, "),
        (
            LINES,
            {"client_field": "writer"},
            "data.client_field is 'writer', but must be a key that has text or an integer in every line, unlike in "
            "line 1, whose keys are 'text', 'by', 'at'",
        ),
        ([{"text": "a", "by": True}], {"client_field": "by"}, "data.client_field is 'by', but must be a key that has "),
        (
            [{"text": "a", "by": 2**63}],
            {"client_field": "by"},
            "data.client_field is 'by', but must be a key that has ",
        ),
        (
            [*LINES, {"text": "a", "by": 3}],
            {"client_field": "by"},
            "data.client_field is 'by', but must be a key whose values are strings in every line, or integers ",
        ),
    ],
)
def test_json_lines_that_do_not_fit(tmp_path, lines, options, says):
    file = write_lines(tmp_path, lines)
    assert refusal(load_text, "jsonl", data_dir=file, **options).startswith(says.format(file=str(file)))


def test_files_that_do_not_fit(tmp_path):
    nowhere, latin, empty = tmp_path / "nowhere.txt", tmp_path / "latin.txt", tmp_path / "empty.txt"
    latin.write_bytes(b"caf\xe9")
    empty.touch()
    (tmp_path / "folder").mkdir()
    for place, says in (
        (nowhere, "a file that can be read (No such file or directory: "),
        (tmp_path / ("x" * 300), "a file that can be read (File name too long: "),
        (latin, "text in UTF-8, and "),
        (empty, "where text is, and there is none in it"),
        (tmp_path / "folder", "a text file, or a folder with .txt files in it"),
    ):
        assert refusal(load_text, data_dir=place).startswith(f"data.data_dir is {str(place)!r}, but must be {says}")
    assert refusal(load_text).startswith(
        "data.data_dir is unset, but must be where the text is when data.name is 'text'"
    )
    assert refusal(load_text, "words", data_dir=nowhere).startswith(
        "data.name is 'words', but must be 'text', 'jsonl', 'huggingface', 'huggingface:OWNER/NAME' or "
    )
    assert refusal(load_text, "tfds_text").startswith("data.name is 'tfds_text', but must be 'text', ")
    assert refusal(load_dataset, "text").startswith("data.name is 'text', but must be ")
    for pattern in ("(", "^nobody$"):
        message = refusal(load_text, data_dir=latin.with_name("empty.txt"), client_pattern=pattern)
        assert message.startswith(f"data.client_pattern is {pattern!r}, but must be ")


# --- configs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            {"window": 32},
            "data.window is 32, but must be 64 unless data.name is 'text', 'jsonl', 'huggingface' or 'tfds_text' (",
        ),
        (
            {"test_share": 0.2},
            "data.test_share is 0.2, but must be 0.1 unless data.name is 'text', 'jsonl', 'huggingface' or 'tfds_text'",
        ),
        ({"tokenizer": "bytes"}, "data.tokenizer is 'bytes', but must be 'characters' unless data.name is 'text', "),
        (
            {"client_pattern": "^A"},
            "data.client_pattern is '^A', but must be unset unless data.name is 'text' (data.name ",
        ),
        (
            {"text_field": "body"},
            "data.text_field is 'body', but must be 'text' unless data.name is 'jsonl', 'huggingface' or 'tfds_text' ",
        ),
        (
            {"client_field": "by"},
            "data.client_field is 'by', but must be unset unless data.name is 'jsonl', 'huggingface' or 'tfds_text' ",
        ),
        (
            {"name": "jsonl", "client_pattern": "^A"},
            "data.client_pattern is '^A', but must be unset unless data.name is ",
        ),
        ({"name": "text", "client_field": "by"}, "data.client_field is 'by', but must be unset unless data.name is "),
        ({"name": "text", "client_feature": "by"}, "data.client_feature is 'by', but must be unset when data.name is "),
        (
            {"name": "text", "train_split": "test"},
            "data.train_split is 'test', but must be 'train' for a text, whose split is data.test_share (data.name is ",
        ),
        (
            {"name": "huggingface", "test_split": "validation"},
            "data.test_split is 'validation', but must be 'test' for a text, whose split is data.test_share (",
        ),
        (
            {"name": "jsonl", "data_dir": None},
            "data.data_dir is None, but must be where the text is when data.name is ",
        ),
        ({"name": "text", "client_pattern": "("}, "data.client_pattern is '(', but must be a regular expression"),
        ({"name": "text", "window": 2**31}, "data.window is 2147483648, but must be an integer below 2**31"),
        ({"name": "text", "test_share": 1.0}, "data.test_share is 1.0, but must be a number above 0 and below 1"),
        ({"name": "text", "tokenizer": " "}, "data.tokenizer is ' ', but must be a name that is not empty"),
    ],
)
def test_fields_that_do_not_belong_to_the_source_are_refused(data, says):
    given = {"data_dir": "lines"} if "name" in data else {}
    config = config_from_dict({"data": {**given, **data}})
    assert refusal(check_config, config).startswith(says)


@pytest.mark.parametrize("method", ["dirichlet", "dirichlet_equal", "shards"])
def test_samples_without_classes_cannot_be_dealt_out_by_class(method):
    config = config_from_dict({"data": {"name": "text", "data_dir": "play.txt"}, "partition": {"method": method}})
    says = f"partition.method is {method!r}, but must be 'iid', 'quantity', 'natural' or 'given' for "
    assert refusal(check_config, config).startswith(says)
    options = {"clients": 2, "alpha": 1.0, "min_samples": 1, "seed": 0}
    assert refusal(partition_unlabelled, method, 10, **options).startswith(says)


def test_a_config_may_name_a_text():
    text = {"window": 32, "test_share": 0.2, "tokenizer": "bytes"}
    check_config(
        config_from_dict({"data": {"name": "text", "data_dir": "play.txt", "client_pattern": SPEAKERS, **text}})
    )
    lines = {"text_field": "body", "client_field": "by"}
    check_config(config_from_dict({"data": {"name": "jsonl", "data_dir": "lines.jsonl", **lines, **text}}))


# --- dealing out ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoken():
    """Forty windows, each of one client's digit alone, so that a window tells whose it is."""
    return text_from_strings({str(client): str(client) * 89 for client in range(4)}, window=8)


def whose(text):
    return [text.vocabulary[text.train_tokens[start]] for start in text.train_starts]


def test_windows_are_dealt_out_as_images_are(spoken):
    samples = len(spoken.train_starts)
    assert (
        samples == 36
    )  # 80 training tokens of each client: nine windows of eight, and the target of the tenth is missing
    assert whose(spoken) == spoken.train_clients.tolist()
    parts = natural(spoken.train_clients, None, min_samples=9, seed=0)
    assert [len(part) for part in parts] == [9] * 4
    options = {"clients": 5, "alpha": 1.0, "min_samples": 2, "seed": 0}
    for method in ("iid", "quantity"):
        parts = partition_unlabelled(method, samples, **options)
        assert len(parts) == 5
        assert sorted(np.concatenate(parts).tolist()) == list(range(samples))
    assert given([[0, 35]], samples)[0].tolist() == [0, 35]


def test_held_out_windows_are_tested_on_and_nobodys(spoken):
    held = hold_out(spoken, 6)
    assert (len(held.train_starts), len(held.train_clients), len(held.test_starts)) == (30, 30, 6)
    assert sorted([*held.train_starts, *held.test_starts]) == spoken.train_starts.tolist()
    assert held.test_tokens is spoken.train_tokens
    assert whose(held) == held.train_clients.tolist()
    check_text(held)
    assert refusal(hold_out, spoken, 36) == "data.holdout is 36, but must be below 36, the number of training samples"


def test_fewer_windows(tmp_path):
    write(tmp_path, ann="a" * 300, bob="b" * 300)
    whole = load_text(data_dir=tmp_path, window=8)
    some = load_text(data_dir=tmp_path, window=8, train_samples=20, test_samples=3)
    assert (len(some.train_starts), len(some.test_starts)) == (20, 3)
    assert set(some.train_starts.tolist()) < set(whole.train_starts.tolist())
    assert set(some.test_starts.tolist()) < set(whole.test_starts.tolist())
    assert [client[0] for client in some.train_clients] == whose(some)
    message = refusal(load_text, data_dir=tmp_path, window=8, train_samples=1000)
    assert message.startswith(f"data.train_samples is 1000, but must be between 1 and {len(whole.train_starts)}, ")


# --- Tiny Shakespeare -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason=f"no Tiny Shakespeare at {SHAKESPEARE}")
def test_speakers_of_tiny_shakespeare():
    source = SHAKESPEARE.read_text()
    assert len(source) == 1_115_394
    assert len(load_text(data_dir=SHAKESPEARE).vocabulary) == 65
    clients = texts_by_client(source, compile_pattern(SPEAKERS))
    spoken = np.array([sum(map(len, texts)) for texts in clients.values()])
    assert (len(spoken), (spoken >= 500).sum(), (spoken >= 2000).sum()) == (297, 180, 99)
    text = load_text(data_dir=SHAKESPEARE, client_pattern=SPEAKERS)
    # Speeches are joined by a line break each; of n characters the last n / 10 are for the test, 64 are a window.
    sizes = {client: sum(map(len, texts)) + len(texts) - 1 for client, texts in clients.items()}
    expected = {client: max(size - round(size / 10) - 1, 0) // 64 for client, size in sizes.items()}
    found = dict(zip(*np.unique(text.train_clients, return_counts=True), strict=True))
    assert found == {client: windows for client, windows in expected.items() if windows > 0}
    assert (len(found), sum(windows >= 16 for windows in found.values())) == (259, 129)


def test_the_examples_of_the_page():
    outcome = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 5
    assert outcome.failed == 0
