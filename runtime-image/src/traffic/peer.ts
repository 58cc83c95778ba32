/**
 * Asks another serving pod. Owns the connection: one for each request, so that the cluster's own balancing picks the pod each time,
 * and no request meets a connection that was just closed. With TLS the other side must show the very certificate that this server
 * has, before a byte is sent: both read the same Secret. Decides nothing about what to ask.
 */
import { X509Certificate } from 'node:crypto';
import { type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';

/** For a connection, in milliseconds. Inside a cluster it takes one or two; a client waits for it. */
const CONNECT_MS = 1000;
/** After so long without a byte the other side is asked whether it is still there, in milliseconds. Its node may be gone. */
const ALIVE_MS = 5000;

export interface Question {
  readonly host: string;
  readonly port: number;
  /** With the query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: string;
  /** Ends the request, and an answer in progress, and closes the connection. */
  readonly signal: AbortSignal;
}

/** No connection came about: nothing was sent. */
export class UnreachableError extends Error {}

/** What is needed of `Certificate`. */
export interface OwnCertificate {
  readonly pair: { readonly cert: string };
  onChange(listener: (pair: { readonly cert: string }) => void): void;
}

export class Peer {
  /** Ours, and the one before: of two pods that read a new Secret, one is the first. */
  #known: readonly X509Certificate[] | undefined;

  /** @param certificate what this server serves with; undefined: plain HTTP */
  constructor(certificate: OwnCertificate | undefined) {
    if (!certificate) return;
    this.#known = [new X509Certificate(certificate.pair.cert)];
    certificate.onChange(({ cert }) => {
      this.#known = [new X509Certificate(cert), ...(this.#known?.slice(0, 1) ?? [])];
    });
  }

  /**
   * Sends a POST and waits for the head of its answer; the body is the caller's to read.
   * @throws UnreachableError; what the connection failed with; the signal's reason
   */
  async ask({ host, port, path, headers, body, signal }: Question): Promise<IncomingMessage> {
    signal.throwIfAborted();
    const socket = await this.#connect(host, port);
    const close = () => socket.destroy();
    signal.addEventListener('abort', close, { once: true });
    socket.once('close', () => signal.removeEventListener('abort', close));
    if (signal.aborted) close();
    socket.setKeepAlive(true, ALIVE_MS);
    return new Promise((resolve, reject) => {
      const asking = request({ method: 'POST', path, headers, setHost: false, createConnection: () => socket });
      asking.once('response', resolve);
      asking.once('error', (error) => reject(signal.aborted ? (signal.reason as Error) : error));
      asking.end(body);
    });
  }

  #connect(host: string, port: number): Promise<Socket> {
    const known = this.#known;
    // Whose certificate it is was checked when the Secret was made; here it only must be ours.
    const socket: Socket = known ? connectTls({ host, port, rejectUnauthorized: false }) : connect({ host, port });
    return new Promise((resolve, reject) => {
      const fail = (why: string) => {
        reject(new UnreachableError(why));
        socket.destroy();
      };
      const timer = setTimeout(() => fail(`no connection within ${CONNECT_MS} ms`), CONNECT_MS);
      socket.once('close', () => clearTimeout(timer));
      // Stays for good: an error after the connection is told by the request too.
      socket.on('error', ({ message }) => fail(message));
      socket.once(known ? 'secureConnect' : 'connect', () => {
        clearTimeout(timer);
        if (known && !isKnown(known, socket as TLSSocket)) return fail('its certificate is not the one of this pod');
        resolve(socket);
      });
    });
  }
}

function isKnown(known: readonly X509Certificate[], socket: TLSSocket): boolean {
  const shown = socket.getPeerX509Certificate();
  return shown !== undefined && known.some(({ raw }) => raw.equals(shown.raw));
}
