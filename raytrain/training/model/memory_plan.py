"""How many bytes a training step takes on its device, from the model's shape and the settings.

A pure function, without torch. It adds up what the step keeps: parameters and what belongs to each
of them, the tensors that the forward pass leaves for the backward pass, and the largest of the
passing tensors beside them. Every example counts as if it were as long as the job allows, which is
the most that attention takes; the padding of shorter ones in their groups is not counted.
`tests/raytrain/training/model/test_memory_plan.py` compares it with the allocations of a step. What
CUDA takes for itself and what its allocator cannot use is not in it.

Shape suffixes of the counts of elements, as in `training.model`:
    S, T  source and target tokens of a packed row
    N     S or T, whichever side is meant
    D     model width
    I     heads times the size of a head
    F     width of the feed-forward layer
    V     vocabulary
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from raytrain.config.training import Lora, PackingShape, TrainingSpec
from raytrain.model.shape import ModelShape
from raytrain.training.model.limits import LARGEST_GROUP, scored_tokens

FP32, BF16, INT64 = 4, 2, 8


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes of a training step at its peak, by what they are for."""

    weights: int
    """Of the model and, in `bf16-pure`, the fp32 values that the optimizer moves."""
    gradients: int
    optimizer: int
    averages: int
    """Of the moving average, and of the start that an anchor or interpolation needs."""
    activations: int
    """What the forward pass leaves for the backward pass, and copies of weights made for both."""
    logits: int
    """Scores over the vocabulary and the gradient of the output layer."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def memory_plan(
    shape: ModelShape, training: TrainingSpec, row: PackingShape, *, shards: int = 1, on_gpu: bool = True
) -> MemoryPlan:
    """Returns the bytes of a step over packed rows of `row`, on each of `shards` workers.

    `precision: auto` counts as fp32, which takes more. Dropout's masks are bytes on a GPU and
    numbers on a CPU.
    """
    trained, optimizer = _trained(shape, training)
    pure = training.precision == "bf16-pure"
    everything = shape.parameters + (trained if training.method == "lora" else 0)
    copies = (training.ema is not None) + bool(training.anchor or training.interpolation < 1)
    activations, logits = _activations(shape, training, _micro_batch(training, row), on_gpu=on_gpu)
    gathered = 0
    if shards > 1:  # FSDP2 holds the layer that it computes and the one that it fetches
        gathered = 2 * _largest_layer(shape) * (BF16 if pure else FP32)
    return MemoryPlan(
        weights=(everything * (BF16 if pure else FP32) + (trained * FP32 if pure else 0)) // shards + gathered,
        gradients=trained * FP32 // shards,
        optimizer=optimizer // shards,
        averages=copies * trained * FP32 // shards,
        activations=activations,
        logits=logits,
    )


def _trained(shape: ModelShape, training: TrainingSpec) -> tuple[int, int]:
    """Returns the number of trained parameters, and the bytes of the optimizer's state for them."""
    if training.method == "lora":
        matrices, vectors = _adapters(shape, training.lora or Lora()), 0
    else:
        matrices, vectors = shape.matrices, shape.norm_weights
    trained = sum(rows * columns for rows, columns in matrices) + vectors
    if training.optimizer == "adamw":
        return trained, 2 * FP32 * trained
    return trained, FP32 * (sum(rows + columns for rows, columns in matrices) + vectors)


def _adapters(shape: ModelShape, lora: Lora) -> list[tuple[int, int]]:
    attentions = shape.layers + 2 * shape.decoder_layers
    dense = shape.layers + shape.decoder_layers
    sizes = dict.fromkeys(("q", "k", "v"), (attentions, shape.inner, shape.width))
    sizes["o"] = (attentions, shape.width, shape.inner)
    sizes |= dict.fromkeys(("wi", "wi_0", "wi_1"), (dense, shape.feed_forward, shape.width))
    sizes["wo"] = (dense, shape.width, shape.feed_forward)
    found = []
    for target in lora.targets:
        count, rows, columns = sizes[target]
        found += count * [(rows, lora.rank), (lora.rank, columns)]
    return found


