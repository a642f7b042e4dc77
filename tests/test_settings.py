"""The data section: what may stand beside what, and that every setting decides what is read."""

import tomllib

import pytest

from blueberry.errors import RecipeError
from blueberry.recipe import Recipe, fingerprint, setting_names
from blueberry.settings import Data
from blueberry.text.dataset import data_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"data.corpus": "files", "data.files.paths": ["a.txt"]}
HUB = {
    "data.corpus": "hugging-face",
    "data.hugging_face.repository": "owner/name",
    "data.hugging_face.revision": COMMIT,
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"data.corpus": "files"}, 'r "data.corpus": "files"; it needs its section; set files.paths'),
        ({"data.files.paths": ["a"]}, "r \"data.files\": given; the corpus is 'python-stdlib'; set corpus = \"files\" or remove it"),
        ({**FILES, "data.files.paths": []}, 'r "data.files.paths": []; a corpus of files needs their paths; give some'),
        ({**FILES, "data.files.format": "text", "data.files.text_column": "body"}, "r \"data.files.text_column\": 'body'; text files have no columns; remove it or change format"),
        ({**FILES, "data.files.format": "jsonl", "data.files.delimiter": "x"}, "r \"data.files.delimiter\": 'x'; a jsonl file has a document a row; remove it or change format"),
        ({**FILES, "data.files.pahts": 1}, 'r "data.files.pahts": no such setting; did you mean "data.files.paths"?'),
        ({"data.corpus": "hugging-face"}, None),
        ({**HUB, "data.hugging_face.revision": "main"}, "r \"data.hugging_face.revision\": 'main'; only a commit stays what it is; give its 40 hexadecimal digits, from https://huggingface.co/datasets/owner/name/commits/main"),
        ({**HUB, "data.hugging_face.repository": "a b"}, None),
        ({"data.corpus": "mixture"}, 'r "data.corpus": "mixture"; it needs corpora to mix; add [data.mixture.NAME] tables'),
        ({"data.mixture.a.weight": 2.0}, None),
        ({"data.corpus": "mixture", "data.mixture.a.wieght": 2.0}, 'r "data.mixture.a.wieght": no such setting; did you mean "data.mixture.NAME.weight"?'),
        ({"data.corpus": "mixture", "data.mixture.a.weight": 0.0}, 'r "data.mixture.a.weight": 0.0; input should be greater than 0; change the value'),
        ({"data.corpus": "mixture", "data.mixture.a.weight": 1.0, "data.max_tokens": 9}, 'r "data.max_tokens": 9; a mixture is cut corpus by corpus; set data.mixture.NAME.max_tokens'),
        ({"data.corpus": "mixture", "data.mixture.a.weight": 1.0, "data.sets.a.corpus": "synthetic"}, None),
        ({"data.corpus": "mixture", "data.mixture.a": 3}, None),
        ({"data.sets.a/b.corpus": "synthetic"}, "r \"data.sets\": 'a/b'; a name is letters, digits, - and _; rename it"),
        ({"data.windows": "overlapping", "data.sets.a.corpus": "synthetic"}, None),
        ({"data.tokenizer": "file"}, "r \"data.tokenizer_path\": left out; data.tokenizer = 'file' needs it; add it"),
        ({"data.tokenizer_path": "t.json"}, None),
        ({"data.tokenizer": "hugging-face", "data.tokenizer_repository": "a/b", "data.tokenizer_revision": "main"}, None),
        ({"data.end_token": "x"}, "r \"data.end_token\": 'x'; the bpe tokenizer has its own, the byte NUL; remove it"),
        ({"data.vocabulary_tokens": 255}, None),
        ({"data.max_documents": 0}, None),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(changes, line):
    with pytest.raises(RecipeError) as error:
        Recipe().with_(changes, place="r")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith('r "data')
    assert line is None or str(error.value) == line


def test_a_file_s_mistake_within_a_named_corpus_is_named():
    with pytest.raises(RecipeError) as error:
        Recipe.parse({"data": {"corpus": "mixture", "mixture": {"a": {"wieght": 2.0}}}}, place="r")
    assert str(error.value).startswith(
        'r "data.mixture.a.wieght": no such setting; did you mean "data.mixture.a.weight"?'
    )


MIXED = {
    "data.corpus": "mixture",
    "data.mixture.code.corpus": "python-stdlib",
    "data.mixture.code.weight": 0.7,
    "data.mixture.prose.corpus": "files",
    "data.mixture.prose.files.paths": ["x/*.txt"],
    "data.mixture.prose.weight": 0.3,
    "data.sets.other.corpus": "synthetic",
}


@pytest.mark.parametrize("changes", [FILES, HUB, MIXED], ids=["files", "hub", "mixture"])
def test_a_recipe_with_text_of_its_own_round_trips(changes):
    recipe = Recipe().with_(changes)
    assert Recipe.parse(tomllib.loads(recipe.to_toml())) == recipe
    for name, value in changes.items():
        assert recipe.get(name) == (tuple(value) if isinstance(value, list) else value)
    flat = recipe.flat()
    assert flat.keys() >= changes.keys()
    lengths = ("train.updates", "train.tokens")
    assert Recipe().with_({name: value for name, value in flat.items() if name not in lengths}) == recipe


