// The tagger in a browser, with the steps of wsd_distill/tagging/tagger.py: decode, resize, network, calibration.
import * as ort from "./ort.wasm.bundle.min.mjs";
import { checkCanvas, decode, resizeToSquare } from "./pixels.js";

export class Tagger {
  /** Load model.onnx and config.json of the page's folder. */
  static async load() {
    ort.env.wasm.numThreads = 1; // more need headers that a plain web server does not send
    ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };
    checkCanvas();
    const [config, model] = await Promise.all([
      fetchFile("config.json").then((answer) => answer.json()),
      fetchFile("model.onnx").then((answer) => answer.arrayBuffer()),
    ]);
    const session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
    return new Tagger(config, session);
  }

  constructor(config, session) {
    this.config = config;
    this.session = session;
  }

  /** Decode a photo: {pixels: (S, S, 3) uint8 RGB, width, height: of the upright photo}. */
  async read(blob) {
    const { image_size: size, fast_decode: isFast } = this.config;
    const image = await decode(blob, isFast ? size : null);
    const pixels = resizeToSquare(image.pixels, image.width, image.height, size);
    return { pixels, width: image.fullWidth, height: image.fullHeight };
  }

  /** Compute the K calibrated probabilities of (S, S, 3) uint8 pixels. */
  async probabilities(pixels) {
    const { image_size: size, calibration } = this.config;
    const [input] = this.session.inputNames;
    const [output] = this.session.outputNames;
    const found = await this.session.run({ [input]: new ort.Tensor("uint8", pixels, [1, size, size, 3]) });
    return Array.from(found[output].data, (x) => 1 / (1 + Math.exp(-(calibration.scale * x + calibration.offset))));
  }
}

async function fetchFile(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} cannot be loaded (${answer.status}): write the page again with wsd export`);
  return answer;
}
