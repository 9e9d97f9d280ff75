// An animated GIF (version 89a) of ImageData frames of one size.

function gif(frames, seconds) {
  const { width, height } = frames[0], out = [];
  const byte = (...values) => { for (const value of values) out.push(value & 255); };
  const short = value => byte(value, value >> 8);
  const text = characters => byte(...[...characters].map(c => c.charCodeAt(0)));

  // a pixel that is grey becomes one of 40 greys, another one a colour of a cube of 6 x 6 x 6
  const colours = [];
  for (let r = 0; r < 6; r++) for (let g = 0; g < 6; g++) for (let b = 0; b < 6; b++) {
    colours.push([51 * r, 51 * g, 51 * b]);
  }
  for (let level = 0; level < 40; level++) colours.push(Array(3).fill(Math.round(level * 255 / 39)));
  const index = (r, g, b) => Math.max(r, g, b) - Math.min(r, g, b) < 12
    ? 216 + Math.round((r + g + b) / 3 * 39 / 255)
    : 36 * Math.round(r / 51) + 6 * Math.round(g / 51) + Math.round(b / 51);

  text("GIF89a");
  short(width); short(height);
  byte(0xf7, 0, 0);
  for (const colour of colours) byte(...colour);
  text("!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0");
  for (const { data } of frames) {
    byte(0x21, 0xf9, 4, 0); short(Math.round(100 * seconds)); byte(0, 0);
    byte(0x2c); short(0); short(0); short(width); short(height); byte(0, 8);
    const packed = [];
    let bits = 0, held = 0, size = 9, next = 258, table = new Map(), prefix = -1;
    const emit = code => {
      bits |= code << held;
      for (held += size; held >= 8; held -= 8, bits >>>= 8) packed.push(bits & 255);
    };
    emit(256);
    for (let i = 0; i < data.length; i += 4) {
      const pixel = index(data[i], data[i + 1], data[i + 2]), key = prefix << 8 | pixel;
      if (prefix < 0) { prefix = pixel; continue; }
      if (table.has(key)) { prefix = table.get(key); continue; }
      emit(prefix);
      if (next === 4096) {
        emit(256);
        [size, next, table] = [9, 258, new Map()];
      } else {
        if (next === 1 << size) size++;
        table.set(key, next++);
      }
      prefix = pixel;
    }
    emit(prefix); emit(257);
    if (held) packed.push(bits & 255);
    for (let at = 0; at < packed.length; at += 255) {
      const block = packed.slice(at, at + 255);
      byte(block.length, ...block);
    }
    byte(0);
  }
  byte(0x3b);
  return new Blob([new Uint8Array(out)], { type: "image/gif" });
}
