/**
 * Finds the files of an ONNX model: the onnxruntime-genai layout, an export of Hugging Face's tools, or a file alone. Owns
 * what can be said before ONNX Runtime is asked: which file it is, what must lie beside it, and what to do when it does not.
 */
import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { StartupError } from '../../failures.ts';
import { type Json, objectAt, readJson, textAt } from './json.ts';
import { type ModelProto, readModelProto } from './model-proto.ts';
import { WireError } from './wire.ts';

const GENAI_CONFIG = 'genai_config.json';

export interface ModelFiles {
  /** The .onnx file, with every link resolved where its weights lie beside it all the same. */
  readonly file: string;
  /** Where tokenizer and configurations are. */
  readonly folder: string;
  readonly genai: Json | undefined;
  readonly proto: ModelProto;
  /** Bytes of the model and its weights. */
  readonly size: number;
}

/**
 * @param modelPath a folder, or an .onnx file
 * @throws StartupError (ModelNotFound, ModelUnreadable, NotAModel, ModelTruncated, UnsupportedFormat, UnsupportedArchitecture)
 */
export async function findModel(modelPath: string): Promise<ModelFiles> {
  const found = await locate(modelPath);
  const name = path.basename(found.file);
  const { size } = await stat(found.file).catch((error: NodeJS.ErrnoException) => {
    throw new StartupError('ModelUnreadable', `${name} cannot be read (${error.code ?? error.message}).`, {
      cause: error,
    });
  });
  const proto = readProto(found.file, size);
  const weights = await checkWeights(found.file, proto);
  return { ...found, file: weights.file, proto, size: size + weights.size };
}

async function locate(modelPath: string): Promise<{ file: string; folder: string; genai: Json | undefined }> {
  const kind = await stat(modelPath).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' || error.code === 'ENOTDIR'
      ? new StartupError('ModelNotFound', `there is no model at ${modelPath}: check SLM_MODEL_PATH.`, { cause: error })
      : new StartupError('ModelUnreadable', `${modelPath} cannot be read (${error.code ?? error.message}).`, {
          cause: error,
        });
  });
  if (!kind.isDirectory()) return { file: modelPath, ...(await aroundFile(modelPath)) };
  const names = await readdir(modelPath, { recursive: true });
  const configs = names.filter((name) => path.basename(name) === GENAI_CONFIG).sort();
  if (configs.length > 1)
    throw new StartupError(
      'NotAModel',
      `the model has several ${GENAI_CONFIG} (${configs.join(', ')}): name one folder in source.files.`,
    );
  if (configs[0] !== undefined) return inGenaiLayout(path.join(modelPath, path.dirname(configs[0])));
  const models = preferred(names.filter((name) => /\.onnx$/i.test(name)).sort());
  const [only] = models;
  if (only === undefined)
    throw new StartupError(
      'NotAModel',
      `${modelPath} holds no ONNX model (found: ${names.slice(0, 5).join(', ') || 'nothing'}): check source.uri and source.files.`,
    );
  if (models.length > 1)
    throw new StartupError(
      'NotAModel',
      `the model has several ONNX files (${models.slice(0, 8).join(', ')}): name one in source.files, such as ${models.at(-1)}.`,
    );
  const file = path.join(modelPath, only);
  return { file, ...(await aroundFile(file)) };
}

/**
 * Of several variants the one that the operator takes as well. Older exports have the decoder three times; the merged one can
 * do what the others do.
 */
function preferred(models: readonly string[]): readonly string[] {
  for (const name of [
    'model_quantized.onnx',
    'model.onnx',
    'decoder_model_merged_quantized.onnx',
    'decoder_model_merged.onnx',
  ]) {
    const found = models.filter((one) => path.basename(one) === name);
    if (found.length > 0) return found;
  }
  return models;
}

