// The latent space: a plane of two dimensions, a slider for each, and what the code decodes to.

function latentSection(body, app) {
  const { model } = app, [set] = model.sets, { code, order } = model;
  const z = app.z, flat = code === 1;
  const reach = Math.max(3, ...Array.from({ length: code }, (_, j) => quantile(set, j))) * 1.08;
  const limit = Math.ceil(reach * 10) / 10;
  let dims = code === 2 ? [0, 1] : order.slice(0, 2);

  // what the code decodes to
  const digit = frame("");
  digit.classList.add("large");
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const near = h("ul", { class: "thumbs" });
  const training = model.sets.at(-1);
  const update = eachFrame(() => {
    const image = model.decode(z);
    Picture.paint(digit, image, model.shape, app.ink, `decoded image of the code ${text(z)}`);
    sliders.show();
    if (!flat) plane.show();
    describe();
  });
  const describe = settled(() => {
    readout.textContent = `z = ${text(z)}`;
    near.replaceChildren(...training.nearest(z, 10).map(({ i, distance }) => {
      const title = `${training.title(i)}, at a distance of ${number(distance)}`;
      const picture = Picture.paint(frame(title), training.image(i), model.shape, app.ink);
      return h("li", {}, button(picture, () => move(training.mu(i)), {
        "aria-label": `go to ${title}`, title,
      }));
    }));
  }, 80);
  const text = codes => codes.length > 4
    ? `(${[...codes.slice(0, 3)].map(x => number(x)).join(", ")}, …)`
    : `(${[...codes].map(x => number(x)).join(", ")})`;

  // the code or the class has changed, and with it the plane through the code
  function changed() { update(); plane?.decodeBackground(); }

  function move(to) { z.set(to); (code > 2 ? changed : update)(); }

  const plane = flat ? null : latentPlane();
  const sliders = latentSliders();
  const walk = randomWalk();
  const actions = h("div", { class: "actions" },
    button("Random code", () => { walk.stop(); move(model.randomCode()); }),
    walk.toggle,
    button("Centre", () => { walk.stop(); move(new Float32Array(code)); }));

  body.append(h("div", { class: flat ? "latent flat" : "latent" },
    h("div", { class: "card decoded" }, digit, h("div", { class: "stack" }, readout, actions)),
    plane ? plane.element : "",
    h("div", { class: "card stack nearest" },
      h("h3", {}, `Nearest ${training.name} images`),
      h("p", { class: "soft small" },
        `By posterior means, among ${training.count}. Choose one to go to its code.`),
      near)), sliders.element);
  app.follow(changed);
  changed();

  function quantile(images, j) {
    const sizes = Array.from({ length: images.count }, (_, i) => Math.abs(images.means[i * code + j]));
    return sizes.sort((a, b) => a - b)[Math.floor(0.997 * (images.count - 1))];
  }

  function randomWalk() {
    let from = z.slice(), to = model.randomCode(), t = 0;
    const walking = player("Random walk", seconds => {
      if (t === 0) from = z.slice();
      t += seconds / 2;
      if (t >= 1) { move(to); to = model.randomCode(); t = 0; return; }
      z.set(way(from, to, t * t * (3 - 2 * t), code > 2 ? "spherical" : "linear"));
      update();
    }, app.stops);
    return { toggle: walking.toggle, stop: () => { walking.stop(); t = 0; } };
  }

  function latentSliders() {
    const most = 12, rows = [], strongest = Math.max(...model.kl, 1e-9);
    const list = h("div", { class: "sliders" });
    const add = j => {
      const value = h("output", { for: `z${j}` });
      const input = h("input", {
        type: "range", id: `z${j}`, min: -limit, max: limit, step: 0.05,
        oninput: () => { walk.stop(); z[j] = +input.value; changed(); },
      });
      const active = `${number(model.kl[j])} nats`;
      const bar = h("span", { class: "bar", style: `--share:${model.kl[j] / strongest}` });
      list.append(h("div", { class: "slider" },
        h("label", { for: `z${j}` }, h("i", {}, "z"), h("sub", {}, `${j}`)),
        input, value, h("span", { class: "kl", title: `KL of ${active} per image` }, bar, active)));
      rows.push({ j, input, value });
    };
    order.slice(0, most).forEach(add);
    const more = order.length > most
      ? button(`Show all ${code} dimensions`, () => {
        order.slice(most, 200).forEach(add);
        more.remove();
        show();
      })
      : "";
    function show() {
      for (const { j, input, value } of rows) {
        input.value = z[j];
        input.setAttribute("aria-valuetext", number(z[j]));
        value.textContent = number(z[j]);
      }
    }
    const element = h("div", { class: "card" },
      h("h3", {}, "Dimensions of the code"),
      h("p", { class: "soft small" },
        `The most active first: the KL of each is a mean over ${set.count} ${set.name} images.`),
      list, more);
    return { element, show };
  }

  function latentPlane() {
    const canvas = h("canvas", {
      class: "plane", tabindex: 0, role: "application",
      "aria-roledescription": "plane of codes", "aria-describedby": "plane-keys",
    });
    const still = document.createElement("canvas"), tip = h("div", { class: "tip", hidden: true });
    const options = {
      background: option("Decoded images", code === 2),
      ellipses: option("Ellipses", false),
      points: option("Means", true),
    };
    const classes = set.labels ? [...new Set(set.labels)].sort((a, b) => a - b) : [];
    const hidden = new Set();
    const grid = Math.max(7, Math.min(19, Math.round(Math.sqrt(2.4e5 / model.size))));
    let side = 0, tiles = [], task = 0, hovered = -1;

    const x = value => (value + limit) / (2 * limit) * side;
    const y = value => side - x(value);
    const back = place => place / side * 2 * limit - limit;
    const colour = label => Picture.style(`--class-${label === null ? 0 : label % 10}`);
    const place = i => [x(set.means[i * code + dims[0]]), y(set.means[i * code + dims[1]])];
    const shown = i => !hidden.has(set.label(i));

    function option(name, on) {
      const input = h("input", { type: "checkbox", checked: on, onchange: () => redraw() });
      return { input, label: h("label", { class: "check" }, input, name) };
    }

    function at(i, place_) {
      const spot = Float32Array.from(z);
      [spot[dims[0]], spot[dims[1]]] = place_(i);
      return spot;
    }

    // a few images at a time, so that the page stays quick
    const decodeBackground = settled(() => {
      const mine = ++task;
      const centre = k => (2 * k + 1) / grid * limit - limit;
      let i = 0;
      const fresh = [];
      (function some() {
        if (mine !== task) return;
        if (!options.background.input.checked) { tiles = []; return; }
        for (const end = performance.now() + 8; i < grid * grid && performance.now() < end; i++) {
          const spot = at(i, k => [centre(k % grid), -centre(Math.floor(k / grid))]);
          fresh.push(Picture.pixels(model.decode(spot), model.shape, app.ink));
        }
        if (i < grid * grid) { setTimeout(some); return; }
        tiles = fresh;
        draw();
      })();
    }, 60);

    function redraw() {
      if (options.background.input.checked) decodeBackground();
      else tiles = [];
      draw();
    }

    // all but the handle
    function draw() {
      const box = canvas.clientWidth;
      if (!box) return;
      const scale = devicePixelRatio || 1;
      side = box;
      canvas.width = canvas.height = still.width = still.height = Math.round(box * scale);
      const pen = still.getContext("2d");
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      pen.fillStyle = Picture.style("--card");
      pen.fillRect(0, 0, side, side);
      if (tiles.length) {
        const tile = document.createElement("canvas");
        [tile.height, tile.width] = model.shape;
        pen.imageSmoothingEnabled = false;
        pen.globalAlpha = options.points.input.checked ? 0.3 : 1;
        tiles.forEach((image, k) => {
          tile.getContext("2d").putImageData(image, 0, 0);
          const [left, top] = [k % grid, Math.floor(k / grid)].map(n => n * side / grid);
          pen.drawImage(tile, left, top, side / grid - 1, side / grid - 1);
        });
        pen.globalAlpha = 1;
      }
      axes(pen);
      if (options.points.input.checked) points(pen);
      show();
    }

    function axes(pen) {
      pen.strokeStyle = Picture.style("--rule");
      pen.fillStyle = Picture.style("--soft");
      pen.font = "12px system-ui, sans-serif";
      pen.lineWidth = 1;
      pen.beginPath();
      for (const value of [x(0), y(0)]) {
        pen.moveTo(0, value); pen.lineTo(side, value);
        pen.moveTo(value, 0); pen.lineTo(value, side);
      }
      pen.stroke();
      pen.strokeStyle = Picture.style("--card");
      pen.lineJoin = "round";
      pen.lineWidth = 4;
      const write = (text_, left, top, align) => {
        pen.textAlign = align;
        pen.strokeText(text_, left, top);
        pen.fillText(text_, left, top);
      };
      // at least 36 pixels apart, and off the corner
      const step = [1, 2, 5, 10, 20, 50, 100].find(size => x(size) - x(0) > 36) ?? 1000;
      for (let value = -step * Math.floor(limit / step); value < limit; value += step) {
        if (x(value) < 40 || x(value) > side - 8) continue;
        write(number(value, 0), x(value), side - 7, "center");
        write(number(value, 0), 6, y(value) + 4, "left");
      }
    }

    function points(pen) {
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.lineJoin = "round";
      const halo = Picture.style("--card"), wide = side / (2 * limit);
      for (let i = 0; i < set.count; i++) {
        if (!shown(i)) continue;
        const label = set.label(i), [left, top] = place(i);
        pen.fillStyle = pen.strokeStyle = colour(label);
        if (options.ellipses.input.checked) ellipse(pen, i, left, top, wide, 0.45);
        if (label === null || label > 99) {
          pen.beginPath();
          pen.arc(left, top, 3, 0, 7);
          pen.fill();
        } else {
          pen.font = "700 12px system-ui, sans-serif";
          pen.strokeStyle = halo;
          pen.lineWidth = 3;
          pen.strokeText(model.mark(label), left, top);
          pen.fillText(model.mark(label), left, top);
        }
      }
      pen.textBaseline = "alphabetic";
    }

    // one standard deviation of q(z|x)
    function ellipse(pen, i, left, top, wide, alpha) {
      const [p, q] = dims.map(j => Math.exp(set.logVars[i * code + j] / 2) * wide);
      pen.globalAlpha = alpha;
      pen.lineWidth = 1.2;
      pen.beginPath();
      pen.ellipse(left, top, p, q, 0, 0, 7);
      pen.stroke();
      pen.globalAlpha = 1;
    }

    function show() {
      const pen = canvas.getContext("2d"), scale = devicePixelRatio || 1;
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.drawImage(still, 0, 0);
      pen.setTransform(scale, 0, 0, scale, 0, 0);
      if (hovered >= 0) {
        pen.strokeStyle = colour(set.label(hovered));
        const [left, top] = place(hovered);
        ellipse(pen, hovered, left, top, side / (2 * limit), 1);
        pen.beginPath(); pen.arc(left, top, 10, 0, 7); pen.lineWidth = 2; pen.stroke();
      }
      const [left, top] = [x(z[dims[0]]), y(z[dims[1]])];
      for (const [style, width] of [["--card", 6], ["--accent", 3]]) {
        pen.strokeStyle = Picture.style(style);
        pen.lineWidth = width;
        pen.beginPath(); pen.arc(left, top, 11, 0, 7); pen.stroke();
      }
      canvas.setAttribute("aria-label", `plane of ${axis(0)} and ${axis(1)}, at ` +
        dims.map(j => number(z[j])).join(" and "));
    }

    const axis = k => `dimension ${dims[k]}`;

    function under(event, most) {
      const box = canvas.getBoundingClientRect();
      const [left, top] = [event.clientX - box.left, event.clientY - box.top];
      let best = -1, nearest = most * most;
      for (let i = 0; options.points.input.checked && i < set.count; i++) {
        if (!shown(i)) continue;
        const [p, q] = place(i), distance = (p - left) ** 2 + (q - top) ** 2;
        if (distance < nearest) [best, nearest] = [i, distance];
      }
      return { left, top, found: best };
    }

    let dragging = false;
    const go = ({ left, top }) => {
      walk.stop();
      const inside = value => Math.min(limit, Math.max(-limit, value));
      [z[dims[0]], z[dims[1]]] = [inside(back(left)), inside(-back(top))];
      update();
    };
    const point = event => {
      const { left, top, found } = under(event, 9);
      tip.hidden = found < 0;
      if (found !== hovered) {
        hovered = found;
        if (found >= 0) {
          const picture = Picture.paint(frame(""), set.image(found), model.shape, app.ink);
          tip.replaceChildren(picture, set.title(found));
        }
        show();
      }
      tip.style.left = `${Math.min(Math.max(left, 60), side - 60)}px`;
      tip.style.top = `${top > 150 ? top - 12 : top + 140}px`;
    };
    canvas.addEventListener("pointerdown", event => {
      dragging = true;
      try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer of a test */ }
      const { left, top, found } = under(event, 7);
      if (found >= 0) move(set.mu(found));
      else go({ left, top });
    });
    canvas.addEventListener("pointermove", event => {
      if (dragging) go(under(event, 0));
      else point(event);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => { dragging = false; });
    }
    canvas.addEventListener("pointerleave", () => { hovered = -1; tip.hidden = true; show(); });
    canvas.addEventListener("keydown", event => {
      const step = event.shiftKey ? 0.5 : 0.1;
      const [dx, dy] = {
        ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step],
      }[event.key] || [0, 0];
      if (event.key === "Enter") move(set.mu(set.nearest(z, 1)[0].i));
      else if (event.key === "Home") move(new Float32Array(code));
      else if (!dx && !dy) return;
      event.preventDefault();
      if (dx || dy) go({ left: x(z[dims[0]] + dx), top: y(z[dims[1]] + dy) });
    });
    new ResizeObserver(() => { if (canvas.clientWidth !== side) draw(); }).observe(canvas);
    Picture.onTheme(redraw, app.stops);

    const choose = k => {
      const select = h("select", { onchange: () => {
        const other = dims[1 - k];
        dims[k] = +select.value;
        if (dims[k] === other) dims[1 - k] = order.find(j => j !== other);
        selects.forEach((each, which) => { each.value = dims[which]; });
        redraw();
      } }, ...order.slice(0, 200).map(j => h("option", { value: j }, `${j}`)));
      select.value = dims[k];
      return select;
    };
    const selects = code > 2 ? [choose(0), choose(1)] : [];
    const legend = classes.length > 1 && classes.length <= 24
      ? h("div", { class: "legend", role: "group", "aria-label": "classes" },
        ...classes.map(label => {
          const toggle = button(model.entry(label), () => {
            const off = !hidden.delete(label);
            if (off) hidden.add(label);
            toggle.setAttribute("aria-pressed", !off);
            draw();
          }, {
            "aria-pressed": "true", "aria-label": `class ${model.entry(label)}`,
            style: `--colour:var(--class-${label % 10})`,
          });
          return toggle;
        }))
      : "";
    const element = h("div", { class: "card stack field" },
      h("div", { class: "options" },
        ...selects.map((select, k) => h("label", { class: "check" }, ["across", "up"][k], select)),
        ...Object.values(options).map(({ label }) => label)),
      h("div", { class: "holder" }, canvas, tip),
      legend,
      h("p", { class: "soft small", id: "plane-keys" },
        "Drag, or use the arrow keys (with Shift: larger steps; Enter: the nearest image; Home: " +
        "the centre). Point at a mark to see its image and its posterior."));
    return { decodeBackground, element, show };
  }
}
