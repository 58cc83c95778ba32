/**
 * Continuous batching: takes requests, gives them slots, decodes batches until each is done. Owns the loop and the
 * bookkeeping of what every slot holds; knows tokens only, no text and no HTTP.
 */
import { planBatch } from './batch-plan.ts';
import { learnSpeed, type PrefillSpeed, prefillChunk } from './chunk-size.ts';
import { type BatchItem, type Decoder, NO_TOKEN, type Pick, type SavedState, type Token } from './decoder.ts';
import {
  EngineBrokenError,
  type FinishReason,
  type JobRequest,
  type JobScheduler,
  type SchedulerStats,
} from './job.ts';
import { PromptCache } from './prompt-cache.ts';
import { AdmissionQueue } from './queue.ts';
import { emptySlot, guessAhead, type Job, newJob, resultOf, type Slot } from './running.ts';
import { planShift } from './shift.ts';
import { chooseSlot, commonPrefix, WORTHWHILE } from './slots.ts';

export interface SchedulerOptions {
  /** Requests that may wait for a slot. */
  readonly maxQueue: number;
  /** Memory for prompts whose slot is gone, in bytes. Default 0: none. */
  readonly promptCacheBytes?: number;
  /** Tokens of an answer that may be guessed at a time. Default 0: none. */
  readonly mostGuesses?: number;
  readonly isEndOfGeneration: (token: Token) => boolean;
  /** Milliseconds that never go back. */
  readonly now: () => number;
  /** Told of each decoded batch; for tests and metrics. */
  readonly onBatch?: (items: readonly BatchItem[]) => void;
}

/** Failed batches in a row after which nothing is expected of the decoder any more. */
const MOST_FAILURES = 3;

export class Scheduler implements JobScheduler {
  readonly #decoder: Decoder;
  readonly #options: SchedulerOptions;
  readonly #now: () => number;
  readonly #slots: Slot[];
  readonly #queue: AdmissionQueue<Job>;
  readonly #cache: PromptCache | undefined;
  readonly #mostGuesses: number;
  readonly #guesses = { made: 0, right: 0 };
  #speed: PrefillSpeed = {};
  #arrivals = 0;
  #uses = 0;
  #stepStarted = 0;
  /** Batches that failed since the last that did not. */
  #failures = 0;
  #outbox: (() => void)[] = [];
  #wake: (() => void) | undefined;
  #closed = false;
  #broken: Error | undefined;
  readonly #loop: Promise<void>;

  constructor(decoder: Decoder, options: SchedulerOptions) {
    if (decoder.batchSize < decoder.slots)
      throw new Error(`a batch of ${decoder.batchSize} tokens is too small for ${decoder.slots} parallel requests`);
    this.#decoder = decoder;
    this.#options = options;
    this.#now = options.now;
    this.#queue = new AdmissionQueue(options.maxQueue);
    this.#mostGuesses = decoder.takesGuesses === true ? (options.mostGuesses ?? 0) : 0;
    const budget = options.promptCacheBytes ?? 0;
    this.#cache = budget > 0 && decoder.save && decoder.restore ? new PromptCache(budget) : undefined;
    this.#slots = Array.from({ length: decoder.slots }, (_, id) => emptySlot(id));
    this.#loop = this.#run();
  }