async function inGenaiLayout(folder: string): Promise<{ file: string; folder: string; genai: Json }> {
  const genai = (await readJson(folder, GENAI_CONFIG)) ?? {};
  const model = objectAt(genai, 'model');
  const decoder = objectAt(model, 'decoder');
  const file = textAt(decoder, 'filename');
  if (file === undefined)
    throw new StartupError(
      decoder && 'pipeline' in decoder ? 'UnsupportedArchitecture' : 'NotAModel',
      decoder && 'pipeline' in decoder
        ? `${GENAI_CONFIG} divides the decoder into several files (model.decoder.pipeline): use a variant of the model in one file.`
        : `${GENAI_CONFIG} names no model.decoder.filename: it is no language model, or its export is not complete.`,
    );
  for (const part of ['encoder', 'vision', 'speech', 'embedding'])
    if (objectAt(model, part))
      throw new StartupError(
        'UnsupportedArchitecture',
        `${GENAI_CONFIG} has a model.${part}, and this server runs ONNX models of text alone: use another model.`,
      );
  const known = await stat(path.join(folder, file)).catch(() => undefined);
  if (!known?.isFile())
    throw new StartupError(
      'ModelNotFound',
      `${GENAI_CONFIG} names ${file}, which is not there: add it to source.files, with the files that hold its weights.`,
    );
  return { file: path.join(folder, file), folder, genai };
}

/** Exports keep the model in a folder `onnx`, and the rest above it. */
async function aroundFile(file: string): Promise<{ folder: string; genai: Json | undefined }> {
  const own = path.dirname(file);
  const genai = await readJson(own, GENAI_CONFIG);
  if (genai) return { folder: own, genai };
  const names = await readdir(own);
  const described = names.some((name) => /^(config|tokenizer)\.json$|^vocab\.txt$/.test(name));
  return { folder: described || path.basename(own) !== 'onnx' ? own : path.dirname(own), genai: undefined };
}

function readProto(file: string, size: number): ModelProto {
  const name = path.basename(file);
  if (size === 0) throw new StartupError('NotAModel', `${name} is empty: the source must give an ONNX model.`);
  let proto: ModelProto;
  try {
    proto = readModelProto(file, size);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    // A file that was cut off begins well.
    throw error.message.includes('the file to')
      ? new StartupError(
          'ModelTruncated',
          `${name} ends too early (${size} bytes): the copy is incomplete. Fetch it again, and set integrity.digest.`,
          { cause: error },
        )
      : new StartupError('NotAModel', `${name} is no ONNX model: point source.uri at one.`, { cause: error });
  }
  if (proto.opsets.size === 0 || proto.outputs.length === 0)
    throw new StartupError('NotAModel', `${name} is no ONNX model: point source.uri at one.`);
  return proto;
}

/**
 * ONNX Runtime reads weights only from the model's own folder, and follows no link that leaves it.
 * @returns the path by which it finds both, and the bytes of the weights
 */
async function checkWeights(file: string, { external }: ModelProto): Promise<{ file: string; size: number }> {
  const name = path.basename(file);
  const real = await realpath(file);
  let total = 0;
  let beside = true;
  for (const { location, size } of external) {
    const weights = path.resolve(path.dirname(file), location);
    const found = await stat(weights).catch(() => undefined);
    if (!found?.isFile())
      throw new StartupError(
        'ModelNotFound',
        `${name} keeps its weights in ${location}, which is not there: add ${location} to source.files.`,
      );
    if (found.size < size)
      throw new StartupError(
        'ModelTruncated',
        `${location} ends too early (${found.size} of ${size} bytes): the copy is incomplete. Fetch it again, and set integrity.digest.`,
      );
    beside &&= (await realpath(weights)) === path.resolve(path.dirname(real), location);
    total += found.size;
  }
  if (beside) return { file: real, size: total };
  throw new StartupError(
    'ModelUnreadable',
    `the weights of ${name} are links that leave its folder, which ONNX Runtime refuses: put the files themselves there, or hard links.`,
  );
}
