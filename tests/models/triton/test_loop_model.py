"""The backend's loop over reports, with a small stand-in for the module that exists inside Triton's stub only."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from radserve.models.pack import load_pack
from radserve.models.triton.config import ServingOptions, loop_config_text
from radserve.models.triton.repository import loop_of, models_of, write_repository
from tests.support.packs import CHANNELS, REPORT, WORDS, make_tiny_pack
from tests.support.triton import Response, Tensor

WAIT_S = 60
RULES = {"start_id": 1, "end_id": 2, "silent_ids": [0, 1, 3], "max_tokens": 20, "heads": [], "phrases": []}


@dataclass
class Sender:
    """Collects responses; says that it is cancelled once `cancel_after` have come."""

    cancel_after: int = 10**6
    responses: list[Response] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def send(self, response: Response, flags: int) -> None:
        self.responses.append(response)
        if flags:
            self.done.set()

    def is_cancelled(self) -> bool:
        return len(self.responses) >= self.cancel_after

    @property
    def text(self) -> str:
        return " ".join(WORDS[token] for each in self.responses for token in each.tensors[0].array)


@dataclass
class Request:
    inputs: dict[str, np.ndarray]
    sender: Sender = field(default_factory=Sender)

    def get_response_sender(self) -> Sender:
        return self.sender


def request(sender: Sender | None = None, *, seed: int = 0, **told: Any) -> Request:
    job = {"strategy": "greedy", "parameters": {}, "rules": RULES, **told}
    image_tokens = np.random.default_rng(seed).standard_normal((49, CHANNELS)).astype(np.float32)
    encoded = np.frombuffer(json.dumps(job).encode(), dtype=np.uint8)
    return Request({"image_tokens": image_tokens, "job": encoded}, sender or Sender())


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The started model of a written repository; its graph counts its runs."""
    pack = load_pack(make_tiny_pack(tmp_path / "tiny"))
    options = ServingOptions(decoder_loop=True)
    assert write_repository([pack], tmp_path / "models", options) == models_of(pack, options)
    utils = ModuleType("triton_python_backend_utils")
    utils.__dict__.update(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=str,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
        get_input_tensor_by_name=lambda request, name: Tensor(name, request.inputs[name]),
    )
    beside = ("onnx_graph", "batch", "constraint", "guesses", "in_place", "search")
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    folder = tmp_path / "models" / loop_of(pack).name / "1"
    monkeypatch.syspath_prepend(str(folder))
    spec = spec_from_file_location("loop_under_test", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    started = module.TritonPythonModel()
    parameters = {"intra_op_threads": {"string_value": "1"}, "max_rows": {"string_value": "16"}}
    started.initialize({"model_config": json.dumps({"parameters": parameters})})
    started.runs = 0
    step = started._batch.step

    def counted() -> Any:
        started.runs += 1
        return step()

    started._batch.step = counted
    yield started
    started.finalize()
    for name in beside:
        sys.modules.pop(name, None)


def finished(*requests: Request) -> None:
    for each in requests:
        assert each.sender.done.wait(WAIT_S)


def test_a_report_comes_token_by_token(model: Any) -> None:
    asked = request()
    assert model.execute([asked]) is None
    finished(asked)
    assert asked.sender.text == REPORT
    assert [int(each.tensors[1].array[0]) for each in asked.sender.responses][-1] == 1
    assert len(asked.sender.responses) > 5


def test_requests_that_are_there_together_share_the_runs(model: Any) -> None:
    asked = [request(seed=seed) for seed in range(8)]
    model.execute(asked)
    finished(*asked)
    assert {each.sender.text for each in asked} == {REPORT}
    assert model.runs < 3 * len(REPORT.split())


def test_a_cancelled_report_is_not_decoded_on(model: Any) -> None:
    asked = request(Sender(cancel_after=2))
    model.execute([asked])
    finished(asked)
    assert model.runs == 2
    assert asked.sender.responses[-1].error == "cancelled"
    other = request()
    model.execute([other])
    finished(other)
    assert other.sender.text == REPORT


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        ({"strategy": "magic"}, "got 'magic', expected greedy, beam or sample"),
        ({"rules": {}}, "KeyError"),
        ({"strategy": "beam", "parameters": {"beams": 17}}, "beams: got 17, expected at most 16"),
    ],
)
def test_a_job_that_cannot_be_is_refused_alone(model: Any, told: dict, cause: str) -> None:
    broken, whole = request(**told), request()
    model.execute([broken, whole])
    finished(broken, whole)
    assert cause in str(broken.sender.responses[-1].error)
    assert whole.sender.text == REPORT


def test_an_image_that_is_not_numbers_is_refused_alone(model: Any) -> None:
    broken, whole = request(), request()
    broken.inputs["image_tokens"][0, 0] = np.nan
    model.execute([broken, whole])
    finished(broken, whole)
    assert "not numbers" in str(broken.sender.responses[-1].error)
    assert whole.sender.text == REPORT


def test_the_configuration_is_decoupled_and_names_the_step_graphs_sizes(tmp_path: Path) -> None:
    pack = load_pack(make_tiny_pack(tmp_path / "tiny"))
    text = loop_config_text(loop_of(pack), pack.graphs["decoder_step"], ServingOptions(decoder_loop=True))
    assert "decoupled: true" in text
    assert 'string_value: "16"' in text
