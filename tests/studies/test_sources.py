"""What a study takes as data: files, frames, data sets; what comes out of them, and every refusal."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from odeopt import check, forecast, load_data
from odeopt.data import one_hot
from odeopt.studies import CheckSettings, forecast_classes


class Series:
    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return self.values


class Frame:
    """Of pandas and polars what is asked of them: the columns, each by its name, and arrays of them."""

    def __init__(self, **columns):
        self.named = {name: np.asarray(values) for name, values in columns.items()}
        self.columns = list(self.named)

    def __getitem__(self, name):
        return Series(self.named[name])

    def to_numpy(self):
        return np.stack([*self.named.values()], axis=1)


def table(tmp_path, text, name="d.csv", encoding="utf-8"):
    (tmp_path / name).write_text(text, encoding=encoding)
    return tmp_path / name


@pytest.mark.parametrize(
    "text",
    ["a,y,b\n1,2,3\n4,5.5,6\n", "a;y;b\n1;2;3\n4;5.5;6\n", 'a\ty\tb\r\n1\t2\t3\r\n\r\n4\t"5.5"\t6\r\n'],
)
def test_columns_of_a_file_are_known_by_their_names(tmp_path, text):
    for encoding in ("utf-8", "utf-8-sig"):  # as spreadsheets write it
        x, y = load_data(table(tmp_path, text, encoding=encoding))
        assert (x.tolist(), y.tolist()) == ([[1.0, 3.0], [4.0, 6.0]], [2.0, 5.5])
    x, y = load_data(str(table(tmp_path, text)), "b")
    assert (x.tolist(), y.tolist()) == ([[1.0, 2.0], [4.0, 5.5]], [3.0, 6.0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no header"),
        ("a,y\n", "no row under its header"),
        ("1,2\n3,4\n", r"first line holds numbers \(1, 2\)"),
        (",a,y\n0,1,2\n", "column 1 has no name"),
        ("a,a,y\n0,1,2\n", "the column 'a' more than once"),
        ("a,b\n1,2\n", "y = 'y' is no column of .*d.csv; take one of its columns: a, b"),
        ("y\n1\n", "no column beside 'y'"),
        ("a,y\n1,2\n\n1\n", "line 4 has 1 cells, and the header has 2"),
        ("a,y\n1,2\n,3\n", "column 'a' in line 3 is empty"),
        ("a,y\n1,2\n1,nan\n", "column 'y' in line 3 is 'nan', which is no finite number"),
        ("a,y\n1,inf\n", "column 'y' in line 2 is 'inf'"),
        ("a,y\n1_0,2\n", "column 'a' in line 2 is '1_0'"),
        ("a;y\n1,5;2\n", "column 'a' in line 2 is '1,5'"),
        ('a,y\n"1,2\n', "cannot be read as .csv data"),
    ],
)
def test_what_a_file_lacks_is_named_with_its_place(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        load_data(table(tmp_path, text))


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"a,y\n\xff\xfe,1\n")
    for name in ("missing.csv", "b.csv", "missing.npz"):
        with pytest.raises(ValueError, match=f"{name}' cannot be read as"):
            load_data(tmp_path / name)
    with pytest.raises(ValueError, match=r"names a column of a \.csv file"):
        load_data(tmp_path / "d.npz", "price")
    with pytest.raises(ValueError, match="y must name the column of targets"):
        load_data(tmp_path / "d.csv", [1.0])


def test_labels_of_any_text_are_classes(tmp_path):
    labels = ["<=50K", ">50K", "-", "?", "2nd", "été", "50 %", "<=50K"]
    rows = "".join(f'{i},"{label}"\n' for i, label in enumerate(labels))
    _, y = load_data(table(tmp_path, "a,y\n" + rows, encoding="utf-8"))
    assert y.tolist() == labels
    assert one_hot(y)[1].tolist() == sorted(set(labels))


def test_marks_of_missing_values_are_no_classes_whatever_holds_them():
    for mark in ("NA", "nan", "", " null "):
        labels = ["a", "b", mark]
        for words in (([1, 2, 3], labels), (Frame(a=[1, 2, 3], y=np.array(labels, dtype=object)),)):
            with pytest.raises(ValueError, match=f"y, at 2, is '{mark}', the mark of a missing value"):
                load_data(*words)


@pytest.mark.parametrize("labels", [["a", "b"], [0, 1], [-1.0, 1.0]])
def test_a_share_that_leaves_one_class_is_refused_with_that_reason(labels):
    x, y = np.random.default_rng(0).standard_normal((30, 4)), np.array(labels)[np.arange(30) % 2]
    for call in (forecast, forecast_classes):
        with pytest.raises(ValueError, match=r"test = 0.97 leaves 1 of 30 examples .*, none of the class"):
            call(x, y, test=0.97, methods=["gd"], **({"classes": True} if call is forecast else {}))
    with pytest.raises(ValueError, match=r"leaves 1 of 30 examples to train on, all with the target 15;"):
        forecast(x, np.arange(30) * 1.0, test=0.97)
    assert len(forecast(x, y, test=0.9, classes=True, methods=["gd"], target=0.5).test.y) == 27


def test_targets_may_be_words(tmp_path):
    source = table(tmp_path, "a,kind\n1,setosa\n2, virginica\n3,1\n")
    assert load_data(source, "kind")[1].tolist() == ["setosa", "virginica", "1"]
    kinds = np.array(["b", "a"], dtype=object)
    np.savez(tmp_path / "words.npz", x=np.eye(2), y=kinds.astype(str))
    for words in (
        (Frame(a=[1, 2], y=kinds),),
        ([1, 2], kinds),
        ([1, 2], ["b", "a"]),
        ([([1], "b"), ([2], "a")],),
        (tmp_path / "words.npz",),
    ):
        assert load_data(*words)[1].tolist() == ["b", "a"]
    with pytest.raises(
        ValueError, match=r"y must hold real numbers, got dtype <U9; .* one_hot makes targets"
    ):
        forecast(source, "kind")
    for text, words in (
        ("a,y\n1,b\n2,\n", "column 'y' in line 3 is empty"),
        ("a,y\n1,2\n2,b\n", "column 'y' in line 3 is 'b'"),
        ("a,y\n1,nan\n2,b\n", "column 'y' in line 2 is 'nan'"),
        ("a,y\n1,b\n2,NA\n", "the target in line 3 is 'NA', the mark of a missing value"),
        ("a,y\n1,?\n2,0.5\n", "targets are text .'\\?'. and, in line 3, the number '0.5': leave out"),
        ("a,y\n1,0\n2,3+\n", "column 'y' in line 3 is '3\\+'"),
        ("a,y\nc,b\n2,d\n", "column 'a' in line 2 is 'c'"),
    ):
        with pytest.raises(ValueError, match=words):
            load_data(table(tmp_path, text))


def test_archives_keep_images_and_tokens_as_they_are(tmp_path):
    images, tokens = np.random.default_rng(0).random((3, 1, 2, 2)), np.arange(6).reshape(3, 2)
    for x, kind in ((images, "f"), (tokens, "i")):
        np.savez(tmp_path / "d.npz", x=x, y=[[1.0], [2.0], [3.0]])
        got, y = load_data(tmp_path / "d.npz")
        assert np.array_equal(got, x)
        assert (got.dtype.kind, y.shape) == (kind, (3, 1))


def test_frames_are_taken_by_their_columns_without_their_package():
    frame = Frame(a=[1, 2], price=[3.0, 4.0], b=np.array([5, 6.5], dtype=object))
    x, y = load_data(frame, "price")
    assert (x.tolist(), y.tolist()) == ([[1.0, 5.0], [2.0, 6.5]], [3.0, 4.0])
    for targets in ([7, 8], np.array([7, 8])):
        assert load_data(Frame(a=[1, 2]), targets)[1].tolist() == [7, 8]
    with pytest.raises(ValueError, match="y = 'y' is no column of x; take one of its columns: a, price, b"):
        load_data(frame)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1.0, np.nan]}, r"column 'a' of x must be finite, but column 'a' of x\[1\] is nan"),
        ({"a": np.array([1, None], dtype=object)}, "column 'a' of x is None in row 1"),
        ({"a": np.array(["Bern", "Rom"], dtype=object)}, "column 'a' of x is 'Bern' in row 0 .2 such"),
        ({"a": np.array(["2020-01-01", "2020-01-02"], dtype="M8[D]")}, r"column 'a' of x has dtype datetime"),
        ({}, "no column beside 'y'"),
    ],
)
def test_columns_of_a_frame_that_are_no_numbers_are_named(columns, words):
    with pytest.raises(ValueError, match=words):
        load_data(Frame(**columns, y=[1.0, 2.0]))


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.ones(2), 1.0


def test_data_sets_are_stacked():
    inputs, targets = torch.randn(4, 1, 2, 2), torch.tensor([0, 1, 1, 0])
    whole = TensorDataset(inputs, targets)
    for source, rows in ((whole, [0, 1, 2, 3]), (Subset(whole, [3, 1]), [3, 1])):
        x, y = load_data(source)
        assert np.array_equal(x, inputs[rows].double().numpy())
        assert np.array_equal(y, targets[rows].numpy())
        assert y.dtype == np.int64
    x, y = load_data(inputs.bfloat16().requires_grad_(), targets)
    assert (x.dtype, x.shape) == (np.float64, (4, 1, 2, 2))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            DataLoader(TensorDataset(torch.ones(2, 2), torch.ones(2))),
            r"\(DataLoader\) .* of a loader its .dataset",
        ),
        (Stream(), "of a stream a list of its pairs"),
        (TensorDataset(torch.ones(2, 2)), "x holds 1 tensors"),
        ([[1, 2], [3, 4]], "item 0 of type list, not a pair"),  # targets forgotten
        (np.eye(2), "pass y too"),
        ({"x": [1], "y": [2]}, r"x \(dict\) is no file"),
        (None, r"x \(NoneType\) is no file"),
        ([], "x has no items"),
        ([(torch.ones(2), 0.0), (torch.ones(3), 0.0)], r"x has shape \(3,\) at item 1"),
        ([(torch.ones(2), 0.0), (torch.tensor([1.0, torch.nan]), 0.0)], "input 1 of x must be finite"),
        ([(torch.ones(2), None)], "target 0 of x must hold real numbers"),
    ],
)
def test_what_is_no_data_set_of_pairs_is_refused(source, words):
    with pytest.raises(ValueError, match=words):
        load_data(source)


def test_sparse_tensors_are_refused_by_their_kind():
    with pytest.raises(ValueError, match=r"x is a sparse tensor; pass x.to_dense"):
        load_data(torch.eye(2).to_sparse(), [0, 1])


def test_names_and_lengths_that_fit_nothing_are_refused():
    with pytest.raises(ValueError, match=r"y = 'price' names a column, but x \(ndarray\) has none"):
        load_data(np.eye(2), "price")
    with pytest.raises(ValueError, match="same length, got 2 rows of x and 3 targets"):
        load_data(np.eye(2), [1, 2, 3])


def test_studies_flatten_images_and_read_sources_themselves(tmp_path):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((8, 1, 2, 3)), rng.standard_normal(8)
    flat = x.reshape(8, 6)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    options = {"methods": ["gd"], "target": 0.3}
    losses = [
        forecast(*source, **options).methods[0].curve.loss
        for source in ((flat, y), (x, y), (tmp_path / "d.npz",), ([*zip(x, y, strict=True)],))
    ]
    for loss in losses[1:]:
        assert np.array_equal(loss, losses[0])
    settings = CheckSettings(width=32, seeds=1, num_steps=3)
    reports = [
        check(*source, methods=["gd"], settings=settings) for source in ((flat, y), (tmp_path / "d.npz",))
    ]
    assert np.array_equal(*(report["gd"].curves["trained"] for report in reports))
