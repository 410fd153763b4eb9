#!/usr/bin/env python3
"""Draws the roofline of matmul_bench's results as SVG: what reading weights and multiplying int8 allow, and
where each format is with 1, 2, 4 … rows of X.

  bench/roofline.py RESULTS.json... [--shape 4096x4096] [--threads 1] [--isa avx512vnni] [--layout packed]
      [--formats "Q2_K Q4_K Q6_K Q8_0"] [--peer NAME] > roofline.svg

x: products per byte of weights, which is rows of X / bytes a weight; y: operations a second (2 a product).
Left of the corner a product waits for memory, right of it for the multiplier. --peer adds the best of that
peer's layouts, dashed.
"""
import argparse
import math
from collections import defaultdict
from xml.sax.saxutils import escape

from table import ORDER, is_peer, load, median_of

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 520, 76, 150, 64, 66
# Okabe and Ito's colours, which differ for colour-blind readers too; the last ones are repeated lighter.
COLOURS = ["#d55e00", "#e69f00", "#009e73", "#0072b2", "#56b4e9", "#cc79a7", "#8c6d31", "#7b8a2e", "#5e3c99", "#999999"]
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .label { font-size: 12px } .title { font-size: 17px; font-weight: 600 } .axis { fill: #57606a }
  .grid { stroke: #d0d7de; stroke-width: 1 } .paper { fill: #ffffff }
  .limit { stroke: #24292f; stroke-width: 2; fill: none } .share { stroke: #57606a; stroke-width: 1; stroke-dasharray: 2 4; fill: none }
  .curve { stroke-width: 2; fill: none } .peer { stroke-dasharray: 6 4; stroke-width: 1.5; stroke-opacity: .8 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .axis { fill: #9198a1 } .grid { stroke: #30363d } .paper { fill: #0d1117 }
    .limit { stroke: #e6edf3 } .share { stroke: #9198a1 }
  }"""


def powers_of_two(low, high):
    return [2.0**e for e in range(math.floor(math.log2(low)), math.ceil(math.log2(high)) + 1)]


def curves(records, formats):
    """format -> [(products a byte, GOP/s, M)] of the fastest record for each M."""
    best = {}
    for r in records:
        key = r["format"], r["m"]
        if r["format"] in formats and (key not in best or r["ops"] > best[key]["ops"]):
            best[key] = r
    points = defaultdict(list)
    for (fmt, m), r in sorted(best.items(), key=lambda b: b[0][1]):
        # Both rates are of the same seconds: their ratio is operations a byte.
        points[fmt].append((r["ops"] / r["weights"] / 2, r["ops"] / 1e9, m))
    return {fmt: points[fmt] for fmt in ORDER if fmt in points}


def draw(own, peer, peer_name, read, peak, title):
    everything = [p for curve in (*own.values(), *peer.values()) for p in curve]
    corner = peak / (2 * read)
    xs = powers_of_two(min(x for x, _, _ in everything), max(*(x for x, _, _ in everything), 2 * corner))
    ys = powers_of_two(min(y for _, y, _ in everything), peak)
    x_at = lambda x: LEFT + (WIDTH - LEFT - RIGHT) * math.log(x / xs[0]) / math.log(xs[-1] / xs[0])  # noqa: E731
    y_at = lambda y: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * math.log(y / ys[0]) / math.log(ys[-1] / ys[0])  # noqa: E731
    path = lambda points: "M" + " L".join(f"{x_at(x):.1f} {y_at(y):.1f}" for x, y in points)  # noqa: E731
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
           f"<style>{STYLE}\n</style>", f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="8"/>']
    say = lambda x, y, text, cls="axis", anchor="middle", extra="": out.append(  # noqa: E731
        f'<text x="{x:.1f}" y="{y:.1f}" class="{cls}" text-anchor="{anchor}"{extra}>{escape(text)}</text>')
    line = lambda points, cls, extra="": out.append(f'<path d="{path(points)}" class="{cls}"{extra}/>')  # noqa: E731
    say(LEFT, 28, title, "title", "start")
    say(LEFT, 50, "operations a second, 10⁹ (2 a product)", "axis", "start")
    for y in ys:
        line([(xs[0], y), (xs[-1], y)], "grid")
        say(LEFT - 8, y_at(y) + 4, f"{y:g}", anchor="end")
    for x in xs:
        line([(x, ys[0]), (x, ys[-1])], "grid")
        say(x_at(x), HEIGHT - BOTTOM + 20, f"{x:g}")
    say((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 44, "products per byte of weights (rows of X / bytes a weight)")
    start = max(xs[0], ys[0] / (2 * read))
    for part, cls in ((1.0, "limit"), (0.5, "share")):
        first = max(start, ys[0] / (2 * read * part))
        line([(first, 2 * read * part * first), (corner, part * peak), (xs[-1], part * peak)], cls)
    at = math.sqrt(start * corner)
    angle = math.degrees(math.atan2(y_at(2 * read * corner) - y_at(2 * read * start), x_at(corner) - x_at(start)))
    say(x_at(at), y_at(2 * read * at) - 8, f"read: {read:.1f} GB/s", "label", extra=f' transform="rotate({angle:.1f} {x_at(at):.1f} {y_at(2 * read * at) - 8:.1f})"')
    say(x_at(xs[-1]) - 6, y_at(peak) - 6, f"multiply: {peak:.0f} GOP/s", "label", "end")
    say(x_at(xs[-1]) - 6, y_at(peak / 2) - 6, "half of either", "label", "end")
    for i, fmt in enumerate(own):
        colour = f' stroke="{COLOURS[i % len(COLOURS)]}"'
        if fmt in peer:
            line([p[:2] for p in peer[fmt]], "curve peer", colour)
        line([p[:2] for p in own[fmt]], "curve", colour)
        for x, y, m in own[fmt]:
            out.append(f'<circle cx="{x_at(x):.1f}" cy="{y_at(y):.1f}" r="3.5" fill="{COLOURS[i % len(COLOURS)]}">'
                       f"<title>{fmt}, {m} rows of X: {y:.0f} GOP/s</title></circle>")
        height = TOP + 24 + 22 * i
        out.append(f'<path d="M{WIDTH - RIGHT + 20} {height - 4} h24" class="curve"{colour}/>')
        say(WIDTH - RIGHT + 52, height, fmt, "label", "start")
    if peer:
        height = TOP + 24 + 22 * len(own)
        out.append(f'<path d="M{WIDTH - RIGHT + 20} {height - 4} h24" class="curve peer" stroke="#8b949e"/>')
        say(WIDTH - RIGHT + 52, height, peer_name, "label", "start")
    return "\n".join([*out, "</svg>"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+")
    parser.add_argument("--shape", default="4096x4096")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--isa", default="avx512vnni")
    parser.add_argument("--layout", default="packed")
    parser.add_argument("--formats", default=" ".join(ORDER[:10]))
    parser.add_argument("--peer")
    args = parser.parse_args()
    records = [r for r in load(args.results) if r["shape"] == args.shape and r["threads"] == args.threads]
    own = [r for r in records if r["by"] == args.isa and r["layout"] == args.layout]
    if not own:
        parser.error(f"no results of {args.isa}/{args.layout}, {args.shape}, {args.threads} threads in these files")
    if not own[0]["multiply_limit"]:
        parser.error(f"no multiply/{args.isa} in these files: what is measured with the products is the roof")
    formats = args.formats.split()
    title = f"{args.shape.replace('x', ' x ')} weights, {args.isa}, {args.threads} thread" + "s" * (args.threads > 1)
    print(draw(curves(own, formats), curves([r for r in records if is_peer(r) and r["by"] == f"peer:{args.peer}"], formats),
               args.peer, median_of(own, "read_limit") / 1e9, median_of(own, "multiply_limit") / 1e9, title))


if __name__ == "__main__":
    main()
