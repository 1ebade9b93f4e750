"""Kernels of convolutional networks with global average pooling, against samples and another package."""

import numpy as np
import pytest

from odeopt.kernels import ConvolutionKernel, NetworkKernel

X = np.sin(np.arange(1.0, 49.0)).reshape(2, 2, 4, 3)
X2 = np.cos(np.arange(1.0, 73.0)).reshape(3, 2, 4, 3)
# of neural-tangents 0.6.5: Conv and the activation twice, GlobalAvgPool, Dense; X with X2
THEIRS = {
    ("relu", "nngp"): [
        [0.4545772733, 0.4808017796, 0.4713932322],
        [0.4418876249, 0.4556623578, 0.4550089269],
    ],
    ("relu", "ntk"): [[0.6506899584, 0.72660199, 0.7002312391], [0.6395305495, 0.6552290831, 0.6718169508]],
    ("erf", "nngp"): [[0.3829319451, 0.393819895, 0.3927487603], [0.3865373119, 0.3859774199, 0.3971147777]],
    ("erf", "ntk"): [[0.6825765819, 0.7379847702, 0.7266852344], [0.6952440042, 0.6928561889, 0.7344836918]],
    ("gelu", "nngp"): [[0.31895627, 0.3389554186, 0.3320453096], [0.3119003423, 0.3201215459, 0.3211801742]],
    ("gelu", "ntk"): [[0.4787399398, 0.5408489303, 0.5201473429], [0.4716268755, 0.4830561572, 0.4961864039]],
}


@pytest.mark.parametrize(("activation", "kind"), THEIRS)
def test_two_convolutions_are_those_of_neural_tangents(activation, kind):
    found = ConvolutionKernel(2, activation, 1.69, 0.16, kind)(X, X2)
    np.testing.assert_allclose(found, THEIRS[activation, kind], rtol=0, atol=6e-11)  # ten decimals


def patches(images):
    """Of every pixel the 3 x 3 pixels around it, in all channels, blank outside."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.moveaxis(windows, 1, 3).reshape(len(images), 12, 18)


def test_kernels_are_the_means_over_sampled_channels():
    weight, bias, rng = (1.7, 0.8), (0.3, 0.2), np.random.default_rng(0)
    seen, samples = patches(X), 40_000
    scaled = np.sqrt(weight[0] / 18) * seen
    z = scaled @ rng.standard_normal((18, samples)) + np.sqrt(bias[0]) * rng.standard_normal(samples)
    means, active = np.maximum(z, 0).mean(axis=1), (z > 0).astype(float)
    inputs = np.concatenate([scaled, np.full((2, 12, 1), np.sqrt(bias[0]))], axis=2)
    pooled = np.einsum("npk,npm->nkm", inputs, active) / 12
    # of each channel its share of K, and of the gradients by its own weights
    nngp = weight[1] * means[0] * means[1] + bias[1]
    ntk = nngp + weight[1] * (pooled[0] * pooled[1]).sum(axis=0)
    for kind, sampled in (("nngp", nngp), ("ntk", ntk)):
        exact = ConvolutionKernel(1, "relu", weight, bias, kind)(X)[0, 1]
        assert abs(sampled.mean() - exact) < 4 * sampled.std() / np.sqrt(samples)
        assert sampled.std() / np.sqrt(samples) < 0.01 * exact  # what the test can see


def test_images_with_themselves_and_alike_pixels_have_exact_angles():
    for activation in ("relu", "erf", "gelu"):
        kernel = ConvolutionKernel(3, activation, 1.69, 0.1)
        square = kernel(X)
        assert np.array_equal(square, square.T)
        assert np.array_equal(square, kernel(X, X.copy()))
        with pytest.warns(UserWarning, match="rows of x2 too"):
            # one image beside others, whose angle with itself comes from its cosine
            np.testing.assert_allclose(kernel(X, X[[1]])[:, 0], square[:, 1], rtol=3e-8)
    # of one colour and filters of one pixel, all pixels are alike
    plain = np.full((1, 1, 3, 3), 2.0)
    one = ConvolutionKernel(3, bias_variance=0.1, filter_size=1)(plain)
    np.testing.assert_allclose(one, NetworkKernel(3, bias_variance=0.1)([[2.0]]), rtol=1e-14)


def test_a_filter_larger_than_the_image_and_blank_images():
    found = ConvolutionKernel(filter_size=7, weight_variance=49.0)(np.ones((1, 1, 1, 1)))
    np.testing.assert_allclose(found, NetworkKernel(weight_variance=(1.0, 49.0))([[1.0]]), rtol=1e-14)
    blank = ConvolutionKernel(2)(np.zeros((2, 1, 3, 3)))
    assert not blank.any()
    assert not blank.flags.writeable


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: ConvolutionKernel(filter_size=2), "filter_size must be odd, got 2"),
        (lambda: ConvolutionKernel(0), "depth must be an integer of at least 1"),
        (lambda: ConvolutionKernel(activation="tanh"), "activation must be"),
        (lambda: ConvolutionKernel(2, bias_variance=(1.0, 1.0)), "bias_variance must be one number, or 3"),
        (lambda: ConvolutionKernel()(X[0]), r"x must have shape \(n, "),
        (lambda: ConvolutionKernel()(X, X2[:, :1]), r"x2 must have images of shape \(2, 4, 3\) like x"),
        (lambda: ConvolutionKernel()(1e200 * X), "leaves the range of float64"),
    ],
)
def test_refusals_name_the_argument_and_the_reason(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
