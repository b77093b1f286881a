"""The pack in the repository: its ONNX graphs against PyTorch, and its records against its weights."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from radserve.models.export.onnx_model import OnnxModel
from radserve.models.export.pack_facts import LABELS, MAX_TOKENS
from radserve.models.tokenizer import START, PackTokenizer
from radserve.models.train.architecture import RadCoCa
from radserve.models.train.assess import read_split
from radserve.models.train.checkpoint import TrainingRecord
from radserve.models.train.data import TASKS, Task
from radserve.models.train.fit_calibration import fit_calibration
from radserve.models.train.out_of_fold import read_out_of_fold
from radserve.models.train.prompt_file import Prompts
from radserve.models.train.scoring import greedy_reports, prepared_pixels, score_images
from radserve.models.train.wordings import START_TOKENS

Images = npt.NDArray[np.uint8]
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.wording.input_name)


def test_image_embeddings_are_those_of_pytorch(
    model: RadCoCa, graphs: OnnxModel, test_images: Images, seen: Task
) -> None:
    pixels = prepared_pixels(model, test_images)
    embedding, tokens, _ = graphs.encode_image(pixels.numpy())
    with torch.inference_mode():
        expected, expected_tokens = model.encode(pixels, seen.wording.input_name)
    np.testing.assert_allclose(embedding, expected.numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(tokens, expected_tokens.numpy(), atol=1e-3, rtol=1e-4)
    assert np.ptp(embedding, axis=0).max() > 0.1  # not one answer for all images


def test_prompt_embeddings_are_those_of_pytorch(
    model: RadCoCa, graphs: OnnxModel, tokenizer: PackTokenizer, prompts: Prompts
) -> None:
    texts = [text for sides in prompts.values() for side in sides for text in side]
    tokens = np.stack([tokenizer.encode_prompt(text) for text in texts])
    with torch.inference_mode():
        expected = model.encode_text(torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(graphs.encode_text(tokens), expected, atol=1e-4, rtol=0)


def test_greedy_reports_with_a_cache_are_those_of_full_recomputation(
    model: RadCoCa, graphs: OnnxModel, tokenizer: PackTokenizer, test_images: Images, seen: Task
) -> None:
    _, tokens, _ = graphs.encode_image(prepared_pixels(model, test_images).numpy())
    for start in START_TOKENS.values():
        expected = greedy_reports(model, tokenizer, test_images, seen.wording.input_name, start, MAX_TOKENS)
        assert graphs.greedy_reports(tokenizer, tokens, start, MAX_TOKENS) == expected
        assert len({tuple(report) for report in expected}) >= 2


def test_decoder_logits_are_those_of_full_recomputation(
    model: RadCoCa, graphs: OnnxModel, tokenizer: PackTokenizer, test_images: Images, seen: Task
) -> None:
    pixels = prepared_pixels(model, test_images[:4])
    report = seen.wording.reports(False)[0]
    captions = np.array([[tokenizer.start_id, *tokenizer.encode_words(report)]] * 4, dtype=np.int64)
    with torch.inference_mode():
        latent, tokens = model.encode(pixels, seen.wording.input_name)
        said = model(pixels, torch.from_numpy(captions), image_latent=latent, image_embs=tokens, output_labels=False)
        expected = said["logits"].numpy()
    _, tokens, _ = graphs.encode_image(pixels.numpy())
    np.testing.assert_allclose(graphs.caption_logits(captions, tokens), expected, atol=1e-3, rtol=0)


def test_patch_embeddings_add_up_to_the_embedding_and_so_to_the_score(
    model: RadCoCa, graphs: OnnxModel, tokenizer: PackTokenizer, prompts: Prompts, test_images: Images, seen: Task
) -> None:
    embedding, _, patches = graphs.encode_image(prepared_pixels(model, test_images).numpy())
    np.testing.assert_allclose(patches.sum(axis=1), embedding, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    label = seen.wording.label
    positive, negative = prompts[label]
    sides = [
        graphs.encode_text(np.stack([tokenizer.encode_prompt(each) for each in side])) for side in (positive, negative)
    ]
    toward, away = (side.mean(axis=0) / np.linalg.norm(side.mean(axis=0)) for side in sides)
    logit = (patches @ (toward - away)).sum(axis=1) * float(model.scale_of(seen.wording.input_name))
    expected = score_images(model, tokenizer, prompts, test_images)[label]
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), expected, atol=1e-5)


def test_an_image_is_read_alike_alone_and_in_a_batch(model: RadCoCa, graphs: OnnxModel, test_images: Images) -> None:
    pixels = prepared_pixels(model, test_images[:8]).numpy()
    together = graphs.encode_image(pixels)
    for index in range(len(pixels)):
        alone = graphs.encode_image(pixels[index : index + 1])
        for one, batched in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], batched[index])


def test_reports_at_different_positions_share_a_step(
    model: RadCoCa, graphs: OnnxModel, tokenizer: PackTokenizer, test_images: Images
) -> None:
    _, tokens, _ = graphs.encode_image(prepared_pixels(model, test_images[[0, 49]]).numpy())
    first, second = graphs.greedy_reports(tokenizer, tokens, START, MAX_TOKENS)
    caches = [graphs.empty_cache(1), graphs.empty_cache(1)]
    for position, token in enumerate([tokenizer.start_id, *first[:9]]):  # the first report is ten words ahead
        _, caches[0] = graphs.step(np.array([[token]]), np.array([[position]]), tokens[:1], caches[0])
    logits, _ = graphs.step(
        np.array([[first[9]], [tokenizer.start_id]]), np.array([[10], [0]]), tokens, np.concatenate(caches)
    )
    assert logits.argmax(axis=1).tolist() == [first[10], second[0]]


def test_what_a_cache_holds_after_the_position_does_not_matter(
    model: RadCoCa, graphs: OnnxModel, tokenizer: PackTokenizer, test_images: Images
) -> None:
    _, tokens, _ = graphs.encode_image(prepared_pixels(model, test_images[:1]).numpy())
    token, position, empty = np.array([[tokenizer.start_id]]), np.array([[0]]), graphs.empty_cache(1)
    dirty = np.full_like(empty, 3.0)
    clean_logits, clean_cache = graphs.step(token, position, tokens, empty)
    dirty_logits, dirty_cache = graphs.step(token, position, tokens, dirty)
    np.testing.assert_array_equal(clean_logits, dirty_logits)
    np.testing.assert_array_equal(clean_cache[:, :, 0], dirty_cache[:, :, 0])
    assert not clean_cache[:, :, 1:].any() and clean_cache[:, :, 0].any()


@each_task
def test_the_weights_give_the_recorded_validation_figures(
    task: Task, model: RadCoCa, tokenizer: PackTokenizer, prompts: Prompts, data_folder: Path, pack_folder: Path
) -> None:
    record = TrainingRecord.load(pack_folder).labels[task.wording.label]
    readings = read_split(model, tokenizer, prompts, data_folder, task, "val")
    fitted = fit_calibration(model, tokenizer, prompts, data_folder, task, read_out_of_fold(pack_folder))
    assert fitted.auroc == pytest.approx(record.calibration.auroc, abs=1e-4)
    assert fitted.temperature == pytest.approx(record.calibration.temperature, rel=1e-3)
    assert fitted.offset == pytest.approx(record.calibration.offset, abs=1e-2)
    assert fitted.threshold == pytest.approx(record.calibration.threshold, abs=1e-3)
    assert readings.contradictions(record.calibration) == record.contradictions


def test_hardly_any_report_contradicts_the_decision(pack_folder: Path) -> None:
    labels = TrainingRecord.load(pack_folder).labels.values()
    for language in START_TOKENS:
        wrong = sum(label.contradictions[language] for label in labels)
        assert wrong <= 0.03 * sum(label.images for label in labels)


def test_pack_toml_states_the_recorded_calibration_and_every_file(pack_folder: Path) -> None:
    pack, record = tomllib.loads((pack_folder / "pack.toml").read_text()), TrainingRecord.load(pack_folder)
    for label in pack["labels"]:
        calibration = record.labels[label["name"]].calibration
        stated = (label["threshold"], label["temperature"], label["offset"])
        assert stated == (calibration.threshold, calibration.temperature, calibration.offset)
        assert tuple(label.get("cannot_assess", ())) == (calibration.cannot_assess or ())
        assert label["scoring"]["logit_scale"] == record.logit_scales[label["name"]]
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in pack_folder.iterdir()}
    assert pack["files"] == {name: value for name, value in hashes.items() if name != "pack.toml"}


def test_the_pack_is_small_enough_for_the_repository(pack_folder: Path) -> None:
    assert sum(path.stat().st_size for path in pack_folder.iterdir()) < 41_000_000  # five towers, in ONNX and PyTorch


def test_no_graph_names_a_file_of_the_machine_it_was_made_on(pack_folder: Path) -> None:
    for path in pack_folder.glob("*.onnx"):
        content = path.read_bytes()
        assert b"site-packages" not in content and b".py" not in content, path.name


@pytest.mark.parametrize("graph", ["image_encoder", "image_encoder_breast_ultrasound", "text_encoder", "decoder_step"])
def test_only_the_batch_of_a_graph_is_free(graph: str, pack_folder: Path) -> None:
    loaded = onnx.load(pack_folder / f"{graph}.onnx")
    for value in (*loaded.graph.input, *loaded.graph.output):
        sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        assert sizes[0] == 0 and all(size > 0 for size in sizes[1:]), value.name
    assert {each.domain: each.version for each in loaded.opset_import}[""] == 18


def test_the_codes_are_those_of_the_dicom_dictionary_where_it_has_them() -> None:
    from pydicom.sr.codedict import codes

    sites = {label.name: label.site for label in LABELS}
    for name, concept in (("Pneumonia", codes.SCT.Lung), ("Malignant breast lesion", codes.SCT.Breast)):
        assert sites[name] == (concept.value, concept.scheme_designator, concept.meaning)
