"""What the dashboards show: panels and their queries, in rows."""

from __future__ import annotations

from dataclasses import dataclass, field

GREEN, YELLOW, RED, BLUE, GREY = "green", "#EAB839", "red", "blue", "#808080"
VERDICTS = {"PASS": GREEN, "REJECT": RED, "FAULT": YELLOW}
STATES = {
    "RUNNING": GREEN, "STARTING": BLUE, "LEARNING": BLUE, "COLLECTING": BLUE, "DEGRADED": YELLOW,
    "FAILED": RED, "STOPPING": GREY,
}  # fmt: skip
PER_STATE = 'max by (state) (edge_ad_state{station="$station"}) == 1'
PARTS, REJECTED = "station:edge_ad_parts:rate5m", "station:edge_ad_reject_ratio:rate10m"
NOT_JUDGED, WITHIN = "station:edge_ad_fault_ratio:rate10m", "station:edge_ad_part_seconds:p99_5m"
FIRING = 'ALERTS{alertname=~"EdgeAd.*", alertstate="firing"}'
GREY_VALUE, SHARPNESS = ', statistic="grey"', ', statistic="focus"'
FAULTS, EXPECTED = ', verdict="FAULT"', ', kind="expected"'


@dataclass(frozen=True)
class Query:
    """`legend`: how a series is called, with {{label}}; `instant`: only the last value is asked for."""

    expr: str
    legend: str = "__auto"
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel. `width` of 24; `steps`: value from which a colour holds, green below; `colours`:
    by series."""

    title: str
    kind: str  # "stat", "lines", "bars" or "table"
    queries: tuple[Query, ...]
    unit: str = "short"
    text: str = ""
    width: int = 8
    height: int = 8
    steps: tuple[tuple[float, str], ...] = ()
    colours: dict[str, str] = field(default_factory=dict)
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)  # table: value -> title, unit
    stacked: bool = False
    named: bool = False  # stat: shows the series' name


def rate(name: str, by: str = "", more: str = "") -> str:
    """The rate of a counter of the chosen station, summed."""
    grouped = f" by ({by})" if by else ""
    return f'sum{grouped} (rate({name}{{station="$station"{more}}}[$__rate_interval]))'


def quantile(share: float, name: str, by: str = "") -> str:
    """A quantile of a histogram of the chosen station."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', labels)})"


def own(name: str, more: str = "") -> str:
    """A metric, or recorded series, of the chosen station."""
    return f'{name}{{station="$station"{more}}}'


