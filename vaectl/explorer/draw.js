// An image of one's own: its code, its reconstruction, its bound, and where the nats are.

function drawSection(body, app) {
  const { model } = app, [set] = model.sets, [height, width, channels] = model.shape;
  const image = app.drawn, blank = emptyPixel(), samples = 32;
  const unit = Math.max(1, Math.min(height, width) / 28);
  let colour = blank.map(value => value < 0.5 ? 1 : 0), shown = -1, pen = null, last = null;

  const canvas = h("canvas", {
    class: "image large pad", tabindex: 0, role: "application", "aria-roledescription":
      "drawing pad", "aria-describedby": "draw-keys", "aria-label": "drawing pad",
  });
  const cursor = h("div", { class: "cursor", hidden: true });
  const seen = frame(""), again = frame(""), map = frame("");
  const facts = h("dl", { class: "numbers", "aria-live": "polite" });
  const scale = h("p", { class: "scale small" });
  const bars = h("div", { class: "bars", role: "img" });
  const legend = h("p", { class: "soft small" });
  const origin = h("p", { class: "soft small", "aria-live": "polite" }, "");

  const centring = h("input", { type: "checkbox", checked: areCentred(), onchange: () => changed() });
  const paint = () => Picture.paint(canvas, image, model.shape, app.ink);
  const quick = eachFrame(() => { paint(); changed(); });
  const changed = settled(assess, 60);
  Picture.onTheme(changed, app.stops);

  function emptyPixel() {
    const values = Array.from({ length: channels }, (_, k) => {
      const found = [];
      for (let i = k; i < Math.min(set.bytes.length, 4e5); i += channels) found.push(set.bytes[i]);
      return found.sort((a, b) => a - b)[found.length >> 1] / 255;
    });
    return app.ink ? values.map(() => 0) : values;
  }

  function centre(values) {
    let [sum, x, y] = [0, 0, 0];
    for (let i = 0; i < values.length; i++) {
      const place = Math.floor(i / channels);
      sum += values[i]; x += values[i] * (place % width); y += values[i] * Math.floor(place / width);
    }
    return sum ? [x / sum - (width - 1) / 2, y / sum - (height - 1) / 2] : [0, 0];
  }

  // whether the data are centred by their mass, as MNIST's digits are
  function areCentred() {
    const off = Array.from({ length: Math.min(50, set.count) }, (_, i) => centre(set.image(i)));
    return app.ink && mean(off.map(([x, y]) => Math.hypot(x, y))) < 0.04 * (height + width);
  }

  // as the data are: centred, and black or white
  function prepared() {
    let result = image;
    if (centring.checked && shown < 0) {
      const [dx, dy] = centre(image).map(Math.round);
      result = new Float32Array(image.length);
      for (let i = 0; i < result.length; i++) {
        const place = Math.floor(i / channels), x = place % width + dx;
        const y = Math.floor(place / width) + dy;
        const inside = x >= 0 && x < width && y >= 0 && y < height;
        result[i] = inside ? image[(y * width + x) * channels + i % channels] : blank[i % channels];
      }
    }
    return app.binary ? result.map(value => +(value > 0.5)) : result;
  }

  function assess() {
    const x = prepared(), found = model.assess(x, samples);
    app.prepared = x.slice();
    Picture.paint(seen, x, model.shape, app.ink, "the image as the model sees it");
    Picture.paint(again, model.decode(found.mu), model.shape, app.ink,
      "the reconstruction: the decoded posterior mean");
    const rows = [
      ...["elbo", "kl", "nll"].map(name => [name.toUpperCase(), found[name],
        name in found.errors ? `± ${number(found.errors[name])}` : ""]),
      [`IW-${samples}`, found.bound, ""],
    ];
    facts.replaceChildren(...rows.map(([name, value, more]) => h("div", {},
      h("dt", {}, name), h("dd", {}, number(value), h("span", { class: "soft" }, ` ${more}`)))));
    nats(found.map);
    codes(found);
    app.drawnCode = found.mu;
  }

  // posterior means with standard deviations; the most active dimensions first
  function codes({ mu, logVar }) {
    const first = model.order.slice(0, 20);
    const reach = Math.max(3, ...first.map(j => Math.abs(mu[j]) + Math.exp(logVar[j] / 2)));
    const share = value => 50 + 50 * value / reach;
    bars.replaceChildren(...first.map(j => {
      const spread = Math.exp(logVar[j] / 2), [low, high] = [share(mu[j] - spread), share(mu[j] + spread)];
      const place = `--at:${share(mu[j])}%;--low:${low}%;--size:${high - low}%`;
      return h("span", { style: place, title: `z${j} = ${number(mu[j])} ± ${number(spread)}` });
    }));
    const told = first.map(j => `dimension ${j}: ${number(mu[j])}`).join(", ");
    bars.setAttribute("aria-label", `code: ${told}`);
    const some = model.code > first.length ? `the ${first.length} most active of ` : "";
    legend.textContent = `Code: mean and standard deviation of q(z|x) in ${some}${model.code} ` +
      `dimension${model.code > 1 ? "s" : ""}, from −${number(reach, 1)} to ${number(reach, 1)}.`;
  }

  function nats(values) {
    if (values.length !== model.size) {
      map.hidden = true;
      scale.textContent = "The pixels of this likelihood depend on each other.";
      return;
    }
    const each = Array.from({ length: height * width }, (_, i) =>
      mean(values.subarray(i * channels, (i + 1) * channels)) * channels);
    const low = Math.min(0, ...each), high = Math.max(...each, low + 1e-3);
    Picture.heat(map, each, model.shape, low, high);
    const top = each.indexOf(Math.max(...each));
    map.setAttribute("aria-label", `nats of each pixel; most, ${number(each[top])}, at row ` +
      `${Math.floor(top / width) + 1}, column ${top % width + 1}`);
    scale.replaceChildren(number(low, 1), h("span", { class: "ramp" }), `${number(high, 1)} nats`);
  }

  function stamp(x, y) {
    const radius = 1.35 * unit;
    const [top, left] = [y, x].map(value => Math.floor(value - radius - 1));
    for (let row = Math.max(0, top); row <= Math.min(height - 1, y + radius + 1); row++) {
      for (let column = Math.max(0, left); column <= Math.min(width - 1, x + radius + 1); column++) {
        const far = Math.hypot(column + 0.5 - x, row + 0.5 - y);
        const share = Math.min(1, Math.max(0, (radius - far) / unit + 0.5));
        for (let k = 0; k < channels; k++) {
          const at = (row * width + column) * channels + k;
          const mixed = share * colour[k] + (1 - share) * blank[k];
          // further stamps of a stroke add ink and take none away
          image[at] = app.ink ? Math.max(image[at], mixed)
            : image[at] + (colour[k] - image[at]) * share;
        }
      }
    }
  }

  function line(from, to) {
    const steps = Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / (0.4 * unit)) || 1;
    for (let i = 1; i <= steps; i++) stamp(...way(from, to, i / steps, "linear"));
    if (shown >= 0) { shown = -1; origin.textContent = "Drawn by you."; }
    quick();
  }

  const spot = event => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * width,
      (event.clientY - box.top) / box.height * height];
  };
  canvas.addEventListener("pointerdown", event => {
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    cursor.hidden = true;
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer of a test */ }
    last = spot(event);
    line(last, last);
  });
  canvas.addEventListener("pointermove", event => {
    if (!last) return;
    const to = spot(event);
    line(last, to);
    last = to;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => { last = null; });
  }
  canvas.addEventListener("keydown", event => {
    const [dx, dy] = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    }[event.key] || [0, 0];
    if (!dx && !dy && event.key !== " ") return;
    event.preventDefault();
    const from = pen ?? [width / 2, height / 2];
    pen = [Math.min(width, Math.max(0, from[0] + dx * unit)),
      Math.min(height, Math.max(0, from[1] + dy * unit))];
    if (event.shiftKey || event.key === " ") line(from, pen);
    cursor.hidden = false;
    cursor.style.left = `${pen[0] / width * 100}%`;
    cursor.style.top = `${pen[1] / height * 100}%`;
  });

  function clear() {
    for (let i = 0; i < image.length; i++) image[i] = blank[i % channels];
    shown = -1;
    origin.textContent = "Empty.";
    quick();
  }

  function take(i) {
    shown = at = (i + set.count) % set.count;
    image.set(set.image(shown));
    app.tell(set.label(shown));
    origin.textContent = `This is ${set.title(shown)}; draw over it, or clear the pad.`;
    quick();
  }

  let at = 0;
  const inks = channels === 3
    ? h("label", { class: "check" }, "Colour", h("input", {
      type: "color", value: "#d02828", oninput: event => {
        colour = [1, 3, 5].map(k => parseInt(event.target.value.slice(k, k + 2), 16) / 255);
      } }))
    : "";
  if (channels === 3) colour = [0xd0, 0x28, 0x28].map(value => value / 255);
  const figure = (picture, caption, more = "") =>
    h("figure", {}, picture, h("figcaption", {}, caption), more);
  body.append(h("div", { class: "split even" },
    h("div", { class: "card stack" },
      h("div", { class: "holder" }, canvas, cursor), origin,
      h("div", { class: "actions" },
        button("Clear", clear),
        button("‹", () => take(at - 1), { "aria-label": `previous ${set.name} image` }),
        button(`${set.name[0].toUpperCase()}${set.name.slice(1)} image`, () => take(at + 1)),
        button("›", () => take(at + 1), { "aria-label": `next ${set.name} image` }),
        inks, app.ink ? h("label", { class: "check" }, centring, "Centre it") : ""),
      h("p", { class: "soft small", id: "draw-keys" },
        "Draw with a finger, a pen or the mouse; by keys, the arrows move and Shift draws.")),
    h("div", { class: "card stack" },
      h("div", { class: "row" },
        figure(seen, "What the model sees"), figure(again, "Reconstruction"),
        figure(map, "Where the nats are", scale)),
      facts, h("div", {}, bars, legend),
      h("p", { class: "soft small" }, `In nats; means over ${samples} samples of z, with standard ` +
        `errors. ${app.run.meaning}. IW-${samples} is a closer bound on log p(x).`),
      h("div", { class: "actions" },
        button("Show it in the latent space", () => { app.show(app.drawnCode); })))));
  if (app.untouched) take(0);
  else quick();
  app.untouched = false;
}
