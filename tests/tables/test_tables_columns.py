import pytest

from blueberry.errors import TableError
from blueberry.tables.columns import MEANINGS, OTHER_NAMES, find_column, understood
from blueberry.tables.reading import read_table, table_of


@pytest.mark.parametrize(
    ("column", "meaning"),
    [("final_loss", "val_loss"), ("val/loss", "val_loss"), ("eval/loss", "val_loss"), ("loss/val", "val_loss"),
     ("eval.loss", "val_loss"), ("results.val_loss", "val_loss"), ("Val Loss", "val_loss"), ("valLoss", "val_loss"),
     ("Validation Loss (nats)", "val_loss"), ("Val loss (nats/token)", "val_loss"), ("val/loss [nats/tok.]", "val_loss"), ("**Final Loss**", "val_loss"), ("train/loss", "train_loss"),
     ("test/loss", "test_loss"), ("final_accuracy", "val_accuracy"), ("val/acc", "val_accuracy"), ("ppl", "val_perplexity"),
     ("final_perplexity", "val_perplexity"), ("training_time", "train_seconds"), ("Runtime", "train_seconds"),
     ("State", "status"), ("success", "status"), ("vocab_size", "vocabulary"), ("config.vocab_size", "vocabulary"),
     ("config.seed", "seed"), ("random_seed", "seed"), ("num_tokens", "tokens"), ("eval_digest", "eval_hash")],
)  # fmt: skip
def test_other_names_are_understood(column, meaning):
    assert understood([column]) == {column: meaning}


@pytest.mark.parametrize("column", ["loss", "steps", "model.seed", "lr", "data.train.tokens", "best_loss", "train/lr"])
def test_what_may_mean_something_else_keeps_its_name(column):
    assert understood([column]) == {}


def test_the_name_itself_goes_before_others():
    assert understood(["final_loss", "val_loss"]) == {}
    assert understood(["final_loss", "eval_loss"]) == {"eval_loss": "val_loss"}


def test_no_name_stands_for_two_columns():
    others = [name for names in OTHER_NAMES.values() for name in names]
    assert len(others) == len(set(others))
    assert set(OTHER_NAMES) == set(MEANINGS)
    assert not set(others) & set(MEANINGS)


def test_minutes_and_hours_are_seconds(tmp_path):
    for column, seconds in (("training_time", 2), ("training_time_minutes", 120), ("Training time (min)", 120), ("train_hours", 7200)):  # fmt: skip
        assert table_of([{column: 2}]).rows[0].values == {"train_seconds": seconds}, column


def test_the_mapping_is_kept():
    table = table_of([{"lr": 0.1, "final_loss": 3.0}])
    assert table.renamed == {"final_loss": "val_loss"}
    assert table.columns == ("lr", "val_loss")


@pytest.mark.parametrize(
    ("asked", "columns", "found"),
    [("lr", ["lr", "learning_rate"], "lr"), ("learning_rate", ["lr"], "lr"), ("LR", ["learning_rate"], "learning_rate"),
     ("muon_lr", ["config.muon_lr", "config.adam_lr"], "config.muon_lr"),
     ("optimizer.muon.learning_rate", ["seed", "lr"], "lr"), ("batch size", ["Batch-Size"], "Batch-Size"),
     ("learning_rate", ["config.lr"], "config.lr"), ("optimizer.lr", ["config.optimizer.lr", "lr_floor"], "config.optimizer.lr")],
)  # fmt: skip
def test_a_column_is_found_by_what_a_person_calls_it(asked, columns, found):
    assert find_column(asked, columns, "a.csv") == found


def test_a_column_that_is_not_there_or_ambiguous():
    with pytest.raises(TableError, match=r'a\.csv "dropuot": no such column; did you mean "dropout"\?'):
        find_column("dropuot", ["dropout", "seed"], "a.csv")
    with pytest.raises(TableError, match="one column must fit"):
        find_column("lr", ["muon.lr", "adam.lr"], "a.csv")


def test_the_files_own_name_of_a_renamed_column_is_found(tmp_path):
    (tmp_path / "a.csv").write_text("lr,final_loss\n1,2\n")
    table = read_table(tmp_path / "a.csv")
    assert find_column("final_loss", table.columns, "", table.renamed) == "val_loss"
