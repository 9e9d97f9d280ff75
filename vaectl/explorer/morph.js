// From one image to another: in image space, and beside it in latent space.

function morphSection(body, app) {
  const { model } = app, [set] = model.sets, count = 9;
  const ends = [end("From", 0), end("To", 1)];
  let t = 0.5, forward = true;
  const pictures = [frame(""), frame("")], strips = [h("div", { class: "strip" }), h("div", { class: "strip" })];
  const names = ["Image space", "Latent space"];
  const path = h("select", { onchange: () => changed() },
    h("option", {}, "linear"), h("option", {}, "spherical"));
  const scrubber = h("input", {
    type: "range", min: 0, max: 1, step: 0.01, value: 0.5, "aria-label": "place on the way",
    oninput: () => { playing.stop(); t = +scrubber.value; show(); },
  });
  const playing = player("Play", seconds => {
    t += (forward ? 1 : -1) * (calm.matches ? 0.1 : seconds / 2.5);
    if (t >= 1 || t <= 0) { forward = t <= 0; t = Math.min(1, Math.max(0, t)); }
    scrubber.value = t;
    show();
  }, app.stops);
  const note = h("p", { class: "soft small", role: "status" });

  function end(name, number_) {
    const picture = frame(""), what = h("p", { class: "soft small" });
    const self = { image: null, code: null, index: 0 };
    const given = {
      next: (by = 1) => {
        const first = self.index;
        do self.index = (self.index + by + set.count) % set.count;
        while (number_ && by === 1 && set.labels && self.index !== first
          && set.label(self.index) === set.label(ends?.[0]?.index ?? 0));
        data();
      },
    };
    function data() { take(set.image(self.index), set.mu(self.index), set.title(self.index)); }
    function take(image, code, title) {
      Object.assign(self, { image: image.slice(), code: code.slice() });
      Picture.paint(picture, image, model.shape, app.ink, title);
      what.textContent = title;
      if (ends) changed();
    }
    self.start = () => {
      self.index = number_ ? Math.min(1, set.count - 1) : 0;
      while (number_ && set.labels && self.index < set.count - 1
        && set.label(self.index) === set.label(0)) self.index++;
      data();
    };
    self.element = h("div", { class: "end", role: "group", "aria-label": name },
      h("h3", {}, name), picture, what,
      h("div", { class: "actions" },
        button("‹", () => given.next(-1), { "aria-label": `previous ${set.name} image` }),
        button("›", () => given.next(), { "aria-label": `next ${set.name} image` }),
        button("Drawn", () => take(app.prepared, app.drawnCode, "drawn")),
        button("Random", () => {
          const z = model.randomCode();
          take(model.decode(z), z, "random code");
        }),
        button("Plane", () => take(model.decode(app.z), app.z, "code of the plane"), { title: "the code of the latent space above" })));
    return self;
  }

  const images = at => [
    way(ends[0].image, ends[1].image, at, "linear"),
    model.decode(way(ends[0].code, ends[1].code, at, path.value)),
  ];

  function show() {
    images(t).forEach((image, k) => Picture.paint(pictures[k], image, model.shape, app.ink,
      `${names[k]}, ${Math.round(100 * t)} % of the way`));
    scrubber.setAttribute("aria-valuetext", `${Math.round(100 * t)} %`);
  }

  const changed = eachFrame(() => {
    for (const strip of strips) strip.replaceChildren();
    for (let i = 0; i < count; i++) {
      const at = i / (count - 1);
      images(at).forEach((image, k) => {
        const picture = Picture.paint(h("canvas", { class: "image", "aria-hidden": "true" }),
          image, model.shape, app.ink);
        picture.addEventListener("click", () => { t = at; scrubber.value = t; show(); });
        strips[k].append(picture);
      });
    }
    show();
  });

  // both spaces in rows below each other, or side by side
  function sheet(frames, columns) {
    const [height, width] = model.shape, scale = Math.max(1, Math.round(112 / Math.max(height, width)));
    const gap = 4, canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    const rows = frames.length / columns;
    canvas.width = columns * (width * scale + gap) - gap;
    canvas.height = rows * (height * scale + gap) - gap;
    pen.fillStyle = Picture.style("--card");
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingEnabled = false;
    const tile = document.createElement("canvas");
    [tile.height, tile.width] = [height, width];
    frames.forEach((image, i) => {
      tile.getContext("2d").putImageData(Picture.pixels(image, model.shape, app.ink), 0, 0);
      const [row, column] = [Math.floor(i / columns), i % columns];
      pen.drawImage(tile, column * (width * scale + gap), row * (height * scale + gap),
        width * scale, height * scale);
    });
    return canvas;
  }

  function savePng() {
    const steps = Array.from({ length: count }, (_, i) => images(i / (count - 1)).map(v => v.slice()));
    const canvas = sheet([...steps.map(step => step[0]), ...steps.map(step => step[1])], count);
    canvas.toBlob(blob => { save(blob, `${app.file}-morph.png`); done("PNG"); });
  }

  function saveGif() {
    const steps = 24, frames = [];
    for (let i = 0; i < 2 * steps; i++) {
      const canvas = sheet(images(1 - Math.abs(1 - i / steps)).map(v => v.slice()), 2);
      frames.push(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height));
    }
    const blob = gif(frames, 0.06);
    save(blob, `${app.file}-morph.gif`);
    done("GIF");
    return blob;
  }
  const done = kind => { note.textContent = `The ${kind} is in your downloads.`; };
  app.saveGif = saveGif;

  const figure = k => h("figure", {}, pictures[k], h("figcaption", {}, names[k]));
  body.append(h("div", { class: "card stack" },
    h("div", { class: "morph" }, ends[0].element,
      h("div", { class: "row middle" }, figure(0), figure(1)), ends[1].element),
    h("div", { class: "scrub" }, playing.toggle, scrubber),
    h("div", { class: "strips" }, ...strips.map((strip, k) =>
      h("div", {}, h("p", { class: "soft small" }, names[k]), strip))),
    h("div", { class: "actions" },
      h("label", { class: "check" }, "Path through the latent space", path),
      button("Save as PNG", savePng), button("Save as GIF", saveGif)), note));
  app.follow(changed);
  for (const each of ends) each.start();
}
