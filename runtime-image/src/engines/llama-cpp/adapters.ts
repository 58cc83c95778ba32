/**
 * LoRA adapters of a model: small files of differences, added to the weights while they are computed with. Owns loading them and
 * the words for those that do not fit.
 */
import { access } from 'node:fs/promises';
import path from 'node:path';
import { StartupError } from '../../failures.ts';
import type { AddonContext, AddonLora, AddonModel, Bindings } from './addon.ts';
import { type GgufHeader, readGgufHeader } from './gguf-header.ts';

export interface Adapter {
  /** A GGUF file, as llama.cpp's convert_lora_to_gguf.py writes it. */
  readonly path: string;
  /** 1 as it was trained, 0 for nothing. */
  readonly scale: number;
}

export interface LoadedAdapters {
  /** Makes a context compute with them. */
  apply(context: Pick<AddonContext, 'setLoras'>): void;
}

/** @throws StartupError (ModelNotFound, NotAModel, ModelLoadFailed) */
export async function loadAdapters(
  bindings: Pick<Bindings, 'AddonModelLora'>,
  model: AddonModel,
  adapters: readonly Adapter[],
): Promise<LoadedAdapters> {
  // Nothing of it is nothing, and costs nothing.
  const wanted = adapters.filter(({ scale }) => scale !== 0);
  const loaded: AddonLora[] = [];
  for (const { path: file } of wanted) {
    const header = await adapterHeader(file);
    const lora = new bindings.AddonModelLora(model, file);
    try {
      await model.loadLora(lora);
    } catch (error) {
      throw new StartupError('ModelLoadFailed', misfit(file, header, model), { cause: error });
    }
    loaded.push(lora);
  }
  const scales = wanted.map(({ scale }) => scale);
  return {
    apply: (context) => {
      if (loaded.length > 0) context.setLoras(loaded, scales);
    },
  };
}

async function adapterHeader(file: string): Promise<GgufHeader> {
  const name = path.basename(file);
  await access(file).catch((error: unknown) => {
    throw new StartupError('ModelNotFound', `there is no adapter at ${file}: check its path.`, { cause: error });
  });
  const header = await readGgufHeader(file).catch((error: unknown) => {
    throw new StartupError(
      'NotAModel',
      `the adapter ${name} is no GGUF file: convert it with convert_lora_to_gguf.py.`,
      {
        cause: error,
      },
    );
  });
  if (header.values.get('general.type') !== 'adapter')
    throw new StartupError(
      'NotAModel',
      `${name} is no LoRA adapter: its general.type is ${String(header.values.get('general.type') ?? 'not set')}. Serve it as a model, or name an adapter.`,
    );
  return header;
}

function misfit(file: string, header: GgufHeader, model: AddonModel): string {
  const architecture = String(header.values.get('general.architecture') ?? 'unknown');
  return (
    `the adapter ${path.basename(file)} was made for another model (architecture ${architecture}) than this one ` +
    `(${model.getModelDescription()}): use one that was trained on it.`
  );
}
