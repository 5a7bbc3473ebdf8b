// Distributions as columns of cells, and the time of a step as stacked areas.
function distribution({ run, title, x, edges, shares, means }) {
  const bounds = boundsOf(x);
  const parts = frame(title, run, [bounds[0], bounds[x.length]], [edges[0], edges[edges.length - 1]], `${title}, ${run}`);
  const peak = Math.max(...shares.flat());
  x.forEach((step, column) => {
    const left = parts.across(bounds[column]);
    shares[column].forEach((share, bin) => {
      if (share === 0) return;
      const top = parts.up(edges[bin + 1]);
      parts.svg.append(svgElement("rect", {
        class: "cell", x: left.toFixed(1), width: (parts.across(bounds[column + 1]) - left).toFixed(1), y: top.toFixed(1),
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

// Columns meet halfway between their steps, which are not evenly spaced; the first and the last are symmetric.
function boundsOf(x) {
  if (x.length === 1) return [x[0] - 0.5, x[0] + 0.5];
  const inner = x.slice(1).map((step, i) => (x[i] + step) / 2), end = x.length - 1;
  return [2 * x[0] - inner[0], ...inner, 2 * x[end] - inner[end - 1]];
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
