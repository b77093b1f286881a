"""How the step graph of a decoder is rebuilt for a loop in one process: each rule keeps what the graph computes.

A rule raises ValueError for a graph that is not built as it needs; whether the result computes the same is measured by
its caller (loop_graphs.py).
"""

from __future__ import annotations

import onnx
from onnx import helper

from radserve.models.triton.onnx_nodes import Nodes, attribute, constant, rebuilt

_OPSET = 24  # the first with TensorScatter, which may write into its input


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turned weights as constants of their own."""
    values = Nodes(model).values
    body, constants = [], []
    for node in model.graph.node:
        if node.op_type == "Transpose" and node.input[0] in values:
            constants.append(constant(node.output[0], values[node.input[0]].transpose(attribute(node, "perm"))))
        else:
            body.append(node)
    return rebuilt(model, body, constants)


def with_slots(model: onnx.ModelProto) -> onnx.ModelProto:
    """A slot for each row of the cache: `slot_i` comes in, `kept_i` goes out with this token's row written into it.

    What was `Where(here, new, cache[:, i])`, then laid out by heads, becomes the new row laid out by heads and
    scattered into a slot that is laid out so already.
    """
    nodes = Nodes(model)
    slots, kept, constants = [], [], [constant("_flat", [-1])]
    instead: dict[int, list[onnx.NodeProto]] = {}
    renamed: dict[str, str] = {}
    for name in nodes.giver("cache_out", "Concat").input:
        stacked = nodes.giver(name, "Unsqueeze")
        chosen = nodes.giver(stacked.input[0], "Where")
        read = nodes.giver(chosen.input[2], "Gather")
        if read.input[0] != "cache":
            raise ValueError(f"got a choice from {read.input[0]}, expected one from the cache")
        number = int(nodes.values[read.input[1]])
        by_heads = nodes.taker(chosen.output[0], "Reshape", besides=stacked)
        turned = nodes.taker(by_heads.output[0], "Transpose")
        order = list(attribute(turned, "perm"))
        _, length, heads, width = (int(each) for each in nodes.values[by_heads.input[1]])
        row, slot, result = f"_row_{number}", f"slot_{number}", f"kept_{number}"
        constants.append(constant(f"{row}_shape", [-1, 1, heads, width]))
        instead[id(by_heads)] = [
            helper.make_node("Reshape", [chosen.input[1], f"{row}_shape"], [f"{row}_by_heads"]),
            helper.make_node("Transpose", [f"{row}_by_heads"], [row], perm=order),
            helper.make_node("TensorScatter", [slot, row, "_place"], [result], axis=order.index(1)),
        ]
        renamed[turned.output[0]] = result
        shape = [("batch", length, heads, width)[axis] for axis in order]
        slots.append(helper.make_tensor_value_info(slot, onnx.TensorProto.FLOAT, shape))
        kept.append(helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, shape))
    body = [helper.make_node("Reshape", ["position", "_flat"], ["_place"])]
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        body += instead.get(id(node), [node])
    inputs = [each for each in model.graph.input if each.name != "cache"] + slots
    outputs = [each for each in model.graph.output if each.name == "logits"] + kept
    return rebuilt(model, body, constants, inputs=inputs, outputs=outputs, opset=_OPSET)


def with_gelu(model: onnx.ModelProto) -> onnx.ModelProto:
    """x / 2 * (1 + erf(x / sqrt 2)) as the one operator that it is."""
    nodes = Nodes(model)
    whole = {}
    for node in model.graph.node:
        if node.op_type == "Erf":
            scaled = nodes.giver(node.input[0], "Div")
            halved = nodes.taker(nodes.taker(node.output[0], "Add").output[0], "Mul")
            last = nodes.taker(halved.output[0], "Mul")
            whole[id(last)] = helper.make_node("Gelu", [scaled.input[0]], list(last.output))
    return rebuilt(model, [whole.get(id(node), node) for node in model.graph.node])


def without_unused_parts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Of a projection that is split and used in part (queries, or keys and values) the used part alone is computed."""
    nodes = Nodes(model)
    constants, instead = [], {}
    for node in model.graph.node:
        used = [place for place, name in enumerate(node.output) if nodes.is_taken(name)]
        if node.op_type != "Split" or len(node.input) > 1 or len(used) in (0, len(node.output)):
            continue
        if used != list(range(used[0], used[-1] + 1)):
            raise ValueError(f"{node.name}: uses the parts {used}, expected neighbours")
        added = nodes.giver(node.input[0], "Add")
        product = nodes.giver(added.input[0], "MatMul")
        weight, bias = nodes.values[product.input[1]], nodes.values[added.input[1]]
        share = len(bias) // len(node.output)
        columns = slice(used[0] * share, (used[-1] + 1) * share)
        name, whole = f"_part_{node.output[0]}", f"_whole_{node.output[0]}"
        constants += [constant(f"{name}_weight", weight[:, columns]), constant(f"{name}_bias", bias[columns])]
        outputs = [node.output[place] for place in used]
        total = whole if len(used) > 1 else outputs[0]
        instead[id(node)] = [
            helper.make_node("MatMul", [product.input[0], f"{name}_weight"], [f"{name}_product"]),
            helper.make_node("Add", [f"{name}_product", f"{name}_bias"], [total]),
        ]
        if len(used) > 1:
            split = helper.make_node("Split", [whole], outputs, axis=attribute(node, "axis"), num_outputs=len(used))
            instead[id(node)].append(split)
    body = [each for node in model.graph.node for each in instead.get(id(node), [node])]
    return rebuilt(model, body, constants)


def in_rows(model: onnx.ModelProto) -> onnx.ModelProto:
    """One token as (N, W) instead of (N, 1, W): products and sums become one operator, turning becomes reshaping."""
    nodes = Nodes(model)
    body = [helper.make_node("Reshape", ["token", "_flat"], ["_word"])]
    constants, dropped = [], set()
    for node in model.graph.node:
        shape = nodes.values.get(node.input[1]) if node.op_type == "Reshape" else None
        single, name, taken = node, f"_rows_{node.output[0]}", node.input[:1]
        if node.op_type == "Gather" and node.input[1] in ("token", "position"):
            node.input[1] = {"token": "_word", "position": "_place"}[node.input[1]]
        elif node.op_type == "Split":
            next(each for each in node.attribute if each.name == "axis").i = 1
        elif node.output[0] == "logits":
            single = helper.make_node("Identity", taken, ["logits"])
        elif shape is not None and len(shape) == 4 and shape[1] == 1:  # by heads, and then turned
            turned = nodes.taker(node.output[0], "Transpose")
            constants.append(constant(name, [shape[axis] for axis in attribute(turned, "perm")]))
            single = helper.make_node("Reshape", [*taken, name], list(turned.output))
            dropped.add(id(turned))
        elif shape is not None and len(shape) == 3 and shape[1] == 1:  # turned back, and heads joined
            constants.append(constant(name, [-1, shape[2]]))
            taken = nodes.giver(node.input[0], "Transpose").input[:1]
            single = helper.make_node("Reshape", [*taken, name], list(node.output))
        if id(node) not in dropped:
            body.append(single)
    return rebuilt(model, body, constants)