  get stats(): SchedulerStats {
    return {
      queued: this.#queue.length,
      slotsBusy: this.#slots.filter((slot) => slot.job).length,
      slotsTotal: this.#slots.length,
      maxQueue: this.#options.maxQueue,
      kvTokens: this.#slots.reduce((sum, slot) => sum + slot.tokens.length, 0),
      guesses: { ...this.#guesses },
      stepAgeMs: this.#stepStarted === 0 ? 0 : this.#now() - this.#stepStarted,
      ...(this.#broken ? { broken: this.#broken } : {}),
    };
  }

  /**
   * Takes a request; its sink hears of the rest.
   * @throws QueueFullError when too many wait; EngineBrokenError; Error when the scheduler is closed.
   */
  submit(request: JobRequest): void {
    if (this.#broken) throw new EngineBrokenError(this.#broken);
    if (this.#closed) throw new Error('the engine is closed');
    const room = Math.min(request.contextLength ?? Number.POSITIVE_INFINITY, this.#decoder.contextLength);
    if (request.prompt.length === 0 || request.prompt.length >= room)
      throw new Error(`a prompt of ${request.prompt.length} tokens cannot be scheduled`);
    const free = this.#slots.filter((slot) => !slot.job).length;
    const job = newJob(request, { room, arrival: this.#arrivals++, submitted: this.#now() });
    this.#queue.push(job, free, this.#slots.length, request.tenant);
    request.signal?.addEventListener('abort', () => this.#wake?.(), { once: true });
    this.#wake?.();
  }

  /** Aborts everything and waits until the decoder is no longer in use. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#wake?.();
    await this.#loop;
    this.#cache?.clear();
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        this.#reap();
        await this.#admit();
        if (!(await this.#step())) {
          this.#sendOutbox();
          // Nothing runs between this check and the wait, so no wake-up is lost.
          if (this.#queue.length > 0) continue;
          if (this.#closed) return;
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          this.#wake = undefined;
        }
      }
    } catch (error) {
      // Only a defect or a dead native context gets here: whoever holds the engine loads it again.
      const broken = asError(error);
      this.#broken = broken;
      this.#stepStarted = 0;
      this.#sendOutbox();
      const jobs = [...this.#slots.map((slot) => slot.job), ...this.#queue.remove(() => true)];
      for (const slot of this.#slots) slot.job = undefined;
      for (const job of jobs) job?.sink.failed(new EngineBrokenError(broken));
    }
  }

  /** Lets aborted requests go, wherever they are. */
  #reap(): void {
    const leaves = (job: Job) => this.#closed || job.signal?.aborted === true;
    for (const slot of this.#slots) if (slot.job && leaves(slot.job)) this.#finish(slot, slot.job, 'aborted');
    for (const job of this.#queue.remove(leaves))
      this.#outbox.push(() => job.sink.done(resultOf(job, 'aborted', this.#now())));
  }

  async #admit(): Promise<void> {
    for (;;) {
      const job = this.#queue.first();
      if (!job) return;
      const views = this.#slots.map((slot) => ({
        ...slot,
        tokens: slot.pure < slot.tokens.length ? slot.tokens.slice(0, slot.pure) : slot.tokens,
        busy: slot.job !== undefined,
      }));
      const choice = chooseSlot(views, job.prompt);
      if (!choice) return;
      const slot = this.#slot(choice.slot);
      this.#queue.shift();
      slot.job = job;
      job.started = this.#now();
      try {
        const cached = this.#cache?.find(job.prompt);
        const wanted = cached && cached.length >= choice.reuse + WORTHWHILE ? cached : undefined;
        if (wanted) this.#cache?.touch(wanted.saved);
        await this.#rescue(slot, wanted || choice.copyFrom !== undefined ? 0 : choice.reuse);
        let reuse = choice.reuse;
        if (wanted && (await this.#restore(slot, wanted))) reuse = wanted.length;
        else if (choice.copyFrom !== undefined) {
          const source = this.#slot(choice.copyFrom);
          this.#sendOutbox();
          await this.#decoder.copy(source.id, slot.id);
          slot.tokens = source.tokens.slice();
        }
        const kept = this.#decoder.truncate(slot.id, Math.min(reuse, slot.tokens.length));
        slot.tokens.length = kept;
        job.cached = kept;
        job.sampler = this.#decoder.createSampler(job.sampling, job.prompt);
      } catch (error) {
        this.#fail(slot, asError(error));
      }
    }
  }

  /** Saves what a slot is about to lose, when that is worth it and no other slot has it. */
  async #rescue(slot: Slot, kept: number): Promise<void> {
    const { tokens } = slot;
    if (!this.#cache || tokens.length - kept < WORTHWHILE || !this.#cache.wants(tokens)) return;
    if (this.#slots.some((other) => other !== slot && commonPrefix(other.tokens, tokens) === tokens.length)) return;
    this.#sendOutbox();
    this.#cache.makeRoom(tokens);
    try {
      const saved = await this.#decoder.save?.(slot.id, tokens);
      if (saved) this.#cache.add(tokens.slice(), saved);
    } catch {
      // No room for it: the prompt will be computed again, should it come back.
    }
  }

  /** @returns false when the state could not be read; the slot is empty then. */
  async #restore(
    slot: Slot,
    cached: { readonly tokens: readonly Token[]; readonly saved: SavedState },
  ): Promise<boolean> {
    try {
      await this.#decoder.restore?.(cached.saved, slot.id);
      slot.tokens = cached.tokens.slice();
      return true;
    } catch {
      this.#cache?.remove(cached.saved);
      this.#decoder.truncate(slot.id, 0);
      slot.tokens = [];
      return false;
    }
  }

  /** Decodes one batch. @returns false when there is nothing to decode. */
  async #step(): Promise<boolean> {
    const active = this.#slots.filter((slot) => slot.job);
    guessAhead(active, this.#mostGuesses);
    const plan = planBatch(
      active.map((slot) => ({
        slot: slot.id,
        arrival: slot.job?.arrival ?? 0,
        promptLeft: slot.job?.next === undefined ? (slot.job?.prompt.length ?? 0) - slot.tokens.length : 0,
        guesses: slot.job?.guesses.length ?? 0,
      })),
      {
        batchSize: this.#decoder.batchSize,
        prefillChunk: prefillChunk(
          this.#speed,
          active.some((slot) => slot.job?.next !== undefined),
          this.#decoder.batchSize,
        ),
      },
    );
    if (plan.length === 0) return false;

    const items = plan.map((planned): BatchItem => {
      const slot = this.#slot(planned.slot);
      const position = slot.tokens.length;
      const { job } = slot;
      if (job?.next === undefined) {
        const tokens = job?.prompt.slice(position, position + planned.count) ?? [];
        return { slot: planned.slot, position, tokens, sampled: planned.sampled, prompt: true };
      }
      job.guesses = job.guesses.slice(0, planned.count - 1);
      const tokens = [job.next, ...job.guesses];
      return { slot: planned.slot, position, tokens, sampled: true, prompt: false, guesses: job.guesses.length };
    });
    const started = this.#now();
    this.#stepStarted = started;
    try {
      const decoding = this.#decoder.decode(items);
      // What the last batch brought goes out while the engine's threads compute this one.
      this.#sendOutbox();
      await decoding;
    } catch (error) {
      // One batch may have been at fault; several in a row are the context's.
      if (++this.#failures >= MOST_FAILURES) throw error;
      this.#failBatch(items, asError(error));
      this.#stepStarted = 0;
      return true;
    }
    this.#failures = 0;
    const computed = items.reduce((sum, item) => sum + item.tokens.length, 0);
    this.#speed = learnSpeed(this.#speed, computed, this.#now() - started);
    for (const { slot, tokens, guesses = 0 } of items)
      this.#slot(slot).tokens.push(...tokens.slice(0, tokens.length - guesses));
    this.#options.onBatch?.(items);
    await this.#sample(items);
    this.#stepStarted = 0;
    return true;
  }

  /** Samples after each item, and goes on as long as its guesses turn out right. */
  async #sample(items: readonly BatchItem[]): Promise<void> {
    const guessed = items.flatMap((item) => {
      const slot = this.#slot(item.slot);
      return (item.guesses ?? 0) > 0 && slot.job ? [{ item, slot, job: slot.job }] : [];
    });
    let picks = items.flatMap((item, index) => {
      const slot = this.#slot(item.slot);
      const sampler = item.sampled ? slot.job?.sampler : undefined;
      return sampler ? [{ item: index, row: 0, sampler, slot }] : [];
    });
    while (picks.length > 0) {
      // Together: the engine's threads sample side by side, and no slot waits for another's turn.
      const sampled = await this.#decoder.sample(picks);
      picks = picks.filter((one, index) => {
        const pick = sampled[index];
        const { slot } = one;
        const { job } = slot;
        if (!pick || pick.token === NO_TOKEN) {
          this.#fail(slot, new Error('no token can be sampled: the settings leave none to choose from'));
          return false;
        }
        this.#accept(slot, pick);
        if (!job || slot.job !== job || job.guesses[one.row] !== pick.token) return false;
        // It is computed already.
        slot.tokens.push(pick.token);
        one.row++;
        return true;
      });
    }
    for (const { item, slot, job } of guessed) this.#takeBack(item, slot, job);
  }

  /** What followed a wrong guess is no part of the text. */
  #takeBack({ position, guesses = 0 }: BatchItem, slot: Slot, job: Job): void {
    const right = Math.max(0, slot.tokens.length - position - 1);
    this.#guesses.made += guesses;
    this.#guesses.right += right;
    job.guesses = [];
    job.speculation?.learn(guesses, right);
    if (right < guesses && this.#decoder.truncate(slot.id, slot.tokens.length) < slot.tokens.length)
      this.#fail(slot, new Error('a wrong guess could not be taken back'));
  }

  #accept(slot: Slot, pick: Pick): void {
    const job = slot.job;
    const { token } = pick;
    if (!job) return;
    if (job.firstToken === 0) job.firstToken = this.#now();
    if (this.#options.isEndOfGeneration(token)) return this.#finish(slot, job, 'stop');
    job.next = token;
    job.generated++;
    job.speculation?.push(token);
    const stop = job.sink.accept(token, pick);
    if (stop) return this.#finish(slot, job, 'stop');
    // A full context has no cell left for this token, so it is the last unless others make room.
    if (job.generated >= job.maxTokens || (slot.tokens.length >= job.room && !this.#makeRoom(slot, job)))
      return this.#finish(slot, job, 'length');
    this.#outbox.push(() => job.sink.flush());
  }

  #makeRoom(slot: Slot, job: Job): boolean {
    const shift = job.keep && planShift(slot.tokens.length, job.keep());
    if (!shift || this.#decoder.shift?.(slot.id, shift.keep, shift.discard) !== true) return false;
    slot.tokens.splice(shift.keep, shift.discard);
    job.discarded += shift.discard;
    // What stayed has seen what went: to anybody else it would be another text's memory.
    slot.pure = Math.min(slot.pure, shift.keep);
    return true;
  }

  #finish(slot: Slot, job: Job, reason: FinishReason): void {
    slot.job = undefined;
    if (slot.pure < slot.tokens.length) slot.tokens.length = this.#decoder.truncate(slot.id, slot.pure);
    slot.pure = Number.POSITIVE_INFINITY;
    slot.lastUsed = ++this.#uses;
    job.sampler?.dispose();
    const result = resultOf(job, reason, this.#now());
    this.#queue.learnDuration((this.#now() - job.started) / 1000);
    this.#outbox.push(() => job.sink.done(result));
  }

  #failBatch(items: readonly BatchItem[], error: Error): void {
    for (const item of items) this.#fail(this.#slot(item.slot), error);
  }

  #fail(slot: Slot, error: Error): void {
    const job = slot.job;
    slot.job = undefined;
    // Something may have been written half: nothing in this slot can be trusted.
    this.#decoder.truncate(slot.id, 0);
    slot.tokens = [];
    slot.pure = Number.POSITIVE_INFINITY;
    job?.sampler?.dispose();
    if (job) this.#outbox.push(() => job.sink.failed(error));
  }

  #sendOutbox(): void {
    const letters = this.#outbox;
    if (letters.length === 0) return;
    this.#outbox = [];
    for (const send of letters) send();
  }

  #slot(id: number): Slot {
    const slot = this.#slots[id];
    if (!slot) throw new Error(`there is no slot ${id}`);
    return slot;
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
