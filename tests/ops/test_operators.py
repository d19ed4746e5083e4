"""The registered operators under torch's transformations; the formula is checked in test_block."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.profiler import ProfilerActivity, profile

from msdtool import ops
from msdtool.nn import MSDBlock2d, MSDModule
from tests.ops.each_engine import each_engine
from tests.ops.formula import Problem, largest_difference, make_problem, module_formula

OPERATORS = torch.ops.msdtool


def make_network(depth: int = 4, c_in: int = 1) -> MSDModule:
    """A network none of whose gradients vanish."""
    torch.manual_seed(0)
    network = MSDModule(c_in, 1, depth, 1)
    for parameter in (network.final_layer.linear.weight, network.msd_block.bias):
        nn.init.normal_(parameter)
    return network


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def gradients(network: nn.Module, input: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*network.named_parameters(), strict=True)
    grads = torch.autograd.grad(network(input).square().sum(), parameters)
    return dict(zip(names, grads, strict=True))


@each_engine
def test_opcheck_passes(impl: str) -> None:
    problem = make_problem((9, 10), 2, c_out=2, batch=2, padding="reflect", dtype=torch.float32)
    opcheck(OPERATORS.msd_module.default, problem.module_arguments(), {"impl": impl})
    opcheck(OPERATORS.msd_block.default, problem.block_arguments(), {"impl": impl})


def test_opcheck_passes_for_the_operators_inside() -> None:
    problem = make_problem((4, 5, 6), 3, batch=2, dtype=torch.float32)
    plain = Problem(*(detached(value) for value in vars(problem).values()))
    input, weights, bias, *final, dilations, padding = plain.module_arguments()
    call = input, weights, bias, *final, dilations, padding, "torch"
    opcheck(OPERATORS._network.default, call)
    opcheck(OPERATORS._record.default, call)
    planes, output = OPERATORS._record(*call)
    size, needed = list(input.shape), [True, False, True, True, False, True, True]
    given = torch.ones_like(output), planes, weights, bias, final[0], size, *call[5:], needed
    opcheck(OPERATORS._differentiate.default, given)


def detached(value: object) -> object:
    if isinstance(value, list):
        return [detached(item) for item in value]
    return value.detach() if isinstance(value, Tensor) else value


@each_engine
@pytest.mark.parametrize("records", [False, True])
def test_fake_tensors_have_the_shape_and_strides_of_real_ones(records: bool, impl: str) -> None:
    problem = make_problem((500, 700), 3, dtype=torch.float32)  # large: from the store of buffers
    real = ops.msd_block(*problem.block_arguments(), impl=impl)
    with FakeTensorMode() as mode, torch.set_grad_enabled(records):
        fake = Problem(*(faked(value, mode) for value in vars(problem).values()))
        block = ops.msd_block(*fake.block_arguments(), impl=impl)
        output = ops.msd_module(*fake.module_arguments(), impl=impl)
        assert (block.shape, block.stride()) == (real.shape, real.stride())
        assert output.shape == (1, 1, 500, 700)
        if records:
            output.sum().backward()
            assert [leaf.grad.shape for leaf in fake.leaves()] == [
                leaf.shape for leaf in problem.leaves()
            ]


def faked(value: object, mode: FakeTensorMode) -> object:
    if isinstance(value, list):
        return [faked(item, mode) for item in value]
    return mode.from_tensor(value) if isinstance(value, Tensor) else value


def test_engines_refuse_tensors_without_memory() -> None:
    problem = make_problem((6, 6), dtype=torch.float32)
    with pytest.raises(ValueError, match="parameter is on meta"):
        ops.msd_module(*problem.module_arguments()[:4], problem.final_bias.to("meta"), [1])
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(problem.input)
        with pytest.raises(AssertionError, match="convert all Tensors to FakeTensors"):
            ops.msd_module(fake, *problem.module_arguments()[1:])


def test_meta_tensors_go_through() -> None:
    with torch.device("meta"):
        network = MSDModule(1, 2, 3, 1)
        output = network(torch.empty(2, 1, 20, 21))
        output.sum().backward()
    assert output.shape == (2, 2, 20, 21)
    assert network.msd_block.bias.grad.is_meta


def test_func_grad_equals_autograd() -> None:
    network, input = make_network(), image(2, 1, 12, 13)
    parameters = dict(network.named_parameters())

    def loss(parameters: dict[str, Tensor], input: Tensor) -> Tensor:
        return torch.func.functional_call(network, parameters, (input,)).square().sum()

    expected = gradients(network, input)
    found = torch.func.grad(loss)(parameters, input)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, input[:, None])
    for index in range(2):
        alone = gradients(network, input[index : index + 1])
        assert all(torch.equal(per_sample[name][index], alone[name]) for name in alone)


def test_jacrev_equals_the_jacobian_of_the_formula() -> None:
    problem = make_problem((4, 5), 3)
    rest = problem.module_arguments()[1:]
    found = torch.func.jacrev(lambda x: ops.msd_module(x, *rest))(problem.input.detach())

    def formula(input: Tensor) -> Tensor:
        return module_formula(Problem(input, *rest))

    expected = torch.autograd.functional.jacobian(formula, problem.input.detach())
    assert largest_difference(found, expected) < 1e-12


@pytest.mark.parametrize("block", [False, True])
def test_vmap_equals_a_loop(block: bool) -> None:
    network = make_network()
    module = network.msd_block if block else network
    inputs = image(3, 2, 1, 9, 8)
    with torch.no_grad():
        mapped = torch.vmap(module)(inputs)
    assert torch.equal(mapped, torch.stack([module(input) for input in inputs]))
    ensemble = {name: torch.stack([p, 2 * p]) for name, p in module.named_parameters()}
    call = torch.vmap(lambda parameters: torch.func.functional_call(module, parameters, inputs[0]))
    assert torch.equal(call(ensemble)[0], module(inputs[0]))
    assert not torch.equal(call(ensemble)[1], module(inputs[0]))


def test_an_earlier_kind_of_batched_tensors_is_refused() -> None:
    """They are of the class Tensor, but have no memory; torch.vmap makes others."""
    network, input = make_network(), image(1, 1, 7, 8).requires_grad_()
    with pytest.raises(ValueError, match="has no memory"):
        torch.autograd.grad(network(input), input, image(3, 1, 1, 7, 8), is_grads_batched=True)


def penalty_alone(network: nn.Module, input: Tensor) -> None:
    leaf = input.clone().requires_grad_()
    (grad,) = torch.autograd.grad(network(leaf).sum(), leaf, create_graph=True)
    grad.square().sum().backward()


def nested(network: nn.Module, input: Tensor) -> None:
    def slope(input: Tensor) -> Tensor:
        return torch.func.grad(lambda x: network(x).square().sum())(input).sum()

    torch.func.grad(slope)(input)


def hessian(network: nn.Module, input: Tensor) -> None:
    torch.func.hessian(lambda x: network(x).square().sum())(input)


def results_of_inner_gradients(network: nn.Module, input: Tensor) -> None:
    def output(input: Tensor) -> Tensor:
        return network(input).sum(), network(input)

    torch.func.grad(lambda x: torch.func.grad(output, has_aux=True)(x)[1].sum())(input)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own use of it
@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("use", [penalty_alone, nested, hessian, results_of_inner_gradients])
def test_second_derivatives_are_refused_never_zero(
    use: Callable[[nn.Module, Tensor], None], block: bool
) -> None:
    network = make_network()
    with pytest.raises((RuntimeError, NotImplementedError), match=r"second derivatives|jvp"):
        use(network.msd_block if block else network, image(1, 1, 6, 6))


def test_reference_has_second_derivatives() -> None:
    problem = make_problem((4, 5), 2)
    output = ops.msd_module(*problem.module_arguments(), impl="reference")
    (grad,) = torch.autograd.grad(output.square().sum(), problem.input, create_graph=True)
    (found,) = torch.autograd.grad(grad.square().sum(), problem.input)
    (grad,) = torch.autograd.grad(
        module_formula(problem).square().sum(), problem.input, create_graph=True
    )
    (expected,) = torch.autograd.grad(grad.square().sum(), problem.input)
    assert largest_difference(found, expected) < 1e-10


def test_a_network_inside_another_function_of_inner_gradients_is_differentiated() -> None:
    network, input = make_network(), image(1, 1, 6, 6)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        output = torch.func.functional_call(network, parameters, (input,))
        return torch.func.grad(lambda factor: (factor * output).sum())(input).square().sum()

    found = torch.func.grad(loss)(dict(network.named_parameters()))
    expected = gradients(network, input)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_autocast_casts_as_for_convolutions() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), make_network())
    input = image(1, 1, 20, 21)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(input)
        alone = network[1](input)
    output.float().square().sum().backward()
    assert output.dtype == alone.dtype == torch.bfloat16
    assert all(parameter.grad.dtype == torch.float32 for parameter in network.parameters())
    rounded = make_network().bfloat16()
    assert torch.equal(alone, rounded(input.bfloat16()))
    with torch.autocast("cpu", torch.bfloat16):
        assert make_network().double()(input.double()).dtype == torch.float64
        assert network[1].msd_block(input).dtype == torch.bfloat16


class Segmenter(nn.Module):
    """A network of another library with an MSD network and a block inside."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())
        self.block = MSDBlock2d(2, [1, 2])
        self.msd = MSDModule(4, 3, 4, 1)
        self.last = nn.Conv2d(3, 2, 1)
        nn.init.xavier_normal_(self.msd.final_layer.linear.weight)

    def forward(self, input: Tensor) -> Tensor:
        return self.last(torch.relu(self.msd(self.block(self.first(input)))))


