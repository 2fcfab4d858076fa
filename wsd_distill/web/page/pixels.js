// Pixels of a photo as wsd_distill/data/image.py reads them.
import { readHeader, restoreColor } from "./jpeg.js";

const PRECISION_BITS = 32 - 8 - 2; // of Pillow's coefficients for 8-bit pixels
const BAND = 512; // rows that are read from a canvas at once
const REDUCTIONS = [8, 4, 2]; // JPEG_REDUCTIONS in image.py
const MAX_MEGAPIXELS = 128;
const REVERSED_COLUMNS = [2, 3, 6, 7]; // orientations whose upright image ends where the rows of the file start
const REVERSED_ROWS = [3, 4, 7, 8];

/**
 * Decode a photo upright, without its alpha channel.
 *
 * With minSize, a JPEG is reduced to the mean of blocks of 2, 4 or 8 pixels, as JPEG decoders compute reduced sizes; no
 * side gets shorter than minSize.
 *
 * Returns {pixels: (height, width, 3) uint8 RGB, width, height, fullWidth, fullHeight: before the reduction}.
 */
export async function decode(blob, minSize) {
  const jpeg = readHeader(new DataView(await blob.arrayBuffer()));
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(blob, options).catch(() => {
    throw new Error("it cannot be read as an image: use JPEG, PNG or WebP");
  });
  try {
    const { width: fullWidth, height: fullHeight } = bitmap;
    if (fullWidth * fullHeight > MAX_MEGAPIXELS * 1e6) throw new Error(`it has more than ${MAX_MEGAPIXELS} megapixels`);
    const shorter = Math.min(fullWidth, fullHeight);
    const factor = (jpeg && minSize && REDUCTIONS.find((r) => Math.floor(shorter / r) >= minSize)) || 1;
    const bands = !jpeg && isTransparent(bitmap) ? readWithWebGL(bitmap) : readBands(bitmap);
    return { ...reduce(bands, fullWidth, fullHeight, factor, jpeg), fullWidth, fullHeight };
  } finally {
    bitmap.close();
  }
}

/** Resize (height, width, 3) uint8 to (size, size, 3) as Pillow does: bilinear with antialiasing, in integers. */
export function resizeToSquare(pixels, width, height, size) {
  const columns = resample(pixels, height, width, size, [width * 3, 3], [size * 3, 3]);
  return resample(columns, size, height, size, [3, size * 3], [3, size * 3]);
}

/** Raise an error if the browser changes the pixels that a page reads, as a protection against fingerprinting. */
export function checkCanvas() {
  const context = new OffscreenCanvas(32, 32).getContext("2d", { willReadFrequently: true });
  const image = new ImageData(32, 32);
  image.data.forEach((_, i) => (image.data[i] = i % 4 === 3 ? 255 : (i * 37) % 256));
  context.putImageData(image, 0, 0);
  const { data } = context.getImageData(0, 0, 32, 32);
  if (data.some((value, i) => Math.abs(value - image.data[i]) > 1)) {
    throw new Error("this browser changes the pixels that a page reads: allow this page to read canvases");
  }
}

/** Resample `lines` lines from inSize to outSize pixels of 3 channels; steps are [to the next line, pixel]. */
function resample(pixels, lines, inSize, outSize, inSteps, outSteps) {
  const { starts, counts, weights, stride } = makeWeights(inSize, outSize);
  const result = new Uint8Array(lines * outSize * 3);
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < outSize; i++) {
      let [r, g, b] = [0, 0, 0];
      let from = line * inSteps[0] + starts[i] * inSteps[1];
      for (let k = i * stride, end = k + counts[i]; k < end; k++, from += inSteps[1]) {
        r += pixels[from] * weights[k];
        g += pixels[from + 1] * weights[k];
        b += pixels[from + 2] * weights[k];
      }
      const to = line * outSteps[0] + i * outSteps[1];
      result[to] = round(r);
      result[to + 1] = round(g);
      result[to + 2] = round(b);
    }
  }
  return result;
}

