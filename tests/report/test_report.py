"""The report's keys, the profile's sums, and what the page, the screen and the bench table show of them."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from etexport.artifacts.memory import InFloat, TensorType
from etexport.errors import ModelError
from etexport.judge.replay import Replayed, summed_up
from etexport.program.model import Source
from etexport.report import bench, summary
from etexport.report.builds import compared
from etexport.report.chart import chart
from etexport.report.code import by_kernel
from etexport.report.graph import graph
from etexport.report.page import layer_rows, page
from etexport.report.peers import bests, network_of, networks, peers, peers_of
from etexport.report.profile import best_known, kind_of, lost, profile, shares, slowest
from etexport.report.report import Report, in_float, saturation, to_json
from tests.report import handmade

KEYS = {
    "": "model board core program_hash quantization optimize macs counter count count_per_mac init_count flash ram "
    "plan compare ops methods"
    " ways in_float quality exact missing warnings clock_hz code",
    "flash": "runtime kernels constants libc total",
    "ram": "arena io state scratch static stack total total_without_link",
    "plan": "arena bound gap optimal",
    "compare": "against samples judged max_abs_error max_lsb_error tolerance tolerance_lsb mismatched rounded "
    "first_difference accuracy"
    " accuracy_eager same_class snr_db snr_missing against_float confusion flags",
    "exact": "operators checked wrong results worst_lsb first_wrong samples",
}

OP_KEYS = "handle name op kernel source macs count best_known bytes_constants executions"


def test_the_keys_are_those_of_the_format() -> None:
    written = json.loads(to_json(handmade.report())) | {
        "exact": json.loads(to_json(handmade.integer_report()))["exact"]
    }
    for part, keys in KEYS.items():
        assert list(written[part] if part else written) == keys.split(), part
    assert all(list(op) == OP_KEYS.split() for op in written["ops"])
    assert written["ram"]["total"] == written["ram"]["arena"] + written["ram"]["static"] + written["ram"]["stack"]


def test_json_holds_no_word_that_json_lacks() -> None:
    report = handmade.report(wrong=True)
    assert report.compare is not None
    text = to_json(handmade.replace_error(report, float("inf")))
    assert json.loads(text, parse_constant=lambda word: pytest.fail(word))["compare"]["max_abs_error"] == "inf"


def test_profile_joins_counts_and_best_known() -> None:
    steps = handmade.memory().steps
    ops = profile(steps, [layer[4] for layer in handmade.LAYERS], "Cortex-M4F", "float32")
    conv, pool, depthwise, _, linear, _ = ops
    assert (conv.count, conv.best_known, conv.kernel) == (12_310, round(1.05 * 4_608), "convolution (m4f)")
    assert depthwise.best_known == round(1.62 * 1_152) and linear.best_known == round(1.13 * 640)
    assert pool.best_known is None
    assert sum(share.fraction for share in shares(ops)) == pytest.approx(1.0)
    assert [share.op.name for share in slowest(ops, 2)] == ["features_4", "features_0"]
    assert all(op.count is None for op in profile(steps, None, "Cortex-M4F", "float32"))
    assert best_known(steps[0], "Cortex-M3", "float32") is None
    assert [kind_of(step) for step in steps] == ["convolution", "", "depthwise", "pointwise", "linear", ""]
    assert best_known(steps[3], "Cortex-M4F", "float32") == round(1.14 * 2_048)
    assert all(set(best.per_mac) - {"first"} == {"convolution", "pointwise", "depthwise", "linear"} for best in bests())


def test_the_peers_are_complete() -> None:
    assert {best.core for best in bests()} >= {"Cortex-M4F", "RV32IMAFC"}
    for peer in peers():
        assert set(peer.figures) == set(networks()), peer.name
        assert all({"count", "count_per_mac"} & set(figures) for figures in peer.figures.values())


class _Page(HTMLParser):
    """Collects what a page refers to and checks that its elements are closed in order."""

    VOID = ("meta", "br", "hr", "img", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("wrong", [False, True])
def test_the_page_is_whole_and_needs_nothing_else(wrong: bool) -> None:
    picture = '<svg viewBox="0 0 1 1"><title>arena</title></svg>'
    text = page(
        handmade.report(wrong=wrong),
        handmade.memory(),
        handmade.comparison(wrong=wrong),
        picture,
        [("simulator", "qemu <x>")],
    )
    parser = _Page()
    parser.feed(text)
    assert parser.open == [] and parser.addresses == []
    assert not re.search(r"https?://|@import|url\(", text)
    shown = " ".join(parser.text)
    assert "qemu <x>" in shown and picture in text
    for layer in handmade.LAYERS:
        assert layer[0] in shown and f"{layer[4]:,}" in shown
    assert ("All 360 samples agree" in shown) != wrong
    assert ("sample 17, output 0[0, 3]" in shown) == wrong
    matrix = handmade.comparison(wrong=wrong).confusion
    assert len(matrix) == 10 and sum(map(sum, matrix)) == 360 and 350 < sum(matrix[at][at] for at in range(10)) < 360
    assert text.count('<td style="--of') == 100 and f">{matrix[3][3]}</td>" in text


def test_time_at_a_clock_is_an_estimate() -> None:
    made = replace(handmade.report(), clock_hz=168_000_000)
    told = "0.29 ms at 168 MHz (an estimate: one instruction a cycle)"  # 49,260 instructions
    assert told in summary.text(made) and told in page(made, handmade.memory(), None, "", ())
    assert "estimate" not in summary.text(handmade.report())
    assert "estimate" not in summary.text(replace(made, counter="nanoseconds (host clock)"))


def test_a_chart_has_a_bar_for_each_figure() -> None:
    drawn = chart(["conv", "b" * 40, "exact", "unknown"], [12.5, 50.0, math.inf, None], "dB")
    bars = re.findall(r"<title>(.*?)</title><rect [^>]*?height=\"([\d.]+)\"", drawn)
    assert bars == [
        ("conv: 12.5 dB", "42.5"),
        (f"{'b' * 40}: 50 dB", "170.0"),
        ("exact: exact", "170.0"),
        ("unknown: not known", "0.0"),
    ]
    assert re.findall(r'text-anchor="end" style="fill: var\(--soft\)">(\d+)<', drawn) == [
        "0",
        "10",
        "20",
        "30",
        "40",
        "50",
    ]


def test_flash_is_told_by_layer_and_by_kernel() -> None:
    """Code that several steps run is in the table; a bar has constants and what its step alone runs."""
    made, memory = handmade.report(), handmade.memory()
    found = {one.kernel: one for one in by_kernel(made.code, memory.steps)}
    assert (found["convolution"].code, found["convolution"].constants) == (3_000, 352 + 320 + 4_672)
    assert found["convolution"].layers == ("features_0", "depthwise") and found["generated"].layers == ()
    assert found["linear"].code == 0 and found["linear"].constants == 2_600
    text = page(made, memory, None, "", ())
    assert "features_0: 352 bytes of constants and 0<" in text and "softmax: 0 bytes of constants and 376<" in text
    assert "convolution_row 3,000" in text and "features_0, depthwise" in text
    assert "convolution_row" not in page(replace(made, code=()), memory, None, "", ())


def test_the_graph_has_a_line_for_each_step_and_a_way_for_each_read() -> None:
    """Straight on in one column; what passes by another step has its own; a jump and a state lead back."""
    made = handmade.memory()
    loop = replace(made.steps[3], kind="jump", op="executorch::jump_false", target=1, condition="done", results=())
    steps = (*made.steps[:3], loop, replace(made.steps[4], op="delegate::acme.out"), made.steps[5])
    wires = (("image", 0), ("kept", 2), (0, 1), (1, 2), (1, 4), (2, 3), (2, "kept"), (4, 5), (5, "softmax"))
    method = replace(made.methods[0], wires=wires)
    drawn = graph(replace(made, steps=steps, methods=(method,)), method, {1: "12.5%"})
    ways = re.findall(r'<path class="(\w+)" d="M(\d+) (\d+)([^"]*)"', drawn)
    assert [kind for kind, *_ in ways].count("data") == 8
    assert [(kind, int(y) // 26) for kind, _, y, _ in ways if kind in ("back", "jump")] == [("back", 4), ("jump", 5)]
    assert [line for *_, line in ways if "C" not in line], "some go straight on"
    assert drawn.count("<circle") == 7 and drawn.count("<rect") == 1 and 'class="node"' in drawn
    for kind, x, y, line in ways:  # no straight line leads through another step's mark
        if kind == "data" and (behind := re.search(r"V(\d+)", line)):
            between = range(int(y) + 26, int(behind[1]), 26)
            assert not any(f'cx="{x}" cy="{at}"' in drawn for at in between)
    assert "where not done: to features_3" in drawn and ">12.5%<" in drawn and "state, kept" in drawn


MEASURE = """<script>
const cut = [...document.querySelectorAll("td, th, p, h1, h2, .card")].filter(one => one.scrollWidth > one.clientWidth + 1);
const labels = [...document.querySelectorAll(".rows td")].filter(one => getComputedStyle(one, "::before").content !== "none");
const one = document.querySelector(".graph");
document.title = JSON.stringify([innerWidth, document.documentElement.scrollWidth, cut.map(one => one.textContent), labels.length,
  getComputedStyle(document.body).backgroundColor, one.clientHeight, one.querySelectorAll("circle").length,
  [...one.querySelectorAll("text")].filter(text => text.getBBox().x + text.getBBox().width > one.viewBox.baseVal.width).length]);
