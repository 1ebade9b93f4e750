"""Loading and normalising: what comes out, and every refusal by its words."""

import io
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest

from odeopt.data import Dataset, load_digits, load_npz, prepare
from odeopt.kernels.relu import relu_gram

EPS = np.finfo(float).eps


def raw(n=6, d=3):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)), rng.standard_normal(n)


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_prepared_rows_have_unit_norm_and_targets_mean_zero_and_unit_rms():
    x, y = raw(50)
    data = prepare(1e3 * x, 5 + 7 * y)
    # Means of 50 numbers of size one, each rounded.
    np.testing.assert_allclose(np.linalg.norm(data.x, axis=1), 1, rtol=4 * EPS)
    assert abs(data.y.mean()) < 50 * EPS
    assert abs((data.y**2).mean() - 1) < 50 * EPS
    assert data.x.dtype == data.y.dtype == np.float64
    assert not data.x.flags.writeable
    assert not data.y.flags.writeable


def test_prepared_rows_keep_their_directions():
    x, y = raw()
    cosine = np.einsum("ij,ij->i", prepare(x, y).x, x) / np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(cosine, 1, rtol=8 * EPS)


def test_scaling_of_targets_is_undone():
    x, y = raw()
    data = prepare(x, 100 + 3 * y)
    assert isinstance(data, Dataset)
    np.testing.assert_allclose(data.raw_targets(data.y), 100 + 3 * y, rtol=4 * EPS)


def test_preparing_leaves_its_arguments_alone():
    x, y = raw()
    before = x.copy(), y.copy()
    prepare(x, y)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])


def test_norms_at_the_ends_of_the_range_are_scaled():
    x, y = raw()
    x[0] *= 1e200
    x[1] *= 1e-200
    np.testing.assert_allclose(np.linalg.norm(prepare(x, y).x, axis=1), 1, rtol=4 * EPS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[:-1]), "x and y must have the same length, got 6 rows of x and 5 targets"),
        (lambda x, y: (x, y[:, None, None]), r"y must have shape \(n,\), got \(6, 1, 1\)"),
        (lambda x, y: (x[:, 0], y), r"x must have shape \(n, d\), got \(6,\)"),
        (lambda x, y: (np.where(x == x[2, 1], np.nan, x), y), r"x\[2, 1\] is nan"),
        (lambda x, y: (x, np.where(y == y[3], np.inf, y)), r"y must be finite, but y\[3\] is inf"),
        (lambda x, y: (np.where(x == x[4], 0, x), y), "row of zero norm: row 4"),
        (lambda x, y: (np.where(x == x[4], x[1], x), y), "identical rows 1 and 4"),
        (lambda x, y: (np.where(x == x[4], 2 * x[1], x), y), "parallel rows 1 and 4"),
        (lambda x, y: (np.concatenate([x, -x]), np.concatenate([y, y])), "antipodal pairs .*dependent"),
        (lambda x, y: (x, np.full(6, 0.1)), "y is constant"),
        (lambda x, y: (x, 1e15 + y), "y is constant but for rounding"),
        (lambda x, y: (x[:1], y[:1]), "y is constant"),
        (lambda x, y: (x, y.astype(str)), "y must hold real numbers"),
        (lambda x, y: (x, y + 1j), "y must hold real numbers"),
        (lambda x, y: (x, ["a", 1.0, None, 2, 3, 4]), r"dtype object, in which y\[2\] is None; remove"),
        (lambda x, y: (x[:0], y[:0]), "x must not be empty"),
    ],
)
def test_bad_data_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        prepare(*change(*raw()))


def test_digits_are_the_first_rows_in_the_order_of_scikit_learn():
    x, y = load_digits(60)
    full_x, full_y = load_digits()
    assert full_x.shape == (1797, 64)
    assert np.array_equal(x, full_x[:60])
    assert np.array_equal(y, full_y[:60])
    assert np.array_equal(y[:20], np.tile(np.arange(10.0), 2))
    assert x.dtype == y.dtype == np.float64


def test_digits_with_a_seed_are_a_reproducible_sample():
    x, y = load_digits(30, seed=4)
    again, _ = load_digits(30, seed=4)
    other, _ = load_digits(30, seed=5)
    assert np.array_equal(x, again)
    assert not np.array_equal(x, other)
    full_x, full_y = load_digits()
    rows = [int(np.flatnonzero((full_x == row).all(axis=1))[0]) for row in x]
    assert np.array_equal(full_y[rows], y)


