/**
 * An engine that is loaded again when it broke: after a failure in native code that left its context unusable, and the process
 * alive. Owns the decision and the one engine at a time; what runs at that moment is told so by the scheduler.
 */
import { EngineBrokenError, type SchedulerStats } from '../scheduling/job.ts';
import type {
  Embeddings,
  EmbedOptions,
  Engine,
  EngineInfo,
  GenerateRequest,
  Generation,
  Ranking,
  Token,
} from './engine.ts';

/** An engine that breaks more often than this in `WINDOW` is no accident: the kubelet may start the container anew. */
const MOST_RELOADS = 3;
const WINDOW = 10 * 60_000;

export class RevivingEngine implements Engine {
  readonly info: EngineInfo;
  readonly beginning: readonly Token[];
  #engine: Engine;
  readonly #load: () => Promise<Engine>;
  readonly #tell: (message: string) => void;
  readonly #now: () => number;
  #reloading: Promise<void> | undefined;
  /** When it was loaded again, the last time last. */
  #reloads: number[] = [];
  #total = 0;
  #closed = false;

  /**
   * @param load makes the same engine again
   * @param tell hears of each time
   * @param now milliseconds that never go back
   */
  constructor(
    engine: Engine,
    load: () => Promise<Engine>,
    tell: (message: string) => void,
    now: () => number = () => performance.now(),
  ) {
    this.info = engine.info;
    this.beginning = engine.beginning;
    this.#engine = engine;
    this.#load = load;
    this.#tell = tell;
    this.#now = now;
  }

  /** `broken` as long as the engine is not back. Whoever looks sets the reload going: probes do, every few seconds. */
  get stats(): SchedulerStats {
    const stats = { ...this.#engine.stats, reloads: this.#total };
    if (stats.broken) this.#revive(stats.broken);
    return stats;
  }

  get controlTokens(): readonly string[] {
    return this.#whole().controlTokens;
  }

  tokenize(text: string, special: boolean): Token[] {
    return this.#whole().tokenize(text, special);
  }

  generate(request: GenerateRequest): Generation {
    return this.#whole().generate(request);
  }

  async embed(inputs: readonly (string | readonly Token[])[], options?: EmbedOptions): Promise<Embeddings> {
    return this.#whole().embed(inputs, options);
  }

  async rank(query: string, documents: readonly string[], signal?: AbortSignal): Promise<Ranking> {
    return this.#whole().rank(query, documents, signal);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#reloading;
    await this.#engine.close();
  }

  /** @throws EngineBrokenError while the engine is not whole */
  #whole(): Engine {
    const { broken } = this.#engine.stats;
    if (!broken) return this.#engine;
    this.#revive(broken);
    throw new EngineBrokenError(broken);
  }

  #revive(broken: Error): void {
    if (this.#closed || this.#reloading) return;
    const now = this.#now();
    this.#reloads = this.#reloads.filter((time) => now - time < WINDOW);
    if (this.#reloads.length >= MOST_RELOADS) return;
    this.#reloads.push(now);
    this.#tell(`the engine failed (${broken.message}): it is loaded again`);
    this.#reloading = this.#reload().finally(() => {
      this.#reloading = undefined;
    });
  }

  async #reload(): Promise<void> {
    try {
      // First the memory: there is seldom room for two.
      await this.#engine.close();
      this.#engine = await this.#load();
      this.#total++;
    } catch (error) {
      this.#tell(`the engine could not be loaded again: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