</script>"""  # noqa: E501


@pytest.mark.parametrize("width", [500, 1280])
@pytest.mark.parametrize("layers", [5, 80])
def test_nothing_is_cut_in_a_browser(layers: int, width: int, tmp_path: Path) -> None:
    """The page itself never scrolls sideways, pictures alone do; no cell is wider than its column; narrow rows name
    their columns."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here to look with")
    made, memory = handmade.report(), handmade.deep(layers)
    ops = profile(memory.steps, [1_000 + step.step for step in memory.steps], "Cortex-M4F", "float32")
    drawn = chart([op.name for op in ops], [float(op.bytes_constants) for op in ops], "bytes")
    text = page(replace(made, ops=ops), memory, handmade.comparison(), drawn, [("simulator", "qemu")])
    (tmp_path / "page.html").write_text(text.replace("</body>", f"{MEASURE}</body>"))
    seen = {}
    for scheme in (0, 1):  # dark, light
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--dump-dom",
        ]
        command += [
            f"--window-size={width},900",
            f"--blink-settings=preferredColorScheme={scheme}",
            (tmp_path / "page.html").as_uri(),
        ]
        dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
        (measured,) = re.findall(r"<title>(\[.*)</title>", dom)
        inner, wide, cut, named, seen[scheme], tall, dots, beyond = json.loads(html.unescape(measured))
        assert inner == width and wide <= width and cut == [] and (named > layers) == (width < 760)
        assert dots == layers + 2 and tall > 20 * layers and beyond == 0, "each step has a line of the graph"
    assert seen[0] != seen[1]


