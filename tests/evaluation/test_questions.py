"""The question harness: loading, shuffling, reading of odd replies, scores on 1 to 10, MedBench files."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint
from typer.testing import CliRunner

from radserve.errors import ErrorCode, RadserveError
from radserve.evaluation.cli import evaluate_app
from radserve.evaluation.questions import (
    Outcome,
    Question,
    QuestionType,
    accuracy,
    ask,
    choices_in,
    one_to_ten,
    prompt,
    read_questions,
    score_reply,
    shuffled,
    weighted_score,
)
from radserve.evaluation.questions_medbench import DIMENSION_WEIGHTS, DIMENSIONS, medbench_text, read_medbench

OPTIONS = ("Pneumonia", "Pleural effusion", "Effusion of the knee", "A fracture")


def shipped() -> tuple[Question, ...]:
    return read_questions(Path(str(files("radserve.evaluation").joinpath("data/questions.jsonl"))))


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [
        ("B", 1), ("b", 1), (" B ", 1), ("B.", 1), ("(B)", 1), ("[b]", 1), ("**B**", 1), ("B)", 1),
        ("B: Pleural effusion", 1),
        ("B. Pleural effusion because of the meniscus.", 1), ("Answer: B", 1), ("answer is b", 1),
        ("The answer is (C).", 2),
        ("The correct option is D", 3), ("I think the answer is A.", 0), ("My choice: C, as A is ruled out", 2),
        ("Pleural effusion", 1), ("pleural   EFFUSION.", 1), ("It is a pleural effusion, clearly.", 1),
        ("A fracture", 3),
        ("Most likely pneumonia", 0), ("The finding is B.", 1), ("Option D", 3), ("The answer is: D) A fracture", 3),
        ("A or B", None), ("B and C", None), ("", None), ("I do not know.", None), ("E", None),
        ("pneumonia or pleural effusion", None), ("A patient with cough", None), ("42", None), ("?", None),
    ],
)  # fmt: skip
def test_odd_replies_are_read_as_one_option_or_as_none(reply: str, chosen: int | None) -> None:
    assert choices_in(reply, OPTIONS) == (() if chosen is None else (OPTIONS[chosen],))


def test_several_letters_are_read_for_multiple_choice() -> None:
    assert choices_in("A, C", OPTIONS, several=True) == (OPTIONS[0], OPTIONS[2])
    assert choices_in("The answers are B and D.", OPTIONS, several=True) == (OPTIONS[1], OPTIONS[3])


def test_the_shipped_set_has_20_single_choice_questions() -> None:
    questions = shipped()
    assert len(questions) == 20
    assert all(each.kind is QuestionType.SINGLE and len(each.options) == 4 for each in questions)


def test_the_order_of_options_is_the_seeds_and_moves_the_right_answer() -> None:
    questions = shipped()
    assert [shuffled(each, 1) for each in questions] == [shuffled(each, 1) for each in questions]
    assert [shuffled(each, 1) for each in questions] != [shuffled(each, 2) for each in questions]
    places = [shuffled(each, seed).index(each.answers[0]) for each in questions for seed in range(50)]
    assert np.bincount(places) / 1000 == pytest.approx([0.25] * 4, abs=0.06)
    # frozen, so that another machine or release asks in the same order
    assert [shuffled(questions[0], seed).index(questions[0].answers[0]) for seed in range(6)] == [2, 3, 3, 2, 0, 1]


def test_a_model_that_knows_earns_all_and_one_that_says_a_earns_about_chance() -> None:
    questions = shipped()
    right = {each.text: each.answers[0] for each in questions}
    knows = ask(questions, lambda text: right[text.split("\n")[0]], seed=3)
    assert accuracy(knows)[""].value == 1
    habit = [each.score for seed in range(40) for each in ask(questions, lambda _: "A", seed=seed)]
    assert np.mean(habit) == pytest.approx(0.25, abs=0.06)


def test_the_prompt_letters_the_options() -> None:
    question = shipped()[0]
    assert prompt(question, ("x", "y")) == f"{question.text}\nA. x\nB. y"


@pytest.mark.parametrize(
    ("kind", "answers", "reply", "score"),
    [
        ("limited", ("Radiology", "Radiologie"), "radiology.", 1.0),
        ("limited", ("Radiology",), "Surgery", 0.0),
        ("limited", ("放射科",), "放射科", 1.0),
        ("limited", ("放射科",), "外科", 0.0),
        ("open", ("No pleural effusion.",), "No effusion", 0.8),
    ],
)
def test_limited_and_open_questions_are_scored(kind: str, answers: tuple[str, ...], reply: str, score: float) -> None:
    question = Question("1", QuestionType(kind), "d", "?", (), answers)
    assert score_reply(question, (), reply).score == pytest.approx(score)


def test_multiple_choice_needs_exactly_the_right_options() -> None:
    question = Question("1", QuestionType.MULTIPLE, "d", "?", OPTIONS, (OPTIONS[0], OPTIONS[2]))
    assert score_reply(question, OPTIONS, "A, C").score == 1
    assert score_reply(question, OPTIONS, "A").score == 0
    assert score_reply(question, OPTIONS, "A, B, C").score == 0


def test_accuracy_has_wilsons_interval_by_dimension() -> None:
    outcomes = [Outcome(str(i), "x" if i < 8 else "y", (), float(i % 2)) for i in range(20)]
    rates = accuracy(outcomes)
    assert (rates["x"].count, rates["x"].of, rates[""].of) == (4, 8, 20)
    assert (rates["x"].low, rates["x"].high) == pytest.approx(proportion_confint(4, 8, method="wilson"))


def test_1_to_10_is_1_plus_9_times_the_share() -> None:
    assert [one_to_ten(each) for each in (0, 0.5, 1)] == [1, 5.5, 10]
    with pytest.raises(RadserveError, match=r"got 1\.2"):
        one_to_ten(1.2)


def test_dimensions_are_weighted_and_none_may_be_missing() -> None:
    assert weighted_score({"a": 1.0, "b": 0.0}, {"a": 3, "b": 1}) == pytest.approx(1 + 9 * 0.75)
    with pytest.raises(RadserveError, match="'b' has a weight but was not measured"):
        weighted_score({"a": 1.0}, {"a": 1, "b": 1})
    with pytest.raises(RadserveError, match="weights"):
        weighted_score({"a": 1.0}, {"a": 0})


def test_the_documented_weights_count_every_dimension_alike() -> None:
    assert tuple(DIMENSION_WEIGHTS) == DIMENSIONS
    shares = dict(zip(DIMENSIONS, (0.1, 0.2, 0.4, 0.8, 1.0), strict=True))
    assert weighted_score(shares, DIMENSION_WEIGHTS) == pytest.approx(np.mean([1 + 9 * s for s in shares.values()]))


GOOD = {"id": "1", "type": "single", "dimension": "d", "question": "?", "options": ["x", "y"], "answer": "x"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "essay"}, "line 1: type: got 'essay'"),
        ({"answer": "z"}, "line 1: answer: got 'z'"),
        ({"options": ["x", "x"]}, "line 1: options: got 2, expected 2 to 10 different"),
        ({"type": "open"}, "line 1: options: got 2, expected none for type open"),
        ({"answer": ["x", "y"]}, "line 1: answer: got 2, expected one"),
    ],
)
def test_a_wrong_question_is_refused_by_line_and_entry(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(GOOD | change) + "\n")
    with pytest.raises(RadserveError, match=message) as caught:
        read_questions(path)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "has none"), ("{", "line 1: not JSON"), ("[1]", "line 1: got a list"), ("{}", "the entry 'id' is missing")],
)
def test_a_file_that_is_no_list_of_questions_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(text)
    with pytest.raises(RadserveError, match=message):
        read_questions(path)


def medbench_file(path: Path) -> Path:
    choices = [
        {
            "question": f"问题{i}",
            "options": ["A. 肺炎", "B. 胸腔积液", "C. 气胸"],
            "answer": answer,
            "other": {"id": i, "source": "s"},
        }
        for i, answer in enumerate(["A", "B", "C", "AC", "BC", "A", "B"])
    ]
    texts = [{"question": f"科室{i}", "answer": "放射科", "other": {"id": i}} for i in range(3)]
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in choices + texts), encoding="utf-8")
    return path


def test_ten_medbench_items_survive_a_round_trip_byte_for_byte(tmp_path: Path) -> None:
    path = medbench_file(tmp_path / "medbench.jsonl")
    questions, lines = read_medbench(path, "knowledge QA")
    assert len(questions) == 10
    assert medbench_text(lines) == path.read_text(encoding="utf-8")
    assert questions[3].answers == ("肺炎", "气胸")


def test_answers_go_back_in_the_files_own_letters_whatever_the_shuffle(tmp_path: Path) -> None:
    path = medbench_file(tmp_path / "medbench.jsonl")
    questions, lines = read_medbench(path, "knowledge QA")
    right = {each.text: each for each in questions}

    def answer(text: str) -> str:
        question = right[text.split("\n", maxsplit=1)[0]]
        letters = [line[0] for line in text.split("\n")[1:] if line[3:] in question.answers]
        return ", ".join(letters) or question.answers[0]

    outcomes = ask(questions, answer, seed=5)
    assert all(each.score == 1 for each in outcomes)
    assert medbench_text(lines, outcomes) == path.read_text(encoding="utf-8")


def test_a_wrong_medbench_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "medbench.jsonl"
    path.write_text(json.dumps({"question": "?", "options": ["A. x", "B. y"], "answer": "D"}))
    with pytest.raises(RadserveError, match="answer: got 'D', expected letters of its 2 options"):
        read_medbench(path, "knowledge QA")
    with pytest.raises(RadserveError, match="dimension: got 'wit'"):
        read_medbench(path, "wit")


def test_the_command_writes_prompts_and_scores_replies(tmp_path: Path) -> None:
    prompts, replies, scores = (tmp_path / each for each in ("prompts.jsonl", "replies.jsonl", "scores.json"))
    assert CliRunner().invoke(evaluate_app, ["questions", "--prompts", str(prompts), "--seed", "4"]).exit_code == 0
    right = {each.identifier: each.answers[0] for each in shipped()}
    asked = [json.loads(line) for line in prompts.read_text().splitlines()]
    known = [{"id": each["id"], "reply": right[each["id"]]} for each in asked[:15]]
    replies.write_text("".join(json.dumps(each) + "\n" for each in known))
    done = CliRunner().invoke(
        evaluate_app, ["questions", "--replies", str(replies), "--json", str(scores), "--seed", "4"]
    )
    assert done.exit_code == 0, done.output
    result = json.loads(scores.read_text())
    assert result["value"] == pytest.approx(1 + 9 * 15 / 20)
    assert result["n"] == 20
    assert result["warnings"] == ["5 questions have no reply and count as wrong"]
