/**
 * The server's certificate: read from two PEM files (a mounted Secret), checked, and read again when they change. Owns what is
 * served until something better comes; never logs a key, opens no port.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createSecureContext } from 'node:tls';
import type { FastifyBaseLogger } from 'fastify';
import { StartupError } from './failures.ts';
import { watchFolders } from './watched-folder.ts';

/** A certificate and its key, as PEM texts. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

export interface CertificateFiles {
  /** Chain, the server's own certificate first. */
  readonly certFile: string;
  readonly keyFile: string;
}

export class Certificate {
  readonly #files: CertificateFiles;
  readonly #log: FastifyBaseLogger;
  readonly #listeners = new Set<(pair: KeyPair) => void>();
  #pair: KeyPair | undefined;
  #expires = Number.NaN;
  #failures = 0;
  #refused = '';
  #reading: Promise<void> = Promise.resolve();
  #close: () => void = () => undefined;

  constructor(files: CertificateFiles, log: FastifyBaseLogger) {
    this.#files = files;
    this.#log = log;
  }

  /** Reads the files and goes on watching. @throws StartupError (InvalidCertificate) with what to change */
  async open(): Promise<void> {
    try {
      this.#take(await this.#read());
    } catch (error) {
      throw new StartupError('InvalidCertificate', `${problem(error)}.`, { cause: error });
    }
    const { certFile, keyFile } = this.#files;
    this.#close = watchFolders([path.dirname(certFile), path.dirname(keyFile)], () => void this.reload());
  }

  close(): void {
    this.#close();
  }

  /** What is served now. */
  get pair(): KeyPair {
    if (!this.#pair) throw new Error('the certificate was not opened');
    return this.#pair;
  }

  /** End of validity, milliseconds since 1970. */
  get expires(): number {
    return this.#expires;
  }

  /** Replacements that could not be used. */
  get failures(): number {
    return this.#failures;
  }

  /** Calls `listener` with every replacement. */
  onChange(listener: (pair: KeyPair) => void): void {
    this.#listeners.add(listener);
  }

  /** Reads the files again, one reading at a time; keeps what is served when they cannot be used. */
  reload(): Promise<void> {
    this.#reading = this.#reading.then(() => this.#replace());
    return this.#reading;
  }

  async #replace(): Promise<void> {
    try {
      const pair = await this.#read();
      const same = pair.cert === this.#pair?.cert && pair.key === this.#pair.key;
      if (!same) this.#take(pair);
      this.#refused = '';
      if (same) return;
      this.#log.info({ expires: new Date(this.#expires).toISOString() }, 'certificate replaced');
      for (const listener of this.#listeners) listener(pair);
    } catch (error) {
      const sentence = problem(error);
      // Looked at every few seconds: told and counted once.
      if (sentence === this.#refused) return;
      this.#refused = sentence;
      this.#failures++;
      this.#log.error({ problem: sentence }, 'the new certificate cannot be used; the old one stays');
    }
  }

  async #read(): Promise<KeyPair> {
    const { certFile, keyFile } = this.#files;
    const [cert, key] = await Promise.all([readFile(certFile, 'utf8'), readFile(keyFile, 'utf8')]);
    return { cert, key };
  }

  #take(pair: KeyPair): void {
    const certificate = step('the certificate is no PEM certificate', () => new X509Certificate(pair.cert));
    const key = step('the private key is no PEM key, or is encrypted', () => createPrivateKey(pair.key));
    if (!certificate.checkPrivateKey(key))
      throw new CertificateProblem('certificate and private key do not belong together: replace both at once');
    step('TLS refuses the certificate', () => createSecureContext(pair));
    this.#pair = pair;
    this.#expires = certificate.validToDate.getTime();
    if (this.#expires < Date.now())
      this.#log.warn({ expired: certificate.validToDate.toISOString() }, 'the certificate has expired: replace it');
  }
}

/** A sentence about the files, without anything of what is in them. */
class CertificateProblem extends Error {}

function step<T>(sentence: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new CertificateProblem(sentence, { cause: error });
  }
}

function problem(error: unknown): string {
  if (error instanceof CertificateProblem) return `TLS: ${error.message}`;
  const { code, path: file } = error as NodeJS.ErrnoException;
  return `TLS: ${file ?? 'a file'} cannot be read (${code ?? String(error)})`;
}