@pytest.mark.parametrize("wrong", [False, True])
def test_the_summary_is_one_screen(wrong: bool) -> None:
    report = handmade.report(wrong=wrong)
    lines = summary.text(report).splitlines()
    assert len(lines) <= 24 and all(len(line) <= summary.WIDTH for line in lines)
    joined = "\n".join(lines)
    for fact in (
        "98.3% on the board, 98.3% in PyTorch",
        "20,410",
        "3,226",
        "49,260 instructions",
        "lower bound 2,304: optimal",
        "features_4",
    ):
        assert fact in joined
    assert ("sample 17" in joined) == wrong
    plain = StringIO()
    summary.show(report, Console(file=plain))
    assert plain.getvalue() == summary.text(report) and "\x1b" not in plain.getvalue()
    coloured = StringIO()
    summary.show(report, Console(file=coloured, force_terminal=True, width=summary.WIDTH))
    assert "\x1b[" in coloured.getvalue()


def test_the_screen_cuts_no_name_and_no_line_of_the_script() -> None:
    made = handmade.report()
    name, source = "blocks_0_depthwise_convolution_of_all_channels", "networks/separable_blocks.py:1204"
    ops = tuple(
        replace(op, name=f"{name}_{at}", source=source, kernel="quantized_convolution_padded_dsp (dsp)")
        for at, op in enumerate(made.ops)
    )
    text = summary.text(replace(made, ops=ops))
    table = text[text.index("slowest") :].splitlines()
    assert (
        "…" not in text
        and max(map(len, table)) <= summary.WIDTH
        and sum(line.endswith(source) for line in table) == len(ops)
    )
    assert "".join(line[:13].strip() for line in table[1:]).startswith(f"{name}_3")


