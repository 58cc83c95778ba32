/** The engine's side of its thread: calls with promises, notes without. Owns the thread's life. */
import { Worker } from 'node:worker_threads';
import type { Calls, Message, Notes, Reply, ThreadOptions } from './messages.ts';

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class ThreadClient {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #calls = 0;
  #closed = false;
  #broken: Error | undefined;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.on('message', (reply: Reply) => this.#receive(reply));
    worker.on('error', (error) => this.#break(error instanceof Error ? error : new Error(String(error))));
    worker.on('exit', (code) => this.#break(new Error(`the engine's thread ended with code ${code}`)));
    // A server that wants to end does not wait for it.
    worker.unref();
  }

  static async start(options: ThreadOptions): Promise<ThreadClient> {
    const { threadAddress } = await import('./thread.ts');
    return new ThreadClient(new Worker(new URL(threadAddress), { workerData: { onnx: options }, name: 'onnx' }));
  }

  call<Name extends keyof Calls>(
    name: Name,
    ...args: Parameters<Calls[Name]>
  ): Promise<Awaited<ReturnType<Calls[Name]>>> {
    if (this.#broken) return Promise.reject(this.#broken);
    const id = ++this.#calls;
    const answer = new Promise<unknown>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    // Whoever waits for an answer keeps the process alive.
    this.#worker.ref();
    this.#send({ id, name, args } as unknown as Message);
    return answer as Promise<Awaited<ReturnType<Calls[Name]>>>;
  }

  note<Name extends keyof Notes>(name: Name, ...args: Parameters<Notes[Name]>): void {
    if (!this.#broken) this.#send({ name, args } as unknown as Message);
  }

  /** Frees the model and ends the thread. */
  async close(): Promise<void> {
    if (this.#closed) return;
    await this.call('close').catch(() => undefined);
    this.#closed = true;
    await this.#worker.terminate();
  }

  #send(message: Message): void {
    this.#worker.postMessage(message, []);
  }

  #receive(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if ('error' in reply) waiting?.reject(Object.assign(new Error(reply.error.message), { name: reply.error.name }));
    else waiting?.resolve(reply.result);
  }

  #break(error: Error): void {
    const first = this.#broken === undefined;
    this.#broken ??= error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
    // The model went with the thread: nothing that this process could still answer.
    if (first && !this.#closed)
      queueMicrotask(() => {
        throw error;
      });
  }
}