def test_sample_of_all_digits_holds_each_of_them_once():
    x, _ = load_digits(1797, seed=0)
    full_x, _ = load_digits()
    assert np.array_equal(np.unique(x, axis=0), np.unique(full_x, axis=0))
    assert len(np.unique(full_x, axis=0)) == 1797


def test_all_digits_have_a_positive_definite_kernel():
    data = prepare(*load_digits())
    # Measured 1.3e-2; rounding is n eps lambda_max, about 2e-10.
    assert np.linalg.eigvalsh(relu_gram(data.x))[0] > 1e-2


@pytest.mark.parametrize("n", [0, -1, 1798, 2.5, True, "all"])
def test_bad_number_of_digits_is_refused(n):
    with pytest.raises(ValueError, match="n must be an integer from 1 to 1797"):
        load_digits(n)


def test_two_classes_of_digits_are_labelled_minus_one_and_one():
    full_x, full_y = load_digits()
    x, y = load_digits(classes=(3, 8))
    chosen = np.isin(full_y, (3, 8))
    assert np.array_equal(x, full_x[chosen])
    assert np.array_equal(y, np.where(full_y[chosen] == 8, 1.0, -1.0))
    assert np.array_equal(load_digits(classes=[8, 3])[1], -y)
    assert np.array_equal(load_digits(10, classes=(3, 8))[0], x[:10])
    assert y.dtype == np.float64


def test_two_classes_with_a_seed_are_a_sample_of_them():
    x, y = load_digits(40, seed=1, classes=(0, 1))
    full_x, full_y = load_digits(classes=(0, 1))
    rows = [int(np.flatnonzero((full_x == image).all(axis=1))[0]) for image in x]
    assert len(set(rows)) == 40
    assert np.array_equal(full_y[rows], y)


@pytest.mark.parametrize("classes", [(3, 3), (3,), (3, 10), (3, 8, 9), "38", 3, (3.0, 8), (True, 8), ([], 1)])
def test_bad_classes_are_refused(classes):
    with pytest.raises(ValueError, match="classes must be two different digits"):
        load_digits(5, classes=classes)


def test_more_images_than_there_are_of_two_classes_are_refused():
    with pytest.raises(ValueError, match="n must be an integer from 1 to 357"):
        load_digits(400, classes=(3, 8))


def test_labels_are_kept_as_they_are():
    x, y = load_digits(30, classes=(3, 8))
    data = prepare(x, y, targets="labels")
    assert np.array_equal(data.y, y)
    assert (data.target_mean, data.target_scale) == (0.0, 1.0)
    assert np.array_equal(data.raw_targets(data.y), y)
    assert np.array_equal(data.x, prepare(x, y).x)
    assert not data.y.flags.writeable


@pytest.mark.parametrize("y", [[0.0, 1.0], [1.0, 1.0], [-1.0, 1.5]])
def test_labels_other_than_both_of_plus_and_minus_one_are_refused(y):
    with pytest.raises(ValueError, match="labels -1 and 1, both, got "):
        prepare([[3.0, 4.0], [1.0, 0.0]], y, targets="labels")


def test_unknown_kind_of_targets_is_refused():
    with pytest.raises(ValueError, match=r"targets must be 'regression' or .* got 'signs'"):
        prepare([[3.0, 4.0], [1.0, 0.0]], [-1.0, 1.0], targets="signs")


@pytest.mark.parametrize("seed", [-1, 0.5, False])
def test_bad_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be a nonnegative integer"):
        load_digits(5, seed=seed)


def test_missing_scikit_learn_is_answered_with_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'pip install "odeopt\[data\]"'):
        load_digits(5)


@pytest.mark.parametrize("compress", [False, True])
def test_npz_files_are_read_as_float64(tmp_path, compress):
    x, y = np.arange(6, dtype=np.int32).reshape(3, 2), np.array([1, 0, 1], dtype=bool)
    path = tmp_path / "data.npz"
    (np.savez_compressed if compress else np.savez)(path, x=x, y=y, extra=np.array("kept aside"))
    for got in (load_npz(path), load_npz(str(path))):
        assert got[0].dtype == got[1].dtype == np.float64
        assert np.array_equal(got[0], x)
        assert np.array_equal(got[1], y)


def broken(tmp_path, kind):
    path = tmp_path / "data.npz"
    good = write(tmp_path / "good.npz", x=np.eye(3), y=np.arange(3.0)).read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "flipped":
        start = good.index(np.eye(3).tobytes())
        path.write_bytes(good[:start] + b"\x01" + good[start + 1 :])
    elif kind == "no array inside":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"no array")
            archive.writestr("y.npy", b"no array")
    elif kind == "huge":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**9)}
        )
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", header.getvalue())
            archive.writestr("y.npy", header.getvalue())
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"x,y\n1,2\n", "pickle": pickle.dumps([1, 2])}[kind])
    return path