def of(network: str, report: Report) -> Report:
    """The report of a program that has the layers of that network."""
    return replace(report, ops=tuple(replace(report.ops[0], macs=macs) for macs in networks()[network]))


def benched(report: Report) -> bench.Benched:
    return msgspec.json.decode(to_json(report), type=bench.Benched)


def test_a_network_is_known_by_its_layers_and_not_by_its_name() -> None:
    report, other = benched(of("ad", handmade.report(model="my own"))), benched(handmade.report(model="ad"))
    assert report.network == "ad" and len(bench.rows([report])) > 1
    assert [row.who for row in bench.rows([other])] == ["etexport, qemu_mps2_an386"]
    assert network_of([op.macs for op in report.ops[1:]]) == "" and network_of([]) == ""


def test_bench_stands_beside_its_peers(tmp_path: Path) -> None:
    paths = []
    for model in ("kws", "ad"):
        paths.append(tmp_path / f"{model}.json")
        paths[-1].write_text(to_json(of(model, handmade.report(model=model))))
    reports = bench.read_reports(paths)
    assert [report["model"] for report in json.loads(bench.bench_json(paths))] == ["kws", "ad"]
    rows = bench.rows(reports)
    assert [row.who for row in rows if row.ours] == ["etexport, qemu_mps2_an386"] * 2
    iree = next(row for row in rows if row.who.startswith("IREE"))
    assert iree.count == 15_150_520 and iree.times == pytest.approx(15_150_520 / 49_260)
    text = bench.markdown(reports)
    assert "15,150,520" in text and "98.3% (eager 98.3%)" in text
    shown = bench.text(reports)
    assert "818,080" in shown and all(line == line.rstrip() for line in shown.splitlines())
    (tmp_path / "other.json").write_text("[1]")
    for bad in (tmp_path / "other.json", tmp_path / "missing.json"):
        with pytest.raises(ModelError):
            bench.read_reports([bad])


def test_outputs_of_the_host_board_are_not_called_pytorch_s() -> None:
    report = handmade.report()
    assert report.compare is not None
    other = replace(report, compare=replace(report.compare, against="the host board"))
    text = page(other, handmade.memory(), handmade.comparison(), "<svg></svg>", [])
    assert "agree with the host board" in text and "agree with PyTorch" not in text
    assert "agree with the host board" in summary.text(other) and "PyTorch" not in summary.text(other)


def test_int8_stands_beside_what_is_asked(tmp_path: Path) -> None:
    reports = [benched(of("kws", one)) for one in (handmade.integer_report(), handmade.report(model="kws"))]
    asked = {one.figure: one for one in bench.asked(reports)}
    assert set(asked) == set(bench.FIGURES) and all(one.model == "kws" for one in asked.values())
    (best,) = (
        peer.figures["kws"]["count"] for peer in peers_of("Cortex-M4F", "int8", "kws") if peer.name == "best known"
    )
    assert (asked["count"].ours, asked["count"].peer, asked["count"].best) == (49_260, 7_697_400, best)
    assert asked["code"].ours == 20_410 - 7_944 and asked["code"].peer == 53_185
    assert asked["ram_without_link"].ours == 2_304 + 310 + 612, "arena, static of the C library, proven stack"
    shown = bench.text(reports)
    assert "at most" in shown and "12,466" in shown and "same class as float in 259 of 260" in shown
    assert "| at most |" in bench.markdown(reports) and "at most" not in bench.text(reports[1:])


def test_where_time_is_lost_is_told() -> None:
    """Count less best known, of each operator that has both; in the sentence, the summary and the page."""
    report = handmade.report()
    above = {share.op.name: share.lost for share in shares(report.ops)}
    known = [op for op in report.ops if op.best_known is not None and op.count is not None]
    assert known and {op.name for op in known} == {name for name, value in above.items() if value is not None}
    found = lost(report.ops, 2)
    assert found is not None and found.count == sum(max(op.count - op.best_known, 0) for op in known)  # type: ignore[operator]
    worst = max(known, key=lambda op: op.count - op.best_known)  # type: ignore[operator]
    assert found.most[0].op is worst and 0 < found.fraction < 1
    assert f"{found.count:,} instructions" in summary.text(report) and f"{found.most[0].lost:+,}" in summary.text(
        report
    )
    text = page(report, handmade.memory(), handmade.comparison(), "<svg></svg>", [])
    assert (
        f"{found.count:,} instructions ({found.fraction:.0%}) are above the best known, most of them in {worst.name}"
        in text
    )
    bars = [
        (float(a), float(b))
        for a, b in re.findall(r'<i style="width:([\d.]+)%"></i><i style="width:([\d.]+)%"></i>', text)
    ]
    assert len(bars) == len(report.ops) and max(a + b for a, b in bars) == pytest.approx(100, abs=0.02)


