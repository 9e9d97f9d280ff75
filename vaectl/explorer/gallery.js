// Several runs side by side: the same images, the same codes, samples.

function gallerySection(body, models) {
  const first = models[0], [set] = first.sets, count = 8;
  const shaped = models.filter(model => `${model.shape}` === `${first.shape}`);
  // a conditional model can only be told classes that it knows
  const knows = ({ run }) => !run.classes
    || set.labels?.every(label => label >= 0 && label < run.classes);
  const alike = shaped.filter(knows);
  // of the code size that most runs have
  const same = models.map(model => models.filter(other => other.code === model.code))
    .reduce((most, group) => group.length > most.length ? group : most);
  let start = 0;
  const images = h("div", { class: "gallery" }), codes = h("div", { class: "gallery" });
  const samples = h("div", { class: "gallery" });

  const title = ({ run }) => run.score ? `${run.name}: ${run.score}` : run.name;
  const row = (heading, pictures) => h("div", { class: "line" }, h("h4", {}, heading),
    h("div", { class: "cells" }, ...pictures));
  const cell = (model, values, label) =>
    Picture.paint(frame(label), values, model.shape, model.run.ink);

  function showImages() {
    const chosen = Array.from({ length: Math.min(count, set.count) }, (_, k) => (start + k) % set.count);
    images.replaceChildren(
      row("Original", chosen.map(i => cell(first, set.image(i), set.title(i)))),
      ...alike.map(model => row(title(model), chosen.map(i =>
        cell(model, reconstructed(model, i), `${model.run.name}: reconstruction of ${set.title(i)}`)))));
  }

  function reconstructed(model, i) {
    const before = model.class;
    model.tell(set.label(i));
    const values = model.decode(model.encode(set.image(i)).mu).slice();
    model.tell(before);
    return values;
  }

  function showCodes() {
    const chosen = Array.from({ length: count }, () => same[0].randomCode());
    codes.replaceChildren(...same.map(model => row(title(model), chosen.map((z, k) =>
      cell(model, model.decode(z), `${model.run.name}: code ${k + 1}`)))));
  }

  function showSamples() {
    samples.replaceChildren(...models.map(model => row(title(model),
      Array.from({ length: count }, (_, k) => cell(model, model.decode(model.randomCode()),
        `${model.run.name}: sample ${k + 1}`)))));
  }

  const part = (heading, note, action, act, content) => h("div", { class: "card stack" },
    h("div", { class: "heading" }, h("h3", {}, heading), button(action, act)),
    h("p", { class: "soft small" }, note), content);
  const others = (some, all, what) => some.length < all.length
    ? ` Left out, with ${what}: ` +
      `${all.filter(model => !some.includes(model)).map(({ run }) => run.name).join(", ")}.` : "";
  body.append(
    part("The same images", "Reconstructions by posterior means." +
      others(shaped, models, "images of another shape") +
      others(alike, shaped, "classes that these images cannot tell"), "Next images",
      () => { start += count; showImages(); }, images),
    part("Samples", "Codes from the prior, decoded.", "New samples", showSamples, samples));
  if (same.length > 1) {
    body.append(part("The same codes", `Each column is one code. Models give meanings of their own to ` +
      `dimensions; only their number is the same.${others(same, models, "codes of another size")}`,
      "New codes", showCodes, codes));
    showCodes();
  }
  showImages();
  showSamples();
}
