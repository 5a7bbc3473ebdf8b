// Groups of answers side by side, with a choice of run, step, kind, filter and coloring.
const AT_ONCE = 12;
const KINDS = ["all", "right", "wrong", "truncated", "error"];
const COLORINGS = { none: "nothing", advantages: "advantage", gap: "engine − trainer log-prob" };

function choice(label, options, changed) {
  const select = element("select", {}, ...options.map(([value, text]) => element("option", { value }, text)));
  select.addEventListener("change", () => changed());
  return { label: element("label", {}, label, select), select };
}

function answerBrowser(sets, controls, count, place) {
  const set = choice("Answers", sets.map((each, i) => [i, `${each.kind}: ${each.run}`]), () => { steps(); draw(); });
  const filter = choice("Show", KINDS.map((kind) => [kind, kind]), draw);
  const coloring = choice("Color tokens by", Object.entries(COLORINGS), draw);
  const slider = element("input", { type: "range", min: 0, step: 1 });
  const caption = element("span");
  slider.addEventListener("input", draw);
  controls.append(set.label, element("label", {}, caption, slider), filter.label, coloring.label);

  function steps() {
    slider.max = sets[set.select.value].steps.length - 1;
    slider.value = slider.max;
  }

  function draw() {
    const chosen = sets[set.select.value], at = chosen.steps[slider.value];
    const hasTokens = at.groups.some((group) => group.answers.some((answer) => answer.rows));
    coloring.label.hidden = !hasTokens;
    caption.textContent = `Step ${at.step} (${Number(slider.value) + 1} of ${chosen.steps.length})`;
    slider.setAttribute("aria-label", "Step");
    slider.setAttribute("aria-valuetext", `step ${at.step}`);
    const by = hasTokens ? coloring.select.value : "none", kind = filter.select.value;
    const limit = by === "none" ? null : largest(at, by);
    const groups = at.groups.filter((group) => matching(group, kind).length);
    place.className = groups.every((group) => group.answers.length === 1) ? "single" : "";
    place.replaceChildren();
    showMore(groups, place, (group) => answerGroup(group, matching(group, kind), chosen.unit, by, limit));
    count.replaceChildren(...summary(at, groups.length, kind), ...(limit === null ? [] : legend(limit)));
  }

  steps();
  draw();
}

function matching(group, kind) {
  return group.answers.filter((answer) => kind === "all" || answer.kinds.includes(kind));
}

// Thousands of answers at once would make the page slow.
function showMore(groups, place, draw) {
  place.append(...groups.slice(0, AT_ONCE).map(draw));
  const rest = groups.slice(AT_ONCE);
  if (!rest.length) return;
  const button = element("button", { type: "button" }, `Show more (${rest.length})`);
  button.addEventListener("click", () => {
    const last = place.childElementCount - 1;
    button.remove();
    showMore(rest, place, draw);
    place.children[last].querySelector("pre").focus();
  });
  place.append(button);
}

function summary(at, shown, kind) {
  const counts = Object.fromEntries(KINDS.map((each) => [each, 0]));
  at.groups.forEach((group) => group.answers.forEach((answer) => answer.kinds.forEach((each) => { counts[each] += 1; })));
  const kinds = KINDS.slice(1).map((each) => `${counts[each]} ${each}`).join(", ");
  const left = at.of > at.groups.length ? `; ${at.of - at.groups.length} more prompts are left out to keep the page small` : "";
  const note = kind === "all" ? "" : `, with ${kind} answers only`;
  return [`${shown} of ${at.groups.length} prompts${note}; answers: ${kinds}${left}.`];
}

function largest(at, by) {
  let most = 0;
  for (const group of at.groups) for (const answer of group.answers) for (const row of answer.rows ?? []) {
    for (const value of row[by] ?? []) if (Math.abs(value ?? 0) > most) most = Math.abs(value);
  }
  return most;
}

function legend(limit) {
  return [element("br"), number(-limit), element("i", { class: "scale", role: "img", "aria-label": "color scale" }), number(limit)];
}

function answerGroup(group, answers, unit, by, limit) {
  const facts = [
    `${answers.length} of ${group.sampled} answers`,
    group.mean === null ? null : `mean reward ${number(group.mean)}`,
    group.truth ? `ground truth ${group.truth}` : null,
  ].filter(Boolean).join(", ");
  return element("article", { class: "group" },
    element("pre", { tabindex: 0, "aria-label": "Prompt" }, group.prompt), element("p", { class: "hint" }, facts),
    element("div", { class: "side" }, ...answers.map((answer) => shownAnswer(answer, unit, by, limit))));
}

function shownAnswer(answer, unit, by, limit) {
  const facts = [["reward", answer.reward], ["advantage", answer.advantage], [unit, answer.length]];
  const head = facts.filter(([, value]) => value !== null).flatMap(([name, value], i) => [i ? ", " : "", `${name} `, element("b", {}, number(value))]);
  const body = answer.rows ? answer.rows.flatMap((row) => [rowPrompt(row), rowText(row, by, limit)]) : [element("pre", { tabindex: 0, "aria-label": "Answer" }, answer.text)];
  const notes = Object.entries(answer.notes).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, typeof value === "number" ? number(value) : typeof value === "string" ? value : JSON.stringify(value))]);
  return element("section", { class: `answer ${answer.kinds.join(" ")}` },
    element("header", {}, `${answer.kinds.join(", ")}: `, ...head), ...body, element("dl", { class: "notes" }, ...notes));
}

// Of an agent loop that returns each turn as a row of its own.
function rowPrompt({ prompt }) {
  return prompt === null ? null : element("details", {}, element("summary", {}, "prompt of this turn"), element("pre", {}, prompt));
}

function rowText(row, by, limit) {
  const values = row[by], text = element("pre", { tabindex: 0, "aria-label": "Answer" });
  row.tokens.forEach((token, i) => {
    if (row.left_out && i === row.left_out_at) text.append(mark(`[... ${row.left_out} tokens left out ...]`));
    const value = values?.[i] ?? null, trained = row.mask[i] === "1";
    if (value === null && trained) return text.append(token);
    const span = element("span", { class: trained ? null : "untrained", title: value === null ? null : number(value) }, token);
    if (value !== null && limit > 0) {
      span.style.background = `rgba(var(--${value < 0 ? "minus" : "plus"}), ${(0.75 * Math.abs(value) / limit).toFixed(3)})`;
    }
    text.append(span);
  });
  if (row.more) text.append(mark(`[... ${row.more} more tokens ...]`));
  return text;
}

function mark(text) {
  return element("span", { class: "mark" }, text);
}