def test_first_layers_have_a_rate_of_their_own() -> None:
    results = (TensorType("first", "int8", (1, 10, 10, 1), (0, 1, 2, 3)),)
    step = replace(handmade.memory().steps[0], kernel="quantized_convolution_dsp", macs=2_700, results=results)
    wide = replace(step, macs=6_400)
    assert best_known(step, "Cortex-M4F", "int8") == round(2_700 * 0.97) and best_known(
        wide, "Cortex-M4F", "int8"
    ) == round(6_400 * 0.79)
    assert best_known(step, "Cortex-M4F", "float32") == round(2_700 * 1.05), "none is known there"


def test_work_in_a_loop_counts_as_often_as_it_goes_round() -> None:
    steps = handmade.memory().steps
    times = (1, 1, 5, 0, 1, 1)
    figures = profile(steps, [100] * len(steps), "Cortex-M4F", "float32", executions=times)
    assert [op.macs for op in figures] == [step.macs * ran for step, ran in zip(steps, times, strict=True)]
    once = best_known(steps[2], "Cortex-M4F", "float32")
    assert once is not None and figures[2].best_known == pytest.approx(5 * once, abs=5)
    assert shares(figures)[2].per_mac == 100 / (5 * steps[2].macs) and shares(figures)[3].per_mac is None
    assert [op.macs for op in profile(steps, None, "Cortex-M4F", "float32")] == [step.macs for step in steps]


def test_images_for_size_stand_beside_those_for_speed(tmp_path: Path) -> None:
    speed = handmade.integer_report()
    small = replace(
        speed,
        optimize="size",
        count=50_000,
        flash=replace(speed.flash, kernels=speed.flash.kernels - 1_000, total=19_410),
    )
    reports = [benched(one) for one in (of("kws", speed), of("kws", small), of("ad", handmade.report(model="ad")))]
    pairs = {one.figure: one for one in bench.pairs(reports)}
    assert (pairs["count"].speed, pairs["count"].size) == (49_260, 50_000) and pairs["count"].change == pytest.approx(
        740 / 49_260
    )
    assert (pairs["code"].size, pairs["total"].size) == (19_410 - 7_944, 19_410)
    assert bench.asked(reports) == bench.asked(reports[:1]), "one image meets all that is asked: the default one"
    assert sum(row.ours for row in bench.rows(reports)) == 2
    assert "+1.5%" in bench.text(reports) and "| for speed | for size | change |" in bench.markdown(reports)
    assert "for size" not in bench.text([reports[0], reports[2]])


def test_what_stays_in_float_is_told_with_its_reason() -> None:
    made = handmade.integer_report()
    text = page(made, handmade.memory(), handmade.integer_comparison(), "<svg></svg>", [])
    shown = " ".join(summary.text(made).split())
    for word in ("features_3", "model.py:41", "no integer kernel for this mode"):
        assert word in text and word in shown
    assert "Nothing: every operator" in page(replace(made, in_float=()), handmade.memory(), None, "<svg></svg>", [])
    assert "What stays in float" not in page(handmade.report(), handmade.memory(), None, "<svg></svg>", [])
    assert "allowed 4 steps" in shown and "float PyTorch" in shown and "260 not calibrated with" in shown


def test_the_quantizer_s_own_reason_comes_first() -> None:
    entries = tuple(
        InFloat(handle, "softmax", "aten::_softmax.out", "model.py:7", "its operand is not quantised")
        for handle in (4, 5)
    )
    memory = replace(handmade.memory(), in_float=entries)
    assert [one.reason for one in in_float(memory, {5: "it reads a mask"})] == [
        "its operand is not quantised",
        "it reads a mask",
    ]


