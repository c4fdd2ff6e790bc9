"""The report's style sheet: light, printable, system fonts only."""

from __future__ import annotations

CSS = """
:root { --ink: #1b2733; --soft: #5d6b79; --line: #dde3e9; --paper: #fff; --blue: #2f6fae; --red: #c2452d;
  --amber: #9a6700; }
* { box-sizing: border-box; }
body { margin: 0; background: #f3f5f7; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1020px; margin: 28px auto; padding: 36px 44px 44px; background: var(--paper);
  border: 1px solid var(--line); border-radius: 6px; }
h1 { margin: 0 0 18px; font-size: 30px; line-height: 1.2; font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 36px 0 10px; font-size: 18px; font-weight: 650; }
h3 { margin: 18px 0 6px; font-size: 15px; font-weight: 650; }
p { margin: 6px 0; } code { font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .9em; background: #eef1f4; padding: 1px 5px; border-radius: 3px; }
.kicker { margin: 0 0 4px; color: var(--soft); font-size: 13px; }
header dl { display: flex; flex-wrap: wrap; gap: 8px 36px; margin: 0; padding: 14px 0;
  border-top: 1px solid var(--line); border-bottom: 1px solid var(--line); }
dt { color: var(--soft); font-size: 12px; } dd { margin: 0; font-weight: 550; }
.cards { display: grid; grid-template-columns: repeat(5, 1fr); gap: 12px; margin: 22px 0 10px; }
.card { border: 1px solid var(--line); border-top: 3px solid var(--blue); border-radius: 4px;
  padding: 10px 12px; }
.card.warn { border-top-color: #d9a400; }
.card .name { margin: 0; color: var(--soft); font-size: 12px; line-height: 1.35; min-height: 2.7em; }
.card .value { margin: 2px 0; font-size: 22px; line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.card .hint { margin: 0; color: var(--soft); font-size: 12px; line-height: 1.35; }
.promise { color: var(--ink); }
.warning { border-left: 3px solid #d9a400; padding: 2px 0 2px 10px; overflow-wrap: anywhere; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: 13px; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; fill: var(--soft); font-size: 12px; }
svg .grid { stroke: #e9edf1; } svg .axis { stroke: #9aa7b3; }
svg .pass { fill: var(--blue); } svg .reject { fill: var(--red); }
svg .limit { stroke: var(--red); stroke-width: 1.5; stroke-dasharray: 5 3; }
svg .limit-text { fill: var(--red); font-weight: 600; font-size: 13px; }
svg .line { fill: none; stroke: var(--blue); stroke-width: 2; stroke-linejoin: round; }
svg .line.rest { stroke: var(--red); } svg .point { fill: var(--red); stroke: #fff; stroke-width: 1.5; }
svg .mark { stroke: #9aa7b3; stroke-dasharray: 3 3; }
.key { font-weight: 600; color: var(--blue); } .key.rest { color: var(--red); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--soft); font-size: 12px; font-weight: 550; }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; } .n { text-align: right; font-variant-numeric: tabular-nums; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 40px; align-items: start; }
.identity thead { display: none; } .identity td:first-child { width: 190px; color: var(--soft); }
.identity tr:first-child td { border-top: 1px solid var(--line); }
.parts { display: grid; grid-template-columns: repeat(4, 1fr); gap: 14px; margin-top: 14px; }
.part { border: 1px solid var(--line); border-radius: 4px; overflow: hidden; break-inside: avoid; }
.part .frame { height: 170px; background: #20262c; display: flex; align-items: center;
  justify-content: center; }
.part img { max-width: 100%; max-height: 100%; display: block; }
.part figcaption { display: flex; flex-wrap: wrap; justify-content: space-between; padding: 7px 9px;
  font-variant-numeric: tabular-nums; }
.part b { color: var(--ink); font-weight: 600; }
.part em { flex-basis: 100%; font-style: normal; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis; font-size: 12px; }
.parts.misses { grid-template-columns: repeat(3, 1fr); }
.parts.pairs { grid-template-columns: repeat(2, 1fr); } .pairs .frame { height: 200px; }
.parts.sheet { grid-template-columns: repeat(3, 1fr); } .sheet .frame { gap: 4px; padding: 4px; }
.sheet img:not(:only-child) { max-width: calc(50% - 2px); object-fit: contain; }
.part.above { border-color: var(--red); } .part.above span { color: var(--red); font-weight: 600; }
@media (max-width: 760px) { main { margin: 0; padding: 20px; border: 0; }
  .cards, .parts, .parts.misses, .parts.sheet { grid-template-columns: repeat(2, 1fr); }
  .two { grid-template-columns: 1fr; gap: 12px; } }
@media print { body { background: #fff; font-size: 12px; } main { margin: 0; padding: 0; border: 0;
  max-width: none; } table, svg { break-inside: avoid; } h2 { break-after: avoid; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
"""
