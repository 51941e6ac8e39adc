from __future__ import annotations

import torch

from mdlora.layers import MLP, dense


def test_mlp_is_relu_of_affine_maps_and_so_are_its_gradients():
    net = MLP(5, (4, 3), dropout=0.5).double().eval()
    for p in net.parameters():
        torch.nn.init.normal_(p)
    x = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    parameters = [p.detach().clone().requires_grad_() for p in net.parameters()]
    w1, b1, w2, b2 = parameters
    z = x.detach().clone().requires_grad_()
    low = torch.clamp(torch.einsum("bi,oi->bo", z, w1) + b1, min=0)
    expected = torch.clamp(torch.einsum("bi,oi->bo", low, w2) + b2, min=0)
    out = net(x)
    torch.testing.assert_close(out, expected, rtol=1e-13, atol=1e-14)
    grad = torch.randn_like(out)
    out.backward(grad)
    expected.backward(grad)
    for p, q in zip([x, *net.parameters()], [z, *parameters], strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-14)


def test_mlp_by_hand():
    # relu(1*1 + 2*(-1) + 3) = 2; relu(1*2 + 2*0 - 5) = 0; then 2*4 + 0*7 - 1 = 7.
    net = MLP(2, (2, 1))
    with torch.no_grad():
        net.linears[0].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.0]]))
        net.linears[0].bias.copy_(torch.tensor([3.0, -5.0]))
        net.linears[1].weight.copy_(torch.tensor([[4.0, 7.0]]))
        net.linears[1].bias.copy_(torch.tensor([-1.0]))
    assert net(torch.tensor([[1.0, 2.0]])).tolist() == [[7.0]]


def test_mlp_drops_units_in_training_only():
    net, x = MLP(4, (64,), dropout=0.5), torch.randn(32, 4)
    assert torch.equal(net.eval()(x), net(x))
    assert not torch.equal(net.train()(x), net(x))


def test_dense_starts_glorot_with_zero_bias():
    layer = dense(300, 200)
    bound = (6 / 500) ** 0.5
    assert layer.bias.eq(0).all()
    assert layer.weight.abs().max() <= bound
    # A uniform draw on [-b, b] has standard deviation b / sqrt(3).
    assert abs(layer.weight.std() / (bound / 3**0.5) - 1) < 0.02
