// The page: reads its data, and fills the sections, for one run at a time.

const data = JSON.parse(document.getElementById("data").textContent);
const models = data.runs.map(run => new Model(run));
const sections = { latent: latentSection, draw: drawSection, morph: morphSection, training: filmSection };
const stops = [];

function use(index) {
  for (const stop of stops.splice(0)) stop();
  const model = models[index], { run } = model;
  const followers = [];
  const app = {
    binary: run.binary, drawn: new Float32Array(model.size), drawnCode: null,
    file: run.name.replace(/[^\w.-]+/g, "-"), follow: act => followers.push(act), ink: run.ink,
    model, run, stops, untouched: true, z: model.sets[0].mu(0),
    show(code) {
      app.z.set(code);
      for (const act of followers) act();
      document.getElementById("latent").scrollIntoView(calm.matches ? {} : { behavior: "smooth" });
    },
  };
  for (const [name, fill] of Object.entries(sections)) {
    const body = document.querySelector(`#${name} .body`);
    body.replaceChildren();
    fill(body, app);
  }
  document.querySelectorAll(".facts").forEach((facts, k) => { facts.hidden = k !== index; });
  return app;
}

const chooser = document.getElementById("run");
chooser?.addEventListener("change", () => { window.app = use(+chooser.value); });
window.app = use(0);
if (models.length > 1) gallerySection(document.querySelector("#gallery .body"), models);
document.documentElement.dataset.ready = "";
