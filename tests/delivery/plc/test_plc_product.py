"""The bridge's questions to the daemon about its product."""

from __future__ import annotations

from pathlib import Path

from plc_program import until

from edge_ad.delivery.control import ControlServer
from edge_ad.delivery.plc.product import Making, ProductDesk, Unable


def test_a_program_that_makes_no_product_ends_nothing(tmp_path: Path) -> None:
    answer = {"state": "RUNNING"}
    asked: list[str] = []

    def handle(command: str, args: object) -> dict[str, str]:
        asked.append(command)
        return answer

    server = ControlServer(f"ipc://{tmp_path}/c", handle)
    server.start()
    desk = ProductDesk(server.endpoint)
    desk.start()
    until(lambda: "status" in asked)
    answer["product"] = "plate"
    news: list[Making | Unable] = []
    until(lambda: bool(news.extend(desk.news()) or Making("plate") in news))
    desk.close()
    server.close()
