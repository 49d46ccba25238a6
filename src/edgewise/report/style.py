"""How the page looks: one style sheet for screen (light and dark), paper and a narrow window."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbf9; --card: #ffffff; --ink: #1d2129; --soft: #5c6470; --faint: #6d7480; --hair: #e4e5e1;
  --parameter: #5b7fa6; --input: #4fa39b; --other: #a9adb5; --activation: #e0a03c; --gradient: #b06aa8;
  --loop: #86a33f; --streaming: #6d8a2c;
  --budget: #c8372d; --measured: #15181d; --ghost: #8a919c; --ground: #8a919c14;
  --compute: #7d8ca3; --recompute: #d9822b; --paging: #3c8f89; --idle: #c3c7ce; --warn: #a2331f; --good:
  #23744f;
  --block-ink: #14171c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #15171b; --card: #1c1f24; --ink: #e7e9ec; --soft: #a6adb8; --faint: #949ba6; --hair: #30343b;
    --parameter: #6f96c2; --input: #55b0a7; --other: #7c828c; --activation: #d99a37; --gradient: #bd78b5;
    --loop: #9dba55; --streaming: #93b04d;
    --budget: #ff6a5c; --measured: #ffffff; --ghost: #9aa1ac; --ground: #9aa1ac14;
    --compute: #8496b0; --recompute: #e2913d; --paging: #4aa9a2; --idle: #565c66; --warn: #ff8f78; --good:
    #6cc79c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 56px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 2px; letter-spacing: -.005em; }
h3 { font-size: 14px; margin: 18px 0 6px; }
p { margin: 0 0 10px; max-width: 96ch; }
.verdict { font-size: 17px; margin: 10px 0 4px; max-width: 76ch; overflow-wrap: anywhere; }
header .about { margin-bottom: 22px; }
.about, .note { color: var(--soft); }
.note { font-size: 13px; margin: 8px 0 0; }
.warn { color: var(--warn); }
section { background: var(--card); border: 1px solid var(--hair); border-radius: 10px; padding: 20px 22px
  18px;
  margin-top: 20px; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; }
.tile { background: var(--card); border: 1px solid var(--hair); border-radius: 10px; padding: 13px 16px 12px;
  margin: 0; flex: 1 1 226px; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 0; }
.tile .big { font-size: 25px; line-height: 1.25; letter-spacing: -.015em; font-variant-numeric:
  tabular-nums; }
.tile .small { color: var(--soft); font-size: 13px; overflow-wrap: anywhere; }
.peaks { display: grid; grid-template-columns: auto 1fr; gap: 0 12px; font-variant-numeric: tabular-nums;
  margin-top: 2px; justify-content: start; }
.peaks b { font-weight: 600; text-align: right; }
.peaks span { color: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; list-style: none; padding: 0; margin: 8px 0 6px;
  font-size: 13px; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 7px; }
.swatch { width: 13px; height: 13px; border-radius: 3px; display: inline-block; }
.swatch.stroke { height: 0; width: 20px; border-radius: 0; border-top: 2px solid; }
.fill.parameter { background: var(--parameter); } .fill.input { background: var(--input); }
.fill.other { background: var(--other); } .fill.activation { background: var(--activation); }
.fill.gradient { background: var(--gradient); } .fill.compute { background: var(--compute); }
.fill.recompute { background: var(--recompute); } .fill.paging { background: var(--paging); }
.fill.idle { background: var(--idle); } .fill.loop { background: var(--loop); }
.fill.streaming { background: var(--streaming); }
.stroke.measured { border-color: var(--measured); } .stroke.budget { border-color: var(--budget); }
.stroke.ghost { border-color: var(--ghost); border-top-style: dashed; }
.stroke.raw { border-color: var(--faint); } .stroke.smooth { border-color: var(--parameter); }
.chart { display: flex; position: relative; }
.gutter { flex: none; } .stage { position: relative; flex: 1; min-width: 0; }
svg { display: block; overflow: visible; }
.drawing { overflow: hidden; } .drawing path { vector-effect: non-scaling-stroke; fill: none; }
text { font-size: 12px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.phase, .row { font-size: 12px; }
.name { font-weight: 600; paint-order: stroke; stroke: var(--card); stroke-width: 3.5px; stroke-linejoin:
  round; }
.ghost-name { fill: var(--soft); } .budget-name { fill: var(--budget); }
.block-name { font-size: 11px; fill: var(--block-ink); }
.grid { stroke: var(--hair); } .rail { stroke: var(--hair); } .boundary { stroke: var(--faint); }
.drawing path.ground { fill: var(--ground); }
.ghost { stroke: var(--ghost); stroke-width: 1.5; stroke-dasharray: 5 4; }
.measured { stroke: var(--measured); stroke-width: 1.4; }
.budget { stroke: var(--budget); stroke-width: 1.8; }
.drawing .area.parameter, .drawing .block.parameter, .tab.parameter { fill: var(--parameter); }
.drawing .area.input, .drawing .block.input { fill: var(--input); }
.drawing .area.other, .drawing .block.other { fill: var(--other); }
.drawing .area.activation, .drawing .block.activation { fill: var(--activation); }
.drawing .area.gradient, .drawing .block.gradient { fill: var(--gradient); }
.drawing .area.loop, .drawing .part.loop, .drawing .block.loop { fill: var(--loop); }
.drawing .part.streaming { fill: var(--streaming); }
.area { opacity: .85; } .drawing .block { stroke: var(--card); stroke-width: 1; opacity: .9; }
.drawing .block.loop { stroke: var(--loop); }
.drawing .part.compute { fill: var(--compute); } .drawing .part.recompute { fill: var(--recompute); }
.drawing .part.paging { fill: var(--paging); } .drawing .part.idle { fill: var(--idle); }
.drawing .part.parameter { fill: var(--parameter); } .drawing .part.input { fill: var(--input); }
.drawing .part.other { fill: var(--other); } .drawing .part.activation { fill: var(--activation); }
.drawing .part.gradient { fill: var(--gradient); } .drawing .part.budget { stroke: var(--budget);
  stroke-width: 2; }
.mark { stroke-width: 1.6; } .mark.recompute { stroke: var(--recompute); }
.mark.page_out { stroke: var(--paging); } .mark.page_in { stroke: var(--paging); }
.mark.update { stroke: var(--parameter); } .mark.loop { stroke: var(--streaming); }
.series { stroke-width: 2; stroke-linejoin: round; } .dashed { stroke-dasharray: 5 4; }
.swatch.dashed { border-top-style: dashed; }
.series.s0 { stroke: #2f6fb0; } .swatch.s0 { border-color: #2f6fb0; }
.series.s1 { stroke: #d9822b; } .swatch.s1 { border-color: #d9822b; }
.series.s2 { stroke: #3c8f5a; } .swatch.s2 { border-color: #3c8f5a; }
.series.s3 { stroke: #b5477c; } .swatch.s3 { border-color: #b5477c; }
.series.s4 { stroke: #8a67c4; } .swatch.s4 { border-color: #8a67c4; }
.series.s5 { stroke: #b09a2b; } .swatch.s5 { border-color: #b09a2b; }
.series.s6 { stroke: #37a0a8; } .swatch.s6 { border-color: #37a0a8; }
.series.s7 { stroke: #a0624a; } .swatch.s7 { border-color: #a0624a; }
.raw { stroke: var(--faint); opacity: .7; } .smooth { stroke: var(--parameter); stroke-width: 2.2; }
.dot { fill: var(--card); stroke: var(--parameter); stroke-width: 2; }
.knee { fill: var(--budget); stroke: var(--card); stroke-width: 2; }
.bar { display: grid; grid-template-columns: 112px 1fr 168px; gap: 14px; align-items: center; margin: 5px 0; }
.bar-label { text-align: right; font-size: 13px; color: var(--soft); }
.bar-amount { font-variant-numeric: tabular-nums; font-size: 14px; white-space: nowrap; }
.bars .note { margin-left: 126px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 10px 36px; }
.pair > div { min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 6px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12.5px; vertical-align: bottom;
  white-space: nowrap; }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--hair); }
td { vertical-align: top; } th:last-child, td:last-child { padding-right: 0; }
tr:last-child > * { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; } .span, .path { white-space: nowrap; }
.long { overflow-wrap: anywhere; min-width: 13ch; } .under { color: var(--faint); font-size: 12.5px; }
.badge { border-radius: 999px; padding: 0 9px; font-size: 12px; white-space: nowrap; display: inline-block;
  border: 1px solid; }
.badge.recomputed { border-color: var(--recompute); } .badge.paged { border-color: var(--paging); }
.badge.streamed { border-color: var(--streaming); }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 12.5px; }
pre { background: var(--page); border: 1px solid var(--hair); border-radius: 8px; padding: 12px 14px;
  margin: 8px 0 0;
  overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--soft); font-size: 13.5px; }
footer { color: var(--faint); font-size: 12.5px; margin-top: 24px; }
.cursor { position: absolute; width: 1px; background: var(--soft); display: none; pointer-events: none; }
.tip { position: fixed; z-index: 2; max-width: 380px; display: none; pointer-events: none; white-space:
  pre-wrap;
  background: var(--ink); color: var(--page); border-radius: 7px; padding: 7px 11px; font-size: 12.5px;
  line-height: 1.45; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding: 22px 12px 40px; } section { padding: 16px 14px; }
  .pair { grid-template-columns: 1fr; }
  .bar { grid-template-columns: 84px 1fr; } .bar-amount { grid-column: 2; } .bars .note { margin-left: 0; }
}
@media print {
  :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --soft: #333; --faint: #555;
  --hair: #ccc;
    --parameter: #5b7fa6; --input: #4fa39b; --other: #a9adb5; --activation: #e0a03c; --gradient: #b06aa8;
    --loop: #86a33f; --streaming: #6d8a2c;
    --budget: #c8372d; --measured: #000; --ghost: #666; --block-ink: #000;
    --compute: #7d8ca3; --recompute: #d9822b; --paging: #3c8f89; --idle: #c3c7ce; --warn: #a2331f;
    --ground: #8a919c14; }
  main { max-width: none; padding: 0; } section, .tile { border-color: #ccc; }
  .chart, .tile, tr, .bars { break-inside: avoid; } h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
