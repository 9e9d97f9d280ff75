// Images on canvases, in the colours of the page.

const Picture = (() => {
  const canvases = new WeakMap(), listeners = new Set();
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rgb = hex => [1, 3, 5].map(at => parseInt(hex.slice(at, at + 2), 16));
  let palettes;

  // grey levels of drawings run from paper to ink, those of photographs from black to white
  function palette(ink) {
    palettes ??= [[[0, 0, 0], [255, 255, 255]], [rgb(style("--paper")), rgb(style("--pen"))]].map(
      ([low, high]) => Array.from({ length: 256 }, (_, level) =>
        low.map((value, k) => Math.round(value + (high[k] - value) * level / 255))));
    return palettes[+ink];
  }

  function pixels(values, [height, width, channels], ink) {
    const data = new ImageData(width, height), shades = palette(ink);
    const level = value => Math.round(255 * Math.min(1, Math.max(0, value)));
    for (let i = 0, to = 0; i < height * width; i++, to += 4) {
      if (channels === 3) {
        for (let k = 0; k < 3; k++) data.data[to + k] = level(values[3 * i + k]);
      } else {
        let value = 0;
        for (let k = 0; k < channels; k++) value += values[i * channels + k] / channels;
        const shade = shades[level(value)];
        for (let k = 0; k < 3; k++) data.data[to + k] = shade[k];
      }
      data.data[to + 3] = 255;
    }
    return data;
  }

  function put(canvas, image) {
    if (canvas.width !== image.width || canvas.height !== image.height) {
      [canvas.width, canvas.height] = [image.width, image.height];
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // an image of numbers in [0, 1]; style sheets enlarge it
  function paint(canvas, values, shape, ink, label) {
    put(canvas, pixels(values, shape, ink));
    canvases.set(canvas, [values.slice(), shape, ink]);
    if (label !== undefined) canvas.setAttribute("aria-label", label);
    return canvas;
  }

  // numbers of any range as heat, from low to high
  function heat(canvas, values, [height, width], low, high) {
    const stops = ["--heat-0", "--heat-1", "--heat-2", "--heat-3"].map(name => rgb(style(name)));
    const data = new ImageData(width, height);
    for (let i = 0; i < height * width; i++) {
      const share = Math.min(1, Math.max(0, (values[i] - low) / (high - low || 1)));
      const at = Math.min(2, Math.floor(share * 3)), rest = share * 3 - at;
      for (let k = 0; k < 3; k++) {
        data.data[4 * i + k] = stops[at][k] + (stops[at + 1][k] - stops[at][k]) * rest;
      }
      data.data[4 * i + 3] = 255;
    }
    put(canvas, data);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    palettes = undefined;
    for (const canvas of document.querySelectorAll("canvas")) {
      if (canvases.has(canvas)) put(canvas, pixels(...canvases.get(canvas)));
    }
    for (const listener of listeners) listener();
  });

  // calls `listener` when the colours change, until the last of `stops`
  function onTheme(listener, stops) {
    listeners.add(listener);
    stops.push(() => listeners.delete(listener));
  }

  return { heat, onTheme, paint, pixels, style };
})();

// an element with attributes, listeners (onclick) and children
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value === "boolean") element[name] = value;
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const frame = label => h("canvas", { class: "image", role: "img", "aria-label": label });
const button = (text, onclick, more = {}) => h("button", { type: "button", onclick, ...more }, text);
const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");

const calm = matchMedia("(prefers-reduced-motion: reduce)");

// a button that plays: calls `step` with the seconds since the last call, at each frame of the
// screen, or once a second where motion is unwanted
function player(text, step, stops) {
  let running = false, last = 0;
  const toggle = button(text, () => set(!running), { "aria-pressed": "false" });
  const tick = now => {
    if (!running || !toggle.isConnected) return;
    const seconds = Math.min(now - last, 1000) / 1000;
    last = now;
    step(seconds);
    if (calm.matches) setTimeout(() => tick(performance.now()), 1000);
    else requestAnimationFrame(tick);
  };
  function set(on) {
    running = on;
    toggle.setAttribute("aria-pressed", on);
    if (on) {
      last = performance.now();
      requestAnimationFrame(tick);
    }
  }
  stops.push(() => set(false));
  return { toggle, stop: () => set(false) };
}

// calls `act` at most once for each frame of the screen
function eachFrame(act) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; act(); });
  };
}

// calls `act` once nothing was asked for during `wait` milliseconds
function settled(act, wait) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(act, wait); };
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
