for (const place of document.querySelectorAll("[data-charts]")) {
  place.append(...data[place.dataset.charts].map(lineChart));
}
for (const place of document.querySelectorAll("[data-pictures]")) {
  const draw = { histograms: distribution, time: stackedTime }[place.dataset.pictures];
  place.append(...data[place.dataset.pictures].map(draw));
}
steps = [...new Set(steps)].sort((a, b) => a - b);
if (data.answers.length) {
  const [controls, count, groups] = ["answer-controls", "answer-count", "answer-groups"].map((id) => document.getElementById(id));
  answerBrowser(data.answers, controls, count, groups);
}
for (const input of document.querySelectorAll("[data-filter]")) {
  const rows = document.querySelectorAll(`#${input.dataset.filter} tbody tr`);
  input.addEventListener("input", () => {
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(input.value.toLowerCase());
  });
}