def _micro_batch(training: TrainingSpec, row: PackingShape) -> tuple[int, int]:
    """Returns the source and target tokens of one forward pass."""
    limit, whole = training.micro_batch_tokens, row.source + row.target
    if limit is None or limit >= whole:
        return row.source, row.target
    least = (training.max_input_tokens, training.max_target_tokens)  # one example is never split
    return max(least[0], row.source * limit // whole), max(least[1], row.target * limit // whole)


def _largest_layer(shape: ModelShape) -> int:
    dense = (3 if shape.gated else 2) * shape.width * shape.feed_forward
    return 8 * shape.width * shape.inner + dense


def _activations(
    shape: ModelShape, training: TrainingSpec, tokens: tuple[int, int], *, on_gpu: bool
) -> tuple[int, int]:
    """Returns the bytes of activations and of logits at their common peak."""
    S, T = tokens
    dtype = FP32 if training.precision in ("fp32", "auto") else BF16
    residual = BF16 if training.precision == "bf16-pure" else FP32  # under autocast layers add to an fp32 sum
    layer = _Layer(shape, training, dtype, residual, on_gpu)
    encoder = layer.self_attention(S, training.max_input_tokens) + layer.feed_forward(S)
    cross = layer.cross_attention(S, T, training.max_input_tokens, training.max_target_tokens)
    decoder = layer.self_attention(T, training.max_target_tokens) + cross + layer.feed_forward(T)
    V, D = shape.vocabulary, shape.width
    chunk = min(T, scored_tokens(V))
    head = (FP32 * V * D if training.method == "full" else 0) + (dtype * V * D if dtype != FP32 else 0)
    at_the_loss, in_a_layer = 2 * FP32 * chunk * V, layer.backward(max(S, T))
    if training.activation_checkpointing:  # the inputs of layers, and the rest of one as it is computed again
        kept = D * residual * (shape.layers * S + shape.decoder_layers * T)
        rest = max(encoder - D * residual * S, decoder - D * residual * T)
        in_a_layer = max(in_a_layer + rest, layer.attention_backward(S, training.max_input_tokens))
        in_a_layer += layer.weight_copies(0, 1)
    else:
        kept = shape.layers * encoder + shape.decoder_layers * decoder
        kept += layer.weight_copies(shape.layers, shape.decoder_layers)
    kept += layer.ends(S + T) + INT64 * shape.heads * (12 * S + 10 * T)  # where the vectors of heads go and come from
    # The scores are gone when the backward pass begins: only the larger of the two counts.
    return kept + max(0, in_a_layer - at_the_loss), head + dtype * T * D + at_the_loss


@dataclass(frozen=True, slots=True)
class _Layer:
    """Bytes that the parts of a layer leave for the backward pass.

    Inputs of products are kept for the gradients of their weights, so frozen weights need none.
    """

    shape: ModelShape
    training: TrainingSpec
    dtype: int
    """Bytes of a number in matrix products."""
    residual: int
    """Bytes of a number between layers."""
    on_gpu: bool

    @property
    def _full(self) -> bool:
        return self.training.method == "full"

    @property
    def _attention(self) -> int:
        """Bytes of a number within attention, which is in fp32 on a CPU."""
        return self.dtype if self.on_gpu else FP32

    def _adapted(self, *names: str) -> bool:
        return self._full or any(name in (self.training.lora or Lora()).targets for name in names)

    def _normed(self, tokens: int, *used_by: str) -> int:
        """What enters a norm and, for the weights behind it, what leaves it."""
        return tokens * self.shape.width * (self.residual + self.dtype * self._adapted(*used_by))

    def _low_rank(self, tokens: int, *names: str) -> int:
        """What adapters make in between."""
        lora = self.training.lora or Lora()
        return 0 if self._full else tokens * lora.rank * sum(name in lora.targets for name in names)

    def _dropout(self, elements: int) -> int:
        return elements * (1 if self.on_gpu else self.dtype) if self.training.dropout != 0 else 0

    def ends(self, tokens: int) -> int:
        """What enters and leaves the final norms, and what is dropped there and before."""
        elements = tokens * self.shape.width
        return elements * (self.residual + self.dtype) + 3 * self._dropout(elements)

    def self_attention(self, tokens: int, longest: int) -> int:
        """Queries, keys, values, weights, and what they make."""
        inner = tokens * self.shape.inner
        pairs = self.shape.heads * tokens * min(tokens, longest)
        made = inner * self._adapted("o") + self._low_rank(tokens, "q", "k", "v", "o")
        kept = self._attention * (3 * inner + pairs) + self.dtype * made
        return self._normed(tokens, "q", "k", "v") + kept + self._dropout(tokens * self.shape.width)

    def cross_attention(self, source: int, target: int, longest_source: int, longest_target: int) -> int:
        """The same with keys and values of the encoder's output, which all layers share."""
        pairs = self.shape.heads * min(source * min(target, longest_target), target * min(source, longest_source))
        made = target * self.shape.inner * self._adapted("o")
        made += self._low_rank(target, "q", "o") + self._low_rank(source, "k", "v")
        kept = self._attention * ((target + 2 * source) * self.shape.inner + pairs) + self.dtype * made
        return self._normed(target, "q") + kept + self._dropout(target * self.shape.width)

    def attention_backward(self, tokens: int, longest: int) -> int:
        """Self-attention at its peak: what it kept, the gradients, and scores of one group."""
        pairs = self.shape.heads * tokens * min(tokens, longest)
        group = min(pairs, self.shape.heads * LARGEST_GROUP)
        kept = self._attention * (10 * tokens * self.shape.inner + pairs + 2 * group)
        return kept + self.dtype * tokens * self.shape.width

    def feed_forward(self, tokens: int) -> int:
        """Both projections, and their product."""
        F, gated = tokens * self.shape.feed_forward, self.shape.gated
        inner = (2 if gated else 1) * F + F * (gated and self._adapted("wo"))
        inner += self._low_rank(tokens, "wi", "wi_0", "wi_1", "wo")
        return (
            self._normed(tokens, "wi", "wi_0", "wi_1")
            + self.dtype * inner
            + self._dropout(F + tokens * self.shape.width)
        )

    def weight_copies(self, layers: int, decoder_layers: int) -> int:
        """Projections joined to one matrix; in bf16 autocast all that layers multiply with."""
        projection, dense = self.shape.width * self.shape.inner, self.shape.width * self.shape.feed_forward
        both = 2 * dense if self.shape.gated else 0
        joined = layers * (3 * projection + both) + decoder_layers * (5 * projection + both)
        rest = layers * (projection + dense) + decoder_layers * (3 * projection + dense)
        return self.dtype * (joined + (rest if self.training.precision == "bf16" else 0))

    def backward(self, tokens: int) -> int:
        """The largest passing tensors of the backward pass: those of the feed-forward layer."""
        return self.dtype * tokens * (3 * self.shape.feed_forward + 2 * self.shape.width)
