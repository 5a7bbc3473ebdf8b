// Distributions as columns of cells, and the time of a step as stacked areas.
function distribution({ run, title, x, edges, shares, means }) {
  const parts = frame(title, run, spanOf(x), [edges[0], edges[edges.length - 1]], `${title}, ${run}`);
  const width = (WIDTH - LEFT - RIGHT) / Math.max(x.length, 1);
  const peak = Math.max(...shares.flat());
  x.forEach((step, column) => {
    shares[column].forEach((share, bin) => {
      if (share === 0) return;
      const top = parts.up(edges[bin + 1]);
      parts.svg.append(svgElement("rect", {
        class: "cell", x: (parts.across(step) - width / 2).toFixed(1), width: (width + 0.4).toFixed(1), y: top.toFixed(1),
        height: (parts.up(edges[bin]) - top).toFixed(1), "fill-opacity": (0.08 + 0.92 * (share / peak)).toFixed(3),
      }));
    });
  });
  parts.svg.append(svgElement("path", { class: "mean", d: path(x, means, parts.across, parts.up) }));
  return finish(parts, x, 2, (step) => {
    const column = nearest(x, step);
    const most = shares[column].indexOf(Math.max(...shares[column]));
    const bin = `${number(edges[most])} to ${number(edges[most + 1])}`;
    return [["", "mean", number(means[column])], ["", `most, ${number(100 * shares[column][most])}%:`, bin]];
  });
}

// Columns have a width, so the axis begins and ends half a column outside.
function spanOf(x) {
  const [low, high] = extent(x), half = x.length > 1 ? (high - low) / (x.length - 1) / 2 : 0.5;
  return [low - half, high + half];
}

function stackedTime({ run, names, colors, x, last, y }) {
  const ends = x.map((_, column) => (column + 1 < x.length ? x[column + 1] : last + 1));
  const totals = x.map((_, column) => y.reduce((sum, row) => sum + row[column], 0));
  const parts = frame("Seconds of a step by phase", run, [x[0], last + 1], [0, Math.max(...totals) * 1.04], `Time of ${run}`);
  const floor = x.map(() => 0);
  y.forEach((row, phase) => {
    const across = x.flatMap((step, column) => [step, ends[column]]);
    const low = floor.flatMap((value) => [value, value]);
    row.forEach((seconds, column) => { floor[column] += seconds; });
    const high = floor.flatMap((value) => [value, value]);
    parts.svg.append(svgElement("path", { class: `area p${colors[phase]}`, d: bandPath(across, low, high, parts.across, parts.up) },
      svgElement("title", {}, names[phase])));
  });
  return finish(parts, x, names.length, (step) => {
    const column = nearest(x, step);
    return [["", "all", `${number(totals[column])} s`], ...names.map((name, phase) => [`p${colors[phase]}`, name, number(y[phase][column])])];
  });
}