LINE: list[tuple[str, list[Panel]]] = [
    (
        "Now",
        [
            Panel(
                "State",
                "stat",
                (Query(PER_STATE, "{{state}}", True),),
                width=4,
                height=4,
                colours=STATES,
                named=True,
                text="FAILED: every part is FAULT. LEARNING: there is no calibration.",
            ),
            Panel(
                "Parts per minute",
                "stat",
                (Query(f"60 * {own(PARTS)}"),),
                width=4,
                height=4,
            ),
            Panel(
                "Rejected, 10 min",
                "stat",
                (Query(own(REJECTED)),),
                "percentunit",
                width=4,
                height=4,
                text="Of the parts that could be judged.",
            ),
            Panel(
                "Not judged, 10 min",
                "stat",
                (Query(own(NOT_JUDGED)),),
                "percentunit",
                width=4,
                height=4,
                steps=((0.001, YELLOW), (0.01, RED)),
            ),
            Panel(
                "99 % are judged within",
                "stat",
                (Query(own(WITHIN)),),
                "s",
                width=4,
                height=4,
            ),
            Panel(
                "Alerts",
                "stat",
                (
                    Query(
                        'count(ALERTS{station="$station", alertstate="firing"}) or vector(0)', "", True
                    ),
                ),
                width=4,
                height=4,
                steps=((1, RED),),
            ),
        ],
    ),
    (
        "Verdicts",
        [
            Panel(
                "Verdicts per minute",
                "bars",
                (Query(f"60 * {rate('edge_ad_parts_total', 'verdict')}", "{{verdict}}"),),
                width=12,
                colours=VERDICTS,
                stacked=True,
            ),
            Panel(
                "Why not judged, per minute",
                "bars",
                (Query(f"60 * {rate('edge_ad_parts_total', 'reason', more=FAULTS)} > 0", "{{reason}}"),),
                width=12,
                stacked=True,
                text="FAULT by reason; the README says what each means.",
            ),
            Panel(
                "Score over threshold",
                "lines",
                (
                    Query(quantile(0.5, "edge_ad_score_ratio"), "half are below"),
                    Query(quantile(0.9, "edge_ad_score_ratio"), "90 %"),
                    Query(quantile(0.99, "edge_ad_score_ratio"), "99 %"),
                ),
                width=12,
                steps=((1, RED),),
                text="Above 1 is a reject. A median that wanders is light, focus or another material.",
            ),
            Panel(
                "Rejected, against the promise",
                "lines",
                (
                    Query(own(REJECTED), "rejected, 10 min"),
                    Query(
                        f"max({own('edge_ad_promised_false_reject_ratio', EXPECTED)})",
                        "good parts, as promised",
                    ),
                ),
                "percentunit",
                width=12,
                text="What is above the promise is bad parts, or a line that changed.",
            ),
        ],
    ),
    (
        "Time",
        [
            Panel(
                "Trigger to verdict",
                "lines",
                (
                    Query(quantile(0.5, "edge_ad_part_seconds"), "p50"),
                    Query(quantile(0.99, "edge_ad_part_seconds"), "p99"),
                    Query(f"max({own('edge_ad_deadline_seconds')})", "deadline"),
                ),
                "s",
                colours={"deadline": RED},
            ),
            Panel(
                "Where the time goes, mean",
                "lines",
                (
                    Query(
                        f"{rate('edge_ad_stage_seconds_sum', 'stage')}"
                        f" / {rate('edge_ad_stage_seconds_count', 'stage')}",
                        "{{stage}}",
                    ),
                ),
                "s",
                stacked=True,
            ),
            Panel(
                "Too late, per minute",
                "bars",
                (Query(f"60 * {rate('edge_ad_deadline_missed_total')}", "too late"),),
                colours={"too late": RED},
            ),
        ],
    ),
    (
        "Cameras",
        [
            Panel(
                "Frames per second",
                "lines",
                (Query(rate("edge_ad_frames_total", "camera"), "{{camera}}"),),
            ),
            Panel(
                "Frames that were not inspected, per minute",
                "bars",
                (
                    Query(
                        f"60 * {rate('edge_ad_frames_skipped_total', 'camera')}", "{{camera}} skipped"
                    ),
                    Query(f"60 * {rate('edge_ad_frames_lost_total', 'camera')}", "{{camera}} lost"),
                    Query(f"60 * {rate('edge_ad_frames_faulty_total', 'camera')}", "{{camera}} faulty"),
                    Query(
                        f"60 * {rate('edge_ad_frames_unmatched_total', 'camera')}",
                        "{{camera}} unmatched",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Since the last frame",
                "lines",
                (Query(own("edge_ad_camera_frame_age_seconds"), "{{camera}}"),),
                "s",
            ),
        ],
    ),
    (
        "What the pictures look like",
        [
            Panel(
                "Drift",
                "lines",
                (Query(own("edge_ad_drift_ratio"), "{{camera}} {{statistic}}"),),
                width=12,
                steps=((1, RED),),
                text="Against the calibration's good parts; 1 is an alarm.",
            ),
            Panel(
                "Grey value",
                "lines",
                (Query(own("edge_ad_picture", GREY_VALUE), "{{camera}}"),),
                width=6,
                text="Of the reference patch, 0 to 255.",
            ),
            Panel(
                "Sharpness",
                "lines",
                (Query(own("edge_ad_picture", SHARPNESS), "{{camera}}"),),
                width=6,
            ),
        ],
    ),
    (
        "Whether the line sees what it should",
        [
            Panel(
                "Not passed in a row",
                "lines",
                (Query(own("edge_ad_rejects_in_row"), "parts"),),
                text="Another product, light or place?",
            ),
            Panel(
                "Known parts",
                "lines",
                (
                    Query(own("edge_ad_challenge_due"), "a round is due"),
                    Query(f"{own('edge_ad_challenge_override_seconds')} / 3600", "override, hours"),
                ),
                colours={"a round is due": RED},
                text="'edge-ad challenge' shows that bad parts are rejected.",
            ),
            Panel(
                "A candidate beside the bundle in use, parts per minute",
                "bars",
                (Query(f"60 * {rate('edge_ad_shadow_parts_total', 'result')}", "{{result}}"),),
                stacked=True,
                colours={"agree": GREEN, "would_reject": RED, "would_pass": YELLOW},
            ),
        ],
    ),
    (
        "Delivery",
        [
            Panel(
                "Not acknowledged",
                "lines",
                (Query(own("edge_ad_outbox_depth"), "{{consumer}}"),),
                width=6,
            ),
            Panel(
                "Oldest that is not acknowledged",
                "lines",
                (Query(own("edge_ad_outbox_oldest_seconds"), "{{consumer}}"),),
                "s",
                width=6,
            ),
            Panel(
                "Commit, p99",
                "lines",
                (
                    Query(
                        quantile(0.99, "edge_ad_verdict_commit_seconds", "durability"), "{{durability}}"
                    ),
                ),
                "s",
                width=6,
                text="full: with an fsync, for REJECT and FAULT.",
            ),
            Panel(
                "The gate, per minute",
                "bars",
                (
                    Query(
                        f"60 * {rate('edge_ad_station_actions_total', 'action, why')} > 0",
                        "{{action}} {{why}}",
                    ),
                ),
                width=6,
                stacked=True,
                text="What the station at the gate did, and why.",
            ),
        ],
    ),
    (
        "PC",
        [
            Panel(
                "Memory",
                "lines",
                (Query(own("process_resident_memory_bytes"), "{{job}}"),),
                "bytes",
                width=6,
            ),
            Panel(
                "Processor, cores",
                "lines",
                (Query(rate("process_cpu_seconds_total", "job"), "{{job}}"),),
                width=6,
            ),
            Panel(
                "Disk that is free",
                "lines",
                (
                    Query(
                        f"{own('edge_ad_disk_free_bytes')} / {own('edge_ad_disk_size_bytes')}", "state"
                    ),
                ),
                "percentunit",
                width=6,
            ),
            Panel(
                "Evidence",
                "lines",
                (
                    Query(own("edge_ad_evidence_bytes"), "{{kind}}"),
                    Query(own("edge_ad_score_log_bytes"), "scores"),
                ),
                "bytes",
                width=6,
            ),
        ],
    ),
]

FLEET: list[tuple[str, list[Panel]]] = [
    (
        "Lines",
        [
            Panel(
                "Daemons that answer",
                "stat",
                (Query('sum(up{job="edge_ad"})', "", True),),
                width=6,
                height=4,
            ),
            Panel(
                "Daemons that do not",
                "stat",
                (Query('count(up{job="edge_ad"} == 0) or vector(0)', "", True),),
                width=6,
                height=4,
                steps=((1, RED),),
            ),
            Panel(
                "Parts per minute, all lines", "stat", (Query(f"60 * sum({PARTS})"),), width=6, height=4
            ),
            Panel(
                "Alerts",
                "stat",
                (Query(f"count({FIRING}) or vector(0)", "", True),),
                width=6,
                height=4,
                steps=((1, RED),),
            ),
            Panel(
                "Stations",
                "table",
                (
                    Query('max by (station) (up{job="edge_ad"})', "A", True),
                    Query(f"60 * {PARTS}", "B", True),
                    Query(REJECTED, "C", True),
                    Query(NOT_JUDGED, "D", True),
                    Query(WITHIN, "E", True),
                    Query(f"count by (station) ({FIRING})", "F", True),
                ),
                width=24,
                height=10,
                columns={
                    "A": ("answers", "bool_yes_no"),
                    "B": ("parts / min", "short"),
                    "C": ("rejected", "percentunit"),
                    "D": ("not judged", "percentunit"),
                    "E": ("99 % within", "s"),
                    "F": ("alerts", "short"),
                },
            ),
        ],
    ),
    (
        "Over time",
        [
            Panel(
                "Rejected, 10 min", "lines", (Query(REJECTED, "{{station}}"),), "percentunit", width=12
            ),
            Panel(
                "Not judged, 10 min",
                "lines",
                (Query(NOT_JUDGED, "{{station}}"),),
                "percentunit",
                width=12,
            ),
            Panel("Trigger to verdict, p99", "lines", (Query(WITHIN, "{{station}}"),), "s", width=12),
            Panel("Parts per minute", "lines", (Query(f"60 * {PARTS}", "{{station}}"),), width=12),
        ],
    ),
]