def test_one_path_may_stand_alone_and_another_corpus_leaves_the_files_behind():
    recipe = Recipe().with_({**FILES, "data.files.paths": "a.txt"})
    assert recipe.data.files is not None
    assert recipe.data.files.paths == ("a.txt",)
    assert recipe.with_({"data.corpus": "synthetic"}).data.files is None
    named = recipe.with_({"data.tokenizer": "file", "data.tokenizer_path": "t.json", "data.vocabulary_tokens": 300})
    assert named.with_({"data.tokenizer": "bpe"}).data.tokenizer_path is None


def test_where_text_lies_is_no_part_of_the_identity_and_what_is_read_is():
    recipe = Recipe().with_(MIXED)
    name = fingerprint(recipe, "data")
    assert fingerprint(recipe.with_({"data.mixture.prose.files.paths": ["elsewhere"]}), "data") == name
    for changed in (
        {"data.mixture.code.weight": 0.6},
        {"data.mixture.prose.files.text_column": "body"},
        {"data.mixture.third.corpus": "synthetic"},
        {"data.sets.other.documents": "all"},
    ):
        assert fingerprint(recipe.with_(changed), "data") != name


@pytest.fixture
def texts(tmp_path):
    """Files of one kind each, so that every setting that reads them can be varied."""
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"{name}\n\nsecond {name}")
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name}", "body": "other {name}"}}\n')
    (tmp_path / "t.json").write_text("{}")
    (tmp_path / "u.json").write_text("{ }")
    return tmp_path


def _cases(root):
    """For each data setting: settings to stand on, and two values that must give two sets of tokens."""
    text = {"data.corpus": "files", "data.files.paths": [f"{root}/*.txt"]}
    rows = {"data.corpus": "files", "data.files.paths": [f"{root}/*.jsonl"]}
    held = {"data.tokenizer": "file", "data.tokenizer_path": f"{root}/t.json", "data.vocabulary_tokens": 300}
    remote = {"data.tokenizer": "hugging-face", "data.tokenizer_repository": "a/b", "data.tokenizer_revision": COMMIT}
    cases = {
        "data.corpus": ({}, "python-stdlib", "synthetic"),
        "data.tokenizer": ({}, "bpe", "byte"),
        "data.tokenizer_path": (held, f"{root}/t.json", f"{root}/u.json"),
        "data.tokenizer_repository": (remote, "a/b", "a/c"),
        "data.tokenizer_revision": (remote, COMMIT, COMMIT[::-1]),
        "data.end_token": (held, "</s>", "<eos>"),
        "data.mark_documents": ({}, True, False),
        "data.vocabulary_tokens": ({}, 512, 600),
        "data.pad_vocabulary": ({"data.vocabulary_tokens": 600}, False, True),
        "data.validation_fraction": ({}, 0.1, 0.2),
        "data.test_fraction": ({}, 0.1, 0.2),
        "data.windows": ({}, "disjoint", "overlapping"),
        "data.max_train_tokens": ({}, 5_000, 10_000),
        "data.mixture.NAME.weight": ({"data.corpus": "mixture", "data.mixture.NAME.weight": 1.0}, 1.0, 2.0),
        "data.sets.NAME.documents": ({"data.sets.NAME.corpus": "synthetic"}, "validation", "all"),
    }
    for place in ("data", "data.mixture.NAME", "data.sets.NAME"):
        beside = {"data.corpus": "mixture", "data.mixture.NAME.corpus": "synthetic"} if "mixture" in place else {}
        for cut in ("max_documents", "max_characters", "max_tokens"):
            cases[f"{place}.{cut}"] = ({**beside, f"{place}.corpus": "synthetic"}, 100, 200)
        cases.setdefault(f"{place}.corpus", (beside, "python-stdlib", "synthetic"))
        for own, given in (
            ({**HUB, "data.hugging_face.split": "train"}, ("repository", "a/b", "a/c")),
            (HUB, ("revision", COMMIT, COMMIT[::-1])),
            (HUB, ("configuration", "one", "two")),
            (HUB, ("split", "train", "more")),
            (HUB, ("text_column", "text", "body")),
        ):
            name, *values = given
            moved = {setting.replace("data.", f"{place}.", 1): value for setting, value in own.items()}
            cases[f"{place}.hugging_face.{name}"] = ({**beside, **moved}, *values)
        for own, given in (
            (text, ("paths", [f"{root}/a.txt"], [f"{root}/b.txt"])),
            (rows, ("format", "jsonl", "text")),
            (rows, ("text_column", "text", "body")),
            (text, ("delimiter", "\n\n", "second")),
        ):
            name, *values = given
            moved = {setting.replace("data.", f"{place}.", 1): value for setting, value in own.items()}
            cases[f"{place}.files.{name}"] = ({**beside, **moved}, *values)
    return cases


def test_every_data_setting_decides_which_run_it_is(texts):
    """A setting that is set but never used would leave the run's name as it was."""
    cases = _cases(texts)
    assert cases.keys() == {name for name in setting_names() if name.startswith("data.")}
    for name, (beside, *values) in cases.items():
        first, second = (Recipe().with_({**beside, name: value}) for value in values)
        digests = [data_digest(first.data), data_digest(second.data)]
        assert fingerprint(first, digests[0]) != fingerprint(second, digests[1]), name
        # Weights decide which windows are drawn, not what is prepared.
        assert (digests[0] != digests[1]) == (name != "data.mixture.NAME.weight"), name


def test_defaults_are_what_they_were():
    assert Data() == Data(corpus="python-stdlib", tokenizer="bpe", vocabulary_tokens=512, windows="disjoint")
    assert Data(tokenizer="byte").vocabulary_tokens == 256
