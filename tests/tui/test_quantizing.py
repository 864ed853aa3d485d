"""What the workshop knows of models and times, and what it refuses before anything begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from localllm.errors import LocalLLMError
from localllm.quantize.file_types import FILE_TYPE_NAMES
from tests.tiny_model import write_tiny_model
from tui.jobs import CompareRequest, EvaluateRequest, Job, JobPhase, QuantizeRequest
from tui.jobs.requests import from_json, to_json
from tui.jobs.results import points
from tui.quantizing.choices import Choices, Plan, Problem, default_name, plan
from tui.quantizing.file_types import METHODS, TYPE_CHOICES
from tui.quantizing.forecast import foretell
from tui.quantizing.prospect import Prospect, look
from tui.quantizing.sources import find_models
from tui.quantizing.words import duration, size

SMOL = Prospect(Path("smol.gguf"), 134_515_008, 270_000_000, n_embd=576, widest=1536, moments_bytes=402_554_880)
QWEN = Prospect(Path("qwen.gguf"), 1_543_714_304, 3_090_000_000, n_embd=1536, widest=8960)


def test_the_choice_of_types_and_methods_is_the_workshops() -> None:
    from localllm.workshop import METHODS as WORKSHOPS

    assert {choice.name for choice in TYPE_CHOICES} == set(FILE_TYPE_NAMES) - {"F32"}
    assert tuple(method for method, _ in METHODS) == WORKSHOPS


@pytest.mark.parametrize(
    ("prospect", "method", "is_kl_aware", "stage", "measured_s"),
    [
        (SMOL, "gptq", False, "quantize", 31),
        (SMOL, "gptq", True, "quantize", 82),
        (SMOL, "gptq", True, "gradients", 240),
        (SMOL, "gptq", False, "read", 300),
        (QWEN, "gptq", False, "quantize", 679),
    ],
)
def test_forecasts_are_near_what_was_measured(
    prospect: Prospect, method: str, is_kl_aware: bool, stage: str, measured_s: float
) -> None:
    forecast = foretell(prospect, method, ["Q4_K_M"], is_kl_aware=is_kl_aware, n_threads=1)
    assert forecast.stages_s[stage] == pytest.approx(measured_s, rel=0.35)


def test_more_threads_and_fewer_chunks_take_less_time() -> None:
    whole = foretell(SMOL, "gptq", ["Q4_K_M"], n_threads=1)
    assert foretell(SMOL, "gptq", ["Q4_K_M"], n_threads=8).total_s == pytest.approx(whole.total_s / 7, rel=0.1)
    assert foretell(SMOL, "gptq", ["Q4_K_M"], n_chunks=10, n_threads=1).total_s < whole.total_s / 2
    assert "read" not in foretell(SMOL, "rtn", ["Q4_K_M"]).stages_s


def test_what_is_read_of_a_file_is_what_its_types_come_to(tmp_path: Path) -> None:
    from localllm.quantize import Rtn, Workers, file_type, plan_mix, quantize

    source = write_tiny_model(tmp_path / "tiny.gguf")
    from localllm.gguf import read_header

    header = read_header(source)
    with Workers(1) as workers:
        made = quantize(header, tmp_path / "q.gguf", plan_mix(header, file_type("Q8_0")), Rtn(workers, None))
    prospect = look(source)
    assert not prospect.is_quantized
    assert prospect.sizes["Q8_0"] == pytest.approx(made.n_bytes, rel=0.01)
    assert look(made.path).is_quantized


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalLLMError, match=r"config\.json"):
        look(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(2000))
    found = look(tmp_path)
    assert found.is_folder
    assert found.n_params == 1000


def test_16_bit_models_come_first(own: Path, no_demo: None) -> None:
    own.mkdir(parents=True)
    for name in ("a-Q4_K_M", "b-F16", "c"):
        write_tiny_model(own / f"{name}.gguf")
    assert [(model.ref, model.type_name) for model in find_models(())] == [
        ("b-F16", "F16"),
        ("c", "F32"),
        ("a-Q4_K_M", "Q4_K_M"),
    ]


CHOSEN = Choices("quantize", Path("/models/smol.gguf"), types=("Q4_K_M",), output="new.gguf")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"source": None}, "source"),
        ({"target": "huge"}, "target"),
        ({"target": "0.5"}, "target"),
        ({"target": "1MB"}, "target"),
        ({"method": "rtn", "is_kl_aware": True}, "method"),
        ({"method": "rtn", "types": ("Q2_K_S",)}, "types"),
        ({"types": ()}, "types"),
        ({"texts": "/nowhere/a.txt"}, "texts"),
        ({"n_chunks": "-1"}, "chunks"),
        ({"output": " "}, "output"),
        ({"output": "new.bin"}, "output"),
        ({"output": "/nowhere/at/all/new.gguf"}, "output"),
        ({"kind": "evaluate"}, "other"),
    ],
)
def test_what_is_wrong_is_said_of_its_field(tmp_path: Path, changes: dict[str, object], field: str) -> None:
    found = plan(replace(CHOSEN, **changes), SMOL, None, tmp_path)  # type: ignore[arg-type]
    assert isinstance(found, Problem)
    assert found.field == field


@pytest.mark.parametrize(
    ("text", "n_bytes", "bpw"), [("", None, None), ("4.25", None, 4.25), ("5 bpw", None, 5.0), ("90MB", 90 << 20, None)]
)
def test_a_target_is_a_size_or_bits_per_weight(
    tmp_path: Path, text: str, n_bytes: int | None, bpw: float | None
) -> None:
    found = plan(replace(CHOSEN, target=text), SMOL, None, tmp_path)
    assert isinstance(found, Plan)
    assert isinstance(found.request, QuantizeRequest)
    assert (found.request.target_bytes, found.request.target_bpw) == (n_bytes, bpw)
    assert ("parts" in found.forecast.stages_s) == bool(text)


def test_too_little_room_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.quantizing.choices._free_bytes", lambda _: 1000)
    found = plan(CHOSEN, SMOL, None, tmp_path)
    assert isinstance(found, Plan)
    assert "disk" in found.warning


@pytest.mark.parametrize(
    "request_",
    [
        QuantizeRequest("a", "b", target_bpw=4.0, texts=("x", "y")),
        CompareRequest("a", ("Q4_0", "Q2_K"), n_chunks=3),
        EvaluateRequest("a", ("b", "c")),
    ],
    ids=lambda request: type(request).__name__,
)
def test_requests_travel_as_json(request_: QuantizeRequest | CompareRequest | EvaluateRequest) -> None:
    import json

    assert from_json(json.loads(json.dumps(to_json(request_)))) == request_


def test_the_plot_has_the_last_result_of_each_file_of_a_source() -> None:
    def job(job_id: int, source: str, kld: float, phase: JobPhase = "done") -> Job:
        file = {"type": "Q4_0", "n_bytes": 100, "kld": kld}
        return Job(job_id, "", QuantizeRequest(source, "t"), phase, result={"method": "rtn", "files": [{}, file]})

    jobs = [job(1, "a", 0.1), job(2, "a", 0.2), job(3, "b", 0.3), job(4, "a", 0.4, "failed"), job(5, "a", 0.0)]
    assert [(point.kld, point.method) for point in points(jobs, "a")] == [(0.2, "rtn")]


def test_names_and_sizes() -> None:
    assert default_name(Path("/m/SmolLM2-F16.gguf"), "Q4_K_M") == "SmolLM2-Q4_K_M.gguf"
    assert default_name(Path("/m/plain.gguf"), "sized") == "plain-sized.gguf"
    assert [size(n) for n in (999, 105_454_144, 1.2e9)] == ["999 B", "105 MB", "1.2 GB"]
    assert [duration(s) for s in (0.2, 45, 300, 8000)] == ["1 s", "45 s", "5 min", "2 h 13 min"]
