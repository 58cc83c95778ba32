/**
 * One file on its way to the disk: bytes so far, their running SHA-256, and the step that turns them into a verified
 * blob. Owns the partial file; never lets unverified bytes get a blob's name.
 */
import { createHash, type Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import path from 'node:path';
import type { ModelFile } from '@slm-operator/crds';
import { hasCode, type StoreFs, syncFolder } from './durable-files.ts';

/** Bytes read at once when the hash of a partial file is made again. */
const REHASH_CHUNK = 1 << 20;

/** The bytes have another digest than asked for. None of them is left. */
export class DigestMismatchError extends Error {
  override readonly name = 'DigestMismatchError';
  /** `sha256:HEX` of what came. */
  readonly actual: string;

  constructor(actual: string) {
    super(`the bytes have the digest ${actual}`);
    this.actual = actual;
  }
}

export interface BlobWriterOptions {
  readonly fs: StoreFs;
  readonly file: Pick<ModelFile, 'size' | 'digest'>;
  /** Where the bytes gather. */
  readonly partial: string;
  /** Where they end up. */
  readonly blob: string;
  readonly signal?: AbortSignal | undefined;
}

/** Writer of one file; make it with {@link openBlobWriter}, end it with `commit`, `close` or `discard`. */
export class BlobWriter {
  readonly #options: BlobWriterOptions;
  readonly #handle: FileHandle;
  #hash: Hash = createHash('sha256');
  #offset = 0;
  #closed = false;
  /** Bytes taken over from an earlier run. */
  resumedFrom = 0;

  constructor(options: BlobWriterOptions, handle: FileHandle) {
    this.#options = options;
    this.#handle = handle;
  }

  /** Bytes there, and the offset of the next one. */
  get offset(): number {
    return this.#offset;
  }

  get complete(): boolean {
    return this.#offset === this.#options.file.size;
  }

  /** Takes over what an earlier run left: the hash cannot be stored, so the bytes are read again. */
  async takeOver(): Promise<void> {
    const { size } = await this.#handle.stat();
    if (size > this.#options.file.size) {
      await this.restart();
      return;
    }
    const buffer = Buffer.allocUnsafe(Math.min(REHASH_CHUNK, Math.max(size, 1)));
    while (this.#offset < size) {
      this.#options.signal?.throwIfAborted();
      const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, this.#offset);
      if (bytesRead === 0) break;
      this.#hash.update(buffer.subarray(0, bytesRead));
      this.#offset += bytesRead;
    }
    this.resumedFrom = this.#offset;
  }

  /** Appends. Throws a RangeError, writing nothing, when the file would become longer than it must be. */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.#offset + chunk.byteLength > this.#options.file.size) {
      throw new RangeError(`more than the ${this.#options.file.size} bytes that the file must have`);
    }
    let written = 0;
    while (written < chunk.byteLength) {
      const { bytesWritten } = await this.#handle.write(
        chunk,
        written,
        chunk.byteLength - written,
        this.#offset + written,
      );
      written += bytesWritten;
    }
    // Only after the write: a failed one must leave hash and offset as they were.
    this.#hash.update(chunk);
    this.#offset += chunk.byteLength;
  }

  /** Back to zero bytes. */
  async restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.#hash = createHash('sha256');
    this.#offset = 0;
    this.resumedFrom = 0;
  }

  /**
   * Verifies and gives the file its final name. Throws {@link DigestMismatchError} with the partial file emptied and the
   * writer at zero, so that another source can be tried.
   */
  async commit(): Promise<void> {
    const { fs, file, partial, blob } = this.#options;
    if (!this.complete) throw new Error(`${this.#offset} of ${file.size} bytes are there: nothing to commit yet`);
    const actual = `sha256:${this.#hash.digest('hex')}`;
    if (actual !== file.digest) {
      await this.restart();
      throw new DigestMismatchError(actual);
    }
    await this.#handle.sync();
    await this.#handle.chmod(0o444);
    await this.close();
    await fs.rename(partial, blob);
    await syncFolder(fs, path.dirname(blob));
    await syncFolder(fs, path.dirname(partial));
  }

  /** Lets go of the file; the bytes stay for a later run. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#handle.close();
  }

  /** Lets go of the file and deletes it. */
  async discard(): Promise<void> {
    await this.close();
    await this.#options.fs.rm(this.#options.partial, { force: true });
  }
}

/** Opens the partial file of a blob, or makes it, and reads what is there. */
export async function openBlobWriter(options: BlobWriterOptions): Promise<BlobWriter> {
  const handle = await openOrCreate(options.fs, options.partial);
  const writer = new BlobWriter(options, handle);
  try {
    await writer.takeOver();
  } catch (error) {
    await writer.close();
    throw error;
  }
  return writer;
}

async function openOrCreate(fs: StoreFs, file: string): Promise<FileHandle> {
  try {
    return await fs.open(file, 'r+');
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
    return fs.open(file, 'wx+', 0o600);
  }
}
