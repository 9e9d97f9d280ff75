// Computes the graphs of graph.py over typed arrays. A graph is compiled once; each value has an
// array of its own, which a later call overwrites: copy what is to be kept.

const Engine = (() => {
  const TYPES = { f4: Float32Array, i4: Int32Array, u1: Uint8Array };

  // Abramowitz & Stegun 7.1.5 near zero; further out the continued fraction 7.1.14 of erfc
  function erf(x) {
    const size = Math.abs(x);
    if (size < 2.5) {
      let term = x, sum = x;
      for (let n = 1; Math.abs(term) > 1e-17; n++) {
        term *= -x * x / n;
        sum += term / (2 * n + 1);
      }
      return 2 / Math.sqrt(Math.PI) * sum;
    }
    let fraction = 0;
    for (let n = 40; n > 0; n--) fraction = n / 2 / (size + fraction);
    return Math.sign(x) * (1 - Math.exp(-x * x) / (size + fraction) / Math.sqrt(Math.PI));
  }

  // Stirling's series, Abramowitz & Stegun 6.1.41, after steps up to where it is exact enough
  function lgamma(x) {
    if (x <= 0 && Number.isInteger(x)) return Infinity;
    if (x < 0.5) return Math.log(Math.PI / Math.abs(Math.sin(Math.PI * x))) - lgamma(1 - x);
    let shift = 0;
    for (; x < 9; x++) shift += Math.log(x);
    const y = 1 / (x * x);
    const series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y / 1680))) / x;
    return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series - shift;
  }

  const ONE = {
    abs: Math.abs, cbrt: Math.cbrt, ceil: Math.ceil, cos: Math.cos, cosh: Math.cosh, erf,
    exp: Math.exp, exp2: x => 2 ** x, expm1: Math.expm1, floor: Math.floor,
    is_finite: x => +Number.isFinite(x), lgamma, log: Math.log, log1p: Math.log1p,
    logistic: x => 1 / (1 + Math.exp(-x)), neg: x => -x, not: x => +!x,
    rsqrt: x => 1 / Math.sqrt(x), same: x => x, sign: Math.sign, sin: Math.sin, sinh: Math.sinh,
    sqrt: Math.sqrt, tan: Math.tan, tanh: Math.tanh, truth: x => +(x !== 0),
  };
  const TWO = {
    add: (a, b) => a + b, and: (a, b) => a & b, atan2: Math.atan2, div: (a, b) => a / b,
    eq: (a, b) => +(a === b), ge: (a, b) => +(a >= b), gt: (a, b) => +(a > b),
    le: (a, b) => +(a <= b), lt: (a, b) => +(a < b), max: (a, b) => a > b || a !== a ? a : b,
    min: (a, b) => a < b || a !== a ? a : b, mul: (a, b) => a * b, ne: (a, b) => +(a !== b),
    or: (a, b) => a | b, pow: Math.pow, rem: (a, b) => a % b, sub: (a, b) => a - b,
    xor: (a, b) => a ^ b, prod: (a, b) => a * b, sum: (a, b) => a + b,
  };

  const KINDS = {
    map({ name }, out, inputs) {
      const size = out.length, steps = inputs.map(input => +(input.length > 1));
      if (name === "select") {
        const [which, ...cases] = inputs, [step, ...strides] = steps;
        return () => {
          for (let i = 0; i < size; i++) {
            const chosen = which[i * step];
            out[i] = cases[chosen][i * strides[chosen]];
          }
        };
      }
      const [a, b] = inputs, [p, q] = steps;
      if (inputs.length === 1) {
        const of = ONE[name];
        return () => { for (let i = 0; i < size; i++) out[i] = of(a[i * p]); };
      }
      // written out where it is most of the work
      if (name === "add" && p && q) {
        return () => { for (let i = 0; i < size; i++) out[i] = a[i] + b[i]; };
      }
      const of = TWO[name];
      return () => { for (let i = 0; i < size; i++) out[i] = of(a[i * p], b[i * q]); };
    },

    move(how, out, inputs) {
      const from = how.from ? new Int32Array(bytes(how.from).buffer) : positions(how);
      let joined = inputs[0];
      if (inputs.length > 1) {
        joined = new joined.constructor(inputs.reduce((sum, input) => sum + input.length, 0));
      }
      return () => {
        if (inputs.length > 1) {
          let start = 0;
          for (const input of inputs) { joined.set(input, start); start += input.length; }
        }
        for (let i = 0; i < from.length; i++) out[i] = joined[from[i]];
      };
    },

    matmul({ batches, m, k, n }, out, [a, b]) {
      const sums = new Float64Array(n);
      return () => {
        for (let row = 0; row < batches * m; row++) {
          const matrix = Math.floor(row / m) * k * n;
          sums.fill(0);
          for (let i = 0; i < k; i++) {
            const x = a[row * k + i];
            if (x === 0) continue;
            for (let j = 0, at = matrix + i * n; j < n; j++, at++) sums[j] += x * b[at];
          }
          out.set(sums, row * n);
        }
      };
    },

    conv(how, out, [x, w]) {
      const [height, width, channels] = how.image, [rows, columns, filters] = how.result;
      const [tall, wide] = how.kernel, inside = channels / how.groups;
      const share = filters / how.groups, sums = new Float64Array(filters);
      // the row or column of the image below each place of the kernel, or -1 where nothing is
      const below = (axis, count, taps, size) => Int32Array.from({ length: count * taps }, (_, i) => {
        const at = Math.floor(i / taps) * how.stride[axis] - how.before[axis];
        const found = (at + i % taps * how.kernelSpread[axis]) / how.spread[axis];
        return Number.isInteger(found) && found >= 0 && found < size ? found : -1;
      });
      const ys = below(0, rows, tall, height), zs = below(1, columns, wide, width);
      return () => {
        let to = 0;
        for (let image = 0; image < how.batch; image++)
          for (let row = 0; row < rows; row++)
            for (let column = 0; column < columns; column++, to += filters) {
              sums.fill(0);
              for (let i = 0; i < tall; i++) {
                const y = ys[row * tall + i];
                if (y < 0) continue;
                for (let j = 0; j < wide; j++) {
                  const z = zs[column * wide + j];
                  if (z < 0) continue;
                  const from = ((image * height + y) * width + z) * channels;
                  for (let c = 0; c < channels; c++) {
                    const value = x[from + c];
                    if (value === 0) continue;
                    const group = Math.floor(c / inside) * share;
                    let at = ((i * wide + j) * inside + c % inside) * filters + group;
                    for (let f = group; f < group + share; f++, at++) sums[f] += value * w[at];
                  }
                }
              }
              out.set(sums, to);
            }
      };
    },

    reduce({ name }, out, [a]) {
      const of = TWO[name], inner = a.length / out.length;
      return () => {
        for (let i = 0, at = 0; i < out.length; i++) {
          let value = a[at++];
          for (let j = 1; j < inner; j++) value = of(value, a[at++]);
          out[i] = value;
        }
      };
    },
  };

  function positions({ start, shape, strides }) {
    const from = new Int32Array(shape.reduce((size, side) => size * side, 1));
    const at = shape.map(() => 0);
    for (let i = 0, place = start; i < from.length; i++) {
      from[i] = place;
      for (let axis = shape.length - 1; axis >= 0; axis--) {
        place += strides[axis];
        if (++at[axis] < shape[axis]) break;
        place -= strides[axis] * shape[axis];
        at[axis] = 0;
      }
    }
    return from;
  }

  function bytes(text) {
    const characters = atob(text), found = new Uint8Array(characters.length);
    for (let i = 0; i < found.length; i++) found[i] = characters.charCodeAt(i);
    return found;
  }

  // float32 numbers of 3 bytes each, which lack the lowest byte, or of 4
  function floats(text, width = 4) {
    const packed = bytes(text);
    if (width === 4) return new Float32Array(packed.buffer);
    const bits = new Uint32Array(packed.length / 3);
    for (let i = 0, at = 0; i < bits.length; i++, at += 3) {
      bits[i] = packed[at] << 8 | packed[at + 1] << 16 | packed[at + 2] << 24;
    }
    return new Float32Array(bits.buffer);
  }

  // a function from the inputs to an array of outputs
  function compile(graph, weights) {
    const arrays = graph.slots.map(() => null), constant = new Set();
    for (const [slot, start] of graph.weights) {
      arrays[slot] = weights.subarray(start, start + graph.slots[slot][0]);
      constant.add(slot);
    }
    graph.slots.forEach(([size, type], slot) => { arrays[slot] ??= new TYPES[type](size); });
    for (const [slot, numbers] of graph.numbers) {
      arrays[slot].set(numbers.map(n => n === "inf" ? Infinity : n === "-inf" ? -Infinity : +n));
      constant.add(slot);
    }
    const steps = [];
    for (const step of graph.steps) {
      const run = KINDS[step.kind](step, arrays[step.out], step.in.map(slot => arrays[slot]));
      if (step.in.every(slot => constant.has(slot))) {
        run();
        constant.add(step.out);
      } else {
        steps.push(run);
      }
    }
    const outputs = graph.outputs.map(slot => arrays[slot]);
    return (...inputs) => {
      inputs.forEach((input, i) => arrays[graph.inputs[i]].set(input));
      for (const run of steps) run();
      return outputs;
    };
  }

  return { bytes, compile, floats };
})();
