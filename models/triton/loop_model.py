"""The model of Triton's Python backend that writes whole reports: one request in, tokens out as they become certain.

The reports of all requests are decoded side by side, whenever they came; a request that is cancelled leaves before the
next step. Copied into the model repository as model.py, with onnx_graph.py, search.py, constraint.py, batch.py,
in_place.py and guesses.py beside it; imports nothing of radserve.
"""

from __future__ import annotations

import json
import queue
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

START_FILE, STEP_FILE, LEAP_FILE = "start.onnx", "step.onnx", "leap.onnx"
_RULES_KEPT = 32


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graphs and vocabulary.json beside this file and start the thread that decodes."""
        import triton_python_backend_utils as pb_utils  # exists inside the backend's process only
        from constraint import ReportConstraint  # type: ignore[import-not-found]  # lies beside this file

        if int(np.__version__.split(".")[0]) >= 2:
            raise RuntimeError(
                f"numpy {np.__version__}: this backend returns empty outputs with numpy 2, needs numpy<2"
            )
        parameters = json.loads(args["model_config"])["parameters"]
        here = Path(__file__)
        words = json.loads(here.with_name("vocabulary.json").read_text(encoding="utf-8"))
        threads = int(parameters["intra_op_threads"]["string_value"])
        self._pb_utils = pb_utils
        self._max_rows = int(parameters["max_rows"]["string_value"])
        self._batch = _batch(here, threads, self._max_rows)
        self._senders: dict[int, Any] = {}
        self._constraint = lru_cache(_RULES_KEPT)(
            lambda rules: ReportConstraint(
                words,
                rules["end_id"],
                rules["silent_ids"],
                rules["heads"],
                rules["phrases"],
            )
        )
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="decoder", daemon=True)
        self._thread.start()

    def execute(self, requests: list[Any]) -> None:
        """Hand the requests to the decoding thread; their answers go through their senders."""
        for request in requests:
            arrays = [
                np.array(self._pb_utils.get_input_tensor_by_name(request, name).as_numpy())
                for name in ("image_tokens", "job")
            ]
            self._inbox.put((request.get_response_sender(), *arrays))

    def finalize(self) -> None:
        """End the thread."""
        self._inbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        numbers = iter(range(2**63))
        while self._take_in(numbers):
            self._drop_cancelled()
            if self._batch:
                self._step()

    def _take_in(self, numbers: Any) -> bool:
        """Take what has come, or wait for something where nothing is in work; False at the end."""
        while not self._inbox.empty() or not self._batch:
            item = self._inbox.get()
            if item is None:
                return False
            sender, image_tokens, job = item
            try:
                told = json.loads(job.tobytes())
                search = self._search(told)
                if not np.isfinite(image_tokens).all():
                    raise ValueError("image_tokens hold values that are not numbers")
            except Exception as error:
                self._fail(sender, error)
                continue
            number = next(numbers)
            self._senders[number] = sender
            self._batch.add(number, search, image_tokens, told["parameters"].get("beams", 1))
        return True

    def _search(self, job: dict[str, Any]) -> Any:
        from search import Frame, make_search  # type: ignore[import-not-found]

        rules = job["rules"]
        if job["parameters"].get("beams", 1) > self._max_rows:
            raise ValueError(f"beams: got {job['parameters']['beams']}, expected at most {self._max_rows}")
        constraint = self._constraint(_Rules(rules))
        frame = Frame(rules["start_id"], rules["end_id"], rules["max_tokens"], constraint)
        return make_search(frame, job["strategy"], **job["parameters"])

    def _drop_cancelled(self) -> None:
        for number, sender in list(self._senders.items()):
            if sender.is_cancelled():
                self._batch.remove(number)
                self._fail(self._senders.pop(number), "cancelled")

    def _step(self) -> None:
        try:
            steps = self._batch.step()
        except Exception as error:  # no report can go on from here: each is told so
            for number, sender in self._senders.items():
                self._batch.remove(number)
                self._fail(sender, error)
            self._senders.clear()
            return
        for step in steps:
            if step.tokens or step.finished:
                sender = self._senders.pop(step.key) if step.finished else self._senders[step.key]
                self._send(sender, step.tokens, finished=step.finished)

    def _send(self, sender: Any, tokens: tuple[int, ...], *, finished: bool) -> None:
        outputs = [
            self._pb_utils.Tensor("tokens", np.array(tokens, dtype=np.int64)),
            self._pb_utils.Tensor("finished", np.array([finished], dtype=np.int64)),
        ]
        flags = self._pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if finished else 0
        sender.send(self._pb_utils.InferenceResponse(outputs), flags=flags)

    def _fail(self, sender: Any, error: object) -> None:
        message = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error)
        response = self._pb_utils.InferenceResponse([], self._pb_utils.TritonError(message))
        sender.send(response, flags=self._pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _batch(here: Path, threads: int, max_rows: int) -> Any:
    """The reports in work: with the cache in place where the repository has the graphs for it."""
    from batch import GraphBatch  # type: ignore[import-not-found]
    from guesses import Guesses, leaps_as_steps  # type: ignore[import-not-found]
    from in_place import InPlaceBatch  # type: ignore[import-not-found]
    from onnx_graph import OnnxGraph  # type: ignore[import-not-found]

    def graph(name: str) -> Any:
        return OnnxGraph(here.with_name(name).read_bytes(), threads=threads)

    if here.with_name(STEP_FILE).exists():
        step, leap = graph(STEP_FILE), graph(LEAP_FILE)
        return InPlaceBatch(graph(START_FILE), step, max_rows, leap if leaps_as_steps(step, leap) else None, Guesses())
    return GraphBatch(graph("model.onnx"), max_rows)


class _Rules(dict[str, Any]):
    """A job's rules as a key: equal rules are prepared once."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))
