"""GRUNet computes its docstring's equations, and its state carries everything from one call to the next."""

import numpy as np
import pytest
import torch

from streamgru_export.zoo import GRUNet


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def equations(net, x, h):
    """The docstring in float64 NumPy. x [B, T, I], h [L, B, H] -> y [B, T, O], h [L, B, H]."""
    p = {name: tensor.detach().double().numpy() for name, tensor in net.state_dict().items()}
    h = h.copy()
    y = []
    for t in range(x.shape[1]):
        below = x[:, t]
        for layer in range(net.gru.num_layers):
            W_r, W_z, W_n = np.split(p[f"gru.weight_ih_l{layer}"], 3)
            R_r, R_z, R_n = np.split(p[f"gru.weight_hh_l{layer}"], 3)
            b_r, b_z, b_n = np.split(p[f"gru.bias_ih_l{layer}"], 3)
            c_r, c_z, c_n = np.split(p[f"gru.bias_hh_l{layer}"], 3)
            r = sigmoid(below @ W_r.T + b_r + h[layer] @ R_r.T + c_r)
            z = sigmoid(below @ W_z.T + b_z + h[layer] @ R_z.T + c_z)
            n = np.tanh(below @ W_n.T + b_n + r * (h[layer] @ R_n.T + c_n))
            below = h[layer] = (1 - z) * n + z * h[layer]
        y.append(below @ p["head.weight"].T + p["head.bias"])
    return np.stack(y, 1), h


@pytest.fixture(params=[1, 2, 3], ids=lambda layers: f"{layers} layers")
def net(request):
    torch.manual_seed(request.param)
    return GRUNet(5, 18, 4, num_layers=request.param).double().eval()


@pytest.fixture
def x():
    return np.random.default_rng(7).standard_normal((3, 11, 5))


def test_every_step_is_the_equations(net, x):
    h0 = np.random.default_rng(8).uniform(-1, 1, (net.gru.num_layers, 3, 18))
    y, h = net.every_step(torch.from_numpy(x), torch.from_numpy(h0))
    expected_y, expected_h = equations(net, x, h0)
    # Both are float64, in different orders of summation.
    np.testing.assert_allclose(y.detach(), expected_y, rtol=0, atol=1e-13)
    np.testing.assert_allclose(h.detach(), expected_h, rtol=0, atol=1e-13)


def test_forward_is_the_last_of_every_step(net, x):
    h0 = np.zeros((net.gru.num_layers, 3, 18))
    y, h = net(torch.from_numpy(x))
    expected_y, expected_h = equations(net, x, h0)
    assert tuple(y.shape) == (3, 4)
    np.testing.assert_allclose(y.detach(), expected_y[:, -1], rtol=0, atol=1e-13)
    np.testing.assert_allclose(h.detach(), expected_h, rtol=0, atol=1e-13)


def test_single_steps_with_the_state_handed_on_are_the_whole_sequence(net, x):
    expected, _ = equations(net, x, np.zeros((net.gru.num_layers, 3, 18)))
    h = net.initial_state(3).double()
    for t in range(x.shape[1]):
        y, h = net(torch.from_numpy(x[:, t : t + 1]), h)
        np.testing.assert_allclose(y.detach(), expected[:, t], rtol=0, atol=1e-13)


def test_initial_state_is_no_state(net, x):
    given, _ = net(torch.from_numpy(x), net.initial_state(3).double())
    absent, _ = net(torch.from_numpy(x))
    assert torch.equal(given, absent)