def test_operators_computed_again_are_summed_up() -> None:
    made = handmade.integer_report()
    page_of = partial(page, memory=handmade.memory(), comparison=None, picture="<svg></svg>", provenance=[])
    line = "5 of 5 operators agree with exact arithmetic on the board's own operands, integers within 0.4900 steps"
    assert f"{line}; 1 could not be computed again" in " ".join(summary.text(made).split())
    assert line in html.unescape(page_of(made)) and "exact arithmetic" not in page_of(handmade.report())
    pool, fc = (
        Replayed(3, "pool", Source("model.py", 7, ""), 100, 12, 1.5, True),
        Replayed(4, "fc", None, 9, 0, 0.5, True),
    )
    one_wrong = summed_up([pool, fc], (3, 4))
    wrong = replace(made, exact=one_wrong)
    for text in (" ".join(summary.text(wrong).split()), html.unescape(page_of(wrong))):
        assert (
            "1 of 2 operators agree" in text
            and "pool at model.py:7: 12 of 100 results are up to 1.5 steps from exact" in text
        )


def test_where_accuracy_goes_is_drawn() -> None:
    made = handmade.integer_report()
    assert [layer.name for layer in made.quality] == ["features_0", "depthwise", "softmax"], (
        "what only moves is left out"
    )
    assert (made.quality[0].least, made.quality[0].most) == (0.0, pytest.approx(12.75))
    first, second, last = layer_rows(made)
    assert (first.beyond, first.saturated, first.lost) == (True, "0.210%", "")
    assert (second.signal_text, second.lost, second.beyond) == ("24.2", "+7.2", False)
    assert second.range_width == pytest.approx(100 * 20 / 25.5) and second.reach_width == pytest.approx(100)
    assert (last.signal_text, last.signal) == ("exact", 100.0)
    text = page(made, handmade.memory(), handmade.integer_comparison(), "<svg></svg>", [])
    assert "Where accuracy goes" in text and "0.210%" in text
    assert "Where accuracy goes" not in page(handmade.report(), handmade.memory(), None, "<svg></svg>", [])
    assert json.loads(to_json(made))["quality"][2]["snr_db"] == "inf"
    assert "depthwise (model.py:42): 24.2 dB" in " ".join(summary.text(made).split())


def test_what_saturates_is_named() -> None:
    made = handmade.integer_report()
    first = made.quality[0]  # stored from 0 to 12.75
    assert saturation(made.quality) == "", "0.21 % is little"
    far = replace(first, saturated=0.2, high=15.0)
    assert saturation([replace(far, saturated=0.01)]) == ""
    assert saturation([replace(far, high=first.most + (first.most - first.least) / 255)]) == "", (
        "a sigmoid's 1 is one step beyond"
    )
    line = saturation([replace(far, saturated=0.03, name="state"), far])
    assert (
        line.startswith("int8 saturates: 20.0% of features_0 (model.py:40), which reaches")
        and "; 3.0% of state (" in line
    )
    assert saturation([far] * 6).endswith("; and of 2 more; calibration() should reach as far")


def test_two_builds_stand_side_by_side(tmp_path: Path) -> None:
    """Figures with what changed, operators by name; a folder or a file; no change between counts of different
    counters."""
    before, after = handmade.report(), handmade.integer_report()
    ops = (*(replace(op, count=(op.count or 0) // 2) for op in after.ops[:-1]), replace(after.ops[-1], name="head"))
    for name, report in (("before", before), ("after", replace(after, ops=ops, count=30_000))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(to_json(report))
    lines = [
        line.split() for line in str(compared(tmp_path / "before", tmp_path / "after" / "report.json")).splitlines()
    ]
    assert ["an", "inference", "49,260", "30,000", "-19,260", "(-39.1%)"] in lines
    assert ["flash,", "total", "20,410", "20,410"] in lines
    assert ["features_0", "12,310", "6,155", "-6,155", "(-50.0%)"] in lines
    assert [line[1] for line in lines if line[:1] == ["softmax"]] == ["911"] and ["head", "911"] in lines
    (tmp_path / "after" / "report.json").write_text(to_json(replace(after, counter="cycles (dwt)", count=30_000)))
    text = str(compared(tmp_path / "before", tmp_path / "after"))
    assert "before, instructions" in text and "after, cycles" in text
    assert [line.split() for line in text.splitlines() if line.startswith("an inference")] == [
        ["an", "inference", "49,260", "30,000"]
    ]
    with pytest.raises(ModelError, match="no such file"):
        compared(tmp_path, tmp_path)
