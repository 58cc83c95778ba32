/**
 * Which files of a repository make up an ONNX model: the graph, and the small files that a server reads with it. Pure. The weights
 * that lie beside a graph are known only after the graph was read (see onnx.ts).
 */
import type { RepositoryFile } from './file-choice.ts';
import { SourceError } from './http-errors.ts';

/** The file that says what the model is: a genai_config.json, which names the graph, or the graph itself. */
export interface OnnxChoice {
  readonly main: string;
}

export const GENAI_CONFIG = 'genai_config.json';

/**
 * Which graph is taken where a repository has the same model in several precisions and the spec says nothing: eight bits, which
 * are quickest on CPUs at nearly no loss, else the whole. The names are those of Hugging Face's exporters.
 */
const USUAL = [
  'model_quantized.onnx',
  'decoder_model_merged_quantized.onnx',
  'model.onnx',
  'decoder_model_merged.onnx',
];

/** What a server reads beside the graph. Never README files, images, or the weights in other formats. */
const COMPANION =
  /^(?:(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|modules|sentence_bert_config|config_sentence_transformers|chat_template)\.json|[\w.-]+\.jinja|vocab\.txt|merges\.txt)$/;
/** Settings of sentence-transformers' modules, such as 1_Pooling/config.json. */
const MODULE = /^\d+_\w+\/config\.json$/;

/**
 * The one model among these files.
 * @param pick whether to decide between variants; false where a person has named the files
 * @returns undefined when there is no ONNX file at all. @throws SourceError (AmbiguousFiles, NotAModel)
 */
export function chooseOnnx(files: readonly RepositoryFile[], where: string, pick: boolean): OnnxChoice | undefined {
  const configs = files.filter(({ path }) => nameOf(path) === GENAI_CONFIG).map(({ path }) => path);
  if (configs.length > 1) {
    throw ambiguous(
      `${where} holds ${configs.length} ONNX models, in ${listed(configs.map((path) => folderOf(path) || 'its root'))}. Put one of these folders into source.uri after the repository, or match it in source.files`,
    );
  }
  if (configs[0] !== undefined) return { main: configs[0] };
  const graphs = files.map(({ path }) => path).filter(isOnnx);
  const encoder = graphs.find((path) => /^(?:text_|vision_)?encoder_model/.test(nameOf(path)));
  if (encoder !== undefined) {
    throw new SourceError({
      reason: 'NotAModel',
      terminal: true,
      message: `${where} has an encoder apart (${encoder}), and only models that complete or embed texts are served: take another model`,
    });
  }
  const [only, ...more] = graphs.length > 1 ? preferred(graphs, pick) : graphs;
  if (only === undefined || more.length === 0) return only === undefined ? undefined : { main: only };
  throw ambiguous(
    pick
      ? `${where} holds ${graphs.length} ONNX files and none is the usual one: ${listed(graphs)}. Put one of them into source.uri after the repository, or into source.files`
      : `source.files chooses ${more.length + 1} ONNX models in ${where}: ${listed([only, ...more])}. Make it match one of them`,
  );
}

/** Those that remain when what is usual goes before what is not. */
function preferred(graphs: readonly string[], pick: boolean): readonly string[] {
  if (!pick) {
    // An export of old has its decoder three times; the merged one does what the other two do.
    const merged = graphs.filter((path) => nameOf(path).startsWith('decoder_model_merged'));
    const others = graphs.filter((path) => !/^decoder(?:_with_past)?_model/.test(nameOf(path)));
    return merged.length > 0 && others.length === 0 ? merged : graphs;
  }
  for (const name of USUAL) {
    const found = graphs.filter((path) => nameOf(path) === name);
    if (found.length > 0) return found;
  }
  return graphs;
}

/** Small files of the model with this graph, or with this genai_config.json. */
export function companionsOf(files: readonly RepositoryFile[], main: string): readonly RepositoryFile[] {
  const folder = settingsFolder(files, main);
  const within = folder === '' ? '' : `${folder}/`;
  return files.filter(({ path }) => {
    if (!path.startsWith(within)) return false;
    const rest = path.slice(within.length);
    return COMPANION.test(rest) || MODULE.test(rest);
  });
}

/** Where tokenizer and settings are: beside the graph, or above it where an export keeps its graphs in a folder `onnx`. */
export function settingsFolder(files: readonly RepositoryFile[], main: string): string {
  const own = folderOf(main);
  const isDescribed = files.some(
    ({ path }) => folderOf(path) === own && /^(?:config\.json|tokenizer\.json|vocab\.txt)$/.test(nameOf(path)),
  );
  if (nameOf(main) === GENAI_CONFIG || isDescribed || nameOf(own) !== 'onnx') return own;
  return folderOf(own);
}

/** Path of a file that `main` names as its neighbour; undefined when it would leave the folder. */
export function besides(main: string, location: string): string | undefined {
  const parts = [...folderOf(main).split('/'), ...location.split('/')].filter((part) => part !== '' && part !== '.');
  return parts.includes('..') || location.startsWith('/') ? undefined : parts.join('/');
}

/** Weights of a graph that is too large to be read here, by the names that exporters give: model.onnx.data, model.onnx_data_1. */
export function likelyWeights(files: readonly RepositoryFile[], graph: string): readonly RepositoryFile[] {
  return files.filter(({ path }) => path.startsWith(`${graph}.data`) || path.startsWith(`${graph}_data`));
}

/** Whether a path is that of a graph. */
export function isOnnx(path: string): boolean {
  return path.toLowerCase().endsWith('.onnx');
}

export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function folderOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

function listed(paths: readonly string[]): string {
  const shown = paths.slice(0, 8).join(', ');
  return paths.length > 8 ? `${shown} and ${paths.length - 8} more` : shown;
}

function ambiguous(message: string): SourceError {
  return new SourceError({ reason: 'AmbiguousFiles', message, terminal: true });
}