@pytest.mark.parametrize(
    "kind", ["missing", "folder", "cut", "flipped", "no array inside", "huge", "empty", "text", "pickle"]
)
def test_unreadable_files_are_refused_with_their_path(tmp_path, kind):
    path = broken(tmp_path, kind)
    with pytest.raises(ValueError, match=r"data\.npz"):
        load_npz(path)


def announced(path, shape, descr, content=b""):
    """An archive whose headers announce arrays of a shape, and whatever follows them."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x.npy", "y.npy"):
            archive.writestr(name, header.getvalue() + content)
    return path


def test_sizes_are_checked_before_anything_is_read(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(np.lib.format, "read_array", lambda *arguments, **options: read.append(arguments))
    with pytest.raises(ValueError, match=r"x is announced with shape \(1000, 1000\), but has only 100 bytes"):
        load_npz(announced(tmp_path / "cut.npz", (1000, 1000), "<f8", bytes(100)))
    # 8 MB of zeros in 8 kB of file, where 4 MB are free
    monkeypatch.setattr("odeopt.data.available_memory", lambda: 2**22)
    with pytest.raises(ValueError, match=r"x and y take .* GiB of memory, of which 0\.00391 are free"):
        load_npz(announced(tmp_path / "bomb.npz", (10**6,), "<f8", bytes(8 * 10**6)))
    # One byte an entry in the file becomes eight.
    with pytest.raises(ValueError, match="x and y take"):
        load_npz(announced(tmp_path / "bytes.npz", (10**6,), "|i1", bytes(10**6)))
    assert read == []


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ValueError, match=r"pipe\.npz.* is not a regular file"):
        load_npz(tmp_path / "pipe.npz")


def test_pickled_objects_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("a pickle was loaded",)

    path = write(tmp_path / "data.npz", x=np.array([Bomb()], dtype=object), y=np.ones(1))
    with pytest.raises(ValueError, match=r"cannot be read as \.npz data: Object arrays cannot be loaded"):
        load_npz(path)


def test_single_array_file_is_refused(tmp_path):
    np.save(tmp_path / "data.npy", np.eye(2))
    with pytest.raises(ValueError, match=r"single array, not an archive; write it with numpy\.savez"):
        load_npz(tmp_path / "data.npy")


def test_missing_keys_are_named_with_what_is_there(tmp_path):
    with pytest.raises(ValueError, match="no array y, but holds x, labels"):
        load_npz(write(tmp_path / "data.npz", x=np.eye(2), labels=np.ones(2)))
    with pytest.raises(ValueError, match="no array x and no y, but holds nothing"):
        load_npz(write(tmp_path / "data.npz"))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((2, 2, 2)), np.ones(2), r"x of .*data\.npz must have shape \(n, d\)"),
        (np.eye(2), np.ones((2, 1)), r"y of .*data\.npz must have shape \(n,\)"),
        (np.array([["a", "b"]]), np.ones(1), r"x of .* must hold real numbers"),
        (np.eye(2), np.array([1.0, np.nan]), r"y of .* must be finite"),
    ],
)
def test_arrays_that_are_no_data_are_refused(tmp_path, x, y, message):
    with pytest.raises(ValueError, match=message):
        load_npz(write(tmp_path / "data.npz", x=x, y=y))


def test_arguments_that_are_no_path_are_refused():
    with pytest.raises(ValueError, match="path must be a file name, got None"):
        load_npz(None)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-160, 1e160, 1e200, 1e307])
def test_targets_of_any_size_are_scaled(size):
    x, y = np.eye(5), np.array([1.0, -2.0, 0.5, 3.0, 0.0])
    data, plain = prepare(x, size * y), prepare(x, y)
    # a few roundings of the size and of the moments
    np.testing.assert_allclose(data.y, plain.y, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(data.raw_targets(data.y), size * y, rtol=1e-14, atol=1e-15 * size)


def test_targets_below_the_normal_floats_are_refused():
    with pytest.raises(ValueError, match="below the normal floats"):
        prepare(np.eye(3), np.array([1e-310, 2e-310, 0.0]))


def test_a_header_that_numpy_cannot_take_apart_is_named(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "xy":
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"{" * 16)
    with pytest.raises(ValueError, match=r"data\.npz' cannot be read as \.npz data"):
        load_npz(path)
