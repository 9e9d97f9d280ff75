// The training: frames kept while it went on, and the curves beside them.

function filmSection(body, app) {
  if (app.run.imported) {
    body.append(h("p", { class: "card" }, "This model was imported and not trained here: " +
      "there are no frames and no curves."));
    return;
  }
  const { curves, film } = app.run, { epochs } = curves, last = epochs.length - 1;
  const kinds = Object.keys(film).filter(kind => film[kind].length);
  const pictures = kinds.map(kind => h("img", { class: app.ink ? "film drawing" : "film", alt: "" }));
  const names = { manifold: "Plane of the latent space", samples: "Samples from fixed codes" };
  const where = h("output", { for: "epoch" });
  const slider = h("input", {
    type: "range", id: "epoch", min: 0, max: Math.max(0, last), step: 1, value: last,
    "aria-label": "epoch", oninput: () => { playing.stop(); show(+slider.value); },
  });
  let time = last;
  const playing = player("Play", seconds => {
    time = time >= last ? 0 : Math.min(last, time + Math.max(seconds, 0.001) * (last || 1) / 8);
    slider.value = Math.round(time);
    show(Math.round(time));
  }, app.stops);
  const charts = curves.terms.map(term => chart(term));

  function show(at) {
    if (last < 0) return;
    if (!playing.toggle.matches("[aria-pressed=true]")) time = at;
    const epoch = epochs[at];
    where.textContent = `epoch ${epoch}`;
    slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
    kinds.forEach((kind, k) => {
      const frames = film[kind];
      let found = frames[0];
      for (const each of frames) if (each.epoch <= epoch) found = each;
      pictures[k].src = `data:image/png;base64,${found.png}`;
      pictures[k].alt = `${names[kind]} at epoch ${found.epoch}`;
    });
    for (const each of charts) each.mark(at);
  }

  function chart({ name, label, train, validation }) {
    const [width, height, left, bottom] = [340, 145, 52, 24];
    // the first epochs may lie far from all others: the axis leaves them out, and says so
    const later = line => line.slice(Math.floor(0.05 * line.length));
    const values = [...later(train), ...later(validation)].filter(value => value !== null);
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (!(high > low)) [low, high] = [low - 1, low + 1];
    [low, high] = [low - 0.06 * (high - low), high + 0.06 * (high - low)];
    const beyond = value => value !== null && (value < low || value > high);
    const out = epochs.findLastIndex((_, at) => beyond(train[at]) || beyond(validation[at]));
    const until = out > 0 ? `epochs ${epochs[0]} to ${epochs[out]}` : `epoch ${epochs[0]}`;
    const cut = out < 0 ? "" : `, ${until} beyond the axis`;
    const x = at => left + 8 + (width - left - 16) * (last ? at / last : 0.5);
    const y = value => 8 + (height - bottom - 8) * (1 - (value - low) / (high - low));
    const make = (tag, attributes, text) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      if (text !== undefined) element.textContent = text;
      return element;
    };
    const title = `${label} by epoch; at the end ${ends(train, validation)}`;
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
    const clip = `clip-${name}`;
    svg.append(make("clipPath", { id: clip }));
    svg.lastChild.append(make("rect", { x: left, y: 0, width: width - left, height: height - bottom + 1 }));
    const about = (high - low) / 4, power = 10 ** Math.floor(Math.log10(about));
    const apart = power * [1, 2, 5, 10].find(factor => factor * power >= about);
    const digits = Math.max(0, Math.min(4, -Math.floor(Math.log10(apart))));
    for (let value = Math.ceil(low / apart) * apart; value <= high; value += apart) {
      svg.append(make("line", { x1: left, x2: width, y1: y(value), y2: y(value), class: "grid" }));
      const place = { x: left - 6, y: y(value) + 4, "text-anchor": "end" };
      svg.append(make("text", place, number(value, digits)));
    }
    for (const at of new Set([0, Math.round(last / 2), last])) {
      const anchor = at === last && last ? "end" : at ? "middle" : "start";
      svg.append(make("text", { x: x(at), y: height - 8, "text-anchor": anchor }, epochs[at]));
    }
    for (const [split, line] of [["train", train], ["validation", validation]]) {
      const points = line.flatMap((value, at) => value === null ? [] : [`${x(at)},${y(value)}`]);
      svg.append(make("polyline", { points: points.join(" "), class: split, "clip-path": `url(#${clip})` }));
    }
    const rule = make("line", { y1: 4, y2: height - bottom, class: "now" });
    svg.append(rule);
    const now = h("p", { class: "small now" });
    function mark(at) {
      rule.setAttribute("x1", x(at));
      rule.setAttribute("x2", x(at));
      const told = value => value === null || value === undefined ? "–" : number(value);
      now.replaceChildren(h("span", { class: "train" }, `training ${told(train[at])}`),
        h("span", { class: "validation" }, `validation ${told(validation[at])}`));
    }
    svg.addEventListener("pointermove", event => {
      const box = svg.getBoundingClientRect(), place = (event.clientX - box.left) / box.width * width;
      const at = Math.round((place - left - 8) / (width - left - 16) * last);
      if (!event.buttons && event.pointerType !== "mouse") return;
      playing.stop();
      slider.value = Math.min(last, Math.max(0, at));
      show(+slider.value);
    });
    return { mark, element: h("figure", {}, h("figcaption", {}, h("b", {}, label),
      h("span", { class: "soft" }, ` nats per image${cut}`)), svg, now) };
  }

  function ends(train, validation) {
    const told = (name, line) => line.at(-1) === null ? [] : [`${name} ${number(line.at(-1))}`];
    return [...told("training", train), ...told("validation", validation)].join(", ");
  }

  const none = h("div", { class: "none" },
    h("p", {}, "No frames were kept while this run was trained. To get a film:"),
    h("pre", {}, `vaectl train --log film\nvaectl export-log ${app.run.name} --to film`),
    h("p", { class: "soft small" }, "The second command makes frames of the checkpoints that this " +
      "run still has. Then make this page again."));
  body.append(h("div", { class: "card stack" },
    h("div", { class: "scrub" }, playing.toggle, slider, where),
    h("div", { class: kinds.length ? `filming kinds-${kinds.length}` : "stack" },
      h("div", { class: "frames" }, ...(kinds.length
        ? kinds.map((kind, k) => h("figure", {}, pictures[k], h("figcaption", {}, names[kind])))
        : [none])),
      h("div", { class: "charts" }, ...charts.map(({ element }) => element)))));
  show(last);
}
