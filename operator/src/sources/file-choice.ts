/**
 * Chooses, out of all files of a repository, those that make up the model, and the one that is served. Pure.
 * Never guesses between models: where there are several, the spec has to say which. GGUF goes before ONNX where a repository
 * has both.
 */
import picomatch from 'picomatch';
import { SourceError } from './http-errors.ts';
import { chooseOnnx, companionsOf, GENAI_CONFIG, isOnnx, nameOf } from './onnx-choice.ts';
import { isLaterPart, splitParts } from './source.ts';

/** A file of a repository. */
export interface RepositoryFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** Lower-case hex, where the repository knows it. */
  readonly sha256?: string;
}

/** What the spec says about files. */
export interface FileWish {
  /** Path from source.uri. */
  readonly file?: string | undefined;
  /** source.files. */
  readonly globs?: readonly string[] | undefined;
  /** Name of the repository for messages. */
  readonly where: string;
}

export interface FileChoice {
  readonly format: 'GGUF' | 'ONNX';
  /** Of an ONNX model, without the weights beside its graph: those are known when the graph was read. */
  readonly files: readonly RepositoryFile[];
  /** Path of the file that is served; of an ONNX model the graph, or the genai_config.json that names it. */
  readonly main: string;
}

/** Most files of a revision. */
const MAX_FILES = 256;
/** Most file names in a message. */
const MAX_NAMED = 8;

/** Throws a SourceError with NotFound, AmbiguousFiles, NotAModel or SourceInvalid. */
export function chooseFiles(all: readonly RepositoryFile[], wish: FileWish): FileChoice {
  const usable = all.filter(({ path }) => isUsablePath(path));
  if (wish.file !== undefined) return byName(usable, wish.file, wish.where);
  if (wish.globs !== undefined && wish.globs.length > 0) return byGlobs(usable, wish.globs, wish.where);
  return theOnly(usable, usable, wish.where);
}

/** The only model of the repository, or of one of its folders. */
function theOnly(usable: readonly RepositoryFile[], within: readonly RepositoryFile[], where: string): FileChoice {
  const candidates = models(within);
  const [only, ...more] = candidates;
  if (only === undefined) {
    const onnx = chooseOnnx(within, where, true);
    if (onnx !== undefined) return onnxWith(usable, [], onnx.main, where);
    throw failure(
      'NotAModel',
      `${where} holds no .gguf or .onnx file, only ${named(within.map(({ path }) => path))}: take a repository that has the model as GGUF or ONNX`,
    );
  }
  if (more.length > 0) {
    throw failure(
      'AmbiguousFiles',
      `${where} holds ${candidates.length} models: ${named(candidates.map(({ path }) => path))}. Put one of them into source.uri after the repository, or into source.files`,
    );
  }
  return withParts(usable, only.path, where);
}

function byName(usable: readonly RepositoryFile[], path: string, where: string): FileChoice {
  const folder = `${path.replace(/\/+$/, '')}/`;
  const isFile = usable.some((file) => file.path === path);
  const within = isFile ? [] : usable.filter((file) => file.path.startsWith(folder));
  if (within.length > 0) return theOnly(usable, within, `${folder.slice(0, -1)} of ${where}`);
  return isFile && (isOnnx(path) || nameOf(path) === GENAI_CONFIG)
    ? onnxWith(usable, [], path, where)
    : withParts(usable, path, where);
}

/** What belongs to an ONNX model comes along without being named: without it no server could use the graph. */
function onnxWith(
  usable: readonly RepositoryFile[],
  chosen: readonly RepositoryFile[],
  main: string,
  where: string,
): FileChoice {
  const graph = usable.filter(({ path }) => path === main);
  return bounded([...new Set([...chosen, ...graph, ...companionsOf(usable, main)])], main, where, 'ONNX');
}

function byGlobs(usable: readonly RepositoryFile[], globs: readonly string[], where: string): FileChoice {
  const matches = picomatch([...globs], { dot: true });
  const chosen = usable.filter(({ path }) => matches(path));
  if (chosen.length === 0) {
    throw failure(
      'NotFound',
      `${where} holds no file that source.files (${named(globs)}) matches; it holds ${named(usable.map(({ path }) => path))}`,
    );
  }
  const [main, ...more] = models(chosen);
  if (main === undefined) {
    const onnx = chooseOnnx(chosen, where, false);
    if (onnx !== undefined) return onnxWith(usable, chosen, onnx.main, where);
    throw failure(
      'NotAModel',
      `source.files chooses no .gguf or .onnx model in ${where}, only ${named(chosen.map(({ path }) => path))}`,
    );
  }
  if (more.length > 0) {
    throw failure(
      'AmbiguousFiles',
      `source.files chooses ${more.length + 1} models in ${where}: ${named([main, ...more].map(({ path }) => path))}. Make it match one of them`,
    );
  }
  const parts = withParts(usable, main.path, where).files.filter((part) => !chosen.includes(part));
  return bounded([...chosen, ...parts], main.path, where);
}

function withParts(usable: readonly RepositoryFile[], path: string, where: string): FileChoice {
  if (isLaterPart(path)) {
    throw failure(
      'SourceInvalid',
      `${path} in ${where} is a later part of a split model: name the first, ${splitParts(path)[0]}`,
    );
  }
  const found = splitParts(path).map((part) => {
    const file = usable.find((candidate) => candidate.path === part);
    if (file !== undefined) return file;
    const others = [...models(usable), ...usable.filter((candidate) => isOnnx(candidate.path))].map(
      (candidate) => candidate.path,
    );
    throw failure(
      'NotFound',
      `${where} holds no file ${part}; ${others.length === 0 ? 'it holds no .gguf or .onnx file at all' : `it holds ${named(others)}`}`,
    );
  });
  return bounded(found, path, where);
}

function bounded(
  files: readonly RepositoryFile[],
  main: string,
  where: string,
  format: FileChoice['format'] = 'GGUF',
): FileChoice {
  if (files.length <= MAX_FILES) return { format, files, main };
  throw failure(
    'SourceInvalid',
    `source.files chooses ${files.length} files in ${where}; a model may have ${MAX_FILES}`,
  );
}

/** Files that can be served by themselves: projectors of vision models and later parts cannot. The pod opens the same one. */
function models(files: readonly RepositoryFile[]): RepositoryFile[] {
  return files.filter(({ path }) => {
    const name = path.slice(path.lastIndexOf('/') + 1).toLowerCase();
    return name.endsWith('.gguf') && !name.startsWith('mmproj') && !isLaterPart(path);
  });
}

/** A path that may become one on a node: it must stay below the model folder. */
function isUsablePath(path: string): boolean {
  return (
    path.length > 0 &&
    path.length <= 512 &&
    !path.includes('\\') &&
    !/\p{Cc}/u.test(path) &&
    path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

function named(paths: readonly string[]): string {
  if (paths.length === 0) return 'nothing';
  const shown = paths.slice(0, MAX_NAMED).join(', ');
  return paths.length > MAX_NAMED ? `${shown} and ${paths.length - MAX_NAMED} more` : shown;
}

function failure(reason: 'NotFound' | 'AmbiguousFiles' | 'NotAModel' | 'SourceInvalid', message: string): SourceError {
  return new SourceError({ reason, message, terminal: true });
}
