// The page: reads its data, and fills the sections, for one run at a time.

const data = JSON.parse(document.getElementById("data").textContent);
const models = data.runs.map(run => new Model(run));
const sections = { latent: latentSection, draw: drawSection, morph: morphSection, training: filmSection };
const stops = [];

const classes = document.getElementById("class");

function use(index, kept = {}) {
  for (const stop of stops.splice(0)) stop();
  const model = models[index], { run } = model;
  const followers = [];
  const follow = () => { for (const act of followers) act(); };
  const app = {
    binary: run.binary, drawn: new Float32Array(model.size), drawnCode: null,
    file: run.name.replace(/[^\w.-]+/g, "-"), follow: act => followers.push(act), index,
    ink: run.ink, model, run, stops, untouched: true, z: model.sets[0].mu(0), ...kept,
    // the class of an image that is shown
    tell(label) {
      if (!run.classes || label === model.class) return;
      model.tell(label);
      classes.value = label;
      follow();
    },
    show(code) {
      app.z.set(code);
      follow();
      document.getElementById("latent").scrollIntoView(calm.matches ? {} : { behavior: "smooth" });
    },
  };
  for (const [name, fill] of Object.entries(sections)) {
    const body = document.querySelector(`#${name} .body`);
    body.replaceChildren();
    fill(body, app);
  }
  classes.parentElement.hidden = !run.classes;
  classes.replaceChildren(...Array.from({ length: run.classes }, (_, k) =>
    h("option", { value: k }, model.entry(k))));
  classes.value = model.class;
  document.querySelectorAll(".facts").forEach((facts, k) => { facts.hidden = k !== index; });
  return app;
}

const chooser = document.getElementById("run");
chooser?.addEventListener("change", () => { window.app = use(+chooser.value); });
classes.addEventListener("change", () => {
  const { drawn, index, model, z } = window.app;
  model.tell(+classes.value);
  window.app = use(index, { drawn, untouched: false, z });
});
window.app = use(0);
if (models.length > 1) gallerySection(document.querySelector("#gallery .body"), models);
document.documentElement.dataset.ready = "";