def trained(*, compiled: bool, dtype: torch.dtype) -> list[Tensor]:
    """Losses and parameters of a few steps of a plain loop."""
    torch.manual_seed(0)
    network = Segmenter()
    call = torch.compile(network, fullgraph=True, backend="aot_eager") if compiled else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    images = image(4, 3, 24, 25)
    labels = (images.mean(1) > 0).long()
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = nn.functional.cross_entropy(call(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach().float())
    assert losses[-1] < losses[0]
    return [*losses, *(parameter.detach() for parameter in network.parameters())]


@pytest.mark.filterwarnings("ignore")  # what compilers of torch warn of is theirs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_around_trains_compiled_as_it_does_eagerly(dtype: torch.dtype) -> None:
    torch.compiler.reset()
    eager = trained(compiled=False, dtype=dtype)
    compiled = trained(compiled=True, dtype=dtype)
    for one, other in zip(compiled, eager, strict=True):
        assert largest_difference(one, other) < torch.finfo(dtype).eps


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_network_takes_images_of_any_size() -> None:
    torch.compiler.reset()
    network = make_network()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch.no_grad():
        for size in (12, 20, 31):
            input = image(1, 1, size, size + 1)
            assert torch.equal(compiled(input), network(input))


def test_export_keeps_the_operator_whole() -> None:
    network, input = make_network(), image(1, 1, 12, 13)
    program = torch.export.export(network, (input,))
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called == [OPERATORS.msd_module.default]
    assert torch.equal(program.module()(input), network(input))


def test_profiles_show_the_operators() -> None:
    network, input = make_network(), image(1, 1, 12, 13)
    with profile(activities=[ProfilerActivity.CPU]) as run:
        network(input).sum().backward()
    names = {event.key for event in run.key_averages()}
    assert {"msdtool::msd_module", "msdtool::_record", "msdtool::_differentiate"} <= names


def test_a_training_step_loads_no_compiler_of_torch() -> None:
    """They take seconds to import."""
    step = (
        "import sys, torch; from msdtool.nn import MSDModule;"
        "MSDModule(1, 1, 2, 1)(torch.rand(1, 1, 9, 9)).sum().backward();"
        "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", step], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