function round(sum) {
  return (sum + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS;
}

/** For each output pixel: its first input pixel, their number, and their integer weights at i * stride. */
function makeWeights(inSize, outSize) {
  const scale = inSize / outSize;
  const support = Math.max(scale, 1); // half the width of the triangle
  const stride = Math.ceil(support) * 2 + 1;
  const [starts, counts, weights] = [outSize, outSize, outSize * stride].map((length) => new Int32Array(length));
  for (let i = 0; i < outSize; i++) {
    const center = (i + 0.5) * scale;
    starts[i] = Math.max(Math.trunc(center - support + 0.5), 0);
    counts[i] = Math.min(Math.trunc(center + support + 0.5), inSize) - starts[i];
    const distances = Array.from({ length: counts[i] }, (_, k) => Math.abs((k + starts[i] - center + 0.5) / support));
    const triangle = distances.map((distance) => Math.max(1 - distance, 0));
    const sum = triangle.reduce((a, b) => a + b, 0);
    triangle.forEach((w, k) => (weights[i * stride + k] = Math.trunc(0.5 + (w / sum) * (1 << PRECISION_BITS))));
  }
  return { starts, counts, weights, stride };
}

/** Reduce an image by a factor: {pixels: (height, width, 3) uint8, width, height}. */
function reduce(bands, fullWidth, fullHeight, factor, jpeg) {
  const shrink = (source, channels, width, height, step) => {
    const x = makeBlocks(width, step, REVERSED_COLUMNS.includes(jpeg?.orientation));
    const y = makeBlocks(height, step, REVERSED_ROWS.includes(jpeg?.orientation));
    return { data: averageBlocks(source, channels, x, y), width: x.count, height: y.count };
  };
  const isHalved = factor > 1 && jpeg.isHalved;
  let image = shrink(bands, 4, fullWidth, fullHeight, isHalved ? 2 : factor);
  if (isHalved) {
    restoreColor(image.data, image.width, image.height);
    if (factor > 2) image = shrink([{ top: 0, data: image.data }], 3, image.width, image.height, factor / 2);
  }
  const pixels = new Uint8ClampedArray(image.data); // rounds halves to even, without a bias
  return { pixels, width: image.width, height: image.height };
}

/**
 * Blocks along an axis: {length, count, size, block: of each pixel, weights: of each pixel}. The file's last pixel fills
 * an incomplete block, as in encoders.
 */
function makeBlocks(length, size, isReversed) {
  const count = Math.ceil(length / size);
  const missing = count * size - length;
  const block = Int32Array.from({ length }, (_, i) => Math.floor((i + (isReversed ? missing : 0)) / size));
  const weights = new Float32Array(length).fill(1);
  weights[isReversed ? 0 : length - 1] += missing;
  return { length, count, size, block, weights };
}

/** Average pixels of 3 channels, or of 4 and without the last, over blocks: (y.count, x.count, 3) float RGB. */
function averageBlocks(bands, channels, x, y) {
  const means = new Float32Array(x.count * y.count * 3);
  for (const { top, data } of bands) {
    for (let row = top, from = 0; from < data.length; row++) {
      for (let column = 0; column < x.length; column++, from += channels) {
        const to = (y.block[row] * x.count + x.block[column]) * 3;
        const weight = (x.weights[column] * y.weights[row]) / (x.size * y.size);
        means[to] += weight * data[from];
        means[to + 1] += weight * data[from + 1];
        means[to + 2] += weight * data[from + 2];
      }
    }
  }
  return means;
}

/** Yield {top, data: RGBA} of some rows after others: browsers limit the size of a canvas. */
function* readBands(bitmap) {
  const context = new OffscreenCanvas(bitmap.width, BAND).getContext("2d", { willReadFrequently: true });
  for (let top = 0; top < bitmap.height; top += BAND) {
    context.clearRect(0, 0, bitmap.width, BAND);
    context.drawImage(bitmap, 0, -top);
    yield { top, data: context.getImageData(0, 0, bitmap.width, Math.min(BAND, bitmap.height - top)).data };
  }
}

function isTransparent(bitmap) {
  for (const { data } of readBands(bitmap)) {
    for (let i = 3; i < data.length; i += 4) if (data[i] < 255) return true;
  }
  return false;
}

/** Read all rows with WebGL, because a canvas loses the colors of transparent pixels. */
function readWithWebGL(bitmap) {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
    const reason = gl ? "fewer pixels" : "WebGL";
    throw new Error(`its transparent pixels need ${reason} in this browser: save it without transparency`);
  }
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const data = new Uint8Array(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return [{ top: 0, data }];
}
