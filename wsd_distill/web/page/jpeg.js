// What a JPEG's header says, and the color of a JPEG decoded at half its size.

const ORIENTATION = 0x0112; // Exif tag
const SCANS = 0xda; // the marker after which no header follows
const FRAMES = [0xc0, 0xc1, 0xc2]; // markers of baseline, extended and progressive frames

/** Read {orientation: of Exif, isHalved: whether color is stored for blocks of 2 x 2 pixels}; null: not a JPEG. */
export function readHeader(view) {
  if (view.byteLength < 4 || view.getUint16(0) !== 0xffd8) return null;
  const header = { orientation: 1, isHalved: false };
  for (let at = 2; at + 20 < view.byteLength && view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
    const marker = view.getUint8(at + 1);
    if (marker === SCANS) break;
    if (marker === 0xe1 && view.getUint32(at + 4) === 0x45786966) header.orientation = readOrientation(view, at + 10);
    if (FRAMES.includes(marker) && view.getUint8(at + 9) === 3) {
      header.isHalved = [0x22, 0x11, 0x11].every((factors, i) => view.getUint8(at + 11 + 3 * i) === factors);
    }
  }
  return header;
}

function readOrientation(view, start) {
  const isLittle = view.getUint16(start) === 0x4949;
  const entries = start + view.getUint32(start + 4, isLittle);
  if (entries + 2 > view.byteLength) return 1;
  const end = Math.min(entries + 2 + 12 * view.getUint16(entries, isLittle), view.byteLength - 11);
  for (let entry = entries + 2; entry < end; entry += 12) {
    if (view.getUint16(entry, isLittle) === ORIENTATION) return view.getUint16(entry + 8, isLittle);
  }
  return 1;
}

/**
 * Restore the color of (height, width, 3) RGB, the means of blocks of 2 x 2 pixels, in place.
 *
 * A browser enlarges the stored color by linear interpolation, so that the means are the stored values filtered by
 * [1, 6, 1] / 8 along both axes. A decoder at half the size uses the stored values themselves. This inverts the filter.
 */
export function restoreColor(rgb, width, height) {
  const count = width * height;
  const [luma, blue, red] = [0, 1, 2].map(() => new Float32Array(count));
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2]];
    luma[i] = 0.299 * r + 0.587 * g + 0.114 * b;
    blue[i] = b - luma[i];
    red[i] = r - luma[i];
  }
  for (const plane of [blue, red]) {
    for (let row = 0; row < height; row++) invertFilter(plane, row * width, 1, width);
    for (let column = 0; column < width; column++) invertFilter(plane, column, width, height);
  }
  for (let i = 0; i < count; i++) {
    rgb[3 * i] = luma[i] + red[i];
    rgb[3 * i + 1] = luma[i] - (0.299 * red[i] + 0.114 * blue[i]) / 0.587;
    rgb[3 * i + 2] = luma[i] + blue[i];
  }
}

/** Solve (x[i - 1] + 6 x[i] + x[i + 1]) / 8 = y[i] in place, with x repeated at both ends (Thomas's algorithm). */
function invertFilter(values, start, step, count) {
  if (count === 1) return;
  const ratios = new Float32Array(count);
  let previous = 0;
  for (let i = 0, at = start; i < count; i++, at += step) {
    const pivot = (i === 0 || i === count - 1 ? 7 : 6) - (i ? ratios[i - 1] : 0);
    ratios[i] = 1 / pivot;
    previous = (8 * values[at] - previous) / pivot;
    values[at] = previous;
  }
  for (let i = count - 2, at = start + i * step; i >= 0; i--, at -= step) values[at] -= ratios[i] * values[at + step];
}
