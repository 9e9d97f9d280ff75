// A trained model in the page: what its graphs compute, and its images with their codes.

class Model {
  constructor(run) {
    this.run = run;
    this.shape = run.shape;
    this.size = run.shape.reduce((size, side) => size * side, 1);
    this.code = run.code;
    const weights = Engine.floats(run.weights, run.width);
    this.graphs = {};
    for (const [name, graph] of Object.entries(run.graphs)) {
      let compiled;
      this.graphs[name] = (...inputs) => (compiled ??= Engine.compile(graph, weights))(...inputs);
    }
    // names stand in the place of numbers on the plane if all of them are short
    this.brief = run.classNames.every(name => name.length <= 4);
    const named = label => this.name(label);
    this.sets = run.sets.map(set => new ImageSet({ ...set, named }, this.size, this.code));
    this.kl = run.kl;
    this.codes = Engine.floats(run.codes);
    this.told = [];
    this.tell(this.sets[0].label(0));
    // the most active dimension first
    this.order = this.kl.map((_, j) => j).sort((a, b) => this.kl[b] - this.kl[a]);
  }

  // the name of a class, or its number if it has none
  name(label) { return this.run.classNames[label] ?? `${label}`; }

  // what marks images of a class
  mark(label) { return this.brief ? this.name(label) : `${label}`; }

  // the mark of a class and its name
  entry(label) {
    return this.mark(label) === this.name(label) ? this.name(label) : `${label} ${this.name(label)}`;
  }

  // the class that a conditional model is told from now on
  tell(label) {
    if (!this.run.classes) return;
    this.class = label;
    this.told = [Float32Array.from({ length: this.run.classes }, (_, k) => +(k === label))];
  }

  encode(x) {
    const [mu, logVar] = this.graphs.encode(x, ...this.told);
    return { mu: mu.slice(), logVar: logVar.slice() };
  }

  // the mean of each pixel; overwritten by the next call
  decode(z) {
    return this.graphs.mean(this.graphs.raw(z, ...this.told)[0])[0];
  }

  // -log p(x_i|z) of each pixel, or of the whole image if its pixels depend on each other
  nats(z, x) {
    return this.graphs.nats(this.graphs.raw(z, ...this.told)[0], x)[0];
  }

  // a code from the prior
  randomCode() {
    const number = Math.floor(Math.random() * (this.codes.length / this.code));
    return this.codes.slice(number * this.code, (number + 1) * this.code);
  }

  // KL, NLL, ELBO and importance-weighted bound in nats, with samples of z from q(z|x)
  assess(x, samples) {
    const { mu, logVar } = this.encode(x), normal = normals(1), z = new Float32Array(this.code);
    const map = new Float64Array(this.nats(mu, x).length), nlls = [], ratios = [];
    for (let l = 0; l < samples; l++) {
      let ratio = z.length * Math.log(2 * Math.PI) / 2;
      for (let j = 0; j < z.length; j++) {
        const noise = normal();
        z[j] = mu[j] + Math.exp(logVar[j] / 2) * noise;
        ratio += (noise * noise + logVar[j]) / 2;
      }
      ratios.push(ratio + this.graphs.prior(z)[0][0]);
      const nats = this.nats(z, x);
      let nll = 0;
      for (let i = 0; i < nats.length; i++) { nll += nats[i]; map[i] += nats[i] / samples; }
      nlls.push(nll);
    }
    const nll = mean(nlls), weights = ratios.map((ratio, l) => ratio - nlls[l]);
    const divergence = this.run.standard ? kl(mu, logVar) : -mean(ratios);
    const top = Math.max(...weights);
    const bound = top + Math.log(mean(weights.map(weight => Math.exp(weight - top))));
    // of a standard normal prior the KL is exact
    const errors = this.run.standard ? { elbo: standardError(nlls) }
      : { elbo: standardError(weights), kl: standardError(ratios) };
    errors.nll = standardError(nlls);
    return { mu, logVar, map, kl: divergence, nll, elbo: -divergence - nll, errors, bound };
  }
}

class ImageSet {
  constructor({ name, index, labels, images, mu, log_var: logVar, named }, size, code) {
    Object.assign(this, { name, index, labels, count: index.length, size, code, named });
    this.bytes = Engine.bytes(images);
    this.means = Engine.floats(mu);
    this.logVars = Engine.floats(logVar);
  }

  image(i) {
    return Float32Array.from(this.bytes.subarray(i * this.size, (i + 1) * this.size), b => b / 255);
  }

  mu(i) { return this.means.slice(i * this.code, (i + 1) * this.code); }

  label(i) { return this.labels ? this.labels[i] : null; }

  title(i) {
    const told = this.labels ? `, class ${this.named(this.labels[i])}` : "";
    return `${this.name} image ${this.index[i]}${told}`;
  }

  // the images whose posterior means lie nearest to a code
  nearest(z, count) {
    const distances = Array.from({ length: this.count }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < z.length; j++) sum += (z[j] - this.means[i * z.length + j]) ** 2;
      return { i, distance: Math.sqrt(sum) };
    });
    return distances.sort((a, b) => a.distance - b.distance).slice(0, count);
  }
}

const mean = numbers => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
const standardError = numbers => {
  const middle = mean(numbers), squares = numbers.map(number => (number - middle) ** 2);
  return Math.sqrt(mean(squares) / Math.max(1, numbers.length - 1));
};
const kl = (mu, logVar) =>
  mu.reduce((sum, m, j) => sum + (m * m + Math.expm1(logVar[j]) - logVar[j]) / 2, 0);

// standard normal numbers, the same ones for the same seed: Mulberry32, then Box & Muller
function normals(seed) {
  const uniform = () => {
    seed = seed + 0x6d2b79f5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

// points on the way from a to b, as vaectl.pictures.latent.way has them
function way(a, b, t, path) {
  let [p, q] = [1 - t, t];
  if (path === "spherical") {
    const dot = a.reduce((sum, x, j) => sum + x * b[j], 0);
    const lengths = Math.hypot(...a) * Math.hypot(...b);
    const angle = lengths > 0 ? Math.acos(Math.min(1, Math.max(-1, dot / lengths))) : 0;
    if (Math.sin(angle) > 1e-3) {
      [p, q] = [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
    }
  }
  return a.map((x, j) => p * x + q * b[j]);
}
