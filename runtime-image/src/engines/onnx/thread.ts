/**
 * The thread that computes: does what messages say, one after another. Importing it elsewhere gives its address and starts
 * nothing; a bundler keeps it as a file of its own that way.
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';
import { StartupError } from '../../failures.ts';
import { EmbeddingModel } from './embedding-model.ts';
import { LanguageModel } from './language-model.ts';
import type { Calls, Message, Notes, Opened, Reply, ThreadOptions } from './messages.ts';
import { openOnDevice } from './providers.ts';
import { loadRuntime } from './session.ts';

/** Where this module is, for a Worker. */
export const threadAddress = import.meta.url;

type Handlers = { [Name in keyof Calls]: (...args: Parameters<Calls[Name]>) => unknown } & {
  [Name in keyof Notes]: (...args: Parameters<Notes[Name]>) => void;
};

class ComputingThread {
  readonly #options: ThreadOptions;
  #session: InferenceSession | undefined;
  #language: LanguageModel | undefined;
  #embedding: EmbeddingModel | undefined;
  readonly handlers: Handlers = {
    open: () => this.#open(),
    decode: (items) => this.#model().decode(items),
    sample: (picks) => this.#model().sample(picks),
    copy: (from, to) => this.#model().copy(from, to),
    save: (slot, state, length) => this.#model().save(slot, state, length),
    restore: (state, slot) => this.#model().restore(state, slot),
    embed: (tokens) => this.#embedder().embed(tokens),
    close: () => this.#session?.release(),
    vocabulary: (packed) => this.#model().setVocabulary(packed),
    addSampler: (sampler, request, history) => this.#model().addSampler(sampler, request, history),
    dropSampler: (sampler) => this.#model().dropSampler(sampler),
    dropState: (state) => this.#model().dropState(state),
  };

  constructor(options: ThreadOptions) {
    this.#options = options;
  }

  async #open(): Promise<Opened> {
    const { file, spec, threads, pooling, devices } = this.#options;
    const runtime = await loadRuntime();
    const { session, provider, missed } = await openOnDevice(runtime, file, threads, devices);
    this.#session = session;
    if (spec.kind === 'language') this.#language = new LanguageModel(runtime, this.#session, spec, this.#options);
    else this.#embedding = new EmbeddingModel(runtime, this.#session, spec, pooling);
    return { version: runtime.env.versions.node ?? runtime.env.versions.common, provider, missed };
  }

  #model(): LanguageModel {
    if (!this.#language) throw new Error('no language model is open');
    return this.#language;
  }

  #embedder(): EmbeddingModel {
    if (!this.#embedding) throw new Error('no model that embeds is open');
    return this.#embedding;
  }
}

/** Does one thing after another: a call that waits holds up those behind it. */
function serve(options: ThreadOptions, reply: (reply: Reply) => void): (message: Message) => void {
  const { handlers } = new ComputingThread(options);
  const answer = async (message: Message): Promise<void> => {
    const work = handlers[message.name] as (...args: readonly unknown[]) => unknown;
    try {
      const result = await work(...message.args);
      if ('id' in message) reply({ id: message.id, result });
    } catch (error) {
      // A note has nobody to tell; the call that comes to need it fails.
      const { name, message: text } = error instanceof Error ? error : new Error(String(error));
      const kind = error instanceof StartupError ? error.reason : name;
      if ('id' in message) reply({ id: message.id, error: { name: kind, message: text } });
    }
  };
  let last = Promise.resolve();
  return (message) => {
    last = last.then(() => answer(message));
  };
}

const start = workerData as { readonly onnx?: ThreadOptions } | null;
if (!isMainThread && parentPort && start?.onnx) {
  const port = parentPort;
  port.on(
    'message',
    serve(start.onnx, (reply) => port.postMessage(reply)),
  );
}
