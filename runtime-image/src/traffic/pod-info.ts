/**
 * What the operator tells a pod while it runs, as files of a volume that the kubelet keeps up to date: its revision, and what part
 * of its requests goes elsewhere. Owns the reading; passes nothing on.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { podFiles } from '@slm-operator/crds/contract';
import type { FastifyBaseLogger } from 'fastify';
import { watchFolders } from '../watched-folder.ts';
import { readSetting, type Target } from './setting.ts';

/** What else can be revision's label. */
const REVISION = /^[\w.-]{1,63}$/;

export class PodInfo {
  readonly #folder: string;
  readonly #log: FastifyBaseLogger;
  #target: Target | undefined;
  #revision: string | undefined;
  #text: string | undefined;
  #reading: Promise<void> = Promise.resolve();
  #close: () => void = () => undefined;

  constructor(folder: string, log: FastifyBaseLogger) {
    this.#folder = folder;
    this.#log = log;
  }

  /** Reads the files and goes on watching. What is not there says nothing. */
  async open(): Promise<void> {
    this.#revision = REVISION.exec((await this.#read(podFiles.revision)).trim())?.[0];
    await this.reload();
    this.#close = watchFolders([this.#folder], () => void this.reload());
  }

  close(): void {
    this.#close();
  }

  /** Of this pod; a pod never changes it. Undefined where nobody told. */
  get revision(): string | undefined {
    return this.#revision;
  }

  /** Where requests are passed on to now; undefined: nowhere. The same object until something changes. */
  get target(): Target | undefined {
    return this.#target;
  }

  /** Reads again; one reading at a time, so that the last one wins. */
  reload(): Promise<void> {
    this.#reading = this.#reading.then(async () => this.#take(await this.#read(podFiles.traffic)));
    return this.#reading;
  }

  #take(text: string): void {
    if (text === this.#text) return;
    const first = this.#text === undefined;
    this.#text = text;
    const read = readSetting(text);
    // What cannot be read is nothing: this server answers all that comes.
    this.#target = typeof read === 'string' ? undefined : read;
    if (typeof read === 'string') this.#log.error({ problem: read }, 'what to pass on cannot be read; nothing is');
    else if (read !== undefined || !first) this.#log.info({ ...read, weight: read?.weight ?? 0 }, 'requests passed on');
  }

  async #read(name: string): Promise<string> {
    try {
      return await readFile(path.join(this.#folder, name), 'utf8');
    } catch {
      return '';
    }
  }
}
